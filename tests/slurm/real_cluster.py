"""Compares `--engine slurm` on a real Slurm with a serial run: `python tests/slurm/real_cluster.py`.

It takes minutes and needs the package slurm-wlm. On a one-node, two-slot Slurm in a temporary folder it runs:

- A sweep of three systems, with `--collect` in its middle. The process of one job is killed (kill -9), the
  administrator requeues another job, and the command that submitted them is killed as well. When the queue is empty,
  `--collect` must give the rows of a serial run. Each disturbed job may have computed at most one cell twice.
- A sweep in which one system fails at one point and another kills its job there. All other cells must be there. After
  the faults are removed, `--retry-failed` must give the rows of the serial run.
- A job that the user cancels. It must stay cancelled, its cells must fail, and the other jobs must continue.

Each check prints a line. The exit code is 0 where all of them hold.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE), str(HERE.parent / "bench")]

from cluster import Cluster  # noqa: E402
from harness import make_distribution, make_pictures, rows, without_costs  # noqa: E402

SYSTEMS = ("t-plain", "t-slow", "t-killed", "t-faulty")
SNRS = "0:20:2"
CONFIG = "[slurm]\ntimeout_min = 20\n"


class Place:
    """A folder with pictures and the test systems, and the commands that run there."""

    def __init__(self, folder: Path, cluster: Cluster):
        self.folder, self.cluster = folder, cluster
        paths = [str(ROOT), *make_distribution(folder / "site")]
        self.pictures = make_pictures(folder / "pictures", 24)
        self.faults = folder / "faults"
        self.faults.mkdir()
        (folder / "slurm.toml").write_text(CONFIG)
        self.env = {**cluster.env, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
                    "BENCH_TEST_FAULTS": str(self.faults), "BENCH_TEST_DELAY": "1", "COLUMNS": "200"}  # fmt: skip

    def start(self, out: str, systems=SYSTEMS, *extra: str) -> subprocess.Popen:
        """Start a run in the background, with the same salt (so the same noise) as all other runs here."""
        command = [sys.executable, "-m", "bench", "run", "--figure", "fig4", "--dataset", f"folder:{self.pictures}",
                   "--cbr", "1/6", "--systems", ",".join(systems), "--snr", SNRS, "--device", "cpu", "--out", out,
                   "--salt", "5eed5a17", *extra]  # fmt: skip
        with (self.folder / f"{out}.out").open("a") as log:
            return subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=log)

    def run(self, out: str, systems=SYSTEMS, *extra: str) -> int:
        """Run to the end; returns the exit code."""
        return self.start(out, systems, *extra).wait(600)

    def slurm(self, out: str, systems=SYSTEMS, *extra: str) -> subprocess.Popen:
        return self.start(out, systems, "--engine", "slurm", "--workers", "4", "--config", "slurm.toml", *extra)

    def cells(self, out: str) -> int:
        return len(list((self.folder / out / "cells").glob("*.csv")))

    def decodes(self, out: str) -> Counter:
        """The number of decoded pictures by system and SNR, from what the systems printed."""
        counts: Counter = Counter()
        for log in (self.folder / out / "output").glob("*.log"):
            for line in log.read_text().splitlines():
                what, system, snr, count, *_ = line.split()
                if what == "decode":
                    counts[system, snr] += int(count)
        return counts

    def samples(self, out: str, systems=SYSTEMS) -> list[dict]:
        return [row for row in without_costs(self.folder / out / "samples.csv") if row["system"] in systems]

    def summary(self, out: str, systems=SYSTEMS) -> list[dict]:
        table = rows(self.folder / out / "summary.csv")
        return [{key: value for key, value in row.items() if key != "run"} for row in table
                if row["system"] in systems and not row["metric"].endswith("_s")]  # fmt: skip


def await_(what, ready, seconds: float = 180):
    """Wait for the first true value of `ready()` and return it; raises SystemExit after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := ready()):
        if time.monotonic() > deadline:
            raise SystemExit(f"NOT REACHED in {seconds} s: {what}")
        time.sleep(0.3)
    return value


def hurry(cluster: Cluster) -> None:
    """Let requeued jobs begin now; Slurm would wait for two minutes.

    The call waits 3 s first: within the second in which a job's credential was revoked, slurmd would refuse the job
    ("Job credential revoked"), and Slurm would count it as failed.
    """
    pending = [job for job, (_, state) in cluster.jobs().items() if state == "PENDING"]
    if pending:
        time.sleep(3)
        for job in pending:
            cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now")


def check(what: str, holds: bool, detail: object = "") -> None:
    """Print a line; stop with an error where the check does not hold."""
    print(f"{'holds' if holds else 'FAILS'}: {what} {detail}".rstrip(), flush=True)
    if not holds:
        raise SystemExit(1)


def task_of(job: str) -> int:
    """The Python process of a running job."""
    array, _, task = job.partition("_")
    wanted = {f"SLURM_ARRAY_JOB_ID={array}", f"SLURM_ARRAY_TASK_ID={task}"} if task else {f"SLURM_JOB_ID={job}"}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            if words[0] == sys.executable and "submitit.core._submit" in words:
                if wanted <= set((folder / "environ").read_bytes().decode().split("\0")):
                    return int(folder.name)
        except OSError:
            pass
    raise SystemExit(f"job {job} has no process")


def running(cluster: Cluster, system: str) -> str | None:
    """A running job of a system."""
    return next(
        (job for job, (name, state) in cluster.jobs().items() if name.endswith(system) and state == "RUNNING"), None
    )


def killed_in_the_middle(place: Place) -> None:
    cluster, systems = place.cluster, ("t-plain", "t-slow", "t-killed")
    command = place.slurm("killed", systems)
    names = await_("jobs in the queue", lambda: cluster.jobs())
    check(
        "one job array a system",
        {name for name, _ in names.values()} <= {f"semantic-bench-{name}" for name in systems},
        sorted(names),
    )
    await_("cells of t-slow", lambda: place.decodes("killed")["t-slow", "4"] >= 8 and running(cluster, "t-slow"))
    before = place.cells("killed")
    code = place.run("killed", systems, "--collect", "--engine", "slurm")
    check("--collect while jobs run says that cells are missing", code == 1, f"({code})")
    some = len(place.samples("killed"))
    whole = len(place.samples("serial", systems))
    check(
        "it gives the rows of the cells that are there",
        0 < some < whole,
        f"({some} of {whole} rows, {before} cells before)",
    )
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    first = running(cluster, "t-slow") or await_("a job of t-slow", lambda: running(cluster, "t-slow"))
    os.kill(task_of(first), signal.SIGKILL)
    await_("the killed job back in the queue", lambda: cluster.jobs().get(first, ("", ""))[1] == "PENDING")
    check("a job whose process got kill -9 is back in the queue", True, f"(job {first})")

    def another():
        hurry(cluster)
        job = running(cluster, "t-slow")
        return job if job and place.decodes("killed")["t-slow", "8"] else None

    second = await_("a job of t-slow at 8 dB", another)
    done = cluster.ask("scontrol", "requeue", second)
    check("scontrol requeue of a running job", done.returncode == 0, f"(job {second})")
    await_("the queue is empty", lambda: (hurry(cluster), not cluster.jobs())[1], 400)
    check("--collect after the command that submitted was killed", place.run("killed", systems, "--collect") == 0)
    check(
        "samples.csv is that of the serial run, timing columns aside",
        place.samples("killed") == place.samples("serial", systems),
    )
    check("summary.csv as well", place.summary("killed") == place.summary("serial", systems))
    once, often = place.decodes("serial"), place.decodes("killed")
    extra = {key: often[key] - once[key] for key in often if often[key] != once[key]}
    # A cell is a block of 8 pictures; two jobs were disturbed, so at most two cells were computed twice.
    check(
        "each disturbed job lost at most its current cell",
        sum(extra.values()) <= 16 and min(extra.values(), default=0) >= 0,
        f"(pictures decoded again: {extra or 'none'})",
    )


def failing_jobs_cancel_nothing(place: Place) -> None:
    cluster = place.cluster
    for name in ("error", "kill"):
        (place.faults / name).touch()
    command = place.slurm("faulty")
    await_("the end of the run", lambda: (hurry(cluster), command.poll() is not None)[1], 600)
    failures = rows(place.folder / "faulty" / "failures.csv")
    found = Counter((row["system"], row["snr_db"]) for row in failures)
    check("exit code 1", command.returncode == 1, f"({command.returncode})")
    check("exactly the cells at fault failed", found == {("t-faulty", "4.0"): 3, ("t-killed", "4.0"): 3}, dict(found))
    print("   ", *sorted({f"{row['system']}: {row['error']}" for row in failures}), sep="\n    ")
    good = [
        row
        for row in place.samples("serial")
        if not (row["system"] in ("t-faulty", "t-killed") and row["snr_db"] == "4.0")
    ]
    check("all other rows are those of the serial run", place.samples("faulty") == good, f"({len(good)} rows)")
    for name in ("error", "kill"):
        (place.faults / name).unlink()
    code = place.slurm("faulty", SYSTEMS, "--retry-failed").wait(300)
    check("--retry-failed with the faults mended", code == 0 and place.samples("faulty") == place.samples("serial"))
    check("summary.csv as well", place.summary("faulty") == place.summary("serial"))


def cancelled_stays_cancelled(place: Place) -> None:
    cluster = place.cluster
    command = place.slurm("cancelled", ("t-plain", "t-slow"), "--workers", "2")
    job = await_("a job of t-slow", lambda: place.decodes("cancelled")["t-slow", "2"] and running(cluster, "t-slow"))
    cluster.ask("scancel", job)
    code = command.wait(300)
    errors = {row["error"] for row in rows(place.folder / "cancelled" / "failures.csv")}
    check(
        "a cancelled job is not submitted again, and its cells say so",
        code == 1 and len(errors) == 1 and "CANCELLED" in next(iter(errors)),
        errors,
    )
    plain = place.samples("serial", ("t-plain",))
    check(
        "the other jobs are whole", [row for row in place.samples("cancelled") if row["system"] == "t-plain"] == plain
    )


def main() -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-slurm-") as folder:
        with Cluster(Path(folder) / "slurm") as cluster:
            print(
                cluster.ask("sinfo", "--version").stdout.strip(),
                cluster.ask("sinfo", "-h", "-o", "%n %c CPUs %t").stdout.strip(),
                flush=True,
            )
            place = Place(Path(folder), cluster)
            check("the serial run", place.run("serial", SYSTEMS, "--engine", "serial") == 0)
            try:
                for part in (killed_in_the_middle, failing_jobs_cancel_nothing, cancelled_stays_cancelled):
                    print(f"-- {part.__name__.replace('_', ' ')}", flush=True)
                    part(place)
            except SystemExit:
                for path in sorted(Path(folder).glob("*.out")):
                    print(f"== {path.name}\n{path.read_text()[-3000:]}")
                for path in sorted(Path(folder).glob("*/slurm/*_log.*")):
                    print(f"== {path.name}\n{path.read_text()[-1500:]}")
                raise
    print(f"all of it holds ({time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    main()
