"""A change of the policy as Markdown, for the comment of whoever reviews it: short, and readable where it is posted.

Values and deadlines come first; the picture, the proofs and what the database says are folded or short.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lifecycle.comparison import Comparison, Deadline, Shift, compare, day
from lifecycle.diagrams import pictures, to_mermaid
from lifecycle.impact import Impact
from lifecycle.policy import Policy
from lifecycle.reference import table

FORMATS = ("markdown",)
_MARKS = {Shift.SOONER: "⏪ sooner", Shift.LATER: "⏩ later", Shift.NEWLY: "🆕 new", Shift.NO_MORE: "⛔ no more"}


def markdown(old: Policy, new: Policy, impact: Impact | None = None) -> str:
    """The report on going from ``old`` to ``new``; with ``impact``, also what that does to accounts that there are."""
    found = compare(old, new)
    sections: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: _values(found),
        lambda: _deadlines(found),
        lambda: _edges(found),
        lambda: _impact(impact),
        lambda: _proofs(new),
        lambda: _picture(old, new),
    )
    lines = [f"## Policy `{old.version}` → `{new.version}`", ""]
    for section in sections:
        lines += section()
    return "\n".join(lines).rstrip() + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from table(heads, rows).splitlines()
    yield ""


def _mark(shift: Shift) -> str:
    return _MARKS.get(shift, str(shift))


def _values(found: Comparison) -> Iterator[str]:
    if not found.values:
        yield from ("The policies are the same.", "")
        return
    yield from _verdict(found)
    rows = [(f"`{v.setting}`", v.old, f"**{v.new}**", _mark(v.shift), v.doc) for v in found.values]
    yield from _table(("Setting", "Was", "Becomes", "For customers", "Meaning"), rows)


def _verdict(found: Comparison) -> Iterator[str]:
    sooner = [value.setting for value in found.values if value.shift is Shift.SOONER]
    if sooner:
        names = ", ".join(f"`{name}`" for name in sooner)
        yield f"> **Customers get less time, or fewer people look**: {names}."
    else:
        yield "> Nobody gets less time than before."
    yield from ("> Dates that an account was promised by its cancellation stay as they are.", "")


def _deadlines(found: Comparison) -> Iterator[str]:
    """One row per kind of account; what is the same under both policies is in plain text."""
    if not found.changed:
        return
    events, kinds = found.calendar()
    yield from ("### When what happens", "", "Days after the opening of the account, if nobody does anything else.", "")
    rows = [(kind, *map(_cell, deadlines)) for kind, deadlines in kinds]
    yield from _table(("Kind of account", *(f"`{event}`" for event in events)), rows)


def _cell(one: Deadline | None) -> str:
    if one is None:
        return ""
    if one.shift is Shift.SAME:
        return day(one.new)
    return f"{day(one.old)} → **{day(one.new) if one.new is not None else 'never'}**"


def _edges(found: Comparison) -> Iterator[str]:
    if found.edges:
        yield from ("### Who may do what", "")
        rows = [(f"`{one.event}`", ", ".join(one.sources), one.role, _mark(one.shift)) for one in found.edges]
        yield from _table(("Event", "Out of", "By", "Becomes possible"), rows)


def _impact(impact: Impact | None) -> Iterator[str]:
    if impact is None:
        return
    yield from ("### Accounts that there are", "")
    base = f"instead of `{impact.in_force}`, which is in force,"
    yield f"{impact.accounts:,} accounts, as of {impact.at:%Y-%m-%d %H:%M} UTC, {base} if nobody does anything."
    yield ""
    rows = [
        (one.what, f"{one.days} days", *(f"{n:,}" for n in (one.before, one.after, one.only_after, one.only_before)))
        for one in impact.losses
    ]
    yield from _table(("Loses", "Within", "As it is", "Then", "Only then", "Spared"), rows)
    changed = [one for one in impact.timers if one.changed]
    if not changed:
        return
    rows = [
        (
            f"`{one.state}`",
            f"`{one.event}` ({one.step})",
            *(f"{n:,}" for n in (one.sooner, one.later, one.newly, one.no_more, one.same)),
        )
        for one in changed
    ]
    heads = ("State", "Timer", "Sooner", "Later", "New", "No more", "Same")
    yield from _folded(f"Each timer ({len(changed)} move)", table(heads, rows).splitlines())


def _proofs(new: Policy) -> Iterator[str]:
    """Which promises hold under the new policy, where the model checker is installed."""
    yield from ("### Promises", "")
    if find_spec("lifecycle.verify") is None:
        yield from ("Not verified: this installation has no `lifecycle.verify`.", "")
        return
    verification: Any = import_module("lifecycle.verify").verify(new)
    broken = [promise for promise in verification.promises if not promise.held]
    held = len(verification.promises) - len(broken)
    yield f"{held} of {len(verification.promises)} promises hold in all of {verification.explored:,} explored states."
    yield ""
    for promise in broken:
        yield from (f"**Broken: `{promise.name}`**. {promise.text}", "")
        if promise.counterexample is not None:
            rows = [(f"{one.at:%Y-%m-%d %H:%M}", str(one.state), one.words) for one in promise.counterexample.entries]
            yield from _table(("When", "State", "What"), rows)


def _picture(old: Policy, new: Policy) -> Iterator[str]:
    text = to_mermaid(pictures()[0], new, old=old)
    yield from _folded("The lifecycle, with what differs", ["```mermaid", *text.splitlines(), "```"])


def _folded(summary: str, lines: Sequence[str]) -> Iterator[str]:
    yield from ("<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>", "")
