"""Facts: the one place that turns what happened to a message into rows, and sees that they are stored.

Invariants
* `record` folds the fact into the message in memory and adds its rows to an entry at once; whoever records must then
  hand the entry to `append` or to `keep`. Memory may be ahead of the disk, never of a callback: the callback engine
  hears of a row only after its commit.
* `keep` is for what has already happened. Its rows are appended again until they are stored, or the process ends
  (then the journal knows an attempt without an outcome, and recovery does the rest). A poisoned entry is taken apart
  by message, so that one bad row costs its own message's facts only.
* A message's end is stored once: its outcome goes with the fact that moved it into a final state, no other.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import orjson
import structlog

from gateway.awaiting import Awaiting
from gateway.clock import Clock, Ids
from resolver.model import CarrierName, Message
from storage.records import (
    ENDS,
    MOVES,
    PLIVO_CODES,
    CallbackRow,
    CarrierRefRow,
    Entry,
    EpochLost,
    FactKind,
    FactRow,
    JournalFull,
    JournalUnavailable,
    OutcomeRow,
    OutcomeUnknown,
    Settled,
    State,
)

log = structlog.get_logger(__name__)

KEEP_AGAIN_MS = 100

OnSettled = Callable[[Settled], None]
RenderCallback = Callable[[Message, State, FactRow | None], list[tuple[str, str]]]
"""What a callback says, in order; `message.sequence` is its number already. No fact: the message was accepted."""
OnCallbacksCommitted = Callable[[list[CallbackRow]], None]
OnCarrierRef = Callable[[CarrierName, str, Message], None]


class FactJournal(Protocol):
    """What facts need of the journal."""

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]: ...


class Facts:
    """See the invariants above. Costs about 4 µs a fact without a callback."""

    def __init__(
        self,
        journal: FactJournal,
        clock: Clock,
        ids: Ids,
        *,
        render_callback: RenderCallback,
        on_callbacks_committed: OnCallbacksCommitted,
        awaiting_max: int = 200_000,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._render = render_callback
        self._on_callbacks = on_callbacks_committed
        self._on_carrier_ref: OnCarrierRef | None = None
        self.awaiting = Awaiting(awaiting_max)
        self._owed: deque[Entry] = deque()
        self._owed_rows = 0
        self._open = 0  # kept entries in the journal's hands
        self._stored: list[asyncio.Future[None]] = []  # who waits in `drain`
        self.poisoned = 0  # facts the database refused for good, for the metrics

    def on_carrier_ref(self, call: OnCarrierRef) -> None:
        """`call` hears each carrier's id as soon as it is known: for reports that came before the answer."""
        self._on_carrier_ref = call

    # -- recording ------------------------------------------------------------------------------------------------

    def record(
        self,
        entry: Entry,
        message: Message,
        kind: FactKind,
        *,
        attempt: int = 0,
        handed_ms: int | None = None,
        carrier: str = "",
        carrier_ref: str = "",
        code: str = "",
        detail: str = "",
        charged: bool = False,
        now_ms: int = 0,
    ) -> FactRow:
        """Add what happened to `entry`, with all that follows from it, and fold it into the message.

        `now_ms` is for those who have just looked at the clock.
        """
        if not now_ms:
            now_ms = self._clock.now_ms()
        request = message.request
        fact = FactRow(
            message.message_id, request.account_id, kind, attempt, now_ms, handed_ms, message.number or None,
            carrier, carrier_ref, code or PLIVO_CODES.get(kind, ""), detail, request.segments, charged,
        )  # fmt: skip
        entry.facts.append(fact)
        before = message.state
        moved = MOVES.get((before, kind))  # None: it stays where it is
        if moved is not None and (moved in ENDS or kind is FactKind.UNREPORTED):
            entry.outcomes.append(OutcomeRow(message.message_id, request.account_id, moved, fact.code, now_ms))
            if kind is FactKind.UNREPORTED:  # a late report is to be told by what is stored
                self.awaiting.drop(message.message_id)
            else:
                self.awaiting.end(message.message_id)
        if moved is not None and moved != before:
            message.state = moved
            if request.callback_url:
                self._add_callback(entry, message, moved, fact)
        if kind is FactKind.SENT or (kind is FactKind.REPORTED_SENT and moved is not None):
            self._note_sent(entry, message, fact)
        return fact

    def record_accepted(self, entry: Entry, message: Message) -> None:
        """Add the callback that tells of `queued`, the first of each message that has a URL."""
        if message.request.callback_url:
            self._add_callback(entry, message, State.QUEUED, None)

    def _add_callback(self, entry: Entry, message: Message, state: State, fact: FactRow | None) -> None:
        message.sequence += 1
        request = message.request
        now_ms = self._clock.now_ms()
        entry.callbacks.append(
            CallbackRow(
                self._ids.new(), request.account_id, message.message_id, message.sequence, request.callback_url,
                request.callback_method, orjson.dumps(dict(self._render(message, state, fact))), now_ms, now_ms,
            )
        )  # fmt: skip

    def _note_sent(self, entry: Entry, message: Message, fact: FactRow) -> None:
        carrier = CarrierName(fact.carrier)
        if message.state == State.SENT and (fact.carrier_ref or not self.awaiting.find_message(message.message_id)):
            self.awaiting.add(message, carrier, fact.carrier_ref)
        if fact.carrier_ref:
            entry.carrier_refs.append(CarrierRefRow(carrier, fact.carrier_ref, message.message_id, fact.at_ms))
            if self._on_carrier_ref is not None and fact.kind is FactKind.SENT:
                self._on_carrier_ref(carrier, fact.carrier_ref, message)

    # -- storing --------------------------------------------------------------------------------------------------

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]:
        """The journal's `append`, for entries whose callbacks shall go once they are committed."""
        if not entry.callbacks:
            return self._journal.append(entry, on_settled)
        return self._journal.append(entry, partial(self._tell, entry, on_settled))

    def _tell(self, entry: Entry, on_settled: OnSettled | None, settled: Settled) -> None:
        if on_settled is not None:
            on_settled(settled)
        if settled is Settled.COMMITTED and entry.callbacks:
            self._on_callbacks(entry.callbacks)

    def keep(self, entry: Entry) -> asyncio.Future[Settled] | None:
        """Store facts that have happened, however often it takes. Never raises, never waits.

        The future is the journal's for the first try: unless it says COMMITTED the facts are not stored yet (and will
        be). None: the journal takes nothing at the moment.
        """
        if self._owed:  # in order behind those
            self._owe(entry)
            return None
        return self._try(entry)

    @property
    def is_behind(self) -> bool:
        """Whether facts wait that could not be stored: then nothing new may be begun, which bounds their number."""
        return self._owed_rows > 0

    @property
    def owed_rows(self) -> int:
        return self._owed_rows

    async def drain(self, *, ms_max: int) -> bool:
        """Wait until all that was kept is stored; False when it took too long."""
        if not self._owed and not self._open:
            return True
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stored.append(stored)
        try:
            async with asyncio.timeout(ms_max / 1_000):
                await stored
        except TimeoutError:
            return False
        return True

    def _try(self, entry: Entry) -> asyncio.Future[Settled] | None:
        try:
            future = self._journal.append(entry, partial(self._kept, entry))
        except (JournalUnavailable, JournalFull):
            self._owe(entry)
            return None
        except EpochLost:  # another process owns the journal and knows these attempts without an outcome
            return None
        self._open += 1
        future.add_done_callback(look_at)
        return future

    def _kept(self, entry: Entry, settled: Settled) -> None:
        self._open -= 1
        if settled is Settled.COMMITTED:
            if entry.callbacks:
                self._on_callbacks(entry.callbacks)
        elif settled is Settled.POISONED:
            self._isolate(entry)
        else:
            self._owe(entry)
        self._wake_drain()

    def _isolate(self, entry: Entry) -> None:
        parts = split(entry)
        if len(parts) > 1:
            for part in parts:
                self._owe(part)
            return
        self.poisoned += len(entry.facts)
        for fact in entry.facts:
            log.error("fact refused by the database", message_id=fact.message_id, kind=fact.kind, detail=fact.detail)

    def _owe(self, entry: Entry) -> None:
        if not self._owed:
            asyncio.get_running_loop().call_later(KEEP_AGAIN_MS / 1_000, self._try_owed)
        self._owed.append(entry)
        self._owed_rows += entry.rows()

    def _try_owed(self) -> None:
        entries, self._owed, self._owed_rows = self._owed, deque(), 0
        for place, entry in enumerate(entries):
            if self._owed:  # the journal took no more
                for later in list(entries)[place:]:
                    self._owe(later)
                return
            self._try(entry)
        self._wake_drain()

    def _wake_drain(self) -> None:
        if not self._owed and not self._open:
            for stored in self._stored:
                if not stored.done():
                    stored.set_result(None)
            self._stored.clear()


def split(entry: Entry) -> list[Entry]:
    """One entry per message, and one per report nobody knows; for entries of facts."""
    parts: defaultdict[str, Entry] = defaultdict(Entry)
    for fact in entry.facts:
        parts[fact.message_id].facts.append(fact)
    for outcome in entry.outcomes:
        parts[outcome.message_id].outcomes.append(outcome)
    for reference in entry.carrier_refs:
        parts[reference.message_id].carrier_refs.append(reference)
    for callback in entry.callbacks:
        parts[callback.message_id].callbacks.append(callback)
    return [*parts.values(), *(Entry(unmatched=[report]) for report in entry.unmatched)]


def look_at(future: asyncio.Future[Settled]) -> None:
    """Nobody may be waiting: an outcome that is not known in time is told to `_kept` later."""
    if not future.cancelled() and not isinstance(future.exception(), OutcomeUnknown | EpochLost | None):
        log.error("journal failed", error=repr(future.exception()))
