"""POST Message: read, submit, answer. The one route whose cost counts; about 15 µs beside `submit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.api.call import Call, Reply
from gateway.api.errors import ERRORS, REFUSED_STATUS, ApiError, api_error
from gateway.api.idempotency import KEPT_STATUS, Keys, hash_request, read_key, replayed
from gateway.api.requests import RequestReader
from gateway.api.shapes_accepted import render_accepted, render_refused
from gateway.api.shapes_message import (
    check_not_to_itself,
    read_destinations,
    read_send,
)
from gateway.clock import Clock
from gateway.submissions import Answer, KeyTaken, NotAccepted, Submission, Submit
from resolver.model import Refusal, RefusalCode
from storage.records import IdempotencyRow, StorageError

REFUSE_NOW: Final = "refuse-now"


class Sending:
    """Accepts messages by calling `submit`."""

    def __init__(self, submit: Submit, keys: Keys, requests: RequestReader, *, clock: Clock) -> None:
        self._submit = submit
        self._keys = keys
        self._requests = requests
        self._clock = clock

    async def post(self, call: Call) -> Reply:
        key = read_key(call)
        submission = self._read(call)
        if key is None:
            try:
                return self._reply(call, await self._submit(submission))
            except NotAccepted as error:
                raise _as_api_error(error) from error
        body_hash = hash_request(call)
        with self._keys.running(call.account_id, key, body_hash):
            try:
                kept = await self._keys.find(call.account_id, key, body_hash)
            except StorageError:  # only asked to save work: the key's own row decides, and `submit` waits for a restart
                kept = None
            return replayed(kept) if kept is not None else await self._submit_once(call, submission, key, body_hash)

    async def _submit_once(self, call: Call, submission: Submission, key: str, body_hash: bytes) -> Reply:
        """Submit with the answer's row in the same transaction; the bytes that are kept are those that are sent."""

        def keep(answer: Answer) -> IdempotencyRow:
            body = self._reply(call, answer).payload
            return IdempotencyRow(call.account_id, key, body_hash, body, self._clock.now_ms())

        try:
            answer = await self._submit(submission._replace(keep=keep))
        except NotAccepted as error:
            raise _as_api_error(error) from error
        except KeyTaken:
            kept = await self._keys.find(call.account_id, key, body_hash)
            if kept is None:  # it was stored and is gone: nobody can say what it answered
                raise api_error("idempotency_key_running") from None
            return replayed(kept)
        return self._reply(call, answer)

    def _reply(self, call: Call, answer: Answer) -> Reply:
        if answer.stored:
            return call.json(render_accepted(answer), KEPT_STATUS)
        raise _all_refused(answer)

    def _read(self, call: Call) -> Submission:
        """The body, the headers and the sender, as a submission. Raises ApiError."""
        send = read_send(call.body)
        prefer = call.request.headers.get("Prefer")
        request = self._requests.read(send, call.account_id, call.request.remote or "")
        destinations = read_destinations(send.dst)
        if request.source:
            check_not_to_itself(request.source, destinations)
        return Submission(request, destinations, prefer is not None and wants_refusal(prefer))


def _as_api_error(error: NotAccepted) -> ApiError:
    return api_error(error.code, error.detail) if error.code in ERRORS else ApiError(400, error.code, error.detail)


def wants_refusal(prefer: str) -> bool:
    """Whether a `Prefer` header asks for state refusals to be answered instead of stored."""
    return any(each.partition(";")[0].strip().lower() == REFUSE_NOW for each in prefer.split(","))


def _all_refused(answer: Answer) -> ApiError:
    """Nothing was stored, as was asked for: 422, or 429 when room will come by itself."""
    refusals = [each.result for each in answer.refused if isinstance(each.result, Refusal)]
    waits = [each for each in refusals if each.code is RefusalCode.NO_CAPACITY]
    first = (waits or refusals)[0]
    more: Mapping[str, object] = {"refused": render_refused(answer)}
    if answer.invalid:
        more = {**more, "invalid_number": [each.written for each in answer.invalid]}
    retries = [each.retry_at_ms for each in waits if each.retry_at_ms is not None]
    return ApiError(
        REFUSED_STATUS[first.code],
        first.code,
        first.detail,
        retry_at_ms=min(retries) if retries else None,
        more=more,
    )
