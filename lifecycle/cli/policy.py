"""Commands on the policy: which one applies, what was in force since when, and how another one differs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli import output, parsing
from lifecycle.cli.errors import USAGE
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import InvalidInput, PolicyError

if TYPE_CHECKING:
    from lifecycle.comparison import Comparison, Deadline, Value
    from lifecycle.policy import Policy

COMMANDS: list[Command] = []
PANEL = "Definition"
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


def policy_in(run: Run, file: Path | None) -> "Policy":
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


@command(COMMANDS, "policy show", "lifecycle policy show", panel=PANEL)
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


@command(COMMANDS, "policy history", "lifecycle policy history", panel=PANEL)
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


@command(COMMANDS, "policy check", "lifecycle policy check policy.toml", panel=PANEL)
def check(run: Run, file: FileArgument = None) -> None:
    """Check a policy: all that is wrong with it at once, or how it differs from the default and what is in force."""
    from lifecycle.comparison import compare_values
    from lifecycle.policy import Policy

    try:
        policy = policy_in(run, file)
    except PolicyError as error:
        _report_problems(run, error)
        raise typer.Exit(USAGE) from None
    in_force = _in_force(run)
    differences = {_DEFAULT: compare_values(Policy(), policy)}
    if in_force is not None:
        differences[_DATABASE] = compare_values(in_force, policy)
    if run.json:
        output.emit({"valid": True, "version": policy.version, "problems": [], "differs_from": differences})
        return
    output.say(f"Valid, version {policy.version}")
    for name, values in differences.items():
        base = "the default" if name == _DEFAULT else "the policy in force"
        show_values(values, f"It differs from {base} in:", f"It is {base}.")


def _report_problems(run: Run, error: PolicyError) -> None:
    if run.json:
        output.emit({"valid": False, "version": None, "problems": list(error.problems), "differs_from": {}})
    else:
        output.complain("\n- ".join(("Error: This is no valid policy:", *error.problems)))


def show_values(values: "Sequence[Value]", heading: str, nothing: str) -> None:
    """The settings that differ beneath a heading; ``nothing`` is said where none does."""
    if not values:
        output.say("", nothing)
        return
    output.say("", heading)
    rows = [(one.setting, one.old, one.new, one.shift, one.doc) for one in values]
    output.show(output.table(("setting", "was", "becomes", "for customers", "meaning"), rows))


@command(
    COMMANDS,
    "policy diff",
    "lifecycle policy diff default policy.toml",
    "lifecycle policy diff database policy.toml --json",
    panel=PANEL,
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
    show_values(found.values, "Settings", "They are the same.")
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
    panel=PANEL,
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
