"""Terms: a deadline, a condition or an assignment, written once and read three ways.

A term is a small symbolic expression over the columns of an account, the policy, the request and
``now``, built at import::

    latest(account.cancelled_at + policy.deletion_after, account.access_ends_at)

* :func:`evaluate` reads it on one account and gives a value,
* :func:`compile_term` turns it into a SQLAlchemy expression for a million accounts,
* :func:`describe` prints it in words for diagrams and documentation.

NULL means the same to all: ``latest`` and arithmetic are NULL when an operand is, conditions follow
three-valued logic, ``when`` takes its second branch unless the condition is true.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

from lifecycle.errors import DefinitionError
from lifecycle.policy import Policy, duration_words

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement


class Term:
    """A node of an expression: an operation of :data:`OPERATIONS` (or ``field``) and its operands.

    Build terms with ``+ - == != < <= > >= & | ~`` and the functions of this module. Python's own
    ``and``, ``or``, ``not``, ``if``, ``in`` and chained comparisons can't be overloaded and raise
    :class:`DefinitionError`, since they would silently drop a part of the expression.
    """

    __slots__ = ("_evaluator", "args", "op")

    def __init__(self, op: str, *args: Any) -> None:
        self.op = op
        self.args = args
        self._evaluator: Callable[[Mapping[str, Any]], Any] | None = None

    @property
    def evaluator(self) -> Callable[[Mapping[str, Any]], Any]:
        """The term as nested functions, made once: a decision evaluates a hundred terms, and the same each time."""
        if self._evaluator is None:
            self._evaluator = _evaluator(self)
        return self._evaluator

    def __add__(self, other: Any) -> "Term":
        return Term("+", self, _operand(other))

    def __sub__(self, other: Any) -> "Term":
        return Term("-", self, _operand(other))

    def __eq__(self, other: object) -> "Term":  # type: ignore[override]
        return Term("==", self, _operand(other))

    def __ne__(self, other: object) -> "Term":  # type: ignore[override]
        return Term("!=", self, _operand(other))

    def __lt__(self, other: Any) -> "Term":
        return Term("<", self, _operand(other))

    def __le__(self, other: Any) -> "Term":
        return Term("<=", self, _operand(other))

    def __gt__(self, other: Any) -> "Term":
        return Term(">", self, _operand(other))

    def __ge__(self, other: Any) -> "Term":
        return Term(">=", self, _operand(other))

    def __and__(self, other: "Term") -> "Term":
        return Term("&", self, _operand(other))

    def __or__(self, other: "Term") -> "Term":
        return Term("|", self, _operand(other))

    def __invert__(self) -> "Term":
        return Term("~", self)

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        raise DefinitionError(
            f"The term {self!r} has no truth value at import: write & for and, | for or, ~ for not, "
            "when(condition, a, b) for if, and two comparisons joined by & for a chained one."
        )

    def __contains__(self, item: object) -> NoReturn:
        raise DefinitionError(f"A term can't be searched with 'in': write == and | instead ({self!r}).")

    def __iter__(self) -> NoReturn:
        raise DefinitionError(f"A term can't be iterated or searched with 'in': {self!r}.")

    def __repr__(self) -> str:
        if self.op == "field":
            return "now" if self.args == ("now", "now") else ".".join(self.args)
        if self.op == "literal":
            return repr(self.args[0])
        return f"({self.op} {' '.join(map(repr, self.args))})"

    def walk(self) -> Iterator["Term"]:
        """This term and every term below it."""
        yield self
        if self.op not in ("field", "literal"):
            for arg in self.args:
                yield from arg.walk()


def _operand(value: Any) -> Term:
    if isinstance(value, Term):
        return value
    if value is None:
        raise DefinitionError("A comparison with None is never true in SQL: write missing(term) instead.")
    return literal(value)


def literal(value: Any) -> Term:
    """A constant: text, a number, a duration, a bool, or None for NULL."""
    return Term("literal", value)


class Scope:
    """The names that terms may read from one source; an unknown name raises at import."""

    def __init__(self, source: str, words: Mapping[str, str]) -> None:
        self._source = source
        self.words = dict(words)

    def __getattr__(self, name: str) -> Term:
        if name not in self.words:
            near = get_close_matches(name, self.words, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise DefinitionError(f"{self._source} has no field {name!r}{hint}")
        return Term("field", self._source, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)


#: The instant at which a decision is made.
now = Term("field", "now", "now")
#: The settings of the policy, as terms.
policy = Scope("policy", {setting.name: setting.metadata["doc"] for setting in fields(Policy)})


def latest(first: Term, second: Term, *more: Term) -> Term:
    """The latest of two or more instants; NULL when one of them is."""
    return _chain("latest", first, second, more)


def earliest(first: Term, second: Term, *more: Term) -> Term:
    """The earliest of two or more instants; NULL when one of them is."""
    return _chain("earliest", first, second, more)


def _chain(op: str, first: Term, second: Term, more: Iterable[Term]) -> Term:
    term = Term(op, first, second)
    for other in more:
        term = Term(op, term, other)
    return term


def when(condition: Term, then: Any, otherwise: Any) -> Term:
    """``then`` where the condition is true, ``otherwise`` where it is false or NULL."""
    return Term("when", condition, *(literal(x) if x is None else _operand(x) for x in (then, otherwise)))


def missing(term: Term) -> Term:
    """Whether the term is NULL; itself never NULL."""
    return Term("missing", term)


def default(term: Term, otherwise: Any) -> Term:
    """The term, or ``otherwise`` where it is NULL."""
    return Term("default", term, _operand(otherwise))


# --- The three readers, as one table ------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """How one operation is evaluated, compiled and worded."""

    evaluate: Callable[..., Any]
    compile: Callable[..., Any]
    words: str
    #: A strict operation is NULL as soon as one operand is; its ``evaluate`` never sees None.
    strict: bool = True


def _and(a: bool | None, b: bool | None) -> bool | None:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def _or(a: bool | None, b: bool | None) -> bool | None:
    if a is True or b is True:
        return True
    return None if a is None or b is None else False


def _sql_extreme(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """``CASE`` instead of GREATEST or max(): those disagree between databases about NULL."""

    def build(a: Any, b: Any) -> Any:
        from sqlalchemy import case, not_

        first = compare(a, b)
        return case((first, a), (not_(first), b))

    return build


def _sql_when(condition: Any, then: Any, otherwise: Any) -> Any:
    from sqlalchemy import case, type_coerce
    from sqlalchemy.types import NullType

    typed = otherwise if isinstance(then.type, NullType) else then
    return type_coerce(case((condition, then), else_=otherwise), typed.type)


def _sql_default(term: Any, otherwise: Any) -> Any:
    from sqlalchemy import func

    return func.coalesce(term, otherwise)


OPERATIONS: Mapping[str, Operation] = {
    "+": Operation(operator.add, operator.add, "{1} after {0}"),
    "-": Operation(operator.sub, operator.sub, "{1} before {0}"),
    "==": Operation(operator.eq, operator.eq, "{0} is {1}"),
    "!=": Operation(operator.ne, operator.ne, "{0} is not {1}"),
    "<": Operation(operator.lt, operator.lt, "{0} is before {1}"),
    "<=": Operation(operator.le, operator.le, "{0} is not after {1}"),
    ">": Operation(operator.gt, operator.gt, "{0} is after {1}"),
    ">=": Operation(operator.ge, operator.ge, "{0} is not before {1}"),
    "&": Operation(_and, operator.and_, "{0} and {1}", strict=False),
    "|": Operation(_or, operator.or_, "({0} or {1})", strict=False),
    "~": Operation(operator.not_, operator.invert, "not ({0})"),
    "latest": Operation(max, _sql_extreme(operator.ge), "{0}, but not before {1}"),
    "earliest": Operation(min, _sql_extreme(operator.le), "{0}, but not after {1}"),
    "missing": Operation(lambda a: a is None, lambda a: a.is_(None), "no {0}", strict=False),
    "default": Operation(lambda a, b: b if a is None else a, _sql_default, "{0} (else {1})", strict=False),
    "when": Operation(
        lambda condition, a, b: a if condition is True else b, _sql_when, "{1} if {0}, else {2}", strict=False
    ),
}


def evaluate(term: Term, sources: Mapping[str, Any]) -> Any:
    """The term's value. ``sources`` maps ``account``, ``request``, ``policy`` and ``now`` to where to read.

    ``account`` and ``request`` are objects or mappings of field to value; a request without a field
    reads as NULL.
    """
    return term.evaluator(sources)


def _evaluator(term: Term) -> Callable[[Mapping[str, Any]], Any]:
    if term.op == "literal":
        value = term.args[0]
        return lambda sources: value
    if term.op == "field":
        return _reader(*term.args)
    operation = OPERATIONS[term.op]
    compute, strict = operation.evaluate, operation.strict
    operands = [arg.evaluator for arg in term.args]
    if term.op == "when":
        condition, then, otherwise = operands
        return lambda sources: then(sources) if condition(sources) is True else otherwise(sources)
    if len(operands) == 1:
        (only,) = operands
        if not strict:
            return lambda sources: compute(only(sources))
        return lambda sources: None if (a := only(sources)) is None else compute(a)
    first, second = operands
    if not strict:
        return lambda sources: compute(first(sources), second(sources))
    return lambda sources: None if (a := first(sources)) is None or (b := second(sources)) is None else compute(a, b)


def _reader(source: str, name: str) -> Callable[[Mapping[str, Any]], Any]:
    if source == "now":
        return lambda sources: sources["now"]

    def read(sources: Mapping[str, Any]) -> Any:
        place = sources[source]
        return place.get(name) if isinstance(place, Mapping) else getattr(place, name)

    return read


def holds(term: Term, sources: Mapping[str, Any]) -> bool:
    """Whether a condition is true; false and NULL are both no, as in a WHERE clause."""
    return evaluate(term, sources) is True


def simplify(term: Term, values: Policy) -> Term:
    """The same term under one policy: settings become constants and decided branches disappear."""
    if term.op == "literal":
        return term
    if term.op == "field":
        return literal(getattr(values, term.args[1])) if term.args[0] == "policy" else term
    args = [simplify(arg, values) for arg in term.args]
    if term.op == "when" and args[0].op == "literal":
        return args[1] if args[0].args[0] is True else args[2]
    if all(arg.op == "literal" for arg in args):
        return literal(evaluate(Term(term.op, *args), {}))
    if term.op in ("&", "|"):  # one side may be decided by the policy
        for known, other in (args, args[::-1]):
            if known.op == "literal" and isinstance(known.args[0], bool):
                return known if known.args[0] is (term.op == "|") else other
    return Term(term.op, *args)


def assume(term: Term, facts: Mapping[str, Any]) -> Term:
    """The same term for a request that brings these facts and no others, so that it can be compiled."""
    if term.op == "literal":
        return term
    if term.op == "field":
        return literal(facts.get(term.args[1])) if term.args[0] == "request" else term
    return Term(term.op, *(assume(arg, facts) for arg in term.args))


def replaced(term: Term, by: Mapping[Term, Term]) -> Term:
    """The same term with some of the terms below it (themselves, not their equals) replaced by others."""
    if term in by:
        return by[term]
    if term.op in ("field", "literal"):
        return term
    return Term(term.op, *(replaced(arg, by) for arg in term.args))


def compile_term(
    term: Term, columns: Mapping[str, Any], values: Policy, instant: "ColumnElement[datetime]"
) -> "ColumnElement[Any]":
    """The term as a SQLAlchemy expression.

    ``columns`` maps account fields to expressions (columns, or the values that earlier assignments
    gave them), ``instant`` is the bound parameter that stands for ``now``. Terms that read the
    request can't be compiled: no timer has a request.
    """
    expression: ColumnElement[Any] = _compiled(simplify(term, values), columns, instant)
    return expression


def _compiled(term: Term, columns: Mapping[str, Any], instant: Any) -> Any:
    from sqlalchemy import false, null, true
    from sqlalchemy import literal as sql_literal

    if term.op == "literal":
        value = term.args[0]
        if value is None:
            return null()
        if isinstance(value, bool):
            return true() if value else false()
        # A duration stays a Python value: adding it to an instant is the column type's own business.
        return value if isinstance(value, timedelta) else sql_literal(getattr(value, "value", value))
    if term.op == "field":
        source, name = term.args
        if source == "now":
            return instant
        if source != "account":
            raise DefinitionError(f"{term!r} can't be read by a timer: only accounts, policy and now can.")
        return columns[name]
    return OPERATIONS[term.op].compile(*(_compiled(arg, columns, instant) for arg in term.args))


def describe(term: Term, values: Policy, words: Mapping[str, str]) -> str:
    """The term in words, under one policy: ``"30 days after the cancellation"``."""
    return _described(simplify(term, values), words)


def _described(term: Term, words: Mapping[str, str]) -> str:
    if term.op == "literal":
        value = term.args[0]
        return duration_words(value) if isinstance(value, timedelta) else str(value)
    if term.op == "field":
        return words.get(term.args[1], term.args[1].replace("_", " "))
    return OPERATIONS[term.op].words.format(*(_described(arg, words) for arg in term.args))
