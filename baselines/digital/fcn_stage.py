"""The FCN as the last stage of a receiver that holds a picture: of the digital chains, and of their ceiling."""

from __future__ import annotations

import torch
from torch import Tensor

from systems import cache as memo
from systems.interface import System

#: The FCN meets the same picture at every SNR that decodes, and from every link that carries the same file.
_LOGITS = memo.Memo(16)


class Labels(System):
    """A system that labels pictures by `self.fcn`. Subclasses call `_take_fcn` when they are built."""

    tasks = ("segmentation",)

    def _take_fcn(self, size: str, checkpoint: str) -> None:
        from baselines.fcn import FCN

        self.fcn = FCN.load(size=size, checkpoint=checkpoint)
        self.device = torch.device("cpu")

    @torch.no_grad()
    def _label(self, picture: Tensor) -> Tensor:
        """One picture, float32 (3, H, W) in [0, 1] -> class logits float32 (21, H, W) on the CPU."""
        key = (self.fcn.variant, str(self.device), memo.digest(picture.numpy()))
        return _LOGITS.get(key, lambda: self.fcn.segment(picture[None].to(self.device))[0].float().cpu())

    def to(self, device: torch.device | str) -> System:
        self.device = torch.device(device)
        self.fcn.to(self.device)
        return self
