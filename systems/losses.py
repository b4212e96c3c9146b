"""Training losses: those of reconstruction, by the names that a protocol gives them, and that of segmentation.

`systems.learned` trains with them. `bench.training` reads the table `RECONSTRUCTION_LOSSES`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from systems.interface import VOID


def pixel_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Eq. 6 of the paper, averaged over pixels: a scalar.

    logits: (B, 21, H, W).
    target: class indices int64 (B, H, W), where 255 (void) does not count, or probabilities float (B, 21, H, W).
    """
    # One pixel per row: the softmax then reads neighbouring values.
    rows = logits.float().permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    if target.is_floating_point():
        return F.cross_entropy(rows, target.permute(0, 2, 3, 1).reshape(rows.shape))
    return F.cross_entropy(rows, target.reshape(-1), ignore_index=VOID)


def mean_squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Eq. 5 of the paper: the mean squared error of `output` against `target`, both (B, 3, H, W). A scalar."""
    return F.mse_loss(output, target)


def log_squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean over pictures of log(MSE + 0.0003), times 0.1: Eq. 5 in decibels, the scale on which systems are compared. A
    scalar.

    output, target: (B, 3, H, W) in [0, 1].

    Under Eq. 5 itself the pictures sent at 0 dB dominate, because their squared error is ten times that at 20 dB. The
    constant (35 dB of PSNR) keeps crops of plain sky from dominating the logarithm. The factor 0.1 brings the gradients
    to the size of those of a cross entropy.
    """
    error = (output - target).square().mean(dim=(1, 2, 3))
    return 0.1 * (error + 3e-4).log().mean()


#: Values of `reconstruction_loss` in a training protocol.
RECONSTRUCTION_LOSSES = {"mse": mean_squared_error, "log_mse": log_squared_error}
