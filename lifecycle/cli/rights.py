"""Who may run which command, printed from the commands themselves."""

from collections.abc import Collection, Iterable

from lifecycle.actor import Role
from lifecycle.authority import HELD
from lifecycle.cli.run import Command
from lifecycle.machine import may_fire
from lifecycle.reference import table
from lifecycle.states import Event

_INTRO = (
    "What a command needs where roles are [configured](operators-guide.md#who-may-do-what). A command that fires an "
    "event is decided by the event's own permissions, above; the table says of it which roles may fire it at all."
)


def rights(commands: Iterable[Command]) -> str:
    """A section of the reference: each command, and the roles that may run it."""
    rows = sorted((f"`lifecycle {one.words}`", *_cells(one)) for one in commands)
    return f"\n## Commands\n\n{_INTRO}\n\n{table(('Command', *HELD, 'no role'), rows)}"


def _cells(command: Command) -> list[str]:
    if command.needs is None:
        return ["yes"] * (len(HELD) + 1)
    if command.fires == "*":
        return [*("by the event" if role in command.needs else "" for role in HELD), ""]
    needs: Collection[Role] = may_fire(Event(command.fires)) if command.fires else command.needs
    if Role.OWNER in needs:  # for whom a portal speaks
        needs = {*needs, Role.PORTAL}
    return [*("yes" if role in needs else "" for role in HELD), ""]
