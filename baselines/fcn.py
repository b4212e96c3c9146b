"""FCN: the segmentation network of the digital links. It labels the decoded picture.

`baselines.digital.fcn_stage` calls it. It can be trained, but it is no system of its own.

Source: J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015: class
scores at the coarsest stride, refined by scores of finer features on the way up (`skips`).

The paper names a "fully-connected network" and cites ResNet (K. He et al., CVPR 2016). Size `paper` is therefore
torchvision's fcn_resnet50: a ResNet-50 whose last two stages are atrous (output stride 8), without skips. It starts
from ImageNet weights if torch's cache holds them (`python -m bench weights fetch resnet50`), otherwise from random
ones. `mirror` is off.

Differences from torchvision's network:
- Sides are padded to multiples of 16 by repeating the edge. The logits are upsampled to the padded size, and cut.
- There is no auxiliary head, which torchvision trains on the third stage. Its weights are left out when they are read.
- Pictures keep their size. torchvision resizes them to 520 pixels before its weights label them.
- Training follows `configs/train`.

Differences from Long et al.: they have a VGG-16 without batch norm, two wide convolutions in place of its fully
connected layers, skips, and a learned upsampling. Here a ResNet-50 and one 3x3 convolution with batch norm precede the
scores, there are no skips, and the upsampling is bilinear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import segmentation

from systems.errors import CheckpointError
from systems.interface import NUM_CLASSES
from systems.layers.backbone import make_backbone
from systems.layers.padding import pad_to_multiple
from systems.learned import BackboneConfig, Network
from systems.losses import pixel_cross_entropy

STRIDE = 16


@dataclass(frozen=True)
class FCNConfig(BackboneConfig):
    """Sizes of the network.

    backbone: one of `systems.layers.backbone.BACKBONES`.
    pretrained: training starts from the backbone's ImageNet weights.
    frozen_stages: this many first stages keep these weights.
    head: channels of the 3x3 convolution before the class scores.
    skips: add class scores of the features at strides 8 and 4.
    mirror: `segment` averages over the picture and its mirror image, as L.-C. Chen et al. (arXiv 1706.05587) do in
    tests.
    """

    backbone: str = "efficientnet-lite0"
    pretrained: bool = True
    frozen_stages: int = 0
    output_stride: int = 16  # the picture's size divided by that of the last feature map
    head: int = 128
    dropout: float = 0.1  # before the class scores
    skips: bool = True
    mirror: bool = False


class FCN(Network):
    """A network from pictures to class logits. It is a part of systems, not a System itself.

    checkpoint: "shipped", "none" (the head is random, fixed by `seed`), a file's path, or, only in size `paper`,
    "torchvision": that project's weights for the VOC classes. They are downloaded at the first use, so this needs the
    internet.
    """

    Config = FCNConfig
    tasks = ("segmentation",)

    def __init__(self, name: str = "fcn", **options):
        super().__init__(name, **options)

    def fill(self, checkpoint: str) -> tuple[dict, str]:
        """See `Network.fill`. It also loads torchvision's weights."""
        if checkpoint != "torchvision":
            return super().fill(checkpoint)
        self._load_torchvision()
        return {}, f"{self.size}-torchvision"

    def build(self, config: FCNConfig) -> None:
        """Create the layers that `config` describes."""
        self.backbone = make_backbone(config.backbone, config.pretrained, config.output_stride, config.frozen_stages)
        low, middle, deep = self.backbone.channels
        self.head = nn.Sequential(
            nn.Conv2d(deep, config.head, 3, padding=1, bias=False),
            nn.BatchNorm2d(config.head),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Conv2d(config.head, NUM_CLASSES, 1),
        )
        self.skips = None
        if config.skips:
            self.skips = nn.ModuleList(nn.Conv2d(width, NUM_CLASSES, 1) for width in (middle, low))
        for skip in self.skips or ():  # as in the paper, skips start from zero: at first they change nothing
            nn.init.zeros_(skip.weight)
            nn.init.zeros_(skip.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1], any size -> class logits float32 (B, 21, H, W)."""
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, STRIDE)
        low, middle, deep = self.backbone(padded)
        scores = self.head(deep)
        if self.skips is not None:
            for skip, features in zip(self.skips, (middle, low)):
                scores = _resize(scores, features.shape[-2:]) + skip(features)
        return _resize(scores.float(), padded.shape[-2:])[..., :height, :width]

    @torch.no_grad()
    def segment(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] -> class logits float32 (B, 21, H, W), without gradients.

        With `mirror` these are the logarithms of the mean probability over the picture and its mirror image.
        """
        if not self.config.mirror:
            return self(images)
        views = self(images), self(images.flip(-1)).flip(-1)
        return torch.logaddexp(*(logits.log_softmax(dim=1) for logits in views)) - math.log(2)

    def training_step(self, images: Tensor, target: Tensor, link=None, channel=None) -> dict[str, Tensor]:
        """The pixel cross entropy, a scalar. images: (B, 3, H, W) in [0, 1]. target: as `pixel_cross_entropy` takes it.

        `link` and `channel` are not used.
        """
        return {"cross_entropy": pixel_cross_entropy(self(images), target)}

    def _load_torchvision(self) -> None:
        """Weights of torchvision's fcn_resnet50 (COCO pictures, VOC classes) under this module's names."""
        if self.config.backbone != "resnet50" or self.config.skips or self.config.head != 512:
            raise CheckpointError("torchvision's weights fit fcn in size paper only; ask for --size paper")
        weights = segmentation.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1
        try:
            state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        except (URLError, OSError) as error:
            raise CheckpointError(f"cannot fetch {weights.url} ({error}); use size small, whose weights ship") from None
        self.load_state_dict(from_torchvision(state))


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of torchvision's fcn_resnet50; shapes stay. Its auxiliary head is left out.

    For example "classifier.0.weight" (512, 2048, 3, 3) becomes "head.0.weight".
    """
    names = {"backbone.": "backbone.net.", "classifier.": "head."}
    return {
        names[prefix] + key.removeprefix(prefix): value
        for key, value in state.items()
        for prefix in names
        if key.startswith(prefix)
    }


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
