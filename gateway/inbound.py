"""What carriers tell us about messages they took: reports become facts, in any order, repeated, early or late.

Invariants
* `take` returns once everything it was given is durable: facts, or the report itself where nobody knows its message
  yet. A repeated report makes no second fact, and is answered only when the first one's fact is durable.
* A carrier moves only messages that were handed to it.
* Memory is folded first and the rows are appended until they are stored: memory may be ahead of the disk, never of an
  answer. While anything could not be stored at once, new reports are refused before they move anything.
* What attempts have gathered is handed to the journal before our facts, so a message's `sent` comes before what a
  report says of it, in the journal and at the account's endpoint.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import structlog

from gateway.carriers.carrier import Report
from gateway.clock import Clock
from gateway.deposits import Deposits, Done, durable
from gateway.facts import Facts
from gateway.metrics import Counts
from resolver.model import E164, CarrierName, Message, MessageId, Phase
from storage.records import (
    ENDS,
    Entry,
    FactKind,
    FactRow,
    JournalUnavailable,
    State,
    UnmatchedReportRow,
)

log = structlog.get_logger(__name__)

STORE_MS_MAX = 5_000
"""How long a carrier waits for its answer; carriers give up at ten seconds or more, and repeat."""
LOOK_UP_MS_MAX = 3_000
SEEN_MAX = 200_000  # reports remembered, so that a repeated one costs no look-up; about 250 bytes each
RECENT_MAX = 100_000  # ids of messages that ended lately, ours and the carriers', for the same reason
PARKED_MAX = 100_000  # references nobody knows; what is dropped is in its table, and found at the next start
PARKED_MS_MAX = 24 * 3_600_000


class Stored(Protocol):
    """A message as it is stored."""

    @property
    def carriers(self) -> frozenset[CarrierName]:
        """Those it was handed to."""

    @property
    def kinds(self) -> frozenset[FactKind]: ...

    def message(self) -> Message:
        """As memory had it: state and sequence as of its facts. Raises ValueError where its row makes none."""


class Archive(Protocol):
    """What has left memory; both raise storage's errors."""

    async def find_refs(self, carrier: CarrierName, carrier_refs: Sequence[str]) -> Mapping[str, MessageId]:
        """The messages these ids of the carrier belong to; those it does not know are left out."""

    async def recall(self, message_ids: Sequence[MessageId]) -> Mapping[MessageId, Stored]:
        """These messages, whosever they are; those it does not know are left out."""


class Taken(NamedTuple):
    """What became of a batch: `accepted` are facts, or were before; nobody knows the `unknown` ones, yet."""

    accepted: int
    unknown: int


class _Recalled(NamedTuple):
    message: Message
    carriers: frozenset[CarrierName]
    kinds: frozenset[FactKind]


class _Batch:
    """Reports of one carrier being folded: the rows, and what must be durable before the carrier is answered."""

    __slots__ = ("accepted", "carrier", "entry", "keys", "recalled", "refs", "unknown", "waits")

    def __init__(self, carrier: CarrierName) -> None:
        self.carrier = carrier
        self.entry = Entry()
        self.refs: Mapping[str, MessageId] = {}
        self.recalled: dict[MessageId, _Recalled] = {}
        self.keys: set[tuple[str, str, FactKind]] = set()
        self.waits: set[Done] = set()
        self.accepted = self.unknown = 0


class Reports:
    """See the invariants. `reported` hears of each message a fact was recorded for, in the same loop turn."""

    def __init__(
        self,
        facts: Facts,
        archive: Archive,
        *,
        clock: Clock,
        find: Callable[[MessageId], Message | None],
        carrier_of: Callable[[E164], CarrierName | None],
        reported: Callable[[Message], None],
        flush: Callable[[], None],
        is_ready: Callable[[], bool],
        counts: Counts,
    ) -> None:
        self._facts = facts
        self._archive = archive
        self._clock = clock
        self._find_open = find
        self._carrier_of = carrier_of
        self._reported = reported
        self._flush = flush
        self._is_ready = is_ready
        self._counts = counts
        self._lock = asyncio.Lock()
        self._seen: OrderedDict[tuple[str, str, FactKind], Done] = OrderedDict()
        self._recent: OrderedDict[tuple[CarrierName, str, str], Message] = OrderedDict()
        self._parked: OrderedDict[tuple[CarrierName, str], tuple[int, list[Report]]] = OrderedDict()
        self._ripe: list[tuple[CarrierName, Message, list[Report]]] = []
        self._deposits = Deposits(facts)

    @property
    def parked(self) -> int:
        return len(self._parked)

    # -- from carriers ------------------------------------------------------------------------------------------------

    async def take(self, carrier: CarrierName, reports: Sequence[Report]) -> Taken:
        """Makes facts of reports. Raises storage's errors; what is given again makes no second fact."""
        self._check_ready()
        async with self._lock:
            batch = await self._recall(carrier, reports)
            self._check_ready()
            self._fold(batch, reports)
        await durable(batch.waits, ms_max=STORE_MS_MAX)
        return Taken(batch.accepted, batch.unknown)

    def taker(self, carrier: CarrierName) -> Callable[[list[Report]], Awaitable[None]]:
        """`take` for one carrier, as carriers call it."""

        async def take(reports: list[Report]) -> None:
            await self.take(carrier, reports)

        return take

    async def adopt(self, rows: Sequence[UnmatchedReportRow]) -> None:
        """What was parked before this start: applied if its message is known by now, else remembered.

        Raises storage's errors.
        """
        by_carrier: dict[CarrierName, list[UnmatchedReportRow]] = {}
        for row in rows:
            by_carrier.setdefault(row.carrier, []).append(row)
        for carrier, parked in by_carrier.items():
            reports = [Report(row.carrier_ref, "", row.kind, row.code, 0) for row in parked]
            async with self._lock:
                batch = await self._recall(carrier, reports)
                self._fold(batch, reports, parked_ms=[row.at_ms for row in parked])
            await durable(batch.waits, ms_max=STORE_MS_MAX)

    def carrier_ref_known(self, carrier: CarrierName, carrier_ref: str, message: Message) -> None:
        """A message got a carrier's id (facts tell each `sent`): reports that came before find their message now."""
        parked = self._parked.pop((carrier, carrier_ref), None)
        if parked is not None:
            if not self._ripe:  # once the caller is through with its own fact
                asyncio.get_running_loop().call_soon(self._apply_ripe)
            self._ripe.append((carrier, message, parked[1]))

    def _apply_ripe(self) -> None:
        ripe, self._ripe = self._ripe, []
        for carrier, message, reports in ripe:
            batch = _Batch(carrier)
            for report in reports:
                self._record(batch, message, report)
            self._store_batch(batch)

    def _check_ready(self) -> None:
        if self._deposits.is_behind or self._facts.is_behind or not self._is_ready():
            raise JournalUnavailable("reports cannot be stored now")

    # -- whose report it is -------------------------------------------------------------------------------------------

    async def _recall(self, carrier: CarrierName, reports: Sequence[Report]) -> _Batch:
        """Looks up what is not in memory."""
        batch = _Batch(carrier)
        absent = [report for report in reports if self._match(batch, report) is None]
        refs = list({report.carrier_ref for report in absent if report.carrier_ref})
        ids = {MessageId(report.reference) for report in absent if report.reference}
        if not refs and not ids:
            return batch
        try:
            async with asyncio.timeout(LOOK_UP_MS_MAX / 1_000):
                if refs:
                    batch.refs = await self._archive.find_refs(carrier, refs)
                    ids.update(batch.refs.values())
                if ids:  # also those in memory: facts know the carrier of a message whose number is gone
                    batch.recalled = _recalled(await self._archive.recall(sorted(ids)))
        except TimeoutError as error:
            raise JournalUnavailable("reports cannot be looked up now") from error
        return batch

    def _in_memory(self, carrier: CarrierName, message_id: MessageId) -> Message | None:
        return (
            self._find_open(message_id)
            or self._facts.awaiting.find_message(message_id)
            or self._recent.get((carrier, message_id, ""))
        )

    def _match(self, batch: _Batch, report: Report) -> Message | None:
        """The message a report is about: by our id, which the carrier repeats, else by the carrier's."""
        if report.reference:
            message = self._known(batch, MessageId(report.reference))
            if message is not None and self._was_handed_to(batch, message):
                return message
        if not report.carrier_ref:
            return None
        carrier, carrier_ref = batch.carrier, report.carrier_ref
        message = self._facts.awaiting.find(carrier, carrier_ref) or self._recent.get((carrier, "", carrier_ref))
        if message is not None or carrier_ref not in batch.refs:
            return message
        return self._known(batch, batch.refs[carrier_ref])

    def _known(self, batch: _Batch, message_id: MessageId) -> Message | None:
        message = self._in_memory(batch.carrier, message_id)
        if message is None and message_id in batch.recalled:
            message = batch.recalled[message_id].message
        return message

    def _was_handed_to(self, batch: _Batch, message: Message) -> bool:
        """No carrier says anything of a message that it cannot have."""
        recalled = batch.recalled.get(message.message_id)
        if recalled is not None:
            return batch.carrier in recalled.carriers
        if (batch.carrier, message.message_id, "") in self._recent:
            return True
        was_written = message.attempt > 1 or (message.attempt == 1 and message.phase is not Phase.RELEASED)
        return was_written and self._carrier_of(message.number) == batch.carrier

    def _remember(self, carrier: CarrierName, message: Message, carrier_ref: str) -> None:
        """It has ended; what comes again about it need not be looked up."""
        self._recent[carrier, message.message_id, ""] = message
        if carrier_ref:
            self._recent[carrier, "", carrier_ref] = message
        while len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)

    # -- folding: no await ----------------------------------------------------------------------------------------

    def _fold(self, batch: _Batch, reports: Sequence[Report], *, parked_ms: Sequence[int] = ()) -> None:
        for place, report in enumerate(reports):
            message = self._match(batch, report)
            if message is not None:
                self._record(batch, message, report)
            else:
                self._park(batch, report, parked_ms[place] if parked_ms else None)
        self._store_batch(batch)

    def _record(self, batch: _Batch, message: Message, report: Report) -> None:
        batch.accepted += 1
        key = (message.message_id, "", report.kind)
        if self._is_repeated(batch, message, key):
            self._counts.add("repeated")
            return
        self._counts.add(report.kind)
        batch.keys.add(key)
        recalled = batch.recalled.get(message.message_id)
        if recalled is not None and FactKind.UNREPORTED in recalled.kinds:
            batch.entry.facts.append(self._late(batch, message, report))  # it has ended: kept, and moves nothing
            return
        self._facts.record(
            batch.entry,
            message,
            report.kind,
            carrier=batch.carrier,
            carrier_ref=report.carrier_ref,
            code=report.code,
        )
        self._reported(message)
        if message.state in ENDS:
            self._remember(batch.carrier, message, report.carrier_ref)
        if report.carrier_ref:
            self.carrier_ref_known(batch.carrier, report.carrier_ref, message)

    def _is_repeated(self, batch: _Batch, message: Message, key: tuple[str, str, FactKind]) -> bool:
        """Whether its fact is there; if that is being stored, the batch waits for it."""
        kind = key[2]
        if key in batch.keys:
            return True
        first = self._seen.get(key)
        if first is not None:
            batch.waits.add(first)
            return True
        recalled = batch.recalled.get(message.message_id)
        if recalled is not None and kind in recalled.kinds:
            return True
        return message.state == kind and message.state in (State.DELIVERED, State.UNDELIVERED)

    def _late(self, batch: _Batch, message: Message, report: Report) -> FactRow:
        return FactRow(
            message.message_id, message.request.account_id, report.kind, 0, self._clock.now_ms(), None,
            message.number or None, batch.carrier, report.carrier_ref, report.code, "late", message.request.segments,
            charged=False,
        )  # fmt: skip

    def _park(self, batch: _Batch, report: Report, parked_ms: int | None) -> None:
        """Keeps a report until its message is known; one that names no carrier's id can never be."""
        batch.unknown += 1
        self._counts.add("unknown")
        if not report.carrier_ref:
            return
        now_ms = self._clock.now_ms()
        key = (batch.carrier, report.carrier_ref, report.kind)
        at_ms, reports = self._parked.setdefault((batch.carrier, report.carrier_ref), (parked_ms or now_ms, []))
        if all(other.kind is not report.kind for other in reports):
            reports.append(report)
            if parked_ms is None:
                row = UnmatchedReportRow(batch.carrier, report.carrier_ref, report.kind, report.code, now_ms)
                batch.entry.unmatched.append(row)
                batch.keys.add(key)
        elif key in self._seen:
            batch.waits.add(self._seen[key])
        while self._parked:
            at_ms = next(iter(self._parked.values()))[0]
            if len(self._parked) <= PARKED_MAX and now_ms - at_ms < PARKED_MS_MAX:
                break
            self._parked.popitem(last=False)

    # -- storing ------------------------------------------------------------------------------------------------------

    def _store_batch(self, batch: _Batch) -> None:
        if not batch.entry.rows():
            return
        self._flush()
        stored = self._deposits.put(batch.entry)
        batch.waits.add(stored)
        for key in batch.keys:
            self._seen[key] = stored
        while len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)


def _recalled(found: Mapping[MessageId, Stored]) -> dict[MessageId, _Recalled]:
    recalled: dict[MessageId, _Recalled] = {}
    for message_id, stored in found.items():
        try:
            message = stored.message()
        except ValueError:
            log.exception("a stored message makes no sense", message_id=message_id)
            continue
        message.phase = Phase.DONE  # whatever it waits for is not in this copy
        recalled[message_id] = _Recalled(message, stored.carriers, stored.kinds)
    return recalled
