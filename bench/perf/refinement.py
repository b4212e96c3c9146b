"""Measures the gain of GenSC's refinement steps: PSNR and MS-SSIM against the number of steps, paired over pictures
with the same noise.

`python -m bench refine` calls it. One step from the received symbols gives the MMSE estimate, which the PSNR figures
use. More steps follow the DDIM path from the channel's noise to none (`systems.gensc.reconstruction_decoder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch

from bench.analysis.intervals import bootstrap_mean
from bench.data import Dataset
from bench.measure.channel import transmit
from bench.measure.metrics.image import ms_ssim, mse_per_image, psnr_db
from bench.measure.seeds import draw_seed
from bench.util.progress import Progress
from systems import Budget, Link
from systems.gensc.system import GenSC

COLUMNS = ("steps", "snr_db", "n_images", "psnr_db", "psnr_low", "psnr_high", "ms_ssim", "ms_ssim_low", "ms_ssim_high",
           "psnr_gain_db", "gain_low", "gain_high")  # fmt: skip


@torch.inference_mode()
def refinement_table(
    system: GenSC,
    dataset: Dataset,
    snr_db: Sequence[float],
    steps: Sequence[int],
    cbr: float = 1 / 16,
    channel: str = "awgn",
    seed: int = 0,
) -> pd.DataFrame:
    """One row per number of steps and SNR: means with 95 % intervals over pictures, and the difference in PSNR to the
    first of `steps`.

    The noise is that of a `run` without salt, so a row with one step equals the run's.
    """
    values: dict[tuple[int, float], list[tuple[float, float]]] = {(n, snr): [] for n in steps for snr in snr_db}
    progress = Progress("refine", len(dataset), "pictures")
    for index, sample in enumerate(dataset, 1):
        reference = sample.image[None]
        height, width = reference.shape[-2:]
        start = Link("reconstruction", height, width, Budget.from_cbr(cbr, height, width), channel, float("nan"))
        send = system.prepare(reference.float() / 255, start)
        for snr in snr_db:
            link = start.at(snr_db=snr)
            noise = draw_seed(seed, dataset.name, sample.image_id, channel, snr, 0, "channel")
            received = transmit(send(link), link, [noise])
            for count in steps:
                system.config = replace(system.config, refinement_steps=count)
                output = system.decode(received, link).output
                similarity = ms_ssim(reference, output)
                score = float("nan") if similarity is None else float(similarity[0])
                values[count, snr].append((float(psnr_db(mse_per_image(reference, output))[0]), score))
        progress.update(index)
    progress.close()
    rows = []
    for (count, snr), pairs in values.items():
        psnr, similarity = zip(*pairs)
        first = [value for value, _ in values[steps[0], snr]]
        shown = [bootstrap_mean(list(v)) for v in (psnr, similarity, [a - b for a, b in zip(psnr, first)])]
        rows.append([count, snr, len(pairs), *(x for i in shown for x in (i.mean, i.low, i.high))])
    return pd.DataFrame(rows, columns=list(COLUMNS))
