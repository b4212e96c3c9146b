"""Transposed convolutions, made fast where their stride is 2 and their outputs are few, such as the three colours of a
picture.

The decoders of Deep JSCC and ADJSCC consist of them. oneDNN fills its vectors with output channels, so it is slow where
there are three. The four pixels of each 2 x 2 square are given four times as many channels, at half the size, and are
put in their places afterwards.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from systems.layers.dense import by_onednn

FEW = 4  # output channels up to which this is faster


class UpConvolution(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` that keeps (stride 1) or doubles (stride 2) the size, with the same weights.

    kernel: odd.
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int):
        super().__init__(before, after, kernel, stride, kernel // 2, output_padding=stride - 1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, before, h, w) -> (B, after, stride h, stride w)."""
        if self.stride == (2, 2) and self.out_channels <= FEW and by_onednn(x):
            kernel = self.of_squares()
            bias = None if self.bias is None else self.bias.repeat_interleave(4)
            return F.pixel_shuffle(F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2), 2)
        return super().forward(x, output_size)

    def of_squares(self) -> Tensor:
        """The kernel of the equal convolution at half the size, (4 after, before, n, n), with n odd.

        Output 2a + p is the sum over d of x[a + d] w[p + padding - 2d], where p is 0 or 1. With reach = (n - 1) / 2 and
        zeros around w, the index is p + 2 (reach - d), so w is cut into pairs, in reversed order.
        """
        padding = self.kernel_size[0] // 2
        reach = -(-padding // 2)
        first, pairs = 2 * reach - padding, 2 * reach + 1
        last = 2 * pairs - self.kernel_size[0] - first
        cut = F.pad(self.weight, (first, last, first, last)).unflatten(3, (pairs, 2)).unflatten(2, (pairs, 2))
        before, after = self.weight.shape[:2]
        return cut.flip(2, 4).permute(1, 3, 5, 0, 2, 4).reshape(4 * after, before, pairs, pairs)
