"""Is everything in order? What an operator, or an outside monitor, should know, worst first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from lifecycle.engine import Engine
from lifecycle.errors import LedgerUnusable
from lifecycle.handlers.log import log
from lifecycle.outcomes import REMINDS
from lifecycle.policy import duration_words
from lifecycle.states import DESTRUCTIVE, Effect
from lifecycle.tables import Status
from lifecycle.vault import UNWRAPPED

#: A daemon that was not seen for this long counts as gone.
SILENCE = timedelta(minutes=2)
#: Rows that are not sealed after so many times the daemon's interval are reported.
LATE = 3


#: Messages on which something depends: a notice counts, a token is used, a stranger among the owners is noticed.
_MUST_ARRIVE = (*REMINDS, Effect.VERIFY_OWNER, Effect.TELL_OWNER_CHANGE)


class Level(StrEnum):
    """How bad a finding is, worst first."""

    PROBLEM = "problem"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    level: Level
    check: str
    message: str
    advice: str = ""


def examine(engine: Engine) -> list[Finding]:
    """Run every check; the worst findings come first. Errors of the database are raised, not reported."""
    findings = [finding for check in CHECKS for finding in check(engine)]
    order = list(Level)
    return sorted(findings, key=lambda finding: order.index(finding.level))


def _database(engine: Engine) -> Iterator[Finding]:
    kept = engine.kept_policy()
    if kept == engine.policy:
        yield Finding(Level.OK, "database", f"{engine.database} keeps policy {kept.version}.")
        return
    yield Finding(
        Level.PROBLEM,
        "policy",
        f"{engine.database} keeps policy {kept.version}, and the configuration states {engine.policy.version}: "
        "every change is refused.",
        "Correct the configuration, or put its policy in force with `lifecycle policy activate`.",
    )


def _handlers(engine: Engine) -> Iterator[Finding]:
    """Destruction needs a handler with a receipt, and a notice that is only logged reaches nobody."""
    for effect in DESTRUCTIVE:
        if not engine.may_destroy:
            yield Finding(Level.OK, "handlers", f"{effect} is left to a daemon whose database user may destroy.")
        elif effect in engine.handlers:
            yield Finding(Level.OK, "handlers", f"{effect} has a handler.")
        else:
            yield Finding(
                Level.PROBLEM,
                "handlers",
                f"{effect} has no handler: it is requested, but never carried out and never confirmed.",
                f"Configure one under [handlers.{effect}].",
            )
    logged = [str(effect) for effect in _MUST_ARRIVE if engine.handlers.get(effect) is log]
    if logged:
        # A notice that was handed to the log counts as given: nobody else would tell the customer.
        yield Finding(
            Level.PROBLEM,
            "notices",
            f"These notices are written to the log and reach no customer: {', '.join(logged)}.",
            "Configure a handler that sends mail for each of them.",
        )


def _risks(engine: Engine) -> Iterator[Finding]:
    for risk, count in engine.at_risk():
        level = Level.PROBLEM if risk.broken else Level.WARNING
        yield Finding(level, f"at risk: {risk.name}", f"{risk.message}: {count:,}.", risk.advice)


def _outbox(engine: Engine) -> Iterator[Finding]:
    counts = engine.outbox_counts()
    parked = counts.get(Status.PARKED, 0)
    if parked:
        yield Finding(
            Level.PROBLEM,
            "outbox",
            f"{parked:,} effects are parked after too many failures.",
            "See `lifecycle outbox list --status parked`, mend the cause, then `lifecycle outbox retry --all`.",
        )
    yield Finding(Level.OK, "outbox", f"{counts.get(Status.PENDING, 0):,} effects are pending.")


def _brake(engine: Engine) -> Iterator[Finding]:
    brake = engine.brake()
    waiting = sum(brake.waiting.values())
    if brake.tripped:
        opens = "" if brake.opens_at is None else f"; by itself it opens again at {brake.opens_at:%Y-%m-%d %H:%M} UTC"
        yield Finding(
            Level.PROBLEM,
            "brake",
            f"{waiting:,} accounts are due to be destroyed, and the brake lets {brake.free:,} through now{opens}.",
            "Find out why they are so many: `lifecycle brake status`. If it is right, `lifecycle brake release`.",
        )
    else:
        yield Finding(Level.OK, "brake", f"{waiting:,} accounts are due to be destroyed, {brake.free:,} may be.")


def _clock(engine: Engine) -> Iterator[Finding]:
    doubt = engine.clock_doubt()
    if doubt is None:
        yield Finding(Level.OK, "clock", f"It is {engine.clock.now():%Y-%m-%d %H:%M:%S} UTC.")
    else:
        stops = "nothing moves by itself" if doubt.stops else "nothing is destroyed"
        yield Finding(Level.PROBLEM, "clock", f"{doubt.reason} Until that is settled, {stops}.", doubt.advice)


def _ledger(engine: Engine) -> Iterator[Finding]:
    try:
        report = engine.check_restore()
    except LedgerUnusable as error:
        yield Finding(Level.PROBLEM, "ledger", str(error))
        return
    if report is None and not engine.may_destroy:
        return  # it is the destroyer's
    if report is None:
        yield Finding(
            Level.WARNING,
            "ledger",
            "There is no ledger: after a restore from backup nobody would know what was destroyed since.",
            "Name a file on another disk as [safety] ledger.",
        )
    elif report.behind:
        yield Finding(
            Level.PROBLEM,
            "ledger",
            f"The database has forgotten the destruction of {len(report.behind):,} accounts; nothing is destroyed.",
            "See `lifecycle restore check`, then `lifecycle restore apply`.",
        )
    else:
        yield Finding(Level.OK, "ledger", f"The ledger and the database agree, over {report.lines:,} lines.")


def _record(engine: Engine) -> Iterator[Finding]:
    """Whether the record can still be changed, whether its seals hold together, and how much is not sealed."""
    open_to_change, flaw, state = engine.chain.unprotected(), engine.chain.flaw(), engine.chain.state()
    if open_to_change:
        named = ", ".join(f"{what} of {table}" for table, what in open_to_change)
        yield Finding(
            Level.PROBLEM,
            "record",
            f"The database no longer refuses: {named}.",
            "Put the triggers back with `lifecycle init`, and see with `lifecycle audit verify` what was changed.",
        )
    if flaw is not None:
        advice = "See `lifecycle audit verify`, and compare with a head that was written down elsewhere."
        yield Finding(Level.PROBLEM, "seals", f"The chain of seals does not hold together: {flaw}.", advice)
    rows, now = sum(state.unsealed.values()), engine.clock.now()
    if not rows or state.unsealed_since is None:
        yield Finding(Level.OK, "seals", f"Everything is sealed; the head is {state.head}.")
        return
    age, often = now - state.unsealed_since, engine.audit.seal_every
    said = (
        f"{rows:,} rows of history and receipts are not sealed, the oldest since {state.unsealed_since:%Y-%m-%d %H:%M}"
    )
    if age <= often * LATE:
        yield Finding(Level.OK, "seals", f"{said} UTC.")
        return
    alive = any(now - beat["seen_at"] <= SILENCE for beat in engine.heartbeats())
    yield Finding(
        Level.PROBLEM if alive else Level.WARNING,
        "seals",
        f"{said} UTC; they should be within {duration_words(often)}.",
        "See the daemon's log: does a transaction stay open?" if alive else "Run `lifecycle audit seal`.",
    )


def _daemons(engine: Engine) -> Iterator[Finding]:
    now = engine.clock.now()
    beats = engine.heartbeats()
    alive = [beat for beat in beats if now - beat["seen_at"] <= SILENCE]
    if not alive:
        last = max((beat["seen_at"] for beat in beats), default=None)
        seen = f"the last was seen {last:%Y-%m-%d %H:%M:%S} UTC" if last else "none was ever seen"
        yield Finding(
            Level.WARNING,
            "daemon",
            f"No daemon was seen in the last {duration_words(SILENCE)}; {seen}.",
            "Start `lifecycle daemon`.",
        )
    elif not any(beat["destroys"] for beat in alive):
        yield Finding(
            Level.PROBLEM,
            "destroyer",
            f"None of the {len(alive):,} daemons that were seen may destroy: deletions and purges wait.",
            "Start a `lifecycle daemon` whose database user is a member of the role destroyer.",
        )
    for beat in alive:
        if beat["trouble"]:
            yield Finding(
                Level.PROBLEM, "daemon", f"Daemon {beat['daemon']} reports: {beat['trouble']}.", "See its log."
            )
        else:
            yield Finding(Level.OK, "daemon", f"Daemon {beat['daemon']} was seen {beat['seen_at']:%H:%M:%S} UTC.")


def _database_user(engine: Engine) -> Iterator[Finding]:
    """A process that is the tables' owner could rewrite history; one that may destroy need not be every one."""
    user = engine.database_user()
    if user is None:
        return
    if user.superuser or user.owner:
        is_ = "a superuser" if user.superuser else "the tables' owner"
        yield Finding(
            Level.WARNING,
            "database user",
            f"{user.name} is {is_}, whom no grant and no trigger holds back.",
            "Make roles with `lifecycle init --roles`, and connect as a user of one of them.",
        )
    else:
        yield Finding(Level.OK, "database user", f"{user.name} {'may' if engine.may_destroy else 'may not'} destroy.")


def _approval(engine: Engine) -> Iterator[Finding]:
    waiting = sum(1 for _ in engine.awaiting_approval())
    if waiting:
        yield Finding(
            Level.WARNING,
            "approval",
            f"{waiting:,} cancellations by the company wait for an admin.",
            "See `lifecycle due`, and fire each with `lifecycle fire ID EVENT --as admin`.",
        )


def _access(engine: Engine) -> Iterator[Finding]:
    authority = engine.authority
    if authority is not None:
        source = authority.source if authority.source.startswith("no ") else f"roles are those of {authority.source}"
        yield Finding(Level.OK, "access", f"You are {authority.principal}; {source}.")
    waiting = [one for one in engine.approvals() if one.approved_at is None]
    if waiting:
        yield Finding(
            Level.WARNING,
            "access",
            f"{len(waiting):,} requests wait for a second person.",
            "See `lifecycle approvals`, and approve with `lifecycle approve NUMBER`.",
        )


def _keys(engine: Engine) -> Iterator[Finding]:
    """What seals personal data: whoever has a key-encryption key and the database, or a backup, can read it."""
    ring, counts = engine.store.vault.ring, engine.key_counts()
    missing = sorted(name for name in counts if name not in (UNWRAPPED, *ring.keys))
    stale = sum(count for name, count in counts.items() if name != ring.current)
    if missing:
        yield Finding(
            Level.PROBLEM,
            "encryption",
            f"Personal data is sealed under keys that the configuration lacks: {', '.join(missing)}.",
            "Add them to [encryption.keys]; without them no mail can be written and no owner recognised.",
        )
    elif ring.current == UNWRAPPED:
        yield Finding(
            Level.WARNING,
            "encryption",
            "Accounts' keys are stored unwrapped: whoever has a backup can read personal data, also of the purged.",
            "Make a key with `lifecycle keys new`, name it in [encryption], and run `lifecycle keys rotate`.",
        )
    elif stale:
        yield Finding(
            Level.WARNING,
            "encryption",
            f"{stale:,} keys are not wrapped under the current key {ring.current}.",
            "Run `lifecycle keys rotate`.",
        )
    else:
        yield Finding(Level.OK, "encryption", f"Every account's key is wrapped under {ring.current}.")


def _reviews(engine: Engine) -> Iterator[Finding]:
    waiting = engine.count_reviews()
    if waiting:
        yield Finding(
            Level.WARNING,
            "requests",
            f"{waiting:,} requests for cancellation wait for support.",
            "See `lifecycle requests list`, and note what came of each with `lifecycle requests settle`.",
        )


CHECKS: tuple[Callable[[Engine], Iterator[Finding]], ...] = (
    _database,
    _database_user,
    _clock,
    _brake,
    _ledger,
    _record,
    _handlers,
    _risks,
    _outbox,
    _daemons,
    _approval,
    _keys,
    _reviews,
    _access,
)
