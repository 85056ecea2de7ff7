"""Delivers an effect by writing it to the log: the default for effects that need no receipt."""

import structlog

from lifecycle.task import Task

_log = structlog.get_logger("lifecycle.effect")


def log(task: Task) -> None:
    """Log the effect with its dates; addresses and company names stay out of the log."""
    dates = {name: value for name, value in task.payload.items() if name not in ("company", "owners")}
    _log.info("effect", effect=task.effect, account=task.account_id, key=task.idempotency_key, **dates)
