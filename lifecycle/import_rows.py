"""One row of an import: reads its cells, derives what it omits, and finds everything that is wrong with it.

No files and no database here: see :mod:`lifecycle.importer`.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any, TypeVar

from lifecycle import inputs
from lifecycle.characters import shown
from lifecycle.errors import InvalidInput
from lifecycle.import_rules import DERIVED, INSTANTS, RULES, Reading, Rule, reading, reads
from lifecycle.machine import DUE
from lifecycle.policy import Policy
from lifecycle.states import Party, Plan, State, account
from lifecycle.terms import OPERATIONS, Term, holds, literal, simplify

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
Parser = Callable[[str], Any]


@lru_cache(16_384)  # a file has few days and many rows
def read_instant(text: str) -> datetime:
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
            f"is not a date: {shown(text)}; write 2026-01-31 (00:00 UTC) or 2026-01-31T09:30:00Z."
        ) from None
    if not _EARLIEST <= at < _LATEST:
        raise InvalidInput("lies outside the years 1970 to 2199.")
    return at


def _word(words: type[StrEnum]) -> Parser:
    known = {str(word): word for word in words}

    def parse(text: str) -> StrEnum:
        try:
            return known[text]
        except KeyError:
            near = get_close_matches(text.casefold(), list(words), n=1)
            hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(words)}."
            raise InvalidInput(f"is unknown: {shown(text)}; {hint}") from None

    return parse


def _owners(text: str) -> list[str]:
    addresses = [inputs.email(part) for part in text.split(SEPARATOR) if part.strip()]
    if len(addresses) > 1 and len({*map(inputs.email_key, addresses)}) != len(addresses):
        raise InvalidInput("names the same owner twice; e-mail addresses are compared without case.")
    return addresses


def _cases(text: str) -> list[str]:
    cases = [case for part in text.split(SEPARATOR) if (case := inputs.case(part))]
    if len(set(cases)) != len(cases):
        raise InvalidInput("names the same case twice.")
    return cases


_WORDS: Mapping[str, type[StrEnum]] = {
    "state": State, "plan": Plan, "suspended_from": State, "cancelled_by": Party, "cancelled_from": State,
}  # fmt: skip
#: Every column of a file, with the function that reads a cell of it.
COLUMNS: Mapping[str, Parser] = {
    "id": inputs.account_id,
    "company": partial(inputs.required, name="company"),
    "owners": _owners,
    **{name: _word(words) for name, words in _WORDS.items()},
    **dict.fromkeys(INSTANTS, read_instant),
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


@dataclass(slots=True)
class Row:
    """One account as a row states it: ``columns`` of the account table, ``company``, ``owners``, ``cases`` of holds.

    ``problems`` are (column, reason), in the order in which they were found; with any, nothing else
    of the row means anything. ``digest`` identifies what the row states, however it is written.
    """

    columns: dict[str, Any] = field(default_factory=dict)
    company: str = ""
    owners: Sequence[str] = ()
    cases: Sequence[str] = ()
    problems: list[tuple[str | None, str]] = field(default_factory=list)
    digest: str = ""


#: The columns of the account table in a fixed order, so that rows are inserted by one statement.
_BLANK: Mapping[str, Any] = {"id": None, **dict.fromkeys(account), "version": 1, "legal_holds": 0}
#: Shapes of rows whose checks are kept; a file has dozens.
_SHAPES = 2000


@dataclass(frozen=True, slots=True)
class _Settled:
    """What is left to work out for rows of one shape whose derived dates are there, or missing, alike."""

    due: Reading
    checks: list[tuple[Rule, Reading]]
    #: For rows whose ``due_at`` turns out to be None.
    resting: list[tuple[Rule, Reading]]


@dataclass(frozen=True, slots=True)
class _Shape:
    """What rows of one shape, with the same words and the same dates stated, leave to be derived."""

    derived: list[tuple[str, Reading]]
    settled: dict[Any, _Settled] = field(default_factory=dict)


class RowReader:
    """Reads rows as of one instant, under one policy.

    What may be derived and what must be checked depends mostly on the shape of a row. It is settled
    once per shape, which leaves a few sums and comparisons for each row.
    """

    def __init__(self, policy: Policy, instant: datetime) -> None:
        self._policy = policy
        self._instant = instant
        self._shapes: dict[Any, _Shape] = {}

    def read(self, cells: Mapping[str, str]) -> Row:
        """The row with these cells by column; blank cells are missing."""
        row = Row(columns={**_BLANK})
        stated: dict[str, Any] = {}
        for name, text in cells.items():
            if not text or not (stripped := text.strip()):
                continue
            try:
                if not stripped.isascii() and _UNDECODED.search(stripped):
                    raise InvalidInput("is not UTF-8 text; save the file as CSV in UTF-8.")
                stated[name] = COLUMNS[name](stripped)
            except InvalidInput as error:
                row.problems.append((name, _without(name, str(error))))
        row.digest = _digest(stated)
        complete = all(map(stated.get, REQUIRED))
        row.company, row.owners = stated.pop("company", ""), stated.pop("owners", ())
        row.cases = stated.pop("legal_holds", ())
        row.columns |= stated
        row.columns["legal_holds"] = len(row.cases)
        if not complete or row.columns["state"] is State.PURGED:
            self._check_people(row)
        if row.columns["state"] is not None:
            self._derive_and_check(row, stated)
        return row

    def _check_people(self, row: Row) -> None:
        """Company and owners are required, except of a purged account, which keeps no personal data."""
        columns = row.columns
        purged = columns["state"] is State.PURGED
        found = {column for column, _ in row.problems}
        for column in REQUIRED:
            personal = column in ("company", "owners")
            value = getattr(row, column) if personal else columns[column]
            if not value and column not in found and not (personal and purged):
                row.problems.append((column, "must not be blank."))
            elif value and personal and purged:
                row.problems.append((column, "must be blank: a purged account keeps no personal data."))

    def _derive_and_check(self, row: Row, stated: Mapping[str, Any]) -> None:
        columns = row.columns
        shape = _kept(self._shapes, _shape_of(stated, len(row.cases)), lambda: self._shape(columns, stated))
        for column, read in shape.derived:
            columns[column] = read(columns)
        given = _shape_of({name: columns[name] for name, _ in shape.derived if columns[name] is not None})
        settled = _kept(shape.settled, given, lambda: self._settled(columns))
        columns["due_at"] = settled.due(columns)
        checks = settled.checks if columns["due_at"] is not None else [*settled.checks, *settled.resting]
        broken = [rule for rule, test in checks if test(columns) is False]
        if broken or columns["plan"] is None:
            self._report(row, broken, stated)

    def _report(self, row: Row, broken: list[Rule], stated: Mapping[str, Any]) -> None:
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

    def _shape(self, columns: Mapping[str, Any], stated: Mapping[str, Any]) -> _Shape:
        """What a row with these columns stated leaves to be derived, and from what."""
        sources = {"account": columns}
        found = [(name, value) for name, where, value in DERIVED if name not in stated and holds(where, sources)]
        derived = {name for name, _ in found}
        return _Shape([(name, reading(self._simple(value, columns, derived))) for name, value in found])

    def _settled(self, columns: Mapping[str, Any]) -> _Settled:
        """What has to be checked of a row whose dates are there, or missing, as in these columns; ``due_at`` is not."""
        return _Settled(
            reading(self._simple(DUE[columns["state"]], columns, set())),
            self._checks([rule for rule in RULES if rule.column != "due_at"], columns, {"due_at"}),
            self._checks([rule for rule in RULES if rule.column == "due_at"], columns, set()),
        )

    def _checks(
        self, rules: Sequence[Rule], columns: Mapping[str, Any], open_columns: set[str]
    ) -> list[tuple[Rule, Reading]]:
        """The rules that rows of this shape can break."""
        tests = [(rule, self._simple(rule.test, columns, open_columns)) for rule in rules]
        return [(rule, reading(test)) for rule, test in tests if test.op != "literal" or test.args[0] is False]

    def _simple(self, term: Term, columns: Mapping[str, Any], open_columns: set[str]) -> Term:
        return simplify(self._known(term, columns, open_columns), self._policy)

    def _known(self, term: Term, columns: Mapping[str, Any], open_columns: set[str]) -> Term:
        """``term`` with what all rows of one shape have in common written into it, ``open_columns`` apart."""
        if term.op == "literal":
            return term
        if term.op == "field":
            source, name = term.args
            if source == "now":
                return literal(self._instant)
            common = source == "account" and name not in open_columns and not isinstance(columns[name], datetime)
            return literal(columns[name]) if common else term
        args = [self._known(arg, columns, open_columns) for arg in term.args]
        if term.op == "missing" and args[0].op == "field" and args[0].args[1] not in open_columns:
            return literal(False)
        if OPERATIONS[term.op].strict and any(arg.op == "literal" and arg.args[0] is None for arg in args):
            return literal(None)
        return Term(term.op, *args)


def _shape_of(facts: Mapping[str, Any], cases: int = 0) -> tuple[Any, ...]:
    """The names of the facts, and what the words among them say; dates and texts count by their names alone."""
    return (cases, *facts, *map(facts.get, _WORDS))


def _kept(cache: dict[Any, T], key: Any, make: Callable[[], T]) -> T:
    """The value kept under ``key``, made if need be; a file has dozens of shapes, unless it is made to harm."""
    if (value := cache.get(key)) is None:
        if len(cache) >= _SHAPES:
            cache.clear()
        value = cache[key] = make()
    return value


def _without(name: str, message: str) -> str:
    """A message of :mod:`lifecycle.inputs` without the name that it is reported under."""
    return message.removeprefix(f"{name} ")


#: How a digest writes what is not text.
_WRITTEN: Mapping[type, Callable[[Any], str]] = {datetime: lru_cache(16_384)(datetime.isoformat), list: SEPARATOR.join}


def _digest(stated: Mapping[str, Any]) -> str:
    """The same for rows that state the same, whatever the order of their columns and the form of their dates.

    No cell holds a control character once it is read, and neither an address nor a case holds a separator.
    """
    facts = [f"{name}\t{_WRITTEN.get(value.__class__, str)(value)}" for name, value in stated.items()]
    return hashlib.blake2b("\n".join(sorted(facts)).encode(), digest_size=16).hexdigest()
