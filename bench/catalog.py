"""All targets by name, and the groups that a command line may name instead."""

from __future__ import annotations

from bench.ceilings import Ceiling
from bench.errors import BenchError
from bench.peers import ContextForge, FastMcp, LiteLlm, TunedContextForge
from bench.targets import Direct, Gatehouse, Guarded, Limited, Nginx, Target

_OWN: tuple[type[Target], ...] = (Direct, Nginx, Ceiling, Gatehouse, Limited, Guarded)
_PEERS: tuple[type[Target], ...] = (FastMcp, LiteLlm, ContextForge, TunedContextForge)

TARGETS: dict[str, type[Target]] = {target.name: target for target in (*_OWN, *_PEERS)}
GROUPS = {"core": [target.name for target in _OWN], "peers": [target.name for target in _PEERS]}


def select(names: str) -> list[type[Target]]:
    """Targets by comma-separated names of targets or groups, each once, as first named.

    Raises BenchError for an unknown name, MissingProgram with the remedy for a target that cannot run here.
    """
    wanted: dict[str, None] = {}
    for name in names.split(","):
        if name not in GROUPS and name not in TARGETS:
            raise BenchError(f"there is no target {name}; there are {', '.join([*GROUPS, *TARGETS])}")
        wanted.update(dict.fromkeys(GROUPS.get(name, [name])))
    chosen = [TARGETS[name] for name in wanted]
    for target in chosen:
        target.check_installed()
    return chosen
