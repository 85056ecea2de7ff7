"""One account at a time: a request beside a bare transaction, and the command line beside an import."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from benchmarks.figures import Figure, Goal
from benchmarks.lab import DATABASES, SQLITE, Lab, bare, interleaved, lifecycle_command, wire
from benchmarks.population import START, backlog, url_of
from lifecycle import Actor, Engine

SECTION = "One account"
SUPPORT = Actor.support("sue")
EVENT, REASON = "contact_owners", "nobody knows the owner"
#: What a script would write that knows the account's columns and nothing of a lifecycle.
LOCK = "SELECT * FROM account WHERE id = {id}"
STEPS = (
    "UPDATE account SET version = version + 1 WHERE id = {id} AND version = {version}",
    "INSERT INTO history (account_id, number, event, step, source, dest, at, actor, reason, policy_version)"
    " VALUES ({id}, {version} + 1, 'contact_owners', 'fire', 'active', 'active', {now}, 'support:sue',"
    " 'nobody knows the owner', {policy})",
    "INSERT INTO outbox (account_id, number, effect, status, attempts, created_at, due_at)"
    " VALUES ({id}, {version} + 1, 'contact_owners', 'pending', 0, {now}, {now})",
)


def run(lab: Lab) -> Iterator[Figure]:
    """Median milliseconds of one request on both databases, then of whole processes."""
    requests = lab.size(1_000, 100)
    for kind in DATABASES:
        lab.say(f"{SECTION}: fire on {kind}")
        with backlog(lab, kind, "remind_inactive", requests) as prepared, prepared.copy() as engine:
            ours, rival = interleaved(requests, *requests_of(engine))
        yield Figure(SECTION, f"fire {EVENT}, against a bare transaction", kind, ours, rival, "ms", Goal(at_most=2.5))
    with backlog(lab, SQLITE, "remind_inactive", requests) as prepared, prepared.copy() as engine:
        for arguments, limit in ((["show", "account-000000001"], 1.3), (["--help"], 0.5)):
            shown = " ".join(["lifecycle", *arguments[:1]])
            lab.say(f"{SECTION}: {shown}")
            ours, rival = interleaved(
                lab.size(21, 3),
                lambda arguments=arguments: process([*lifecycle_command(), *arguments], engine),
                lambda: process([sys.executable, "-c", "import sqlmodel"], engine),
            )
            name = f"{shown}, against python -c 'import sqlmodel'"
            yield Figure(SECTION, name, SQLITE, ours, rival, "ms", Goal(at_most=limit))


def requests_of(engine: Engine) -> tuple[Callable[[], float], Callable[[], float]]:
    """Milliseconds of one request, ours and bare; every account is asked for once by each."""
    ours, theirs = iter(range(1, 10**9)), iter(range(1, 10**9))
    by_hand = bare_request(engine)

    def timed(work: Callable[[str], object], number: int) -> float:
        account_id = f"account-{number:09d}"
        begun = perf_counter()
        work(account_id)
        return (perf_counter() - begun) * 1000

    return (
        lambda: timed(lambda id: engine.fire(id, EVENT, actor=SUPPORT, reason=REASON), next(ours)),
        lambda: timed(by_hand, next(theirs)),
    )


def bare_request(engine: Engine) -> Callable[[str], None]:
    """A transaction on the driver's own connection: locks the row, updates it, inserts the two rows."""
    connection: Any = bare(engine)
    postgresql = engine.database.is_postgresql
    mark = "%({})s" if postgresql else ":{}"
    marks = {name: mark.format(name) for name in ("id", "version", "now", "policy")}
    begin, lock = ("BEGIN", LOCK + " FOR UPDATE") if postgresql else ("BEGIN IMMEDIATE", LOCK)
    lock, steps = lock.format(**marks), [step.format(**marks) for step in STEPS]
    columns = [column[0] for column in connection.execute("SELECT * FROM account LIMIT 0").description]
    version = columns.index("version")
    given = {"now": wire(engine, START), "policy": engine.policy.version}

    def once(account_id: str) -> None:
        connection.execute(begin)
        row = connection.execute(lock, {"id": account_id}).fetchone()
        for step in steps:
            connection.execute(step, {**given, "id": account_id, "version": row[version]})
        connection.execute("COMMIT")

    return once


def process(command: list[str], engine: Engine) -> float:
    """Milliseconds of a whole process, from its start to its end."""
    environment = {**os.environ, "LIFECYCLE_DATABASE_URL": url_of(engine)}
    begun = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return (perf_counter() - begun) * 1000
