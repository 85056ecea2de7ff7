"""What was decided where the published policy is silent or contradicts itself, with the settings that change it.

The one place of these words: docs/policy.md prints them (:func:`markdown`), and the review page shows them. In the
texts, names stand between backticks, and what matters most between pairs of asterisks.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields

from lifecycle.policy import MUST_BE_SHORTER, Policy, options_of, setting_words
from lifecycle.reference import table

_FIELDS = {setting.name: setting for setting in fields(Policy)}


@dataclass(frozen=True)
class Decision:
    """One decision: its title, its paragraphs, and the settings that belong to it."""

    title: str
    paragraphs: tuple[str, ...]
    settings: tuple[str, ...] = ()


DECISIONS: tuple[Decision, ...] = (
    Decision(
        "A paid period longer than 30 days",
        (
            "The policy promises access to the end of the period, and deletion 30 days after cancellation. On an "
            "annual plan both can't be true. **Access wins**: content is deleted at the later of \"30 days after "
            'cancellation" and "end of access", and the backups are purged by the later of "60 days after '
            'cancellation" and "29 days after the deletion date". Every monthly plan keeps the published 60 days, also '
            "one cancelled on the first day of a 31-day month. Only longer prepaid plans exceed them. With the "
            "`deletion_clock` at `end_of_access`, the days count from the end of access instead.",
        ),
        ("deletion_clock", "deletion_after", "purge_after", "purge_after_deletion", "purge_lead"),
    ),
    Decision(
        "Late machines never hurt a customer",
        (
            "A clock starts when a move really happened, not when it should have. An account whose trial ran out "
            "during an outage is on hold from the moment the sweep came by, with all its days ahead of it. No account "
            "is carried from hold to deletion in one go: each stage needs its own notice. There is no setting for "
            "this.",
        ),
    ),
    Decision(
        "Promises are stamped",
        (
            "Entering a cancelled state from outside writes down when, by whom (owner or company), from which state, "
            "and the three dates `access_ends_at`, `delete_content_at` and `purge_backups_by`. It owes `stop_billing` "
            "and a confirmation with these dates to all owners. A later change of the policy does not touch stamped "
            "dates; a later payment can only lengthen them. `reactivate` clears them all, and owes `resume_billing` "
            "where a paid plan goes on.",
        ),
    ),
    Decision(
        'The company "may" cancel',
        (
            "With `automatic` the timers fire; with `approval` due cancellations wait until an admin fires them. The "
            "notice is sent in both modes. In approval mode an admin can't fire earlier than the timer would have. "
            "Switching to `automatic` voids every notice of the company and starts it anew, so that nobody is "
            "cancelled at the flick of a switch.",
        ),
        ("company_cancellation",),
    ),
    Decision(
        "Nobody is cancelled by the company, or loses content, without notice",
        (
            "The reminder is requested a notice period before the deadline. Only when it was **delivered** does it "
            "promise a date: the delivery plus the notice period. The timer fires at the later of its deadline and "
            "that date. A notice that can't be delivered is parked after the last attempt and then counts as given; "
            "the daemon's log raises an alarm, and `doctor` reports a problem. New activity, a new hold or freeze, a "
            "reactivation: each voids the notice.",
            "The reminder before access ends names the deletion date too. Where deletion comes less than "
            "`deletion_notice` after the end of access, that reminder is the deletion's notice; so the plain cases "
            "happen exactly on their dates; `access_reminder` is therefore never shorter. The reminder of a trial's "
            "end is a courtesy and holds nothing up.",
        ),
        (
            "company_notice",
            "deletion_notice",
            "access_reminder",
            "trial_reminder",
            "trial_length",
            "expired_trial_cancellation_after",
            "unpaid_cancellation_after",
            "inactive_cancellation_after",
        ),
    ),
    Decision(
        "Suspended accounts",
        (
            "A suspension by an admin is `frozen` with a memory of where the account came from. The 180 days are for "
            "unpaid bills only: a suspended account is cancelled by no timer, however long it stays so. No setting.",
        ),
    ),
    Decision(
        "Legal hold",
        (
            "The published policy does not know it; courts do. A hold blocks the deletion and the purge and nothing "
            "else: access may end, the company may cancel. Under a hold nothing is requested, and a request that no "
            "handler has claimed yet is withdrawn. A receipt that arrives all the same is recorded, and the state "
            "follows the truth. After the last hold is released, destruction waits `hold_release_notice`.",
        ),
        ("hold_release_notice",),
    ),
    Decision(
        '"Inactivity"',
        (
            "Inactivity is what `record_activity` last wrote, or the start of the free plan, whichever is later. "
            "Recording is cheap: it writes no history and touches no index; the timer looks again when it fires. "
            "With `activity_resolution` activity closer together than that is not written, and as much is added to "
            "the deadline, so that nobody is early.",
        ),
        ("activity_resolution",),
    ),
    Decision(
        "Days and instants",
        (
            "A day is 24 hours. Instants are UTC. A deadline is reached at that very instant. A request is decided on "
            "the stored state, whether or not a timer is overdue: who is `on_hold` in the database is on hold. No "
            "setting.",
        ),
    ),
    Decision(
        "Facts come from those who know them",
        (
            "`period_ends_at` comes from billing, or from an admin who gives a reason; never from owners or support. "
            "It only moves forward, but for `record_refund`, which ends the paid period now. An account on a paid "
            "plan whose period is over, with neither `renew` nor `freeze` from billing, is not moved. After "
            "`billing_silence` `doctor` reports it.",
        ),
        ("billing_silence",),
    ),
)


def floor_words(name: str) -> str:
    """What bounds a setting: ``"7 days, and shorter than `purge_after`"``, or the words of a switch."""
    setting = _FIELDS[name]
    options = options_of(setting)
    if options:
        return "one of " + ", ".join(f"`{option}`" for option in options)
    longer = [other for shorter, other in MUST_BE_SHORTER if shorter == name]
    bound = f", and shorter than {', '.join(f'`{other}`' for other in longer)}" if longer else ""
    return setting_words(setting.metadata["at_least"]) + bound


def default_words(name: str) -> str:
    """The default of a setting; that of a switch between backticks."""
    words = setting_words(_FIELDS[name].default)
    return f"`{words}`" if options_of(_FIELDS[name]) else words


def markdown() -> str:
    """The decisions as docs/policy.md prints them."""
    return "\n\n".join(block for number, one in enumerate(DECISIONS, start=1) for block in _blocks(number, one)) + "\n"


def _blocks(number: int, one: Decision) -> Iterator[str]:
    yield f"### {number}. {one.title}"
    yield from (textwrap.fill(text, 120, break_on_hyphens=False) for text in one.paragraphs)
    if one.settings:
        rows = ((f"`{name}`", default_words(name), floor_words(name)) for name in one.settings)
        yield table(("Setting", "Default", "Floor"), rows).rstrip()
