"""Tests of the code on which a row depends: the modules that a system imports, as parsed code."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.spec.source_code import code_digest, imported, measure_digest, measure_files, source_digest
from systems.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x = 1\n", "# a remark\nx   =   1\n\n", True),
        ('def f():\n    "What it does."\n    return 1\n', "def f():\n    return 1\n", True),
        ('class A:\n    """Doc."""\n', "class A:\n    pass\n", True),
        ("x = 'text'\n", 'x = "text"\n', True),
        ("x = 1\n", "x = 2\n", False),
        ("x = 'text'\n", "x = 'test'\n", False),
        ("def f(a, b): return a - b\n", "def f(b, a): return a - b\n", False),
        ("not python (\n", "not python [\n", False),
    ],
)
def test_a_remark_changes_nothing_and_code_does(one, other, same):
    assert (code_digest(one.encode()) == code_digest(other.encode())) is same


@pytest.mark.parametrize("text", ["-" * 100_000 + "1", "1" + "+1" * 5000, "a" + ".b" * 20_000])
def test_code_that_the_parser_cannot_hold_is_one_line(text):
    """Left out, it would hide what it imports from the identity of a system."""
    with pytest.raises(UserError, match="nested too deeply"):
        code_digest(text.encode())


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A third party's package with a chain of imports of every kind, and a module that nothing imports."""
    folder = tmp_path / "somebodys"
    (folder / "parts").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "model.py": "from . import near\nfrom somebodys.parts.deep import thing\nfrom baselines.linear import Linear\n",
        "near.py": "def late():\n    import somebodys.late\n",
        "late.py": "import importlib\nx = importlib.import_module('somebodys.dynamic')\n"
        "importlib.import_module('.inner', package='somebodys.parts')\n",
        "dynamic.py": "from importlib import import_module\nx = import_module('.relative', __package__)\n",
        "relative.py": "from importlib import import_module\nimport_module(name='somebodys.keyword')\n",
        "keyword.py": "__import__('somebodys', fromlist=['listed'])\n__import__(name='level', level=1, globals={})\n",
        "listed.py": "x = 1\n",
        "level.py": "x = 1\n",
        "parts/inner.py": "x = 1\n",
        "parts/__init__.py": "y = 1\n",
        "parts/deep.py": "TYPE_CHECKING = 1\nif TYPE_CHECKING:\n    import somebodys.checked\nthing = 1\n",
        "checked.py": "",
        "alone.py": "z = 1\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_imports_are_followed_and_nothing_else_counts(package):
    found = imported("somebodys.model", ("somebodys",))
    assert list(found) == [
        "somebodys", "somebodys.checked", "somebodys.dynamic", "somebodys.keyword", "somebodys.late", "somebodys.level",
        "somebodys.listed", "somebodys.model", "somebodys.near", "somebodys.parts", "somebodys.parts.deep",
        "somebodys.parts.inner", "somebodys.relative",
    ]  # fmt: skip
    before = source_digest("somebodys.model")
    (package / "alone.py").write_text("z = 2\n")
    (package / "new.py").write_text("z = 2\n")
    assert source_digest("somebodys.model") == before
    counted = ("dynamic", "relative", "parts/__init__", "parts/deep", "late", "__init__", "checked", "keyword",
               "listed", "level", "parts/inner")  # fmt: skip
    for name in (f"{one}.py" for one in counted):
        with (package / name).open("a") as file:
            file.write("more = 1\n")
        assert source_digest("somebodys.model") != before, name
        before = source_digest("somebodys.model")
    assert "somebodys.model" not in sys.modules  # the source was read without an import


@pytest.mark.parametrize(
    ("line", "starred"),
    [
        ("from starry import *", "starry"),
        ("from . import *", "starry"),
        ("from starry.inner import *", "starry.inner"),
        ("from .inner import *", "starry.inner"),
        ("def f():\n    return __import__('starry.inner', fromlist=['*'])\nf()", "starry.inner"),
    ],
)
def test_a_star_imports_what_the_package_lists(tmp_path, monkeypatch, line, starred):
    """`__all__` may be computed, so all modules of the package count."""
    for name in ("starry", "starry/inner", "starry/inner/deep"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("__all__ = ['co' + 're']\n")
        (tmp_path / name / "core.py").write_text("x = 1\n")
    (tmp_path / "starry" / "system.py").write_text(line)
    (tmp_path / "core.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = imported("starry.system", ("starry",))
    below = {
        name for name in ("starry.core", "starry.inner.core", "starry.inner.deep.core") if name.startswith(starred)
    }
    assert set(found) >= {"starry", "starry.system", *below}
    assert set(found).isdisjoint({"starry.core", "starry.inner.core"} - below)
    before = source_digest("starry.system")
    (tmp_path / "core.py").write_text("x = 2\n")
    assert source_digest("starry.system") == before
    (tmp_path / f"{starred.replace('.', '/')}/core.py").write_text("x = 2\n")
    assert source_digest("starry.system") != before and not any(name.startswith("starry") for name in sys.modules)
    importlib.import_module("starry.system")
    assert f"{starred}.core" in sys.modules  # Python did import it
    for name in [name for name in sys.modules if name.startswith("starry")]:
        del sys.modules[name]


def test_a_star_from_a_list_of_names_leads_to_all_of_them(tmp_path, monkeypatch):
    (tmp_path / "starlike.py").write_text("from systems import *\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {"starlike", "systems.interface"} <= set(imported("starlike", ("starlike", "systems")))


def test_systems_of_the_bench_depend_on_their_own_parts():
    ours = ("systems", "baselines")
    digital, gensc, linear = (
        set(imported(module, ours))
        for module in ("baselines.digital.system", "systems.gensc.system", "baselines.linear")
    )
    assert {"baselines.digital.nr", "baselines.digital.layered", "systems.interface"} <= digital
    assert not any(name.startswith("systems.gensc") for name in digital | linear)
    assert not any(name.startswith("baselines") for name in gensc)
    for found in (digital, gensc, linear):
        assert not found & {"systems.registry", "baselines.catalogue", "systems", "baselines"}


def test_the_measure_counts_and_the_rest_of_the_harness_does_not(tmp_path):
    """In a copy of the bench, an edit of the audit changes the digest; an edit of the sweep or
    of a comment does not.
    """
    for name in ("bench", "systems", "baselines"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    assert {"bench.measure.audit", "bench.measure.channel", "bench.measure.seeds"} <= measure_files().keys()

    def digest():
        code = "from bench.spec.source_code import measure_digest; print(measure_digest())"
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    first = digest()
    assert first == measure_digest()
    for name, text in (("measure/audit.py", "\n# a remark\n"), ("sweep/plan.py", "\nx = 1\n"), ("api.py", "\nx = 1\n")):
        with (tmp_path / "bench" / name).open("a") as file:
            file.write(text)
    assert digest() == first
    with (tmp_path / "bench" / "measure" / "audit.py").open("a") as file:
        file.write("\nx = 1\n")
    assert digest() != first
