"""Tests of the code on which a row depends: the modules that a system imports, as parsed code."""

from __future__ import annotations

import importlib
import os
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
        ("x = 1\ny = 2\n", "\n\nx = (\n    1\n)\ny = 2\n", True),
        ("not python (\n", "not python [\n", False),
        ("# coding: cp1252\n# x\n", "# coding: cp1252\n# y\n", False),  # a codec of its own may read remarks
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


HERE = "import unclear\nHERE = unclear.__path__[0]\n"
CODEC = """import codecs, encodings.utf_8
def decode(data, errors="strict"):
    return bytes(data).decode().replace("#!", ""), len(data)
codecs.unregister(encodings.search_function)
codecs.register(lambda name: codecs.CodecInfo(encodings.utf_8.encode, decode, name=name))
"""


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("# coding: plainer\n#!from .sub.gain import GAIN", "sub"),
        ("\n# coding: cp1252\n#!from .sub.gain import GAIN", "sub"),  # a package can register this one, too
        ("__package__ = 'unclear.sub'\nfrom .gain import GAIN", "sub"),
        ("def move():\n    global __package__\n    __package__ += '.sub'\nmove()\nfrom .gain import GAIN", "sub"),
        ("for __package__ in ['unclear.sub']:\n    from .gain import GAIN", "sub"),
        ("from .sub import WHERE as __package__\nfrom .gain import GAIN", "sub"),
        ("globals()['__package__'] = 'unclear.sub'\nfrom .gain import GAIN", "sub"),
        ("globals().update(__package__='unclear.sub')\nfrom .gain import GAIN", "sub"),
        ("import sys\nsys.modules[__name__].__package__ = 'unclear.sub'\nfrom .gain import GAIN", "sub"),
        ("import copy\n__spec__ = copy.copy(__spec__)\n__spec__.name = 'unclear.sub.x'\ndel __package__\n"
         "from .gain import GAIN", "sub"),
        ("exec('from .sub.gain import GAIN')", "sub"),
        ("GAIN = eval('__import__(\"unclear.sub.gain\").sub.gain.GAIN')", "sub"),
        ("import builtins as b\nb.exec('from .sub.gain import GAIN', globals())", "sub"),
        ("from builtins import exec as run\nrun('from .sub.gain import GAIN')", "sub"),
        ("__builtins__['exec']('from .sub.gain import GAIN', globals())", "sub"),
        ("__package__ = __spec__ = None\n__name__ = 'unclear.sub.x'\nfrom .gain import GAIN", "sub"),
        ("__name__ = 'unclear.sub'\nimport importlib\nGAIN = importlib.import_module('.gain', __name__).GAIN", "sub"),
        (HERE + "unclear.__path__.insert(0, HERE + '/sub')\nfrom .gain import GAIN", "sub"),
        (HERE + "unclear.__spec__.submodule_search_locations[:] = [HERE + '/v1.0']\nfrom .gain import GAIN", "v1.0"),
    ],
)  # fmt: skip
def test_where_imports_are_unclear_the_whole_package_counts(tmp_path, monkeypatch, text, folder):
    """Also files that no module's name leads to, and all of ours that such a module might import. Other packages do
    not count.
    """
    files = {"unclear/__init__.py": CODEC if "coding" in text else "", "unclear/system.py": text, "beside.py": "",
             f"unclear/{folder}/__init__.py": "WHERE = __name__\n", f"unclear/{folder}/gain.py": "GAIN = 1\n",
             "unclear/gain.py": "GAIN = 0\n"}  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)

    def gain():
        command = [sys.executable, "-B", "-c", "from unclear.system import GAIN; print(GAIN)"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    before = source_digest("unclear.system")
    assert gain() == "1\n"
    (tmp_path / "beside.py").write_text("x = 2\n")
    assert source_digest("unclear.system") == before
    (tmp_path / "unclear" / folder / "gain.py").write_text("GAIN = 2\n")
    assert source_digest("unclear.system") != before and gain() == "2\n"
    found = set(imported("unclear.system", ("unclear", "baselines")).values())
    assert {tmp_path / name for name in files if "/" in name} < found
    assert ROOT / "baselines" / "linear.py" in found and tmp_path / "beside.py" not in found


@pytest.mark.parametrize(
    "text",
    [
        b"# coding: utf-8",
        b"#!/usr/bin/python\n# -*- coding: UTF8 -*-",
        b"\xef\xbb\xbf# vim: set fileencoding=utf_8 :",
        b"x = 1\nencoding = 1\n# coding: latin-1",
        b"x = 1  # this is no coding: line",
        b"if __name__ == '__main__':\n    print(__name__, __package__)",
        b"def f(g):\n    f.__name__ = getattr(g, '__name__', g.__name__)",
        b"def f():\n    '__path__'",
        b"def f(net, re):\n    return net.eval(), re.compile('x')",
    ],
)
def test_a_module_that_only_reads_its_place_is_clear(tmp_path, monkeypatch, text):
    """A file of its package that it does not import changes nothing."""
    (tmp_path / "clear").mkdir()
    line = b"\nfrom importlib import import_module\nimport_module('.gain', __package__)\n"
    for name, data in (("__init__", b""), ("system", text + line), ("gain", b""), ("alone", b"")):
        (tmp_path / "clear" / f"{name}.py").write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path)
    before = source_digest("clear.system")
    assert list(imported("clear.system", ("clear", "systems"))) == ["clear", "clear.gain", "clear.system"]
    (tmp_path / "clear" / "alone.py").write_text("x = 2\n")
    assert source_digest("clear.system") == before
    (tmp_path / "clear" / "gain.py").write_text("x = 2\n")
    assert source_digest("clear.system") != before


@pytest.mark.parametrize("package", ["systems", "baselines", "bench/measure"])
def test_the_imports_of_our_own_modules_are_clear(package):
    """Else an edit of any of them would change the identity of all."""
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        assert not [name for name in imported(module, ("systems", "baselines", "bench.measure")) if "/" in name], module


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_a_file_whose_name_is_no_text_counts(tmp_path, monkeypatch):
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "__init__.py").write_text("from named import *\n")
    odd = tmp_path / "named" / os.fsdecode(b"\xff.py")
    odd.write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = source_digest("named")
    odd.write_text("x = 2\n")
    assert source_digest("named") != before


def test_layout_is_named_among_what_does_not_count():
    """Code can read the number of its own line, which no digest holds: the page of rules must say so."""
    one, other = (code_digest(lines + b"def f():\n    return f.__code__.co_firstlineno\n") for lines in (b"", b"\n\n"))
    assert one == other
    page = (ROOT / "bench" / "measure" / "README.md").read_text(encoding="utf-8")
    section = page.partition("- **What does not count as code or weights.**")[2].partition("\n- **")[0]
    assert "docstrings, comments and layout" in " ".join(section.split())


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
