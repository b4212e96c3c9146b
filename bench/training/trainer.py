"""The training run of one system, from its first step to its weights. It can be stopped and resumed exactly.

    python -m bench train --systems gensc,witt --config small --data-root DATA
    torchrun --nproc-per-node 2 -m bench train --systems witt --config small --data-root DATA

`bench.training.run` calls it. `learner` does the steps; this module validates, reports and saves between them. A run
that is killed and started again continues exactly from its last state (on the CPU; a GPU adds in another order). It
ends by the number of crops or by the clock. Between two reports, nothing is copied back from the device.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from bench.training import distributed as together
from bench.training import resume
from bench.training.crops import Album
from bench.training.distributed import World
from bench.training.learner import Learner
from bench.training.protocol import Protocol
from bench.training.report import progress_line, stopped_line, write_metrics
from bench.training.sidecar import sidecar_of
from bench.training.validate import validate
from systems.errors import UserError
from systems.learned import Network

REPORT_SECONDS = 10.0  # between two lines of progress


class Trainer:
    """Trains one system by a protocol, in a folder of its own. Nothing is written before the first state is saved.

    module, protocol, albums, world, teacher: as `Learner` takes them.
    minutes: train by the clock, including validation and writing. None: by crops.
    say: receives lines of progress.
    Raises UserError as `Learner` does.
    """

    def __init__(
        self,
        module: Network,
        protocol: Protocol,
        albums: dict[str, Album],
        folder: Path,
        world: World | None = None,
        minutes: float | None = None,
        teacher: str = "",
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ):
        self.learner = Learner(module, protocol, albums, world, minutes, teacher, say)
        self.protocol, self.folder, self.world, self.minutes, self.say = (
            protocol, folder, self.learner.world, minutes, say,
        )  # fmt: skip
        self.schedule, self.tasks = self.learner.schedule, self.learner.tasks
        self.spent, self.validations = 0.0, protocol.validations
        self.rows: list[dict] = []

    # --- state and result ---------------------------------------------------------------------------------------------

    def save_state(self) -> None:
        """Write everything that resuming needs. Raises StorageError if the disk refuses."""
        resume.save(self.folder, self.learner, self.rows, self.spent)

    def load_state(self) -> bool:
        """Continue from the state in the folder, if there is one. Returns whether there was one.

        Raises UserError if it is of another protocol, or damaged.
        """
        found = resume.load(self.folder, self.learner)
        if found is not None:
            self.rows, self.spent = found
        return found is not None

    @property
    def weights_file(self) -> Path:
        """The path of the finished weights."""
        return self.folder / f"{self.learner.name}-{self.learner.size}.safetensors"

    def facts(self) -> dict:
        """The content of the sidecar of the trained weights."""
        return sidecar_of(self.learner, self.rows, self.spent)

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, with the names and shapes of the system's state dict."""
        return dict(self.learner.average.values)

    def validate(self) -> dict[str, float]:
        """Validation scores on held-out pictures, with the averaged weights."""
        with self.learner.averaged() as module:
            protocol, albums = self.protocol, self.learner.albums
            return validate(module, albums, self.tasks, protocol.channel, protocol.snr_range, self.world.device)

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self, max_steps: int | None = None, started: float | None = None) -> bool:
        """Train to the end of the schedule, or for `max_steps` steps. Returns whether the run has ended.

        It reports and saves on the way, also at Ctrl-C. started: the time of `time.monotonic()` from which the minutes
        count. Raises UserError if a loss is not finite.
        """
        learner = self.learner
        start, first = time.monotonic() if started is None else started, learner.step
        before, shown = self.spent, 0.0
        if self.minutes is not None and learner.step == 0:
            self._reserve_time()
        try:
            while not self._over() and (max_steps is None or learner.step - first < max_steps):
                share, earlier = self.schedule.share(learner.step), self.spent
                report = learner.advance()
                now = time.monotonic()
                if self.world.size == 1 or learner.step % 16 == 0 or learner.step == first + 1:
                    self.spent = before + self.world.same(now - start)
                self.schedule.used, self.schedule.pace = self.spent, self.spent - earlier
                last = self._over()
                due = self._due(share)
                pause = max_steps is not None and learner.step - first == max_steps
                if due or last or pause or learner.step == first + 1 or now - shown > REPORT_SECONDS:
                    shown = now
                    losses = self._read_losses(report, of_all=due or last)
                    if due or last:
                        self._watch(report | {"losses": losses})
                    if self.world.first:
                        speed = (learner.step - first) / max(now - start, 1e-9)
                        self.say(progress_line(learner, report["task"], losses, self.rows, self.spent, speed))
                if self.world.first and (last or pause or due or learner.step % self.protocol.checkpoint_every == 0):
                    self._read_losses(report)
                    self.save_state()
        except KeyboardInterrupt:
            if self.world.first:
                self.save_state()
                self._say_stopped()
            raise
        if not self._over() and self.world.first:
            self._say_stopped()
        if self._over() and (not self.rows or self.rows[-1]["step"] != learner.step):
            self._watch({"lr": 0.0, "losses": {}})  # the run was stopped during its last validation
        return self._over()

    def _reserve_time(self) -> None:
        """Do the first validation and write the first state, and so measure how long the end of the run will take.

        The end takes as much again, and the time of writing the weights. Validations get a tenth of the time at most.
        """
        minutes = self.minutes
        assert minutes is not None
        begin = time.monotonic()
        self.rows.clear()  # of a run that was stopped before its first step
        self._watch({"lr": 0.0, "losses": {}})
        watched = time.monotonic()
        if self.world.first:
            self.save_state()
        reserve = 1.5 * (watched - begin) + 2 * (time.monotonic() - watched) + 1.0
        self.schedule.minutes = self.world.same(max(minutes - min(reserve / 60, minutes / 2), 1e-9))
        most = int(0.1 * 60 * minutes / max(self.world.same(watched - begin), 1e-3))
        self.validations = max(1, min(self.protocol.validations, most))

    def _say_stopped(self) -> None:
        self.say(stopped_line(self.learner, self.folder, self.weights_file))

    def _over(self) -> bool:
        return self.learner.step > 0 and self.schedule.ended(self.learner.step)

    def _due(self, share: float) -> bool:
        """Whether to validate after the step that began at the share `share` of the run."""
        if self.minutes is None:
            return self.learner.step % self.protocol.validate_every == 0
        count = self.validations
        return math.floor(share * count) != math.floor(self.schedule.share(self.learner.step) * count)

    def _watch(self, report: dict) -> None:
        """Validate, and add a row to the metrics."""
        row = {
            "step": self.learner.step,
            **({"seconds": round(self.spent, 1)} if self.minutes is not None else {}),
            **{f"seen_{task}": seen for task, seen in self.learner.seen.items()},
            "lr": report["lr"],
            **report["losses"],
        }
        if self.world.first:
            self.rows.append({**row, **self.validate()})
            if self.learner.step:
                write_metrics(self.folder, self.rows)

    def _read_losses(self, report: dict, of_all: bool = False) -> dict[str, float]:
        """The losses of a step in this process, or their means over all processes, which must then all call it.

        Raises UserError if they are not finite, because the weights are then lost.
        """
        losses = {key: float(value) for key, value in report["losses"].items()}
        if of_all and self.world.size > 1:
            means = together.mean_over_processes([*losses.values()], self.world.device)
            losses = dict(zip(losses, means, strict=True))
        total = sum(losses.values())
        if not math.isfinite(total):
            name = self.learner.name
            raise UserError(
                f"{name}: the loss is {total} by step {self.learner.step}; lower its learning rate in the protocol "
                f"(learning_rates.{name} or learning_rate, here {self.protocol.rate_of(name):g})"
            )
        return losses
