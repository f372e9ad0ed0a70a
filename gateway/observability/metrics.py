"""The metrics in Prometheus' text format, made when they are asked for from what the parts count anyway.

Which metrics there are says `names`. What a server's name may be is bounded by `tally`, for every metric alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway.observability.names import METRICS
from gateway.observability.tally import BOUNDS, Tally
from registry.core.version import VERSION

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

    from gateway.mcp.upstream.guard import Guard

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = {"closed": 0, "half_open": 1, "open": 2}

Samples = dict[tuple[str, ...], float]
"""Values by the values of their labels."""


class Servers(Protocol):
    """The servers that have been called: `gateway.mcp.upstream.manager.Upstreams`."""

    def guards(self) -> list[Guard]: ...

    def connections(self) -> list[tuple[str, int, int]]:
        """Connections to each server: its slug, how many are in use, and how many idle."""
        ...


class Metrics(Collector):
    """Gathers and renders.

    Args:
        observed: has what was not counted yet counted.
        gauges: what a number is now, by the metric's name and the values of its labels.
    """

    def __init__(
        self,
        tally: Tally,
        servers: Servers,
        observed: Callable[[], None],
        gauges: Callable[[], dict[tuple[str, ...], float]],
    ) -> None:
        self._tally = tally
        self._servers = servers
        self._observed = observed
        self._gauges = gauges
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Family]:
        self._observed()
        yield _gauge("gatehouse_info", {(VERSION,): 1})
        yield from self._calls()
        yield from self._upstream()
        gauges: dict[str, Samples] = {}
        for (name, *labels), value in self._gauges().items():
            gauges.setdefault(name, {})[tuple(labels)] = value
        for name, samples in gauges.items():
            yield _gauge(name, samples)

    def _calls(self) -> Iterator[Family]:
        entries = self._tally.servers
        yield _counter(
            "gatehouse_calls_total",
            {(name, outcome): count for name, entry in entries.items() for outcome, count in entry.outcomes.items()},
        )
        metric = METRICS["gatehouse_call_duration_seconds"]
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for name, entry in entries.items():
            below, buckets = 0, list[tuple[str, float]]()
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), entry.buckets, strict=True):
                below += count
                buckets.append((bound, below))
            histogram.add_metric([name], buckets, entry.microseconds / 1e6)
        yield histogram
        sizes: Samples = {}
        for name, entry in entries.items():
            sizes[name, "in"], sizes[name, "out"] = entry.bytes_in, entry.bytes_out
        yield _counter("gatehouse_call_bytes_total", sizes)
        yield _counter("gatehouse_refusals_total", {(rule,): count for rule, count in self._tally.refusals.items()})

    def _upstream(self) -> Iterator[Family]:
        requests, retries, opened = Counter[tuple[str, ...]](), Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
        places, states = Counter[tuple[str, ...]](), dict[tuple[str, ...], float]()
        for guard in self._servers.guards():
            name = self._tally.name_of(guard.server)
            requests[name,] += guard.calls + guard.retries.spent
            retries[name,] += guard.retries.spent
            opened[name,] += guard.breaker.opened
            places[name, "under_way"] += guard.places.busy
            places[name, "waiting"] += guard.places.waiting
            states[name,] = max(states.get((name,), 0), _STATES[guard.breaker.state])
        connections = Counter[tuple[str, ...]]()
        for slug, in_use, idle in self._servers.connections():
            name = self._tally.name_of(slug)
            connections[name, "in_use"] += in_use
            connections[name, "idle"] += idle
        yield _counter("gatehouse_upstream_requests_total", requests)
        yield _counter("gatehouse_upstream_retries_total", retries)
        yield _counter("gatehouse_breaker_opened_total", opened)
        yield _gauge("gatehouse_breaker_state", states)
        yield _gauge("gatehouse_upstream_calls", places)
        yield _gauge("gatehouse_upstream_connections", connections)


def _counter(name: str, samples: Samples | Counter[tuple[str, ...]]) -> Family:
    metric = METRICS[name]
    family = CounterMetricFamily(name.removesuffix("_total"), metric.help, labels=metric.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family


def _gauge(name: str, samples: Samples | Counter[tuple[str, ...]]) -> Family:
    metric = METRICS[name]
    family = GaugeMetricFamily(name, metric.help, labels=metric.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
