"""Prints figures as a table, and keeps those of a whole run with the machine's description and plots."""

import os
import platform
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.figures import Figure, Verdict
from benchmarks.lab import SETTINGS, Lab

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
LIBRARIES = ("sqlalchemy", "psycopg", "apscheduler", "transitions", "procrastinate", "dbos")
HEADINGS = ("Figure", "Database", "Ours", "Rival", "Unit", "Ratio", "Goal", "")
_STYLES = {Verdict.MET: "green", Verdict.MISSED: "bold red", Verdict.NOT_RUN: "yellow", Verdict.INFORMATION: "dim"}


def table(section: str, figures: Iterable[Figure]) -> Table:
    """The figures of one section, for a terminal."""
    shown = Table(title=section, title_justify="left", box=box.SIMPLE_HEAD)
    for number, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="right" if 2 <= number <= 5 and number != 4 else "left")
    for figure in figures:
        name = f"{figure.name}\n[dim]{escape(figure.note)}[/]" if figure.note else figure.name
        shown.add_row(name, *_cells(figure)[1:-1], f"[{_STYLES[figure.verdict]}]{figure.verdict}[/]")
    return shown


def write(figures: Sequence[Figure], lab: Lab, minutes: float, console: Console) -> None:
    """``RESULTS.md`` and its plots, beside this file."""
    drawn = [(title, plot(lab, HERE / "plots")) for title, plot in PLOTS]
    missed = [figure for figure in figures if figure.verdict in (Verdict.MISSED, Verdict.NOT_RUN)]
    goals = sum(figure.verdict is Verdict.MET for figure in figures)
    parts = [
        "# Results",
        "Written by `make bench`; [docs/scale.md](../docs/scale.md) says how to read it. Every figure is the median of "
        "its rounds, and stands beside a rival's that was measured in turns with it.",
        f"{goals} goals met, {len(missed)} missed or not run. "
        f"Measured on {datetime.now(UTC):%Y-%m-%d}, in {minutes:.0f} minutes, on:",
        _bullets(machine(lab)),
        *(_section(name, rows) for name, rows in by_section(figures)),
        "## Plots",
        *(f"### {title}\n\n![{title}](plots/{path.name})" for title, path in drawn),
    ]
    RESULTS.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    console.print(f"Written: {RESULTS.relative_to(Path.cwd())} and {len(drawn)} plots.")


def by_section(figures: Iterable[Figure]) -> Iterable[tuple[str, list[Figure]]]:
    return ((name, list(rows)) for name, rows in groupby(figures, lambda figure: figure.section))


def machine(lab: Lab) -> list[str]:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    with psycopg.connect(lab.server) as connection:
        served = connection.execute("SHOW server_version").fetchone()[0]
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    system = f"{platform.system()} {platform.release()}"
    return [
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB of memory, {system}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, PostgreSQL {served}",
        libraries,
        "PostgreSQL: fsync and synchronous_commit on, as they come; " + ", ".join(SETTINGS),
        "SQLite: WAL, synchronous=FULL, foreign keys and secure_delete on, as the engine sets it",
    ]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _section(name: str, figures: Iterable[Figure]) -> str:
    rows = [HEADINGS, ("---", "---", "---:", "---:", "---", "---:", "---", "---"), *map(_cells, figures)]
    lines = ["| " + " | ".join(_in_a_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join([f"## {name}", "", *lines])


def _cells(figure: Figure) -> tuple[str, ...]:
    ratio = "" if figure.ratio is None else _number(figure.ratio)
    note = f" ({figure.note})" if figure.note else ""
    return (
        figure.name + note,
        figure.database,
        _number(figure.ours),
        _number(figure.rival),
        figure.unit,
        ratio,
        str(figure.goal or ""),
        str(figure.verdict),
    )


def _in_a_cell(text: str) -> str:
    """A note may quote an error, with whatever is in it."""
    return " ".join(text.replace("|", "\\|").split()) or " "


def _number(value: float | None) -> str:
    """Three digits that count, as people write them."""
    if value is None:
        return ""
    digits = max(0, 2 - len(str(int(abs(value)))) + 1) if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


# --- Plots ---------------------------------------------------------------------------------------


def _figure() -> Any:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # The same points give the same file: no date, and no random names in it.
    pyplot.rcParams |= {"svg.hashsalt": "lifecycle", "svg.fonttype": "none", "font.size": 10}
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _saved(figure: Any, folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def _growth(lab: Lab, folder: Path) -> Path:
    figure, axes = _figure()
    for series, points in lab.plots.get("growth", {}).items():
        axes.plot(*zip(*points, strict=True), marker="o", label=series)
    axes.set(xscale="log", ylim=(0, None), xlabel="waiting accounts", ylabel="moved accounts per second")
    axes.legend()
    return _saved(figure, folder, "growth")


def _lateness(lab: Lab, folder: Path) -> Path:
    figure, axes = _figure()
    for series, points in lab.plots.get("lateness", {}).items():
        axes.plot(*zip(*points, strict=True), label=series)
    axes.axvline(1, color="grey", linestyle=":", label="1 s")
    axes.set(xlim=(0, None), ylim=(0, 100), xlabel="seconds from the deadline to the commit", ylabel="percent of moves")
    axes.legend(loc="lower right")
    return _saved(figure, folder, "lateness")


def _daemons(lab: Lab, folder: Path) -> Path:
    figure, axes = _figure()
    for series, points in lab.plots.get("daemons", {}).items():
        axes.plot(*zip(*points, strict=True), marker="o", label=series)
    axes.set(ylim=(0, None), xticks=[1, 2, 4], xlabel="daemons on one PostgreSQL", ylabel="per second, together")
    axes.legend()
    return _saved(figure, folder, "daemons")


PLOTS: tuple[tuple[str, Callable[[Lab, Path], Path]], ...] = (
    ("Throughput of a sweep against the population", _growth),
    ("Lateness of moves", _lateness),
    ("Several daemons on one backlog", _daemons),
)
