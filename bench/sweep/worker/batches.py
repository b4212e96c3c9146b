"""The batches of a work unit. They depend on the block, the plan and the options, never on the engine.

`bench.sweep.worker.work` calls it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from bench.data import Dataset
from bench.measure.point import Batch, Point
from bench.sweep.plan import Cell, WorkUnit

#: Most pixels per batch, unless --batch is given: as many as fit a CPU's caches, or fill a GPU.
BATCH_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 22}


def batches_of(unit: WorkUnit, dataset: Dataset, given: int | None, device: str) -> list[Batch]:
    """The pictures of a work unit, those of one size together, in order. given: as for `batch_size`."""
    sizes: dict[tuple[int, int], list] = {}
    for image_id in unit.image_ids:
        sample = dataset.load(image_id)
        sizes.setdefault(tuple(sample.image.shape[1:]), []).append(sample)
    batches = []
    for (height, width), samples in sizes.items():
        step = batch_size(height, width, given, device)
        for start in range(0, len(samples), step):
            batches.append(Batch.of(samples[start : start + step], unit.task, device))
    return batches


def batch_size(height: int, width: int, given: int | None, device: str) -> int:
    """Number of pictures per batch: `given` by --batch, or as many as `BATCH_PIXELS` allows."""
    return given or max(1, BATCH_PIXELS[torch.device(device).type] // (height * width))


def point_of(cell: Cell) -> Point:
    """The operating point and repetition of a cell."""
    return Point(cell.snr_db, cell.rep)


def groups_of(
    unit: WorkUnit, batches: Sequence[Batch], joined: bool, given: int | None, device: str
) -> Iterator[Sequence[Cell]]:
    """The cells that go through the decoder in one batch.

    They depend on the plan and the options, not on which cells are missing.
    joined: whether the decoder takes several SNRs at once (`System.joins_snr`).
    """
    points, per = unit.points or unit.cells, 1
    if joined:
        per = max(1, min(batch_size(*batch.size, given, device) // len(batch.ids) for batch in batches))
    return (points[start : start + per] for start in range(0, len(points), per))
