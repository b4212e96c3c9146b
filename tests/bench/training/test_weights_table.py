"""Tests of `weights show`: its table says what the sidecars say, in the order that was asked for."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.training.weights_table import weights_table
from systems.errors import CheckpointError, UserError


def weights(folder, system="gensc", size="small", rate=6e-4, seed=0, rates=None, crops=50_000, **values):
    """A weight file of a training run, with its sidecar and its state beside it. values: of the last validation."""
    path = folder / f"{system}-{size}" / f"{system}-{size}.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    (path.parent / "state.safetensors").write_bytes(b"state")
    protocol = {"learning_rate": rate} | ({} if rates is None else {"learning_rates": rates})
    curve = [{"step": 1, "val_psnr_0db": 1.0}, {"step": 2, "lr": 1e-5, **values}]
    facts = {"system": system, "size": size, "seed": seed, "protocol": protocol, "validation": curve,
             "images_seen": {"reconstruction": crops, "segmentation": 0}, "commit": "abc"}  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(facts))
    return path


def test_each_row_is_what_its_sidecar_says(tmp_path):
    best = {"val_psnr_20db": 27.4, "val_psnr_0db": 21.9, "val_psnr_10db": 25.8}
    one = weights(tmp_path / "b", size="small_no_f1", seed=2, **best)
    two = weights(tmp_path / "a", "witt", rates={"witt": 2e-4}, crops=20_000, val_psnr_0db=20.5)
    table = weights_table([one, tmp_path / "a"])
    assert table["file"].tolist() == [one.as_posix(), two.as_posix()]
    assert table["learning_rate"].tolist() == [6e-4, 2e-4] and table["seed"].tolist() == [2, 0]
    assert table["crops_reconstruction"].tolist() == [50_000, 20_000]
    assert list(table.columns[-3:]) == ["val_psnr_0db", "val_psnr_10db", "val_psnr_20db"]
    assert table["val_psnr_0db"].tolist() == [21.9, 20.5] and table["val_psnr_20db"].isna().tolist() == [False, True]
    assert weights_table([tmp_path])["system"].tolist() == ["witt", "gensc"]  # by path


def test_the_command_prints_a_table_and_csv(tmp_path):
    weights(tmp_path, val_miou_10db=0.4321, system="=fcn")
    shown = CliRunner().invoke(cli, ["weights", "show", str(tmp_path)])
    head, row = shown.output.splitlines()
    assert head.split()[:3] == ["system", "size", "seed"] and "miou_10db" in head and "0.4321" in row
    assert "crops_segmentation" not in head  # 0 everywhere
    text = CliRunner().invoke(cli, ["weights", "show", str(tmp_path), "--csv"]).output
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["val_miou_10db"] == "0.4321" and row["crops_segmentation"] == "0" and not row["system"].startswith("=")


@pytest.mark.parametrize(
    "facts",
    [{}, {"validation": [[]], "protocol": {"learning_rates": []}, "seed": {"a": 1}}, {"validation": [{"val_a": "x"}]}],
)
def test_weights_that_say_little_are_a_row(tmp_path, facts):
    path = weights(tmp_path)
    path.with_suffix(".json").write_text(json.dumps(facts))
    assert len(weights_table([path])) == 1
    assert CliRunner().invoke(cli, ["weights", "show", str(path)]).exit_code == 0


def test_what_is_no_weights_is_one_line(tmp_path):
    with pytest.raises(UserError, match="there are no weights here"):
        weights_table([tmp_path])
    with pytest.raises(CheckpointError, match="sidecar x.json is missing"):
        weights_table([tmp_path / "x.safetensors"])
    path = weights(tmp_path)
    for text, words in (("[]", "not a JSON object"), ('{"system": ["x"]}', "it must be a text: correct it")):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(CheckpointError, match=words):
            weights_table([path])
