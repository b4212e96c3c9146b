"""Worker processes on this machine, one task at a time each.

Each worker has a pipe of its own, so one that is killed (out of memory, kill -9) is noticed as the end of its pipe: its
cells count as failed, a new worker takes its place, and the others never hear of it. A pool of the standard library
would be broken as a whole. Workers are spawned, not forked: CUDA and OpenMP do not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection, wait

from bench.sweep.engines import Outcome, Work, lost, one_thread
from systems import timing as stopwatch

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_TASK_DONE = None
_LOOK_AHEAD = 64  # tasks of the queue among which a worker's next one is chosen


class _Worker:
    """One process, its pipe, and the task it is at."""

    def __init__(self, index: int, work: Work):
        context = multiprocessing.get_context("spawn")
        self.index = index
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work, index, time.time()), daemon=True)
        with _single_threaded_environment():
            self.process.start()
        theirs.close()  # else the pipe would not end with the worker
        self.task = None
        self.inputs = None  # of its last task
        self.systems: set[str] = set()  # that it has had tasks of
        self.seen: list[str] = []

    def give(self, task) -> None:
        self.task, self.seen, self.inputs = task, [], task.inputs
        self.systems.add(task.system)
        try:
            self.connection.send(task)
        except OSError:
            pass  # dead already: its pipe says so at the next look

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def post_mortem(self) -> str:
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = " (often out of memory: try a smaller --batch or fewer --workers)" if code == -9 else ""
            return f"the worker process was killed by {name}{hint}"
        return f"the worker process ended with code {code}"


class ProcessEngine:
    """`workers` processes at most; fewer where there are fewer tasks."""

    def __init__(self, workers: int):
        self.workers = workers

    def run(self, tasks: list, work: Work, before: Sequence = ()) -> Iterator[Outcome]:
        """Outcomes as they come. What `before` makes a worker build is there when its tasks come."""
        workers: dict[Connection, _Worker] = {}
        count = min(self.workers, max(len(tasks), len(before)))
        try:
            for queue in (deque(before), deque(tasks)):
                if queue:
                    for index in set(range(count)) - {worker.index for worker in workers.values()}:
                        self._start(index, work, workers)
                    yield from self._drain(queue, work, workers)
        finally:
            for worker in workers.values():
                worker.stop()

    def _drain(self, queue: deque, work: Work, workers: dict[Connection, _Worker]) -> Iterator[Outcome]:
        """Give out the queue and wait for all of it. A worker that died is replaced while there is work for it."""
        for worker in list(workers.values())[: len(queue)]:
            worker.give(_next(queue, worker, workers))
        while any(worker.task is not None for worker in workers.values()):
            for connection in wait(list(workers)):
                worker = workers[connection]
                try:
                    outcome = connection.recv()
                except (EOFError, OSError):
                    del workers[connection]
                    reason = worker.post_mortem()
                    worker.stop()
                    if worker.task is not None:
                        yield from lost(worker.task, worker.seen, reason)
                    if queue:
                        successor = self._start(worker.index, work, workers)
                        successor.give(_next(queue, successor, workers))
                    continue
                if outcome is not _TASK_DONE:
                    worker.seen.append(outcome.cell_id)
                    yield outcome
                elif queue:
                    worker.give(_next(queue, worker, workers))
                else:
                    worker.task = None

    @staticmethod
    def _start(index: int, work: Work, workers: dict[Connection, _Worker]) -> _Worker:
        worker = _Worker(index, work)
        workers[worker.connection] = worker
        return worker


def _next(queue: deque, worker: _Worker, workers: dict[Connection, _Worker]):
    """Take a task for a worker: the one that it has most of already. Pieces of the task it was at, whose pictures it
    has
    encoded; then what nobody else is at, of a system that it has built, in the queue's order."""
    busy = [other.inputs for other in workers.values() if other is not worker and other.task is not None]

    def lacks(index: int) -> tuple:
        task = ahead[index]
        return task.inputs != worker.inputs, task.inputs in busy, task.system not in worker.systems, index

    ahead = list(islice(queue, _LOOK_AHEAD))
    index = min(range(len(ahead)), key=lacks)
    del queue[index]
    return ahead[index]


def _serve(connection: Connection, work: Work, index: int, asked: float) -> None:
    """A worker's life: it ends when the parent's end of the pipe does, so a killed run leaves no orphans at work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if hasattr(work, "place"):
        work.place(index)
    with one_thread():
        stopwatch.add("start-up", time.time() - asked, time.process_time())
        try:
            while True:
                task = connection.recv()
                for outcome in work(task):
                    connection.send(outcome)
                connection.send(_TASK_DONE)
        except (EOFError, OSError):
            pass


@contextmanager
def _single_threaded_environment() -> Iterator[None]:
    """Libraries that read their number of threads once, at import, find 1 in the child."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
