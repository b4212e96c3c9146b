"""Tests of the training run: exact resuming, the same curve with two processes, and what its weights say of it."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from training_ground import HEAD, album, command, here, learner, trainer, voc

import baselines  # noqa: F401  (registers its systems)
from bench.measure.channel import transmit
from bench.training.protocol import read_protocol
from bench.training.run import build
from bench.training.sidecar import sidecar_of
from systems import registry
from systems.errors import UserError
from systems.interface import Budget, Link
from systems.sidecars import read_facts


def test_killed_and_resumed_is_uninterrupted_to_the_bit(ground, capsys):
    root, protocol = ground
    plan = protocol(160)
    assert here(capsys, *command(root, plan, "whole"))[0] == 0
    state = root / "killed" / "deepjscc-small" / "state.safetensors"
    process = subprocess.Popen(
        [sys.executable, *command(root, plan, "killed")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not state.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert state.is_file() and not (root / "killed" / "deepjscc-small" / "deepjscc-small.safetensors").exists()
    code, said = here(capsys, *command(root, plan, "killed"))
    assert code == 0 and "resuming at step" in said
    for name in ("deepjscc-small.safetensors", "metrics.csv"):
        assert (root / "killed" / "deepjscc-small" / name).read_bytes() == (
            root / "whole" / "deepjscc-small" / name
        ).read_bytes()


@pytest.mark.parametrize("name", ["gensc", "deepjscc"])
def test_every_tensor_of_a_resumed_run_is_that_of_an_uninterrupted_one(ground, name):
    """3 steps, save, load into a fresh trainer, 2 more steps: weights, averages and both moments equal those after 5
    steps.
    """
    root, protocol = ground
    plan = read_protocol(protocol(160))
    data = {"reconstruction": album(root, "photos", least_side=32)}

    def fresh(folder: str):
        return trainer(registry.create(name, checkpoint="none"), plan, data, root / folder)

    whole, first = fresh("a"), fresh("b")
    for _ in range(5):
        whole.learner.advance()
    for _ in range(3):
        first.learner.advance()
    first.save_state()
    second = fresh("b")
    assert second.load_state() and second.learner.step == 3
    for _ in range(2):
        second.learner.advance()
    learners = (whole.learner, second.learner)
    moments = [
        {f"{i}/{key}": value for i, p in enumerate(t.parameters) for key, value in t.optimiser.state[p].items()}
        for t in learners
    ]
    states = [
        {**t.module.state_dict(), **{f"average/{key}": value for key, value in t.average.values.items()}, **m}
        for t, m in zip(learners, moments)
    ]
    assert states[0].keys() == states[1].keys()
    different = [key for key in states[0] if not torch.equal(states[0][key], states[1][key])]
    assert not different


def test_steps_of_a_short_visit_are_kept_and_said(ground, capsys):
    root, protocol = ground
    plan = protocol(160)
    folder = root / "visits" / "deepjscc-small"
    for reached in (1, 2):
        code, said = here(capsys, *command(root, plan, "visits", "--max-steps", "1"))
        assert code == 0
        assert f"stopped at step {reached} of 40; the same command continues from there" in said
        assert str(folder / "deepjscc-small.safetensors") in said
        assert f"deepjscc step {reached}/40" in said and "ETA" in said
        with safe_open(folder / "state.safetensors", "pt") as file:
            assert json.loads(file.metadata()["facts"])["step"] == reached


def test_ctrl_c_keeps_the_steps(ground):
    root, protocol = ground
    plan = read_protocol(protocol(160), checkpoint_every=1000, validate_every=1000)
    data = {"reconstruction": album(root, "photos", least_side=32)}
    said = []
    one = trainer(registry.create("deepjscc", checkpoint="none"), plan, data, root / "a")
    one.say = said.append

    def interrupt(*_):
        if one.learner.step == 3:
            raise KeyboardInterrupt

    one.learner.step_module.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        one.run()
    assert "stopped at step 3 of 40" in said[-1]
    again = trainer(registry.create("deepjscc", checkpoint="none"), plan, data, root / "a")
    assert again.load_state() and again.learner.step == 3


def loss_curve(folder: Path) -> np.ndarray:
    with open(folder / "metrics.csv", newline="") as file:
        return np.array(
            [
                sum(float(value) for key, value in row.items() if key in ("picture", "cross_entropy") and value)
                for row in csv.DictReader(file)
            ]
        )


def test_two_processes_train_the_curve_of_one(labelled, capsys):
    """Half a batch on each of two processes gives the loss curve of the whole batch on one, at each of 3 steps.

    deeplab-jscc has batch norm, dropout, and masks of which 0 to 70 % is void; deepjscc has none of these. Both runs
    add the same float32 numbers in another order (2^-24 of each sum), and every step of AdamW enlarges the difference:
    measured, from 0 at the first step to 1e-6 of the loss at the eighth. Faults give far larger differences: with batch
    norm and dropout separate in each process the losses differ by 5e-3 at the first step, with a plain mean over
    unevenly labelled halves by 3e-3.
    """
    root, protocol = labelled
    systems = ("deepjscc", "deeplab-jscc")
    code, said = here(capsys, *command(root, protocol(12), "one", system=",".join(systems)))
    assert code == 0, said[-2000:]
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    arguments = command(root, protocol(12), "two", system=",".join(systems))
    two = subprocess.run([torchrun, "--standalone", "--nproc-per-node", "2", *arguments], capture_output=True,
                         text=True, timeout=300, check=False)  # fmt: skip
    assert two.returncode == 0, two.stderr[-20_000:]
    for system in systems:
        curves = [loss_curve(root / name / f"{system}-small") for name in ("one", "two")]
        assert len(curves[0]) == 3 and len(set(curves[0])) == 3
        np.testing.assert_allclose(curves[1], curves[0], rtol=2e-5)


LEAVE = """
import sys, time
from pathlib import Path
from bench.training.distributed import World

with World.join("cpu") as world:
    if world.first:
        time.sleep(1.0)
        Path(sys.argv[1]).touch()
print(Path(sys.argv[1]).exists())
"""


def test_no_process_leaves_before_the_first_has_written_the_weights(tmp_path):
    """torchrun ends all processes when one fails, also at its exit: the weights would be lost."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    around = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen([sys.executable, "-c", LEAVE, str(tmp_path / "weights")], text=True, stdout=subprocess.PIPE,
                         env={**around, "RANK": rank, "LOCAL_RANK": rank})
        for rank in "01"
    ]  # fmt: skip
    assert [one.communicate(timeout=100)[0].strip() for one in processes] == ["True", "True"]


def test_the_sidecar_says_what_the_weights_saw(ground, capsys):
    root, protocol = ground
    assert here(capsys, *command(root, protocol(8), "run"))[0] == 0
    facts = read_facts(root / "run" / "deepjscc-small" / "deepjscc-small.safetensors")
    assert facts["images_seen"] == {"reconstruction": 8} and facts["snr_db"] == [0.0, 20.0]
    assert "packs" not in facts["data"]["reconstruction"]
    assert facts["data"]["reconstruction"]["pictures"] == 6  # 8 pictures less 2 that are held out
    assert facts["validation"][-1]["step"] == 2 and facts["licence"] and facts["seed"] == 3


@pytest.mark.parametrize("said", ["not known: weights of others", {"reconstruction": "many"}, 5, None])
def test_weights_that_do_not_say_what_they_saw_can_be_trained_further(ground, said):
    """The sidecar counts what this run adds, and keeps what the weights said."""
    root, protocol = ground
    module = registry.create("deepjscc", checkpoint="none")
    module.facts = {"images_seen": said, "data": "photographs", "licence": 7}
    own = learner(module, read_protocol(protocol(8)), {"reconstruction": album(root, "photos")})
    own.advance()
    facts = sidecar_of(own, [], 1.0)
    assert facts["images_seen"] == {"reconstruction": 4} and facts["started_from"] == {"images_seen": said}
    assert set(facts["data"]) == {"reconstruction"} and facts["licence"].startswith("7; ")
    again = learner(module, read_protocol(protocol(8)), {"reconstruction": album(root, "photos")})
    again.module.facts = facts
    assert sidecar_of(again, [], 1.0)["licence"] == facts["licence"]  # each licence once


def test_a_run_at_one_snr_meets_that_snr_alone_and_says_so(ground):
    root, protocol = ground
    plan = read_protocol(protocol(8), snr_db=7.0)
    data = {"reconstruction": album(root, "photos")}
    one = trainer(registry.create("deepjscc", checkpoint="none"), plan, data, root / "a")
    assert set(one.learner.draw().link.snr_db.tolist()) == {7.0}
    assert one.facts()["snr_db"] == [7.0, 7.0] and set(one.validate()) == {"val_psnr_7db"}
    wide = learner(registry.create("deepjscc", checkpoint="none"), read_protocol(protocol(8)), data)
    snrs = torch.cat([wide.draw().link.snr_db for wide.step in range(100)])
    assert 0 <= snrs.min() < 1 and 19 < snrs.max() <= 20 and abs(snrs.mean() - 10) < 5 * np.sqrt(400 / 12 / 400)


LEARNED = [entry.name for entry in registry.entries() if entry.learned and "reconstruction" in entry.tasks]


@pytest.mark.parametrize("name", LEARNED)
def test_what_a_system_keeps_of_a_validation_can_be_trained_with(ground, name):
    """A system may keep tables that it made in a validation. Tensors of inference mode would end the next step."""
    root, protocol = ground
    system = registry.create(name, checkpoint="none")
    data = {"reconstruction": album(root, "photos")}
    one = trainer(system, read_protocol(protocol(8), snr_db=7.0), data, root / "a")
    assert set(one.validate()) == {"val_psnr_7db"}
    assert np.isfinite(float(one.learner.advance()["losses"]["picture"]))


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing(ground):
    root, protocol = ground
    plan = read_protocol(protocol(160), learning_rate=1e6, warmup=0, clip_norm=1e6)
    data = {"reconstruction": album(root, "photos", least_side=32)}
    one = trainer(registry.create("deepjscc", checkpoint="none"), plan, data, root / "a")
    with torch.no_grad():
        next(one.learner.module.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="loss is nan by step 1; lower its learning rate"):
        one.run()
    assert not (root / "a").exists()


def test_a_training_that_goes_on_tells_the_sources_and_packs_of_the_one_before(ground):
    root, protocol = ground
    module = registry.create("deepjscc", checkpoint="none")
    module.facts = {"data": {"reconstruction": {"sources": ["cid22", 5], "packs": ["ab"]}, "segmentation": "voc"}}
    own = learner(module, read_protocol(protocol(8)), {"reconstruction": album(root, "photos")})
    told = sidecar_of(own, [], 1.0)["data"]
    assert told["reconstruction"]["sources"] == ["cid22", "photos"] and told["reconstruction"]["packs"] == ["ab"]
    assert told["segmentation"] == "voc"


def test_going_on_with_one_task_leaves_the_other_to_the_bit(tmp_path):
    """The shipped GenSC gets two steps of segmentation. Its pictures stay the same, its segmentation changes, and the
    counts add up.
    """
    voc(tmp_path, count=8, side=112)
    path = tmp_path / "p.toml"
    path.write_text(
        HEAD
        + """start = "shipped"
[tasks.segmentation]
images_seen = 4
stages = [{ until = 1.0, crop = 112, batch = 2 }]
sources = ["voc2012:train"]
kbits = 20
"""
    )
    plan = read_protocol(path)
    data = {"segmentation": album(tmp_path, "voc2012:train", with_masks=True, least_side=112)}
    system = build("gensc", "small", plan.start)
    one = trainer(system, plan, data, tmp_path / "a")
    one.learner.advance()
    one.learner.advance()
    after = registry.create("gensc")
    after.load_state_dict(system.state_dict())
    outputs = {}
    image = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    for task, budget in (("reconstruction", Budget.from_cbr(1 / 16, 112, 112)), ("segmentation", Budget(bits=20_000))):
        for name, other in (("before", registry.create("gensc")), ("after", after)):
            link = Link(task, 112, 112, budget, "awgn", 10.0)
            with torch.inference_mode():
                outputs[task, name] = other.decode(transmit(other.encode(image, link), link, [0]), link).output
    assert torch.equal(outputs["reconstruction", "before"], outputs["reconstruction", "after"])
    assert not torch.equal(outputs["segmentation", "before"], outputs["segmentation", "after"])
    seen = registry.create("gensc").facts["images_seen"]
    assert one.facts()["images_seen"] == {**seen, "segmentation": seen["segmentation"] + 4}
    assert one.facts()["started_from"]["sha256"] == registry.create("gensc").facts["sha256"]
    before, facts = registry.create("gensc").facts, one.facts()
    assert facts["notes"] == before["notes"] and facts["licence"] == f"{before['licence']}; not stated"
