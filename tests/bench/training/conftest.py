"""Fixtures for the tests of training: data roots with a protocol of a few steps."""

from pathlib import Path

import pytest
from training_ground import PROTOCOL, photos, uneven_voc


@pytest.fixture
def ground(tmp_path):
    """A data root with smooth random pictures, and a function that writes a protocol of a given number of crops."""
    photos(tmp_path)

    def protocol(images: int) -> Path:
        path = tmp_path / f"protocol{images}.toml"
        path.write_text(PROTOCOL.format(images=images))
        return path

    return tmp_path, protocol


@pytest.fixture
def labelled(ground):
    """`ground` with a small VOC beside the photographs, and a function that writes a protocol of both tasks."""
    root, _ = ground
    uneven_voc(root)

    def protocol(images: int) -> Path:
        path = root / f"both{images}.toml"
        text = PROTOCOL.format(images=images)
        text = text.replace("validate_every = 4", "validate_every = 1").replace("1e-3", "1e-4")
        task = text[text.index("[tasks") :].replace("reconstruction", "segmentation")
        task = task.replace("photos", "voc2012:train").replace('cbr = "1/16"', "kbits = 20")
        path.write_text(text + "\n" + task.replace("crop = 32", "crop = 64"))
        return path

    return root, protocol
