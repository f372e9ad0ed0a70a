"""The compose file passes every setting on, and none that the gateway would refuse as unknown."""

from __future__ import annotations

import re

from registry.core.settings import PREFIX, Settings
from tests.guards.source import ROOT

FIXED = {"data_dir"}
"""Said by the image itself."""


def test_the_compose_file_passes_on_every_setting() -> None:
    named = re.findall(r"^\s+- (GATEHOUSE_\w+)$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(PREFIX + name.upper() for name in Settings.model_fields if name not in FIXED)
