"""Spans of calls, over OTLP to a real collector: their parents, what they say, and what servers behind are told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.observability import traces
from tests.gateway.mcp.door import opened
from tests.gateway.mcp.exchange import Speaker
from tests.gateway.observability.otlp import Collector, collector
from tests.support import faulty as faults
from tests.support.faulty import Faulty, faulty

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CONTEXT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}


def meta_of(server: Faulty) -> dict[str, str]:
    """The `_meta` of the last call that reached the server."""
    body = [request for request in server.requests if b"tools/call" in request][-1].partition(b"\r\n\r\n")[2]
    return json.loads(body)["params"].get("_meta", {})


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
        yield made


@pytest.mark.parametrize(("client", "server"), [("modern", "modern"), ("modern", "legacy"), ("legacy", "modern")])
async def test_a_call_is_a_span_between_its_client_and_its_server(
    tmp_path: Path, sink: Collector, client: str, server: str
) -> None:
    async with faulty({"good": faults.good, "bad": faults.reset_before}, modern=server == "modern") as behind:
        async with opened(tmp_path / "data", traces="on") as door:
            await door.register("it", behind.url)
            speaker = await Speaker.of(door, client, "/mcp")
            asked = {"name": "it__good", "arguments": {}, "_meta": {**CONTEXT, "mine": 1}}
            await speaker.request("tools/call", asked).done()
            meta = meta_of(behind)
            await speaker.call("it__bad").done()
    good, bad = sorted(sink.spans(), key=lambda span: span.name, reverse=True)
    assert (good.name, bad.name) == ("tools/call it__good", "tools/call it__bad")
    assert (good.trace_id.hex(), good.parent_span_id.hex()) == (TRACE, PARENT)
    assert meta["traceparent"] == f"00-{TRACE}-{good.span_id.hex()}-01"
    assert meta["tracestate"] == "vendor=1"
    assert meta["mine"] == 1
    told = sink.attributes(good)
    assert told["gatehouse.outcome"] == "ok"
    assert told["gen_ai.tool.name"] == "it__good"
    assert told["gatehouse.server"] == "it"
    assert good.status.code == 0
    assert good.kind == good.SPAN_KIND_SERVER
    # Without a context of its client's a call begins a trace.
    assert bad.parent_span_id == b""
    assert bad.trace_id.hex() != TRACE
    assert sink.attributes(bad)["error.type"] == "unknown"
    assert sink.attributes(bad)["rpc.jsonrpc.error_code"] == -31004
    assert bad.status.code == bad.status.STATUS_CODE_ERROR
    named = {one.key: one.value.string_value for one in sink.requests[0].resource_spans[0].resource.attributes}
    assert named["service.name"] == "gatehouse"


async def test_without_traces_the_clients_context_passes_as_it_came(tmp_path: Path, sink: Collector) -> None:
    async with faulty({"good": faults.good}, modern=True) as behind, opened(tmp_path / "data") as door:
        await door.register("it", behind.url)
        speaker = await Speaker.of(door, "modern", "/mcp")
        await speaker.request("tools/call", {"name": "it__good", "arguments": {}, "_meta": CONTEXT}).done()
        assert {name: meta_of(behind)[name] for name in CONTEXT} == CONTEXT
    assert sink.requests == []


@pytest.mark.parametrize("context", ["", "nonsense", 5, None, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
async def test_a_context_that_cannot_be_read_is_no_parent(tmp_path: Path, sink: Collector, context: object) -> None:
    async with faulty({"good": faults.good}, modern=True) as behind:
        async with opened(tmp_path / "data", traces="on") as door:
            await door.register("it", behind.url)
            speaker = await Speaker.of(door, "modern", "/mcp")
            asked = {"name": "it__good", "arguments": {}, "_meta": {"traceparent": context}}
            assert (await speaker.request("tools/call", asked).done()).status == 200
    (span,) = sink.spans()
    assert span.parent_span_id == b""


def test_the_vendor_is_imported_only_where_traces_are_on() -> None:
    code = "import gateway.app, sys; print('opentelemetry.sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(traces.TelemetryMissing, match=r"pip install 'gatehouse\[telemetry\]'"):
        traces.Traces()
