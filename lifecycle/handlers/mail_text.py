"""What a mail says: templates, filled with the dates of a task and the words of the policy."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError, select_autoescape

from lifecycle.characters import is_harmful, is_piled
from lifecycle.errors import InvalidInput
from lifecycle.task import DATES, Task, Undeliverable

#: Effects that address the owners, each with the dates that its mail must say.
TO_OWNERS: Mapping[str, tuple[str, ...]] = {
    "remind_trial_end": ("promised",),
    "remind_company_cancellation": ("promised",),
    "remind_access_end": ("access_ends_at", "delete_content_at", "purge_backups_by"),
    "remind_deletion": ("promised", "purge_backups_by"),
    "confirm_cancellation": ("access_ends_at", "delete_content_at", "purge_backups_by"),
    "contact_owners": (),
    "verify_owner": ("confirm_until",),
    "tell_owner_change": (),
}
#: Effects that address the company's own people.
TO_STAFF: Mapping[str, tuple[str, ...]] = {
    "stop_billing": ("access_ends_at",),
    "resume_billing": (),
    "review_refund": ("access_ends_at",),
}
_MUST_SAY: Mapping[str, tuple[str, ...]] = {**TO_OWNERS, **TO_STAFF}
_DATES = (*DATES, "confirm_until")

#: Names of companies are cut here.
LONGEST_NAME = 100
WIDTH = 72

_TEMPLATES = Path(__file__).parent / "templates"
#: What mail programs make clickable: whoever opens an account chooses its name, and whom we write to.
_LINK = re.compile(r"://|\bwww\.", re.IGNORECASE)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


class Mail(NamedTuple):
    """A mail that only lacks its addressee."""

    subject: str
    text: str
    html: str


class Templates:
    """Writes mails; whatever is wrong with a template is found when it is loaded, not when a mail is due."""

    def __init__(self, folder: Path | None, given: Mapping[str, Any]) -> None:
        self._environment = _ours() if folder is None else _environment(folder, _TEMPLATES)
        self._given = given
        if folder is not None:
            _check_names(folder)
        for effect, dates in _MUST_SAY.items():
            self._check(effect, dates)

    def mail(self, effect: str, values: Mapping[str, Any]) -> Mail:
        """The mail of an effect, or :class:`Undeliverable` if its templates can't be filled."""
        try:
            return self._write(effect, values)
        except Exception as error:  # its message may repeat what the mail was to say, so it stays out
            kind = type(error).__name__
            raise Undeliverable(f"The templates of {effect} can't be filled ({kind}); mend them, then retry.") from None

    def _write(self, effect: str, values: Mapping[str, Any]) -> Mail:
        values = {**self._given, **values}
        written = self._environment.get_template(f"{effect}.txt").render(values)
        first, _, text = written.partition("\n")
        label, _, subject = first.partition(":")
        if label != "Subject" or not subject.strip():
            raise ValueError("its first line must be such as 'Subject: Your account is cancelled'")
        subject = subject.strip()
        html = self._environment.get_template(f"{effect}.html").render(values, subject=subject)
        return Mail(subject, _wrapped(text), html)

    def _check(self, effect: str, dates: Iterable[str]) -> None:
        """Write a mail with made-up values, and again with each changed that it must say: both parts must change."""
        try:
            self._write(effect, _SAMPLE)
            needed = {name: value for name, value in _SAMPLE.items() if name not in _DATES or name in dates}
            mail = self._write(effect, needed)
            changed = {name: self._write(effect, {**needed, name: needed[name] + _SHIFT}) for name in dates}
            if effect == "verify_owner":  # without either nobody could confirm
                changed |= {name: self._write(effect, {**needed, name: f"other {name}"}) for name in _WAYS}
        except Exception as error:
            raise InvalidInput(f"The templates of {effect} can't be filled: {error}; mend them.") from error
        for name, other in changed.items():
            for part, before, after in (("txt", mail.text, other.text), ("html", mail.html, other.html)):
                if before == after:
                    raise InvalidInput(f"{effect}.{part} must say {name}: put {{{{ {name} }}}} into it.")


def _environment(*folders: Path) -> Environment:
    """Templates of these folders; a name is looked up in the first one first."""
    environment = Environment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        autoescape=select_autoescape(["html"]),
        finalize=_in_words,
        auto_reload=False,  # what was checked is what is sent
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["day"] = _day
    return environment


@cache
def _ours() -> Environment:
    """Compiled once, however many handlers there are."""
    return _environment(_TEMPLATES)


_SAMPLE: Mapping[str, Any] = {
    "company": "Sample Ltd",
    "account_id": "sample",
    "reference": "sample:1:effect",
    "promised": datetime(2030, 1, 31, tzinfo=UTC),
    "access_ends_at": datetime(2030, 1, 10, tzinfo=UTC),
    "delete_content_at": datetime(2030, 1, 31, tzinfo=UTC),
    "purge_backups_by": datetime(2030, 3, 1, tzinfo=UTC),
    "confirm_until": datetime(2030, 1, 3, tzinfo=UTC),
    "token": "sample-token",
    "confirm_url": None,
    "requester": None,
    "change": "add_owner",
    "changed_owner": "sample@example.com",
}
#: How a cancellation is confirmed.
_WAYS = ("token", "confirm_url")
#: Seen however a template writes its dates.
_SHIFT = timedelta(days=1, hours=1, minutes=1)


def _check_names(folder: Path) -> None:
    """A template under a name that nobody asks for would be left out without a word."""
    if not folder.is_dir():
        raise InvalidInput(f"The folder of templates {folder} is not there; correct the path.")
    known = {path.name for path in _TEMPLATES.iterdir()}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".txt", ".html") and not path.name.startswith(("_", ".")) and path.name not in known:
            raise InvalidInput(
                f"The template {path.name} replaces none: begin its name with _ if others include it, "
                f"or choose from {', '.join(sorted(known))}."
            )


def told(task: Task) -> dict[str, Any]:
    """What the task gives a template, or :class:`Undeliverable` where something is missing or malformed."""
    company = task.payload.get("company")
    if not isinstance(company, str) or not company.strip() or holds_controls(company):
        raise Undeliverable("The company's name is missing, or holds control characters; correct it, then retry.")
    if _LINK.search(company):
        company = task.account_id
    elif len(company) > LONGEST_NAME:
        company = company[: LONGEST_NAME - 1] + "…"
    dates = {name: _instant(name, said) for name in _DATES if (said := task.payload.get(name)) is not None}
    missing = [name for name in _MUST_SAY[task.effect] if name not in dates]
    if missing:
        raise Undeliverable(f"{task.effect} can't be written without {' and '.join(missing)}; look at the account.")
    people = {name: _nobodys_link(task.payload.get(name)) for name in ("requester", "changed_owner")}
    change = {"change": task.payload.get("change"), **people}
    return {"company": company, "account_id": task.account_id, "reference": task.idempotency_key, **change, **dates}


def told_alone(task: Task) -> dict[str, dict[str, Any]]:
    """What only one addressee is told, by their addresses: how to confirm. :class:`Undeliverable` if somebody can't."""
    if task.effect != "verify_owner":
        return {}
    ways = {one["owner"]: {name: one[name] for name in _WAYS} for one in task.payload.get("confirmations", ())}
    if not ways or set(ways) != set(task.payload.get("owners", ())):
        raise Undeliverable("verify_owner can't be written: somebody has no token; ask for the cancellation again.")
    return ways


def _nobodys_link(address: object) -> str | None:
    """An address as a mail may show it."""
    if not isinstance(address, str) or holds_controls(address):
        return None
    return "somebody" if _LINK.search(address) else address


def _instant(name: str, said: object) -> datetime:
    try:
        at = datetime.fromisoformat(str(said))
    except ValueError:
        raise Undeliverable(f"{name} is not a date in ISO 8601.") from None
    if at.tzinfo is None:
        raise Undeliverable(f"{name} has no time zone.")
    return at.astimezone(UTC)


def _in_words(value: object) -> object:
    """Dates as people write them. Seconds are dropped: what is said is never later than what is meant."""
    if value is None:
        raise UndefinedError("a value is None")
    return f"{_day(value)}, {value:%H:%M} UTC" if isinstance(value, datetime) else value


def _day(value: datetime) -> str:
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def _wrapped(text: str) -> str:
    """Paragraphs and list items in lines of :data:`WIDTH`; indented lines stay as they are."""
    blocks = re.split(r"\n\s*?\n+", text.strip("\n"))
    return "\n\n".join(block.rstrip() if block.startswith(" ") else _filled(block) for block in blocks) + "\n"


def _filled(block: str) -> str:
    items = re.split(r"\n(?=- )", block)
    return "\n".join(
        textwrap.fill(
            item,
            WIDTH,
            subsequent_indent="  " if item.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for item in items
    )


def holds_controls(text: str) -> bool:
    """Whether something in it ends a line, can't be seen, turns the direction of writing, or covers other lines."""
    return any(map(is_harmful, text)) or is_piled(text)
