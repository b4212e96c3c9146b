"""Linear layers by oneDNN, where it is faster than what torch takes by itself.

Called by the block KLT, the Swin blocks and the networks. On a CPU torch multiplies float32 matrices with MKL, which
uses no AVX-512 on processors of AMD. oneDNN uses it, and computes GELU while the product is still in the cache. Where
MKL uses AVX-512 too, both are about as fast. Results differ by the rounding of float32. In bfloat16, the
gain is GELU, of which torch makes a step of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What torch.compile calls for a linear layer on a CPU: torch has no public function for it.
_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def by_onednn(x: Tensor) -> bool:
    """Whether a product with x (..., in) is left to oneDNN: on a CPU without gradients, in float32, or inside of
    `torch.autocast` in bfloat16 where oneDNN can multiply it.
    """
    if _ONEDNN is None or x.device.type != "cpu" or torch.is_grad_enabled():
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return x.dtype == torch.float32


@contextmanager
def without_onednn() -> Iterator[None]:
    """Inside the `with` block all layers are computed by torch's own operators."""
    global _ONEDNN
    operator, _ONEDNN = _ONEDNN, None
    try:
        yield
    finally:
        _ONEDNN = operator


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, after: str = "none", form: str = "") -> Tensor:
    """x times weight, plus bias, by oneDNN. after: what follows, "none" or "gelu"; form: of GELU, as in `nn.GELU`."""
    if torch.is_autocast_enabled("cpu"):  # it does not know this operator, so tensors are converted here
        x, weight, bias = x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16()
    return _ONEDNN(x, weight.contiguous(), bias, after, [], form)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`: x (..., in), weight (out, in), bias (out,) or None -> (..., out)."""
    if by_onednn(x):
        return _product(x, weight, bias)
    return F.linear(x, weight, bias)


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """A 1x1 convolution without bias: x (B, in, h, w), weight (out, in) -> (B, out, h, w)."""
    if by_onednn(x):
        return linear(x.movedim(1, -1), weight, None).movedim(-1, 1)
    return F.conv2d(x, weight[:, :, None, None])


class Dense(nn.Linear):
    """`nn.Linear`, with the same weights."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return linear(x, self.weight, self.bias)

    def then_gelu(self, x: Tensor, approximate: str = "none") -> Tensor:
        """GELU of the output: (..., in) -> (..., out). approximate: as in `nn.GELU`."""
        if by_onednn(x):
            return _product(x, self.weight, self.bias, "gelu", approximate)
        return F.gelu(F.linear(x, self.weight, self.bias), approximate=approximate)


def two_layers(layers: nn.Sequential, x: Tensor) -> Tensor:
    """The MLP of a transformer block, (..., C) -> (..., C). layers: a `Dense`, a GELU and, as the last, a `Dense`."""
    first, gelu = cast(Dense, layers[0]), cast(nn.GELU, layers[1])
    return layers[-1](first.then_gelu(x, gelu.approximate))
