"""The pictures say all that the definition says, escape what they say, and nothing in them overlaps."""

import builtins
import itertools
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lifecycle.actor import Role
from lifecycle.diagrams import FORMATS, pictures, render, to_dot, to_mermaid, to_scxml, write_all
from lifecycle.diagrams.content import cards, group_of, group_title
from lifecycle.diagrams.dot import Drawing
from lifecycle.diagrams.geometry import Box, path
from lifecycle.diagrams.places import LIVE_BOX, PICTURES
from lifecycle.diagrams.text import ROLES, dot_text, html_text, mermaid_text
from lifecycle.errors import InvalidInput
from lifecycle.machine import TIMERS, TRANSITIONS
from lifecycle.policy import Policy
from lifecycle.states import LIVE, Event, State

POLICY = Policy()
COMMITTED = Path(__file__).parent.parent / "diagrams"
POLICIES = [
    POLICY,
    Policy(deletion_clock="end_of_access"),
    Policy(company_cancellation="approval"),
    Policy(deletion_after="1000 days 5 hours 30 minutes", purge_after="1100 days 11 hours 11 seconds"),
]
HOSTILE = 'a"b\\c\nd<e>&f\\" -> {g} | [h] ; #35; : %% `i` \x00\x1b'


def lines_of(drawing: Drawing, name: str) -> str:
    return " ".join(line.text for line in drawing.texts[name])


# --- Completeness --------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TRANSITIONS, ids=repr)
def test_every_transition_is_in_the_whole_picture(row) -> None:
    drawing = Drawing(PICTURES["lifecycle"], POLICY)
    moving = [(s, row.dest) for s in row.sources if row.enters(s) is not s]
    arrows = {(start, end) for start, end, *_ in drawing.arrows()}
    for source, dest in moving:
        card = next(c for c in drawing.cards if row in c.rows and source in c.sources)
        assert row.event in card.name.split("+")
        assert {(source, card.name), (LIVE_BOX, card.name)} & arrows
        assert {(card.name, dest), (card.name, LIVE_BOX)} & arrows
    if len(moving) < len(row.sources):
        assert f"{row.event} in" in lines_of(drawing, "stays")
    if row.bracket:
        boxes = [c.name for c in drawing.cards if row in c.rows] if moving else ["stays"]
        assert all(f"[{row.bracket.name}]" in lines_of(drawing, box) for box in boxes)


@pytest.mark.parametrize("row", TRANSITIONS, ids=repr)
def test_every_transition_is_in_the_whole_mermaid_text(row) -> None:
    text = to_mermaid("lifecycle", POLICY)
    for source in row.sources:
        if row.enters(source) is not source:
            assert re.search(rf"^    {source} --> {row.dest} : .*\b{row.event} ", text, re.MULTILINE)
        else:
            note = text.split(f"note right of {source}\n")[1].split("end note")[0]
            assert f"        {row.event} " in note


@pytest.mark.parametrize("row", TIMERS, ids=repr)
def test_a_timed_move_names_its_clause_and_a_time(row) -> None:
    drawing = Drawing(PICTURES["lifecycle"], POLICY)
    text = lines_of(drawing, row.event)
    assert f"· {row.clauses[0]}" in text
    assert re.search(r"\d+ days after|at the end of access", text)


def test_the_deletion_is_labelled_with_its_days_its_notice_and_what_holds_it_back() -> None:
    text = lines_of(Drawing(PICTURES["way-out"], POLICY), "delete_content")
    assert "30 days after the cancellation, not before the end of access · delete-30" in text
    assert "with 7 days of notice" in text
    assert "legal hold" in text
    assert "two steps" in text


def test_durations_follow_the_policy() -> None:
    changed = Policy(unpaid_cancellation_after=timedelta(days=99))
    for text in (to_dot("company", changed), to_mermaid("company", changed)):
        assert "99 days after the freeze" in text
        assert "180 days" not in text


def test_in_approval_mode_the_company_moves_wait_for_an_admin() -> None:
    drawing = Drawing(PICTURES["company"], Policy(company_cancellation="approval"))
    assert "waits for an admin" in lines_of(drawing, "cancel_unpaid")
    assert [line.roles for line in drawing.texts["cancel_unpaid"] if line.roles] == [(Role.ADMIN,)]
    assert ROLES[Role.ADMIN][0] in next(
        line for line in to_dot("company", drawing.values).splitlines() if '"cancel_unpaid" ->' in line
    )


def test_only_what_destroys_is_drawn_as_irreversible() -> None:
    thick = [line for line in to_dot("lifecycle", POLICY).splitlines() if 'penwidth="4"' in line]
    ends = [re.findall(r'"([^"]+)" -> "([^"]+)"', line)[0] for line in thick]
    assert {end for pair in ends for end in pair if end in set(State)} == {
        "access_revoked",
        "content_deleted",
        "purged",
    }


def test_groups_say_what_the_customer_has() -> None:
    assert {state: group_title(group_of(state)) for state in State} == {
        State.TRIAL: "Full access",
        State.ON_HOLD: "Limited access",
        State.ACTIVE: "Full access",
        State.FROZEN: "Limited access",
        State.CANCEL_PENDING: "Full access",
        State.ACCESS_REVOKED: "No access",
        State.CONTENT_DELETED: "Content gone",
        State.PURGED: "Content gone",
    }


def test_kinds_of_actors_differ_in_colour_and_those_that_lead_a_move_in_line_too() -> None:
    assert set(ROLES) == {way.role for row in TRANSITIONS for way in row.by}
    assert len({colour for colour, _, _ in ROLES.values()}) == len(ROLES)
    leading = {card.role(POLICY) for card in cards()}
    assert len({ROLES[role][1] for role in leading}) == len(leading)


def test_cards_have_names_of_their_own() -> None:
    for picture in PICTURES.values():
        names = [card.name for card in cards(picture.events)]
        assert len(names) == len(set(names))


# --- Geometry ------------------------------------------------------------------------------------


def overlap(a: Box, b: Box, margin: float = 4) -> bool:
    return abs(a.x - b.x) * 2 < a.width + b.width + margin and abs(a.y - b.y) * 2 < a.height + b.height + margin


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.version)
@pytest.mark.parametrize("name", pictures())
def test_no_box_overlaps_another_or_leaves_the_picture(name: str, policy: Policy) -> None:
    drawing = Drawing(PICTURES[name], policy)
    boxes = {key: drawing.boxes[key] for key in drawing.texts}
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        assert not overlap(a, b), (one, other)
    width, height = drawing.picture.size
    for key, box in boxes.items():
        assert box.left >= 0, key
        assert box.top >= 0, key
        assert box.right <= width, key
        assert box.bottom <= height, key


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.version)
@pytest.mark.parametrize("name", pictures())
def test_no_arrow_runs_through_a_box(name: str, policy: Policy) -> None:
    drawing = Drawing(PICTURES[name], policy)
    for start, end, _, points, _ in drawing.arrows():
        for (x1, y1), (x2, y2) in itertools.pairwise(points):
            assert x1 == x2 or y1 == y2, (start, end)
            piece = Box.spanning(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            for key in set(drawing.texts) - {start, end}:
                assert not overlap(piece, drawing.boxes[key], 2), (start, end, key)


@pytest.mark.parametrize("name", pictures())
def test_no_two_arrows_run_on_top_of_each_other(name: str) -> None:
    pieces = [
        (start, end, Box.spanning(min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])))
        for start, end, _, points, _ in Drawing(PICTURES[name], POLICY).arrows()
        for a, b in itertools.pairwise(points)
    ]
    for (s1, e1, a), (s2, e2, b) in itertools.combinations(pieces, 2):
        if (s1, e1) != (s2, e2) and (a.width == b.width == 0 or a.height == b.height == 0):
            assert not overlap(a, b, 5), (s1, e1, s2, e2)


@pytest.mark.parametrize("name", pictures())
def test_the_frame_holds_the_states_that_are_not_cancelled_and_no_others(name: str) -> None:
    drawing = Drawing(PICTURES[name], POLICY)
    if drawing.picture.frame:
        inside = {
            state
            for state in State
            if state in drawing.boxes and overlap(drawing.boxes[state], drawing.boxes[LIVE_BOX])
        }
        assert inside == set(LIVE)


@pytest.mark.parametrize("name", pictures())
def test_a_group_holds_its_own_states_only(name: str) -> None:
    drawing = Drawing(PICTURES[name], POLICY)
    for (group, live), band in drawing.groups().items():
        for state in State:
            if state in drawing.boxes and overlap(band, drawing.boxes[state]):
                assert (group_of(state), state in LIVE) == (group, live)


def test_a_line_between_boxes_that_do_not_face_each_other_turns_once() -> None:
    assert path(Box(50, 50, 20, 20), Box(200, 300, 20, 20)) == [(60, 50), (200, 50), (200, 290)]


def test_every_state_and_move_of_the_whole_picture_has_a_place() -> None:
    places = PICTURES["lifecycle"].places
    assert {*State, *(card.name for card in cards())} <= set(places)


def test_what_has_no_place_yet_is_drawn_below_the_picture() -> None:
    whole = PICTURES["lifecycle"]
    places = {name: place for name, place in whole.places.items() if name not in (State.FROZEN, "thaw")}
    drawing = Drawing(replace(whole, places=places), POLICY)
    frozen, thaw = drawing.boxes[State.FROZEN], drawing.boxes["thaw"]
    assert min(frozen.top, thaw.top) > drawing.boxes[State.PURGED].bottom
    assert not overlap(frozen, thaw)


# --- Escaping ------------------------------------------------------------------------------------


def test_hostile_text_stays_inside_its_dot_string() -> None:
    quoted = dot_text(HOSTILE)
    assert re.fullmatch(r'"(?:[^"\\\n]|\\["\\])*"', quoted)
    assert quoted.count('\\"') == HOSTILE.count('"')


def test_hostile_text_is_plain_text_to_html_like_labels() -> None:
    escaped = html_text(HOSTILE)
    (text,) = ElementTree.fromstring(f"<td>{escaped}</td>").itertext()
    assert text == HOSTILE.replace("\n", " ").replace("\x00", " ").replace("\x1b", " ")


def test_hostile_text_holds_nothing_that_mermaid_reads_as_syntax() -> None:
    escaped = mermaid_text(HOSTILE)
    assert not set('"\\<>&%{}`|\n:') & set(escaped)
    plain = re.sub(r"#(\d+);", lambda code: chr(int(code[1])), escaped)
    assert plain == HOSTILE.replace("\n", " ").replace("\x00", " ").replace("\x1b", " ")


def test_graphviz_prints_hostile_text_letter_by_letter() -> None:
    pygraphviz = pytest.importorskip("pygraphviz")
    dot = f"digraph {{ {dot_text(HOSTILE)} [label=<<b>{html_text(HOSTILE)}</b>>]; }}"
    svg = ElementTree.fromstring(pygraphviz.AGraph(string=dot).draw(format="svg", prog="dot"))
    printed = "".join(text for node in svg.iter("{http://www.w3.org/2000/svg}text") for text in node.itertext())
    assert "".join(printed.split()) == "".join(c for c in HOSTILE if c.isprintable() and c != " ")


# --- Output --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", pictures())
def test_committed_pictures_are_those_of_the_definition(name: str) -> None:
    hint = "the definition changed: draw anew with write_all('diagrams', Policy())"
    assert (COMMITTED / f"{name}.dot").read_text(encoding="utf-8") == to_dot(name, POLICY), hint
    assert (COMMITTED / f"{name}.mmd").read_text(encoding="utf-8") == to_mermaid(name, POLICY), hint
    assert (COMMITTED / f"{name}.scxml").read_text(encoding="utf-8") == to_scxml(name, POLICY), hint


def test_everything_is_written_into_a_new_folder(tmp_path: Path) -> None:
    pytest.importorskip("pygraphviz")
    written = write_all(tmp_path / "new" / "folder", POLICY)
    names = {f"{name}.{suffix}" for name in pictures() for suffix in ("dot", "mmd", "svg", "png", "scxml")}
    assert {path.name for path in written} == names
    assert all(path.stat().st_size > 0 for path in written)


@pytest.mark.parametrize(
    ("format", "start"),
    [
        ("svg", b"<?xml"),
        ("png", b"\x89PNG"),
        ("pdf", b"%PDF"),
        ("dot", b"digraph"),
        ("mermaid", b"stateDiagram-v2"),
        ("scxml", b"<?xml"),
    ],
)
def test_each_format_is_what_it_says(format: str, start: bytes) -> None:
    pytest.importorskip("pygraphviz")
    assert format in FORMATS
    assert render("way-out", POLICY, format).startswith(start)


def test_graphviz_finds_no_label_too_large_for_its_box(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pygraphviz")
    for name in pictures():
        render(name, POLICY, "svg")
    assert "too small" not in capfd.readouterr().err


def test_without_graphviz_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: object) -> object:
        if name == "pygraphviz":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InvalidInput, match=r"pip install 'account-lifecycle\[diagrams\]'"):
        render("lifecycle", POLICY, "svg")
    assert render("lifecycle", POLICY, "dot")
    assert render("lifecycle", POLICY, "mermaid")


def test_an_unknown_picture_or_format_is_answered_with_those_there_are() -> None:
    with pytest.raises(InvalidInput, match="lifecycle, way-out, company"):
        to_dot("x", POLICY)
    with pytest.raises(InvalidInput, match="lifecycle, way-out, company"):
        to_mermaid("x", POLICY)
    with pytest.raises(InvalidInput, match="svg, png, pdf, dot, mermaid"):
        render("lifecycle", POLICY, "gif")


def test_the_customers_way_out_shows_every_step_and_the_way_back() -> None:
    drawing = Drawing(PICTURES["way-out"], POLICY)
    moves = [Event.CANCEL, Event.REVOKE_ACCESS, Event.DELETE_CONTENT, Event.PURGE_BACKUPS, Event.REACTIVATE]
    assert set(moves) == {card.name for card in drawing.cards}
