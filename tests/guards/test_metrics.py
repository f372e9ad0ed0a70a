"""`docs/metrics.md` and the metrics agree, in names, types, labels and words."""

from __future__ import annotations

import re

from gateway.observability.names import METRICS
from tests.guards.source import ROOT

_ROW = re.compile(r"^\| `(gatehouse_\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", re.MULTILINE)

Row = tuple[str, tuple[str, ...], str]


def rows(text: str) -> dict[str, Row]:
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), words) for name, kind, labels, words in _ROW.findall(text)
    }


def known() -> dict[str, Row]:
    return {metric.name: (metric.kind, metric.labels, metric.help) for metric in METRICS.values()}


def test_the_document_lists_the_metrics() -> None:
    assert rows((ROOT / "docs" / "metrics.md").read_text()) == known()


def test_the_guard_sees_a_difference() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert rows(text.replace("| `gatehouse_sessions` | gauge |", "| `gatehouse_sessions` | counter |")) != known()
    assert rows(text.replace("| `gatehouse_sessions` |", "| `gatehouse_visits` |")) != known()
