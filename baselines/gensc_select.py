"""`gensc-select`: a learned receiver on top of `linear-select`, of the transformer blocks of GenSC's decoder.

The transmitter is that of `linear-select`. The receiver's network reads the linear picture, the variance that each
block's coefficients have by its class, and how much of it the channel left unknown. It adds to the linear picture, in
units of what is unknown there: where everything arrived it may change little, where nothing did it may change much. Its
last layer starts from zero, so that untrained it *is* `linear-select`.

In the words of the paper, the class map is what the feature selection network of the source KB selects, made spatial;
the codebook is the knowledge base that both ends hold.

    python -m bench train --systems gensc-select --config small --data-root DATA

No weights ship: `--checkpoint none` runs it untrained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.linear_select import Estimate, LinearSelect
from baselines.select.allocation import STEPS
from baselines.select.codebook import DETAILS
from baselines.select.lapped import BLOCK, SIZE
from systems.errors import CheckpointError
from systems.gensc.reconstruction_decoder import DiTBlock, TimeEmbedding, diffusion_time, grid_positions
from systems.interface import Decoded, Link, Received, Transmission
from systems.layers.analog import pad_to_multiple
from systems.layers.linear_path import start_from_zero
from systems.learned import LearnedSystem

BANDS = (0, 3, 6, 12, 24, 48, 96, 192, 384, DETAILS)  # details by falling variance, about an octave each
LEAST_UNIT = 1e-3  # of a pixel's standard deviation: a quarter of a grey level
STRIDE = 8  # pixels of the picture per token and axis


@dataclass(frozen=True)
class GenSCSelectConfig:
    """Sizes of the receiver's network: depth in transformer blocks, width in channels, attention heads, window in
    tokens of 8 x 8 pixels, time_dim of the embedded noise level."""

    depth: int = 8
    width: int = 192
    heads: int = 6
    window: int = 8
    time_dim: int = 128


class GenSCSelect(LearnedSystem):
    """Reconstruction only. Any CBR and any budget is served by one set of weights, as by `linear-select`."""

    Config = GenSCSelectConfig
    tasks = ("reconstruction",)
    encoder_sees_snr = True
    joins_snr = False  # how long the class map is, and so how many symbols there are, depends on the SNR

    def build(self, config: GenSCSelectConfig) -> None:
        """Create the layers."""
        object.__setattr__(self, "front", LinearSelect())  # no part of the weights
        self.register_buffer("codebook_sha256", _digest(self.front.facts["sha256"]))
        inputs = 3 * STRIDE**2 + 2 * (len(BANDS) - 1) + 1
        self.embed = nn.Linear(inputs, config.width)
        self.time = TimeEmbedding(config.time_dim)
        self.blocks = nn.ModuleList(
            DiTBlock(config.width, config.heads, config.window, config.window // 2 * (index % 2), config.time_dim)
            for index in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.merge = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.picture = nn.Conv2d(config.width, 3 * STRIDE**2, 1)
        start_from_zero(self.picture)

    def fill(self, checkpoint: str) -> tuple[dict, str]:
        """As in `Network`; weights that were trained on another codebook are refused."""
        own = self.codebook_sha256.clone()
        found = super().fill(checkpoint)
        if not torch.equal(own, self.codebook_sha256):
            raise CheckpointError(
                f"{self.name}: the weights were trained on another codebook than the one that ships; train them again"
            )
        return found

    def knowledge(self) -> tuple[str, ...]:
        """What the network knows before it sees a training picture."""
        return (*super().knowledge(), LinearSelect.fitted_knowledge)

    # --- transmitter --------------------------------------------------------------------------------------------------

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """That of `linear-select`."""
        return self.front.prepare(images, link)

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """Images float32 (B, 3, H, W) -> symbols and side information.

        In training every picture meets its own SNR, and rows of the batch differ in length: short ones end in zeros.
        """
        if not isinstance(link.snr_db, Tensor) or link.snr_db.ndim == 0:
            return self.front.encode(images, link)
        sent = [
            self.front.encode(image[None], link.at(snr_db=snr))
            for image, snr in zip(images, link.snr_db.tolist(), strict=True)
        ]
        uses = max(one.symbols.shape[1] for one in sent)
        bits = max(one.side_info.shape[1] for one in sent)
        return Transmission(
            torch.cat([F.pad(one.symbols, (0, uses - one.symbols.shape[1])) for one in sent]),
            torch.cat([F.pad(one.side_info, (0, bits - one.side_info.shape[1])) for one in sent]),
        )

    # --- receiver -----------------------------------------------------------------------------------------------------

    def decode(self, received: Received, link: Link) -> Decoded:
        """Received symbols -> images float32 (B, 3, H, W); in [0, 1] outside of training."""
        estimates = self._estimates(received, link)
        device = received.symbols.device
        linear = self.front.pictures(estimates).to(device)
        known = torch.from_numpy(np.stack([self._known(one) for one in estimates])).to(device)
        snr = received.csi.abs().square().mean(dim=1) / received.noise_var
        pictures = linear + self._correction(linear, known, diffusion_time(snr.clamp_min(1e-6).rsqrt()))
        pictures = pictures[..., : link.height, : link.width]
        return Decoded(pictures if self.training else pictures.clamp(0, 1))

    def _estimates(self, received: Received, link: Link) -> list[Estimate]:
        if not isinstance(link.snr_db, Tensor) or link.snr_db.ndim == 0:
            return self.front.estimate(received, link)
        found = []
        for row, snr in enumerate(link.snr_db.tolist()):
            own, at = slice(row, row + 1), link.at(snr_db=snr)
            uses = self.front.plan(at).uses
            csi = received.csi[own] if received.csi.shape[1] == 1 else received.csi[own, :uses]
            part = Received(received.symbols[own, :uses], csi, received.noise_var[own], received.side_info[own])
            found += self.front.estimate(part, at)
        return found

    def _known(self, one: Estimate) -> np.ndarray:
        """Of each block, float32 (rows, columns, 2 bands + 1): logarithms of the variance and of the posterior error in
        each band of details, in decades, and the posterior error per pixel value, absolute."""
        rows, columns = one.classes.shape
        skip = 3 * rows * columns
        variances = np.exp2(one.levels[skip:].reshape(rows, columns, DETAILS).astype(np.float64) / STEPS)
        errors = one.errors[skip:].reshape(rows, columns, DETAILS)
        starts = list(BANDS[:-1])
        features = [np.add.reduceat(values, starts, axis=-1) / np.diff(BANDS) for values in (variances, errors)]
        of_means = one.errors[:skip].reshape(3, -1).mean(axis=1).sum()  # the same for all blocks: they were mixed
        whole = (errors.sum(axis=-1) + of_means) / SIZE
        logarithms = np.log10(np.concatenate(features, axis=-1) + 1e-7) / 2 + 2
        return np.concatenate([logarithms, whole[..., None]], axis=-1).astype(np.float32)

    def _correction(self, linear: Tensor, known: Tensor, time: Tensor) -> Tensor:
        """linear (B, 3, H, W), sides multiples of 16; known (B, H/16, W/16, features); time (B,) -> (B, 3, H, W)."""
        unit = known[..., -1:].clamp_min(LEAST_UNIT**2).sqrt().permute(0, 3, 1, 2)
        unit = F.interpolate(unit, scale_factor=BLOCK / STRIDE, mode="bilinear")
        spread = known.repeat_interleave(BLOCK // STRIDE, dim=1).repeat_interleave(BLOCK // STRIDE, dim=2)
        values = F.pixel_unshuffle(linear - 0.5, STRIDE)
        features = torch.cat([values.permute(0, 2, 3, 1), spread[..., :-1], unit.log10().permute(0, 2, 3, 1)], dim=-1)
        tokens = self.embed(features)
        height, width = tokens.shape[1:3]
        tokens = pad_to_multiple(tokens.permute(0, 3, 1, 2), self.config.window).permute(0, 2, 3, 1)
        tokens = tokens + grid_positions(*tokens.shape[1:], self.config.window, tokens.device)
        embedded = self.time(time)
        for block in self.blocks:
            tokens = block(tokens, embedded)
        tokens = self.norm(tokens[:, :height, :width]).permute(0, 3, 1, 2)
        added = self.picture(F.gelu(self.merge(tokens))).float()
        return F.pixel_shuffle(added * unit, STRIDE)


def _digest(sha256: str) -> Tensor:
    """A hexadecimal digest as uint8 (32,)."""
    return torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8)
