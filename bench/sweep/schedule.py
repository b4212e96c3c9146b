"""The order of work: how the tasks of a plan are cut into pieces for the workers."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

from bench.sweep.plan import Plan, Task

SHARES = 8  # a piece is at most such a part of the work of one worker


def schedule(tasks: list[Task], plan: Plan, workers: int) -> list[Task]:
    """The order of work: heavy tasks first, and those that would keep one worker busy at the end split at operating
    points.

    A worker that gets the pieces of a task one after another encodes its block once; each worker more encodes it once
    more. Rows are the same: cells do not know which task they came in.
    """

    @cache
    def pixels(spec: str, image_ids: tuple[str, ...]) -> int:
        return sum(math.prod(plan.datasets[spec].size(image_id)) for image_id in image_ids)

    def weight(task: Task) -> float:
        # A small network has its few weights at full resolution, so that work grows slower than parameters.
        work = 1 + math.sqrt(plan.systems[task.system].parameters / 1e5)
        return pixels(task.dataset, task.image_ids) * len(task.cells) * work

    most = sum(map(weight, tasks)) / (SHARES * workers)
    pieces: list[Task] = []
    for task in sorted(tasks, key=weight, reverse=True):
        count = min(len(task.cells), math.ceil(weight(task) / most)) if workers > 1 and most else 1
        bounds = [round(index * len(task.cells) / count) for index in range(count + 1)]
        pieces += [replace(task, cells=task.cells[a:b]) for a, b in zip(bounds, bounds[1:])]
    return pieces
