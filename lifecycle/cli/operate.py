"""Commands of operation: set up, sweep, deliver, run the daemon, look after the outbox, check the health."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.actor import Role
from lifecycle.cli import output, parsing
from lifecycle.cli.accounts import AdminOption, LimitOption, as_data
from lifecycle.cli.errors import REFUSED
from lifecycle.cli.run import DATABASE_VARIABLE, Command, Run, command
from lifecycle.errors import InvalidInput, SchemaOutdated

if TYPE_CHECKING:
    from types import ModuleType

    from lifecycle.engine import Engine
    from lifecycle.policy import Policy
    from lifecycle.reads import Snapshot
    from lifecycle.restore import LedgerReport

COMMANDS: list[Command] = []
_PANEL = "Operation"
_COLLECT_AFTER = 10_000  # new objects, in the daemon


# --- Set-up --------------------------------------------------------------------------------------


@command(
    COMMANDS,
    "init",
    "lifecycle init --database sqlite:///accounts.db",
    "lifecycle init --roles --database postgresql://postgres@db.internal/accounts",
    panel=_PANEL,
    needs=(Role.ADMIN,),
)
def init(
    run: Run,
    roles: Annotated[
        bool, typer.Option("--roles", help="PostgreSQL: also make the roles, and grant each what it needs.")
    ] = False,
    role_prefix: Annotated[
        str | None,
        typer.Option(
            "--role-prefix", metavar="NAME", help="How their names begin; else lifecycle.", show_default=False
        ),
    ] = None,
) -> None:
    """Create or upgrade the database; a new one adopts the policy of --config. Repeating it changes nothing."""
    if role_prefix is not None and not roles:
        raise InvalidInput("--role-prefix names the roles that --roles makes: give both.")
    prefix = (role_prefix or "lifecycle") if roles else None
    engine = run.open_engine(create=True)
    made = {} if prefix is None else engine.database_roles(prefix)
    schema, before = _kept(engine)
    engine.migrate(role_prefix=prefix, change_policy=False)
    after = engine.policy
    changes = _changes(before, after)
    if run.json:
        output.emit(
            {
                "database": str(engine.database),
                "schema": schema,
                "policy": {
                    "version": after.version,
                    "previous": before.version if before else None,
                    "adopted": before != after,
                    "changes": {name: {"from": old, "to": new} for name, (old, new) in changes.items()},
                },
                "roles": made,
            }
        )
        return
    by_default = f" (the default; name another with --database or {DATABASE_VARIABLE})"
    output.say(f"Database  {engine.database}{by_default if run.database_is_default else ''}")
    output.say(f"Schema    {schema}")
    output.say(f"Policy    {_adoption(before, after, bool(changes))}")
    for name, (old, new) in changes.items():
        output.say(f"            {name}: {old} → {new}")
    for role, name in made.items():
        output.say(f"Role      {name}: {role.text.replace('`', '')}")
    if made:
        output.say(
            "",
            "Next, make a user for each process, with its password, and connect it by that:",
            *(f"  CREATE USER … PASSWORD '…' IN ROLE {name};" for name in made.values()),
        )


def _kept(engine: "Engine") -> "tuple[str, Policy | None]":
    """What becomes of the schema, and the policy that the database keeps, also under an older schema."""
    try:
        with engine.database.read() as connection:
            before = engine.store.policy_in_force(connection)
    except SchemaOutdated:
        return "created", None
    try:
        with engine.database.read() as connection:
            engine.store.check_schema(connection)
            return "up to date", before
    except SchemaOutdated:
        return "upgraded", before


def _changes(before: "Policy | None", after: "Policy") -> dict[str, tuple[str, str]]:
    """The settings that differ from the policy before; from the defaults, where there was none."""
    from lifecycle.policy import Policy

    old, new = (before or Policy()).as_text(), after.as_text()
    return {name: (old[name], new[name]) for name in new if old[name] != new[name]}


def _adoption(before: "Policy | None", after: "Policy", differs: bool) -> str:
    if before is None:
        return f"adopted {after.version}, " + ("which differs from the defaults in" if differs else "the defaults")
    return f"kept {after.version}"


# --- Time ----------------------------------------------------------------------------------------


@command(
    COMMANDS,
    "due",
    'lifecycle due --within "7 days"',
    "lifecycle due --destructive --by day",
    panel=_PANEL,
)
def due(
    run: Run,
    within: Annotated[
        str, typer.Option("--within", metavar="DURATION", help='How far ahead to look, such as "7 days".')
    ] = "0 days",
    limit: LimitOption = None,
    destructive: Annotated[
        bool, typer.Option("--destructive", help="How much is destroyed on each of the coming 60 days.")
    ] = False,
    by: Annotated[str, typer.Option("--by", help="With --destructive: day.")] = "day",
) -> None:
    """List what sweeps will do, the earliest first, and what waits for an admin's approval."""
    from lifecycle.policy import parse_duration

    if destructive:
        parsing.nearest(by, ("day",), "--by")
        _forecast(run)
        return
    upcoming = run.engine.due(parse_duration(within, "--within"))
    waiting = run.engine.awaiting_approval()
    at_risk = [
        {"risk": risk.name, "accounts": count, "message": risk.message, "advice": risk.advice}
        for risk, count in run.engine.at_risk()
    ]
    if run.json:
        accounts = ({**as_data(account), "event": _timer_event(account)} for account in islice(waiting, limit))
        output.emit({"due": islice(upcoming, limit), "awaiting_approval": accounts, "at_risk": at_risk})
        return
    now = run.now
    rows = ((d.account_id, d.state, d.event, d.step, d.at, output.relative(d.at, now)) for d in upcoming)
    nothing = f"Nothing is due within {within}." if within != "0 days" else "Nothing is due; look ahead with --within."
    output.show_rows(("account", "state", "event", "step", "at (UTC)", "when"), rows, nothing, limit)
    first = next(waiting, None)
    if first is not None:
        output.say("", "Waiting for an admin, who fires each with `lifecycle fire ID EVENT --as admin`:")
        listed = ((a.id, a.company, a.state, _timer_event(a)) for a in chain([first], waiting))
        output.show_rows(("account", "company", "state", "event"), listed, "", limit)
    for risk in at_risk:
        output.say("", f"At risk: {risk['message']}: {risk['accounts']:,}. {risk['advice']}")


def _forecast(run: Run) -> None:
    """A bar for each day that has something to destroy, beside what the brake lets through in a day."""
    from datetime import timedelta

    from lifecycle.cli.charts import bars

    counts = run.engine.destruction_forecast()
    limit = run.engine.brake().windows[-1].limit
    days = [run.now + timedelta(days=day) for day in range(len(counts))]
    if run.json:
        output.emit(
            {"limit": limit, "days": [{"from": day, "requests": n} for day, n in zip(days, counts, strict=True)]}
        )
        return
    output.say(f"The brake lets {limit:,} requests a day through; what is due already counts for the first.", "")
    output.show(bars([(f"{day:%a %d %b}", count) for day, count in zip(days, counts, strict=True)], limit))


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


@command(COMMANDS, "sweep", "lifecycle sweep", panel=_PANEL, needs=None)
def sweep(run: Run) -> None:
    """Fire all that is due now, once. The daemon does it by itself; this is for cron, and for impatience."""
    engine = _ready(run.engine)
    overdue = {status.state: status.overdue for status in engine.timers()}
    with progress("Sweeping", sum(overdue.values())) as advance:
        report = engine.sweep(on_batch=lambda _state, moves: advance(sum(moves.values())))
    moves = [{"event": event, "step": step, "accounts": count} for (event, step), count in sorted(report.moves.items())]
    if run.json:
        output.emit(
            {"moves": moves, "rearmed": report.rearmed, "next_due": report.next_due, "withheld": report.withheld}
        )
        return
    columns = ("event", "step", "accounts")
    output.show_rows(columns, [tuple(move.values()) for move in moves], "Nothing was due.", len(moves))
    if report.withheld is not None:
        output.say(f"Destruction is withheld. {report.withheld}")
    if report.next_due is not None:
        output.say(f"Next: {report.next_due:%Y-%m-%d %H:%M} UTC, {output.relative(report.next_due, run.now)}.")


@command(COMMANDS, "deliver", "lifecycle deliver", panel=_PANEL, needs=None)
def deliver(run: Run) -> None:
    """Hand what the outbox owes to its handlers, once. The daemon does it by itself."""
    from lifecycle.log import configure

    configure()
    engine = _ready(run.engine)
    report = engine.deliver()
    counted = {"delivered": report.delivered, "failed": report.failed, "parked": report.parked}
    if run.json:
        output.emit(
            {**counted, "withdrawn": report.withdrawn, "next_due": report.next_due, "withheld": report.withheld}
        )
        return
    rows = [(effect, outcome, count) for outcome, counts in counted.items() for effect, count in counts.items()]
    output.show_rows(("effect", "outcome", "tasks"), rows, "Nothing was to be delivered.", len(rows))
    if report.withdrawn:
        output.say(f"Withdrawn, since something newer replaced them: {report.withdrawn}.")
    if report.withheld is not None:
        output.say(f"Destruction is withheld. {report.withheld}")


@command(COMMANDS, "daemon", "lifecycle daemon --config lifecycle.toml", panel=_PANEL, json=False, needs=None)
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
    metrics_at: Annotated[
        str | None,
        typer.Option("--metrics", metavar="HOST:PORT", help="Answer Prometheus there.", show_default=False),
    ] = None,
) -> None:
    """Fire every timer at its instant and deliver the outbox, until SIGTERM or Ctrl-C."""
    from lifecycle.log import LEVELS, configure
    from lifecycle.policy import parse_duration
    from lifecycle.scheduler import Daemon

    interval = parse_duration(resync, "--resync")
    configure(level=parsing.nearest(log_level, LEVELS, "log level"))
    engine = _ready(run.engine)
    if metrics_at is not None:
        _metrics().serve(engine, *parsing.host_and_port(metrics_at, "--metrics"))
    tune_collector()
    raise typer.Exit(Daemon(engine, name=name, resync=interval).run())


def tune_collector() -> None:
    """For a long life: garbage goes soon, and what was imported is not looked through for it again and again."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


def _ready(engine: "Engine") -> "Engine":
    """The engine, unless its database has no schema or keeps another policy: that is said now, not once work is due."""
    policy = engine.policy
    with engine.database.read() as connection:
        engine.store.check_schema(connection)
        engine.store.require_policy(connection, policy)
    return engine


# --- The brake ----------------------------------------------------------------------------------


@command(COMMANDS, "brake status", "lifecycle brake status", panel=_PANEL)
def brake_status(run: Run) -> None:
    """Show how much destruction is let through now, and how much waits."""
    from lifecycle.precautions import LEFT_TO_OTHERS

    brake, may_destroy = run.engine.brake(), run.engine.may_destroy
    if run.json:
        output.emit(
            {
                "may_destroy": may_destroy,
                "windows": [{**asdict(window), "free": window.free} for window in brake.windows],
                "waiting": brake.waiting,
                "releases": [asdict(release) for release in brake.releases],
                "free": brake.free,
                "tripped": brake.tripped,
                "opens_at": brake.opens_at,
            }
        )
        return
    rows = [(w.name, w.limit, w.used, w.released, w.free) for w in brake.windows]
    output.show(output.table(("per", "limit", "requested", "released", "free"), rows))
    for effect, count in brake.waiting.items():
        output.say(f"Due now: {effect} of {count:,} accounts.")
    for release in brake.releases:
        second = "" if release.approved_by is None else f" and {release.approved_by}"
        output.say(
            f"Released {release.at:%Y-%m-%d %H:%M} UTC by {release.actor}{second}: "
            f"{release.accounts:,}, {release.reason}"
        )
    if brake.tripped:
        opens = "" if brake.opens_at is None else f" It opens at {brake.opens_at:%Y-%m-%d %H:%M} UTC by itself."
        output.say(f"The brake holds: it lets {brake.free:,} through now.{opens}")
    if not may_destroy:
        output.say(LEFT_TO_OTHERS)


@command(
    COMMANDS,
    "brake release",
    'lifecycle brake release 200 --reason "spam accounts of May, ticket 4711"',
    panel=_PANEL,
    needs=(Role.ADMIN,),
)
def brake_release(
    run: Run,
    count: Annotated[int, typer.Argument(metavar="COUNT", help="How many more accounts.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.", show_default=False)],
    actor: AdminOption = None,
) -> None:
    """Let so many more accounts be destroyed than the limits say; it is recorded."""
    run.engine.release_brake(count, actor=run.actor(actor, "admin"), reason=reason)
    brake = run.engine.brake()
    if run.json:
        output.emit({"released": count, "free": brake.free})
    else:
        output.say(f"Released: {count:,}. The brake lets {brake.free:,} through now.")


# --- After a restore -----------------------------------------------------------------------------


@command(COMMANDS, "restore check", "lifecycle restore check", panel=_PANEL)
def restore_check(run: Run, limit: LimitOption = None) -> None:
    """Compare the database with the ledger: what was destroyed that it does not know; exit code 1 if there is any."""
    _report_restore(
        run, _of_ledger(run.engine.check_restore()), limit, "Bring them forward with `lifecycle restore apply`."
    )


@command(COMMANDS, "restore apply", "lifecycle restore apply", panel=_PANEL, needs=(Role.ADMIN,))
def restore_apply(run: Run, actor: AdminOption = None, limit: LimitOption = None) -> None:
    """Bring every such account to where it was when it was destroyed, and have it destroyed anew."""
    report = run.engine.apply_restore(actor=run.actor(actor, "admin"))
    _report_restore(run, _of_ledger(report), limit, None)


def _of_ledger(report: "LedgerReport | None") -> "LedgerReport":
    if report is None:
        raise InvalidInput("There is no ledger to compare with: name one as [safety] ledger of the configuration.")
    return report


def _report_restore(run: Run, report: "LedgerReport", limit: int | None, advice: str | None) -> None:
    """What was found; with ``advice`` it is still to be settled."""
    if run.json:
        output.emit({"lines": report.lines, "behind": iter(report.behind.values()), "unknown": report.unknown})
    else:
        rows = ((said["account"], said["effect"], said["at"]) for said in report.behind.values())
        output.show_rows(
            ("account", "effect", "asked for at"), rows, "The database knows all that was destroyed.", limit
        )
        if report.unknown:
            output.say(f"Destroyed, and not in this database at all: {', '.join(report.unknown[:10])}.")
        if report.behind:
            output.say(advice or f"Brought forward, to be destroyed anew: {len(report.behind):,}.")
    if advice is not None and report.behind:
        raise typer.Exit(REFUSED)


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
    needs=(Role.ADMIN,),
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


@command(COMMANDS, "doctor", "lifecycle doctor", "lifecycle doctor --accept-clock", panel=_PANEL)
def doctor(
    run: Run,
    accept_clock: Annotated[
        bool, typer.Option("--accept-clock", help="Say that this host's clock is right; it is recorded.")
    ] = False,
) -> None:
    """Check the health of database, clock, timers, outbox and daemons; exit code 1 when there is a problem."""
    from rich.text import Text

    from lifecycle.doctor import examine

    if accept_clock:
        run.engine.accept_clock(run.actor(None, "admin"))
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


@command(COMMANDS, "metrics", "lifecycle metrics", panel=_PANEL, json=False)
def metrics(run: Run) -> None:
    """Print the state of accounts, outbox, brake and daemons as Prometheus metrics."""
    output.say(*_metrics().exposed(run.engine).splitlines())


def _metrics() -> "ModuleType":
    try:
        from lifecycle import metrics
    except ModuleNotFoundError as error:
        raise InvalidInput("Metrics need their library: pip install 'account-lifecycle[metrics]'.") from error
    return metrics


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error that lasts as long as the work; gives the function that advances it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    screen = output.console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)
