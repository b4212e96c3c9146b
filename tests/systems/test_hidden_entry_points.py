"""Libraries find no code of other packages by entry points, while `bench` is imported."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib.metadata import distributions, entry_points
from pathlib import Path

import pytest

import bench  # noqa: F401  (hides them)
from systems.hidden_entry_points import hide_entry_points

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("triton.backends", "pydantic", "numba_extensions", "t_mine_parts", "o", "semantic_bench.channels")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that names its code in all groups, also by a module with the name of a group."""
    info = tmp_path / "t_mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: t-mine\nVersion: 1.0\n")
    lines = (f"[{group}]\na-mine = t_mine.part:X\nb-mine = {group.partition('.')[0]}.t:X\n" for group in GROUPS)
    (info / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield
    hide_entry_points()


def found() -> list[tuple[str, str]]:
    """Both ways in which libraries look."""
    one = {(point.group, point.name) for group in GROUPS for point in entry_points(group=group)}
    two = {(point.group, point.name) for package in distributions() for point in package.entry_points}
    assert one <= two
    return sorted(one for one in two if one[1].endswith("-mine"))


def test_only_the_bench_s_own_groups_are_found_and_what_libraries_say_of_themselves(package):
    ours = [("semantic_bench.channels", "a-mine"), ("semantic_bench.channels", "b-mine")]
    themselves = [(group, "b-mine") for group in ("o", "pydantic", "triton.backends")]
    assert found() == sorted([*ours, *themselves])


def test_a_system_s_process_finds_those_of_its_own_package(package):
    hide_entry_points("t_mine")
    assert {("pydantic", "a-mine"), ("t_mine_parts", "a-mine")} <= set(found())
    assert ("numba_extensions", "b-mine") not in found() and ("t_mine_parts", "b-mine") not in found()


def test_matplotlib_can_be_imported_in_a_notebook(tmp_path):
    """A notebook names its backend in MPLBACKEND, and matplotlib refuses one without an entry point."""
    info = tmp_path / "matplotlib_inline-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: matplotlib-inline\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[matplotlib.backend]\ninline = matplotlib_inline.backend_inline\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    env["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    done = subprocess.run([sys.executable, "-c", "import bench, matplotlib"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
