"""Delivers an effect by running a program of the customer's own."""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta

from lifecycle.errors import InvalidInput
from lifecycle.task import Task

#: More than this of a program's output is not kept as its receipt.
LONGEST_RECEIPT = 10_000


class CommandFailed(Exception):
    """The program did not end with exit code 0; the message holds the end of its standard error."""


class Command:
    """Runs ``arguments`` (no shell) with the task as JSON on standard input.

    Exit code 0 confirms, and standard output is the receipt. After ``timeout`` the program and all
    that it started are killed. Anything else raises :class:`CommandFailed`: the outbox tries again.
    """

    def __init__(self, arguments: Sequence[str], timeout: timedelta = timedelta(seconds=60)) -> None:
        if not arguments or timeout <= timedelta(0):
            raise InvalidInput("A command handler needs a program to run and a timeout longer than zero.")
        self.arguments = list(arguments)
        self.timeout = timeout
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def __call__(self, task: Task) -> str | None:
        """Run the program for one task; returns its standard output without surrounding white space."""
        if self._closed:
            raise CommandFailed("The process is shutting down.")
        name = self.arguments[0]
        try:
            # A session of its own, so that a timeout reaches the program's children too.
            process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(f"{name} can't be started: {error.strerror}.") from error
        self._running.add(process)
        try:
            out, err = process.communicate(json.dumps(asdict(task)).encode(), self.timeout.total_seconds())
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{name} was killed after {self.timeout.total_seconds():g} s.") from None
        finally:
            _kill(process)
            self._running.discard(process)
        if process.returncode != 0:
            raise CommandFailed(f"{name} ended with exit code {process.returncode}: {_tail(err)}")
        return out.decode(errors="replace").strip()[:LONGEST_RECEIPT] or None

    def close(self) -> None:
        """Kill what is running: its tasks count as failed and are tried again later."""
        self._closed = True
        for process in list(self._running):
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the program's whole process group, also what it left in the background."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(err: bytes) -> str:
    return err.decode(errors="replace").strip()[-500:] or "no message on standard error"
