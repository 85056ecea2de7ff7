"""A thousand accounts with real files, objects and mails: exactly the right ones are gone, and that is proved."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select

from lifecycle import Actor, DeliverySettings, Effect, Engine, Found, ManualClock, Policy, Safety, State, Task
from lifecycle.handlers.email import Email
from lifecycle.handlers.storage import Storage
from lifecycle.states import DESTRUCTIVE, NOTICES
from lifecycle.tables import personal_data
from tests.conftest import START

ADMIN = Actor.admin("root")
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
COUNT = 1000
BUCKET = "customers"
#: What becomes of an account, by the last digit of its number; the others are erased.
KEPT, HELD, BACK_EARLY, BACK_LATE = 9, 1, 2, 0
#: Every so many-th account has its content in S3, the others have it on a disk.
IN_S3 = 4
POISONED = "c0003"


def account(number: int) -> str:
    return f"c{number:04}"


def canary(id: str) -> str:
    """A string that stands in everything personal of an account."""
    return f"canary{id}x"


def in_s3(id: str) -> bool:
    return int(id[1:]) % IN_S3 == 0


def owner(id: str) -> str:
    return f"{canary(id)}@owner.test"


def ids(*digits: int) -> list[str]:
    return [account(number) for number in range(COUNT) if number % 10 in digits]


ERASED = [id for id in ids(3, 4, 5, 6, 7, 8) if id != POISONED]


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """Options for a real server that speaks S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "key": "test",
        "secret": "test",
        "client_kwargs": {"endpoint_url": f"http://{host}:{port}"},
    }
    server.stop()


@pytest.fixture
def bucket(s3: dict[str, Any]) -> Iterator[Any]:
    import s3fs

    system = s3fs.S3FileSystem(**s3, skip_instance_cache=True, use_listings_cache=False)
    system.mkdir(BUCKET)
    for effect in DESTRUCTIVE:
        system.pipe(f"{BUCKET}/.{effect}", b"")
    system.pipe({f"{BUCKET}/{account(n)}/photo": canary(account(n)).encode() for n in range(0, COUNT, IN_S3)})
    yield system
    system.rm(BUCKET, recursive=True)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    content = tmp_path / "content"
    content.mkdir()
    for effect in DESTRUCTIVE:
        (content / f".{effect}").touch()
    for number in set(range(COUNT)) - set(range(0, COUNT, IN_S3)):
        folder = content / account(number) / "letters"
        folder.mkdir(parents=True)
        (folder / "one.txt").write_text(canary(account(number)))
        (folder.parent / "two.txt").write_text(canary(account(number)))
    return content


class Mailbox:
    """A real mail server; keeps whom it was asked to write to, and what."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.received += [(to, envelope.content.decode()) for to in envelope.rcpt_tos]
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    from aiosmtpd.controller import Controller

    class AnyPort(Controller):
        def _trigger_server(self) -> None:
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    box = Mailbox()
    controller = AnyPort(box, hostname="127.0.0.1", port=0)
    controller.start()
    yield box, controller.port
    controller.stop()


def mailer(port: int) -> Email:
    words = Policy().as_text()
    return Email("127.0.0.1", "notices@product.test", policy=words, product="Product", port=port, tls="none")


@pytest.fixture
def world(
    url: str, clock: ManualClock, disk: Path, bucket: Any, s3: dict[str, Any], mailbox: tuple[Mailbox, int]
) -> Iterator[Engine]:
    mail = mailer(mailbox[1])
    files = Storage(f"file://{disk}", "{account}/", name="files")
    objects = Storage(f"s3://{BUCKET}", "{account}/", options=s3, name="objects")

    def content(task: Task) -> str | None:
        return objects(task) if in_s3(task.account_id) else files(task)

    def poisoned(task: Task) -> str:
        if task.account_id == POISONED:
            raise OSError("this account's shard is gone")
        return "asked the search index to forget"

    engine = Engine(
        url,
        clock=clock,
        handlers={
            **dict.fromkeys(NOTICES, mail),
            Effect.DELETE_CONTENT: {"content": content, "index": poisoned},
            Effect.PURGE_BACKUPS: lambda task: "backups expire",
        },
        safety=Safety(accounts_per_hour=COUNT, accounts_per_day=COUNT),
        delivery=DeliverySettings(attempts=4),
    )
    engine.migrate()
    for number in range(COUNT):
        id = account(number)
        engine.open_account(id, company=f"{canary(id)} Ltd", owners=[owner(id)], plan="free")
    yield engine
    engine.close()


def cancel(engine: Engine, which: Sequence[str]) -> None:
    for id in which:
        engine.fire(id, "cancel", actor=Actor.owner(owner(id)), reason=f"{canary(id)} is leaving")


def come_back(engine: Engine, which: Sequence[str]) -> None:
    for id in which:
        engine.fire(id, "reactivate", actor=Actor.owner(owner(id)))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_of_a_thousand_accounts_exactly_the_right_ones_are_destroyed(
    world: Engine,
    clock: ManualClock,
    disk: Path,
    bucket: Any,
    mailbox: tuple[Mailbox, int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    keys = account_keys(world)
    cancel(world, [id for id in ids(*range(10)) if id not in ids(KEPT)])
    world.run_until(START + 10 * DAY)
    come_back(world, ids(BACK_EARLY))
    world.run_until(START + 29 * DAY)
    for id in ids(HELD):
        world.place_hold(id, actor=ADMIN, reason=f"{canary(id)} order", case="2031-114")
    world.run_until(START + 30 * DAY - SECOND)
    come_back(world, ids(BACK_LATE))
    assert found(disk, bucket) == set(ids(*range(10))), "nothing is erased too early"
    world.run_until(START + 40 * DAY)

    # The poisoned account's files are gone as well: only its second store refuses.
    remain = set(ids(*range(10))) - set(ERASED) - {POISONED}
    assert found(disk, bucket) == remain
    for id in (one for one in remain if not in_s3(one)):
        assert (disk / id / "letters" / "one.txt").read_text() == canary(id)

    world.run_until(START + 61 * DAY)
    states = {snapshot.id: snapshot.state for snapshot in world.accounts()}
    assert {id for id, state in states.items() if state is State.PURGED} == set(ERASED)
    assert {states[id] for id in ids(KEPT, BACK_EARLY, BACK_LATE)} == {State.ACTIVE}
    assert {states[id] for id in (*ids(HELD), POISONED)} == {State.ACCESS_REVOKED}
    check_certificates(world)
    check_mails(mailbox[0].received)
    world.forget_purged()
    check_files(world, keys, capfd.readouterr())


def found(disk: Path, bucket: Any) -> set[str]:
    """The accounts that have content."""
    folders = {folder.name for folder in disk.iterdir() if folder.is_dir()}
    objects = {path.split("/")[1] for path in bucket.find(BUCKET)} - {f".{effect}" for effect in DESTRUCTIVE}
    return folders | objects


def check_certificates(engine: Engine) -> None:
    for id in ERASED:
        issued = engine.certificate(id)
        deletion, purge = issued.destructions
        assert (deletion.requested_at, deletion.confirmed_at, deletion.attempts) == (
            START + 30 * DAY,
            START + 30 * DAY,
            1,
        )
        assert [(s.store, s.outcome, s.text) for s in deletion.stores] == [
            ("content", Found.ERASED, None),
            ("index", None, "asked the search index to forget"),
        ]
        assert deletion.stores[0].count == (1 if in_s3(id) else 2)
        assert purge.confirmed_at == START + 59 * DAY
        told = {notice.effect: notice.delivered_at for notice in issued.notices}
        assert told == {Effect.CONFIRM_CANCELLATION: START, Effect.REMIND_DELETION: START + 23 * DAY}
        assert canary(id) not in repr(issued)
    for id in ids(KEPT, BACK_EARLY, BACK_LATE, HELD):
        assert engine.certificate(id).destructions == ()
    (poisoned,) = engine.certificate(POISONED).destructions
    assert (poisoned.status, poisoned.confirmed_at) == ("parked", None)
    assert [store.store for store in poisoned.stores] == ["content"]
    assert [hold.case for hold in engine.certificate(ids(HELD)[0]).holds] == ["2031-114"]


def check_mails(received: list[tuple[str, str]]) -> None:
    """Everybody who was to be erased was told so, and the date of it, a week before."""
    reminded = [to for to, mail in received if "31 January 2026" in mail]
    assert set(reminded) >= {owner(id) for id in ERASED}
    assert not {owner(id) for id in ids(KEPT)} & {to for to, _ in received}
    assert not any("{{" in mail or "None" in mail for _, mail in received)


def account_keys(engine: Engine) -> dict[str, bytes]:
    """The key of each account, as it is stored."""
    with engine.database.read() as connection:
        return {row.account_id: row.wrapped for row in connection.execute(select(personal_data))}


def check_files(engine: Engine, keys: Mapping[str, bytes], printed: Any) -> None:
    """Nothing personal of anybody was ever in a file or in the log in clear; of purged accounts no key is left."""
    assert "canary" not in printed.out and "canary" not in printed.err
    destroyed = [keys[id] for id in ERASED[::10]]
    for last in (False, False, False, False, True):
        files = served_files(engine) if engine.database.is_postgresql else local_files(engine)
        contents = [file.read_bytes() for file in files]
        assert not any(b"canary" in content for content in contents)
        if not any(key in content for key in destroyed for content in contents):
            break
        # The server itself may just have been looking at what was deleted (autovacuum): then VACUUM keeps it.
        assert engine.database.is_postgresql and not last, "a key that was destroyed is still in a file"
        time.sleep(2)
    assert any(keys[ids(KEPT)[0]] in content for content in contents), "the search finds what is there"


def local_files(engine: Engine) -> list[Path]:
    """The database's file and its write-ahead log."""
    path = Path(str(engine.database.url.database))
    return list(path.parent.glob(f"{path.name}*"))


def served_files(engine: Engine) -> list[Path]:
    """The files of the database and the server's log, after what docs/destruction.md asks of the server's operator."""
    url = engine.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as operator:
        for statement in (
            "ALTER SYSTEM SET wal_recycle = off",
            "SELECT pg_reload_conf()",
            "VACUUM FULL",
            "CHECKPOINT",
            "SELECT pg_switch_wal()",
            "CHECKPOINT",
        ):
            operator.execute(statement)
        row = operator.execute(
            "SELECT current_setting('data_directory'), oid FROM pg_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
    folder = Path(row[0])
    if not folder.exists():
        pytest.skip("the server's files are on another machine")
    return [
        file
        for place in (folder / "base" / str(row[1]), folder / "pg_wal")
        for file in place.rglob("*")
        if file.is_file()
    ]


def test_the_policys_own_numbers_stand_in_its_mails(url: str, clock: ManualClock, mailbox: tuple[Mailbox, int]) -> None:
    mail = mailer(mailbox[1])
    policy = Policy(deletion_after=timedelta(days=45))
    engine = Engine(url, clock=clock, policy=policy, handlers=dict.fromkeys(NOTICES, mail))
    engine.migrate()
    engine.open_account("acme", company="Acme", owners=["ann@acme.test"], plan="free")
    engine.fire("acme", "cancel", actor=Actor.owner("ann@acme.test"))
    engine.deliver()
    ((_, text),) = mailbox[0].received
    assert "15 February 2026" in text
    engine.close()
