"""What every command is given: the options that all share, the configuration, the engine.

A command is a function whose first argument is a :class:`Run`. :func:`command` puts it into a table of
commands; ``--database``, ``--config`` and ``--json`` are added to its own options, so that operators may
write them before or after the command's name (after it wins).
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from lifecycle.actor import Role
from lifecycle.authority import ACTING, HELD
from lifecycle.cli.pages import Page, Pages
from lifecycle.errors import InvalidInput, LifecycleError, NotAuthorised, SchemaOutdated

if TYPE_CHECKING:
    from lifecycle.actor import Actor
    from lifecycle.authority import Authority
    from lifecycle.config import Config
    from lifecycle.database import Database
    from lifecycle.engine import Engine

DEFAULT_DATABASE = "sqlite:///lifecycle.db"
DATABASE_VARIABLE, CONFIG_VARIABLE = "LIFECYCLE_DATABASE_URL", "LIFECYCLE_CONFIG"
_PANEL = "Options of every command"

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help=f"The database; else {DATABASE_VARIABLE}, else {DEFAULT_DATABASE} in the current folder.",
        rich_help_panel=_PANEL,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help=f"TOML with policy, handlers, safety, requests, roles and more; else {CONFIG_VARIABLE}, else none.",
        rich_help_panel=_PANEL,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output, nothing else.", rich_help_panel=_PANEL)
]

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Given:
    """The shared options as they were given, before the command's name or after it."""

    database: str | None = None
    config: Path | None = None
    json: bool = False

    def over(self, other: "Given") -> "Given":
        """These options, and the other's where these say nothing."""
        return Given(self.database or other.database, self.config or other.config, self.json or other.json)


class Run:
    """One run of one command; closes what it opened."""

    def __init__(self, given: Given, command: str = "", needs: tuple[Role, ...] | None = None) -> None:
        self.given = given
        self.command = command
        self.needs = needs
        self.json = given.json
        self._engine: Engine | None = None

    @property
    def database_url(self) -> str:
        """From the option, else from the environment, else the default."""
        return self.given.database or os.environ.get(DATABASE_VARIABLE) or DEFAULT_DATABASE

    @property
    def database_is_default(self) -> bool:
        """Whether nobody said which database."""
        return not (self.given.database or os.environ.get(DATABASE_VARIABLE))

    @property
    def has_database(self) -> bool:
        """Whether somebody said which database, or the default one is there."""
        return not self.database_is_default or Path(DEFAULT_DATABASE.removeprefix("sqlite:///")).exists()

    @cached_property
    def config(self) -> "Config":
        """The configuration from the file, if one is named, and the environment."""
        from lifecycle.config import load

        return load(self._config_file, os.environ)

    @property
    def _config_file(self) -> Path | None:
        named = os.environ.get(CONFIG_VARIABLE)
        return self.given.config or (Path(named) if named else None)

    @cached_property
    def authority(self) -> "Authority":
        """Who runs the command, and their roles; :class:`NotAuthorised` for a key that nobody has."""
        access = self.config.access
        return access.authority(access.principal(os.environ), f"[roles] of {self._config_file}")

    def admit(self) -> None:
        """Raise :class:`NotAuthorised`, and have it recorded, unless who runs the command has a role for it."""
        if self.needs is None:
            return
        who = "key:?"  # until the key is known to be somebody's
        try:
            who = str(self.authority.principal)
            self.authority.require(self.needs)
        except NotAuthorised as refusal:
            with suppress(LifecycleError):  # it stays refused, whether or not there is a database
                self._open(authority=None).record_refusal(self.command, who, refusal, principal=who)
            raise

    def actor(self, said: str | None, default: str | None = None) -> "Actor":
        """Whoever runs the command, in the role that ``--as`` chooses; or an owner who is signed in at a portal."""
        from lifecycle.cli.parsing import actor

        return actor(said or default or "", self.authority)

    @property
    def engine(self) -> "Engine":
        """The engine on a database that exists; raises :class:`SchemaOutdated` where there is none."""
        return self.open_engine()

    def open_engine(self, *, create: bool = False) -> "Engine":
        """The engine; with ``create`` also on an SQLite file that does not exist yet."""
        if self._engine is None:
            # Timers are no privilege: what needs no role works for nobody.
            engine = self._open(None if self.needs is None else self.authority, create=create)
            if not create:
                with engine.recording(self.command, "" if self.needs is None else str(self.authority.principal)):
                    engine.check_access()
        assert self._engine is not None
        return self._engine

    def _open(self, authority: "Authority | None", *, create: bool = False) -> "Engine":
        from lifecycle.engine import Engine

        config = self.config
        engine = Engine(
            self.database_url,
            policy=config.policy,
            handlers=config.handlers,
            delivery=config.delivery,
            safety=config.safety,
            keys=config.keys,
            requests=config.requests,
            audit=config.audit,
            authority=authority,
        )
        self._check_file(engine.database, create)
        self._engine = engine
        return engine

    def _check_file(self, database: "Database", create: bool) -> None:
        """SQLite makes a missing file as it connects: a slip of the folder must not leave one behind."""
        name = database.url.database
        if database.is_postgresql or (name or "").startswith("file:"):
            return
        if name in (None, "", ":memory:"):
            raise InvalidInput(f"A database in memory ends with the command; give a file such as {DEFAULT_DATABASE}.")
        if not create and not Path(str(name)).exists():
            said = "is the default here" if self.database_is_default else "was asked for"
            raise SchemaOutdated(
                f"There is no database {name}, which {said}: create it with `lifecycle init`, "
                f"or name another with --database or {DATABASE_VARIABLE}."
            )

    @property
    def now(self) -> datetime:
        """The instant on the engine's clock."""
        return self.engine.clock.now()

    def close(self) -> None:
        """Close the engine if one was opened."""
        if self._engine is not None:
            self._engine.close()


# --- Commands ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command as it is written down in a module's table; ``group`` is e.g. ``outbox`` in ``outbox list``."""

    function: Callable[..., None]
    name: str
    group: str | None
    panel: str
    examples: tuple[str, ...]
    #: Who may run it: whoever has one of these roles; None for everybody.
    needs: tuple[Role, ...] | None = HELD
    #: The event that it fires, where it is always the same; ``*`` where it is an argument.
    fires: str | None = None

    @property
    def words(self) -> str:
        """The command's name with its group."""
        return f"{self.group} {self.name}" if self.group else self.name

    @property
    def epilog(self) -> str:
        return "Example:\n\n" + "\n\n".join(f"  {example}" for example in self.examples)


def command(
    table: list[Command],
    name: str,
    *examples: str,
    panel: str,
    json: bool = True,
    database: bool = True,
    needs: tuple[Role, ...] | None = HELD,
    fires: str | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Put a function into ``table`` as the command ``name`` (``"outbox list"`` in a group).

    ``json`` and ``database`` say whether it prints data and whether it uses a database; the options follow.
    ``needs`` are the roles of which one is needed (any, unless told otherwise; None for no role at all). What
    ``fires`` an event is decided by the event's own permissions, once somebody has any role that acts.
    """
    group, _, last = name.rpartition(" ")

    def put(function: Callable[..., None]) -> Callable[..., None]:
        options: dict[str, Any] = {"config": ConfigOption}
        if database:
            options = {"database": DatabaseOption, **options}
        if json:
            options["json"] = JsonOption
        admitted = ACTING if fires else needs
        wrapped = _with_options(function, options, name, admitted)
        table.append(Command(wrapped, last, group or None, panel, examples, admitted, fires))
        return function

    return put


def _with_options(
    function: Callable[..., None], options: dict[str, Any], name: str, needs: tuple[Role, ...] | None
) -> Callable[..., None]:
    """The function with its first parameter, the run, replaced by the context and the shared options."""

    @functools.wraps(function)
    def run(**values: Any) -> None:
        context = values.pop("context")
        here = Given(**{name: values.pop(name) for name in options})
        with closing(Run(here.over(context.find_object(Given) or Given()), name, needs)) as started:
            started.admit()
            function(started, **values)

    signature = inspect.signature(function, eval_str=True)
    _, *own = (parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in signature.parameters.values())
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=False if name == "json" else None
        )
        for name, kind in options.items()
    ]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    run.__signature__ = signature.replace(parameters=[context, *own, *added])  # type: ignore[attr-defined]
    return run


_GROUPS = {
    "audit": "The record of what happened: seal it, check that nothing in it was changed, export it for an auditor.",
    "brake": "The brake on destruction: what it lets through, what waits for it.",
    "export": "Exports of any size, to a file or to standard output.",
    "hold": "Legal holds: nothing of the account is destroyed while one is in force.",
    "keys": "The keys under which personal data is sealed, and their rotation.",
    "owners": "Who may have an account cancelled.",
    "outbox": "What is owed to the outside world: see it, and try again what was parked.",
    "requests": "Requests for cancellation that support must look at.",
    "restore": "After a restore from backup: what was destroyed that the database has forgotten.",
    "policy": "The policy: every duration and switch, and the promises behind them.",
}


def register(app: typer.Typer, commands: Iterable[Command]) -> None:
    """Add the commands of one module to the application, in their groups."""
    groups: dict[str, typer.Typer] = {}
    for entry in commands:
        if entry.group is not None:
            if entry.group not in groups:
                groups[entry.group] = typer.Typer(no_args_is_help=True, rich_markup_mode=None, cls=Pages)
                app.add_typer(
                    groups[entry.group], name=entry.group, help=_GROUPS[entry.group], rich_help_panel=entry.panel
                )
            groups[entry.group].command(entry.name, epilog=entry.epilog, cls=Page)(entry.function)
        else:
            app.command(entry.name, epilog=entry.epilog, rich_help_panel=entry.panel, cls=Page)(entry.function)
