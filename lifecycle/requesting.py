"""How somebody asks for a cancellation: by which channel, within which limits, and what they are told."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from lifecycle.errors import InvalidInput
from lifecycle.policy import duration_words

#: What stands for the token in the setting ``confirm_url``.
TOKEN = "{token}"
_DAY = timedelta(days=1)


class Channel(StrEnum):
    """Where a request for cancellation came in. It is part of the history, so it holds no free text."""

    EMAIL = "email"
    PHONE = "phone"
    CHAT = "chat"
    FORM = "form"
    LETTER = "letter"
    OTHER = "other"


@dataclass(frozen=True)
class RequestSettings:
    """Limits on requests for cancellation (clause owner-only). Out of bounds raises :class:`InvalidInput`.

    So many requests are acted upon ``per_requester`` (the address that they state) in 24 hours, and so many messages
    of each kind are written ``per_account``. A token counts for ``token_lifetime`` from its mail on. ``confirm_url`` is
    a page of one's own, with ``{token}`` where the token goes. Requests are kept for ``retention``.
    """

    per_requester: int = 5
    per_account: int = 3
    token_lifetime: timedelta = timedelta(hours=48)
    retention: timedelta = timedelta(days=30)
    confirm_url: str | None = None

    def __post_init__(self) -> None:
        for name in ("per_requester", "per_account"):
            if not 1 <= getattr(self, name) <= 1000:
                raise InvalidInput(f"{name} must lie between 1 and 1,000 in a day, not {getattr(self, name)}.")
        for name, least, most in (
            ("token_lifetime", timedelta(minutes=10), 7 * _DAY),
            ("retention", _DAY, 365 * _DAY),  # at least as long as limits look back
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                bounds = f"between {duration_words(least)} and {duration_words(most)}"
                raise InvalidInput(f"{name} must lie {bounds}, not {duration_words(value)}.")
        url = self.confirm_url
        if url is not None and not (url.startswith("https://") and url.count(TOKEN) == 1 and url.isprintable()):
            raise InvalidInput(
                f"confirm_url must begin with https:// and have {TOKEN} once, such as "
                f"https://example.com/confirm?token={TOKEN}."
            )

    def url_of(self, token: str) -> str | None:
        """Where the token is confirmed by a click, if such a page is configured."""
        return None if self.confirm_url is None else self.confirm_url.replace(TOKEN, token)


@dataclass(frozen=True, slots=True)
class CancellationRequestReceived:
    """The answer to a request for cancellation: the same whatever matches, so that it gives nobody away."""

    message: str = (
        "The request was received. If it names an account and one of its owners, a message with the next step goes "
        "to the address on file; nothing is cancelled before that is confirmed."
    )


RECEIVED = CancellationRequestReceived()
