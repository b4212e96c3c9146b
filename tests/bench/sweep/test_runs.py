"""Tests of a run over time: it grows, keeps one salt, and never ends with exit code 0 while rows are missing."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from harness import bench, environment, rows, without_costs
from PIL import Image

from bench.analysis.compare import compare
from bench.analysis.compare_text import report
from bench.cli.runs import runs_command
from bench.measure.metrics.table import METRICS
from bench.report.figures import jobs_of
from bench.report.footnote import footnote_words
from bench.report.html.build import report_data
from bench.results.reader import Run
from bench.spec.request import Request, resolve
from bench.sweep import plan
from bench.sweep.dry_run import dry_run_text
from bench.sweep.execute import execute
from bench.sweep.plan import cell_id
from bench.sweep.restore import restore
from bench.sweep.salt import origin
from bench.util.files import is_formula
from systems import registry
from systems.errors import AuditError, UserError

pytestmark = pytest.mark.usefixtures("forked_workers")

LINEAR = ("linear",)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Ten small pictures in a working directory of their own."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "pictures", range(10))
    return tmp_path


def make(folder: Path, indices) -> None:
    folder.mkdir(exist_ok=True)
    for index in indices:
        coarse = np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"p{index:02d}.png")


def asked(systems=LINEAR, snr="4,8", **more):
    return resolve(Request(systems=systems, snr=snr, dataset="folder:pictures", cbr="1/6", **more))


def run(systems=LINEAR, snr="4,8", out=Path("run"), request=None, **how):
    return execute(asked(systems, snr, **(request or {})), out, **{"engine": "serial", **how})


def manifest(out="run"):
    return json.loads((Path(out) / "manifest.json").read_text())


# ---------------------------------------------------------------- growth


def test_more_points_systems_and_pictures_use_the_cells_that_are_there(photos):
    """The tables of the grown run equal those of a run that was started with everything."""
    assert run(snr="4,8", request={"limit": 8}).done == 2
    grown = run(snr="4,8,12", request={"limit": 8})
    assert (grown.done, grown.cached) == (1, 2)
    assert run(snr="4,8,12").cached == 3  # the first block of eight is the same; two more pictures make one more block
    two = run(("linear", "deepjscc"), snr="4")
    assert (two.done, two.cached) == (2, 2)
    salt = manifest()["salt"]
    once = run(("linear",), snr="4,8,12", out=Path("once"), salt=salt)
    run(("deepjscc",), snr="4", out=Path("once"))
    assert once.done == 6
    assert without_costs(Path("run/samples.csv")) == without_costs(Path("once/samples.csv"))
    strip = [[{k: v for k, v in row.items() if k != "run"} for row in rows(Path(out) / "summary.csv")]
             for out in ("run", "once")]  # fmt: skip
    for one, other in zip(*strip, strict=True):
        assert {k: v for k, v in one.items() if k != "limited"} == {k: v for k, v in other.items() if k != "limited"}
    figure = manifest()["config"]["figures"][0]
    assert (figure["systems"], figure["snr_db"]) == (["linear", "deepjscc"], [4, 8, 12])
    assert len(manifest()["sessions"]) == 4


def test_pictures_that_were_kept_stay_when_another_figure_has_the_same_cells(photos):
    """They stay in the table, and are made again if their files are gone."""
    figure = 'task="reconstruction"\ndataset="folder:pictures"\nsystems=["linear"]\ncbr="1/6"\nsnr_db=[4, 8]\n'
    for name, pictures in (("shown", '[pictures]\nid="gallery"\nsnr_db=[8]\nlimit=2\n'), ("plain", "")):
        Path(f"{name}.toml").write_text(f'id="{name}"\ntitle="{name}"\n{figure}{pictures}')
    asked = [resolve(Request(figures=(f"{name}.toml",))) for name in ("shown", "plain")]
    execute(asked[0], Path("run"), engine="serial")
    listed = rows(Path("run/pictures.csv"))
    assert [row["figure"] for row in listed if row["kind"] == "output"] == ["gallery"] * 2
    assert execute(asked[1], Path("run"), engine="serial").done == 0 and rows(Path("run/pictures.csv")) == listed
    (Path("run") / listed[-1]["file"]).unlink()
    assert execute(asked[1], Path("run"), engine="serial").done == 1 and rows(Path("run/pictures.csv")) == listed
    assert (Path("run") / listed[-1]["file"]).is_file()


def test_pictures_that_were_kept_are_made_again_by_a_system_whose_code_changed(photos, monkeypatch):
    """Its cells have other ids then, and stand for the same points."""
    figure = 'task="reconstruction"\ndataset="folder:pictures"\nsystems=["linear"]\ncbr="1/6"\nsnr_db=[4, 8]\n'
    for name, pictures in (("shown", '[pictures]\nid="gallery"\nsnr_db=[8]\nlimit=2\n'), ("plain", "")):
        Path(f"{name}.toml").write_text(f'id="{name}"\ntitle="{name}"\n{figure}{pictures}')
    asked = [resolve(Request(figures=(f"{name}.toml",))) for name in ("shown", "plain")]
    execute(asked[0], Path("run"), engine="serial")
    listed = [{**row, "file": ""} for row in rows(Path("run/pictures.csv"))]
    monkeypatch.setattr(plan, "cell_id", lambda *args: cell_id(*args)[::-1])
    assert execute(asked[1], Path("run"), engine="serial").done == 4
    again = rows(Path("run/pictures.csv"))
    assert [{**row, "file": ""} for row in again] == listed and len([row for row in again if row["snr_db"]]) == 2
    assert all((Path("run") / row["file"]).is_file() for row in again)


def test_a_smaller_request_leaves_the_rest_in_the_tables(photos):
    run(snr="4,8,12")
    before = without_costs(Path("run/samples.csv"))
    again = run(snr="8")
    assert (again.done, again.cached) == (0, 2) and without_costs(Path("run/samples.csv")) == before


def test_what_does_not_fit_is_refused_and_touches_nothing(photos):
    run(("linear", "deepjscc"), snr="4")
    files = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    for request, words in (
        ({"seed": 1}, "seed"),
        ({"channel": "rayleigh-block"}, "channel"),
        ({"options": {"checkpoint": "none"}}, "deepjscc was run there as"),
        ({"limit": 4}, "p04 among them"),
    ):
        with pytest.raises(UserError, match=words):
            run(("linear", "deepjscc"), snr="4", request=request)
    with pytest.raises(UserError, match="another salt"):
        run(("linear", "deepjscc"), snr="8", salt="0123456789abcdef")
    Image.new("RGB", (32, 32)).save("pictures/p03.png")
    with pytest.raises(UserError, match="picture p03 .* is a different file"):
        run(snr="4")
    assert files == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}


FIRST = {"id": '"a"', "task": '"reconstruction"', "dataset": '"folder:pictures"', "systems": '["linear"]',
         "snr_db": "[8]", "uses": 100}  # fmt: skip


def sweep(keys):
    Path("figure.toml").write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
    return execute(resolve(Request(figures=("figure.toml",))), Path("run"), engine="serial")


@pytest.mark.parametrize(
    ("later", "words"),
    [
        ({"uses": 200}, "figure a has uses 100 there, here it is 200"),
        ({"id": '"b"', "requirement": '"send me the picture"'}, "figures a and b differ in their requirement"),
        (
            {"id": '"b"', "requirement": '"show me the photo"', "systems": '["deepjscc"]', "snr_db": "[4]"},
            "in their requirement",
        ),
    ],
)
def test_a_run_does_not_grow_by_rows_that_no_column_tells_apart(photos, later, words):
    """There is no column for the requirement, so systems that were asked for different things would be compared."""
    sweep(FIRST)
    files = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=words):
        sweep(FIRST | later)
    assert files == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("first", "later", "words"),
    [
        ({}, {"id": '"a-lpips"'}, "figure a and figure a-lpips would both be drawn into the file a-lpips"),
        ({}, {"uses": None, "cbr": '["1/6", "1/3"]'}, "two figures have the id 'a'"),
        (
            {"uses": None, "cbr": '["1/6", "1/3"]'},
            {"uses": None, "cbr": '["1/5", "1/2"]', "channel": '"rayleigh-block"'},
            "figure a has channel awgn and rayleigh-block",
        ),
    ],
)
def test_a_run_does_not_grow_by_figures_that_cannot_be_drawn_with_its_own(photos, first, later, words):
    """Else a file from somebody else, added to a run, would make `plot` refuse the whole run."""
    first, later = (
        {key: value for key, value in (FIRST | keys).items() if value is not None} for keys in (first, first | later)
    )
    sweep(first)
    files = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=words):
        sweep(later)
    assert files == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}


def test_two_figures_with_nearly_one_cbr_are_refused(photos):
    """Tables round a budget, so one figure's rows would count as the other's, with another requirement even."""
    near = {**FIRST, "uses": None, "cbr": '"1/6"'}, {**FIRST, "id": '"b"', "uses": None, "cbr": repr(1 / 6 + 1e-12)}
    first, later = ({key: value for key, value in keys.items() if value is not None} for keys in near)
    sweep(first)
    with pytest.raises(UserError, match="figures a and b have nearly one CBR"):
        sweep(later)
    sweep(later | {"cbr": '"1/5"'})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Find which pixels belong to which object.", "asks for segmentation, not for reconstruction"),
        ("zzz qqq", "fits no task (similarity: reconstruction"),
    ],
)
def test_a_figure_s_requirement_asks_for_its_task(photos, words, said):
    """Else every cell of GenSC fails. `--requirement` refuses such a sentence too."""
    with pytest.raises(UserError, match=rf"^figure a: requirement {words!r} {re.escape(said)}"):
        sweep(FIRST | {"requirement": f'"{words}"'})
    assert not Path("run").exists()


def test_a_requirement_of_one_s_own_is_told_wherever_a_run_is_described(photos):
    words = "Send me the photo so that it looks like the original."
    sweep(FIRST | {"requirement": f'"{words}"'})
    resolved = resolve(Request(figures=("figure.toml",)))
    assert f"requirement {words!r} asks for reconstruction" in resolved.notes  # `run` prints them
    assert f"asked for by {words!r}" in dry_run_text(resolved, Path("run"))
    assert f"asked    {words!r}" in CliRunner().invoke(runs_command, ["run", "--long"]).output
    (drawn,) = report_data([Run.open("run")], 0)["figures"]
    assert drawn["asked"] == words
    job, _ = jobs_of(Run.open("run"))["a"]
    assert f"asked for by {words!r}" in footnote_words(job, job.figure, None, None)


def test_budgets_in_uses_are_points_of_their_own(photos):
    """Each figure has the rows of its own budget, in all tables, and systems with different ones are never compared."""
    sweep(FIRST)
    sweep(FIRST | {"id": '"b"', "uses": 200, "systems": '["linear", "deepjscc"]'})
    grown = Run.open("run")
    for figure, uses in zip(grown.figures, (100, 200), strict=True):
        for table in (grown.summary_of(figure), grown.samples_of(figure)):
            assert set(table["uses_target"]) == {uses} and set(table["system"]) == set(figure["systems"])
        assert set(grown.samples_of(figure)["n_uses"]) == {uses}
    assert set(compare("linear", "deepjscc", run="run")["uses_target"]) == {200}
    assert "200 uses" in report(compare("linear", "deepjscc", run="run"))


def test_points_from_before_a_data_set_grew_have_no_mean(photos):
    """A system that was measured while only easy pictures were there has a mean, and a verdict, when it has all."""
    run(("linear",), request={"limit": 4})
    said = []
    run(("deepjscc",), snr="4", say=said.append)
    assert any("never computed (2 of linear), so their points have no mean" in line for line in said)
    means = {(row["system"], row["snr_db"]): row["mean"] for row in rows(Path("run/summary.csv"))
             if row["metric"] == "psnr_db"}  # fmt: skip
    assert not means["linear", "4.0"] and not means["linear", "8.0"] and means["deepjscc", "4.0"]
    assert set(compare("linear", "deepjscc", run="run")["verdict"]) == {"undecided"}
    with pytest.raises(UserError, match="2 points of summary.csv without a mean"):
        restore(Path("run"), Path("copy"))
    again = run(("linear",), snr="8")  # one of the two points
    assert (again.done, again.cached) == (2, 0)  # the first block has eight pictures now
    means = {row["snr_db"]: row["mean"] for row in rows(Path("run/summary.csv"))
             if (row["system"], row["metric"]) == ("linear", "psnr_db")}  # fmt: skip
    assert not means["4.0"] and means["8.0"]
    run(("linear",))
    assert len(rows(Path("run/samples.csv"))) == 30
    assert set(compare("linear", "deepjscc", run="run")["n_images"]) == {10}


def test_the_folder_of_a_command_is_that_of_its_figures(photos):
    base = asked().default_folder
    for grown in (asked(snr="12"), asked(("linear", "deepjscc")), asked(reps=2)):
        assert grown.default_folder == base
    others = [
        asked(seed=1),
        asked(limit=3),
        asked(channel="rayleigh-block"),
        asked(("deepjscc",), options={"size": "small"}),
    ]
    assert len({base, *(other.default_folder for other in others)}) == 5


# ---------------------------------------------------------------- salt


def test_the_salt_is_secret_until_the_end_and_replays_the_run(photos, monkeypatch):
    from bench.sweep import execute as module

    seen = []
    whole = module.write_tables

    def before_the_end(*arguments):
        seen.append((manifest()["salt"], manifest()["end"]))
        return whole(*arguments)

    monkeypatch.setattr(module, "write_tables", before_the_end)
    run()
    first = manifest()
    assert seen == [(None, None)] and len(first["salt"]) == 32 and first["end"]
    assert first["sessions"][0]["salt"] == "drawn"
    assert stat.S_IMODE(os.stat("run/.salt").st_mode) == 0o600
    assert Path("run/.salt").read_text().strip() == first["salt"]
    run(out=Path("other"))
    assert manifest("other")["salt"] != first["salt"]
    run(out=Path("replay"), salt=first["salt"])
    table = without_costs(Path("run/samples.csv"))
    assert table == without_costs(Path("replay/samples.csv")) != without_costs(Path("other/samples.csv"))
    assert {row["cell_id"] for row in table} == {row["cell_id"] for row in rows(Path("other/samples.csv"))}
    for bad in ("", "xyz", "0123", "0" * 200, "0123456789ABCDEF"):
        with pytest.raises(UserError, match="--salt"):
            run(out=Path("bad"), salt=bad)
    assert not Path("bad").exists()


def test_a_run_that_was_interrupted_goes_on_with_its_salt(photos):
    run(snr="4", salt="0123456789abcdef")
    told = manifest()
    told.update(salt=None, end=None)
    Path("run/manifest.json").write_text(json.dumps(told))
    run(snr="4,8")
    assert manifest()["salt"] == "0123456789abcdef"
    assert [session["salt"] for session in manifest()["sessions"]] == ["given", "given"]


def test_no_file_of_a_run_tells_a_seed(photos):
    """Others may read them before the run ends, and compute the noise of a cell that is still to come from its seed."""
    from bench.measure.seeds import NOISE_ID, draw_seed

    run()
    salt, told = manifest()["salt"], rows(Path("run/samples.csv"))
    files = [file for file in Path("run").rglob("*") if file.is_file() and file.name not in (".salt", "manifest.json")]
    texts = {file: file.read_bytes() for file in files}
    assert told and any(file.parent.name == "cells" for file in files)
    for row in told:
        names = (0, row["dataset"], row["image_id"], row["channel"], float(row["snr_db"]), int(row["rep"]))
        assert row["noise_id"] == str(draw_seed(*names, NOISE_ID, salt)), "it names the draw nevertheless"
        for stream in ("channel", "encoder", "decoder", "alone"):
            seed = draw_seed(*names, stream, salt)
            for text in texts.values():
                assert str(seed).encode() not in text and f"{seed:x}".encode() not in text and salt.encode() not in text


def test_a_salt_is_published_only_when_no_cell_is_to_come(photos, monkeypatch):
    """`--collect` writes tables while a run goes on, or where one was interrupted: with the salt in its manifest, the
    cells that follow would meet known noise.
    """
    from bench.results.store import RunStore

    run(snr="4")
    told = manifest()
    told.update(salt=None, end=None)
    Path("run/manifest.json").write_text(json.dumps(told))
    run(snr="4,8", collect=True)
    assert manifest()["salt"] is manifest()["end"] is None
    assert [session["salt"] for session in manifest()["sessions"]] == ["drawn", "kept"]
    other = RunStore(Path("run"))
    with other.locked():  # another process computes
        before = Path("run/manifest.json").read_bytes()
        run(snr="4", collect=True)
        assert Path("run/manifest.json").read_bytes() == before, "it is that of the run that goes on"
    Path("run/cells").rename("cells")
    run(("deepjscc",), snr="8")  # cells of the command before are still to come
    assert manifest()["salt"] is manifest()["end"] is None
    run(snr="4,8")
    assert manifest()["salt"] == Path("run/.salt").read_text().strip() and manifest()["end"]


def test_a_blind_encoder_is_told_no_snr_in_the_whole_run(photos, monkeypatch):
    """Also where the plan tries it, before any cell."""
    from baselines.linear import Linear

    told, whole = [], Linear.encode

    def encode(self, images, link):
        told.append(link.snr_db)
        return whole(self, images, link)

    monkeypatch.setattr(Linear, "encode", encode)
    assert not Linear.encoder_sees_snr
    run()
    assert len(told) > 1 and np.isnan(told).all()


@pytest.mark.parametrize(
    ("sessions", "salt", "given", "told"),
    [
        (None, None, None, "drawn"),
        (None, None, "none", "given"),
        (["drawn"], None, None, "kept"),
        (["drawn", "kept"], None, None, "kept"),
        (["drawn"], "ab" * 16, None, "published"),
        (["given"], "", None, "published"),  # --salt none: everybody knows the noise
        (["drawn", "published"], None, None, "published"),  # it grew after its end, and was interrupted
        (["given"], None, None, "given"),
        (["drawn"], None, "ab" * 16, "given"),
    ],
)
def test_a_salt_that_was_known_once_is_never_called_a_secret(sessions, salt, given, told):
    before = None if sessions is None else {"salt": salt, "sessions": [{"salt": one} for one in sessions]}
    assert origin(before, given) == told


def test_a_worker_that_travels_in_a_file_has_no_salt(photos):
    import pickle

    from bench.sweep.plan import make_plan
    from bench.sweep.worker import Worker

    run(salt="0123456789abcdef")
    plan = make_plan(asked())
    work = Worker(Path("run"), plan.systems, plan.datasets, salt="0123456789abcdef")
    data = pickle.dumps(work)
    assert b"0123456789abcdef" not in data
    assert pickle.loads(data)._conditions(plan.units[0]).salt == "0123456789abcdef"


@pytest.mark.parametrize("content", [b"", b"\n", b"abc", b"ab" * 16 + b" x", b"\xff" * 32, b"0" * 5000])
def test_a_salt_that_is_damaged_is_never_taken_for_another(photos, content):
    """Neither for none, as an empty file would be: the cells would mix two."""
    run(snr="4", salt="0123456789abcdef")
    told = manifest()
    Path("run/.salt").write_bytes(content)
    run(snr="4,8")  # the run has ended, and its manifest tells the salt
    assert manifest()["salt"] == Path("run/.salt").read_text().strip() == "0123456789abcdef"
    assert stat.S_IMODE(os.stat("run/.salt").st_mode) == 0o600
    Path("run/.salt").write_bytes(content)
    Path("run/manifest.json").write_text(json.dumps(told | {"salt": None, "end": None}))
    before = without_costs(Path("run/samples.csv"))
    with pytest.raises(UserError, match=r"\.salt: cannot read the run's salt .*choose another --out"):
        run(snr="4,8")
    assert without_costs(Path("run/samples.csv")) == before


def test_a_run_never_mixes_two_salts(photos):
    """The file holds another salt. No cell of the larger command is there yet, so only earlier cells can tell."""
    run(snr="4", salt="0123456789abcdef")
    Path("run/.salt").write_text("fedcba9876543210\n")
    with pytest.raises(UserError, match="this salt differs from the published salt in the run's manifest; delete"):
        run(snr="8")
    Path("run/manifest.json").write_text(json.dumps(manifest() | {"salt": None, "end": None}))
    with pytest.raises(UserError, match="made with another salt"):
        run(snr="8")
    Path("run/.salt").write_text("0123456789abcdef\n")
    assert run(snr="8").exit_code == 0 and manifest()["salt"] == "0123456789abcdef"


@pytest.mark.parametrize("how", ["gone", "pipe", "folder"])
def test_a_salt_that_is_gone_stops_a_run_that_has_not_ended(photos, how):
    run(snr="4")
    Path("run/manifest.json").write_text(json.dumps(manifest() | {"salt": None, "end": None}))
    Path("run/.salt").unlink()
    if how == "pipe":
        os.mkfifo("run/.salt")
    elif how == "folder":
        Path("run/.salt").mkdir()
    with pytest.raises(UserError, match="cannot read the run.s salt|salt is a folder"):
        run(snr="4,8")


def test_a_salt_that_is_not_that_of_the_cells_is_refused(photos):
    run(snr="4", salt="0123456789abcdef")
    Path("run/manifest.json").write_text(json.dumps(manifest() | {"salt": None, "end": None}))  # as if it went on
    Path("run/.salt").write_text("fedcba9876543210\n")
    with pytest.raises(UserError, match="made with another salt"):
        run(snr="4,8")


def test_a_salt_is_there_whole_or_not_at_all(photos, monkeypatch):
    """A kill between making the file and filling it would leave an empty one."""

    def killed(*_):
        assert not os.path.lexists("run/.salt")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            run(snr="4")
    assert run(snr="4").done == 2


# ---------------------------------------------------------------- what earlier commands left


def test_rows_of_earlier_commands_that_are_lost_are_failures(photos):
    """Although the command at hand has all of its own."""
    run(snr="4")
    run(snr="8")
    lost = next(row["cell_id"] for row in rows(Path("run/samples.csv")) if row["snr_db"] == "4.0")
    Path(f"run/cells/{lost}.csv").unlink()
    result = run(snr="12")
    assert result.exit_code == 1 and list(result.failures) == [lost]
    assert "linear: its rows are not in the run's folder" in result.failure_lines()[0]
    assert [row["cell_id"] for row in rows(Path("run/failures.csv"))] == [lost]
    assert manifest()["cells"] == {"expected": 6, "done": 5, "failed": 1}  # of all three commands
    assert run(snr="4").exit_code == 0 and rows(Path("run/failures.csv")) == []


def test_an_earlier_command_that_was_cut_short_is_told(photos, monkeypatch):
    from bench.sweep.worker import work

    whole = work.write_cell

    def cut(root, task, cell, *rest):
        if cell.snr_db == 8:
            raise KeyboardInterrupt
        whole(root, task, cell, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(work, "write_cell", cut)
        assert run(snr="4,8").exit_code == 130
    said = []
    result = run(snr="12", say=said.append)
    assert result.exit_code == 0 and any("never computed (3 of linear)" in line for line in said), said
    assert manifest()["cells"] == {"expected": 6, "done": 3, "failed": 0}


def test_a_point_that_is_not_complete_has_no_mean(photos, monkeypatch):
    """A system could hang on its hardest pictures until the user stops the run: the mean would be over the others."""
    from bench.sweep.worker import work

    whole = work.write_cell

    def cut(root, unit, cell, *rest):
        if unit.image_ids == ("p08", "p09"):
            raise KeyboardInterrupt
        whole(root, unit, cell, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(work, "write_cell", cut)
        assert run(snr="4,8").exit_code == 130
    assert rows(Path("run/samples.csv")) and rows(Path("run/failures.csv")) == []
    assert {row["mean"] for row in rows(Path("run/summary.csv"))} == {""}
    assert len({row["image_id"] for row in rows(Path("run/samples.csv"))}) == 8
    assert run(snr="4,8").exit_code == 0
    assert all(row["mean"] for row in rows(Path("run/summary.csv")) if row["metric"] == "psnr_db")


def test_an_error_is_no_formula_in_the_table_of_failures(photos, monkeypatch):
    from bench.sweep.worker import Worker

    def fails(*_):
        raise AuditError("system gensc: no luck;=1+1")

    monkeypatch.setattr(Worker, "_compute", fails)
    assert run(snr="4").exit_code == 1
    errors = [row["error"] for row in rows(Path("run/failures.csv"))]
    assert errors and all("no luck,=1+1" in one and not is_formula(one) for one in errors)


def test_failures_of_earlier_commands_stay_in_the_table(photos, monkeypatch):
    from bench.sweep.worker import Worker

    whole = Worker._compute

    def fails(self, system, task, group, *rest):
        if group[0].snr_db == 4:
            raise RuntimeError("no luck")
        return whole(self, system, task, group, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "_compute", fails)
        assert run(snr="4").exit_code == 1
    assert run(snr="8").exit_code == 0
    assert {row["error"] for row in rows(Path("run/failures.csv"))} == {"RuntimeError: no luck"}


DAMAGES = [
    lambda text: text[:50],
    lambda text: "[]",
    lambda text: "null",
    lambda text: '{"tasks": [1]}',
    lambda text: text.replace("4.0", "NaN"),
    lambda text: text.replace("4.0", '"4"'),
    lambda text: text.replace("4.0", "1e999"),
    lambda text: text.replace('"linear"', "5"),
    lambda text: text.replace('"linear"', '["linear"]'),
    lambda text: text.replace('"reconstruction"', '"juggling"'),
    lambda text: text.replace('"image_ids":[', '"image_ids":[7,'),
    lambda text: text.replace('"cbr":', '"cbr":"x","other":'),
    lambda text: text.replace('"cells":', '"cells":null,"other":'),
    lambda text: "[" * 100_000,
    lambda text: "\ufeff\0",
    lambda text: re.sub(r'\[\["[0-9a-f]{16}"', '[["../../elsewhere"', text),
    lambda text: re.sub(r'\[\["[0-9a-f]{16}"', '[["\\\\ud800"', text),
    lambda text: re.sub(r'\[\["[0-9a-f]{15}', '[["0123456789abcde', text),  # rows of this cell would be lost
    lambda text: text.replace('"linear"', '"\\ud800"'),
    lambda text: text.replace('"image_ids":["', '"image_ids":["x'),
    lambda text: text.replace("4.0", "5.0"),
]


def test_a_plan_that_is_damaged_is_one_line_and_its_advice_holds(photos):
    run(snr="4")
    run(snr="8")
    path = Path("run/plan.json")
    whole = path.read_text()
    for number, damage in enumerate(DAMAGES):
        path.write_text(damage(whole))
        assert path.read_text() != whole, number
        with pytest.raises(UserError, match=r"plan\.json: .*delete it: .*one command must name all") as caught:
            run(snr="12")
        assert "\n" not in str(caught.value), number
    path.unlink()
    with pytest.raises(UserError, match=r"no plan\.json.*one command must name all"):
        run(snr="12")
    again = run(snr="4,8")
    assert (again.done, again.cached, again.exit_code) == (0, 4, 0)
    assert run(snr="12").exit_code == 0 and len(rows(Path("run/samples.csv"))) == 30


def test_one_set_that_is_opened_in_two_ways_is_measured_once(photos):
    """By a link of the same last name: each picture has one row, and the mean is over pictures, not over names."""
    (photos / "other").mkdir()
    os.symlink(photos / "pictures", photos / "other/pictures")
    for name, folder in (("one", photos / "pictures"), ("two", photos / "other/pictures")):
        Path(f"{name}.toml").write_text(
            f'id = "{name}"\ntask = "reconstruction"\ndataset = "folder:{folder}"\nsystems = ["linear"]\n'
            'snr_db = [4]\ncbr = "1/6"\n'
        )
    result = execute(resolve(Request(figures=("one.toml", "two.toml"))), Path("run"), engine="serial")
    assert (result.expected, result.done) == (2, 2)
    table = rows(Path("run/samples.csv"))
    assert len(table) == 10 and {row["dataset"] for row in table} == {"folder:pictures"}
    assert {row["n_images"] for row in rows(Path("run/summary.csv")) if row["metric"] == "psnr_db"} == {"10"}


# ---------------------------------------------------------------- missing rows


@pytest.mark.parametrize("error", [SystemExit(0), ZeroDivisionError("a fault")], ids=repr)
def test_a_metric_that_ends_python_is_a_failure(photos, monkeypatch, error):
    """A package's metric runs in the harness. `sys.exit(0)` in it must not end the command with code 0 and no rows."""

    def ends(pair):
        raise error

    known = dict(METRICS._all())
    monkeypatch.setattr(METRICS, "_found", known | {"ms_ssim": replace(known["ms_ssim"], of_picture=ends)})
    result = run(snr="4")
    assert result.exit_code == 1 and {type(error).__name__} == {
        outcome.error.partition(":")[0] for outcome in result.failures.values()
    }
    assert rows(Path("run/failures.csv")) and not rows(Path("run/samples.csv"))


def test_cells_that_vanish_while_a_run_goes_on_are_failures(photos, monkeypatch):
    from bench.sweep import execute as module

    whole = module.missing
    calls = []

    def loses(plan, store):
        calls.append(None)
        if len(calls) == 2:  # the check at the end of the run
            next(Path("run/cells").glob("[!.]*.csv")).unlink()
        return whole(plan, store)

    with monkeypatch.context() as patch:
        patch.setattr(module, "missing", loses)
        result = run()
    assert result.exit_code == 1 and len(result.failures) == 1 and "deleted" in result.failure_lines()[0]
    assert len(rows(Path("run/failures.csv"))) == 1
    assert run().done == 1


def test_a_folder_that_vanishes_while_a_run_goes_on_is_a_failure(photos, monkeypatch):
    import shutil

    from bench.results.store import RunStore

    whole = RunStore.write_cell
    written = []

    def write(self, *arguments):
        whole(self, *arguments)
        written.append(None)
        if len(written) == 2:
            shutil.rmtree("run")

    monkeypatch.setattr(RunStore, "write_cell", write)
    result = run()
    assert result.exit_code == 1 and len(result.failures) == 2


def test_cells_that_cannot_be_read_back_are_failures(photos, monkeypatch):
    from bench.results.store import RunStore

    whole = RunStore.read_cell
    lost = []

    def reads(self, cell_id, image_ids):
        if lost and cell_id == lost[0]:
            return None
        return whole(self, cell_id, image_ids)

    run()
    lost.append(rows(Path("run/samples.csv"))[0]["cell_id"])
    monkeypatch.setattr(RunStore, "has_cell", lambda self, cell_id, images: True)
    monkeypatch.setattr(RunStore, "read_cell", reads)
    result = run()
    assert result.exit_code == 1 and list(result.failures) == lost
    assert [row["cell_id"] for row in rows(Path("run/failures.csv"))] == lost


def test_collect_counts_what_jobs_lost_and_what_is_not_there(photos):
    from bench.sweep.engines import Outcome
    from bench.sweep.engines.slurm import OutcomeLog
    from bench.sweep.plan import make_plan

    run()
    cells = [cell for _, cell in make_plan(asked(snr="4,8,12")).cells if cell.snr_db == 12]
    log = OutcomeLog(Path("run/slurm/outcomes/a.jsonl"))
    log.path.parent.mkdir(parents=True)
    log.add(Outcome(cells[0].id, "failed", "RuntimeError: lost while nobody waited", trace="Traceback"))
    result = run(snr="4,8,12", collect=True)
    assert result.exit_code == 1 and list(result.failures) == [cells[0].id] and result.waiting == len(cells) - 1
    assert any("nobody waited" in line for line in result.failure_lines())
    assert rows(Path("run/failures.csv"))[0]["error"] == "RuntimeError: lost while nobody waited"


# ---------------------------------------------------------------- weights and names


def test_weights_of_another_content_have_another_identity(photos):
    """True also where size and time of the file are the same."""
    import hashlib
    import shutil

    from bench.spec.identity import facts_of

    shipped = Path(sys.modules["baselines"].__file__).parent / "weights" / "deepjscc-small.safetensors"
    shutil.copy2(shipped, "w.safetensors")
    shutil.copy2(shipped.with_suffix(".json"), "w.json")
    first = facts_of("deepjscc", {"checkpoint": "w.safetensors"})
    before = os.stat("w.safetensors")
    data = bytearray(Path("w.safetensors").read_bytes())
    data[-1] ^= 1
    Path("w.safetensors").write_bytes(data)
    told = json.loads(Path("w.json").read_text())
    told["sha256"] = hashlib.sha256(data).hexdigest()
    Path("w.json").write_text(json.dumps(told))
    os.utime("w.safetensors", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat("w.safetensors").st_size == before.st_size
    assert facts_of("deepjscc", {"checkpoint": "w.safetensors"}).identity != first.identity


@pytest.mark.parametrize(
    "change",
    [{"parameters": "many"}, {"description": [1]}, {"identity": "x"}, {"bits_per_use": float("nan")}, {"name": "gensc"},
     {"variant": "another"}, {"options": {"size": "paper"}}, {"plugin": 0}, {"identity": {}}],
)  # fmt: skip
def test_facts_of_the_cache_that_were_changed_are_made_again(tmp_path, monkeypatch, change):
    from bench.spec import identity

    monkeypatch.setattr(identity, "_kept_facts", lambda name, options: tmp_path / "facts.json")
    built = []
    monkeypatch.setattr(identity, "build", lambda name, options: built.append(name) or registry.create(name, **options))
    first = identity.facts_of("linear", {})
    assert identity.facts_of("linear", {}) == first and built == ["linear"]
    kept = json.loads((tmp_path / "facts.json").read_text())
    (tmp_path / "facts.json").write_text(json.dumps(kept | change))
    assert identity.facts_of("linear", {}) == first and built == ["linear", "linear"]


def test_options_of_systems_without_weights_or_sizes(photos):
    none = asked(("linear", "deepjscc", "jpeg-ldpc-16qam"), options={"checkpoint": "none"})
    assert none.systems["deepjscc"].options == {"checkpoint": "none"} and none.systems["linear"].options == {}
    assert asked(("jpeg-ldpc-16qam",), options={"checkpoint": "none"}).systems["jpeg-ldpc-16qam"].options == {}
    for systems in (("linear",), ("linear", "deepjscc")):
        with pytest.raises(UserError, match="--size"):
            asked(systems, options={"size": "small"})


def test_a_folder_called_configs_is_no_other(photos):
    (photos / "configs" / "figures").mkdir(parents=True)
    (photos / "configs" / "__init__.py").touch()
    done = bench(
        "run", "--figure", "fig4", "--systems", "linear", "--limit", "1", "--dry-run", env=environment([]), cwd=photos
    )
    assert done.returncode == 0 and "fig4: reconstruction" in done.stdout


# ---------------------------------------------------------------- processes


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_killed_run_leaves_no_process(photos, installed):
    """True also where a worker is in a system that never ends."""
    env = environment(installed, BENCH_TEST_DELAY="1000")
    command = ["run", "--systems", "t-slow,linear", "--snr", "0:8:4", "--dataset", "folder:pictures", "--cbr", "1/6"]
    started = subprocess.Popen([sys.executable, "-m", "bench", *command, "--workers", "2", "--out", "run"], env=env,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=photos)  # fmt: skip

    def tree(pid):
        found = [pid]
        for parent in found:
            children = Path(f"/proc/{parent}/task/{parent}/children")
            found += [int(one) for one in children.read_text().split()] if children.exists() else []
        return found

    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and len(rows_of(photos / "run")) < 6:
        time.sleep(0.2)
    family = tree(started.pid)
    assert len(family) > 4
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(alive(pid) for pid in family):
        time.sleep(0.1)
    assert not [pid for pid in family if alive(pid)]


def rows_of(run_dir: Path) -> list[Path]:
    return list(run_dir.glob("cells/[!.]*.csv"))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_cell_that_takes_too_long_fails_and_the_others_go_on(photos, installed, monkeypatch):
    monkeypatch.setenv("BENCH_TEST_DELAY", "1000")
    result = run(("t-slow", "linear"), snr="8", cell_timeout=1.0)
    assert {result.system_of[cell] for cell in result.failures} == {"t-slow"} and result.exit_code == 1
    assert all("--cell-timeout" in outcome.error for outcome in result.failures.values())
    assert {row["system"] for row in rows(Path("run/samples.csv"))} == {"linear"}


def test_a_system_that_hangs_in_every_cell_is_given_up(photos, monkeypatch):
    """Not an hour for each of hundreds of cells: after three in a row the rest is not tried. One that ends in between
    starts the count anew."""
    from bench.measure.apart import TooLate
    from bench.sweep.worker import Worker

    whole = Worker._compute
    hangs = {0, 2, 6, 8, 10}

    def compute(self, system, task, group, *rest):
        if group[0].snr_db in hangs:
            raise TooLate("no answer within the time limit of a cell (--cell-timeout)")
        return whole(self, system, task, group, *rest)

    monkeypatch.setattr(Worker, "_compute", compute)
    result = run(snr="0,2,4,6,8,10,12,14", request={"limit": 8})
    errors = [outcome.error for outcome in result.failures.values()]
    assert sum("no answer within" in error for error in errors) == len(hangs)
    assert sum("not tried" in error for error in errors) == 2
    assert [row["snr_db"] for row in rows(Path("run/samples.csv"))] == ["4.0"] * 8


# ---------------------------------------------------------------- code that is edited while a run goes on

SYSTEM = """
from pooled_pixels import PooledPixels
from somebodys.part import FACTOR


class Mine(PooledPixels):
    pass
"""


@pytest.mark.parametrize("kept_stamp", [False, True], ids=["edited", "edited with its time put back"])
def test_code_that_is_edited_while_a_run_goes_on_makes_no_rows(photos, installed, monkeypatch, kept_stamp):
    """A third party's system is imported anew for each call, so edited code could run under the planned identity."""
    from bench.spec import identity

    monkeypatch.syspath_prepend(str(photos))
    package = photos / "somebodys"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("FACTOR = 1\n")
    (package / "model.py").write_text(SYSTEM)
    facts = identity._facts("mine", {}, "somebodys.model:Mine", "somebodys.model", "", {}, True,
                            {"bits_per_use": None, "encoder_sees_snr": False, "genie": False})  # fmt: skip
    held = identity.Unchanged(facts, "somebodys.model")
    held.check()
    part, before = package / "part.py", (package / "part.py").stat()
    part.write_text("# a comment\nFACTOR = 1\n")
    held.check()  # a comment changes no row
    part.write_text("FACTOR = 2\n")
    if kept_stamp:
        os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="code or the weights of mine changed"):
        held.check()
    with pytest.raises(UserError, match="code or the weights of mine changed"):
        identity.Unchanged(facts, "somebodys.model")
    part.write_text("FACTOR = 1\n")
    held.check()
    part.unlink()
    with pytest.raises(UserError, match="changed"):
        held.check()


def test_weights_of_a_third_party_that_are_replaced_while_a_run_goes_on_make_no_rows(photos, installed):
    from bench.spec import identity

    file = photos / "w.safetensors"
    file.write_bytes(b"one")
    facts = identity._facts("mine", {"checkpoint": str(file)}, "pooled_pixels:PooledPixels", "pooled_pixels", "", {},
                            True, {"bits_per_use": None, "encoder_sees_snr": False, "genie": False})  # fmt: skip
    held = identity.Unchanged(facts, "pooled_pixels")
    before = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="code or the weights of mine changed"):
        held.check()


def test_a_file_that_others_may_write_stays_as_it_is_while_a_run_goes_on(photos, installed, monkeypatch):
    """A decoder may have read what stood there for a moment, so putting it back does not help."""
    from bench.spec import identity

    monkeypatch.syspath_prepend(str(photos))
    package, weights = photos / "somebodys", photos / "w.safetensors"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("FACTOR = 1\n")
    (package / "table.csv").write_text("1\n")
    (package / "model.py").write_text(SYSTEM)
    weights.write_bytes(b"one")
    for file in (package / "table.csv", weights):

        def planned():
            told = {"bits_per_use": None, "encoder_sees_snr": False, "genie": False}
            options, module = {"checkpoint": str(weights)}, "somebodys.model"
            return identity._facts("mine", options, f"{module}:Mine", module, "", {}, True, told)

        facts, before = planned(), file.read_bytes()
        held = identity.Unchanged(facts, "somebodys.model")
        file.write_bytes(b"a message")
        file.write_bytes(before)
        held.check()  # of the user's own files, the content counts
        file.chmod(0o666)
        facts = planned()
        held = identity.Unchanged(facts, "somebodys.model")
        held.check()
        file.write_bytes(b"a message")
        file.write_bytes(before)
        for look in (held.check, lambda facts=facts: identity.Unchanged(facts, "somebodys.model")):
            with pytest.raises(UserError, match=rf"{file.name} changed since this command began: mine can open it"):
                look()


def test_a_worker_looks_before_it_writes(near_systems, photos, installed, monkeypatch):
    from bench.sweep.worker import systems as module

    checks = []

    class Edited(module.Unchanged):
        def check(self):
            checks.append(self.facts.name)
            if len(checks) > 2:
                raise UserError("the code of t-plain changed")

    monkeypatch.setattr(module, "Unchanged", Edited)
    result = run(("t-plain",), snr="4,8")
    assert len(checks) > 2 and result.exit_code == 2 and result.done < 4
    assert len(rows_of(Path("run"))) == result.done
