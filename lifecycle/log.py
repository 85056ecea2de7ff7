"""Logs by structlog: one JSON object a line for machines, colours for a terminal. They go to standard error.

Whoever logs says ids only. What slips in all the same, from an error of a library or the message of a handler, is taken
out of every line right before it is written: personal fields by their names, addresses wherever they stand.
"""

import json
import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.processors import JSONRenderer, TimeStamper, format_exc_info
from structlog.stdlib import ProcessorFormatter

from lifecycle.characters import escaped, shown
from lifecycle.errors import InvalidInput, LifecycleError
from lifecycle.redaction import redacted_field

LEVELS = ("debug", "info", "warning", "error")
#: Multi-line text that the renderer lays out itself.
_TRACES = ("exception", "stack")


def configure(*, json: bool | None = None, level: str = "info") -> None:
    """Set up logging for this process; ``json`` None means: unless standard error is a terminal.

    Every line has ``timestamp`` (ISO 8601, UTC), ``level`` and ``event``. ``level`` (one of
    :data:`LEVELS`) is that of the product; libraries are heard from warnings on, since APScheduler
    tells of each run. Raises :class:`InvalidInput` for an unknown level.
    """
    if level not in LEVELS:
        raise InvalidInput(f"Unknown log level {shown(level)}; the levels are {', '.join(LEVELS)}.")
    stream = sys.stderr
    as_json = not stream.isatty() if json is None else json
    stamps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        TimeStamper(fmt="iso", utc=True),
        # Plain tracebacks only: richer ones print local variables, and with them customers' rows.
        format_exc_info,
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=stamps,
            processors=[
                ProcessorFormatter.remove_processors_meta,
                _discreet,  # here, since all lines pass: ours, those of libraries, and what was bound to a context
                *(_for_machines() if as_json else _for_people(colors=stream.isatty())),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("lifecycle").setLevel(level.upper())
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *stamps, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # loggers made before this call follow it too
    )


def _for_machines() -> list[Any]:
    return [_ordered, JSONRenderer(serializer=_json)]


def _for_people(colors: bool) -> list[Any]:
    plain = structlog.dev.plain_traceback
    return [_harmless, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]


def _ordered(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What every line has comes first."""
    first = {name: line.pop(name) for name in ("timestamp", "level", "event") if name in line}
    return {**first, **line}


def _json(line: Any, **_options: Any) -> str:
    """In ASCII; DEL is the one control that JSON leaves as it is."""
    return json.dumps(line, default=str).replace("\x7f", "\\u007f")


def _discreet(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The line without personal data."""
    return {name: redacted_field(name, value) for name, value in line.items()}


def _harmless(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Control characters as escapes: text of customers must not drive an operator's terminal."""
    for name, value in line.items():
        if isinstance(value, str):
            line[name] = "\n".join(map(escaped, value.split("\n"))) if name in _TRACES else escaped(value)
    return line


def described(error: BaseException) -> dict[str, Any]:
    """An error as fields of a line: its class and what to do; where it happened, if it was not foreseen.

    Of an unforeseen error only the message's first line is kept: databases put rows into the others.
    """
    if isinstance(error, LifecycleError):
        return {"error": type(error).__name__, "advice": str(error)}
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "advice": f"{str(error).partition(chr(10))[0]} This was not foreseen: report it with its trace.",
        "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
