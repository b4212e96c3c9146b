"""`adjscc-select`: the stages of ADJSCC on the front end of `linear-select`.

The registry makes it under this name. Beside `gensc-select`, it shows which part of the gain comes from the front end.
`baselines.select.learned` describes the inputs of the networks at both ends, and what they add.

The encoder has the stages of ADJSCC at a quarter of the picture's size. The output of its last stage is added to the
first details of each block. The decoder reads the linear picture and the known facts of each block. The attention
modules see the SNR, as published. Size `small` ships. `--checkpoint none` runs it untrained, which is `linear-select`.

    python -m bench train --systems adjscc-select --size light --config light --data-root DATA
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.adjscc import STRIDE, apply_stages, decoder_stages, encoder_stages
from baselines.select.lapped import BLOCK
from baselines.select.learned import FINE, READ, SelectingSystem, read_linear
from systems.layers.linear_path import start_from_zero

#: Largest addition of either end, in its units. Inverse GDN is quadratic; a sigmoid bounds the published
#: decoder.
MOST = 3.0


@dataclass(frozen=True)
class ADJSCCSelectConfig:
    """Sizes of the networks at both ends."""

    channels: int = 6  # channels of the encoder's output at 1/4 of the picture's size; each is 16 details of a block
    filters: int = 96  # channels of the hidden layers
    attention_reduction: int = 16  # the hidden layer of an AF module has filters / attention_reduction units


class ADJSCCSelect(SelectingSystem):
    """Reconstruction by ADJSCC's stages beside `linear-select`."""

    Config = ADJSCCSelectConfig

    def build_networks(self, config: ADJSCCSelectConfig) -> None:
        """Create the layers."""
        width, reduction = config.filters, config.attention_reduction
        self.sends_features = True
        self.encoder = encoder_stages(config.channels, width, reduction)
        self.decoder = decoder_stages(READ, width, reduction)
        start_from_zero(self.encoder[-1].conv, self.decoder[-1].conv)

    def added(self, images: Tensor, variances: Tensor, snr_db: Tensor) -> Tensor:
        """See `SelectingSystem.added`. The published encoder sees the picture and the SNR alone, not the variances."""
        features = apply_stages(self.encoder, images, snr_db)
        return _bounded(F.pixel_unshuffle(features, BLOCK // STRIDE)).permute(0, 2, 3, 1)

    def correction(self, linear: Tensor, features: Tensor, unit: Tensor, snr_db: Tensor) -> Tensor:
        """See `SelectingSystem.correction`."""
        fine = F.interpolate(unit, scale_factor=BLOCK / FINE, mode="bilinear")
        added = _bounded(apply_stages(self.decoder, torch.cat(read_linear(linear, features, fine), dim=1), snr_db))
        return added * F.interpolate(unit, scale_factor=float(BLOCK), mode="bilinear")


def _bounded(x: Tensor) -> Tensor:
    """Turn the output of a last stage into a bounded addition of the same shape, such as (B, C, h, w)."""
    return MOST * torch.tanh(x.float() / MOST)
