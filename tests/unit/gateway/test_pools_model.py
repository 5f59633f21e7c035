"""Edits, toggles and sends in any order, against a naive model of what an account has."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.edits import EditRefused
from gateway.listings import page, total
from gateway.numbers import Numbers
from resolver.model import E164, NumberType, PowerpackId
from tests.fakes.accept_floor import POWERPACK, AcceptFloor
from tests.fakes.api_client import ACCOUNT

LONG = [f"+1415555{place:04d}" for place in range(100, 104)]
TOLL_FREE = ["+18005550100", "+18005550101"]
OURS = [E164(each) for each in (*LONG, *TOLL_FREE)]
RECIPIENTS = ["+14155550199", "+12125550199", "+12065550199"]


class PoolsModel(RuleBasedStateMachine):
    """`inside` and `outside` are what the account should have, by a model that knows no database and no index."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.floor: AcceptFloor = self.run(self._made())
        self.numbers = Numbers(self.floor.catalog, self.floor.pools, clock=self.floor.clock)
        self.inside: set[E164] = set()
        self.outside: set[E164] = set(OURS)
        self.sticky = True

    async def _made(self) -> AcceptFloor:
        floor = AcceptFloor(numbers=0, limits=None, commit_ms=0)
        for number in OURS:
            kind = NumberType.TOLL_FREE if number in TOLL_FREE else NumberType.LONG_CODE
            floor.add_number(number, number_type=kind)
        floor.fill()
        return floor

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.loop.close()

    def refused(self, work: Coroutine[Any, Any, Any]) -> str:
        try:
            self.run(work)
        except EditRefused as refused:
            return refused.code
        return ""

    @rule(number=st.sampled_from(OURS))
    def add(self, number: E164) -> None:
        taken = number in TOLL_FREE and any(each in TOLL_FREE and each != number for each in self.inside)
        code = self.refused(self.floor.pools.add_number(self.floor.pools.powerpacks[POWERPACK], number))
        if number in self.inside:
            assert code == ""
        elif number not in self.outside:
            assert code == "not_found"
        elif taken:
            assert code == "toll_free_limit"
        else:
            assert code == ""
            self.outside.discard(number)
            self.inside.add(number)

    @rule(number=st.sampled_from(OURS), gives_up=st.booleans())
    def remove(self, number: E164, gives_up: bool) -> None:
        pack = self.floor.pools.powerpacks[POWERPACK]
        code = self.refused(self.floor.pools.remove_number(pack, number, gives_up=gives_up))
        assert code == ("" if number in self.inside else "not_found")
        if number in self.inside:
            self.inside.discard(number)
            if not gives_up:
                self.outside.add(number)

    @rule(number=st.sampled_from(OURS))
    def give_up(self, number: E164) -> None:
        code = self.refused(self.numbers.give_up(ACCOUNT, number))
        assert code == ("" if number in self.inside | self.outside else "not_found")
        self.inside.discard(number)
        self.outside.discard(number)

    @rule(sticky=st.booleans())
    def toggle(self, sticky: bool) -> None:
        self.sticky = sticky
        self.run(self.floor.pools.change_powerpack(POWERPACK, lambda row: replace(row, sticky_sender=sticky)))

    @rule(recipient=st.sampled_from(RECIPIENTS))
    def send(self, recipient: str) -> None:
        before = set(self.floor.resolver.open)
        self.run(self.floor.outbound.submit(self.floor.submission(recipient)))
        made = [each for key, each in self.floor.resolver.open.items() if key not in before]
        assert len(made) == (1 if self.inside else 0)
        for message in made:
            assert message.number in self.inside

    @invariant()
    def memory_and_disk_say_what_the_model_says(self) -> None:
        pools, catalog = self.floor.pools, self.floor.catalog
        assert set(catalog.numbers) == set(pools.numbers) == self.inside | self.outside
        assert {each for each, row in catalog.numbers.items() if row.powerpack_id == POWERPACK} == self.inside
        assert set(pools.members[PowerpackId(POWERPACK)]) == self.inside
        assert set(self.floor.resolver.pools[POWERPACK].numbers) == self.inside
        assert self.floor.resolver.pools[POWERPACK].row.sticky_sender == self.sticky
        for listing, expected in (
            (pools.lists.of_account(ACCOUNT), self.inside | self.outside),
            (pools.lists.of_powerpack(POWERPACK), self.inside),
        ):
            spans = listing.pick(lambda _: ("",))
            assert page(spans, offset=0, limit=20) == sorted(expected)
            assert total(spans) == len(expected)

    @invariant()
    def nothing_waits_at_a_number_that_is_gone_while_there_is_another(self) -> None:
        if self.inside:
            assert {each.number for each in self.floor.resolver.open.values()} <= self.inside


PoolsModel.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestPoolsModel = PoolsModel.TestCase
