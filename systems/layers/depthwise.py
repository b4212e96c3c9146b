"""Depthwise convolutions whose backward pass in bfloat16 is made in float32, where that is faster.

The backbones and DeepLab-JSCC have them. oneDNN has no fast bfloat16 kernel for the backward pass of a depthwise
convolution with 5x5 weights, with a dilation or with a stride. Such layers took 27 to 46 % of a training step of the
segmentation networks. Its float32 kernels are 2 to 30 times as fast, and more exact. The forward pass is not changed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with one filter per channel and without bias.

    same: pad as TensorFlow does, so that the output has 1/stride of the size, rounded up.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1, same: bool = False):
        padding = 0 if same else dilation * (kernel // 2)
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
        self.same = same

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, channels, H / stride, W / stride)."""
        if self.same:
            x = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation))
        if torch.is_grad_enabled() and self._slow_backward(x):
            x, weight = x.bfloat16(), self.weight.bfloat16()
            return _WithFloatBackward.apply(x, weight, self.stride, self.padding, self.dilation)
        return F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)

    def _slow_backward(self, x: Tensor) -> bool:
        plain = self.kernel_size == (3, 3) and self.stride == (1, 1) and self.dilation == (1, 1)
        narrow = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        return not plain and narrow and x.device.type == "cpu"


class _WithFloatBackward(torch.autograd.Function):
    """A depthwise convolution of bfloat16 tensors. Its gradients are computed in float32 and rounded to bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.steps = [list(stride), list(padding), list(dilation)]
        return F.conv2d(x, weight, None, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = [*ctx.needs_input_grad[:2], False]
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradients[0].float(), x.float(), weight.float(), None, *ctx.steps, False, [0, 0], len(weight), wanted
        )
        narrow = [None if value is None else value.bfloat16() for value in (of_x, of_weight)]
        return *narrow, None, None, None


def replace_depthwise(net: nn.Module) -> None:
    """Put a `DepthwiseConv2d` in place of each depthwise convolution of `net`, with the same weights and names."""
    for parent in list(net.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels == layer.out_channels:
                shape = layer.in_channels, layer.kernel_size[0], layer.stride[0], layer.dilation[0]
                with torch.device("meta"):  # draws no random numbers
                    new = DepthwiseConv2d(*shape, same=isinstance(layer, Conv2dSame))
                assert new.padding == layer.padding and layer.bias is None
                new.weight = layer.weight
                setattr(parent, name, new)
