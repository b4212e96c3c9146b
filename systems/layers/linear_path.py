"""The block-KLT code as a path beside a network: training starts at the best linear code instead of at noise.

The network adds to the coefficients before the channel, and to the linear estimate of the picture behind it, which it
may read; its last layers start from zero. What it adds is measured in each coefficient's own deviation and in the
picture's own contrast, so that weak coefficients and flat pictures are not drowned by the first steps. The transform
itself is not trained.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.errors import BudgetTooSmall
from systems.interface import Link, Received, Transmission
from systems.layers import analog
from systems.layers.klt import BlockKLT, lmmse

BLOCK = 16
LEAST_CONTRAST = 0.02  # standard deviation of a picture below which it counts as flat
TYPICAL_CONTRAST = 0.25  # of a photograph: the unit where pictures are not measured in their own
CORRECTION = 0.1  # of the picture's contrast: the size of what a network has to add to the linear estimate


class Opened(NamedTuple):
    """What a receiver makes of the linear code before its network corrects it."""

    symbols: Tensor  # LMMSE estimates (B, coefficients, h, w), variance 1/2 each before the channel
    picture: Tensor  # linear, (B, 3, 16h, 16w)
    unit: Tensor  # of the corrections to the picture, (B, 1, 1, 1)
    noise: Tensor  # variance beside each symbol, as the symbols' shape
    power: Tensor  # of the picture's symbols before normalisation, (B,)

    def features(self, stride: int) -> Tensor:
        """Symbols and picture as one input of a convolution at 1/stride of the picture's size."""
        symbols = F.pixel_shuffle(self.symbols, BLOCK // stride)
        return torch.cat([symbols, picture_features(self.picture, self.unit, stride)], dim=1)


class LinearPath(nn.Module):
    """Fixed analysis and synthesis of 16 x 16 blocks, the LMMSE receiver, and the picture's power as side information.

    coefficients: reals sent per block; kept: coefficients that `synthesise` takes at most. own_contrast: what a network
    adds is measured in each picture's own contrast; False: in that of a typical picture. The statistics are a Markov
    source's until `load` (at the start of training) or a checkpoint brings measured ones; eigenvalues are kept as
    logarithms, since float16 does not hold their range.
    """

    basis: Tensor
    log_eigenvalues: Tensor
    mean: Tensor

    def __init__(self, coefficients: int, kept: int | None = None, own_contrast: bool = True):
        super().__init__()
        size, kept = 3 * BLOCK * BLOCK, kept or coefficients
        self.own_contrast = own_contrast
        self.coefficients, self.kept = coefficients, kept
        self.register_buffer("basis", torch.zeros(size, kept))
        self.register_buffer("log_eigenvalues", torch.zeros(kept))
        self.register_buffer("mean", torch.zeros(size))
        self.load(BlockKLT.markov(BLOCK))

    def load(self, klt: BlockKLT) -> None:
        """Take over fitted statistics."""
        self.basis.copy_(klt.basis[:, : self.kept])
        self.log_eigenvalues.copy_(klt.eigenvalues[: self.kept].log())
        self.mean.copy_(klt.mean)

    def contrast(self, images: Tensor) -> Tensor:
        """The transmitter's unit of each picture, (B, 1, 1, 1)."""
        return contrast(images) if self.own_contrast else images.new_full((len(images), 1, 1, 1), TYPICAL_CONTRAST)

    def received_contrast(self, power: Tensor) -> Tensor:
        """The receiver's unit, (B, 1, 1, 1), from the power before normalisation (B,)."""
        return (
            received_contrast(power)
            if self.own_contrast
            else torch.full_like(power, TYPICAL_CONTRAST)[:, None, None, None]
        )

    @property
    def klt(self) -> BlockKLT:
        """The statistics, as the block-KLT code takes them."""
        return BlockKLT(self.basis, self.log_eigenvalues.exp(), self.mean, BLOCK)

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each kept coefficient, (kept,)."""
        return (self.log_eigenvalues / 2).exp()

    @property
    def amplitudes(self) -> Tensor:
        """Gain of each sent coefficient, (coefficients,): lambda^(-1/4)."""
        return self.klt.amplitudes(self.coefficients)

    @property
    def prior(self) -> Tensor:
        """Variance of each sent coefficient, (coefficients, 1, 1)."""
        return self.log_eigenvalues[: self.coefficients].exp()[:, None, None]

    def analyse(self, images: Tensor) -> Tensor:
        """Images (B, 3, 16h, 16w) -> the sent coefficients in units of deviation and contrast, (B, coefficients, h,
        w)."""
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 keeps 8 bits; weak coefficients need more
            maps = self.klt.analyse(images.float(), self.coefficients)
        return maps / self.unit(self.contrast(images))

    def send(self, images: Tensor, maps: Tensor, gain: Tensor, link: Link, name: str) -> Transmission:
        """Transmit maps, in the units of `analyse`, with a gain that broadcasts against them. Raises BudgetTooSmall."""
        reals = maps.float() * self.unit(self.contrast(images)) * gain
        symbols, power = analog.unit_power(analog.to_symbols(reals, symbol_uses(link, name)))
        return Transmission(symbols, analog.power_to_bits(power))

    def send_beside(self, images: Tensor, linear: Tensor, added: Tensor, link: Link, name: str) -> Transmission:
        """The linear code of the images, as `analyse` gives it, and what a network adds to it, of the same shape."""
        return self.send(images, linear + added, self.amplitudes[:, None, None], link, name)

    def receive(self, received: Received, link: Link) -> tuple[Tensor, Tensor, Tensor]:
        """Symbol maps (B, coefficients, h, w), the noise variance of each, and the picture's power before normalisation
        (B,)."""
        height, width = analog.padded_size(link.height, link.width, BLOCK)
        shape = (self.coefficients, height // BLOCK, width // BLOCK)
        symbols, variance = received.equalised()
        return (
            analog.to_features(symbols, *shape),
            analog.spread_variance(variance, *shape),
            analog.bits_to_power(received.side_info),
        )

    def open(self, received: Received, link: Link) -> Opened:
        """What `send_beside` brought."""
        maps, noise, power = self.receive(received, link)
        amplitude = self.amplitudes[:, None, None] / power.sqrt()[:, None, None, None]
        linear = self.synthesise(lmmse(maps, amplitude, self.prior, noise))
        return Opened(maps / (1 + 2 * noise), linear, self.received_contrast(power), noise, power)

    def expected_error(self, opened: Opened) -> Tensor:
        """Root mean square error per pixel that the channel's noise leaves in the linear picture, (B, 1, 1, 1), of
        pictures with
        the statistics' variances; what was not sent is not in it."""
        gain = self.amplitudes.square()[:, None, None] / opened.power[:, None, None, None]
        left = self.prior * opened.noise / (gain * self.prior + opened.noise)
        return (left.sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True) / len(self.mean)).sqrt()

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Coefficients in absolute units, (B, up to kept, h, w) -> picture (B, 3, 16h, 16w)."""
        with torch.autocast(coefficients.device.type, enabled=False):
            return self.klt.synthesise(coefficients.float())

    def unit(self, contrast: Tensor) -> Tensor:
        """What one unit of each sent coefficient is, absolute, (B, coefficients, 1, 1), from a contrast (B, 1, 1,
        1)."""
        return contrast * self.deviation[: self.coefficients, None, None]


def symbol_uses(link: Link, name: str) -> int:
    """Complex uses left for symbols beside the bits of the power; BudgetTooSmall where there are none."""
    uses = link.budget.allowed_uses() - link.budget.side_info_uses(analog.POWER_BITS)
    if uses < 1:
        raise BudgetTooSmall(
            f"{name}: the budget of {link.budget.allowed_uses()} uses does not hold {analog.POWER_BITS} bits "
            "of side information and one symbol; raise --cbr or --kbits"
        )
    return uses


def start_from_zero(*layers: nn.Module) -> None:
    """A network's last layers: with them at zero only the linear path speaks."""
    for parameter in (parameter for layer in layers for parameter in layer.parameters()):
        nn.init.zeros_(parameter)


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of each picture, (B, 1, 1, 1), at least `LEAST_CONTRAST`; the transmitter's unit."""
    return images.float().std(dim=(1, 2, 3), keepdim=True).clamp_min(LEAST_CONTRAST)


def received_contrast(power: Tensor) -> Tensor:
    """The receiver's unit, (B, 1, 1, 1): the amplitude before normalisation, which the side information carries."""
    return power.sqrt()[:, None, None, None].clamp_min(LEAST_CONTRAST)


def picture_features(picture: Tensor, contrast: Tensor, factor: int) -> Tensor:
    """An estimate of the picture as input of a convolution at 1/factor of its size: (B, 3, H, W) -> (B, 3 factor^2,
    H/factor,
    W/factor), without its mean and in units of the contrast (B, 1, 1, 1)."""
    return F.pixel_unshuffle((picture - picture.mean(dim=(2, 3), keepdim=True)) / contrast, factor)
