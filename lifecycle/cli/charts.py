"""A chart for the terminal: one bar a row, and the limit that the bars are held against."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

_WIDTH = 40


def bars(rows: Sequence[tuple[str, int]], limit: int) -> Table:
    """One bar for each (label, count); the largest, or the limit, fills the width, and what is beyond it is red."""
    scale = max(limit, *(count for _, count in rows), 1)
    mark = round(limit / scale * _WIDTH)
    table = Table(box=None, show_header=False, padding=(0, 1))
    for label, count in rows:
        length = max(round(count / scale * _WIDTH), int(count > 0))
        within, beyond = min(length, mark), max(length - mark, 0)
        bar = Text("█" * within, style="green")
        bar.append(" " * (mark - within)).append("│", style="dim").append("█" * beyond, style="bold red")
        table.add_row(label, bar, f"{count:,}", "beyond the limit" if count > limit else "")
    return table
