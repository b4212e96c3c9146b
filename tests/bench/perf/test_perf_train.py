"""Tests of `perf train`: the numbers of its table are consistent, and both loops really train."""

import csv

import pytest
import torch

from bench.perf.loop_before import BATCH, LoopBefore
from bench.perf.operations import count_flops
from bench.perf.train import made_up, matrix_rate, report_train
from bench.training.protocol import read_protocol
from bench.training.run import build
from systems.errors import UserError
from systems.layers.dense import Dense, by_onednn, pointwise, two_layers
from systems.layers.up_convolution import UpConvolution

OPTIONS = {
    "systems": ("deepjscc",), "size": ("small",), "config": "light", "crop": 32, "batch": 2, "steps": 2, "before": True,
    "device": "cpu", "threads": None, "csv": None,
}  # fmt: skip


def test_the_table(tmp_path):
    said: list[str] = []
    (row,) = report_train({**OPTIONS, "csv": str(tmp_path / "t.csv")}, said.append)
    assert (row.system, row.task, row.crop, row.batch) == ("deepjscc", "reconstruction", 32, 2)
    assert min(row.data_s, row.forward_s, row.backward_s, row.optimiser_s) > 0
    assert row.ratio == pytest.approx(row.crops_per_s / row.before_crops_per_s)
    step = row.batch / row.crops_per_s
    assert row.matrix_share == pytest.approx(row.flops / step / row.matrix_flops_per_s)
    with (tmp_path / "t.csv").open(newline="") as file:
        (stored,) = csv.DictReader(file)
    assert float(stored["ratio"]) == row.ratio and f"{row.ratio:.2f}x" in said[2]


def test_flops_grow_with_the_crops():
    (one,) = report_train({**OPTIONS, "steps": 1, "before": False}, lambda text: None)
    (four,) = report_train({**OPTIONS, "steps": 1, "before": False, "batch": 8}, lambda text: None)
    assert four.flops == pytest.approx(4 * one.flops, rel=0.02) and one.before_crops_per_s is None


@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("layer", [torch.nn.Conv2d, torch.nn.ConvTranspose2d])
def test_a_convolution_costs_twice_as_much_backward(layer, groups):
    """By hand: 2 operations per weight, picture and position; the gradients of input and weight cost this each."""
    convolution = layer(8, 16, 3, stride=2, groups=groups, bias=False)
    images = torch.rand(5, 8, 9, 11, requires_grad=True)
    out, forward = count_flops(lambda: convolution(images))
    _, backward = count_flops(lambda: out.sum().backward())
    positions = 9 * 11 if layer is torch.nn.ConvTranspose2d else 4 * 5
    assert forward == 2 * (8 * 16 // groups * 9) * 5 * positions and backward == 2 * forward


def test_layers_cost_the_same_whoever_computes_them():
    """Without gradients oneDNN computes them, whose operator torch does not count."""
    x, mlp = torch.rand(2, 8, 5, 4), torch.nn.Sequential(Dense(4, 16), torch.nn.GELU(), Dense(16, 4))
    up = UpConvolution(8, 3, 5, 2)
    with torch.inference_mode():
        counts = [count_flops(call)[1] for call in (lambda: two_layers(mlp, x), lambda: up(x))]
        counts.append(count_flops(lambda: pointwise(x, torch.rand(6, 8)))[1])
        assert by_onednn(x), "and after a count it is oneDNN again"
    assert counts == [2 * (2 * 8 * 5) * 2 * 4 * 16, 2 * (2 * 5 * 4) * 8 * 3 * 25, 2 * (2 * 5 * 4) * 6 * 8]


def test_the_rate_is_that_of_a_product():
    """The rate is within a factor of three of the same matrix product timed here, on a machine with other work."""
    import time

    a = torch.randn(1024, 1024)
    best = 1e9
    for _ in range(6):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    assert 1 / 3 < matrix_rate("cpu", "off") * best / (2 * 1024**3) < 3


@pytest.mark.parametrize(("name", "task"), [("deepjscc", "reconstruction"), ("deeplab-jscc", "segmentation")])
def test_the_loop_as_it_was_trains(name, task):
    plan = read_protocol("light")
    system = build(name, "small", "none")
    before = [parameter.detach().clone() for parameter in system.parameters() if parameter.requires_grad]
    loop = LoopBefore(system, task, plan, made_up(64, task == "segmentation", "cpu"), 64, "cpu")
    losses = [loop.advance() for _ in range(2)]
    assert BATCH == 4 and losses[0] != losses[1]
    assert any(not torch.equal(a, b) for a, b in zip(before, loop.parameters, strict=True))


def test_bad_requests_are_one_line():
    for change, words in (
        ({"systems": ("linear",)}, "is fitted"),
        ({"size": ("huge",)}, "deepjscc has no size 'huge'"),
        ({"systems": None, "size": ("huge",)}, "no system has it"),
    ):
        with pytest.raises(UserError, match=words):
            report_train({**OPTIONS, **change}, lambda text: None)
