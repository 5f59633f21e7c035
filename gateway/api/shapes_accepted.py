"""The answer to POST Message in Plivo's JSON. What was decided is written at once, without a dictionary a recipient."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from gateway.api.shapes_message import digits, render_refusal
from gateway.api.times import stamp
from gateway.submissions import Answer, Outcome
from resolver.model import Refusal
from storage.records import State


def render_accepted(answer: Answer) -> dict[str, object]:
    """Give the body of the 202: Plivo's keys, then ours. Empty lists of ours are left out, `decisions` never."""
    body: dict[str, object] = {
        "message": "message(s) queued",
        "message_uuid": [each.message_id for each in answer.stored],
    }
    if answer.invalid:
        body["invalid_number"] = [each.written for each in answer.invalid]
    body["decisions"] = orjson.Fragment(_decisions(answer.stored, answer.segments))
    if answer.duplicates:
        body["duplicates"] = [digits(each) for each in answer.duplicates]
    if answer.refused:
        body["refused"] = render_refused(answer)
    return body


def render_refused(answer: Answer) -> list[dict[str, object]]:
    """List what was refused with `Prefer: refuse-now`, or would be."""
    return [_refused(each) for each in answer.refused]


def _decisions(outcomes: Sequence[Outcome], segments: int) -> str:
    return "[" + ",".join([_decided(each, segments) for each in outcomes]) + "]"


def _decided(outcome: Outcome, segments: int) -> str:
    """One recipient's JSON. Ids, numbers and codes are ours, and nothing in them has to be escaped."""
    decision = outcome.result
    if isinstance(decision, Refusal):
        failed = {"message_uuid": outcome.message_id, "state": State.FAILED, **_refused(outcome)}
        return orjson.dumps(failed, option=orjson.OPT_UTC_Z).decode()
    head = (
        f'{{"message_uuid":"{outcome.message_id}","to":"{digits(outcome.recipient)}",'
        f'"from":"{digits(decision.number)}","tier":"{decision.tier}","segments":{segments},"send_at":'
    )
    if decision.forecast_ms is None:
        return f'{head}null,"reason":{orjson.dumps(decision.window).decode()}}}'
    return f'{head}"{stamp(decision.forecast_ms)}"}}'


def _refused(outcome: Outcome) -> dict[str, object]:
    refusal = outcome.result
    assert isinstance(refusal, Refusal)
    refused: dict[str, object] = {"to": digits(outcome.recipient), "code": refusal.code, "error": refusal.detail}
    refused.update(render_refusal(refusal))
    return refused
