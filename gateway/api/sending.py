"""POST Message: read, submit, answer. The one route whose cost counts; about 15 µs beside `submit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.api.call import Call, Reply
from gateway.api.errors import ERRORS, REFUSED_STATUS, ApiError, api_error
from gateway.api.idempotency import KEPT_STATUS, Keys, hash_request, read_key
from gateway.api.shapes_message import (
    check_not_to_itself,
    read_destinations,
    read_log,
    read_method,
    read_on_unknown,
    read_patience_ms,
    read_priority,
    read_reference,
    read_send,
    read_source,
    read_validity_ms,
    render_accepted,
    render_refused,
)
from gateway.clock import Clock
from gateway.guard import GuardPolicy, check_url
from gateway.submissions import Answer, KeyTaken, NotAccepted, Submission, Submit
from resolver.model import PowerpackId, Refusal, RefusalCode, Request, RequestId, Service
from storage.records import IdempotencyRow, StorageError

URLS_MAX: Final = 1_000
"""Checked callback addresses remembered; an account has a few, and checking one costs 15 µs."""

REFUSE_NOW: Final = "refuse-now"


class Sending:
    """Accepts messages by calling `submit`."""

    def __init__(self, submit: Submit, keys: Keys, *, clock: Clock, policy: GuardPolicy) -> None:
        self._submit = submit
        self._keys = keys
        self._clock = clock
        self._policy = policy
        self._urls: dict[str, str] = {}

    async def post(self, call: Call) -> Reply:
        key = read_key(call)
        submission = self._read(call)
        if key is None:
            return self._reply(call, await self._submitted(submission))
        body_hash = hash_request(call)
        with self._keys.running(call.account_id, key, body_hash):
            try:
                kept = await self._keys.find(call.account_id, key, body_hash)
            except StorageError:  # only asked to save work: the key's own row decides, and `submit` waits for a restart
                kept = None
            return kept or await self._submit_once(call, submission, key, body_hash)

    async def _submit_once(self, call: Call, submission: Submission, key: str, body_hash: bytes) -> Reply:
        """Submit with the answer's row in the same transaction; the bytes that are kept are those that are sent."""

        def keep(answer: Answer) -> IdempotencyRow:
            body = self._reply(call, answer).payload
            return IdempotencyRow(call.account_id, key, body_hash, body, self._clock.now_ms())

        try:
            answer = await self._submitted(submission._replace(keep=keep))
        except KeyTaken:
            kept = await self._keys.find(call.account_id, key, body_hash)
            if kept is None:  # it was stored and is gone: nobody can say what it answered
                raise api_error("idempotency_key_running") from None
            return kept
        return self._reply(call, answer)

    async def _submitted(self, submission: Submission) -> Answer:
        try:
            return await self._submit(submission)
        except NotAccepted as error:
            if error.code in ERRORS:
                raise api_error(error.code, error.detail) from error
            raise ApiError(400, error.code, error.detail) from error

    def _reply(self, call: Call, answer: Answer) -> Reply:
        if answer.stored:
            return call.json(render_accepted(answer), KEPT_STATUS)
        raise _all_refused(answer)

    def _read(self, call: Call) -> Submission:
        """The body, the headers and the sender, as a submission. Raises ApiError."""
        send = read_send(call.body)
        prefer = call.request.headers.get("Prefer")
        request = Request(
            RequestId(""),
            call.account_id,
            PowerpackId((send.powerpack_uuid or "").strip().lower()),
            send.text or "",
            0,
            Service.SMS,
            read_priority(send),
            read_patience_ms(send),
            read_validity_ms(send),
            read_on_unknown(send),
            read_reference(send),
            self._read_url(send.url) if send.url else "",
            read_method(send),
            read_log(send),
            call.request.remote or "",
        )
        destinations = read_destinations(send.dst)
        if send.src:
            request.source = read_source(send.src)
            check_not_to_itself(request.source, destinations)
        return Submission(request, destinations, prefer is not None and wants_refusal(prefer))

    def _read_url(self, url: str) -> str:
        known = self._urls.get(url)
        if known is not None:
            return known
        checked = check_url(url, self._policy)
        if isinstance(checked, str):
            raise api_error("invalid_url", f"url: {checked}")
        if len(self._urls) >= URLS_MAX:
            self._urls.clear()
        self._urls[url] = checked.text
        return checked.text


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
