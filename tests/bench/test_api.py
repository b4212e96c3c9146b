"""Tests that the bench from Python gives the results of the command line."""

import numpy as np
import pytest
import torch
from skimage import data

import bench
from bench.report.overheads import kept_flops
from systems.errors import UserError
from systems.interface import Decoded, System, Transmission

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture(scope="module")
def pictures():
    """Two crops, uint8 (2, 3, 64, 96)."""
    crops = [data.astronaut()[100:164, 100:196], data.coffee()[100:164, 100:196]]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def test_a_table_row_per_picture_and_snr(pictures):
    table = bench.evaluate("linear", pictures, snr_db=[0, 20])
    assert table[["image", "snr_db"]].values.tolist() == [["0", 0.0], ["1", 0.0], ["0", 20.0], ["1", 20.0]]
    means = table.groupby("snr_db")["psnr_db"].mean()
    assert means[20.0] > means[0.0] + 5
    assert (table["n_uses"] <= 64 * 96 * 3 // 16).all() and np.allclose(table["tx_power"], 1, atol=1e-3)


def test_transmit_gives_the_pictures_that_evaluate_scores(pictures):
    seen = bench.transmit("linear", pictures, snr_db=20, seed=5)
    assert seen.dtype == torch.uint8 and seen.shape == pictures.shape
    table = bench.evaluate("linear", pictures, snr_db=20, seed=5)
    mse = (seen.double() - pictures.double()).square().mean(dim=(1, 2, 3))
    assert np.allclose(10 * np.log10(255**2 / mse), table["psnr_db"])
    floats = bench.transmit("linear", pictures.float().numpy() / 255, snr_db=20, seed=5)
    assert torch.equal(floats, seen)


@pytest.mark.parametrize("snr_db", [np.float32(20), torch.tensor(20.0), np.array([20.0]), range(20, 21), iter([20])])
def test_numbers_of_any_kind_are_snrs(pictures, snr_db):
    table = bench.evaluate("linear", pictures[:1], snr_db=snr_db)
    assert list(table["snr_db"]) == [20.0]


def test_transmit_takes_the_snrs_that_a_run_takes(pictures):
    for snr_db in (float("nan"), 1000.0):
        with pytest.raises(UserError, match="^snr_db: "):
            bench.transmit("linear", pictures, snr_db=snr_db)


@pytest.mark.parametrize(
    ("request_", "words"), [({"systems": "linear,gensk"}, "'gensk'"), ({"figures": "fig9"}, "'fig9'")]
)
def test_names_may_be_one_text(request_, words):
    with pytest.raises(UserError, match=words):
        bench.run(**request_)


def test_a_system_of_one_s_own_is_audited(pictures):
    class Loud(System):
        def encode(self, images, link):
            uses = link.budget.allowed_uses()
            return Transmission(2 * torch.ones(len(images), uses, dtype=torch.complex64))

        def decode(self, received, link):
            return Decoded(torch.zeros(len(received.symbols), 3, link.height, link.width))

    with pytest.raises(RuntimeError, match="it must be 1"):
        bench.evaluate(Loud("loud"), pictures)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": torch.zeros(3, 3)}, "shape"),
        ({"images": torch.full((3, 8, 8), 2.0)}, r"\[0, 1\]"),
        ({"images": torch.zeros(3, 8, 8, dtype=torch.int64)}, "uint8"),
        ({"task": "segmentation"}, "not segmentation"),
        ({"channel": "wire"}, "wire"),
        ({"system": "gensc", "task": "segmentation"}, "masks"),
    ],
)
def test_bad_input_is_named(pictures, change, words):
    asked = {"system": "linear", "images": pictures} | change
    with pytest.raises(UserError, match=words):
        bench.evaluate(**asked)


def test_run_is_the_command_and_resumes(pictures, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / "own" / f"p{index}.png")
    asked = {"systems": ["linear"], "snr": [0, 10], "dataset": f"folder:{tmp_path / 'own'}", "out": "mine"}
    run = bench.run(**asked)
    assert len(run.samples) == 4 and set(run.summary["system"]) == {"linear"}
    before = (tmp_path / "mine" / "samples.csv").read_bytes()
    assert len(bench.run(**asked).samples) == 4 and (tmp_path / "mine" / "samples.csv").read_bytes() == before
    assert len(bench.load_run("mine").samples) == 4


def test_a_run_counts_operations_as_the_command_does(pictures, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    Image.fromarray(pictures[0].permute(1, 2, 0).numpy()).save(tmp_path / "own" / "p.png")
    own = f"folder:{tmp_path / 'own'}"
    run = bench.run(["fig4"], ["deepjscc"], [10], dataset=own, out="mine", options={"checkpoint": "none"})
    counted = kept_flops(run)
    assert set(counted) == {("fig4", "deepjscc")} and all(counted["fig4", "deepjscc"].values())
