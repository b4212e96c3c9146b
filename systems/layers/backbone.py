"""Feature extractors (backbones) of the segmentation baselines. Each gives three feature maps per picture.

The last map is at stride 16; a ResNet can also give it at stride 8. EfficientNet-Lite0 with ImageNet weights
(`systems.layers.efficientnet`) serves the small sizes, ResNets the sizes of the papers. Called by FCN and DeepLab-JSCC;
`python -m bench weights fetch` calls `fetch_weights`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from systems.errors import UserError, did_you_mean
from systems.layers.efficientnet import EfficientNetLite0

BACKBONES = ("efficientnet-lite0", "resnet50", "resnet101")


class ResNet(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1] -> three maps with 256, 512 and 2048 channels at strides 4, 8 and
    `output_stride`.

    pretrained: start from torchvision's ImageNet weights if torch's cache holds them. The attribute `pretrained` says
    whether they were found. Source: K. He et al., "Deep residual learning for image recognition", CVPR 2016.
    """

    channels = (256, 512, 2048)
    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, output_stride: int, pretrained: bool = False):
        super().__init__()
        self.net = torchvision.models.get_model(
            name, weights=None, replace_stride_with_dilation=[False, output_stride == 8, True]
        )
        self.net.avgpool = self.net.fc = nn.Identity()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)
        self.pretrained = pretrained and self._load_imagenet(name)

    def _load_imagenet(self, name: str) -> bool:
        path = cached_weights(name)
        if not path.is_file():
            print(
                f"{name}: starts from random weights, since torch's cache holds no ImageNet weights; "
                f"`python -m bench weights fetch {name}` gets them",
                file=sys.stderr,
            )
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.net.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
        return True

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> (B, 256, H/4, W/4), (B, 512, H/8, W/8) and (B, 2048, H/s, W/s), s =
        `output_stride`.
        """
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1((images - self.mean) / self.deviation))))
        low = net.layer1(x)
        middle = net.layer2(low)
        return [low, middle, net.layer4(net.layer3(middle))]


def cached_weights(name: str) -> Path:
    """The path of torchvision's ImageNet weights of a ResNet in torch's cache. The file need not exist."""
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def fetch_weights(name: str) -> Path:
    """Download torchvision's ImageNet weights of a ResNet into torch's cache, and verify their hash. Returns the file.

    Raises UserError for another name, or if the download fails.
    """
    if name not in BACKBONES[1:]:
        hint = did_you_mean(name, BACKBONES[1:], "backbones with such weights")
        raise UserError(f"there are no weights to fetch for {name!r}; {hint}")
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"cannot fetch {weights.url} ({error}); try again, or put the file into {cached_weights(name).parent}"
        ) from None
    return cached_weights(name)


def make_backbone(
    name: str, pretrained: bool, output_stride: int = 16, frozen_stages: int = 0
) -> EfficientNetLite0 | ResNet:
    """Build one of `BACKBONES`.

    pretrained: start from ImageNet weights. EfficientNet-Lite0 has them in its package. It keeps its stem and the first
    `frozen_stages` of its seven stages as they are, and trains the others at a fifth of the learning rate. A ResNet
    takes them from torch's cache, or starts from random weights if they are not there.
    output_stride: 8 (only ResNets) or 16.
    Raises UserError for another name or stride.
    """
    if output_stride not in (8, 16):  # of the ResNets, whose last stages are dilated
        raise UserError(f"backbone {name}: the output stride is {output_stride}; it must be 8 or 16")
    if name not in BACKBONES:
        raise UserError(f"unknown backbone {name!r}; {did_you_mean(name, BACKBONES, 'backbones')}")
    if name == "efficientnet-lite0":
        if output_stride != 16:
            raise UserError(f"backbone {name}: the output stride is {output_stride}; this backbone has only stride 16")
        return EfficientNetLite0(pretrained, frozen_stages if pretrained else 0)
    return ResNet(name, output_stride, pretrained)
