"""The schedule of training: task, crops and learning rate of each step, by the number of crops or by the clock.

`learner` calls it. By crops, everything depends only on the step, so a resumed run is exactly the same. By the clock
(`--minutes`), the same curves depend on the share of time that is used. The run then ends with finished weights on any
machine, and the number of steps depends on the machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bench.training.protocol import CropStage, Protocol, TaskProtocol


@dataclass
class Schedule:
    """The schedule of one system's run.

    minutes: the time that the run may take; None: by crops. With minutes, the trainer sets `used`, and `pace`, the time
    of the last step, before each step. Both are in seconds.
    """

    tasks: dict[str, TaskProtocol]
    warmup: int
    final_rate: float
    minutes: float | None = None
    used: float = 0.0
    pace: float = 0.0
    _planned: dict[str, int] = field(init=False)

    def __post_init__(self):
        self._planned = {task: steps_of(plan) for task, plan in self.tasks.items()}

    @classmethod
    def of(cls, protocol: Protocol, tasks: dict[str, TaskProtocol], minutes: float | None = None) -> Schedule:
        """The schedule of a system that has `tasks` of a protocol."""
        return cls(tasks, protocol.warmup, protocol.final_rate, minutes)

    @property
    def total(self) -> int | None:
        """Number of steps of the whole run. None if the clock decides."""
        return None if self.minutes is not None else sum(self._planned.values())

    def share(self, step: int) -> float:
        """The share of the run that is used before `step`, 0..1."""
        used = step / self.total if self.minutes is None else self.used / (60 * self.minutes)
        return min(1.0, used)

    def ended(self, step: int) -> bool:
        """Whether the run has ended before `step`. By the clock: whether less than half a step fits."""
        return step >= self.total if self.minutes is None else self.used + self.pace / 2 >= 60 * self.minutes

    def task(self, done: dict[str, int]) -> str:
        """The task of the next step, from the number of steps that each task has done. The tasks are interleaved
        evenly.
        """
        left = [t for t in self.tasks if self.minutes is not None or done[t] < self._planned[t]]
        return min(left, key=lambda task: (done[task] + 0.5) / self._planned[task])

    def agrees(self, step: int, done: dict[str, int], seen: dict[str, int]) -> bool:
        """Whether a run can have done these steps and seen these crops, of each task, before `step`.

        By crops, all follows from the step. By the clock, the stages, and so the batches, depend on the machine.
        """
        if self.total is not None and step > self.total:
            return False
        if not done.keys() == seen.keys() == self.tasks.keys() or sum(done.values()) != step:
            return False
        waiting = [t for t in self.tasks if self.minutes is not None or done[t] < self._planned[t]]
        least = min(((done[task] + 0.5) / self._planned[task] for task in waiting), default=math.inf)
        in_turn = all((done[task] - 0.5) / self._planned[task] <= least for task in self.tasks)
        return in_turn and all(self._can_have_seen(task, done[task], seen[task]) for task in self.tasks)

    def _can_have_seen(self, task: str, done: int, seen: int) -> bool:
        plan = self.tasks[task]
        if self.minutes is None:
            return seen == seen_after(plan, done)
        batches = [stage.batch for stage in plan.stages]
        return done * min(batches) <= seen <= done * max(batches)

    def stage(self, task: str, seen: int, step: int) -> CropStage:
        """The present stage of a task's crop schedule."""
        plan = self.tasks[task]
        share = seen / plan.images_seen if self.minutes is None else self.share(step)
        return _stage(plan, share)

    def rate(self, step: int) -> float:
        """The learning rate as a share of its highest value: linear warm-up, then a cosine to `final_rate`."""
        if step < self.warmup:
            rise = (step + 1) / self.warmup
            if self.minutes is None:
                return rise
        else:
            rise = 1.0
        if self.minutes is None:
            turn = (step - self.warmup) / max(1, self.total - self.warmup)
        else:
            turn = self.share(step)
        low = self.final_rate
        return rise * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * turn)))


def seen_after(plan: TaskProtocol, steps: int) -> int:
    """Number of crops that a task has seen after `steps` of its steps, in a run by crops."""
    seen = 0
    while steps:
        batch, count = _run_of_steps(plan, seen)
        count = min(count, steps)
        seen, steps = seen + count * batch, steps - count
    return seen


def steps_of(plan: TaskProtocol) -> int:
    """Number of steps for a task's crops, stage by stage."""
    steps, seen = 0, 0
    while seen < plan.images_seen:
        batch, count = _run_of_steps(plan, seen)
        steps, seen = steps + count, seen + count * batch
    return steps


def _run_of_steps(plan: TaskProtocol, seen: int) -> tuple[int, int]:
    """(batch, number of steps) of the stage that a task is in after `seen` crops, from there to its end."""
    stage = _stage(plan, seen / plan.images_seen)
    end = 1.0 if stage is plan.stages[-1] else min(1.0, stage.until)
    count = max(1, math.ceil((end * plan.images_seen - seen) / stage.batch))
    if count > 1 and (seen + (count - 1) * stage.batch) / plan.images_seen >= end:  # the product was rounded up
        count -= 1
    return stage.batch, count


def _stage(plan: TaskProtocol, share: float) -> CropStage:
    return next((stage for stage in plan.stages if share < stage.until), plan.stages[-1])
