"""Hostile text at every door: refused, and nothing changes; or kept as it is, and harmless at every way out."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select
from typer.testing import CliRunner

from lifecycle import (
    AccountNotFound,
    Actor,
    Engine,
    Filter,
    InvalidInput,
    LifecycleError,
    ManualClock,
    Policy,
    Refused,
    Task,
    inputs,
)
from lifecycle.cli import app
from lifecycle.columns import metadata
from lifecycle.config import load
from lifecycle.errors import LedgerUnusable
from lifecycle.exporter import export
from lifecycle.handlers.mail_text import TO_OWNERS, Templates, told
from lifecycle.handlers.several import Several
from lifecycle.importer import FORMULA, import_accounts
from lifecycle.ledger import Ledger
from lifecycle.metrics import exposed
from lifecycle.operation_tables import clock_readings, refused_attempts
from lifecycle.scheduler import Daemon
from tests.conftest import START

ANN, ADMIN = "ann@acme.test", Actor.admin("root")
BY_SUE = {"actor": Actor.support("sue"), "company": "Acme Ltd", "email": ANN}
#: What a reader does not see as what it is: no text of any kind may hold it.
UNSEEN = {
    "bell": "Ac\x07me",
    "NUL": "Ac\x00me",
    "line break": "Acme\nBcc: eve@evil.test",
    "terminal colour": "\x1b[31mAcme",
    "terminal title": "\x1b]0;owned\x07Acme",
    "terminal escape of eight bits": "\x9b31mAcme",
    "delete": "Acme\x7f\x7f\x7f\x7fEvil",
    "right-to-left override": "Ac\u202eme",
    "right-to-left mark": "Ac\u200fme",
    "isolate": "Ac\u2067me",
    "zero-width space": "Ac\u200bme",
    "zero-width joiner": "Ac\u200dme",
    "byte order mark": "Ac\ufeffme",
    "soft hyphen": "Ac\u00adme",
    "line separator": "Ac\u2028me",
    "letter without a shape": "Ac\u3164me",
    "tag": "Ac\U000e0041me",
    "half of a surrogate pair": "Ac\udcffme",
    "private use": "Ac\ue000me",
    "unassigned": "Ac\U0003fffeme",
    "zalgo": "A" + "\u0301\u0316" * 20 + "cme",
    "a megabyte": "A" * 1_000_000,
}
#: What anybody sees, and some program would take for its own.
SEEN = {
    "script": "<script>alert('x')</script>",
    "attribute": '" onload="alert(1)',
    "DOT": '"]; evil [label="x\\"',
    "terminal markup": "[red]Acme[/red] [link=x.test]x[/link]",
    **{f"formula {start!a}": f"{start}1+cmd" for start in FORMULA if not start.isspace()},
    "quoted formula": "'=1+1",
    "SQL": "'; DROP TABLE account; --",
    "format": "{0} {actor.id} {0!r:>99999}",
    "percent": "%s %n %(x)s 100%",
    "template": "{{ 7*7 }}{% if x %}",
    "path": "../../etc/passwd",
    "JSON": '"}], "x": [{"',
    "shell": "$(reboot) `id` ; | &",
    "jndi": "${jndi:ldap:x}",
    "languages": "Æøå Ψ 株式会社 شركة חברה कंपनी 👍🏽 é ế",
}
HOSTILE = {**UNSEEN, **SEEN}

# --- Doors ---------------------------------------------------------------------------------------

Door = Callable[[Engine, str], object]


def opened(engine: Engine, **said: Any) -> object:
    return engine.open_account(**{"account_id": "new", "company": "New Ltd", "owners": ["new@new.test"], **said})


#: Where free text enters.
TEXTS: dict[str, Door] = {
    "company of a new account": lambda e, t: opened(e, company=t),
    "reason": lambda e, t: e.fire("acme", "cancel", **{**BY_SUE, "reason": t}),
    "company of a request": lambda e, t: e.fire("acme", "cancel", **{**BY_SUE, "company": t}),
    "company asked about": lambda e, t: e.may("acme", "cancel", **{**BY_SUE, "company": t}),
    "company looked for": lambda e, t: e.find(t, ANN),
    "reason of a hold": lambda e, t: e.place_hold("acme", actor=ADMIN, reason=t),
    "reason for many": lambda e, t: e.fire_many("suspend", ["acme"], actor=ADMIN, reason=t),
    "reason to contact owners": lambda e, t: e.contact_owners("acme", actor=ADMIN, reason=t),
    "reason of a brake's release": lambda e, t: e.release_brake(1, actor=ADMIN, reason=t),
}
#: Where a word of a grammar enters: an id, a reference, an address, a name from a list.
WORDS: dict[str, Door] = {
    "id of a new account": lambda e, t: opened(e, account_id=t),
    "owner of a new account": lambda e, t: opened(e, owners=[t]),
    "plan": lambda e, t: opened(e, plan=t),
    "who opens": lambda e, t: opened(e, actor=Actor.support(t)),
    "account to change": lambda e, t: e.fire(t, "cancel", **BY_SUE),
    "account to look at": lambda e, t: e.get(t),
    "account to explain": lambda e, t: e.explain(t),
    "account of a history": lambda e, t: e.history(t),
    "account of holds": lambda e, t: e.holds(t),
    "account of a certificate": lambda e, t: e.certificate(t),
    "account used": lambda e, t: e.record_activity(t),
    "account exported": lambda e, t: list(export(e, "accounts", account_id=t)),
    "event": lambda e, t: e.fire("acme", t, **BY_SUE),
    "fact": lambda e, t: e.fire("acme", "cancel", **{**BY_SUE, t: "x"}),
    "support's id": lambda e, t: e.fire("acme", "cancel", **{**BY_SUE, "actor": Actor.support(t)}),
    "admin's id": lambda e, t: e.fire("acme", "suspend", actor=Actor.admin(t), reason="spam"),
    "billing's id": lambda e, t: e.fire("acme", "freeze", actor=Actor.billing(t)),
    "owner's id": lambda e, t: e.fire("acme", "cancel", actor=Actor.owner(t)),
    "admin's id at the brake": lambda e, t: e.release_brake(1, actor=Actor.admin(t), reason="x"),
    "admin's id at the clock": lambda e, t: e.accept_clock(Actor.admin(t)),
    "address of a request": lambda e, t: e.fire("acme", "cancel", **{**BY_SUE, "email": t}),
    "address looked for": lambda e, t: e.find("Acme Ltd", t),
    "request_id": lambda e, t: e.fire("acme", "cancel", **BY_SUE, request_id=t),
    "request_id for many": lambda e, t: e.fire_many("suspend", ["acme"], actor=ADMIN, reason="x", request_id=t),
    "case": lambda e, t: e.place_hold("acme", actor=ADMIN, reason="x", case=t),
    "case released": lambda e, t: e.release_hold("acme", actor=ADMIN, reason="x", case=t),
    "state of a filter": lambda e, t: e.fire_many("suspend", Filter(state=t), actor=ADMIN, reason="x"),
    "plan of a filter": lambda e, t: Filter(plan=t),
    "state to list": lambda e, t: list(e.accounts(t)),
    "format of an export": lambda e, t: export(e, "accounts", t),
    "daemon's name": lambda e, t: Daemon(e, name=t),
    "handler's name": lambda e, t: Several({t: lambda task: "done"}),
    "value of the policy": lambda e, t: Policy(trial_length=t),  # type: ignore[arg-type]
    "switch of the policy": lambda e, t: Policy(deletion_clock=t),  # type: ignore[arg-type]
    "name of a setting": lambda e, t: Policy.from_mapping({t: "1 day"}),
    "policy from the environment": lambda e, t: load(None, {"LIFECYCLE_POLICY_TRIAL_LENGTH": t}),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One account that nobody manages to change, on SQLite."""
    yield from with_acme(f"sqlite:///{tmp_path_factory.mktemp('attacks')}/lifecycle.db")


def with_acme(url: str) -> Iterator[Engine]:
    with closing(Engine(url, clock=ManualClock(START))) as engine:
        engine.migrate()
        engine.open_account("acme", company="Acme Ltd", owners=[ANN])
        yield engine


def kept(engine: Engine) -> list[Any]:
    """All that the tables hold, but for what is known of refusals."""
    tables = [table for table in metadata.sorted_tables if table not in (refused_attempts, clock_readings)]
    with engine.database.read() as connection:
        return [tuple(row) for table in tables for row in connection.execute(select(table).order_by(*table.c))]


def harmless(text: str) -> bool:
    """Whether a terminal, a log or a mail can show it: no controls, no piles, no end in sight."""
    return all(c.isprintable() or c == "\n" for c in text) and "\u0301\u0316" not in text and len(text) < 10_000


def refused(engine: Engine, door: Door, text: str) -> str:
    """The message of the refusal; fails where there is none."""
    try:
        door(engine, text)
    except (InvalidInput, AccountNotFound, LifecycleError) as error:
        assert not isinstance(error, Refused) or "AAAA" not in str(error), "refused by its form, not by the definition"
        return str(error)
    pytest.fail(f"{text[:40]!a} got in")


@pytest.mark.parametrize("door", TEXTS)
def test_text_that_nobody_sees_as_what_it_is_is_refused(engine: Engine, door: str) -> None:
    before = kept(engine)
    for name, text in UNSEEN.items():
        message = refused(engine, TEXTS[door], text)
        assert harmless(message) and text not in message, name
        assert len(message) < 300, name
    assert kept(engine) == before


@pytest.mark.parametrize("door", WORDS)
def test_a_word_of_a_grammar_has_no_room_for_anything_hostile(engine: Engine, door: str) -> None:
    before = kept(engine)
    for name, text in HOSTILE.items():
        message = refused(engine, WORDS[door], text)
        assert harmless(message) and len(message) < 1500, name
        assert name in SEEN or text not in message, name
    assert kept(engine) == before


@pytest.mark.postgres
def test_what_postgresql_can_not_even_be_asked_for_is_refused_before(postgresql_url: str) -> None:
    """NUL and halves of surrogate pairs make its driver raise errors of its own."""
    for engine in with_acme(postgresql_url):
        before = kept(engine)
        for door in (TEXTS | WORDS).values():
            for name in ("NUL", "half of a surrogate pair"):
                refused(engine, door, HOSTILE[name])
        activity = [(text, START) for text in HOSTILE.values()]
        assert engine.record_activities(activity).unknown == len(activity)
        assert kept(engine) == before


def test_hostile_ids_among_many_are_unknown_accounts(engine: Engine) -> None:
    before = kept(engine)
    plan = engine.fire_many("suspend", [*HOSTILE.values(), "acme"], actor=ADMIN, reason="spam")
    assert (plan.count, plan.refused) == (1, len(HOSTILE))
    assert engine.record_activities((text, START) for text in HOSTILE.values()).unknown == len(HOSTILE)
    assert kept(engine) == before


@pytest.mark.parametrize("column", ["id", "company", "owners", "legal_holds", "state", "opened_at"])
def test_no_hostile_cell_is_imported_and_the_rejects_are_harmless(engine: Engine, tmp_path: Path, column: str) -> None:
    good = {"id": "new", "company": "New", "owners": "a@b.test", "state": "active", "opened_at": "2025-01-01",
            "plan": "free", "free_since": "2025-01-01", "last_active_at": "2025-01-01", "legal_holds": ""}  # fmt: skip
    attacks = [text[:100_000] for text in (UNSEEN if column == "company" else HOSTILE).values()]
    source, rejects, before = tmp_path / "attack.csv", tmp_path / "rejects.csv", kept(engine)
    with source.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, [*good])
        writer.writeheader()
        writer.writerows({**good, "id": f"new{n}", column: text} for n, text in enumerate(attacks))
    report = import_accounts(engine, source, skip_bad=True, rejects=rejects)
    assert (report.imported, report.bad_rows) == (0, len(attacks))
    assert all(harmless(str(cell)) for cell in report.bad)
    with rejects.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert not [cell for row in rows for cell in row if cell.strip(" '").startswith(FORMULA) and cell[0] != "'"]
    assert kept(engine) == before


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "a megabyte"])
def test_a_ledger_that_names_no_account_is_not_read(tmp_path: Path, name: str) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.create()
    ledger.append([{"account": HOSTILE[name], "number": 1, "effect": "delete_content", "attempt": 1}])
    with pytest.raises(LedgerUnusable, match="Line 2") as caught:
        list(ledger.lines())
    assert harmless(str(caught.value))


REST = '\nprefix = "{account}/"'
CONFIGS: dict[str, str] = {
    "table": '["%s"]',
    "setting": '[policy]\n"%s" = "1 day"',
    "value": '[policy]\ntrial_length = "%s"',
    "effect": '[handlers."%s"]\ncommand = ["true"]',
    "key of a handler": '[handlers.delete_content]\n"%s" = 1',
    "root": '[handlers.delete_content]\nstorage = "%s"' + REST,
    "sender": '[handlers.notices]\nemail = "mail.test"\nproduct = "X"\nsender = "%s"',
    "product": '[handlers.notices]\nemail = "mail.test"\nsender = "a@b.test"\nproduct = "%s"',
    "key": '[encryption]\ncurrent = "a"\nkeys = { "%s" = "x" }',
    "secret": '[encryption]\ncurrent = "a"\nkeys = { "a" = "%s" }',
    "url": '[handlers.stop_billing]\nwebhook = "%s"\nsecrets = "whsec_eA=="',
    "name": '[[handlers.delete_content]]\nstorage = "file:///srv"\nname = "%s"' + REST,
    "count": '[delivery]\nattempts = "%s"',
}


@pytest.mark.parametrize("place", CONFIGS)
def test_a_hostile_configuration_is_refused_and_not_repeated(tmp_path: Path, place: str) -> None:
    attacks = UNSEEN if place == "product" else HOSTILE
    for name, text in attacks.items():
        said = "".join(c if c.isalnum() else f"\\U{ord(c):08X}" for c in text)
        if "\udcff" in text:
            continue  # TOML has no way to write it
        path = tmp_path / "attack.toml"
        path.write_text(CONFIGS[place] % said, encoding="utf-8")
        with pytest.raises(LifecycleError) as caught:
            load(path, {})
        assert harmless(str(caught.value)), name


# --- The command line ----------------------------------------------------------------------------

COMMANDS: dict[str, list[str]] = {
    "command": ["%s"],
    "option": ["show", "acme", "--%s"],
    "id": ["show", "%s"],
    "new id": ["open", "%s", "--company", "New", "--owner", "a@b.test"],
    "owner": ["open", "new", "--company", "New", "--owner", "%s"],
    "event": ["fire", "acme", "%s", "--as", "admin"],
    "role": ["fire", "acme", "suspend", "--as", "%s"],
    "actor": ["fire", "acme", "suspend", "--reason", "x", "--as", "admin:%s"],
    "signed in": ["fire", "acme", "cancel", "--as", "owner:%s"],
    "key": ["api-key", "%s"],
    "address": ["cancel", "--company", "Acme Ltd", "--email", "%s"],
    "request id": ["fire", "acme", "suspend", "--reason", "x", "--as", "admin", "--request-id", "%s"],
    "case": ["hold", "place", "acme", "--reason", "x", "--case", "%s"],
    "instant": ["hold", "place", "acme", "--reason", "x", "--case", "1", "--until", "%s"],
    "state": ["accounts", "--state", "%s"],
    "duration": ["due", "--within", "%s"],
    "format": ["export", "accounts", "--format", "%s"],
    "account": ["export", "history", "--account", "%s"],
    "daemon": ["daemon", "--name", "%s"],
    "picture": ["diagram", "%s"],
    "digest": ["fire-many", "suspend", "--as", "admin", "--all", "--apply", "--digest", "%s"],
}
ON_A_LINE = ("NUL", "terminal title", "right-to-left override", "half of a surrogate pair", "zalgo", "a megabyte")


@pytest.mark.parametrize("place", COMMANDS)
def test_a_hostile_argument_is_bad_input_and_comes_back_harmless(engine: Engine, place: str) -> None:
    before = kept(engine)
    for name in ON_A_LINE:
        arguments = [argument.replace("%s", HOSTILE[name]) for argument in COMMANDS[place]]
        result = CliRunner().invoke(app, [*arguments, "--database", str(engine.database)], prog_name="lifecycle")
        assert (result.exit_code, result.stdout) == (2, ""), (name, result.output[:500])
        assert harmless(result.stderr), name
    assert kept(engine) == before


# --- Grammars ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["sue", "2027-114", "2O/114-27", "DOMAIN\\sue", "ticket#42", "a+b", "x" * 64, "7", "K:1.2_3"]
)
def test_a_reference_may_be(word: str) -> None:
    assert inputs.reference(f" {word} ", "It") == word


@pytest.mark.parametrize(
    "word",
    [*SEEN.values(), ANN, "Ann Smith", "court order", "", " ", "-x", "#1", "/etc", "x" * 65, "sué", "x\ny", None, 7],
)
def test_a_reference_has_no_room_for_addresses_sentences_and_options(word: object) -> None:
    with pytest.raises(InvalidInput, match="no address and no sentence"):
        inputs.reference(word, "It")


def test_the_id_of_a_request_may_be_longer_since_programs_make_it() -> None:
    assert inputs.request_id("x" * 128) == "x" * 128
    with pytest.raises(InvalidInput, match="up to 128"):
        inputs.request_id("x" * 129)


@pytest.mark.parametrize("address", [ANN, "o'hara+x@acme.co.uk", "a!#$%&*/=?^_`{|}~-b@localhost", "jürgen@bücher.test"])
def test_an_address_may_be(address: str) -> None:
    assert inputs.email(address) == address


@pytest.mark.parametrize(
    "address",
    [
        f"{ANN}\r\nBcc: eve@evil.test", f"{ANN}\nX: y", f"{ANN}, eve@evil.test", f"{ANN};eve@evil.test", f"<{ANN}>",
        f"Ann <{ANN}>", '"a b"@acme.test', "a(b)@acme.test", "a@b@acme.test", "a b@acme.test", "a\u00a0b@acme.test",
        "<script>@acme.test", 'a"onload=x@acme.test', "ann@[127.0.0.1]", "ann@acme..test", ".ann@acme.test",
        "@acme.test", "ann@", "ann",
        "\x1b[31mann@acme.test", "a\u202en@acme.test", "a\u200bnn@acme.test", "ann@acme\u2028.test",
        "\uff41nn@acme.test", "ann@acme\uff0etest", "mi\u212ae@acme.test", "\ufb01n@acme.test", "ma\u017fter@acme.test",
        "a\u0301\u0316\u0301\u0316\u0301nn@acme.test", "a" * 250 + "@x.test", None,
    ],
)  # fmt: skip
def test_an_address_has_no_room_for_headers_html_lists_and_doubles(address: object) -> None:
    with pytest.raises(InvalidInput, match="malformed"):
        inputs.email(address)


def test_what_a_language_needs_is_kept_as_it_was_written() -> None:
    for text in (
        "Việt Nam",
        "Vie\u0323\u0302t Nam",
        "שָׁלוֹם",
        "เก้าอี้",
        "བརྒྱུད",
        "ကြွှမ်း",
        "نُوَّاب",
        "❤\ufe0f",
        "葛\U000e0100城",
    ):
        assert inputs.text(f" {text} ", "company") == text


# --- Who is an owner -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_file", "asked"),
    [
        ("mike@acme.test", "mi\u212ae@acme.test"),  # the sign of the kelvin, in lower case a k
        ("master@acme.test", "ma\u017fter@acme.test"),  # a long s, in upper case an S
        ("fin@acme.test", "\ufb01n@acme.test"),  # a ligature
        ("ann@acme.test", "\uff41nn@acme.test"),  # full-width
        ("ann@acme.test", "\u0430nn@acme.test"),  # Cyrillic
        ("strasse@acme.test", "straße@acme.test"),
        ("straße@acme.test", "STRASSE@acme.test"),
        ("linda@acme.test", "l\u0131nda@acme.test"),  # Turkish, without a dot
        ("linda@acme.test", "L\u0130nda@acme.test"),  # and with one
        ("jose@acme.test", "josé@acme.test"),
        ("\u03b1\u03c2@acme.test", "\u03b1\u03c3@acme.test"),
        (ANN, "a nn@acme.test"),
    ],
)
def test_who_looks_like_an_owner_is_none(engine: Engine, on_file: str, asked: str) -> None:
    account = f"twin{len(list(engine.accounts()))}"
    engine.open_account(account, company="Twin Ltd", owners=[on_file])
    requests: list[dict[str, Any]] = [
        {"actor": Actor.owner(asked)},
        {"actor": Actor.support("sue"), "company": "Twin Ltd", "email": asked},
    ]
    for request in requests:
        with pytest.raises((InvalidInput, Refused)):
            engine.fire(account, "cancel", **request)
    assert engine.get(account).cancelled_at is None
    assert engine.may(account, "cancel", actor=Actor.owner(on_file)).allowed


@pytest.mark.parametrize(
    ("on_file", "asked"),
    [
        (("Café Ltd", "josé@acme.test"), ("Cafe\u0301  LTD", "JOSE\u0301@Acme.Test")),
        (("Straße 7", "ann@acme.test"), ("STRASSE\u00a07", "ANN@ACME.TEST")),
        (("株式会社", "ελένη@acme.test"), ("株式会社", "ΕΛΈΝΗ@acme.test")),
    ],
)
def test_an_owner_is_known_however_they_type_it(
    engine: Engine, on_file: tuple[str, str], asked: tuple[str, str]
) -> None:
    account = f"twin{len(list(engine.accounts()))}"
    engine.open_account(account, company=on_file[0], owners=[on_file[1]])
    assert engine.find(*asked) == [account]
    entry = engine.fire(account, "cancel", actor=Actor.support("sue"), company=asked[0], email=asked[1])
    assert (entry.actor, entry.owner) == ("support:sue", 1)


def test_an_owner_who_opens_an_account_stands_in_its_history_by_number(engine: Engine) -> None:
    people = ["new@new.test", "Second@new.test"]
    engine.open_account("opened", company="New", owners=people, actor=Actor.owner("second@new.test"))
    assert engine.history("opened")[0].actor == "owner:2"
    with pytest.raises(InvalidInput, match="among its owners"):
        opened(engine, actor=Actor.owner("eve@evil.test"))
    with pytest.raises(Refused, match="act as the system"):
        opened(engine, actor=Actor(Actor.admin("x").role.SYSTEM, "engine"))


# --- Ways out ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An account for each text that may come in, which is its company's name and the reason why it was cancelled."""
    url = f"sqlite:///{tmp_path_factory.mktemp('ways-out')}/lifecycle.db"
    with closing(Engine(url, clock=ManualClock(START))) as engine:
        engine.migrate()
        for number, text in enumerate(SEEN.values()):
            engine.open_account(f"a{number}", company=text, owners=[f"=o{number}@acme.test"])
            engine.fire(f"a{number}", "cancel", actor=Actor.owner(f"=o{number}@acme.test"), reason=text)
        engine.place_hold("a0", actor=ADMIN, reason=SEEN["script"], case="2027-114")
        yield engine


def run(engine: Engine, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--database", str(engine.database)], env={"COLUMNS": "2000"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_lists_and_their_json_show_the_very_text(stored: Engine) -> None:
    shown, data = run(stored, "accounts"), run(stored, "accounts", "--json")
    assert harmless(shown[:9000]) and harmless(shown[9000:]) and data.isascii()
    for name, text in SEEN.items():
        assert text in shown and json.dumps(text) in data, name
    assert SEEN["script"] in run(stored, "hold", "list")


@pytest.mark.parametrize("command", ["show", "history"])
@pytest.mark.parametrize("name", ["script", "terminal markup", "percent", "languages"])
def test_the_page_of_an_account_shows_the_very_text(stored: Engine, command: str, name: str) -> None:
    account = f"a{list(SEEN).index(name)}"
    shown, data = run(stored, command, account), run(stored, command, account, "--json")
    assert harmless(shown) and data.isascii()
    assert SEEN[name] in shown and json.dumps(SEEN[name]) in data
    issued = run(stored, "certificate", account) + run(stored, "certificate", account, "--json")
    assert SEEN[name] not in issued and json.dumps(SEEN[name])[1:-1] not in issued, "it holds nothing personal"


def test_exports_hold_no_formula_and_an_import_reads_the_very_text(stored: Engine, sqlite_url: str) -> None:
    for what in ("accounts", "history"):
        lines = list(export(stored, what))
        assert not [cell for row in csv.reader(lines) for cell in row if cell.lstrip().startswith(FORMULA)]
        assert [json.loads(line) for line in export(stored, what, "jsonl")]
    held = stored.get("a0").cases
    with closing(Engine(sqlite_url, clock=ManualClock(START))) as other:
        other.migrate()
        assert import_accounts(other, list(export(stored, "accounts"))).problems == 0
        for number, text in enumerate(SEEN.values()):
            assert (other.get(f"a{number}").company, other.get("a0").cases) == (text, held)


def test_a_database_finds_the_very_text_and_nothing_else(stored: Engine) -> None:
    for number, text in enumerate(SEEN.values()):
        assert stored.find(text, f"=o{number}@acme.test") == [f"a{number}"]
    assert len(list(stored.accounts())) == len(SEEN)


class Tags(HTMLParser):
    """The tags of a mail with their attributes, and its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[Any] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("effect", ["confirm_cancellation", "contact_owners"])
def test_mails_say_the_very_text_in_one_line_of_the_subject_and_in_no_tag(effect: str) -> None:
    assert effect in TO_OWNERS
    policy = Policy().as_text()
    templates = Templates(None, {"product": "Tracker", "support": None, "policy": policy})
    dates = dict.fromkeys(("access_ends_at", "delete_content_at", "purge_backups_by"), START.isoformat())

    def mail(company: str) -> Any:
        return templates.mail(effect, told(Task(1, "a1", effect, {"company": company, **dates}, 1, "a1:1:x")))

    plain = Tags(mail("Acme").html)
    assert "Acme" in plain.words
    for name, text in SEEN.items():
        written = mail(text)
        html = Tags(written.html)
        assert html.tags == plain.tags, name
        assert " ".join(text.split()) in " ".join(html.words.split()), name
        assert "\n" not in written.subject and "49" not in written.subject, name


def test_the_labels_of_metrics_are_what_they_are_called(stored: Engine) -> None:
    for number, text in enumerate(SEEN.values()):  # as if a daemon of an earlier version had called itself so
        stored.store.beat(f"{number}{text}\n", START, START, "x", None)
    labels = {
        sample.labels["daemon"]
        for family in text_string_to_metric_families(exposed(stored))
        for sample in family.samples
        if "daemon" in sample.labels
    }
    assert labels == {f"{number}{text}\n" for number, text in enumerate(SEEN.values())}
