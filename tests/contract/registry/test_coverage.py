"""Every endpoint of the document has a test, and every test an endpoint of the document."""

from __future__ import annotations

from pathlib import Path

from tests.contract.covers import covered
from tests.contract.registry.endpoints import ENDPOINTS, SERVED, UNSERVED
from tests.gateway.mcp.door import Door

HERE = Path(__file__).parent


def test_every_documented_endpoint_has_a_test() -> None:
    assert sorted(SERVED.keys() - covered(HERE)) == []


def test_every_covered_endpoint_is_documented() -> None:
    assert sorted(covered(HERE) - ENDPOINTS.keys()) == []


def test_a_test_s_mark_is_found(tmp_path: Path) -> None:
    text = (
        '@covers("GET /a", "PUT /a")\nasync def test_a():\n    pass\n\n\n@covers("GET /b")\ndef helper():\n    pass\n'
    )
    (tmp_path / "test_a.py").write_text(text)
    assert covered(tmp_path) == {"GET /a", "PUT /a"}


async def test_what_has_no_test_is_not_served(door: Door) -> None:
    for endpoint in UNSERVED:
        method, _, path = endpoint.partition(" ")
        if method == "WEBSOCKET":
            continue
        assert (await door.rest(method, path)).status == 404, f"{endpoint} is served: test it and strike it off"
