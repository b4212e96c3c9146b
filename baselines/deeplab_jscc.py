"""DeepLab-JSCC: atrous convolutions on both sides of the channel, trained end to end for segmentation.

The registry makes it as `deeplab-jscc`. The paper names this baseline "Deeplab JSCC" and says that encoder and decoder
are built on DeepLab. It cites [24]: L.-C. Chen, G. Papandreou, I. Kokkinos, K. Murphy, A. L. Yuille, "DeepLab", IEEE
Trans. Pattern Anal. Mach. Intell., 2018, which is DeepLab v2. It describes no layer, and it does not say where the
channel cuts the network. This implementation follows the later DeepLab v3 (L.-C. Chen, G. Papandreou, F. Schroff,
H. Adam, "Rethinking atrous convolution for semantic image segmentation", 2017).

Transmitter: backbone at output stride 16 -> atrous spatial pyramid pooling (ASPP) -> 1x1 projection to `channels`
reals, normalised to unit power. Receiver: 3x3 convolution -> ASPP -> upsampling by 2 -> 3x3 convolution -> dropout ->
1x1 convolution to logits -> upsampling by 8. With `separable` the 3x3 convolutions of the pyramids are depthwise
separable (DeepLab v3+).

Size `paper` has the backbone of DeepLab v3, a ResNet-101 at output stride 16, and its rates 6, 12 and 18. It starts
from ImageNet weights if torch's cache holds them (`python -m bench weights fetch resnet101`), otherwise from random
ones. `separable` and `lmmse` are off. The receiver reads the equalised symbols, and neither end knows the SNR. With
`lmmse` (sizes `small` and `light`) it reads the linear MMSE estimate of the symbols, so it knows the SNR.

Differences from [24]:
- [24] adds up the class scores of four 3x3 convolutions with the rates 6, 12, 18 and 24, at output stride 8. Here the
  pyramid is that of DeepLab v3: a 1x1 convolution, three 3x3 convolutions and the mean of the map, which a 1x1
  convolution merges.
- [24] refines the labels by a fully connected CRF, and merges the scores of several scales. Here there is neither.

Differences from DeepLab v3:
- DeepLab v3 has one pyramid, and a 1x1 convolution to logits follows it. The projection and everything at the receiver
  are ours: its first convolution, the second pyramid, the convolution after the upsampling (`refine`), the dropout of
  0.1, and the bilinear upsampling in two steps.
- The branch of the mean has a bias and no batch norm.
- The three units of the backbone's last block have the rates 1, 2, 2, as torchvision builds it. DeepLab v3 has 2, 4, 8
  (multi-grid).
- Sides are padded to multiples of 16 by repeating the edge, and the logits are cut.
- Labels come from one pass at one scale and stride 16. DeepLab v3 also tests at several scales, with the mirror image
  and at stride 8.
- Training follows `configs/train`, not the crop and schedule of DeepLab v3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.interface import NUM_CLASSES, Decoded, Link, Received, Transmission
from systems.layers.backbone import make_backbone
from systems.layers.depthwise import DepthwiseConv2d
from systems.layers.padding import pad_to_multiple, padded_size
from systems.layers.power import unit_power
from systems.layers.receiver import symbol_estimate
from systems.layers.symbol_layout import to_features, to_symbols
from systems.learned import BackboneConfig, LearnedSystem

STRIDE = 16


@dataclass(frozen=True)
class DeepLabJSCCConfig(BackboneConfig):
    """Sizes of the network.

    channels: real feature channels at 1/16 of the size. 50 channels fill 4900 of the 5000 uses of 20 Kbits at 224x224.
    backbone: one of `systems.layers.backbone.BACKBONES`.
    pretrained: training starts from the backbone's ImageNet weights.
    frozen_stages: this many first stages keep these weights.
    hidden: channels of the hidden layers.
    rates: dilations of the pyramid's 3x3 convolutions.
    """

    channels: int = 50
    backbone: str = "efficientnet-lite0"
    pretrained: bool = True
    frozen_stages: int = 0
    hidden: int = 96
    rates: tuple[int, ...] = (3, 6, 9)
    separable: bool = True  # 3x3 convolutions are depthwise, followed by pointwise ones
    dropout: float = 0.1  # before the class scores
    lmmse: bool = False  # the receiver reads the linear MMSE estimate of the symbols, not the equalised symbols


def _convolution(before: int, after: int, kernel: int, rate: int = 1, separable: bool = False) -> list[nn.Module]:
    """Convolution (with `separable`: depthwise, then pointwise), batch norm and ReLU."""
    if separable and kernel > 1:
        layers: list[nn.Module] = [
            DepthwiseConv2d(before, kernel, dilation=rate),
            nn.Conv2d(before, after, 1, bias=False),
        ]
    else:
        layers = [nn.Conv2d(before, after, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False)]
    return [*layers, nn.BatchNorm2d(after), nn.ReLU()]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 convolution, a 3x3 at each rate, and the mean of the whole map, merged.

    Source: Chen et al., 2017.
    """

    def __init__(self, before: int, after: int, rates: tuple[int, ...], separable: bool):
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Sequential(*_convolution(before, after, 1)),
                *(nn.Sequential(*_convolution(before, after, 3, rate, separable)) for rate in rates),
            ]
        )
        # No batch norm on the mean: with one value per picture there is too little to average, and at batch 1 nothing.
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(before, after, 1), nn.ReLU())
        self.merge = nn.Sequential(*_convolution((len(rates) + 2) * after, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h, w)."""
        maps = [branch(x) for branch in self.branches]
        return self.merge(torch.cat([*maps, self.pooled(x).expand_as(maps[0])], dim=1))


class DeepLabJSCC(LearnedSystem):
    """Segmentation at the receiver of a picture that only the transmitter has."""

    Config = DeepLabJSCCConfig
    tasks = ("segmentation",)

    def build(self, config: DeepLabJSCCConfig) -> None:
        """Create the layers that `config` describes."""
        hidden = config.hidden
        self.backbone = make_backbone(config.backbone, config.pretrained, frozen_stages=config.frozen_stages)
        self.pyramid = ASPP(self.backbone.channels[-1], hidden, config.rates, config.separable)
        self.projection = nn.Conv2d(hidden, config.channels, 1)
        self.receiver = nn.Sequential(
            *_convolution(config.channels, hidden, 3), ASPP(hidden, hidden, config.rates, config.separable)
        )
        self.refine = nn.Sequential(*_convolution(hidden, hidden, 3))
        self.scores = nn.Sequential(nn.Dropout(config.dropout), nn.Conv2d(hidden, NUM_CLASSES, 1))

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1]."""
        features = self.backbone(pad_to_multiple(images, STRIDE))[-1]
        features = self.projection(self.pyramid(features))
        symbols, _ = unit_power(to_symbols(features, link.budget.allowed_uses()))
        return Transmission(symbols)

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> class logits float32 (B, 21, H, W)."""
        height, width = padded_size(link.height, link.width, STRIDE)
        symbols = symbol_estimate(received, self.config.lmmse)
        features = to_features(symbols, self.config.channels, height // STRIDE, width // STRIDE)
        x = self.receiver(features)
        x = self.scores(self.refine(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)))
        logits = F.interpolate(x.float(), size=(height, width), mode="bilinear", align_corners=False)
        return Decoded(logits[..., : link.height, : link.width])
