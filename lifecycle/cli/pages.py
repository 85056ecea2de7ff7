"""Help pages in sections, as plain text: to import a library for boxes would take longer than all the rest."""

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

_UNCUT = 1000  # characters


class Page(TyperCommand):
    """The help page of a command."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The command's arguments and options, by their panels."""
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The last words, line by line as they were written."""
        _write_epilog(self.epilog, formatter)


class Pages(TyperGroup):
    """The help page of a group of commands."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The group's options, then its commands, both by their panels."""
        _write_options(self, ctx, formatter)
        _write_sections(
            formatter,
            (
                (
                    getattr(command, "rich_help_panel", None) or "Commands",
                    (name, command.get_short_help_str(limit=1000)),
                )
                for name, command in self.commands.items()
                if not command.hidden
            ),
        )

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The last words, line by line as they were written."""
        _write_epilog(self.epilog, formatter)


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    records = ((parameter, parameter.get_help_record(ctx)) for parameter in command.get_params(ctx))
    usual = {"argument": "Arguments"}
    _write_sections(
        formatter,
        (
            (getattr(parameter, "rich_help_panel", None) or usual.get(parameter.param_type_name, "Options"), record)
            for parameter, record in records
            if record is not None
        ),
    )


def _write_sections(formatter: Any, entries: Iterable[tuple[str, tuple[str, str]]]) -> None:
    sections: dict[str, list[tuple[str, str]]] = {}
    for title, entry in entries:
        sections.setdefault(title, []).append(entry)
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl(rows)


def _write_epilog(epilog: str | None, formatter: Any) -> None:
    if epilog:
        formatter.write_paragraph()
        for line in epilog.split("\n\n"):
            formatter.write(f"{line}\n")
