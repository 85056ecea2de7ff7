"""Pictures of the lifecycle, drawn from its definition: DOT, Mermaid, and through Graphviz SVG, PNG and PDF.

States are boxes, grouped by what the customer has. Moves are cards on the arrows between them: the event,
who may fire it, its deadline, its guards in brackets and the clauses that it keeps. Everything that is
written in a picture comes from :data:`~lifecycle.machine.TRANSITIONS` and a policy; this module adds only
where boxes stand (``places.py``). A box that has no place there is put in a row at the bottom.

The DOT text carries its own coordinates (``layout=nop2``): ``dot -Tsvg`` draws it as it is meant.
"""

from pathlib import Path

from lifecycle.characters import shown
from lifecycle.diagrams.dot import to_dot
from lifecycle.diagrams.mermaid import to_mermaid
from lifecycle.diagrams.places import PICTURES
from lifecycle.errors import InvalidInput
from lifecycle.policy import Policy

__all__ = ["FORMATS", "pictures", "render", "to_dot", "to_mermaid", "write_all"]

FORMATS = ("svg", "png", "pdf", "dot", "mermaid")


def pictures() -> tuple[str, ...]:
    """The names of the pictures: the whole machine, the customer's way out, the company's own moves."""
    return tuple(PICTURES)


def render(picture: str, policy: Policy, format: str) -> bytes:
    """The picture in one of :data:`FORMATS`; SVG, PNG and PDF need the extra ``diagrams``.

    Raises :class:`InvalidInput` for an unknown picture or format, or when the extra is not installed.
    """
    if format not in FORMATS:
        raise InvalidInput(f"Unknown format {shown(format)}: the formats are {', '.join(FORMATS)}.")
    if format == "mermaid":
        return to_mermaid(picture, policy).encode()
    text = to_dot(picture, policy)
    if format == "dot":
        return text.encode()
    try:
        import pygraphviz
    except ImportError as error:
        raise InvalidInput(
            f"Drawing {format} needs Graphviz: pip install 'account-lifecycle[diagrams]'. "
            "The formats dot and mermaid need nothing."
        ) from error
    drawn: bytes = pygraphviz.AGraph(string=text).draw(format=format, prog="nop2")
    return drawn


def write_all(folder: Path | str, policy: Policy) -> list[Path]:
    """Every picture as DOT, Mermaid (``.mmd``), SVG and PNG, written into ``folder``; the paths written."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    written = []
    for picture in pictures():
        for format, suffix in (("dot", "dot"), ("mermaid", "mmd"), ("svg", "svg"), ("png", "png")):
            target = Path(folder) / f"{picture}.{suffix}"
            target.write_bytes(render(picture, policy, format))
            written.append(target)
    return written
