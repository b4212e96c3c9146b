"""A third party's system in 40 lines: means of blocks of the picture, sent uncoded, two values per complex use."""

import math

import torch
import torch.nn.functional as F

from systems.errors import BudgetTooSmall
from systems.interface import Decoded, System, Transmission
from systems.layers.power import POWER_BITS, bits_to_power, power_to_bits, unit_power
from systems.layers.symbol_layout import to_features, to_symbols


class PooledPixels(System):
    """Both ends compute the grid of blocks from the link. The power before scaling is sent as side information, which
    is charged.
    """

    tasks = ("reconstruction",)

    def __init__(self, name="pooled-pixels"):
        self.name, self.variant = name, "v1"

    def grid(self, link):
        uses = link.budget.allowed_uses(self.bits_per_use) - link.budget.side_info_uses(POWER_BITS)
        if uses < 2:
            raise BudgetTooSmall(f"{self.name}: {uses} uses are left for symbols, not 2 or more; raise the budget")
        share = min(1.0, math.sqrt(2 * uses / (3 * link.height * link.width)))
        return uses, max(1, int(link.height * share)), max(1, int(link.width * share))

    def encode(self, images, link):
        uses, height, width = self.grid(link)
        means = F.adaptive_avg_pool2d(images, (height, width)) - 0.5
        symbols, power = unit_power(to_symbols(means, uses))
        return Transmission(symbols, power_to_bits(power))

    def decode(self, received, link):
        _, height, width = self.grid(link)
        symbols, variance = received.equalised()
        power = bits_to_power(received.side_info)
        symbols = symbols / (1 + variance) * power.sqrt()[:, None]  # LMMSE for symbols of unit power
        means = to_features(symbols, 3, height, width) + 0.5
        pictures = F.interpolate(means, (link.height, link.width), mode="bilinear", align_corners=False)
        return Decoded(pictures.clamp(0, 1).to(torch.float32))
