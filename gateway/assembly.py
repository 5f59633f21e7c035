"""The composition root, first half: makes every part and hands it what it needs. Nothing runs yet; app.py starts it.

Alone knows concrete classes. What two parts need of each other goes through a small function here, so that neither
knows the other.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from gateway.accounts import AccountEdits
from gateway.api.account import Accounts
from gateway.api.administration import Administration
from gateway.api.applications import ApplicationRoutes
from gateway.api.around import Around
from gateway.api.bulk import Bulk
from gateway.api.composition import Composition
from gateway.api.document import document_routes
from gateway.api.idempotency import Keys
from gateway.api.messages import Messages
from gateway.api.middleware import Front, FrontCounts
from gateway.api.numberpool import NumberPool
from gateway.api.numbers import NumberRoutes
from gateway.api.phone_numbers import PhoneNumbers
from gateway.api.powerpacks import Powerpacks
from gateway.api.recommend import Recommend
from gateway.api.reports import CarrierReports
from gateway.api.requests import RequestReader
from gateway.api.resolve import Resolve
from gateway.api.router import Route, Router
from gateway.api.routes import Resource, account_routes
from gateway.api.sending import Sending
from gateway.api.shapes_message import render_callback
from gateway.api.simulate import Simulate
from gateway.api.sticky import Sticky
from gateway.api.subaccounts import SubaccountRoutes
from gateway.api.windows import Windows
from gateway.applications import Applications
from gateway.attempts import Attempts
from gateway.bulks import Bulks
from gateway.callbacks import Callbacks
from gateway.cancelling import Cancelling
from gateway.carrier_orders import CarrierOrders
from gateway.carriers.carrier import Carrier
from gateway.clock import Chance, Ids, SystemClock
from gateway.dials import Dials
from gateway.facts import Facts
from gateway.fields import BadSetting
from gateway.guard import GuardedClient, GuardPolicy, networks
from gateway.inbound import Reports
from gateway.kept_answers import KeptAnswers
from gateway.lanes import Lane
from gateway.numbers import Numbers
from gateway.operators import Operators
from gateway.outbound import REFUSAL_CODES, Outbound
from gateway.pools import Pools
from gateway.pressure import Pressure
from gateway.settings import CallbackSettings, JournalSettings, Settings
from gateway.signatures import Tokens, make_nonce
from gateway.stores import Stores
from gateway.submissions import LearnOperators
from gateway.sweeping import Sweeping
from gateway.threads import StickyThreads
from gateway.upkeep import Upkeep
from resolver.core import Resolver
from resolver.model import AccountId, CarrierName
from storage.backlog import JournalLimits
from storage.bulks import BulkArchive
from storage.catalog import AccountRow
from storage.journal import Journal
from storage.messages import MessageArchive
from storage.outbox import Outbox
from storage.threads import ThreadKeeper


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is there before any part: settings, time, ids, chance, counters, and what ends the run."""

    settings: Settings
    clock: SystemClock
    ids: Ids
    chance: Chance
    dials: Dials
    pressure: Pressure
    around: Around
    learn_operators: LearnOperators | None
    on_broken_promise: Callable[[Exception], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """Every part that must be started or stopped."""

    journal: Journal
    sender: GuardedClient
    callbacks: Callbacks
    facts: Facts
    attempts: Attempts
    upkeep: Upkeep
    pools: Pools
    cancelling: Cancelling
    orders: CarrierOrders
    reports: Reports
    archive: MessageArchive
    threads: ThreadKeeper
    operators: Operators
    lanes: Mapping[CarrierName, Lane]
    front: Front


def assemble(base: Surroundings, stores: Stores, resolver: Resolver, carriers: Mapping[CarrierName, Carrier]) -> Parts:
    """Make every part. The epoch must be ours; the resolver and the catalog in memory are filled afterwards."""
    settings, clock, ids, chance, dials = base.settings, base.clock, base.ids, base.chance, base.dials
    lanes: dict[CarrierName, Lane] = {}
    pools: Pools  # asked by parts that are made before it

    def tokens_of(account_id: AccountId) -> Tokens | None:
        return callback_tokens(pools.accounts, account_id, now_ms=clock.now_ms())

    def wake(carrier: CarrierName) -> None:
        if carrier in lanes:  # else a number names a carrier that the settings do not have
            lanes[carrier].wake()

    journal = Journal(
        stores.database, clock=clock.now_ms, limits=journal_limits(settings.journal), on_commit=dials.committed
    )
    sender = make_sender(settings)
    callbacks = Callbacks(
        Outbox(stores.database), sender, settings=settings.callbacks, policy=guard_policy(settings.callbacks),
        clock=clock, tokens_of=tokens_of, nonce=partial(make_nonce, secrets.randbelow), counts=dials.callbacks,
    )  # fmt: skip
    facts = Facts(
        journal, clock, ids, render_callback=render_callback, on_callbacks_committed=callbacks.owe,
        awaiting_max=settings.lanes.awaiting_max,
    )  # fmt: skip
    attempts = Attempts(resolver, facts, clock=clock, chance=chance, metrics=dials.lanes, settings=settings.lanes)
    for name, carrier in carriers.items():
        lanes[name] = Lane(
            carrier, resolver, journal, facts, attempts, segments_per_s=settings.carriers[name].segments_per_s,
            clock=clock, metrics=dials.lanes, settings=settings.lanes,
        )  # fmt: skip
    archive = MessageArchive(stores.database)
    upkeep = Upkeep(
        resolver, journal, facts, attempts, clock=clock, chance=chance, wake=wake, refusal_codes=REFUSAL_CODES,
        sweep=Sweeping(archive, facts, clock=clock, report_wait_ms=settings.lanes.report_wait_ms).sweep,
    )  # fmt: skip
    cancelling = Cancelling(resolver, facts, clock=clock)
    operators = Operators(stores.catalog)
    orders = CarrierOrders(lanes, resolver, cancelling, stores.catalog, clock=clock)
    pools = Pools(stores.catalog, resolver, facts, clock=clock, wake=wake, decide_again=upkeep.turn,
                  follow_carrier=orders.follow, follow_operators=operators.load)  # fmt: skip
    reports = Reports(
        facts, archive, clock=clock, find=resolver.find, carrier_of=resolver.carrier_of, reported=attempts.reported,
        flush=attempts.flush, is_ready=lambda: journal.ready, counts=dials.reports,
    )  # fmt: skip
    facts.on_carrier_ref(reports.carrier_ref_known)
    dials.watch_parts(resolver=resolver, journal=journal, facts=facts, callbacks=callbacks, reports=reports,
                      lanes=lanes)  # fmt: skip
    threads = ThreadKeeper(stores.database, resolver.threads_changed, clock=clock.now_ms)
    routes = make_routes(base, stores, resolver, carriers, facts, journal, pools, lanes, reports, archive, cancelling,
                         threads, operators)  # fmt: skip
    front = make_front(base, routes, pools, journal, resolver)
    return Parts(
        journal, sender, callbacks, facts, attempts, upkeep, pools, cancelling, orders, reports, archive, threads,
        operators, lanes, front,
    )  # fmt: skip


def make_front(base: Surroundings, routes: list[Route], pools: Pools, journal: Journal, resolver: Resolver) -> Front:
    """Make who answers accounts and carriers."""
    settings, dials = base.settings, base.dials
    return Front(
        Router(routes), pools.accounts, clock=base.clock, ids=base.ids, server=settings.server, limits=settings.limits,
        counts=FrontCounts(dials.requests, dials.errors, dials.rejections),
        find_shortage=partial(find_shortage, base, journal, resolver), on_broken_promise=base.on_broken_promise,
    )  # fmt: skip


def make_routes(
    base: Surroundings,
    stores: Stores,
    resolver: Resolver,
    carriers: Mapping[CarrierName, Carrier],
    facts: Facts,
    journal: Journal,
    pools: Pools,
    lanes: Mapping[CarrierName, Lane],
    reports: Reports,
    archive: MessageArchive,
    cancelling: Cancelling,
    threads: ThreadKeeper,
    operators: Operators,
) -> list[Route]:
    """Make what answers requests, and the table of who answers which."""
    settings, clock, ids, chance, dials = base.settings, base.clock, base.ids, base.chance, base.dials
    countries = frozenset(settings.limits.countries)
    outbound = Outbound(
        resolver, facts, journal, pools, lanes, clock=clock, ids=ids, chance=chance, allowed_countries=countries,
        claim_lead_ms=settings.lanes.claim_lead_ms, hold_ms_max=settings.journal.hold_ms_max,
        find_operator=operators.find, learn_operators=base.learn_operators,
        accepted=dials.accepted, refused=dials.refused,
        binding=dials.binding,
        is_overloaded=base.pressure.is_high,
    )  # fmt: skip
    bulks = Bulks(
        outbound, resolver, facts, journal, clock=clock, ids=ids, rows_max=settings.journal.waiting_rows_max // 2,
        commit_wait_ms_max=settings.journal.wait_ms_max // 4,
    )  # fmt: skip
    owned = Numbers(stores.catalog, pools, clock=clock)
    sticky = Sticky(pools, StickyThreads(resolver, threads.keep, clock=clock), allowed_countries=countries)
    answers = KeptAnswers(archive.find_answer, is_ready=lambda: journal.ready)
    keys, requests = Keys(answers.find), RequestReader(guard_policy(settings.callbacks))
    return [
        *base.around.routes(),
        *document_routes(),
        *CarrierReports(carriers.get, reports.take, clock=clock, counts=dials.webhooks).routes(),
        *account_routes(
            sending=Sending(outbound.submit, keys, requests, clock=clock),
            bulk=Bulk(
                bulks,
                BulkArchive(stores.database),
                keys,
                requests,
                clock=clock,
                ids=ids,
                wait_ms_max=settings.server.stream_idle_ms,
            ),
            messages=Messages(archive, resolver, facts, cancelling, clock=clock, subaccounts_of=pools.subaccounts_of),
            powerpacks=Powerpacks(pools, clock=clock, ids=ids),
            numbers=NumberPool(pools, owned),
            resolve=make_resolve(base, resolver, pools, operators),
            accounts=Accounts(pools.accounts),
            resources=[*make_resources(base, stores, resolver, pools, owned), sticky],
            streams=sticky.streams(),
        ),
    ]


def make_resolve(base: Surroundings, resolver: Resolver, pools: Pools, operators: Operators) -> Resolve:
    """Make who says how a message would be decided."""
    return Resolve(
        resolver, pools, clock=base.clock, chance=base.chance,
        allowed_countries=frozenset(base.settings.limits.countries), find_operator=operators.find,
        learn_operators=base.learn_operators,
    )  # fmt: skip


def make_resources(
    base: Surroundings, stores: Stores, resolver: Resolver, pools: Pools, owned: Numbers
) -> list[Resource]:
    """Make what else an account has routes for."""
    applications = Applications(stores.catalog, pools)
    return [
        ApplicationRoutes(
            applications, guard_policy(base.settings.callbacks), clock=base.clock, random_below=secrets.randbelow
        ),
        NumberRoutes(pools, owned),
        PhoneNumbers(pools, owned),
        Composition(pools, owned),
        SubaccountRoutes(AccountEdits(stores.catalog, pools.follow), pools.subaccounts_of, clock=base.clock),
        Windows(resolver, pools, clock=base.clock),
        Recommend(pools, MessageArchive(stores.database), clock=base.clock),
        Simulate(resolver, pools, clock=base.clock, allowed_countries=frozenset(base.settings.limits.countries)),
    ]


def make_admin_front(base: Surroundings, stores: Stores, pools: Pools, token: str) -> Front:
    """Make who answers on the administrator's listener: no account is known there."""
    settings, clock = base.settings, base.clock
    edits = AccountEdits(stores.catalog, pools.follow)
    administration = Administration(token, edits, pools, stores, settings, clock=clock)
    return Front(
        Router([*base.around.routes(), *administration.routes()]), {}, clock=clock, ids=base.ids,
        server=settings.server, limits=settings.limits, on_broken_promise=base.on_broken_promise,
    )  # fmt: skip


def find_shortage(base: Surroundings, journal: Journal, resolver: Resolver, account_id: AccountId) -> str:
    """Name the bound of docs/limits.md that lets an account send nothing more at the moment; "" mostly."""
    if base.pressure.reason:
        return base.pressure.reason.replace(" ", "_")
    if journal.waiting_rows and journal.wait_ms(account_id) > base.settings.journal.wait_ms_max:
        return "commit_wait"
    return "waiting_messages" if resolver.waiting >= resolver.waiting_max else ""


def callback_tokens(accounts: Mapping[AccountId, AccountRow], account_id: AccountId, *, now_ms: int) -> Tokens | None:
    """Give what an account's callbacks are signed with; None where there is no such account."""
    account = accounts.get(account_id)
    if account is None:
        return None
    main = accounts.get(account.main_id or account_id, account)
    return Tokens(account.tokens(now_ms), main.tokens(now_ms))


def guard_policy(callbacks: CallbackSettings) -> GuardPolicy:
    """Give which addresses callbacks may go to. Raises BadSetting."""
    try:
        allowed = networks(*callbacks.allow_networks)
    except ValueError as error:
        raise BadSetting(f"[callbacks] allow_networks: {error}") from error
    return GuardPolicy(callbacks.allow_http, callbacks.allow_private, allowed)


def make_sender(settings: Settings) -> GuardedClient:
    """Make what sends callbacks."""
    callbacks = settings.callbacks
    return GuardedClient(
        guard_policy(callbacks), timeout_ms=callbacks.answer_ms_max, read_bytes_max=callbacks.answer_bytes_max,
        connections_max=callbacks.in_flight_max, per_endpoint_max=callbacks.endpoint_in_flight_max,
    )  # fmt: skip


def journal_limits(journal: JournalSettings) -> JournalLimits:
    """Give the journal's bounds as set; those nobody would set are its own."""
    return JournalLimits(
        batch_rows_max=journal.batch_rows_max, batch_bytes_max=journal.batch_bytes_max, linger_ms=journal.linger_ms,
        waiting_rows_max=journal.waiting_rows_max, waiting_bytes_max=journal.waiting_bytes_max,
        unknown_ms_max=journal.unknown_ms_max,
    )  # fmt: skip
