"""The diagrams as parts of a page: inline SVG whose states and moves can be clicked and reached with the keyboard."""

import colorsys
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass

from lifecycle.diagrams import PICTURES, render
from lifecycle.policy import Policy

_SVG = "http://www.w3.org/2000/svg"
_PREFIXES = ("state-", "move-")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_NAMED = {"white": "#ffffff", "black": "#000000"}


@dataclass(frozen=True)
class Figure:
    """One picture: its name, its title, and an ``<svg>`` element without names of its own colours' dark twins."""

    name: str
    title: str
    svg: str
    colours: frozenset[str]


def figures(policy: Policy, candidate: Policy | None = None) -> list[Figure]:
    """Every picture under the policy; with a candidate, what changes from the policy to that one."""
    shown, old = (policy, None) if candidate is None else (candidate, policy)
    return [_figure(name, one.title, render(name, shown, "svg", old=old)) for name, one in PICTURES.items()]


def _figure(name: str, title: str, drawn: bytes) -> Figure:
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(drawn)
    for attribute in ("width", "height"):
        root.attrib.pop(attribute, None)
    root.set("role", "group")
    root.set("aria-label", title)
    colours: set[str] = set()
    for element in root.iter():
        for attribute in ("fill", "stroke"):
            value = element.get(attribute)
            if value is not None:
                element.set(attribute, _NAMED.get(value, value))
                colours |= set(_COLOUR.findall(element.get(attribute) or ""))
        if element.tag == _tag("g"):
            _make_clickable(element, name)
    return Figure(name, title, ElementTree.tostring(root, encoding="unicode"), frozenset(colours))


def _tag(name: str) -> str:
    return f"{{{_SVG}}}{name}"


def _make_clickable(group: ElementTree.Element, picture: str) -> None:
    """States and cards become buttons, arrows belong to their cards, and ids stay unique on the page."""
    for title in group.findall(_tag("title")):  # names of boxes, which browsers would show beside the pointer
        group.remove(title)
    given = group.attrib.pop("id", "")
    classes = group.get("class", "").split()
    if given.startswith(_PREFIXES):
        kind, _, words = given.partition("-")
        group.attrib |= {
            "id": f"{picture}-{given}",
            "data-detail": given,
            "class": f"node {kind}",
            "tabindex": "0",
            "role": "button",
            "aria-label": f"{kind} {words}",
            "aria-pressed": "false",
        }
    of_a_move = [one for one in classes if one.startswith(_PREFIXES)]
    if "edge" in classes and of_a_move:
        group.attrib |= {"data-detail": of_a_move[0], "class": "edge"}
        for line in group.findall(_tag("path")):  # a thin line is hard to hit
            hit = deepcopy(line)
            hit.attrib = {"d": line.get("d", ""), "class": "hit", "fill": "none"}
            group.append(hit)


def night(colours: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each colour with its twin for a dark page: the same hue, light and dark exchanged."""
    for colour in sorted(colours):
        red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
        twin = colorsys.hls_to_rgb(hue, 0.10 + (1 - light) * 0.84, saturation * 0.9)
        yield colour, "#" + "".join(f"{round(part * 255):02x}" for part in twin)
