"""The documentation is true: its examples run, its links lead somewhere, and it names only what exists.

Run as a program (``python tests/docs/test_docs.py``), it prints docs/reference.md, and the decisions of
docs/policy.md, again.
"""

import json
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
import structlog
import typer.main
from typer.testing import CliRunner

from lifecycle import Actor, Clause, Effect, Engine, Event, ManualClock, Policy, State
from lifecycle.access import KEY_VARIABLE
from lifecycle.cli import COMMANDS, app
from lifecycle.cli.rights import rights
from lifecycle.config import load
from lifecycle.decisions import markdown
from lifecycle.handlers.command import Command
from lifecycle.policy import duration_words
from lifecycle.reference import reference

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
REFERENCE = REPOSITORY / "docs" / "reference.md"
PREFACE = "<!-- Printed from the definition; don't edit. To print it again: python tests/docs/test_docs.py -->\n\n"
MARKDOWN = sorted(
    path
    for path in REPOSITORY.rglob("*.md")
    if not any(part.startswith(".") or part == "node_modules" for part in path.relative_to(REPOSITORY).parts)
)
PAGES = [path for path in MARKDOWN if path.parent.name == "docs" or path.name == "README.md"]

#: Pages whose blocks don't follow from each other: each block finds a database of its own (see `_reference_world`).
NO_SESSION = ("cli.md",)
#: Commands that are not run, by their beginning, and why.
NOT_RUN = {
    "lifecycle daemon": "runs until it is stopped; tests/test_daemon.py runs it",
    "lifecycle demo": "takes a minute; tests/test_demo.py runs it",
    "lifecycle simulate": "takes a minute; tests/test_simulate.py runs it",
    "lifecycle verify --policy": "takes seconds; tests/test_verify.py runs it",
    "lifecycle review --database": "proves two policies; tests/test_review.py runs it",
    "lifecycle policy report": "proves a policy; tests/test_cli_policy.py runs it",
    "lifecycle --install-completion": "writes into the user's home",
    "make": "installs, or runs all tests",
    "git": "is not ours",
    "cd": "the examples run where they stand",
    "python -m venv": "installs",
    "python3 -m venv": "installs",
    "pip": "installs",
    ".venv/bin/pip": "installs",
}
#: Of these, the ones that are small enough to be run.
SMALL = ("lifecycle simulate --accounts 400 ",)
#: Exit codes that are right, by the command's beginning; else 0. Doctor finds problems in the examples' accounts, a
#: release asks for a second person first, and a planted fault breaks a promise.
EXIT_CODES = {"lifecycle doctor": (0, 1), "lifecycle brake release": (1,), "lifecycle verify --mutant ": (1,)}


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


# --- Markdown ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block of code; ``line`` is that of its fence."""

    language: str
    text: str
    line: int


def blocks(path: Path) -> Iterator[Block]:
    lines = path.read_text(encoding="utf-8").splitlines()
    begin = None
    for number, line in enumerate(lines, start=1):
        fence = re.match(r"\s*```(\w*)", line)
        if fence and begin is None:
            begin, language = number, fence[1]
        elif fence:
            yield Block(language, "\n".join(lines[begin : number - 1]), begin)
            begin = None
    assert begin is None, f"{name_of(path)}:{begin}: the block is not closed"


def prose(path: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^\s*```.*?^\s*```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands(block: Block) -> list[str]:
    """The command lines of a shell block: in a console block those after ``$``."""
    text = block.text.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line.removeprefix(".venv/bin/") for line in lines if line and not line.startswith("#")]


def words(line: str) -> list[str]:
    """The words of one command, up to a pipe, a redirection or a comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>&;")
    lexer.whitespace_split = True
    found = list(lexer)
    ends = [number for number, word in enumerate(found) if set(word) <= set("|<>&;")]
    assert not {"&&", ";"} & set(found), f"one command a line, please: {line}"
    return found[: ends[0]] if ends else found


# --- Examples run --------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the examples and an empty database, and an environment that says nothing to lifecycle."""
    for name in [name for name in os.environ if name.startswith("LIFECYCLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").mkdir()
    for example in EXAMPLES.iterdir():
        if example.is_file():
            copy(example, tmp_path)
            copy(example, tmp_path / "examples")
    lifecycle("init")
    handlers, level = logging.root.handlers[:], logging.root.level
    yield tmp_path
    structlog.reset_defaults()
    logging.root.handlers[:], logging.root.level = handlers, level


def lifecycle(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    result = CliRunner().invoke(app, arguments, prog_name="lifecycle")
    assert result.exit_code in codes, f"lifecycle {shlex.join(arguments)} → {result.exit_code}\n{result.output}"
    return result.stdout


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of a shell block: it is run, or there is a reason why not."""
    if not line.startswith(SMALL) and any(line == known or line.startswith(f"{known} ") for known in NOT_RUN):
        return
    if line.startswith("export "):
        for setting in words(line)[1:]:
            monkeypatch.setenv(*setting.split("=", 1))
        return
    with monkeypatch.context() as here:
        typed = words(line)
        while "=" in typed[0]:
            here.setenv(*typed.pop(0).split("=", 1))
        assert typed[0] == "lifecycle", f"{line!r} is not run; say in NOT_RUN why"
        codes = next((codes for known, codes in EXIT_CODES.items() if line.startswith(known)), (0,))
        lifecycle(*typed[1:], codes=codes)


def _reference_world(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database with the account acme under a legal hold; without it, where the block opens acme itself."""
    ready = Path("ready.db")
    if not ready.exists():
        shared = ("--database", "sqlite:///ready.db")
        lifecycle("init", *shared)
        lifecycle("open", "acme", "--company", "Acme Ltd", "--owner", "ann@acme.test", *shared)
        lifecycle("hold", "place", "acme", "--reason", "court order", "--case", "2031-114", *shared)
    opens = "lifecycle open acme" in block.text
    copy("lifecycle.db" if opens else ready, f"block-{block.line}.db")
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", f"sqlite:///block-{block.line}.db")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_examples_of_a_page_run_in_their_order(page: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    for block in blocks(page):
        if block.language == "python":
            # Padded, so that a traceback shows the line of the page.
            exec(compile("\n" * block.line + block.text, name_of(page), "exec"), names)
        elif block.language in ("bash", "sh", "shell", "console"):
            if page.name in NO_SESSION:
                _reference_world(block, monkeypatch)
            for line in commands(block):
                run(line, monkeypatch)
        elif block.language == "toml" and re.search(
            r"^\[\[?(policy|handlers|delivery|safety|audit|roles)\b", block.text, re.MULTILINE
        ):
            file = world / "block.toml"
            file.write_text(block.text, encoding="utf-8")
            load(file, {})
        elif block.language == "json":
            json.loads(block.text)


def test_the_pages_hold_examples_in_every_language_that_is_run() -> None:
    found = {block.language for page in PAGES for block in blocks(page)}
    assert {"python", "bash", "console", "toml"} <= found


# --- Names ---------------------------------------------------------------------------------------


@cache
def root() -> Any:
    return typer.main.get_command(app)


def leaf(typed: list[str]) -> tuple[Any, list[str], bool]:
    """The command that the words name, the words after it, and whether all words up to it were known."""
    command, rest = root(), list(typed)
    while getattr(command, "commands", None) and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return command, rest, False
        command = command.commands[rest.pop(0)]
    return command, rest, True


def options(command: Any) -> set[str]:
    shared = {"--help", "-h", "--install-completion", "--show-completion"}
    return shared | {opt for one in (root(), command) for p in one.params for opt in (*p.opts, *p.secondary_opts)}


def mentions(path: Path) -> Iterator[str]:
    """Every command line of ``lifecycle`` on a page, in blocks and between backticks."""
    for block in blocks(path):
        yield from re.findall(r"^(?:\$ )?(?:\S+/)?(lifecycle [a-z-].*)$", block.text, re.MULTILINE)
    yield from (" ".join(found.split()) for found in re.findall(r"`(lifecycle [a-z-][^`]*)`", prose(path)))


@pytest.mark.parametrize("page", MARKDOWN, ids=name_of)
def test_a_page_names_no_command_and_no_option_that_does_not_exist(page: Path) -> None:
    for line in mentions(page):
        if line.startswith("lifecycle ="):
            continue
        command, rest, known = leaf(words(line)[1:])
        assert known, f"{line!r}: there is no such command"
        for word in rest:
            if word.startswith("-"):
                assert word.split("=")[0] in options(command), f"{line!r}: there is no option {word}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_no_option_by_itself_that_no_command_has(page: Path) -> None:
    def every(command: Any) -> set[str]:
        return options(command).union(*(every(one) for one in getattr(command, "commands", {}).values()))

    named = set(re.findall(r"`(--[a-z-]+)[^`]*`", prose(page)))
    assert named <= every(root())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_no_variable_of_the_environment_that_is_not_read(page: Path) -> None:
    named = set(re.findall(r"LIFECYCLE_[A-Z_]+[A-Z]", page.read_text(encoding="utf-8")))
    settings = {f"LIFECYCLE_POLICY_{setting.name.upper()}" for setting in fields(Policy)}
    known = {
        "LIFECYCLE_DATABASE_URL",
        "LIFECYCLE_CONFIG",
        "LIFECYCLE_TEST_DATABASE_URL",
        "LIFECYCLE_POLICY",
        KEY_VARIABLE,
    }
    assert named <= known | settings


# --- Links ---------------------------------------------------------------------------------------


def links(path: Path) -> Iterator[str]:
    text = re.sub(r"`[^`]*`", "", prose(path))
    yield from re.findall(r"\]\(\s*<?([^)\s>]+)", text)
    yield from re.findall(r"<(?:a|img)\b[^>]*\b(?:href|src)=\"([^\"]+)\"", text)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+\s+(.+?)\s*#*$", prose(path), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        count, first = 0, anchor
        while anchor in found:
            count += 1
            anchor = f"{first}-{count}"
        found.add(anchor)
    return found


@pytest.mark.parametrize("page", MARKDOWN, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name_of(page)}: {link} leads nowhere"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{name_of(page)}: {link} has no such heading"


# --- The security page ------------------------------------------------------------------------------


def test_every_attack_of_the_security_page_is_a_test_of_the_file_that_its_section_names() -> None:
    sections = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8").split("\n## ")
    for section in sections:
        files = re.findall(r"`(tests/test_\w+\.py)`", section)
        there = "".join((REPOSITORY / file).read_text(encoding="utf-8") for file in files)
        attacks = [line.rsplit("|", 2)[1] for line in section.splitlines() if line.startswith("| ") and files]
        named = [test for tests in attacks for test in re.findall(r"`(\w+)`", tests)]
        assert not files or named
        for test in named:
            assert f"def test_{test}(" in there, f"docs/security.md names {test}, which is in none of {files}"


# --- The policy page -----------------------------------------------------------------------------

POLICY_PAGE = REPOSITORY / "docs" / "policy.md"


def section(heading: str) -> str:
    text = POLICY_PAGE.read_text(encoding="utf-8")
    level, name = heading.split(" ", 1)
    begin = re.search(rf"^{level} {re.escape(name)}$", text, re.MULTILINE)
    assert begin, f"docs/policy.md has no section {name}"
    return re.split(rf"^#{{1,{len(level)}}} ", text[begin.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in ``text`` that is neither a head nor a rule."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_clause_is_on_the_policy_page() -> None:
    assert [cells[0] for cells in rows(section("## The clauses"))[1:]] == [f"`{clause}`" for clause in Clause]


def test_the_policy_page_has_every_setting_with_its_default_and_its_floor() -> None:
    text = POLICY_PAGE.read_text(encoding="utf-8")
    listed = {cells[0].strip("`"): cells[1:] for cells in rows(section("## Ten decisions"))}
    for setting in fields(Policy):
        assert f"`{setting.name}`" in text
        if setting.name in listed:
            default, *floor = listed[setting.name]
            value = getattr(Policy(), setting.name)
            if isinstance(value, timedelta):
                assert default == duration_words(value), setting.name
                assert floor[0].split(",")[0].split(".")[0] == duration_words(setting.metadata["at_least"]), (
                    setting.name
                )
            else:
                assert default.startswith(f"`{value}`"), setting.name


def with_decisions(page: str) -> str:
    """The policy page with its decisions printed from ``lifecycle/decisions.py``."""
    return re.sub(r"(?<=\n)### 1\. .*?(?=\n## Timelines)", lambda _: markdown(), page, count=1, flags=re.DOTALL)


def test_the_decisions_are_printed_from_where_they_are_kept() -> None:
    page = POLICY_PAGE.read_text(encoding="utf-8")
    assert page == with_decisions(page), "print it again with `python tests/docs/test_docs.py`"


def test_each_of_the_ten_decisions_and_the_twelve_promises_is_on_the_policy_page() -> None:
    assert re.findall(r"^### (\d+)\. ", section("## Ten decisions"), re.MULTILINE) == [str(n) for n in range(1, 11)]
    promises = re.findall(r"^(\d+)\. ", section("## Promises that hold always"), re.MULTILINE)
    assert promises == [str(n) for n in range(1, 13)]


def at(date: str) -> datetime:
    return datetime.fromisoformat(date).replace(tzinfo=UTC)


OWNER, ADMIN = Actor.owner("ann@acme.test"), Actor.admin("root")
CANCEL = ("cancel", OWNER, {})
MONTHLY = ("paid", "2026-02-01")
#: Plan and end of its paid period; what is fired and when; from when to when nothing runs.
TIMELINES: dict[str, tuple[tuple[str, str | None], dict[str, tuple[str, Actor, dict[str, str]]], tuple[str, ...]]] = {
    "Monthly plan": (MONTHLY, {"2026-01-10": CANCEL}, ()),
    "Annual plan": (("paid", "2027-01-01"), {"2026-03-01": CANCEL}, ()),
    "Cancellation from a trial": (("trial", None), {"2026-01-11": CANCEL}, ()),
    "Cancellation from on_hold": (("trial", None), {"2026-02-10": CANCEL}, ()),
    "Suspended account": (
        MONTHLY,
        {
            "2026-01-15": ("suspend", ADMIN, {"reason": "spam"}),
            "2026-03-05": ("lift_suspension", ADMIN, {"reason": "settled"}),
        },
        (),
    ),
    "Legal hold": (
        MONTHLY,
        {
            "2026-01-10": CANCEL,
            "2026-02-05": ("place_hold", ADMIN, {"reason": "court order"}),
            "2026-05-01": ("release_hold", ADMIN, {"reason": "settled"}),
        },
        (),
    ),
    "Outage of two weeks": (MONTHLY, {"2026-01-10": CANCEL}, ("2026-01-20", "2026-02-03")),
}


def lived(name: str) -> list[tuple[str, str, str]]:
    """Date, event and step of everything that happened to the account of a timeline."""
    (plan, period), requests, outage = TIMELINES[name]
    clock = ManualClock(at("2026-01-01"))
    handlers = {effect: lambda task: "done" for effect in Effect}
    engine = Engine("sqlite://", policy=Policy(), clock=clock, handlers=handlers)
    engine.migrate()
    engine.open_account(
        "acme", company="Acme Ltd", owners=[OWNER.id], plan=plan, period_ends_at=at(period) if period else None
    )
    for date, (event, actor, facts) in requests.items():
        engine.run_until(at(date))
        engine.fire("acme", event, actor=actor, **facts)
    if outage:
        engine.run_until(at(outage[0]))
        clock.set(at(outage[1]))
    engine.run_until(at("2028-01-01"))
    assert engine.get("acme").state is State.PURGED
    entries = engine.history("acme")
    engine.close()
    return [(f"{entry.at:%Y-%m-%d}", entry.event, entry.step) for entry in entries]


def test_every_timeline_is_lived_by_an_engine() -> None:
    assert re.findall(r"^### (.+)$", section("## Timelines"), re.MULTILINE) == list(TIMELINES)


@pytest.mark.parametrize("name", TIMELINES)
def test_a_timeline_shows_what_an_engine_lives_through(name: str) -> None:
    table = [(cells[0], cells[1]) for cells in rows(section(f"### {name}"))[1:]]
    happened = [entry for entry in lived(name) if entry[0] >= table[0][0] and entry[2] != "open"]
    assert {date for date, _, _ in happened} <= {date for date, _ in table}
    for date, text in table:
        here = [(event, step) for when, event, step in happened if when == date]
        named = {word for word in re.findall(r"`(\w+)`", text) if word in set(Event)}
        main = {event for event, step in here if step in ("fire", "request")}
        assert named == main, (date, here)
        reminded = any(step == "remind" for _, step in here)
        assert reminded == ("remind" in text or "notice:" in text), (date, here)


# --- The reference -------------------------------------------------------------------------------


def printed() -> str:
    return PREFACE + reference(Policy()) + rights(COMMANDS)


def test_the_reference_is_printed_from_the_definition_as_it_is() -> None:
    again = "print it again with `python tests/docs/test_docs.py`"
    assert REFERENCE.read_text(encoding="utf-8") == printed(), again


# --- The examples folder -------------------------------------------------------------------------

ERASE = EXAMPLES / "erase.py"


def test_the_example_configuration_states_the_default_policy_and_both_destructive_handlers() -> None:
    config = load(EXAMPLES / "lifecycle.toml", {})
    assert config.policy == Policy()
    assert set(config.handlers) == {Effect.DELETE_CONTENT, Effect.PURGE_BACKUPS}


def test_the_example_configuration_names_every_effect_once_its_comments_are_taken_away(tmp_path: Path) -> None:
    text = (EXAMPLES / "lifecycle.toml").read_text(encoding="utf-8")
    (tmp_path / "all.toml").write_text(re.sub(r"^# (\[handlers|command)", r"\1", text, flags=re.MULTILINE))
    assert set(load(tmp_path / "all.toml", {}).handlers) == set(Effect)


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A folder of content with the accounts acme and beta."""
    for account in ("acme", "beta"):
        (tmp_path / "content" / account / "photos").mkdir(parents=True)
        (tmp_path / "content" / account / "photos" / "one.jpg").write_text("one")
    (tmp_path / "content" / ".delete_content").touch()
    return tmp_path / "content"


def erase(folder: Path, **changes: str) -> "subprocess.CompletedProcess[str]":
    task = {"account_id": "acme", "effect": "delete_content", "idempotency_key": "acme:9:delete_content", **changes}
    return subprocess.run(
        [sys.executable, str(ERASE), str(folder)], input=json.dumps(task), capture_output=True, text=True, check=False
    )


def test_the_example_handler_erases_one_account_and_moves_it_on_with_its_receipt(content: Path) -> None:
    clock = ManualClock(at("2026-01-01"))
    engine = Engine("sqlite://", clock=clock, handlers={Effect.DELETE_CONTENT: Command([str(ERASE), str(content)])})
    engine.migrate()
    engine.open_account("acme", company="Acme Ltd", owners=[OWNER.id])
    engine.fire("acme", "cancel", actor=OWNER)
    engine.run_until(at("2026-02-01"))
    assert engine.get("acme").state is State.CONTENT_DELETED
    assert [path.name for path in sorted(content.iterdir())] == [".delete_content", "beta"]
    engine.close()


def test_the_example_handler_may_run_twice(content: Path) -> None:
    first, second = (json.loads(erase(content).stdout) for _ in range(2))
    assert (first["files"], second["files"]) == (1, 0)
    assert first["key"] == second["key"] == "acme:9:delete_content"


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"account_id": "../content/beta"}, "no account id"),
        ({"account_id": ".."}, "no account id"),
        ({"effect": "purge_backups"}, "is the disk mounted"),
        ({"effect": "stop_billing"}, "does not know how"),
    ],
)
def test_the_example_handler_refuses_what_could_hurt_others(content: Path, changes: Any, advice: str) -> None:
    refused = erase(content, **changes)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert advice in refused.stderr
    assert (content / "acme" / "photos" / "one.jpg").exists() and (content / "beta").exists()


def test_the_example_handler_does_not_follow_a_link_out_of_its_folder(content: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (content / "link").symlink_to(tmp_path / "elsewhere")
    assert erase(content, account_id="link").returncode == 1
    assert (tmp_path / "elsewhere").exists()


# --- The auditor's program -----------------------------------------------------------------------


@pytest.fixture
def auditor(tmp_path: Path) -> Path:
    """The program of docs/audit.md, in a file."""
    (block,) = (block for block in blocks(REPOSITORY / "docs" / "audit.md") if block.language == "python")
    (tmp_path / "check.py").write_text(block.text, encoding="utf-8")
    return tmp_path / "check.py"


def test_the_auditors_program_checks_an_export_and_finds_what_was_changed(world: Path, auditor: Path) -> None:
    lifecycle("import", "accounts.csv")
    lifecycle("audit", "seal")
    lifecycle("open", "acme", "--company", "Acme Ltd", "--owner", "ann@acme.test")
    lifecycle("audit", "seal")
    lifecycle("hold", "place", "acme", "--reason", "court order")
    lifecycle("audit", "export", "--output", "record.jsonl")
    record = world / "record.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines(keepends=True)

    def checked(*changed: str) -> "subprocess.CompletedProcess[str]":
        record.write_text("".join(changed), encoding="utf-8")
        return subprocess.run([sys.executable, auditor, record], capture_output=True, text=True, check=False)

    assert checked(*lines).stdout.strip() == json.loads(lifecycle("audit", "head", "--json"))["head"]
    named = json.loads(lines[0])["account_id"]
    assert (
        f"history of account {named}, number 1"
        in checked(lines[0].replace("import_account", "open_account"), *lines[1:]).stderr
    )
    assert "seal 1: " in checked(*lines[1:]).stderr
    place = next(place for place, line in enumerate(lines) if '"seal"' in line)
    altered = lines[place].replace('"sealed_at": 1', '"sealed_at": 2')
    assert "seal 1 was altered" in checked(*lines[:place], altered, *lines[place + 1 :]).stderr


if __name__ == "__main__":
    REFERENCE.write_text(printed(), encoding="utf-8")
    POLICY_PAGE.write_text(with_decisions(POLICY_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
