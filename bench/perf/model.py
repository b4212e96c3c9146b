"""`python -m bench perf model`: the cost of one picture for each system, measured in a separate process.

Latency is measured for one picture, separately for encoder and decoder, without the channel. It is the median after a
warm-up, with the interquartile range; on a GPU, events of the device give the times. Every repetition has another
photograph and an empty cache of results, as in a real transmission. Throughput is measured with batches. Peak memory on
a CPU is the largest resident set of the process with its libraries; `idle_mib` is its part before the system was built.
Peak memory on a GPU is the memory that torch allocated.

`--against` also measures each system with the code of another checkout: `speedup` is its latency divided by that of
this code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from systems.errors import UserError

COLUMNS = (
    "system",
    "task",
    "variant",
    "height",
    "width",
    "device",
    "threads",
    "snr_db",
    "parameters",
    "flops_encode",
    "flops_decode",
    "encode_ms",
    "encode_iqr_ms",
    "decode_ms",
    "decode_iqr_ms",
    "latency_ms",
    "batch",
    "pictures_per_s",
    "peak_mib",
    "idle_mib",
    "latency_ms_against",
    "speedup",
)
WARM_UP = 3


@dataclass(frozen=True)
class TimingJob:
    """One row: what is measured, and how."""

    system: str
    task: str
    options: dict[str, Any]
    height: int
    width: int
    device: str
    snr_db: float
    batch: int
    repeats: int


def report_models(options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Measure, print, write CSV and scatter plots. Raises UserError."""
    from bench.results.csv_tables import table_text
    from bench.util.environment import host_facts
    from bench.util.files import write_atomic
    from bench.util.progress import Progress

    jobs = list(plan_jobs(options))
    against = None if options["against"] is None else checkout(options["against"])
    figures = _scatter_source(options["run"]) if options["run"] else None
    rows = []
    progress = Progress("models", len(jobs), "measurements")
    for index, job in enumerate(jobs, 1):
        rows.append(in_own_process(job) if against is None else compare(job, against))
        progress.update(index, f"{job.system} {job.height}x{job.width} {job.device}")
        if options["csv"]:  # written after every row, because a row may take minutes
            write_atomic(Path(options["csv"]), table_text(COLUMNS, rows).encode())
    progress.close()
    host = host_facts()
    say(f"{host['cpu']}, {host['cores']} cores" + "".join(f", {gpu['name']}" for gpu in host["gpus"]))
    say(table(rows))
    if figures is not None:
        from bench.perf.scatter import draw_scatters

        for path in draw_scatters(figures, rows, options["snr"], Path(options["out"]) if options["out"] else None):
            say(f"wrote {path}")


def _scatter_source(name: str):
    from bench.results.find import find_run
    from bench.results.reader import Run

    return Run.open(find_run(name))


def plan_jobs(options: dict[str, Any]) -> Iterator[TimingJob]:
    """Every system with every size on every device. Raises UserError."""
    from bench.spec.figure import TEMPLATES, load_figure
    from bench.spec.grammar import split_names
    from bench.spec.request import options_of
    from systems import registry

    templates = [load_figure(figure) for figure in TEMPLATES.values()]
    wanted = split_names(options["systems"], "--systems")
    if wanted is None or wanted == ("all",):
        wanted = tuple(dict.fromkeys(name for figure in templates for name in figure.systems))
    given = options_of(list(wanted), {key: options[key] for key in ("size", "checkpoint", "precision")})
    for height, width in parse_sizes(options["pictures"]):
        for device in parse_devices(options["devices"]):
            for name in wanted:
                tasks = registry.tasks_of(name)
                task = "reconstruction" if "reconstruction" in tasks else tasks[0]
                yield TimingJob(
                    name, task, given[name], height, width, device, options["snr"], options["batch"], options["repeats"]
                )


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """ "224x224,512x768" -> heights and widths in pixels. Raises UserError."""
    sizes = []
    for part in text.split(","):
        height, _, width = part.strip().partition("x")
        if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
            raise UserError(f"--picture {part!r}: write height x width in pixels, such as 512x768")
        sizes.append((int(height), int(width)))
    return sizes


def parse_devices(text: str) -> list[str]:
    """ "auto" -> the CPU, and the GPU if there is one. Otherwise a list of devices that exist. Raises UserError."""
    from bench.util.devices import pick_device

    if text == "auto":
        return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return [pick_device(part.strip()) for part in text.split(",")]


def checkout(folder: str) -> Path:
    """The folder of another version of this project. Raises UserError if it is none."""
    root = Path(folder).resolve()
    if not (root / "bench" / "perf" / "model.py").is_file():
        raise UserError(f"--against {folder}: not a checkout of this project; make one with `git worktree add`")
    return root


def compare(job: TimingJob, against: Path) -> dict[str, Any]:
    """The row of this code. It is measured before and after that of `against`, and `speedup` rests on the mean of both
    latencies, so that a machine that becomes slower or faster meanwhile favours neither.
    """
    first, other, second = in_own_process(job), in_own_process(job, against), in_own_process(job)
    own = (first["latency_ms"] + second["latency_ms"]) / 2
    return first | {"latency_ms_against": other["latency_ms"], "speedup": other["latency_ms"] / own}


def in_own_process(job: TimingJob, code: Path | None = None) -> dict[str, Any]:
    """Measure in a fresh process, so that its peak memory is that of this system. Raises UserError if it fails.

    code: the checkout whose code is measured. None: this one.
    """
    with tempfile.TemporaryDirectory(prefix="bench-perf-") as folder:
        answer = Path(folder) / "row.json"
        command = [sys.executable, "-m", "bench.perf.model", json.dumps(asdict(job)), str(answer)]
        path = os.pathsep.join(filter(None, (str(code), os.environ.get("PYTHONPATH"))))  # packages of users lie there
        environment = None if code is None else {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, cwd=code, env=environment)
        if done.returncode or not answer.is_file():
            last = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
            whose = "" if code is None else f" with the code of {code}"
            raise UserError(f"perf model: {job.system} at {job.height}x{job.width} on {job.device}{whose}: {last}")
        return json.loads(answer.read_text())


@torch.inference_mode()
def measure(job: TimingJob) -> dict[str, Any]:
    """One row of COLUMNS, measured in this process."""
    from bench.measure.channel import transmit
    from bench.perf.operations import count_operations
    from bench.spec.figure import TEMPLATES, load_figure
    from bench.spec.identity import build
    from systems import result_cache
    from systems.interface import Link

    cuda = job.device.startswith("cuda")
    idle = resident_mib()
    if cuda:
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats()
    system = build(job.system, job.options).to(job.device)
    figure = load_figure(TEMPLATES[job.task])
    size = (job.height, job.width)
    link = Link(job.task, *size, figure.budget(*size), "awgn", job.snr_db, figure.requirement)
    pictures = photographs(job.height, job.width)

    def once(images: torch.Tensor, seed: int) -> tuple[float, float]:
        result_cache.forget()
        clock = _event_clock if cuda else _wall_clock
        sent, encode_ms = clock(lambda: system.encode(images, link))
        received = transmit(sent, link, range(seed, seed + len(images)))
        return encode_ms, clock(lambda: system.decode(received, link))[1]

    times = []
    for repeat in range(WARM_UP + job.repeats):
        start = repeat % len(pictures)
        times.append(once(pictures[start : start + 1].to(job.device), repeat))
    encode, decode = np.array(times[WARM_UP:]).T
    batch = pictures[torch.arange(job.batch) % len(pictures)].to(job.device)
    batches = [sum(once(batch, 1000)) for _ in range(1 + max(2, job.repeats // 5))][1:]
    # The kernel updates the peak in steps, so it may be some pages too low.
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else max(idle, peak_mib())
    facts = system.describe()
    costs = count_operations(system, link, job.device) if system.bits_per_use is None else {}
    return {
        "system": job.system,
        "task": job.task,
        "variant": system.variant,
        "height": job.height,
        "width": job.width,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "snr_db": job.snr_db,
        "parameters": facts.get("parameters"),
        "flops_encode": costs.get("encode"),
        "flops_decode": costs.get("decode"),
        "encode_ms": float(np.median(encode)),
        "encode_iqr_ms": _iqr(encode),
        "decode_ms": float(np.median(decode)),
        "decode_iqr_ms": _iqr(decode),
        "latency_ms": float(np.median(encode + decode)),
        "batch": job.batch,
        "pictures_per_s": 1000 * job.batch / float(np.median(batches)),
        "peak_mib": peak,
        "idle_mib": 0.0 if cuda else idle,
    }


def photographs(height: int, width: int) -> torch.Tensor:
    """The photographs in installed packages, cropped and resized, float32 (7, 3, height, width) in [0, 1]."""
    from dataclasses import replace

    from bench.data import open_dataset
    from bench.data.dataset import Preprocessing

    dataset = replace(open_dataset("photos", None), preprocessing=Preprocessing("cover", (height, width)))
    return torch.stack([sample.image for sample in dataset]).float() / 255


def _wall_clock(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    done = work()
    return done, 1000 * (time.perf_counter() - start)


def _event_clock(work: Callable[[], Any]) -> tuple[Any, float]:
    """Milliseconds between two events of the device's stream, including the last kernel of the work."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    done = work()
    end.record()
    torch.cuda.synchronize()
    return done, begin.elapsed_time(end)


def _iqr(values: np.ndarray) -> float:
    low, high = np.percentile(values, [25, 75])
    return float(high - low)


def peak_mib() -> float:
    """The largest resident set of this process so far, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def resident_mib() -> float:
    """The resident set now, in MiB. If the system does not say, the largest so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_mib()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text for the terminal."""
    from bench.report.overheads import engineering

    heads = ("system", "picture", "device", "threads", "parameters", "FLOPs enc", "FLOPs dec", "encode ms (IQR)",
             "decode ms (IQR)", "pictures/s", "peak MiB")  # fmt: skip
    compared = any("speedup" in row for row in rows)
    lines = [heads + ("speedup",) * compared]
    for row in rows:
        lines.append(
            (
                row["system"],
                f"{row['height']}x{row['width']}",
                row["device"],
                str(row["threads"]),
                f"{row['parameters'] or 0:,}",
                engineering(row["flops_encode"] or 0),
                engineering(row["flops_decode"] or 0),
                f"{row['encode_ms']:.1f} ({row['encode_iqr_ms']:.1f})",
                f"{row['decode_ms']:.1f} ({row['decode_iqr_ms']:.1f})",
                f"{row['pictures_per_s']:.1f}",
                f"{row['peak_mib']:.0f}",
                *([f"{row['speedup']:.2f}"] if compared else []),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    )


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(TimingJob(**json.loads(sys.argv[1])))))
