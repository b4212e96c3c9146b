"""Writes the lines of progress and metrics.csv of a training run. The trainer calls it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from bench.training import state_file
from bench.training.learner import Learner
from bench.util.files import write_atomic


def write_metrics(folder: Path, rows: list[dict]) -> None:
    """Write metrics.csv: one row per validation. Raises StorageError."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / "metrics.csv", text.getvalue().encode())


def progress_line(
    learner: Learner, task: str, losses: dict[str, float], rows: list[dict], used: float, per_second: float
) -> str:
    """A line about the step that was done last: where the run stands, its losses, and the last validation.

    used: seconds of the whole run. per_second: steps.
    """
    schedule, step = learner.schedule, learner.step
    total = schedule.total
    left = 60 * schedule.minutes - used if total is None else (total - step) / per_second
    shown = [
        f"{learner.name} step {step}" + ("" if total is None else f"/{total}"),
        f"{100 * schedule.share(step):.0f} %",
    ]
    shown += [task, *(f"{key} {value:.4g}" for key, value in losses.items())]
    validated = rows[-1] if rows else {}
    shown += [f"{key} {value:.4g}" for key, value in validated.items() if key.startswith("val")]
    return "  ".join([*shown, f"{per_second:.3g} steps/s", f"ETA {max(0.0, left) / 60:.1f} min"])


def stopped_line(learner: Learner, folder: Path, weights: Path) -> str:
    """A line that says where the run stands, how to continue it, and where its weights will be."""
    total = learner.schedule.total
    where = f"step {learner.step}" + ("" if total is None else f" of {total}")
    return (
        f"{learner.name} stopped at {where}; the same command continues from there "
        f"({state_file.path_in(folder)}), and its weights will be in {weights}"
    )
