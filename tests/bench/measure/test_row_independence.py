"""Tests that each row of every registered system depends on its own picture only.

`test_point` tests the check itself, on systems that break the rule.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from skimage import data

import baselines  # noqa: F401  (registers its systems)
from bench.measure.calls import LocalEnd
from bench.measure.point import Conditions
from bench.measure.row_independence import check_rows
from systems import registry

# marked slow: each takes seconds on a slow machine, and similar systems are always tested
SLOW = ("avif-ldpc-16qam", "linear-select")
CASES = [
    pytest.param(name, task, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in registry.names()
    for task in registry.tasks_of(name)
]
SIZE = (64, 80)


def picture() -> torch.Tensor:
    """A photograph with a face and fine detail, uint8 (3, 64, 80)."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float()
    return F.interpolate(photo, SIZE, mode="bilinear", antialias=True)[0].round().to(torch.uint8)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_rows_of_a_registered_system_stand_alone(name, task):
    """Learned systems have random weights: a dependence on the batch shows with any weights. A CBR of 1/4 leaves room
    for a codec's headers.
    """
    learned = registry.find(name).learned
    system = registry.create(name, **({"checkpoint": "none"} if learned else {}))
    cbr, bits = (1 / 4, None) if task == "reconstruction" else (None, 20000)
    check_rows(LocalEnd(system), Conditions(task, "images", "awgn", cbr, bits, ""), picture(), 12.0)
