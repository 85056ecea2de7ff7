"""Several handlers for one effect: confirmed when all of them have confirmed, each with a receipt of its own."""

from collections.abc import Mapping
from typing import Any

from lifecycle.errors import InvalidInput
from lifecycle.inputs import reference
from lifecycle.task import Handler, PartlyDone, Task, joined


class Several:
    """Calls ``handlers``, by their names and in their order; who has confirmed a task is not called for it again.

    One that fails keeps none of the others from being called. What they confirm is kept, and the task is tried again.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        if not handlers:
            raise InvalidInput("Several handlers need a name each, and at least one of them.")
        #: By names that stand in receipts, and so for ever.
        self.handlers = {reference(name, "The handler's name"): handler for name, handler in handlers.items()}

    def __call__(self, task: Task) -> str:
        """All receipts as one text; raises :class:`PartlyDone` while one is missing."""
        receipts = {name: receipt for name, receipt in task.receipts.items() if name in self.handlers}
        failures: dict[str, Exception] = {}
        for name, handler in self.handlers.items():
            if name not in receipts:
                try:
                    receipts[name] = _receipt(handler(task))
                except Exception as error:  # whatever a handler raises means: try again
                    failures[name] = error
        if failures:
            raise PartlyDone(receipts, failures)
        return joined(receipts)

    def quote(self, policy: Mapping[str, str]) -> None:
        """Tell those that quote the policy what it says."""
        tell(self.handlers, "quote", policy)

    def close(self) -> None:
        """Close those that can be closed."""
        tell(self.handlers, "close")


def tell(handlers: Mapping[Any, Handler], method: str, *arguments: Any) -> None:
    """Call a method of those handlers that have it."""
    for handler in handlers.values():
        call = getattr(handler, method, None)
        if call is not None:
            call(*arguments)


def _receipt(answer: object) -> str:
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError("it returned no receipt; where an effect has several handlers, each needs one")
    return answer
