"""Source KB at the transmitter (Sec. III-B, Fig. 2): three Swin stages, patch merging, and selection by the task.

f1, f2, f3 are the features after each stage's patch merging, at 1/8, 1/16 and 1/32 of the picture's size and with 2, 4
and 8 times the embedding dimension. Each is projected to `feature_dim` channels and brought to the JSCC encoder's grid
before the sum, by a projection of each task's own; features that the instruction does not ask for are not computed into
the sum. Segmentation's sum then passes a residual block, atrous: a projection alone would send what single positions
look like, and leave it to the receiver, behind the noise, to see what they are part of.

Prior knowledge: no pre-trained Swin transformer can be had offline, so with `prior` an ImageNet network of the same
strides stands beside the stages, and its maps enter f1, f2 and f3 where the task wants meaning (`prior_tasks`).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMerging, SwinTransformerBlock

from systems.errors import UserError
from systems.gensc.config import GenSCConfig
from systems.gensc.residual_block import ResidualBlock
from systems.layers.analog import pad_to_multiple
from systems.layers.efficientnet import EfficientNetLite0


def load_prior(name: str, frozen_stages: int) -> EfficientNetLite0:
    """The pre-trained network that a configuration names; its stem and first `frozen_stages` of seven stay as
    published."""
    if name != "efficientnet-lite0":
        raise UserError(f"unknown prior {name!r}; it is none or efficientnet-lite0")
    return EfficientNetLite0(pretrained=True, frozen_stages=frozen_stages)


def _published(prior: EfficientNetLite0) -> set[str]:
    """Names of what training leaves as it was published: frozen weights, and batch norm's statistics."""
    trained = {name for name, parameter in prior.named_parameters() if parameter.requires_grad}
    return set(prior.state_dict()) - trained


def _without_published(module: nn.Module, state: dict[str, Tensor], prefix: str, *_) -> None:
    for key in module.published:
        del state[f"{prefix}prior.{key}"]


def _with_published(module: nn.Module, state: dict[str, Tensor], prefix: str, *_) -> None:
    weights = module.prior.state_dict()
    for key in module.published:
        state.setdefault(f"{prefix}prior.{key}", weights[key])


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
            nn.Sequential(
                *(
                    SwinTransformerBlock(dim, heads, [config.window] * 2, [(config.window // 2) * (index % 2)] * 2)
                    for index in range(depth)
                )
            )
            for dim, depth, heads in zip(dims, config.depths, config.heads)
        )
        self.merges = nn.ModuleList(PatchMerging(dim) for dim in dims)
        self.prior_tasks = config.prior_tasks if config.prior != "none" else ()
        self.prior = self.prior_project = None
        if self.prior_tasks:
            self.prior = load_prior(config.prior, config.prior_frozen_stages)
            # Checkpoints leave out what never changes: those weights are public, and verified where they are read.
            self.published = _published(self.prior)
            self._register_state_dict_hook(_without_published)
            self.register_load_state_dict_pre_hook(_with_published)
            widths = (self.prior.channels[1], self.prior.channels[2], self.prior.channels[2])
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
        self.context = nn.ModuleDict(
            {"segmentation": ResidualBlock(config.feature_dim, dilation=config.selection_dilation)}
        )
        self.feature_dim = config.feature_dim

    def extract(self, images: Tensor, with_prior: bool = False) -> dict[int, Tensor]:
        """Feature extraction network: f1, f2, f3 channel-last, (B, H/8, W/8, 2C), (B, H/16, W/16, 4C), (B, H/32, W/32,
        8C)."""
        features = {}
        x = self.embed(images).permute(0, 2, 3, 1)
        for level, (stage, merge) in enumerate(zip(self.stages, self.merges), 1):
            x = features[level] = merge(stage(x))
        if with_prior:
            _, middle, deep = self.prior(images)
            known = {
                1: middle,
                2: deep,
                3: F.avg_pool2d(deep, 2, ceil_mode=True),
            }  # as patch merging, which pads odd sides
            for level, project in self.prior_project.items():
                features[int(level)] = features[int(level)] + project(known[int(level)].permute(0, 2, 3, 1))
        return features

    def forward(self, images: Tensor, task: str) -> Tensor:
        """Feature selection network: f_R = f1 + f2 + f3 or f_S = f2 + f3, on the JSCC encoder's grid."""
        height, width = images.shape[-2] // self.grid, images.shape[-1] // self.grid
        padded = pad_to_multiple(images, self.multiple)
        grid = (padded.shape[-2] // self.grid, padded.shape[-1] // self.grid)
        features = self.extract(padded, task in self.prior_tasks)
        # No level selected, the ablation without a source KB, leaves zeros.
        total = images.new_zeros(len(images), self.feature_dim, *grid)
        for level, align in self.align[task].items():
            aligned = align(features[int(level)]).permute(0, 3, 1, 2)
            if aligned.shape[-2:] != grid:
                aligned = F.interpolate(aligned, grid, mode="bilinear", align_corners=False)
            total = total + aligned
        if task in self.context:
            total = self.context[task](total)
        return total[..., :height, :width]
