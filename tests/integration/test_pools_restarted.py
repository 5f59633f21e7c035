"""Edits of pools, toggles, sends and restarts in any order, by HTTP on a real database, against a naive model.

A restart is a drained one, or the process is cut off from its database right after its last answer. Whatever was
answered must be so afterwards and rule the next decision, and no message may be lost, or sent from a number it must
not come from.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from hypothesis import HealthCheck, Phase
from hypothesis import settings as effort
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.running import Exit
from gateway.settings import CarrierSettings, ServerSettings, Settings
from gateway.stores import open_stores
from resolver.model import E164, AccountId, NumberRow, NumberType
from storage.catalog_inventory import InventoryRow
from storage.database import Database
from tests.conftest import NOW_MS
from tests.fakes.api_client import basic
from tests.fakes.naive_account import NaivePack, place_of, type_of
from tests.integration.test_app import EAST, Life, _collector, settings, started
from tests.postgres import TEMPLATE, Postgres

__all__ = ["_collector", "settings"]

OWNED = ("+14155550100", "+15105550100", "+14165550100", "+18005550100", "55501")
FOR_RENT = ("+14155550190", "+18885550190")
NUMBERS = (*OWNED, *FOR_RENT)
RECIPIENTS = st.sampled_from(("+14155550199", "+14155550199", "+12125550199", "+14165550199"))
PACKS = st.sampled_from((0, 0, 0, 1))
PICKS = st.integers(0, 9)
STRAYS = st.sampled_from((False, False, False, True))  # takes any number, not one of those it fits
KINDS = {"longcode": "Number", "tollfree": "Tollfree", "shortcode": "Shortcode"}
ORDERS = (("shortcode", "tollfree", "longcode"), ("longcode", "tollfree", "shortcode"), ("tollfree",))
NO_ROUTE = "90"


class PoolsRestarted(RuleBasedStateMachine):
    """`packs` and `home` (owned numbers and the powerpack they are in) are what the account should have."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.packs = [NaivePack(), NaivePack()]
        self.home: dict[str, int | None] = dict.fromkeys(OWNED)
        self.waiting: dict[str, tuple[int, str, str]] = {}  # message: its powerpack, its recipient, its number
        self.done: dict[str, str] = {}  # message: the number it was sent from, "" where none could
        self.life: Life
        self.client: aiohttp.ClientSession

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    def pick(self, pick: int, fitting: Iterable[str], strays: bool) -> str:
        """One of those that fit, mostly."""
        among = NUMBERS if strays else sorted(fitting) or NUMBERS
        return among[pick % len(among)]

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        url = f"/v1/Account/{self.account_id}/{path}"
        async with self.client.request(method, url, json=body) as answer:
            read = await answer.json() if answer.status != 204 else {}
            assert answer.status < 500, read
            return answer.status, read

    # -- the gateway's lives ----------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.run(self._stock())
        self.run(self._start())
        self.uuids, self.pools = ["", ""], ["", ""]
        self._make(0)
        self._make(1)
        for pick in (2, 3, 4):
            self.add(pick, False, 0, False)

    def _make(self, pack: int) -> None:
        _, made = self.run(self.call("POST", "Powerpack/", {"name": f"pack {pack}"}))
        self.uuids[pack], self.pools[pack] = made["uuid"], made["number_pool"].split("/")[5]

    async def _stock(self) -> None:
        async with open_stores(self.settings.storage) as stores:
            await stores.database.migrate()
            account = await stores.catalog.create_account("machine", now_ms=NOW_MS)
            self.account_id, self.headers = account.account_id, {
                "Authorization": basic(account.account_id, account.token)
            }  # fmt: skip
            await stores.catalog.insert_numbers([_owned(each, account.account_id) for each in OWNED])
            await stores.catalog.stock_numbers([_offered(each) for each in FOR_RENT])

    async def _start(self) -> None:
        self.life = await self.stack.enter_async_context(started(self.settings))
        self.client = await self.stack.enter_async_context(
            aiohttp.ClientSession(self.life.base_url, headers=self.headers)
        )

    @rule(is_cut=st.booleans())
    def restart(self, is_cut: bool) -> None:
        if is_cut:
            self.run(self._cut_off())
        self.run(self.stack.aclose())
        self.stack = AsyncExitStack()
        self.run(self._start())

    async def _cut_off(self) -> None:
        """Take the database over, so that the process can store nothing any more, whatever it still does."""
        other = await Database.open(self.settings.storage.database_url)
        await other.take_over(owner="nobody", now_ms=NOW_MS, force=True)
        await other.close()
        assert await self.life.running is Exit.TAKEN_OVER

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        gc.unfreeze()

    # -- edits ------------------------------------------------------------------------------------------------------

    @rule(pick=PICKS, strays=STRAYS, pack=PACKS, rents=st.booleans())
    def add(self, pick: int, strays: bool, pack: int, rents: bool) -> None:
        free = {each for each, home in self.home.items() if home is None} | set(FOR_RENT if rents else ())
        number = self.pick(pick, free, strays)
        path = f"NumberPool/{self.pools[pack]}/{KINDS[type_of(number)]}/{number.removeprefix('+')}/"
        status, read = self.run(self.call("POST", path, {"rent": True} if rents else None))
        is_taken = type_of(number) == "tollfree" and any(
            type_of(each) == "tollfree" and each != number for each in self.packs[pack].members
        )
        if number not in self.home and not (rents and number in FOR_RENT):
            assert status == 404 or read["code"] == "not_for_rent", read
        elif self.home.get(number) is not None:
            assert status == (200 if self.home[number] == pack else 409), read
        elif is_taken:
            assert read["code"] == "toll_free_limit"
        else:
            assert status == 200, read
            self.home[number] = pack
            self.packs[pack].members.add(number)

    @rule(pick=PICKS, strays=STRAYS, pack=PACKS, unrents=STRAYS)
    def remove(self, pick: int, strays: bool, pack: int, unrents: bool, among: Iterable[str] = ()) -> None:
        number = self.pick(pick, among or self.packs[pack].members, strays)
        kind = KINDS[type_of(number)]
        path = f"NumberPool/{self.pools[pack]}/{kind}/{number.removeprefix('+')}/"
        status, _ = self.run(self.call("DELETE", path, {"unrent": unrents}))
        assert status == (200 if self.home.get(number) == pack else 404)
        if status == 200:
            self.packs[pack].take_out(number)
            self.home[number] = None
            if unrents and kind != "Shortcode":
                del self.home[number]

    @rule(number=st.sampled_from(FOR_RENT))
    def buy(self, number: str) -> None:
        status, _ = self.run(self.call("POST", f"PhoneNumber/{number[1:]}/", {}))
        assert status == 201  # whoever has it already is told the same
        self.home.setdefault(number, None)

    @rule(pick=PICKS)
    def unrent(self, pick: int) -> None:
        number = self.pick(pick, FOR_RENT, False)
        status, _ = self.run(self.call("DELETE", f"Number/{number[1:]}/"))
        assert status == (204 if number in self.home else 404)
        pack = self.home.pop(number, None)
        if pack is not None:
            self.packs[pack].take_out(number)

    @rule(pack=PACKS, sticky=st.booleans(), local=st.booleans(), order=st.sampled_from(ORDERS))
    def toggle(self, pack: int, sticky: bool, local: bool, order: tuple[str, ...]) -> None:
        places = {f"priority{place}": each for place, each in enumerate(order, 1)}
        priority = [{"country_iso": "US", "service_type": "SMS", "priority": places}]
        body = {"sticky_sender": sticky, "local_connect": local, "number_priority": priority}
        status, _ = self.run(self.call("POST", f"Powerpack/{self.uuids[pack]}/", body))
        assert status == 200
        naive = self.packs[pack]
        naive.sticky, naive.local, naive.order = sticky, local, order

    @rule(pack=PACKS, unrents=st.booleans())
    def make_anew(self, pack: int, unrents: bool) -> None:
        """Delete a powerpack, with what waits in it, and make one of the same name."""
        status, _ = self.run(self.call("DELETE", f"Powerpack/{self.uuids[pack]}/", {"unrent_numbers": unrents}))
        assert status == 200
        for number in self.packs[pack].members:
            self.home[number] = None
            if unrents and type_of(number) != "shortcode":
                del self.home[number]
        for message in [each for each, (inside, _, _) in self.waiting.items() if inside == pack]:
            shown = self.run(self._settled(message))
            assert (shown["message_state"], shown["error_code"]) == ("failed", NO_ROUTE)
            self.done[message] = ""
            del self.waiting[message]
        self.packs[pack] = NaivePack()
        self._make(pack)

    @rule(pack=PACKS, pauses=st.booleans())
    def pause(self, pack: int, pauses: bool) -> None:
        self.run(self.call("POST", f"Powerpack/{self.uuids[pack]}/{'Pause' if pauses else 'Resume'}/"))
        self.packs[pack].paused = pauses

    @rule(pick=PICKS, strays=STRAYS, pack=PACKS, recipient=RECIPIENTS, is_cut=STRAYS)
    def set_thread(self, pick: int, strays: bool, pack: int, recipient: str, is_cut: bool) -> None:
        number = self.pick(pick, self.packs[pack].members, strays)
        path = f"Powerpack/{self.uuids[pack]}/Sticky/{recipient[1:]}/"
        if type_of(number) == "shortcode" and place_of(recipient)[0] != "US":
            return  # a thread that its number cannot serve is another test's
        status, _ = self.run(self.call("PUT", path, {"number": number}))
        assert status == (200 if number in self.packs[pack].members else 404)
        if status == 200:
            self.packs[pack].threads[recipient] = number
        if is_cut:
            self.restart(is_cut=True)

    @rule(pack=PACKS, recipient=RECIPIENTS)
    def forget_thread(self, pack: int, recipient: str) -> None:
        status, _ = self.run(self.call("DELETE", f"Powerpack/{self.uuids[pack]}/Sticky/{recipient[1:]}/"))
        assert status == (204 if recipient in self.packs[pack].threads else 404)
        self.packs[pack].threads.pop(recipient, None)

    # -- messages ---------------------------------------------------------------------------------------------------

    @rule(pack=PACKS, recipient=RECIPIENTS)
    def send(self, pack: int, recipient: str) -> None:
        tier, numbers = self.packs[pack].may_send(recipient)
        body = {"powerpack_uuid": self.uuids[pack], "dst": recipient, "text": "Hello"}
        status, read = self.run(self.call("POST", "Message/", body))
        assert status == 202, read
        message = read["message_uuid"][0]
        shown = self.run(self._shown(message))
        if not numbers:
            assert (shown["message_state"], shown["error_code"]) == ("failed", NO_ROUTE)
            self.done[message] = ""
            return
        number = _as_number(shown["from_number"])
        assert number in numbers, (tier, numbers, shown)
        if self.packs[pack].sticky:
            self.packs[pack].threads[recipient] = number
        self.waiting[message] = (pack, recipient, number)

    @rule(pack=PACKS, recipient=RECIPIENTS, pick=PICKS)
    def strand(self, pack: int, recipient: str, pick: int) -> None:
        """Let a message wait, and take its number away."""
        self.pause(pack, pauses=True)
        self.send(pack, recipient)
        numbers = {number for inside, _, number in self.waiting.values() if inside == pack}
        if numbers:
            self.remove(pick, strays=False, pack=pack, unrents=False, among=numbers)

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self.what_waits_is_where_it_may_be()
        self.what_is_told_is_so()

    def what_waits_is_where_it_may_be(self) -> None:
        """What waits in a paused powerpack has moved if its number has left; everything else leaves by and by."""
        for message, (pack, _, number) in list(self.waiting.items()):
            naive = self.packs[pack]
            is_stranded = number not in naive.members
            shown = self.run(self._settled(message, number if is_stranded else "", ends=not naive.paused))
            now_from = _as_number(shown["from_number"])
            if now_from != number or is_stranded:
                self._moved(message, shown)
            if shown["message_state"] != "queued":
                self.done[message] = now_from if shown["message_state"] != "failed" else ""
                self.waiting.pop(message, None)

    def _moved(self, message: str, shown: dict[str, Any]) -> None:
        """Its number is gone, so it is decided again, and its recipient's thread with it; or no number may send it."""
        pack, recipient, number = self.waiting[message]
        naive, now_from = self.packs[pack], _as_number(shown["from_number"])
        _, numbers = naive.may_send_anew(recipient)
        allowed = numbers | {naive.threads[recipient]} if recipient in naive.threads else numbers
        if not allowed:
            assert (shown["message_state"], shown["error_code"]) == ("failed", NO_ROUTE), shown
            return
        assert now_from in allowed, (number, allowed, shown)
        self.waiting[message] = (pack, recipient, now_from)
        thread = self.run(self.call("GET", f"Powerpack/{self.uuids[pack]}/Sticky/{recipient[1:]}/"))
        if thread[0] == 200 and recipient not in naive.threads:
            assert _as_number(thread[1]["number"]) in numbers, (thread, numbers)
            naive.threads[recipient] = _as_number(thread[1]["number"])

    async def _shown(self, message: str) -> dict[str, Any]:
        status, read = await self.call("GET", f"Message/{message}/")
        assert status == 200, f"message {message} is lost"
        return read

    async def _settled(self, message: str, leaves: str = "", *, ends: bool = True) -> dict[str, Any]:
        """Look until it has ended, if it `ends`, and has left that number: what is told is written behind."""
        while True:
            shown = await self._shown(message)
            is_queued = shown["message_state"] == "queued"
            if not is_queued or not (ends or _as_number(shown["from_number"]) == leaves):
                return shown
            await asyncio.sleep(0.005)

    # -- what is told -----------------------------------------------------------------------------------------------

    def what_is_told_is_so(self) -> None:
        for pack, naive in enumerate(self.packs):
            for kind, types in (("Number", ("longcode", "tollfree")), ("Shortcode", ("shortcode",))):
                _, read = self.run(self.call("GET", f"NumberPool/{self.pools[pack]}/{kind}/"))
                told = {_as_number(each["number"]) for each in read["objects"]}
                assert told == {each for each in naive.members if type_of(each) in types}
            _, read = self.run(self.call("GET", f"Powerpack/{self.uuids[pack]}/"))
            assert (read["sticky_sender"], read["local_connect"], read["paused"]) == (
                naive.sticky, naive.local, naive.paused,
            )  # fmt: skip
            assert self.run(self._threads(pack)) == naive.threads
        _, read = self.run(self.call("GET", "Number/"))
        rented = {each for each in self.home if type_of(each) != "shortcode"}
        assert {_as_number(each["number"]) for each in read["objects"]} - {"55501"} == rented

    async def _threads(self, pack: int) -> dict[str, str]:
        path = f"/v1/Account/{self.account_id}/Powerpack/{self.uuids[pack]}/Sticky/"
        async with self.client.get(path) as answer:
            lines = [orjson.loads(each) for each in (await answer.read()).splitlines()]
        return {_as_number(each["recipient"]): _as_number(each["number"]) for each in lines}

    @rule()
    def nothing_was_lost(self) -> None:
        for message, number in self.done.items():
            shown = self.run(self._shown(message))
            assert (shown["message_state"] == "failed") == (number == "")
            assert not number or _as_number(shown["from_number"]) == number


def _as_number(written: str) -> str:
    digits = written.removeprefix("+")
    return digits if len(digits) <= 6 else f"+{digits}"


def _owned(number: str, account_id: AccountId) -> NumberRow:
    kind = NumberType(type_of(number))
    country = place_of(number)[0] if kind is NumberType.LONG_CODE else "US"
    return NumberRow(
        E164(number), account_id, kind, country, EAST, campaign_approved=True, verified=True, added_ms=NOW_MS
    )


def _offered(number: str) -> InventoryRow:
    row = _owned(number, AccountId(""))
    return InventoryRow(row.number, row.type, row.country, "", "", EAST, tuple(row.services), True, True)


def test_edits_sends_and_restarts_in_any_order(settings: Settings, postgres: Postgres, tmp_path: Path) -> None:
    carrier = CarrierSettings(name=EAST, options={"latency_ms_min": 0, "latency_ms_max": 2, "undelivered_per_mille": 0})
    names: list[str] = []

    def machine() -> PoolsRestarted:
        names.append(postgres.create(template=TEMPLATE))
        storage = replace(settings.storage, database_url=postgres.database_url(names[-1]))
        server = ServerSettings(port=0, takeover=True)
        return PoolsRestarted(replace(settings, server=server, storage=storage, carriers={EAST: carrier}))

    try:
        run_state_machine_as_test(
            machine,  # type: ignore[arg-type]  # anything that makes one
            settings=effort(
                max_examples=12,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.explicit, Phase.generate),
            ),
        )
    finally:
        for name in names:
            postgres.drop(name)
