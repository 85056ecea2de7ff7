"""Fails a full run when a module that decides or destroys has a branch that no test takes.

`make test` loads it with `-p`, so that a few tests run by hand are not held to it. It is a plugin, not
a command after pytest, so that pytest's summary stays the last word.
"""

import io
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

#: The tests that hold the covered modules, by file. Tracing makes a test two or three times as long: others go without.
COVERING = (
    "test_activation",
    "test_activity",
    "test_brake",
    "test_bulk",
    "test_cancellation_requests",
    "test_doctor",
    "test_engine",
    "test_equivalence",
    "test_handover",
    "test_holds",
    "test_importer",
    "test_machine",
    "test_outbox",
    "test_owners",
    "test_store",
    "test_sweep",
    "test_terms",
    "test_upgrade",
    "test_vault",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Nothing is traced while another test runs; pytest-cov's own mark for that has no effect in workers."""
    if item.path.stem in COVERING:
        return (yield)
    traces = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    try:
        return (yield)
    finally:
        sys.settrace(traces[0])
        threading.settrace(traces[1])  # type: ignore[arg-type]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or session.exitstatus != pytest.ExitCode.OK:
        return  # a worker sees only its share; failed tests say enough by themselves
    percent, report = measure(session.config.rootpath)
    if percent < 100:
        terminal = session.config.pluginmanager.getplugin("terminalreporter")
        terminal.write_line("")  # end the line of dots
        terminal.write_sep("=", "coverage is not complete", red=True)
        terminal.write(report)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def measure(root: Path) -> tuple[float, str]:
    """How much of the modules is covered, and the table of what is not."""
    data, table = coverage.Coverage(), io.StringIO()
    files = data.get_option("run:include")
    if absent := [file for file in files if not (root / file).exists()]:
        return 0, f"no such file: {', '.join(absent)}\n"
    data.load()  # pytest-cov has combined the workers' shares by now
    return data.report(include=files, file=table), table.getvalue()
