"""The teacher of segmentation: named by the protocol, run by its own package, and better than chance on real
pictures."""

import os
from pathlib import Path

import numpy as np
import pytest

from bench.training.teacher import TFLiteTeacher, load_teacher
from systems.errors import UserError

FLOAT_TEACHER = "teacher/deeplabv3_257_mv_gpu.tflite"


def test_an_unknown_teacher_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown teacher 'resnet'"):
        load_teacher("resnet", tmp_path, "cpu")


def test_a_missing_or_broken_file_is_one_line(tmp_path):
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(UserError, match="no such teacher"):
        load_teacher("teacher/none.tflite", tmp_path, "cpu")
    (tmp_path / "broken.tflite").write_bytes(b"not a model")
    with pytest.raises(UserError, match="not a TensorFlow Lite model"):
        load_teacher("broken.tflite", tmp_path, "cpu")


@pytest.mark.data
def test_it_segments_real_pictures():
    """Near the 0.594 that 120 validation pictures gave at full size: orientation, range and order of classes are
    right."""
    pytest.importorskip("ai_edge_litert")
    from bench.data import open_dataset
    from bench.measure.metrics.scores import confusion, miou

    root = Path(os.environ["BENCH_DATA_ROOT"])
    teacher = TFLiteTeacher(root / FLOAT_TEACHER)
    dataset = open_dataset("voc2012", root)
    total = np.zeros((21, 21), dtype=np.int64)
    for name in dataset.ids[:120]:
        sample = dataset.load(name)
        labels = teacher.segment(sample.image[None].float() / 255).argmax(1)[0].numpy()
        total += confusion(labels, sample.mask.numpy())
    assert miou(total) == pytest.approx(0.594, abs=0.05)  # these are whole at 224 x 224
