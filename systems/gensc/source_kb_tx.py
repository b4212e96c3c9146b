"""Source KB at the transmitter (Sec. III-B, Fig. 2): three Swin stages, patch merging, and selection by the task.

f1, f2, f3 are the features after each stage's patch merging, at 1/8, 1/16 and 1/32 of the picture's size and with 2, 4 and
8 times the embedding dimension. Each is projected to `feature_dim` channels and brought to the JSCC encoder's grid before
the sum; features that the instruction does not ask for are not computed into the sum.

Prior knowledge: no pre-trained Swin transformer can be had offline, so with `prior` a frozen ImageNet network of the same
strides stands beside the stages, and its maps enter f1, f2 and f3 where the task wants meaning (`prior_tasks`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMerging, SwinTransformerBlock

from systems.analog import pad_to_multiple
from systems.efficientnet import EfficientNetLite0
from systems.errors import UserError
from systems.gensc.config import GenSCConfig


def frozen_prior(name: str) -> EfficientNetLite0:
    """The pre-trained network that a configuration names. Its weights are public and stay as they are."""
    if name != "efficientnet-lite0":
        raise UserError(f"unknown prior {name!r}; it is none or efficientnet-lite0")
    return EfficientNetLite0(pretrained=True).requires_grad_(False)


def _without_prior(module: nn.Module, state: dict[str, Tensor], prefix: str, *_) -> None:
    for key in [key for key in state if key.startswith(prefix + "prior.")]:
        del state[key]


def _with_prior(module: nn.Module, state: dict[str, Tensor], prefix: str, *_) -> None:
    for key, value in module.prior.state_dict().items():
        state.setdefault(f"{prefix}prior.{key}", value)


class SourceKBTx(nn.Module):
    """Images (B, 3, H, W) -> the task's feature f, (B, feature_dim, H/grid, W/grid); sides divide by `grid`."""

    def __init__(self, config: GenSCConfig):
        super().__init__()
        self.levels = {"reconstruction": config.reconstruction_levels, "segmentation": config.segmentation_levels}
        self.grid = config.encoder_grid
        # Windows tile the last stage exactly when the picture's sides divide by this; other sizes are grown, since
        # torchvision's blocks let the zeros of a partly filled window take part in its attention.
        self.multiple = config.patch * 4 * config.window
        dims = [config.embed_dim * 2**level for level in range(3)]
        self.embed = nn.Sequential(nn.Conv2d(3, dims[0], config.patch, config.patch), nn.GroupNorm(1, dims[0]))
        self.stages = nn.ModuleList(
            nn.Sequential(*(
                SwinTransformerBlock(dim, heads, [config.window] * 2, [(config.window // 2) * (index % 2)] * 2)
                for index in range(depth)
            ))
            for dim, depth, heads in zip(dims, config.depths, config.heads)
        )
        self.merges = nn.ModuleList(PatchMerging(dim) for dim in dims)
        self.prior_tasks = config.prior_tasks if config.prior != "none" else ()
        self.prior = self.prior_project = None
        if self.prior_tasks:
            self.prior = frozen_prior(config.prior)
            # Checkpoints leave it out: its weights are public, verified where they are read, and never change.
            self._register_state_dict_hook(_without_prior)
            self.register_load_state_dict_pre_hook(_with_prior)
            widths = (self.prior.channels[1], self.prior.channels[2], self.prior.channels[2])
            self.prior_project = nn.ModuleList(
                nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * dim)) for width, dim in zip(widths, dims)
            )
        self.align = nn.ModuleList(nn.Sequential(nn.LayerNorm(2 * dim), nn.Linear(2 * dim, config.feature_dim)) for dim in dims)

    def extract(self, images: Tensor, with_prior: bool = False) -> list[Tensor]:
        """Feature extraction network: f1, f2, f3 channel-last, (B, H/8, W/8, 2C), (B, H/16, W/16, 4C), (B, H/32, W/32, 8C)."""
        known: list[Tensor] = []
        if with_prior:
            _, middle, deep = self.prior(images)
            known = [middle, deep, F.avg_pool2d(deep, 2, ceil_mode=True)]  # as patch merging, which pads odd sides
        features = []
        x = self.embed(images).permute(0, 2, 3, 1)
        for level, (stage, merge) in enumerate(zip(self.stages, self.merges)):
            x = merge(stage(x))
            if known:
                x = x + self.prior_project[level](known[level].permute(0, 2, 3, 1))
            features.append(x)
        return features

    def forward(self, images: Tensor, task: str) -> Tensor:
        """Feature selection network: f_R = f1 + f2 + f3 or f_S = f2 + f3, on the JSCC encoder's grid."""
        height, width = images.shape[-2] // self.grid, images.shape[-1] // self.grid
        padded = pad_to_multiple(images, self.multiple)
        grid = (padded.shape[-2] // self.grid, padded.shape[-1] // self.grid)
        features = self.extract(padded, task in self.prior_tasks)
        total = 0
        for level in self.levels[task]:
            aligned = self.align[level - 1](features[level - 1]).permute(0, 3, 1, 2)
            if aligned.shape[-2:] != grid:
                aligned = F.interpolate(aligned, grid, mode="bilinear", align_corners=False)
            total = total + aligned
        if not torch.is_tensor(total):  # no level selected: the ablation without a source KB
            total = images.new_zeros(len(images), self.align[0][1].out_features, *grid)
        return total[..., :height, :width]
