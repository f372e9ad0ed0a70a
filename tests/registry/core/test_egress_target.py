"""How URLs and hosts are read: strictly, and into one spelling."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.core.egress import Target, UrlInvalid, canonical_host, vet_url

LOOPBACK_SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0X7F.1",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "0177.0.0.01",
    "017700000001",
    "127.0.0.1.",
    "①②⑦.⓪.⓪.①",
    "１２７.０.０.１",
    "127。0。0。1",
    "127．0．0．1",
    "127｡0｡0｡1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:FFFF:127.0.0.1]",
    "[::ffff:127.0.0.1%lo]",
]


@pytest.mark.parametrize("spelling", LOOPBACK_SPELLINGS)
def test_every_spelling_of_loopback_is_loopback(spelling: str) -> None:
    assert canonical_host(spelling) == "127.0.0.1"
    assert vet_url(f"http://{spelling}:9001/x").host == "127.0.0.1"


@given(st.ip_addresses())
def test_standard_spellings_stay_as_they_are(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    assert canonical_host(str(address)) == str(mapped or address)


@given(st.from_regex(r"(0x[0-9a-f]{0,9}|[0-9]{1,11})(\.(0x[0-9a-f]{0,3}|[0-9]{1,4})){0,3}", fullmatch=True))
def test_numbers_are_read_as_the_c_library_reads_them(text: str) -> None:
    try:
        ours = canonical_host(text)
    except UrlInvalid:
        return
    if "0x." not in f"{text}.":  # the C library has no empty hexadecimal number, browsers have
        assert socket.inet_ntoa(socket.inet_aton(text)) == ours


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://Example.COM", Target("https", "example.com", 443)),
        ("HTTP://example.com:8080/a%20b?q=1&r=%2F", Target("http", "example.com", 8080, "/a%20b", "q=1&r=%2F")),
        ("https://example.com.:/", Target("https", "example.com", 443)),
        ("http://[fd00::1]:80/mcp?", Target("http", "fd00::1", 80, "/mcp", "")),
        ("http://[::1%25lo]:9/", Target("http", "::1", 9)),
        ("https://bücher.example/ü?ä", Target("https", "xn--bcher-kva.example", 443, "/%C3%BC", "%C3%A4")),
        ("http://my_service:7000/{id}", Target("http", "my_service", 7000, "/%7Bid%7D")),
        ("http://h/../x//y", Target("http", "h", 80, "/../x//y")),
    ],
)
def test_good_urls(url: str, target: Target) -> None:
    assert vet_url(url) == target
    assert vet_url(target.url) == target


def test_what_a_request_needs_comes_from_the_target() -> None:
    target = vet_url("https://[2001:db8::1]:8443/a?b")
    assert (target.authority, target.origin) == ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443")
    assert (target.request_target, target.tls) == ("/a?b", True)
    assert vet_url("ws://h:80/", schemes=("ws", "wss")).authority == "h"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://user:pw-s3cret@example.com/", "user name or password"),
        ("http://user@example.com/", "user name or password"),
        ("http://@example.com/", "user name or password"),
        ("http://example.com/#part", "fragment"),
        ("http://example.com#@evil.com/", "fragment"),
        ("http://example.com/\r\nX-Evil: 1", "control character"),
        ("http://exa\tmple.com/", "control character"),
        ("http://example.com/a b", "blank"),
        (" http://example.com/", "blank"),
        ("http://example.com\\@evil.com/", "backslash"),
        ("http://example.com/\x00", "control character"),
        ("http://example.com/\x85", "control character"),
        ("http://example.com/\u2028", "control character"),
        ("ftp://example.com/", "begin with"),
        ("file:///etc/passwd", "begin with"),
        ("gopher://127.0.0.1:6379/_x", "begin with"),
        ("javascript:alert(1)", "begin with"),
        ("ws://example.com/", "begin with"),
        ("//example.com/", "begin with"),
        ("http:/example.com", "begin with"),
        ("", "begin with"),
        ("http:///path", "host"),
        ("http://:80/", "host"),
        ("http://exa%6dple.com/", "host name"),
        ("http://127%2e0.0.1/", "host name"),
        ("http://a..b/", "host name"),
        ("http://example.com../", "host name"),
        ("http://-a.example/", "host name"),
        ("http://" + "a" * 64 + ".example/", "host name"),
        ("http://1.2.3.4.5/", "IPv4"),
        ("http://256.1.1.1/", "IPv4"),
        ("http://127.0.0.09/", "IPv4"),
        ("http://example.0x7f/", "IPv4"),
        ("http://4294967296/", "IPv4"),
        ("http://[::1/", "host or port"),
        ("http://[::1]x/", "host or port"),
        ("http://[1::2::3]/", "IPv6"),
        ("http://[127.0.0.1]/", "IPv6"),
        ("http://::1/", "host or port"),
        ("http://example.com:0/", "port"),
        ("http://example.com:65536/", "port"),
        ("http://example.com:８０/", "host or port"),
        ("http://example.com:80:80/", "host or port"),
        ("http://a／b.example/", "host name"),
        ("http://a㏂.example\u200d/", "host name"),
        ("http://example.com/\ud800", "surrogate"),
        ("http://example.com/" + "a" * 9000, "longer"),
    ],
)
def test_bad_urls_say_what_is_wrong_and_repeat_nothing(url: str, says: str) -> None:
    with pytest.raises(UrlInvalid, match=says) as caught:
        vet_url(url)
    assert caught.value.status == 422
    assert "s3cret" not in caught.value.message
    assert "evil" not in caught.value.message.lower()


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://h/{text}"):
        try:
            target = vet_url(url)
        except UrlInvalid:
            continue
        assert target.url.isascii()
        assert vet_url(target.url) == target
