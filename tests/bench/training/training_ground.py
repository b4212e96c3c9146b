"""Small data roots, protocols and commands that the tests of training share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import main
from bench.training.crops import Album
from bench.training.learner import Learner
from bench.training.picture import Picture
from bench.training.protocol import Protocol
from bench.training.sources import Library
from bench.training.trainer import Trainer
from bench.training.validate import SIZE

PROTOCOL = """
seed = 3
learning_rate = 1e-3
warmup = 2
ema = 0.9
validate_every = 4
checkpoint_every = 2
holdout = 2
autocast = "off"

[tasks.reconstruction]
images_seen = {images}
stages = [{{ until = 1.0, crop = 32, batch = 4 }}]
sources = ["photos"]
cbr = "1/16"
budget_jitter = 0.1
"""
HEAD = PROTOCOL.partition("[tasks")[0]


def smooth(rng: np.random.Generator, height: int = 240, width: int = 260) -> Image.Image:
    """A picture without sharp edges."""
    coarse = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def photos(root: Path, count: int = 8) -> None:
    """Write a folder `photos` of smooth pictures."""
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    for index in range(count):
        smooth(rng).save(root / "photos" / f"{index}.png")


def voc_folders(root: Path) -> Path:
    """Make the empty folders of VOC; returns VOC2012."""
    base = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    return base


def voc(root: Path, count: int, side: int) -> None:
    """Write VOC's layout: `count` plain pictures of class 1, except the last, which is of class 2."""
    base = voc_folders(root)
    for index in range(count):
        Image.new("RGB", (side, side), (index, 0, 0)).save(base / "JPEGImages" / f"{index}.jpg")
        mask = np.full((side, side), 2 if index == count - 1 else 1, np.uint8)
        Image.fromarray(mask).save(base / "SegmentationClass" / f"{index}.png")
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(map(str, range(count))))


def uneven_voc(root: Path) -> None:
    """Write VOC's layout: eight smooth pictures; the areas of three classes and of void differ strongly from mask to
    mask.
    """
    base = voc_folders(root)
    rng = np.random.default_rng(1)
    for index in range(8):
        smooth(rng).save(base / "JPEGImages" / f"{index}.jpg")
        mask = np.zeros((240, 260), np.uint8)
        mask[60:180, 60:200] = 1 + index % 3
        mask[: 25 * index] = 255
        Image.fromarray(mask).save(base / "SegmentationClass" / f"{index}.png")
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(map(str, range(8))))


def pictures(count: int = 6, height: int = 40, width: int = 50, mask: bool = False) -> list[Picture]:
    """Pictures of noise under the source `made`; pixels are random, so windows differ."""
    rng = np.random.default_rng(7)
    return [
        Picture(
            f"made/{index}",
            rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
            rng.integers(0, 21, (height, width), dtype=np.uint8) if mask else None,
        )
        for index in range(count)
    ]


def album(root: Path, source: str, with_masks: bool = False, holdout: int = 2, least_side: int = SIZE) -> Album:
    """Read the pictures of one source."""
    read = Library(root).read(source)
    return Album(read, read[0].source, holdout, least_side, with_masks)


def trainer(system, plan: Protocol, data: dict[str, Album], folder: Path, **rest) -> Trainer:
    """A trainer that prints nothing."""
    return Trainer(system, plan, data, folder, say=lambda text: None, **rest)


def learner(system, plan: Protocol, data: dict[str, Album], **rest) -> Learner:
    """The steps of a trainer, without its run."""
    return Learner(system, plan, data, **rest)


def command(root: Path, protocol: Path | str, out: str, *extra: str, system: str = "deepjscc") -> list[str]:
    """The arguments for python that train one system on the CPU."""
    return [
        *("-m", "bench", "train", "--systems", system, "--config", str(protocol), "--data-root", str(root)),
        *("--out", str(root / out), "--device", "cpu", "--threads", "1", *extra),
    ]


def here(capsys, *arguments: str) -> tuple[int, str]:
    """Run such a command in this process; returns exit code and stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(arguments[2:]))
    return stop.value.code, capsys.readouterr().err
