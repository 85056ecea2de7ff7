"""Commands of operation: set up, sweep, deliver, run the daemon, look after the outbox, check the health."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.cli import output, parsing
from lifecycle.cli.accounts import LimitOption, as_data
from lifecycle.cli.errors import REFUSED
from lifecycle.cli.run import DATABASE_VARIABLE, Command, Run, command
from lifecycle.errors import InvalidInput, SchemaOutdated

if TYPE_CHECKING:
    from lifecycle.engine import Engine
    from lifecycle.policy import Policy
    from lifecycle.reads import Snapshot

COMMANDS: list[Command] = []
_PANEL = "Operation"


# --- Set-up --------------------------------------------------------------------------------------


@command(COMMANDS, "init", "lifecycle init --database sqlite:///accounts.db", panel=_PANEL)
def init(run: Run) -> None:
    """Create or upgrade the database, and adopt the policy of --config. Repeating it changes nothing."""
    engine = run.open_engine(create=True)
    existed, before = _kept(engine)
    engine.migrate()
    after = engine.policy
    changes = _changes(before, after)
    if run.json:
        output.emit(
            {
                "database": str(engine.database),
                "schema": "up to date" if existed else "created",
                "policy": {
                    "version": after.version,
                    "previous": before.version if before else None,
                    "adopted": before != after,
                    "changes": {name: {"from": old, "to": new} for name, (old, new) in changes.items()},
                },
            }
        )
        return
    by_default = f" (the default; name another with --database or {DATABASE_VARIABLE})"
    output.say(f"Database  {engine.database}{by_default if run.database_is_default else ''}")
    output.say(f"Schema    {'up to date' if existed else 'created'}")
    output.say(f"Policy    {_adoption(before, after, bool(changes))}")
    for name, (old, new) in changes.items():
        output.say(f"            {name}: {old} → {new}")


def _kept(engine: "Engine") -> "tuple[bool, Policy | None]":
    """Whether there is a schema, and the policy that the database keeps."""
    try:
        with engine.database.read() as connection:
            engine.store.check_schema(connection)
            return True, engine.store.policy_in_force(connection)
    except SchemaOutdated:
        return False, None


def _changes(before: "Policy | None", after: "Policy") -> dict[str, tuple[str, str]]:
    """The settings that differ from the policy before; from the defaults, where there was none."""
    from lifecycle.policy import Policy

    old, new = (before or Policy()).as_text(), after.as_text()
    return {name: (old[name], new[name]) for name in new if old[name] != new[name]}


def _adoption(before: "Policy | None", after: "Policy", differs: bool) -> str:
    if before is None:
        return f"adopted {after.version}, " + ("which differs from the defaults in" if differs else "the defaults")
    if before == after:
        return f"kept {after.version}"
    return f"adopted {after.version} instead of {before.version}; the next date of every account was set anew"


# --- Time ----------------------------------------------------------------------------------------


@command(COMMANDS, "due", 'lifecycle due --within "7 days"', panel=_PANEL)
def due(
    run: Run,
    within: Annotated[
        str, typer.Option("--within", metavar="DURATION", help='How far ahead to look, such as "7 days".')
    ] = "0 days",
    limit: LimitOption = None,
) -> None:
    """List what sweeps will do, the earliest first, and what waits for an admin's approval."""
    from lifecycle.policy import parse_duration

    upcoming = run.engine.due(parse_duration(within, "--within"))
    waiting = run.engine.awaiting_approval()
    if run.json:
        accounts = ({**as_data(account), "event": _timer_event(account)} for account in islice(waiting, limit))
        output.emit({"due": islice(upcoming, limit), "awaiting_approval": accounts})
        return
    now = run.now
    rows = ((d.account_id, d.state, d.event, d.step, d.at, output.relative(d.at, now)) for d in upcoming)
    nothing = f"Nothing is due within {within}." if within != "0 days" else "Nothing is due; look ahead with --within."
    output.show_rows(("account", "state", "event", "step", "at (UTC)", "when"), rows, nothing, limit)
    first = next(waiting, None)
    if first is not None:
        output.say("", "Waiting for an admin, who fires each with `lifecycle fire ID EVENT --as admin:NAME`:")
        listed = ((a.id, a.company, a.state, _timer_event(a)) for a in chain([first], waiting))
        output.show_rows(("account", "company", "state", "event"), listed, "", limit)


def _timer_event(account: "Snapshot") -> str:
    from lifecycle.answers import timer_row

    row = timer_row(account)
    return "-" if row is None else row.event


@command(COMMANDS, "timers", "lifecycle timers", panel=_PANEL)
def timers(run: Run) -> None:
    """List each timer: its next instant, how many accounts wait for it, how many are overdue."""
    statuses = run.engine.timers()
    if run.json:
        output.emit(iter(statuses))
        return
    now = run.now
    rows = [(t.event, t.state, t.next, output.relative(t.next, now), t.waiting, t.overdue) for t in statuses]
    columns = ("timer", "state", "next (UTC)", "when", "waiting", "overdue")
    output.show(output.table(columns, rows))


@command(COMMANDS, "sweep", "lifecycle sweep", panel=_PANEL)
def sweep(run: Run) -> None:
    """Fire all that is due now, once. The daemon does it by itself; this is for cron, and for impatience."""
    engine = _ready(run.engine)
    overdue = {status.state: status.overdue for status in engine.timers()}
    with progress("Sweeping", sum(overdue.values())) as advance:
        report = engine.sweep(on_batch=lambda _state, moves: advance(sum(moves.values())))
    moves = [{"event": event, "step": step, "accounts": count} for (event, step), count in sorted(report.moves.items())]
    if run.json:
        output.emit({"moves": moves, "rearmed": report.rearmed, "next_due": report.next_due})
        return
    columns = ("event", "step", "accounts")
    output.show_rows(columns, [tuple(move.values()) for move in moves], "Nothing was due.", len(moves))
    if report.next_due is not None:
        output.say(f"Next: {report.next_due:%Y-%m-%d %H:%M} UTC, {output.relative(report.next_due, run.now)}.")


@command(COMMANDS, "deliver", "lifecycle deliver", panel=_PANEL)
def deliver(run: Run) -> None:
    """Hand what the outbox owes to its handlers, once. The daemon does it by itself."""
    from lifecycle.log import configure

    configure()
    engine = _ready(run.engine)
    report = engine.deliver()
    counted = {"delivered": report.delivered, "failed": report.failed, "parked": report.parked}
    if run.json:
        output.emit({**counted, "withdrawn": report.withdrawn, "next_due": report.next_due})
        return
    rows = [(effect, outcome, count) for outcome, counts in counted.items() for effect, count in counts.items()]
    output.show_rows(("effect", "outcome", "tasks"), rows, "Nothing was to be delivered.", len(rows))
    if report.withdrawn:
        output.say(f"Withdrawn, since something newer replaced them: {report.withdrawn}.")


@command(COMMANDS, "daemon", "lifecycle daemon --config lifecycle.toml", panel=_PANEL, json=False)
def daemon(
    run: Run,
    resync: Annotated[
        str, typer.Option("--resync", metavar="DURATION", help="How soon to see what others wrote; at most 30 seconds.")
    ] = "30 seconds",
    name: Annotated[
        str | None,
        typer.Option("--name", help="How the daemon calls itself; else the host's name.", show_default=False),
    ] = None,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
) -> None:
    """Fire every timer at its instant and deliver the outbox, until SIGTERM or Ctrl-C."""
    from lifecycle.log import LEVELS, configure
    from lifecycle.policy import parse_duration
    from lifecycle.scheduler import Daemon

    interval = parse_duration(resync, "--resync")
    configure(level=parsing.nearest(log_level, LEVELS, "log level"))
    raise typer.Exit(Daemon(_ready(run.engine), name=name, resync=interval).run())


def _ready(engine: "Engine") -> "Engine":
    """The engine, unless its database has no schema or keeps another policy: that is said now, not once work is due."""
    policy = engine.policy
    with engine.database.read() as connection:
        engine.store.check_schema(connection)
        engine.store.require_policy(connection, policy)
    return engine


# --- Outbox --------------------------------------------------------------------------------------


def _statuses(incomplete: str) -> list[str]:
    from lifecycle.tables import Status

    return [status for status in Status if status.startswith(incomplete)]


@command(COMMANDS, "outbox list", "lifecycle outbox list --status parked", panel=_PANEL)
def outbox_list(
    run: Run,
    status: Annotated[
        str | None,
        typer.Option("--status", help="pending, delivered, parked or withdrawn.", autocompletion=_statuses),
    ] = None,
    account: Annotated[str | None, typer.Option("--account", metavar="ID", help="Only of this account.")] = None,
    limit: LimitOption = None,
) -> None:
    """List what is owed to the outside world, the oldest first."""
    from lifecycle.tables import Status

    wanted = None if status is None else Status(parsing.nearest(status, Status, "status"))
    engine, courier = run.engine, run.engine.courier
    with engine.database.read() as connection:
        engine.store.check_schema(connection)
        rows = courier.rows(connection, wanted, account)
    if run.json:
        output.emit(dict(row) for row in islice(rows, limit))
        return
    shown = (
        (r["id"], r["account_id"], r["effect"], r["status"], r["attempts"], r["due_at"], r["last_error"] or "")
        for r in rows
    )
    columns = ("task", "account", "effect", "status", "attempts", "due (UTC)", "last error")
    output.show_rows(columns, shown, "The outbox holds nothing of that kind.", limit)


@command(
    COMMANDS,
    "outbox retry",
    "lifecycle outbox retry 17",
    "lifecycle outbox retry --all",
    panel=_PANEL,
)
def outbox_retry(
    run: Run,
    task: Annotated[int | None, typer.Argument(metavar="TASK", help="The task's number.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="All parked tasks.")] = False,
) -> None:
    """Put a parked task back in line, or all of them with --all."""
    if (task is None) == (not everything):
        raise InvalidInput("Say which: the number of one task, or --all for every parked one.")
    count = run.engine.courier.retry(run.now, task)
    if run.json:
        output.emit({"retried": count})
    else:
        output.say(f"Back in line: {count}. They are delivered by the daemon, or by `lifecycle deliver`.")


# --- Health --------------------------------------------------------------------------------------

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("PROBLEM", "bold red")}


@command(COMMANDS, "doctor", "lifecycle doctor", panel=_PANEL)
def doctor(run: Run) -> None:
    """Check the health of database, timers, outbox and daemons; exit code 1 when there is a problem."""
    from rich.text import Text

    from lifecycle.doctor import examine

    findings = examine(run.engine)
    if run.json:
        output.emit(iter(findings))
    else:
        rows = []
        for finding in findings:
            mark, style = _MARKS[finding.level]
            words = " ".join(part for part in (finding.message, finding.advice) if part)
            rows.append((Text(mark, style=style), finding.check, words))
        output.show(output.table(("", "check", "finding"), rows))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(REFUSED)


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error that lasts as long as the work; gives the function that advances it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    screen = output.console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)
