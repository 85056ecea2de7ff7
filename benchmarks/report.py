"""Prints figures as a table, and keeps them, section by section, with the machine's description and plots."""

import os
import platform
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
from rich import box
from rich.markup import escape
from rich.table import Table

from benchmarks import daemons, growth, punctuality
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


def keep(figures: Sequence[Figure], lab: Lab, minutes: float, order: Sequence[str]) -> None:
    """Put one section's figures into ``RESULTS.md``, beside this file, and its plots: others stay as they are.

    Those of another machine, or other versions, do not. ``order`` is that of all sections.
    """
    name, described = figures[0].section, _bullets(machine(lab))
    for plot in PLOTS:
        if plot.series in lab.plots:
            _draw(plot, lab.plots[plot.series])
    sections = {**_kept(described), name: _section(name, figures, minutes)}
    rows = "\n".join(sections.values()).splitlines()
    met, missed = (sum(row.endswith(f"| {verdict} |") for row in rows) for verdict in (Verdict.MET, Verdict.MISSED))
    not_run = sum(row.endswith(f"| {Verdict.NOT_RUN} |") for row in rows)
    parts = [
        "# Results",
        "Written by `make bench`; [docs/scale.md](../docs/scale.md) says how to read it. Every figure is the median of "
        "its rounds, and stands beside a rival's that was measured in turns with it.",
        f"{met} goals met, {missed + not_run} missed or not run, on:",
        described,
        *(sections[one] for one in order if one in sections),
        "## Plots",
        *(
            f"### {plot.title}\n\n![{plot.title}](plots/{plot.series}.svg)"
            for plot in PLOTS
            if plot.section in sections
        ),
    ]
    RESULTS.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _kept(described: str) -> dict[str, str]:
    """The sections of what was written before, by name, if it was measured on what is ``described``."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    head, *sections = re.split(r"\n\n(?=## )", text.rstrip())
    if not head.endswith(described):
        return {}
    return {one.splitlines()[0].removeprefix("## "): one for one in sections if not one.startswith("## Plots")}


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


def _section(name: str, figures: Iterable[Figure], minutes: float) -> str:
    measured = f"Measured on {datetime.now(UTC):%Y-%m-%d}, in {minutes:.0f} minutes."
    rows = [HEADINGS, ("---", "---", "---:", "---:", "---", "---:", "---", "---"), *map(_cells, figures)]
    lines = ["| " + " | ".join(_in_a_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join([f"## {name}", "", measured, "", *lines])


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

Points = Mapping[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Plot:
    """A drawing of the points that ``section`` leaves under the name ``series``; ``dress`` adds what is its own."""

    title: str
    section: str
    series: str
    dress: Callable[[Any], None]
    marker: str | None = "o"

    @property
    def path(self) -> Path:
        return HERE / "plots" / f"{self.series}.svg"


def _draw(plot: Plot, points: Points) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # The same points give the same file: no date, and no random names in it.
    pyplot.rcParams |= {"svg.hashsalt": "lifecycle", "svg.fonttype": "none", "font.size": 10}
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    for series, drawn in points.items():
        axes.plot(*zip(*drawn, strict=True), marker=plot.marker, label=series)
    plot.dress(axes)
    plot.path.parent.mkdir(exist_ok=True)
    figure.savefig(plot.path, metadata={"Date": None})


def _growth(axes: Any) -> None:
    axes.set(xscale="log", ylim=(0, None), xlabel="waiting accounts", ylabel="moved accounts per second")
    axes.legend()


def _lateness(axes: Any) -> None:
    axes.axvline(1, color="grey", linestyle=":", label="1 s")
    axes.set(xlim=(0, None), ylim=(0, 100), xlabel="seconds from the deadline to the commit", ylabel="percent of moves")
    axes.legend(loc="lower right")


def _daemons(axes: Any) -> None:
    axes.set(ylim=(0, None), xticks=[1, 2, 4], xlabel="daemons on one PostgreSQL", ylabel="per second, together")
    axes.legend()


PLOTS = (
    Plot("Throughput of a sweep against the population", growth.SECTION, "growth", _growth),
    Plot("Lateness of moves", punctuality.SECTION, "lateness", _lateness, marker=None),
    Plot("Several daemons on one backlog", daemons.SECTION, "daemons", _daemons),
)
