"""A counterexample as a picture: one box for each date, the last one red."""

import html
import textwrap

from lifecycle.characters import shown
from lifecycle.errors import InvalidInput
from lifecycle.verify.timeline import Entry, Timeline

#: The formats of a picture, which a file's name ends in.
FORMATS = ("svg", "png", "pdf", "dot")
_FONT = "Helvetica,Arial,DejaVu Sans,sans-serif"
_BROKEN, _INK, _PALE = "#c4161c", "#1f2933", "#66727f"


def to_dot(timeline: Timeline) -> str:
    """The timeline as DOT text."""
    last = len(timeline.entries) - 1
    boxes = [
        f"  e{n} [{_look(n == last)}, label=<{_label(one, n == last)}>];" for n, one in enumerate(timeline.entries)
    ]
    arrows = [f"  e{n} -> e{n + 1};" for n in range(last)]
    title = "<br/>".join(html.escape(line) for line in textwrap.wrap(timeline.title, 60))
    head = (
        "digraph counterexample {",
        f'  graph [rankdir=TB, ranksep=0.25, bgcolor=white, pad=0.2, labelloc=t, fontname="{_FONT}", fontsize=13,',
        f"    label=<<b>{title}</b><br/> >];",
        f'  node [shape=box, style="rounded", margin="0.15,0.08", fontname="{_FONT}", fontsize=10];',
        f'  edge [color="{_PALE}", arrowsize=0.6];',
    )
    return "\n".join((*head, *boxes, *arrows, "}", ""))


def _look(broken: bool) -> str:
    return f'color="{_BROKEN}", penwidth=2' if broken else f'color="{_INK}"'


def _label(entry: Entry, broken: bool) -> str:
    colour = _BROKEN if broken else _INK
    lines = textwrap.wrap(entry.words, 58)
    rows = "".join(
        f'<tr><td align="left"><font color="{colour}">{html.escape(line)}</font></td></tr>' for line in lines
    )
    when = f"{entry.at.day} {entry.at:%B %Y %H:%M}"
    head = f'<tr><td align="left"><b>{when}</b>  <font color="{_PALE}">{html.escape(str(entry.state))}</font></td></tr>'
    return f'<table border="0" cellborder="0" cellspacing="0" cellpadding="1">{head}{rows}</table>'


def draw(timeline: Timeline, format: str) -> bytes:
    """The picture in one of :data:`FORMATS`; all but DOT need the extra ``diagrams``, else :class:`InvalidInput`."""
    if format not in FORMATS:
        raise InvalidInput(f"Unknown format {shown(format)}: a counterexample is drawn as {', '.join(FORMATS)}.")
    text = to_dot(timeline)
    if format == "dot":
        return text.encode()
    try:
        import pygraphviz
    except ImportError as error:
        raise InvalidInput(
            f"Drawing {format} needs Graphviz: pip install 'account-lifecycle[diagrams]'; dot needs nothing."
        ) from error
    drawn: bytes = pygraphviz.AGraph(string=text).draw(format=format, prog="dot")
    return drawn
