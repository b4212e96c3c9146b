"""Deep JSCC: a convolutional autoencoder with the channel in the middle. The registry makes it as `deepjscc`.

Source: E. Bourtsoulatze, D. B. Kurka, D. Gunduz, "Deep joint source-channel coding for wireless image transmission",
IEEE Trans. Cogn. Commun. Netw., 2019, Fig. 2. The encoder has five 5x5 convolutions with 16/32/32/32/2c channels. The
first two have stride 2. A PReLU with one slope follows each. The decoder mirrors the encoder and ends in a sigmoid.

The network has no SNR input: the publication trains one model per SNR. A training protocol may fix the SNR, and a run
may use one checkpoint per SNR (`--checkpoint deepjscc@1=FILE,deepjscc@7=FILE`). `configs/train/paper.toml` does not: it
trains one model for 0 to 20 dB.

Size `paper` is the published network. These differences remain:
- Any picture size is accepted: sides are padded to multiples of 4 by repeating the edge, and cut afterwards.
- Under fading the receiver equalises, as in every system of the bench. The receiver of the publication does not.
- The weights are initialised after He, scaled to PReLU's slope. The publication does not say how.
- Two neighbouring values of a channel make one symbol. On AWGN another pairing would change nothing.
- Training follows `configs/train`.

Two fields are off in `paper`. With `lmmse` the decoder reads the linear MMSE estimate of the symbols instead of the
equalised symbols. With `linear_path` the network adds to the block-KLT code instead of carrying the whole picture, the
decoder also reads the linear estimate, and there is no sigmoid. The reason: within a few CPU hours, the published
network stays far below this linear code when it starts from random weights. The network's addition at the receiver is
in units of the error that the noise leaves in the linear estimate. The network does not know the SNR. If it added as
much at 20 dB as at 0 dB, it would spoil the picture at 20 dB.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from systems.interface import Decoded, Link, Received, Transmission
from systems.layers.linear_path import BLOCK, LinearPath, start_from_zero
from systems.layers.padding import pad_to_multiple, padded_size
from systems.layers.power import unit_power
from systems.layers.receiver import symbol_estimate
from systems.layers.symbol_layout import to_features, to_symbols
from systems.layers.up_convolution import UpConvolution
from systems.learned import LearnedSystem

STRIDE = 4


@dataclass(frozen=True)
class DeepJSCCConfig:
    """Sizes of the network.

    channels: real feature channels at 1/4 of the picture's size (the paper's 2c); 6 channels give CBR 1/16.
    """

    channels: int = 6
    filters: tuple[int, ...] = (16, 32, 32, 32)  # channels of all layers except the last
    kernel: int = 5  # side of every convolution
    linear_path: bool = False  # the network stands beside the block-KLT code
    lmmse: bool = False  # the receiver reads the linear MMSE estimate of the symbols, not the equalised symbols


class DeepJSCC(LearnedSystem):
    """Reconstruction by the autoencoder of Bourtsoulatze et al., which is not given the SNR."""

    Config = DeepJSCCConfig
    tasks = ("reconstruction",)

    def build(self, config: DeepJSCCConfig) -> None:
        """Create the layers that `config` describes."""
        widths = (3, *config.filters, config.channels)
        strides = (2, 2, *(1,) * (len(widths) - 3))
        layers: list[nn.Module] = []
        for before, after, stride in zip(widths, widths[1:], strides):
            layers += [nn.Conv2d(before, after, config.kernel, stride, config.kernel // 2), nn.PReLU()]
        self.encoder = nn.Sequential(*layers)
        layers = []
        widths = (*widths[:-1], widths[-1] + (3 * STRIDE**2 if config.linear_path else 0))
        for before, after, stride in zip(widths[::-1], widths[-2::-1], strides[::-1]):
            layers += [UpConvolution(before, after, config.kernel, stride), nn.PReLU()]
        layers[-1] = nn.Sigmoid()
        self.decoder = nn.Sequential(*layers)
        _initialise(self)
        if config.linear_path:
            self.linear_path = LinearPath(config.channels * (BLOCK // STRIDE) ** 2)
            self.decoder[-1] = nn.Identity()
            start_from_zero(self.encoder[-2], self.decoder[-2])

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1]."""
        if self.linear_path is not None:
            padded = pad_to_multiple(images, BLOCK)
            added = F.pixel_unshuffle(self.encoder(padded), BLOCK // STRIDE)
            linear, snr_db = self.linear_path.analyse(padded), link.snr_tensor(len(images), images.device)
            return self.linear_path.send_beside(padded, linear, added, snr_db, link, self.name)
        features = self.encoder(pad_to_multiple(images, STRIDE))
        symbols, _ = unit_power(to_symbols(features, link.budget.allowed_uses()))
        return Transmission(symbols)

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures float32 (B, 3, H, W), in [0, 1] outside of training."""
        if self.linear_path is not None:
            snr_db = link.snr_tensor(len(received.symbols), received.symbols.device)
            opened = self.linear_path.open(received, snr_db, link)
            added = self.linear_path.expected_error(opened) * self.decoder(opened.features(STRIDE)).float()
            picture = (opened.picture + added)[..., : link.height, : link.width]
            return Decoded(picture if self.training else picture.clamp(0, 1))
        height, width = padded_size(link.height, link.width, STRIDE)
        symbols = symbol_estimate(received, self.config.lmmse)
        features = to_features(symbols, self.config.channels, height // STRIDE, width // STRIDE)
        return Decoded(self.decoder(features)[..., : link.height, : link.width].float())


def _initialise(module: nn.Module) -> None:
    """He initialisation, from the number of inputs that one output sums. A transposed convolution of stride s sums
    1/s^2 as many.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            taps = layer.kernel_size[0] ** 2 * layer.in_channels
            if isinstance(layer, nn.ConvTranspose2d):
                taps /= layer.stride[0] ** 2
            nn.init.normal_(layer.weight, std=(2 / taps / (1 + 0.25**2)) ** 0.5)  # 0.25: initial slope of PReLU
            nn.init.zeros_(layer.bias)
