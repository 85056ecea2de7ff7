"""Delivers an effect by writing it to the log: the default for effects that need no receipt."""

from lifecycle.task import DATES, Task


def log(task: Task) -> None:
    """Log the effect with its dates and nothing else: addresses, names and tokens stay out of the log."""
    import structlog  # an engine that delivers nothing need not wait for it

    dates = {name: value for name, value in task.payload.items() if name in DATES}
    structlog.get_logger("lifecycle.effect").info(
        "effect", effect=task.effect, account=task.account_id, idempotency_key=task.idempotency_key, **dates
    )
