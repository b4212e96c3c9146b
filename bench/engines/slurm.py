"""A cluster: job arrays through submitit, the tasks of one system together so that a job builds few systems.

The jobs write cells into the shared run folder themselves. This process waits for them and may be ended at any time:
`python -m bench run ... --collect` later makes the tables of what is there. Parameters of the jobs (partition, time,
GPUs) come from the table [slurm] of the `--config` file, in submitit's names, such as timeout_min or slurm_partition.
BENCH_SLURM_CLUSTER=local runs the same jobs as processes of this machine, to try it out.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.engines import Outcome, Work, lost, one_thread
from systems.errors import MissingDependency, UserError

POLL_SECONDS = 2.0


class SlurmEngine:
    """At most `workers` jobs; their logs lie in `folder`."""

    def __init__(self, workers: int, folder: Path, parameters: dict[str, Any], cluster: str | None = None):
        """Raises MissingDependency or UserError; writes nothing yet."""
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise MissingDependency(
                "--engine slurm needs the package submitit; install it (pip install submitit)"
            ) from None
        self.workers, self.folder = workers, Path(folder).resolve()
        self.cluster = cluster or os.environ.get("BENCH_SLURM_CLUSTER") or "slurm"
        self.parameters = {"name": "semantic-bench", "timeout_min": 240, "cpus_per_task": 1, **parameters}
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise UserError(
                "--engine slurm: no slurm here (sbatch is not on the PATH); run on the cluster's login node"
            )
        with tempfile.TemporaryDirectory() as trial:
            self._executor(Path(trial))

    def _executor(self, folder: Path):
        import submitit

        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
            executor.update_parameters(**self.parameters)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise UserError(f"--engine slurm: {_one_line(error)}") from None
        return executor

    def run(self, tasks: list, work: Work) -> Iterator[Outcome]:
        """Outcomes as jobs end; a job that is lost fails its cells only."""
        if not tasks:
            return
        chunks = chunked(tasks, self.workers)
        jobs = dict(zip(self._executor(self.folder).map_array(_Job(work), chunks), chunks, strict=True))
        while jobs:
            ended = [job for job in jobs if job.done()]
            for job in ended:
                chunk = jobs.pop(job)
                seen = []
                try:
                    for outcome in job.result():
                        seen.append(outcome.cell_id)
                        yield outcome
                except Exception as error:
                    for task in chunk:
                        yield from lost(task, seen, f"job {job.job_id} was lost ({_one_line(error)})")
            if jobs and not ended:
                time.sleep(POLL_SECONDS)


class _Job:
    """One job of the array. A class of this module, so that the job imports it instead of unpickling code."""

    def __init__(self, work: Work):
        self.work = work

    def __call__(self, chunk: list) -> list[Outcome]:
        with one_thread():
            return [outcome for task in chunk for outcome in self.work(task)]


def chunked(tasks: list, jobs: int) -> list[list]:
    """Tasks in at most `jobs` lists (at least one a system), a system's tasks never mixed with another's."""
    systems: dict[str, list] = {}
    for task in tasks:
        systems.setdefault(task.system, []).append(task)
    chunks = []
    for own in systems.values():
        share = max(1, min(len(own), round(jobs * len(own) / len(tasks))))
        chunks += [own[first::share] for first in range(share)]
    return chunks


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
