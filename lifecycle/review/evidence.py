"""What holds each clause: promises that ``verify`` proves, by number, and tests, by the file that they are in.

Tests are no part of an installation, so their names are kept here; a test of the page looks each of them up. Beside
these, ``tests/test_expectations.py`` puts every event by everybody to every kind of account.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lifecycle.policy import Clause as C


@dataclass(frozen=True)
class Evidence:
    """Numbers of promises (docs/policy.md, "Promises that hold always"); tests by file, without ``test_``."""

    promises: tuple[int, ...]
    tests: Mapping[str, tuple[str, ...]]


EVIDENCE: Mapping[C, Evidence] = {
    C.OWNER_ONLY: Evidence(
        (8,),
        {
            "machine": ("company_and_email_match_whatever_their_case_and_spaces",),
            "cancellation_requests": ("an_impostor_who_names_an_owner_gets_nothing_and_changes_nothing",),
            "owners": ("who_waits_is_seen_at_once_and_decides_only_after_the_wait",),
        },
    ),
    C.UNKNOWN_OWNER: Evidence(
        (),
        {
            "engine": ("owners_are_contacted_at_the_addresses_on_file",),
            "cancellation_requests": ("an_impostor_who_names_the_company_reaches_only_the_owners_on_file",),
        },
    ),
    C.ACCESS_TO_PERIOD_END: Evidence(
        (7,),
        {
            "machine": ("a_cancellation_stamps_its_promises", "the_promised_dates_by_the_calendar"),
            "boundaries": ("a_monthly_customer_leaves_exactly_on_the_published_days",),
        },
    ),
    C.ACCESS_ENDS: Evidence(
        (7,),
        {
            "engine": ("entitlements_end_with_access_whether_or_not_a_sweep_came_by",),
            "boundaries": ("a_timer_fires_at_its_deadline_and_not_a_microsecond_before",),
        },
    ),
    C.DELETE_30: Evidence(
        (2, 3, 4, 5, 6),
        {
            "boundaries": (
                "a_timer_fires_at_its_deadline_and_not_a_microsecond_before",
                "no_timer_alone_ever_carries_a_live_account_to_deletion_at_one_instant",
                "a_legal_hold_lets_nothing_be_destroyed_and_its_release_waits_seven_days",
            ),
            "outbox": ("content_counts_as_deleted_only_with_a_receipt",),
            "destruction": ("of_a_thousand_accounts_exactly_the_right_ones_are_destroyed",),
        },
    ),
    C.PURGE_60: Evidence(
        (3, 5, 6, 10),
        {
            "machine": ("every_monthly_plan_keeps_the_published_sixty_days",),
            "boundaries": ("a_deletion_that_happened_late_does_not_delay_the_purge_that_was_promised",),
            "store": ("a_purge_scrubs_personal_data_from_every_table",),
        },
    ),
    C.UNDO_30: Evidence(
        (4,),
        {
            "machine": (
                "reactivation_leads_where_the_account_belongs",
                "nothing_comes_back_once_erasure_was_requested",
            ),
            "outbox": ("once_erasure_is_requested_there_is_no_way_back",),
        },
    ),
    C.IRREVERSIBLE: Evidence(
        (5, 10),
        {
            "machine": (
                "a_purge_with_a_receipt_is_final_and_scrubs_personal_data",
                "content_is_not_said_to_be_gone_without_a_receipt",
            ),
            "restore": ("after_a_restore_of_any_age_the_account_is_where_it_was_and_is_destroyed_anew",),
        },
    ),
    C.NO_BILLING: Evidence(
        (7,),
        {
            "machine": ("what_a_state_grants", "a_payment_after_a_cancellation_lengthens_every_date_and_is_looked_at"),
            "outbox": ("an_order_to_billing_waits_for_the_one_before_it",),
        },
    ),
    C.FAIR_REFUND: Evidence(
        (),
        {
            "machine": ("people_look_at_a_refund_where_it_would_be_fair",),
            "engine": ("a_refund_is_for_people_to_look_at_when_it_may_be_fair",),
        },
    ),
    C.TRIAL_HOLD: Evidence(
        (9,),
        {
            "machine": ("a_trial_that_ran_out_is_on_hold_from_now_however_late_the_sweep_is",),
            "boundaries": ("a_trial_that_ran_out_long_ago_is_put_on_hold_from_today_and_goes_no_further",),
        },
    ),
    C.HOLD_KEEPS_DATA: Evidence(
        (2,),
        {
            "boundaries": ("no_timer_alone_ever_carries_a_live_account_to_deletion_at_one_instant",),
            "sweep": ("after_a_long_outage_nobody_is_carried_from_hold_to_deletion_in_one_go",),
        },
    ),
    C.HOLD_EXITS: Evidence((8,), {"machine": ("an_upgrade_brings_a_paid_plan_with_its_period_and_ends_every_clock",)}),
    C.COMPANY_TRIAL: Evidence(
        (8, 11),
        {
            "boundaries": (
                "a_trial_that_nobody_cares_for_ends_by_the_published_days_alone",
                "nothing_happens_without_a_delivered_notice_however_late_it_is",
            ),
        },
    ),
    C.COMPANY_FROZEN: Evidence(
        (8, 11),
        {
            "boundaries": ("a_suspended_account_is_cancelled_by_no_timer",),
            "machine": ("only_an_account_whose_paid_period_is_over_freezes",),
        },
    ),
    C.COMPANY_FREE: Evidence(
        (8, 9, 11),
        {
            "boundaries": (
                "activity_voids_the_notice_and_a_lazy_timer_re_arms_itself",
                "the_resolution_of_activity_is_added_so_that_nobody_is_early",
            ),
        },
    ),
    C.COMPANY_ANY: Evidence(
        (8, 11),
        {
            "machine": (
                "a_termination_of_a_live_account_stamps_and_ends_access_now",
                "to_lift_a_suspension_an_admin_must_give_a_reason",
                "cancelling_and_coming_back_does_not_end_a_suspension",
            ),
        },
    ),
    C.EXPORT_FIRST: Evidence(
        (11,),
        {
            "boundaries": (
                "a_reminder_names_the_date_on_which_it_then_happens",
                "after_an_outage_each_stage_waits_for_its_own_notice",
            ),
            "outbox": ("a_delivered_notice_promises_time_from_its_delivery_on",),
        },
    ),
}
