"""Resolve: which number would be chosen, and why; decided as for a message, without sending or charging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.api.bodies import read_bool, read_choice, read_integer, read_object, read_text
from gateway.api.call import Call, Reply
from gateway.api.errors import api_error, api_error_of, invalid
from gateway.api.powerpacks import find_powerpack
from gateway.api.shapes_message import (
    EXPIRY_S_DEFAULT,
    EXPIRY_S_MAX,
    EXPIRY_S_MIN,
    PATIENCE_MS_MAX,
    RESOLVE_KEYS,
    digits,
    read_destination,
    render_decision,
    render_refusal,
)
from gateway.clock import Chance, Clock
from gateway.pools import Pools
from gateway.submissions import LearnOperators
from resolver.compliance import check_recipient
from resolver.core import Resolver
from resolver.model import (
    E164,
    Decision,
    Message,
    MessageId,
    PowerpackRow,
    Priority,
    Refusal,
    Request,
    RequestId,
    Service,
)
from resolver.segments import check_text, measure

MESSAGES_MAX: Final = 100
STEPS_NUMBERS_MAX: Final = 20_000  # of a pool whose candidates are counted: about 3 µs each
TEXT_READ_MAX: Final = 2**18  # how long it may be is for `check_text` to say
NOTHING: Final = "."  # a text of one segment, where none is given


class Asked(NamedTuple):
    """One message to be resolved, read."""

    request: Request
    recipient: E164
    operator: str
    with_steps: bool


class Resolve:
    """POST /v1/Account/{auth_id}/Powerpack/{uuid}/Resolve/."""

    def __init__(
        self,
        resolver: Resolver,
        pools: Pools,
        *,
        clock: Clock,
        chance: Chance,
        allowed_countries: frozenset[str],
        find_operator: Callable[[E164], str],
        learn_operators: LearnOperators | None = None,
    ) -> None:
        self._resolver = resolver
        self._pools = pools
        self._clock = clock
        self._chance = chance
        self._allowed_countries = allowed_countries
        self._find_operator, self._learn_operators = find_operator, learn_operators

    async def post(self, call: Call) -> Reply:
        """Resolve one message, or `messages`: each as if those before it had been accepted."""
        row, values = find_powerpack(self._pools, call), read_object(call.body)
        if "messages" not in values:
            (asked,) = await self._learn(row, [self._read(row, values)])
            find_powerpack(self._pools, call)  # it may have been deleted meanwhile
            return call.json(asked if isinstance(asked, dict) else self._explain(asked))
        messages = values["messages"]
        if not isinstance(messages, list) or len(values) > 1:
            raise invalid("messages", "must be a list, and the only key")
        if len(messages) > MESSAGES_MAX:
            raise api_error("too_many_recipients", f"messages has {len(messages)} entries; at most {MESSAGES_MAX}")
        questions = await self._learn(row, [self._read(row, each) for each in messages])
        return call.json({"decisions": self._rehearse(find_powerpack(self._pools, call), questions)})

    def _read(self, row: PowerpackRow, values: object) -> Asked | dict[str, object]:
        """What is asked, or the answer where the recipient is none. Raises ApiError."""
        if not isinstance(values, dict):
            raise invalid("messages", "must be a list of objects")
        unknown = sorted(values.keys() - RESOLVE_KEYS)
        if unknown:
            raise invalid(unknown[0], "is no key of this route, which has " + ", ".join(sorted(RESOLVE_KEYS)))
        text = read_text(values, "text", most=TEXT_READ_MAX) or NOTHING
        refusal = check_text(text)
        if refusal is not None:
            raise api_error_of(refusal)
        written = read_destination(values)
        expiry_s = read_integer(values, "message_expiry", least=EXPIRY_S_MIN, most=EXPIRY_S_MAX)
        request = Request(
            RequestId(""),
            row.account_id,
            row.powerpack_id,
            text,
            measure(text).segments,
            service=read_choice(values, "type", Service) or Service.SMS,
            priority=read_choice(values, "priority", Priority) or Priority.BULK,
            patience_ms=read_integer(values, "patience_ms", least=0, most=PATIENCE_MS_MAX),
            validity_ms=(EXPIRY_S_DEFAULT if expiry_s is None else expiry_s) * 1_000,
        )
        recipient = check_recipient(written, self._allowed_countries)
        if isinstance(recipient, Refusal):
            return {"to": written, "code": recipient.code, "error": recipient.detail}
        operator = read_text(values, "operator")
        with_steps = read_bool(values, "steps") is not False
        return Asked(request, recipient, operator or self._find_operator(recipient), with_steps)

    async def _learn(
        self, row: PowerpackRow, questions: list[Asked | dict[str, object]]
    ) -> list[Asked | dict[str, object]]:
        """Ask for the operators that nobody said and the table does not know, as for a message."""
        wanted = [each.recipient for each in questions if isinstance(each, Asked) and not each.operator]
        if self._learn_operators is None or not row.operator_types or not wanted:
            return questions
        known = await self._learn_operators(wanted)
        return [
            each._replace(operator=each.operator or known.get(each.recipient, "")) if isinstance(each, Asked) else each
            for each in questions
        ]

    def _explain(self, asked: Asked) -> dict[str, object]:
        numbers = len(self._pools.members.get(asked.request.powerpack_id, {}))
        now_ms, chance = self._clock.now_ms(), self._chance()
        if not asked.with_steps or numbers > STEPS_NUMBERS_MAX:  # counting goes through the whole pool
            return _shown(
                asked,
                self._resolver.decide(
                    asked.request, asked.recipient, now_ms=now_ms, chance=chance, operator=asked.operator
                ),
            )
        trace = self._resolver.explain(
            asked.request, asked.recipient, now_ms=now_ms, chance=chance, operator=asked.operator
        )
        steps = [{"rule": step.rule, "before": step.before, "after": step.after} for step in trace.steps]
        return {**_shown(asked, trace.outcome), "steps": steps}

    def _rehearse(self, row: PowerpackRow, questions: Sequence[Asked | dict[str, object]]) -> list[dict[str, object]]:
        """Decide one after another over what those before would take, then take all of it back.

        Between two awaits, so nobody sees it. Threads are asked and not followed (Sticky Sender is off while a decision
        is applied), since a thread that others wait by could not be turned back: each message of a recipient is as new.
        """
        resolver, now_ms = self._resolver, self._clock.now_ms()
        pool, aloof = resolver.pools[row.powerpack_id], replace(row, sticky_sender=False)
        taken: list[Message] = []
        shown: list[dict[str, object]] = []
        try:
            for place, asked in enumerate(questions):
                if not isinstance(asked, Asked):
                    shown.append(asked)
                    continue
                request, recipient, operator, _ = asked
                decided = resolver.decide(request, recipient, now_ms=now_ms, chance=self._chance(), operator=operator)
                shown.append(_shown(asked, decided))
                if isinstance(decided, Decision):
                    rehearsed = MessageId(f"rehearsal {place}")
                    pool.row = aloof
                    taken.append(resolver.apply(request, recipient, decided, rehearsed, now_ms=now_ms))
                    pool.row = row
        finally:
            pool.row = row
            for message in reversed(taken):
                resolver.undo(message, now_ms=now_ms)
        return shown


def _shown(asked: Asked, outcome: Decision | Refusal) -> dict[str, object]:
    if isinstance(outcome, Refusal):
        return {
            "to": digits(asked.recipient),
            "code": outcome.code,
            "error": outcome.detail,
            **render_refusal(outcome),
        }
    return {"to": digits(asked.recipient), **render_decision(outcome, asked.request.segments)}
