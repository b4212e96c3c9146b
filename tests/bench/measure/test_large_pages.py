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
from bench.measure.apart.large_pages import use_large_pages

def in_large_pages():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))

size = int(Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").read_text())
memory = mmap.mmap(-1, 8 * size, flags=mmap.MAP_PRIVATE)
memory.madvise(mmap.MADV_NOHUGEPAGE) if FORBID else None
memory[:] = bytes(range(256)) * (8 * size // 256)
before, content = in_large_pages(), hashlib.sha256(memory).hexdigest()
moved = use_large_pages()
assert hashlib.sha256(memory).hexdigest() == content
after = in_large_pages()
memory.close()
print(moved // size, (after - before) // size, (after - in_large_pages()) // size)
"""


@pytest.mark.skipif(not large_pages._SIZE.exists(), reason="this kernel has no large pages")
@pytest.mark.parametrize("forbid", [False, True])
def test_memory_is_in_large_pages_with_the_same_content(forbid):
    """In 8 large pages of memory there are at least 7 whole ones. What a program forbids stays in small pages."""
    program = MOVE.replace("FORBID", str(forbid))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    moved, more, of_this = map(int, done.stdout.split())
    if not moved:
        pytest.skip("this kernel cannot collapse pages (Linux before 6.1), or has no room")
    assert more == moved and (of_this == 0 if forbid else 7 <= of_this <= 8)


def test_without_large_pages_nothing_happens(monkeypatch, tmp_path):
    monkeypatch.setattr(large_pages, "_SIZE", tmp_path / "none")
    monkeypatch.setattr(large_pages, "libc", lambda: pytest.fail("the kernel was asked"))
    assert large_pages.use_large_pages() == 0
    monkeypatch.setattr(large_pages, "_SIZE", Path(__file__))  # holds no number
    assert large_pages.use_large_pages() == 0
