"""No command imports a third party's system: it would run with the rights of the user, beside every other number."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from harness import call
from PIL import Image

import bench
from bench.analysis.compare import compare
from bench.cli import cli, completion
from bench.measure.apart.nursery_client import build_seconds
from bench.report.overheads import kept_flops
from bench.results.reader import Run
from systems import registry
from systems.errors import UserError

pytestmark = pytest.mark.usefixtures("forked_workers")

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = Path(__file__).resolve().parents[2] / "example_plugin"
MODULE = """
import pathlib, sys
from pooled_pixels import PooledPixels

if sys.argv[0] != "-c":  # as the nursery is started, from which every confined process is forked
    pathlib.Path(__file__).with_name("unconfined").touch()

class Outsider(PooledPixels):
    label, colour = "From elsewhere", "#123456"
    options = ("code_rate",)

    def __init__(self, name="outsider", code_rate=""):
        super().__init__(name)

    def describe(self):
        return {**super().describe(), "parameters": 7}  # so that its operations are counted
"""


@pytest.fixture
def outsider(tmp_path, monkeypatch):
    """An installed package with a system, and two pictures in the working directory."""
    info = tmp_path / "site" / "t_outsider-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: t-outsider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[semantic_bench.systems]\noutsider = t_outsider_module:Outsider\n")
    (tmp_path / "site" / "t_outsider_module.py").write_text(MODULE)
    for path in (EXAMPLE, tmp_path / "site"):
        monkeypatch.syspath_prepend(str(path))
    monkeypatch.chdir(tmp_path)
    for index in range(2):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        values = np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(values).resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / "pictures" / f"p{index}.png")
    importlib.invalidate_caches()
    registry.discover()
    yield "outsider"
    monkeypatch.undo()
    sys.modules.pop("t_outsider_module", None)
    registry.discover()


@pytest.mark.parametrize("hangs", ["when imported", "when built"])
def test_a_system_that_hangs_is_refused_soon_and_named(outsider, tmp_path, monkeypatch, hangs):
    """The other systems are listed, and nothing is written. The time limit is the user's."""
    where = "import time; time.sleep(600)\n" if hangs == "when imported" else ""
    slow = MODULE if where else MODULE.replace("super().__init__(name)", "__import__('time').sleep(600)")
    (tmp_path / "site" / "t_outsider_module.py").write_text(where + slow)
    monkeypatch.setenv("BENCH_BUILD_SECONDS", "1.5")
    run = ["run", "--systems", f"{outsider},linear", "--snr", "10", "--dataset", "folder:pictures", "--out", "new"]
    done = CliRunner().invoke(cli, run)
    what = "imported" if where else "built"
    for words in ("t_outsider_module:Outsider", f"is not {what} after 1.5 s", "BENCH_BUILD_SECONDS", "uninstall"):
        assert isinstance(done.exception, UserError) and words in str(done.exception), done.exception
    assert not (tmp_path / "new").exists()
    if where:
        shown = CliRunner().invoke(cli, ["list", "systems"])
        assert shown.exit_code == 0 and "linear" in shown.stdout and "after 1.5 s" in shown.stdout


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf", "1e999", "1_0 s"])
def test_a_time_limit_that_is_none_is_one_line(monkeypatch, text):
    monkeypatch.setenv("BENCH_BUILD_SECONDS", text)
    with pytest.raises(UserError, match="BENCH_BUILD_SECONDS is .*give seconds above 0"):
        build_seconds()
    monkeypatch.setenv("BENCH_BUILD_SECONDS", " 2.5 ")
    assert build_seconds() == 2.5
    monkeypatch.setenv("BENCH_BUILD_SECONDS", "")
    assert build_seconds() == 60


def test_no_command_imports_a_third_party_s_system(outsider, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # an earlier test has counted the same operations
    run = bench.run(["fig4"], [outsider, "linear"], "10", dataset="folder:pictures", cbr="1/6", out="run")
    assert set(run.samples["system"]) == {outsider, "linear"}
    for command in (
        ["list", "systems"], ["plot", "run"], ["report", "run"], ["compare", outsider, "linear", "--run", "run"],
        ["claims", "run"], ["runs"],
        ["probe", outsider, "--figure", "fig4", "--limit", "2"],
    ):  # fmt: skip
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 0, (command, done.output, done.exception)
        assert (
            command[0] != "list"
            or command[1] != "systems"
            or "outsider reconstruction" in " ".join(done.output.split())
        )
        assert command[0] != "probe" or "symbols zeroed" in done.output
    table = bench.evaluate(outsider, "pictures/p0.png", 10.0)
    assert table["status"].tolist() == ["ok"]
    assert "t_outsider_module" not in sys.modules and not Path("site/unconfined").exists()
    assert ("fig4", outsider) in kept_flops(Run.open("run"))
    # Its label and colour stand in the manifest, and from there in tables and figures.
    told = json.loads(Path("run/manifest.json").read_text())["systems"][outsider]
    assert (told["label"], told["colour"]) == ("From elsewhere", "#123456")
    assert "From elsewhere" in Path("run/report.html").read_text()


def test_no_library_runs_code_of_a_package_in_the_harness(outsider, tmp_path):
    """When torch is imported, it runs what packages name in the group torch.backends. So does numba when it compiles,
    with the group numba_extensions, and triton, which torch imports to count operations. The nursery, from which all
    systems' processes are forked, imports torch too.
    """
    (tmp_path / "site" / "t_runs.py").write_text("open('ran', 'w')\n")
    groups = (
        "torch.backends", "numba_extensions", "networkx.backend_info", "networkx.backends", "matplotlib.backend",
        "pydantic", "skimage_backends", "triton.backends", "fsspec.specs",
    )  # fmt: skip
    file = tmp_path / "site" / "t_outsider-1.0.dist-info" / "entry_points.txt"
    file.write_text(file.read_text() + "".join(f"[{group}]\ninit = t_runs{'' if 'triton' in group else ':run'}\n"
                                               for group in groups))  # fmt: skip
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "site"), str(EXAMPLE)])}
    env = {name: value for name, value in os.environ.items() if not name.startswith("TORCH_")} | path
    how = {"env": env, "cwd": tmp_path, "capture_output": True, "check": False}
    controls = ["import torch", "import numba; numba.njit(lambda x: x)(1)"]
    for control in [*controls, *(["import triton"] if importlib.util.find_spec("triton") else [])]:
        subprocess.run([sys.executable, "-c", control], **how)
        assert Path("ran").exists(), control
        Path("ran").unlink()
    run = ["run", "--systems", outsider, "--snr", "10", "--dataset", "folder:pictures", "--out", "new"]
    done = subprocess.run([sys.executable, "-m", "bench", *run], **how)
    assert done.returncode == 0 and not Path("ran").exists(), done.stderr
    compiles = "import numpy; from bench.measure.metrics.ssim import ssim_terms; ssim_terms(*numpy.zeros((2, 11, 11)))"
    done = subprocess.run([sys.executable, "-c", compiles], **how)
    assert done.returncode == 0 and not Path("ran").exists(), done.stderr


def test_the_tab_key_runs_no_code_of_a_package(outsider, tmp_path):
    (tmp_path / "site" / "t_tab.py").write_text("open('ran', 'w')\n")
    file = tmp_path / "site" / "t_outsider-1.0.dist-info" / "entry_points.txt"
    groups = ("channels", "datasets")
    file.write_text(file.read_text() + "".join(f"[semantic_bench.{group}]\nt-tab = t_tab:X\n" for group in groups))
    for complete, own in ((completion.complete_channels, "awgn"), (completion.complete_datasets, "kodak")):
        assert complete(None, None, "t-t") == ["t-tab"] and complete(None, None, own[:3])[0].startswith(own)
    assert completion.complete_systems(None, None, "outs") == [outsider]
    assert "t_tab" not in sys.modules and not Path("ran").exists()


def test_no_curve_holds_points_of_two_versions(outsider, tmp_path):
    """One may be for low SNRs and one for high ones. An unchanged system keeps its points."""
    path = tmp_path / "site" / "t_outsider_module.py"

    def points(snr):
        run = ["run", "--systems", outsider, "--snr", snr, "--dataset", "folder:pictures", "--out", "new"]
        done = CliRunner().invoke(cli, [*run, "--engine", "serial"], catch_exceptions=False)
        note = "outsider has changed since an earlier command of this run" in done.output
        return sorted({*Run.open(Path("new")).samples["snr_db"]}), note

    assert points("0") == ([0], False) and points("10") == ([0, 10], False)
    path.write_text(path.read_text().replace('"parameters": 7', '"parameters": 8'))
    assert points("20") == ([20], True)
    assert sorted(Run.open(Path("new")).lacking["snr_db"].unique()) == [0, 10]  # nothing is decided without them
    assert points("10") == ([10, 20], False) and sorted(Run.open(Path("new")).lacking["snr_db"].unique()) == [0]


def test_no_system_loses_its_failures_by_changing(outsider, tmp_path):
    """It says something else of itself in each command, so it counts as another version."""
    path = tmp_path / "site" / "t_outsider_module.py"
    fails = """
    def decode(self, received, link):
        if float(link.snr_db) < 5:
            raise RuntimeError("not today")
        return super().decode(received, link)

    def describe(self):
        return {**super().describe(), "config": __import__("time").time_ns()}
"""
    path.write_text(path.read_text() + fails)
    run = ["run", "--systems", f"{outsider},linear", "--dataset", "folder:pictures", "--out", "new"]
    for snr in ("0,10", "10,20"):
        CliRunner().invoke(cli, [*run, "--snr", snr, "--engine", "serial"], catch_exceptions=False)
    whole = compare("linear", outsider, run=Path("new"))
    (all_snrs,) = whole.loc[whole["snr_db"].isna(), "verdict"]
    assert all_snrs == "undecided" and np.isnan(whole["mean_b"].iloc[-1])
    done = CliRunner().invoke(cli, ["runs", "new", "--restore", "copy"])
    assert isinstance(done.exception, UserError) and not Path("copy").exists()


def test_third_parties_are_named_under_the_tables(outsider):
    run = ["run", "--systems", f"{outsider},linear", "--snr", "10", "--dataset", "folder:pictures", "--out", "new"]
    done = CliRunner().invoke(cli, [*run, "--engine", "serial"], catch_exceptions=False)
    assert "\n\nof third parties: outsider\n" in done.output
    done = CliRunner().invoke(cli, ["compare", outsider, "linear", "--run", "new"], catch_exceptions=False)
    assert done.output.endswith("\noutsider is a third party's system.\n")


def test_a_bound_of_a_third_party_s_is_refused_everywhere(outsider, monkeypatch):
    path = Path("site/t_outsider_module.py")
    path.write_text(path.read_text() + "\n    genie = True\n")
    with pytest.raises(RuntimeError, match="genie"):
        bench.run(["fig4"], [outsider], "10", dataset="folder:pictures", cbr="1/6", out="run")
    with pytest.raises(RuntimeError, match="genie"):
        bench.evaluate(outsider, "pictures/p0.png", 10.0)
    assert "t_outsider_module" not in sys.modules


@pytest.mark.parametrize("parameters", [float("inf"), float("nan"), "many", [1], None, -5, 1e300, 10**400])
def test_whatever_a_third_party_s_system_says_of_itself_is_no_traceback(parameters):
    from bench.spec.identity import _facts

    told = {"bits_per_use": None, "encoder_sees_snr": False, "genie": False}
    facts = _facts("x", {}, "x:X", "pooled_pixels", "v1", {"parameters": parameters}, True, told)
    assert facts.parameters == 0


def test_all_files_of_a_checkpoint_count(tmp_path):
    """The weights, their sidecar, and all of a folder: a third party's system can read them all."""
    from bench.spec.identity import Unchanged, _facts

    told = {"bits_per_use": None, "encoder_sees_snr": False, "genie": False}
    (tmp_path / "folder" / "below").mkdir(parents=True)
    words = [
        _facts("x", {"checkpoint": word}, "x:X", "pooled_pixels", "v1", {}, True, told).identity
        for word in ("none", "shipped", "some words")
    ]
    assert all(words.count(one) == 1 for one in words)
    changes = {"w.st": "w.st", "w.json": "w.st", "folder/a.bin": "folder", "folder/below/b.bin": "folder"}
    for file, checkpoint in changes.items():
        (tmp_path / file).write_text("1")

        def now(checkpoint=checkpoint):
            options = {"checkpoint": str(tmp_path / checkpoint)}
            return _facts("x", options, "x:X", "pooled_pixels", "v1", {"sha256": "as it says"}, True, told)

        before = now()
        held = Unchanged(before, "pooled_pixels")
        held.check()
        assert now().identity == before.identity
        (tmp_path / file).write_text("2")
        assert now().identity != before.identity
        with pytest.raises(UserError, match="the weights of x changed"):
            held.check()


def test_the_class_and_the_sidecar_count(tmp_path):
    """Two classes of one module are two systems. Of weights for a system of ours, the sidecar decides the SNRs that the
    network is told.
    """
    from bench.spec.identity import _facts

    told = {"bits_per_use": None, "encoder_sees_snr": False, "genie": False}
    one, other = (_facts("x", {}, f"x:{kind}", "pooled_pixels", "v1", {}, True, told).identity for kind in "AB")
    assert one != other
    (tmp_path / "w.st").write_text("1")
    options, found = {"checkpoint": str(tmp_path / "w.st")}, []
    for text in ("[0, 20]", "[0, 10]"):
        (tmp_path / "w.json").write_text(text)
        found.append(_facts("x", options, "x:X", "pooled_pixels", "v1", {"sha256": "1"}, False, told).identity)
    assert found[0] != found[1]


def test_what_a_system_prints_in_a_probe_is_marked_as_its_word(outsider, tmp_path):
    path = tmp_path / "site" / "t_outsider_module.py"
    claim = "\n    def decode(self, received, link):\n        print('  symbols zeroed  12.9')\n"
    path.write_text(path.read_text() + claim + "        return super().decode(received, link)\n")
    done = CliRunner().invoke(cli, ["probe", outsider, "--figure", "fig4", "--limit", "1"], catch_exceptions=False)
    lines = [line for line in done.output.splitlines() if "symbols zeroed" in line]
    assert len(lines) > 1 and sum(not line.startswith("outsider printed: ") for line in lines) == 1


@pytest.mark.parametrize(
    ("method", "change", "words"),
    [
        ("decode", "done.output = done.output * float('nan')", "values of the output are not finite"),
        ("decode", "done.output = done.output[..., 1:]", "it must be float"),
        ("decode", "done.output = done.output.to(__import__('torch').float8_e4m3fn)", ""),
        ("decode", "raise ValueError('broken')", "broken"),
        ("encode", "done.side_info_snr_db = -1e308; done.side_info = (done.symbols.abs() > 9).byte()", "audit"),
    ],
)
def test_a_system_that_fails_in_a_probe_is_one_line(outsider, tmp_path, capsys, method, change, words):
    path = tmp_path / "site" / "t_outsider_module.py"
    path.write_text(
        f"{path.read_text()}\n    def {method}(self, given, link):\n        done = super().{method}(given, link)\n"
        f"        {change}\n        return done\n"
    )
    code, _, err = call(capsys, "probe", outsider, "--figure", "fig4", "--limit", "1")
    assert code == 2 and words in err and len(err.splitlines()) == 1, err
    assert err.startswith("error: probe outsider: ") and "mend it" in err


@pytest.mark.parametrize("opens", [False, True])
def test_a_run_says_which_systems_are_not_sealed(outsider, tmp_path, opens):
    """Such a system reads a file while it encodes; the manifest lists it, and what confined the processes."""
    late = """
    opens_files = {opens}

    def encode(self, images, link):
        if self.opens_files:
            assert open(__file__).read()
        return super().encode(images, link)
"""
    (tmp_path / "site" / "t_outsider_module.py").write_text(MODULE + late.format(opens=opens))
    run = ["run", "--systems", outsider, "--snr", "10", "--dataset", "folder:pictures", "--out", "new"]
    done = CliRunner().invoke(cli, [*run, "--engine", "serial"], catch_exceptions=False)
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert done.exit_code == 0 and manifest["systems"][outsider]["opens_files"] is opens
    assert ("outsider opens files while it encodes or decodes" in done.output) == opens
    assert "seal" in manifest["sessions"][-1]["engine"]["confinement"] or sys.platform != "linux"
