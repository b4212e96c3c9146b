"""MySystem: a small convolutional transmitter and receiver, trained through the channel.

What `LearnedSystem` needs from you:

- `Config`: a frozen dataclass with one field per choice. `build(config)` creates the layers.
- `encode` and `decode` are differentiable. `python -m bench train` runs the same code that is measured later.
- Do not clamp the picture in training mode, because a clamp stops the gradient of every pixel outside [0, 1]. Clamp it
  in evaluation mode: `picture if self.training else picture.clamp(0, 1)`.
- Training draws one SNR per picture, so `link.snr_db` may be a tensor (B,). `link.snr_tensor(B)` always is one.
- `received.equalised()` gives y / h and the noise variance of each symbol. `lmmse_symbols(received)` makes noisy
  symbols smaller.
- Read files and import modules in `build` or at the top: before a run calls `encode` and `decode`, all files are taken
  away from the process. If yours must open files then, set `opens_files = True`; the run will say so.
- Sizes: the defaults of `Config` are the only size until you add others. Weights are a file: `--checkpoint FILE`, or
  shipped in this package as `my_system/weights/my-system-small.safetensors` with its JSON file.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from systems import Decoded, Link, Received, Transmission
from systems.layers.padding import pad_to_multiple, padded_size
from systems.layers.power import unit_power
from systems.layers.receiver import lmmse_symbols
from systems.layers.symbol_layout import to_features, to_symbols
from systems.learned import LearnedSystem

STRIDE = 4


@dataclass(frozen=True)
class Config:
    """channels: real channels at 1/4 of the picture's size; 6 channels give CBR 1/16. width: of the hidden layers."""

    channels: int = 6
    width: int = 32


class MySystem(LearnedSystem):
    """A learned transmitter, and its receiver, which is given the SNR."""

    Config = Config
    tasks = ("reconstruction",)
    label = "My system"  # the name in legends

    def build(self, config: Config) -> None:
        """Create the layers."""
        self.encoder = nn.Sequential(
            nn.Conv2d(3, config.width, 5, 2, 2), nn.PReLU(),
            nn.Conv2d(config.width, config.width, 5, 2, 2), nn.PReLU(),
            nn.Conv2d(config.width, config.channels, 3, 1, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(config.channels + 1, config.width, 3, 1, 1), nn.PReLU(),
            nn.Conv2d(config.width, config.width, 3, 1, 1), nn.PReLU(),
            nn.Conv2d(config.width, 3 * STRIDE**2, 3, 1, 1), nn.PixelShuffle(STRIDE),
        )  # fmt: skip

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """Pictures float32 (B, 3, H, W) in [0, 1] -> symbols complex64 (B, uses)."""
        features = self.encoder(pad_to_multiple(images, STRIDE))
        symbols, _power = unit_power(to_symbols(features, link.budget.allowed_uses()))
        return Transmission(symbols)

    def decode(self, received: Received, link: Link) -> Decoded:
        """Received symbols (B, uses) -> pictures float32 (B, 3, H, W)."""
        height, width = padded_size(link.height, link.width, STRIDE)
        features = to_features(lmmse_symbols(received), self.config.channels, height // STRIDE, width // STRIDE)
        snr = link.snr_tensor(len(features), features.device)[:, None, None, None] / 20
        known = torch.cat([features, snr.expand(-1, 1, *features.shape[2:])], dim=1)
        picture = self.decoder(known)[..., : link.height, : link.width].float() + 0.5
        return Decoded(picture if self.training else picture.clamp(0, 1))
