"""Tests that tables and axes describe a metric from its record alone."""

from bench.analysis.quantity import OUTAGE_RATE, axis_label, default_metric, lower_is_better, quantity, whole_of
from bench.measure.metrics.table import METRICS


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
