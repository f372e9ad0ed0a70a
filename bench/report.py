"""Records of a run to Markdown: one table per figure, targets as rows. It only reads; see README for how to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from bench.catalog import GROUPS
from bench.scenarios import ALL
from bench.window import NOISE_LIMIT

BASELINE = "nginx"
POLICIES = ("limited", "guarded")
"""Gatehouse with a blocking limit, and with every kind of policy at work: each is dearer than `WITHOUT` by its cost."""
WITHOUT = "gatehouse"
"""Gatehouse where no policy has anything to do."""
PEERS = frozenset(GROUPS["peers"])
Record = dict[str, Any]
Cell = Callable[[str, str], str]


class Report:
    """The records of all rounds, by target and scenario; several rounds count by their median."""

    def __init__(self, records: list[Record], notes: Iterable[str] = ()) -> None:
        self._records, self._notes = records, list(notes)
        self._targets = list(dict.fromkeys(r["target"] for r in sorted(records, key=lambda r: r["round"])))
        seen = {r["scenario"] for r in records}
        self._scenarios = [name for name in ALL if name in seen]
        self._rated = [name for name in self._scenarios if ALL[name].mode != "hold"]

    def _of(self, target: str, scenario: str) -> list[Record]:
        return [r for r in self._records if r["target"] == target and r["scenario"] == scenario]

    def value(self, target: str, scenario: str, key: str) -> float | None:
        """The median over the rounds; None where nothing was measured."""
        found = [r[key] for r in self._of(target, scenario) if r.get(key) is not None]
        return median(found) if found else None

    def failures(self) -> list[str]:
        """Every record that failed or held a wrong answer, in words."""
        lines: list[str] = []
        for r in self._records:
            if "error" in r:
                lines.append(f"{r['target']} {r['scenario']}, round {r['round']}: {r['error']}")
            elif r.get("errors"):
                why = "; ".join(r["error_samples"])
                lines.append(
                    f"{r['target']} {r['scenario']}, round {r['round']}: {r['errors']} wrong beside {r['ok']}: {why}"
                )
        return lines

    def not_offered(self) -> list[str]:
        """What targets were not asked for, each with the reason, once."""
        said = (f"{r['target']} {r['scenario']}: {r['not_offered']}" for r in self._records if "not_offered" in r)
        return list(dict.fromkeys(said))

    def markdown(self) -> str:
        parts = [
            "# Benchmark",
            "\n".join(f"- {note}" for note in self._notes),
            self._table("Operations per second", self._rated, self._rate),
        ]
        if BASELINE in self._targets and len(self._targets) > 1:
            parts.append(
                self._table(f"Operations per second, {BASELINE} = 1", self._rated, self._against("rps"), self._others())
            )
            parts.append(
                self._table(f"p50 latency, {BASELINE} = 1", self._rated, self._against("p50_ms"), self._others())
            )
            parts.append(
                self._table(f"p99 latency, {BASELINE} = 1", self._rated, self._against("p99_ms"), self._others())
            )
        compared = [t for t in self._targets if t in {WITHOUT, *POLICIES}]
        if compared and PEERS.intersection(self._targets):
            parts.append(self._table("Operations per second, times the best peer", self._rated, self._lead, compared))
        parts.append(self._table("Latency p50 / p99, ms", self._rated, self._latency))
        gateways = [t for t in self._targets if any(self.value(t, s, "pss_mib") for s in self._scenarios)]
        if gateways:
            parts.append(
                self._table("Gateway CPU per operation, µs", self._rated, self._plain("cpu_us", "{:,.1f}"), gateways)
            )
        if BASELINE in gateways and len(gateways) > 1:
            others = [t for t in gateways if t != BASELINE]
            parts.append(
                self._table(f"Gateway CPU per operation, {BASELINE} = 1", self._rated, self._against("cpu_us"), others)
            )
        at_work = [name for name in POLICIES if name in gateways]
        if at_work and WITHOUT in gateways:
            title = f"The cost of all policies: CPU per operation, {WITHOUT} = 1"
            parts.append(self._table(title, self._rated, self._against("cpu_us", WITHOUT), at_work))
        parts += [
            self._table(
                "Upstream requests per operation / new upstream connections per operation",
                self._rated,
                self._upstream_work,
            ),
            self._start_table(gateways),
            self._table(
                "Share of a core that other processes took (the larger of the two cores)", self._scenarios, self._noise
            ),
        ]
        if missing := self.not_offered():
            parts.append("## Not offered\n\n" + "\n".join(f"- {line}" for line in missing))
        failures = self.failures()
        if failures:
            parts.append("## Failures\n\n" + "\n".join(f"- {line}" for line in failures))
        return "\n\n".join(part for part in parts if part) + "\n"

    def _others(self) -> list[str]:
        return [t for t in self._targets if t != BASELINE]

    def _table(self, title: str, columns: list[str], cell: Cell, targets: list[str] | None = None) -> str:
        if not columns:
            return ""
        rows = [[target, *(cell(target, column) for column in columns)] for target in targets or self._targets]
        return _markdown_table(title, ["target", *columns], rows)

    def _plain(self, key: str, form: str) -> Cell:
        def cell(target: str, scenario: str) -> str:
            value = self.value(target, scenario, key)
            return "-" if value is None else form.format(value)

        return cell

    def _rate(self, target: str, scenario: str) -> str:
        records = self._of(target, scenario)
        if any("error" in r for r in records):
            return "failed"
        if any("not_offered" in r for r in records):
            return "not offered"
        rate = self.value(target, scenario, "rps")
        if rate is None:
            return "-"
        errors = sum(r["errors"] for r in records)
        noisy = any(r["foreign"] > NOISE_LIMIT for r in records)
        return f"{rate:,.{0 if rate >= 100 else 1}f}{'~' if noisy else ''}{f' !{errors}' if errors else ''}"

    def _latency(self, target: str, scenario: str) -> str:
        p50, p99 = self.value(target, scenario, "p50_ms"), self.value(target, scenario, "p99_ms")
        return "-" if p50 is None or p99 is None else f"{p50:,.2f} / {p99:,.2f}"

    def _against(self, key: str, baseline: str = BASELINE) -> Cell:
        def cell(target: str, scenario: str) -> str:
            mine, base = self.value(target, scenario, key), self.value(baseline, scenario, key)
            return f"{mine / base:.2f}" if mine and base else "-"

        return cell

    def _best_peer(self, scenario: str) -> tuple[float, str] | None:
        """The highest rate of a peer and its name; one that failed or answered wrongly even once does not count."""
        rates: list[tuple[float, str]] = []
        for peer in PEERS.intersection(self._targets):
            rate = self.value(peer, scenario, "rps")
            if rate and not any("error" in r or r.get("errors") for r in self._of(peer, scenario)):
                rates.append((rate, peer))
        return max(rates, default=None)

    def _lead(self, target: str, scenario: str) -> str:
        mine, best = self.value(target, scenario, "rps"), self._best_peer(scenario)
        if not mine or not best:
            return "-"
        times = mine / best[0]
        return f"{times:,.{0 if times >= 100 else 1}f} ({best[1]})"

    def _upstream_work(self, target: str, scenario: str) -> str:
        records = [r for r in self._of(target, scenario) if r.get("total")]
        if not records:
            return "-"
        # the handshake of each load connection rounds to nothing among thousands of operations
        counted = {kind: n for kind, n in records[-1]["upstream_requests"].items() if n >= 0.005}
        requests = ", ".join(f"{kind} {n:.3f}" for kind, n in counted.items()) or "none"
        connections = self.value(target, scenario, "new_connections")
        return requests if connections is None else f"{requests} / {connections:.4f}"

    def _noise(self, target: str, scenario: str) -> str:
        foreign = self.value(target, scenario, "foreign")
        attempts = max((r.get("attempts", 0) for r in self._of(target, scenario)), default=0)
        return "-" if foreign is None else f"{foreign:.0%} ({attempts} window{'s' if attempts > 1 else ''})"

    def _start_table(self, gateways: list[str]) -> str:
        columns = {
            "cold start, s": ("start", "cold_start_s", "{:.2f}"),
            "the same with 50 upstreams, s": ("start-50x20", "cold_start_s", "{:.2f}"),
            "idle PSS, MiB": ("start", "idle_pss_mib", "{:.1f}"),
            "streams held": ("hold", "held", "{:,.0f}"),
            "streams lost": ("hold", "lost", "{:,.0f}"),
            "ready after, s": ("hold", "ready_s", "{:.2f}"),
            "PSS with them, MiB": ("hold", "pss_mib", "{:.1f}"),
            "KiB per stream": ("hold", "kib_per_stream", "{:.1f}"),
        }
        rows: list[list[str]] = []
        for target in gateways:
            peak = max(
                (r["pss_mib"] for r in self._records if r["target"] == target and r.get("pss_mib") and "held" not in r),
                default=None,
            )
            cells = [self._plain(key, form)(target, scenario) for scenario, key, form in columns.values()]
            cells.insert(3, "-" if peak is None else f"{peak:.1f}")
            rows.append([target, *cells])
        titles = list(columns)
        titles.insert(3, "highest PSS after calls, MiB")
        return _markdown_table("Start, memory, open streams", ["target", *titles], rows) if rows else ""


def _markdown_table(title: str, header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
