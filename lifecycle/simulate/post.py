"""Where a simulation's effects arrive: every one is delivered, and what destroys is confirmed at once."""

from collections import Counter
from collections.abc import Callable, Sequence

from lifecycle.states import DESTRUCTIVE, Effect
from lifecycle.task import Handler, Task


class PostOffice:
    """Handlers that count what they are given, and let ``hear`` know of each; those that destroy give a receipt."""

    def __init__(self, hear: Callable[[Effect, str], None] = lambda effect, account_id: None) -> None:
        self.delivered: Counter[Effect] = Counter()
        self.hear = hear

    def handlers(self) -> dict[Effect, Handler]:
        """One for every effect."""
        return {effect: _Counter(self, effect) for effect in Effect}


class _Counter:
    """Takes the tasks of one effect, one by one or many at once."""

    def __init__(self, post: PostOffice, effect: Effect) -> None:
        self.post = post
        self.effect = effect

    def __call__(self, task: Task) -> str | None:
        self.post.delivered[self.effect] += 1
        self.post.hear(self.effect, task.account_id)
        return f"storage confirms {task.idempotency_key}" if self.effect in DESTRUCTIVE else None

    def many(self, tasks: Sequence[Task]) -> list[str | None]:
        return [self(task) for task in tasks]
