"""Source KB at the transmitter (Sec. III-B, Fig. 2): three Swin stages, patch merging, and selection by the task.

f1, f2, f3 are the features after each stage's patch merging, at 1/8, 1/16 and 1/32 of the picture's size and with 2, 4
and 8 times the embedding dimension. Each is projected to `feature_dim` channels and brought to the JSCC encoder's grid
before the sum, by a projection of each task's own; features that the instruction does not ask for are not computed into
the sum.

What our sizes switch on, and `paper` does not have:
- `selection_dilation`: segmentation's sum passes a residual block, atrous. A projection alone would send what single
  positions look like, and leave it to the receiver, behind the noise, to see what they are part of.
- `prior`: no pre-trained Swin transformer can be had offline, so an ImageNet network of the same strides stands beside
  the stages, and its maps enter f1, f2 and f3 where the task wants meaning (`prior_tasks`).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMerging

from systems.errors import UserError
from systems.gensc.config import GenSCConfig
from systems.gensc.residual_block import ResidualBlock
from systems.layers.analog import pad_to_multiple
from systems.layers.efficientnet import EfficientNetLite0
from systems.layers.swin import SwinBlock


def load_prior(name: str, frozen_stages: int) -> EfficientNetLite0:
    """The pre-trained network that a configuration names; its stem and first `frozen_stages` of seven stay as
    published."""
    if name != "efficientnet-lite0":
        raise UserError(f"unknown prior {name!r}; it is none or efficientnet-lite0")
    return EfficientNetLite0(pretrained=True, frozen_stages=frozen_stages)


def published(prior: EfficientNetLite0) -> set[str]:
    """Names of what training leaves as it was published: frozen weights, and batch norm's statistics."""
    trained = {name for name, parameter in prior.named_parameters() if parameter.requires_grad}
    return set(prior.state_dict()) - trained


def _without_published(module: SourceKBTx, state: dict[str, Tensor], prefix: str, *_) -> None:
    for key in module.published:
        del state[f"{prefix}prior.{key}"]


def _with_published(module: SourceKBTx, state: dict[str, Tensor], prefix: str, *_) -> None:
    weights = module.prior.state_dict() if module.prior is not None else {}
    for key in module.published:
        state.setdefault(f"{prefix}prior.{key}", weights[key])


class SourceKBTx(nn.Module):
    """Images (B, 3, H, W) -> the task's feature f, (B, feature_dim, H/grid, W/grid); sides divide by `grid`."""

    def __init__(self, config: GenSCConfig):
        super().__init__()
        self.levels = {"reconstruction": config.reconstruction_levels, "segmentation": config.segmentation_levels}
        self.grid, self.window = config.encoder_grid, config.window
        # Windows tile the last stage exactly when the picture's sides divide by this. Other sizes are grown: at each
        # stage to whole windows (`stage_padding`), or once, so that all stages are tiled.
        self.stage_padding = config.stage_padding
        self.multiple = config.patch * (1 if config.stage_padding else 4 * config.window)
        dims = [config.embed_dim * 2**level for level in range(3)]
        self.embed = nn.Sequential(nn.Conv2d(3, dims[0], config.patch, config.patch), nn.GroupNorm(1, dims[0]))
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(SwinBlock(dim, heads, config.window, config.window // 2 * (index % 2)) for index in range(depth))
            )
            for dim, depth, heads in zip(dims, config.depths, config.heads)
        )
        self.merges = nn.ModuleList(PatchMerging(dim) for dim in dims)
        self.prior_tasks = config.prior_tasks if config.prior != "none" else ()
        self.prior: EfficientNetLite0 | None = None
        self.prior_project: nn.ModuleDict | None = None
        self.published: set[str] = set()
        if self.prior_tasks:
            self.prior = prior = load_prior(config.prior, config.prior_frozen_stages)
            # Checkpoints leave out what never changes: those weights are public, and verified where they are read.
            self.published = published(prior)
            self._register_state_dict_hook(_without_published)
            self.register_load_state_dict_pre_hook(_with_published)
            widths = (prior.channels[1], prior.channels[2], prior.channels[2])
            self.prior_project = nn.ModuleDict(
                {
                    str(level): nn.Sequential(
                        nn.LayerNorm(widths[level - 1]), nn.Linear(widths[level - 1], 2 * dims[level - 1])
                    )
                    for level in sorted({level for task in self.prior_tasks for level in self.levels[task]})
                }
            )
        self.align = nn.ModuleDict(
            {
                task: nn.ModuleDict(
                    {
                        str(level): nn.Sequential(
                            nn.LayerNorm(2 * dims[level - 1]), nn.Linear(2 * dims[level - 1], config.feature_dim)
                        )
                        for level in levels
                    }
                )
                for task, levels in self.levels.items()
            }
        )
        self.context = nn.ModuleDict()
        if config.selection_dilation:
            self.context["segmentation"] = ResidualBlock(config.feature_dim, dilation=config.selection_dilation)
        self.feature_dim = config.feature_dim

    def stage(self, level: int, x: Tensor) -> Tensor:
        """One Swin stage on tokens (B, h, w, C), grown to whole windows and cut back -> (B, h, w, C)."""
        height, width = x.shape[1:3]
        if height % self.window or width % self.window:
            x = pad_to_multiple(x.movedim(-1, 1), self.window).movedim(1, -1)
            return self.stages[level - 1](x)[:, :height, :width]
        return self.stages[level - 1](x)

    def extract(self, images: Tensor, with_prior: bool = False) -> dict[int, Tensor]:
        """Feature extraction network: images (B, 3, H, W) -> f1, f2, f3 channel-last, (B, H/8, W/8, 2C), (B, H/16,
        W/16, 4C), (B, H/32, W/32, 8C); odd sides are rounded up."""
        features = {}
        x = self.embed(images).permute(0, 2, 3, 1)
        for level, merge in enumerate(self.merges, 1):
            x = features[level] = merge(self.stage(level, x))
        if with_prior and self.prior is not None and self.prior_project is not None:
            _, middle, deep = self.prior(images)
            coarse = F.avg_pool2d(deep, 2, ceil_mode=True)  # as patch merging, which pads odd sides
            known = {1: middle, 2: deep, 3: coarse}
            for name, project in self.prior_project.items():
                features[int(name)] = features[int(name)] + project(known[int(name)].permute(0, 2, 3, 1))
        return features

    def forward(self, images: Tensor, task: str) -> Tensor:
        """Feature selection network: images (B, 3, H, W), sides divisible by 16 -> f_R = f1 + f2 + f3 or f_S = f2 + f3,
        (B, feature_dim, H/grid, W/grid)."""
        height, width = images.shape[-2] // self.grid, images.shape[-1] // self.grid
        padded = pad_to_multiple(images, self.multiple)
        grid = (padded.shape[-2] // self.grid, padded.shape[-1] // self.grid)
        features = self.extract(padded, task in self.prior_tasks)
        # No level selected, the ablation without a source KB, leaves zeros.
        total = images.new_zeros(len(images), self.feature_dim, *grid)
        for level, align in self.align[task].items():  # type: ignore[operator, union-attr]
            aligned = align(features[int(level)]).permute(0, 3, 1, 2)
            if aligned.shape[-2:] != grid:
                aligned = F.interpolate(aligned, grid, mode="bilinear", align_corners=False)
            total = total + aligned
        if task in self.context:
            total = self.context[task](total)
        return total[..., :height, :width]
