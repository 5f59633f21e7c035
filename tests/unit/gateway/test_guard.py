"""Which addresses callbacks may go to: the form of a URL, and every address it could mean."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guard import (
    NEVER,
    PRIVATE,
    SERVICE_PORTS,
    STRICT,
    URL_LENGTH_MAX,
    CallbackUrl,
    GuardPolicy,
    check_url,
    is_forbidden_address,
    networks,
)
from tests.fakes.forbidden_urls import FORBIDDEN_V4, FORBIDDEN_V6, TARGETS, forbidden_urls

HTTP = GuardPolicy(allow_http=True)
DEMO = GuardPolicy(allow_http=True, allow_private=True)
PUBLIC_V4 = ("8.8.8.8", "93.184.216.34", "1.1.1.1", "100.63.255.255", "172.32.0.1", "11.0.0.1", "223.255.255.255")
PUBLIC_V6 = ("2606:2800:220:1::1", "2a00:1450:4001::200e", "2001:4860:4860::8888", "2600::")


def accepted(url: str, policy: GuardPolicy = STRICT) -> CallbackUrl:
    checked = check_url(url, policy)
    assert isinstance(checked, CallbackUrl), checked
    return checked


# --- Forbidden forms --------------------------------------------------------------------------------------------------


def test_the_corpus_is_large() -> None:
    assert len(set(forbidden_urls(8443))) >= 200


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_every_forbidden_form_is_refused_when_it_is_given(scheme: str) -> None:
    let_through = [url for url in forbidden_urls(8443, scheme) if isinstance(check_url(url, HTTP), CallbackUrl)]
    assert let_through == []


@pytest.mark.parametrize("address", PUBLIC_V4)
def test_a_public_address_of_the_same_forms_is_allowed(address: str) -> None:
    """So the corpus is refused for where it leads, not for being an address."""
    assert accepted(f"https://{address}:8443/hook").host == address
    assert accepted(f"https://[::ffff:{address}]/hook").text.startswith("https://[::ffff:")
    high, low = divmod(int(IPv4Address(address)), 65_536)
    assert accepted(f"https://[64:ff9b::{high:x}:{low:x}]/hook")


# --- Forbidden addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", [*TARGETS, *FORBIDDEN_V4, *FORBIDDEN_V6, "2002:808:808::1", "fe80::1%eth0", "", "x"]
)
def test_what_is_not_public_is_forbidden(address: str) -> None:
    assert is_forbidden_address(address)


@pytest.mark.parametrize("address", [*PUBLIC_V4, *PUBLIC_V6])
def test_what_is_public_is_allowed(address: str) -> None:
    assert not is_forbidden_address(address)


def wrappings(address: IPv4Address) -> list[IPv6Address]:
    inner = int(address)
    return [
        IPv6Address((0xFFFF << 32) | inner),
        IPv6Address(inner),
        IPv6Address((0x0064FF9B << 96) | inner),
        IPv6Address((0x2002 << 112) | (inner << 80) | 1),
        IPv6Address((0x20010000 << 96) | (0x08080808 << 64) | (inner ^ 0xFFFFFFFF)),
        IPv6Address((0x20010000 << 96) | (inner << 64)),
        IPv6Address((0x2600 << 112) | (0x00005EFE << 32) | inner),
    ]


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_too(address: IPv4Address) -> None:
    if is_forbidden_address(address):
        assert all(is_forbidden_address(wrapping) for wrapping in wrappings(address))


@given(st.ip_addresses())
def test_nothing_is_allowed_that_python_calls_private(address) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    if not (mapped or address).is_global:
        assert is_forbidden_address(address)


@given(st.ip_addresses())
def test_a_looser_policy_never_forbids_more(address) -> None:
    if is_forbidden_address(address, DEMO):
        assert is_forbidden_address(address, STRICT)


# --- What an administrator can allow ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.1.2.3", "172.31.0.1", "192.168.0.9", "100.64.0.1", "fd00::1"]
)
def test_the_demo_allows_private_addresses(address: str) -> None:
    assert is_forbidden_address(address)
    assert not is_forbidden_address(address, DEMO)


@pytest.mark.parametrize("network", NEVER, ids=str)
def test_what_holds_credentials_or_is_no_endpoint_stays_refused_whatever_is_allowed(network) -> None:
    everything = GuardPolicy(True, True, networks("0.0.0.0/0 ::/0"))
    address = network.network_address
    assert is_forbidden_address(address, everything)
    if address.version == 4:
        assert all(is_forbidden_address(wrapping, everything) for wrapping in wrappings(address))


def test_link_local_is_not_private() -> None:
    assert is_forbidden_address("169.254.7.7", DEMO)
    assert not is_forbidden_address("169.254.7.7", GuardPolicy(allow_networks=networks("169.254.0.0/16")))


def test_a_named_network_is_allowed_and_its_neighbours_are_not() -> None:
    policy = GuardPolicy(allow_networks=networks("10.20.0.0/16", "fd77::/64"))
    assert not is_forbidden_address("10.20.255.1", policy)
    assert not is_forbidden_address("::ffff:10.20.255.1", policy)
    assert not is_forbidden_address("fd77::5", policy)
    assert is_forbidden_address("10.21.0.1", policy)
    assert is_forbidden_address("fd77:0:0:1::5", policy)
    assert is_forbidden_address("127.0.0.1", policy)


def test_a_wrapping_of_an_allowed_address_is_not_allowed_itself() -> None:
    policy = GuardPolicy(allow_networks=networks("10.0.0.0/8"))
    assert is_forbidden_address("2002:a00:1::1", policy)


def test_networks_are_read_from_texts_and_a_bad_one_is_named() -> None:
    assert networks("10.0.0.0/8 fd00::/8", "192.168.0.0/24") == (
        *networks("10.0.0.0/8"),
        *networks("fd00::/8 192.168.0.0/24"),
    )
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        networks("10.0.0.1/8")


def test_private_and_never_do_not_overlap_but_for_named_addresses() -> None:
    overlaps = [
        never for never in NEVER for private in PRIVATE if never.version == private.version and never.overlaps(private)
    ]
    assert all(never.num_addresses == 1 for never in overlaps)


@pytest.mark.parametrize("name", ["localhost", "erp", "hooks.corp", "db.internal", "x.lan"])
def test_names_known_only_inside_need_private_addresses_or_networks(name: str) -> None:
    assert isinstance(check_url(f"https://{name}/x", HTTP), str)
    assert accepted(f"https://{name}/x", DEMO).host == name
    assert accepted(f"https://{name}/x", GuardPolicy(allow_networks=networks("10.0.0.0/8"))).host == name


# --- URLs -------------------------------------------------------------------------------------------------------------


def test_http_is_refused_unless_it_is_allowed() -> None:
    assert "https" in str(check_url("http://example.com/x"))
    assert accepted("http://example.com/x", HTTP).port == 80
    assert accepted("https://example.com/x").port == 443


@pytest.mark.parametrize(
    ("url", "text", "endpoint"),
    [
        ("HTTPS://Example.COM/Path?A=1", "https://example.com/Path?A=1", "https://example.com:443"),
        ("https://example.com", "https://example.com", "https://example.com:443"),
        ("https://example.com.:8443/", "https://example.com:8443/", "https://example.com:8443"),
        ("https://example.com:443/a#frag", "https://example.com:443/a", "https://example.com:443"),
        ("https://example.com/ü?q=ü|x", "https://example.com/%C3%BC?q=%C3%BC%7Cx", "https://example.com:443"),
        ("https://example.com/a%20b?c=%C3%BC&d", "https://example.com/a%20b?c=%C3%BC&d", "https://example.com:443"),
        ("https://example.com?x", "https://example.com?x", "https://example.com:443"),
        ("https://example.com/?u=https://a/b?c", "https://example.com/?u=https://a/b?c", "https://example.com:443"),
        ("https://[2606:2800:0220::0001]:08443/", "https://[2606:2800:220::1]:8443/", "https://[2606:2800:220::1]:8443"),
        ("https://xn--bcher-kva.example/x;v=1", "https://xn--bcher-kva.example/x;v=1", "https://xn--bcher-kva.example:443"),
        ("https://a_b.example.com/{id}", "https://a_b.example.com/%7Bid%7D", "https://a_b.example.com:443"),
    ],
)  # fmt: skip
def test_an_address_is_written_anew(url: str, text: str, endpoint: str) -> None:
    checked = accepted(url)
    assert (checked.text, checked.endpoint) == (text, endpoint)
    assert accepted(checked.text) == checked


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com/x", "/x", "https://", "https:///x", "https://:443/", "https://example.com:/x",
        "https://example.com:x/", "https://example.com:8443x/", "https://user@example.com/", "https://u:p@example.com/",
        "https://@example.com/", "https://exa mple.com/", "https://example.com/a b", "https://example.com/\n",
        "https://example.com/\r\nX: y", "https://example.com/\x00", "https://example.com/\x7f", "https://example.com/\ud800",
        "https://example.com/%", "https://example.com/%zz", "https://example.com/a\\b", "https://bücher.example/",
        "https://example.com/\u202e", "https://example.com/\u200b", "https://exa%6dple.com/", "https://-.example.com/",
        "https://a..example.com/", "https://.example.com/", "https://example.com../", f"https://{'a' * 64}.example/",
        f"https://{'a.' * 127}example/", "ftp://example.com/", "mailto:x@example.com", "https//example.com",
        "https://example.com:00/", "https://example.com:65536/", "https://1.2.3/", "https://1.2.3.4.5/",
        "https://1.2.3.256/", "https://0x7f.1/", "https://example.1/", "https://example.0x/", "https://[::1/",
        "https://[12345::]/", "https://[v1.x]/", "https://[2606:2800:220::1%25eth0]/",
    ],
)  # fmt: skip
def test_a_malformed_address_is_refused(url: str) -> None:
    assert isinstance(check_url(url, GuardPolicy(True, True, networks("0.0.0.0/0 ::/0"))), str)


def test_the_length_is_bounded_before_and_after_encoding() -> None:
    start = "https://example.com/"
    assert len(accepted(start + "a" * (URL_LENGTH_MAX - len(start))).text) == URL_LENGTH_MAX
    assert isinstance(check_url(start + "a" * (URL_LENGTH_MAX - len(start) + 1)), str)
    assert isinstance(check_url(start + "ü" * 400), str)


@pytest.mark.parametrize("port", [0, 1, 22, 25, 53, 389, 587, 993, 1023, 2375, 3306, 5432, 6379, 9200, 11211, 27017])
def test_the_ports_of_other_services_are_refused(port: int) -> None:
    assert f"Port {port}" in str(check_url(f"https://example.com:{port}/", DEMO))


@pytest.mark.parametrize("port", [80, 443, 1024, 3000, 5000, 8000, 8080, 8443, 49152, 65535])
def test_the_ports_of_web_servers_are_allowed(port: int) -> None:
    assert accepted(f"https://example.com:{port}/").port == port


def test_no_service_port_is_one_that_is_allowed_by_name() -> None:
    assert not SERVICE_PORTS & {80, 443, 8000, 8080, 8443}


@given(st.text(max_size=60))
def test_no_text_makes_the_check_fail_and_what_passes_is_stable(text: str) -> None:
    for url in (text, "https://" + text, "https://example.com/" + text):
        checked = check_url(url, DEMO)
        if isinstance(checked, CallbackUrl):
            assert check_url(checked.text, DEMO) == checked
            assert checked.text.isascii()
            assert checked.text.isprintable()
            assert " " not in checked.text


@given(st.ip_addresses(v=6))
def test_an_allowed_ipv6_host_is_the_address_that_was_meant(address: IPv6Address) -> None:
    checked = check_url(f"https://[{address.exploded}]/")
    if isinstance(checked, CallbackUrl):
        assert ip_address(checked.host) == address
        assert not is_forbidden_address(address)
