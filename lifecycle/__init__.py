"""Account life cycles from one definition.

A map of the package, from the bottom up::

    errors, task, actor, clock              the small words
    characters, inputs, redaction           what may come in, and what must not go out
    authority   who runs this process, and which roles they have
    policy      durations and switches, and the clauses of the policy
    safety, requesting      what holds destruction back, and how cancellations are asked for, as an operator sets it
    access      who has which role, as an operator sets it; API keys
    vault, personal                         people's data, sealed under a key of each account
    terms       symbolic expressions: evaluated on one account, compiled to SQL, printed in words
    states      states, events, effects, and what each state grants
    filters                                 which accounts, by what they are
    guards, rows, deadlines                 what a row of the definition is made of
    definition  the decision on one account, from any table of transitions
    machine     TRANSITIONS, the table that counts
    invariants, instants, columns           what the schema is made of
    operation_tables, tables, database      the schema, derived from the definition
    seal, append_only, chain, audit         the record can't be changed unseen: triggers, seals, their check
    upgrade                                 what an earlier version has stored, as this one stores it
    privileges, roles                       who may do what with which table on PostgreSQL
    gate, brake, ledger, restore            what holds destruction back, and what remembers it
    reads, store, sweep, outbox, handover   one change, a million changes, and what is owed for them
    approvals, refusals                     what takes two people; attempts that were refused
    holds, certificate                      legal holds; what was destroyed, and what every store answered
    inbox, intake, tokens                   requests for cancellation, what becomes of them, and their confirmation
    owner_change, addressees                who may ask, and who is written to
    activity, bulk                          activity of many accounts; one event on many, shown before it is done
    forecast, projection, impact, activation            what another policy would do; putting it in force
    answers, risks, questions, acting, precautions, ownership, engine      Engine: the one class that scripts use
    doctor, metrics, scheduler              health, the daemon
    settings, registry, config              the configuration file
    importer, exporter, activity_file, files            accounts and activity from files, and into files
    histories, simulate                     whole lives, and a population over years
    diagrams, reference                     the definition as pictures and as tables
    verify      the model checker: explores the definition, and shows how a promise is broken
    comparison, policy_report               two policies compared; the same for a review
    decisions, review                       what was decided in words; the page on which a policy is judged
    handlers                                deliver effects for real
    cli, demo                               the command line

The names below are imported when they are first used, so that ``import lifecycle`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lifecycle.activity import ActivityReport
    from lifecycle.actor import Actor, Role
    from lifecycle.authority import Authority, Principal, TwoPerson
    from lifecycle.bulk import BulkPlan
    from lifecycle.clock import Clock, ManualClock, SystemClock
    from lifecycle.engine import Engine
    from lifecycle.errors import (
        AccountExists,
        AccountNotFound,
        ApprovalNeeded,
        ClockInDoubt,
        Conflict,
        DatabaseUnavailable,
        DefinitionError,
        GuardRefused,
        InvalidInput,
        KeyMissing,
        LedgerUnusable,
        LifecycleError,
        NoSuchTransition,
        NotAuthorised,
        PlanChanged,
        PolicyError,
        PrivilegeMissing,
        Refused,
        SchemaOutdated,
        TokenRefused,
    )
    from lifecycle.filters import Filter
    from lifecycle.personal import Person
    from lifecycle.policy import Clause, Policy
    from lifecycle.requesting import CancellationRequestReceived, Channel, RequestSettings
    from lifecycle.safety import Safety
    from lifecycle.seal import AuditSettings
    from lifecycle.states import Effect, Event, Plan, State
    from lifecycle.task import DeliverySettings, Found, Handler, Receipt, Task, Undeliverable
    from lifecycle.vault import KeyRing

_ERRORS = (
    "AccountExists",
    "AccountNotFound",
    "ApprovalNeeded",
    "ClockInDoubt",
    "Conflict",
    "DatabaseUnavailable",
    "DefinitionError",
    "GuardRefused",
    "InvalidInput",
    "KeyMissing",
    "LedgerUnusable",
    "LifecycleError",
    "NoSuchTransition",
    "NotAuthorised",
    "PlanChanged",
    "PolicyError",
    "PrivilegeMissing",
    "Refused",
    "SchemaOutdated",
    "TokenRefused",
)
_HOMES = {
    **dict.fromkeys(_ERRORS, "errors"),
    **dict.fromkeys(("Actor", "Role"), "actor"),
    **dict.fromkeys(("Authority", "Principal", "TwoPerson"), "authority"),
    **dict.fromkeys(("Clock", "ManualClock", "SystemClock"), "clock"),
    **dict.fromkeys(("Clause", "Policy"), "policy"),
    **dict.fromkeys(("CancellationRequestReceived", "Channel", "RequestSettings"), "requesting"),
    **dict.fromkeys(("Effect", "Event", "Plan", "State"), "states"),
    **dict.fromkeys(("DeliverySettings", "Found", "Handler", "Receipt", "Task", "Undeliverable"), "task"),
    "ActivityReport": "activity",
    "AuditSettings": "seal",
    "BulkPlan": "bulk",
    "Engine": "engine",
    "Filter": "filters",
    "KeyRing": "vault",
    "Person": "personal",
    "Safety": "safety",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - the table above is the one list of public names


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lifecycle' has no attribute {name!r}")
    value = getattr(import_module(f"lifecycle.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
