"""Messages that exist: read one, list them, see what happened to one, cancel one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from gateway.api.arguments import read_own
from gateway.api.bodies import read_text
from gateway.api.call import Call, Reply
from gateway.api.errors import api_error, invalid, missing
from gateway.api.pages import paged, read_page
from gateway.api.shapes_stored import read_filters, read_message_id, render_message, render_timeline
from gateway.cancelling import Cancelling
from gateway.clock import Clock
from gateway.facts import Facts
from resolver.core import Resolver
from resolver.model import AccountId, Message, MessageId, Phase, PowerpackId
from storage.catalog import AccountRow
from storage.history import StoredMessage
from storage.messages import MessageFilters, MessagePage
from storage.records import Entry, FactKind, JournalUnavailable, Settled

CANCEL_MS_MAX: Final = 20_000
"""How long many are cancelled in one call, which has 30 s in all."""


class Archive(Protocol):
    """What is needed of `storage.messages.MessageArchive`."""

    async def find(
        self, account_id: AccountId, message_id: MessageId, *, also: Sequence[AccountId] = ()
    ) -> StoredMessage | None: ...

    async def list_page(
        self, account_id: AccountId, filters: MessageFilters, *, limit: int, offset: int
    ) -> MessagePage: ...


class Messages:
    """/v1/Account/{auth_id}/Message/ and one of them; sending is in sending.py."""

    def __init__(
        self,
        archive: Archive,
        resolver: Resolver,
        facts: Facts,
        cancelling: Cancelling,
        *,
        clock: Clock,
        subaccounts_of: Callable[[AccountId], Sequence[AccountRow]] = lambda _: (),
    ) -> None:
        self._subaccounts_of = subaccounts_of  # whose messages an account may read
        self._archive = archive
        self._cancelling = cancelling
        self._resolver = resolver
        self._facts = facts
        self._clock = clock

    async def get(self, call: Call) -> Reply:
        return call.json(render_message(await self._find(call, self._seen_by(call))))

    async def timeline(self, call: Call) -> Reply:
        stored = await self._find(call, self._seen_by(call))
        return call.json({"message_uuid": stored.row.message_id, "facts": render_timeline(stored)})

    async def list(self, call: Call) -> Reply:
        query = call.query()
        page, filters = read_page(query), read_filters(query)
        owner = AccountId(query.get("subaccount") or call.account_id)
        if owner != call.account_id and owner not in self._seen_by(call):
            raise invalid("subaccount", "is none of the account's")
        found = MessagePage([], 0)
        if filters is not None:
            found = await self._archive.list_page(owner, filters, limit=page.limit, offset=page.offset)
        path = f"/v1/Account/{call.account_id}/Message/"
        objects = [render_message(each) for each in found.messages]
        return call.json(paged(path, query, page, total=found.total, objects=objects))

    async def cancel(self, call: Call) -> Reply:
        """Stop a message that was not handed to a carrier. 200: it is stored as failed; 202: it will be at the door.

        In both cases it never leaves, and that is stored. Raises ApiError: not_found, already_left.
        """
        message_id = read_message_id(call.params[1])
        message = self._resolver.find(message_id) if message_id is not None else None
        if message is None or message.request.account_id != call.account_id or not message.committed:
            await self._find(call)
            raise api_error("already_left")
        if not self._resolver.cancel(message, now_ms=self._clock.now_ms()):
            raise api_error("already_left")
        entry, is_over = Entry(), message.phase is Phase.DONE
        kind = FactKind.CANCELLED if is_over else FactKind.CANCEL_ASKED
        self._facts.record(entry, message, kind, detail=FactKind.CANCELLED)
        settling = self._facts.keep(entry)
        if settling is None or await settling is not Settled.COMMITTED:
            raise JournalUnavailable("cancelled, and not stored yet")
        word = "cancelled" if is_over else "cancelling"
        return call.json({"message": word, "message_uuid": message.message_id}, 200 if is_over else 202)

    async def cancel_many(self, call: Call) -> Reply:
        """Stop all that waits of a powerpack, or under a reference; at least one of them is needed."""
        values = read_own(call, ("powerpack_uuid", "reference"))
        powerpack_id = PowerpackId((read_text(values, "powerpack_uuid") or "").lower())
        reference = read_text(values, "reference") or ""
        if not powerpack_id and not reference:
            raise missing("powerpack_uuid or reference")
        row = self._resolver.powerpack(powerpack_id) if powerpack_id else None
        if powerpack_id and (row is None or row.account_id != call.account_id):
            raise api_error("not_found", "there is no such powerpack")

        def matches(message: Message) -> bool:
            request = message.request
            return (
                request.account_id == call.account_id
                and (not powerpack_id or request.powerpack_id == powerpack_id)
                and (not reference or request.reference == reference)
            )

        done = await self._cancelling.cancel(matches, ms_max=CANCEL_MS_MAX)
        return call.json({"message": "cancelled", **done._asdict()})

    def _seen_by(self, call: Call) -> Sequence[AccountId]:
        """The subaccounts whose messages the caller may read; to cancel one takes the subaccount itself."""
        return [row.account_id for row in self._subaccounts_of(call.account_id)]

    async def _find(self, call: Call, also: Sequence[AccountId] = ()) -> StoredMessage:
        message_id = read_message_id(call.params[1])
        stored = await self._archive.find(call.account_id, message_id, also=also) if message_id is not None else None
        if stored is None:
            raise api_error("not_found")
        return stored
