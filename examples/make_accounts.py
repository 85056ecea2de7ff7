"""Writes accounts.csv: a company's customers on 1 January 2026, invented, in every state of their life.

Run it from anywhere; it writes the same file every time.
"""

import csv
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

TODAY = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = (
    "id", "company", "owners", "state", "plan", "opened_at", "trial_ends_at", "period_began_at", "period_ends_at",
    "held_at", "frozen_at", "suspended_from", "free_since", "last_active_at", "cancelled_at", "cancelled_by",
    "cancelled_from", "access_ends_at", "content_deleted_at", "purged_at", "legal_holds",
)  # fmt: skip
FIRST = (
    "Amber", "Birch", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Harbour", "Indigo", "Juniper", "Kestrel",
    "Linden", "Meridian", "Nordic", "Olive", "Prairie", "Quarry", "Rowan", "Saffron", "Tundra",
)  # fmt: skip
SECOND = ("Bakery", "Books", "Cycles", "Dental", "Energy", "Films", "Gardens", "Hotels", "Labs", "Logistics", "Music",
          "Optics", "Roofing", "Seeds", "Textiles", "Yachts")  # fmt: skip
FORMS = ("Ltd", "GmbH", "Inc", "AB", "SARL", "& Sons", "Co-op")
PEOPLE = ("ann", "bo", "carla", "dmitri", "elif", "femi", "greta", "hugo", "ines", "jan", "kofi", "lea", "mei", "noor")

Row = dict[str, str]


def ago(days: float) -> str:
    """An instant before today: a plain date for midnight, as many a system exports it."""
    at = TODAY - timedelta(days=days)
    return f"{at:%Y-%m-%d}" if at.hour == 0 else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def trial(pick: random.Random) -> Row:
    opened = pick.randrange(1, 30)
    return {"state": "trial", "opened_at": ago(opened), "last_active_at": ago(pick.randrange(opened) + 0.25)}


def on_hold(pick: random.Random) -> Row:
    held = pick.choice((2, 5, 9, 14, 17, 21, 26, 45, 100))
    return {"state": "on_hold", "opened_at": ago(held + 30), "trial_ends_at": ago(held)}


def paid(pick: random.Random) -> Row:
    length = pick.choice((30, 365))
    run = pick.randrange(length)
    return {
        "state": "active", "plan": "paid", "opened_at": ago(run + length + 60 + pick.randrange(600)),
        "period_began_at": ago(run), "period_ends_at": ago(run - length),
        "last_active_at": ago(pick.choice((0.5, 1.5, 2.5, 4.5, 75.5))),
    }  # fmt: skip


def free(pick: random.Random) -> Row:
    since = pick.randrange(31, 700)
    silent = min(since, pick.choice((1, 3, 8, 40, 120, 250, 330, 362, 500)))
    return {"state": "active", "plan": "free", "opened_at": ago(since), "free_since": ago(since),
            "last_active_at": ago(silent)}  # fmt: skip


def unpaid(pick: random.Random) -> Row:
    frozen = pick.choice((3, 12, 30, 60, 110, 150, 168, 179, 240))
    return {"state": "frozen", "plan": "paid", "opened_at": ago(frozen + 200), "period_began_at": ago(frozen + 32),
            "period_ends_at": ago(frozen + 2), "frozen_at": ago(frozen)}  # fmt: skip


def suspended(pick: random.Random) -> Row:
    return {**paid(pick), "state": "frozen", "suspended_from": "active"}


def cancelled(before: Callable[[random.Random], Row], state: str, days: int, **more: str) -> Callable[..., Row]:
    """The account of ``before`` as it was cancelled ``days`` ago; the dates that follow are derived."""

    def row(pick: random.Random) -> Row:
        lived = before(pick)
        stamps = {"state": state, "cancelled_at": ago(days), "cancelled_by": "owner", "cancelled_from": lived["state"]}
        return {**lived, **stamps, **more}

    return row


def lapsed(pick: random.Random) -> Row:
    """On a paid plan whose last period ended a good while ago."""
    return {"state": "active", "plan": "paid", "opened_at": ago(500), "period_began_at": ago(140),
            "period_ends_at": ago(110), "last_active_at": ago(120)}  # fmt: skip


def gone_quiet(pick: random.Random) -> Row:
    return {"state": "active", "plan": "free", "opened_at": ago(900), "free_since": ago(800),
            "last_active_at": ago(600)}  # fmt: skip


KINDS: tuple[tuple[int, Callable[[random.Random], Row]], ...] = (
    (38, trial),
    (24, on_hold),
    (112, paid),
    (54, free),
    (20, unpaid),
    (6, suspended),
    (14, cancelled(paid, "cancel_pending", 1)),
    (6, cancelled(free, "access_revoked", 12)),
    (6, cancelled(lapsed, "access_revoked", 26)),
    (3, cancelled(lapsed, "access_revoked", 95)),
    (2, cancelled(lapsed, "access_revoked", 25, legal_holds="2025-114")),
    (4, cancelled(gone_quiet, "access_revoked", 20, cancelled_by="company")),
    (6, cancelled(lapsed, "content_deleted", 45, content_deleted_at=ago(15))),
    (5, cancelled(lapsed, "purged", 100, content_deleted_at=ago(70), purged_at=ago(41))),
)


def accounts() -> Iterator[Row]:
    pick = random.Random(2026)
    names = [f"{first} {second} {pick.choice(FORMS)}" for first in FIRST for second in SECOND]
    pick.shuffle(names)
    names[:2] = ["Ünal & Çelik Kahve", "-Dash GmbH"]
    number = 0
    for count, kind in KINDS:
        for _ in range(count):
            company, number = names[number], number + 1
            owners = pick.sample(PEOPLE, pick.choice((1, 1, 1, 2, 3)))
            domain = "-".join(word.lower() for word in company.split()[:2] if word.isascii() and word.isalpha())
            row = {"company": company, "owners": ";".join(f"{name}@{domain or 'kahve'}.test" for name in owners)}
            row |= kind(pick)
            if row["state"] == "purged":
                row["company"] = row["owners"] = ""
            yield {"id": f"c{1000 + number}", **row}


if __name__ == "__main__":
    with Path(__file__).with_name("accounts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(accounts())
