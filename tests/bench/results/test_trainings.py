"""Tests of the runs in `seeds`: what stands there differs from the run in its weights alone."""

import numpy as np
import pytest
from made_run import IMAGES, figure, make_run

from bench.analysis.training_spread import spread, without_cells
from bench.results.reader import Run
from bench.results.schema import FAILURE_COLUMNS
from bench.results.store import RunStore
from systems.errors import UserError

POINT = {"task": "reconstruction", "dataset": "set-fig4", "channel": "awgn", "cbr_target": 1 / 16, "bits_target": None,
         "uses_target": None}  # fmt: skip
IDENTITY = {"name": "gensc", "options": {}, "config": {"depth": 2}, "source": "abc"}


def made(folder, training, changes=(), snrs=(0.0, 10.0), images=IMAGES, plugin=True, **more):
    identity = IDENTITY | {"weights": f"weights-{training}"} | dict(changes)
    systems = {"gensc": {"identity": identity, "plugin": plugin}}
    fig4 = figure("fig4", ["gensc"], snrs=list(snrs))
    return make_run(folder, [fig4], lambda figure, system, snr, index: 20 + 0.1 * training * (snr + 1) + index,
                    systems=systems, images=images, **more)  # fmt: skip


def with_trainings(folder, changes=(), **more):
    """A run and three trainings. changes and more: what is different in the last."""
    made(folder, 0)
    for training in (1, 2):
        made(folder / "seeds" / str(training), training)
    made(folder / "seeds" / "3", 3, changes, **more)
    return Run.open(folder)


def test_the_spread_is_that_of_the_points_of_the_run(tmp_path):
    """At 100 dB, where the run has no point, the trainings are 10 dB apart: this decides nothing about the run."""
    run = with_trainings(tmp_path / "run", snrs=(0.0, 10.0, 100.0))
    made(run.directory / "seeds" / "4", 4, snrs=(0.0, 10.0, 100.0))
    seeds = run.seeds
    assert [sorted(set(one.summary["snr_db"])) for one in seeds] == [[0.0, 10.0]] * 4
    assert [sorted(set(one.samples["snr_db"])) for one in seeds] == [[0.0, 10.0]] * 4
    found = spread(run, "gensc", POINT, "psnr_db")
    assert found.trainings == 4 and found.std == pytest.approx(np.std([1.1, 2.2, 3.3, 4.4], ddof=1), abs=1e-6)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"config": {"depth": 3}}, "gensc differs from that of the run in its config"),
        ({"options": {"size": "small_narrow"}}, "in its options"),
        ({"source": "def"}, "in its source"),
        ({"source": "def", "target": "mine:Class"}, "in its source, target"),
        ({"weights": "weights-1"}, "gensc has the same weights as in .*seeds/1, so they are one training"),
    ],
)
def test_a_training_differs_in_its_weights_alone(tmp_path, changes, told):
    run = with_trainings(tmp_path / "run", changes)
    with pytest.raises(UserError, match=f"seeds/3: .*{told}.*take .* away"):
        _ = run.seeds


def test_the_code_of_our_own_systems_may_be_of_another_version_of_the_bench(tmp_path):
    made(tmp_path / "run", 0, plugin=False)
    for training in (1, 2):
        made(tmp_path / "run" / "seeds" / str(training), training, {"source": "def"}, plugin=False)
    assert spread(Run.open(tmp_path / "run"), "gensc", POINT, "psnr_db").trainings == 2


@pytest.mark.parametrize(
    "more", [{"images": IMAGES[:5], "limited": True}, {"datasets": {"set-fig4": {"fingerprint": "of-others"}}}]
)
def test_a_training_has_the_pictures_of_the_run(tmp_path, more):
    made(tmp_path / "run", 0, datasets={"set-fig4": {"fingerprint": "of-the-run"}})
    made(tmp_path / "run" / "seeds" / "1", 1, **more)
    with pytest.raises(UserError, match="seeds/1: it has other pictures of set-fig4 than the run; repeat it with the"):
        _ = Run.open(tmp_path / "run").seeds


def test_the_run_of_a_training_has_ended(tmp_path):
    """One that was interrupted would leave everything undecided in which its systems are behind."""
    run = with_trainings(tmp_path / "run")
    seed = run.directory / "seeds" / "2"
    RunStore(seed).write_manifest(Run.open(seed).manifest | {"salt": None})
    with pytest.raises(UserError, match="seeds/2: this run of a training has not ended; repeat its command, or take"):
        _ = run.seeds


def test_a_system_without_weights_has_no_trainings(tmp_path):
    """Only its noise differs between such runs."""
    run = with_trainings(tmp_path / "run")
    for one in (run.directory, *(run.directory / "seeds" / name for name in "123")):
        manifest = Run.open(one).manifest
        manifest["systems"]["gensc"]["identity"]["weights"] = None
        RunStore(one).write_manifest(manifest)
    run = Run.open(run.directory)
    assert not spread(run, "gensc", POINT, "psnr_db").measured
    RunStore(run.directory / "seeds" / "1").write_table("failures.csv", FAILURE_COLUMNS, [{"system": "gensc"}])
    assert without_cells(Run.open(run.directory), "gensc") == ()


def test_systems_that_the_run_does_not_have_are_not_compared(tmp_path):
    """So the trainings of one run may be shown beside several."""
    run = with_trainings(tmp_path / "run")
    make_run(run.directory / "seeds" / "4", [figure("fig4", ["witt"], snrs=[0.0])], lambda *_: 30.0)
    assert [len(one.summary) > 0 for one in run.seeds] == [True, True, True, False]
