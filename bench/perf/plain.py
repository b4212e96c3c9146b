"""The sweep in its simplest form: for each system, SNR and picture: read, encode, send, decode, score.

`perf sweep` and the tests compare the real sweep with it. It shares systems, channel, seeds and metrics with the real
sweep, but not its order, batches or memory. Nothing is kept from one point to the next except the systems. So equal
rows show that reuse changes no result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.measure.control import send
from bench.measure.metrics.image import ms_ssim, mse_per_image, psnr_db
from bench.measure.metrics.segmentation import confusion, miou
from bench.measure.seeds import draw_seed
from bench.results.tables import read_rows
from bench.spec.identity import build
from bench.spec.request import Resolved
from systems import cache as memo
from systems.interface import Link

KEY = ("system", "task", "dataset", "image_id", "channel", "cbr_target", "bits_target", "snr_db", "rep")
TOLERANCE_DB = 1e-3


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
                        key = (name, figure.task, dataset.name, image_id, figure.channel, _text(figure.cbr),
                               _text(figure.bits), _text(snr_db), str(rep))  # fmt: skip
                        rows[key] = _point(
                            system, figure, dataset, image_id, snr_db, rep, resolved.request.seed, device, salt
                        )
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
            say(f"plain loop: {figure.id} {name}, {time.perf_counter() - start:.1f} s")
    return Plain(rows, seconds)


def _text(value) -> str:
    return "" if value is None else repr(value)


@torch.inference_mode()
def _point(
    system, figure, dataset, image_id: str, snr_db: float, rep: int, base_seed: int, device: str, salt: str
) -> dict:
    memo.forget()
    sample = dataset.load(image_id)
    images = sample.image[None].to(device).float() / 255
    height, width = images.shape[2:]
    link = Link(figure.task, height, width, figure.budget(height, width), figure.channel, snr_db, figure.requirement)
    sent = system.encode(images, link)
    seed = draw_seed(base_seed, dataset.seed_name, image_id, figure.channel, snr_db, rep, "channel", salt)
    received, arrived = send(sent, link, [seed])
    decoded = system.decode(received, link) if bool(arrived) else None  # a lost control word is an outage
    status = "outage" if decoded is None else decoded.report.get("status", ["ok"])[0]
    row = {"status": status, "seed": str(seed), "n_symbols": sent.symbols.shape[1]}
    if figure.task == "reconstruction":
        # The harness replaces the output of an outage by mid-grey, or by the background.
        output = torch.full(images.shape, 128, dtype=torch.uint8) if status == "outage" else decoded.output.cpu()
        mse = float(mse_per_image(sample.image[None], output)[0])
        similarity = ms_ssim(sample.image[None], output)
        return row | {"psnr_db": psnr_db(mse), "ms_ssim": None if similarity is None else float(similarity[0])}
    labels = torch.zeros(height, width, dtype=torch.uint8) if status == "outage" else decoded.output[0].argmax(dim=0)
    return row | {"miou": miou(confusion(labels, sample.mask))}


def compare_rows(run_dir: Path, plain: Plain, elapsed: float, link: str = "") -> str:
    """Compare a run with the loop, as text: whether they found the same, and how long they took. link: of the loop, if
    it is another.
    """
    loop = f"plain loop with link {link}" if link else "plain loop"
    found = {tuple(row[column] for column in KEY): row for row in read_rows(run_dir / "samples.csv")}
    shared = [(found[key], row) for key, row in plain.rows.items() if key in found]
    gaps = [abs(float(a["psnr_db"]) - b["psnr_db"]) for a, b in shared if "psnr_db" in b]
    labels = [abs(float(a["miou"]) - b["miou"]) for a, b in shared if "miou" in b]
    status = sum(a["status"] != b["status"] for a, b in shared)
    total = sum(plain.seconds.values())
    lines = [
        f"{loop}: {len(plain.rows)} rows, {len(shared)} of them in the run's {len(found)}; outages differ in {status}; "
        f"largest difference {max(gaps, default=0.0):.1e} dB PSNR, {max(labels, default=0.0):.1e} mIoU of a picture",
        f"{loop} {total:.1f} s, sweep {elapsed:.1f} s from its start: {total / elapsed:.2f} times as fast",
        *(f"  {name}: {seconds:.1f} s in the plain loop" for name, seconds in plain.seconds.items()),
    ]
    return "\n".join(lines)
