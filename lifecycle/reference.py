"""The reference, printed from the definition as Markdown: states, moves, timers, settings, clauses, effects.

Nothing here is written twice: every cell comes from the machine, the policy's fields or their words.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import Field, fields
from itertools import groupby
from typing import Any

from lifecycle.actor import Role
from lifecycle.machine import TIMERS, TRANSITIONS
from lifecycle.policy import Clause, Policy, options_of, setting_words
from lifecycle.privileges import DatabaseRole, described
from lifecycle.rows import Timer, Transition, timer_of
from lifecycle.states import DESTRUCTIVE, ENTITLEMENTS, FINAL, Effect, Event, State, account, request
from lifecycle.terms import Term, describe

_WORDS = request.words | account.words


def reference(policy: Policy) -> str:
    """The whole reference as one Markdown page, with the durations of ``policy``.

    The text depends on the definition and on ``policy`` alone, so that a test can hold a committed copy to it.
    """
    sections: tuple[tuple[str, str, Callable[[Policy], str]], ...] = (
        ("States", "What a customer has in each state.", _states),
        ("Transitions", "Rows of one event and state are tried from top to bottom. **For** is a condition that "
         "routes; a guard that fails refuses, with its sentence.", _transitions),
        ("Guards", "What each says when it refuses; those that route are silent while another row "
         "applies.", _guards),
        ("Who may fire what", "Somewhere, at least. **Under conditions** means that each way has guards of its own; a "
         "timer is what happens by itself. The roles auditor and portal fire nothing in their own name, and a portal "
         "speaks for owners who are signed in.", _rights),
        ("Timers", "Transitions that fire by themselves. A day is 24 hours.", _timers),
        ("Policy settings", "Each can be set in a TOML file or in the environment; none may be shorter than "
         "its floor.", _settings),
        ("Clauses", "The promises of the cancellation policy, and what keeps each.", _clauses),
        ("Effects", "What is owed to the outside world, and by whom.", _effects),
        ("Database roles", "Who connects to PostgreSQL as a member of which role, and what that may do with each "
         "table, as `lifecycle init --roles` grants it.", _database_roles),
    )  # fmt: skip
    title = f"# Reference\n\nPrinted from the definition, with the policy `{policy.version}`.\n"
    return "\n".join((title, *(f"## {name}\n\n{intro}\n\n{rows(policy)}" for name, intro, rows in sections)))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; cells are escaped, and an empty one gets a hyphen."""
    cells = [[_cell(text) for text in row] for row in (heads, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = [f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))} |" for row in cells]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split()) or "-"


def _code(names: Iterable[object]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _state_list(states: Sequence[State]) -> str:
    if len(states) > 1 and set(states) == set(State) - {FINAL}:
        return f"every state but `{FINAL}`"
    return _code(states)


def _yes(granted: bool) -> str:
    return "yes" if granted else "no"


def _states(policy: Policy) -> str:
    rows = []
    for state, granted in ENTITLEMENTS.items():
        kept = ("kept" if granted.content else "gone", "kept" if granted.backups else "gone")
        may = map(_yes, (granted.sign_in, granted.use, granted.export, granted.billed))
        rows.append((f"`{state}`" + (" (final)" if state is FINAL else ""), state.text, *may, *kept))
    notes = (
        "\nThree cases refine the table: a suspended `frozen` account has no access at all, a `cancel_pending` "
        "account has none from the end of access on, and an `active` account on the free plan is not billed.\n"
    )
    return table(("State", "Meaning", "Sign in", "Use", "Export", "Billed", "Content", "Backups"), rows) + notes


def _transitions(policy: Policy) -> str:
    return table(
        ("Event", "From", "For", "To", "By", "Guards", "Clauses"),
        (
            (
                f"`{row.event}`",
                _state_list(row.sources),
                row.bracket.name if row.bracket else "",
                f"`{row.dest}`" if row.dest else "the same",
                _by(row),
                " · ".join(guard.name for guard in row.guards),
                _code(row.clauses),
            )
            for row in TRANSITIONS
        ),
    )


def _by(row: Transition) -> str:
    """``"owner, support (owner on file); billing"``; to readers, ``system`` is a timer, or the engine."""
    ways, engine = [], "the engine" if row.timer is None else "timer"
    for guards, permissions in groupby(row.by, key=lambda way: way.guards):
        roles = ", ".join(engine if way.role is Role.SYSTEM else way.role for way in permissions)
        ways.append(roles + (f" ({' · '.join(guard.name for guard in guards)})" if guards else ""))
    return "; ".join(ways)


def _rights(policy: Policy) -> str:
    roles = tuple(dict.fromkeys(way.role for role in Role for row in TRANSITIONS for way in row.by if way.role is role))
    heads = ("Event", *("timer" if role is Role.SYSTEM else role for role in roles))
    return table(heads, ((f"`{event}`", *(_may(event, role) for role in roles)) for event in Event))


def _may(event: Event, role: Role) -> str:
    ways = [way for row in TRANSITIONS if row.event is event for way in row.by if way.role is role]
    if not ways:
        return ""
    return "yes" if any(not way.guards for way in ways) else "under conditions"


def _guards(policy: Policy) -> str:
    found = {(guard.name, guard.sentence) for row in TRANSITIONS for guard in row.conditions()}
    return table(("Guard", "When it does not hold"), sorted(found))


def _timers(policy: Policy) -> str:
    heads = ("Timer", "Fires", "In", "Notice", "Steps", "Stopped by", "Clause")
    return table(heads, ((f"`{row.event}`", *_timer_cells(row, timer_of(row), policy)) for row in TIMERS))


def _timer_cells(row: Transition, timer: Timer, policy: Policy) -> tuple[str, ...]:
    place = _state_list(row.sources) + (f" ({row.bracket.name})" if row.bracket else "")
    steps = "requested, then confirmed by a receipt" if timer.confirmation else "one"
    stopped = "a legal hold" if timer.blocked.op != "literal" else ""
    if describe(timer.automatic, policy, _WORDS) == "False":
        stopped = "waiting for an admin"
    return _when(timer.counted, policy), place, _notice(timer, policy), steps, stopped, f"`{row.clauses[0]}`"


def _when(term: Term, policy: Policy) -> str:
    if term.op == "-":  # "1 day before 60 days after …" is right, and hard to read
        return f"{_when(term.args[0], policy)}; started {_when(term.args[1], policy)} early"
    words = describe(term, policy, _WORDS)
    return f"at {words}" if term.op == "field" and term.args[0] == "account" else words


def _notice(timer: Timer, policy: Policy) -> str:
    if timer.notice is None:
        return ""
    if timer.notice.binding:
        return f"{describe(timer.notice.lead, policy, _WORDS)}, delivered (`{timer.notice.effect}`)"
    return f"a reminder (`{timer.notice.effect}`)"


def _settings(policy: Policy) -> str:
    def floor(setting: "Field[Any]") -> str:
        options = options_of(setting)
        return f"one of {', '.join(options)}" if options else setting_words(setting.metadata["at_least"])

    heads = ("Setting", "Default", "Here", "Floor", "Clause", "Meaning")
    return table(
        heads,
        (
            (
                f"`{setting.name}`",
                setting_words(setting.default),
                setting_words(getattr(policy, setting.name)),
                floor(setting),
                f"`{setting.metadata['clause']}`",
                setting.metadata["doc"],
            )
            for setting in fields(Policy)
        ),
    )


def _clauses(policy: Policy) -> str:
    def kept_by(clause: Clause) -> str:
        return _code(dict.fromkeys(row.event for row in TRANSITIONS if clause in row.clauses))

    return table(("Clause", "Promise", "Kept by"), ((f"`{clause}`", clause.text, kept_by(clause)) for clause in Clause))


def _effects(policy: Policy) -> str:
    heads = ("Effect", "Owed by", "Needs a receipt")
    rows = ((f"`{effect}`", _code(dict.fromkeys(_owed_by(effect))), _yes(effect in DESTRUCTIVE)) for effect in Effect)
    return table(heads, rows)


def _database_roles(policy: Policy) -> str:
    members = table(("Role", "For"), ((f"`{role}`", role.text) for role in DatabaseRole))
    grants = ((f"`{name}`", *privileges) for name, *privileges in described())
    guards = (
        "The owner may do everything. Triggers keep whoever may not delete keys from claiming that an account was "
        "destroyed, from asking for it, and from changing what was asked for but to withdraw it, or to try it again "
        "once it is parked."
    )
    heads = ("Table", "app", "destroyer, beside that", "auditor")
    return f"{members}\n{guards}\n\n{table(heads, grants)}"


def _owed_by(effect: Effect) -> Iterator[str]:
    """The events whose rows, notices or confirmed timers ask for the effect."""
    for row in TRANSITIONS:
        asked = {owed.effect for owed in row.owes}
        if row.timer is not None and row.timer.notice is not None:
            asked.add(row.timer.notice.effect)
        if row.timer is not None and row.timer.confirmation is not None:
            asked.add(row.timer.confirmation.effect)
        if effect in asked:
            yield row.event
