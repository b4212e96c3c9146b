"""Tests of `--precision`: bfloat16 changes the products of networks, and nothing else."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from skimage import data
from torch import nn

import baselines  # noqa: F401  (registers its systems)
from bench.cli import cli
from bench.measure.calls import LocalEnd
from bench.measure.channel import transmit
from bench.measure.point import Conditions
from bench.measure.row_independence import check_rows
from systems import precision, registry
from systems.errors import UserError
from systems.interface import Budget, Link

SIZE = (96, 112)
SHIPPED = [
    name
    for name in registry.names()
    if registry.find(name).learned and not registry.find(name).fitted and name != "adjscc-select"
]


def photographs() -> torch.Tensor:
    """Two photographs with faces and fine detail, uint8 (2, 3, *SIZE)."""
    return torch.stack(
        [torch.from_numpy(picture[60 : 60 + SIZE[0], 90 : 90 + SIZE[1]].copy()).permute(2, 0, 1)
         for picture in (data.astronaut(), data.chelsea())]
    )  # fmt: skip


def test_products_take_numbers_of_eight_bits_and_add_in_float32():
    """1 + 2^-9 is 1 in bfloat16. A sum of 300 ones is exact in float32; in bfloat16 it would stop at 256."""
    layer = nn.Linear(300, 1, bias=False)
    nn.init.constant_(layer.weight, 1 + 2**-9)
    with torch.no_grad():
        assert precision.in_bfloat16(layer)(torch.ones(1, 300)).item() == 300
        assert layer(torch.ones(1, 300)).item() == pytest.approx(300 * (1 + 2**-9))


def test_the_second_step_of_an_encoder_is_lowered_too():
    def prepare(images):
        return lambda other: images @ other

    value = torch.full((1, 1), 1 + 2**-9)
    assert precision.in_bfloat16(prepare)(value)(value).item() == 1
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("name", SHIPPED)
@torch.no_grad()
def test_a_shipped_network_gives_nearly_the_same_in_bfloat16(name):
    """The symbols differ, so the products were lowered; pictures and labels are float32 and almost those of float32."""
    task = registry.tasks_of(name)[0]
    images = photographs().float() / 255
    budget = Budget(bits=5000) if task == "segmentation" else Budget.from_cbr(1 / 16, *SIZE)
    link = Link(task, *SIZE, budget, snr_db=10.0)
    sent, outputs, variants = [], [], []
    for chosen in precision.PRECISIONS:
        system = registry.create(name, precision=chosen)
        sent.append(system.encode(images, link))
        assert sent[-1].symbols.dtype == torch.complex64
        outputs.append(system.decode(transmit(sent[-1], link, range(2)), link).output)
        variants.append(system.variant)
    plain, lowered = outputs
    assert lowered.dtype == torch.float32 and torch.isfinite(lowered).all()
    assert variants[1] == variants[0] + "-bf16"
    assert not torch.equal(plain, lowered)
    if task == "segmentation":
        assert (plain.argmax(1) == lowered.argmax(1)).float().mean() > 0.98
    else:
        errors = [(output - images).square().mean().log10().item() for output in outputs]
        assert 10 * abs(errors[0] - errors[1]) < 0.02  # dB


@pytest.mark.parametrize("name", SHIPPED)
def test_rows_stand_alone_in_bfloat16(name):
    for task in registry.tasks_of(name):
        cbr, bits = (1 / 4, None) if task == "reconstruction" else (None, 20000)
        conditions = Conditions(task, "images", "awgn", cbr, bits, "")
        check_rows(LocalEnd(registry.create(name, precision="bf16")), conditions, photographs()[0], 12.0)


def test_an_unknown_precision_is_one_clear_line():
    with pytest.raises(UserError, match="--precision half: no such precision; there are float32 and bf16"):
        registry.create("deepjscc", precision="half")


def test_a_run_names_the_precision_in_its_rows_and_its_manifest(tmp_path):
    out = tmp_path / "run"
    command = (
        f"run --figure fig4 --systems deepjscc,linear --snr 10 --limit 1 --engine serial --precision bf16 --out {out}"
    )
    done = CliRunner().invoke(cli, command.split(), prog_name="bench")
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(out / "samples.csv").set_index("system")
    assert rows.loc["deepjscc", "variant"].endswith("-bf16")
    assert not rows.loc["linear", "variant"].endswith("-bf16")
    told = json.loads((out / "manifest.json").read_text())["systems"]
    assert told["deepjscc"]["options"] == {"precision": "bf16"} and not told["linear"]["options"]
