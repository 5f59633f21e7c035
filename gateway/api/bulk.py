"""POST Message/Bulk: a stream of lines, one message each; GET Message/Bulk/{id}: what became of them.

By default the answer comes when the stream has ended, since most clients read only then. With `answers=stream` it comes
with the stream, for clients that read while they write.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import orjson
from aiohttp import web

from gateway.api.bulk_run import BulkRun, StretchArchive, StretchStore
from gateway.api.call import Call
from gateway.api.errors import api_error
from gateway.api.idempotency import KEPT_STATUS, Held, Keys, read_key
from gateway.api.requests import RequestReader
from gateway.api.shapes_bulk import Defaults, LineReader, read_defaults, refused_lines_of, render_lines
from gateway.api.shapes_stored import read_message_id
from gateway.api.streams import CUT, StreamEnded, StreamReply
from gateway.clock import Clock, Ids
from storage.records import BulkId

NEVER_STORED = frozenset({"idempotency_key_reused", "idempotency_key_running"})
"""Troubles of a stream of which nothing was stored, whatever an earlier one has stored."""


class Bulk:
    """See above. `wait_ms_max`: how long a stream waits for room, unread."""

    def __init__(
        self,
        store: StretchStore,
        archive: StretchArchive,
        keys: Keys,
        requests: RequestReader,
        *,
        clock: Clock,
        ids: Ids,
        wait_ms_max: int,
    ) -> None:
        self._store = store
        self._archive = archive
        self._keys = keys
        self._requests = requests
        self._clock = clock
        self._ids = ids
        self._wait_ms_max = wait_ms_max

    async def post(self, call: Call) -> web.StreamResponse:
        defaults = read_defaults(call.query(), self._requests)
        key = read_key(call)
        if defaults.streams_answers:
            return StreamReply(self._answers(call, defaults, key), KEPT_STATUS)
        async with self._running(call, defaults, key) as run:
            while await run.next() is not None:
                pass
        return call.json(_summary(run), KEPT_STATUS)

    async def _answers(self, call: Call, defaults: Defaults, key: str | None) -> AsyncGenerator[bytes, None]:
        """A line for each of the stream's, as they are committed, then the summary."""
        is_begun = False
        async with self._running(call, defaults, key) as run:
            while (answer := await run.next()) is not None:
                is_begun = True
                yield render_lines(answer.stored, answer.refused)
        summary = {"api_id": call.api_id, **_summary(run, is_begun=is_begun)}
        yield orjson.dumps(summary, option=orjson.OPT_APPEND_NEWLINE)

    @asynccontextmanager
    async def _running(self, call: Call, defaults: Defaults, key: str | None) -> AsyncIterator[BulkRun]:
        """A run, with its key held. Raises ApiError."""
        if key is None:
            yield self._run(call, defaults, BulkId(self._ids.new()), None, is_repeat=False)
            return
        body_hash = sha256(orjson.dumps(["bulk", *defaults.values])).digest()
        with self._keys.running(call.account_id, key, body_hash) as held:
            kept = await self._keys.find(call.account_id, key, body_hash)
            bulk_id = BulkId(self._ids.new() if kept is None else orjson.loads(kept)["bulk_id"])
            yield self._run(call, defaults, bulk_id, held, is_repeat=kept is not None)

    def _run(self, call: Call, defaults: Defaults, bulk_id: BulkId, held: Held | None, *, is_repeat: bool) -> BulkRun:
        assert call.stream is not None, "the route streams"
        reader = LineReader(
            self._requests, defaults, account_id=call.account_id, requester_ip=call.request.remote or ""
        )
        return BulkRun(
            call.account_id, bulk_id, call.stream, reader, self._store, self._archive, clock=self._clock,
            wait_ms_max=self._wait_ms_max, held=held, is_repeat=is_repeat, needs_answers=defaults.streams_answers,
        )  # fmt: skip

    async def get(self, call: Call) -> web.StreamResponse:
        bulk_id = read_message_id(call.params[1])
        if bulk_id is None:
            raise api_error("not_found")
        return StreamReply(self._stored(call, BulkId(bulk_id)))

    async def _stored(self, call: Call, bulk_id: BulkId) -> AsyncGenerator[bytes, None]:
        assert call.stream is not None, "the route streams"
        next_line = 1
        while page := await self._archive.page(call.account_id, bulk_id, from_line=next_line):
            for row in page:
                if call.stream.is_draining:
                    raise StreamEnded(CUT)
                yield render_lines(await self._archive.messages(row), refused_lines_of(row))
                next_line = row.first_line + row.lines
        if next_line == 1:
            raise api_error("not_found")


def _summary(run: BulkRun, *, is_begun: bool = False) -> dict[str, object]:
    """Say what was taken, and how it ended. Raises ApiError when nothing was, unless an answer has begun."""
    taken, trouble = run.taken, run.trouble
    if not taken.lines and trouble is None:
        raise api_error("empty_stream")
    if trouble is not None and not is_begun and (not taken.lines or trouble.code in NEVER_STORED):
        raise trouble
    summary: dict[str, object] = {
        "message": "bulk stored",
        "bulk_id": run.bulk_id,
        "complete": trouble is None,
        "lines": taken.lines,
        "accepted": taken.accepted,
        "refused": taken.refused,
        "refused_by_code": {str(code): count for code, count in run.refused_by_code.items()},
        "replayed": taken.replayed,
    }
    if trouble is not None:
        summary["code"], summary["error"] = trouble.code, trouble.message
    return summary
