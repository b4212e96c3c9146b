"""Tests that third parties add channels, metrics and tasks by one record each, and that a faulty record affects nothing
else.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

from bench.measure import channel
from bench.measure.channel import CHANNELS, Channel, channel_label, transmit
from bench.measure.metrics.table import METRICS, Metric, metrics_of
from bench.measure.plugins import Records
from bench.measure.tasks import TASKS
from bench.results.schema import SAMPLES
from systems.errors import UnknownName
from systems.interface import Budget, Link, Transmission

HALF = Channel("half", "half the amplitude, half the time", lambda seed, uses: np.full(1, 1.0 + 0j))
TAKEN = Channel("awgn", "another", channel.no_fading)
NOT_A_CHANNEL = "a text"


@pytest.fixture
def known(monkeypatch):
    """A table of channels with the plug-ins of this module installed."""
    here = __name__
    points = [EntryPoint(name, f"{here}:{attribute}", "semantic_bench.channels")
              for name, attribute in (("half", "HALF"), ("awgn", "TAKEN"), ("text", "NOT_A_CHANNEL"),
                                      ("other", "HALF"), ("gone", "MISSING"))]  # fmt: skip
    monkeypatch.setattr("systems.entry_points.points", lambda group: sorted(points))
    return Records("channel", "semantic_bench.channels", Channel, tuple(CHANNELS[name] for name in CHANNELS.own_names))


def test_a_plugin_adds_a_channel_and_a_faulty_one_disables_itself(known):
    assert known["awgn"].label == "AWGN" and known.foreign() == []  # code is loaded only where it is used
    assert known.names() == ("awgn", "rayleigh-block", "rayleigh-fast", "half")
    told = known.foreign()
    assert len(told) == 5 and f"channel half ({__name__}:HALF)" in told and f"channel gone ({__name__}:MISSING)" in told
    assert known["half"] is HALF and known["awgn"].label == "AWGN"
    assert set(known.faulty) == {"awgn", "text", "other", "gone"}
    with pytest.raises(UnknownName, match="does not import"):
        known["gone"]
    with pytest.raises(UnknownName, match="did you mean half"):
        known["halff"]


def test_what_a_plugin_adds_is_transmitted(known, monkeypatch):
    monkeypatch.setattr(channel, "CHANNELS", known)
    symbols = torch.ones(1, 5, dtype=torch.complex64)
    link = Link("reconstruction", 8, 8, Budget(uses=5), "half", 60.0)
    received = transmit(Transmission(symbols), link, [1])
    assert (received.symbols - symbols).abs().max() < 0.01
    assert (
        channel_label("half") == HALF.label
        and channel_label("of-a-package-that-is-gone") == "of-a-package-that-is-gone"
    )


def test_every_task_has_metrics_and_one_of_them_is_its_default():
    for task in TASKS:
        names = [metric.name for metric in metrics_of(task.name)]
        assert task.default_metric == names[0]
    filled = {metric.name for metric in METRICS if metric.of_picture is not None}
    assert filled == {"psnr_db", "ms_ssim", "lpips", "miou", "pixel_accuracy"}
    assert filled <= {column.name for column in SAMPLES}, "a metric of the bench has its column in results/schema.py"
    assert not METRICS["lpips"].higher_is_better and METRICS["miou"].axis == "mIoU (%)"
    with pytest.raises(ValueError, match="median"):
        Metric("mine", "mine", "", 1, True, ("reconstruction",), None, "median")
