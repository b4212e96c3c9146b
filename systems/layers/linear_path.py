"""The block-KLT code as a path beside a network: training starts at the best linear code instead of at noise.

Called by GenSC, Deep JSCC, ADJSCC and WITT where their configuration has `linear_path`.

At the transmitter the network adds to the coefficients. At the receiver it reads the linear estimate of the picture and
adds to it. The last layers of the network start from zero. Its additions are measured in units of each coefficient's
standard deviation and of the picture's contrast, so that the first training steps do not drown weak coefficients and
flat pictures. The transform itself is not trained.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.errors import BudgetTooSmall
from systems.interface import Link, Received, Transmission
from systems.layers.klt import BlockKLT, lmmse
from systems.layers.padding import padded_size
from systems.layers.power import POWER_BITS, bits_to_power, power_to_bits, unit_power
from systems.layers.symbol_layout import spread_variance, to_features, to_symbols

BLOCK = 16
LEAST_CONTRAST = 0.02  # standard deviation of a picture below which it counts as flat
TYPICAL_CONTRAST = 0.25  # contrast of a photograph: the unit where a picture's own contrast is not used
CORRECTION = 0.1  # size of the network's additions to the linear estimate, in units of the picture's contrast


class Opened(NamedTuple):
    """The linear code as the receiver decodes it, before the network corrects it."""

    symbols: Tensor  # LMMSE estimates, (B, coefficients, h, w); each had variance 1/2 before the channel
    picture: Tensor  # linear estimate, (B, 3, 16h, 16w)
    unit: Tensor  # of the network's corrections to the picture, (B, 1, 1, 1)
    noise: Tensor  # noise variance of each symbol, in the shape of `symbols`
    amplitude: Tensor  # of each sent coefficient as it is received, (B, coefficients, 1, 1)

    def features(self, stride: int) -> Tensor:
        """Symbols and picture as one input of a convolution at 1/stride of the picture's size.

        The result is (B, C, 16h/stride, 16w/stride), where C = coefficients (stride/16)^2 + 3 stride^2.
        """
        symbols = F.pixel_shuffle(self.symbols, BLOCK // stride)
        return torch.cat([symbols, picture_features(self.picture, self.unit, stride)], dim=1)


class PowerAllocation(nn.Sequential):
    """Logarithm of each channel's amplitude, as a small network of the SNR. It starts at 0: the amplitudes of the
    linear code at every SNR.
    """

    def __init__(self, channels: int):
        super().__init__(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, channels))
        start_from_zero(self[-1])

    def forward(self, snr_db: Tensor) -> Tensor:
        """SNR in dB (B,) -> (B, channels), float32."""
        level = snr_db[:, None] / 10 - 1
        return super().forward(torch.cat([level, level.square()], dim=1)).float()


class LinearPath(nn.Module):
    """Fixed analysis and synthesis of 16 x 16 blocks, the LMMSE receiver, and the power of each picture as side
    information.

    coefficients: reals sent per block.
    kept: the largest number of coefficients that `synthesise` takes.
    own_contrast: True: the network's additions are in units of each picture's own contrast. False: in units of the
    contrast of a typical picture.
    allocates: the amplitudes of the sent coefficients follow the SNR, as training finds it best.

    The statistics are those of a Markov source, until `load` (at the start of training) or a checkpoint brings measured
    ones. Eigenvalues are stored as logarithms, because float16 does not have their range.
    """

    basis: Tensor  # (768, kept)
    log_eigenvalues: Tensor  # (kept,)
    mean: Tensor  # (768,)

    def __init__(self, coefficients: int, kept: int | None = None, own_contrast: bool = True, allocates: bool = False):
        super().__init__()
        size, kept = 3 * BLOCK * BLOCK, kept or coefficients
        self.own_contrast = own_contrast
        self.coefficients, self.kept = coefficients, kept
        self.allocation = PowerAllocation(coefficients) if allocates else None
        self.register_buffer("basis", torch.zeros(size, kept))
        self.register_buffer("log_eigenvalues", torch.zeros(kept))
        self.register_buffer("mean", torch.zeros(size))
        self.load(BlockKLT.markov(BLOCK))

    def load(self, klt: BlockKLT) -> None:
        """Copy measured statistics."""
        self.basis.copy_(klt.basis[:, : self.kept])
        self.log_eigenvalues.copy_(klt.eigenvalues[: self.kept].log())
        self.mean.copy_(klt.mean)

    def contrast(self, images: Tensor) -> Tensor:
        """The transmitter's unit of contrast for each picture of (B, 3, H, W): (B, 1, 1, 1)."""
        return contrast(images) if self.own_contrast else images.new_full((len(images), 1, 1, 1), TYPICAL_CONTRAST)

    def received_contrast(self, power: Tensor) -> Tensor:
        """The receiver's unit of contrast, (B, 1, 1, 1), from the power before normalisation (B,)."""
        return (
            received_contrast(power)
            if self.own_contrast
            else torch.full_like(power, TYPICAL_CONTRAST)[:, None, None, None]
        )

    @property
    def klt(self) -> BlockKLT:
        """The statistics as a `BlockKLT`."""
        return BlockKLT(self.basis, self.log_eigenvalues.exp(), self.mean, BLOCK)

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each kept coefficient, one axis: (kept,)."""
        return (self.log_eigenvalues / 2).exp()

    def amplitudes(self, snr_db: Tensor) -> Tensor:
        """Amplitude of each sent coefficient at an SNR in dB (B,), (B, coefficients, 1, 1). It is proportional to
        lambda^(-1/4), unless it follows the SNR.
        """
        amplitudes = self.klt.amplitudes(self.coefficients).expand(len(snr_db), -1)
        if self.allocation is not None:
            amplitudes = amplitudes * self.allocation(snr_db).exp()
        return amplitudes[:, :, None, None]

    @property
    def prior(self) -> Tensor:
        """Variance of each sent coefficient, (coefficients, 1, 1)."""
        return self.log_eigenvalues[: self.coefficients].exp()[:, None, None]

    def analyse(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, 16h, 16w) -> the sent coefficients (B, coefficients, h, w), in units of deviation and
        contrast.
        """
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 keeps 8 bits; weak coefficients need more
            maps = self.klt.analyse(images.float(), self.coefficients)
        return maps / self.unit(self.contrast(images))

    def send(self, images: Tensor, maps: Tensor, gain: Tensor, link: Link, name: str) -> Transmission:
        """Transmit coefficient maps.

        images: (B, 3, 16h, 16w).
        maps: (B, coefficients, h, w), in the units of `analyse`.
        gain: broadcasts against `maps`.
        name: of the system, for messages.
        Raises BudgetTooSmall.
        """
        reals = maps.float() * self.unit(self.contrast(images)) * gain
        symbols, power = unit_power(to_symbols(reals, symbol_uses(link, name)))
        return Transmission(symbols, power_to_bits(power))

    def send_beside(
        self, images: Tensor, linear: Tensor, added: Tensor, snr_db: Tensor, link: Link, name: str
    ) -> Transmission:
        """Transmit the sum of the linear code and the network's additions.

        linear, added: (B, coefficients, h, w) each, in the units of `analyse`. images: (B, 3, 16h, 16w). snr_db: as
        both ends know it, in dB, (B,). Raises BudgetTooSmall.
        """
        return self.send(images, linear + added, self.amplitudes(snr_db), link, name)

    def receive(self, received: Received, link: Link) -> tuple[Tensor, Tensor, Tensor]:
        """Symbol maps (B, coefficients, h, w), the noise variance of each value in the same shape, and the power before
        normalisation (B,).
        """
        height, width = padded_size(link.height, link.width, BLOCK)
        shape = (self.coefficients, height // BLOCK, width // BLOCK)
        symbols, variance = received.equalised()
        return (
            to_features(symbols, *shape),
            spread_variance(variance, *shape),
            bits_to_power(received.side_info),
        )

    def open(self, received: Received, snr_db: Tensor, link: Link) -> Opened:
        """Decode what `send_beside` sent, symbols (B, n), with the LMMSE receiver. snr_db: as `send_beside` got it."""
        maps, noise, power = self.receive(received, link)
        amplitude = self.amplitudes(snr_db) / power.sqrt()[:, None, None, None]
        linear = self.synthesise(lmmse(maps, amplitude, self.prior, noise))
        return Opened(maps / (1 + 2 * noise), linear, self.received_contrast(power), noise, amplitude)

    def expected_error(self, opened: Opened) -> Tensor:
        """Root mean square error per value that the channel's noise leaves in the linear picture, (B, 1, 1, 1).

        It holds for pictures with the variances of the statistics. The error of coefficients that were not sent is not
        included.
        """
        gain = opened.amplitude.square()
        left = self.prior * opened.noise / (gain * self.prior + opened.noise)
        return (left.sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True) / len(self.mean)).sqrt()

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Coefficients in absolute units, (B, C, h, w) with C up to `kept` -> pictures (B, 3, 16h, 16w)."""
        with torch.autocast(coefficients.device.type, enabled=False):
            return self.klt.synthesise(coefficients.float())

    def unit(self, contrast: Tensor) -> Tensor:
        """The size of one unit of each sent coefficient, (B, coefficients, 1, 1), for a contrast (B, 1, 1, 1)."""
        return contrast * self.deviation[: self.coefficients, None, None]


def symbol_uses(link: Link, name: str) -> int:
    """Complex uses that are left for symbols after the side information of the power. Raises
    BudgetTooSmall if none is.
    """
    uses = link.budget.allowed_uses() - link.budget.side_info_uses(POWER_BITS)
    if uses < 1:
        raise BudgetTooSmall(
            f"{name}: the budget of {link.budget.allowed_uses()} uses does not hold {POWER_BITS} bits "
            "of side information and one symbol; raise --cbr or --kbits"
        )
    return uses


def start_from_zero(*layers: nn.Module) -> None:
    """Set all parameters of these layers to 0. At the start the last layers then add nothing to the linear path."""
    for parameter in (parameter for layer in layers for parameter in layer.parameters()):
        nn.init.zeros_(parameter)


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of each picture (B, 3, H, W), at least `LEAST_CONTRAST`: (B, 1, 1, 1).
    The transmitter's unit.
    """
    images = images.float()
    if images.device.type == "cpu":  # torch takes six times as long there for one call over three of four dimensions
        values = torch.stack([picture.std() for picture in images])[:, None, None, None]
    else:
        values = images.std(dim=(1, 2, 3), keepdim=True)
    return values.clamp_min(LEAST_CONTRAST)


def received_contrast(power: Tensor) -> Tensor:
    """The receiver's unit, (B, 1, 1, 1): the amplitude before normalisation, from the power (B,) in the side
    information.
    """
    return power.sqrt()[:, None, None, None].clamp_min(LEAST_CONTRAST)


def picture_features(picture: Tensor, contrast: Tensor, factor: int) -> Tensor:
    """A picture as input of a convolution at 1/factor of its size: (B, 3, H, W) -> (B, 3 factor^2, H/factor, W/factor).

    The mean is subtracted, and the values are in units of `contrast`, (B, 1, 1, 1).
    """
    return F.pixel_unshuffle((picture - picture.mean(dim=(2, 3), keepdim=True)) / contrast, factor)
