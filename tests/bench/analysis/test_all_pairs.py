"""Tests of the differences of all pairs: the same numbers as `compare`, which takes two systems at a time."""

import numpy as np
import pandas as pd
import pytest
from made_run import figure, make_run

from bench.analysis.all_pairs import all_pairs
from bench.analysis.compare_numbers import compare_sides
from bench.analysis.sides import side
from bench.results.reader import Run


def _run(tmp_path, task):
    names = ["gensc", "linear", "jpeg-ldpc-16qam"] if task == "reconstruction" else ["gensc", "jpeg-ldpc-16qam-fcn"]
    generator = np.random.default_rng(3)

    def result(_figure, system, snr, index):
        if system.startswith("jpeg") and (snr < 10 or index == 2):
            return "outage"
        base = (20 + snr / 2) if task == "reconstruction" else 0.5 + snr / 100
        return base + float(generator.normal(0, base / 50)) + (system == "gensc") * base / 40

    return Run.open(make_run(tmp_path / "run", [figure("f", names, task=task, snrs=[0.0, 10.0, 20.0])], result))


@pytest.mark.parametrize(("task", "metric"), [("reconstruction", "psnr_db"), ("segmentation", "miou")])
def test_all_pairs_agree_with_compare(tmp_path, task, metric):
    """The pairs agree over all pictures, lost ones as they were scored."""
    run = _run(tmp_path, task)
    names = run.figures[0]["systems"]
    found = {(d.a, d.b, d.snr_db): d for d in all_pairs(run.samples, run.confusion, metric)}
    assert len(found) == 3 * len(names) * (len(names) - 1) // 2
    checked = 0
    for (a, b, snr), difference in found.items():
        table = compare_sides(side(run, a), side(run, b), metric)
        row = table[table["snr_db"] == snr].iloc[0]
        assert difference.n == row["n_images"]
        pairs = zip(
            (difference.mean, difference.low, difference.high),
            (row["difference"], row["ci_low"], row["ci_high"]),
            strict=True,
        )
        for ours, theirs in pairs:
            assert (np.isnan(ours) and np.isnan(theirs)) or ours == pytest.approx(theirs, abs=1e-9)
        checked += difference.n > 1
    assert checked >= 2  # some points must be comparable
    against = [(d.a, d.b) for d in all_pairs(run.samples, run.confusion, metric, against="gensc")]
    assert set(against) == {pair[:2] for pair in found if "gensc" in pair}


@pytest.mark.parametrize("metric", ["psnr_db", "psnr_of_mean_mse_db"])
@pytest.mark.parametrize("pictures", range(2, 9))
def test_few_pictures_have_the_interval_that_compare_gives(tmp_path, pictures, metric):
    generator = np.random.default_rng(pictures)
    shown = figure("f", ["a", "b"], snrs=[float(snr) for snr in range(12)])
    images = [f"p{index}" for index in range(pictures)]
    run = make_run(tmp_path / "run", [shown], lambda *_: 30.0 + generator.normal(), images=images)
    run = Run.open(run)
    table = compare_sides(side(run, "a"), side(run, "b"), metric).dropna(subset=["snr_db"])
    found = all_pairs(run.samples, run.confusion, metric)
    assert [one.low for one in found] == pytest.approx(table["ci_low"].tolist(), abs=1e-9)
    assert [one.high for one in found] == pytest.approx(table["ci_high"].tolist(), abs=1e-9)


def test_psnr_of_the_mean_error_is_taken_after_the_mean():
    rows = pd.DataFrame(
        {"system": ["a", "a", "b", "b"], "image_id": ["p", "q"] * 2, "snr_db": 0.0, "rep": 0.0, "status": "ok",
         "mse": [1.0, 3.0, 4.0, 4.0], "cell_id": "c"}
    )  # fmt: skip
    (difference,) = all_pairs(rows, pd.DataFrame(columns=["cell_id"]), "psnr_of_mean_mse_db")
    assert difference.mean == pytest.approx(10 * np.log10(4 / 2))
    assert difference.low <= difference.mean <= difference.high
