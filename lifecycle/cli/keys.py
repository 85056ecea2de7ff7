"""Commands on the keys under which personal data is sealed."""

from lifecycle.actor import Role
from lifecycle.cli import output
from lifecycle.cli.operate import progress
from lifecycle.cli.run import Command, Run, command

COMMANDS: list[Command] = []
_PANEL = "Operation"


@command(COMMANDS, "keys new", "lifecycle keys new", panel=_PANEL, needs=(Role.ADMIN,))
def new(run: Run) -> None:
    """Make a key-encryption key. It is printed once and kept nowhere: put it where your secrets are."""
    from lifecycle.vault import KeyRing

    key = KeyRing.new_key()
    if run.json:
        output.emit({"key": key})
    else:
        output.say(key)


@command(COMMANDS, "keys status", "lifecycle keys status", panel=_PANEL)
def status(run: Run) -> None:
    """Count what is sealed under each key-encryption key; one that nothing is under any more can be retired."""
    counts, ring = run.engine.key_counts(), run.engine.store.vault.ring
    names = list(dict.fromkeys([*ring.keys, *counts, ring.current]))
    listed = [
        {
            "key": name,
            "accounts": counts.get(name, 0),
            "current": name == ring.current,
            "known": name in ("", *ring.keys),
        }
        for name in names
    ]
    if run.json:
        output.emit(iter(listed))
        return
    rows = [
        (
            row["key"] or "(not wrapped)",
            row["accounts"],
            "current" if row["current"] else "" if row["known"] else "MISSING",
        )
        for row in listed
    ]
    output.show(output.table(("key", "keys under it", ""), rows))


@command(COMMANDS, "keys rotate", "lifecycle keys rotate", panel=_PANEL, needs=(Role.ADMIN,))
def rotate(run: Run) -> None:
    """Wrap every account's key under the current key-encryption key. Can be broken off, and run beside daemons."""
    engine = run.engine
    current = engine.store.vault.ring.current
    waiting = sum(count for name, count in engine.key_counts().items() if name != current)
    with progress("Wrapping keys", waiting) as advance:
        count = engine.rotate_keys(advance)
    if run.json:
        output.emit({"key": current, "wrapped": count})
    else:
        output.say(f"Wrapped under {current or 'no key'}: {count:,}.")
