"""Tests that WITT computes what the authors' program computes, from files that this program wrote.

The files are not in this repository. The environment variable `BENCH_VECTORS` names their folder. Each file holds
`state.*` (weights under the authors' names), `image`, `feature_<SNR>db`, `feature_without_modnet`, `received_<SNR>db`
and `picture_<SNR>db`.
"""

import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from baselines import import_weights
from baselines.witt import WITT
from systems import Budget, Link, weight_files
from systems.layers.power import POWER_BITS

LIMIT = 1e-4
FOLDER = Path(os.environ.get("BENCH_VECTORS") or Path(__file__).parents[3] / "shared" / "field" / "vectors")


def vectors() -> list[Path]:
    """The files of the folder that hold weights of the authors' WITT."""
    from safetensors import safe_open

    found = []
    for path in sorted(FOLDER.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if any(key.startswith("state.encoder.layers.0.blocks.0.attn") for key in file.keys()):
                found.append(path)
    return found


FILES = vectors()


@pytest.fixture(params=FILES or [None], ids=lambda path: path.stem if path else "none")
def official(request):
    """One file: its tensors, and our network with its weights."""
    if request.param is None:
        pytest.skip(f"BENCH_VECTORS is unset or holds no file of the authors' WITT (looked in {FOLDER.name})")
    tensors = load_file(request.param)
    made = import_weights.witt({key[6:]: value for key, value in tensors.items() if key.startswith("state.")})
    system = WITT("witt", "paper", checkpoint="none", config=made.config)
    weight_files.fit_state(system, made.state, request.param.name)
    return tensors, system


def snrs(tensors, kind: str) -> list[tuple[str, float]]:
    """The keys `<kind>_<SNR>db` and their SNRs."""
    found = [(key, re.fullmatch(kind + r"_(-?[\d.]+)db", key)) for key in tensors]
    return [(key, float(match[1])) for key, match in found if match]


@torch.inference_mode()
def test_features_and_pictures_are_those_of_the_authors_program(official):
    tensors, system = official
    image = tensors["image"]
    tokens = system.encoder.tokens(image)
    compared = 0
    for key, snr in snrs(tensors, "feature"):
        ours = system.encoder(tokens, torch.full((len(image),), snr)).flatten(2).transpose(1, 2)
        assert (ours - tensors[key]).abs().max() < LIMIT, key
        compared += 1
    if "feature_without_modnet" in tensors:
        assert (system.encoder.head(tokens).flatten(1, 2) - tensors["feature_without_modnet"]).abs().max() < LIMIT
        compared += 1
    height, width = tokens.shape[1:3]
    for key, snr in snrs(tensors, "picture"):
        received = tensors[key.replace("picture", "received")].transpose(1, 2).unflatten(2, (height, width))
        ours = system.decoder(received, torch.full((len(image),), snr))
        assert (ours - tensors[key]).abs().max() < LIMIT, key
        compared += 1
    assert compared >= 2


@torch.inference_mode()
def test_what_goes_on_the_air_is_the_authors_feature_scaled_to_unit_power(official):
    """Checked through the public interface: symbols are pairs of feature values, and only the power is scaled."""
    tensors, system = official
    image = tensors["image"]
    key, snr = snrs(tensors, "feature")[0]
    uses = tensors[key][0].numel() // 2
    link = Link(
        "reconstruction", *image.shape[2:], Budget(uses=uses + Budget(uses=uses).side_info_uses(POWER_BITS)), snr_db=snr
    )
    sent = system.encode(image, link)
    wanted = tensors[key].transpose(1, 2).flatten(1)
    wanted = wanted / wanted.square().mean(dim=1, keepdim=True).sqrt() / 2**0.5
    assert sent.symbols.shape[1] == uses
    assert (torch.view_as_real(sent.symbols).flatten(1) - wanted).abs().max() < LIMIT
