"""Tests of the search for plug-ins: a damaged package hides itself alone, and an import that ends Python is a fault."""

from __future__ import annotations

import importlib

import pytest

import baselines  # noqa: F401  (registers its systems)
from systems import entry_points, registry
from systems.errors import UserError


def package(site, name, entries, module=""):
    """An installed package whose file entry_points.txt holds these bytes."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_bytes(entries)
    (site / f"{name}.py").write_text(module)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of packages; the first of them is whole."""
    package(tmp_path / "site", "t_whole", b"[semantic_bench.systems]\nt-whole = t_whole:One\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield tmp_path / "site"
    monkeypatch.undo()
    importlib.invalidate_caches()
    registry.discover()


@pytest.mark.parametrize(
    "entries",
    [b"[semantic_bench.systems]\nno target\n", b"\xff\xfe[\x00x\x00]\x00", b"\x80\n"],
    ids=["no =", "UTF-16", "not UTF-8"],
)
def test_a_damaged_package_is_named_and_the_others_count(site, entries):
    package(site, "t_damaged", entries)
    importlib.invalidate_caches()
    assert [point.value for point in entry_points.points("semantic_bench.systems") if point.name == "t-whole"] == [
        "t_whole:One"
    ]
    registry.discover()
    assert "t-whole" in registry.names() and "linear" in registry.names()
    line = registry.disabled()["t_damaged"]
    assert "t_damaged is damaged" in line and "install that package again" in line and len(line.splitlines()) == 1


def test_a_package_without_metadata_is_no_traceback(site):
    package(site, "t_bare", b"[semantic_bench.systems]\nno target\n")
    (site / "t_bare-1.0.dist-info" / "METADATA").unlink()
    importlib.invalidate_caches()
    registry.discover()
    assert "t-whole" in registry.names() and len(registry.disabled()) == 1


def test_sound_packages_have_no_complaint(site):
    importlib.invalidate_caches()
    assert entry_points.damaged() == {}
    names = [(point.name, point.value) for point in entry_points.points("semantic_bench.systems")]
    assert names == sorted(names) and ("t-whole", "t_whole:One") in names


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "1 / 0", "raise SystemExit('a\\nb')", "def"])
def test_whatever_an_import_does_is_one_line(site, code):
    package(site, "t_bad", b"[semantic_bench.datasets]\nt-bad = t_bad:One\n", code)
    importlib.invalidate_caches()
    (point,) = (point for point in entry_points.points("semantic_bench.datasets") if point.name == "t-bad")
    with pytest.raises(UserError, match="t_bad:One does not import") as caught:
        entry_points.loaded(point)
    assert len(str(caught.value).splitlines()) == 1


def test_of_two_packages_with_one_name_none_runs(site):
    """Else the first by the alphabet would run, and be measured, under the name of the other."""
    for name in ("t_a", "t_b"):
        package(site, name, f"[semantic_bench.systems]\nt-rival = {name}:One\n".encode())
    importlib.invalidate_caches()
    registry.discover()
    with pytest.raises(UserError, match="t_a:One and t_b:One are disabled: both are called 't-rival'"):
        registry.find("t-rival")
    assert "t-whole" in registry.names()


@pytest.mark.parametrize("sign", ["\x1b[2J", "\u202e"])
def test_an_entry_point_cannot_write_over_a_terminal(site, sign):
    for name, line in {"t_name": f"t{sign} = t_name:One", "t_target": f"gensc = t_target{sign}:One"}.items():
        package(site, name, f"[semantic_bench.systems]\n{line}\n".encode())
    importlib.invalidate_caches()
    registry.discover()
    texts = [text for pair in registry.disabled().items() for text in pair]
    assert len(texts) == 4 and all(map(str.isprintable, texts)) and registry.is_ours("gensc")
