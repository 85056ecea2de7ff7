"""Whole lives: accounts with all that happened to them, and what was promised, counted on these."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from operator import attrgetter

from lifecycle.engine import Engine
from lifecycle.policy import Policy
from lifecycle.reads import HistoryEntry, Snapshot
from lifecycle.states import CANCELLED, FINAL, Event, State, Step

#: The company's own cancellations.
BY_COMPANY = (Event.CANCEL_EXPIRED_TRIAL, Event.CANCEL_UNPAID, Event.CANCEL_INACTIVE)
_NOTICES_OF_DELETION = (Event.DELETE_CONTENT, Event.REVOKE_ACCESS)


@dataclass(frozen=True)
class Life:
    """An account and everything that happened to it."""

    account: Snapshot
    entries: Sequence[HistoryEntry]

    def fired(self, *events: str) -> Iterator[HistoryEntry]:
        """The entries of these events where they happened, not where they were announced or asked for."""
        return (entry for entry in self.entries if entry.event in events and entry.step == Step.FIRE)

    def stays(self, until: datetime) -> Iterator[tuple[State, timedelta, bool]]:
        """Where it was, how long, and whether that stay has ended by ``until``; none of the final state."""
        moves = [entry for entry in self.entries if entry.source is not entry.dest]
        for move, after in pairwise(moves):
            yield move.dest, after.at - move.at, True
        if moves and moves[-1].dest is not FINAL:
            yield moves[-1].dest, until - moves[-1].at, False


@dataclass(frozen=True)
class Promise:
    """One promise over all accounts: how often it was put to the test, and how often it was broken."""

    sentence: str
    tested: int
    broken: int


def lives(engine: Engine) -> Iterator[Life]:
    """Every account with its history, by id; all of it is read in one transaction, a page at a time."""
    with engine.database.read() as connection:
        pages = engine.store.stream_history(connection, None, None)
        entries = groupby((entry for page in pages for entry in page), attrgetter("account_id"))
        for accounts in engine.store.stream_accounts(connection, None, None):
            for account, (account_id, own) in zip(accounts, entries, strict=False):
                assert account.id == account_id  # both are read by id, and no account is without its opening
                yield Life(account, list(own))


def check_promises(lives: Iterable[Life], policy: Policy, now: datetime) -> list[Promise]:
    """What the policy has promised until ``now``, counted on the histories of accounts: looked at once, and let go."""
    tested: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    for life in lives:
        for sentence, judge in _JUDGES.items():
            for kept in judge(life, policy, now):
                tested[sentence] += 1
                broken[sentence] += not kept
    words = policy.as_text()
    return [Promise(one.format_map(words), tested[one], broken[one]) for one in _JUDGES]


# --- One judge a promise: each says, for every time that it was put to the test, whether it was kept ---


def _not_early(life: Life, policy: Policy, now: datetime) -> Iterator[bool]:
    account = life.account
    if account.content_deleted_at is not None and any(life.fired(Event.DELETE_CONTENT)):
        dates: list[datetime] = [account.access_ends_at, account.delete_content_at]
        yield account.content_deleted_at >= max(*dates, account.cancelled_at + policy.deletion_after)


def _deletion_announced(life: Life, policy: Policy, now: datetime) -> Iterator[bool]:
    for entry in life.entries:
        if entry.event == Event.DELETE_CONTENT and entry.step == Step.REQUEST:
            yield _noticed(life, entry, _NOTICES_OF_DELETION, policy.deletion_notice)


def _company_announced(life: Life, policy: Policy, now: datetime) -> Iterator[bool]:
    return (_noticed(life, entry, (entry.event,), policy.company_notice) for entry in life.fired(*BY_COMPANY))


def _noticed(life: Life, deed: HistoryEntry, events: Sequence[str], lead: timedelta) -> bool:
    """Whether a notice of it was delivered at least ``lead`` before, and the account has not moved away since."""
    notices = [e.at for e in life.entries if e.number < deed.number and e.event in events and e.step == Step.NOTICE]
    return bool(notices) and notices[-1] + lead <= deed.at


def _found_everything(life: Life, policy: Policy, now: datetime) -> Iterator[bool]:
    return (not _lost(life, entry) for entry in life.fired(Event.REACTIVATE))


def _lost(life: Life, back: HistoryEntry) -> bool:
    """Whether content was erased after a reactivation without a new cancellation in between."""
    for entry in life.entries[back.number :]:
        if entry.dest in CANCELLED[:2]:
            return False
        if entry.event == Event.DELETE_CONTENT:
            return True
    return False


def _purged_in_time(life: Life, policy: Policy, now: datetime) -> Iterator[bool]:
    account, by = life.account, life.account.purge_backups_by
    # An account that was imported when its date had passed already is not the engine's to judge, nor one that was held.
    if by is None or by <= life.entries[0].at or any(life.fired(Event.PLACE_HOLD)):
        return
    if account.purged_at is not None or by < now:
        yield account.purged_at is not None and account.purged_at <= by


def _without_gap(life: Life, policy: Policy, now: datetime) -> Iterator[bool]:
    """Whether the entries follow each other, in number and in state."""
    numbers = [entry.number for entry in life.entries] == list(range(1, len(life.entries) + 1))
    joined = all(one.dest is two.source and one.at <= two.at for one, two in pairwise(life.entries))
    yield numbers and joined and life.entries[-1].dest is life.account.state


#: By the sentence of each promise, in which a policy's settings may stand.
_JUDGES: Mapping[str, Callable[[Life, Policy, datetime], Iterable[bool]]] = {
    "Content stayed for {deletion_after} and as long as access was paid for": _not_early,
    "Each deletion was announced {deletion_notice} before": _deletion_announced,
    "Each cancellation by the company was announced {company_notice} before": _company_announced,
    "Who came back found everything": _found_everything,
    "Backups were purged by the promised date": _purged_in_time,
    "Every history is without a gap, and ends where the account is": _without_gap,
}
