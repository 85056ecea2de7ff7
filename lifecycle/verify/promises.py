"""The promises that a definition is held against, each as a name, a sentence and a check of one happening.

A check compares what the definition did with what the policy says, in plain Python from :mod:`lifecycle.verify.facts`:
a fault of the definition is none of its judge.
"""

from dataclasses import dataclass

from lifecycle.verify import on_access, on_clocks, on_destruction, on_people
from lifecycle.verify.happening import Kind
from lifecycle.verify.judging import Check

#: Kinds in which the definition changed the account.
CHANGED = (Kind.ASKED, Kind.SWEPT, Kind.DELIVERED)
DONE = (Kind.ASKED, Kind.SWEPT)


@dataclass(frozen=True)
class Promise:
    """``number`` is the promise's among those that hold always; ``kinds`` are the happenings that it looks at.

    Without a ``check`` it is judged on the whole of what was explored. ``who`` says that it shows only when everybody
    tries.
    """

    name: str
    number: int
    text: str
    check: Check | None = None
    kinds: tuple[Kind, ...] = DONE
    who: bool = False


_P = Promise
PROMISES: tuple[Promise, ...] = (
    _P("no-early-deletion", 2, "Content is never deleted before its date.", on_destruction.not_early),
    _P("no-deletion-while-access", 2, "Content is never deleted before access ends.",
       on_destruction.not_before_access_ends),
    _P("only-cancelled-is-deleted", 2, "Nothing of an account is destroyed that is not cancelled.",
       on_destruction.only_cancelled),
    _P("deletion-before-purge", 2, "Backups are purged only after the content, and when it is time.",
       on_destruction.purge_not_early),
    _P("dates-are-stamped", 3, "Every cancellation writes down the dates that the policy promises.",
       on_destruction.stamped, CHANGED),
    _P("dates-never-shorten", 3, "What a cancelled account was promised never comes earlier.",
       on_destruction.never_shortened, CHANGED),
    _P("deletion-on-time", 3, "Deletion is requested on its date.",
       on_destruction.deletion_on_time, (*DONE, Kind.WAITED)),
    _P("purge-on-time", 3, "Backups are purged by their deadline.",
       on_destruction.purge_on_time, (*DONE, Kind.WAITED)),
    _P("no-return-after-request", 4, "Nobody comes back once the deletion was requested.", on_destruction.no_return),
    _P("return-clears-all", 4, "Who came back is not cancelled any more, in nothing.", on_destruction.return_clears),
    _P("owner-can-return", 4, "Until then an owner can have the account back.",
       on_destruction.may_return, (Kind.REFUSED,), who=True),
    _P("right-way-back", 4, "Who comes back is where the policy says, or pays.", on_destruction.right_way, who=True),
    _P("destroyed-after-request", 5, "A state claims destruction only upon the receipt of a request.",
       on_destruction.requested_first, who=True),
    _P("purged-is-scrubbed", 5, "Of a purged account no personal data stay on file.", on_destruction.scrubbed),
    _P("one-live-request", 5, "There is at most one live request of a kind.", on_destruction.one_request),
    _P("no-destruction-under-hold", 6, "Under a legal hold nothing is requested, and what was is taken back.",
       on_destruction.not_under_hold),
    _P("wait-after-hold", 6, "After a legal hold, destruction waits.", on_destruction.wait_after_hold),
    _P("billing-stops", 7, "Whoever is cancelled is not billed any more.", on_access.billing_stops, CHANGED),
    _P("billing-resumes", 7, "Billing goes on with a paid plan that comes back, and with no other.",
       on_access.billing_resumes),
    _P("cancellation-is-confirmed", 7, "Owners are told of every cancellation.", on_access.confirmed),
    _P("refund-is-reviewed", 7, "People look at a refund where the policy says so.", on_access.refund),
    _P("access-while-paid", 7, "Access lasts as long as is paid, but for a suspension or termination.",
       on_access.paid_access, CHANGED),
    _P("access-ends", 7, "Then access ends.", on_access.access_ends, (*CHANGED, Kind.WAITED)),
    _P("trial-lasts", 7, "A trial lasts until its end.", on_access.trial_lasts),
    _P("not-frozen-while-paid", 7, "Nobody who has paid is frozen for billing.", on_access.not_frozen_while_paid),
    _P("period-by-those-who-know", 7, "Only billing, or an admin with a reason, states what is paid; it never shrinks.",
       on_access.period_stated, who=True),
    _P("file-is-true", 7, "Plan and paid period, termination and destruction are on file as they were.",
       on_access.on_file, CHANGED),
    _P("only-owners-cancel", 8, "Only owners cancel, or support and admins for one; a new owner alone does not.",
       on_people.owners_cancel, who=True),
    _P("company-by-its-clauses", 8, "The company cancels only under its three clauses, when their time has come.",
       on_people.company_clauses),
    _P("return-by-those-entitled", 8, "Only those whom the policy names bring an account back.",
       on_people.entitled_return, who=True),
    _P("only-the-permitted", 8, "Every other event is accepted only from those who may, and with a reason if need be.",
       on_people.others_permitted, who=True),
    _P("events-lead-where-they-should", 8, "Every event leads to the state that the policy names.",
       on_people.right_destination, CHANGED),
    _P("owner-can-cancel", 8, "An owner can cancel at any time.",
       on_people.owner_can_cancel, (Kind.REFUSED,), who=True),
    _P("payment-upgrades", 8, "Who pays in a trial, or on hold, is upgraded.",
       on_people.hold_exits, (Kind.REFUSED,), who=True),
    _P("payment-thaws", 8, "Who pays is not frozen for billing any more.",
       on_people.payment_thaws, (Kind.REFUSED,), who=True),
    _P("company-can-act", 8, "An admin can suspend, lift, terminate and hold any account.",
       on_people.company_may, (Kind.REFUSED,), who=True),
    _P("owners-are-written-to", 8, "Owners are asked and told where somebody asks for it, or changes who they are.",
       on_people.owners_are_written_to, (Kind.ASKED,), who=True),
    _P("permitted-are-heard", 8, "Whoever may ask for something is heard wherever the policy has it.",
       on_people.permitted_are_heard, (Kind.REFUSED,), who=True),
    _P("nothing-out-of-place", 8, "Nothing is accepted where the policy does not have it.",
       on_people.only_what_can_happen, (Kind.ASKED,), who=True),
    _P("due-in-time", 9, "The next look at an account is never later than its deadline.",
       on_clocks.due_in_time, (*CHANGED, Kind.ACTIVE)),
    _P("nothing-is-forgotten", 9, "No deadline passes while the machine runs.",
       on_clocks.not_overdue, (Kind.WAITED,)),
    _P("timers-never-circle", 10, "Timers alone never go in circles."),
    _P("cancelled-ends-in-purged", 10, "Every cancelled account ends in purged, unless it comes back or is held."),
    _P("rows-do-not-conflict", 10, "Where two rows would act and lead elsewhere, the policy names their order.",
       who=True),
    _P("suspension-ends-by-admin", 11, "A suspension ends only by an admin, or with the account.",
       on_clocks.suspension_ends, CHANGED),
    _P("clocks-never-restart", 11, "No detour restarts a clock, and none starts before the move.",
       on_clocks.clocks_stand, CHANGED),
    _P("notice-before-company-cancels", 11, "The company cancels only its notice after a reminder was delivered.",
       on_clocks.company_notice),
    _P("notice-before-deletion", 11, "Content is deleted only its notice after a reminder was delivered.",
       on_clocks.deletion_notice),
    _P("customers-are-reminded", 11, "Trials and access don't end without a reminder.", on_clocks.reminded),
    _P("old-notices-are-void", 11, "A notice that was given for something else is not on file.",
       on_clocks.void_notice, CHANGED),
    _P("notices-last-in-full", 11, "A notice counts from its delivery, and in full.",
       on_clocks.notice_in_full, (Kind.DELIVERED,)),
    _P("reminders-name-the-date", 11, "A reminder names the first date on which it can happen.", on_clocks.date_named),
)  # fmt: skip

#: Promises, or parts of them, that are not the definition's to keep, and where they are tested.
ELSEWHERE: tuple[tuple[str, str], ...] = (
    ("1: history and versions", "tests/test_store.py, tests/test_promises.py"),
    (
        "3: downtime, the brake and what doctor reports",
        "tests/test_brake.py, tests/test_scheduler.py, tests/test_doctor.py",
    ),
    ("5: requests and receipts as rows of the outbox", "tests/test_outbox.py, tests/test_destruction.py"),
    ("6: nothing unclaimed is delivered under a hold", "tests/test_handover.py, tests/test_destruction.py"),
    ("9: alarms when a sweep is late", "tests/test_scheduler.py, tests/test_metrics.py"),
    ("12: several daemons, killed at any point; a leaping clock", "tests/test_many_daemons.py, tests/test_gate.py"),
    ("all of them for the sweep's SQL: it equals the decision on one", "tests/test_equivalence.py"),
)


def promise(name: str) -> Promise:
    """The promise of this name."""
    return next(one for one in PROMISES if one.name == name)
