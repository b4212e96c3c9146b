"""The FCN as the last stage of a receiver that has decoded a picture.

The digital systems for segmentation and the bound `fcn-ceiling` derive from `Labels`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from systems import result_cache
from systems.interface import System

#: Remembered logits: every SNR at which a link decodes, and every link with the same file, gives the same picture.
_LOGITS = result_cache.Memo(16)


class Labels(System):
    """A system that labels pictures with `self.fcn`. Subclasses call `_take_fcn` in `__init__`."""

    tasks = ("segmentation",)

    def _take_fcn(self, **options: str) -> None:
        """options: those of the FCN."""
        from baselines.fcn import FCN

        self.fcn = FCN(**options)
        self.device = torch.device("cpu")

    @torch.no_grad()
    def _label(self, picture: Tensor) -> Tensor:
        """One picture, float32 (3, H, W) in [0, 1] -> class logits float32 (21, H, W) on the CPU."""
        key = (self.fcn.variant, str(self.device), result_cache.digest(picture.numpy()))
        return _LOGITS.get(key, lambda: self.fcn.segment(picture[None].to(self.device))[0].float().cpu())

    def to(self, device: torch.device | str) -> System:
        """See `System.to`."""
        self.device = torch.device(device)
        self.fcn.to(self.device)
        return self
