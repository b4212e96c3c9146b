"""Pictures to coefficients and back: an orthogonal lapped transform of 16 x 16 blocks.

`baselines.linear_select` calls it. Before the cosine transform of the blocks, the values on both sides of each border
between two blocks, 8 pixels on either side, are rotated. This is the lapped orthogonal transform of Malvar and Staelin
(1989), in the form of Tran, Liang and Tu (2003). Its basis functions are 32 pixels long and fall off smoothly at their
ends, so no borders of blocks are visible. At the border of the picture nothing is rotated. An orthonormal matrix turns
the colours into grey and two differences.

The mean values of the blocks (three per block, one per colour axis) form small pictures. These are transformed once
more, by one cosine transform over the whole picture, because the means of neighbouring blocks are similar. The other
coefficients of neighbouring blocks are not.

The transform is orthonormal: the squared error of the coefficients is the squared error of the picture.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 16
COLOURS = 3
SIZE = COLOURS * BLOCK * BLOCK
#: Colour axes: grey, red minus blue, and magenta minus green.
_AXES = (
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)),
    (1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)),
)
MIDDLE = 0.5  # subtracted from all values


class Coefficients(NamedTuple):
    """The coefficients of b pictures of rows x columns blocks.

    means: (b, 3, rows, columns), transformed over the whole picture, lowest frequency first.
    details: (b, rows, columns, 765); within each block by colour, then by row of frequencies.
    """

    means: Tensor
    details: Tensor


def analyse(images: Tensor) -> Coefficients:
    """Pictures (b, 3, 16 rows, 16 columns) in [0, 1] -> their coefficients, float32."""
    colours = torch.einsum("ij,bjhw->bihw", placed(_colour_axes, images.device), images.float() - MIDDLE)
    blocks = _forward(_forward(colours).transpose(2, 3)).transpose(2, 3)
    count, _, height, width = images.shape
    split = blocks.reshape(count, COLOURS, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    flat = split.permute(0, 2, 4, 1, 3, 5).reshape(count, height // BLOCK, width // BLOCK, COLOURS, BLOCK * BLOCK)
    means = flat[..., 0].permute(0, 3, 1, 2)
    rows, columns = means.shape[2:]
    means = placed(cosines, images.device, rows) @ means @ placed(cosines, images.device, columns).T
    return Coefficients(means, flat[..., 1:].flatten(3))


def synthesise(coefficients: Coefficients) -> Tensor:
    """The inverse of `analyse`: pictures (b, 3, 16 rows, 16 columns), not clamped."""
    means, details = coefficients
    count, rows, columns, _ = details.shape
    device = details.device
    values = placed(cosines, device, rows).T @ means @ placed(cosines, device, columns)
    flat = torch.cat(
        [values.permute(0, 2, 3, 1)[..., None], details.reshape(count, rows, columns, COLOURS, -1)], dim=-1
    )
    split = flat.reshape(count, rows, columns, COLOURS, BLOCK, BLOCK).permute(0, 3, 1, 4, 2, 5)
    blocks = split.reshape(count, COLOURS, rows * BLOCK, columns * BLOCK)
    colours = _backward(_backward(blocks.transpose(2, 3)).transpose(2, 3))
    return torch.einsum("ij,bihw->bjhw", placed(_colour_axes, device), colours) + MIDDLE


@functools.cache
def placed(make: Callable[..., Tensor], device: torch.device, *arguments: int) -> Tensor:
    """The matrix (n, n) that `make` gives, on a device. It is copied there once."""
    return make(*arguments).to(device)


@functools.cache
def cosines(size: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), (size, size), lowest frequency first."""
    step = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * step[:, None] * (step + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


@functools.cache
def _colour_axes() -> Tensor:
    return torch.tensor(_AXES)


@functools.cache
def _border() -> Tensor:
    """The rotation across a border, (16, 16). Sums of mirrored pixels stay, and their differences are rotated."""
    half = BLOCK // 2
    step = torch.arange(half, dtype=torch.float64)
    fourth = torch.cos(math.pi / half * (step[:, None] + 0.5) * (step + 0.5)) * math.sqrt(2 / half)  # DCT-IV
    second = cosines(half).double()
    one, mirror = torch.eye(half, dtype=torch.float64), torch.eye(half, dtype=torch.float64).flip(0)
    butterfly = torch.cat([torch.cat([one, mirror], 1), torch.cat([mirror, -one], 1)]) / math.sqrt(2)
    turn = torch.eye(BLOCK, dtype=torch.float64)
    turn[half:, half:] = mirror @ second.T @ fourth @ mirror
    return (butterfly @ turn @ butterfly).float()


def _forward(values: Tensor) -> Tensor:
    """Rotate at the borders, then transform the blocks, along the last axis."""
    values = _turn_borders(values, placed(_border, values.device))
    return (values.unflatten(-1, (-1, BLOCK)) @ placed(cosines, values.device, BLOCK).T).flatten(-2)


def _backward(values: Tensor) -> Tensor:
    values = (values.unflatten(-1, (-1, BLOCK)) @ placed(cosines, values.device, BLOCK)).flatten(-2)
    return _turn_borders(values, placed(_border, values.device).T)


def _turn_borders(values: Tensor, turn: Tensor) -> Tensor:
    if values.shape[-1] == BLOCK:
        return values
    half = BLOCK // 2
    inner = (values[..., half:-half].unflatten(-1, (-1, BLOCK)) @ turn.T).flatten(-2)
    return torch.cat([values[..., :half], inner, values[..., -half:]], dim=-1)
