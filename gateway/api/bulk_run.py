"""One bulk on its way in: stretch after stretch of its lines is read, stored and only then told.

Invariants
* One stretch is under way at a time; nothing of the next one is stored before the last one is.
* What is counted in `taken` is committed. How the stream ended says `trouble`; None: all of it was taken.
* With a key, what an earlier try has stored is passed over, and must be the same lines: their hash says so.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

import orjson

from gateway.api.call import BodyStream
from gateway.api.errors import ApiError, api_error
from gateway.api.idempotency import Held
from gateway.api.lines import Lines
from gateway.api.shapes_bulk import LineReader, refused_line, refused_lines_of
from gateway.api.streams import CUT, DRAINING, IDLE, MISFRAMED, StreamEnded
from gateway.clock import Clock
from gateway.submissions import BulkLine, KeyTaken, NotAccepted, RefusedLine, Stretch, StretchAnswer
from resolver.model import E164, AccountId, Refusal
from storage.bulks import BulkMessage
from storage.records import (
    BulkId,
    IdempotencyRow,
    JournalFull,
    JournalUnavailable,
    OutcomeUnknown,
    Settled,
    StorageError,
    StretchRow,
)

STRETCH_LINES_MAX: Final = 500
READ_IN_A_ROW: Final = 100  # lines between two turns of the loop; a foreign recipient costs 100 µs
WAIT_MS_MIN, WAIT_MS_MAX = 4, 25  # between two looks whether there is room: a commit makes some in a few milliseconds
ENDS: Final = {IDLE: "body_timeout", MISFRAMED: "bad_request", CUT: "bad_request", DRAINING: "stopping"}

Raw = bytes | None
"""A line; None: it was too long."""


class StretchStore(Protocol):
    """What is needed of `gateway.bulks.Bulks`."""

    def check_recipient(self, written: str) -> E164 | Refusal: ...

    async def submit(self, stretch: Stretch) -> StretchAnswer: ...

    def give_up(self, stretch: Stretch) -> None: ...


class StretchArchive(Protocol):
    """What is needed of `storage.bulks.BulkArchive`."""

    async def page(self, account_id: AccountId, bulk_id: BulkId, *, from_line: int) -> list[StretchRow]: ...

    async def messages(self, stretch: StretchRow) -> list[BulkMessage]: ...


class Taken(NamedTuple):
    """How many lines have been taken, blank ones included, and how many of them by an earlier try."""

    lines: int = 0
    accepted: int = 0
    refused: int = 0
    replayed: int = 0


class BulkRun:
    """See above. `next` gives what became of the next lines, until there are none; then `trouble` says how it ended."""

    def __init__(
        self,
        account_id: AccountId,
        bulk_id: BulkId,
        stream: BodyStream,
        reader: LineReader,
        store: StretchStore,
        archive: StretchArchive,
        *,
        clock: Clock,
        wait_ms_max: int,
        held: Held | None,
        is_repeat: bool,
        needs_answers: bool,
    ) -> None:
        self.bulk_id = bulk_id
        self.taken = Taken()
        self.refused_by_code: Counter[str] = Counter()
        self.trouble: ApiError | None = None
        self._account_id = account_id
        self._stream, self._lines, self._reader = stream, Lines(stream), reader
        self._store, self._archive = store, archive
        self._clock, self._wait_ms_max = clock, wait_ms_max
        self._held = held
        self._is_repeat = is_repeat
        self._needs_answers = needs_answers
        self._stored: deque[StretchRow] = deque()  # by an earlier try, and not yet passed
        self._cut_up: list[list[Raw]] = []  # lines the database refused together
        self._digest = sha256()

    async def next(self) -> StretchAnswer | None:
        """Give what became of the next lines, once it is committed; None at the end."""
        if self.trouble is not None:
            return None
        try:
            if self._is_repeat:
                passed = await self._pass()
                if passed is not None:
                    return passed
                self._is_repeat = False
            return await self._take()
        except StreamEnded as error:
            self.trouble = api_error(ENDS[error.reason])
        except ApiError as error:
            self.trouble = error
        except NotAccepted as error:
            self.trouble = api_error(error.code)
        except StorageError as error:
            self.trouble = api_error("outcome_unknown" if isinstance(error, OutcomeUnknown) else "storage_unavailable")
        return None

    # -- what an earlier try has stored ---------------------------------------------------------------------------

    async def _pass(self) -> StretchAnswer | None:
        """Read the lines of the next stretch that is stored already; None when there is none."""
        if not self._stored:
            self._stored.extend(
                await self._archive.page(self._account_id, self.bulk_id, from_line=self.taken.lines + 1)
            )
        if not self._stored:
            return None
        row = self._stored.popleft()
        left = row.lines
        while left:
            raws = await self._lines.take(left)
            if not raws:
                raise api_error("idempotency_key_reused", "the stream ends before what was stored of it")
            _hash(self._digest, raws)
            left -= len(raws)
        if self._digest.digest() != row.digest:
            lines = f"lines {row.first_line} to {row.first_line + row.lines - 1}"
            raise api_error("idempotency_key_reused", f"{lines} differ from those that were stored with this key")
        refused = refused_lines_of(row)
        messages = await self._archive.messages(row) if self._needs_answers else []
        self._count(row.lines, row.accepted, refused, replayed=row.lines)
        return StretchAnswer(messages, refused)

    # -- what is new ----------------------------------------------------------------------------------------------

    async def _take(self) -> StretchAnswer | None:
        raws = self._cut_up.pop() if self._cut_up else await self._lines.take(STRETCH_LINES_MAX)
        while raws:
            first_line = self.taken.lines + 1
            lines, refused = await self._read(raws, first_line)
            try:
                return await self._stored_lines(raws, first_line, lines, refused)
            except NotAccepted:
                if len(raws) == 1:
                    refused = [refused_line(first_line, "invalid_data", api_error("invalid_data").message)]
                    return await self._stored_lines(raws, first_line, [], refused)
                middle = len(raws) // 2  # some line's data cannot be stored: find it by halves
                self._cut_up.append(raws[middle:])
                raws = raws[:middle]
        return None

    async def _read(self, raws: list[Raw], first_line: int) -> tuple[list[BulkLine], list[RefusedLine]]:
        lines: list[BulkLine] = []
        refused: list[RefusedLine] = []
        self._reader.begin_stretch()
        for line, raw in enumerate(raws, first_line):
            if line % READ_IN_A_ROW == 0:
                await asyncio.sleep(0)
            if raw is not None and (not raw or raw.isspace()):
                continue
            try:
                if raw is None:
                    raise api_error("line_too_long")
                request, written = self._reader.read(raw)
                recipient = self._store.check_recipient(written)
                if isinstance(recipient, Refusal):
                    if "<" in written:
                        raise api_error("several_recipients")
                    refused.append(refused_line(line, recipient.code, recipient.detail))
                else:
                    lines.append(BulkLine(line, request, recipient))
            except ApiError as error:
                refused.append(refused_line(line, error.code, error.message))
        return lines, refused

    async def _stored_lines(
        self, raws: list[Raw], first_line: int, lines: list[BulkLine], refused: list[RefusedLine]
    ) -> StretchAnswer:
        digest = self._digest.copy()
        _hash(digest, raws)

        def keep(answer: StretchAnswer) -> tuple[StretchRow, IdempotencyRow | None]:
            answer.refused[:] = sorted([*map(_in_words, answer.refused), *refused])
            now_ms = self._clock.now_ms()
            row = self._row(first_line, len(raws), digest.digest(), answer, now_ms)
            if self._held is None:
                return row, None
            key_row = self._held.row(self._answer(), now_ms) if first_line == 1 else None
            self._held.begin()  # last: what fails before has nothing to settle
            return row, key_row

        stretch = Stretch(self._account_id, lines, self._reader.requests(), keep, self._settled)
        try:
            answer = await self._submitted(stretch)
        finally:
            self._store.give_up(stretch)
        self._digest = digest
        self._count(len(raws), len(answer.stored), answer.refused)
        return answer

    async def _submitted(self, stretch: Stretch) -> StretchAnswer:
        """Wait for room, and store. Meanwhile nothing is read. Raises ApiError when there is none for too long."""
        deadline_ms = self._clock.monotonic_ms() + self._wait_ms_max
        wait_ms = WAIT_MS_MIN
        while True:
            try:
                return await self._store.submit(stretch)
            except JournalFull:
                short = "overloaded"
            except JournalUnavailable:
                short = "storage_unavailable"
            except KeyTaken:
                raise api_error("idempotency_key_running") from None
            if self._stream.is_draining or self._stream.is_gone:
                raise StreamEnded(DRAINING if self._stream.is_draining else CUT)
            if self._clock.monotonic_ms() >= deadline_ms:
                raise api_error(short)
            await self._clock.sleep_ms(wait_ms)
            wait_ms = min(wait_ms + 1, WAIT_MS_MAX)

    def _settled(self, _: Settled) -> None:
        if self._held is not None:
            self._held.settle()

    def _answer(self) -> bytes:
        return orjson.dumps({"bulk_id": self.bulk_id})

    def _row(self, first_line: int, lines: int, digest: bytes, answer: StretchAnswer, now_ms: int) -> StretchRow:
        stored, refused = answer.stored, answer.refused
        return StretchRow(
            self.bulk_id, first_line, lines, self._account_id, digest, len(stored),
            stored[0].message_id if stored else None, stored[-1].message_id if stored else None,
            [each.line for each in refused], [each.code for each in refused], [each.error for each in refused],
            [each.retry_at_ms for each in refused], now_ms,
        )  # fmt: skip

    def _count(self, lines: int, accepted: int, refused: Sequence[RefusedLine], *, replayed: int = 0) -> None:
        so_far = self.taken
        self.taken = Taken(
            so_far.lines + lines, so_far.accepted + accepted, so_far.refused + len(refused), so_far.replayed + replayed
        )
        self.refused_by_code.update(each.code for each in refused)


def _in_words(refused: RefusedLine) -> RefusedLine:
    """A refusal whose code says all gets its code's text."""
    return refused if refused.error else refused._replace(error=api_error(refused.code).message)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def _hash(digest: _Hash, raws: list[Raw]) -> None:
    """Add lines; that one was too long is all that counts of it."""
    digest.update(b"\n".join([b"\0" if raw is None else raw for raw in raws]) + b"\n")
