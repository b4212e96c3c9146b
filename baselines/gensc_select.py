"""`gensc-select`: the transmitter of `linear-select` with a learned receiver, built from the blocks of GenSC's decoder.

The registry makes it under this name. The receiver's network reads three things: the linear picture, the variances of
each block's coefficients (known from the block's class), and the variance that is still unknown after the channel. It
adds to the linear picture, in units of the unknown standard deviation. Where everything arrived it can change little,
and where nothing arrived it can change much. Its last layer starts from zero, so that without training the system *is*
`linear-select`.

In the terms of the paper, the class map is a selection by the source KB's feature selection network, made separately
for each block. The codebook is the knowledge base that both ends hold. The system has no publication of its own.

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

BANDS = (0, 3, 6, 12, 24, 48, 96, 192, 384, DETAILS)  # bands of details by falling variance, each about an octave wide
LEAST_UNIT = 1e-3  # smallest unknown standard deviation of a pixel value: a quarter of a grey level
STRIDE = 8  # pixels of the picture per token and axis


@dataclass(frozen=True)
class GenSCSelectConfig:
    """Sizes of the receiver's network.

    depth: transformer blocks.
    width: channels.
    heads: attention heads.
    window: side of an attention window, in tokens of 8 x 8 pixels.
    time_dim: width of the embedding of the noise level.
    """

    depth: int = 8
    width: int = 192
    heads: int = 6
    window: int = 8
    time_dim: int = 128


class GenSCSelect(LearnedSystem):
    """Reconstruction only. One set of weights serves every CBR and every budget, as in `linear-select`."""

    Config = GenSCSelectConfig
    tasks = ("reconstruction",)
    encoder_sees_snr = True
    joins_snr = False  # the class map's length, and so the number of symbols, depends on the SNR

    def build(self, config: GenSCSelectConfig) -> None:
        """Create the layers that `config` describes."""
        object.__setattr__(self, "front", LinearSelect())  # so that its tensors are no part of the weights
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
        """See `Network.fill`. Raises CheckpointError also for weights that were trained with another codebook."""
        own = self.codebook_sha256.clone()
        found = super().fill(checkpoint)
        if not torch.equal(own, self.codebook_sha256):
            raise CheckpointError(
                f"{self.name}: the weights were trained on another codebook than the one that ships; train them again"
            )
        return found

    def knowledge(self) -> tuple[str, ...]:
        """See `Network.knowledge`."""
        return (*super().knowledge(), LinearSelect.fitted_knowledge)

    # --- transmitter --------------------------------------------------------------------------------------------------

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """See `LinearSelect.prepare`. images: float32 (B, 3, H, W) in [0, 1]."""
        return self.front.prepare(images, link)

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1].

        In training every picture has its own SNR, and the rows of a batch differ in length. Short rows are filled with
        zeros.
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
        """See `System.decode`. Symbols (B, n) -> pictures float32 (B, 3, H, W), in [0, 1] outside of training."""
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
        """What the receiver knows of each block: float32 (rows, columns, 2 bands + 1).

        For each band of details: the logarithms of the variance and of the posterior error, in decades. Last: the
        posterior error per pixel value, in absolute units.
        """
        rows, columns = one.classes.shape
        skip = 3 * rows * columns
        variances = np.exp2(one.levels[skip:].reshape(rows, columns, DETAILS).astype(np.float64) / STEPS)
        errors = one.errors[skip:].reshape(rows, columns, DETAILS)
        starts = list(BANDS[:-1])
        features = [np.add.reduceat(values, starts, axis=-1) / np.diff(BANDS) for values in (variances, errors)]
        # one value for all blocks, because the means were transformed together
        of_means = one.errors[:skip].reshape(3, -1).mean(axis=1).sum()
        whole = (errors.sum(axis=-1) + of_means) / SIZE
        logarithms = np.log10(np.concatenate(features, axis=-1) + 1e-7) / 2 + 2
        return np.concatenate([logarithms, whole[..., None]], axis=-1).astype(np.float32)

    def _correction(self, linear: Tensor, known: Tensor, time: Tensor) -> Tensor:
        """The network's addition to the linear picture, (B, 3, H, W).

        linear: (B, 3, H, W), both sides multiples of 16.
        known: (B, H/16, W/16, features).
        time: (B,).
        """
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
    """A hexadecimal sha256 as uint8 (32,)."""
    return torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8)
