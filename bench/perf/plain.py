"""The whole bench in one loop: for each system, SNR and picture, it encodes, audits, sends, decodes and scores.

Nothing is kept from one point to the next but the systems themselves. The loop shares the parts (systems, audit,
channel, seeds, metrics) with the sweep, and none of its order, batches or memory. So equal rows mean that reuse changed
no result: `python -m bench perf sweep --plain` and the tests compare the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.measure.audit import audit
from bench.measure.control_channel import send
from bench.measure.metrics.image import ms_ssim, mse_per_image, psnr_db
from bench.measure.metrics.segmentation import confusion, miou
from bench.measure.seeds import NOISE_ID, draw_seed
from bench.measure.tasks import TASKS
from bench.spec.identity import build
from bench.spec.request import Resolved
from systems import result_cache
from systems.interface import Link

KEY = ("system", "task", "dataset", "image_id", "channel", "cbr_target", "bits_target", "snr_db", "rep")


@dataclass(frozen=True)
class Plain:
    """The results of the loop.

    rows: by KEY as text.
    seconds: wall time by system, without building it.
    """

    rows: dict[tuple[str, ...], dict]
    seconds: dict[str, float]


def plain_loop(
    resolved: Resolved, device: str = "cpu", say: Callable[[str], None] = lambda text: None, salt: str = ""
) -> Plain:
    """Measure every point of every figure. salt: that of the run to compare with, as its manifest holds it."""
    rows, seconds = {}, {}
    for figure in resolved.figures:
        dataset = resolved.datasets[figure.dataset]
        for name in figure.systems:
            system = build(name, resolved.systems[name].options).to(device)
            start = time.perf_counter()
            for snr_db in figure.snr_db:
                for rep in range(figure.reps):
                    for image_id in dataset.ids:
                        # Public names and the run's salt, and not the system: every system meets the same noise.
                        names = (dataset.seed_name, image_id, figure.channel, snr_db, rep)
                        seed, noise_id = (
                            draw_seed(resolved.request.seed, *names, stream, salt) for stream in ("channel", NOISE_ID)
                        )
                        key = (name, figure.task, dataset.name, image_id, figure.channel, _text(figure.cbr),
                               _text(figure.bits), _text(snr_db), str(rep))  # fmt: skip
                        rows[key] = _point(system, figure, dataset.load(image_id), snr_db, seed, device)
                        rows[key]["noise_id"] = str(noise_id)
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
            say(f"plain loop: {figure.id} {name}, {time.perf_counter() - start:.1f} s")
    return Plain(rows, seconds)


def _text(value) -> str:
    return "" if value is None else repr(value)


@torch.inference_mode()
def _point(system, figure, sample, snr_db: float, seed: int, device: str) -> dict:
    """One picture at one SNR. The row has the columns of samples.csv that the comparison needs."""
    result_cache.forget()
    images = sample.image[None].to(device).float() / 255
    height, width = images.shape[2:]
    link = Link(figure.task, height, width, figure.budget(height, width), figure.channel, snr_db, figure.requirement)

    # The transmitter: complex symbols, and side information, which is sent as a coded control word.
    sent = system.encode(images, link)
    spent = audit(system, sent, link)  # power, budget, alphabet; raises AuditError

    # The channel: y = h x + n. A control word that does not arrive is an outage.
    received, arrived = send(sent, link, [seed])

    # The receiver sees the symbols, the channel and the control word.
    decoded = system.decode(received, link) if bool(arrived) else None
    status = "outage" if decoded is None else decoded.report.get("status", ["ok"])[0]
    row = {"status": status, "n_symbols": spent.symbol_uses}

    # The score. The harness paints an outage, whatever the system put there: mid-grey, or the background.
    lost = TASKS[figure.task].outage_level
    if figure.task == "reconstruction":
        output = torch.full(images.shape, lost, dtype=torch.uint8) if status == "outage" else decoded.output.cpu()
        mse = float(mse_per_image(sample.image[None], output)[0])
        similarity = ms_ssim(sample.image[None], output)
        return row | {"psnr_db": psnr_db(mse), "ms_ssim": None if similarity is None else float(similarity[0])}
    painted = torch.full((height, width), lost, dtype=torch.uint8)
    labels = painted if status == "outage" else decoded.output[0].argmax(dim=0)
    return row | {"miou": miou(confusion(labels, sample.mask))}
