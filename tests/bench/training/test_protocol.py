"""Tests of the training protocol: every error is one line with the file and the key; its rules give the documented
values.
"""

import re

import numpy as np
import pytest

from bench.training.protocol import CropStage, TaskProtocol, read_protocol
from bench.training.schedule import Schedule, steps_of
from systems.errors import UserError
from systems.interface import Budget

TASK = """[tasks.reconstruction]
images_seen = 1
stages = [{ until = 1.0, crop = 32, batch = 1 }]
sources = ["photos"]
cbr = "1/16"
"""
KBITS = TASK.replace('cbr = "1/16"', "kbits = 20")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rat = 1\n" + TASK, "unknown key learning_rat"),
        (TASK.replace('cbr = "1/16"', ""), "either cbr or kbits"),
        (TASK + "kbits = 20", "either cbr or kbits"),
        (TASK.replace("until = 1.0, ", ""), "these keys are missing: until"),
        (TASK.replace("[{ until = 1.0, crop = 32, batch = 1 }]", "[]"), "needs stages"),
        (TASK.replace("[{ until = 1.0, crop = 32, batch = 1 }]", "[3]"), "needs stages"),
        ("[tasks.drawing]\nimages_seen = 1", "no such task"),
        ("tasks = 3", "tasks must be tables"),
        ("[tasks]\nreconstruction = 3", "must be a table"),
        ("seed = 1", "has no task"),
        ("seed = = 1", "not valid TOML"),
        ('learning_rate = "fast"\n' + TASK, "learning_rate must be a number, not 'fast'"),
        ("learning_rate = 0\n" + TASK, "learning_rate = 0; it must be above 0"),
        ("learning_rate = nan\n" + TASK, "learning_rate = nan; it must be above 0"),
        ("learning_rate = inf\n" + TASK, "learning_rate = inf; it must be above 0"),
        ("seed = true\n" + TASK, "seed must be a whole number, not True"),
        ("seed = -1\n" + TASK, "seed = -1; it must be from 0"),
        ("snr_db = [0]\n" + TASK, "snr_db must be a"),
        ("snr_db = [20, 0]\n" + TASK, "lowest and highest"),
        ("snr_db = 1e9\n" + TASK, "from -50 to 100 dB"),
        ("ema = 1\n" + TASK, "ema = 1; it must be from 0 to below 1"),
        ("betas = [0.5, 1.0]\n" + TASK, "betas = (0.5, 1.0); it must be from 0 to below 1"),
        ("validate_every = 0\n" + TASK, "validate_every = 0; it must be from 1"),
        ("validate_every = 99999999999999999999\n" + TASK, "validate_every = 99999999999999999999; it must be from 1"),
        ('channel = "awng"\n' + TASK, "did you mean awgn"),
        ('autocast = "float16"\n' + TASK, "auto | bfloat16 | off"),
        ('reconstruction_loss = "l7"\n' + TASK, "mse | log_mse"),
        ("[learning_rates]\ngensc = 0\n" + TASK, "learning_rates.gensc = 0; it must be a number above 0"),
        ('[shares]\ngensc = "most"\n' + TASK, "shares.gensc = 'most'; it must be a number above 0"),
        (TASK.replace("batch = 1", "batch = 0"), "batch = 0; it must be at least 1"),
        (TASK.replace("batch = 1", "batch = 1.5"), "batch must be a whole number"),
        (TASK.replace("batch = 1", "batch = 1000000000"), "batch = 1000000000; it must be at least 1, at most"),
        (TASK.replace("crop = 32, batch = 1 ", "crop = 4096, batch = 65536 "), "fits no memory"),
        (TASK.replace("images_seen = 1", 'images_seen = "x"'), "images_seen must be a whole number"),
        (TASK.replace("images_seen = 1", "images_seen = 10000000000000"), "at most 1e+12"),
        (TASK.replace('"1/16"', '"one"'), "cbr: 'one' is not a ratio"),
        (KBITS.replace("20", "-1"), "kbits '-1': a budget is a whole number"),
        (KBITS.replace("20", "1e308"), "kbits '1e+308': a picture's budget is at most"),
        (KBITS.replace("20", "inf"), "kbits = inf; it must be"),
        (KBITS.replace("20", "[50, 3]"), "kbits = (50, 3); it must be lowest and highest"),
        (TASK.replace('["photos"]', "[]"), "sources = ()"),
        (TASK + "distill = 2", "distill = 2; it must be from 0 to 1"),
        (TASK.replace('"1/16"', '"1/10000"'), "below one channel use in a crop of 32"),
        (TASK + "budget_jitter = 1", "below one channel use in a crop of 32"),
        (KBITS.replace("20", "0.1"), "below one channel use"),
        (KBITS.replace("20", "[0.1, 20]"), "below one channel use"),
    ],
)
def test_a_faulty_protocol_is_one_clear_line(tmp_path, text, words):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        read_protocol(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["small", "longer", "segmentation", "ablation", "coded", "paper", "light"])
def test_the_protocols_that_come_with_the_bench_are_read(name):
    assert read_protocol(name).tasks


def test_the_papers_protocol_says_what_the_paper_says():
    plan = read_protocol("paper")
    assert (plan.learning_rate, plan.betas, plan.weight_decay) == (1e-4, (0.5, 0.999), 0.01)
    assert plan.reconstruction_loss == "mse" and plan.teacher == "none" and not plan.learning_rates
    assert plan.tasks["reconstruction"].sources == ("DIV2K_train_HR",)


def test_equal_crops_for_every_system_of_a_task():
    plan = read_protocol("light")
    assert plan.tasks["reconstruction"].images_seen == 300_000 and plan.tasks["segmentation"].images_seen == 100_000


def test_unknown_protocols_and_tasks():
    for name in ("no-such-protocol", "../train/small"):
        with pytest.raises(UserError, match="small"):
            read_protocol(name)
    with pytest.raises(UserError, match="does not train drawing; its tasks are reconstruction, segmentation"):
        read_protocol("ablation", ["drawing"])
    whole, part = read_protocol("ablation"), read_protocol("ablation", ["segmentation"], teacher="none")
    assert set(whole.tasks) == {"reconstruction", "segmentation"} and set(part.tasks) == {"segmentation"}
    assert part.tasks["segmentation"] == whole.tasks["segmentation"]
    assert (whole.teacher == "none", part.teacher) == (False, "none")


def test_one_snr_or_a_range(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text("snr_db = 7\n" + TASK)
    assert read_protocol(path).snr_range == (7, 7)
    path.write_text("snr_db = [1, 13.5]\n[learning_rates]\nwitt = 2e-4\n" + TASK)
    plan = read_protocol(path)
    assert plan.snr_range == (1, 13.5) and (plan.rate_of("witt"), plan.rate_of("gensc")) == (2e-4, 1e-4)


def task(**values) -> TaskProtocol:
    return TaskProtocol(**{"images_seen": 100, "stages": (CropStage(1.0, 32, 4),), "sources": ("photos",), **values})


def test_budgets():
    """A CBR depends on the area. Kilobits scale with the area of the crop relative to the picture for which they are
    given. A range is drawn from eight sizes, even in log, so that a GPU meets few shapes.
    """
    even = np.linspace(0, 1, 4001)[:-1]
    assert task(cbr="1/16").budget(32, (0.1, 0.9)) == Budget.from_cbr(1 / 16, 32, 32)
    jittered = [task(cbr="1/16", budget_jitter=0.2).budget(32, (0.9, u)) for u in even]
    sizes = [Budget.from_cbr((1 - 0.2 * k / 7) / 16, 32, 32) for k in range(8)]
    assert [jittered.count(size) for size in sizes] == [500] * 8
    assert task(kbits=20).budget(224, (0.1, 0.1)).bits == 20_000 and task(kbits=20).budget(112, (0.1, 0.1)).bits == 5000
    wide = task(kbits=(3, 50))
    assert [wide.budget(224, (0.7, u)).bits for u in (0.0, 1.0)] == [3000, 50_000]
    drawn, counts = np.unique([wide.budget(224, (0.3, u)).bits for u in even], return_counts=True)
    assert counts.tolist() == [500] * 8
    np.testing.assert_allclose(np.diff(np.log(drawn)), np.log(50 / 3) / 7, atol=1e-3)
    assert wide.validation_budget(224).bits == 20_000 and task(kbits=8).validation_budget(224).bits == 8000


# ---------------------------------------------------------------- the schedule


def course(schedule: Schedule) -> list[str]:
    """The task of each step."""
    done, tasks = dict.fromkeys(schedule.tasks, 0), []
    while not schedule.ended(len(tasks)):
        tasks.append(schedule.task(done))
        done[tasks[-1]] += 1
    return tasks


def test_tasks_are_spread_evenly_over_the_run():
    plans = {
        "reconstruction": task(images_seen=64),
        "segmentation": task(images_seen=16, stages=(CropStage(1.0, 32, 4),)),
    }
    tasks = course(Schedule(plans, 0, 0.02))
    assert tasks.count("reconstruction") == 16 and tasks.count("segmentation") == 4
    assert [tasks[start : start + 5].count("segmentation") for start in range(0, 20, 5)] == [1, 1, 1, 1]


def test_stages_follow_the_crops():
    plan = task(images_seen=32, stages=(CropStage(0.5, 32, 4), CropStage(1.0, 64, 2)))
    assert steps_of(plan) == 16 // 4 + 16 // 2
    schedule = Schedule({"reconstruction": plan}, 0, 0.02)
    assert [schedule.stage("reconstruction", seen, 0).crop for seen in (0, 15, 16, 31, 40)] == [32, 32, 64, 64, 64]
    assert steps_of(task(images_seen=10, stages=(CropStage(0.5, 32, 4),))) == 3  # the last stage lasts until the end


@pytest.mark.parametrize("until", [0.07, 0.29, 0.5, 0.57, 1.0])
@pytest.mark.parametrize("minutes", [None, 5.0])
def test_a_state_agrees_with_the_schedule_after_every_step_and_no_other_does(until, minutes):
    stages = (CropStage(until, 32, 1), CropStage(0.9, 32, 3), CropStage(1.0, 32, 2))
    plans = {"reconstruction": task(images_seen=100, stages=stages), "segmentation": task(images_seen=9)}
    schedule = Schedule(plans, 0, 0.02, minutes)
    done, seen = dict.fromkeys(plans, 0), dict.fromkeys(plans, 0)
    for step in range(100 if minutes else schedule.total + 1):
        assert schedule.agrees(step, done, seen)
        other = {**seen, "reconstruction": seen["reconstruction"] + (1 if minutes is None else 2 * step + 1)}
        assert not schedule.agrees(step, done, other) and not schedule.agrees(step + 1, done, seen)
        if step > 20:
            turned = {"reconstruction": done["reconstruction"] - 9, "segmentation": done["segmentation"] + 9}
            assert not schedule.agrees(step, turned, seen)
        if minutes or step < schedule.total:
            chosen = schedule.task(done)
            seen[chosen] += schedule.stage(chosen, seen[chosen], step).batch
            done[chosen] += 1


def test_rates_rise_and_fall():
    schedule = Schedule({"reconstruction": task(images_seen=400)}, 10, 0.02)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == max(rates) == 1.0
    assert rates[55] == pytest.approx(0.51) and 0.02 < rates[-1] < 0.021
    flat = Schedule({"reconstruction": task(images_seen=400)}, 0, 1.0)
    assert {flat.rate(step) for step in range(100)} == {1.0}


def test_by_the_clock_the_share_of_time_decides():
    plan = task(stages=(CropStage(0.25, 32, 4), CropStage(1.0, 64, 2)))
    schedule = Schedule({"reconstruction": plan}, 0, 0.02, minutes=2.0)
    seen = []
    for used in (0, 29, 30, 60, 119, 120):
        schedule.used = used
        crop = schedule.stage("reconstruction", 10**9, 77).crop
        seen.append((crop, schedule.rate(77), schedule.ended(77)))
    assert [crop for crop, _, _ in seen] == [32, 32, 64, 64, 64, 64]
    cosine = 0.02 + 0.49 * (1 + np.cos(np.pi * np.array([0, 29, 30, 60, 119, 120]) / 120))
    np.testing.assert_allclose([rate for _, rate, _ in seen], cosine)
    assert [ended for _, _, ended in seen] == [False] * 5 + [True]
    assert schedule.total is None and schedule.task({"reconstruction": 10**9}) == "reconstruction"


def test_a_trial_replaces_rate_and_crops(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text("[learning_rates]\nwitt = 2e-4\n" + TASK)
    plan = read_protocol(path, learning_rate=3e-4, crops=20_000)
    assert plan.rate_of("witt") == plan.rate_of("gensc") == 3e-4
    assert plan.tasks["reconstruction"].images_seen == 20_000
    with pytest.raises(UserError, match="learning_rate = -1.0; it must be above 0"):
        read_protocol(path, learning_rate=-1.0)
