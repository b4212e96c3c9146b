"""Tasks: what is asked of a receiver, and how its answer is checked, painted at an outage, kept and scored.

A task is a record (`Task`); a third party adds one by an entry point of the group `semantic_bench.tasks`. Systems name
the tasks that they do, data sets those that they have targets for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.measure.metrics import table
from bench.measure.metrics.image import PicturePair
from bench.measure.metrics.segmentation import LabelPair, argmax_labels
from bench.measure.records import Records
from systems.interface import DEFAULT_REQUIREMENT, NUM_CLASSES
from systems.pixels import to_uint8

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Task:
    """A task as the bench knows it.

    requirement: what it is asked for in words when the user gives no sentence. target: "image" or "mask", what of a
    sample the answer is held against. channels: of the output, float (B, channels, H, W). delivered(output): what a
    user gets, uint8 (B, ...) on the CPU; pictures of it are kept as PNG, with the palette of classes where `labels`.
    outage_level: what the harness paints where a picture was lost, whatever the system put there: 128 is mid-grey, 0
    the background. pair(target, delivered): what the task's metrics are computed from, for one picture. raw(pair):
    further columns of samples.csv, from which a set's values are made. default_metric: of a figure that names none.
    budget: which rule its figures give their budget by, "cbr" or "kbits".
    """

    name: str
    requirement: str
    target: str
    channels: int
    delivered: Callable[[Tensor], Tensor]
    outage_level: int
    pair: Callable[[Tensor, Tensor], Any]
    raw: Callable[[Any], dict[str, Any]]
    default_metric: str
    budget: str
    labels: bool = False

    def score(self, target: Tensor, delivered: Tensor) -> dict[str, Any]:
        """The columns of one picture: `target` and `delivered` uint8, (3, H, W) or (H, W)."""
        pair = self.pair(target, delivered)
        return {**self.raw(pair), **table.scores(self.name, pair)}


def _raw_picture(pair: PicturePair) -> dict[str, Any]:
    return {"mse": pair.mse}


def _raw_labels(pair: LabelPair) -> dict[str, Any]:
    return {"confusion": pair.confusion_text}


TASKS = Records(
    "task",
    "semantic_bench.tasks",
    Task,
    (
        Task(
            name="reconstruction",
            requirement=DEFAULT_REQUIREMENT["reconstruction"],
            target="image",
            channels=3,
            delivered=to_uint8,
            outage_level=128,
            pair=PicturePair,
            raw=_raw_picture,
            default_metric="psnr_db",
            budget="cbr",
        ),
        Task(
            name="segmentation",
            requirement=DEFAULT_REQUIREMENT["segmentation"],
            target="mask",
            channels=NUM_CLASSES,
            delivered=argmax_labels,
            outage_level=0,
            pair=LabelPair,
            raw=_raw_labels,
            default_metric="miou",
            budget="kbits",
            labels=True,
        ),
    ),
)
