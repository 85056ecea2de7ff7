"""The policy's settings: their published defaults, where they are read from, and what is out of bounds."""

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lifecycle.errors import PolicyError
from lifecycle.policy import (
    ENVIRONMENT_PREFIX,
    LONGEST,
    Clause,
    CompanyCancellation,
    DeletionClock,
    Policy,
    duration_words,
    parse_duration,
)

#: The published numbers, and the decisions where the text is silent.
DEFAULTS = {
    "trial_length": "30 days",
    "trial_reminder": "7 days",
    "expired_trial_cancellation_after": "30 days",
    "unpaid_cancellation_after": "180 days",
    "inactive_cancellation_after": "365 days",
    "company_notice": "14 days",
    "company_cancellation": "automatic",
    "access_reminder": "7 days",
    "deletion_clock": "cancellation",
    "deletion_after": "30 days",
    "deletion_notice": "7 days",
    "purge_after": "60 days",
    "purge_after_deletion": "29 days",
    "purge_lead": "1 day",
    "hold_release_notice": "7 days",
    "activity_resolution": "0 days",
    "billing_silence": "3 days",
    "cancellation_requires_confirmation": "false",
    "new_owner_wait": "3 days",
}
DURATIONS = [setting.name for setting in fields(Policy) if isinstance(setting.default, timedelta)]
SWITCHES = [setting.name for setting in fields(Policy) if setting.name not in DURATIONS]


def loaded(tmp_path: Path, toml: str, **environment: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(toml, encoding="utf-8")
    return Policy.load(path, environment)


# --- Defaults ------------------------------------------------------------------------------------


def test_the_defaults_are_the_published_policy() -> None:
    text = Policy().as_text()
    assert {name: text[name] for name in DEFAULTS} == DEFAULTS
    assert set(text) - set(DEFAULTS) == {"refund_unused", "refund_new_period"}, "the design names no numbers for these"


def test_every_setting_has_a_clause_and_a_sentence() -> None:
    for setting in fields(Policy):
        assert isinstance(setting.metadata["clause"], Clause)
        assert setting.metadata["doc"].endswith((".", "?"))


def test_every_clause_of_the_published_policy_has_its_words() -> None:
    assert len(Clause) == 18
    assert all(clause.text.endswith(".") for clause in Clause)


def test_a_policy_does_not_change_once_it_is_made() -> None:
    with pytest.raises(FrozenInstanceError):
        Policy().deletion_after = timedelta(days=1)  # type: ignore[misc]


# --- Where settings come from --------------------------------------------------------------------


@pytest.mark.parametrize("header", ["", "[policy]\n"])
def test_a_file_overrides_the_defaults(tmp_path: Path, header: str) -> None:
    policy = loaded(tmp_path, f'{header}deletion_after = "45 days"\ndeletion_clock = "end_of_access"\n')
    assert policy == Policy(deletion_after="45 days", deletion_clock="end_of_access")
    assert policy.deletion_after == timedelta(days=45)
    assert policy.deletion_clock is DeletionClock.END_OF_ACCESS


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        'deletion_after = "45 days"\ntrial_length = "14 days"\n',
        LIFECYCLE_POLICY_DELETION_AFTER="50 days",
        LIFECYCLE_POLICY_COMPANY_CANCELLATION="approval",
        LIFECYCLE_DATABASE_URL="sqlite://",
    )
    assert policy.deletion_after == timedelta(days=50)
    assert policy.trial_length == timedelta(days=14)
    assert policy.company_cancellation is CompanyCancellation.APPROVAL


def test_without_a_file_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{ENVIRONMENT_PREFIX}PURGE_LEAD", "2 days")
    assert Policy.load().purge_lead == timedelta(days=2)
    assert Policy.load(environment={}) == Policy()


@pytest.mark.parametrize("content", [b"deletion_after = ", b"\xff\xfe", b"policy = 3"])
def test_a_file_that_is_no_policy_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(PolicyError, match=r"broken\.toml"):
        Policy.load(path, {})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(PolicyError, match=path.name):
            Policy.load(path, {})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("deletion_aftr", "deletion_after"), ("company_notices", "company_notice"), ("purge-lead", "purge_lead")],
)
def test_an_unknown_setting_proposes_the_nearest_name(tmp_path: Path, typed: str, meant: str) -> None:
    with pytest.raises(PolicyError, match=f"{typed}.*did you mean {meant}"):
        loaded(tmp_path, f'{typed} = "45 days"')
    with pytest.raises(PolicyError, match=f"did you mean {meant}"):
        Policy.load(environment={f"{ENVIRONMENT_PREFIX}{typed.upper()}": "45 days"})


def test_a_setting_like_no_other_is_answered_with_all_there_are() -> None:
    with pytest.raises(PolicyError, match=r"colour.*trial_length.*refund_new_period"):
        Policy.from_mapping({"colour": "red"})


# --- Durations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30 days", timedelta(days=30)),
        ("1 day", timedelta(days=1)),
        ("  30   DAYS ", timedelta(days=30)),
        ("30days", timedelta(days=30)),
        ("1 week 12 hours", timedelta(days=7, hours=12)),
        ("2 weeks", timedelta(days=14)),
        ("90 minutes", timedelta(minutes=90)),
        ("1 day 1 second", timedelta(days=1, seconds=1)),
        ("0 days", timedelta(0)),
    ],
)
def test_durations_are_written_as_people_write_them(text: str, value: timedelta) -> None:
    assert parse_duration(text, "deletion_after") == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        "30",
        "days",
        "thirty days",
        "-30 days",
        "30 fortnights",
        "1.5 days",
        "30 days or so",
        30,
        30.0,
        None,
        True,
    ],
)
@pytest.mark.parametrize("name", ["deletion_after", "company_notice"])
def test_what_is_no_duration_raises_and_names_the_setting(name: str, value: Any) -> None:
    with pytest.raises(PolicyError, match=name):
        Policy.from_mapping({name: value})


@pytest.mark.parametrize(
    "value", [timedelta(0), timedelta(seconds=1), timedelta(days=30), timedelta(days=1, hours=12), LONGEST]
)
def test_a_duration_in_words_reads_back_as_it_was(value: timedelta) -> None:
    assert parse_duration(duration_words(value), "any") == value


# --- Bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", ["", timedelta(days=-30), timedelta(microseconds=-1), LONGEST + timedelta(seconds=1)])
def test_a_blank_negative_or_too_long_duration_raises_and_names_the_setting(name: str, value: Any) -> None:
    with pytest.raises(PolicyError, match=rf"\b{name}\b"):
        Policy(**{name: value})


@pytest.mark.parametrize("name", [name for name in DURATIONS if name != "activity_resolution"])
def test_a_duration_of_zero_or_just_below_its_floor_raises_and_names_the_setting(name: str) -> None:
    (floor,) = (setting.metadata["at_least"] for setting in fields(Policy) if setting.name == name)
    assert floor > timedelta(0)
    for value in (timedelta(0), floor - timedelta(seconds=1)):
        with pytest.raises(PolicyError, match=rf"\b{name}\b.*between"):
            Policy(**{name: value})


def test_every_activity_may_be_written_or_only_some() -> None:
    assert Policy(activity_resolution="0 days").activity_resolution == timedelta(0)
    assert Policy(activity_resolution="1 hour").activity_resolution == timedelta(hours=1)


def test_nobody_writes_a_duration_that_overflows() -> None:
    with pytest.raises(PolicyError, match="deletion_after"):
        Policy(deletion_after="99999999999999999999 weeks")


def test_a_duration_is_whole_seconds() -> None:
    with pytest.raises(PolicyError, match=r"trial_length.*seconds"):
        Policy(trial_length=timedelta(days=30, microseconds=1))


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", ["", "maybe", None, 1, 0, "AUTOMATIC ", "yes"])
def test_a_switch_takes_only_its_options(name: str, value: Any) -> None:
    with pytest.raises(PolicyError, match=rf"{name} must be one of"):
        Policy(**{name: value})


@pytest.mark.parametrize(("said", "meant"), [(True, True), ("true", True), (False, False), ("false", False)])
def test_a_switch_of_two_is_true_or_false_in_words_too(said: Any, meant: bool) -> None:
    policy = Policy(cancellation_requires_confirmation=said)
    assert policy.cancellation_requires_confirmation is meant
    assert policy.as_text()["cancellation_requires_confirmation"] == str(meant).lower()
    assert Policy.from_mapping(policy.as_text()) == policy


@pytest.mark.parametrize(
    ("notice", "period"),
    [
        ("company_notice", "expired_trial_cancellation_after"),
        ("company_notice", "unpaid_cancellation_after"),
        ("company_notice", "inactive_cancellation_after"),
        ("deletion_notice", "deletion_after"),
        ("purge_lead", "purge_after_deletion"),
        ("deletion_after", "purge_after"),
    ],
)
def test_what_must_fit_into_a_period_is_shorter_than_it(notice: str, period: str) -> None:
    length = getattr(Policy(), notice)
    with pytest.raises(PolicyError, match=rf"{notice}.*shorter.*{period}"):
        Policy(**{period: max(length, timedelta(days=7)), notice: max(length, timedelta(days=7))})
    roomy = Policy(**{period: max(length, timedelta(days=7)) + timedelta(seconds=1)})
    assert getattr(roomy, notice) < getattr(roomy, period)


# --- Versions ------------------------------------------------------------------------------------


def test_a_policy_reads_back_from_its_own_words() -> None:
    unusual = Policy(
        trial_length="2 weeks 1 second",
        deletion_clock=DeletionClock.END_OF_ACCESS,
        company_cancellation="approval",
        activity_resolution="90 minutes",
    )
    for policy in (Policy(), unusual):
        assert Policy(**policy.as_text()) == policy
        assert Policy(**policy.as_text()).version == policy.version


def test_the_version_depends_on_the_values_and_not_on_how_they_were_written() -> None:
    assert Policy(deletion_after="30 days").version == Policy(deletion_after=timedelta(hours=720)).version
    assert len(Policy().version) == 12 and int(Policy().version, 16) >= 0


@pytest.mark.parametrize("name", [setting.name for setting in fields(Policy)])
def test_every_setting_makes_another_version(name: str) -> None:
    policy = Policy()
    other = {
        "deletion_clock": "end_of_access",
        "company_cancellation": "approval",
        "cancellation_requires_confirmation": True,
        "deletion_notice": timedelta(days=6),  # a longer one would need a longer access_reminder
    }
    changed = replace(policy, **{name: other.get(name) or getattr(policy, name) + timedelta(seconds=1)})
    assert changed.version != policy.version


def test_the_version_is_the_same_in_another_process() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "from lifecycle.policy import Policy; print(Policy().version)"],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == Policy().version


def test_the_reminder_before_access_ends_is_no_shorter_than_the_notice_that_it_serves_as() -> None:
    with pytest.raises(PolicyError, match=r"access_reminder \(3 days\) must not be shorter than deletion_notice"):
        Policy.from_mapping({"access_reminder": "3 days"})


def test_a_trial_is_not_reminded_before_it_begins() -> None:
    with pytest.raises(PolicyError, match="trial_reminder"):
        Policy.from_mapping({"trial_length": "5 days"})
