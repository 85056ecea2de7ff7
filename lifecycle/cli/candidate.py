"""Commands on another policy: what it would do to the accounts that there are, and putting it in force."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.actor import Role
from lifecycle.cli import output, parsing
from lifecycle.cli.accounts import AdminOption, LimitOption, StateOption
from lifecycle.cli.errors import REFUSED
from lifecycle.cli.policy import PANEL, FileArgument, policy_in, show_values
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import InvalidInput

if TYPE_CHECKING:
    from lifecycle.comparison import Comparison
    from lifecycle.impact import Choice, Impact
    from lifecycle.policy import Policy
    from lifecycle.states import Event

COMMANDS: list[Command] = []

# --- What it would do ----------------------------------------------------------------------------

_LOSSES_HELP = "With --list: only who loses access or content."


@command(
    COMMANDS,
    "policy impact",
    "lifecycle policy impact policy.toml",
    'lifecycle policy impact policy.toml --list --loses content --within "30 days"',
    panel=PANEL,
)
def impact(
    run: Run,
    file: FileArgument = None,
    listing: Annotated[bool, typer.Option("--list", help="The accounts one by one, with both instants.")] = False,
    state: StateOption = None,
    event: Annotated[str | None, typer.Option("--event", help="With --list: only this timer's event.")] = None,
    change: Annotated[
        str | None, typer.Option("--change", help="With --list: only sooner, later, newly, no_more or same.")
    ] = None,
    loses: Annotated[str | None, typer.Option("--loses", help=_LOSSES_HELP)] = None,
    within: Annotated[
        str | None,
        typer.Option("--within", metavar="DURATION", help="With --list: only what comes within so much time."),
    ] = None,
    limit: LimitOption = None,
) -> None:
    """Foretell what activating a policy would do to the accounts that there are. Changes nothing."""
    policy = policy_in(run, file)
    chosen = {"state": state, "event": event, "change": change, "loses": loses, "within": within}
    if listing:
        _list(run, policy, _choice(chosen), limit)
        return
    if given := [name for name, value in {**chosen, "limit": limit}.items() if value is not None]:
        raise InvalidInput(f"--{given[0]} chooses among the accounts that --list lists; give --list, too.")
    found = run.engine.impact(policy)
    if run.json:
        output.emit(found.as_json())
    else:
        _show_impact(found)


def _choice(chosen: Mapping[str, str | None]) -> "Choice":
    from lifecycle.forecast import LOSSES
    from lifecycle.impact import DIFFERENT, Change, Choice
    from lifecycle.policy import parse_duration
    from lifecycle.states import State

    def one_of(name: str, options: Any) -> Any:
        said = chosen[name]
        return None if said is None else parsing.nearest(said, options, name)

    state, change, within = one_of("state", State), one_of("change", Change), chosen["within"]
    return Choice(
        None if state is None else State(state),
        _foretold(chosen["event"]),
        DIFFERENT if change is None else (Change(change),),
        one_of("loses", LOSSES),
        None if within is None else parse_duration(within, "--within"),
    )


def _foretold(said: str | None) -> "Event | None":
    """An event that a timer fires, since no other is foretold."""
    from lifecycle.machine import TIMERS, event_named

    if said is None:
        return None
    event = event_named(said)
    if event not in (timed := {row.event: row for row in TIMERS}):
        raise InvalidInput(f"--event {event} is not foretold: no timer fires it. Choose from {', '.join(timed)}.")
    return event


def _list(run: Run, policy: "Policy", choice: "Choice", limit: int | None) -> None:
    rows = run.engine.foretold(policy, choice)
    if run.json:
        output.emit(rows if limit is None else (row for row, _ in zip(rows, range(limit), strict=False)))
        return
    columns = ("account", "state", "event", "step", "was to be (UTC)", "becomes (UTC)", "which is")
    cells: Iterator[tuple[object, ...]] = (
        (one.account_id, one.state, one.event, one.step, one.before, one.after, one.change) for one in rows
    )
    output.show_rows(columns, cells, "Nothing changes for any account.", limit)


def _show_impact(found: "Impact") -> None:
    as_of = f"{found.accounts:,} accounts, as of {found.at:%Y-%m-%d %H:%M} UTC"
    output.say(f"{found.candidate} instead of {found.in_force}, for {as_of}")
    changed = [one for one in found.timers if one.changed]
    if not changed:
        output.say("", "No timer of any account would move.")
    else:
        output.say("", "Accounts by the state that they are in, and what becomes of each timer ahead of them")
        rows = [
            (one.state, one.event, one.step, one.sooner, one.later, one.newly, one.no_more, one.same) for one in changed
        ]
        heads = ("state", "timer", "step", "sooner", "later", "newly", "no more", "the same")
        output.show(output.table(heads, rows))
    output.say("", "Who loses what, if nobody does anything")
    losing = [
        (one.what, f"{one.days} days", one.before, one.after, one.only_after, one.only_before) for one in found.losses
    ]
    output.show(output.table(("loses", "within", "as it is", "then", "of these only then", "spared then"), losing))


# --- Putting it in force -------------------------------------------------------------------------


@command(
    COMMANDS,
    "policy activate",
    'lifecycle policy activate policy.toml --reason "longer deletion, ticket 4711" --yes',
    panel=PANEL,
    needs=(Role.ADMIN,),
)
def activate(
    run: Run,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.", show_default=False)],
    file: FileArgument = None,
    actor: AdminOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation.")] = False,
) -> None:
    """Put a policy in force: shows what it changes, asks, and records it with who and why."""
    from lifecycle.comparison import compare
    from lifecycle.inputs import required

    required(reason, "reason")  # before anybody reads what it changes
    policy = policy_in(run, file)
    in_force = run.engine.kept_policy()
    if run.json and not yes:
        raise InvalidInput("With --json nobody is asked: give --yes as well.")
    if not run.json and policy != in_force:
        output.say(f"{policy.version} instead of {in_force.version}")
        _summarize(compare(in_force, policy))
    if not yes and policy != in_force and not _confirmed():
        raise typer.Exit(REFUSED)
    done = run.engine.activate(policy, actor=run.actor(actor, "admin"), reason=reason, instead_of=in_force)
    if run.json:
        output.emit(
            {"version": done.version, "number": done.number, "adopted_at": done.adopted_at, "actor": done.actor}
        )
    else:
        output.say(
            f"In force: {done.version}. Daemons under another policy stop by themselves; start them with this one."
        )


def _summarize(found: "Comparison") -> None:
    show_values(found.values, "Settings", "They are the same.")
    shifts = Counter(one.shift for one in found.changed)
    counted = ", ".join(f"{count} {shift}" for shift, count in shifts.items()) or "none"
    output.say(
        "",
        f"Ways that appear or vanish: {len(found.edges)}. Deadlines of kinds of accounts that change: {counted}.",
        "Dates that accounts were promised stay. See `lifecycle policy diff`, and `lifecycle policy impact`.",
    )


def _confirmed() -> bool:
    try:
        agreed = typer.confirm("Put it in force?", err=True)
    except typer.Abort:
        agreed = False
    if not agreed:
        output.complain("Not activated: nobody has confirmed it. Answer y, or give --yes.")
    return agreed
