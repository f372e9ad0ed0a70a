"""Which addresses the policy admits, over every form an address can take."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.core.egress import AllowEntryInvalid, EgressPolicy, EgressRefused, parse_allow

STRICT = EgressPolicy()
LOCAL = EgressPolicy(local_mode=True)
OPEN = EgressPolicy(parse_allow("0.0.0.0/0 ::/0"), local_mode=True)

GLOBAL = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.0",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
]
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "::1",
    "fd00::1",
    "fc00::1",
]
SPECIAL = [
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.9",
    "192.88.99.1",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "5f00::1",
    "fec0::1",
]
NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "240.0.0.1",
    "ff02::1",
    "ff0e::1",
]


def embeddings(address: IPv4Address) -> list[IPv6Address]:
    """Every standard form in which an IPv6 address carries `address`."""
    value, inverted = int(address), int(address) ^ 0xFFFFFFFF
    return [
        IPv6Address(0xFFFF << 32 | value),  # mapped
        IPv6Address(0xFFFF << 48 | value),  # translated (SIIT)
        IPv6Address(int(IPv6Address("64:ff9b::")) | value),  # NAT64
        IPv6Address(int(IPv6Address("64:ff9b:1::")) | value),  # local NAT64, /96
        IPv6Address(int(IPv6Address("64:ff9b:1::")) | (value >> 16) << 64 | (value & 0xFFFF) << 40),  # local NAT64, /48
        IPv6Address(0x2002 << 112 | value << 80),  # 6to4
        IPv6Address(0x2002 << 112 | value << 80 | 1),
        IPv6Address(0x20010000 << 96 | value << 64 | 0xF7F7F7F7),  # Teredo, as its server
        IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | inverted),  # Teredo, as its client
        IPv6Address(int(IPv6Address("2a00:1:2:3::")) | 0x5EFE << 32 | value),  # ISATAP
        IPv6Address(int(IPv6Address("fd00:1:2:3::")) | 0x2005EFE << 32 | value),
    ]


@pytest.mark.parametrize("text", GLOBAL)
def test_global_addresses_are_open_in_every_mode(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert all(
        policy.refusal(address, 443) is None for policy in (STRICT, LOCAL, EgressPolicy(parse_allow("10.0.0.0/8")))
    )


@pytest.mark.parametrize("text", PRIVATE)
def test_private_addresses_need_local_mode_or_an_entry(text: str) -> None:
    address = ipaddress.ip_address(text)
    refusal = STRICT.refusal(address, 80)
    assert refusal is not None
    assert refusal.allowable
    assert LOCAL.refusal(address, 80) is None
    assert EgressPolicy(parse_allow([text])).refusal(address, 80) is None


@pytest.mark.parametrize("text", SPECIAL)
def test_special_addresses_need_an_entry_even_in_local_mode(text: str) -> None:
    address = ipaddress.ip_address(text)
    refusal = LOCAL.refusal(address, 80)
    assert refusal is not None
    assert refusal.allowable
    assert EgressPolicy(parse_allow([text])).refusal(address, 80) is None


@pytest.mark.parametrize("text", NEVER)
def test_no_setting_opens_metadata_and_its_like(text: str) -> None:
    address = ipaddress.ip_address(text)
    exempted = EgressPolicy(OPEN.allow, local_mode=True, exempt=[("idp.corp", 80)])
    for policy in (STRICT, LOCAL, OPEN, exempted):
        refusal = policy.refusal(address, 80, "idp.corp")
        assert refusal is not None
        assert not refusal.allowable
    if isinstance(address, IPv4Address):
        for form in embeddings(address):
            assert exempted.refusal(form, 80, "idp.corp") is not None, form


def test_zones_do_not_hide_an_address() -> None:
    for policy in (STRICT, LOCAL, OPEN):
        assert policy.refusal(ipaddress.ip_address("fe80::1%eth0"), 80) is not None
    assert STRICT.refusal(ipaddress.ip_address("::1%lo"), 80) is not None
    assert STRICT.refusal(ipaddress.ip_address("fd00::1%lo"), 80) is not None


@given(st.ip_addresses(v=4), st.integers(1, 65535))
def test_whatever_embeds_a_refused_ipv4_address_is_refused(address: IPv4Address, port: int) -> None:
    for policy in (STRICT, LOCAL, OPEN, EgressPolicy(parse_allow("64:ff9b::/96 10.0.0.0/8"))):
        if policy.refusal(address, port) is not None:
            for form in embeddings(address):
                assert policy.refusal(form, port) is not None, form


@given(st.ip_addresses(), st.integers(1, 65535))
def test_what_the_standard_library_calls_not_global_is_not_open(address: IPv4Address | IPv6Address, port: int) -> None:
    if not address.is_global or address.is_multicast or address.is_link_local:
        assert STRICT.refusal(address, port) is not None


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fc00::/7"), st.integers(1, 65535))
def test_an_allow_list_replaces_local_mode(address: IPv4Address | IPv6Address, port: int) -> None:
    policy = EgressPolicy(parse_allow("192.168.7.0/24:8080"), local_mode=True)
    assert policy.refusal(address, port) is not None


def test_nat64_opens_by_its_entry_but_not_what_lies_behind_it() -> None:
    outer = EgressPolicy(parse_allow("64:ff9b::/96"))
    assert STRICT.refusal(IPv6Address("64:ff9b::808:808"), 443) is not None
    assert outer.refusal(IPv6Address("64:ff9b::808:808"), 443) is None
    assert outer.refusal(IPv6Address("64:ff9b::a00:1"), 443) is not None
    assert outer.refusal(IPv6Address("64:ff9b::a9fe:a9fe"), 443) is not None


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("10.0.0.0/8", [("10.9.8.7", 1), ("10.0.0.1", 443)], [("11.0.0.1", 443), ("192.168.0.1", 1)]),
        ("127.0.0.1:9001", [("127.0.0.1", 9001)], [("127.0.0.1", 9002), ("127.0.0.2", 9001)]),
        ("127.0.0.1/32:9001", [("127.0.0.1", 9001), ("::ffff:127.0.0.1", 9001)], [("127.0.0.1", 9002)]),
        ("[fd00::1]:443", [("fd00::1", 443)], [("fd00::1", 80), ("fd00::2", 443)]),
        ("[fd00::/16]:443", [("fd00::9", 443)], [("fd00::9", 80), ("fd01::1", 443)]),
        ("[fd00::]/16:443", [("fd00::9", 443)], [("fd00::9", 80)]),
        ("fd00::/8", [("fd12::9", 80)], [("fc00::1", 80)]),
        ("fd00::1", [("fd00::1", 80)], [("fd00::2", 80)]),
        ("::ffff:10.0.0.0/104", [("10.1.1.1", 80)], [("192.168.0.1", 80)]),
    ],
)
def test_allow_entries(entry: str, inside: list[tuple[str, int]], outside: list[tuple[str, int]]) -> None:
    policy = EgressPolicy(parse_allow(entry))
    assert [where for where in inside if policy.refusal(ipaddress.ip_address(where[0]), where[1])] == []
    private = [where for where in outside if not ipaddress.ip_address(where[0]).is_global]
    assert [where for where in private if not policy.refusal(ipaddress.ip_address(where[0]), where[1])] == []


def test_a_setting_is_a_list_in_one_string() -> None:
    assert parse_allow("10.0.0.0/8, 127.0.0.1:9001\n") == parse_allow(["10.0.0.0/8", "127.0.0.1:9001"])
    assert parse_allow("") == ()


@pytest.mark.parametrize(
    "entry",
    [
        "10.0.0.1/8",
        "localhost",
        "10.0.0.0/33",
        "127.0.0.1:0",
        "127.0.0.1:70000",
        "127.0.0.1:",
        "[fd00::1",
        "10.0.0.0/8:http",
    ],
)
def test_entries_that_cannot_be_read_say_so(entry: str) -> None:
    with pytest.raises(AllowEntryInvalid, match="GATEHOUSE_EGRESS_ALLOW") as caught:
        parse_allow([entry])
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("entry", ["169.254.169.254", "169.254.0.0/16:80", "fe80::/10", "fd00:ec2::/32", "2002::/16"])
def test_entries_for_what_is_never_allowed_are_errors(entry: str) -> None:
    with pytest.raises(AllowEntryInvalid, match="no setting allows"):
        parse_allow([entry])


def test_exemptions_hold_for_the_exact_host_and_port() -> None:
    policy = EgressPolicy(exempt=[("IdP.corp", 8443)])
    inside = IPv4Address("10.0.0.5")
    assert policy.refusal(inside, 8443, "idp.corp") is None
    assert policy.refusal(inside, 443, "idp.corp") is not None
    assert policy.refusal(inside, 8443, "other.corp") is not None
    assert policy.refusal(inside, 8443) is not None
    policy.exempt("172.17.0.2", 7000)
    assert policy.refusal(IPv4Address("172.17.0.2"), 7000, "172.17.0.2") is None
    policy.withdraw("172.17.0.2", 7000)
    assert policy.refusal(IPv4Address("172.17.0.2"), 7000, "172.17.0.2") is not None


def test_the_message_names_host_reason_and_setting_but_not_the_address() -> None:
    with pytest.raises(EgressRefused) as caught:
        STRICT.check(IPv4Address("10.1.2.3"), 5432, "db.corp")
    message = caught.value.message
    assert "db.corp" in message
    assert "private" in message
    assert "GATEHOUSE_EGRESS_ALLOW" in message
    assert "10.1.2.3" not in message + str(caught.value.details)
    with pytest.raises(EgressRefused, match="No setting allows") as caught:
        OPEN.check(IPv4Address("169.254.169.254"), 80, "metadata")
    assert caught.value.status == 422
    assert caught.value.code == "EGRESS_REFUSED"
