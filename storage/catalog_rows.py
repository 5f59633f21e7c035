"""The catalog's rows, from the database and to it. Plain conversion, no I/O but opening a sealed token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resolver.model import (
    E164,
    AccountId,
    CarrierName,
    Limits,
    NumberRow,
    NumberState,
    NumberType,
    OnUnknown,
    Pause,
    PoolId,
    PowerpackId,
    PowerpackRow,
    Service,
    StickyAtLimit,
)
from storage.sealing import Vault

if TYPE_CHECKING:
    from asyncpg import Record

Priority = Mapping[tuple[str, Service], tuple[NumberType, ...]]


@dataclass(frozen=True, slots=True)
class AccountRow:
    """Who uses the API. Tokens are never shown: their hashes check what comes in, they themselves sign what goes out.

    A subaccount is let in while its main account is, too. The former token is the one before, good for a while.
    """

    account_id: AccountId
    name: str
    token_sha256: bytes
    token: str = field(repr=False)
    enabled: bool = True
    main_id: AccountId | None = None  # whose subaccount it is
    main_enabled: bool = True
    former_sha256: bytes = b""
    former: str = field(default="", repr=False)
    former_until_ms: int = 0
    created_ms: int = 0
    modified_ms: int = 0  # 0: never
    deleted_ms: int = 0  # 0: it is there

    def tokens(self, now_ms: int) -> tuple[str, ...]:
        """Every token that is good now, the newest first."""
        return (self.token, self.former) if self.former and now_ms < self.former_until_ms else (self.token,)


@dataclass(frozen=True, slots=True)
class ApplicationRow:
    """Where an account wants its inbound messages. What concerns voice is kept as it was given, and means nothing."""

    application_id: str
    account_id: AccountId
    name: str
    message_url: str = ""
    message_method: str = "POST"
    created_ms: int = 0
    answer_url: str = ""
    answer_method: str = "POST"
    hangup_url: str = ""
    hangup_method: str = "POST"
    fallback_url: str = ""
    fallback_method: str = "POST"
    is_number_default: bool = False  # new numbers of the account get it; at most one of an account is
    is_endpoint_default: bool = False
    log_inbound: bool = True  # whether texts that come in may be kept
    is_public: bool = False


@dataclass(frozen=True, slots=True)
class CarrierRow:
    """What an administrator has told of a carrier."""

    carrier: CarrierName
    paused: bool = False
    cancel_ms: int = 0  # what was accepted until then, and waits for it, is to be cancelled
    cancelled_ms: int = 0  # the latest `cancel_ms` that is done
    cancelled: int = 0  # how many that ended
    in_flight: int = 0  # how many of them had been handed over, and had no answer


def account_of(record: Record, vault: Vault) -> AccountRow:
    """Raises WrongKey when a token was sealed with another key, or for another account."""
    context, former = record["account_id"].encode(), record["former_sealed"]
    return AccountRow(
        account_id=AccountId(record["account_id"]),
        name=record["name"],
        token_sha256=record["token_sha256"],
        token=vault.open(record["token_sealed"], context=context).decode(),
        enabled=record["enabled"],
        main_id=None if record["main_id"] is None else AccountId(record["main_id"]),
        main_enabled=record["main_enabled"],
        former_sha256=record["former_sha256"],
        former=vault.open(former, context=context).decode() if former else "",
        former_until_ms=record["former_until_ms"],
        created_ms=record["created_ms"],
        modified_ms=record["modified_ms"],
        deleted_ms=record["deleted_ms"],
    )


def application_of(record: Record) -> ApplicationRow:
    return ApplicationRow(
        application_id=record["application_id"],
        account_id=AccountId(record["account_id"]),
        name=record["name"],
        message_url=record["message_url"],
        message_method=record["message_method"],
        created_ms=record["created_ms"],
        answer_url=record["answer_url"],
        answer_method=record["answer_method"],
        hangup_url=record["hangup_url"],
        hangup_method=record["hangup_method"],
        fallback_url=record["fallback_url"],
        fallback_method=record["fallback_method"],
        is_number_default=record["is_number_default"],
        is_endpoint_default=record["is_endpoint_default"],
        log_inbound=record["log_inbound"],
        is_public=record["is_public"],
    )


def application_settings(row: ApplicationRow) -> tuple[object, ...]:
    """What may be edited, in the order of the statements."""
    return (
        row.name,
        row.message_url,
        row.message_method,
        row.answer_url,
        row.answer_method,
        row.hangup_url,
        row.hangup_method,
        row.fallback_url,
        row.fallback_method,
        row.is_number_default,
        row.is_endpoint_default,
        row.log_inbound,
        row.is_public,
    )


def powerpack_of(record: Record) -> PowerpackRow:
    return PowerpackRow(
        powerpack_id=PowerpackId(record["powerpack_id"]),
        account_id=AccountId(record["account_id"]),
        pool_id=PoolId(record["pool_id"]),
        name=record["name"],
        sticky_sender=record["sticky_sender"],
        local_connect=record["local_connect"],
        priority=_priority_of(record["priority"]),
        operator_types={operator: NumberType(kind) for operator, kind in record["operator_types"].items()},
        sticky_at_limit=StickyAtLimit(record["sticky_at_limit"]),
        sticky_wait_ms=record["sticky_wait_ms"],
        sticky_life_ms=record["sticky_life_ms"],
        patience_ms=record["patience_ms"],
        on_unknown=OnUnknown(record["on_unknown"]),
        application_type=record["application_type"],
        application_id=record["application_id"],
        created_ms=record["created_ms"],
        pause=Pause(record["pause"]),
    )


def powerpack_settings(row: PowerpackRow) -> tuple[object, ...]:
    """What may be edited, in the order of the statements."""
    return (
        row.name,
        row.sticky_sender,
        row.local_connect,
        _priority_object(row.priority),
        dict(row.operator_types),
        row.sticky_at_limit,
        row.sticky_wait_ms,
        row.sticky_life_ms,
        row.patience_ms,
        row.on_unknown,
        row.application_type,
        row.application_id,
        row.pause,
    )


def carrier_of(record: Record) -> CarrierRow:
    return CarrierRow(
        CarrierName(record["carrier"]),
        paused=record["paused"],
        cancel_ms=record["cancel_ms"],
        cancelled_ms=record["cancelled_ms"],
        cancelled=record["cancelled"],
        in_flight=record["in_flight"],
    )


def number_of(record: Record) -> NumberRow:
    limits = record["limits"]
    return NumberRow(
        number=E164(record["number"]),
        account_id=AccountId(record["account_id"]),
        type=NumberType(record["type"]),
        country=record["country"],
        carrier=CarrierName(record["carrier"]),
        powerpack_id=None if record["powerpack_id"] is None else PowerpackId(record["powerpack_id"]),
        services=frozenset(map(Service, record["services"])),
        campaign_approved=record["campaign_approved"],
        verified=record["verified"],
        state=NumberState(record["state"]),
        limits=None if limits is None else Limits(**limits),
        added_ms=record["added_ms"],
        alias=record["alias"],
        application_id=record["application_id"],
        rented_ms=record["rented_ms"],
    )


def number_object(row: NumberRow) -> dict[str, object]:
    """For JSON, by the names of the columns."""
    return {
        "number": row.number,
        "account_id": row.account_id,
        "type": row.type,
        "country": row.country,
        "carrier": row.carrier,
        "powerpack_id": row.powerpack_id,
        "services": sorted(row.services),
        "campaign_approved": row.campaign_approved,
        "verified": row.verified,
        "state": row.state,
        "limits": limits_object(row.limits),
        "added_ms": row.added_ms,
        "alias": row.alias,
        "application_id": row.application_id,
        "rented_ms": row.rented_ms,
    }


def limits_object(limits: Limits | None) -> dict[str, int | None] | None:
    return None if limits is None else limits._asdict()


def _priority_object(priority: Priority) -> dict[str, dict[str, list[str]]]:
    """As {country: {service: [type, …]}}."""
    found: dict[str, dict[str, list[str]]] = {}
    for (country, service), types in priority.items():
        found.setdefault(country, {})[service.value] = [kind.value for kind in types]
    return found


def _priority_of(found: dict[str, dict[str, list[str]]]) -> Priority:
    return {
        (country, Service(service)): tuple(map(NumberType, types))
        for country, services in found.items()
        for service, types in services.items()
    }
