"""The features of EfficientNet-Lite0: its stem and its seven stages, without weights.

`systems.layers.efficientnet` fills it. Names of weights, results and random weights are those of timm
(`tf_efficientnet_lite0` with `features_only`), bit for bit, which the tests check. It is not timm's own module because
timm imports torchvision, torchvision imports torch's compiler, and a command would wait three seconds of CPU for both.

Source: M. Tan et al., "EfficientNet: Rethinking model scaling", ICML 2019, and the lite variant of TensorFlow's
repository `tpu` (2020): no squeeze and excitation, ReLU6, convolutions padded as TensorFlow pads them.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

STEM = 32  # channels
#: (blocks, size of the depthwise kernel, stride, expansion, channels) of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_KEPT = (1, 2, 4, 6)  # stages whose outputs `forward` returns


class Lite0Features(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] -> maps of 24, 40, 112 and 320 channels at strides 4, 8, 16 and 32; odd sides
    are rounded up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _Convolution(3, STEM, 3, stride=2)
        self.bn1 = _Norm(STEM)
        for _ in range(
            2
        ):  # timm makes and drops a probe here; its draws are kept, so that a seed means the same weights
            nn.Conv2d(8, 8, 1)
        stages, width = [], STEM
        for count, kernel, stride, expansion, channels in STAGES:
            blocks: list[nn.Module] = []
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(
                    _Separable(width, channels, kernel, step)
                    if expansion == 1
                    else _InvertedResidual(width, channels, kernel, step, expansion)
                )
                width = channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        for module in self.modules():  # as TensorFlow's code initialises it
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0, math.sqrt(2.0 / fan_out))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the four maps of the class's docstring."""
        x = self.bn1(self.conv_stem(x))
        kept = []
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if index in _KEPT:
                kept.append(x)
        return kept


class _Convolution(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's `SAME`: where it strides, the larger half of the padding is on
    the right and at the bottom.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        padding = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs, H / stride, W / stride), rounded up."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:])
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


class _Norm(nn.BatchNorm2d):
    """Batch norm with its activation. `bench.training.distributed` looks for `act`."""

    def __init__(self, channels: int, active: bool = True):
        super().__init__(channels, eps=1e-3)
        self.act = nn.ReLU6(inplace=True) if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.act(super().forward(x))


class _Separable(nn.Module):
    """A depthwise and a pointwise convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int):
        super().__init__()
        self.conv_dw = _Convolution(inputs, inputs, kernel, stride, groups=inputs)
        self.bn1 = _Norm(inputs)
        self.conv_pw = _Convolution(inputs, outputs, 1)
        self.bn2 = _Norm(outputs, active=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        return self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))


class _InvertedResidual(nn.Module):
    """A pointwise convolution that widens, a depthwise one, and a pointwise one that narrows; with a shortcut where the
    shape stays.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        width = inputs * expansion
        self.shortcut = inputs == outputs and stride == 1
        self.conv_pw = _Convolution(inputs, width, 1)
        self.bn1 = _Norm(width)
        self.conv_dw = _Convolution(width, width, kernel, stride, groups=width)
        self.bn2 = _Norm(width)
        self.conv_pwl = _Convolution(width, outputs, 1)
        self.bn3 = _Norm(outputs, active=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        out = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))))
        return out + x if self.shortcut else out
