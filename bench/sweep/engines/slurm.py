"""The engine "slurm": jobs on a cluster, through submitit.

There is one job array per system: a job builds one system, and other systems are not affected if it fails.

The jobs write cells into the shared run folder themselves, and the outcome of each cell into their own log
(`slurm/outcomes/*.jsonl`). This process reads the logs. It may be ended at any time: the jobs continue, and `python -m
bench run ... --collect` makes the tables of the cells that exist. A job that is preempted, killed (also by the kernel,
for memory) or out of time is put back into the queue, by Slurm or by this process. Its log says where to continue, so
only the current cell is lost. A cell that ends its job MAX_STARTS times fails, and the job continues with the next
cell.

Parameters of the jobs (partition, time, GPUs) come from the table [slurm] in the file of `--config`, with submitit's
names, such as timeout_min or slurm_partition. With BENCH_SLURM_CLUSTER=local the same jobs run as processes on this
machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.sweep.engines import Outcome, Work, lost, one_thread
from bench.sweep.engines.serial import SerialEngine
from systems.errors import UserError, missing_package

POLL_SECONDS = 2.0
QUEUE_SECONDS = 10.0  # the queue is read so often
GRACE_SECONDS = 20.0  # on network file systems, a result may appear so long after its job has left the queue
MAX_STARTS = 3  # most starts of one job at the same cell
MAX_DEADLY = 3  # if this many successive cells end their job, the rest of the job fails
MAX_TIMEOUTS = 1000  # a job longer than the partition's limit is continued up to this many times

# Slurm itself requeues a job after preemption and after a node's failure, and submitit before its time is over. After a
# killed task the batch script does it, by the exit code: 125 (out of memory), or 128 plus the number of a signal.
_REQUEUE_KILLED = [
    "code=$?",
    # The id of the array alone would mean all of its jobs.
    'job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"; job="${job:-$SLURM_JOB_ID}"',
    'if [ "$code" -ge 125 ] && [ "$code" -ne 127 ] && [ "$code" -lt 200 ]'
    ' && [ "${SLURM_RESTART_COUNT:-0}" -lt 1000 ]; then',
    '  echo "the task ended with code $code: back into the queue"',
    '  scontrol requeue "$job"',
    "fi",
    'exit "$code"',
]


DEADLY = f"the job died at this cell {MAX_STARTS} times (out of memory? try --batch 1, or mem_gb in [slurm])"
# not CANCELLED, because somebody cancelled such a job on purpose
_ENDED_UNWANTED = ("FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL")


class SlurmEngine:
    """At most `workers` jobs (at least one per system). Their logs are in `folder`."""

    def __init__(self, workers: int, folder: Path, parameters: dict[str, Any], cluster: str | None = None):
        """Raises MissingDependency or UserError. Nothing is written yet."""
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise missing_package("--engine slurm", "submitit") from None
        self.workers, self.folder = workers, Path(folder).resolve()
        self.cluster = cluster or os.environ.get("BENCH_SLURM_CLUSTER") or "slurm"
        self.parameters = {"name": "semantic-bench", "timeout_min": 240, "cpus_per_task": 1, **parameters}
        if self.cluster == "slurm":
            if shutil.which("sbatch") is None:
                raise UserError(
                    "--engine slurm: no slurm here (sbatch is not on the PATH); run on the cluster's login node"
                )
            teardown = self.parameters.get("slurm_teardown", [])
            more = self.parameters.get("slurm_additional_parameters", {})
            if not isinstance(teardown, list) or not isinstance(more, dict):
                raise UserError(
                    "[slurm]: slurm_teardown must be a list of texts, slurm_additional_parameters a table of keys"
                )
            self.parameters["slurm_teardown"] = [*teardown, *_REQUEUE_KILLED]
            self.parameters["slurm_additional_parameters"] = {"requeue": True, **more}
        with tempfile.TemporaryDirectory() as trial:
            self._executor(Path(trial))

    def _executor(self, folder: Path, system: str = ""):
        import submitit

        try:
            limits = {"slurm_max_num_timeout": MAX_TIMEOUTS} if self.cluster == "slurm" else {}
            executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster, **limits)
            name = self.parameters["name"] + (f"-{system}" if system else "")
            executor.update_parameters(**{**self.parameters, "name": name})
        except (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError,
                ValueError) as error:  # fmt: skip
            raise UserError(f"--engine slurm: {_one_line(error)}") from None
        return executor

    def run(self, units: list, work: Work, before: Sequence = ()) -> Iterator[Outcome]:
        """Outcomes as they come. If a job is lost for good, only its cells fail. `before` is done in this process."""
        yield from SerialEngine().run([], work, before)
        running = [
            job for system, chunks in chunked(units, self.workers).items() for job in self._submit(system, chunks, work)
        ]
        looked, queue = float("-inf"), set()
        while running:
            time.sleep(POLL_SECONDS)
            if self.cluster == "slurm" and time.monotonic() - looked > QUEUE_SECONDS:
                queue, looked = queued(), time.monotonic()
            for job in list(running):
                over = self._is_over(job, queue)  # asked before the log is read, so that its last lines are not missed
                yield from job.news()
                if not over:
                    continue
                running.remove(job)
                if not job.left:
                    continue
                reason = job.reason() or ("it never began" if job.log.starts == job.starts else self._no_way_on(job))
                if not reason:
                    running += self._submit(job.system, [job.rest], work, job.log)
                    continue
                for unit in job.chunk:
                    yield from lost(unit, job.log.ended, f"job {job.handle.job_id} was lost ({reason})")

    def _submit(self, system: str, chunks: list[list], work: Work, log: OutcomeLog | None = None) -> list[_Running]:
        """Submit one job array. If sbatch fails, it is an error of the user."""
        stamp = uuid.uuid4().hex[:8]
        logs = [log or OutcomeLog(self.folder / "outcomes" / f"{stamp}-{index}.jsonl") for index in range(len(chunks))]
        for own in logs:
            own.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handles = self._executor(self.folder, system).map_array(_Job(work), chunks, [own.path for own in logs])
        except Exception as error:  # submitit raises the message of sbatch in its own class
            raise UserError(f"--engine slurm: cannot submit the jobs of {system} ({_one_line(error)})") from None
        return [
            _Running(system, chunk, handle, own, own.starts)
            for chunk, handle, own in zip(chunks, handles, logs, strict=True)
        ]

    def _no_way_on(self, job: _Running) -> str:
        """Why a job without a result must not be submitted again. "" if it was killed, so it may be submitted again."""
        if self.cluster != "slurm":
            return ""
        state = state_of(job.handle.job_id)
        return "" if state in _ENDED_UNWANTED else f"state {state or 'unknown'}"

    def _is_over(self, job: _Running, queue: set[str] | None) -> bool:
        if job.handle.paths.result_pickle.exists():
            return True
        if self.cluster != "slurm":
            return job.handle.done()
        if queue is None or job.handle.job_id in queue:
            job.missed = None
            return False
        job.missed = job.missed or time.monotonic()
        return time.monotonic() - job.missed > GRACE_SECONDS


@dataclass
class _Running:
    """A submitted job as this process sees it. starts: number of starts in its log when it was submitted."""

    system: str
    chunk: list
    handle: Any
    log: OutcomeLog
    starts: int
    missed: float | None = field(default=None)

    def news(self) -> Iterator[Outcome]:
        """Outcomes that its log has gained."""
        yield from self.log.read()

    @property
    def left(self) -> set[str]:
        """Ids of the cells without an outcome."""
        return {cell.id for unit in self.chunk for cell in unit.cells} - self.log.ended.keys()

    @property
    def rest(self) -> list:
        """The chunk without the cells that have ended."""
        return list(without(self.chunk, self.log.ended))

    def reason(self) -> str:
        """The error of the job, in one line. "" if it was killed and could leave none."""
        if not self.handle.paths.result_pickle.exists():
            return ""
        error = self.handle.exception()
        return _last_line(error) if error is not None else "it left cells out"


class OutcomeLog:
    """The outcomes of the cells of one job, one JSON object per line. The job writes it, the
    waiting process reads it.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.ended: dict[str, Outcome] = {}
        self.starts = 0
        self.tries = 0  # starts at the next cell
        self._offset = 0

    def read(self) -> list[Outcome]:
        """New outcomes since the last call. An incomplete last line is left for the next call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole, newline, _ = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        fresh = []
        for line in whole.splitlines():
            entry = _parsed(line)
            if entry == "start":
                self.starts, self.tries = self.starts + 1, self.tries + 1
            elif (outcome := _outcome(entry)) is not None:
                if outcome.status != "fatal":
                    self.ended[outcome.cell_id] = outcome
                self.tries = 1
                fresh.append(outcome)
        return fresh

    def start(self) -> None:
        """Note that the job begins, or begins again. A line that a killed job left incomplete is ended."""
        self._append(b'\n"start"\n')

    def add(self, outcome: Outcome) -> None:
        """Note that a cell has ended."""
        self._append(json.dumps(asdict(outcome)).encode() + b"\n")

    def _append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


class _Job:
    """One job of the array. It is a class of this module, so that the job imports it instead of unpickling code."""

    def __init__(self, work: Work):
        self.work = work

    def __call__(self, chunk: list, path: Path) -> None:
        log = OutcomeLog(path)
        log.start()
        log.read()
        left = list(without(chunk, log.ended))
        if log.tries > MAX_STARTS and left:
            log.add(Outcome(left[0].cells[0].id, "failed", DEADLY))
            log.read()
            left = list(without(left, log.ended))
            if [outcome.error for outcome in log.ended.values()][-MAX_DEADLY:] == [DEADLY] * MAX_DEADLY:
                for cell in (cell for unit in left for cell in unit.cells):
                    log.add(
                        Outcome(cell.id, "failed", f"not tried, because the job died at {MAX_DEADLY} cells before it")
                    )
                return
        with one_thread():
            for unit in left:
                for outcome in self.work(unit):
                    log.add(outcome)
                    if outcome.status == "fatal":
                        return

    def checkpoint(self, chunk: list, path: Path):
        """Called by submitit shortly before the job's time is over. Returns the same job, to be submitted again: its
        log says where to continue.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, chunk, path)


def logged_failures(folder: Path) -> dict[str, Outcome]:
    """The cells whose last outcome was a failure, from the logs of all jobs of a run: for a process that did not wait
    for them.
    """
    last: dict[str, Outcome] = {}
    for path in sorted((Path(folder) / "outcomes").glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
        log = OutcomeLog(path)
        log.read()
        last |= log.ended
    return {identifier: outcome for identifier, outcome in last.items() if outcome.status == "failed"}


def queued() -> set[str] | None:
    """Ids of this user's jobs that are waiting, running or ending. None if the controller does not answer."""
    try:
        done = subprocess.run(
            ["squeue", "--me", "-h", "-r", "-o", "%i"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return set(done.stdout.split())


def state_of(job_id: str) -> str:
    """The state of a job, such as FAILED, while the controller remembers it. Otherwise ""."""
    try:
        done = subprocess.run(
            ["scontrol", "-o", "show", "job", job_id], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"\bJobState=(\w+)", done.stdout)
    return found[1] if found else ""


def without(units: list, ended: dict) -> Iterator:
    """The work units without the cells that have ended."""
    for unit in units:
        cells = tuple(cell for cell in unit.cells if cell.id not in ended)
        if cells:
            yield replace(unit, cells=cells)


def chunked(units: list, jobs: int) -> dict[str, list[list]]:
    """The work units of each system in lists, one per job: about `jobs` lists in all, at least one per system."""
    systems: dict[str, list] = {}
    for unit in units:
        systems.setdefault(unit.system, []).append(unit)
    chunks = {}
    for system, own in systems.items():
        share = max(1, min(len(own), round(jobs * len(own) / len(units))))
        chunks[system] = [own[first::share] for first in range(share)]
    return chunks


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _outcome(entry: Any) -> Outcome | None:
    """The outcome of a cell in a line of a log. None if the line is damaged."""
    try:
        outcome = Outcome(**entry)
    except TypeError:
        return None
    texts = (outcome.cell_id, outcome.status, outcome.error, outcome.trace)
    return outcome if all(isinstance(text, str) for text in texts) and isinstance(outcome.spent, dict) else None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _last_line(error: BaseException) -> str:
    """The line of a job's traceback that says what happened."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("-", "You can check", "Job (task", "File"))]
    return (said[-1] if said else type(error).__name__)[:300]
