"""Errors at the command line: one message on standard error that says what to do next, and one exit code."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import typer

from lifecycle.cli import output
from lifecycle.cli.pages import Pages
from lifecycle.errors import (
    ClockInDoubt,
    Conflict,
    DatabaseUnavailable,
    LifecycleError,
    PlanChanged,
    PrivilegeMissing,
    Refused,
    SchemaOutdated,
)

DONE, REFUSED, USAGE, UNAVAILABLE = 0, 1, 2, 3
#: What sysexits.h calls an internal software error: never to be taken for a refusal.
DEFECT = 70
#: 128 + SIGINT, as shells have it.
INTERRUPTED = 130
#: What goes wrong while a file is written, and names none.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Root(Pages):
    """The root of the commands: whatever is raised beneath it leaves as a message and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one command line. Standalone, it ends the process; else it returns the exit code."""
        run = partial(super().main, args, prog_name, complete_var, False, windows_expand_args, **extra)
        code = _exit_code(run)
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        """Run the command and flush, so that a pipe that broke is noticed here and not at exit."""
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, `head` for example, has seen enough. What was asked for is done.
            _silence(sys.stdout)
        except KeyboardInterrupt:
            output.complain("Interrupted. What was committed stays, nothing is half done; run the command again.")
            raise typer.Exit(INTERRUPTED) from None


def _exit_code(command: Callable[[], Any]) -> int:
    try:
        result = command()
    except typer.TyperException as error:
        _usage(error)
        return USAGE
    except Refused as error:
        _refused(error)
        return REFUSED
    except PrivilegeMissing as error:
        output.complain(f"Refused: {error}")
        return REFUSED
    except (ClockInDoubt, Conflict, PlanChanged, DatabaseUnavailable, SchemaOutdated) as error:
        output.complain(f"Error: {error}")
        return UNAVAILABLE
    except LifecycleError as error:
        output.complain(f"Error: {error}")
        return USAGE
    except OSError as error:
        if error.errno in _NO_ROOM:
            output.complain(f"Error: Not all could be written: {error.strerror}. Make room, and run the command again.")
            _silence(sys.stdout)
            return UNAVAILABLE
        if error.filename is None:
            raise
        output.complain(f"Error: {error.filename}: {error.strerror}. Check the path and its permissions.")
        return USAGE
    return result if isinstance(result, int) else DONE


def _usage(error: Any) -> None:
    """A usage error, with the nearest name and the help page to read."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.ctx.get_help())
        return
    near = getattr(error, "possibilities", None)
    message = (
        f"{error.message.rstrip('.')}. Did you mean {', '.join(sorted(near))}?" if near else error.format_message()
    )
    context = getattr(error, "ctx", None)
    help_page = f"\nSee `{context.command_path} --help`." if context is not None else ""
    output.complain(f"Error: {message}{help_page}")


def _refused(error: Refused) -> None:
    """The refusal with each of its reasons on a line."""
    summary = str(error).removesuffix(" ".join(error.reasons)).strip().rstrip(":")
    reasons = "".join(f"\n- {reason}" for reason in error.reasons)
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
    output.complain(f"Refused: {summary}{reasons}{notes}")


def _silence(stream: Any) -> None:
    """What is still buffered goes nowhere, so that the interpreter's last flush doesn't complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
