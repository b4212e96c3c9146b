"""Tests of the teacher of segmentation: the protocol names it, its own package runs it, its class maps are made once
and kept.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data
from training_ground import pictures

from baselines.fcn import FCN
from bench.training import teacher as room
from bench.training.teacher import TFLiteTeacher, load_teacher, soften, with_labels
from systems.errors import UserError
from systems.losses import pixel_cross_entropy

TEACHERS = {"teacher/deeplabv3_257_mv_gpu.tflite": 0.594, "teacher/deeplabv3_mnv2_pascal_quant.tflite": 0.718}


CAT = 8  # of PASCAL VOC's classes


def test_an_unknown_teacher_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown teacher 'resnet'"):
        load_teacher("resnet", tmp_path)


def test_a_missing_or_broken_file_is_one_line(tmp_path):
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(UserError, match="no such teacher"):
        load_teacher("teacher/none.tflite", tmp_path)
    (tmp_path / "broken.tflite").write_bytes(b"not a model")
    with pytest.raises(UserError, match="not a TensorFlow Lite model"):
        load_teacher("broken.tflite", tmp_path)


class Counting:
    """A teacher that gives the class of the top left pixel, at a size of its own."""

    name, sha256 = "counting", "0" * 64

    def __init__(self):
        self.asked = 0

    def classes(self, pixels):
        self.asked += 1
        return np.full((5, 7), pixels[0, 0, 0] % 21, np.uint8)


def test_the_fcn_that_ships_is_a_teacher():
    """Its labels are the classes of its own logits, and it finds the cat."""
    pixels, network = data.chelsea(), FCN()
    labels = load_teacher("fcn", Path("unused")).classes(pixels)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    assert np.array_equal(labels, network.segment(image).argmax(dim=1)[0].numpy())
    assert labels.dtype == np.uint8 and labels.shape == pixels.shape[:2] and (labels == CAT).mean() > 0.3


def test_labels_are_made_once_and_kept(tmp_path, monkeypatch):
    one = Counting()
    monkeypatch.setattr(room, "load_teacher", lambda *_: one)
    plain = pictures(count=4)
    for _ in range(2):
        taught = with_labels(plain, "counting", tmp_path, store=tmp_path / "kept")
        assert one.asked == 4
        for picture in taught:
            assert picture.labels.shape == (5, 7) and (picture.labels == picture.pixels[0, 0, 0] % 21).all()
    (damaged,) = (tmp_path / "kept" / ("0" * 16)).glob(f"{plain[0].digest}.png")
    damaged.write_bytes(b"cut")
    with_labels(plain, "counting", tmp_path, store=tmp_path / "kept")
    assert one.asked == 5


def test_labels_that_came_along_ask_nobody(tmp_path):
    carried = [replace(p, labels=np.zeros((3, 3), np.uint8), teacher="deeplab") for p in pictures(count=2)]
    assert with_labels(carried, "teacher/deeplab.tflite", tmp_path) == carried  # no such file is there
    with pytest.raises(UserError, match="no such teacher"):
        with_labels(carried, "teacher/other.tflite", tmp_path)


def test_the_softened_loss_is_the_weighted_sum_of_both():
    """The loss is (1 - w) CE(truth) + w CE(teacher) where both have a class, and CE(teacher) alone where the truth is
    void.
    """
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 21, 4, 6, generator=generator)
    mask, labels = (torch.randint(0, 21, (2, 4, 6), generator=generator) for _ in range(2))
    mask[:, 0], labels[:, 1], mask[:, 2], labels[:, 2] = 255, 255, 255, 255
    weight = 0.3
    truth = F.cross_entropy(logits, mask, ignore_index=255, reduction="none")
    taught = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    expected = (1 - weight) * truth + weight * taught
    expected[:, 0], expected[:, 1], expected[:, 2] = taught[:, 0], truth[:, 1], 0
    assert torch.allclose(pixel_cross_entropy(logits, soften(mask, labels, weight, 255)), expected.mean(), rtol=1e-5)
    assert soften(mask, None, weight, 255) is mask and soften(mask, labels, 0.0, 255) is mask


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", TEACHERS)
def test_it_segments_real_pictures(name):
    """The mIoU is close to that of 120 validation pictures at full size: orientation, range and order of classes are
    right.
    """
    pytest.importorskip("ai_edge_litert")
    from bench.data import open_dataset
    from bench.measure.metrics.segmentation import confusion, miou

    root = Path(os.environ["BENCH_DATA_ROOT"])
    teacher = TFLiteTeacher(root / name)
    dataset = open_dataset("voc2012", root, (257, 257))
    total = np.zeros((21, 21), dtype=np.int64)
    for image_id in dataset.ids[:120]:
        sample = dataset.load(image_id)
        labels = torch.from_numpy(teacher.classes(sample.image.permute(1, 2, 0).numpy()))
        nearest = F.interpolate(labels[None, None].float(), (257, 257), mode="nearest-exact")[0, 0].byte()
        total += confusion(nearest.numpy(), sample.mask.numpy())
    assert miou(total) == pytest.approx(TEACHERS[name], abs=0.05)
