"""ADJSCC: Deep JSCC with gates on its features. The gates depend on the content of the picture and on the SNR.

The registry makes it under the name `adjscc`.

Source: J. Xu, B. Ai, W. Chen, A. Yang, P. Sun, M. Rodrigues, "Wireless image transmission using deep source channel
coding with attention modules", IEEE Trans. Circuits Syst. Video Technol., 2022 (arXiv 2012.00533), Figs. 5 and 6.

The encoder has five convolutions: 9x9 with stride 2, 5x5 with stride 2, and three 5x5. GDN follows each. PReLU and an
attention-feature (AF) module follow each of the first four. The decoder mirrors the encoder with inverse GDN and ends
in a sigmoid.
GDN: J. Balle, V. Laparra, E. Simoncelli, "Density modeling of images using a generalized normalization transformation",
ICLR 2016.

Size `paper` is the published network. These differences remain:
- Any picture size is accepted: sides are padded to multiples of 4 by repeating the edge, and cut afterwards.
- The encoder gets the SNR of the link. The decoder gets the SNR that the picture met; on AWGN both are the same.
- Both ends are told the nearest SNR of the range that the weights were trained at (`LearnedSystem.told`). The authors'
  program is told any SNR as it is.
- Two neighbouring values of a channel make one symbol. The authors pair the first half of a picture's values with the
  second. On AWGN this changes nothing.
- Under fading the receiver always equalises. The authors' program has a slow fading with and one without equalisation.

These differences concern training alone:
- The weights start at a scale that preserves the size of the signal through ten gated stages (`GATED`), and the slopes
  of the PReLUs at 1/4. The authors use the defaults of their libraries, where these slopes start at 0.
- The authors' library stores the Fourier transform of a kernel (RDFT). Here the kernel itself is stored.
- Training follows `configs/train`. The authors train by Adam at 1e-4, with SNRs from 0 to 20 dB.

Three fields are off in `paper`. With `lmmse` the decoder reads the linear MMSE estimate of the symbols instead of the
equalised symbols. With `linear_path` the network adds to the block-KLT code instead of carrying the whole picture, the
decoder also reads the linear estimate, and there is no sigmoid (see `systems.layers.linear_path`). With
`allocates_power` the powers of that code's channels follow the SNR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.interface import Decoded, Link, Received, Transmission
from systems.layers.dense import pointwise
from systems.layers.linear_path import BLOCK, CORRECTION, LinearPath, start_from_zero
from systems.layers.padding import pad_to_multiple, padded_size
from systems.layers.power import unit_power
from systems.layers.receiver import receiver_snr_db, symbol_estimate
from systems.layers.symbol_layout import to_features, to_symbols
from systems.layers.up_convolution import UpConvolution
from systems.learned import LearnedSystem

STRIDE = 4
PEDESTAL = 2.0**-36

# Gain of the initial weights of a convolution that follows a PReLU (slope 1/4, which keeps (1 + 1/16)/2 of the power)
# and a gate that starts at 1/2. Without it, ten stages shrink the signal to a thousandth, and training stays at a grey
# picture for long.
GATED = 2 / ((1 + 0.25**2) / 2) ** 0.5


@dataclass(frozen=True)
class ADJSCCConfig:
    """Sizes of the network.

    channels: real feature channels at 1/4 of the picture's size (`tcn` in the publication); 6 channels give CBR 1/16.
    attention_reduction: the hidden layer of an AF module has filters / attention_reduction units.
    """

    channels: int = 6
    filters: int = 256  # channels of the hidden layers
    attention_reduction: int = 16
    linear_path: bool = False  # the network stands beside the block-KLT code
    allocates_power: bool = False  # the powers of the block-KLT code's channels follow the SNR
    lmmse: bool = False  # the receiver reads the linear MMSE estimate of the symbols, not the equalised symbols


class _LowerBound(torch.autograd.Function):
    """max(x, bound). Where x is below the bound, only gradients that raise x pass."""

    @staticmethod
    def forward(context, x: Tensor, bound: float) -> Tensor:
        """max(x, bound), in the shape of x."""
        context.save_for_backward(x)
        context.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient of x: zero where x is below the bound and the step would lower it further."""
        (x,) = context.saved_tensors
        return gradient * ((x >= context.bound) | (gradient < 0)), None


class GDN(nn.Module):
    """Generalised divisive normalisation, y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2); the inverse multiplies
    instead.

    beta > 0 and gamma >= 0 hold because sqrt(value + pedestal) is stored: squaring it makes the value positive, and the
    pedestal keeps the gradient at zero finite. Source: Balle et al., 2016.
    """

    def __init__(self, channels: int, inverse: bool = False, beta_min: float = 1e-6, gamma_start: float = 0.1):
        super().__init__()
        self.inverse = inverse
        self.beta_bound = (beta_min + PEDESTAL) ** 0.5
        self.beta = nn.Parameter(torch.full((channels,), (1 + PEDESTAL) ** 0.5))
        self.gamma = nn.Parameter((gamma_start * torch.eye(channels) + PEDESTAL).sqrt())

    def norm_squared(self, x: Tensor) -> Tensor:
        """beta_i + sum_j gamma_ij x_j^2: (B, C, h, w) -> float32 (B, C, h, w)."""
        beta = _LowerBound.apply(self.beta, self.beta_bound).square() - PEDESTAL
        gamma = _LowerBound.apply(self.gamma, PEDESTAL**0.5).square() - PEDESTAL
        # beta is added in float32, outside the convolution: in bfloat16 a large sum would swallow a small beta.
        return pointwise(x.square(), gamma).float() + beta[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> float32 (B, C, h, w)."""
        norm = self.norm_squared(x)
        return x * norm.sqrt() if self.inverse else x * norm.rsqrt()


class AttentionFeature(nn.Module):
    """Multiplies each channel by a gate, computed from the means of all channels and the SNR (Xu et al., Fig. 5)."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.squeeze = nn.Linear(channels + 1, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, features: Tensor, snr_db: Tensor) -> Tensor:
        """(B, C, h, w), SNR in dB (B,) -> (B, C, h, w)."""
        context = torch.cat([features.mean(dim=(2, 3)), snr_db[:, None]], dim=1)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(context))))
        return features * gate[:, :, None, None]


class Stage(nn.Module):
    """Convolution (up- or down-sampling) and (inverse) GDN, then PReLU and AF unless it is the last stage (reduction
    None).
    """

    def __init__(
        self, before: int, after: int, kernel: int, stride: int, up: bool, reduction: int | None, gain: float = GATED
    ):
        super().__init__()
        if up:
            self.conv = UpConvolution(before, after, kernel, stride)
        else:
            self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2)
        taps = kernel**2 * before / (stride**2 if up else 1)  # number of inputs that one output sums
        nn.init.normal_(self.conv.weight, std=gain * taps**-0.5)
        nn.init.zeros_(self.conv.bias)
        self.gdn = GDN(after, inverse=up)
        self.prelu = nn.PReLU(after) if reduction else None
        self.attention = AttentionFeature(after, reduction) if reduction else None

    def features(self, x: Tensor) -> Tensor:
        """The part before the attention, which does not depend on the SNR. (B, before, h, w) -> (B, after, h', w')."""
        x = self.gdn(self.conv(x))
        return x if self.prelu is None else self.prelu(x)

    def forward(self, x: Tensor, snr_db: Tensor) -> Tensor:
        """(B, before, h, w), SNR in dB (B,) -> (B, after, h', w')."""
        x = self.features(x)
        return x if self.attention is None else self.attention(x, snr_db)


def encoder_stages(channels: int, width: int, reduction: int) -> nn.ModuleList:
    """The published encoder: pictures (B, 3, H, W) -> (B, channels, H/4, W/4). `apply_stages` applies it.

    width: channels inside. reduction: as in `ADJSCCConfig.attention_reduction`.
    """
    return nn.ModuleList(
        [
            Stage(3, width, 9, 2, False, reduction, gain=1),
            Stage(width, width, 5, 2, False, reduction),
            Stage(width, width, 5, 1, False, reduction),
            Stage(width, width, 5, 1, False, reduction),
            Stage(width, channels, 5, 1, False, None),
        ]
    )


def decoder_stages(inputs: int, width: int, reduction: int) -> nn.ModuleList:
    """The published decoder: (B, inputs, H/4, W/4) -> (B, 3, H, W). width, reduction: as above."""
    return nn.ModuleList(
        [
            Stage(inputs, width, 5, 1, True, reduction, gain=1),
            Stage(width, width, 5, 1, True, reduction),
            Stage(width, width, 5, 1, True, reduction),
            Stage(width, width, 5, 2, True, reduction),
            Stage(width, 3, 9, 2, True, None),
        ]
    )


def apply_stages(stages: Iterable[nn.Module], x: Tensor, snr_db: Tensor) -> Tensor:
    """Apply stages one after another: x (B, C, h, w), SNR in dB (B,) -> (B, C', h', w')."""
    for stage in stages:
        x = stage(x, snr_db)
    return x


class ADJSCC(LearnedSystem):
    """Reconstruction by the SNR-adaptive autoencoder of Xu et al."""

    Config = ADJSCCConfig
    tasks = ("reconstruction",)
    encoder_sees_snr = True

    def build(self, config: ADJSCCConfig) -> None:
        """Create the layers that `config` describes."""
        width, reduction = config.filters, config.attention_reduction
        inputs = config.channels + (3 * STRIDE**2 if config.linear_path else 0)
        self.encoder = encoder_stages(config.channels, width, reduction)
        self.decoder = decoder_stages(inputs, width, reduction)
        if config.linear_path:
            self.linear_path = LinearPath(config.channels * (BLOCK // STRIDE) ** 2, allocates=config.allocates_power)
            start_from_zero(self.encoder[-1].conv, self.decoder[-1].conv)

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """See `System.prepare`. images: float32 (B, 3, H, W) in [0, 1].

        The first step ends before the first attention, because everything after it depends on the SNR.
        """
        padded = pad_to_multiple(images, STRIDE if self.linear_path is None else BLOCK)
        linear = None if self.linear_path is None else self.linear_path.analyse(padded)
        first, *others = self.encoder
        fine = first.features(padded)

        def send(at: Link) -> Transmission:
            snr_db = self.shared_snr_db(at, images)
            features = apply_stages(others, first.attention(fine, snr_db), snr_db)
            if linear is not None:
                added = F.pixel_unshuffle(features, BLOCK // STRIDE)
                return self.linear_path.send_beside(padded, linear, added, snr_db, at, self.name)
            symbols, _ = unit_power(to_symbols(features, at.budget.allowed_uses()))
            return Transmission(symbols)

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1]."""
        return self.prepare(images, link)(link)

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures float32 (B, 3, H, W), in [0, 1] outside of training."""
        snr_db = self.told(receiver_snr_db(received))
        if self.linear_path is not None:
            opened = self.linear_path.open(received, self.shared_snr_db(link, snr_db), link)
            added = CORRECTION * opened.unit * apply_stages(self.decoder, opened.features(STRIDE), snr_db).float()
            picture = (opened.picture + added)[..., : link.height, : link.width]
            return Decoded(picture if self.training else picture.clamp(0, 1))
        height, width = padded_size(link.height, link.width, STRIDE)
        symbols = symbol_estimate(received, self.config.lmmse)
        features = to_features(symbols, self.config.channels, height // STRIDE, width // STRIDE)
        return Decoded(
            torch.sigmoid(apply_stages(self.decoder, features, snr_db).float())[..., : link.height, : link.width]
        )
