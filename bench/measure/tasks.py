"""Tasks: the output that a receiver is asked for, and how it is checked, stored, scored, and replaced at an outage.

A task is a record (`Task`). A third party adds one by an entry point of the group `semantic_bench.tasks`. Systems name
the tasks that they can do, and data sets those that they have targets for. `bench.measure.point` and the tables read
the records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.measure.metrics import table
from bench.measure.metrics.image import PicturePair
from bench.measure.metrics.segmentation import LabelPair, argmax_labels
from bench.measure.plugins import Records
from systems.errors import UnknownName
from systems.interface import DEFAULT_REQUIREMENT, NUM_CLASSES
from systems.pixels import to_uint8

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Task:
    """All that the bench knows of a task.

    requirement: the request in words, if the user gives none.
    target: "image" or "mask": the part of a sample that the output is compared with.
    channels: of the output, float (B, channels, H, W).
    delivered: delivered(output) is the result that a user gets, uint8 (B, ...) on the CPU. It is stored as PNG.
    outage_level: the value of every pixel of a lost picture, whatever the system returned: 128 is mid-grey, 0 is
    background.
    pair: pair(target, delivered) is the input of the task's metrics, for one picture.
    raw: raw(pair) gives more columns of samples.csv, from which values of sets are computed.
    default_metric: for figures that name none.
    budget: which rule gives the budget of its figures, "cbr" or "kbits".
    labels: True: `delivered` holds class labels, which are stored with the palette of classes.
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
        """The columns of one picture. target, delivered: uint8, (3, H, W) or (H, W)."""
        pair = self.pair(target, delivered)
        return {**self.raw(pair), **table.scores(self.name, pair)}


def other_request(task: str, requirement: str) -> str:
    """The requirement of a figure, if it is another than its task's own; "" otherwise, and for an unknown task."""
    try:
        return "" if requirement == TASKS[task].requirement else requirement
    except UnknownName:
        return ""


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
