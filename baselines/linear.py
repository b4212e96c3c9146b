"""`linear`: a fixed analog code, the block KLT. A learned system for pictures should beat it.

The registry makes it under this name. It sends 16 x 16 blocks with amplitudes proportional to lambda^(-1/4) to an LMMSE
receiver (`systems.layers.klt`, which names the source). Only the statistics of the training pictures are learned. The
receiver gets the power of each picture before normalisation as 8 bits of side information, which are charged. Without
this number the code loses 1 to 6 dB.

The GenSC paper has no such system, so there is no size `paper`. Sides are padded to multiples of 16 by repeating the
edge, and cut afterwards. As many coefficients of each block are sent as the budget holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from systems import weight_files
from systems.errors import CheckpointError
from systems.interface import Decoded, Link, Received, Transmission
from systems.layers.klt import BlockKLT, lmmse
from systems.layers.linear_path import BLOCK, symbol_uses
from systems.layers.padding import pad_to_multiple, padded_size
from systems.layers.power import bits_to_power, power_to_bits, unit_power
from systems.layers.symbol_layout import spread_variance, to_features, to_symbols
from systems.learned import FittedSystem


class Linear(FittedSystem):
    """The block-KLT analog code.

    checkpoint: "shipped", or a file of statistics made by `python -m bench train --systems linear`. Raises
    CheckpointError.
    """

    tasks = ("reconstruction",)
    fitted_size = f"klt{BLOCK}"
    fitted_knowledge = f"covariance of {BLOCK}x{BLOCK} blocks"

    def __init__(self, name: str = "linear", checkpoint: str = "shipped"):
        super().__init__()
        self.name = name
        size = 3 * BLOCK * BLOCK
        self.register_buffer("basis", torch.zeros(size, size))
        self.register_buffer("eigenvalues", torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        path = (
            weight_files.shipped("baselines", "linear", self.fitted_size)
            if checkpoint == "shipped"
            else Path(checkpoint)
        )
        if path is None:
            raise CheckpointError(
                "linear: the file of its statistics, baselines/weights/linear-klt16.safetensors, is missing; restore it"
            )
        self.facts = weight_files.load_weights(self, path)
        self.eigenvalues.exp_()  # stored as logarithms, because float16 does not have their range
        self.variant = f"{self.fitted_size}-{self.facts['sha256'][:8]}"
        self.eval()

    @classmethod
    def fit(cls, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
        """Measure the statistics of pictures float32 (3, H, W) in [0, 1].

        Returns `basis` (768, 768), `eigenvalues` (768,) as logarithms, and `mean` (768,).
        """
        klt = BlockKLT.fit(pictures, BLOCK)
        return {"basis": klt.basis, "eigenvalues": klt.eigenvalues.log(), "mean": klt.mean}

    @property
    def klt(self) -> BlockKLT:
        """The statistics as a `BlockKLT`."""
        return BlockKLT(self.basis, self.eigenvalues, self.mean, BLOCK)

    def _layout(self, link: Link) -> tuple[int, int, int, int]:
        """Uses for symbols, coefficients per block, rows of blocks, columns of blocks. The same at both ends."""
        height, width = padded_size(link.height, link.width, BLOCK)
        rows, columns = height // BLOCK, width // BLOCK
        uses = symbol_uses(link, self.name)
        coefficients = min(-(-2 * uses // (rows * columns)), len(self.eigenvalues))
        return uses, coefficients, rows, columns

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1]."""
        uses, coefficients, _, _ = self._layout(link)
        maps = self.klt.analyse(pad_to_multiple(images, BLOCK), coefficients)
        maps = maps * self.klt.amplitudes(coefficients)[:, None, None]
        symbols, power = unit_power(to_symbols(maps, uses))
        return Transmission(symbols, power_to_bits(power))

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures float32 (B, 3, H, W) in [0, 1]."""
        _, coefficients, rows, columns = self._layout(link)
        symbols, variance = received.equalised()
        maps = to_features(symbols, coefficients, rows, columns)
        noise = spread_variance(variance, coefficients, rows, columns)
        power = bits_to_power(received.side_info)[:, None, None, None]
        amplitude = self.klt.amplitudes(coefficients)[:, None, None] / power.sqrt()
        prior = self.klt.eigenvalues[:coefficients, None, None]
        estimate = lmmse(maps, amplitude, prior, noise)
        pictures = self.klt.synthesise(estimate)[..., : link.height, : link.width]
        return Decoded(pictures.clamp(0, 1))

    def describe(self) -> dict:
        """See `System.describe`."""
        keys = ("images_seen", "data", "knowledge", "licence", "sha256", "commit")
        return {
            "system": self.name,
            "variant": self.variant,
            "parameters": 0,
            **{key: self.facts[key] for key in keys if key in self.facts},
        }
