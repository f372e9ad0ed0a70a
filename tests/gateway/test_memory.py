"""Freed memory stays with the process: counted in pages that the kernel had to give it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
from gateway.memory import KEPT, LARGEST, keep_freed

if {kept}:
    keep_freed()

def message():
    # More blocks at a time than one, as the copies of a message are.
    return [bytearray(LARGEST // 2) for _ in range(KEPT // LARGEST)]

message()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    message()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has what is set here")
def test_the_next_large_message_needs_no_new_pages() -> None:
    def pages(*, kept: bool) -> int:
        program = [sys.executable, "-c", PAGES.format(kept=kept)]
        return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)

    assert pages(kept=True) < 100
    assert pages(kept=False) > 1000, "it is needed"
