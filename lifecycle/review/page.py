"""One file of HTML: the definition, the policy and what was found out about them, with its styles and scripts inside.

Nothing is loaded from anywhere. A policy of the page itself (``Content-Security-Policy``) names the hashes of its own
style and scripts and forbids all else. Whatever the page shows is escaped.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from lifecycle.actor import Role
from lifecycle.decisions import DECISIONS
from lifecycle.diagrams.text import ROLES
from lifecycle.policy import Policy, setting_words
from lifecycle.review.change import differences, reached
from lifecycle.review.clauses import clause_lines
from lifecycle.review.details import granted, move_details, state_details
from lifecycle.review.examples import EXAMPLES, USED
from lifecycle.review.pictures import figures, night
from lifecycle.review.tables import askable, definition, settings
from lifecycle.states import FINAL, Effect, Event, Plan, State

if TYPE_CHECKING:
    from lifecycle.comparison import Comparison
    from lifecycle.impact import Impact
    from lifecycle.review.standing import Standing

_HERE = Path(__file__).parent
_SCRIPTS = ("life.js", "diagrams.js", "timeline.js")


def page(
    policy: Policy,
    *,
    candidate: Policy | None = None,
    verifications: Sequence[Any] = (),
    standing: "Standing | None" = None,
    comparison: "Comparison | None" = None,
    impact: "Impact | None" = None,
    source: str = "",
) -> str:
    """The page as text. What is None or empty is said to be missing.

    ``verifications`` are of the policy, and of the candidate if there is one.
    """
    pictures = figures(policy, candidate)
    moves = move_details(policy)
    style = _file("page.css") + _night({colour for one in pictures for colour in one.colours})
    scripts = [_file(name) for name in _SCRIPTS]
    return _environment().get_template("page.html").render(
        policy=policy,
        source=source,
        candidate=candidate,
        style=Markup(style),
        scripts=[*map(Markup, scripts)],
        csp=_content_policy(style, scripts),
        data=_data(policy, candidate),
        figures=pictures,
        states=state_details(policy),
        moves=moves,
        panels={event: move.id for move in reversed(moves) for event in move.events},
        new={} if candidate is None else {move.id: move for move in move_details(candidate)},
        clauses=clause_lines(policy),
        decisions=DECISIONS,
        rows=_settings(policy, candidate),
        verifications=[*zip(("In force", "Candidate"), verifications, strict=False)],
        broken={one.number for found in verifications for one in found.promises if not one.held},
        elsewhere=_elsewhere(verifications),
        standing=standing,
        comparison=comparison,
        differences=[] if comparison is None else [*differences(comparison)],
        reached=[] if impact is None else [*reached(impact)],
        examples=EXAMPLES,
        asked=_choices(),
        plans=Plan,
    )  # fmt: skip


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "granted": granted, "svg": Markup, "day": _day}
    return environment


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _content_policy(style: str, scripts: Iterable[str]) -> str:
    allowed = {"style-src": [style], "script-src": scripts}
    hashes = {name: " ".join(f"'sha256-{_hash(text)}'" for text in texts) for name, texts in allowed.items()}
    own = "; ".join(f"{name} {value}" for name, value in hashes.items())
    return f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; {own}"


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


def _night(colours: set[str]) -> str:
    """The diagrams' colours on a dark screen; they are attributes in the SVG, which a style overrides."""
    rules = "".join(
        f'svg [{paint}="{colour}"]{{{paint}:{twin}}}' for colour, twin in night(colours) for paint in ("fill", "stroke")
    )
    return f"@media screen and (prefers-color-scheme:dark){{{rules}}}\n"


def _prose(text: str) -> Markup:
    """Text of :mod:`lifecycle.decisions` as HTML: backticks are names, pairs of asterisks what matters most."""
    safe = str(escape(text))
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe))


def _day(instant: Any) -> str:
    return f"{instant:%-d %b %Y}" + ("" if f"{instant:%H:%M}" == "00:00" else f", {instant:%H:%M} UTC")


def _elsewhere(verifications: Sequence[Any]) -> Any:
    """What verifying leaves to tests, if it says so."""
    said = verifications[0].as_json() if verifications else {}
    return said.get("not_checked_here", ())


def _settings(policy: Policy, candidate: Policy | None) -> list[dict[str, Any]]:
    other = candidate or policy
    return [
        {
            "name": setting.name,
            "doc": setting.metadata["doc"],
            "clause": setting.metadata["clause"],
            "value": setting_words(getattr(policy, setting.name)),
            "default": setting_words(setting.default),
            "candidate": setting_words(getattr(other, setting.name)),
            "same": getattr(policy, setting.name) == getattr(other, setting.name),
        }
        for setting in fields(Policy)
    ]


def _choices() -> list[dict[str, Any]]:
    """What can be asked for in a timeline, with its words."""
    asked = [
        {
            "event": event,
            "role": role,
            "words": f"{event.text} ({ROLES[role][2]})",
            "period": _takes_period(event, role),
        }
        for event, role in askable()
    ]
    return [*asked, {"event": USED, "role": Role.OWNER, "words": "The account is used", "period": False}]


def _takes_period(event: Event, role: Role) -> bool:
    """Whether a paid period can be brought along: only by those who may state one."""
    from lifecycle.machine import FACTS

    return role in (Role.BILLING, Role.ADMIN) and "period_ends_at" in FACTS[event]


def _data(policy: Policy, candidate: Policy | None) -> dict[str, Any]:
    named = [("In force", policy), *([] if candidate is None else [("Candidate", candidate)])]
    return {
        "definition": definition(),
        "policies": [{"name": name, "version": one.version, "settings": settings(one)} for name, one in named],
        "words": {
            "events": {event: event.text for event in Event},
            "effects": {effect: effect.text for effect in Effect},
            "states": {state: state.text for state in State},
            "roles": {role: words for role, (_, _, words) in ROLES.items()},
        },
        "examples": [example.as_json() for example in EXAMPLES],
        "used": USED,
        "final": FINAL,
    }
