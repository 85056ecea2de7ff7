"""What a simulation has found, as pictures: accounts by state, destructive load beside the brake, time in state.

Each is written as PNG and SVG, with no clock and no chance in it. Importing this module needs matplotlib, of the extra
``simulation``.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from lifecycle.simulate.results import DESTROYING, Outcome
from lifecycle.states import FINAL, Effect, State

INK, PALE, _GRID = "#1f2933", "#66727f", "#e4e7eb"
#: From the bottom of the picture up. As in the diagrams: greens for what is in use, yellows for what is kept, browns
#: for what has no access any more, greys for what is gone.
STATES: Mapping[State, str] = {
    State.ACTIVE: "#3d8b6b",
    State.TRIAL: "#9ed3bb",
    State.ON_HOLD: "#f0d66b",
    State.FROZEN: "#b99a2e",
    State.CANCEL_PENDING: "#f0b58a",
    State.ACCESS_REVOKED: "#b5622b",
    State.CONTENT_DELETED: "#8794a1",
    State.PURGED: "#dcdfe4",
}
#: The deletion is what hurts; the purge follows it.
LOAD: Mapping[Effect, tuple[str, str]] = {
    Effect.DELETE_CONTENT: ("#b5622b", "content to be deleted"),
    Effect.PURGE_BACKUPS: ("#8794a1", "backups to be purged"),
}
LIMIT, WAITING = "#0062a8", "#c4161c"
#: One colour a policy, apart without colour vision (after Okabe and Ito).
POLICIES = ("#0062a8", "#d55e00")
STYLE: Any = {
    "font.size": 10, "font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": PALE,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "figure.titlesize": 14,
    "figure.titleweight": "bold", "svg.hashsalt": "lifecycle", "svg.fonttype": "path", "figure.facecolor": "white",
}  # fmt: skip
_WIDTH, _DPI = 10.0, 150
#: Where axes begin, as a part of the width: numbers up to a million have room before them.
_LEFT = 0.1
#: Labels beside the axes keep this distance from each other, as a part of the axes' height.
_APART = 0.062
#: Ticks of a scale of days.
_DAYS = (0, 1, 7, 30, 90, 180, 365, 730, 1825, 3650)


def write_plots(folder: Path, outcomes: Sequence[Outcome]) -> list[Path]:
    """Draw every picture into the folder, which must exist; the files that were written."""
    written = []
    with rc_context(STYLE):
        for name, draw in _PICTURES.items():
            figure = draw(outcomes)
            for format, options in (("png", {"dpi": _DPI}), ("svg", {"metadata": {"Date": None}})):
                path = folder / f"{name}.{format}"
                figure.savefig(path, **options)
                written.append(path)
    return written


def _rows(
    panels: Sequence[tuple[str, Outcome]], title: str, height: float, right: float, head: float
) -> tuple[Figure, list[Any]]:
    """One axes a panel (its heading, and whose it is), one below the other; ``height`` and ``head`` are in inches."""
    inches = head + 0.55 + height * len(panels)
    figure = Figure(figsize=(_WIDTH, inches))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(_dated(title, [one for _, one in panels]), x=_LEFT, y=1 - 0.22 / inches, ha="left", va="top")
    gap = 0.45 / height if len(panels) > 1 else 0
    figure.subplots_adjust(left=_LEFT, right=right, top=1 - head / inches, bottom=0.5 / inches, hspace=gap)
    for axis, (heading, outcome) in zip(axes, panels, strict=True):
        axis.set_title(heading, pad=8)
        axis.grid(axis="y", color=_GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        if len(outcome.days) > 1:  # a single day is no span
            axis.set_xlim(outcome.days[0].at, outcome.days[-1].at)
        axis.yaxis.set_major_formatter(FuncFormatter(_thousands))
        axis.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        locator = AutoDateLocator(maxticks=10)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    return figure, list(axes)


def _headings(outcomes: Sequence[Outcome]) -> list[tuple[str, Outcome]]:
    """One panel a policy; a single one needs no heading."""
    return [(one.name if len(outcomes) > 1 else "", one) for one in outcomes]


def _dated(title: str, outcomes: Sequence[Outcome]) -> str:
    first, last = outcomes[0].days[0].at, outcomes[0].days[-1].at
    return f"{title}, {first.day} {first:%b %Y} to {last.day} {last:%b %Y}"


def _thousands(value: float, position: Any = None) -> str:
    return f"{value:,.0f}"


# --- Accounts by state ---------------------------------------------------------------------------


def _accounts(outcomes: Sequence[Outcome]) -> Figure:
    figure, axes = _rows(_headings(outcomes), "Accounts by state", 3.9, 0.78, 0.95 if len(outcomes) > 1 else 0.65)
    for axis, outcome in zip(axes, outcomes, strict=True):
        at = [day.at for day in outcome.days]
        bands = [[day.states[state] for day in outcome.days] for state in STATES]
        axis.stackplot(at, bands, colors=list(STATES.values()), edgecolor="white", linewidth=0.4)
        axis.set_ylabel("accounts")
        axis.set_ylim(0, max(one.opened for one in outcomes) * 1.02)
        axis.margins(x=0)
    for axis, outcome in zip(axes, outcomes, strict=True):
        _label_bands(axis, outcome)
    return figure


def _label_bands(axis: Any, outcome: Outcome) -> None:
    """The state's name and its last number beside its band, pushed apart where bands are thin."""
    last, top, below = outcome.days[-1].states, axis.get_ylim()[1], 0
    middles = []
    for state in STATES:
        middles.append((below + last[state] / 2) / top)
        below += last[state]
    beside = {"transform": axis.transAxes, "clip_on": False}
    for state, middle, place in zip(STATES, middles, _apart(middles), strict=True):
        axis.plot([1.004, 1.04], [middle, place], color=PALE, linewidth=0.7, **beside)
        axis.plot(
            [1.052], [place], marker="s", markersize=7, color=STATES[state], markeredgecolor=PALE, markeredgewidth=0.5,
            **beside,
        )  # fmt: skip
        axis.text(1.072, place, f"{state}  {last[state]:,}", va="center", fontsize=9, **beside)


def _apart(middles: Sequence[float]) -> list[float]:
    """Places near the middles, in their order, none closer to the next than :data:`_APART`, all within the axes."""
    places = list(middles)
    for number in range(1, len(places)):
        places[number] = max(places[number], places[number - 1] + _APART)
    limit = 1.0
    for number in range(len(places) - 1, -1, -1):
        places[number] = min(places[number], limit)
        limit = places[number] - _APART
    return places


# --- Destructive load ----------------------------------------------------------------------------


def _load(outcomes: Sequence[Outcome]) -> Figure:
    """What was asked for each day; and where the brake held something back, a panel with what waits."""
    panels = [(heading, one, _draw_load) for heading, one in _headings(outcomes)]
    if any(one.braked_days for one in outcomes):
        waiting = (
            (f"{heading}: held back by the brake" if heading else "Held back by the brake", one)
            for heading, one in _headings(outcomes)
        )
        panels += [(*panel, _draw_waiting) for panel in waiting]
    figure, axes = _rows([panel[:2] for panel in panels], "Accounts asked to be destroyed", 2.9, 0.97, 0.95)
    for axis, (_, outcome, draw) in zip(axes, panels, strict=True):
        draw(axis, outcome)
    for draw in (_draw_load, _draw_waiting):  # those of one kind have one scale
        alike = [axis for axis, panel in zip(axes, panels, strict=True) if panel[2] is draw]
        top = max((axis.get_ylim()[1] for axis in alike), default=1)
        for axis in alike:
            axis.set_ylim(0, top)
    handles, words = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, words, loc="upper right", bbox_to_anchor=(0.975, 1 - 0.5 / figure.get_figheight()), ncols=3,
        frameon=False, fontsize=9, handlelength=1.4, columnspacing=1.4,
    )  # fmt: skip
    return figure


def _draw_load(axis: Any, outcome: Outcome) -> None:
    at = [day.at for day in outcome.days]
    below = [0] * len(at)
    for effect, (colour, words) in LOAD.items():
        loads = [day.requested.get(DESTROYING[effect], 0) for day in outcome.days]
        above = [one + other for one, other in zip(below, loads, strict=True)]
        axis.fill_between(at, below, above, step="mid", color=colour, linewidth=0, label=words)
        below = above
    limits = [day.limit for day in outcome.days]
    axis.step(at, limits, where="mid", color=LIMIT, linewidth=1.6, label="what the brake lets through")
    axis.set_ylabel("accounts a day")


def _draw_waiting(axis: Any, outcome: Outcome) -> None:
    axis.plot([day.at for day in outcome.days], [day.waiting for day in outcome.days], color=WAITING, linewidth=1.4)
    axis.set_ylabel("accounts that wait")
    axis.set_ylim(bottom=0, top=max(max(day.waiting for day in outcome.days) * 1.05, 1))


# --- Time in state -------------------------------------------------------------------------------


def _stays(outcomes: Sequence[Outcome]) -> Figure:
    states = [state for state in State if state is not FINAL]
    step = 0.34 if len(outcomes) > 1 else 0.0
    figure = Figure(figsize=(_WIDTH, 1.7 + len(states) * (0.42 + 0.2 * len(outcomes))))
    inches = figure.get_figheight()
    axis = figure.subplots()
    figure.subplots_adjust(left=0.16, right=0.97, top=1 - 0.95 / inches, bottom=0.6 / inches)
    figure.suptitle(_dated("Days in a state", outcomes), x=0.02, y=1 - 0.22 / inches, ha="left", va="top")
    for number, outcome in enumerate(outcomes):
        offset = (number - (len(outcomes) - 1) / 2) * step
        for row, state in enumerate(states):
            _range(axis, outcome, state, row + offset, POLICIES[number] if len(outcomes) > 1 else STATES[State.ACTIVE])
    longest = max((max(stays.ended, default=0) for one in outcomes for stays in one.stays.values()), default=0)
    axis.set_xscale("symlog", linthresh=1, linscale=0.4)
    axis.set_xlim(-0.15, max(longest, 1) * 5)
    axis.set_xticks([days for days in _DAYS if days <= max(longest, 1)])
    axis.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("days")
    axis.set_yticks(range(len(states)), [str(state) for state in states])
    axis.set_ylim(len(states) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=_GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    _explain_ranges(figure, outcomes, inches)
    return figure


def _range(axis: Any, outcome: Outcome, state: State, row: float, colour: str) -> None:
    """A thin line for nine stays in ten, a thick one for the middle half, and the median with its number."""
    stays = outcome.stays[state]
    least, lower, median, upper, most = (stays.quantile(part) for part in (0.05, 0.25, 0.5, 0.75, 0.95))
    if median is None:
        axis.annotate("none is over", (0.05, row), va="center", fontsize=8, color=PALE)
        return
    axis.plot([least, most], [row, row], color=colour, linewidth=1.4, solid_capstyle="butt")
    axis.plot([lower, upper], [row, row], color=colour, linewidth=6.5, alpha=0.55, solid_capstyle="butt")
    axis.plot([median], [row], marker="o", markersize=6.5, color="white", markeredgecolor=colour, markeredgewidth=1.8)
    words = f"{median:,} days" if median != 1 else "1 day"
    axis.annotate(
        f"{words}, {sum(stays.ended.values()):,} stays", (max(most or 0, median), row), xytext=(9, 0),
        textcoords="offset points", va="center", fontsize=8, color=INK,
    )  # fmt: skip


def _explain_ranges(figure: Figure, outcomes: Sequence[Outcome], inches: float) -> None:
    explained = "of stays that are over. Circle and number: median; thick: the middle half; thin: nine in ten"
    figure.text(0.02, 1 - 0.62 / inches, explained, fontsize=9, color=PALE, ha="left", va="top")
    if len(outcomes) < 2:
        return
    place = 0.97
    for outcome, colour in reversed(list(zip(outcomes, POLICIES, strict=False))):
        text = figure.text(
            place, 1 - 0.6 / inches, f"● {outcome.name}", color=colour, fontsize=10, ha="right", va="top"
        )
        text.set_fontweight("bold")
        place -= 0.03 + 0.0095 * (len(outcome.name) + 2)


_PICTURES: Mapping[str, Callable[[Sequence[Outcome]], Figure]] = {
    "accounts": _accounts,
    "load": _load,
    "stays": _stays,
}
