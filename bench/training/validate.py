"""Validation of a system while it trains: mean PSNR and mIoU on held-out pictures, with the harness's channel and
metrics.

The trainer calls it, and `run` calls it for the scores of `linear`. Seeds do not contain the system's name, so all
systems meet the same noise.
"""

from __future__ import annotations

import numpy as np
import torch

from bench.measure.channel import transmit
from bench.measure.metrics.image import mse_per_image, psnr_db
from bench.measure.metrics.segmentation import confusion, miou
from bench.measure.tasks import TASKS
from bench.training.crops import Album, centre
from bench.training.draws import step_seed
from bench.training.protocol import TaskProtocol
from systems.interface import Link

SNRS = (0.0, 10.0, 20.0)
SIZE = 224  # side of the validation pictures
_BATCH = {"cpu": 4, "cuda": 32}  # pictures per batch


def reconstruction_psnr(
    system, album: Album, plan: TaskProtocol, channel: str, snrs=SNRS, device: str = "cpu"
) -> dict[str, float]:
    """Mean PSNR in dB at each SNR, over the centres of the held-out pictures: {"val_psnr_10db": ...}."""
    results = {}
    for snr in snrs:
        values: list[float] = []
        for first, images, _ in _batches(album, device, whole=False):
            link = Link("reconstruction", SIZE, SIZE, plan.validation_budget(SIZE), channel, snr)
            seeds = [step_seed("validation", snr, first + i) for i in range(len(images))]
            output = system.decode(transmit(system.encode(images, link), link, seeds), link).output
            values += list(psnr_db(mse_per_image(images, output.float())))
        results[f"val_psnr_{snr:g}db"] = float(np.mean(values))
    return results


def segmentation_miou(system, album: Album, plan: TaskProtocol, channel: str, snr: float, device: str = "cpu"):
    """mIoU over the whole held-out pictures at one SNR: {"val_miou_10db": ...}.

    A network that stands behind another system's link gets the pictures themselves.
    """
    total = 0
    for first, images, masks in _batches(album, device, whole=True):
        if not system.sends:
            logits = system.segment(images)
        else:
            link = Link("segmentation", SIZE, SIZE, plan.validation_budget(SIZE), channel, snr)
            seeds = [step_seed("validation", first + i) for i in range(len(images))]
            logits = system.decode(transmit(system.encode(images, link), link, seeds), link).output
        for labels, mask in zip(logits.argmax(dim=1).cpu().numpy(), masks, strict=True):
            total = total + confusion(labels, mask.numpy())
    return {f"val_miou_{snr:g}db": float(miou(total))}


@torch.no_grad()  # not inference_mode: the tables that a system keeps from here are part of later training steps
def validate(
    system, albums: dict[str, Album], tasks: dict[str, TaskProtocol], channel: str, snr_range, device: str
) -> dict[str, float]:
    """All validation scores of a system in evaluation mode. A run with one SNR is validated at this SNR only."""
    low, high = snr_range
    results: dict[str, float] = {}
    for task, plan in tasks.items():
        if not albums[task].held_out:
            continue
        if TASKS[task].target == "mask":
            results |= segmentation_miou(system, albums[task], plan, channel, low if low == high else 10.0, device)
        else:
            snrs = (low,) if low == high else SNRS
            results |= reconstruction_psnr(system, albums[task], plan, channel, snrs, device)
    return results


def _batches(album: Album, device: str, whole: bool):
    """(index of the first, images (b, 3, SIZE, SIZE) on the device, masks) of the held-out pictures."""
    size = _BATCH[device.partition(":")[0]] if device.partition(":")[0] in _BATCH else 4
    for first in range(0, len(album.held_out), size):
        pairs = [centre(picture, SIZE, whole) for picture in album.held_out[first : first + size]]
        yield first, torch.stack([image for image, _ in pairs]).to(device), [mask for _, mask in pairs]
