"""Tests that recorded and compiled passes train like the plain passes, and that these replace them after an error.

A CUDA graph needs a GPU. Here the record is the function itself, run anew on the buffers that a graph would read: what
is copied into them, and which gradients the optimiser meets, is the same.
"""

import time

import pytest
import torch
from training_ground import HEAD, learner, pictures

from bench.training import fast_step
from bench.training.crops import Album
from bench.training.fast_step import Compiled, Recorded, TooLong, limit
from bench.training.protocol import read_protocol
from bench.training.run import build

BOTH = """[tasks.reconstruction]
images_seen = 40
stages = [{ until = 1.0, crop = 32, batch = 2 }]
sources = ["made"]
cbr = "1/16"
budget_jitter = 0.2
[tasks.segmentation]
images_seen = 40
stages = [{ until = 1.0, crop = 32, batch = 2 }]
sources = ["made"]
kbits = [3, 50]
"""


def make(tmp_path, name, said=None):
    path = tmp_path / "p.toml"
    path.write_text(HEAD + BOTH)
    data = {
        task: Album(pictures(count=4, height=40, width=50, mask=True), "other", 0, 32, task == "segmentation")
        for task in ("reconstruction", "segmentation")
    }
    said = [] if said is None else said
    return learner(build(name, "small", "none"), read_protocol(path), data, say=said.append)


def recorded(one, record):
    """Let a learner's passes be recorded by `record`."""
    one.passes = Recorded(one.passes, one.parameters, one.name, one.say, record, one.module.sends, one.prepare)
    return one


@pytest.mark.parametrize("name", ["deepjscc", "adjscc"])
def test_recorded_passes_train_the_same_weights(tmp_path, name):
    plain, other = make(tmp_path, name), recorded(make(tmp_path, name), lambda body: body)
    for _ in range(12):
        assert plain.advance()["losses"]["picture"] == other.advance()["losses"]["picture"]
    made = [value for value in other.passes.kinds.values() if value is not None]
    assert made and len(other.passes.kinds) > len(made)  # some kinds came twice, others once
    for key, value in plain.module.state_dict().items():
        assert torch.equal(value, other.module.state_dict()[key]), key


def test_dropout_and_batch_norm_are_those_of_the_step(tmp_path):
    """DeepLab-JSCC has both. Where a record is made, its statistics see that batch twice: equal but for that."""
    said = []
    plain, other = make(tmp_path, "deeplab-jscc"), recorded(make(tmp_path, "deeplab-jscc", said), lambda body: body)
    for _ in range(12):
        mine, its = (one.advance()["losses"]["cross_entropy"] for one in (plain, other))
        assert torch.allclose(mine, its, rtol=1e-5)
    assert any(other.passes.kinds.values()) and not said


@pytest.mark.parametrize("fault", ["refused", "wrong losses", "wrong gradients"])
def test_a_record_that_fails_is_dropped_with_one_line(tmp_path, fault):
    def record(body):
        if fault == "refused":
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

        def again():
            losses, gradients = body()
            if fault == "wrong losses":
                return {key: 1.1 * value for key, value in losses.items()}, gradients
            return losses, [None if one is None else 1.5 * one for one in gradients]

        return again

    said: list[str] = []
    plain, other = make(tmp_path, "deepjscc"), recorded(make(tmp_path, "deepjscc", said), record)
    for _ in range(8):
        assert plain.advance()["losses"]["picture"] == other.advance()["losses"]["picture"]
    assert len(said) == 1 and "steps are not recorded" in said[0] and "\n" not in said[0]
    for key, value in plain.module.state_dict().items():
        assert torch.equal(value, other.module.state_dict()[key]), key


@pytest.mark.parametrize("fault", ["fails", "sleeps"])
def test_a_compilation_that_fails_or_takes_too_long_gives_way(tmp_path, monkeypatch, fault):
    def compile(module):
        def call(*arguments):
            if fault == "sleeps":
                time.sleep(60)
            raise RuntimeError("no compiler\nis here")

        return call

    monkeypatch.setattr(fast_step.torch, "compile", compile)
    said: list[str] = []
    plain, other = make(tmp_path, "deepjscc"), make(tmp_path, "deepjscc", said)
    other.passes = Compiled(other.pass_by, other.step_module, other.name, other.say, 0.3)
    start = time.monotonic()
    for _ in range(3):
        assert plain.advance()["losses"]["picture"] == other.advance()["losses"]["picture"]
    assert time.monotonic() - start < 50
    assert len(said) == 1 and "the step is not compiled" in said[0] and "\n" not in said[0]


def test_an_error_of_the_network_itself_is_not_swallowed(tmp_path):
    one = make(tmp_path, "deepjscc")

    def broken(step, batch):
        raise ValueError("shapes")

    with pytest.raises(ValueError, match="shapes"):
        Compiled(broken, one.step_module, one.name, one.say, 5.0)(one.draw())


def test_the_limit_of_time():
    with limit(None), limit(5.0):
        pass
    with pytest.raises(TooLong), limit(0.05):
        while True:
            time.sleep(0.01)
    time.sleep(0.1)  # no alarm is left behind


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["gensc", "deepjscc", "adjscc", "witt", "deeplab-jscc", "fcn", "gensc-select"])
def test_on_a_gpu_steps_are_recorded_and_train_as_plain_ones(tmp_path, name):
    from dataclasses import replace

    from bench.training.distributed import World

    losses = []
    for record in (False, True):
        said: list[str] = []
        one = make(tmp_path, name)
        data = {
            task: Album(pictures(4, 40, 50, True), "other", 0, 32, task == "segmentation", "cuda")
            for task in ("reconstruction", "segmentation")
        }
        plan = replace(one.protocol, record=record)
        one = learner(build(name, "small", "none"), plan, data, world=World(device="cuda"))
        if record:
            one.passes.say = said.append
        losses.append([float(sum(one.advance()["losses"].values())) for _ in range(40)])
        if record:
            assert not one.passes.off and any(one.passes.kinds.values()) and not said
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
