"""GenSC's named choices. `register.py` sets each beside the paper's words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GenSCConfig:
    """Sizes in channels and layers; the defaults are Table I's, with the shape of DiT-XL/2."""

    channels: int = 96  # real symbol channels per 16 x 16 block: CBR 1/16
    # Source KB at the transmitter (Table I: window 7, patch 4, heads 3, embedding 96)
    patch: int = 4
    window: int = 7
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 2)
    heads: tuple[int, ...] = (3, 6, 12)
    feature_dim: int = 128
    reconstruction_levels: tuple[int, ...] = (1, 2, 3)
    segmentation_levels: tuple[int, ...] = (2, 3)
    prior: str = "none"
    prior_tasks: tuple[str, ...] = ("segmentation",)
    prior_frozen_stages: int = 3
    selection_dilation: int = 4
    # JSCC encoder (Table I: 3 convolutions, kernel 3, hidden 128)
    encoder_hidden: int = 128
    encoder_grid: int = 8
    encoder_sees_snr: bool = True
    local_gain: bool = True
    # Source KB at the receiver (Table I: 3 convolutions, kernel 3)
    receiver_hidden: int = 128
    receiver_kb: bool = True
    # Reconstruction decoder (Table I: depth 28, patch 2, heads 16; hidden 1152 as in DiT-XL/2)
    decoder_depth: int = 28
    decoder_dim: int = 1152
    decoder_heads: int = 16
    time_dim: int = 1152
    decoder_patch: int = 2
    decoder_window: int = 0  # tokens; 0: every patch attends to every other, as in DiT
    decoder_refine: int = 64
    refinement_steps: int = 1
    time_tied_to_noise: bool = True
    decoder_coefficients: int = 384
    latent_loss: float = 0.01
    activity_loss: float = 0.005
    # Segmentation decoder (Table I: 1 convolution, kernel 3, dropout 0.1, 21 classes)
    segmentation_hidden: int = 256
    segmentation_dilations: tuple[int, int] = (3, 6)
    dropout: float = 0.1
