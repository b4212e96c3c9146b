"""ADJSCC: Deep JSCC whose features are gated by attention over the picture's content and the SNR.

Source: J. Xu, B. Ai, W. Chen, A. Yang, P. Sun, M. Rodrigues, "Wireless image transmission using deep source channel
coding with attention modules", IEEE Trans. Circuits Syst. Video Technol., 2022 (arXiv 2012.00533), Figs. 5 and 6.
Encoder: 9x9 stride 2, 5x5 stride 2, three 5x5; GDN after each, PReLU after the first four and an attention-feature (AF)
module after each PReLU. The decoder mirrors it with inverse GDN and ends in a sigmoid.
GDN: J. Balle, V. Laparra, E. Simoncelli, "Density modeling of images using a generalized normalization
transformation", ICLR 2016.

Size `paper` is the published network. What still differs around it:
- any picture size: sides are grown to multiples of 4 by repeating the edge, and cut;
- the encoder's SNR is the link's; the decoder's is the one that the picture met, the same on AWGN;
- up-sampling is a transposed convolution with the published kernels; the authors' library crops it otherwise at the
  border;
- initialisation: scaled so that ten gated stages keep the signal's size (`GATED`); theirs is their library's.

Fields that are off in `paper`: `lmmse` (the decoder reads the linear MMSE estimate of the symbols instead of the
equalised ones) and `linear_path`: the network adds to the block-KLT code instead of carrying the picture alone, its
decoder reads the linear estimate beside the symbols, and the sigmoid is left out: see `systems.layers.linear_path`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.interface import Decoded, Link, Received, Transmission
from systems.layers import analog
from systems.layers.linear_path import BLOCK, CORRECTION, LinearPath, start_from_zero
from systems.learned import LearnedSystem

STRIDE = 4
PEDESTAL = 2.0**-36

# Start-up gain of a convolution behind PReLU (slope 1/4, keeps (1 + 1/16)/2 of the power) and an open-by-half gate:
# without it ten stages shrink the signal a thousandfold and training idles on a grey picture.
GATED = 2 / ((1 + 0.25**2) / 2) ** 0.5


@dataclass(frozen=True)
class ADJSCCConfig:
    """channels: real feature channels at a quarter of the picture's size (`tcn`); 6 carry CBR 1/16.

    attention_reduction: the AF module's hidden layer has filters / attention_reduction units.
    """

    channels: int = 6
    filters: int = 256  # channels inside
    attention_reduction: int = 16
    linear_path: bool = False  # the network stands beside the block-KLT code
    lmmse: bool = False


class _LowerBound(torch.autograd.Function):
    """max(x, bound), whose gradient still lets an x below the bound climb back."""

    @staticmethod
    def forward(context, x: Tensor, bound: float) -> Tensor:
        """max(x, bound), of x's shape."""
        context.save_for_backward(x)
        context.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        """Zero where x is below the bound and would sink further."""
        (x,) = context.saved_tensors
        return gradient * ((x >= context.bound) | (gradient < 0)), None


class GDN(nn.Module):
    """Generalised divisive normalisation, y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2), or its inverse (times).

    beta > 0 and gamma >= 0 are held by storing sqrt(value + pedestal): the square keeps the sign, the pedestal the
    gradient at zero. (B, C, h, w) -> float32 (B, C, h, w).
    """

    def __init__(self, channels: int, inverse: bool = False, beta_min: float = 1e-6, gamma_start: float = 0.1):
        super().__init__()
        self.inverse = inverse
        self.beta_bound = (beta_min + PEDESTAL) ** 0.5
        self.beta = nn.Parameter(torch.full((channels,), (1 + PEDESTAL) ** 0.5))
        self.gamma = nn.Parameter((gamma_start * torch.eye(channels) + PEDESTAL).sqrt())

    def norm_squared(self, x: Tensor) -> Tensor:
        """beta_i + sum_j gamma_ij x_j^2, float32."""
        beta = _LowerBound.apply(self.beta, self.beta_bound).square() - PEDESTAL
        gamma = _LowerBound.apply(self.gamma, PEDESTAL**0.5).square() - PEDESTAL
        # The bias is added outside: in bfloat16 a sum of squares would lose a small beta.
        return F.conv2d(x.square(), gamma[:, :, None, None]).float() + beta[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> float32 (B, C, h, w)."""
        norm = self.norm_squared(x)
        return x * norm.sqrt() if self.inverse else x * norm.rsqrt()


class AttentionFeature(nn.Module):
    """Gate of each channel from the channels' means and the SNR in dB. (B, C, h, w), (B,) -> (B, C, h, w)."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.squeeze = nn.Linear(channels + 1, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, features: Tensor, snr_db: Tensor) -> Tensor:
        """(B, C, h, w), SNR in dB (B,) -> (B, C, h, w)."""
        context = torch.cat([features.mean(dim=(2, 3)), snr_db[:, None]], dim=1)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(context))))
        return features * gate[:, :, None, None]


class _Stage(nn.Module):
    """Convolution (up- or down-sampling) and (inverse) GDN; PReLU and AF too unless it is the last (reduction None)."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int, up: bool, reduction: int | None, gain: float = GATED
    ):
        super().__init__()
        padding = kernel // 2
        if up:
            self.conv = nn.ConvTranspose2d(before, after, kernel, stride, padding, output_padding=stride - 1)
        else:
            self.conv = nn.Conv2d(before, after, kernel, stride, padding)
        taps = kernel**2 * before / (stride**2 if up else 1)  # inputs that one output really sums
        nn.init.normal_(self.conv.weight, std=gain * taps**-0.5)
        nn.init.zeros_(self.conv.bias)
        self.gdn = GDN(after, inverse=up)
        self.prelu = nn.PReLU(after) if reduction else None
        self.attention = AttentionFeature(after, reduction) if reduction else None

    def features(self, x: Tensor) -> Tensor:
        """What the SNR has no part in."""
        x = self.gdn(self.conv(x))
        return x if self.prelu is None else self.prelu(x)

    def forward(self, x: Tensor, snr_db: Tensor) -> Tensor:
        """(B, before, h, w), SNR in dB (B,) -> (B, after, h', w')."""
        x = self.features(x)
        return x if self.attention is None else self.attention(x, snr_db)


class ADJSCC(LearnedSystem):
    """Reconstruction by Xu's SNR-adaptive autoencoder."""

    Config = ADJSCCConfig
    tasks = ("reconstruction",)
    encoder_sees_snr = True

    def build(self, config: ADJSCCConfig) -> None:
        width, reduction = config.filters, config.attention_reduction
        self.encoder = nn.ModuleList(
            [
                _Stage(3, width, 9, 2, False, reduction, gain=1),
                _Stage(width, width, 5, 2, False, reduction),
                _Stage(width, width, 5, 1, False, reduction),
                _Stage(width, width, 5, 1, False, reduction),
                _Stage(width, config.channels, 5, 1, False, None),
            ]
        )
        self.decoder = nn.ModuleList(
            [
                _Stage(
                    config.channels + (3 * STRIDE**2 if config.linear_path else 0), width, 5, 1, True, reduction, gain=1
                ),
                _Stage(width, width, 5, 1, True, reduction),
                _Stage(width, width, 5, 1, True, reduction),
                _Stage(width, width, 5, 2, True, reduction),
                _Stage(width, 3, 9, 2, True, None),
            ]
        )
        self.linear_path = LinearPath(config.channels * (BLOCK // STRIDE) ** 2) if config.linear_path else None
        if self.linear_path is not None:
            start_from_zero(self.encoder[-1].conv, self.decoder[-1].conv)

    def _decode(self, features: Tensor, snr_db: Tensor) -> Tensor:
        for stage in self.decoder:
            features = stage(features, snr_db)
        return features.float()

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        padded = analog.pad_to_multiple(images, STRIDE if self.linear_path is None else BLOCK)
        linear = None if self.linear_path is None else self.linear_path.analyse(padded)
        first, *others = self.encoder
        fine = first.features(padded)

        def send(at: Link) -> Transmission:
            snr_db = self.told(at.snr_tensor(len(images), images.device))
            features = first.attention(fine, snr_db)
            for stage in others:
                features = stage(features, snr_db)
            if linear is not None:
                added = F.pixel_unshuffle(features, BLOCK // STRIDE)
                return self.linear_path.send_beside(padded, linear, added, at, self.name)
            symbols, _ = analog.unit_power(analog.to_symbols(features, at.budget.allowed_uses()))
            return Transmission(symbols)

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        return self.prepare(images, link)(link)

    def decode(self, received: Received, link: Link) -> Decoded:
        snr_db = self.told(analog.receiver_snr_db(received))
        if self.linear_path is not None:
            opened = self.linear_path.open(received, link)
            added = CORRECTION * opened.unit * self._decode(opened.features(STRIDE), snr_db)
            picture = (opened.picture + added)[..., : link.height, : link.width]
            return Decoded(picture if self.training else picture.clamp(0, 1))
        height, width = analog.padded_size(link.height, link.width, STRIDE)
        symbols = analog.estimate(received, self.config.lmmse)
        features = analog.to_features(symbols, self.config.channels, height // STRIDE, width // STRIDE)
        return Decoded(torch.sigmoid(self._decode(features, snr_db))[..., : link.height, : link.width])
