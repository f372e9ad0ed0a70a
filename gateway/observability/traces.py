"""Calls as OpenTelemetry spans, sent on by OTLP. The vendor is the extra `telemetry`, imported when traces are on.

A client's `_meta` may hold a trace context (W3C `traceparent`, `tracestate`), which becomes the parent of the call's
span; the server behind gets the span as its own parent. Where spans go, and how many are kept, the `OTEL_…` variables
say.
Source: W3C Trace Context; MCP SEP-414 (trace context in `_meta`); OpenTelemetry's semantic conventions for MCP.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.mcp.envelope import UNREADABLE, Params, decode_params, decode_text, encode
from registry.core.errors import GatehouseError
from registry.core.logs import redact
from registry.core.version import VERSION

if TYPE_CHECKING:
    from gateway.mcp.policies.policy import Attempt

_CONTEXT = ("traceparent", "tracestate")
_FAILED = frozenset({"error", "denied", "not_sent", "unknown"})


class TelemetryMissing(GatehouseError):
    code = "TELEMETRY_MISSING"
    title = "Telemetry missing"


class Traces:
    """Makes spans of calls. Raises `TelemetryMissing` where the extra is not installed."""

    def __init__(self) -> None:
        try:
            from opentelemetry import propagate, trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise TelemetryMissing(
                "GATEHOUSE_TRACES is on, but the extra telemetry is not installed: "
                "pip install 'gatehouse[telemetry]', or turn traces off."
            ) from None
        self._provider = TracerProvider(resource=Resource.create({"service.name": "gatehouse"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("gatehouse", VERSION)
        self._propagate = propagate
        self._trace = trace

    def begin(self, attempt: Attempt) -> _CallTrace:
        """See `gateway.mcp.tracing.Tracer`."""
        carrier = _context_in(attempt.params)
        # An empty context on purpose: what runs around the call here is nobody's parent.
        parent = self._propagate.extract(carrier) if carrier else None
        span = self._tracer.start_span(
            redact(f"{attempt.method} {attempt.name}"),
            context=parent,
            kind=self._trace.SpanKind.SERVER,
            attributes={
                "mcp.method.name": attempt.method,
                "gatehouse.server": attempt.server.slug,
                "gatehouse.organisation": attempt.principal.org_id,
                "gatehouse.subject": attempt.principal.subject,
            },
        )
        if attempt.method == "tools/call":
            span.set_attribute("gen_ai.tool.name", attempt.name)
        return _CallTrace(span, self)

    def carrier_of(self, span: Any) -> dict[str, str]:
        """What tells a server that it works for this span."""
        carrier: dict[str, str] = {}
        self._propagate.inject(carrier, context=self._trace.set_span_in_context(span))
        return carrier

    def fail(self, span: Any, outcome: str) -> None:
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, outcome))

    async def stop(self) -> None:
        """Send what is left."""
        await asyncio.to_thread(self._provider.shutdown)


class _CallTrace:
    """See `gateway.mcp.tracing.Trace`."""

    __slots__ = ("_span", "_traces")

    def __init__(self, span: Any, traces: Traces) -> None:
        self._span = span
        self._traces = traces

    def onward(self, params: Params) -> Params:
        meta = decode_params(params["_meta"]) if "_meta" in params else {}
        for name in _CONTEXT:
            meta.pop(name, None)
        meta |= {name: msgspec.Raw(encode(text)) for name, text in self._traces.carrier_of(self._span).items()}
        return {**params, "_meta": msgspec.Raw(encode(meta))}

    def end(self, outcome: str, code: int | None) -> None:
        self._span.set_attribute("gatehouse.outcome", outcome)
        if code is not None:
            self._span.set_attribute("rpc.jsonrpc.error_code", code)
        if outcome in _FAILED:
            self._span.set_attribute("error.type", outcome)
            self._traces.fail(self._span, outcome)
        self._span.end()


def _context_in(params: Params) -> dict[str, str]:
    """The trace context in a request's `_meta`, if it has one that can be read."""
    raw = params.get("_meta")
    if raw is None or b"traceparent" not in bytes(raw):
        return {}
    try:
        meta = decode_params(raw)
        return {name: decode_text(meta[name]) for name in _CONTEXT if name in meta}
    except UNREADABLE:
        return {}
