"""Tests of the claims: on made-up runs that support, contradict or leave open each claim, the verdict follows the
numbers.
"""

import re
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner
from made_run import SNRS, figure, make_run, without_means

from bench.analysis.claim_overhead import log_uses_gap
from bench.analysis.claims import (
    CALIBRATED,
    CLAIMS,
    CONTRADICTED,
    HOLDS,
    UNDECIDED,
    WITHHELD,
    judge,
    markdown,
    report,
    table,
)
from bench.analysis.paper_points import differences, paper_point
from bench.analysis.undertrained import below_floor, undertrained
from bench.report.html.build import report_data
from bench.report.overheads import overhead_table
from bench.results.csv_tables import read_rows
from bench.results.reader import PAPER_FIGURES, Run
from bench.results.schema import SAMPLE_COLUMNS, SUMMARY_COLUMNS
from bench.results.store import RunStore
from bench.spec.figure import load_figure
from systems.errors import UserError

RECONSTRUCTION = [
    "gensc", "witt", "adjscc", "deepjscc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "jpeg-ldpc-adaptive",
]  # fmt: skip
SEGMENTATION = ["gensc", "deeplab-jscc", "jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn"]
CLIFF = {"16qam": 12, "64qam": 18}
CBRS = (1 / 48, 1 / 24, 1 / 16)

ONE_OF_THE_PAPER = figure("fig4", ["linear"], snrs=[0.0])  # a run needs one of the paper's figures to have claims


def sweep(snr=18.0):
    """The same systems under several budgets, on a set of their own."""
    return [
        figure(f"cbr-{round(1 / c)}", RECONSTRUCTION, snrs=[snr], cbr=c, dataset="set-cbr", budgets_of="cbr")
        for c in CBRS
    ]


def figures(**changes):
    return [
        figure("fig4", RECONSTRUCTION),
        figure("fig5", RECONSTRUCTION),
        figure("fig7", SEGMENTATION, task="segmentation", **changes),
        *sweep(),
    ]


def paper(figure, system, snr, index):
    """Values with which the paper is right."""
    for modulation, cliff in CLIFF.items():
        # In Fig. 5 all links deliver. Otherwise no verdict at low SNR would be possible.
        if modulation in system and snr < cliff and figure["id"] != "fig5":
            return "outage"
    noise = np.random.default_rng([index, int(snr), len(system)]).normal()
    if figure["task"] == "segmentation":
        return {"gensc": 0.85}.get(system, 0.6) + 0.005 * (index % 2)
    rate = 3 * np.log2(16 * figure["cbr"])
    return 25 + 3 * index + 0.4 * snr + rate + (0.5 + 0.1 * snr if system == "gensc" else 0) + 0.1 * noise


def reverse(figure, system, snr, index):
    """Values with which the paper is wrong in every point: our system is behind and needs more uses; digital links
    decode early.
    """
    noise = 0.1 * np.random.default_rng([index, int(snr), len(system)]).normal()
    if figure["task"] == "segmentation":
        return {"gensc": 0.3 + 0.02 * snr}.get(system, 0.9)
    rate = 3 * np.log2(16 * figure["cbr"])
    return 25 + 3 * index + 0.4 * snr + rate - (0.5 + 0.1 * snr if system == "gensc" else 0) + noise


def unclear(figure, system, snr, index):
    """Values with which every difference is smaller than the spread between pictures, so that seven pictures cannot
    decide.
    """
    noise = np.random.default_rng([index, len(system), sum(map(ord, system))]).normal()
    if figure["task"] == "segmentation":
        return float(np.clip(0.6 + 0.15 * noise + 0.15 * np.random.default_rng([index, int(snr)]).normal(), 0, 1))
    return 30 + 2 * noise + 0.1 * snr * np.random.default_rng([index, sum(map(ord, system))]).normal()


def verdicts_of(folder, value, names=None, **options):
    """The verdicts of these claims, or of all, on a made run."""
    return {v.name: v for v in judge(make_run(folder, options.pop("figures", figures()), value, **options), names)}


def verdict_of(run, name):
    (found,) = judge(run, [name])
    return found


def test_a_world_in_which_the_paper_is_right(tmp_path):
    found = verdicts_of(tmp_path / "run", paper)
    expected = {claim.name: CALIBRATED if "qam" in claim.name else HOLDS for claim in CLAIMS}
    # Without Fig. 5 (in which links decode at every SNR) the cliffs are where the paper shows them.
    cliffs = {name: expected.pop(name) for name in list(expected) if "qam" in name}
    assert {name: found[name].verdict for name in expected} == expected
    rest = [entry for entry in figures() if entry["id"] != "fig5"]
    found_cliffs = verdicts_of(tmp_path / "cliffs", paper, cliffs, figures=rest)
    assert {name: found_cliffs[name].verdict for name in cliffs} == cliffs
    assert all(v.numbers for v in found.values())


def test_a_world_in_which_the_paper_is_wrong(tmp_path):
    found = verdicts_of(tmp_path / "run", reverse)
    assert {name: v.verdict for name, v in found.items()} == {claim.name: CONTRADICTED for claim in CLAIMS}


def test_a_world_that_does_not_tell(tmp_path):
    undecided = (
        "low-resolution-best",
        "high-resolution-low-snr",
        "gap-grows-with-snr",
        "segmentation-stable",
        "lowest-overhead",
    )
    found = verdicts_of(tmp_path / "run", unclear, undecided, images=[f"image-{i}" for i in range(7)])
    assert {name: found[name].verdict for name in undecided} == dict.fromkeys(undecided, UNDECIDED)


def test_missing_data_decides_nothing(tmp_path):
    found = verdicts_of(tmp_path / "run", paper, figures=[figure("fig4", ["gensc", "witt"])])
    assert {v.verdict for v in found.values()} == {UNDECIDED}
    assert any("adjscc: not in the run" in number for number in found["low-resolution-best"].numbers)
    assert found["segmentation-best"].numbers == ("the run has no rows of fig7",)
    name = ["low-resolution-best"]
    alone = verdicts_of(tmp_path / "alone", paper, name, figures=[figure("fig4", ["witt", "adjscc"])])
    assert (
        alone["low-resolution-best"].verdict == UNDECIDED and "without gensc" in alone["low-resolution-best"].numbers[0]
    )


def test_no_statement_holds_where_cells_are_absent(tmp_path):
    """The rows that are left may be those of the pictures on which a system did not fail or hang."""
    run = make_run(tmp_path / "run", [entry for entry in figures() if entry["id"] != "fig5"], paper)
    high = make_run(tmp_path / "high", [entry for entry in figures() if entry["id"] == "fig5"], paper)
    of_high = {"high-resolution-low-snr", "gap-grows-with-snr"}
    parts = (high, of_high), (run, {claim.name for claim in CLAIMS} - of_high)
    before = {v.verdict for part in parts for v in judge(*part)}
    points = set(product(("gensc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam"), (4.0, 18.0)))
    for folder in (run, high):
        without_means(folder, points)
    found = {v.name: v for part in parts for v in judge(*part)}
    assert before == {HOLDS, CALIBRATED} and {v.verdict for v in found.values()} == {UNDECIDED}
    assert len(found) == len(CLAIMS)
    assert "gensc: cells are absent" in found["segmentation-stable"].numbers


@pytest.mark.parametrize("lacking", ["gensc", "rivals"])
def test_no_statement_is_contradicted_by_what_is_left(tmp_path, lacking):
    """Where half of the pictures are absent, a number over the others is none: nothing is said for or against."""
    lack = {"gensc"} if lacking == "gensc" else {*RECONSTRUCTION, *SEGMENTATION} - {"gensc"}
    snrs = [2.0, 4.0, 6.0, 14.0, 18.0, 20.0]
    shown = [figure(entry["id"], entry["systems"], entry["task"], snrs) for entry in figures()[:3]] + sweep()

    def left(figure, system, snr, index):
        return None if system in lack and index < 4 else reverse(figure, system, snr, index)

    run = make_run(tmp_path / "run", shown, left)
    assert verdict_of(run, "low-resolution-best").verdict == CONTRADICTED
    without_means(run, set(product(lack, snrs)))
    for found in judge(run):
        links = "qam" in found.name or found.name == "segmentation-stable"
        if links and (lacking == "gensc") != (found.name == "segmentation-stable"):
            assert found.verdict == CONTRADICTED  # it rests on systems of which nothing is absent
            continue
        assert found.verdict == UNDECIDED
        assert not [line for line in found.numbers if re.search(r"\d\.\d| %|\[", line)], found.numbers
        assert any("cells are absent" in line for line in found.numbers)


def test_one_rival_ahead_contradicts_best(tmp_path):
    def value(figure, system, snr, index):
        result = paper(figure, system, snr, index)
        return result + 5 if system == "witt" and snr == 14 else result

    found = verdicts_of(tmp_path / "run", value, ["low-resolution-best"])
    assert found["low-resolution-best"].verdict == CONTRADICTED
    assert "behind at 1 of 11 SNRs" in found["low-resolution-best"].numbers[0]


def test_a_task_that_the_weights_never_saw_is_undertrained(tmp_path):
    figures = [figure("fig4", ["gensc", "witt"]), figure("fig7", ["deeplab-jscc"], task="segmentation")]
    seen = {
        "gensc": {"reconstruction": 9, "segmentation": 0},
        "witt": {"reconstruction": 9},
        "deeplab-jscc": {"segmentation": 0},
    }
    run = Run.open(
        make_run(
            tmp_path / "run", figures, lambda *_: 0.5, systems={name: {"images_seen": n} for name, n in seen.items()}
        )
    )
    assert undertrained(run) == {"deeplab-jscc"}


def test_a_checkpoint_that_tells_nothing_hides_no_other_that_was_trained_too_little(tmp_path):
    figures = [figure("fig4", ["gensc", "witt", "linear"])]
    told = {"gensc": {"0": {"reconstruction": 0}, "9": None}, "witt": {"0": None, "9": {"reconstruction": 9}}}
    systems = {name: {"seen_per_snr": seen} for name, seen in told.items()}
    path = make_run(tmp_path / "run", figures, lambda f, s, *_: 30.0 if s == "linear" else 20.0, systems=systems)
    run = Run.open(path)
    assert below_floor(run, run.figures) == undertrained(run) == {"gensc", "witt"}
    path = make_run(tmp_path / "good", figures, lambda *_: 30.0, systems=systems)
    assert undertrained(Run.open(path)) == {"gensc"}


def test_no_verdict_rests_on_undertrained_systems(tmp_path):
    names = ("low-resolution-best", "lowest-overhead", "segmentation-best", "16qam-fails-below-12db")
    systems = {"gensc": {"undertrained": True}, "deeplab-jscc": {"undertrained": True}}
    found = verdicts_of(tmp_path / "run", paper, names, systems=systems)
    assert found["segmentation-best"].undertrained == ("deeplab-jscc", "gensc")
    assert found["low-resolution-best"].undertrained == ("gensc",)
    assert found["segmentation-best"].verdict == found["low-resolution-best"].verdict == WITHHELD
    assert found["segmentation-best"].numbers  # the measured numbers are given nevertheless
    assert found["lowest-overhead"].verdict == WITHHELD and found["16qam-fails-below-12db"].undertrained == ()
    assert "rests on undertrained systems: gensc" in report(list(found.values()))


def test_the_tables_mark_what_lies_below_the_floor(tmp_path):
    """A learned system that is below `linear` at one SNR of one figure counts as undertrained, whatever its sidecar
    file says.
    """

    def value(figure, system, snr, index):
        if system == "linear":
            return 24.0 + 3 * index
        return 20.0 if system == "witt" and snr == 20 else paper(figure, system, snr, index)

    systems = {name: {"images_seen": {"reconstruction": 9}, "undertrained": False} for name in ("gensc", "witt")}
    shown = [
        figure("fig4", [*RECONSTRUCTION, "linear"]),
        figure("fig5", [*RECONSTRUCTION, "linear"], channel="rayleigh-block"),
    ]
    run = Run.open(make_run(tmp_path / "run", shown, value, systems=systems))
    assert undertrained(run) == {"witt"}  # jpeg-ldpc is not trained, and no weights are trained for the other channel
    assert verdict_of(run, "low-resolution-best").verdict == WITHHELD


def test_a_figure_of_somebody_else_marks_no_system_in_other_figures(tmp_path):
    """A file that asks for 45 dB, another budget, other pictures or another task than a network was trained for."""

    def value(figure, system, snr, index):
        return 25.0 + 3 * index - (2.0 if system == "witt" and figure["id"] != "fig4" else 0.0)

    systems = {"witt": {"images_seen": {"reconstruction": 9, "segmentation": 0}}}
    names = [*RECONSTRUCTION, "linear"]
    strange = {
        "loud": figure("loud", names, snrs=[45.0]),
        "wide": figure("wide", names, cbr=1 / 2),
        "other": figure("other", names),
        "labels": figure("labels", ["witt"], task="segmentation"),
    }
    for name, added in strange.items():
        run = Run.open(make_run(tmp_path / name, [figure("fig4", names), added], value, systems=systems))
        here, there = ([one for one in run.figures if (one["id"] == "fig4") is ours] for ours in (True, False))
        assert undertrained(run, here) == set()
        assert undertrained(run, there) == ({"witt"} if name in ("other", "labels") else set()), name
        assert verdict_of(run, "low-resolution-best").undertrained == ()
        table = overhead_table(run, {}).set_index("figure")
        assert not table.loc["fig4", "undertrained"].any()


def test_the_floor_is_judged_by_the_paired_interval_and_never_on_a_trial(tmp_path):
    """A mean 0.001 dB below `linear`, within the spread of the pictures, proves nothing. A run with --limit proves
    nothing either.
    """

    def value(figure, system, snr, index):
        return 25.0 + 3 * index + (0 if system == "linear" else 0.3 * (-1) ** index - 0.001)

    def far_below(figure, system, snr, index):
        return 25.0 + 3 * index - (0 if system == "linear" else 2.0)

    systems = {"witt": {"images_seen": {"reconstruction": 9}}}
    shown = [figure("fig4", ["witt", "linear"])]
    for name, world, limited, expected in (
        ("noise", value, False, set()),
        ("proof", far_below, False, {"witt"}),
        ("trial", far_below, True, set()),
    ):
        run = Run.open(make_run(tmp_path / name, shown, world, systems=systems, limited=limited))
        assert undertrained(run) == expected, name
    # `linear` with a third more channel uses, as at a CBR beyond what a network can spend, is no floor.
    spent = {"linear": 9408, "witt": 7056}
    run = Run.open(make_run(tmp_path / "uses", shown, far_below, systems=systems, uses=spent.__getitem__))
    assert undertrained(run) == set()


def test_equal_budgets_prove_no_lower_overhead(tmp_path):
    found = verdict_of(make_run(tmp_path / "run", [figure("fig4", RECONSTRUCTION)], paper), "lowest-overhead")
    assert found.verdict == UNDECIDED and "to decide this, sweep over CBR" in found.numbers[0]


def test_uses_of_curves_that_share_no_quality_are_bounds(tmp_path):
    """At 10 dB the 16QAM link delivers nothing, so no use of it gives the quality of the others."""
    shown = [figure("fig4", RECONSTRUCTION), *sweep(10.0)]
    lines = verdict_of(make_run(tmp_path / "run", shown, paper), "lowest-overhead").numbers
    (lost,) = [line for line in lines if "jpeg-ldpc-16qam" in line]
    assert "at least 66.7 % fewer uses (there is no PSNR that both reach)" in lost and "[" not in lost  # 1/48 and 1/16
    (near,) = [line for line in lines if "adjscc" in line]
    assert "] uses for equal PSNR" in near


def test_uses_for_equal_quality_of_shifted_lines():
    """Where quality grows by 3 dB per doubling of the uses, a line 3 dB higher needs half the uses. Where the curves do
    not overlap, bounds are given.
    """
    uses = np.array([1000.0, 2000.0, 4000.0, 8000.0])
    quality = np.array([[20.0, 23.0, 26.0, 29.0]])
    assert log_uses_gap(uses, quality + 3, uses, quality) == pytest.approx(-1)
    assert log_uses_gap(uses, quality - 1.5, uses, quality) == pytest.approx(0.5)
    assert log_uses_gap(uses, quality + 20, uses, quality) == pytest.approx(-3)  # at most 1000 against 8000
    assert log_uses_gap(uses[:2], quality[:, :2], uses[1:], quality[:, 1:]) == pytest.approx(0)
    dip = quality + np.array([[0.0, 0.0, -5.0, 0.0]])
    assert log_uses_gap(uses, dip, uses, dip) == pytest.approx(0)


def test_the_overhead_is_judged_at_each_snr_of_a_sweep(tmp_path):
    """It compares uses at equal PSNR over several budgets, so a single SNR is enough, and one more counts as well."""

    def value(entry, system, snr, index):
        return by_rate(entry, system, snr, index) + ((14 - snr) / 4 if system == "gensc" else 0)

    one = [ONE_OF_THE_PAPER, *sweep(10.0)]
    two = [ONE_OF_THE_PAPER, *(entry | {"snr_db": [10.0, 18.0]} for entry in sweep())]
    found = verdicts_of(tmp_path / "one", value, figures=one)["lowest-overhead"]
    assert found.verdict == HOLDS and "1 SNR (10 dB)" in found.rests_on
    found = verdicts_of(tmp_path / "two", value, figures=two)["lowest-overhead"]
    assert found.verdict == CONTRADICTED and "2 SNRs from 10 to 18 dB" in found.rests_on


def test_a_bound_of_uses_speaks_for_the_upper_curve_alone():
    """The upper curve needs at most its least uses for the lower one's quality. If these are more than the most uses of
    the lower one, that says nothing.
    """
    few, many = np.array([1000.0, 2000.0]), np.array([4000.0, 8000.0])
    low, high, flat = np.array([[20.0, 23.0]]), np.array([[26.0, 29.0]]), np.array([[13.0, 13.0]])
    assert np.isnan(log_uses_gap(many, high, few, low)) and np.isnan(log_uses_gap(few, low, many, high))
    assert log_uses_gap(few, high, many, low) == pytest.approx(-3)
    assert log_uses_gap(many, low, few, high) == pytest.approx(3)
    assert np.isnan(log_uses_gap(few, flat, many, flat)) and np.isnan(log_uses_gap(few, flat, few, flat))


def test_a_curve_that_does_not_rise_is_compared_at_its_one_quality():
    """It needs its least uses, however far the other curve goes."""
    uses, rising = np.array([1000.0, 2000.0, 4000.0]), np.array([[20.0, 23.0, 26.0]])
    flat = np.full((1, 3), 23.0)
    assert log_uses_gap(uses, flat, uses, rising) == pytest.approx(-1)
    assert log_uses_gap(uses, rising, uses, flat) == pytest.approx(1)
    assert np.isnan(log_uses_gap(4 * uses, flat, uses, rising))  # perhaps it reaches 23 dB with fewer


def two_sweeps(ours, theirs, snr=10.0):
    """Our system at two CBRs and the rivals at two others."""
    return [
        figure(f"{name}-{n}", systems, snrs=[snr], cbr=1 / n, dataset="set")
        for name, systems, budgets in (("fig4", ["gensc"], ours), ("rivals", RECONSTRUCTION[1:], theirs))
        for n in budgets
    ]


def by_rate(entry, system, snr, index):
    return 25 + index + 3 * np.log2(16 * entry["cbr"])


@pytest.mark.parametrize("ours, theirs, above", [((2, 4), (48, 96), "gensc"), ((48, 96), (2, 4), "witt")])
def test_curves_that_share_no_psnr_prove_no_overhead_where_the_upper_one_spends_more(tmp_path, ours, theirs, above):
    shown = [ONE_OF_THE_PAPER, *two_sweeps(ours, theirs)]
    found = verdicts_of(tmp_path / "run", by_rate, figures=shown)["lowest-overhead"]
    assert found.verdict == UNDECIDED and not any("%" in line for line in found.numbers)
    words = f"decides nothing: there is no PSNR that both reach, and {above}, the curve above, spends more"
    (line,) = [line for line in found.numbers if "gensc - witt" in line]
    assert line == f"set at 10 dB, gensc - witt: {words}"


def test_resamples_that_prove_nothing_decide_no_overhead(tmp_path):
    """Over all pictures the curves share PSNRs at which our system spends more; in some resamples they share none."""

    def value(entry, system, snr, index):
        return 25 + 3 * np.log2(16 * entry["cbr"]) - ((7 + 3 * (-1) ** index) if system == "gensc" else 0)

    shown = [ONE_OF_THE_PAPER, *two_sweeps((4, 8), (32, 64))]
    found = verdicts_of(tmp_path / "run", value, figures=shown)["lowest-overhead"]
    words = "decides nothing: in some resamples of the pictures no PSNR is shared, and the curve above spends more"
    assert found.verdict == UNDECIDED and f"set at 10 dB, gensc - witt: {words}" in found.numbers


@pytest.mark.parametrize(
    "change, said",
    [
        ({"dataset": "other"}, "gensc - witt: witt is not in the sweep there"),
        ({"cbr": 1 / 24}, "gensc - witt: witt is at one budget of the sweep there"),
        ({"snr_db": [0.0]}, "gensc - witt: witt is not in the sweep there"),
    ],
)
def test_a_rival_that_is_not_swept_is_said_to_be_absent(tmp_path, change, said):
    """It was run, but at another data set, at one budget, or at another SNR."""
    swept = [figure(f"cbr-{n}", ["gensc"], snrs=[10.0], cbr=1 / n, dataset="set") for n in (48, 24)]
    rival = [entry | {"id": f"rival-{entry['id']}", "systems": ["witt"]} | change for entry in swept]
    both = [figure(f"both-{n}", ["gensc", "witt"], snrs=[4.0], cbr=1 / n, dataset="set") for n in (48, 24)]
    shown = [ONE_OF_THE_PAPER, *swept, *rival[: 1 if "cbr" in change else 2], *both]
    found = verdicts_of(tmp_path / "run", by_rate, figures=shown)["lowest-overhead"]
    assert found.verdict == UNDECIDED and f"set at 10 dB, {said}" in found.numbers


def test_a_sweep_with_another_requirement_is_not_the_paper_s(tmp_path):
    asked = [entry | {"requirement": "Give me all of it."} for entry in sweep(10.0)]
    found = verdicts_of(tmp_path / "run", by_rate, figures=[ONE_OF_THE_PAPER, *asked])["lowest-overhead"]
    assert found.verdict == UNDECIDED and "gensc was run with fewer than two budgets" in found.numbers[0]


def test_a_system_whose_cells_all_failed_is_not_called_absent_from_the_run(tmp_path):
    def without(lost):
        return lambda entry, system, *rest: None if system == lost else paper(entry, system, *rest)

    found = verdicts_of(tmp_path / "rival", without("adjscc"), figures=[figure("fig4", RECONSTRUCTION)])
    assert "adjscc: cells are absent" in found["low-resolution-best"].numbers
    found = verdicts_of(tmp_path / "ours", without("gensc"), figures=[figure("fig4", RECONSTRUCTION)])
    assert found["low-resolution-best"].numbers == ("fig4 has no rows of gensc, because its cells are absent",)


def test_a_rival_whose_cells_all_failed_is_in_the_sweep(tmp_path):
    def value(entry, system, snr, index):
        return None if system == "witt" else by_rate(entry, system, snr, index)

    found = verdicts_of(tmp_path / "run", value, figures=[ONE_OF_THE_PAPER, *sweep(10.0)])["lowest-overhead"]
    assert "set-cbr at 10 dB, gensc - witt: no number, because cells are absent" in found.numbers
    assert not any("witt: not in the sweep" in line for line in found.numbers)


def test_reductions_that_disagree_decide_nothing(tmp_path):
    """One system is ahead in PSNR on all pictures but two. These two dominate the mean error, so the verdict stays
    open.
    """
    images = [f"image-{i}" for i in range(40)]

    def value(figure, system, snr, index):
        hard = index < 8
        return (
            (20.0 if hard else 40.0) + (0 if system != "gensc" else -1.0 if hard else 3.0) + 0.001 * index * (snr + 1)
        )

    shown = [figure(name, RECONSTRUCTION, snrs=SNRS[:3]) for name in ("fig4", "fig5")]
    names = ("low-resolution-best", "high-resolution-low-snr")
    found = verdicts_of(tmp_path / "run", value, names, figures=shown, images=images)
    for name in names:
        assert found[name].verdict == UNDECIDED
        by = dict(part.split(": ") for part in found[name].numbers[-1].split(", "))
        assert by == {"by mean PSNR": HOLDS, "by PSNR of the mean MSE": CONTRADICTED}


def test_low_snr_cannot_hold_where_a_chain_delivers_nothing(tmp_path):
    def value(shown, system, snr, index):
        return "outage" if "16qam" in system and snr < 12 else paper(figure("fig5", []), system, snr, index)

    run = make_run(tmp_path / "run", [figure("fig5", RECONSTRUCTION)], value)
    found = verdict_of(run, "high-resolution-low-snr")
    assert found.verdict == UNDECIDED and any("cannot be compared" in number for number in found.numbers)


def test_a_rival_of_another_figure_at_the_same_point_counts(tmp_path):
    """The adaptive chain was run in a figure of its own, on the same pictures and under the same budget: it counts as a
    rival.
    """

    def value(figure, system, snr, index):
        result = paper(figure, system, snr, index)
        return result + 9 if system == "jpeg-ldpc-adaptive" else result

    rest = [name for name in RECONSTRUCTION if name != "jpeg-ldpc-adaptive"]
    run = make_run(tmp_path / "run", [figure("fig4", rest)], value)
    assert verdict_of(run, "low-resolution-best").verdict == UNDECIDED
    codecs = figure("codecs", ["jpeg-ldpc-adaptive"], dataset="set-fig4")
    both = make_run(tmp_path / "both", [figure("fig4", rest), codecs], value)
    found = verdict_of(both, "low-resolution-best")
    assert found.verdict == CONTRADICTED and any("jpeg-ldpc-adaptive: from" in number for number in found.numbers)


def test_several_trainings_must_agree_and_their_spread_is_told(tmp_path):
    import pandas as pd

    run = Run.open(make_run(tmp_path / "run", [figure("fig4", RECONSTRUCTION)], paper))
    assert verdict_of(run, "low-resolution-best").verdict == HOLDS
    for shift, expected in ((-0.05, HOLDS), (-9.0, CONTRADICTED)):
        rows = run.samples[run.samples["variant"] == "small-1"]
        again = rows[rows["system"] == "gensc"].assign(variant="small-2")
        psnr = again["psnr_db"] + shift
        again = again.assign(psnr_db=psnr, mse=255**2 * 10 ** (-psnr / 10))
        run.__dict__["samples"] = pd.concat([rows, again], ignore_index=True)
        found = verdict_of(run, "low-resolution-best")
        assert found.verdict == expected
        spread = abs(shift) / np.sqrt(2)
        assert any(f"gensc: 2 trainings, the means of psnr_db spread by {spread:.3f}" in n for n in found.numbers)


def test_a_run_of_another_figure_has_no_verdicts(tmp_path):
    from bench.cli.claims import claims_command
    from bench.report.tables import tables_of

    run = make_run(tmp_path / "run", [figure("mine", ["gensc", "witt"], snrs=SNRS[:2])], paper)
    done = CliRunner().invoke(claims_command, [str(run)])
    assert isinstance(done.exception, UserError) and "none of the paper" in str(done.exception)
    assert not [path for path in tables_of(Run.open(run)) if "claims" in path.name]


@pytest.mark.parametrize(
    ("cliff", "images", "expected"),
    [(12, 8, CALIBRATED), (10, 8, CONTRADICTED), (14, 8, CONTRADICTED), (12, 3, UNDECIDED)],
)
def test_the_cliff_is_counted(tmp_path, cliff, images, expected):
    def value(figure, system, snr, index):
        return "outage" if snr < cliff else 30.0

    run = [figure("fig4", ["jpeg-ldpc-16qam"])]
    found = verdicts_of(tmp_path / "run", value, figures=run, images=[f"image-{i}" for i in range(images)])
    assert found["16qam-fails-below-12db"].verdict == expected
    assert found["64qam-fails-below-18db"].verdict == UNDECIDED


def test_repetitions_do_not_decide_a_cliff(tmp_path):
    """Three pictures stay three pictures, however often they are sent."""
    import pandas as pd

    def value(figure, system, snr, index):
        return "outage" if snr < 12 else 30.0

    names = ["image-0", "image-1", "image-2"]
    run = Run.open(make_run(tmp_path / "run", [figure("fig4", ["jpeg-ldpc-16qam"])], value, images=names))
    run.__dict__["samples"] = pd.concat([run.samples.assign(rep=float(rep)) for rep in range(9)], ignore_index=True)
    found = verdict_of(run, "16qam-fails-below-12db")
    assert found.verdict == UNDECIDED and all(number.endswith("of 3") for number in found.numbers)


def test_a_sweep_above_the_threshold_cannot_show_a_failure_below(tmp_path):
    run = [figure("fig4", ["jpeg-ldpc-16qam"], snrs=[12.0, 14.0])]
    found = verdicts_of(tmp_path / "run", lambda *_: 30.0, figures=run)
    assert found["16qam-fails-below-12db"].verdict == UNDECIDED


def test_rounding_is_no_lead(tmp_path):
    def value(figure, system, snr, index):
        return 30.0 + index + snr * 0.1 + (0.3 if system == "gensc" else 0)  # a constant gap, but for the last digits

    run = make_run(tmp_path / "run", [figure("fig5", RECONSTRUCTION)], value)
    assert verdict_of(run, "gap-grows-with-snr").verdict == UNDECIDED


#: A world in which three statements are contradicted and one is calibrated, if they are judged.
JUDGED = {
    "low-resolution-best": CONTRADICTED, "gap-grows-with-snr": CONTRADICTED, "segmentation-best": CONTRADICTED,
    "16qam-fails-below-12db": CALIBRATED,
}  # fmt: skip


def behind(figure, system, snr, index):
    """Our system is behind, and ever more; 16QAM delivers from 12 dB on."""
    if "16qam" in system:
        return "outage" if snr < 12 else 0.9
    if figure["task"] == "segmentation":
        return {"gensc": 0.3}.get(system, 0.9)
    return 40 + index - (1 + 0.1 * snr if system == "gensc" else 0)


def three_figures(snrs=SNRS, **changes):
    """changes: {id: values of its entry}."""
    segmentation = ["gensc", "deeplab-jscc", "jpeg-ldpc-16qam-fcn"]
    return [
        figure("fig4", ["gensc", "witt"], snrs=snrs, **changes.get("fig4", {})),
        figure("fig5", ["gensc", "witt"], snrs=snrs, **changes.get("fig5", {})),
        figure("fig7", segmentation, task="segmentation", snrs=snrs, **changes.get("fig7", {})),
    ]


def test_the_paper_s_points_are_those_of_the_files():
    """The analysis reads them itself, because it stands beside `bench.spec`."""
    for name in PAPER_FIGURES:
        entry = load_figure(name).as_dict()
        assert differences(entry, name) == [] and entry.items() >= paper_point(name).items()


ASKED = {"requirement": "Give me all of it."}
FADED, HALF, FEW_BITS = {"channel": "rayleigh-block"}, {"cbr": 1 / 2}, {"bits": 5000}


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("fig4", FADED, "fig4 is not the paper's (configs/figures/fig4.toml): channel rayleigh-block, not awgn"),
        ("fig4", HALF | FADED, "channel rayleigh-block, not awgn; CBR 1/2, not CBR 1/16"),
        ("fig4", ASKED, "fig4.toml): requirement 'Give me all of it.', not the task's own"),
        ("fig7", ASKED, "fig7.toml): requirement 'Give me all of it.', not the task's own"),
        ("fig4", {"cbr": None, "uses": 6000}, "6000 uses, not CBR 1/16"), ("fig5", HALF, "CBR 1/2, not CBR 1/16"),
        ("fig5", {"cbr": None, "bits": 20000}, "20 Kbits, not CBR 1/16"), ("fig7", FADED, "channel rayleigh-block"),
        ("fig7", FEW_BITS, "5 Kbits, not 20 Kbits"), ("fig7", {"bits": None, "cbr": 1 / 16}, "CBR 1/16, not 20 Kbits"),
    ],
)  # fmt: skip
def test_no_statement_is_judged_at_another_point_than_the_paper_s(tmp_path, name, change, said):
    """`run --figure fig4 --channel ... --cbr ...` keeps the figure's id."""
    of = {"fig4": {"low-resolution-best"}, "fig5": {"gap-grows-with-snr"}}.get(
        name, {"segmentation-best", "16qam-fails-below-12db"}
    )
    shown, images = three_figures(**{name: change}), ["a", "b", *"cdefgh"]
    found = verdicts_of(tmp_path / "run", behind, JUDGED, figures=shown, images=images)
    assert {claim: found[claim].verdict for claim in JUDGED} == JUDGED | dict.fromkeys(of, UNDECIDED)
    for claim in of - {"16qam-fails-below-12db"}:
        assert len(found[claim].numbers) == 1 and said in found[claim].numbers[0] and not found[claim].rests_on
    if name == "fig7":
        (said,) = found["16qam-fails-below-12db"].numbers
        assert said.startswith("the run has no rows of jpeg-ldpc-16qam with the task, channel and budget")


def test_another_task_under_the_paper_s_id_is_named():
    entry = figure("fig7", ["gensc"])
    assert differences(entry, "fig7") == ["task reconstruction, not segmentation", "CBR 1/16, not 20 Kbits"]


@pytest.mark.parametrize("snrs", [[0.0], [0.0, 20.0]])
def test_few_snrs_decide_no_statement_about_a_curve(tmp_path, snrs):
    found = verdicts_of(tmp_path / "run", behind, figures=three_figures(snrs))
    assert {v.verdict for v in found.values()} == {UNDECIDED}
    count = f"has {len(snrs)} SNR{'s' * (len(snrs) > 1)}"
    for name in JUDGED:
        (said,) = found[name].numbers
        assert f"{count}; a statement about a curve needs 3" in said and "set-fig" in said and "awgn" in said
    assert "has 1 SNR up to 6 dB" in found["high-resolution-low-snr"].numbers[0]
    assert " above 0 dB; a statement" in found["segmentation-stable"].numbers[0]


def test_a_rival_at_few_snrs_decides_no_statement_about_a_curve(tmp_path):
    """It may be of another figure at the same point."""
    shown = [figure("fig4", ["gensc", "adjscc"]), figure("more", ["witt"], snrs=[0.0, 2.0], dataset="set-fig4")]

    def value(entry, system, snr, index):
        return 40 + index + {"gensc": 1, "witt": 5}.get(system, 0)

    found = verdict_of(make_run(tmp_path / "run", shown, value), "low-resolution-best")
    assert found.verdict == UNDECIDED and "gensc - witt: fewer than 3 SNRs in common" in found.numbers


def test_a_rival_that_decodes_at_few_snrs_has_no_slope(tmp_path):
    """A line through two points is no trend."""

    def late(entry, system, snr, index):
        lost = entry["id"] == "fig5" and system == "jpeg-ldpc-64qam" and snr < 18
        return "outage" if lost else paper(entry, system, snr, index)

    found = verdict_of(make_run(tmp_path / "run", figures(), late), "gap-grows-with-snr")
    words = "gensc - jpeg-ldpc-64qam: fewer than 3 SNRs at which both decode; it cannot be compared"
    assert found.verdict == UNDECIDED and words in found.numbers
    assert len([line for line in found.numbers if "dB of gap per dB of SNR" in line]) == len(RECONSTRUCTION) - 2


@pytest.mark.parametrize("limited", [False, True])
def test_a_verdict_rests_on_no_more_than_the_rival_with_the_fewest_snrs(tmp_path, limited):
    """Our system was run at 11 SNRs, its rival at four, and loses pictures at one of them."""

    def lossy(figure, system, snr, index):
        return "outage" if (system, snr, index) == ("witt", 0.0, 0) else behind(figure, system, snr, index)

    folder = make_run(tmp_path / "run", three_figures(), lossy, limited=limited)
    for name, columns in (("samples.csv", SAMPLE_COLUMNS), ("summary.csv", SUMMARY_COLUMNS)):
        rows = [row for row in read_rows(folder / name)
                if row["system"] != "witt" or float(row["snr_db"]) in SNRS[::3]]  # fmt: skip
        RunStore(folder).write_table(name, columns, rows)
    run = Run.open(folder)
    names = ("low-resolution-best", "gap-grows-with-snr")
    verdicts = {v.name: v for v in judge(run, names)}
    trial = ", LIMITED: a trial, not a result" if limited else ""
    for name in names:
        assert ", 4 SNRs from 0 to 18 dB, 8 pictures" in verdicts[name].rests_on
        assert verdicts[name].rests_on.endswith("8 pictures" + trial)
    assert "8 pictures, 3 SNRs from 6 to 18 dB" in verdicts["gap-grows-with-snr"].numbers[0]


def test_each_verdict_names_what_it_rests_on(tmp_path):
    run = Run.open(make_run(tmp_path / "run", [*three_figures(fig4={"dataset": "folder:a|b"}), *sweep()], behind))
    verdicts = judge(run)
    rests = {v.name: v.rests_on for v in verdicts}
    assert rests["low-resolution-best"] == "folder:a|b, awgn, CBR 1/16, 11 SNRs from 0 to 20 dB, 8 pictures"
    assert rests["high-resolution-low-snr"] == "set-fig5, awgn, CBR 1/16, 4 SNRs from 0 to 6 dB, 8 pictures"
    assert rests["segmentation-stable"] == "set-fig7, awgn, 20 Kbits, 10 SNRs from 2 to 20 dB, 8 pictures"
    assert rests["lowest-overhead"] == "set-cbr, awgn, CBR 1/48 and CBR 1/24 and CBR 1/16, 1 SNR (18 dB), 8 pictures"
    assert "set-fig7" in rests["16qam-fails-below-12db"] and "set-cbr, set-fig7" in rests["16qam-fails-below-12db"]
    judged = [words for words in rests.values() if words]
    assert len(judged) == len(CLAIMS) - 1 and not rests["64qam-fails-below-18db"]  # at one SNR
    assert list(table(verdicts)["rests_on"]) == list(rests.values())
    assert all(f"judged on {words}\n" in report(verdicts) for words in judged)
    text = markdown(verdicts)
    assert r"<br>judged on folder:a\|b, awgn" in text and text.count("judged on") == len(judged)
    assert [claim["restsOn"] for claim in report_data([run], 0)["claims"]] == list(rests.values())


def test_claims_are_judged_by_name(tmp_path):
    run = make_run(tmp_path / "run", [figure("fig4", ["gensc", "witt"], snrs=SNRS[:3])], paper)
    every = {v.name: v for v in judge(run)}
    names = ["segmentation-best", "low-resolution-best"]
    assert judge(run, names) == [every[name] for name in names[::-1]]  # in the order of the paper
    assert judge(run, []) == []
    with pytest.raises(UserError, match="there is no claim 'best'; claims are low-resolution-best, "):
        judge(run, ["best"])


def test_table_and_command(tmp_path):
    from bench.cli.claims import claims_command

    run = make_run(tmp_path / "run", [figure("fig4", ["gensc", "witt"], snrs=SNRS[:3])], paper)
    rows = table(judge(run))
    assert list(rows["claim"]) == [claim.name for claim in CLAIMS]
    done = CliRunner().invoke(claims_command, [str(run)])
    assert done.exit_code == 0 and "UNDECIDED" in done.output
