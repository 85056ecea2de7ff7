"""The configuration file is read strictly, and every refusal names the key and what to write instead."""

from datetime import timedelta
from pathlib import Path

import pytest

from lifecycle import Effect, InvalidInput, Policy, PolicyError
from lifecycle.config import load
from lifecycle.handlers.command import Command
from lifecycle.task import DeliverySettings


def written(folder: Path, text: str) -> Path:
    path = folder / "lifecycle.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_file_and_environment_no_policy_is_stated() -> None:
    config = load(None, {})
    assert config.policy is None
    assert config.handlers == {}
    assert config.delivery == DeliverySettings()


def test_a_file_without_a_policy_leaves_the_databases_own_in_force(tmp_path: Path) -> None:
    assert load(written(tmp_path, "[delivery]\nattempts = 3\n"), {}).policy is None


def test_an_empty_policy_table_states_the_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, "[policy]\n"), {}).policy == Policy()


def test_all_three_tables_are_read(tmp_path: Path) -> None:
    text = """
        [policy]
        deletion_after = "45 days"
        [handlers.delete_content]
        command = ["/bin/erase", "--verbose"]
        timeout = "2 minutes"
        [delivery]
        attempts = 3
        lease = "1 hour"
    """
    config = load(written(tmp_path, text), {})
    assert config.policy == Policy(deletion_after=timedelta(days=45))
    erase = config.handlers[Effect.DELETE_CONTENT]
    assert isinstance(erase, Command)
    assert erase.arguments == ["/bin/erase", "--verbose"]
    assert erase.timeout == timedelta(minutes=2)
    assert config.delivery == DeliverySettings(attempts=3, lease=timedelta(hours=1))


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[policy]\ndeletion_after = "45 days"\ntrial_length = "14 days"\n')
    config = load(path, {"LIFECYCLE_POLICY_DELETION_AFTER": "40 days", "HOME": "/root"})
    assert config.policy == Policy(deletion_after=timedelta(days=40), trial_length=timedelta(days=14))


def test_the_environment_alone_states_a_policy() -> None:
    config = load(None, {"LIFECYCLE_POLICY_COMPANY_CANCELLATION": "approval"})
    assert config.policy is not None
    assert config.policy.company_cancellation == "approval"


def test_a_program_with_a_relative_path_lies_beside_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[handlers.purge_backups]\ncommand = ["bin/purge"]\n')
    handler = load(path, {}).handlers[Effect.PURGE_BACKUPS]
    assert isinstance(handler, Command)
    assert handler.arguments == [str(tmp_path / "bin/purge")]


def test_a_program_without_a_slash_is_left_to_the_search_path(tmp_path: Path) -> None:
    handler = load(written(tmp_path, '[handlers.purge_backups]\ncommand = ["purge"]\n'), {}).handlers
    assert handler[Effect.PURGE_BACKUPS].arguments == ["purge"]  # type: ignore[attr-defined]


REFUSALS = {
    "an unknown table": ("[polcy]\n", "'polcy'", "did you mean policy?"),
    "a setting outside its table": ('deletion_after = "45 days"\n', "'deletion_after'", "below [policy]"),
    "an unknown setting": ('[policy]\ndeletion_aftr = "45 days"\n', "'deletion_aftr'", "did you mean deletion_after?"),
    "a setting below its floor": ('[policy]\ndeletion_after = "1 day"\n', "deletion_after", "7 days"),
    "an unknown effect": ('[handlers.delete_contents]\ncommand = ["x"]\n', "'delete_contents'", "delete_content?"),
    "an unknown key of a handler": (
        '[handlers.delete_content]\ncomand = ["x"]\n',
        "[handlers.delete_content]",
        "did you mean command?",
    ),
    "a command that is text": (
        '[handlers.delete_content]\ncommand = "rm -rf"\n',
        "handlers.delete_content.command",
        "list",
    ),
    "an empty command": ("[handlers.delete_content]\ncommand = []\n", "handlers.delete_content.command", "list"),
    "a handler without a command": ("[handlers.delete_content]\n", "[handlers.delete_content]", "command, storage"),
    "a handler that is no table": ("[handlers]\ndelete_content = 1\n", "handlers.delete_content", "table"),
    "a timeout without a unit": (
        '[handlers.delete_content]\ncommand = ["x"]\ntimeout = "60"\n',
        "handlers.delete_content.timeout",
        "duration",
    ),
    "a timeout of nothing": (
        '[handlers.delete_content]\ncommand = ["x"]\ntimeout = "0 days"\n',
        "handlers.delete_content.timeout",
        "1 second",
    ),
    "a timeout that outlasts the claim": (
        '[handlers.delete_content]\ncommand = ["x"]\ntimeout = "6 minutes"\n',
        "handlers.delete_content.timeout",
        "delivery.lease",
    ),
    "an unknown key of the delivery": ("[delivery]\nattempt = 3\n", "'attempt'", "did you mean attempts?"),
    "no attempt at all": ("[delivery]\nattempts = 0\n", "delivery.attempts", "whole number"),
    "a truth value as a number": ("[delivery]\nattempts = true\n", "delivery.attempts", "whole number"),
    "a number as a duration": ("[delivery]\nlease = 600\n", "delivery.lease", "duration"),
    "a first wait beyond the longest": (
        '[delivery]\nfirst_wait = "7 hours"\n',
        "delivery.first_wait",
        "delivery.longest_wait",
    ),
    "a policy that is no table": ("policy = 3\n", "policy", "[policy]"),
    "what is not TOML": ("[policy\n", "lifecycle.toml", "not TOML"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_wrong_is_refused_with_its_key_and_a_hint(what: str, tmp_path: Path) -> None:
    text, *mentioned = REFUSALS[what]
    with pytest.raises((InvalidInput, PolicyError)) as refusal:
        load(written(tmp_path, text), {})
    for words in mentioned:
        assert words in str(refusal.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lifecycle.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not TOML"):
        load(path, {})


def test_a_file_that_is_missing_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.toml can't be read: No such file"):
        load(tmp_path / "nowhere.toml", {})


def test_an_unknown_setting_in_the_environment_is_refused() -> None:
    with pytest.raises(PolicyError, match="did you mean deletion_after"):
        load(None, {"LIFECYCLE_POLICY_DELETION_AFTR": "40 days"})
