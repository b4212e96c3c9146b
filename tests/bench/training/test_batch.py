"""Tests of the batches that training draws."""

import numpy as np
import pytest
import torch
from skimage.data import astronaut, coffee
from training_ground import HEAD, learner

import baselines  # noqa: F401  (registers its systems)
from baselines.digital.codec import decode, encode_under
from bench.training.crops import Album
from bench.training.picture import Picture
from bench.training.protocol import read_protocol
from bench.training.run import build


@pytest.mark.parametrize(
    ("name", "size", "share"), [("fcn", "small", 1.0), ("fcn", "small", 0.0), ("deeplab-jscc", "small", 1.0)]
)
def test_a_network_behind_a_digital_link_sees_what_jpeg_leaves(tmp_path, name, size, share):
    """It sees JPEG files of the requested bytes. A network with a link of its own sees the crops themselves."""
    path = tmp_path / "p.toml"
    path.write_text(
        HEAD
        + f"""[tasks.segmentation]
images_seen = 4
stages = [{{ until = 1.0, crop = 64, batch = 4 }}]
sources = ["voc2012:train"]
kbits = 20
coded = {share}
coded_bytes = [700, 900]
"""
    )
    photos = [photo[100:164, 200:264] for photo in (astronaut(), coffee())]
    mask = np.ones((64, 64), np.uint8)
    data = {"segmentation": Album([Picture(f"p/{i}", p, mask) for i, p in enumerate(photos)], "p", 0, 64, True)}
    one = learner(build(name, size, "none"), read_protocol(path), data)
    given = one.draw().images
    plain = [np.ascontiguousarray(side) for photo in photos for side in (photo, photo[:, ::-1])]
    if name == "fcn" and share:
        files = {encode_under(picture, most) for picture in plain for most in range(700, 901)}
        plain = [decode(file.payload, "jpeg", 64, 64) for file in files]
    possible = [torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255 for picture in plain]
    assert all(min((crop - other).abs().max() for other in possible) < 1e-6 for crop in given)
