"""Engines alone, with work that is not the bench's: outcomes of all cells, whatever becomes of a worker."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass

import pytest
import torch
from harness import ROOT

from bench.engines import Outcome, make_engine, one_thread
from bench.engines.process import ProcessEngine
from bench.engines.serial import SerialEngine
from bench.engines.slurm import SlurmEngine, chunked
from systems.errors import MissingDependency, UserError


@dataclass(frozen=True)
class FakeCell:
    id: str


@dataclass(frozen=True)
class FakeTask:
    system: str
    cells: tuple[FakeCell, ...]


def tasks(count, system="s", cells=3):
    return [FakeTask(system, tuple(FakeCell(f"{system}{i}.{j}") for j in range(cells))) for i in range(count)]


@dataclass
class Work:
    """One outcome a cell; `dies_at` kills its process, `fails_at` reports a failure. `place` is remembered."""

    dies_at: str = ""
    exits_at: str = ""
    fails_at: str = ""
    index: int = -1

    def place(self, index):
        self.index = index

    def __call__(self, task):
        for cell in task.cells:
            if cell.id == self.dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if cell.id == self.exits_at:
                os._exit(3)
            note = f"{self.index} {torch.get_num_threads()} {os.getpid()}"
            yield Outcome(cell.id, "failed" if cell.id == self.fails_at else "done", note)


def names(work):
    return sorted(cell.id for task in work for cell in task.cells)


@pytest.mark.parametrize("engine", [SerialEngine(), ProcessEngine(1), ProcessEngine(3)])
def test_every_cell_has_one_outcome(engine):
    work = tasks(4)
    threads = torch.get_num_threads()
    outcomes = list(engine.run(work, Work(fails_at="s1.1")))
    assert sorted(outcome.cell_id for outcome in outcomes) == names(work)
    assert [outcome.cell_id for outcome in outcomes if outcome.status == "failed"] == ["s1.1"]
    assert {outcome.error.split()[1] for outcome in outcomes} == {"1"} and torch.get_num_threads() == threads
    assert list(engine.run([], Work())) == []


def test_workers_are_apart_and_know_their_place():
    outcomes = list(ProcessEngine(2).run(tasks(8), Work()))
    processes = {outcome.error.split()[2]: outcome.error.split()[0] for outcome in outcomes}
    assert sorted(processes.values()) in (["0", "1"], ["0"], ["1"]) and str(os.getpid()) not in processes


@pytest.mark.parametrize(("fault", "words"), [({"dies_at": "s2.1"}, "SIGKILL"), ({"exits_at": "s2.1"}, "code 3")])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_dead_worker_fails_its_own_cells_and_is_replaced(workers, fault, words):
    work = tasks(5)
    outcomes = {outcome.cell_id: outcome for outcome in ProcessEngine(workers).run(work, Work(**fault))}
    assert sorted(outcomes) == names(work)
    failed = {key: outcome.error for key, outcome in outcomes.items() if outcome.status == "failed"}
    assert set(failed) == {"s2.1", "s2.2"} and all(words in text for text in failed.values())


def test_a_run_that_stops_early_leaves_no_workers():
    outcomes = ProcessEngine(2).run(tasks(6), Work())
    pids = {int(next(outcomes).error.split()[2])}
    outcomes.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_one_thread_is_put_back():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_chunks_hold_one_system_each_and_all_tasks():
    work = tasks(7, "a") + tasks(2, "b") + tasks(1, "c")
    for jobs in (1, 3, 5, 40):
        chunks = chunked(work, jobs)
        assert all(len({task.system for task in chunk}) == 1 for chunk in chunks) and all(chunks)
        assert sorted(names([task for chunk in chunks for task in chunk])) == names(work)
        assert len(chunks) <= max(jobs, 3) + 2


def test_slurm_jobs_on_this_machine(tmp_path, monkeypatch):
    """The same job array, run by submitit as processes here: a lost job fails its own cells only."""
    pytest.importorskip("submitit")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests" / "bench"), os.environ.get("PYTHONPATH", "")])
    )
    engine = SlurmEngine(3, tmp_path / "slurm", {"timeout_min": 2}, cluster="local")
    work = tasks(2, "a", 2) + tasks(1, "b", 2)
    outcomes = {outcome.cell_id: outcome for outcome in engine.run(work, Work(dies_at="b0.1"))}
    assert sorted(outcomes) == names(work)
    assert {key for key, outcome in outcomes.items() if outcome.status == "done"} == {"a0.0", "a0.1", "a1.0", "a1.1"}
    assert "lost" in outcomes["b0.0"].error and "lost" in outcomes["b0.1"].error


def test_slurm_without_its_package_or_cluster(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingDependency, match="submitit"):
        make_engine("slurm", 2, tmp_path)
    monkeypatch.undo()
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BENCH_SLURM_CLUSTER", raising=False)
    with pytest.raises(UserError, match="no slurm here"):
        make_engine("slurm", 2, tmp_path)
    with pytest.raises(UserError, match="no_such_parameter"):
        SlurmEngine(1, tmp_path, {"no_such_parameter": 1}, cluster="local")
    assert list(tmp_path.iterdir()) == []
