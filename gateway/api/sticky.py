"""The sticky table: which number of a powerpack a recipient hears from; read, set, forgotten, carried over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import orjson
from aiohttp import web

from gateway.api.arguments import read_own
from gateway.api.bodies import read_text
from gateway.api.call import Call, Handler, Reply
from gateway.api.errors import ApiError, api_error, api_error_of, invalid, missing
from gateway.api.lines import Lines
from gateway.api.numberpool import read_number
from gateway.api.powerpacks import find_powerpack
from gateway.api.report_stream import ENDS
from gateway.api.streams import CUT, StreamEnded, StreamReply
from gateway.api.times import utc
from gateway.pools import Pools
from gateway.threads import StickyThreads
from resolver.compliance import check_recipient
from resolver.model import E164, PowerpackRow, Refusal, Thread
from storage.records import StorageError

ROOT: Final = "Powerpack/{powerpack_uuid}/Sticky/"
STRETCH_LINES: Final = 1_000
READ_IN_A_ROW: Final = 100  # lines between two turns of the loop; a foreign recipient costs 100 µs
ERRORS_SHOWN_MAX: Final = 100


class Sticky:
    """/v1/Account/{auth_id}/Powerpack/{powerpack_uuid}/Sticky/ and one recipient's thread."""

    def __init__(self, pools: Pools, threads: StickyThreads, *, allowed_countries: frozenset[str]) -> None:
        self._pools = pools
        self._threads = threads
        self._allowed_countries = allowed_countries

    def table(self) -> list[tuple[str, str, Handler]]:
        one = ROOT + "{recipient}/"
        return [("GET", one, self.get), ("PUT", one, self.put), ("DELETE", one, self.delete)]

    def streams(self) -> list[tuple[str, str, Handler]]:
        return [("GET", ROOT, self.export), ("POST", ROOT, self.bring)]

    # -- one thread -------------------------------------------------------------------------------------------------

    async def get(self, call: Call) -> Reply:
        read_own(call, ())
        row = find_powerpack(self._pools, call)
        recipient = self._recipient(call.params[2])
        return call.json(_shown(row, recipient, self._find(row, recipient)))

    async def put(self, call: Call) -> Reply:
        """Let the recipient hear from a number of the powerpack from now on."""
        row, values = find_powerpack(self._pools, call), read_own(call, ("number",))
        recipient, number = self._recipient(call.params[2]), self._member(row, read_text(values, "number"))
        await self._threads.point(row, [(recipient, number)])
        return call.json(_shown(row, recipient, self._find(row, recipient)))

    async def delete(self, call: Call) -> Reply:
        read_own(call, ())
        row = find_powerpack(self._pools, call)
        recipient = self._recipient(call.params[2])
        self._find(row, recipient)
        await self._threads.forget(row, recipient)
        return call.json({}, 204)

    def _find(self, row: PowerpackRow, recipient: E164) -> Thread:
        thread = self._threads.find(row, recipient)
        if thread is None:
            raise api_error("not_found", "the recipient has no thread in this powerpack")
        return thread

    def _recipient(self, written: str) -> E164:
        checked = check_recipient(written, self._allowed_countries)
        if isinstance(checked, Refusal):
            raise api_error_of(checked)
        return checked

    def _member(self, row: PowerpackRow, written: str | None) -> E164:
        if not written:
            raise missing("number")
        number = read_number(written)
        if number not in self._pools.members.get(row.powerpack_id, {}):
            raise api_error("not_found", "the powerpack has no such number")
        return number

    # -- all of them ------------------------------------------------------------------------------------------------

    async def export(self, call: Call) -> web.StreamResponse:
        """Every living thread, one line each, as of when its turn comes."""
        return StreamReply(self._lines(call, find_powerpack(self._pools, call)))

    async def _lines(self, call: Call, row: PowerpackRow) -> AsyncGenerator[bytes, None]:
        assert call.stream is not None, "the route streams"
        recipients = self._threads.recipients(row)
        for first in range(0, max(1, len(recipients)), STRETCH_LINES):
            if call.stream.is_draining:
                raise StreamEnded(CUT)
            stretch = recipients[first : first + STRETCH_LINES]
            found = [(each, self._threads.find(row, each)) for each in stretch]
            yield b"".join(
                orjson.dumps(_shown(row, each, thread), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
                for each, thread in found
                if thread is not None
            )

    async def bring(self, call: Call) -> web.StreamResponse:
        """Set a thread for each line, `{"recipient": …, "number": …}`, and answer when all are durable.

        A line that cannot be taken is named, and stops nothing. The same lines again only renew the threads.
        """
        assert call.stream is not None, "the route streams"
        row, lines = find_powerpack(self._pools, call), Lines(call.stream)
        count = stored = refused = 0
        errors: list[dict[str, object]] = []
        trouble: ApiError | None = None
        try:
            while raws := await lines.take(STRETCH_LINES):
                threads, wrong = await self._read(row, raws, count)
                await self._threads.point(row, threads)
                count, stored, refused = count + len(raws), stored + len(threads), refused + len(wrong)
                errors += wrong[: ERRORS_SHOWN_MAX - len(errors)]
        except StreamEnded as error:
            trouble = api_error(ENDS[error.reason])
        except StorageError:
            trouble = api_error("storage_unavailable")
        if not count:
            raise trouble or api_error("empty_stream")
        answer: dict[str, object] = {
            "complete": trouble is None,
            "lines": count,
            "stored": stored,
            "refused": refused,
            "errors": errors,
        }
        if trouble is not None:
            answer |= {"code": trouble.code, "error": trouble.message}
        return call.json(answer)

    async def _read(
        self, row: PowerpackRow, raws: Sequence[bytes | None], before: int
    ) -> tuple[list[tuple[E164, E164]], list[dict[str, object]]]:
        """The threads of these lines, and what is wrong with the others; blank ones are nobody's."""
        threads: list[tuple[E164, E164]] = []
        wrong: list[dict[str, object]] = []
        for line, raw in enumerate(raws, before + 1):
            if line % READ_IN_A_ROW == 0:
                await asyncio.sleep(0)
            try:
                if raw is None or raw.strip():
                    threads.append(self._read_line(row, raw))
            except ApiError as error:
                wrong.append({"line": line, "code": error.code, "error": error.message})
        return threads, wrong

    def _read_line(self, row: PowerpackRow, raw: bytes | None) -> tuple[E164, E164]:
        if raw is None:
            raise invalid("the line", "is longer than 64 KiB")
        try:
            values = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise invalid("the line", "is no JSON") from error
        if not isinstance(values, dict):
            raise invalid("the line", "is no object")
        return self._recipient(read_text(values, "recipient") or ""), self._member(row, read_text(values, "number"))


def _shown(row: PowerpackRow, recipient: E164, thread: Thread) -> dict[str, object]:
    return {
        "recipient": recipient.removeprefix("+"),
        "number": thread.number.removeprefix("+"),
        "detour": thread.detour.removeprefix("+") if thread.detour else None,
        "used": thread.used,
        "last_at": utc(thread.last_ms),
        "expires_at": utc(thread.last_ms + row.sticky_life_ms),
    }
