"""Writes a finished cell: first the pictures that are kept, then the rows. `bench.sweep.worker.work` calls it.

`bench.results.store` decides where these files lie, and in which form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure.point import Batch
from bench.measure.tasks import TASKS
from bench.results.store import RunStore
from bench.sweep.plan import Cell, WorkUnit


def write_cell(
    root: Path, unit: WorkUnit, cell: Cell, batches: Sequence[Batch], rows: list[dict[str, Any]], kept: dict
) -> None:
    """Write the pictures that are kept, and then the rows: a cell counts as done when its rows are there.

    kept: by id, outputs of pictures uint8 (3, H, W), or labels uint8 (H, W). Raises StorageError.
    """
    store, name = RunStore(root), unit.set_name
    palette = _palette() if TASKS[unit.task].labels else None
    for batch in batches:
        for index, image_id in enumerate(batch.ids):
            if image_id in kept:
                pixels = kept[image_id] if palette else np.ascontiguousarray(kept[image_id].transpose(1, 2, 0))
                store.write_picture(unit.picture_file(image_id, cell), pixels, palette)
                _write_references(store, name, image_id, batch, index)
    store.write_cell(cell.id, rows)


def take_back(root: Path, unit: WorkUnit) -> None:
    """Delete the rows and pictures of a work unit that were written before a check failed. The runner deletes rows that
    it has packed since.
    """
    store = RunStore(root)
    for cell in unit.cells:
        store.cell_path(cell.id).unlink(missing_ok=True)
        for image_id in cell.pictures:
            (root / unit.picture_file(image_id, cell)).unlink(missing_ok=True)


def _write_references(store: RunStore, dataset: str, image_id: str, batch: Batch, index: int) -> None:
    """Write the original, and the true labels, beside the outputs."""
    original = store.picture_name(dataset, image_id, "original")
    if not (store.root / original).is_file():
        store.write_picture(original, batch.reference[index].permute(1, 2, 0).contiguous().numpy())
    truth = store.picture_name(dataset, image_id, "truth")
    if batch.masks is not None and not (store.root / truth).is_file():
        store.write_picture(truth, batch.masks[index].numpy(), _palette())


def _palette() -> list[int]:
    from bench.data.voc import voc_palette

    return voc_palette().flatten().tolist()
