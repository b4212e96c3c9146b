"""Fixtures shared by the tests of the digital systems and of the bounds."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data


@pytest.fixture(scope="module")
def pictures():
    """Two crops of photographs, float32 (2, 3, 96, 96)."""
    photos = [Image.fromarray(photo).resize((96, 96)) for photo in (data.astronaut(), data.coffee())]
    return torch.from_numpy(np.stack([np.asarray(photo) for photo in photos])).permute(0, 3, 1, 2).float() / 255
