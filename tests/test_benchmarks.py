"""The benchmark compares like with like: where its rival writes other rows than the engine, the section breaks off."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.figures import Figure, Goal
from benchmarks.handwritten import JOBS, RECEIPTS
from benchmarks.lab import DATABASES, Lab

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.postgres
def test_sql_written_by_hand_for_every_timed_event_writes_the_rows_that_the_engine_writes() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "sweeps"]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    lines = [line.split() for line in shown.stdout.splitlines() if "accounts/s" in line]
    measured = {(" ".join(line[: line.index(kind)]), kind) for line in lines for kind in DATABASES if kind in line}
    assert measured == {(name, kind) for name in (*JOBS, *RECEIPTS) for kind in DATABASES}, shown.stderr


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Keeps a section's one figure, measured on a machine, and gives what is written then."""
    monkeypatch.setattr(report, "HERE", tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "RESULTS.md")

    def kept(section: str, ours: float, machine: str = "two cores") -> str:
        monkeypatch.setattr(report, "machine", lambda lab: [machine])
        nowhere = Lab(tmp_path, quick=False, say=print)
        report.keep([Figure(section, "moves", "SQLite", ours, 100, goal=Goal(at_least=1))], nowhere, 1, ["One", "Two"])
        return report.RESULTS.read_text()

    return kept


def test_a_section_that_is_measured_again_takes_its_old_place_among_the_others(keep: Callable[..., str]) -> None:
    keep("Two", 200)
    keep("One", 50)
    text = keep("One", 300)
    assert text.index("## One") < text.index("## Two")
    assert "| 300 | 100 | accounts/s | 3.00 | ≥ 1 | met |" in text and "| 50 |" not in text and "| 200 |" in text
    assert "2 goals met, 0 missed" in text and text.count("Measured on") == 2
    assert "1 goals met, 1 missed" in keep("Two", 20)


def test_what_was_measured_on_another_machine_is_not_kept_beside_it(keep: Callable[..., str]) -> None:
    keep("One", 50)
    for plot in report.PLOTS:
        plot.path.parent.mkdir(exist_ok=True)
        plot.path.touch()
    text = keep("Two", 200, machine="four cores")
    assert "## One" not in text and "four cores" in text and "two cores" not in text
    assert "plots/" not in text, "of sections that are not there"
