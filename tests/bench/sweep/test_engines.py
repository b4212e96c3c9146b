"""Tests of the engines alone, with work that is independent of the bench: every cell has an outcome, whatever happens
to a worker.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engine_work import FakeCell, FakeUnit, Fatal, units
from harness import ROOT

from bench.sweep.engines import Outcome, make_engine, one_thread
from bench.sweep.engines.process import ProcessEngine, _next, may_fork
from bench.sweep.engines.serial import SerialEngine
from bench.sweep.engines.slurm import DEADLY, OutcomeLog, SlurmEngine, _Job, chunked, logged_failures
from systems import stage_times
from systems.errors import MissingDependency, UserError

pytestmark = pytest.mark.usefixtures("forked_workers")


@dataclass
class Work:
    """Gives one outcome per cell. At the cell `dies_at` it kills its process; at `fails_at` it reports a failure. The
    note of an outcome names the worker, its number of threads and its process.
    """

    dies_at: str = ""
    exits_at: str = ""
    fails_at: str = ""
    hangs_at: str = ""
    log: str = ""  # a file to which each cell is written when it begins
    index: int = -1

    def place(self, index, nursery=None):
        self.index = index

    def __call__(self, unit):
        for cell in unit.cells:
            if self.log:
                with open(self.log, "a") as file:
                    file.write(cell.id + "\n")
            if cell.id == self.dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if cell.id == self.exits_at:
                os._exit(3)
            while cell.id == self.hangs_at:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(1)
            note = f"{self.index} {torch.get_num_threads()} {os.getpid()}"
            yield Outcome(cell.id, "failed" if cell.id == self.fails_at else "done", note)


@dataclass
class Importing(Work):
    """Work that prepares something for its workers."""

    imported: tuple[int, ...] = ()  # the id of the process that prepared it, and the number of work units it was given

    def before_fork(self, units):
        self.imported = (*self.imported, os.getpid(), len(units))

    def __call__(self, unit):
        yield from (Outcome(cell.id, "done", repr(self.imported)) for cell in unit.cells)


def names(work):
    return sorted(cell.id for unit in work for cell in unit.cells)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")
def test_what_all_workers_need_is_imported_once_before_they_are_forked():
    found = {outcome.error for outcome in ProcessEngine(3).run(units(4), Importing(), before=units(2, "check", 1))}
    assert found == {repr((os.getpid(), 6))}


@dataclass
class Timed(Work):
    """Work that reports the seconds of its worker."""

    def __call__(self, unit):
        yield from (Outcome(cell.id, "done", spent=stage_times.take()) for cell in unit.cells)


def test_a_clock_that_runs_backwards_gives_no_negative_time(monkeypatch):
    """The clock of the parent is an hour ahead when it asks for the worker, as before a correction over the network."""
    parent, clock = os.getpid(), time.time
    stage_times.add("start-up", 5.0, 5.0)  # the parent's own seconds are not counted once more
    monkeypatch.setattr(time, "time", lambda: clock() + 3600 * (os.getpid() == parent))
    spent = [outcome.spent for outcome in ProcessEngine(1).run(units(1, cells=1), Timed())]
    assert spent[0]["start-up"][0] == 0.0 and 0 < spent[0]["start-up"][1] < 5
    assert stage_times.take()["start-up"][0] >= 5


@pytest.mark.parametrize("engine", [SerialEngine(), ProcessEngine(1), ProcessEngine(3)])
def test_every_cell_has_one_outcome(engine):
    work = units(4)
    threads = torch.get_num_threads()
    outcomes = list(engine.run(work, Work(fails_at="s1.1")))
    assert sorted(outcome.cell_id for outcome in outcomes) == names(work)
    assert [outcome.cell_id for outcome in outcomes if outcome.status == "failed"] == ["s1.1"]
    assert {outcome.error.split()[1] for outcome in outcomes} == {"1"} and torch.get_num_threads() == threads
    assert list(engine.run([], Work())) == []


def test_workers_are_apart_and_know_their_place():
    outcomes = list(ProcessEngine(2).run(units(8), Work()))
    processes = {outcome.error.split()[2]: outcome.error.split()[0] for outcome in outcomes}
    assert sorted(processes.values()) in (["0", "1"], ["0"], ["1"]) and str(os.getpid()) not in processes


def test_workers_of_a_process_with_another_thread_are_spawned_and_do_the_same(monkeypatch):
    monkeypatch.setattr("bench.sweep.engines.process.may_fork", may_fork)  # the real function, without the fixture
    assert not may_fork(SimpleNamespace(device="cuda"))
    end, work = threading.Event(), units(2)
    other = threading.Thread(target=end.wait)
    other.start()
    try:
        assert not may_fork(Work())
        outcomes = list(ProcessEngine(1).run(work, Work(fails_at="s1.1")))
    finally:
        end.set()
        other.join()
    assert sorted(outcome.cell_id for outcome in outcomes) == names(work)
    assert [outcome.cell_id for outcome in outcomes if outcome.status == "failed"] == ["s1.1"]
    assert {outcome.error.split()[0] for outcome in outcomes} == {"0"}
    assert str(os.getpid()) not in {outcome.error.split()[2] for outcome in outcomes}


@pytest.mark.parametrize(("fault", "words"), [({"dies_at": "s2.1"}, "SIGKILL"), ({"exits_at": "s2.1"}, "code 3")])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_dead_worker_fails_its_own_cells_and_is_replaced(workers, fault, words):
    work = units(5)
    outcomes = {outcome.cell_id: outcome for outcome in ProcessEngine(workers).run(work, Work(**fault))}
    assert sorted(outcomes) == names(work)
    failed = {key: outcome.error for key, outcome in outcomes.items() if outcome.status == "failed"}
    assert set(failed) == {"s2.1", "s2.2"} and all(words in text for text in failed.values())


def test_a_worker_that_hangs_is_killed_and_replaced(monkeypatch):
    monkeypatch.setattr("bench.sweep.engines.process._GRACE_SECONDS", 0.0)
    work = units(4)
    outcomes = {one.cell_id: one for one in ProcessEngine(1, cell_timeout=5.0).run(work, Work(hangs_at="s1.1"))}
    assert sorted(outcomes) == names(work)
    failed = {key: outcome.error for key, outcome in outcomes.items() if outcome.status == "failed"}
    assert failed.keys() == {"s1.1", "s1.2"} and all("--cell-timeout" in text for text in failed.values())


@pytest.mark.parametrize("engine", [SerialEngine(), ProcessEngine(2)])
def test_what_comes_before_ends_before_the_rest_begins_in_the_same_workers(engine, tmp_path):
    before, rest = units(4, "b", 1), units(3, "r", 2)
    log = tmp_path / "begun"
    stream = engine.run(rest, Work(log=str(log)), before)
    first = [next(stream) for _ in before]
    assert {outcome.cell_id for outcome in first} == set(names(before)) == set(log.read_text().split())
    others = list(stream)
    assert sorted(outcome.cell_id for outcome in others) == names(rest)
    assert len({outcome.error.split()[2] for outcome in first + others}) <= getattr(engine, "workers", 1)


def test_a_worker_that_dies_before_the_rest_is_replaced():
    before, rest = units(2, "b", 1), units(3, "r", 2)
    outcomes = {outcome.cell_id: outcome for outcome in ProcessEngine(1).run(rest, Work(dies_at="b1.0"), before)}
    assert [key for key, outcome in outcomes.items() if outcome.status == "failed"] == ["b1.0"]
    assert sorted(outcomes) == sorted(names(before) + names(rest))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_worker_never_comes_back_to_a_block_that_it_has_left(workers):
    """The queue holds pieces of four blocks in mixed order. A worker that kept to this order would encode each block
    again and again.
    """
    pieces = [
        FakeUnit("ab"[block % 2], (FakeCell(f"{piece}.{block}"),), block) for piece in range(6) for block in range(4)
    ]
    outcomes = list(ProcessEngine(workers).run(pieces, Work()))
    assert sorted(outcome.cell_id for outcome in outcomes) == names(pieces)
    for index in range(workers):
        blocks = [o.cell_id.split(".")[1] for o in outcomes if o.error.split()[0] == str(index)]
        assert len(list(groupby(blocks))) == len(set(blocks))


def test_a_worker_takes_what_nobody_is_at_of_a_system_that_it_has_built():
    def worker(at, *systems):
        return SimpleNamespace(unit=at, inputs=at and at.inputs, systems=set(systems))

    piece = {name: FakeUnit(name[0], (), name) for name in ("a1", "a2", "b1", "b2", "c1")}
    for own, other, queue, wanted in (
        (worker(None), worker(None), ["b1", "a1"], "b1"),
        (worker(piece["a1"], "a"), worker(piece["b1"], "b"), ["b1", "b2", "a2", "a1"], "a1"),
        (worker(piece["a1"], "a"), worker(piece["b1"], "b"), ["b1", "b2", "a2"], "a2"),
        (worker(piece["a1"], "a"), worker(piece["b1"], "b"), ["b1", "c1", "b2"], "c1"),
        (worker(piece["a1"], "a"), worker(piece["b1"], "b"), ["b1"], "b1"),
    ):
        left = deque(piece[name] for name in queue)
        assert _next(left, own, {0: own, 1: other}) is piece[wanted]
        assert piece[wanted] not in left and len(left) == len(queue) - 1


def test_a_run_that_stops_early_leaves_no_workers():
    outcomes = ProcessEngine(2).run(units(6), Work())
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
    work = units(7, "a") + units(2, "b") + units(1, "c")
    for jobs in (1, 3, 5, 40):
        chunks = chunked(work, jobs)
        assert all(
            own and {unit.system for chunk in own for unit in chunk} == {system} for system, own in chunks.items()
        )
        flat = [chunk for own in chunks.values() for chunk in own]
        assert all(flat) and sorted(names([unit for chunk in flat for unit in chunk])) == names(work)
        assert len(flat) <= max(jobs, 3) + 2


def test_slurm_jobs_on_this_machine(tmp_path, monkeypatch):
    """submitit runs the jobs as processes of this machine.

    One job is killed once, one is killed at the same cell every time, and one is told that its time is over; one cell
    fails by itself. Each cell has one outcome, and only the cells that were being computed start again.
    """
    pytest.importorskip("submitit")
    # Seven processes would import torch, which takes seconds, to set the number of its threads.
    light = tmp_path / "light"
    light.mkdir()
    (light / "torch.py").write_text("def get_num_threads():\n    return 1\n\n\nset_num_threads = print\n")
    paths = [str(light), str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setattr("bench.sweep.engines.slurm.POLL_SECONDS", 0.1)
    work = units(2, "a", 2) + units(1, "b", 3) + units(1, "c", 2)
    log = tmp_path / "begun"
    log.touch()
    engine = SlurmEngine(3, tmp_path / "slurm", {"timeout_min": 2}, cluster="local")
    outcomes = list(
        engine.run(work, Fatal(str(log), once=("a1.0",), always=("b0.1",), warned=("c0.1",), fails=("b0.0",)))
    )
    assert sorted(outcome.cell_id for outcome in outcomes) == names(work)
    failed = {outcome.cell_id: outcome.error for outcome in outcomes if outcome.status == "failed"}
    assert failed.keys() == {"b0.0", "b0.1"} and "the job died at this cell 3 times" in failed["b0.1"]
    assert Counter(log.read_text().split()) == {**dict.fromkeys(names(work), 1), "a1.0": 2, "b0.1": 3, "c0.1": 2}
    assert logged_failures(tmp_path / "slurm").keys() == failed.keys()


def test_a_job_that_went_down_at_three_cells_is_given_up(tmp_path):
    """The log shows two cells that killed the job, and a start at a third one. The next start tries no further cell."""
    log = OutcomeLog(tmp_path / "log")
    for cell in ("a0.0", "a0.1"):
        log.add(Outcome(cell, "failed", DEADLY))
    log.start()
    log.start()
    begun = tmp_path / "begun"
    begun.touch()
    _Job(Fatal(str(begun)))(units(1, "a", 5), log.path)
    log.read()
    assert log.ended.keys() == set(names(units(1, "a", 5))) and begun.read_text() == ""
    assert log.ended["a0.2"].error == DEADLY and "not tried" in log.ended["a0.4"].error
    _Job(Fatal(str(begun)))(units(1, "b", 2), tmp_path / "another")
    assert begun.read_text().split() == ["b0.0", "b0.1"]


def test_a_log_with_a_torn_line_is_read_up_to_it_and_goes_on(tmp_path):
    log = OutcomeLog(tmp_path / "log")
    log.start()
    log.add(Outcome("one", "done"))
    with log.path.open("ab") as file:
        file.write(b'{"cell_id": "tw')
    assert [outcome.cell_id for outcome in log.read()] == ["one"] and log.starts == 1
    log.start()
    log.add(Outcome("two", "failed", "why"))
    assert log.read() == [Outcome("two", "failed", "why")] and log.starts == 2 and log.ended.keys() == {"one", "two"}


@pytest.mark.parametrize(
    "line",
    [b"{}", b"[]", b'{"cell_id": ["x"], "status": "done"}', b'{"cell_id": "x"}', b'{"cell_id": "x", "status": 1}',
     b'{"cell_id": "x", "status": "done", "more": 1}', b"[" * 100_000, b"\xff", b'{"cell_id": "x", "status": "done",'
     b' "spent": 7}'],
)  # fmt: skip
def test_a_damaged_line_of_a_log_is_left_out(tmp_path, line):
    log = OutcomeLog(tmp_path / "log")
    log.add(Outcome("one", "done"))
    with log.path.open("ab") as file:
        file.write(line + b"\n")
    log.add(Outcome("two", "failed", "why"))
    assert [outcome.cell_id for outcome in log.read()] == ["one", "two"]


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


def test_no_module_of_the_working_folder_runs_in_a_spawned_worker(tmp_path):
    """Python starts a spawned process by `python -c`, which looks for modules in the working folder first."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "multiprocessing.py").write_text("open('ran', 'w')\n")
    (tmp_path / "start.py").write_text(
        "from multiprocessing import get_context\n"
        "from bench.sweep.engines.process import _single_threaded_environment\n"
        "if __name__ == '__main__':\n"
        "    one = get_context('spawn').Process(target=print, args=('began',))\n"
        "    with _single_threaded_environment():\n"
        "        one.start()\n"
        "    one.join()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, tmp_path / "start.py"], cwd=tmp_path / "work", env=env, capture_output=True, text=True
    )
    assert done.stdout == "began\n" and not (tmp_path / "work" / "ran").exists(), done.stderr
