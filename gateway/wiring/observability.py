"""What the gateway tells of itself, joined with the parts that it tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.observability.lag import LoopLag
from gateway.observability.lines import CallLines
from gateway.observability.metrics import Metrics
from gateway.observability.tally import Tally

if TYPE_CHECKING:
    from gateway.wiring.data_path import DataPath
    from gateway.wiring.ground import Ground


class Observability:
    """Metrics, lines and traces of one process."""

    def __init__(self, ground: Ground, path: DataPath) -> None:
        self._path = path
        self._lag = LoopLag()
        tally = Tally()
        path.recorder.on_records(tally.observe)
        settings = ground.settings
        lines = CallLines(settings.call_log, settings.log_level, settings.log_format)
        if lines.wanted:
            path.recorder.on_records(lines.observe)
        self.metrics = Metrics(tally, path.upstreams, path.recorder.observe, self._gauges)

    def _gauges(self) -> dict[tuple[str, ...], float]:
        path = self._path
        return {
            ("gatehouse_calls_in_flight",): len(path.flights),
            ("gatehouse_sessions",): len(path.sessions),
            ("gatehouse_streams", "notices"): len(path.notices),
            ("gatehouse_streams", "sse"): len(path.sse_clients),
            ("gatehouse_records_waiting",): len(path.recorder),
            ("gatehouse_budget_allotments",): len(path.desk),
            ("gatehouse_event_loop_lag_seconds",): self._lag.longest,
        }

    def start(self) -> None:
        self._lag.start()

    async def stop(self) -> None:
        await self._lag.stop()
        if self._path.traces is not None:
            await self._path.traces.stop()
