"""Axis, unit, digits and direction of each number in the tables, and how the value of a data set is computed.

A metric's record (`bench.measure.metrics.table`) holds these. `quantity` gives the same for the rate of outages and for
the other columns of samples.csv, which are no metrics. The analysis and `bench.report` call this module, so they need
no metric's name. It also has the words for what a lost picture is scored as.
"""

from __future__ import annotations

from bench.measure.metrics.table import METRICS, Metric
from bench.measure.tasks import TASKS

#: The share of pictures that were lost. It is a metric of every set, but not of a single picture.
OUTAGE_RATE = Metric("outage_rate", "Outages", "%", 1, False, (), None, scale=100.0)
#: Columns that are no metrics and that the harness measures; lower values are better. The others say what a point is,
#: or what a system says of itself: no side is ahead by them.
COSTS = ("mse", "n_uses", "cbr", "bits", "side_uses", "side_bits", "encode_s", "channel_s", "decode_s")
#: For metrics of pixel counts, by their reduction: the column of counts by which intersections are divided.
_WHOLES = {"miou": "union", "pixel_accuracy": "labelled"}
_GREYS = {0: "black", 128: "mid-grey", 255: "white"}


def quantity(name: str) -> Metric:
    """The record of a metric, of the rate of outages, or of another column of samples.csv."""
    if name == OUTAGE_RATE.name:
        return OUTAGE_RATE
    if name in METRICS.names():
        return METRICS[name]
    return Metric(name, name, "dB" if name.endswith("_db") else "", 4, name not in COSTS, (), None)


def quantities() -> tuple[Metric, ...]:
    """All metrics, those of installed packages included, and last the rate of outages."""
    return (*METRICS, OUTAGE_RATE)


def default_metric(task: str) -> str:
    """The metric that is used for a task if none is named."""
    return TASKS[task].default_metric


def has_labels(task: str) -> bool:
    """Whether a task's outputs are class labels. False for a task of a package that is no longer installed."""
    return task in TASKS.names() and TASKS[task].labels


def outage_words(task: str) -> str:
    """What a lost picture is scored as, in words: "mid-grey", or "background". The task's record decides it
    (`outage_level`). "the task demands" for a task of a package that is no longer installed.
    """
    if task not in TASKS.names():
        return "the task demands"
    level = TASKS[task].outage_level
    if TASKS[task].labels:
        return f"class {level}" if level else "background"
    return _GREYS.get(level, f"grey level {level}")


def lower_is_better(name: str) -> bool:
    """Whether lower values of a metric are better."""
    return not quantity(name).higher_is_better


def whole_of(name: str) -> str | None:
    """The column of pixel counts by which a metric's intersections are divided; None for a metric without counts."""
    return _WHOLES.get(quantity(name).reduction)


def of_mean_error(name: str) -> bool:
    """Whether the metric is the PSNR of the set's mean squared error."""
    return quantity(name).reduction == "psnr_of_mean_mse"


def axis_label(name: str) -> str:
    """The label of an axis: it begins with a capital ("mIoU" keeps its letters), then the unit, and "lower is better"
    where that is so.
    """
    record = quantity(name)
    label = record.axis[:1].upper() + record.axis[1:] if record.label[:2].islower() else record.axis
    return label if record.higher_is_better or record is OUTAGE_RATE else f"{label} (lower is better)"
