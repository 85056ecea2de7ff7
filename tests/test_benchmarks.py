"""The benchmark compares like with like: where its rival writes other rows than the engine, the section breaks off."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.handwritten import JOBS, RECEIPTS
from benchmarks.lab import DATABASES

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.postgres
def test_sql_written_by_hand_for_every_timed_event_writes_the_rows_that_the_engine_writes() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "sweeps"]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    lines = [line.split() for line in shown.stdout.splitlines() if "accounts/s" in line]
    measured = {(" ".join(line[: line.index(kind)]), kind) for line in lines for kind in DATABASES if kind in line}
    assert measured == {(name, kind) for name in (*JOBS, *RECEIPTS) for kind in DATABASES}, shown.stderr
