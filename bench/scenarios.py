"""What is measured: each scenario is one kind of load, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.errors import BenchError


@dataclass(frozen=True)
class Scenario:
    """One kind of load. Sizes are bytes, times are seconds; `mode` is the load generator's.

    `upstreams` by `tools_each` describe what stands behind the gateway; `tools_each` 0 means the one upstream with
    `echo`, `slow` and `progress`.
    """

    name: str
    about: str
    mode: str = "call"
    era: str = "legacy"
    connections: int = 16
    size: int = 100
    tool: str = "echo"
    progress: int = 0
    warmup: float = 0.5
    seconds: float = 2.0
    timeout: float = 10.0
    upstreams: int = 1
    tools_each: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        return self.upstreams, self.tools_each

    def arguments(self) -> list[str]:
        """The load generator's options, without those that depend on the target."""
        options = {
            "--mode": self.mode,
            "--era": self.era,
            "--connections": self.connections,
            "--size": self.size,
            "--warmup": self.warmup,
            "--seconds": self.seconds,
            "--timeout": self.timeout,
            "--expect-progress": self.progress,
        }
        return [str(part) for option in options.items() for part in option]


ALL = {
    s.name: s
    for s in (
        Scenario("call-c1", "calls, 1 client", connections=1),
        Scenario("call-c16", "calls, 16 clients"),
        Scenario("call-c64", "calls, 64 clients", connections=64),
        Scenario("call-10k", "calls with 10 KiB each way", size=10 * 1024),
        Scenario("call-1m", "calls with 1 MiB each way, 4 clients", size=1024 * 1024, connections=4),
        Scenario("modern-c1", "stateless calls, 1 client", era="modern", connections=1),
        Scenario("modern-c16", "stateless calls, 16 clients", era="modern"),
        Scenario("progress", "calls with 5 progress notifications", tool="progress", progress=5),
        Scenario("slow", "calls to a 200 ms tool, 64 clients", tool="slow", connections=64, seconds=3.0),
        Scenario("setup", "a session's whole life: initialize, initialized, DELETE", mode="setup"),
        Scenario("list", "tools/list of one upstream", mode="list"),
        Scenario("hold", "1,000 sessions with an open stream", mode="hold", connections=1000, timeout=45.0),
        Scenario(
            "list-50x20-c1",
            "tools/list, 1,000 tools over 50 upstreams, 1 client",
            mode="list",
            connections=1,
            upstreams=50,
            tools_each=20,
        ),
        Scenario(
            "list-50x20",
            "tools/list, 1,000 tools over 50 upstreams, 4 clients",
            mode="list",
            connections=4,
            upstreams=50,
            tools_each=20,
        ),
    )
}
GROUPS = {"core": list(ALL), "quick": ["call-c1", "call-c16", "modern-c16", "list"]}


def select(names: str, seconds: float | None = None) -> list[Scenario]:
    """Scenarios by comma-separated names of scenarios or groups, each once, in the order of the table.

    Raises BenchError for an unknown name.
    """
    wanted: set[str] = set()
    for name in filter(None, names.split(",")):
        if name not in GROUPS and name not in ALL:
            raise BenchError(f"there is no scenario {name}; there are {', '.join([*GROUPS, *ALL])}")
        wanted.update(GROUPS.get(name, [name]))
    chosen = [scenario for name, scenario in ALL.items() if name in wanted]
    return [replace(s, seconds=seconds) for s in chosen] if seconds else chosen
