"""The table of metrics: how each is computed per picture, how it is shown, and how it is combined over a set.

A metric is a function and a record (`Metric`). A third party adds one by an entry point of the group
`semantic_bench.metrics`. Its values for pictures are a column of samples.csv, its values for sets are rows of
summary.csv. Nothing here needs torch, because the tables of a finished run are made without it. Tasks, tables and
figures read the records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.measure.metrics.image import PicturePair, ms_ssim_of, psnr_db
from bench.measure.metrics.perceptual import lpips_of
from bench.measure.metrics.segmentation import LabelPair, miou, pixel_accuracy
from bench.measure.plugins import Records

#: How the value of a set is computed from its pictures: the mean of their values; the PSNR of their mean `mse`; or the
#: mean IoU or the pixel accuracy of the sum of their `confusion`.
REDUCTIONS = ("mean", "psnr_of_mean_mse", "miou", "pixel_accuracy")


@dataclass(frozen=True)
class Metric:
    """All that the bench knows of a metric.

    name: the column, and the value of `metric` in a figure.
    label: on an axis, without the unit.
    unit: "dB", "%" or "".
    digits: after the decimal point in tables, in this unit.
    higher_is_better: True if larger values are better.
    tasks: the tasks that it scores.
    of_picture: of_picture(pair) is the value of one picture, or None if it has none (the picture is too small, a
    package is missing). The pair comes from `bench.measure.tasks.Task.pair`. None for a metric that only sets have.
    reduction: one of `REDUCTIONS`.
    scale: the factor from the stored value to the shown value (100 for per cent).
    meaning: of the column, in words, for `list columns`; "" is the label.
    """

    name: str
    label: str
    unit: str
    digits: int
    higher_is_better: bool
    tasks: tuple[str, ...]
    of_picture: Callable[[Any], float | None] | None
    reduction: str = "mean"
    scale: float = 1.0
    meaning: str = ""

    def __post_init__(self):
        if self.reduction not in REDUCTIONS:
            raise ValueError(
                f"metric {self.name}: unknown reduction {self.reduction!r}; reductions are {', '.join(REDUCTIONS)}"
            )

    @property
    def axis(self) -> str:
        """The label of an axis, with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def column(self) -> str:
        """The column of samples.csv from which the value of a set is computed."""
        columns = {"psnr_of_mean_mse": "mse", "miou": "confusion", "pixel_accuracy": "confusion"}
        return columns.get(self.reduction, self.name)


def _psnr(pair: PicturePair) -> float:
    return float(psnr_db(pair.mse))


def _miou(pair: LabelPair) -> float:
    return miou(pair.matrix)


def _pixel_accuracy(pair: LabelPair) -> float:
    return pixel_accuracy(pair.matrix)


_PICTURES, _LABELS = ("reconstruction",), ("segmentation",)

METRICS = Records(
    "metric",
    "semantic_bench.metrics",
    Metric,
    (
        Metric("psnr_db", "PSNR", "dB", 2, True, _PICTURES, _psnr,
               meaning="PSNR of the picture after rounding to 8 bits, peak 255"),
        Metric("psnr_of_mean_mse_db", "PSNR of the mean MSE", "dB", 2, True, _PICTURES, None, "psnr_of_mean_mse"),
        Metric("ms_ssim", "MS-SSIM", "", 4, True, _PICTURES, ms_ssim_of, meaning="multi-scale structural similarity"),
        Metric("lpips", "LPIPS", "", 4, False, _PICTURES, lpips_of, meaning="learned perceptual distance"),
        Metric("miou", "mIoU", "%", 1, True, _LABELS, _miou, "miou", 100.0,
               "mean IoU of this picture's own classes (the set's mIoU is in summary.csv)"),
        Metric("pixel_accuracy", "pixel accuracy", "%", 1, True, _LABELS, _pixel_accuracy, "pixel_accuracy", 100.0,
               "share of this picture's labelled pixels with the right class"),
    ),
)  # fmt: skip


def metrics_of(task: str) -> tuple[Metric, ...]:
    """The metrics that score a task. Figures show the first one, unless they name another."""
    return tuple(metric for metric in METRICS if task in metric.tasks)


def scores(task: str, pair: Any) -> dict[str, float | None]:
    """The values of one picture, by column."""
    return {metric.name: metric.of_picture(pair) for metric in metrics_of(task) if metric.of_picture is not None}
