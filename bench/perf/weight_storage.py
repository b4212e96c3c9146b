"""Measures the quality that 8-bit storage of weights costs: the same pictures, noise and network, with 16 and with 8
bits per value.

`python -m bench weights loss` calls it. Its results are used for choices, so its pictures must not be from a test set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

import baselines  # noqa: F401  (registers its systems)
from bench.data import open_dataset
from bench.measure.channel import transmit
from bench.measure.metrics.image import mse_per_image, psnr_db
from bench.measure.metrics.segmentation import confusion, miou
from bench.measure.tasks import TASKS
from systems import registry, weight_files
from systems.errors import UserError
from systems.interface import Budget, Link

TEST_SETS = ("kodak", "div2k_valid", "div2k-valid", "hires_val")
CBR, KBITS = 1 / 16, 20


def report_loss(
    name: str,
    size: str,
    checkpoint: str,
    keep: Sequence[str],
    dataset: str,
    data_root: str | None,
    limit: int | None,
    snrs: Sequence[float],
) -> Iterator[str]:
    """One line per task and SNR. Raises UserError for a test set, for a system without weights, and for weights in 8
    bits.
    """
    if dataset.startswith(TEST_SETS) or dataset in ("voc2012", "voc2012:val"):
        raise UserError(
            f"--dataset {dataset} is a test set, which must not be used for choices; use photos, or voc2012:train"
        )
    entry = registry.find(name, parts=True)
    if not entry.learned:
        raise UserError(f"{name} has no network whose weights could be stored in fewer bits")
    kind: Any = entry.load()
    plain, coarse = (kind(name=name, size=size, checkpoint=checkpoint) for _ in range(2))
    if plain.facts.get("storage", {}).get("bits") == 8:
        raise UserError(
            f"{name} in size {size}: these weights are stored in 8 bits already; pass the file with 16 bits"
        )
    state = plain.state_dict()
    weight_files.fit_state(coarse, weight_files.unpacked(weight_files.packed(state, 8, keep)), f"{name} in 8 bits")
    sizes = [
        sum(t.numel() * t.element_size() for t in weight_files.packed(state, bits, keep).values()) for bits in (16, 8)
    ]
    yield f"{name} {size} ({plain.variant}): {sizes[0] / 2**20:.2f} MiB in 16 bits, {sizes[1] / 2**20:.2f} MiB in 8"
    data = open_dataset(dataset, data_root)
    samples = list(data.take(limit) if limit else data)
    for task in plain.tasks:
        if TASKS[task].target == "mask" and samples[0].mask is None:
            continue
        for snr in snrs if plain.sends else (None,):
            yield _compare(plain, coarse, task, snr, samples)


@torch.inference_mode()
def _compare(plain, coarse, task: str, snr: float | None, samples) -> str:
    """Both networks at one operating point. The difference is 8 bits minus 16 bits."""
    scores: list[list[float]] = [[], []]
    tables: list[Any] = [0, 0]
    agree, pixels, labels = 0, 0, TASKS[task].labels
    for index, sample in enumerate(samples):
        image = torch.as_tensor(np.asarray(sample.image)).float()[None] / 255
        height, width = image.shape[-2:]
        budget = Budget.from_cbr(CBR, height, width) if TASKS[task].budget == "cbr" else Budget(bits=1000 * KBITS)
        outputs = []
        for network in (plain, coarse):
            if snr is None:
                outputs.append(network.segment(image))
                continue
            link = Link(task, height, width, budget, snr_db=snr)
            outputs.append(network.decode(transmit(network.encode(image, link), link, [index]), link).output)
        for row, output in enumerate(outputs):
            if labels:
                tables[row] = tables[row] + confusion(output.argmax(1)[0].numpy(), np.asarray(sample.mask))
            else:
                scores[row].append(float(psnr_db(mse_per_image(image, output))[0]))  # type: ignore[index]
        if labels:
            same = outputs[0].argmax(1) == outputs[1].argmax(1)
            agree, pixels = agree + int(same.sum()), pixels + same.numel()
    at = f"{snr:4g} dB" if snr is not None else "no channel"
    if not labels:
        first, second = (np.array(row) for row in scores)
        change, worst = second.mean() - first.mean(), np.abs(second - first).max()
        return (
            f"  {task:14} {at}: {first.mean():.4f} -> {second.mean():.4f} dB, difference {change:+.4f} on the mean of "
            f"{len(first)} pictures, at most {worst:.4f} on one"
        )
    old, new = (100 * float(miou(table)) for table in tables)
    return (
        f"  {task:14} {at}: mIoU {old:.2f} -> {new:.2f}, difference {new - old:+.2f} points, {len(samples)} pictures; "
        f"labels equal at {100 * agree / pixels:.2f} % of the pixels"
    )
