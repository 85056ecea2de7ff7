"""Daemons in processes of their own, what they find to do, and what must hold when they have done it."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from lifecycle import Effect, Engine, ManualClock
from lifecycle.tables import accounts, history, outbox

RUNNER = """
import faulthandler, json, sys, time
from datetime import timedelta
from lifecycle import Effect, Engine
from lifecycle.errors import LifecycleError
from lifecycle.handlers.command import Command
from lifecycle.log import configure
from lifecycle.scheduler import Daemon
from lifecycle.task import DeliverySettings

IN_PROCESS = {"confirm": lambda task: "receipt", "hang": lambda task: time.sleep(600)}

faulthandler.enable()
wanted = json.loads(sys.argv[1])
configure()
handlers = {
    Effect(effect): IN_PROCESS[handler] if isinstance(handler, str) else Command(handler)
    for effect, handler in wanted["handlers"].items()
}
delivery = DeliverySettings(lease=timedelta(seconds=wanted["lease"]))
engine = Engine(wanted["url"], handlers=handlers, delivery=delivery, batch=wanted["batch"])
try:
    sys.exit(Daemon(engine, name=wanted["name"], resync=timedelta(seconds=wanted["resync"])).run())
except LifecycleError:
    sys.exit(1)
"""
#: Handlers of a daemon that are functions: one says nothing and confirms whatever it is given, one never returns.
CONFIRM, HANG = "confirm", "hang"
DAY = timedelta(days=1)
#: What an account whose trial is over has in its history in the end: number, event, step, source and destination.
EXPIRED = (
    (1, "open_account", "open", None, "trial"),
    (2, "expire_trial", "fire", "trial", "on_hold"),
)
#: And one that nobody has used for a year. It was given notice; it is cancelled now, and its access ends at once.
CANCELLED = (
    (1, "open_account", "open", None, "active"),
    (2, "cancel_inactive", "remind", "active", "active"),
    (3, "cancel_inactive", "notice", "active", "active"),
    (4, "cancel_inactive", "fire", "active", "cancel_pending"),
    (5, "revoke_access", "fire", "cancel_pending", "access_revoked"),
)
#: What the second one owes: the number of the entry, the effect, and what became of it.
OWED = (
    (2, "remind_company_cancellation", "delivered"),
    (4, "confirm_cancellation", "delivered"),
    (4, "stop_billing", "delivered"),
)


class Process:
    """A daemon in a process of its own, with its log."""

    def __init__(self, log: Path, **wanted: Any) -> None:
        self._log = log
        with log.open("wb") as stream:
            self.popen = subprocess.Popen([sys.executable, "-c", RUNNER, json.dumps(wanted)], stderr=stream)

    def lines(self) -> list[dict[str, Any]]:
        """Its log; a line that is being written is left out."""
        return [json.loads(line) for line in self._log.read_text().split("\n")[:-1]]

    def log(self, event: str) -> list[dict[str, Any]]:
        """The lines of this event."""
        return [line for line in self.lines() if line["event"] == event]

    def moved(self) -> int:
        """How many moves it has logged."""
        return sum(sum(line["moves"].values()) for line in self.log("batch"))

    def delivered(self) -> int:
        """How many deliveries it has logged."""
        return sum(sum(line.get("delivered", {}).values()) for line in self.log("delivery"))

    def troubles(self) -> list[dict[str, Any]]:
        """The lines that ask for a person: alarms, and whatever else is an error."""
        return [line for line in self.lines() if line["level"] in ("error", "critical")]

    def ended_after(self, number: signal.Signals) -> float:
        """Send a signal, and wait: the seconds until the process was gone."""
        sent = time.monotonic()
        self.popen.send_signal(number)
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(signal.SIGABRT)  # it writes down where each of its threads is
            self.popen.wait()
            raise AssertionError(f"still there after {number.name}:\n{self._log.read_text()}") from None
        return time.monotonic() - sent


@contextlib.contextmanager
def starting(url: str, folder: Path) -> Iterator[Callable[..., Process]]:
    """Starts daemons on ``url``, with their logs in ``folder``; none outlives the context."""
    started: list[Process] = []

    def start(
        resync: float = 30,
        batch: int = 10_000,
        lease: float = 600,
        handlers: Mapping[Effect, str | Sequence[str]] | None = None,
        url: str = url,
    ) -> Process:
        name = f"daemon-{len(started)}"
        wanted = {"resync": resync, "batch": batch, "lease": lease, "handlers": handlers or {}}
        started.append(Process(folder / f"{name}.log", url=url, name=name, **wanted))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.popen.kill()
            process.popen.wait()


@contextlib.contextmanager
def back_then(url: str, instant: datetime) -> Iterator[Engine]:
    """An engine that lives in the past and confirms everything; what happens there lies in the past today."""
    receipts = {effect: lambda task: "receipt" for effect in Effect}
    engine = Engine(url, clock=ManualClock(instant), handlers=receipts)
    engine.migrate()
    yield engine
    engine.close()


def now() -> datetime:
    return datetime.now(UTC)


def until(condition: Callable[[], Any], seconds: float = 20, pause: float = 0.02) -> Any:
    """Wait for something to come true; what it was."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(pause)
    return found


def open_trial(url: str, ends_at: datetime, account_id: str = "trial") -> None:
    with back_then(url, ends_at - 30 * DAY) as past:
        past.open_account(account_id, company="Acme", owners=["ann@acme.test"])


def multiply(engine: Engine, account_id: str, count: int) -> None:
    """``count`` more accounts like this one, without owners."""
    series = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    with engine.database.write() as connection:
        for table in (accounts, history, outbox):
            key = "id" if table is accounts else "account_id"
            rest = ", ".join(f'"{column.name}"' for column in table.c if column.name not in (key, "id"))
            copies = f"SELECT '{account_id}-' || n.i, {rest} FROM {table.name}, n WHERE {key} = '{account_id}'"
            connection.execute(text(f"{series} INSERT INTO {table.name} ({key}, {rest}) {copies}"))
        engine.store.announce(connection)


def scalar(engine: Engine, query: str) -> int:
    with engine.database.read() as connection:
        return int(connection.scalar(text(query)))


def assert_whole(engine: Engine) -> None:
    """History is contiguous and folds to each account's state, and each reminder owes one effect: promise 1."""
    counted = "SELECT count(*) FROM history h WHERE h.account_id = a.id"
    assert scalar(engine, f"SELECT count(*) FROM account a WHERE a.version <> ({counted})") == 0
    last = "SELECT h.dest FROM history h WHERE h.account_id = a.id AND h.number = a.version"
    assert scalar(engine, f"SELECT count(*) FROM account a WHERE a.state <> ({last})") == 0
    follows = "one.account_id = two.account_id AND two.number = one.number + 1"
    broken = f"SELECT count(*) FROM history one JOIN history two ON {follows} WHERE one.dest <> two.source"
    assert scalar(engine, broken) == 0
    reminders = scalar(engine, "SELECT count(*) FROM history WHERE step = 'remind'")
    assert scalar(engine, "SELECT count(*) FROM outbox WHERE effect LIKE 'remind%'") == reminders


# --- Backlogs on PostgreSQL ------------------------------------------------------------------------


def prepare(engine: Engine, *, trials: int = 0, inactive: int = 0) -> None:
    """So many accounts that are due: trials that are over, and accounts to be cancelled, which owes effects."""
    url, opened = engine.database.url.render_as_string(hide_password=False), now() - 370 * DAY
    if trials:
        open_trial(url, now() - DAY)
        multiply(engine, "trial", trials - 1)
    if inactive:
        with back_then(url, opened) as past:
            past.open_account("free", company="Acme", owners=["ann@acme.test"], plan="free")
            past.run_until(opened + 360 * DAY)
        multiply(engine, "free", inactive - 1)
    with engine.database.write() as connection:
        connection.execute(text("ANALYZE"))  # the planner knows tables that have grown over months


def started_together(engine: Engine, start: Callable[..., Process], count: int, **options: float) -> list[Process]:
    """Daemons of which none moves an account before all of them are there to do so."""
    here = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    waiting = f"FROM pg_locks WHERE database = {here} AND relation = 'account'::regclass AND NOT granted"
    with engine.database.write() as connection:
        connection.execute(text("LOCK TABLE account IN EXCLUSIVE MODE"))  # as who adopts a policy does
        daemons = [start(**options) for _ in range(count)]
        until(lambda: scalar(engine, f"SELECT count(*) {waiting}") == count, 60)
    return daemons


def until_all_is_done(engine: Engine, seconds: float) -> None:
    """Wait until nothing has still to move or to be delivered. Indexes tell, so that asking disturbs nobody."""
    due = "SELECT FROM account WHERE state IN ('trial', 'active', 'cancel_pending') AND due_at < now()"
    owed = "SELECT FROM outbox WHERE status = 'pending'"
    left = f"SELECT (EXISTS ({due}) OR EXISTS ({owed}))::int"
    until(lambda: not scalar(engine, left), seconds, pause=0.2)


def assert_each_moved_once(engine: Engine, *, trials: int = 0, inactive: int = 0) -> None:
    """Each account has each entry of its kind once and no other; what it owes is there once, and delivered."""
    entries = each(EXPIRED, trials) | each(CANCELLED, inactive)
    assert counted(engine, "history", "number, event, step, source, dest") == entries
    assert counted(engine, "outbox", "number, effect, status") == each(OWED, inactive)
    assert scalar(engine, "SELECT count(*) FROM account") == trials + inactive
    assert_whole(engine)


def each(kinds: Sequence[tuple[Any, ...]], count: int) -> dict[tuple[Any, ...], tuple[int, int]]:
    """What :func:`counted` gives when ``count`` accounts have one row of each of these kinds."""
    return {kind: (count, count) for kind in kinds if count}


def counted(engine: Engine, table: str, columns: str) -> dict[tuple[Any, ...], tuple[int, int]]:
    """By what stands in these columns: how many accounts have such a row, and how many rows there are."""
    query = f"SELECT {columns}, count(DISTINCT account_id), count(*) FROM {table} GROUP BY {columns}"
    with engine.database.read() as connection:
        return {tuple(kind): (of, rows) for *kind, of, rows in connection.execute(text(query))}
