"""`python -m bench perf select`: what each part of `linear-select` gains, on training pictures that were held out.

Codebooks with fewer classes, and with a KLT for each class, are computed from the pictures of
`configs/train/select.toml`. Other variants remove a part of the codebook that ships. All are measured on the pictures
that the protocol holds out, at 224 x 224 and CBR 1/16, with the same noise. No test picture is read.

The gain of networks on the same front end (`gensc-select` with and without a network at the transmitter,
`adjscc-select`) is measured on their trained weights: `--weights FILE`, once for each file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import baselines  # noqa: F401  (registers its systems)
from bench.training.crops import Album
from bench.training.protocol import read_protocol
from bench.training.sources import Library
from bench.training.validate import SIZE, SNRS, reconstruction_psnr
from systems import registry, sidecars

COLUMNS = ("what", "snr_db", "psnr_db", "over_linear_db")
FEWER_CLASSES = (1, 8)
WITH_KLT = 96


def report_select(options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Measure, print, and write `options["csv"]`."""
    from bench.results.csv_tables import table_text
    from bench.util.files import write_atomic

    plan = read_protocol("select")
    task = plan.tasks["reconstruction"]
    library = Library(Path(options["data_root"]))
    pictures = [picture for source in task.sources for picture in library.read(source)]
    album = Album(pictures, task.sources[0], plan.holdout, SIZE)
    rows, floor = [], None
    say("PSNR in dB at " + ", ".join(f"{snr:g}" for snr in SNRS) + f" dB, {len(album.held_out)} pictures")
    trained = [_trained(Path(path)) for path in options["weights"]]  # before minutes are spent on the others
    for what, system in itertools.chain(_systems(album), trained):
        found = list(reconstruction_psnr(system, album, task, plan.channel).values())
        floor = floor or found
        over = [mine - its for mine, its in zip(found, floor, strict=True)]
        rows += [dict(zip(COLUMNS, (what, *facts), strict=True)) for facts in zip(SNRS, found, over, strict=True)]
        say(f"  {what:46} " + "  ".join(f"{a:6.2f} ({b:+.2f})" for a, b in zip(found, over, strict=True)))
    if options["csv"]:
        write_atomic(Path(options["csv"]), table_text(COLUMNS, rows).encode())


def _trained(path: Path) -> tuple[str, Any]:
    """(what it is, system) of a weight file. Raises CheckpointError."""
    facts = sidecars.read_facts(path)
    name, size = str(facts.get("system")), str(facts.get("size"))
    return f"{name}, {size}", registry.create(name, size=size, checkpoint=str(path))


def _systems(album: Album) -> Iterator[tuple[str, Any]]:
    """(description, system), one after the other. A codebook is computed when its turn comes."""
    from baselines.linear_select import CLASSES, ROTATED, LinearSelect
    from baselines.select.ablation import FixedPower, SameEverywhere, without_context
    from baselines.select.codebook import Codebook
    from baselines.select.fit import FitOptions, fit

    def fitted(**changes) -> LinearSelect:
        training = (torch.from_numpy(p.pixels).permute(2, 0, 1).float() / 255 for p in album.training)
        codebook = fit(training, replace(FitOptions(CLASSES, ROTATED), **changes))
        return LinearSelect.of(Codebook.read(codebook.tensors()))

    whole = registry.create("linear-select")
    codebook = whole.codebook
    yield "linear", registry.create("linear")
    yield f"linear-select, {codebook.classes} classes", whole
    yield "... the map coded without its neighbours", LinearSelect.of(without_context(codebook))
    yield "... power by variance^(-1/2) at every SNR", FixedPower.of(codebook)
    yield "... the same coefficients in every block", SameEverywhere.of(codebook)
    yield f"... a KLT of {WITH_KLT} details for each class", fitted(rotated=WITH_KLT)
    for classes in FEWER_CLASSES:
        yield f"... {classes} class{'es' if classes > 1 else ''}", fitted(classes=classes)
