"""Tests of comparisons: they are paired, outages are counted, and the numbers agree with direct arithmetic."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from made_run import IMAGES, SNRS, figure, make_run, without_means

from bench.analysis.compare import compare
from bench.analysis.compare_numbers import compare_sides, paired_miou, whole_curves
from bench.analysis.compare_text import report
from bench.analysis.quantity import COSTS
from bench.analysis.sides import Selection, side
from bench.measure.audit import REPORT_COLUMNS
from bench.measure.metrics.segmentation import mean_iou
from bench.measure.metrics.table import METRICS
from bench.results.csv_tables import read_rows
from bench.results.reader import Run
from bench.results.schema import FAILURE_COLUMNS, NUMBER, SAMPLE_COLUMNS, SAMPLES, WHOLE
from bench.results.store import RunStore
from systems.errors import UserError


def value(figure, system, snr, index):
    """Made-up values. Pictures differ by more than systems do. `a` leads `b` at high SNR and ties with it at low SNR;
    `d` decodes from 12 dB on.
    """
    if system == "d" and snr < 12:
        return "outage"
    hard = 4 * index + 20 + 0.5 * snr
    jitter = 0.2 * np.random.default_rng([index, int(snr), len(system), ord(system[0])]).normal()
    lead = {"a": 1.0 if snr >= 10 else 0.0}.get(system, 0.0)
    return hard + lead + jitter


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "one", [figure("fig4", ["a", "b", "d"])], value)


def test_pairing_decides_what_unpaired_bands_cannot(run_dir):
    table = compare("a", "b", run=run_dir)
    points = table.dropna(subset=["snr_db"]).set_index("snr_db")
    assert (points.loc[10.0:, "verdict"] == "A").all()
    assert (points.loc[:8.0, "verdict"] == "tied").sum() >= 4
    run = Run.open(run_dir)
    bands = run.summary[(run.summary["metric"] == "psnr_db") & (run.summary["snr_db"] == 20)].set_index("system")
    assert bands.loc["a", "ci_low"] < bands.loc["b", "ci_high"]  # the two bands overlap, and yet the order is certain


def test_difference_is_the_mean_of_differences(run_dir):
    points = compare("a", "b", run=run_dir).set_index("snr_db")
    expected = np.mean([value(None, "a", 14.0, i) - value(None, "b", 14.0, i) for i in range(8)])
    assert points.loc[14.0, "difference"] == pytest.approx(expected, abs=1e-9)
    assert points.loc[14.0, "n_images"] == 8 and points.loc[14.0, "same_noise"]


def test_a_metric_without_values_is_not_a_lack_of_pictures(run_dir):
    """Pictures may be too small for it."""
    with pytest.raises(
        UserError, match="ms_ssim has no value at the operating points .* which share 8 pictures"
    ) as said:
        compare("a", "b", run=run_dir, metric="ms_ssim")
    assert "share no picture" not in str(said.value)


@pytest.mark.parametrize("failed", [True, False])
def test_a_system_whose_cells_all_failed_is_in_the_run(tmp_path, failed):
    """It has no rows, and the words say why."""

    def without_b(figure, system, snr, index):
        return None if system == "b" else value(figure, system, snr, index)

    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b", "d"])], without_b)
    RunStore(run).write_table("failures.csv", FAILURE_COLUMNS, [{"system": "b", "snr_db": 4.0}] if failed else [])
    why = r"its cells failed \(failures.csv says why\)" if failed else "its cells were not computed"
    with pytest.raises(UserError, match=f"b has no rows in run run, because {why}"):
        compare("a", "b", run=run)
    with pytest.raises(UserError, match="run run has no system 'c'; it has a, d"):
        compare("a", "c", run=run)
    left_out = [note for note in compare(str(run), baseline="a").attrs["notes"] if "no rows" in note]
    assert len(left_out) == 1 and re.fullmatch(f"Left out: b has no rows in run, because {why}.", left_out[0])


def test_exchange_of_sides_changes_sign_and_verdict(run_dir):
    one, other = (compare(*names, run=run_dir).set_index("snr_db") for names in (("a", "b"), ("b", "a")))
    np.testing.assert_allclose(one["difference"], -other["difference"], atol=1e-12)
    np.testing.assert_allclose(one["ci_low"], -other["ci_high"], atol=0.02)  # the same resamples, mirrored quantiles
    assert list(other["verdict"]) == [{"A": "B", "B": "A"}.get(verdict, verdict) for verdict in one["verdict"]]


def test_both_reductions_are_given_and_the_verdict_says_which_decides(run_dir):
    points = compare("a", "d", run=run_dir).dropna(subset=["snr_db"]).set_index("snr_db")
    assert (points.loc[:10.0, "verdict"] == "only A decodes").all() and (points["rests_on"] == "all pictures").all()
    assert points.loc[:10.0, "delivered_difference"].isna().all() and (points.loc[:10.0, "outages_b"] == 8).all()
    painted = np.mean([value(None, "a", 4.0, i) - 13.0 for i in range(8)])  # made_run gives a lost picture this value
    assert points.loc[4.0, "difference"] == pytest.approx(painted) and (points["n_images"] == 8).all()
    assert (points.loc[12.0:, "delivered_difference"] == points.loc[12.0:, "difference"]).all()
    assert (points.loc[12.0:, "delivered_n_images"] == 8).all()
    assert "the verdict counts all pictures" in report(compare("a", "d", run=run_dir)).splitlines()[0]


def test_nobody_gains_by_losing_the_hard_pictures(tmp_path):
    """`b` is 1 dB worse everywhere. It declares as lost the pictures on which it is far worse, and is ahead on the
    others.
    """

    def chosen(figure, system, snr, index):
        if system == "a":
            return 30.0 + index
        return "outage" if index < 4 else 30.4 + index

    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"], snrs=[6.0])], chosen)
    row = compare("a", "b", run=run).iloc[0]
    assert row["verdict"] == "A" and row["delivered_verdict"] == "B" and row["outages_b"] == 4
    assert "a ahead (B lost 4, b ahead over those that both delivered)" in report(compare("a", "b", run=run))


def without_hard_pictures(folder):
    """A run in which `b` has no rows of its four hard pictures at 6 dB. On the others it is ahead of `a`."""

    def chosen(figure, system, snr, index):
        if system == "a":
            return 30.0 + index
        return None if index < 4 and snr == 6 else (30.4 if index >= 4 else 27.0) + index

    return make_run(folder / "run", [figure("fig4", ["a", "b"], snrs=[6.0, 8.0])], chosen)


def failed_cell():
    """The row of failures.csv of the cell with the hard pictures of `b`."""
    return {"cell_id": "1", "system": "b", "dataset": "set-fig4", "images": " ".join(IMAGES[:4]), "channel": "awgn",
            "snr_db": 6.0, "cbr_target": 1 / 16, "bits_target": None, "rep": 0, "error": "not today"}  # fmt: skip


@pytest.mark.parametrize(
    ("way", "lead", "words"),
    [
        ("lost", 0.4, "no number, because B lost pictures."),
        ("lost", -9.0, "A is "),  # it favours the side that lost none
        ("failed", 0.4, "no number, because cells are absent."),
        ("failed", -9.0, "no number, because cells are absent."),
        ("whole", 0.4, "A is 0.400 dB worse than B"),
    ],
)
def test_nobody_gains_over_the_whole_curve_by_leaving_pictures_out(tmp_path, way, lead, words):
    """`b` leaves out some pictures at all SNRs, or its cell fails at one. lead: of `b`, on the pictures left, in dB."""

    def chosen(figure, system, snr, index):
        if system == "b" and index < 4 and (way == "lost" or (way == "failed" and snr == 6)):
            return "outage" if way == "lost" else None
        return 30.0 + snr / 2 + index + (lead if system == "b" else 0)

    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"], snrs=[6.0, 8.0, 10.0, 12.0])], chosen)
    RunStore(run).write_table("failures.csv", FAILURE_COLUMNS, [failed_cell()] if way == "failed" else [])
    points = compare("a", "b", run=run)
    (line,) = (line for line in report(points).splitlines() if line.startswith("Over the whole curve"))
    assert words in line
    assert whole_curves(points)[["bd_gain", "snr_shift_db"]].isna().all(axis=None) == ("no number" in words)


def test_no_number_of_a_whole_curve_favours_a_side_that_chose_its_pictures(tmp_path):
    """`b` is 4 dB behind, but at 2 dB it delivers one easy picture alone: there it reaches every quality of `a`."""

    def chosen(figure, system, snr, index):
        if system == "b" and snr == 2:
            return "outage" if index else 60.0
        return 20.0 + snr + index - (4.0 if system == "b" else 0)

    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"], snrs=[0.0, 1.0, 2.0, 3.0, 5.0, 9.0, 13.0])], chosen)
    for names, sign in ((("a", "b"), 1), (("b", "a"), -1)):
        points = compare(*names, run=run)
        row = whole_curves(points).iloc[0]
        assert sign * row["bd_gain"] > 0 and np.isnan(row["snr_shift_db"])
        assert "SNR than" not in report(points) and f"A is {abs(row['bd_gain']):.3f} dB" in report(points)


@pytest.mark.parametrize(
    ("lead", "spread", "words"),
    [(0.4, 0.0, "(both delivered): A is 0.400 dB"), (0.4, 9.0, "(both delivered; tied): A is"),
     (0.4, None, "(both delivered; undecided): A is 0.400 dB")],
)  # fmt: skip
def test_the_number_of_a_whole_curve_says_what_the_verdict_says(tmp_path, lead, spread, words):
    """It has no interval of its own. spread: of the pictures; None: of trainings, by more than the lead."""

    def value(figure, system, snr, index):
        return 30.0 + snr / 2 + index + ((lead + (spread or 0) * (-1) ** index) if system == "a" else 0)

    shown = figure("fig4", ["a", "b"], snrs=[6.0, 8.0, 10.0, 12.0])
    run = make_run(tmp_path / "run", [shown], value)
    for training in range(2 if spread is None else 0):
        made = shown | {"systems": ["a"]}
        make_run(run / "seeds" / str(training), [made], lambda *of, more=training: value(*of) + more)
    (line,) = (line for line in report(compare("a", "b", run=run)).splitlines() if line.startswith("Over the whole"))
    assert words in line


def test_nobody_gains_by_failing_on_the_hard_pictures(tmp_path):
    """As above, but the cells with the hard pictures fail at 6 dB, so that they have no rows at all."""

    run = without_hard_pictures(tmp_path)
    RunStore(run).write_table("failures.csv", FAILURE_COLUMNS, [failed_cell()])
    for names, own in ((("a", "b"), "b"), (("b", "a"), "a")):
        table = compare(*names, run=run).set_index("snr_db")
        assert list(table[f"failed_{own}"]) == [1, 0, 1]
        assert list(table["verdict"] == "undecided") == [True, False, True]
    assert "undecided (B failed in 1 cell)" in report(compare("a", "b", run=run))


def test_who_fails_is_not_said_to_lose_all_pictures(tmp_path):
    """`b` lost the pictures that are left. What it would have made of the others is not known."""

    def chosen(figure, system, snr, index):
        return 30.0 if system == "a" else None if index < 4 else "outage"

    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"], snrs=[6.0])], chosen)
    assert list(compare("a", "b", run=run)["verdict"]) == ["only A decodes"]
    assert "Matched: equal uses and equal bits (uses A 9408, B 9408; bits A" in report(compare("a", "b", run=run))
    RunStore(run).write_table("failures.csv", FAILURE_COLUMNS, [failed_cell()])
    assert list(compare("a", "b", run=run)["verdict"]) == ["undecided"]
    spent = "Matched: equal uses (uses A 9408, B 9408; bits are not known, because cells are absent)."
    assert spent in report(compare("a", "b", run=run)).splitlines()


@pytest.mark.parametrize("way", ["failed", "not computed"])
@pytest.mark.parametrize("metric", ["psnr_db", "psnr_of_mean_mse_db", "mse"])
def test_no_number_stands_where_cells_are_absent(tmp_path, way, metric):
    """A mean of `b` over the four easy pictures would stand under "all pictures"; so the row says only why."""
    from bench.cli.compare import compare_command

    run = without_hard_pictures(tmp_path)
    if way == "failed":
        RunStore(run).write_table("failures.csv", FAILURE_COLUMNS, [failed_cell()])
    else:
        without_means(run, [("b", 6.0)])
    asked = ["b", "a", "--run", str(run), "--metric", metric]
    printed = CliRunner().invoke(compare_command, [*asked, "--csv"]).stdout
    table = pd.read_csv(io.StringIO(printed)).set_index("snr_db")
    numbers = [name for name in table if re.search("mean|difference|ci_low|ci_high|bits_[ab]", name)]
    assert len(numbers) == 12
    for absent, rows in ((True, table.loc[[6.0, np.nan]]), (False, table.loc[[8.0]])):
        assert rows[numbers].isna().all(axis=None) == absent and rows[numbers].isna().any(axis=None) == absent
        assert (rows[["n_images", "delivered_n_images"]] == (0 if absent else 8)).all(axis=None)
        assert (rows["verdict"] == "undecided").all() == absent and rows["delivered_verdict"].isna().all() == absent
    why = "A failed in 1 cell" if way == "failed" else "A is not complete"
    text = CliRunner().invoke(compare_command, asked).stdout.splitlines()
    assert re.search(rf"  -  +-  +\d, 0, \d of 2  +undecided \({why}\)$", text[2])
    six, eight, both = (line for line in text if re.match(r" +(6|8|all)  ", line) and "pictures" not in line)
    assert six.split() == both.replace("all", "6").split() == ["6", "0", "0", "undecided", *f"({why})".split()]
    assert len(re.findall(r"\d\.\d{3}", eight)) == 8


def test_nobody_gains_by_hanging_on_the_hard_pictures(tmp_path):
    """As above, but the user stopped the run: the cells are in no table of failures, and their points have no mean."""

    run = without_hard_pictures(tmp_path)
    without_means(run, [("b", 6.0)])
    table = compare("b", "a", run=run).set_index("snr_db")
    assert list(table["verdict"] == "undecided") == [True, False, True]
    assert list(table["lacking_a"]) == [1, 0, 1] and not table["lacking_b"].any()
    assert "undecided (A is not complete)" in report(compare("b", "a", run=run))
    assert list(compare("b", "a", run=run, selection=Selection(snr_db=(8.0,)))["verdict"]) == ["B"]


def test_nobody_gains_by_failing_at_all_snrs_but_one(tmp_path):
    """The verdict over all SNRs would be that of the one that is left."""
    chosen = {("b", 6.0): None, ("b", 8.0): 31.0}
    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"], snrs=[6.0, 8.0])],
                   lambda figure, system, snr, index: chosen.get((system, snr), 30.0))  # fmt: skip
    table = compare("a", "b", run=run)
    assert list(table["verdict"]) == ["B", "undecided"] and list(table["snr_db"].isna()) == [False, True]
    summary = report(table).splitlines()[2]
    assert summary.endswith("undecided (B is not complete)") and "0, 0, 1 of 1" in summary


def test_psnr_of_the_mean_error_is_another_reduction(tmp_path):
    """`a` is 3 dB better on the easy half and 2 dB worse on the hard half: the mean PSNR and the mean MSE disagree."""

    def mixed(figure, system, snr, index):
        return (40.0 if index < 4 else 20.0) + (0 if system == "b" else 3.0 if index < 4 else -2.0)

    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"], snrs=[6.0])], mixed)
    plain, pooled = (compare("a", "b", run=run, metric=metric).iloc[0] for metric in ("psnr_db", "psnr_of_mean_mse_db"))
    mse = {s: np.mean([255**2 / 10 ** (mixed(None, s, 0, i) / 10) for i in range(8)]) for s in "ab"}
    assert plain["difference"] == pytest.approx(0.5)
    assert pooled["difference"] == pytest.approx(10 * np.log10(mse["b"] / mse["a"])) and pooled["verdict"] == "B"


def with_files(images: dict[str, str], dataset: str) -> dict:
    return {dataset: {"files": {name: {"image": sha} for name, sha in images.items()}}}


class TestWhichPicturesAreTheSame:
    def run(self, folder, dataset, images, lead=0.0, **changes):
        shown = figure("fig4", ["a"], dataset=dataset, snrs=[0.0, 6.0], **changes)
        content = {sha: index for index, sha in enumerate(sorted({*"0123456789", *images.values()}))}
        names = list(images)
        return make_run(
            folder, [shown], lambda e, s, snr, i: 20.0 + content[images[names[i]]] + lead,
            images=names, datasets=with_files(images, dataset),
        )  # fmt: skip

    def test_other_files_under_one_name_are_left_out_and_named(self, tmp_path):
        one = self.run(tmp_path / "one", "kodak", {"x": "0", "y": "1", "z": "2"}, 1.0)
        two = self.run(tmp_path / "two", "kodak", {"x": "0", "y": "9", "z": "2"})
        table = compare(str(one), str(two))
        assert (table["n_images"] == 2).all() and table["difference"].to_numpy() == pytest.approx(1.0)
        assert "1 pictures of kodak are different files in the two runs (y)" in report(table)

    def test_nothing_shared_is_refused(self, tmp_path):
        one = self.run(tmp_path / "one", "folder:val", {"x": "0"})
        two = self.run(tmp_path / "two", "folder:val", {"x": "1"})
        with pytest.raises(UserError, match="share no picture.*in no folder of the other run.*x"):
            compare(str(one), str(two))

    def test_a_folder_is_known_by_its_files_not_by_its_name(self, tmp_path):
        one = self.run(tmp_path / "one", "folder:val", {"p": "0", "q": "1", "r": "1"}, 1.0)
        two = self.run(tmp_path / "two", "folder:test", {"b": "1", "c": "1", "a": "0", "d": "5"})
        table = compare(str(one), str(two))
        assert (table["n_images"] == 3).all() and table["difference"].to_numpy() == pytest.approx(1.0)
        assert "folder of the other run (d)" in report(table) and not table["same_noise"].any()

    def test_runs_without_hashes_say_so(self, tmp_path):
        one, two = (make_run(tmp_path / n, [figure("fig4", ["a"])], value) for n in ("one", "two"))
        assert "paired by name" in report(compare(str(one), str(two)))

    def test_numbers_are_numbers(self, tmp_path):
        """Numbers are compared with a tolerance: 3 * 0.1 dB equals 0.3 dB, and a CBR of
        0.0625000000000001 equals 1/16.
        """
        one = make_run(tmp_path / "one", [figure("fig4", ["a"], snrs=[0.1 * 3])], value)
        two = make_run(tmp_path / "two", [figure("fig4", ["a"], snrs=[0.3], cbr=0.0625 + 1e-16)], value)
        assert list(compare(str(one), str(two))["snr_db"]) == [0.3]


def test_a_part_can_be_chosen(run_dir):
    table = compare("a", "b", run=run_dir, selection=Selection("fig4", "awgn", (0.0, 20.0)))
    assert list(table["snr_db"].dropna()) == [0.0, 20.0]
    for chosen, words in (
        (Selection("fig5"), "--figure fig5: run one has no such figure"),
        (Selection(channel="rayleigh-block"), "a has no rows on channel rayleigh-block"),
        (Selection(snr_db=(3.0,)), "a has no rows at 3 dB"),
    ):
        with pytest.raises(UserError, match=words):
            compare("a", "b", run=run_dir, selection=chosen)


def test_a_figure_over_several_budgets_is_chosen_by_its_name_as_in_plot(tmp_path):
    cbrs = [1 / 24, 1 / 16]
    swept = [figure(f"wide-{i}", ["a", "b"], cbr=cbr, dataset="swept", budgets_of="wide") for i, cbr in enumerate(cbrs)]
    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"]), *swept], value)
    table = compare("a", "b", run=run, selection=Selection("wide"))
    assert set(table["dataset"]) == {"swept"} and table["cbr_target"].unique() == pytest.approx(cbrs)
    one = compare("a", "b", run=run, selection=Selection("wide-1"))
    assert one["cbr_target"].unique() == pytest.approx(cbrs[1:]) and len(table) == 2 * len(one)


def test_snrs_that_were_asked_for_and_not_measured_are_named(run_dir):
    text = report(compare("a", "b", run=run_dir, selection=Selection(snr_db=(0.0, 3.0, 10.0, 30.0))))
    assert "Left out: 3, 30 dB, which neither A nor B was measured at." in text
    assert "Left out" not in report(compare("a", "b", run=run_dir, selection=Selection(snr_db=(0.0, 10.0))))


def test_snrs_of_one_side_are_named(run_dir, tmp_path):
    other = make_run(tmp_path / "two", [figure("fig4", ["a", "b"], snrs=[0.0, 3.0, 20.0])], value)
    text = report(compare("a", f"{other}:b", run=run_dir))
    assert "Left out: 2, 4, 6, 8, 10, 12, 14, 16, 18 dB on awgn, where only A has rows." in text
    assert "Left out: 3 dB on awgn, where only B has rows." in text


def test_words_of_the_snr_gain_read_the_right_way_round(tmp_path):
    run = make_run(
        tmp_path / "run", [figure("fig4", ["a", "b"])],
        lambda e, s, snr, i: 20 + 0.5 * snr + (1.5 if s == "a" else 0) + i,
    )  # fmt: skip
    assert "A needs 3.00 dB less SNR than B for the same quality" in report(compare("a", "b", run=run))
    assert "A needs 3.00 dB more SNR than B for the same quality" in report(compare("b", "a", run=run))


def test_equal_uses_and_equal_bits_are_named(tmp_path):
    for uses, words in (({"a": 9408, "b": 9408}, "Matched: equal uses and"), ({"a": 9408, "b": 3000}, "Not matched")):
        run = make_run(tmp_path / words, [figure("fig4", ["a", "b"])], value, uses=uses.get)
        assert words in report(compare("a", "b", run=run))


def test_whole_curve_of_a_shifted_line(tmp_path):
    def line(figure, system, snr, index):
        return 20 + 0.5 * snr + (1.5 if system == "a" else 0) + index

    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"])], line)
    row = whole_curves(compare("a", "b", run=run)).iloc[0]
    # 1.5 dB divided by 0.5 dB per dB
    assert row["bd_gain"] == pytest.approx(1.5) and row["snr_shift_db"] == pytest.approx(3.0)


def test_a_budget_has_the_whole_curve_of_its_own_points(tmp_path):
    """The lead is 2 under the first budget and 4 under the second. The second has one SNR only, so it has no curve."""

    def lead(figure, system, snr, index):
        return 20 + 0.5 * snr + ({20_000: 2.0, 5_000: 4.0}[figure["bits"]] if system == "a" else 0) + index

    budgets = [
        figure(f"own-{bits}", ["a", "b"], snrs=snrs, cbr=None, bits=bits, dataset="set")
        for bits, snrs in ((20_000, SNRS), (5_000, [10.0]))
    ]
    parts = report(compare("a", "b", run=make_run(tmp_path / "run", budgets, lead))).split("A = a, B = b")[1:]
    shown = {part.split("Kbits")[0].split(",")[-1].strip(): part for part in parts}
    assert "A is 2.000 dB better than B" in shown["20"] and "whole curve" not in shown["5"]


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a", "b"), ("a", "a@small-1")])
def test_a_side_is_not_compared_with_itself(run_dir, names):
    with pytest.raises(UserError, match="would be compared with itself; name another") as found:
        compare(*names, run=run_dir)
    assert "\n" not in str(found.value)
    with pytest.raises(UserError, match="would be compared with itself"):
        compare(str(run_dir), str(run_dir))
    with pytest.raises(UserError, match="^compare: a would be compared with itself"):
        compare("a", baseline="a", run=run_dir)


def test_a_baseline_that_is_a_side_gives_each_pair_once(run_dir):
    """Twice the same rows would also be two values at each SNR of a whole curve."""
    for baseline in "ab":
        table = compare("a", "b", baseline=baseline, run=run_dir)
        pd.testing.assert_frame_equal(table[table["a"] == "a"], compare("a", "b", run=run_dir))
        assert report(table)
    assert set(compare("a", "b", baseline="a", run=run_dir)["a"]) == {"a", "b"}


def test_equal_curves_are_neither_better_nor_worse(tmp_path):
    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"])], lambda f, s, snr, i: 30.0 + snr / 4 + i)
    text = report(compare("a", "b", run=run))
    assert "A and B differ by less than 0.001 dB; A and B need the same SNR" in text and "0.000 dB worse" not in text


def test_two_runs_compare_each_system_with_itself(run_dir, tmp_path):
    def better(figure, system, snr, index):
        result = value(figure, system, snr, index)
        return result if result == "outage" or system != "b" else result + 0.5

    other = make_run(tmp_path / "two", [figure("fig4", ["a", "b"])], better, seed=1)
    table = compare(str(other), str(run_dir))
    assert set(table["a"]) == {"a", "b"}
    assert (table.loc[table["a"] == "a", "verdict"] == "tied").all()
    assert (table.loc[table["a"] == "b", "verdict"] == "A").all()
    assert not table["same_noise"].any() and "different noise" in report(table)


def test_a_system_of_one_run_against_one_of_another(run_dir, tmp_path):
    """A user's own system, run alone, beside a system of the reference run: the result is the same as if both had been
    in one run.
    """
    mine = make_run(tmp_path / "mine", [figure("fig4", ["a"])], value)
    table, wanted = compare(f"{mine}:a", "b", baseline="d", run=run_dir), compare("a", "b", baseline="d", run=run_dir)
    assert table[["a", "b"]].drop_duplicates().to_numpy().tolist() == [["mine:a", "b"], ["mine:a", "d"], ["b", "d"]]
    assert table["same_noise"].all() and "mine:a ahead" in report(table)
    pd.testing.assert_frame_equal(table.drop(columns="a"), wanted.drop(columns="a"))
    namesake, third = (
        make_run(tmp_path / at / "mine", [figure("fig4", ["a"])], value) for at in ("elsewhere", "third")
    )
    apart = compare(f"{mine}:a", f"{third}:a", baseline=f"{namesake}:a")  # there is no run here, and none is needed
    assert len(apart) == 3 * len(compare(f"{mine}:a", f"{namesake}:a")) and (apart["verdict"] == "tied").all()
    with pytest.raises(UserError, match="RUN:SYSTEM"):
        compare(":a", "b", run=run_dir)
    with pytest.raises(UserError, match="run mine has no system 'b'; it has a"):
        compare("a", f"{mine}:b", run=run_dir)
    with pytest.raises(UserError, match="no run there"):
        compare("a", f"{tmp_path}:b", run=run_dir)


def test_baseline(run_dir):
    pairs = compare("a", "b", baseline="d", run=run_dir)[["a", "b"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [["a", "b"], ["a", "d"], ["b", "d"]]
    alone = compare(str(run_dir), baseline="b")[["a", "b"]].drop_duplicates().to_numpy().tolist()
    assert alone == [["a", "b"], ["d", "b"]]


def test_one_picture_has_no_interval(tmp_path):
    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"])], value, images=["only"])
    assert (compare("a", "b", run=run)["verdict"] == "undecided").all()


def test_pictures_that_one_side_lacks_are_left_out(tmp_path):
    def some(figure, system, snr, index):
        return None if system == "b" and index >= 5 else 30.0 + index + (system == "a")

    table = compare("a", "b", run=make_run(tmp_path / "run", [figure("fig4", ["a", "b"])], some))
    assert (table["n_images"] == 5).all() and table["difference"].to_numpy() == pytest.approx(1.0)


def test_paired_miou_is_that_of_the_data_set():
    generator = np.random.default_rng(0)
    unions = generator.integers(50, 100, (2, 6, 4)).astype(float)
    a, b = (np.floor(unions * generator.uniform(0.3, 0.9, unions.shape)) for _ in range(2))
    mean_a, mean_b, gap = paired_miou((a, unions, unions), (b, unions, unions))
    expected = np.mean([mean_iou(a[s].sum(0), unions[s].sum(0)) for s in range(2)])
    assert mean_a == pytest.approx(expected) and gap.mean == pytest.approx(mean_a - mean_b)
    assert gap.low < gap.mean < gap.high
    same = paired_miou((a, unions, unions), (a, unions, unions))[2]
    assert same.low == same.high == 0 and same.decision == "tied"


def test_segmentation_uses_the_data_sets_miou(tmp_path):
    found = {"a": 0.9, "b": 0.6}
    run = make_run(
        tmp_path / "run", [figure("fig7", ["a", "b"], task="segmentation")], lambda e, s, snr, i: found[s] - 0.02 * i
    )
    row = compare("a", "b", run=run).set_index("snr_db").loc[6.0]
    summary = Run.open(run).summary
    summary = summary[(summary["metric"] == "miou") & (summary["snr_db"] == 6)].set_index("system")["mean"]
    assert row["mean_a"] == pytest.approx(summary["a"]) and row["mean_b"] == pytest.approx(summary["b"])
    assert row["difference"] == pytest.approx(summary["a"] - summary["b"]) and row["verdict"] == "A"


def test_pixel_accuracy_is_the_ratio_of_sums(tmp_path):
    """A large picture counts for more. The mean of the pictures' own ratios would be another number."""
    run = Run.open(make_run(
        tmp_path / "run", [figure("fig7", ["a", "b"], task="segmentation", snrs=[6.0])],
        lambda e, s, snr, i: {"a": 0.9, "b": 0.6}[s] - 0.05 * i,
    ))  # fmt: skip
    large = run.confusion["image_id"] == "image-7"
    run.confusion.loc[large, ["intersection", "predicted", "labelled", "union"]] *= 50
    row = compare_sides(side(run, "a"), side(run, "b"), "pixel_accuracy").iloc[0]
    for name, mean in (("a", row["mean_a"]), ("b", row["mean_b"])):
        own = run.confusion[run.confusion["system"] == name]
        assert mean == pytest.approx(own["intersection"].sum() / own["labelled"].sum())
    assert row["difference"] == pytest.approx(row["mean_a"] - row["mean_b"])
    assert row["ci_low"] <= row["difference"] <= row["ci_high"] and row["verdict"] == "A"


def test_two_runs_that_were_asked_for_different_things_are_not_compared(tmp_path):
    """At 4 dB both runs send what they were asked for. In the other figure, B was asked to show something else."""
    runs = [
        make_run(
            tmp_path / name,
            [figure("near", ["a"], dataset="set"), figure("far", ["a"], dataset="set", cbr=1 / 6, requirement=words)],
            value,
        )
        for name, words in (("one", "Reconstruct the image at the receiver."), ("two", "Show the sky."))
    ]
    table = compare(f"{runs[0]}:a", f"{runs[1]}:a")
    assert set(table["cbr_target"].round(6)) == {0.0625}  # "" is the requirement of the task
    words = "'Reconstruct the image at the receiver.' and 'Show the sky.'."
    assert f"Left out: 1 point with another requirement in each run, such as {words}" in report(table)


def test_pictures_that_one_side_lacks_are_named(tmp_path):
    """Of one run, which an earlier version let grow, and of two."""

    def few(figure, system, snr, index):
        return None if system == "a" and index > 2 else value(figure, system, snr, index)

    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"])], few)
    other = make_run(tmp_path / "other", [figure("fig4", ["b"])], value)
    for table in (compare("a", "b", run=run), compare(f"{run}:a", f"{other}:b")):
        assert set(table["n_images"]) == {3}
        assert "Left out: 5 pictures of set-fig4, where only B has rows (image-3, " in report(table)


def test_repetitions_that_one_side_lacks_are_named(tmp_path):
    """A second draw of the channel for one side would weigh its pictures otherwise than the other's."""
    run = make_run(tmp_path / "run", [figure("fig4", ["a", "b"], snrs=[0.0, 10.0, 20.0])], value)
    rows = read_rows(run / "samples.csv")
    again = [row | {"rep": 1} for row in rows if row["system"] == "a" and float(row["snr_db"]) > 0]
    RunStore(run).write_table("samples.csv", SAMPLE_COLUMNS, rows + again)
    for sides, name in ((("a", "b"), "A"), (("b", "a"), "B")):
        table = compare(*sides, run=run)
        assert set(table["n_images"]) == {len(IMAGES)}
        assert f"Left out: 1 repetition at 10, 20 dB on awgn, which only {name} has." in report(table)


def test_a_trial_is_called_one(tmp_path):
    runs = [make_run(tmp_path / name, [figure("fig4", ["a", "b"])], value, limited=limited)
            for name, limited in (("whole", False), ("trial", True))]  # fmt: skip
    words = "LIMITED: trial is a trial on a part of the pictures (--limit), not a result."
    assert words in report(compare("a", "b", run=runs[1])) and words in report(compare(*map(str, runs)))
    assert "LIMITED" not in report(compare("a", "b", run=runs[0]))


def test_lost_pictures_are_counted_once(tmp_path):
    run = Run.open(make_run(tmp_path / "run", [figure("fig4", ["a", "d"], snrs=[0.0])], value))
    again = run.samples.assign(rep=1.0)
    run.__dict__["samples"] = pd.concat([run.samples, again], ignore_index=True)
    row = compare_sides(side(run, "a"), side(run, "d")).iloc[0]
    assert (row["outages_a"], row["outages_b"]) == (0, 8)


def test_runs_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        make_run(tmp_path / "results" / name, [figure("fig4", ["a", "b"])], value)
    assert set(compare("one", "two")["a"]) == {"a", "b"}
    assert set(compare("one", baseline="b")["a"]) == {"a"}
    assert set(compare("a", "b", run="one")["b"]) == {"b"}


def test_lower_is_better_where_it_is(run_dir):
    table = compare("a", "b", run=run_dir, metric="mse").dropna(subset=["snr_db"]).set_index("snr_db")
    assert table.loc[20.0, "difference"] < 0 and table.loc[20.0, "verdict"] == "A"


def test_of_a_cost_less_is_better(run_dir):
    """Whatever the column: uses, and the same number divided by 3 h w, must not name two winners."""
    first = Run.open(run_dir)
    cheaper = first.samples["system"] == "a"
    measured = {"mse", "n_uses", "cbr", "bits", "side_uses", "side_bits", "encode_s", "channel_s", "decode_s"}
    for cost in sorted(measured | set(COSTS)):
        first.samples[cost] = np.where(cheaper, 1.0, 2.0)
        table = compare_sides(side(first, "a"), side(first, "b"), cost).dropna(subset=["snr_db"])
        assert (table["verdict"] == "A").all() and (table["difference"] == -1).all(), cost


def test_no_side_is_ahead_by_its_own_word(run_dir):
    """Of the other columns, some are what a system says of itself (its payload, its errors); others name the point."""
    with pytest.raises(UserError, match="no side is ahead by it in this run; choose one of psnr_db, "):
        compare("a", "b", run=run_dir, metric="n_block_errors")
    numbers = {column.name for column in SAMPLES if column.kind in (NUMBER, WHOLE)}
    words = {name for name, kind in REPORT_COLUMNS.items() if kind is not str}
    assert words <= numbers and not words & {*COSTS, *METRICS.names()}
    for name in sorted(numbers - {*COSTS, *METRICS.names()}):
        with pytest.raises(UserError, match=f"--metric {name}: "):
            compare("a", "b", run=run_dir, metric=name)


@pytest.mark.parametrize("salts", [["drawn"], ["drawn", "kept"], ["given"], ["drawn", "published"], []])
def test_known_noise_is_named_beside_a_third_party_s_system(tmp_path, salts):
    """A run that grew, or that was replayed, has noise that an author could build into his system. Ours do not."""
    run = make_run(tmp_path / "known", [figure("fig4", ["a", "gensc", "witt"])], value)
    told = json.loads((run / "manifest.json").read_text())
    told["sessions"] = [{"salt": one} for one in salts]
    (run / "manifest.json").write_text(json.dumps(told))
    known = bool({"given", "published"} & set(salts))
    for rival, named in (("a", known), ("witt", False)):
        notes = compare("gensc", rival, run=run).attrs["notes"]
        assert any(note.startswith("Note: noise of known was known before") for note in notes) == named


def test_bad_input_is_one_line(run_dir, tmp_path):
    for arguments, words in (
        ({"a": "nobody", "b": "b", "run": run_dir}, "it has a, b, d"),
        ({"a": "a", "run": run_dir}, "--baseline"),
        ({"a": "a", "b": str(run_dir), "run": run_dir}, "not one of each"),
        ({"a": "a@paper", "b": "b", "run": run_dir}, "variants are small-1"),
        ({"a": "a", "b": "b", "run": run_dir, "metric": "psnr"}, "--metric psnr"),
        ({"a": "a", "b": "b", "run": tmp_path}, "no run there"),
    ):
        with pytest.raises(UserError, match=words):
            compare(**arguments)


def test_other_budgets_are_not_paired(tmp_path):
    figures = [figure("one", ["a"], dataset="same"), figure("two", ["b"], dataset="same", cbr=1 / 6)]
    run = make_run(tmp_path / "run", figures, value)
    with pytest.raises(UserError, match="nothing to compare"):
        compare("a", "b", run=run)


def test_report_says_everything(run_dir):
    text = report(compare("a", "d", run=run_dir))
    assert "only A decodes (B lost 8)" in text and "a ahead" in text and "CBR 1/16" in text
    assert text.startswith("Summary") and text.splitlines()[2].split()[:2] == ["a", "d"]
    assert len([line for line in text.splitlines() if line.strip().startswith("all ")]) == 2  # heading and last row
    assert compare_sides(side(Run.open(run_dir), "a"), side(Run.open(run_dir), "b")).shape[0] == len(SNRS) + 1


def test_command(run_dir, monkeypatch):
    from bench.cli.compare import compare_command

    done = CliRunner().invoke(compare_command, ["a", "b", "--run", str(run_dir)])
    assert done.exit_code == 0 and "a ahead" in done.output
