"""Lives to begin with on the page: the cases that people ask about first."""

from dataclasses import dataclass
from typing import Any

from lifecycle.actor import Role
from lifecycle.states import Event, Plan

#: What stands for activity among the events that can be chosen.
USED = "used"


@dataclass(frozen=True)
class Example:
    """An account's plan and dates, and what is asked of it: instant, event, role, and the period that is brought."""

    name: str
    plan: Plan
    opened: str
    paid_until: str = ""
    moments: tuple[tuple[str, str, Role, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The example as the form of the page takes it."""
        keys = ("at", "event", "role", "period")
        moments = [dict(zip(keys, moment, strict=True)) for moment in self.moments]
        return {"name": self.name, "plan": self.plan, "opened": self.opened, "paidUntil": self.paid_until,
                "moments": moments}  # fmt: skip


_CANCEL, _OWNER, _ADMIN, _BILLING = Event.CANCEL, Role.OWNER, Role.ADMIN, Role.BILLING
# fmt: off
EXAMPLES: tuple[Example, ...] = (
    Example("Monthly plan, cancelled", Plan.PAID, "2027-01-01", "2027-02-01", (("2027-01-10", _CANCEL, _OWNER, ""),)),
    Example("Annual plan, cancelled", Plan.PAID, "2027-01-01", "2028-01-01", (("2027-03-01", _CANCEL, _OWNER, ""),)),
    Example("Trial, cancelled", Plan.TRIAL, "2027-01-01", "", (("2027-01-11", _CANCEL, _OWNER, ""),)),
    Example("Trial, never upgraded", Plan.TRIAL, "2027-01-01"),
    Example("Free, hardly used", Plan.FREE, "2027-01-01", "", (("2027-04-01", USED, _OWNER, ""),)),
    Example("Not paid any more", Plan.PAID, "2027-01-01", "2027-02-01", (("2027-02-04", Event.FREEZE, _BILLING, ""),)),
    Example("A change of mind", Plan.PAID, "2027-01-01", "2027-02-01", (
        ("2027-01-10", _CANCEL, _OWNER, ""), ("2027-01-28", Event.REACTIVATE, _OWNER, ""))),
    Example("A change of mind, too late", Plan.PAID, "2027-01-01", "2027-02-01", (
        ("2027-01-10", _CANCEL, _OWNER, ""), ("2027-02-12", Event.REACTIVATE, _OWNER, ""))),
    Example("Suspended", Plan.PAID, "2027-01-01", "2027-02-01", (
        ("2027-01-15", Event.SUSPEND, _ADMIN, ""), ("2027-03-05", Event.LIFT_SUSPENSION, _ADMIN, ""))),
    Example("Under a legal hold", Plan.PAID, "2027-01-01", "2027-02-01", (
        ("2027-01-10", _CANCEL, _OWNER, ""), ("2027-02-05", Event.PLACE_HOLD, _ADMIN, ""),
        ("2027-05-01", Event.RELEASE_HOLD, _ADMIN, ""))),
    Example("Terminated by the company", Plan.PAID, "2027-01-01", "2027-02-01", (
        ("2027-01-20", Event.TERMINATE, _ADMIN, ""),)),
)
# fmt: on
