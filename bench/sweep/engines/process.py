"""The engine "process": worker processes on this machine, each with one work unit at a time.

Each worker has its own pipe. If a worker is killed (out of memory, kill -9), its pipe ends. Then its cells count as
failed, a new worker takes its place, and the others are not affected. In contrast, a pool of the standard library would
break as a whole. A worker that completes no cell within the time limit is killed and replaced in the same way.

On Linux, a process that has one thread and computes on the CPU forks its workers. So torch and the bench's systems are
imported only once. In all other cases workers are spawned, because threads, OpenMP's pool and CUDA do not survive a
fork.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from bench.measure.apart.confine import die_with_parent
from bench.sweep.engines import Outcome, Work, lost, one_thread
from bench.util.devices import THREAD_VARIABLES
from systems import stage_times

if TYPE_CHECKING:
    from bench.measure.apart import Home

_TASK_DONE = None
_LOOK_SECONDS = 1.0  # between two checks of the time limit
_GRACE_SECONDS = 30.0  # added to the limit, so that a worker can first end the process of a system and report it
_LOOK_AHEAD = 64  # a worker's next work unit is chosen among this many in the queue


class _Worker:
    """One process, its pipe, and its current work unit."""

    def __init__(self, index: int, work: Work, home: Home | None, others: list[Connection]):
        context = multiprocessing.get_context("fork" if may_fork(work) else "spawn")
        self.index = index
        self.connection, theirs = context.Pipe()
        nursery = None if home is None else home.client()
        forked = [*others, self.connection] if context.get_start_method() == "fork" else []
        arguments = (theirs, work, index, time.time(), os.getpid(), nursery, forked)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        with _single_threaded_environment():
            self.process.start()
        theirs.close()  # otherwise the pipe would not end with the worker
        if nursery is not None:
            nursery.close()
        self.unit = None
        self.since = time.monotonic()  # time of its last outcome
        self.inputs = None  # inputs of its last work unit
        self.systems: set[str] = set()  # systems that it has built
        self.seen: list[str] = []

    def give(self, unit) -> None:
        """Send a work unit to the process."""
        self.unit, self.seen, self.inputs = unit, [], unit.inputs
        self.since = time.monotonic()
        self.systems.add(unit.system)
        try:
            self.connection.send(unit)
        except OSError:
            pass  # it is dead; this is noticed when its pipe is read

    def stop(self, at_once: bool = False) -> None:
        """End the process."""
        self.connection.close()
        (self.process.kill if at_once else self.process.terminate)()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def post_mortem(self) -> str:
        """How the process ended, in one line."""
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = " (often out of memory: try a smaller --batch or fewer --workers)" if code == -9 else ""
            return f"the worker process was killed by {name}{hint}"
        return f"the worker process ended with code {code}"


class ProcessEngine:
    """At most `workers` processes; fewer if there are fewer work units."""

    def __init__(self, workers: int, home: Home | None = None, cell_timeout: float = float("inf")):
        """home: the nursery from which workers fork the processes of systems.

        cell_timeout: a worker without an outcome for this many seconds is killed. The process of a system is ended
        before that.
        """
        self.workers, self.home, self.cell_timeout = workers, home, cell_timeout

    def run(self, units: list, work: Work, before: Sequence = ()) -> Iterator[Outcome]:
        """Outcomes as they come. A worker keeps the systems that it built for `before`."""
        workers: dict[Connection, _Worker] = {}
        if may_fork(work) and hasattr(work, "before_fork"):
            with stage_times.stage("start-up"), _single_threaded_environment():
                work.before_fork([*before, *units])
        count = min(self.workers, max(len(units), len(before)))
        try:
            for queue in (deque(before), deque(units)):
                if queue:
                    for index in set(range(count)) - {worker.index for worker in workers.values()}:
                        self._start(index, work, workers)
                    yield from self._drain(queue, work, workers)
        finally:
            for worker in workers.values():
                worker.stop()

    def _drain(self, queue: deque, work: Work, workers: dict[Connection, _Worker]) -> Iterator[Outcome]:
        """Give out the queue, and wait until all of it is done. A dead worker is replaced while
        there is work for it.
        """
        for worker in list(workers.values())[: len(queue)]:
            worker.give(_next(queue, worker, workers))
        while any(worker.unit is not None for worker in workers.values()):
            for connection in [*wait(list(workers), _LOOK_SECONDS), *self._late(workers)]:
                worker = workers[connection]
                late = self._is_late(worker)
                try:
                    if late and not connection.poll():
                        raise EOFError
                    outcome = connection.recv()
                    worker.since = time.monotonic()
                except (EOFError, OSError):
                    del workers[connection]
                    reason = self._too_late() if late else worker.post_mortem()
                    worker.stop(at_once=late)
                    if worker.unit is not None:
                        yield from lost(worker.unit, worker.seen, reason)
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
                    worker.unit = None

    def _late(self, workers: dict[Connection, _Worker]) -> list[Connection]:
        return [connection for connection, worker in workers.items() if self._is_late(worker)]

    def _is_late(self, worker: _Worker) -> bool:
        return worker.unit is not None and time.monotonic() - worker.since > self.cell_timeout + _GRACE_SECONDS

    def _too_late(self) -> str:
        return f"no cell ended within {self.cell_timeout:g} s (--cell-timeout); its worker was replaced"

    def _start(self, index: int, work: Work, workers: dict[Connection, _Worker]) -> _Worker:
        worker = _Worker(index, work, self.home, list(workers))
        workers[worker.connection] = worker
        return worker


def _next(queue: deque, worker: _Worker, workers: dict[Connection, _Worker]):
    """Take the work unit from the queue that suits a worker best.

    First choice: a piece of its last work unit, because it has already encoded these pictures. Second: one whose
    pictures no other worker is working on. Third: one of a system that it has already built. Otherwise the order of the
    queue decides.
    """
    busy = [other.inputs for other in workers.values() if other is not worker and other.unit is not None]

    def lacks(index: int) -> tuple:
        unit = ahead[index]
        return unit.inputs != worker.inputs, unit.inputs in busy, unit.system not in worker.systems, index

    ahead = list(islice(queue, _LOOK_AHEAD))
    index = min(range(len(ahead)), key=lacks)
    del queue[index]
    return ahead[index]


def may_fork(work: Work) -> bool:
    """Whether a forked process may compute: on Linux, without other threads, on the CPU."""
    if sys.platform != "linux" or str(getattr(work, "device", "cpu")) != "cpu":
        return False
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _serve(
    connection: Connection,
    work: Work,
    index: int,
    asked: float,
    parent: int,
    nursery: socket.socket | None,
    others: list[Connection],
) -> None:
    """The program of a worker. It ends with its parent, so a killed run leaves no process behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    for other in others:
        other.close()
    _end_with(parent)
    if hasattr(work, "place"):
        work.place(index, nursery)
    with one_thread():
        stage_times.take()  # a forked worker has those of its parent, who counts them itself
        stage_times.add("start-up", max(0.0, time.time() - asked), time.process_time())
        try:
            while True:
                unit = connection.recv()
                for outcome in work(unit):
                    connection.send(outcome)
                connection.send(_TASK_DONE)
        except (EOFError, OSError):
            pass


def _end_with(parent: int) -> None:
    """End with the parent, even in the middle of a cell: by the kernel on Linux, by a thread elsewhere."""
    if sys.platform == "linux":
        die_with_parent(parent)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _single_threaded_environment() -> Iterator[None]:
    """In a `with` block: a new process finds 1 as the number of threads, which libraries read
    when they are imported. If it is spawned, Python looks for no module of its own in the working folder.
    """
    told = {**dict.fromkeys(THREAD_VARIABLES, "1"), "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
