"""Tests of `perf refinement`: one step repeats the run's rows, and a faulty number gives one clear line."""

import csv

import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.cli.refine import refine_command
from bench.data import open_dataset
from bench.perf.refinement import refinement_table
from systems import create


def test_one_step_is_what_the_figures_use(tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "run",
                "--systems",
                "gensc",
                "--figure",
                "fig4",
                "--snr",
                "10",
                "--limit",
                "2",
                "--engine",
                "serial",
                "--salt",
                "none",
                "--out",
                str(tmp_path),
            ]
        )
    assert stop.value.code == 0
    with (tmp_path / "samples.csv").open() as file:
        rows = [float(row["psnr_db"]) for row in csv.DictReader(file)]
    table = refinement_table(create("gensc"), open_dataset("photos-224").take(2), (10.0,), (1, 3))
    one, three = table.iloc[0], table.iloc[1]
    assert one["psnr_db"] == pytest.approx(sum(rows) / 2, abs=1e-3)
    assert one["psnr_gain_db"] == 0 and three["psnr_gain_db"] == pytest.approx(
        three["psnr_db"] - one["psnr_db"], abs=1e-9
    )
    assert three["psnr_gain_db"] != 0  # the number of steps reaches the decoder


@pytest.mark.parametrize("steps", ["0", "two", "1,,2"])
def test_a_faulty_number_of_steps(steps):
    done = CliRunner().invoke(refine_command, ["--steps", steps])
    assert done.exit_code == 2 and "at least 1" in done.output
