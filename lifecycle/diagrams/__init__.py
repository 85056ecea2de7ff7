"""Pictures of the lifecycle, drawn from its definition: DOT, Mermaid, SCXML, and through Graphviz SVG, PNG and PDF.

States are boxes, grouped by what the customer has. Moves are cards on the arrows between them: the event,
who may fire it, its deadline, its guards in brackets and the clauses that it keeps. Everything that is
written in a picture comes from :data:`~lifecycle.machine.TRANSITIONS` and a policy; this module adds only
where boxes stand (``places.py``). A box that has no place there is put in a row at the bottom.

A picture of two policies shows what differs (``compare.py``), one with :class:`Counts` what a database holds
(``weights.py``).

The DOT text carries its own coordinates (``layout=nop2``): ``dot -Tsvg`` draws it as it is meant.
"""

from pathlib import Path

from lifecycle.characters import shown
from lifecycle.diagrams.dot import to_dot
from lifecycle.diagrams.mermaid import to_mermaid
from lifecycle.diagrams.places import PICTURES
from lifecycle.diagrams.scxml import to_scxml
from lifecycle.diagrams.weights import Counts
from lifecycle.errors import InvalidInput
from lifecycle.files import replacing
from lifecycle.policy import Policy

__all__ = [
    "FORMATS",
    "PICTURES",
    "Counts",
    "pictures",
    "render",
    "to_dot",
    "to_mermaid",
    "to_scxml",
    "write_all",
]

FORMATS = ("svg", "png", "pdf", "dot", "mermaid", "scxml")
#: What :func:`write_all` writes, each with the ending of its files; only drawings can compare and count.
_DRAWINGS = {"dot": "dot", "mermaid": "mmd", "svg": "svg", "png": "png"}
_WRITTEN = {**_DRAWINGS, "scxml": "scxml"}


def pictures() -> tuple[str, ...]:
    """The names of the pictures: the whole machine, the customer's way out, the company's own moves."""
    return tuple(PICTURES)


def render(
    picture: str, policy: Policy, format: str, *, old: Policy | None = None, counts: Counts | None = None
) -> bytes:
    """The picture in one of :data:`FORMATS`; SVG, PNG and PDF need the extra ``diagrams``.

    With an ``old`` policy it shows what changes from that one, with ``counts`` how many accounts are where and how
    often each move was taken.

    Raises :class:`InvalidInput` for an unknown picture or format, when the extra is not installed, and for an ``old``
    policy or ``counts`` with the format ``scxml``, which describes one policy.
    """
    if format not in FORMATS:
        raise InvalidInput(f"Unknown format {shown(format)}: the formats are {', '.join(FORMATS)}.")
    if format == "scxml":
        if old is not None or counts is not None:
            raise InvalidInput("SCXML describes one policy and no accounts: choose svg, png, pdf, dot or mermaid.")
        return to_scxml(picture, policy).encode()
    if format == "mermaid":
        return to_mermaid(picture, policy, old=old, counts=counts).encode()
    text = to_dot(picture, policy, old=old, counts=counts)
    if format == "dot":
        return text.encode()
    try:
        import pygraphviz
    except ImportError as error:
        raise InvalidInput(
            f"Drawing {format} needs Graphviz: pip install 'account-lifecycle[diagrams]'. "
            "The formats dot, mermaid and scxml need nothing."
        ) from error
    drawn: bytes = pygraphviz.AGraph(string=text).draw(format=format, prog="nop2")
    return drawn


def write_all(
    folder: Path | str, policy: Policy, *, old: Policy | None = None, counts: Counts | None = None
) -> list[Path]:
    """Every picture as DOT, Mermaid (``.mmd``), SVG, PNG and SCXML, written into ``folder``; the paths written.

    Where an ``old`` policy is compared or ``counts`` are shown, there is no SCXML.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    written = []
    for picture in pictures():
        for format, suffix in (_WRITTEN if old is None and counts is None else _DRAWINGS).items():
            target = Path(folder) / f"{picture}.{suffix}"
            with replacing(target) as file:
                file.write(render(picture, policy, format, old=old, counts=counts))
            written.append(target)
    return written
