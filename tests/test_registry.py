"""The handlers that a configuration names: each kind, several for one effect, secrets, and every slip."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lifecycle.config import load
from lifecycle.errors import LifecycleError
from lifecycle.handlers.command import Command
from lifecycle.handlers.email import Email
from lifecycle.handlers.sql import Sql
from lifecycle.handlers.storage import Storage
from lifecycle.handlers.webhook import Webhook
from lifecycle.states import NOTICES, Effect

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MAIL = 'email = "smtp.example.com"\nsender = "notices@example.com"\nproduct = "Example"\n'


def handlers(tmp_path: Path, text: str) -> dict[Effect, Any]:
    file = tmp_path / "lifecycle.toml"
    file.write_text(text)
    return load(file, {}).handlers


def test_every_kind_is_made_from_its_table(tmp_path: Path) -> None:
    made = handlers(
        tmp_path,
        f"""
        [handlers.delete_content]
        storage = "file:///srv/content"
        prefix = "{{account}}/"
        [handlers.purge_backups]
        sql = "sqlite:///shop.db"
        tables = {{ "backups" = "account" }}
        chunk = 50
        [handlers.stop_billing]
        webhook = "https://billing.example.com/lifecycle"
        secrets = ["{SECRET}"]
        timeout = "20 seconds"
        [handlers.resume_billing]
        command = ["./resume", "now"]
        [handlers.contact_owners]
        {MAIL}
        """,
    )
    assert {effect: type(handler) for effect, handler in made.items()} == {
        Effect.DELETE_CONTENT: Storage,
        Effect.PURGE_BACKUPS: Sql,
        Effect.STOP_BILLING: Webhook,
        Effect.RESUME_BILLING: Command,
        Effect.CONTACT_OWNERS: Email,
    }
    assert made[Effect.PURGE_BACKUPS].chunk == 50
    assert made[Effect.STOP_BILLING].timeout == timedelta(seconds=20)
    assert made[Effect.RESUME_BILLING].arguments == [str(tmp_path / "resume"), "now"]


def test_notices_stand_for_all_that_have_no_table_of_their_own_and_share_one_connection(tmp_path: Path) -> None:
    made = handlers(tmp_path, f'[handlers.notices]\n{MAIL}[handlers.remind_deletion]\ncommand = ["true"]\n')
    assert set(made) == set(NOTICES)
    assert isinstance(made[Effect.REMIND_DELETION], Command)
    assert len({id(made[effect]) for effect in NOTICES}) == 2


def test_several_tables_for_one_effect_are_several_handlers_by_name(tmp_path: Path) -> None:
    made = handlers(
        tmp_path,
        """
        [[handlers.delete_content]]
        name = "files"
        storage = "file:///srv/content"
        prefix = "{account}/"
        [[handlers.delete_content]]
        name = "orders"
        sql = "sqlite:///shop.db"
        tables = { "orders" = "account" }
        """,
    )
    several = made[Effect.DELETE_CONTENT]
    assert list(several) == ["files", "orders"]
    assert [handler.name for handler in several.values()] == ["files", "orders"], "they stand in their receipts"


def test_a_secret_is_read_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = '[handlers.stop_billing]\nwebhook = "https://b.example.com/x"\nsecrets = "env:HOOK_SECRET"\n'
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    with pytest.raises(LifecycleError, match="HOOK_SECRET, which the environment does not have"):
        handlers(tmp_path, table)
    monkeypatch.setitem(os.environ, "HOOK_SECRET", SECRET)
    assert isinstance(handlers(tmp_path, table)[Effect.STOP_BILLING], Webhook)


STORAGE = 'storage = "file:///srv/content"\nprefix = "{account}/"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[handlers.delete_kontent]\n" + STORAGE, "did you mean delete_content"),
        ("[handlers.delete_content]\n", "must say by one of these keys what it is"),
        ("[handlers.delete_content]\n" + STORAGE + 'command = ["true"]\n', "must say by one of these keys"),
        ("[handlers.delete_content]\n" + STORAGE + "prefx = 1\n", "did you mean prefix"),
        ('[handlers.delete_content]\nstorage = "file:///srv/content"\n', "lacks prefix"),
        ('[handlers.delete_content]\nstorage = ""\nprefix = "{account}/"\n', "must be text"),
        ('[handlers.delete_content]\nstorage = "file:///"\nprefix = "{account}/"\n', r"delete_content\]: The root"),
        ('[handlers.delete_content]\nstorage = "file:///srv"\nprefix = "/"\n', r"delete_content\]: The prefix"),
        ("[handlers.delete_content]\n" + STORAGE + 'timeout = "2 hours"\n', "at most half of delivery.lease"),
        ("[handlers.delete_content]\n" + MAIL, "email is not for delete_content"),
        ("[handlers.stop_billing]\n" + STORAGE, "storage is not for stop_billing"),
        ("[handlers.notices]\n" + STORAGE, "storage is not for remind_trial_end"),
        ('[handlers.stop_billing]\nwebhook = "http://b.example.com"\nsecrets = "whsec_eA=="\n', "https"),
        ('[handlers.stop_billing]\nwebhook = "https://b.example.com"\n', "lacks secrets"),
        ('[handlers.delete_content]\nsql = "sqlite:///a.db"\ntables = {}\n', "must name tables"),
        ("[[handlers.delete_content]]\n" + STORAGE, "name must be text"),
        (2 * ('[[handlers.delete_content]]\nname = "a"\n' + STORAGE), "is taken"),
        ("[handlers]\ndelete_content = []\n", "names no handler"),
        ("[handlers]\ndelete_content = 3\n", "must be a table"),
    ],
)  # fmt: skip
def test_a_slip_is_refused_and_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LifecycleError, match=message):
        handlers(tmp_path, text)
