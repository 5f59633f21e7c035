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

from gateway.awaiting import Done, Sent
from gateway.carriers.carrier import Report
from gateway.clock import Clock
from gateway.deposits import Deposits, durable
from gateway.facts import Facts
from gateway.metrics import Counts
from resolver.model import E164, CarrierName, Message, MessageId, Phase
from storage.records import (
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

    __slots__ = (
        "accepted", "carrier", "done", "entry", "is_looked_up", "now_ms", "recalled", "refs", "unknown", "waits",
    )  # fmt: skip

    def __init__(self, carrier: CarrierName) -> None:
        self.carrier = carrier
        self.entry = Entry()
        self.done: Done = asyncio.get_running_loop().create_future()  # when the entry is durable
        self.now_ms = 0
        self.is_looked_up = False
        self.refs: Mapping[str, MessageId] = {}
        self.recalled: dict[MessageId, _Recalled] = {}
        self.waits: set[Done] = set()
        self.accepted = self.unknown = 0


class _Parked:
    """Reports of one reference that nobody knows. `waits`: when their rows are durable."""

    __slots__ = ("at_ms", "reports", "waits")

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms
        self.reports: list[Report] = []
        self.waits: list[Done] = []


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
        self._awaiting = facts.awaiting
        self._parked: OrderedDict[tuple[CarrierName, str], _Parked] = OrderedDict()
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
            batch = _Batch(carrier)
            found = await self._find(batch, reports)
            self._check_ready()
            self._fold(batch, reports, found)
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
                batch = _Batch(carrier)
                found = await self._find(batch, reports)
                self._fold(batch, reports, found, parked_ms=[row.at_ms for row in parked])
            await durable(batch.waits, ms_max=STORE_MS_MAX)

    def carrier_ref_known(self, carrier: CarrierName, carrier_ref: str, message: Message) -> None:
        """A message got a carrier's id (facts tell each `sent`): reports that came before find their message now."""
        parked = self._parked.pop((carrier, carrier_ref), None) if self._parked else None
        if parked is not None:
            if not self._ripe:  # once the caller is through with its own fact
                asyncio.get_running_loop().call_soon(self._apply_ripe)
            self._ripe.append((carrier, message, parked.reports))

    def _apply_ripe(self) -> None:
        ripe, self._ripe = self._ripe, []
        for carrier, message, reports in ripe:
            batch = _Batch(carrier)
            batch.now_ms = self._clock.now_ms()
            for report in reports:
                self._record(batch, message, report)
            self._store_batch(batch)

    def _check_ready(self) -> None:
        if self._deposits.is_behind or self._facts.is_behind or not self._is_ready():
            raise JournalUnavailable("reports cannot be stored now")

    # -- whose report it is -------------------------------------------------------------------------------------------

    async def _find(self, batch: _Batch, reports: Sequence[Report]) -> list[Message | None]:
        """The message of each report; what is not in memory is looked up. No await if all of them are."""
        found = [self._match(batch, report) for report in reports]
        if None not in found:
            return found
        absent = [report for report, message in zip(reports, found, strict=True) if message is None]
        refs = list({report.carrier_ref for report in absent if report.carrier_ref})
        ids = {MessageId(report.reference) for report in absent if report.reference}
        if not refs and not ids:
            return found
        try:
            async with asyncio.timeout(LOOK_UP_MS_MAX / 1_000):
                if refs:
                    batch.refs = await self._archive.find_refs(batch.carrier, refs)
                    ids.update(batch.refs.values())
                if ids:  # also those in memory: facts know the carrier of a message whose number is gone
                    batch.recalled = _recalled(await self._archive.recall(sorted(ids)))
        except TimeoutError as error:
            raise JournalUnavailable("reports cannot be looked up now") from error
        batch.is_looked_up = True
        return [self._match(batch, report) for report in reports]  # all of them: memory has moved on

    def _match(self, batch: _Batch, report: Report) -> Message | None:
        """The message a report is about: by our id, which the carrier repeats, else by the carrier's.

        Where ours is not proven and the carrier's is known, the carrier's says it.
        """
        if report.is_proven or not report.carrier_ref:
            return self._match_reference(batch, report) or self._match_ref(batch, report.carrier_ref)
        return self._match_ref(batch, report.carrier_ref) or self._match_reference(batch, report)

    def _match_reference(self, batch: _Batch, report: Report) -> Message | None:
        if not report.reference:
            return None
        sent = self._awaiting.find_message(MessageId(report.reference))
        if sent is not None and sent.carrier == batch.carrier:
            agrees = report.is_proven or batch.is_looked_up or sent.carrier_ref in ("", report.carrier_ref)
            return sent.message if agrees else None  # else whose the carrier's id is must be looked up first
        message = self._known(batch, MessageId(report.reference))
        return message if message is not None and self._was_handed_to(batch, message, sent) else None

    def _match_ref(self, batch: _Batch, carrier_ref: str) -> Message | None:
        if not carrier_ref:
            return None
        sent = self._awaiting.find(batch.carrier, carrier_ref)
        if sent is not None:
            return sent.message
        return self._known(batch, batch.refs[carrier_ref]) if carrier_ref in batch.refs else None

    def _known(self, batch: _Batch, message_id: MessageId) -> Message | None:
        """What is in memory wins over what was looked up: it is where things happen."""
        message = self._find_open(message_id)
        if message is not None:
            return message
        sent = self._awaiting.find_message(message_id)
        if sent is not None:
            return sent.message
        recalled = batch.recalled.get(message_id)
        return recalled.message if recalled is not None else None

    def _was_handed_to(self, batch: _Batch, message: Message, sent: Sent | None) -> bool:
        """No carrier says anything of a message that it cannot have. `sent`: another one has it for all we remember."""
        recalled = batch.recalled.get(message.message_id)
        if recalled is not None:
            return batch.carrier in recalled.carriers
        if sent is not None:
            return False
        was_written = message.attempt > 1 or (message.attempt == 1 and message.phase is not Phase.RELEASED)
        return was_written and self._carrier_of(message.number) == batch.carrier

    # -- folding: no await ----------------------------------------------------------------------------------------

    def _fold(
        self,
        batch: _Batch,
        reports: Sequence[Report],
        found: Sequence[Message | None],
        *,
        parked_ms: Sequence[int] = (),
    ) -> None:
        batch.now_ms = self._clock.now_ms()
        for place, (report, message) in enumerate(zip(reports, found, strict=True)):
            if message is not None:
                self._record(batch, message, report)
            else:
                self._park(batch, report, parked_ms[place] if parked_ms else None)
        self._store_batch(batch)

    def _record(self, batch: _Batch, message: Message, report: Report) -> None:
        batch.accepted += 1
        carrier, carrier_ref, kind = batch.carrier, report.carrier_ref, report.kind
        sent = self._awaiting.find_message(message.message_id)
        recalled = batch.recalled.get(message.message_id) if batch.recalled else None
        if self._is_repeated(batch, message, kind, sent, recalled):
            self._counts.add("repeated")
            return
        self._counts.add(kind)
        is_over = sent.is_over if sent is not None else recalled is not None and FactKind.UNREPORTED in recalled.kinds
        if is_over:
            batch.entry.facts.append(self._late(batch, message, report))  # it has ended: kept, and moves nothing
        else:
            self._facts.record(
                batch.entry, message, kind, carrier=carrier, carrier_ref=carrier_ref, code=report.code,
                now_ms=batch.now_ms,
            )  # fmt: skip
            self._reported(message)
        if sent is None:
            sent = self._awaiting.hear(message, carrier, carrier_ref)
            sent.is_over = is_over
        if sent.told is None:
            sent.told = [(stored, None) for stored in recalled.kinds] if recalled is not None else []
        sent.told.append((kind, batch.done))
        if carrier_ref:
            self.carrier_ref_known(carrier, carrier_ref, message)

    def _is_repeated(
        self, batch: _Batch, message: Message, kind: FactKind, sent: Sent | None, recalled: _Recalled | None
    ) -> bool:
        """Whether its fact is there; if that is being stored, the batch waits for it."""
        if sent is not None and sent.told is not None:
            for told, done in sent.told:
                if told is kind:
                    if done is not None:
                        batch.waits.add(done)
                    return True
        if recalled is not None and kind in recalled.kinds:
            return True
        return message.state == kind and message.state in (State.DELIVERED, State.UNDELIVERED)

    def _late(self, batch: _Batch, message: Message, report: Report) -> FactRow:
        return FactRow(
            message.message_id, message.request.account_id, report.kind, 0, batch.now_ms, None,
            message.number or None, batch.carrier, report.carrier_ref, report.code, "late", message.request.segments,
            charged=False,
        )  # fmt: skip

    def _park(self, batch: _Batch, report: Report, parked_ms: int | None) -> None:
        """Keeps a report until its message is known; one that names no carrier's id can never be."""
        batch.unknown += 1
        self._counts.add("unknown")
        if not report.carrier_ref:
            return
        now_ms = batch.now_ms
        key = (batch.carrier, report.carrier_ref)
        parked = self._parked.get(key)
        if parked is None:
            parked = self._parked[key] = _Parked(parked_ms or now_ms)
        if all(other.kind is not report.kind for other in parked.reports):
            parked.reports.append(report)
            if parked_ms is None:
                row = UnmatchedReportRow(batch.carrier, report.carrier_ref, report.kind, report.code, now_ms)
                batch.entry.unmatched.append(row)
                parked.waits.append(batch.done)
        else:
            batch.waits.update(parked.waits)
        while self._parked:
            at_ms = next(iter(self._parked.values())).at_ms
            if len(self._parked) <= PARKED_MAX and now_ms - at_ms < PARKED_MS_MAX:
                break
            self._parked.popitem(last=False)

    # -- storing ------------------------------------------------------------------------------------------------------

    def _store_batch(self, batch: _Batch) -> None:
        if batch.entry.rows():
            self._flush()
            batch.waits.add(self._deposits.put(batch.entry, batch.done))


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
