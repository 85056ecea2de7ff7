"""Import and export of a million accounts: beside a bare load of the rows that an import writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from sqlalchemy import Table

from benchmarks.figures import Figure, Goal
from benchmarks.lab import DATABASES, POSTGRESQL, Lab, bare
from benchmarks.population import START
from lifecycle import Engine, ManualClock
from lifecycle.exporter import export_file
from lifecycle.importer import import_accounts
from lifecycle.tables import accounts, history, owners, personal_data

SECTION = "Import and export"
BATCH = 1_000


def run(lab: Lab) -> Iterator[Figure]:
    """Accounts per second into an empty database and out of it, and history entries out of it."""
    count = lab.size(1_000_000, 5_000)
    source = lab.directory / "accounts.csv"
    write_source(source, count)
    for kind in DATABASES:
        ours: list[float] = []
        rival: list[float] = []
        for round_ in range(lab.size(2, 1)):
            lab.say(f"{SECTION}: {count:,} accounts into {kind}, round {round_ + 1}")
            with imported(lab, kind, source, count) as (engine, speed):
                ours.append(speed)
                rival.append(bare_load(lab, kind, engine, count))
                if round_ == 0:
                    exports = [(what, format, exported(lab, engine, what, format)) for what, format in WANTED]
        yield Figure(SECTION, "import, against a bare load", kind, median(ours), median(rival), goal=Goal(at_least=0.3))
        for what, format, speed in exports:
            yield Figure(SECTION, f"export of {what} as {format}", kind, speed, None, "rows/s")


WANTED = (("accounts", "csv"), ("accounts", "jsonl"), ("history", "csv"), ("history", "jsonl"))


def write_source(path: Path, count: int) -> None:
    """What another system knows of its customers: every plan and several states."""
    opened, day = START - timedelta(days=200), timedelta(days=1)

    def line(number: int) -> str:
        at = opened + timedelta(seconds=number % 8_000_000)
        facts = (
            f"active,free,,{at.isoformat()},",
            f"active,paid,{(START + number % 30 * day + day).isoformat()},,",
            f"on_hold,trial,,,{(at + 30 * day).isoformat()}",
        )[number % 3]
        return f"account-{number:09d},Company {number} Ltd,owner{number}@example.test,{at.isoformat()},{facts}\n"

    with path.open("w", encoding="utf-8") as file:
        file.write("id,company,owners,opened_at,state,plan,period_ends_at,free_since,held_at\n")
        file.writelines(line(number) for number in range(1, count + 1))


@contextmanager
def imported(lab: Lab, kind: str, source: Path, count: int) -> Iterator[tuple[Engine, float]]:
    with lab.engine(kind, ManualClock(START + timedelta(days=1))) as engine:
        begun = perf_counter()
        report = import_accounts(engine, source)
        took = perf_counter() - begun
        if report.imported != count:
            raise AssertionError(f"not all was imported: {report.bad[:3]}")
        yield engine, count / took


def bare_load(lab: Lab, kind: str, engine: Engine, count: int) -> float:
    """The same rows into the same tables, in one transaction, on the driver's own connection."""
    source: Any = bare(engine)
    with lab.engine(kind, engine.clock) as other:
        target: Any = bare(other)
        took = 0.0
        target.execute("BEGIN")
        for table in (accounts, personal_data, owners, history):
            columns = ", ".join(f'"{column.name}"' for column in table.c)
            rows = source.execute(f"SELECT {columns} FROM {table.name} ORDER BY 1").fetchall()
            begun = perf_counter()
            load(target, table, columns, rows, kind)
            took += perf_counter() - begun
        begun = perf_counter()
        target.execute("COMMIT")
        took += perf_counter() - begun
        target.close()
    source.close()
    return count / took


def load(target: Any, table: Table, columns: str, rows: list[Any], kind: str) -> None:
    if kind == POSTGRESQL:
        with target.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(table.c))
    for first in range(0, len(rows), BATCH):
        target.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", rows[first : first + BATCH])


def exported(lab: Lab, engine: Engine, what: str, format: str) -> float:
    path = lab.directory / "export"
    begun = perf_counter()
    rows = export_file(engine, path, what, format)
    took = perf_counter() - begun
    path.unlink()
    return rows / took
