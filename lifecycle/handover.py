"""Handing over: the tasks of one claim go to their handlers, destructive ones only after a last look.

Handlers are called in a thread of their own. One that does not come back is left to itself: its task counts
as failed, the others go on, and should it answer after all, that is still written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Event, Lock, Thread
from typing import Any, NamedTuple

from lifecycle.outcomes import Claimed, Outcome
from lifecycle.policy import duration_words
from lifecycle.redaction import REMOVED, masked, without
from lifecycle.states import DESTRUCTIVE, Effect
from lifecycle.task import Handler, PartlyDone, Receipt, Task, Undeliverable, apart, joined

#: Tasks that a handler of many is given at once.
MANY = 500
#: More than this of an error is not kept.
LONGEST_ERROR = 2000

#: Gives what a task says of its account's people: the company, to whom it goes, and whatever they are told alone.
People = Callable[[Claimed], Mapping[str, Any]]
#: Gives those of some destructive tasks that may still be carried out; None when nothing may be destroyed now.
LastLook = Callable[[Sequence[Claimed]], Sequence[Claimed] | None]


class HandOver:
    """One claim on its way; ``go_on`` is asked before each call, ``late`` told of answers nobody waits for any more.

    After :meth:`run`, ``outcomes`` holds what came of it, ``left`` what no handler has seen, and ``error`` what ended
    it early.
    """

    def __init__(
        self,
        claimed: Sequence[Claimed],
        people: People,
        handlers: Mapping[Effect, Handler],
        last_look: LastLook,
        clock: Callable[[], datetime],
        go_on: Callable[[], bool],
        late: Callable[[Sequence[Outcome]], None],
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.error: BaseException | None = None
        self._people, self._handlers = people, handlers
        self._last_look, self._clock, self._go_on, self._late = last_look, clock, go_on, late
        self._groups = list(_groups(claimed, handlers))
        #: How many groups are done with, or in the hands of a handler; and the tasks that are.
        self._begun = 0
        self._in_hand: Sequence[Claimed] = ()
        #: Tasks that were barred at the last look.
        self._barred: list[Claimed] = []
        self._abandoned = False
        self._lock, self._done = Lock(), Event()

    def run(self, patience: timedelta) -> None:
        """Hand everything over; one call may take ``patience``, and is given up before it has taken twice that."""
        Thread(target=self._hand_over, name="lifecycle-handlers", daemon=True).start()
        try:
            self._watch(patience)
        except BaseException:  # an interrupt: what is in hand ends, and nothing more is handed over
            self._abandoned = True
            raise

    def _watch(self, patience: timedelta) -> None:
        seen: Sequence[Claimed] = ()
        while not self._done.wait(patience.total_seconds()):
            with self._lock:
                if self._in_hand and self._in_hand is seen:
                    self._abandoned = True
                    error = f"The handler did not answer within {duration_words(patience)}; it may still be at work."
                    self.outcomes += [Outcome(one, error=error) for one in seen]
                    return
                seen = self._in_hand

    @property
    def left(self) -> list[Claimed]:
        """What no handler has seen."""
        return [*self._barred, *(one for group in self._groups[self._begun :] for one in group)]

    def _hand_over(self) -> None:
        try:
            for group in self._groups:
                if not self._go_on():
                    break
                cleared = self._last_look(group) if group[0].effect in DESTRUCTIVE else group
                with self._lock:
                    if self._abandoned:
                        return
                    self._begun += 1
                    if cleared is None:
                        self._barred += group
                        continue
                    self._in_hand = cleared
                outcomes = self._attempt(cleared)
                with self._lock:
                    self._in_hand = ()
                    if not self._abandoned:
                        self.outcomes += outcomes
                        continue
                self._late(outcomes)
                break
        except BaseException as error:
            self.error = error
        finally:
            self._done.set()

    def _attempt(self, claimed: Sequence[Claimed]) -> list[Outcome]:
        if not claimed:
            return []
        tasks = [one.task(self._people(one)) for one in claimed]
        answers = self._answers(claimed[0], tasks)
        at = self._clock().isoformat()
        return [
            _Kept.of(task, at).outcome(one, answer) for task, one, answer in zip(tasks, claimed, answers, strict=True)
        ]

    def _answers(self, first: Claimed, tasks: Sequence[Task]) -> Sequence[object]:
        """What the handler says of each task; what it raises, for all of them."""
        handler = self._handlers[first.effect]
        try:
            if not takes_many(handler):
                return [handler(task) for task in tasks]
            answers = list(handler.many(tasks))  # type: ignore[attr-defined]
        except Exception as error:  # whatever a handler raises means: try again
            return [error] * len(tasks)
        if len(answers) != len(tasks):
            return [ValueError(f"The handler gave {len(answers)} answers to {len(tasks)} tasks.")] * len(tasks)
        return answers


def takes_many(handler: object) -> bool:
    """Whether a handler takes many tasks of one effect at once."""
    return hasattr(handler, "many")


def _groups(claimed: Sequence[Claimed], handlers: Mapping[Effect, Handler]) -> Iterator[list[Claimed]]:
    """One task at a time, and up to :data:`MANY` of an effect whose handler takes many.

    The order within a claim is free: what must wait for something else of its account was not claimed.
    """
    together: dict[Effect, list[Claimed]] = {}
    for one in claimed:
        if takes_many(handlers[one.effect]):
            together.setdefault(one.effect, []).append(one)
        else:
            yield [one]
    for group in together.values():
        for first in range(0, len(group), MANY):
            yield group[first : first + MANY]


class _Kept(NamedTuple):
    """What is kept of an answer that came ``at`` an instant: nothing ``personal``, which is the account's company and
    owners, and none of the ``secrets`` that were handed over.
    """

    personal: Sequence[str]
    at: str
    secrets: Sequence[str]

    @classmethod
    def of(cls, task: Task, at: str) -> "_Kept":
        """What is kept of the answer to this task."""
        return cls((task.payload["company"], *task.payload["owners"]), at, task.secrets)

    def outcome(self, claimed: Claimed, answer: object) -> Outcome:
        """What the handler's answer means."""
        if isinstance(answer, PartlyDone):
            return Outcome(claimed, self._several(claimed, answer.receipts), self._error(str(answer)), answer.hopeless)
        if isinstance(answer, BaseException):
            error = self._error(f"{type(answer).__name__}: {answer}")
            return Outcome(claimed, error=error, hopeless=isinstance(answer, Undeliverable))
        if answer is not None and not isinstance(answer, str):
            shown = self._error(ascii(answer))
            return Outcome(claimed, error=f"The handler returned {shown}; a receipt is text, or None.")
        if claimed.effect in DESTRUCTIVE and not (answer and answer.strip()):
            return Outcome(claimed, error="The handler returned no receipt; destruction is confirmed by one only.")
        if several := apart(answer):
            return Outcome(claimed, self._several(claimed, several[0]))
        return Outcome(claimed, receipt=answer and self._receipt(answer))

    def _several(self, claimed: Claimed, receipts: Mapping[str, str]) -> str:
        """Receipts of several handlers, each with the instant of the attempt at which it came."""
        _, before = apart(claimed.receipt) or ({}, {})
        said = {name: self._receipt(text) for name, text in receipts.items()}
        return joined(said, {**dict.fromkeys(receipts, self.at), **before})

    def _receipt(self, text: str) -> str:
        """A receipt without personal data; of one in the words of :class:`Receipt` only its reason can hold any."""
        said = Receipt.read(text) if text.startswith("{") else None
        if said is None or not isinstance(said.reason, str | None):
            return self._text(text)
        return _storable(str(replace(said, reason=said.reason and self._text(said.reason))), self.secrets)

    def _error(self, text: str) -> str:
        return self._text(text)[:LONGEST_ERROR]

    def _text(self, text: str) -> str:
        """Text from outside that a database can keep, and everybody may read who sees it there."""
        # A company's name of one letter would take that letter out of everything.
        return masked(without((name for name in self.personal if len(name) > 1), _storable(text, self.secrets)))


def _storable(text: str, secrets: Sequence[str] = ()) -> str:
    """Text from outside without secrets, and without what a database can't keep: a NUL, or half of a surrogate pair.

    One such receipt must not hold up the thousands that are written together with it.
    """
    for secret in secrets:
        text = text.replace(secret, REMOVED)
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
