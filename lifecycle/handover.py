"""Handing over: the tasks of one claim go to their handlers, destructive ones only after a last look.

Handlers are called in a thread of their own. One that does not come back is left to itself: its task counts
as failed, the others go on, and should it answer after all, that is still written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from threading import Event, Lock, Thread

from lifecycle.outcomes import Claimed, Outcome
from lifecycle.personal import Personal
from lifecycle.policy import duration_words
from lifecycle.states import DESTRUCTIVE, Effect
from lifecycle.task import Handler, PartlyDone, Task, Undeliverable, apart, joined

#: Tasks that a handler of many is given at once.
MANY = 500

#: Gives what is on file of an account's people.
People = Callable[[str], Personal]
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
        tasks = [one.task(self._people(one.account_id)) for one in claimed]
        answers = self._answers(claimed[0], tasks)
        at = self._clock().isoformat()
        return [_outcome(one, answer, at) for one, answer in zip(claimed, answers, strict=True)]

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


def _outcome(claimed: Claimed, answer: object, at: str) -> Outcome:
    if isinstance(answer, PartlyDone):
        said = _stamped(claimed, answer.receipts, at)
        return Outcome(claimed, said, _storable(str(answer)[:2000]), answer.hopeless)
    if isinstance(answer, BaseException):
        error = _storable(f"{type(answer).__name__}: {answer}"[:2000])
        return Outcome(claimed, error=error, hopeless=isinstance(answer, Undeliverable))
    if answer is not None and not isinstance(answer, str):
        return Outcome(claimed, error=f"The handler returned {ascii(answer)[:2000]}; a receipt is text, or None.")
    if claimed.effect in DESTRUCTIVE and not (answer and answer.strip()):
        return Outcome(claimed, error="The handler returned no receipt; destruction is confirmed by one only.")
    if several := apart(answer):
        return Outcome(claimed, _stamped(claimed, several[0], at))
    return Outcome(claimed, receipt=answer and _storable(answer))


def _stamped(claimed: Claimed, receipts: Mapping[str, str], at: str) -> str:
    """Receipts of several handlers, each with the instant of the attempt at which it came."""
    _, before = apart(claimed.receipt) or ({}, {})
    return joined({name: _storable(said) for name, said in receipts.items()}, {**dict.fromkeys(receipts, at), **before})


def _storable(text: str) -> str:
    """Text from outside without what a database can't keep: a NUL, or half of a surrogate pair.

    One such receipt must not hold up the thousands that are written together with it.
    """
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
