"""Ways to write a callback address that leads where no callback may go: more than two hundred, made from few rules."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

# This machine, "this host", private, shared, link-local with a cloud's credentials, Azure's and Alibaba's services.
TARGETS = (
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "168.63.129.16", "100.100.100.200",
)  # fmt: skip

FORBIDDEN_V6 = (
    "::1", "::", "0:0:0:0:0:0:0:1", "fd00:ec2::254", "fd12:3456:789a::1", "fc00::1", "fe80::1", "fec0::1", "ff02::1",
    "ff0e::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1", "4000::1", "2001::1", "2001:2::1", "2001:10::1",
    "2620:4f:8000::1", "64:ff9b:1::7f00:1", "64:ff9b:1:fffe::a9fe:a9fe", "fd20:ce::254",
)  # fmt: skip

FORBIDDEN_V4 = (
    "0.1.2.3", "127.0.0.53", "169.254.1.1", "169.254.170.2", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.31.196.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255",
)  # fmt: skip

LOCAL = ("localhost", "LOCALHOST", "localhost.", "a.localhost", "printer.local", "db.internal", "metadata",
         "metadata.google.internal", "router.lan", "nas.home", "postgres", "kubernetes.default.svc",
         "x.cluster.local", "host.home.arpa")  # fmt: skip


def written(address: str) -> Iterator[str]:
    """Every way somebody has found to write an IPv4 address as the host of a URL."""
    number = int(IPv4Address(address))
    a, b, c, d = IPv4Address(address).packed
    high, low = number >> 16, number & 0xFFFF
    yield address
    yield address + "."
    yield str(number)
    yield hex(number)
    yield f"0X{number:X}"
    yield f"0{number:o}"
    yield f"{a}.{b * 65536 + c * 256 + d}"
    yield f"{a}.{b}.{c * 256 + d}"
    yield f"0{a:o}.0{b:o}.0{c:o}.0{d:o}"
    yield f"{hex(a)}.{hex(b)}.{hex(c)}.{hex(d)}"
    yield f"{a:03}.{b:03}.{c:03}.{d:03}"
    yield f"{a}.{b}.{c}.{hex(d)}"
    yield f"[::ffff:{address}]"
    yield f"[::ffff:{high:x}:{low:x}]"
    yield f"[0:0:0:0:0:ffff:{high:x}:{low:x}]"
    yield f"[::{address}]"
    yield f"[64:ff9b::{high:x}:{low:x}]"
    yield f"[64:ff9b:1::{high:x}:{low:x}]"
    yield f"[2002:{high:x}:{low:x}::1]"
    yield f"[2001:0:{high:x}:{low:x}:0:ffff:a247:28dd]"  # as Teredo's server
    yield f"[2001:0:808:808:0:ffff:{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}]"  # as Teredo's client
    yield f"[2600::200:5efe:{high:x}:{low:x}]"  # ISATAP behind a public prefix
    yield address.replace(".", "%2e")
    yield address.replace(".", "\u3002")
    yield address.replace(".", "\uff0e")
    yield "".join(chr(0xFF10 + int(digit)) if digit.isdigit() else digit for digit in address)
    yield f"user@{address}"
    yield f"example.com@{address}"
    yield f"example.com%20@{address}"
    yield f"{address}%00.example.com"


def forbidden_urls(port: int, scheme: str = "http") -> list[str]:
    """Forbidden by where they lead, all at `port`."""
    hosts = [host for target in TARGETS for host in written(target)]
    hosts += [f"[{address}]" for address in FORBIDDEN_V6]
    hosts += ["[::1%25lo]", "[fe80::1%25eth0]", "[::1", "::1", "[127.0.0.1]"]
    hosts += [*FORBIDDEN_V4, *LOCAL]
    urls = [f"{scheme}://{host}:{port}/hook" for host in hosts]
    here = f"127.0.0.1:{port}"
    return [
        *urls,
        f"{scheme}://example.com:{port}@{here}/",
        f"{scheme}://example.com\\@{here}/",
        f"{scheme}://{here}\\@example.com/",
        f"{scheme}://{here}#@example.com/",
        f"{scheme}://{here}?@example.com/",
        f"{scheme}:///{here}/",
        f"{scheme}:{here}/",
        f"//{here}/",
        f"{scheme}:\\\\{here}\\",
        f"{scheme}://\t{here}/",
        f"{scheme}://{here}\r\nHost: example.com/",
        f"{scheme}://exam\nple.com@{here}/",
        f" {scheme}://{here}/",
        f"{scheme}://{here} /",
        f"unix://{here}/",
        f"ftp://{here}/",
        f"gopher://{here}/_",
        f"file://{here}/etc/passwd",
        f"javascript://{here}/%0aalert(1)",
    ]
