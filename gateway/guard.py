"""Where callbacks may go, and the one client through which they leave.

An account chooses the address, so it must not reach what only this machine can reach. Two checks, and the second is
the law:

* `check_url` when an address is given: its form, and the address itself if it is written as one. No name is looked up.
* `GuardedClient` when connecting: aiohttp asks our socket factory for a socket to the very address it is about to
  connect to, after every look-up and for IP literals too (a custom resolver is skipped for those). So a name that
  changes its answer in between (DNS rebinding) gains nothing.

`ipaddress.is_global` alone is a hole: it is true for multicast, NAT64, 6to4 and a cloud's own services.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import quote

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """What an administrator allows beyond the public Internet over https."""

    allow_http: bool = False  # callbacks carry recipients' numbers, so encrypted unless told otherwise
    allow_private: bool = False  # loopback, private and shared ranges; on in --demo
    allow_networks: tuple[Network, ...] = ()  # these too, and names that are only known inside


STRICT = GuardPolicy()


class CallbackUrl(NamedTuple):
    """An address that passed `check_url`, written anew: this text is stored, signed and sent to."""

    text: str
    host: str  # without brackets
    port: int
    endpoint: str  # scheme, host and port: what is slow or down together


# --- Addresses --------------------------------------------------------------------------------------------------------


def networks(*texts: str) -> tuple[Network, ...]:
    """Reads networks from settings, several in a text or one by one; raises ValueError that names the bad one."""
    return tuple(ip_network(part) for text in texts for part in text.split())


NEVER = networks(
    # A cloud's services for its machines: credentials for whoever asks. AWS, Azure, GCP, Oracle, Alibaba, ECS, EKS.
    "169.254.169.254 169.254.169.253 169.254.170.2 169.254.170.23 168.63.129.16 100.100.100.200 192.0.0.192 "
    "fd00:ec2::254 fd00:ec2::253 fd00:ec2::23 fd20:ce::254 "
    # "This host", multicast, broadcast and reserved: no endpoint has such an address.
    "0.0.0.0/8 224.0.0.0/4 240.0.0.0/4 ::/128 ff00::/8"
)
"""Refused whatever the policy says."""

PRIVATE = networks("127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 ::1/128 fc00::/7")
"""What `allow_private` opens. Link-local is not among them: no server to be called back lives there."""

NOT_PUBLIC = PRIVATE + networks(
    "169.254.0.0/16 192.0.0.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 198.18.0.0/15 "
    "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 "  # documentation
    "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 fe80::/10 fec0::/10"
)

GLOBAL_UNICAST = IPv6Network("2000::/3")  # all of IPv6 that is given out so far
NAT64 = IPv6Network("64:ff9b::/96")  # how a machine with IPv6 only reaches an IPv4 endpoint
COMPATIBLE = IPv6Network("::/96")
TUNNEL_MARKS = frozenset({0x0000_5EFE, 0x0200_5EFE})  # ISATAP: the upper half of the interface id


def is_forbidden_address(address: Address | str, policy: GuardPolicy = STRICT) -> bool:
    """Whether no connection may be made to `address`; what cannot be read as one is forbidden.

    An address that carries another inside (mapped, NAT64, tunnels) is judged by both.
    """
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return True
    return any(_is_forbidden_alone(one, policy) for one in _meant(address))


def _meant(address: Address) -> Iterator[Address]:
    """The addresses a packet to `address` may end at: what it carries inside and, unless it is only a wrapping, itself.

    IPv4-mapped is how a socket writes an IPv4 address, and NAT64's well-known prefix a translator's way to one, so
    both stand for the inner address alone. The other wrappings are no honest endpoint's address and are judged too.
    """
    if isinstance(address, IPv4Address):
        yield address
        return
    inner = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.ipv4_mapped is not None or address in NAT64:
        yield inner
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    is_compatible = address in COMPATIBLE and int(address) > 1  # ::1 is loopback
    if is_compatible or (int(address) >> 32) & 0xFFFF_FFFF in TUNNEL_MARKS:
        yield inner


def _is_forbidden_alone(address: Address, policy: GuardPolicy) -> bool:
    if any(address in network for network in NEVER):
        return True
    if any(address in network for network in policy.allow_networks):
        return False
    if policy.allow_private and any(address in network for network in PRIVATE):
        return False
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST:
        return True
    return not address.is_global or any(address in network for network in NOT_PUBLIC)


# --- URLs -------------------------------------------------------------------------------------------------------------

URL_LENGTH_MAX = 2_048
DEFAULT_PORTS = {"http": 80, "https": 443}
SERVICE_PORTS = frozenset(
    map(
        int,
        # Databases, caches, queues, shells, container and cluster managers: they would take a POST for a command.
        "1080 1099 1433 1434 1521 1883 2049 2181 2375 2376 2377 2379 2380 2483 2484 2775 3128 3260 3306 3389 4222 4369 "
        "4444 5060 5061 5432 5433 5671 5672 5900 5901 5984 5985 5986 6000 6222 6379 6380 6432 6443 6660 6661 6662 6663 "
        "6664 6665 6666 6667 6668 6669 6697 7000 7001 7199 8086 8222 8300 8301 8500 8600 9000 9042 9092 9160 9200 9300 "
        "10250 10255 10256 11211 15672 16379 25565 25672 26257 26379 27017 27018 27019 28015 50070 61613 61616".split(),
    )
)
LOCAL_NAMES = frozenset(
    "localhost local localdomain internal intranet lan home corp private arpa svc cluster consul".split()
)

SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?",
    re.ASCII,
)
AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)  # what a resolver may take for part of an IPv4 address
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
UNRESERVED = "%:@!$&'()*+,;=~-._/"


def check_url(url: str, policy: GuardPolicy = STRICT) -> CallbackUrl | str:
    """The address to send to, or the sentence that says why not. Looks no name up."""
    if len(url) > URL_LENGTH_MAX:
        return f"The URL is longer than {URL_LENGTH_MAX} characters."
    if not url.isprintable() or " " in url or "\\" in url or BAD_ESCAPE.search(url):
        return "The URL has a character that must be percent-encoded."
    shape = SHAPE.fullmatch(url)
    if shape is None:
        return "The URL must be absolute: https://host/path."
    scheme = shape["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        return "The URL must begin with https://."
    if scheme == "http" and not policy.allow_http:
        return "The URL must begin with https://; http is not allowed here."
    authority = AUTHORITY.fullmatch(shape["authority"])
    if authority is None:
        return "The URL's host is not valid; it takes no user name, and a name outside ASCII in its xn-- form."
    port = int(authority["port"] or DEFAULT_PORTS[scheme])
    if not _is_allowed_port(port):
        return f"Port {port} is not allowed: 80, 443 or from 1024, but no other service's port."
    host = _checked_host(authority["v6"] or "", authority["name"] or "", policy)
    if host is None:
        return "The URL's host is not a public one."
    shown = f"[{host}]" if ":" in host else host
    origin = f"{scheme}://{shown}" + (f":{port}" if authority["port"] else "")
    text = origin + quote(shape["path"] or "", safe=UNRESERVED) + quote(shape["query"] or "", safe=UNRESERVED + "?")
    if len(text) > URL_LENGTH_MAX:
        return f"The URL is longer than {URL_LENGTH_MAX} characters."
    return CallbackUrl(text, host, port, f"{scheme}://{shown}:{port}")


def _is_allowed_port(port: int) -> bool:
    return port in (80, 443) or (1_024 <= port <= 65_535 and port not in SERVICE_PORTS)


def _checked_host(v6: str, name: str, policy: GuardPolicy) -> str | None:
    """The host in the one way to write it, or None. A name that ends in a number must be a plain IPv4 address."""
    if v6:
        with suppress(AddressValueError):
            address = IPv6Address(v6)
            return None if is_forbidden_address(address, policy) else str(address)
        return None
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if NUMERIC.fullmatch(labels[-1]):
        with suppress(AddressValueError):
            return None if is_forbidden_address(IPv4Address(name), policy) else name
        return None
    if len(name) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        return None
    is_local = len(labels) == 1 or labels[-1] in LOCAL_NAMES
    return None if is_local and not (policy.allow_private or policy.allow_networks) else name


# --- Connecting -------------------------------------------------------------------------------------------------------

BODY_MS_MAX = 2_000  # the status is what counts; a body that drips does not hold the place
AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


class ForbiddenAddress(OSError):
    """A name led to an address that the policy forbids. Says not which, since accounts read it."""


class Reply(NamedTuple):
    """What came of one callback: the HTTP status, or 0 and a stable word for what went wrong."""

    status: int
    problem: str  # "", timeout, forbidden_address, no_such_host, tls, unreachable, garbled


class GuardedClient:
    """Sends callbacks: to allowed addresses only, without redirects, cookies, proxies or credentials of the machine.

    Use as an async context manager. At most `read_bytes_max` of an answer are read; nothing is decompressed.
    """

    def __init__(
        self,
        policy: GuardPolicy,
        *,
        timeout_ms: int = 8_000,  # Plivo's
        read_bytes_max: int = 65_536,
        connections_max: int = 64,
        per_endpoint_max: int = 8,
        user_agent: str = "Sendpool",
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._policy = policy
        self._timeout_ms = timeout_ms
        self._read_bytes_max = read_bytes_max
        self._connections_max = connections_max
        self._per_endpoint_max = per_endpoint_max
        self._user_agent = user_agent
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> GuardedClient:
        connector = aiohttp.TCPConnector(
            limit=self._connections_max,
            limit_per_host=self._per_endpoint_max,
            resolver=self._resolver,
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),  # `send` has the deadline
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """One request to `url`, sent as written; ends within the timeout, and never raises for what the far end does.

        `url` is the text of a `CallbackUrl`, with a GET's parameters added.
        """
        assert self._session is not None, "used outside its context"
        status = 0
        try:
            async with (
                asyncio.timeout(self._timeout_ms / 1_000),
                self._session.request(
                    method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                status = response.status
                await self._finish(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Reply(status, "" if status else _problem(error))
        return Reply(status, "")

    async def _finish(self, response: aiohttp.ClientResponse) -> None:
        """Reads a short body, so that the connection can be used again; closes it on a long, slow or broken one."""
        with suppress(aiohttp.ClientError, OSError):
            async with asyncio.timeout(min(BODY_MS_MAX, self._timeout_ms) / 1_000):
                left = self._read_bytes_max
                while left > 0 and (chunk := await response.content.read(left)):
                    left -= len(chunk)
                if response.content.at_eof():
                    return
        response.close()

    def _socket(self, info: AddrInfo) -> socket.socket:
        """The check that cannot be gone around: aiohttp connects this socket to `info`'s address and to no other."""
        family, kind, protocol, _, where = info
        if is_forbidden_address(str(where[0]).partition("%")[0], self._policy):
            raise ForbiddenAddress("the address is not allowed")
        return socket.socket(family, kind, protocol)


def _problem(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no_such_host"
    if isinstance(error, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ForbiddenAddress):
        return "forbidden_address"
    if isinstance(error, OSError | aiohttp.ClientConnectionError):
        return "unreachable"
    return "garbled"
