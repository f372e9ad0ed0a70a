"""Which credential counts."""

from __future__ import annotations

import pytest

from gateway.auth.credentials import (
    CredentialAmbiguous,
    CredentialMalformed,
    CredentialMissing,
    find_credential,
    obvious_credential,
)

HOST = (b"host", b"127.0.0.1")


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([(b"authorization", b"Bearer abc")], b"abc"),
        ([(b"authorization", b"bearer abc")], b"abc"),
        ([(b"x-api-key", b"abc")], b"abc"),
        ([(b"x-session-id", b"abc")], b"abc"),
    ],
)
def test_the_usual_request_has_one_obvious_credential(headers: list[tuple[bytes, bytes]], credential: bytes) -> None:
    assert obvious_credential([HOST, *headers]) == credential
    assert find_credential([HOST, *headers]) == credential


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([(b"authorization", b"Bearer  abc ")], b"abc"),
        ([(b"authorization", b"Bearer abc"), (b"x-api-key", b"abc")], b"abc"),
        ([(b"cookie", b"a=b; gatehouse_session=abc; c=d")], b"abc"),
        ([(b"cookie", b"gatehouse_session=abc; __Host-gatehouse_session=def")], b"def"),
        ([(b"cookie", b"gatehouse_session=abc"), (b"x-api-key", b"def")], b"def"),
        ([(b"cookie", b"nothing"), (b"x-api-key", b"def")], b"def"),
    ],
)
def test_less_usual_requests_have_one_too(headers: list[tuple[bytes, bytes]], credential: bytes) -> None:
    assert find_credential([HOST, *headers]) == credential


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([], CredentialMissing),
        ([(b"cookie", b"theme=dark")], CredentialMissing),
        ([(b"cookie", b"gatehouse_session=")], CredentialMissing),
        ([(b"authorization", b"Bearer a"), (b"x-api-key", b"b")], CredentialAmbiguous),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], CredentialAmbiguous),
        ([(b"x-api-key", b"a"), (b"x-session-id", b"b")], CredentialAmbiguous),
        ([(b"authorization", b"")], CredentialMalformed),
        ([(b"authorization", b"Bearer ")], CredentialMalformed),
        ([(b"authorization", b"Basic YTpi")], CredentialMalformed),
        ([(b"authorization", b"Basic YTpi"), (b"x-api-key", b"a")], CredentialMalformed),
        ([(b"x-api-key", b"")], CredentialMalformed),
        ([(b"x-api-key", b"\xff")], CredentialMalformed),
        ([(b"x-api-key", b"a" * 5000)], CredentialMalformed),
    ],
)
def test_everything_else_is_refused(headers: list[tuple[bytes, bytes]], error: type[Exception]) -> None:
    with pytest.raises(error):
        find_credential([HOST, *headers])
