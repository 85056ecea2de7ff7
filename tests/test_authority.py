"""Who may ask: roles come from settings and from who runs the process, and no actor is taken at their word."""

import inspect
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle import Actor, Engine, InvalidInput, ManualClock, NotAuthorised, Policy, State
from lifecycle.access import EVERYBODY, Access, hash_of, new_key, read_access
from lifecycle.actor import SYSTEM, Role
from lifecycle.authority import HELD, Authority, Principal, TwoPerson
from lifecycle.config import load
from lifecycle.machine import may_fire
from lifecycle.states import Event
from tests.conftest import START
from tests.people import ME, ROLES, authority, key_of, run, settings

ANN = "ann@acme.test"


@pytest.fixture
def acme(engine: Engine) -> Engine:
    engine.open_account("acme", company="Acme Ltd", owners=[ANN])
    return engine


@pytest.fixture
def opened(acme: Engine, url: str) -> Iterator[Callable[..., Engine]]:
    """Opens the database of acme for somebody with some roles."""
    made: list[Engine] = []

    def open_for(name: str, *roles: Role, **options: Any) -> Engine:
        made.append(Engine(url, clock=acme.clock, authority=authority(name, *roles, **options)))
        return made[-1]

    yield open_for
    for engine in made:
        engine.close()


LONGER = Policy.from_mapping({"trial_length": "40 days"})
#: A call of every public method that takes an actor.
CALLS: dict[str, Callable[[Engine, Actor], Any]] = {
    "open_account": lambda engine, actor: engine.open_account("new", company="New", owners=[ANN], actor=actor),
    "fire": lambda engine, actor: engine.fire("acme", "suspend", actor=actor, reason="spam"),
    "fire_many": lambda engine, actor: engine.fire_many("suspend", ["acme"], actor=actor, reason="spam"),
    "place_hold": lambda engine, actor: engine.place_hold("acme", actor=actor, reason="order"),
    "release_hold": lambda engine, actor: engine.release_hold("acme", actor=actor, reason="settled"),
    "contact_owners": lambda engine, actor: engine.contact_owners("acme", actor=actor, reason="who asks?"),
    "release_brake": lambda engine, actor: engine.release_brake(1, actor=actor, reason="spam"),
    "accept_clock": lambda engine, actor: engine.accept_clock(actor),
    "activate": lambda engine, actor: engine.activate(LONGER, actor=actor, reason="why"),
    "settle_review": lambda engine, actor: engine.settle_review(1, actor=actor, reason="seen"),
    "add_owner": lambda engine, actor: engine.add_owner("acme", "new@acme.test", actor=actor, reason="contract"),
    "remove_owner": lambda engine, actor: engine.remove_owner("acme", ANN, actor=actor, reason="left"),
    "apply_restore": lambda engine, actor: engine.apply_restore(actor=actor),
}
#: These only ask, and are answered; or are there for the others.
ASKING = {"may", "acting", "opening"}


def test_every_public_method_that_takes_an_actor_is_among_the_calls() -> None:
    methods = inspect.getmembers(Engine, inspect.isfunction)
    taking = {name for name, method in methods if "actor" in inspect.signature(method).parameters}
    assert {name for name in taking if not name.startswith("_")} == {*CALLS, *ASKING}


def refused(engine: Engine, actor: Actor, why: str) -> None:
    """Every call is refused, changes nothing, and is recorded."""
    for name, call in CALLS.items():
        before = engine.get("acme").version
        with pytest.raises(NotAuthorised, match=why):
            call(engine, actor)
            pytest.fail(f"{name} believes {actor}")
        assert engine.get("acme").version == before, name
        last = engine.refusals(limit=1)[0]
        principal = None if engine.authority is None else str(engine.authority.principal)
        assert (last.who, last.principal) == (f"{actor.role}:{actor.id}", principal), name
    assert len(engine.refusals()) == len(CALLS)


@pytest.mark.parametrize("claimed", [SYSTEM, Actor("system", "engine")], ids=["the member", "the bare word"])  # type: ignore[arg-type]
def test_nobody_can_claim_to_be_the_system(acme: Engine, claimed: Actor) -> None:
    refused(acme, claimed, "only timers do")


def test_nobody_can_claim_the_id_of_another(opened: Callable[..., Engine]) -> None:
    refused(opened("eve", Role.ADMIN, Role.SUPPORT), Actor.admin("root"), "somebody else than user:eve")


def test_nobody_can_claim_a_role_that_they_lack(opened: Callable[..., Engine]) -> None:
    refused(opened("sue", Role.SUPPORT), Actor.admin("sue"), "user:sue has support")


def test_an_actor_who_is_who_the_engine_works_for_is_believed(opened: Callable[..., Engine]) -> None:
    engine = opened("ada", Role.ADMIN)
    assert engine.fire("acme", "suspend", actor=Actor.admin("ada"), reason="spam").actor == "admin:ada"


def test_a_question_in_the_name_of_another_is_answered_with_no(opened: Callable[..., Engine]) -> None:
    engine = opened("sue", Role.SUPPORT)
    verdict = engine.may("acme", "suspend", actor=Actor.admin("root"), reason="spam")
    assert not verdict.allowed and "takes the role admin" in verdict.reasons[0]


def test_only_a_portal_speaks_for_owners(opened: Callable[..., Engine]) -> None:
    with pytest.raises(NotAuthorised, match="takes the role portal"):
        opened("sue", Role.SUPPORT, Role.ADMIN).fire("acme", "cancel", actor=Actor.owner(ANN))
    portal = opened("web", Role.PORTAL)
    assert portal.fire("acme", "cancel", actor=Actor.owner(ANN)).actor == "owner:1"
    with pytest.raises(NotAuthorised):
        portal.fire("acme", "reactivate", actor=Actor(Role.PORTAL, "web"))


def test_an_auditor_fires_nothing(acme: Engine) -> None:
    for event in Event:
        assert not acme.may("acme", event, actor=Actor(Role.AUDITOR, "amy"), reason="because").allowed
    assert not any(Role.AUDITOR in may_fire(event) or Role.PORTAL in may_fire(event) for event in Event)


def test_an_auditor_reads_and_opens_nothing(opened: Callable[..., Engine], acme: Engine) -> None:
    engine = opened("amy", Role.AUDITOR)
    assert engine.get("acme").state is State.TRIAL and engine.history("acme")
    for actor in (None, Actor(Role.AUDITOR, "amy")):
        with pytest.raises(NotAuthorised):
            engine.open_account("new", company="New", owners=[ANN], actor=actor)


def test_an_account_that_nobody_is_named_for_is_opened_by_whom_the_engine_works_for(
    opened: Callable[..., Engine], acme: Engine
) -> None:
    opened("web", Role.PORTAL).open_account("new", company="New", owners=[ANN])
    assert acme.history("new")[0].actor == "portal:web"
    acme.open_account("newer", company="New", owners=[ANN])
    assert acme.history("newer")[0].actor == "system:engine"


def test_an_unknown_role_is_no_role(acme: Engine) -> None:
    with pytest.raises(InvalidInput, match="Unknown role"):
        acme.fire("acme", "suspend", actor=Actor("root", "root"), reason="spam")  # type: ignore[arg-type]


# --- Who runs the process ------------------------------------------------------------------------


def test_the_user_is_whom_the_operating_system_says_whatever_the_environment_claims(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody")
    assert Access().principal(os.environ) == Principal("user", ME)


@pytest.mark.parametrize("login", ["ann@corp.test", "Ann Smith", "änne", "-rf", "x" * 99, "\x1b[31m", "_www"])
def test_a_name_that_can_not_stand_in_the_history_gives_way_to_the_number(
    login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pwd.getpwuid", lambda uid: SimpleNamespace(pw_name=login))
    assert Access().principal({}) == Principal("user", f"uid-{os.geteuid()}")


def test_a_user_whom_the_system_has_no_name_for_goes_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4_000_000)
    assert str(Access().principal({})) == "user:uid-4000000"


def test_a_key_is_256_random_bits_of_which_settings_hold_the_hash() -> None:
    key, hashed = new_key("helpdesk")
    assert len(key) == len("lifecycle_") + 43 and key != new_key("helpdesk")[0]
    assert hashed == hash_of(key) and key not in hashed
    assert Access(keys={"helpdesk": hashed}).principal({"LIFECYCLE_API_KEY": key}) == Principal("key", "helpdesk")


@pytest.mark.parametrize(
    "wrong",
    ["", "x", "lifecycle_", key_of("sue") + " ", key_of("sue")[:-1], hash_of(key_of("sue")), "\udcff", "\x00" * 99],
)
def test_a_key_that_nobody_has_is_refused_and_nobody_falls_back_to_the_user(wrong: str) -> None:
    access = Access(keys={"sue": hash_of(key_of("sue"))})
    with pytest.raises(NotAuthorised, match="not among"):
        access.principal({"LIFECYCLE_API_KEY": wrong})


def test_keys_are_compared_in_constant_time_and_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(known: str, given: str) -> bool:
        compared.append(known)
        return secrets.compare_digest(known, given)

    monkeypatch.setattr("lifecycle.access.hmac.compare_digest", compare)
    keys = {name: hash_of(key_of(name)) for name in ROLES}
    Access(keys=keys).principal({"LIFECYCLE_API_KEY": key_of("sue")})
    assert compared == list(keys.values())


# --- Settings ------------------------------------------------------------------------------------


def test_without_roles_whoever_runs_the_command_has_all() -> None:
    who = Access().authority(Principal("user", "sue"))
    assert (who.roles, who.source) == (frozenset(HELD), EVERYBODY)


def test_with_roles_only_those_who_are_listed_have_one(tmp_path: Path) -> None:
    file = tmp_path / "lifecycle.toml"
    file.write_text(settings())
    access = load(file, {}).access
    assert access.authority(Principal("key", "sue")).roles == {Role.SUPPORT}
    for stranger in (Principal("key", "eve"), Principal("user", "sue"), Principal("user", ME)):
        assert access.authority(stranger).roles == frozenset()


def test_settings_that_are_written_and_read_again_are_the_same() -> None:
    access = read_access({"roles": {"admin": ["user:ada"]}, "two_person": {"expires_after": "90 minutes"}})
    assert Access.from_text(access.as_text()) == access
    assert Access.from_text(None) == Access.from_text(Access().as_text()) == Access()


HASH = hash_of("x")
SLIPS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown role": ({"roles": {"admn": ["user:ada"]}}, "did you mean admin"),
    "a role that nobody can have": ({"roles": {"system": ["user:ada"]}}, "Unknown role"),
    "nobody who could change it": ({"roles": {"support": ["user:sue"]}}, "names no admin"),
    "no list": ({"roles": {"admin": "user:ada"}}, "must be a list"),
    "no kind of principal": ({"roles": {"admin": ["ada"]}}, "user:NAME or key:NAME"),
    "a group": ({"roles": {"admin": ["group:wheel"]}}, "user:NAME or key:NAME"),
    "a name with spaces": ({"roles": {"admin": ["user:a b"]}}, "user:NAME or key:NAME"),
    "a key that there is not": ({"roles": {"admin": ["key:ci"]}}, "no key in"),
    "a name twice": ({"roles": {"admin": ["user:ci"]}, "api_keys": {"ci": HASH}}, "a user and a key"),
    "a key in clear": ({"api_keys": {"ci": "lifecycle_secret"}}, "must be the hash"),
    "one key for two": ({"api_keys": {"a": HASH, "b": HASH}}, "have the same key"),
    "a key without a name": ({"api_keys": {"a b": HASH}}, "no name for a key"),
    "an unknown rule": ({"two_person": {"break_release": True}}, "did you mean brake_release"),
    "a rule that is no switch": ({"two_person": {"brake_release": "no"}}, "true or false"),
    "a number below nothing": ({"two_person": {"fire_many_from": -1}}, "whole number"),
    "no duration": ({"two_person": {"expires_after": "soon"}}, "duration"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_the_settings_is_refused(slip: str) -> None:
    tables, message = SLIPS[slip]
    with pytest.raises(Exception, match=message) as error:
        read_access(tables)
    assert type(error.value).__name__ in ("InvalidInput", "PolicyError")


# --- The settings that the database keeps --------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, sqlite_url: str) -> Path:
    """A configuration with roles, adopted by the database."""
    file = tmp_path / "lifecycle.toml"
    file.write_text(settings())
    run("ada", "init", config=file, url=sqlite_url)
    run("sue", "open", "acme", "--company", "Acme Ltd", "--owner", ANN, config=file, url=sqlite_url)
    return file


def other(config: Path, text: str) -> Path:
    file = config.parent / "other.toml"
    file.write_text(text)
    return file


OWN_SETTINGS = {
    "none at all": "",
    "with oneself as admin": settings(roles={**ROLES, "eve": ("admin",)}),
    "with a key of one's own for another": settings().replace(hash_of(key_of("ada")), hash_of("mine")),
    "with rules of one's own": settings("[two_person]\nbrake_release = false\n"),
}


@pytest.mark.parametrize("own", OWN_SETTINGS)
def test_nobody_chooses_their_roles_by_a_configuration_of_their_own(config: Path, sqlite_url: str, own: str) -> None:
    file = other(config, OWN_SETTINGS[own])
    who = "eve" if "eve" in OWN_SETTINGS[own] and "as admin" in own else None if own == "none at all" else "bob"
    for command in (("accounts",), ("fire", "acme", "suspend", "--as", "admin", "--reason", "spam")):
        assert "than the database keeps" in run(who, *command, config=file, url=sqlite_url, code=1).stderr
    if own != "with rules of one's own":
        run(who, "init", config=file, url=sqlite_url, code=1)
    assert "suspend" not in run("amy", "history", "acme", config=config, url=sqlite_url).stdout
    shown = run("amy", "refusals", "--json", config=config, url=sqlite_url).stdout
    assert '"what": "accounts"' in shown and '"what": "fire"' in shown


def test_an_admin_can_not_lend_their_name_to_a_key_of_the_new_settings(config: Path, sqlite_url: str) -> None:
    file = other(config, settings().replace(hash_of(key_of("ada")), hash_of(key_of("mallory"))))
    said = run("mallory", "init", config=file, url=sqlite_url, code=1)
    assert "change the key that they are used with" in said.stderr


def test_new_settings_are_adopted_by_one_admin_and_approved_by_another(config: Path, sqlite_url: str) -> None:
    file = other(config, settings(roles={**ROLES, "eve": ("support",)}))
    assert (
        "roles.support from key:sue to key:eve, key:sue"
        in run("ada", "init", config=file, url=sqlite_url, code=1).stderr
    )
    run("bob", "approve", "1", config=config, url=sqlite_url)
    run("ada", "init", config=file, url=sqlite_url)
    assert "acme" in run("eve", "accounts", config=file, url=sqlite_url).stdout
    run("ada", "accounts", config=config, url=sqlite_url, code=1)


def test_where_there_is_only_one_admin_nobody_else_is_asked(config: Path, tmp_path: Path) -> None:
    lonely_url = f"sqlite:///{tmp_path}/lonely.db"
    lonely = {"ada": ("admin",), "eve": ()}
    file = other(config, settings(roles=lonely))
    run("ada", "init", config=file, url=lonely_url)
    file.write_text(settings("[two_person]\nbrake_release = false\n", roles=lonely))
    run("ada", "init", config=file, url=lonely_url)
    run("ada", "brake", "release", "5", "--reason", "spam", config=file, url=lonely_url)


def test_timers_are_no_privilege(config: Path, sqlite_url: str) -> None:
    for command in ("sweep", "deliver"):
        run("eve", command, config=config, url=sqlite_url)
        run(None, command, config=other(config, ""), url=sqlite_url)


# --- Commands ------------------------------------------------------------------------------------


def test_whoever_has_no_role_may_only_ask_who_they_are(config: Path, sqlite_url: str) -> None:
    shown = run("eve", "whoami", config=config, url=sqlite_url).stdout
    assert "key:eve" in shown and "none" in shown
    refused = run("eve", "accounts", config=config, url=sqlite_url, code=1)
    assert "key:eve has no role" in refused.stderr and "acme" not in refused.output


#: What somebody may not do, by name.
FORBIDDEN = {
    "sue": ["init", "brake release 5 --reason x", "restore apply", "import x.csv", "outbox retry --all", "api-key x"],
    "amy": ["open x --company X --owner x@x.test", "fire acme suspend --as auditor", "approve 1", "activity x.csv"],
    "web": ["brake release 5 --reason x", "hold place acme --reason x", f"cancel --company A --email {ANN} --id acme"],
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_command_is_refused_to_roles_that_it_does_not_name(config: Path, sqlite_url: str, name: str) -> None:
    for line in FORBIDDEN[name]:
        run(name, *line.split(), config=config, url=sqlite_url, code=1)


def test_a_role_that_one_lacks_can_not_be_chosen(config: Path, sqlite_url: str) -> None:
    said = run(
        "sue", "fire", "acme", "suspend", "--as", "admin", "--reason", "x", config=config, url=sqlite_url, code=1
    )
    assert "takes the role admin; key:sue has support" in said.stderr
    said = run("sue", "fire", "acme", "cancel", "--as", f"owner:{ANN}", config=config, url=sqlite_url, code=1)
    assert "takes the role portal" in said.stderr
    run("web", "fire", "acme", "cancel", "--as", f"owner:{ANN}", config=config, url=sqlite_url)


def test_the_id_in_the_history_is_that_of_who_ran_the_command(config: Path, sqlite_url: str) -> None:
    run("sue", "cancel", "--company", "Acme Ltd", "--email", ANN, config=config, url=sqlite_url)
    shown = run("amy", "history", "acme", config=config, url=sqlite_url).stdout
    assert "support:sue" in shown


def test_an_unknown_key_is_refused_by_every_command_and_recorded_without_a_name(config: Path, sqlite_url: str) -> None:
    for command in ("whoami", "accounts"):
        assert "not among [api_keys]" in run("mallory", command, config=config, url=sqlite_url, code=1).stderr
    shown = run("amy", "refusals", config=config, url=sqlite_url).stdout
    assert "key:?" in shown and "mallory" not in shown


def test_a_forged_login_name_gives_nobody_a_role(
    config: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = other(config, settings().replace("admin = [", f'admin = ["user:not-{ME}", '))
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, f"not-{ME}")
    shown = run(None, "whoami", config=file, url=sqlite_url).stdout
    assert f"user:{ME}\n" in shown and "none" in shown


def test_an_import_names_who_did_it(config: Path, sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "accounts.csv"
    file.write_text(
        "id,company,owners,opened_at,state,plan,free_since\nbeta,Beta,b@b.test,2025-01-01,active,free,2025-01-01\n"
    )
    run("ada", "import", str(file), config=config, url=sqlite_url)
    assert "admin:ada" in run("amy", "history", "beta", config=config, url=sqlite_url).stdout


def test_a_demo_gives_a_database_in_use_no_policy_of_its_own(config: Path, sqlite_url: str) -> None:
    assert "must be empty" in run("eve", "demo", config=config, url=sqlite_url, code=2).stderr


def test_doctor_says_whether_roles_are_configured(acme: Engine, url: str) -> None:
    from lifecycle.doctor import examine

    access = Access().authority(Principal("user", "sue"))
    engine = Engine(url, clock=ManualClock(START), authority=access)
    (finding,) = [one for one in examine(engine) if one.check == "access"]
    assert "You are user:sue; no [roles] are configured" in finding.message
    engine.close()


def test_an_authority_of_code_is_not_compared_with_settings(opened: Callable[..., Engine]) -> None:
    assert authority("ada", Role.ADMIN).settings is None
    opened("ada", Role.ADMIN).check_access()


def test_an_authority_gives_an_actor_only_in_roles_that_it_has() -> None:
    who = Authority(Principal("user", "sue"), frozenset({Role.SUPPORT}), TwoPerson())
    assert who.actor(Role.SUPPORT) == Actor.support("sue")
    for role in (Role.ADMIN, Role.SYSTEM, Role.OWNER):
        with pytest.raises(NotAuthorised):
            who.actor(role)
