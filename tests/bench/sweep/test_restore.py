"""Tests of restored runs: they say what their tables say, and a command that adds to one computes what is new alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness import make_pictures, rows
from made_run import figure, make_run

from bench.cli import cli
from bench.results.csv_tables import read_rows
from bench.results.store import RunStore
from bench.spec.request import Request, resolve
from bench.sweep.execute import execute
from bench.sweep.restore import restore
from systems.errors import UserError

pytestmark = pytest.mark.usefixtures("forked_workers")

FIGURE = """
id = "shown"
title = "Shown"
task = "reconstruction"
dataset = "folder:pictures"
systems = ["linear"]
cbr = "1/6"
snr_db = [4, 8]
pictures = { id = "gallery", snr_db = [8], limit = 2 }
"""


def committed(folder: Path) -> Path:
    """A run as one commits it: compressed tables, and neither cells nor the plan."""
    shutil.copytree("run", folder, ignore=shutil.ignore_patterns("cells", "plan.json", ".*"))
    done = CliRunner().invoke(cli, ["runs", str(folder), "--compress"], catch_exceptions=False)
    assert done.exit_code == 0 and (folder / "samples.csv.xz").is_file() and not (folder / "samples.csv").exists()
    return folder


def test_a_restored_run_grows_by_what_is_new_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_pictures(Path("pictures"))
    Path("shown.toml").write_text(FIGURE)

    def ask(out, systems=None):
        asked = resolve(Request(figures=("shown.toml",), systems=systems, reps=2))
        return execute(asked, Path(out), engine="serial")

    first = ask("run")
    assert first.done == 2 * 2 * 2  # SNRs, repetitions, and two blocks of pictures
    source = committed(Path("committed"))
    assert restore(source, Path("grown")) == first.done
    again = ask("grown")
    assert (again.done, again.cached) == (0, first.done)
    more = ask("grown", ("linear", "deepjscc"))
    assert (more.done, more.cached) == (first.done, first.done)
    kept = read_rows(source / "samples.csv")
    assert [row for row in rows(Path("grown/samples.csv")) if row["system"] == "linear"] == kept
    assert len(rows(Path("grown/samples.csv"))) == 2 * len(kept)
    listed = {row["file"] for row in rows(Path("run/pictures.csv"))}
    assert listed < {row["file"] for row in rows(Path("grown/pictures.csv"))}
    salts = [json.loads((Path(run) / "manifest.json").read_text())["salt"] for run in ("run", "grown")]
    assert salts[0] == salts[1] != ""


def test_outputs_that_were_not_committed_are_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_pictures(Path("pictures"))
    Path("shown.toml").write_text(FIGURE)
    asked = resolve(Request(figures=("shown.toml",)))
    execute(asked, Path("run"), engine="serial")
    shutil.rmtree("run/pictures")
    restore(committed(Path("committed")), Path("grown"))
    assert execute(asked, Path("grown"), engine="serial").done == 1  # the first block at 8 dB holds both pictures
    assert rows(Path("grown/pictures.csv")) == rows(Path("run/pictures.csv"))


def test_counts_of_segmentation_come_back(tmp_path):
    source = make_run(tmp_path / "run", [figure("fig7", ["a"], "segmentation", [4.0])], lambda *_: 0.75)
    assert restore(source, tmp_path / "grown") == 1
    store = RunStore(tmp_path / "grown")
    store.look()
    images = tuple(row["image_id"] for row in rows(source / "samples.csv"))
    found = store.read_cell("fig7-a-4", images)
    assert [row[-1] for row in found] == ["0:1000:1250:1000;15:750:750:1000"] * len(images)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda run: (run.parent / "grown").mkdir(), "grown: it exists"),
        (lambda run: (run / "samples.csv").unlink(), "it holds no rows"),
        (lambda run: _change(run / "manifest.json", '"awgn"', '"rayleigh-fast"'), "no figure of its manifest"),
        (lambda run: _change(run / "samples.csv", ",awgn,", ",another,"), "no figure of its manifest"),
        (lambda run: _change(run / "samples.csv", "0.0625", "x"), "cbr_target is 'x'"),
    ],
)
def test_what_cannot_be_restored_is_one_line_and_leaves_nothing(tmp_path, break_it, words):
    source = make_run(tmp_path / "run", [figure("fig4", ["a"], snrs=[4.0])], lambda *_: 30.0)
    break_it(source)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words):
        restore(source, tmp_path / "grown")
    assert sorted(tmp_path.rglob("*")) == before


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
