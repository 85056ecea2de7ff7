"""Commands on the policy: what is in force and since when, what another one would change, and putting that in force."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.actor import Role
from lifecycle.cli import output, parsing
from lifecycle.cli.accounts import AdminOption, LimitOption, StateOption
from lifecycle.cli.errors import REFUSED, USAGE
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import InvalidInput, PolicyError

if TYPE_CHECKING:
    from lifecycle.comparison import Comparison, Deadline
    from lifecycle.impact import Choice, Impact
    from lifecycle.policy import Policy
    from lifecycle.states import Event

COMMANDS: list[Command] = []
_PANEL = "Definition"
_DEFAULT, _DATABASE = "default", "database"
_VERSION = re.compile(r"[0-9a-f]{4,12}")

FileArgument = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="TOML with the policy; else that of --config and the environment."),
]


def _which(metavar: str) -> Any:
    helps = "A TOML file, default, database, or the beginning of a version that the database has kept."
    return typer.Argument(metavar=metavar, help=helps, show_default=False)


# --- Which policy --------------------------------------------------------------------------------


def effective_policy(run: Run) -> "tuple[Policy, str]":
    """The policy that applies here, and where it comes from.

    What a configuration states comes first; then what a database keeps, if there is one; then the defaults.
    """
    from lifecycle.policy import Policy

    if run.config.policy is not None:
        return run.config.policy, "the policy of the configuration"
    kept = _in_force(run)
    return (Policy(), "the default policy") if kept is None else (kept, f"the policy of {run.engine.database}")


def _in_force(run: Run) -> "Policy | None":
    """The policy that the database keeps; None where nobody named a database and there is none."""
    return run.engine.kept_policy() if run.has_database else None


def _policy_in(run: Run, file: Path | None) -> "Policy":
    """The policy of ``file``, or else of the configuration."""
    from lifecycle.policy import Policy

    if file is not None:
        return Policy.load(file, {})
    if run.config.policy is None:
        raise InvalidInput("No policy is stated: name its FILE, or a --config with a table [policy].")
    return run.config.policy


def policy_named(run: Run, said: str) -> "Policy":
    """``default``, ``database``, a file, or the beginning of a version."""
    from lifecycle.policy import Policy

    if said == _DEFAULT:
        return Policy()
    if said == _DATABASE:
        return run.engine.kept_policy()
    if _VERSION.fullmatch(said) and not Path(said).exists():
        return run.engine.recorded_policy(said)
    return Policy.load(Path(said), {})


# --- What is in force ----------------------------------------------------------------------------


@command(COMMANDS, "policy show", "lifecycle policy show", panel=_PANEL)
def show(run: Run) -> None:
    """Show every setting that applies here: its value, where that comes from, and the promise it belongs to."""
    from lifecycle.policy import LONGEST, duration_words

    policy, source = effective_policy(run)
    otherwise = _DEFAULT if run.config.policy is not None or source == "the default policy" else _DATABASE
    settings = [_setting(policy, one, run.config.policy_origins.get(one.name, otherwise)) for one in fields(policy)]
    if run.json:
        output.emit({"version": policy.version, "source": source, "settings": settings})
        return
    output.say(f"Version {policy.version}, {source}", "")
    rows = [(s["name"], s["value"], s["from"], f"{s['doc']} ({s['clause']})") for s in settings]
    output.show(output.table(("setting", "value", "from", "meaning, and the promise it belongs to"), rows))
    output.say("", f"No duration may exceed {duration_words(LONGEST)}. The least that each may be is in --json.")


def _setting(policy: "Policy", setting: Any, origin: str) -> dict[str, Any]:
    from lifecycle.policy import LONGEST, duration_words, options_of, setting_words

    floor = setting.metadata["at_least"]
    return {
        "name": setting.name,
        "value": setting_words(getattr(policy, setting.name)),
        "from": origin,
        "default": setting_words(setting.default),
        "at_least": None if floor is None else duration_words(floor),
        "at_most": None if floor is None else duration_words(LONGEST),
        "one_of": list(options_of(setting)),
        "clause": str(setting.metadata["clause"]),
        "doc": setting.metadata["doc"],
    }


@command(COMMANDS, "policy history", "lifecycle policy history", panel=_PANEL)
def history(run: Run) -> None:
    """List every policy that was in force: since when, who put it there and why, and what it changed."""
    from lifecycle.policy import Policy

    adoptions = run.engine.policy_history()
    before = [*(one.policy for one in adoptions), Policy()][1:]
    changes = [_differing(old, one.policy) for old, one in zip(before, adoptions, strict=bool(adoptions))]
    if run.json:
        listed = [
            {**{f.name: getattr(one, f.name) for f in fields(one) if f.name != "policy"}, "changes": change}
            for one, change in zip(adoptions, changes, strict=True)
        ]
        output.emit(listed)
        return
    rows = [
        (one.adopted_at, one.version, _by(one.actor, one.approved_by), one.reason or "-", _sentence(change))
        for one, change in zip(adoptions, changes, strict=True)
    ]
    output.show_rows(("in force from (UTC)", "version", "by", "reason", "changes"), rows, "No policy was adopted yet.")


def _by(actor: str | None, approved_by: str | None) -> str:
    return (actor or "?") + (f", approved by {approved_by}" if approved_by else "")


def _differing(old: "Policy", new: "Policy") -> dict[str, dict[str, str]]:
    was, will_be = old.as_text(), new.as_text()
    return {name: {"from": was[name], "to": will_be[name]} for name in will_be if was[name] != will_be[name]}


def _sentence(changes: Mapping[str, Mapping[str, str]]) -> str:
    return "; ".join(f"{name}: {one['from']} → {one['to']}" for name, one in changes.items()) or "-"


# --- Another policy ------------------------------------------------------------------------------


@command(COMMANDS, "policy check", "lifecycle policy check policy.toml", panel=_PANEL)
def check(run: Run, file: FileArgument = None) -> None:
    """Check a policy: all that is wrong with it at once, or how it differs from the default and what is in force."""
    from lifecycle.policy import Policy

    try:
        policy = _policy_in(run, file)
    except PolicyError as error:
        _report_problems(run, error)
        raise typer.Exit(USAGE) from None
    in_force = _in_force(run)
    differences = {_DEFAULT: _values(Policy(), policy)}
    if in_force is not None:
        differences[_DATABASE] = _values(in_force, policy)
    if run.json:
        output.emit({"valid": True, "version": policy.version, "problems": [], "differs_from": differences})
        return
    output.say(f"Valid, version {policy.version}")
    for name, values in differences.items():
        base = "the default" if name == _DEFAULT else "the policy in force"
        _show_values(values, f"It differs from {base} in:", f"It is {base}.")


def _report_problems(run: Run, error: PolicyError) -> None:
    if run.json:
        output.emit({"valid": False, "version": None, "problems": list(error.problems), "differs_from": {}})
    else:
        output.complain("\n- ".join(("Error: This is no valid policy:", *error.problems)))


def _values(old: "Policy", new: "Policy") -> list[dict[str, Any]]:
    from lifecycle.comparison import compare_values

    return [asdict(one) for one in compare_values(old, new)]


def _show_values(values: list[dict[str, Any]], heading: str, nothing: str) -> None:
    if not values:
        output.say("", nothing)
        return
    output.say("", heading)
    rows = [(one["setting"], one["old"], one["new"], one["shift"], one["doc"]) for one in values]
    output.show(output.table(("setting", "was", "becomes", "for customers", "meaning"), rows))


@command(
    COMMANDS,
    "policy diff",
    "lifecycle policy diff default policy.toml",
    "lifecycle policy diff database policy.toml --json",
    panel=_PANEL,
)
def diff(
    run: Run,
    old: Annotated[str, _which("OLD")],
    new: Annotated[str, _which("NEW")],
    everything: Annotated[bool, typer.Option("--all", help="Also the deadlines that stay the same.")] = False,
) -> None:
    """Compare two policies: settings, who may do what, and on which day what happens to each kind of account."""
    from lifecycle.comparison import compare

    found = compare(policy_named(run, old), policy_named(run, new))
    if run.json:
        output.emit(found.as_json())
        return
    output.say(f"From {found.old.version} to {found.new.version}")
    _show_comparison(found, everything=everything)


def _show_comparison(found: "Comparison", *, everything: bool = False) -> None:
    _show_values([asdict(one) for one in found.values], "Settings", "They are the same.")
    if found.edges:
        output.say("", "Ways that appear or vanish")
        rows = [(one.event, ", ".join(one.sources), one.role, one.shift) for one in found.edges]
        output.show(output.table(("event", "out of", "by", "becomes possible"), rows))
    if found.timers:
        output.say("", "Timers")
        words = [(one.event, one.old, one.new) for one in found.timers]
        output.show(output.table(("timer", "was", "becomes"), words))
    deadlines = found.deadlines if everything else found.changed
    if deadlines:
        output.say("", "Days after opening on which it happens")
        output.show(output.table(("kind of account", "what", "was", "becomes", "which is"), map(_deadline, deadlines)))


def _deadline(one: "Deadline") -> tuple[object, ...]:
    from lifecycle.comparison import day

    return one.kind, one.event, day(one.old), day(one.new), one.shift


@command(
    COMMANDS,
    "policy report",
    "lifecycle policy report default policy.toml --format markdown",
    panel=_PANEL,
    json=False,
)
def report(
    run: Run,
    old: Annotated[str, _which("OLD")],
    new: Annotated[str, _which("NEW")],
    format: Annotated[str, typer.Option("--format", help="markdown.")] = "markdown",
) -> None:
    """Report on a change for whoever reviews it; with a database also what it would do to the accounts there."""
    from lifecycle.policy_report import FORMATS, markdown

    parsing.nearest(format, FORMATS, "format")
    before, after = policy_named(run, old), policy_named(run, new)
    impact = None if run.database_is_default else run.engine.impact(after)
    print(markdown(before, after, impact), end="")


# --- What it would do ----------------------------------------------------------------------------

_LOSSES_HELP = "With --list: only who loses access or content."


@command(
    COMMANDS,
    "policy impact",
    "lifecycle policy impact policy.toml",
    'lifecycle policy impact policy.toml --list --loses content --within "30 days"',
    panel=_PANEL,
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
    policy = _policy_in(run, file)
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
    panel=_PANEL,
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

    policy = _policy_in(run, file)
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
    _show_values([asdict(one) for one in found.values], "Settings", "They are the same.")
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
