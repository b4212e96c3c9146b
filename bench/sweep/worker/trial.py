"""Carries out the checks before a run writes anything, which `bench.sweep.preflight` plans.

`bench.sweep.worker.work` calls it. Only errors of the user count here. A system with other faults reports them in its
cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch

from bench.data import Dataset
from bench.measure.point import Conditions
from bench.sweep.plan import WorkUnit
from bench.sweep.preflight import Reading, Trial
from bench.sweep.worker.systems import Systems
from bench.util.files import shown
from systems.errors import FAULTS, BudgetTooSmall, UserError
from systems.weight_files import seeded


def read_pictures(reading: Reading, datasets: dict[str, Dataset]) -> None:
    """Read the pictures once. Raises UserError if one cannot be read."""
    for image_id in reading.image_ids:
        datasets[reading.dataset].load(image_id)


def try_system(
    trial: Trial,
    systems: Systems,
    datasets: dict[str, Dataset],
    conditions_of: Callable[[WorkUnit], Conditions],
    device: str,
) -> None:
    """Let a system encode without noise. Raises the UserErrors of the system, and all errors of building it.

    conditions_of: the conditions of a work unit; no salt is needed.
    """
    system = systems[trial.system]
    for unit, image_ids, (lowest, highest) in trial.points:
        conditions, dataset = conditions_of(unit), datasets[unit.dataset]
        systems.start_clock(system)
        snrs = sorted({lowest, highest}) if system.encoder_sees_snr else [math.nan]
        for image_id, snr_db in product(image_ids, snrs):
            image = dataset.load(image_id).image[None].to(device).float() / 255
            with torch.inference_mode(), seeded(0):
                try:
                    system.encode(image, conditions.link(*image.shape[2:], snr_db))
                except BudgetTooSmall as error:
                    size = f"{image.shape[3]}x{image.shape[2]} pixels"
                    raise BudgetTooSmall(f"{error} (picture {shown(image_id)} of {unit.dataset}, {size})") from error
                except UserError:
                    raise
                except FAULTS:  # a fault at one point must not hide an error of the user at another
                    continue
