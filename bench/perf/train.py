"""`python -m bench perf train`: what a training step costs, compared with an earlier loop in the same run.

Pictures are random (their content does not change the time), and networks start from random weights. Both loops take
turns, round by round, so that other load on the machine affects both. On a GPU, each timed part and each whole step end
with a synchronisation.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

import baselines  # noqa: F401  (registers the baselines)
from bench.measure.tasks import TASKS
from bench.perf.loop_before import BATCH, LoopBefore
from bench.perf.operations import count_flops
from bench.training.crops import Album
from bench.training.distributed import World
from bench.training.fast_step import Compiled, Recorded
from bench.training.learner import Learner
from bench.training.picture import Picture
from bench.training.precision import resolve
from bench.training.protocol import CropStage, Protocol, read_protocol
from bench.training.run import build
from systems import registry
from systems.errors import UserError
from systems.sizes import sizes_of

PARTS = ("data", "forward", "backward", "optimiser")


@dataclass(frozen=True)
class Row:
    """One system, size and task. Seconds are medians over steps of `batch` crops.

    flops: operations of a step's products and convolutions.
    matrix_flops_per_s: the processor's rate in a square matrix product, timed in the same rounds.
    matrix_share: the step's rate as a share of it.
    before_crops_per_s: crops per second of the earlier loop, in batches of four.
    ratio: crops per second over those of the earlier loop.
    passes: plain, recorded or compiled. The seconds of the parts are always those of plain passes.
    """

    system: str
    size: str
    task: str
    crop: int
    batch: int
    crops_per_s: float
    data_s: float
    forward_s: float
    backward_s: float
    optimiser_s: float
    flops: float
    matrix_flops_per_s: float
    matrix_share: float
    before_crops_per_s: float | None
    ratio: float | None
    passes: str


def report_train(options: dict, say: Callable[[str], None]) -> list[Row]:
    """Measure and print. options: as the command line gives them. Raises UserError."""
    device = options["device"]
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    plan = read_protocol(options["config"])
    chosen = _chosen(options["systems"], options["size"], plan)
    rate = matrix_rate(device, resolve(plan.autocast, device))
    precision = "bfloat16" if resolve(plan.autocast, device) == "bfloat16" else "float32"
    say(f"{device}, {torch.get_num_threads()} threads, {precision}: {rate / 1e9:,.0f} GFLOP/s in a matrix product")
    heads = f"{'system':14} {'size':7} {'task':15} {'crop':>4} {'batch':>5} {'crops/s':>9} {'data':>6} {'forw.':>6}"
    say(heads + f" {'backw.':>6} {'optim.':>6} {'of rate':>7} {'before':>8} {'ratio':>6}")
    rows = []
    for name, size in chosen:
        for task in registry.tasks_of(name):
            if task in plan.tasks:
                row = measure(name, size, task, plan, device, rate, options, say)
                rows.append(row)
                say(_line(row))
    if options["csv"]:
        with Path(options["csv"]).open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    return rows


def measure(
    name: str,
    size: str,
    task: str,
    plan: Protocol,
    device: str,
    rate: float,
    options: dict,
    say: Callable[[str], None] = lambda text: None,
) -> Row:
    """Time one system on one task. options: crop, batch, steps, before."""
    last = plan.tasks[task].stages[-1]
    crop, batch = options["crop"] or last.crop, options["batch"] or last.batch
    entry = replace(plan.tasks[task], stages=(CropStage(1.0, crop, batch),), images_seen=10**9, coded=0.0, distill=0.0)
    kbits = entry.validate_kbits if isinstance(entry.kbits, tuple) else entry.kbits
    entry = replace(entry, budget_jitter=0.0, kbits=kbits)  # one kind of batch
    plan = replace(plan, tasks={task: entry}, teacher="none", start="none")
    albums = {task: made_up(max(crop, 256), TASKS[task].target == "mask", device)}
    new = Learner(build(name, size, "none"), plan, albums, World(device=device), say=say)
    old = None
    if options["before"]:
        old = LoopBefore(build(name, size, "none"), task, plan, albums[task], crop, device)
    flops = _flops(new)
    parts: dict[str, list[float]] = {part: [] for part in PARTS}
    ours, theirs, rates = [], [], [rate]
    for round_ in range(options["steps"] + 1):  # the first round warms up
        times = _timed_parts(new, device)
        rates.append(matrix_rate(device, resolve(plan.autocast, device), products=2))
        ours.append(_seconds(new.advance, device))
        if old is not None:
            theirs.append(_seconds(old.advance, device))
        for part, seconds in zip(PARTS, times):
            parts[part].append(seconds)
        if round_ == 0:
            ours.clear(), theirs.clear(), [values.clear() for values in parts.values()]
    step = statistics.median(ours)
    before = BATCH / statistics.median(theirs) if theirs else None
    return Row(
        name, size, task, crop, batch, batch / step, *(statistics.median(parts[part]) for part in PARTS), flops,
        max(rates), flops / step / max(rates), before, None if before is None else batch / step / before,
        _form(new),
    )  # fmt: skip


def _form(learner: Learner) -> str:
    """How the learner's passes are made by now."""
    passes = learner.passes
    if isinstance(passes, Recorded | Compiled) and not passes.off:
        return "recorded" if isinstance(passes, Recorded) else "compiled"
    return "plain"


def matrix_rate(device: str, precision: str, products: int = 6) -> float:
    """Floating-point operations per second of a large square matrix product, the best of several."""
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    side = 8192 if device.startswith("cuda") else 1024
    a, b = (torch.randn(side, side, dtype=kind, device=device) for _ in range(2))
    best = min(_seconds(lambda: a @ b, device) for _ in range(products))
    return 2 * side**3 / best


def made_up(side: int, masks: bool, device: str) -> Album:
    """Sixteen pictures of noise, side x 4/3 side, with class ids if `masks`."""
    rng = np.random.default_rng(0)
    shape = (side, side * 4 // 3)
    pictures = [
        Picture(
            f"made/{index}",
            rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
            rng.integers(0, 21, shape, dtype=np.uint8) if masks else None,
        )
        for index in range(16)
    ]
    return Album(pictures, "none", 0, side, masks, device)


def _timed_parts(learner: Learner, device: str) -> list[float]:
    """Seconds of each part of one step."""
    held: dict = {}
    learner.prepare()
    steps = (
        lambda: held.update(batch=learner.draw()),
        lambda: held.update(losses=learner.forward(held["batch"])),
        lambda: learner.backward(held["losses"]),
        lambda: held.update(rate=learner.optimise()),
    )
    return [_seconds(step, device) for step in steps]


def _flops(learner: Learner) -> float:
    """Operations of one step's forward and backward pass."""
    batch = learner.draw()
    learner.prepare()
    _, flops = count_flops(lambda: learner.backward(learner.forward(batch)))
    return float(flops)


def _seconds(call: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _chosen(systems: Sequence[str] | None, sizes: Sequence[str], plan: Protocol) -> list[tuple[str, str]]:
    names = [entry.name for entry in registry.trainables() if not entry.fitted] if systems is None else list(systems)
    for name in names:
        if registry.find(name, parts=True).fitted:
            raise UserError(f"{name} is fitted, not trained step by step; leave it out")
        if not set(registry.tasks_of(name)) & set(plan.tasks):
            raise UserError(f"{name}: the protocol trains {', '.join(plan.tasks)}, which {name} does not do")
        for size in sizes:
            if systems is not None and size not in (sizes_of(name) or ["small"]):
                raise UserError(f"{name} has no size {size!r}; sizes are {', '.join(sizes_of(name))} (configs/models)")
    found = [(name, size) for size in sizes for name in names if size in (sizes_of(name) or ["small"])]
    if not found:
        raise UserError(f"--size {','.join(sizes)}: no system has it; see configs/models")
    return found


def _line(row: Row) -> str:
    whole = row.data_s + row.forward_s + row.backward_s + row.optimiser_s
    shares = " ".join(f"{100 * getattr(row, part + '_s') / whole:5.0f}%" for part in PARTS)
    before = "" if row.before_crops_per_s is None else f" {row.before_crops_per_s:8.2f} {row.ratio:5.2f}x"
    return (
        f"{row.system:14} {row.size:7} {row.task:15} {row.crop:4} {row.batch:5} {row.crops_per_s:9.2f} {shares} "
        f"{100 * row.matrix_share:6.0f}%{before}  {row.passes}"
    )
