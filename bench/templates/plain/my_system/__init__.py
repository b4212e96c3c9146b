"""MySystem: sends means of blocks of the picture, two per complex channel use.

Replace `features` and `pictures` by your own transmitter and receiver. The rest is required of every system:

- `encode` gets pictures float32 (B, 3, H, W) in [0, 1], and may send at most `link.budget.allowed_uses()` complex
  symbols per picture. The mean of |x|^2 over the symbols of each picture must be 1. `unit_power` does this.
- `decode` gets the received symbols, the channel's gain and the noise variance, and nothing else of the picture. It
  runs in another process than `encode`, so an attribute that one sets does not exist in the other.
- Read files and import modules in `__init__` or at the top: before a run calls `encode` and `decode`, all files are
  taken away from the process. If yours must open files or start a program then, set `opens_files = True`; the run will
  say so.
- Both get the same `link`: task, height, width, budget, channel, SNR in dB. Pictures may have any size.
- You may send bits of side information (`Transmission(symbols, side_info)`). The bench charges and sends them; keep
  `link.budget.side_info_uses(bits)` uses free. The power that `unit_power` removed is a use for them: with
  `power_to_bits` and `bits_to_power` of `systems.layers.power`, the receiver need not guess it (`SCALE`).
- Set `encoder_sees_snr = True` if `encode` reads `link.snr_db`. Without it, one transmission serves a whole sweep.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from systems import Decoded, Link, Received, System, Transmission
from systems.layers.power import unit_power
from systems.layers.symbol_layout import to_features, to_symbols


def grid(link: Link) -> tuple[int, int]:
    """Rows and columns of the block means that fit into the budget. Two real numbers go into one use."""
    reals = 2 * link.budget.allowed_uses()
    share = min(1.0, math.sqrt(reals / (3 * link.height * link.width)))
    return max(1, int(link.height * share)), max(1, int(link.width * share))


def features(images: Tensor, link: Link) -> Tensor:
    """Pictures (B, 3, H, W) -> real numbers to send, (B, 3, rows, columns), with a mean of about zero."""
    return F.adaptive_avg_pool2d(images, grid(link)) - 0.5


def pictures(means: Tensor, link: Link) -> Tensor:
    """Received real numbers (B, 3, rows, columns) -> pictures (B, 3, H, W) in [0, 1]."""
    size = (link.height, link.width)
    return F.interpolate(means + 0.5, size, mode="bilinear", align_corners=False).clamp(0, 1)


class MySystem(System):
    """A transmitter and its receiver."""

    tasks = ("reconstruction",)
    variant = "v1"  # change it when results change: it is a column of every table
    label = "My system"  # the name in legends
    SCALE = 0.25  # the receiver's guess of the features' standard deviation, which `unit_power` removed

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """Pictures float32 (B, 3, H, W) in [0, 1] -> symbols complex64 (B, uses)."""
        symbols, _power = unit_power(to_symbols(features(images, link), link.budget.allowed_uses()))
        return Transmission(symbols)

    def decode(self, received: Received, link: Link) -> Decoded:
        """Received symbols (B, uses) -> pictures float32 (B, 3, H, W) in [0, 1]."""
        symbols, variance = received.equalised()  # y / h, and the noise variance of each symbol
        symbols = symbols / (1 + variance) * self.SCALE * math.sqrt(2)  # LMMSE estimate of symbols of unit power
        return Decoded(pictures(to_features(symbols, 3, *grid(link)), link).float())
