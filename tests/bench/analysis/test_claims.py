"""Claims: on runs made to fit, to break, and to leave open each statement, the verdicts follow from the numbers."""

import numpy as np
import pytest
from click.testing import CliRunner
from made_run import SNRS, figure, make_run

from bench.analysis.claims import CLAIMS, CONTRADICTED, HOLDS, UNDECIDED, WITHHELD, judge, report, table
from bench.analysis.undertrained import undertrained
from bench.results.reader import Run

RECONSTRUCTION = ["gensc", "witt", "adjscc", "deepjscc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam"]
SEGMENTATION = ["gensc", "deeplab-jscc", "jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn"]
CLIFF = {"16qam": 12, "64qam": 18}


def figures(**changes):
    return [
        figure("fig4", RECONSTRUCTION),
        figure("fig5", RECONSTRUCTION),
        figure("fig7", SEGMENTATION, task="segmentation", **changes),
    ]


def paper(experiment, system, snr, index):
    """A world in which the paper is right."""
    for modulation, cliff in CLIFF.items():
        if modulation in system and snr < cliff:
            return "outage"
    noise = np.random.default_rng([index, int(snr), len(system)]).normal()
    if experiment["task"] == "segmentation":
        return {"gensc": 0.85}.get(system, 0.6) + 0.005 * (index % 2)
    return 25 + 3 * index + 0.4 * snr + (0.5 + 0.1 * snr if system == "gensc" else 0) + 0.1 * noise


def reverse(experiment, system, snr, index):
    """A world in which it is wrong in every point: ours trails and needs more; digital links decode early."""
    noise = 0.1 * np.random.default_rng([index, int(snr), len(system)]).normal()
    if experiment["task"] == "segmentation":
        return {"gensc": 0.3 + 0.02 * snr}.get(system, 0.9)
    return 25 + 3 * index + 0.4 * snr - (0.5 + 0.1 * snr if system == "gensc" else 0) + noise


def unclear(experiment, system, snr, index):
    """A world in which every difference drowns in the pictures' own: seven pictures cannot decide."""
    noise = np.random.default_rng([index, len(system), sum(map(ord, system))]).normal()
    if experiment["task"] == "segmentation":
        return float(np.clip(0.6 + 0.15 * noise + 0.15 * np.random.default_rng([index, int(snr)]).normal(), 0, 1))
    return 30 + 2 * noise + 0.1 * snr * np.random.default_rng([index, sum(map(ord, system))]).normal()


def verdicts_of(folder, value, **options):
    return {v.name: v for v in judge(make_run(folder, options.pop("figures", figures()), value, **options))}


def test_a_world_in_which_the_paper_is_right(tmp_path):
    found = verdicts_of(tmp_path / "run", paper, uses=lambda system: 9000 if system == "gensc" else 9408)
    assert {name: v.verdict for name, v in found.items()} == {claim.name: HOLDS for claim in CLAIMS}
    assert all(v.numbers for v in found.values())


def test_a_world_in_which_the_paper_is_wrong(tmp_path):
    found = verdicts_of(tmp_path / "run", reverse, uses=lambda system: 9408 if system == "gensc" else 9000)
    assert {name: v.verdict for name, v in found.items()} == {claim.name: CONTRADICTED for claim in CLAIMS}


def test_a_world_that_does_not_tell(tmp_path):
    found = verdicts_of(tmp_path / "run", unclear, images=[f"image-{i}" for i in range(7)])
    undecided = (
        "low-resolution-best",
        "high-resolution-low-snr",
        "gap-grows-with-snr",
        "segmentation-stable",
        "lowest-overhead",
    )
    assert {name: found[name].verdict for name in undecided} == dict.fromkeys(undecided, UNDECIDED)


def test_missing_data_decides_nothing(tmp_path):
    found = verdicts_of(tmp_path / "run", paper, figures=[figure("fig4", ["gensc", "witt"])])
    assert {v.verdict for v in found.values()} == {UNDECIDED}
    assert any("adjscc: not in the run" in number for number in found["low-resolution-best"].numbers)
    assert found["segmentation-best"].numbers == ("the run has no rows of fig7",)
    alone = verdicts_of(tmp_path / "alone", paper, figures=[figure("fig4", ["witt", "adjscc"])])
    assert (
        alone["low-resolution-best"].verdict == UNDECIDED and "without gensc" in alone["low-resolution-best"].numbers[0]
    )


def test_one_rival_ahead_contradicts_best(tmp_path):
    def value(experiment, system, snr, index):
        result = paper(experiment, system, snr, index)
        return result + 5 if system == "witt" and snr == 14 else result

    found = verdicts_of(tmp_path / "run", value)
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


def test_no_verdict_rests_on_undertrained_systems(tmp_path):
    found = verdicts_of(
        tmp_path / "run", paper, systems={"gensc": {"undertrained": True}, "deeplab-jscc": {"undertrained": True}}
    )
    assert found["segmentation-best"].undertrained == ("deeplab-jscc", "gensc")
    assert found["low-resolution-best"].undertrained == ("gensc",)
    assert found["segmentation-best"].verdict == found["low-resolution-best"].verdict == WITHHELD
    assert found["segmentation-best"].numbers  # what was measured is told all the same
    assert found["16qam-fails-below-12db"].undertrained == () and found["16qam-fails-below-12db"].verdict == HOLDS
    assert "rests on undertrained systems: gensc" in report(list(found.values()))


def test_the_tables_mark_what_lies_below_the_floor(tmp_path):
    """A learned system under `linear` at one SNR of one figure is undertrained, whatever its sidecar says."""

    def value(experiment, system, snr, index):
        if system == "linear":
            return 24.0 + 3 * index
        return 20.0 if system == "witt" and snr == 20 else paper(experiment, system, snr, index)

    systems = {name: {"images_seen": {"reconstruction": 9}, "undertrained": False} for name in ("gensc", "witt")}
    shown = [
        figure("fig4", [*RECONSTRUCTION, "linear"]),
        figure("fig5", [*RECONSTRUCTION, "linear"], channel="rayleigh-block"),
    ]
    run = Run.open(make_run(tmp_path / "run", shown, value, systems=systems))
    assert undertrained(run) == {"witt"}  # jpeg-ldpc learns nothing, and no weights are trained for the other channel
    assert {v.name: v.verdict for v in judge(run)}["low-resolution-best"] == WITHHELD


def test_equal_budgets_prove_no_lower_overhead(tmp_path):
    assert verdicts_of(tmp_path / "run", paper)["lowest-overhead"].verdict == UNDECIDED


@pytest.mark.parametrize(
    ("cliff", "images", "expected"),
    [(12, 8, HOLDS), (10, 8, CONTRADICTED), (14, 8, CONTRADICTED), (12, 3, UNDECIDED)],
)
def test_the_cliff_is_counted(tmp_path, cliff, images, expected):
    def value(experiment, system, snr, index):
        return "outage" if snr < cliff else 30.0

    run = [figure("fig4", ["jpeg-ldpc-16qam"])]
    found = verdicts_of(tmp_path / "run", value, figures=run, images=[f"image-{i}" for i in range(images)])
    assert found["16qam-fails-below-12db"].verdict == expected
    assert found["64qam-fails-below-18db"].verdict == UNDECIDED


def test_repetitions_do_not_decide_a_cliff(tmp_path):
    """Three pictures are three, however often they are sent."""
    import pandas as pd

    def value(experiment, system, snr, index):
        return "outage" if snr < 12 else 30.0

    names = ["image-0", "image-1", "image-2"]
    run = Run.open(make_run(tmp_path / "run", [figure("fig4", ["jpeg-ldpc-16qam"])], value, images=names))
    run.__dict__["samples"] = pd.concat([run.samples.assign(rep=float(rep)) for rep in range(9)], ignore_index=True)
    found = {v.name: v for v in judge(run)}["16qam-fails-below-12db"]
    assert found.verdict == UNDECIDED and all(number.endswith("of 3") for number in found.numbers)


def test_a_sweep_above_the_threshold_cannot_show_a_failure_below(tmp_path):
    run = [figure("fig4", ["jpeg-ldpc-16qam"], snrs=[12.0, 14.0])]
    found = verdicts_of(tmp_path / "run", lambda *_: 30.0, figures=run)
    assert found["16qam-fails-below-12db"].verdict == UNDECIDED


def test_rounding_is_no_lead(tmp_path):
    def value(experiment, system, snr, index):
        return 30.0 + index + snr * 0.1 + (0.3 if system == "gensc" else 0)  # a constant gap, but for the last digits

    found = verdicts_of(tmp_path / "run", value, figures=[figure("fig5", RECONSTRUCTION)])
    assert found["gap-grows-with-snr"].verdict == UNDECIDED


def test_table_and_command(tmp_path):
    from bench.cli.claims import claims_command

    run = make_run(tmp_path / "run", [figure("fig4", ["gensc", "witt"], snrs=SNRS[:3])], paper)
    rows = table(judge(run))
    assert list(rows["claim"]) == [claim.name for claim in CLAIMS]
    done = CliRunner().invoke(claims_command, [str(run)])
    assert done.exit_code == 0 and "UNDECIDED" in done.output
