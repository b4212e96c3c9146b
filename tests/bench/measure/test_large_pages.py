"""Tests of large pages: what is moved is really in them, and nothing in memory changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.measure.apart import large_pages

MOVE = """
import hashlib
import mmap
from pathlib import Path
from bench.measure.apart.large_pages import MADV_COLLAPSE, use_large_pages

def in_large_pages():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))

def filled(advice):
    memory = mmap.mmap(-1, 8 * size, flags=mmap.MAP_PRIVATE)
    memory.madvise(advice)
    memory[:] = bytes(range(256)) * (8 * size // 256)
    return memory

size = int(Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").read_text())
memory = filled(mmap.MADV_NOHUGEPAGE)
if not FORBID:
    memory.madvise(mmap.MADV_HUGEPAGE)  # allows them, and moves nothing yet
before, content = in_large_pages(), hashlib.sha256(memory).hexdigest()
use_large_pages()
assert hashlib.sha256(memory).hexdigest() == content
after = in_large_pages()
memory.close()
of_this = after - in_large_pages()
try:
    filled(mmap.MADV_NORMAL).madvise(MADV_COLLAPSE)
except OSError:
    print("none")
else:
    print((after - before) // size, of_this // size)
"""


@pytest.mark.skipif(not large_pages._SIZE.exists(), reason="this kernel has no large pages")
@pytest.mark.parametrize("forbid", [False, True])
def test_memory_is_in_large_pages_with_the_same_content(forbid):
    """In 8 large pages of memory there are at least 7 whole ones. What a program forbids stays in small pages."""
    program = MOVE.replace("FORBID", str(forbid))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    if done.stdout.split() == ["none"]:
        pytest.skip("this kernel cannot collapse pages (Linux before 6.1), or has no room")
    more, of_this = map(int, done.stdout.split())
    assert more >= of_this and (of_this == 0 if forbid else 7 <= of_this <= 8)


def test_without_large_pages_nothing_happens(monkeypatch, tmp_path):
    monkeypatch.setattr(large_pages, "_SIZE", tmp_path / "none")
    monkeypatch.setattr(large_pages, "libc", lambda: pytest.fail("the kernel was asked"))
    large_pages.use_large_pages()
    monkeypatch.setattr(large_pages, "_SIZE", Path(__file__))  # holds no number
    large_pages.use_large_pages()
