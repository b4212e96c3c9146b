"""Tests that `bench new` makes a package that works: its own tests pass, and it is listed, trained and run."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness import bench_each

from bench.cli.new import new_command
from systems.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
#: The package's own tests, in the process of the commands, which imports torch once. Then the mark between two outputs.
OWN_TESTS = """
import pytest, sys
code = pytest.main(["-q", "-p", "no:cacheprovider"])
if code:
    sys.exit(f"its tests ended with {code!r}")
print("\\f", end="", flush=True)
"""


def _made(tmp_path, *extra) -> tuple[Path, dict]:
    """The made package, installed by its metadata alone, and the environment in which it is installed."""
    folder = tmp_path / "ours"
    done = CliRunner().invoke(new_command, ["our-own", "--out", str(folder), *extra], catch_exceptions=False)
    assert done.exit_code == 0 and "our-own" in done.output
    info = tmp_path / "site" / "our_own-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: our-own\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[semantic_bench.systems]\nour-own = our_own:OurOwn\n")
    paths = [str(folder), str(info.parent), str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return folder, env


@pytest.mark.parametrize("extra", [(), ("--learned",)], ids=["plain", "learned"])
def test_the_package_passes_its_own_tests_and_runs(tmp_path, extra):
    folder, env = _made(tmp_path, *extra)
    text = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert not any(word in text for word in ("my-system", "my_system", "MySystem"))
    commands, checkpoint = [("list", "systems")], ()
    if extra:
        commands.append(("train", "--systems", "our-own", "--config", "train.toml", "--out", "trained", "--device",
                         "cpu", "--threads", "1"))  # fmt: skip
        checkpoint = ("--checkpoint", "our-own=trained/our-own-small/our-own-small.safetensors")
    commands.append(("run", "--figure", "fig4", "--systems", "our-own,linear", "--snr", "0,20", "--limit", "1", "--out",
                     "first", "--engine", "serial", *checkpoint))  # fmt: skip
    tested, listed, *_ = bench_each(*commands, env=env, cwd=folder, before=OWN_TESTS)
    assert " passed" in tested and "our-own" in listed
    assert "our-own" in (folder / "first" / "summary.csv").read_text()


@pytest.mark.parametrize("name", ["Mine", "my system", "../up", "gensc", "a" * 61, "-x", "é"])
def test_a_bad_name_makes_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        CliRunner().invoke(new_command, ["--", name], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []
