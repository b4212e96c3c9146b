"""Tests of the sweep: cells, resuming, failures, and what may and may not change the tables.

The test systems are found through a real entry point.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
from harness import answer_near, call, environment, rows, without_costs
from PIL import Image

from bench.measure.apart import Home
from bench.spec.request import Request, resolve
from bench.sweep.execute import execute
from bench.sweep.plan import make_plan
from bench.sweep.preflight import preflight
from bench.sweep.worker import Worker
from bench.sweep.worker.checks import Checks
from systems import registry
from systems.errors import UserError

pytestmark = pytest.mark.usefixtures("forked_workers")

SALT = "5eed5a17"  # the salt of all runs here that are compared


#: A system of the bench. It computes in this process; a third party's system would start a confined process per call.
#: For tests that look only at what a run keeps, whichever system computed it.
OWN = "linear"


def run(place, *, systems="t-plain", snr="0:8:4", out="run", dataset="folder:pictures", say=None, request=None, **how):
    """Run the sweep in this process, by default with the serial engine."""
    asked = Request(systems=tuple(systems.split(",")), snr=snr, dataset=dataset, cbr="1/6", **(request or {}))
    return execute(resolve(asked), place / out, **{"engine": "serial", "salt": SALT, **how})


def worker(place, system, snr, salt=SALT):
    """The plan of one system, and a worker that can compute its work units in this process."""
    plan = make_plan(resolve(Request(systems=(system,), snr=snr, dataset="folder:pictures", cbr="1/6")))
    (place / "run").mkdir()
    return plan, Worker(place / "run", plan.systems, plan.datasets, salt=salt)


def computed(place, what="decode", out="*"):
    """The lines that the systems printed in the runs of a place, as the runs keep them."""
    lines = [line for log in sorted(place.glob(f"{out}/output/*.log")) for line in log.read_text().splitlines()]
    return [line.split() for line in lines if line.startswith(what)]


def fault(place, name, on=True):
    path = place / "faults" / name
    path.touch() if on else path.unlink()


# ---------------------------------------------------------------- rows


def test_rows_are_the_measurement(place):
    """One picture is recomputed by hand from the stored seed, so every step between channel and table is checked."""
    from bench.measure.channel import transmit
    from bench.measure.seeds import NOISE_ID, draw_seed
    from systems.interface import Budget, Link

    result = run(place, snr="5")
    table = rows(place / "run" / "samples.csv")
    assert result.exit_code == 0 and len(table) == 10
    system = registry.create("t-plain")
    for row in table:
        picture = np.asarray(Image.open(place / "pictures" / f"{row['image_id']}.png"))
        height, width = picture.shape[:2]
        budget = Budget.from_cbr(1 / 6, height, width)
        link = Link("reconstruction", height, width, budget, "awgn", 5.0)
        images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        seed = draw_seed(0, "folder:pictures", row["image_id"], "awgn", 5.0, 0, "channel", SALT)
        sent = system.encode(images, link)
        output = system.decode(transmit(sent, link, [seed]), link).output
        shown = (output[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        mse = np.mean((shown.astype(float) - picture) ** 2)
        assert int(row["noise_id"]) == draw_seed(0, "folder:pictures", row["image_id"], "awgn", 5.0, 0, NOISE_ID, SALT)
        assert float(row["mse"]) == pytest.approx(mse, rel=1e-3)  # in a batch one pixel may be rounded the other way
        assert float(row["psnr_db"]) == pytest.approx(10 * np.log10(255**2 / float(row["mse"])), abs=1e-9)
        uses = sent.symbols.shape[1] + 39  # the control word of 8 bits
        assert int(row["n_uses"]) == uses <= int(row["budget_uses"]) == height * width * 3 // 6
        assert float(row["cbr"]) == uses / (3 * height * width)
        assert (row["side_bits"], row["side_uses"], float(row["bits"])) == ("8", "39", 4.0 * uses)
        # does not apply: empty, not 0
        assert row["coded_bits"] == row["mcs"] == row["miou"] == row["bits_target"] == ""


def test_the_swept_values_reach_the_system(near_systems, place):
    run(place, systems="t-snr", snr="0:8:4", request={"channel": "rayleigh-fast"})
    table = rows(place / "run" / "samples.csv")
    assert {float(row["snr_db"]) for row in table} == {0, 4, 8}
    for row in table:
        snr = float(row["snr_db"])
        assert row["mcs"] == f"enc{snr:g}-rayleigh-fast"
        assert row["stop_reason"] == f"dec{snr:g}-{10 ** (-snr / 10):.6g}"


def test_bits_of_a_system_that_varies_its_modulation(place):
    """Bits are counted from the points that the system used, not as the 4 bits per use of an analog system."""
    run(place, systems="jpeg-ldpc-adaptive", snr="25", request={"limit": 1})
    (row,) = rows(place / "run" / "samples.csv")
    assert "256qam" in row["mcs"] and row["side_uses"] == "0"
    assert row["source_chroma"] in ("4:2:0", "4:4:4")
    assert float(row["bits_per_use"]) == 8
    assert float(row["coded_bits"]) <= float(row["bits"]) == 8 * int(row["n_uses"])


def test_options_reach_the_system_or_are_refused(near_systems, place):
    run(place, systems="t-option", request={"options": {"code_rate": "5/6"}})
    assert {row["variant"] for row in rows(place / "run" / "samples.csv")} == {"r5/6"}
    for options, words in (
        ({"code_rate": "5/6"}, "code-rate has no effect"),
        ({"size": "paper"}, "size has no effect"),
    ):
        with pytest.raises(UserError, match=words):
            resolve(Request(systems=("t-plain",), dataset="folder:pictures", options=options))


def _encoded(place, system: str) -> int:
    """The number of pictures that a system has encoded so far: those of the run, and those of the check that rows stand
    alone.
    """
    return sum(int(line[3]) for line in computed(place, "encode") if line[1] == system)


def test_one_encoding_serves_the_sweep_unless_the_encoder_sees_the_snr(near_systems, place):
    run(place, systems="t-plain,t-snr", snr="8", out="one")
    once = {system: _encoded(place, system) for system in ("t-plain", "t-snr")}
    run(place, systems="t-plain,t-snr", snr="0:8:4", out="three")
    again = {system: _encoded(place, system) - once[system] for system in once}
    assert again["t-plain"] == once["t-plain"] >= 10  # ten pictures
    assert again["t-snr"] >= once["t-snr"] + 2 * 10
    snrs = {system: {line[2] for line in computed(place, "encode") if line[1] == system} for system in once}
    assert snrs == {"t-plain": {"nan"}, "t-snr": {"0", "4", "8"}}


def test_a_receiver_that_remembers_the_picture_is_caught(place):
    result = run(place, systems="t-remembers,t-draws,t-plain", snr="8")
    assert result.exit_code == 1 and {result.system_of[cell] for cell in result.failures} == {"t-remembers"}
    assert {outcome.error for outcome in result.failures.values()} == {
        "AttributeError: 'Remembers' object has no attribute 'kept'"
    }
    trace = (place / "run" / "failures" / f"{next(iter(result.failures))}.txt").read_text()
    assert "return Decoded(self.kept)" in trace


def test_what_a_system_prints_is_kept_after_its_task_not_before(place):
    """A decoder could ask for the length of the file that its encoder wrote to."""
    plan, work = worker(place, "t-plain", "0,4")
    log = place / "run" / "output" / "t-plain.log"
    outcomes = []
    for outcome in work(plan.units[0]):
        outcomes.append(outcome)
        assert not log.exists()
    assert {one.status for one in outcomes} == {"done"} and len(outcomes) == len(plan.units[0].cells)
    assert log.read_text().startswith("encode t-plain")


def test_a_system_that_fails_where_it_is_checked_computes_nothing(near_systems, place):
    """It takes whole batches alone, in which its rows lean on each other."""
    result = run(place, systems="t-whole", snr="0,4")
    assert len(result.failures) == result.expected and result.exit_code == 1
    assert all("not today" in outcome.error for outcome in result.failures.values())
    assert not [row for row in rows(place / "run" / "samples.csv") if row["system"] == "t-whole"]


@pytest.mark.parametrize("system", ["t-clock-encoder", "t-clock-decoder"])
@pytest.mark.parametrize("engine", ["serial", "process"])
def test_a_system_that_is_honest_in_the_checks_alone_keeps_no_rows(near_systems, place, monkeypatch, engine, system):
    """In place of a clock, a file says that the checks of a work unit are over. Cells of before are taken back."""
    hold, switch = Checks.hold, place / "faults" / "cells"

    def held(*arguments):
        switch.unlink(missing_ok=True)
        hold(*arguments)
        switch.touch()

    monkeypatch.setattr(Checks, "hold", held)
    result = run(place, systems=system, snr="0:12:4", engine=engine, workers=1)
    kept = {row["image_id"] for row in rows(place / "run" / "samples.csv")}
    assert len(result.failures) == 4 and result.done == 4 and result.exit_code == 1
    assert all("than in the check" in outcome.error for outcome in result.failures.values())
    assert len(kept) == 2  # the second block: two pictures of two sizes, which have no neighbours


def test_a_system_that_fails_in_a_check_does_not_choose_where_it_is_checked(near_systems, place, monkeypatch):
    """The cell of the SNR that was drawn for the check is checked, or it is not kept."""
    hold, switch = Checks.hold, place / "faults" / "cells"
    monkeypatch.setattr(Checks, "hold", lambda *arguments: (hold(*arguments), switch.touch()))
    plan, work = worker(place, "t-clock-picky", "0:8:4")
    outcomes = list(work(plan.units[0]))
    assert [outcome.status for outcome in outcomes[-1:]] == ["done"]  # at 8 dB it is honest
    failed = [outcome.error for outcome in outcomes if outcome.status == "failed"]
    assert failed and all("dB it failed in the check" in error for error in failed)


@pytest.mark.parametrize("salt", [f"5eed5a0{digit}" for digit in range(6)])
def test_a_system_that_fails_in_the_cell_where_it_was_checked_keeps_nothing(near_systems, place, monkeypatch, salt):
    """Wherever it was checked: there it either fails, or delivers other rows than in the check."""
    hold, switch = Checks.hold, place / "faults" / "cells"
    monkeypatch.setattr(Checks, "hold", lambda *arguments: (hold(*arguments), switch.touch()))
    plan, work = worker(place, "t-clock-fails", "0:12:4", salt=salt)
    outcomes = list(work(plan.units[0]))
    assert [outcome.status for outcome in outcomes[-4:]] == ["failed"] * 4
    assert not list((place / "run").glob("cells/*"))


def test_every_piece_of_a_work_unit_is_checked_at_a_point_of_its_own(near_systems, place):
    """Several workers get pieces that are cut by SNR: a system would know that the first alone is checked."""
    plan, work = worker(place, "t-mixes-high", "0:12:4")
    low, high = (replace(plan.units[0], cells=cells) for cells in (plan.units[0].cells[:2], plan.units[0].cells[2:]))
    assert {outcome.status for outcome in work(low)} == {"done"}
    found = list(work(high))
    assert {outcome.status for outcome in found} == {"failed"} and all("rows" in outcome.error for outcome in found)


def test_a_worker_takes_back_cells_without_being_told(near_systems, place, monkeypatch):
    """The runner deletes their rows too, when it hears of it. A job of a cluster may be alone."""
    hold, switch = Checks.hold, place / "faults" / "cells"
    monkeypatch.setattr(Checks, "hold", lambda *arguments: (hold(*arguments), switch.touch()))
    plan, work = worker(place, "t-clock-decoder", "0:12:4", salt="5eed5a00")  # 0 dB is the check of no batch
    outcomes = [outcome.status for outcome in work(plan.units[0])]
    assert outcomes[0] == "done" and outcomes[-4:] == ["failed"] * 4
    assert not list((place / "run" / "cells").iterdir())


def test_a_point_with_a_failed_cell_has_no_mean(near_systems, place):
    """A system could fail on its hardest pictures, and the mean would be over the others."""
    run(place, systems="t-faulty,t-plain", request={"limit": 8})
    fault(place, "error")
    result = run(place, systems="t-faulty,t-plain")
    assert len(result.failures) == 1 and len(rows(place / "run" / "samples.csv")) == 58
    means = {(row["system"], row["snr_db"]): row["mean"] for row in rows(place / "run" / "summary.csv")
             if row["metric"] == "psnr_db"}  # fmt: skip
    assert [point for point, mean in means.items() if not mean] == [("t-faulty", "4.0")] and len(means) == 6


def test_no_encoder_waits_while_another_system_runs(place):
    """Two systems of one author: the first one's encoder knows the pictures, and its process could tell the second."""
    run(place, systems="t-holds,t-held", snr="4")
    told = [row["stop_reason"] for row in rows(place / "run" / "samples.csv")]
    assert told == ["free"] * 10


def test_a_block_is_encoded_at_most_once_a_worker(near_systems, place):
    """Eleven points of two blocks are split into pieces; otherwise one worker would be idle at the end."""
    run(place, systems="t-plain", snr="0:20:2", engine="process", workers=2)
    two_workers = _encoded(place, "t-plain")
    run(place, systems="t-plain", snr="0:20:2", out="serial")
    one_worker = _encoded(place, "t-plain") - two_workers
    assert 10 <= one_worker <= two_workers <= 2 * one_worker
    assert without_costs(place / "run" / "samples.csv") == without_costs(place / "serial" / "samples.csv")


def test_an_encoder_that_peeks_at_the_snr_is_caught(near_systems, place):
    result = run(place, systems="t-peeks,t-plain")
    assert result.exit_code == 1 and {result.system_of[cell] for cell in result.failures} == {"t-peeks"}
    assert all("not finite" in outcome.error for outcome in result.failures.values())


def test_budgets_are_tried_at_both_ends(near_systems, place):
    """Budgets are tried at the lowest and highest SNR where the encoder sees it, and under a budget in bits also with
    the largest picture.
    """
    from dataclasses import replace

    Image.new("RGB", (64, 48)).save(place / "pictures" / "z.png")
    asked = Request(systems=("t-snr",), snr="2,6,10", dataset="folder:pictures", cbr="1/6")
    plan = make_plan(resolve(asked))

    def tried(tasks, out):
        (place / out).mkdir()
        work = Worker(place / out, plan.systems, plan.datasets)
        assert {outcome.status for one in preflight(plan, tasks) for outcome in work(one)} == {"done"}
        return {(line[4], line[2]) for line in computed(place, "encode", out)}

    ends = {("32x24", "2"), ("32x24", "10")}
    assert tried(list(plan.units), "uses") == ends
    in_bits = [replace(task, cbr=None, bits=1000) for task in plan.units]
    assert tried(in_bits, "bits") == ends | {("48x64", "2"), ("48x64", "10")}


def test_a_budget_that_is_too_small_names_the_picture(place):
    Image.new("RGB", (2, 1)).save(place / "pictures" / "dot.png")
    with pytest.raises(UserError, match=r"linear: .*raise --cbr.* \(picture dot of folder:.*pictures, 2x1 pixels\)"):
        run(place, systems=OWN)


def test_a_breach_of_the_rules_is_a_failure_with_figures(near_systems, place):
    result = run(place, systems="t-loud,t-plain")
    assert result.exit_code == 1
    assert {row["system"] for row in rows(place / "run" / "samples.csv")} == {"t-plain"}
    failed = rows(place / "run" / "failures.csv")
    assert {row["system"] for row in failed} == {"t-loud"} and "1.21" in failed[0]["error"]


def test_all_systems_meet_the_same_noise(near_systems, place):
    run(place, systems="t-plain,t-snr")
    seeds = {}
    for row in rows(place / "run" / "samples.csv"):
        seeds.setdefault((row["image_id"], row["snr_db"]), set()).add(row["noise_id"])
    assert all(len(values) == 1 for values in seeds.values()) and len(set.union(*seeds.values())) == 30


def test_summary_against_numpy(place):
    run(place, systems=OWN, request={"reps": 3}, snr="4")
    table = rows(place / "run" / "samples.csv")
    summary = {row["metric"]: row for row in rows(place / "run" / "summary.csv")}
    psnr = np.array([[float(r["psnr_db"]) for r in table if r["rep"] == str(rep)] for rep in range(3)]).mean(axis=0)
    mse = np.mean([float(row["mse"]) for row in table])
    assert float(summary["psnr_db"]["mean"]) == pytest.approx(psnr.mean(), abs=1e-9)
    assert float(summary["psnr_db"]["std"]) == pytest.approx(psnr.std(ddof=1), abs=1e-9)
    assert (summary["psnr_db"]["n_images"], summary["psnr_db"]["n_reps"]) == ("10", "3")
    assert float(summary["psnr_of_mean_mse_db"]["mean"]) == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-9)
    for row in (summary["psnr_db"], summary["psnr_of_mean_mse_db"]):
        assert float(row["ci_low"]) < float(row["mean"]) < float(row["ci_high"])
    # the picture is too small: empty, not 0
    assert summary["ms_ssim"]["mean"] == "" and summary["ms_ssim"]["n_images"] == "0"
    assert float(summary["outage_rate"]["ci_high"]) == pytest.approx(3 / 10)  # pictures, not rows
    assert len({row["noise_id"] for row in table}) == 30


def test_two_figures_that_differ_in_the_requirement_alone_are_refused(near_systems, place):
    text = (
        'task = "reconstruction"\ndataset = "folder:pictures"\nsystems = ["t-plain"]\nsnr_db = [8]\ncbr = "1/6"\n'
        'id = "%s"\n'
    )
    (place / "a.toml").write_text(text % "a")
    (place / "b.toml").write_text(text % "b" + 'requirement = "send me the picture"\n')
    with pytest.raises(UserError, match="figures a and b differ in their requirement"):
        resolve(Request(figures=("a.toml", "b.toml")))


def test_each_session_of_a_run_is_in_its_manifest(place):
    run(place, systems=OWN, snr="8")
    run(place, systems=OWN, snr="8", force=True, batch=1)
    manifest = json.loads((place / "run" / "manifest.json").read_text())
    assert [session["engine"]["batch"] for session in manifest["sessions"]] == [None, 1]
    assert all(session["versions"]["torch"] == version("torch") for session in manifest["sessions"])


def test_segmentation_rows_and_confusion(near_systems, place):
    from bench.data import open_dataset

    asked = Request(figures=("fig7",), systems=("t-labels",), snr="6,10", kbits=20, limit=3)
    execute(resolve(asked), place / "run", engine="serial")
    table, confusion = rows(place / "run" / "samples.csv"), rows(place / "run" / "confusion.csv")
    assert (
        len(table) == 6
        and {row["bits_target"] for row in table} == {"20000"}
        and {row["psnr_db"] for row in table} == {""}
    )
    assert all(int(row["n_uses"]) <= 5000 for row in table)
    # The kept pictures show the labels. The mIoU is computed by hand from them and from the masks.
    dataset, stored = open_dataset("voc-demo"), rows(place / "run" / "pictures.csv")
    inter, union, correct, labelled = np.zeros(21), np.zeros(21), 0, 0
    for picture in (row for row in stored if row["kind"] == "output" and row["snr_db"] == "6.0"):
        labels = np.asarray(Image.open(place / "run" / picture["file"]))
        mask = dataset.load(picture["image_id"]).mask.numpy()
        known = mask != 255
        correct, labelled = correct + (labels == mask)[known].sum(), labelled + known.sum()
        for label in range(21):
            inter[label] += ((labels == label) & (mask == label) & known).sum()
            union[label] += (((labels == label) | (mask == label)) & known).sum()
    summary = {row["metric"]: row for row in rows(place / "run" / "summary.csv") if row["snr_db"] == "6.0"}
    assert float(summary["miou"]["mean"]) == pytest.approx((inter[union > 0] / union[union > 0]).mean(), abs=1e-12)
    assert float(summary["pixel_accuracy"]["mean"]) == pytest.approx(correct / labelled, abs=1e-12)
    counts = [row for row in confusion if row["snr_db"] == "6.0"]
    assert sum(int(row["intersection"]) for row in counts) == inter.sum()
    assert sum(int(row["labelled"]) for row in counts) == labelled == sum(int(row["predicted"]) for row in counts)
    assert json.loads((place / "run" / "manifest.json").read_text())["limited"] is True
    assert {row["limited"] for row in rows(place / "run" / "summary.csv")} == {"true"}


def test_stored_pictures_are_what_was_scored(near_systems, place):
    figure = place / "mine.toml"
    figure.write_text(
        'id="mine"\ntask="reconstruction"\ndataset="folder:pictures"\nsystems=["t-plain"]\ncbr="1/6"\nsnr_db="0:8:4"\n'
        "[pictures]\nsnr_db=[8]\nlimit=2\n"
    )
    resolved = resolve(Request(figures=(str(figure),)))
    execute(resolved, place / "run", engine="serial")
    table = {(row["image_id"], row["snr_db"]): row for row in rows(place / "run" / "samples.csv")}
    listed = rows(place / "run" / "pictures.csv")
    outputs = [row for row in listed if row["kind"] == "output"]
    assert [row["image_id"] for row in outputs] == ["p00", "p01"] and {row["figure"] for row in outputs} == {"mine"}
    for row in outputs:
        shown = np.asarray(Image.open(place / "run" / row["file"])).astype(float)
        original = next(r["file"] for r in listed if r["kind"] == "original" and r["image_id"] == row["image_id"])
        reference = np.asarray(Image.open(place / "run" / original))
        assert (reference == np.asarray(Image.open(place / "pictures" / f"{row['image_id']}.png"))).all()
        assert np.mean((shown - reference) ** 2) == pytest.approx(
            float(table[row["image_id"], "8.0"]["mse"]), rel=1e-12
        )
    before = len(computed(place))
    (place / "run" / outputs[0]["file"]).unlink()  # a picture that was lost is computed again, and only its cell
    execute(resolved, place / "run", engine="serial")
    assert (place / "run" / outputs[0]["file"]).is_file()
    assert {line[2] for line in computed(place)[before:]} == {"8"}


# ---------------------------------------------------------------- caching


def test_finished_cells_are_not_computed_again(near_systems, place):
    first = run(place)
    count = len(computed(place))
    samples = (place / "run" / "samples.csv").read_bytes()
    again = run(place)
    assert (first.done, again.done, again.cached) == (6, 0, 6) and len(computed(place)) == count
    assert (place / "run" / "samples.csv").read_bytes() == samples
    forced = run(place, force=True)
    assert forced.done == 6 and len(computed(place)) == 2 * count
    next((place / "run" / "cells").glob("*.csv")).unlink()
    assert run(place).done == 1


def test_order_workers_engine_do_not_change_a_digit(near_systems, place, monkeypatch):
    """True also for a decoder that draws random numbers of its own."""
    monkeypatch.setattr("bench.sweep.plan.BLOCK", 2)
    how = {"systems": "t-plain,t-snr,t-draws", "snr": "0:8:8",
           "request": {"reps": 2, "channel": "rayleigh-fast", "limit": 3}}  # fmt: skip
    run(place, out="one", **how)
    run(place, out="three", engine="process", workers=3, **how)
    how["systems"] = "t-draws,t-snr,t-plain"
    run(place, out="reversed", engine="process", workers=2, **how)
    one = without_costs(place / "one" / "samples.csv")
    assert len(one) == 3 * 3 * 2 * 2
    assert one == without_costs(place / "three" / "samples.csv")
    by_key = sorted(tuple(row.values()) for row in one)
    assert by_key == sorted(tuple(row.values()) for row in without_costs(place / "reversed" / "samples.csv"))


def test_the_batch_does_not_move_the_psnr(near_systems, place):
    how = {"systems": f"t-plain,{OWN}", "snr": "0:8:8", "request": {"limit": 4}}  # two pictures of each size
    run(place, out="one", batch=1, **how)
    run(place, out="all", **how)
    one, all_ = rows(place / "one" / "samples.csv"), rows(place / "all" / "samples.csv")
    assert {row["batch"] for row in one} == {"1"} and {row["batch"] for row in all_} != {"1"}
    for a, b in zip(one, all_, strict=True):
        assert (a["image_id"], a["noise_id"], a["cell_id"]) == (b["image_id"], b["noise_id"], b["cell_id"])
        assert float(a["psnr_db"]) == pytest.approx(float(b["psnr_db"]), abs=1e-3)


def test_what_decides_a_row_decides_its_cell(near_systems, place):
    def ids(**changes):
        asked = {"systems": ("t-option",), "snr": "4", "dataset": "folder:pictures", "cbr": "1/6", **changes}
        return {cell.id for _, cell in make_plan(resolve(Request(**asked))).cells}

    base = ids()
    for changes in (
        {"snr": "5"}, {"cbr": "1/7"}, {"channel": "rayleigh-block"}, {"seed": 1}, {"systems": ("t-plain",)},
        {"options": {"code_rate": "1/3"}},
    ):  # fmt: skip
        assert not base & ids(**changes), changes
    assert base < ids(reps=2) and base < ids(snr="4,5")
    assert len(base) == 2 and len(base & ids(limit=9)) == 1  # the first block of eight is the same
    picture = place / "pictures" / "p00.png"
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)
    assert len(base & ids()) == 1  # the other block holds other pictures


def test_a_command_line_is_published_without_paths():
    from bench.util.environment import without_paths

    given = ["--checkpoint", "a=/home/me/a.st,b=/x/b.st", "--figure=fig4,/home/me/m.toml", "folder:/home/me/p"]
    assert without_paths(given) == [
        "--checkpoint", "a=.../a.st,b=.../b.st", "--figure=fig4,.../m.toml", "folder:.../p"]  # fmt: skip


def test_a_cell_that_fails_when_forced_does_not_keep_its_old_rows(place, monkeypatch):
    assert run(place, systems=OWN).done
    whole = rows(place / "run" / "samples.csv")
    cells = sorted((place / "run" / "cells").iterdir())
    from bench.results.store import RunStore

    write = RunStore.write_cell

    def fails_once(self, cell_id, found):
        if cell_id == cells[0].stem:
            raise RuntimeError("broken")
        write(self, cell_id, found)

    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "write_cell", fails_once)
        forced = run(place, systems=OWN, force=True)
    assert list(forced.failures) == [cells[0].stem] and not cells[0].exists()
    assert len(rows(place / "run" / "samples.csv")) < len(whole)
    assert run(place, systems=OWN).done == 1 and rows(place / "run" / "failures.csv") == []


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("engine", ["serial", "process"])
def test_a_failing_system_leaves_the_others_whole(near_systems, place, engine):
    fault(place, "error")
    result = run(place, systems="t-faulty,t-plain", engine=engine, workers=2)
    assert result.exit_code == 1 and len(result.failures) == 2  # two blocks at 4 dB
    assert {o.error for o in result.failures.values()} == {"RuntimeError: the decoder broke"}
    table = rows(place / "run" / "samples.csv")
    assert (
        sum(row["system"] == "t-plain" for row in table) == 30
        and sum(row["system"] == "t-faulty" for row in table) == 20
    )
    failed = rows(place / "run" / "failures.csv")
    assert [(row["system"], row["snr_db"]) for row in failed] == [("t-faulty", "4.0")] * 2
    lost = [r for r in rows(place / "run" / "summary.csv") if r["system"] == "t-faulty" and r["snr_db"] == "4.0"]
    assert lost and all(row["mean"] == row["ci_low"] == "" and row["n_images"] == "0" for row in lost)
    manifest = json.loads((place / "run" / "manifest.json").read_text())
    assert manifest["cells"] == {"expected": 12, "done": 10, "failed": 2}
    assert run(place, systems="t-faulty,t-plain", retry_failed=True).exit_code == 1  # still broken: nothing was cached
    fault(place, "error", on=False)
    before = Counter(line[2] for line in computed(place))
    again = run(place, systems="t-faulty,t-plain", retry_failed=True)
    assert (again.exit_code, again.done) == (0, 2)
    assert (Counter(line[2] for line in computed(place)) - before).keys() == {"4"}
    assert rows(place / "run" / "failures.csv") == []
    clean = run(place, systems="t-faulty,t-plain", out="clean")
    assert clean.exit_code == 0
    assert without_costs(place / "clean" / "samples.csv") == without_costs(place / "run" / "samples.csv")


def test_retry_failed_leaves_what_was_never_tried(near_systems, place):
    fault(place, "error")
    run(place, systems="t-faulty")
    fault(place, "error", on=False)
    never = next(c for c in (place / "run" / "cells").glob("*.csv"))
    never.unlink()
    assert run(place, systems="t-faulty", retry_failed=True).done == 2
    assert not never.exists()
    assert run(place, systems="t-faulty").done == 1  # the plain command computes everything that is missing


def test_a_killed_worker_costs_its_own_cells_only(place, monkeypatch):
    fault(place, "kill")
    result = run(place, systems="t-killed,t-plain,t-snr", engine="process", workers=2)
    assert result.exit_code == 1 and {result.system_of[cell] for cell in result.failures} == {"t-killed"}
    assert all("SIGKILL" in outcome.error for outcome in result.failures.values())
    counts = {}
    for row in rows(place / "run" / "samples.csv"):
        counts[row["system"]] = counts.get(row["system"], 0) + 1
    assert counts["t-plain"] == counts["t-snr"] == 30
    fault(place, "kill", on=False)
    answer_near(monkeypatch)
    assert run(place, systems="t-killed,t-plain,t-snr").exit_code == 0
    run(place, systems="t-killed,t-plain,t-snr", out="clean")
    assert without_costs(place / "clean" / "samples.csv") == without_costs(place / "run" / "samples.csv")


# ---------------------------------------------------------------- kill -9 of the run


def test_kill_9_and_the_same_command_again(place, installed, capsys, monkeypatch):
    env = environment(installed)
    command = ["run", "--systems", "t-slow,t-plain", "--snr", "0:12:4", "--dataset", "folder:pictures", "--cbr", "1/6",
               "--workers", "2", "--reps", "2", "--salt", SALT]  # fmt: skip
    killed = subprocess.Popen([sys.executable, "-m", "bench", *command, "--out", "run"], env=env, cwd=place,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    cells = place / "run" / "cells"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (not cells.is_dir() or len(list(cells.glob("*.csv"))) < 5):
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    kept = {path: path.stat().st_mtime_ns for path in cells.glob("[!.]*.csv")}
    assert 5 <= len(kept) < 32, "the run must be killed in the middle"
    assert not (place / "run" / "samples.csv").exists()
    shutil.rmtree(place / "run" / "output")
    answer_near(monkeypatch)
    monkeypatch.setenv("BENCH_TEST_DELAY", "0")
    code, _, err = call(capsys, *command, "--out", "run")
    assert code == 0, err
    assert f"32 cells, {len(kept)} cached, {32 - len(kept)} to compute" in err
    decoded = sum(int(line[3]) for line in computed(place, out="run"))
    new = sum(len(rows(p)) for p in cells.glob("[!.]*.csv") if p not in kept)
    # Each worker checks with made pictures, three times four of them per system, that rows stand alone, and each piece
    # with its block of 8 and one picture of both sizes alone. A work unit has 8 cells, so two pieces.
    made, pieces = 2 * 2 * 3 * 4, 2 * 2 * 2
    assert new <= decoded <= new + made + pieces * (8 + 2)
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in kept.items())
    assert not list((place / "run").rglob("*.tmp"))
    assert call(capsys, *command, "--out", "whole")[0] == 0
    assert without_costs(place / "run" / "samples.csv") == without_costs(place / "whole" / "samples.csv")
    summaries = [
        [{key: value for key, value in row.items() if key != "run"} for row in rows(place / name / "summary.csv")]
        for name in ("run", "whole")
    ]
    assert summaries[0] == summaries[1] and summaries[0]


@pytest.mark.parametrize("engine", ["serial", "process"])
def test_a_disk_that_fills_up(near_systems, place, capsys, engine):
    """The kernel refuses files above a size, as it does on a full disk. Later there is room, and the run continues."""
    Home.shared()  # it outlives this test, and processes that it forks later must not have the limit
    (place / "noise").mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (160, 160, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "noise" / f"n{index}.png")
    (place / "mine.toml").write_text(
        'id="mine"\ntask="reconstruction"\ndataset="folder:noise"\nsystems=["t-plain"]\ncbr="1/2"\nsnr_db="0:8:4"\n'
        "[pictures]\nsnr_db=[8]\nlimit=2\n"
    )
    command = ["run", "--figure", "mine.toml", "--out", "run", "--engine", engine, "--workers", "1"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # First not even the manifest fits; then everything fits but the pictures of the last cell.
    for size, cells in ((500, 0), (12_000, 2)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            code, _, err = call(capsys, *command)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert code == 2, err
        errors = [line for line in err.splitlines() if line.startswith("error")]
        assert len(errors) == 1 and "cannot write" in errors[0] and "Traceback" not in err
        assert not list((place / "run").rglob("*.tmp")) and not (place / "run" / "samples.csv").exists()
        assert len(list((place / "run").glob("cells/*.csv"))) == cells
    code, _, err = call(capsys, *command)
    assert code == 0 and "3 cells, 2 cached" in err
    assert len(rows(place / "run" / "samples.csv")) == 6


def test_the_manifest_says_what_and_with_what(near_systems, place):
    run(place, systems="t-plain", request={"limit": 3, "seed": 5})
    text = (place / "run" / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["limited"] is True and manifest["base_seed"] == 5
    assert manifest["cells"] == {"expected": 3, "done": 3, "failed": 0} and manifest["end"]
    figure = manifest["config"]["figures"][0]
    assert (figure["dataset"], figure["systems"], figure["cbr"]) == ("folder:pictures", ["t-plain"], 1 / 6)
    assert figure["snr_db"] == [0, 4, 8]
    files = manifest["datasets"]["folder:pictures"]["files"]
    import hashlib

    assert files["p00"]["image"] == hashlib.sha256((place / "pictures" / "p00.png").read_bytes()).hexdigest()
    assert (
        manifest["systems"]["t-plain"]["variant"] == "v1"
        and manifest["versions"]["torch"] == torch.__version__.split("+")[0]
    )
    assert str(place) not in text and os.uname().nodename not in text
