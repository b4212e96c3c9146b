"""Tests that tables and axes describe a metric, and lost pictures, from the records alone."""

from dataclasses import replace

from bench.analysis import quantity as described
from bench.analysis.quantity import (
    OUTAGE_RATE,
    axis_label,
    default_metric,
    lower_is_better,
    outage_words,
    quantity,
    whole_of,
)
from bench.measure.metrics.table import METRICS
from bench.measure.plugins import Records
from bench.measure.tasks import TASKS, Task
from bench.results.schema import SAMPLES


def test_a_metric_is_its_record():
    for metric in METRICS:
        assert quantity(metric.name) is metric
        assert lower_is_better(metric.name) is not metric.higher_is_better
        assert axis_label(metric.name).lower().startswith(metric.label.lower())


def test_axis_labels():
    assert axis_label("psnr_db") == "PSNR (dB)"
    assert axis_label("ms_ssim") == "MS-SSIM"
    assert axis_label("lpips") == "LPIPS (lower is better)"
    assert axis_label("miou") == "mIoU (%)"
    assert axis_label("pixel_accuracy") == "Pixel accuracy (%)"
    assert axis_label(OUTAGE_RATE.name) == "Outages (%)"


def test_other_columns_have_a_direction_too():
    assert lower_is_better("outage_rate") and lower_is_better("n_uses") and lower_is_better("decode_s")
    assert not lower_is_better("coded_bits") and quantity("effective_snr_db").unit == "dB"


def test_metrics_of_pixel_counts_know_what_they_divide_by():
    assert (whole_of("miou"), whole_of("pixel_accuracy"), whole_of("psnr_db")) == ("union", "labelled", None)
    assert (default_metric("reconstruction"), default_metric("segmentation")) == ("psnr_db", "miou")


def test_a_metric_of_pictures_is_a_column_by_its_record():
    columns = {column.name: column for column in SAMPLES}
    own = [metric for metric in METRICS if metric.of_picture is not None]
    assert {"psnr_db", "ms_ssim", "lpips", "miou"} <= {metric.name for metric in own}
    for metric in own:
        assert columns[metric.name].unit == ("" if metric.scale != 1 else metric.unit)
    assert "psnr_of_mean_mse_db" not in columns and "miou" in columns


def test_what_a_lost_picture_is_scored_as_follows_the_record_of_its_task(monkeypatch):
    assert [outage_words(task) for task in ("reconstruction", "segmentation")] == ["mid-grey", "background"]
    levels = {"reconstruction": 0, "segmentation": 3}
    others = tuple(replace(TASKS[name], outage_level=level) for name, level in levels.items())
    monkeypatch.setattr(described, "TASKS", Records("task", "no.such.group", Task, others))
    assert [outage_words(task) for task in levels] == ["black", "class 3"]
    assert outage_words("gone") == "the task demands"
