"""One row of an import: reads its cells, derives what it omits, and finds everything that is wrong with it.

No files and no database here: see :mod:`lifecycle.importer`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, TypeVar

from lifecycle import inputs
from lifecycle.errors import InvalidInput
from lifecycle.guards import normal
from lifecycle.import_rules import DERIVED, INSTANTS, RULES, Rule, reads
from lifecycle.machine import DUE
from lifecycle.policy import Policy
from lifecycle.states import Party, Plan, State, account
from lifecycle.terms import OPERATIONS, Term, evaluate, holds, literal, simplify

#: Separates owners, and the cases of legal holds, within one cell.
SEPARATOR = ";"
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?")
#: What is left of bytes that are not UTF-8.
_UNDECODED = re.compile("[\udc80-\udcff]")
#: Arithmetic on dates beyond these would leave every calendar; a date out here is a slip anyway.
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

# --- Columns -------------------------------------------------------------------------------------

T = TypeVar("T")
Parser = Callable[[str, str], Any]


def _instant(text: str, name: str) -> datetime:
    """ISO 8601 with a time zone; a plain date is its 00:00 UTC."""
    try:
        if _DATE.fullmatch(text):
            at = datetime.fromisoformat(text).replace(tzinfo=UTC)
        elif match := _INSTANT.fullmatch(text):
            if match[3] is None:
                raise InvalidInput(f"has no time zone: write it as {text}Z if it is UTC.")
            at = datetime.fromisoformat(text).astimezone(UTC)
        else:
            raise ValueError
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"is not a date: {text[:40]!a}; write 2026-01-31 (00:00 UTC) or 2026-01-31T09:30:00Z."
        ) from None
    if not _EARLIEST <= at < _LATEST:
        raise InvalidInput("lies outside the years 1970 to 2199.")
    return at


def _word(words: type[StrEnum]) -> Parser:
    def parse(text: str, name: str) -> StrEnum:
        try:
            return words(text)
        except ValueError:
            near = get_close_matches(text.casefold(), list(words), n=1)
            hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(words)}."
            raise InvalidInput(f"is unknown: {text[:40]!a}; {hint}") from None

    return parse


def _owners(text: str, name: str) -> list[str]:
    addresses = [inputs.email(part) for part in text.split(SEPARATOR) if part.strip()]
    if len({normal(address) for address in addresses}) != len(addresses):
        raise InvalidInput("names the same owner twice; e-mail addresses are compared without case.")
    return addresses


def _cases(text: str, name: str) -> list[str]:
    cases = [case for part in text.split(SEPARATOR) if (case := inputs.text(part, name))]
    if len(set(cases)) != len(cases):
        raise InvalidInput("names the same case twice.")
    return cases


_WORDS: Mapping[str, type[StrEnum]] = {
    "state": State, "plan": Plan, "suspended_from": State, "cancelled_by": Party, "cancelled_from": State,
}  # fmt: skip
#: Every column of a file, with the function that reads a cell of it.
COLUMNS: Mapping[str, Parser] = {
    "id": lambda text, name: inputs.account_id(text),
    "company": inputs.required,
    "owners": _owners,
    **{name: _word(words) for name, words in _WORDS.items()},
    **dict.fromkeys(INSTANTS, _instant),
    "legal_holds": _cases,
}
#: Columns that no file may lack.
REQUIRED = ("id", "company", "owners", "state", "opened_at")
#: Columns of the account that the engine alone writes, and why.
OURS: Mapping[str, str] = {
    **dict.fromkeys(("version", "due_at"), "the engine computes it"),
    **dict.fromkeys(
        ("reminder", "reminded_at", "not_before"),
        "a notice counts only when the engine gave it, so it will give its own",
    ),
}

# --- Reading a row -------------------------------------------------------------------------------


@dataclass
class Row:
    """One account as a row states it: ``columns`` of the account table, ``owners``, ``cases`` of holds.

    ``problems`` are (column, reason), in the order in which they were found; with any, nothing else
    of the row means anything. ``digest`` identifies what the row states, however it is written.
    """

    columns: dict[str, Any] = field(default_factory=dict)
    owners: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    problems: list[tuple[str | None, str]] = field(default_factory=list)
    digest: str = ""


#: The columns of the account table in a fixed order, so that rows are inserted by one statement.
_BLANK: Mapping[str, Any] = {"id": None, "company": None, **dict.fromkeys(account)}
#: Shapes of rows whose checks are kept; a file has dozens.
_SHAPES = 2000


@dataclass(frozen=True)
class _Shape:
    """What is left to work out for rows of one shape: with the same words, and the same dates there or missing."""

    due: Term
    checks: list[tuple[Rule, Term]]


class RowReader:
    """Reads rows as of one instant, under one policy.

    What may be derived and what must be checked depends mostly on the shape of a row. It is settled
    once per shape, which leaves a few sums and comparisons for each row.
    """

    def __init__(self, policy: Policy, instant: datetime) -> None:
        self._policy = policy
        self._instant = instant
        self._derivations: dict[Any, list[tuple[str, Term]]] = {}
        self._shapes: dict[Any, _Shape] = {}

    def read(self, cells: Mapping[str, str]) -> Row:
        """The row with these cells by column; blank cells are missing."""
        row = Row(columns={**_BLANK, "version": 1, "legal_holds": 0})
        stated: dict[str, Any] = {}
        for name, text in cells.items():
            if (stripped := text.strip()) == "":
                continue
            try:
                if not stripped.isascii() and _UNDECODED.search(stripped):
                    raise InvalidInput("is not UTF-8 text; save the file as CSV in UTF-8.")
                stated[name] = COLUMNS[name](stripped, name)
            except InvalidInput as error:
                row.problems.append((name, _without(name, str(error))))
        row.digest = _digest(stated)
        row.owners, row.cases = stated.pop("owners", []), stated.pop("legal_holds", [])
        row.columns |= stated
        row.columns["legal_holds"] = len(row.cases)
        self._check_people(row)
        if row.columns["state"] is not None:
            self._derive_and_check(row, set(stated))
        return row

    def _check_people(self, row: Row) -> None:
        """Company and owners are required, except of a purged account, which keeps no personal data."""
        found = {column for column, _ in row.problems}
        purged = row.columns["state"] is State.PURGED
        for column in REQUIRED:
            value = row.owners if column == "owners" else row.columns[column]
            personal = column in ("company", "owners")
            if not value and column not in found and not (personal and purged):
                row.problems.append((column, "must not be blank."))
            elif value and personal and purged:
                row.problems.append((column, "must be blank: a purged account keeps no personal data."))
        row.columns["company"] = row.columns["company"] or ""

    def _derive_and_check(self, row: Row, stated: set[str]) -> None:
        columns = row.columns
        sources = {"account": columns, "now": self._instant, "policy": self._policy}
        key = _shape_of(columns)
        for column, value in _kept(self._derivations, key, lambda: self._derivable(columns, stated)):
            columns[column] = evaluate(value, sources)
        shape = _kept(self._shapes, _shape_of(columns), lambda: self._settled(columns))
        columns["due_at"] = evaluate(shape.due, sources)
        broken = [rule for rule, test in shape.checks if evaluate(test, sources) is False]
        if columns["due_at"] is None:
            broken += [rule for rule in RULES if rule.column == "due_at" and not holds(rule.test, sources)]
        if broken or columns["plan"] is None:
            self._report(row, broken, stated)

    def _report(self, row: Row, broken: list[Rule], stated: set[str]) -> None:
        """Add what is broken; what follows from a problem that is there already is no second one."""
        unknown = {column for column, _ in row.problems}
        needs = {column: reads(value) for column, _, value in DERIVED if column not in stated}
        needs["due_at"] = reads(DUE[row.columns["state"]])
        for rule in broken:
            if rule.reads & unknown:
                continue
            absent = row.columns[rule.column] is None
            if not (absent and needs.get(rule.column, frozenset()) & unknown):
                row.problems.append((rule.column, rule.sentence))
            if absent:
                unknown.add(rule.column)
        if row.columns["plan"] is None and "plan" not in unknown:
            row.problems.append(("plan", "must not be blank: it is free or paid."))

    def _derivable(self, columns: Mapping[str, Any], stated: set[str]) -> list[tuple[str, Term]]:
        """What a row with these columns stated leaves to be derived, and from what."""
        sources = {"account": columns}
        found = [(name, value) for name, where, value in DERIVED if name not in stated and holds(where, sources)]
        derived = {name for name, _ in found}
        return [(name, self._simple(value, columns, derived)) for name, value in found]

    def _settled(self, columns: Mapping[str, Any]) -> _Shape:
        tests = [(rule, self._simple(rule.test, columns, {"due_at"})) for rule in RULES if rule.column != "due_at"]
        return _Shape(
            self._simple(DUE[columns["state"]], columns, set()),
            [(rule, test) for rule, test in tests if test.op != "literal" or test.args[0] is False],
        )

    def _simple(self, term: Term, columns: Mapping[str, Any], open_columns: set[str]) -> Term:
        return simplify(_known(term, columns, open_columns), self._policy)


def _shape_of(columns: Mapping[str, Any]) -> tuple[Any, ...]:
    """Words and counts as they are, dates as True; id and company, which no term reads, come first."""
    return tuple([value.__class__ is datetime or value for value in list(columns.values())[2:]])


def _kept(cache: dict[Any, T], key: Any, make: Callable[[], T]) -> T:
    """The value kept under ``key``, made if need be; a file has dozens of shapes, unless it is made to harm."""
    if key not in cache:
        if len(cache) >= _SHAPES:
            cache.clear()
        cache[key] = make()
    return cache[key]


def _known(term: Term, columns: Mapping[str, Any], open_columns: set[str]) -> Term:
    """``term`` with what all rows of one shape have in common written into it, ``open_columns`` apart."""
    if term.op == "literal":
        return term
    if term.op == "field":
        source, name = term.args
        common = source == "account" and name not in open_columns and not isinstance(columns[name], datetime)
        return literal(columns[name]) if common else term
    args = [_known(arg, columns, open_columns) for arg in term.args]
    if term.op == "missing" and args[0].op == "field" and args[0].args[1] not in open_columns:
        return literal(False)
    if OPERATIONS[term.op].strict and any(arg.op == "literal" and arg.args[0] is None for arg in args):
        return literal(None)
    return Term(term.op, *args)


def _without(name: str, message: str) -> str:
    """A message of :mod:`lifecycle.inputs` without the name that it is reported under."""
    return message.removeprefix(f"{name} ")


def _digest(stated: Mapping[str, Any]) -> str:
    """The same for rows that state the same, whatever the order of their columns and the form of their dates."""
    facts = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in stated.items()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
