"""Base of every system with weights: size, checkpoint, and the one training step that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from systems import zoo
from systems.errors import CheckpointError
from systems.interface import VOID, Link, Received, System, Transmission
from systems.sizes import load_size

ChannelFunction = Callable[[Transmission, Link], Received]


def pixel_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Eq. 6, the mean over pixels. target: class indices int64 (B, H, W) with 255 = void, or probabilities (B, 21, H,
    W)."""
    if target.is_floating_point():
        return F.cross_entropy(logits.float(), target)
    return F.cross_entropy(logits.float(), target, ignore_index=VOID)


def mean_squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Eq. 5."""
    return F.mse_loss(output, target)


def log_squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean over pictures of log(MSE + 0.0003): Eq. 5 in decibels, the scale on which systems are compared.

    Eq. 5 itself is decided by pictures at 0 dB, whose squared error is ten times that at 20 dB. The constant (35 dB)
    keeps crops of plain sky from deciding instead. Scaled to gradients of a size with those of a cross entropy.
    """
    error = (output - target).square().mean(dim=(1, 2, 3))
    return 0.1 * (error + 3e-4).log().mean()


RECONSTRUCTION_LOSSES = {"mse": mean_squared_error, "log_mse": log_squared_error}


def starting_config(kind: type, name: str, size: str, checkpoint: str, config=None):
    """The configuration of a network: `config`, or that of its size. Where a checkpoint will fill it, `pretrained` is
    off:
    it says where training starts, and the checkpoint is where it ended."""
    config = config if config is not None else load_size(kind, name, size)
    if checkpoint != "none" and getattr(config, "pretrained", False):
        config = replace(config, pretrained=False)
    return config


def fill_from(module: nn.Module, name: str, size: str, checkpoint: str) -> tuple[dict, str]:
    """Load "shipped" weights or a file's into `module` ("none": leave it); gives the sidecar and the variant's tag."""
    if checkpoint == "none":
        return {}, f"{size}-untrained"
    package = type(module).__module__.partition(".")[0]
    path = zoo.shipped(package, name, size) if checkpoint == "shipped" else Path(checkpoint)
    if path is None:
        raise CheckpointError(
            f"{name} ships no weights in size {size!r}; train them (`python -m bench train --systems {name} "
            f"--size {size}`) and pass the file, or ask for size small"
        )
    facts = zoo.load_weights(module, path)
    trained = facts.get("system", name), facts.get("size", size)
    if trained != (name, size):  # another configuration may have the same shapes
        raise CheckpointError(
            f"{path}: are weights of {trained[0]} in size {trained[1]}, not of {name} in size {size}; ask for "
            f"--size {trained[1]}, or train this size"
        )
    return facts, f"{size}-{facts['sha256'][:8]}"


def describe_network(module) -> dict:
    """Facts for the manifest and the table of systems, from a network's name, size, variant and sidecar."""
    keys = ("images_seen", "data", "knowledge", "licence", "notes", "sha256", "commit", "undertrained")
    return {
        "system": module.name,
        "variant": module.variant,
        "size": module.size,
        "parameters": zoo.count_parameters(module),
        "config": asdict(module.config) if is_dataclass(module.config) else None,
        **{key: module.facts[key] for key in keys if key in module.facts},
    }


class LearnedSystem(nn.Module, System):
    """A `System` that is also a network: `encode` and `decode` are differentiable, so training runs the tested path.

    Subclasses set `Config` (a frozen dataclass, one field a choice), build their layers in `build(config)`, and clamp
    pictures to [0, 1] only in evaluation mode: a clamp in training stops the gradient of every over-shot pixel.

    checkpoint: "shipped" (default; the weights in the package), "none" (random, fixed by `seed`), or a file's path.
    """

    Config: type
    joins_snr = True  # training draws an SNR a picture
    reconstruction_loss = staticmethod(mean_squared_error)  # the trainer sets its protocol's

    def __init__(self, name: str, size: str = "small", checkpoint: str = "shipped", config=None, seed: int = 0):
        super().__init__()
        self.name = name
        self.size = size
        self.config = starting_config(self.Config, name, size, checkpoint, config)
        with zoo.seeded(seed):
            self.build(self.config)
        self.facts, self.variant = fill_from(self, name, size, checkpoint)
        self.eval()

    def build(self, config) -> None:
        """Create the layers."""
        raise NotImplementedError

    def training_step(self, images: Tensor, target: Tensor, link: Link, channel: ChannelFunction) -> dict[str, Tensor]:
        """Losses of one batch, summed by the trainer: the error of the picture (Eq. 5) or the pixel cross entropy (Eq.
        6).

        images (B, 3, H, W) in [0, 1]; target: the images themselves, or what `pixel_cross_entropy` takes.
        """
        received = channel(self.encode(images, link), link)
        output = self.decode(received, link).output
        if link.task == "reconstruction":
            return {"picture": self.reconstruction_loss(output, target)}
        return {"cross_entropy": pixel_cross_entropy(output, target)}

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        """Parameters that no other task of this system uses: what training `task` alone changes in weights that serve
        all."""
        if self.tasks == (task,):
            return list(self.parameters())
        raise NotImplementedError(
            f"{self.name} serves {', '.join(self.tasks)} and does not say which parts {task} has to itself"
        )

    def describe(self) -> dict:
        return describe_network(self)
