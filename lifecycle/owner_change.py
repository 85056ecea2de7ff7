"""A change of owners: who is on file afterwards, and the addresses before it, which are told.

These addresses are sealed under the account's key until the message is delivered; history and outbox name nobody.
"""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from lifecycle.actor import Request
from lifecycle.guards import on_file
from lifecycle.operation_tables import owner_changes
from lifecycle.personal import Person, Personal, Sealed
from lifecycle.reads import Snapshot
from lifecycle.states import Event
from lifecycle.store import Store
from lifecycle.vault import seal, unseal


def carry_out(
    store: Store, connection: Connection, snapshot: Snapshot, event: Event, asked: Request, number: int, at: datetime
) -> None:
    """Write what history entry ``number``, which the definition has allowed, changes about the account's people."""
    before, address = snapshot.personal, asked.owner or ""
    if event is Event.ADD_OWNER:
        people = (*before.people, Person(before.next_number, address, at))
        after = Personal(before.company, people, before.next_number + 1)
    else:
        leaving = on_file(snapshot, address)
        address = leaving.email
        people = tuple(person for person in before.people if person is not leaving)
        after = Personal(before.company, people, before.next_number)
    assert snapshot.sealed is not None  # who has people has a key
    cipher = store.vault.cipher(snapshot.id, snapshot.sealed.key)
    said = {"change": str(event), "owner": address, "told": before.owners}
    data = seal(cipher, json.dumps(said, ensure_ascii=False).encode(), _purpose(snapshot.id, number))
    connection.execute(insert(owner_changes).values(account_id=snapshot.id, number=number, data=data))
    store.write_personal(connection, snapshot, after)


def told(store: Store, connection: Connection, account_id: str, number: int, sealed: Sealed) -> dict[str, Any]:
    """What the message about the change of history entry ``number`` says besides: whom it goes to, and what changed."""
    here = select(owner_changes.c.data).where(
        owner_changes.c.account_id == account_id, owner_changes.c.number == number
    )
    data = connection.scalar(here)
    if data is None:
        return {}
    said = json.loads(unseal(store.vault.cipher(account_id, sealed.key), data, _purpose(account_id, number)))
    return {"owners": said["told"], "change": said["change"], "changed_owner": said["owner"]}


def _purpose(account_id: str, number: int) -> str:
    return f"change of owners {number} of {account_id}"
