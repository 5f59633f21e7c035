"""A message that names its source number itself, without a powerpack: a ladder of one.

The same windows, queue, link and refusals as for everybody; no thread is made or changed, also where the number is in
a powerpack. That powerpack may be paused: then the message goes past what waits there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resolver.choosing import LINK_DOWN, Question, binding_window, no_capacity, serves
from resolver.geography import locate
from resolver.model import (
    E164,
    NO_POWERPACK,
    AccountId,
    Decision,
    PoolId,
    PowerpackRow,
    Refusal,
    RefusalCode,
    Request,
    Tier,
)
from resolver.pool import Pool
from resolver.queues import Number

NO_POOL: Final = Pool(PowerpackRow(NO_POWERPACK, AccountId(""), PoolId(""), ""), [], threads_max=0)
"""What is asked where there is no powerpack: nobody ever puts anything in."""

RULES: Final = ("source",)


def decide_alone(
    numbers: Mapping[E164, Number],
    request: Request,
    recipient: E164,
    *,
    operator: str,
    excluded_networks: frozenset[str],
    now_ms: int,
    latest_ms: int,
) -> Decision | Refusal:
    """Whether the request's `source` may send it, and when. O(1)."""
    number = numbers.get(request.source)
    if number is None or number.row.account_id != request.account_id:
        return Refusal(RefusalCode.NO_NUMBER, "The account has no such source number.")
    if recipient == request.source:
        return Refusal(RefusalCode.DESTINATION_IS_SOURCE, "The recipient is the source number.")
    location = locate(recipient)
    if location is None:
        return Refusal(RefusalCode.INVALID_DESTINATION, "The recipient is not a number of a known country.")
    question = Question(
        NO_POOL, request, recipient, location, operator, excluded_networks,
        now_ms=now_ms, chance=0.0, horizon_ms=latest_ms, latest_ms=latest_ms,
    )  # fmt: skip
    if not serves(question, number):
        return Refusal(RefusalCode.NO_NUMBER, "The source number may not send to this destination.")
    return _choose(question, number)


def _choose(question: Question, number: Number) -> Decision | Refusal:
    units, now_ms, link = question.request.segments, question.now_ms, number.link
    if number.is_paused:
        at_ms = number.forecast_past_pause_ms(units, now_ms)
    else:
        at_ms = number.forecast_ms(question.urgent, units, now_ms)
    is_open = link.fits(now_ms)
    if is_open:
        at_ms = max(at_ms, link.free_ms(units, now_ms))
    if at_ms > question.latest_ms:
        return no_capacity(question, (number, at_ms))._replace(numbers_enough=None)  # another one was not asked for
    if not is_open:
        return Decision(number.number, Tier.SOURCE, None, (*RULES, LINK_DOWN), LINK_DOWN)
    window = "" if at_ms <= now_ms else binding_window(question, number, at_ms)
    return Decision(number.number, Tier.SOURCE, at_ms, RULES, window)
