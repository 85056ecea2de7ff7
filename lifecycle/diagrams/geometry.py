"""Boxes, and the lines between them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from lifecycle.diagrams.places import Picture, Point

_TOP = 56  # where the title ends
_FACING = 20  # points that boxes must have in common, so that an arrow between them runs level


class Box(NamedTuple):
    """A box with its centre and its size, from the top left."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2

    @classmethod
    def spanning(cls, left: float, top: float, right: float, bottom: float) -> "Box":
        return cls((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def path(start: Box, end: Box, corners: tuple[Point, ...] = ()) -> list[Point]:
    """The corners of a line from border to border, made of horizontal and vertical pieces."""
    corners = corners or (_default_corner(start, end),)
    points = [_border(start, corners[0]), *corners, _border(end, corners[-1])]
    return [
        points[0],
        *(b for a, b, c in zip(points, points[1:], points[2:], strict=False) if not _straight(a, b, c)),
        points[-1],
    ]


def _default_corner(start: Box, end: Box) -> Point:
    """On the straight line between two boxes that face each other, else where the line turns."""
    left, right = max(start.left, end.left), min(start.right, end.right)
    top, bottom = max(start.top, end.top), min(start.bottom, end.bottom)
    if right - left > 6 or bottom - top > 6:
        return (left + right) / 2, (top + bottom) / 2
    return end.x, start.y


def _straight(a: Point, b: Point, c: Point) -> bool:
    return a[0] == b[0] == c[0] or a[1] == b[1] == c[1]


def _border(box: Box, towards: Point) -> Point:
    x, y = towards
    if box.left <= x <= box.right:
        return x, box.top if y < box.y else box.bottom
    return (box.left if x < box.x else box.right), y


def spline(points: list[Point], height: float, head: float) -> str:
    """A polyline with rounded corners as Graphviz writes splines; ``head`` leaves room for the arrow."""
    radius = 7.0
    tip = points[-1]
    points = [*points[:-1], _towards(tip, points[-2], head)] if head else points
    knots = [points[0]]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        enter, leave = _towards(corner, before, radius), _towards(corner, after, radius)
        knots += [knots[-1], enter, enter, corner, corner, leave]
    knots += [knots[-1], points[-1], points[-1]]
    text = " ".join(f"{x:g},{height - y:g}" for x, y in knots)
    return f"e,{tip[0]:g},{height - tip[1]:g} {text}" if head else text


def _towards(start: Point, end: Point, distance: float) -> Point:
    dx, dy = end[0] - start[0], end[1] - start[1]
    share = min(distance / (abs(dx) + abs(dy) or 1), 0.5)
    return start[0] + dx * share, start[1] + dy * share


def stretched(
    picture: Picture, boxes: Mapping[str, Box], level: Iterable[tuple[str, str]], factor: float, spread: float
) -> Picture:
    """The picture with its places further apart below the title; ``boxes`` are those that it has now.

    Boxes that a ``level`` arrow joins move together where they would no longer face each other, ``spread`` times as far
    apart as before, and a corner beside a box stays beside it: so arrows run as before.
    """

    def down(y: float) -> float:
        return _TOP + (y - _TOP) * factor

    moved = {name: down(box.y) - box.y for name, box in boxes.items()}
    for together in _joined(pair for pair in level if _facing(boxes[pair[0]], boxes[pair[1]], factor) < _FACING):
        middle = sum(boxes[name].y for name in together) / len(together)
        moved |= {name: down(middle) + (boxes[name].y - middle) * spread - boxes[name].y for name in together}

    def corner(ends: tuple[str, str], point: Point) -> Point:
        x, y = point
        beside = next((end for end in ends if boxes[end].top <= y <= boxes[end].bottom), None)
        return (x, down(y) if beside is None else y + moved[beside])

    left, top, right, bottom = picture.frame or (0, 0, 0, 0)
    return replace(
        picture,
        size=(picture.size[0], down(picture.size[1])),
        places={name: (x, y + moved[name], width) for name, (x, y, width) in picture.places.items() if name in moved},
        corners={ends: tuple(corner(ends, point) for point in points) for ends, points in picture.corners.items()},
        frame=picture.frame and (left, down(top), right, down(bottom)),
    )


def _facing(one: Box, other: Box, factor: float) -> float:
    """How much of their heights two boxes have in common once they are further apart."""
    return min(one.bottom, other.bottom) - max(one.top, other.top) - abs(one.y - other.y) * (factor - 1)


def _joined(pairs: Iterable[tuple[str, str]]) -> list[set[str]]:
    """The names that hang together through the pairs."""
    sets: list[set[str]] = []
    for pair in pairs:
        touching = [one for one in sets if one & set(pair)]
        sets = [one for one in sets if not one & set(pair)] + [set(pair).union(*touching)]
    return sets
