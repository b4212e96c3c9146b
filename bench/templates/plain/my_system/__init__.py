"""MySystem: means of blocks of the picture, sent as they are, two to a complex channel use.

Replace `features` and `pictures` by your own transmitter and receiver. The rest is the contract:

- `encode` gets pictures float32 (B, 3, H, W) in [0, 1] and must send at most `link.budget.allowed_uses()` complex
  symbols per picture. The mean of |x|^2 over the symbols of each picture must be 1. `unit_power` sees to it.
- `decode` gets the received symbols, the channel's gain and the noise variance, and nothing else of the picture. It
  runs in another process than `encode`: an attribute that one sets is not there in the other.
- Both get the same `link`: task, height, width, budget, channel, SNR in dB. A picture has any size.
- Bits of side information may go along (`Transmission(symbols, side_info)`); the bench charges and sends them.
- Set `encoder_sees_snr = True` if `encode` reads `link.snr_db`; without it one transmission serves a whole sweep.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from systems import Decoded, Link, Received, System, Transmission
from systems.layers.analog import to_features, to_symbols, unit_power


def grid(link: Link) -> tuple[int, int]:
    """Rows and columns of the block means that fit the budget: two real numbers go into one use."""
    reals = 2 * link.budget.allowed_uses()
    share = min(1.0, math.sqrt(reals / (3 * link.height * link.width)))
    return max(1, int(link.height * share)), max(1, int(link.width * share))


def features(images: Tensor, link: Link) -> Tensor:
    """Pictures (B, 3, H, W) -> what is sent, real (B, 3, rows, columns), about zero mean."""
    return F.adaptive_avg_pool2d(images, grid(link)) - 0.5


def pictures(means: Tensor, link: Link) -> Tensor:
    """What arrived, real (B, 3, rows, columns) -> pictures (B, 3, H, W) in [0, 1]."""
    size = (link.height, link.width)
    return F.interpolate(means + 0.5, size, mode="bilinear", align_corners=False).clamp(0, 1)


class MySystem(System):
    """A transmitter and its receiver."""

    tasks = ("reconstruction",)
    variant = "v1"  # raise it when results change: it is a column of every table
    label = "My system"  # what legends show
    SCALE = 0.25  # what the receiver takes for the standard deviation of the features, which `unit_power` removed

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """Pictures float32 (B, 3, H, W) in [0, 1] -> symbols complex64 (B, uses)."""
        symbols, _power = unit_power(to_symbols(features(images, link), link.budget.allowed_uses()))
        return Transmission(symbols)

    def decode(self, received: Received, link: Link) -> Decoded:
        """Received symbols -> pictures float32 (B, 3, H, W) in [0, 1]."""
        symbols, variance = received.equalised()  # y / h, and the noise variance that each symbol then has
        symbols = symbols / (1 + variance) * self.SCALE * math.sqrt(2)  # LMMSE estimate of symbols of unit power
        return Decoded(pictures(to_features(symbols, 3, *grid(link)), link).float())
