"""Seals as pure functions: what is hashed, how the chain holds together, which row is named."""

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import count

import pytest

from lifecycle.errors import InvalidInput
from lifecycle.operation_tables import seals
from lifecycle.seal import (
    GENESIS,
    SEALED,
    AuditSettings,
    Head,
    Kind,
    Misfit,
    Seal,
    Stream,
    digests,
    hashed,
    heads_in,
    misfit,
)
from lifecycle.tables import RECORD
from tests.builders import days

ROW = (7, "acme", 3, "cancel", "fire", "trial", "cancel_pending", 1_767_225_600_000_001)
ENTRY = (*ROW, "owner:1", 1, None, "9c1d", "ticket-ü")


def chain(*streams: Stream) -> list[Seal]:
    """One seal of two rows for each of these."""
    head, made, ids = GENESIS, [], count(2, 2)
    for stream, to_id in zip(streams, ids, strict=False):
        made.append(Seal.after(head, stream, to_id, digests(stream, [(to_id - 1,), (to_id,)]), to_id))
        head = made[-1].head
    return made


def test_a_row_is_hashed_as_json_in_ascii_after_a_byte_for_the_manner() -> None:
    said = (
        b'\x01["history",7,"acme",3,"cancel","fire","trial","cancel_pending",1767225600000001,'
        b'"owner:1",1,null,"9c1d","ticket-\\u00fc"]'
    )
    assert digests(Stream.HISTORY, [ENTRY]) == [sha256(said).digest()[:16]]


@pytest.mark.parametrize(
    "other",
    [
        ("1", None),  # a number is not its digits
        (1, "null"),
        (1, ""),
        ("1,null",),
        (1.0, None),
        (1, b""),  # SQLite keeps whatever it is given, and yet nothing may break
        (b"1", None),
        (1, None, None),
    ],
    ids=repr,
)
def test_no_two_rows_have_the_same_encoding(other: tuple[object, ...]) -> None:
    assert hashed(other) != hashed((1, None))


def test_a_receipt_is_no_entry_of_the_history() -> None:
    assert digests(Stream.HISTORY, [ROW]) != digests(Stream.RECEIPT, [ROW])


def test_every_column_of_the_record_is_sealed() -> None:
    names = {table.name: [column.name for column in table.c] for table in RECORD if table is not seals}
    assert {stream: list(columns) for stream, columns in SEALED.items()} == names


def test_a_chain_links_both_streams() -> None:
    first, second, third = chain(Stream.HISTORY, Stream.RECEIPT, Stream.HISTORY)
    assert (first.previous, second.previous, third.previous) == (GENESIS.hash, first.hash, second.hash)
    assert [seal.flaw(before) for seal, before in ((first, GENESIS), (second, first.head), (third, second.head))] == [
        None
    ] * 3


@pytest.mark.parametrize(
    "change",
    [
        {"number": 3, "stream": Stream.RECEIPT},
        {"rows": 1},
        {"to_id": 8},
        {"sealed_at": 0},
        {"digests": bytes(32)},
        {"digests": b""},
        {"digests": "text"},
        {"hash": bytes(32)},
        {"previous": bytes(32)},
    ],
    ids=str,
)
def test_a_seal_that_was_altered_shows_it(change: dict[str, object]) -> None:
    _, second, third = chain(Stream.HISTORY, Stream.RECEIPT, Stream.HISTORY)
    assert "seal 3 was altered" in str(replace(third, **change).flaw(second.head))


def test_a_seal_that_was_altered_together_with_its_hash_is_found_by_the_one_after_it() -> None:
    _, second, third = chain(Stream.HISTORY, Stream.RECEIPT, Stream.HISTORY)
    forged = replace(second, to_id=9)
    forged = replace(forged, hash=forged.computed())
    assert third.flaw(forged.head) == "seal 3 follows another seal 2 than the one that is there"


def test_gaps_and_forks_of_the_chain_are_named() -> None:
    first, second, third = chain(Stream.HISTORY, Stream.RECEIPT, Stream.HISTORY)
    assert third.flaw(first.head) == "seal 2 is missing"
    assert third.flaw(GENESIS) == "seals 1 to 2 are missing"
    assert second.flaw(second.head) == "there are two seals 2: the chain forks"


def of(letters: str) -> Sequence[bytes]:
    return [letter.encode() for letter in letters]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("abcdef", None),
        ("abXdef", Misfit(Kind.CHANGED, 2)),
        ("Xbcdef", Misfit(Kind.CHANGED, 0)),
        ("abXYef", Misfit(Kind.CHANGED, 2)),
        ("abdef", Misfit(Kind.MISSING, 2)),
        ("bcdef", Misfit(Kind.MISSING, 0)),
        ("abcde", Misfit(Kind.MISSING, 5)),
        ("abf", Misfit(Kind.MISSING, 2)),
        ("", Misfit(Kind.MISSING, 0)),
        ("abXcdef", Misfit(Kind.INSERTED, 2)),
        ("Xabcdef", Misfit(Kind.INSERTED, 0)),
        ("abcdefX", Misfit(Kind.INSERTED, 6)),
        ("abXYcdef", Misfit(Kind.INSERTED, 2)),
        ("aXbcef", Misfit(Kind.INSERTED, 1)),
    ],
)
def test_the_first_row_that_does_not_fit_is_named_and_what_happened_to_it(found: str, expected: Misfit) -> None:
    assert misfit(of("abcdef"), of(found)) == expected


def test_a_head_is_found_in_whatever_it_was_written_down() -> None:
    head = Head(12, sha256(b"x").digest())
    assert heads_in(str(head)) == [head]
    assert heads_in(f"Head {head}\n") == [head]
    assert heads_in(json.dumps({"head": str(head)}) + json.dumps({"head": str(GENESIS)})) == [head, GENESIS]
    assert heads_in(f"{head}0") == heads_in("12:abc") == heads_in("") == []


def test_sealing_needs_a_positive_interval() -> None:
    with pytest.raises(InvalidInput, match="must be positive"):
        AuditSettings(seal_every=days(0))
