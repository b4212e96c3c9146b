"""GenSC's configuration: one field per choice. `open_choices.py` compares each field with the paper's words.

`systems.sizes` fills it from `configs/models/gensc-<size>.toml`, and every part of the network reads it. The defaults
are those of size `paper`: Table I, Sections III and IV, the shape of DiT-XL/2 where the reconstruction decoder has no
width, and our own choice where the paper needs a value and gives none. Parts that the paper does not have are off by
default. Our own sizes switch some of them on in their TOML files.
"""

from __future__ import annotations

from dataclasses import dataclass

from systems.errors import UserError


@dataclass(frozen=True)
class GenSCConfig:
    """The choices of one size of GenSC. Raises UserError if one field needs another that is off."""

    channels: int = 96  # real symbol channels per 16 x 16 block: CBR 1/16
    # Source KB at the transmitter (Table I: window 7, patch 4, heads 3, embedding 96)
    patch: int = 4
    window: int = 7
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 2)
    heads: tuple[int, ...] = (3, 6, 12)
    stage_padding: bool = True
    feature_dim: int = 128
    reconstruction_levels: tuple[int, ...] = (1, 2, 3)
    segmentation_levels: tuple[int, ...] = (2, 3)
    prior: str = "none"
    prior_tasks: tuple[str, ...] = ("segmentation",)
    prior_frozen_stages: int = 3
    selection_dilation: int = 0
    # JSCC encoder (Table I: 3 convolutions, kernel 3, hidden 128)
    encoder_hidden: int = 128
    encoder_grid: int = 8
    linear_path: bool = False
    contrast_units: bool = False
    task_share: bool = False
    encoder_sees_snr: bool = False
    # Source KB at the receiver (Table I: 3 convolutions, kernel 3)
    lmmse: bool = False
    receiver_hidden: int = 128
    receiver_kb: bool = True
    noise_in_residuals: bool = False
    # Reconstruction decoder (Table I: depth 28, patch 2, heads 16; hidden 1152 as in DiT-XL/2)
    decoder_depth: int = 28
    decoder_dim: int = 1152
    decoder_heads: int = 16
    time_dim: int = 1152
    decoder_patch: int = 2
    decoder_window: int = 0  # side of a window in tokens; 0: every patch attends to every other, as in DiT
    decoder_refine: int = 64
    decoder_residuals: int = 1
    refinement_steps: int = 1
    time_tied_to_noise: bool = True
    decoder_coefficients: int = 0
    latent_loss: float = 0.0
    # Segmentation decoder (Table I: 1 convolution, kernel 3, dropout 0.1, 21 classes)
    segmentation_hidden: int = 256
    segmentation_dilations: tuple[int, int] = (1, 1)
    segmentation_context: bool = False
    dropout: float = 0.1

    def __post_init__(self):
        needs = {
            "contrast_units": "linear_path",
            "decoder_coefficients": "linear_path",
            "encoder_sees_snr": "task_share",
            "linear_path": "task_share",
        }
        for field, other in needs.items():
            if getattr(self, field) and not getattr(self, other):
                raise UserError(f"gensc: {field} needs {other} = true in the same configuration (configs/models)")

    @property
    def predicts_symbols(self) -> bool:
        """Whether the reconstruction decoder also predicts the clean symbols. More than one
        refinement step needs them.
        """
        return self.latent_loss > 0 or self.refinement_steps > 1
