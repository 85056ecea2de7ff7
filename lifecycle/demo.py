"""The demo: fourteen months of a company's accounts in seconds, on a database that stays for a look around.

The accounts, the sweeps and the deliveries are real; only the clock and the people are made up.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from lifecycle.clock import ManualClock
from lifecycle.demo_world import HERO, OUTAGE, START, World
from lifecycle.engine import Engine
from lifecycle.errors import InvalidInput
from lifecycle.histories import BY_COMPANY, Life, Promise, check_promises, lives
from lifecycle.importer import import_accounts
from lifecycle.policy import Policy
from lifecycle.simulate import require_empty
from lifecycle.simulate.post import PostOffice
from lifecycle.states import Event, Opening, State, Step

FOLDER = Path("demo")
REPOSITORY = Path(__file__).resolve().parent.parent
ACCOUNTS = REPOSITORY / "examples" / "accounts.csv"
WIDTH = 100
_MOVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("opened", (Opening.OPEN_ACCOUNT,)),
    ("on hold", (Event.EXPIRE_TRIAL,)),
    ("upgraded", (Event.UPGRADE,)),
    ("renewed", (Event.RENEW,)),
    ("frozen", (Event.FREEZE,)),
    ("thawed", (Event.THAW,)),
    ("cancelled", (Event.CANCEL,)),
    ("by us", BY_COMPANY),
    ("back", (Event.REACTIVATE,)),
    ("no access", (Event.REVOKE_ACCESS,)),
    ("deleted", (Event.DELETE_CONTENT,)),
    ("purged", (Event.PURGE_BACKUPS,)),
)
_STYLES = {
    State.TRIAL: "cyan", State.ON_HOLD: "yellow", State.ACTIVE: "green", State.FROZEN: "blue",
    State.CANCEL_PENDING: "yellow", State.ACCESS_REVOKED: "red", State.CONTENT_DELETED: "magenta",
    State.PURGED: "bright_black",
}  # fmt: skip
_STEPS = {Step.REMIND: "reminder of {}", Step.NOTICE: "notice of {} delivered", Step.REQUEST: "{} requested"}


def run(
    database_url: str | None = None, console: Console | None = None, *, months: int = 14, seed: int = 2026
) -> list[Promise]:
    """Live through ``months`` from 2026-01-01 on and show what became of everybody.

    The database must be empty; without ``database_url`` it is a new ``demo/accounts.db`` under the
    working directory, which replaces that of an earlier demo. Returns the promises as they were checked.
    """
    console = console or _console()
    if not ACCOUNTS.is_file():
        raise InvalidInput(f"The demo needs {ACCOUNTS}: run it from a checkout of the repository.")
    url = database_url or _fresh_database()
    clock, post = ManualClock(START), PostOffice()
    engine = Engine(url, policy=Policy(), clock=clock, handlers=post.handlers())
    try:
        require_empty(engine, "demo")
        engine.migrate()
        _heading(console, "A company moves in")
        imported = import_accounts(engine, ACCOUNTS)
        if imported.bad:
            raise InvalidInput(f"{ACCOUNTS}: {imported.bad[0]}")
        console.print(f"{imported.imported} accounts in every state of their life, from {_short(ACCOUNTS)}")
        before = engine.summary()
        world = World(engine, clock, seed)
        _live(console, world, days=(_months_later(months) - START).days)
        everybody = list(lives(engine))
        promises = check_promises(everybody, engine.policy, clock.now())
        _show(console, world, post, everybody, before, promises, months)
        _what_next(console, url, clock.now())
    finally:
        engine.close()
    return promises


def _months_later(months: int) -> datetime:
    return START.replace(year=START.year + months // 12, month=1 + months % 12)


def _console() -> Console:
    plain = Console(markup=False, highlight=False)
    return plain if plain.is_terminal else Console(markup=False, highlight=False, width=WIDTH)


def _fresh_database() -> str:
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "accounts.db"
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    return f"sqlite:///{file.as_posix()}"


def _live(console: Console, world: World, days: int) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=40),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(_day_words(START), total=days)
        world.live(days, lambda at: progress.update(task, completed=(at - START).days, description=_day_words(at)))
        progress.update(task, completed=days)


def _day_words(at: datetime) -> str:
    out = OUTAGE[0] < (at - START).days < OUTAGE[1]
    return f"{at:%d %b %Y}  {'no daemon runs' if out else 'sweep, deliver'}"


# --- What is shown -------------------------------------------------------------------------------


def _heading(console: Console, text: str) -> None:
    console.print()
    console.rule(Text(text, style="bold"), align="left")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _show(
    console: Console, world: World, post: PostOffice, lives: Sequence[Life], before: dict[State, int],
    promises: Sequence[Promise], months: int,
) -> None:  # fmt: skip
    _heading(console, f"Moves in {months} months")
    console.print(_moves(lives))
    console.print(
        f"\n{post.delivered.total():,} messages and orders were delivered; {world.refused.total()} requests that the "
        "policy does not allow were refused and recorded."
    )
    _heading(console, "Accounts by state")
    console.print(_states(before, Counter(life.account.state for life in lives)))
    _heading(console, "Was anybody harmed?")
    _outage(console, world, lives)
    console.print(_verdicts(promises))
    if any(promise.broken for promise in promises) and world.caught_up_at is not None:
        console.print("Late: due while no daemon ran, and done as soon as one did. Nobody lost anything by it.")
    hero = next((life for life in lives if life.account.id == HERO), None)
    if hero is not None:
        _heading(console, f"The life of {HERO}")
        console.print(_timeline(hero))
        if hero.account.state is State.PURGED:
            console.print("Purging removed the owner's address and every reason from the history, too.", style="dim")


def _moves(lives: Sequence[Life]) -> Table:
    table = _table("month", *(name for name, _ in _MOVES))
    table.padding = (0, 1, 0, 0)
    counts = Counter(
        (f"{entry.at:%Y-%m}", entry.event)
        for life in lives
        for entry in life.entries
        if entry.step in (Step.FIRE, Step.OPEN)
    )
    for month in sorted({month for month, _ in counts}):
        cells = (sum(counts[month, event] for event in events) for _, events in _MOVES)
        table.add_row(month, *(str(count) if count else Text(".", style="dim") for count in cells))
    return table


def _states(before: dict[State, int], after: Counter[State]) -> Table:
    table = _table("state", "start", "end")
    table.add_column("")
    most = max(*before.values(), *after.values())
    for state in State:
        bar = Text("━" * max(round(40 * after[state] / most), bool(after[state])), style=_STYLES[state])
        table.add_row(Text(state, style=_STYLES[state]), str(before[state]), str(after[state]), bar)
    return table


def _outage(console: Console, world: World, lives: Sequence[Life]) -> None:
    if world.caught_up_at is None:
        return
    caught = [e for life in lives for e in life.entries if e.at == world.caught_up_at and e.actor.startswith("system")]
    words = Counter(
        "reminders" if e.step == Step.REMIND else e.event for e in caught if e.step in (Step.REMIND, Step.FIRE)
    )
    done = ", ".join(f"{count} {name}" for name, count in words.most_common())
    console.print(
        f"No daemon ran for {OUTAGE[1] - OUTAGE[0]} days up to {world.caught_up_at:%d %b %Y}. {world.overdue} accounts "
        f"were overdue by then and were caught up with at once: {done}. Late notices still gave their full time.\n"
    )


def _verdicts(promises: Sequence[Promise]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for promise in promises:
        kept = promise.broken == 0
        verdict = Text("✓ kept" if kept else f"✗ {promise.broken} late", style="green" if kept else "yellow")
        table.add_row(verdict, promise.sentence, Text(f"{promise.tested:>4} times", style="dim"))
    return table


def _timeline(life: Life) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for entry in life.entries:
        moved = entry.source is not entry.dest
        mark = Text("●" if moved else "│", style=_STYLES[entry.dest])
        what = _STEPS.get(Step(entry.step), "{}").format(entry.event)
        where = Text(f"→ {entry.dest}" if moved else "", style=_STYLES[entry.dest])
        by = entry.actor if entry.reason is None else f"{entry.actor}, “{entry.reason}”"
        table.add_row(f"{entry.at:%Y-%m-%d}", mark, Text(what, style="" if moved else "dim"), where, Text(by, "dim"))
    return table


def _what_next(console: Console, url: str, now: datetime) -> None:
    _heading(console, "Look around")
    pictures = sorted((REPOSITORY / "diagrams").glob("*.svg"))
    for picture in pictures:
        console.print(f"  {_short(picture)}", style="cyan")
    if not pictures:
        console.print("  lifecycle diagram --all          draws the machine", style="cyan")
    console.print(f"\nThe database stays as it was on {now:%d %B %Y}:\n")
    console.print(f"  export LIFECYCLE_DATABASE_URL={url}", style="cyan", soft_wrap=True)
    for command in (f"show {HERO}", f"history {HERO}", 'due --within "7 days"', "timers", "doctor"):
        console.print(f"  lifecycle {command}", style="cyan")


def _short(path: Path) -> str:
    """The path as one would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
