"""What must happen, written by hand from the policy decisions and not from the machine.

``TABLE`` maps every event to its lines: where the account is, who may fire the event with which facts,
and what then happens. Whatever the lines do not allow must be refused, and the lines say how: an event
without a line for the account does not leave its state; a kind of actor that no line names for this
account is not authorised; everything else is refused by a guard.

A selector is a list of words that must all hold: ``"cancel_pending|access_revoked !erasing"`` holds
where one of the first two words is there and ``erasing`` is not.
"""

from dataclasses import dataclass
from functools import cache

SAME, REFUSED = "same", "refused"


@cache
def selects(selector: str, words: frozenset[str]) -> bool:
    """Whether the words of an account, or of a request, satisfy the selector."""
    return all(
        any((word[1:] not in words) if word[0] == "!" else (word in words) for word in alternatives.split("|"))
        for alternatives in selector.split()
    )


@dataclass(frozen=True)
class Line:
    """``where`` selects accounts, ``who`` maps actors to the facts they need, ``outcome`` is the destination."""

    where: str
    who: dict[str, str]
    outcome: str

    def admits(self, actor: str, facts: frozenset[str]) -> bool:
        """One who speaks for somebody, whoever it is, may do what their kind may do alone."""
        names = (actor, actor.partition(" for ")[0])
        return self.outcome != REFUSED and any(name in self.who and selects(self.who[name], facts) for name in names)

    def names_kind(self, actor: str) -> bool:
        return any(KINDS[actor] == KINDS[name] for name in self.who)


#: Everybody who may ask, each with their kind.
KINDS = {
    "owner": "owner",
    "stranger": "owner",
    "support": "support",
    "support for owner": "support",
    "support for stranger": "support",
    "support for another company": "support",
    "admin": "admin",
    "admin for owner": "admin",
    "billing": "billing",
    "system": "system",
    "system for owner": "system",
}

ANYWHERE_BUT_PURGED = "!purged"
LIVE = "trial|on_hold|active|frozen"
OUT = "cancel_pending|access_revoked"

TIMER = {"system": ""}
BY_ADMIN = {"admin": "reason"}
BY_BILLING = {"billing": ""}
#: Timers of the company: by themselves, or by an admin where the policy wants approval.
BY_COMPANY = {"system": "automatic", "admin": "approval"}
#: A period comes from billing, or from an admin with a reason. ``later`` than everything on file, or
#: ``soon``: in the future, but earlier than a running period.
PAYS_ANY = {"billing": "later|soon", "admin": "later|soon reason"}
PAYS_MORE = {"billing": "later", "admin": "later reason"}


def comeback(where: str, outcome: str) -> list[Line]:
    """Who may bring an account back without a payment; facts about a period are not theirs to state."""
    return [
        Line(
            f"{where} !terminated", dict.fromkeys(("owner", "support for owner", "admin for owner"), "!period"), outcome
        ),
        Line(f"{where} company|terminated", {"admin": "!period"}, outcome),
    ]


def comeback_paid(where: str, period: str, outcome: str) -> list[Line]:
    """Who may bring an account back with a paid period."""
    admin = f"{period} reason"
    return [
        Line(f"{where} !terminated", {"billing": period, "admin for owner": admin}, outcome),
        Line(f"{where} company|terminated", {"admin": admin}, outcome),
    ]


BACK = f"{OUT} !erasing"

TABLE: dict[str, list[Line]] = {
    "expire_trial": [
        Line("trial trial_over", TIMER, "on_hold"),
        Line("trial trial_runs", TIMER, REFUSED),
    ],
    "upgrade": [
        Line("trial|on_hold", PAYS_ANY, "active"),
        Line("active free !prepaid", PAYS_ANY, "active"),
        Line("active free prepaid", PAYS_MORE, "active"),
    ],
    "downgrade": [
        Line("trial", {"owner": "", "support for owner": "", "billing": ""}, "active"),
        Line("active paid", {"owner": "", "support for owner": "", "billing": ""}, "active"),
    ],
    "renew": [
        Line("active paid lapsed", {"billing": "later|soon"}, "active"),
        Line("active paid prepaid", {"billing": "later"}, "active"),
    ],
    "freeze": [
        Line("active paid lapsed", BY_BILLING, "frozen"),
        Line("active paid prepaid", BY_BILLING, REFUSED),
    ],
    "thaw": [
        Line("frozen billing lapsed", PAYS_ANY, "active"),
        Line("frozen billing prepaid", {"billing": "!period", "admin": "!period"}, "active"),
        Line("frozen billing prepaid", PAYS_MORE, "active"),
    ],
    "suspend": [
        Line("trial|on_hold|active", BY_ADMIN, "frozen"),
        Line("frozen billing", BY_ADMIN, "frozen"),
        Line(OUT, BY_ADMIN, "access_revoked"),
    ],
    "lift_suspension": [
        Line("frozen from_trial|from_hold prepaid", BY_ADMIN, "active"),
        Line("frozen from_trial trial_runs !prepaid", BY_ADMIN, "trial"),
        Line("frozen from_trial trial_over !prepaid", BY_ADMIN, "on_hold"),
        Line("frozen from_hold !prepaid", BY_ADMIN, "on_hold"),
        Line("frozen from_free", BY_ADMIN, "active"),
        Line("frozen from_paid prepaid", BY_ADMIN, "active"),
        Line("frozen from_paid lapsed", BY_ADMIN, "frozen"),
        Line("frozen from_unpaid lapsed", BY_ADMIN, "frozen"),
        Line("frozen from_unpaid prepaid", BY_ADMIN, "active"),
    ],
    "record_payment": [
        Line(f"{OUT} prepaid", {"billing": "later"}, SAME),
        Line(f"{OUT} lapsed", {"billing": "later|soon"}, SAME),
        Line(f"{OUT} !prepaid !lapsed", {"billing": "period"}, SAME),
        Line("frozen suspension prepaid", {"billing": "later"}, SAME),
        Line("frozen suspension lapsed", {"billing": "later|soon"}, SAME),
        Line("frozen suspension !prepaid !lapsed", {"billing": "period"}, SAME),
    ],
    "record_refund": [
        Line(OUT, BY_BILLING, SAME),
    ],
    "cancel": [
        Line(LIVE, {"owner": "", "support for owner": "", "admin for owner": ""}, "cancel_pending"),
    ],
    "cancel_expired_trial": [
        Line("on_hold noticed", BY_COMPANY, "cancel_pending"),
        Line("on_hold !noticed", BY_COMPANY, REFUSED),
    ],
    "cancel_unpaid": [
        Line("frozen billing noticed", BY_COMPANY, "cancel_pending"),
        Line("frozen billing !noticed", BY_COMPANY, REFUSED),
    ],
    "cancel_inactive": [
        Line("active free noticed", BY_COMPANY, "cancel_pending"),
        Line("active free !noticed", BY_COMPANY, REFUSED),
    ],
    "revoke_access": [
        Line("cancel_pending access_over", TIMER, "access_revoked"),
        Line("cancel_pending access_runs", TIMER, REFUSED),
    ],
    "terminate": [
        Line(f"{LIVE}|{OUT}", BY_ADMIN, "access_revoked"),
    ],
    "reactivate": [
        *comeback(f"{BACK} from_suspension", "frozen"),
        *comeback(f"{BACK} !from_suspension prepaid", "active"),
        *comeback(f"{BACK} from_paid|from_unpaid lapsed !old", "frozen"),
        *comeback(f"{BACK} from_free !prepaid", "active"),
        *comeback(f"{BACK} from_trial trial_runs", "trial"),
        *comeback(f"{BACK} from_trial|from_hold !trial_runs !old", "on_hold"),
        *comeback(f"{BACK} from_hold|from_unpaid old", REFUSED),
        *comeback_paid(f"{BACK} from_suspension prepaid", "later", "frozen"),
        *comeback_paid(f"{BACK} from_suspension lapsed", "later|soon", "frozen"),
        *comeback_paid(f"{BACK} !from_suspension prepaid", "later", "active"),
        *comeback_paid(f"{BACK} !from_suspension !prepaid", "later|soon", "active"),
        Line(f"{OUT}", dict.fromkeys(("owner", "support", "admin", "billing"), ""), REFUSED),
    ],
    "delete_content": [
        Line("access_revoked erasing", {"system": "receipt"}, "content_deleted"),
        Line("access_revoked !erasing", TIMER, REFUSED),
    ],
    "purge_backups": [
        Line("content_deleted purging", {"system": "receipt"}, "purged"),
        Line("content_deleted !purging", TIMER, REFUSED),
    ],
    "place_hold": [
        Line(ANYWHERE_BUT_PURGED, BY_ADMIN, SAME),
    ],
    "release_hold": [
        Line(f"{ANYWHERE_BUT_PURGED} held", BY_ADMIN | {"system": "reason"}, SAME),
        Line(f"{ANYWHERE_BUT_PURGED} !held", BY_ADMIN | {"system": "reason"}, REFUSED),
    ],
    "contact_owners": [
        Line(ANYWHERE_BUT_PURGED, {"support": "reason", "admin": "reason", "system": "reason"}, SAME),
    ],
    "request_cancellation": [
        Line(LIVE, {"system for owner": ""}, SAME),
    ],
    "add_owner": [
        Line(
            ANYWHERE_BUT_PURGED,
            {**dict.fromkeys(("owner", "support for owner"), "another"), "admin": "another reason"},
            SAME,
        ),
    ],
    "remove_owner": [
        Line(
            ANYWHERE_BUT_PURGED, {**dict.fromkeys(("owner", "support for owner"), "one"), "admin": "one reason"}, SAME
        ),
    ],
}
