"""What the schema's tables are made of: one MetaData, and columns that hold only what they may."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Enum, ForeignKey, Integer, LargeBinary, MetaData, Text

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_name)s",
        "pk": "%(table_name)s_pk",
    }
)

#: Marks the columns of which nothing may stay anywhere, in their ``info``: what a key opens, or a key. PostgreSQL's
#: statistics would keep samples of them beyond a purge: they have none.
SEALED = "sealed"

#: The type of a key that the database draws.
DRAWN = BigInteger().with_variant(Integer, "sqlite")


def words(name: str, *enums: type[StrEnum]) -> Callable[[], Any]:
    """A text column with a CHECK: only the values of ``enums``, stored as they are written."""
    if len(enums) == 1:
        return lambda: Enum(
            enums[0],
            name=name,
            native_enum=False,
            create_constraint=True,
            length=40,
            values_callable=lambda members: [member.value for member in members],
        )
    values = [member.value for enum in enums for member in enum]
    return lambda: Enum(*values, name=name, native_enum=False, create_constraint=True, length=40)


def given(name: str, type: Any, **kw: Any) -> "Column[Any]":
    """A column that is never NULL."""
    return Column(name, type, nullable=False, **kw)


def drawn(name: str = "id") -> "Column[int]":
    """A key that the database draws."""
    return Column(name, DRAWN, primary_key=True)


def key(name: str, type: Any, **kw: Any) -> "Column[Any]":
    """A key, or a part of one."""
    return Column(name, type, primary_key=True, **kw)


def reference(nullable: bool = False, **kw: Any) -> "Column[str]":
    """The account that a row belongs to."""
    return Column("account_id", Text, ForeignKey("account.id"), nullable=nullable, **kw)


def sealed(name: str, nullable: bool = False) -> "Column[bytes]":
    """What a key opens, or a key."""
    return Column(name, LargeBinary, nullable=nullable, info={SEALED: True})
