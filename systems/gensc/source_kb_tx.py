"""The source KB at the transmitter (Sec. III-B, Fig. 2): three Swin stages with patch merging; the task selects
features.

`systems.gensc.system` calls it, and gives its result f to the JSCC encoder.

f1, f2 and f3 are the features after the patch merging of each stage. They are at 1/8, 1/16 and 1/32 of the picture's
size, and have 2, 4 and 8 times the embedding dimension. Each task has its own projection of each feature to
`feature_dim` channels. The projected features are resized to the JSCC encoder's grid and added up. Features that the
instruction does not select are left out of the sum.

Size `paper` fills the gaps of the paper, or differs from it, in these points:
- Each stage has two Swin blocks, with plain and with shifted windows. Heads and dimension double from stage to stage.
- A projection is a LayerNorm and a linear layer. The resizing is bilinear. The paper adds f1, f2 and f3, whose shapes
  differ, and says no more.
- Window 7 does not divide 768/4 and 512/4, the tokens of a large picture. Each stage pads its tokens to whole windows
  by repeating the edge, and cuts them afterwards.
- The norm after the patch embedding takes mean and variance over the whole picture (GroupNorm with one group). The
  cited Swin transformer takes them over the channels of each token.
- There is no stochastic depth, which the cited Swin transformer has in training.
- All weights start at random. Whether the paper's Swin transformer was pre-trained is not said.

Our sizes switch on parts that the size `paper` does not have:
- `selection_dilation`: for segmentation, the sum passes through a dilated residual block. After a projection alone,
  each position would be sent without its surroundings, and only the receiver, behind the noise, could relate them.
- `prior`: a pre-trained Swin transformer cannot be had offline. Instead an ImageNet network with the same strides
  stands beside the stages. For the tasks in `prior_tasks`, which need meaning, its maps are added to f1, f2 and f3.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMerging

from systems.errors import UserError
from systems.gensc.config import GenSCConfig
from systems.gensc.residual_block import ResidualBlock
from systems.layers.dense import Dense
from systems.layers.efficientnet import EfficientNetLite0
from systems.layers.padding import pad_to_multiple
from systems.layers.swin import SwinBlock


def load_prior(name: str, frozen_stages: int) -> EfficientNetLite0:
    """The pre-trained network that a configuration names, an EfficientNet-Lite0.

    Its stem and the first `frozen_stages` of its seven stages are not trained. Raises UserError for an unknown name.
    """
    if name != "efficientnet-lite0":
        raise UserError(f"gensc: unknown prior {name!r}; the priors are none and efficientnet-lite0 (configs/models)")
    return EfficientNetLite0(pretrained=True, frozen_stages=frozen_stages)


def published(prior: EfficientNetLite0) -> set[str]:
    """Names of the tensors that training does not change: frozen weights, and the statistics of batch norm."""
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
    """Pictures -> the feature f of the task. `grid` (the configuration's `encoder_grid`) divides both sides of the
    pictures.
    """

    def __init__(self, config: GenSCConfig):
        super().__init__()
        self.levels = {"reconstruction": config.reconstruction_levels, "segmentation": config.segmentation_levels}
        self.grid, self.window = config.encoder_grid, config.window
        # Pictures are padded until `multiple` divides their sides. With `stage_padding` each stage pads its tokens to
        # whole windows. Without it, the multiple is so large that whole windows tile every stage.
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
            # Checkpoints leave out the weights that never change. These are public, and verified when they are read.
            self.published = published(prior)
            self._register_state_dict_hook(_without_published)
            self.register_load_state_dict_pre_hook(_with_published)
            widths = (prior.channels[1], prior.channels[2], prior.channels[2])
            self.prior_project = nn.ModuleDict(
                {
                    str(level): nn.Sequential(
                        nn.LayerNorm(widths[level - 1]), Dense(widths[level - 1], 2 * dims[level - 1])
                    )
                    for level in sorted({level for task in self.prior_tasks for level in self.levels[task]})
                }
            )
        self.align = nn.ModuleDict(
            {
                task: nn.ModuleDict(
                    {
                        str(level): nn.Sequential(
                            nn.LayerNorm(2 * dims[level - 1]), Dense(2 * dims[level - 1], config.feature_dim)
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
        """One Swin stage on tokens, (B, h, w, C) -> (B, h, w, C). Tokens are padded to whole windows, and cut
        afterwards.
        """
        height, width = x.shape[1:3]
        if height % self.window or width % self.window:
            x = pad_to_multiple(x.movedim(-1, 1), self.window).movedim(1, -1)
            return self.stages[level - 1](x)[:, :height, :width]
        return self.stages[level - 1](x)

    def extract(self, images: Tensor, with_prior: bool = False) -> dict[int, Tensor]:
        """The feature extraction network: pictures (B, 3, H, W) -> f1, f2, f3, by level.

        The shapes are channel-last: (B, H/8, W/8, 2C), (B, H/16, W/16, 4C) and (B, H/32, W/32, 8C). Odd sides are
        rounded up. with_prior: add the maps of the ImageNet network.
        """
        features = {}
        x = self.embed(images).permute(0, 2, 3, 1)
        for level, merge in enumerate(self.merges, 1):
            x = features[level] = merge(self.stage(level, x))
        if with_prior and self.prior is not None and self.prior_project is not None:
            _, middle, deep = self.prior(images)
            coarse = F.avg_pool2d(deep, 2, ceil_mode=True)  # rounds odd sides up, as patch merging does
            known = {1: middle, 2: deep, 3: coarse}
            for name, project in self.prior_project.items():
                features[int(name)] = features[int(name)] + project(known[int(name)].permute(0, 2, 3, 1))
        return features

    def forward(self, images: Tensor, task: str) -> Tensor:
        """The feature selection network: f_R = f1 + f2 + f3 for reconstruction, or f_S = f2 + f3 for segmentation.

        images: (B, 3, H, W), both sides multiples of 16. Returns (B, feature_dim, H/grid, W/grid).
        """
        height, width = images.shape[-2] // self.grid, images.shape[-1] // self.grid
        padded = pad_to_multiple(images, self.multiple)
        grid = (padded.shape[-2] // self.grid, padded.shape[-1] // self.grid)
        features = self.extract(padded, task in self.prior_tasks)
        # If no level is selected (the ablation without a source KB), f is 0.
        total = images.new_zeros(len(images), self.feature_dim, *grid)
        for level, align in self.align[task].items():  # type: ignore[operator, union-attr]
            aligned = align(features[int(level)]).permute(0, 3, 1, 2)
            if aligned.shape[-2:] != grid:
                aligned = F.interpolate(aligned, grid, mode="bilinear", align_corners=False)
            total = total + aligned
        if task in self.context:
            total = self.context[task](total)
        return total[..., :height, :width]
