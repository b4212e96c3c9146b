"""Tests of restored runs: they say what their tables say, and a command that adds to one computes what is new alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from harness import make_pictures, rows
from made_run import cell_of, figure, make_run, without_means

from bench.analysis.compare import compare
from bench.cli import cli
from bench.measure.audit import audit
from bench.measure.calls import Facts
from bench.measure.point import Conditions
from bench.results.csv_tables import read_rows
from bench.results.schema import CELL_COLUMNS, TABLES, names
from bench.results.store import RunStore
from bench.spec.request import Request, resolve
from bench.sweep.execute import execute
from bench.sweep.restore import restore
from bench.sweep.uses_ledger import RunLedger
from systems.errors import AuditError, UserError
from systems.interface import Transmission

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


def test_a_system_that_was_trained_anew_takes_the_place_of_the_old_one(tmp_path, monkeypatch):
    """A run has one variant of a system, so the old one has to leave. Its name keeps its place in the figures."""
    monkeypatch.chdir(tmp_path)
    make_pictures(Path("pictures"))
    Path("shown.toml").write_text(FIGURE)

    def ask(out, systems, **options):
        asked = resolve(Request(figures=("shown.toml",), systems=systems, options=options))
        return execute(asked, Path(out), engine="serial")

    source = Path("run")
    ask(source, ("deepjscc", "linear"))
    before = rows(source / "samples.csv")
    others = [row for row in before if row["system"] == "linear"]
    with pytest.raises(UserError, match="--restore FOLDER --without deepjscc"):
        ask(source, ("deepjscc",), checkpoint="none")
    assert restore(source, Path("left"), without=("deepjscc",)) == 4
    restore(Path("left"), Path("grown"))  # what is left is a whole run
    for copy in (Path("left"), Path("grown")):
        assert rows(copy / "samples.csv") == others != before
        assert {row["system"] for row in rows(copy / "summary.csv")} == {"linear"}
        assert not list(copy.rglob("deepjscc*.png")) and list(copy.rglob("linear*.png"))
    new = ask("grown", ("deepjscc",), checkpoint="none")
    assert (new.done, new.cached) == (4, 0)
    after = rows(Path("grown/samples.csv"))
    assert [row for row in after if row["system"] == "linear"] == others and len(after) == len(before)
    assert {row["variant"] for row in after if row["system"] == "deepjscc"} == {"small-untrained"}
    figures = json.loads(Path("grown/manifest.json").read_text())["config"]["figures"]
    assert figures[0]["systems"] == ["deepjscc", "linear"]


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
    found = store.read_cell(cell_of("fig7", "a", 4.0), images)
    assert [row[-1] for row in found] == ["0:1000:1250:1000;15:750:750:1000"] * len(images)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda run: (run.parent / "grown").mkdir(), "grown: it exists"),
        (lambda run: (run / "samples.csv").unlink(), "it holds no rows"),
        (lambda run: _change(run / "manifest.json", '"awgn"', '"rayleigh-fast"'), "no figure of its manifest"),
        (lambda run: _change(run / "samples.csv", ",awgn,", ",another,"), "no figure of its manifest"),
        (lambda run: _change(run / "samples.csv", "0.0625", "x"), "cbr_target is 'x'"),
        (lambda run: _change(run / "samples.csv", cell_of("fig4", "a", 4.0), "../../x"), "not 16 hex digits"),
        (lambda run: _change(run / "samples.csv", cell_of("fig4", "a", 4.0), "ABCDEF0123456789"), "not 16 hex digits"),
    ],
)
def test_what_cannot_be_restored_is_one_line_and_leaves_nothing(tmp_path, break_it, words):
    source = make_run(tmp_path / "run", [figure("fig4", ["a"], snrs=[4.0])], lambda *_: 30.0)
    break_it(source)
    _is_refused(source, words)


def test_only_a_system_of_the_run_can_be_left_out(tmp_path):
    source = make_run(tmp_path / "run", [figure("fig4", ["gensc"], snrs=[4.0])], lambda *_: 30.0)
    with pytest.raises(UserError, match="--without gnsc: did you mean gensc?"):
        restore(source, tmp_path / "grown", without=("gnsc",))
    with pytest.raises(UserError, match="--without gensc: the run has rows of no other system"):
        restore(source, tmp_path / "grown", without=("gensc",))
    done = CliRunner().invoke(cli, ["runs", str(source), "--without", "gensc"])
    assert done.exit_code == 2 and "--without needs --restore" in done.output
    assert not (tmp_path / "grown").exists()


@pytest.mark.parametrize(
    ("changes", "lacks", "words"),
    [
        ({}, True, "1 point of summary.csv without a mean (such as a at 4 dB)"),
        ({"cells": {"expected": 3, "done": 2}}, False, "asked for 3 cells, 2 are done, and its tables have 2"),
        ({"cells": {"expected": 3, "done": 3}}, False, "asked for 3 cells, 3 are done, and its tables have 2"),
        ({"cells": {"expected": None}, "salt": None}, False, "the run has not ended"),
        ({"cells": {"expected": 2, "done": 2}, "salt": None}, False, "the run has not ended"),
    ],
)
def test_a_run_that_lacks_cells_is_not_restored(tmp_path, changes, lacks, words):
    """Its copy would have forgotten them: the next command would give the point a mean over the pictures on which its
    system did not hang.
    """
    source = make_run(tmp_path / "run", [figure("fig4", ["a"], snrs=[4.0, 8.0])], lambda *_: 30.0)
    if lacks:
        without_means(source, [("a", 4.0)])
    manifest = json.loads((source / "manifest.json").read_text())
    RunStore(source).write_manifest(manifest | changes)
    _is_refused(source, words)


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_undecided_between_trainings_is_undecided_in_the_copy(tmp_path, packed):
    """`a` leads by 0.3 dB, and a training with another seed moves it by 0.4 dB."""
    lead = {"a": 0.3, "b": 0.0}

    def made(folder, systems, more=0.0):
        return make_run(folder, [figure("fig4", systems, snrs=[4.0])], lambda f, s, snr, i: 20 + i + lead[s] + more)

    source = made(tmp_path / "run", ["a", "b"])
    for seed in range(3):
        one = made(source / "seeds" / str(seed), ["a"], 0.4 * seed)
        if packed:
            CliRunner().invoke(cli, ["runs", str(one), "--compress"], catch_exceptions=False)
    restore(source, tmp_path / "grown")
    for folder in (source, tmp_path / "grown"):
        table = compare("a", "b", run=folder)
        assert table["training_spread"].to_numpy() == pytest.approx(0.4, abs=1e-6)
        assert list(table["verdict"]) == ["undecided"]


def test_a_run_whose_trainings_lack_cells_is_not_restored(tmp_path):
    source = make_run(tmp_path / "run", [figure("fig4", ["a"], snrs=[4.0, 8.0])], lambda *_: 30.0)
    seed = make_run(source / "seeds" / "1", [figure("fig4", ["a"], snrs=[4.0, 8.0])], lambda *_: 30.0)
    without_means(seed, [("a", 4.0)])
    _is_refused(source, "seeds/1: 1 point of summary.csv without a mean")


def test_a_copy_holds_a_third_party_to_the_uses_of_the_run(tmp_path):
    """Else its first picture in the copy could choose another number of uses: a curve of two budgets."""
    identity = {"name": "a", "source": "x"}
    facts = {name: {"plugin": name == "a", "identity": identity} for name in "ab"}
    shown = [figure("fig4", ["a", "b"], snrs=[4.0, 8.0])]
    restore(make_run(tmp_path / "run", shown, lambda *_: 30.0, systems=facts), tmp_path / "grown")
    link = Conditions("reconstruction", "set-fig4", "awgn", 1 / 16, None, "").link(224, 224, 12.0)
    system = Facts("a", "", None, False, False, False, False)

    def send(uses, snr_db):
        spent = audit(system, Transmission(torch.ones(1, uses, dtype=torch.complex64)), link)
        RunLedger(tmp_path / "grown", identity).check(system, link, spent, snr_db)

    send(9408, None), send(9408, 4.0)
    for snr_db in (None, 4.0):  # an encoder that is blind to the SNR, and one that sees it
        with pytest.raises(AuditError, match=r"another worker sent \[9408, 0, 0\]"):
            send(9407, snr_db)
    send(9407, 12.0)  # it sees the SNR, and was never measured at this one
    assert len(list((tmp_path / "grown" / ".uses").iterdir())) == 4


@pytest.mark.parametrize(
    ("key", "values"), [("uses", (500, 1000)), ("requirement", ("Reconstruct the image.", "Show the image."))]
)
def test_cells_come_back_with_what_no_table_tells_of_them(tmp_path, key, values):
    """Two figures share all columns of the tables but the SNR. Their cells differ in a value that no column holds, or
    none of an earlier version.
    """
    budget = {"cbr": None} if key == "uses" else {}
    figures = [
        figure(name, ["a"], snrs=[snr], dataset="set", **budget, **{key: value})
        for name, snr, value in zip(("one", "two"), (4.0, 8.0), values, strict=True)
    ]
    restore(_as_before(make_run(tmp_path / "run", figures, lambda *_: 30.0)), tmp_path / "grown")
    units = json.loads((tmp_path / "grown" / "plan.json").read_text())["tasks"]
    assert {unit["cells"][0][1]: unit[key] for unit in units} == dict(zip((4.0, 8.0), values, strict=True))

    store = RunStore(tmp_path / "grown")
    store.look()
    for unit in units:
        for row in store.read_cell(unit["cells"][0][0], tuple(unit["image_ids"])):
            assert row[CELL_COLUMNS.index("uses_target")] == ("" if unit["uses"] is None else f"{unit['uses']:g}")
    source = _as_before(make_run(tmp_path / "mixed", [figures[0], figures[1] | {"snr_db": [4.0]}], lambda *_: 30.0))
    _is_refused(source, "may be of several figures, which differ: one, two", "another")


@pytest.mark.parametrize("target", ["run/seeds/1", "run/copy"])
def test_a_copy_does_not_lie_in_its_run(tmp_path, target):
    """In `seeds` it would be a training of itself."""
    run = make_run(tmp_path / "run", [figure("fig4", ["a"], snrs=[4.0])], lambda *_: 30.0)
    with pytest.raises(UserError, match="it lies in the run itself; choose a folder outside of it"):
        restore(run, tmp_path / target)
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize(
    "place",
    ["manifest.json", "samples.csv", "pictures", "pictures/set-fig4/image-0/original.png", "seeds/1",
     "seeds/1/manifest.json", "seeds/1/summary.csv"],
)  # fmt: skip
def test_a_link_in_a_run_is_not_followed(tmp_path, place):
    """A run may be somebody else's, and the file behind a link one that the user would not pass on."""
    source = make_run(tmp_path / "run", [figure("fig4", ["a"], snrs=[4.0], pictures=[4.0])], lambda *_: 30.0)
    make_run(source / "seeds" / "1", [figure("fig4", ["a"], snrs=[4.0])], lambda *_: 30.0)
    (source / place).rename(tmp_path / "private")
    (source / place).symlink_to(tmp_path / "private")
    _is_refused(source, "it is a link, or no plain file")


def _as_before(run: Path) -> Path:
    """The run as earlier versions wrote it: without the column for a budget in uses."""
    for table in TABLES:
        if (run / f"{table}.csv").is_file():
            columns = tuple(name for name in names(TABLES[table]) if name != "uses_target")
            kept = [{name: row[name] for name in columns} for row in read_rows(run / f"{table}.csv")]
            RunStore(run).write_table(f"{table}.csv", columns, kept)
    return run


def _is_refused(source: Path, words: str, target: str = "grown") -> None:
    """In one line, and nothing is written."""
    folder = source.parent
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=re.escape(words)) as refused:
        restore(source, folder / target)
    assert "\n" not in str(refused.value) and sorted(folder.rglob("*")) == before


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
