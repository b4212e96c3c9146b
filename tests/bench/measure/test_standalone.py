"""Every registered system's rows stand alone; `test_point` holds the check itself to systems that break the rule."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from skimage import data

import baselines  # noqa: F401  (registers its systems)
from bench.measure.ends import LocalEnd
from bench.measure.point import Conditions
from bench.measure.standalone import check_rows
from systems import registry

SLOW = ("avif-ldpc-16qam", "linear-select")  # each takes seconds on a slow machine, and has siblings that do not
CASES = [
    pytest.param(name, task, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in registry.names()
    for task in registry.tasks_of(name)
]
SIZE = (64, 80)


def picture() -> torch.Tensor:
    """A face and detail, uint8 (3, 64, 80)."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float()
    return F.interpolate(photo, SIZE, mode="bilinear", antialias=True)[0].round().to(torch.uint8)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_rows_of_a_registered_system_stand_alone(name, task):
    """Learned systems with random weights: what leans on the batch does so with any. 1/4 carries a codec's headers."""
    learned = registry.find(name).learned
    system = registry.create(name, **({"checkpoint": "none"} if learned else {}))
    cbr, bits = (1 / 4, None) if task == "reconstruction" else (None, 20000)
    check_rows(LocalEnd(system), Conditions(task, "images", "awgn", cbr, bits, ""), picture(), 12.0)
