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


ARENAS = """
import ctypes, sys, threading
from gateway.memory import keep_freed

if {shared}:
    keep_freed()

met = threading.Barrier(4)

def work():
    block = bytearray(100_000)
    met.wait()

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
told = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, told)
libc.fflush(told)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has what is set here")
def test_threads_share_what_is_kept() -> None:
    def arenas(*, shared: bool) -> int:
        program = [sys.executable, "-c", ARENAS.format(shared=shared)]
        return subprocess.run(program, check=True, capture_output=True, text=True).stdout.count("<heap nr=")

    assert arenas(shared=True) == 1
    assert arenas(shared=False) > 1, "it is needed"
