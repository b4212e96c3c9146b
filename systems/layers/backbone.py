"""Feature extractors of the segmentation baselines: three maps a picture, the last at stride 16 (ResNets: or 8).

EfficientNet-Lite0 with ImageNet weights (`systems.layers.efficientnet`) serves the small sizes, ResNets the paper
sizes.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from systems.errors import UserError
from systems.layers.efficientnet import EfficientNetLite0

BACKBONES = ("efficientnet-lite0", "resnet50", "resnet101")


class ResNet(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> three maps, 256, 512 and 2048 channels at strides 4, 8 and `output_stride`."""

    channels = (256, 512, 2048)

    def __init__(self, name: str, output_stride: int):
        super().__init__()
        self.net = torchvision.models.get_model(
            name, weights=None, replace_stride_with_dilation=[False, output_stride == 8, True]
        )
        self.net.avgpool = self.net.fc = nn.Identity()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1((images - self.mean) / self.deviation))))
        low = net.layer1(x)
        middle = net.layer2(low)
        return [low, middle, net.layer4(net.layer3(middle))]


def make_backbone(
    name: str, pretrained: bool, output_stride: int = 16, frozen_stages: int = 0
) -> EfficientNetLite0 | ResNet:
    """One of `BACKBONES`. `pretrained`: start from ImageNet weights, which only EfficientNet-Lite0 has offline, and
    train
    all but the stem and the first `frozen_stages` of its seven stages, at a fifth of the learning rate."""
    if output_stride not in (8, 16):  # of the ResNets, whose last stages are dilated
        raise UserError(f"backbone {name}: output stride {output_stride} is not 8 or 16")
    if name not in BACKBONES:
        raise UserError(f"unknown backbone {name!r}; backbones are {', '.join(BACKBONES)}")
    if name == "efficientnet-lite0":
        if output_stride != 16:
            raise UserError(f"backbone {name} has output stride 16, not {output_stride}")
        return EfficientNetLite0(pretrained, frozen_stages if pretrained else 0)
    if pretrained:
        raise UserError(f"no ImageNet weights ship for {name}; set pretrained = false, or take efficientnet-lite0")
    return ResNet(name, output_stride)
