"""Tests of the spread between trainings: its size in closed form, and that no smaller difference is decided."""

import numpy as np
import pytest
from made_run import SNRS, figure, make_run, without_means

from bench.analysis.claim_checks import slope
from bench.analysis.claim_evidence import RECONSTRUCTION_RIVALS
from bench.analysis.claims import CLAIMS
from bench.analysis.compare import compare
from bench.analysis.compare_text import report
from bench.analysis.training_spread import Spread, of_difference, spread, spread_of_statistic, without_cells
from bench.results.reader import Run
from bench.results.schema import FAILURE_COLUMNS
from bench.results.store import RunStore

LEAD = {"gensc": 0.3}


#: The point of the made runs, and another channel of it.
FIG5 = {"task": "reconstruction", "dataset": "set-fig5", "channel": "awgn", "cbr_target": 1 / 16, "bits_target": None,
        "uses_target": None}  # fmt: skip


FAILED = {"system": "gensc", "dataset": "set-fig5", "channel": "awgn", "snr_db": 4.0, "cbr_target": 1 / 16}


def value(figure, system, snr, index):
    return 20 + 4 * index + 0.5 * snr + LEAD.get(system, 0.0)


def with_seeds(folder, shifts, systems=("gensc", "witt"), seeded=("gensc",), name="fig5"):
    """A run, and in its folder `seeds` three of other trainings of `seeded`. shifts: shift(training, snr) in dB."""
    make_run(folder, [figure(name, list(systems))], value)
    for training in range(3):
        make_run(
            folder / "seeds" / str(training),
            [figure(name, list(seeded))],
            lambda figure, system, snr, index, training=training: (
                value(figure, system, snr, index) + shifts(training, snr)
            ),
        )
    return Run.open(folder)


def test_the_largest_standard_deviation_over_the_points_counts(tmp_path):
    run = with_seeds(tmp_path / "run", lambda training, snr: 0.1 * training * (2 if snr == 10 else 1))
    found = spread(run, "gensc", FIG5, "psnr_db")
    assert found == Spread(pytest.approx(0.2, abs=1e-6), 3)  # 0, 0.2 and 0.4 dB at 10 dB
    labels = FIG5 | {"task": "segmentation"}
    for absent in (("witt", FIG5, "psnr_db"), ("gensc", labels, "psnr_db"), ("gensc", FIG5, "lpips")):
        assert not spread(run, *absent).measured


def test_a_column_that_is_not_summarised_has_its_spread_too(tmp_path):
    """The mean squared error of a training, over the pictures at 0 dB, in closed form."""
    run = with_seeds(tmp_path / "run", lambda training, snr: 0.1 * training)
    psnr = 20.3 + 4 * np.arange(8) + 0.1 * np.arange(3)[:, None]
    of_training = (255**2 * 10 ** (-psnr / 10)).mean(axis=1)
    assert spread(run, "gensc", FIG5, "mse") == Spread(pytest.approx(of_training.std(ddof=1)), 3)
    assert spread(run, "gensc", FIG5, "n_uses") == Spread(0.0, 3)
    labels = FIG5 | {"task": "segmentation"}
    for absent in (("witt", FIG5, "mse"), ("gensc", labels, "mse"), ("gensc", FIG5, "device")):
        assert not spread(run, *absent).measured


@pytest.mark.parametrize("way", ["one point has no mean", "no point has a mean", "a cell failed"])
@pytest.mark.parametrize("order", [("gensc", "witt"), ("witt", "gensc")])
def test_nothing_is_decided_where_a_training_lacks_cells(tmp_path, way, order):
    """A system could fail where a training does badly: what is left would say that its trainings are alike."""
    systems = ("gensc", *RECONSTRUCTION_RIVALS)
    run = with_seeds(tmp_path / "run", lambda training, snr: 0.01 * training, systems)
    assert set(compare(*order, run=run.directory)["verdict"]) == {"A" if order[0] == "gensc" else "B"}
    seed = run.directory / "seeds" / "2"
    if way == "a cell failed":
        RunStore(seed).write_table("failures.csv", FAILURE_COLUMNS, [FAILED])
    else:
        without_means(seed, [("gensc", snr) for snr in (SNRS if way == "no point has a mean" else [4.0])])
    run = Run.open(run.directory)
    assert without_cells(run, "gensc") == ("2",) and without_cells(run, "witt") == ()
    for metric in ("psnr_db", "mse"):
        table = compare(*order, run=run.directory, metric=metric)
        assert np.isinf(table["training_spread"]).all() and set(table["verdict"]) == {"undecided"}
        assert "lacks cells of a training, so nothing is decided" in report(table)
    for name in ("high-resolution-low-snr", "gap-grows-with-snr"):
        found = next(one.check for one in CLAIMS if one.name == name)(run)
        assert found.verdict == "undecided" and "cells of a training are absent" in found.numbers[0]
    others = compare("witt", "adjscc", run=run.directory)
    assert not others["training_spread"].any()


@pytest.mark.parametrize("metric", ["psnr_db", "psnr_of_mean_mse_db", "mse"])
@pytest.mark.parametrize("step, verdict", [(0.25, "A"), (0.35, "undecided")])
def test_no_column_decides_what_another_seed_could_turn(tmp_path, metric, step, verdict):
    """GenSC leads by 0.3 dB at one SNR, so by 7 % of the error."""
    make_run(tmp_path / "run", [figure("fig5", ["gensc", "witt"], snrs=[4.0])], value)
    for training in range(3):
        make_run(
            tmp_path / "run" / "seeds" / str(training),
            [figure("fig5", ["gensc"], snrs=[4.0])],
            lambda *of, training=training: value(*of) + step * (training - 1),
        )
    table = compare("gensc", "witt", run=tmp_path / "run", metric=metric)
    assert (table["training_spread"] > 0).all() and list(table["verdict"]) == [verdict]


def test_the_spread_of_a_slope(tmp_path):
    run = with_seeds(tmp_path / "run", lambda training, snr: 0.01 * training * snr)
    found = spread_of_statistic(run, "gensc", FIG5, "psnr_db", slope)
    assert found.trainings == 3 and found.std == pytest.approx(0.01, abs=1e-6)


def test_two_trainings_that_are_independent_add_their_variances():
    assert of_difference(Spread(0.3, 3), Spread(0.4, 3)) == pytest.approx(0.5)
    assert of_difference(Spread(0.3, 3), Spread()) == pytest.approx(0.3)
    assert of_difference(Spread(), Spread()) == 0


@pytest.mark.parametrize("step, verdict", [(0.25, "A"), (0.35, "undecided")])  # the lead is 0.3 dB
def test_a_difference_that_another_seed_could_make_is_undecided(tmp_path, step, verdict):
    run = with_seeds(tmp_path / "run", lambda training, snr: step * training)
    table = compare("gensc", "witt", run=run.directory)
    assert (table["ci_low"] > 0).all() and table["training_spread"].to_numpy() == pytest.approx(step, abs=1e-6)
    assert (table["verdict"] == verdict).all() and (table["delivered_verdict"] == verdict).all()
    turned = compare("witt", "gensc", run=run.directory)
    assert (turned["verdict"] == {"A": "B"}.get(verdict, verdict)).all()
    words = f"seed of training, A moves by {step:.3f} dB (std), B was not measured; a smaller difference is undecided."
    assert words in report(table)


@pytest.mark.parametrize("step, verdict", [(0.25, "holds"), (0.35, "undecided")])
@pytest.mark.parametrize("name, claim", [("fig4", "low-resolution-best"), ("fig5", "high-resolution-low-snr")])
def test_a_claim_smaller_than_the_spread_is_undecided(tmp_path, name, claim, step, verdict):
    """GenSC leads each rival by 0.3 dB at every SNR."""
    systems = ("gensc", *RECONSTRUCTION_RIVALS)
    run = with_seeds(tmp_path / "run", lambda training, snr: step * training, systems, name=name)
    found = next(one.check for one in CLAIMS if one.name == claim)(run)
    assert found.verdict == verdict and sum(f"{step:.2f}" in line for line in found.numbers) == len(systems) - 1


@pytest.mark.parametrize("seeded", ["gensc", "witt"])
@pytest.mark.parametrize("step, verdict", [(0.25, "holds"), (0.35, "undecided"), (None, "undecided")])
def test_uses_that_another_seed_could_save_prove_no_lower_overhead(tmp_path, step, verdict, seeded):
    """GenSC leads each rival by 0.3 dB, and the quality grows by 3 dB per doubling of the uses: it needs 2**-0.1 of the
    uses, and a training `step` dB better would need 2**(-step / 3) of its own. step: None: a training lacks a cell.
    """
    systems = ("gensc", *RECONSTRUCTION_RIVALS)

    def made(folder, names, more=0.0):
        swept = [figure(f"cbr-{n}", list(names), snrs=[10.0], cbr=1 / n, dataset="set") for n in (48, 24, 16)]
        return make_run(
            folder, swept,
            lambda figure, system, snr, index: value(figure, system, snr, index) + 3 * np.log2(figure["cbr"]) + more,
        )  # fmt: skip

    made(tmp_path / "run", systems)
    for training in range(3):
        made(tmp_path / "run" / "seeds" / str(training), [seeded], (step or 0.0) * (training - 1))
    if step is None:
        without_means(tmp_path / "run" / "seeds" / "2", [(seeded, 10.0)])
    found = next(one.check for one in CLAIMS if one.name == "lowest-overhead")(Run.open(tmp_path / "run"))
    assert found.verdict == verdict
    absent = "cells of a training are absent"
    words = absent if step is None else f"{100 * (2 ** (step / 3) - 1):.1f} % between trainings"
    touched = [line for line in found.numbers if "between trainings" in line or absent in line]
    assert len(touched) == (len(systems) - 1 if seeded == "gensc" else 1)
    assert all(words in line and "-6.7 % [-6.7, -6.7] uses" in line for line in touched)


def test_a_training_whose_curve_decides_nothing_proves_no_lower_overhead(tmp_path):
    """GenSC spends more, and reaches the PSNR of its rivals. Another training lies above all of their curves."""

    def made(folder, more, names=()):
        swept = [("gensc", (8, 16)), *((name, (24, 48)) for name in names)]
        entries = [figure(f"{name}-{n}", [name], snrs=[10.0], cbr=1 / n, dataset="set") for name, own in swept
                   for n in own]  # fmt: skip
        return make_run(
            folder, entries, lambda entry, system, snr, index: 25 + index + 3 * np.log2(entry["cbr"])
            - (more if system == "gensc" else 0),
        )  # fmt: skip

    made(tmp_path / "run", 3.0, RECONSTRUCTION_RIVALS)
    for training, more in enumerate((3.0, 0.0)):
        made(tmp_path / "run" / "seeds" / str(training), more)
    found = next(one.check for one in CLAIMS if one.name == "lowest-overhead")(Run.open(tmp_path / "run"))
    lines = [line for line in found.numbers if "gensc - " in line]
    assert found.verdict == "undecided" and len(lines) == len(RECONSTRUCTION_RIVALS)
    assert all(line.endswith("; the curve of another training decides nothing") for line in lines)


def test_a_run_without_seeds_is_decided_by_its_pictures_alone(tmp_path):
    run = Run.open(make_run(tmp_path / "run", [figure("fig5", ["gensc", "witt"])], value))
    assert run.seeds == ()
    table = compare("gensc", "witt", run=run.directory)
    assert not table["training_spread"].any() and (table["verdict"] == "A").all()
    assert "seed of training" not in report(table) and np.array_equal(table["snr_db"].dropna(), SNRS)


def with_a_strangers_figure(folder):
    """A run and trainings that differ by 0.1 dB on AWGN, and by 3 dB in a figure that somebody else added to all."""
    shown = [figure("fig5", ["gensc", "witt"]), figure("other", ["gensc", "witt"], channel="rayleigh-block")]
    make_run(folder, shown, value)
    for training in range(3):
        make_run(
            folder / "seeds" / str(training),
            shown,
            lambda figure, system, snr, index, training=training: (
                value(figure, system, snr, index) + training * (0.1 if figure["id"] == "fig5" else 3.0)
            ),
        )
    return Run.open(folder)


def test_another_figure_in_the_trainings_changes_no_spread_at_a_measured_point(tmp_path):
    run = with_a_strangers_figure(tmp_path / "run")
    assert spread(run, "gensc", FIG5, "psnr_db").std == pytest.approx(0.1, abs=1e-6)
    assert spread_of_statistic(run, "gensc", FIG5, "psnr_db", slope).std == pytest.approx(0, abs=1e-6)
    verdicts = compare("gensc", "witt", run=run.directory).groupby("channel")["verdict"].unique()
    assert list(verdicts["awgn"]) == ["A"] and list(verdicts["rayleigh-block"]) == ["undecided"]  # 0.3 dB ahead


def test_a_point_without_trainings_has_the_spread_of_its_channel(tmp_path):
    """Otherwise that of its task: it is no reason to call a difference decided that another figure was measured."""
    run = with_a_strangers_figure(tmp_path / "run")
    for change, wanted in (({"dataset": "set-fig4"}, 0.1), ({"cbr_target": 1 / 6}, 0.1),
                           ({"channel": "rayleigh-block", "dataset": "set-fig4"}, 3.0),
                           ({"channel": "rayleigh-fast"}, 3.0)):  # fmt: skip
        assert spread(run, "gensc", FIG5 | change, "psnr_db").std == pytest.approx(wanted, abs=1e-6), change


@pytest.mark.parametrize("change", [{"channel": "rayleigh-fast"}, {"snr_db": 45.0}, {"cbr_target": 1 / 2}])
def test_a_cell_that_failed_at_a_point_which_the_run_lacks_says_nothing(tmp_path, change):
    run = with_seeds(tmp_path / "run", lambda training, snr: 0.1 * training)
    RunStore(run.directory / "seeds" / "0").write_table("failures.csv", FAILURE_COLUMNS, [FAILED | change])
    assert spread(Run.open(run.directory), "gensc", FIG5, "psnr_db").std == pytest.approx(0.1, abs=1e-6)
