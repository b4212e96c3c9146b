"""A third party's package that adds one thing of each kind: a system, a metric, a channel, a data set, a kind of
figure.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from PIL import Image

from systems import Decoded, System, Transmission
from systems.layers.power import unit_power
from systems.layers.symbol_layout import to_features, to_symbols


class Means(System):
    """Sends means of 8 x 8 blocks of the picture's red, green and blue."""

    tasks = ("reconstruction",)
    label = "Block means"

    def encode(self, images, link):
        symbols, _ = unit_power(to_symbols(F.adaptive_avg_pool2d(images, 8) - 0.5, 96))
        return Transmission(symbols)

    def decode(self, received, link):
        symbols, variance = received.equalised()
        means = to_features(symbols / (1 + variance) * 0.3, 3, 8, 8) + 0.5
        return Decoded(F.interpolate(means, (link.height, link.width)).clamp(0, 1).float())


def _worst(pair):
    """The largest error of a picture, 0 to 255."""
    return float((pair.reference.int() - pair.output.int()).abs().max())


def metric():
    from bench.measure.metrics.table import Metric

    return Metric("worst_error", "largest error", "", 1, False, ("reconstruction",), _worst)


def channel():
    from bench.measure.channel import Channel, Csi

    turned = Csi("turned", "the receiver knows h up to a turn of 0.1 rad", lambda h, noise_var, seed: h * np.exp(0.1j))
    gain = lambda seed, uses: np.full(1, (0.8 + 0.6j) * np.exp(1j * (seed % 7)))  # noqa: E731
    return Channel("two-paths", "two paths", gain, csi=turned)


def dataset():
    from bench.data.catalogue import DatasetInfo
    from bench.data.dataset import Dataset, Item, Preprocessing

    def build(info, data_root, split):
        folder = Path(data_root) / "ramps"
        items = {path.stem: Item(path) for path in sorted(folder.glob("*.png"))}
        return Dataset(name=info.name, items=items, preprocessing=Preprocessing(), tasks=info.tasks,
                       description=info.description, licence=info.licence)  # fmt: skip

    return DatasetInfo("ramps", ("reconstruction",), "ramps of grey", "public domain", build, where="ramps")


def make_pictures(folder):
    folder.mkdir(parents=True)
    for index in range(2):
        ramp = np.linspace(0, 255, 64 * 48).reshape(48, 64).astype(np.uint8)
        Image.fromarray(np.stack([np.roll(ramp, 9 * index, 1)] * 3, axis=2)).save(folder / f"r{index}.png")


def twice(job):
    """A kind of figure that draws the curves, under a name of its own."""
    from bench.report.figure_kinds import curves

    return [replace(drawing, name=drawing.name + "-twice") for drawing in curves(job)]


METRIC, CHANNEL, DATASET = metric(), channel(), dataset()
