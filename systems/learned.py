"""Base of every system with weights: size, checkpoint, and the one training step that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from systems import zoo
from systems.errors import CheckpointError
from systems.interface import VOID, Link, Received, System, Transmission
from systems.layers.efficientnet import EfficientNetLite0
from systems.layers.klt import BlockKLT
from systems.sizes import fill, load_size

#: The size of weights that others published: their sidecar holds the configuration (`python -m bench weights import`).
IMPORTED = "imported"
PRETRAINED_RATE = 0.2  # share of the learning rate of an ImageNet backbone

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


def size_in(checkpoint: str, size: str) -> str:
    """The size that a checkpoint is used in: `size`, or IMPORTED where the file brings its own configuration."""
    path = Path(checkpoint)
    if checkpoint in ("shipped", "none") or not zoo.sidecar(path).is_file():
        return size
    return IMPORTED if zoo.read_facts(path).get("size") == IMPORTED else size


def starting_config(kind: type, name: str, size: str, checkpoint: str, config=None):
    """The configuration of a network: `config`, or that of its size.

    Where a checkpoint will fill the network, `pretrained` is off: it says where training starts, and the checkpoint is
    where training ended.
    """
    if config is None and size == IMPORTED:
        facts = zoo.read_facts(Path(checkpoint))
        config = fill(kind, facts.get("config", {}), str(zoo.sidecar(Path(checkpoint))))
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
    keys = ("images_seen", "data", "knowledge", "licence", "notes", "sha256", "commit", "undertrained", "origin")
    return {
        "system": module.name,
        "variant": module.variant,
        "size": module.size,
        "parameters": zoo.count_parameters(module),
        "config": asdict(module.config)
        if is_dataclass(module.config) and not isinstance(module.config, type)
        else None,
        **{key: module.facts[key] for key in keys if key in module.facts},
    }


class Network(nn.Module):
    """What is trained: a network with a configuration, a size and a checkpoint.

    Subclasses set `Config` (a frozen dataclass, one field per choice), build their layers in `build(config)`, and give
    losses in `training_step`. `LearnedSystem` is a network with a channel inside; a part that sits behind other
    systems (the FCN) is a network alone.

    checkpoint: "shipped" (default; the weights in the package), "none" (random, fixed by `seed`), or a file's path.
    """

    Config: type
    name: str
    tasks: tuple[str, ...]
    options: tuple[str, ...] = ("size", "checkpoint")
    sends: bool = False  # True: `training_step` sends over its channel; False: it reads pictures, `segment` labels them
    reconstruction_loss = staticmethod(mean_squared_error)  # the trainer sets its protocol's

    def __init__(self, name: str, size: str = "small", checkpoint: str = "shipped", config=None, seed: int = 0):
        super().__init__()
        self.name = name
        self.size = size = size_in(checkpoint, size)
        self.config = starting_config(self.Config, name, size, checkpoint, config)
        with zoo.seeded(seed):
            self.build(self.config)
        self.facts, self.variant = self.fill(checkpoint)
        self.eval()

    def build(self, config) -> None:
        """Create the layers."""
        raise NotImplementedError

    def fill(self, checkpoint: str) -> tuple[dict, str]:
        """Load the checkpoint; gives its sidecar and the variant's tag."""
        return fill_from(self, self.name, self.size, checkpoint)

    def training_step(self, images: Tensor, target: Tensor, link: Link, channel: ChannelFunction) -> dict[str, Tensor]:
        """Losses of one batch, which the trainer sums. images: float32 (B, 3, H, W) in [0, 1]."""
        raise NotImplementedError

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        """Parameters that no other task of this network uses: what training `task` alone may change in weights that
        serve all."""
        if self.tasks == (task,):
            return list(self.parameters())
        raise NotImplementedError(
            f"{self.name} serves {', '.join(self.tasks)} and does not say which parts {task} has to itself"
        )

    def start_from_klt(self, klt: BlockKLT) -> None:
        """Take over measured block-KLT statistics, where training starts. Nothing to do without a linear path."""
        path = getattr(self, "linear_path", None)
        if path is not None:
            path.load(klt)

    def rate_shares(self) -> dict[int, float]:
        """Share of the protocol's learning rate, by `id` of a parameter; those that are not in it have all of it.

        Weights that start trained (an ImageNet backbone) take small steps, which keep them.
        """
        trained = (module for module in self.modules() if isinstance(module, EfficientNetLite0) and module.pretrained)
        return {id(parameter): PRETRAINED_RATE for module in trained for parameter in module.parameters()}

    def knowledge(self) -> tuple[str, ...]:
        """What the network knows before it sees a training picture: a column of the tables."""
        known = []
        if any(getattr(module, "pretrained", False) for module in self.modules()):
            known.append("ImageNet backbone")
        if getattr(self, "linear_path", None) is not None:
            known.append("block-KLT code as linear path")
        return tuple(known)

    def describe(self) -> dict:
        """Facts for the manifest and the table of systems."""
        return describe_network(self)


class LearnedSystem(Network, System):
    """A `System` that is also a network: `encode` and `decode` are differentiable, so training runs the tested path.

    Subclasses clamp pictures to [0, 1] only in evaluation mode: a clamp in training stops the gradient of every
    over-shot pixel.
    """

    learned = True
    sends = True
    joins_snr = True  # training draws an SNR per picture

    @property
    def snr_range_db(self) -> tuple[float, float] | None:
        """Least and largest SNR that the weights were trained at, from their sidecar; None where it does not say."""
        found = self.facts.get("snr_db", self.facts.get("protocol", {}).get("snr_db"))
        return (float(found[0]), float(found[-1])) if found else None

    def told(self, snr_db: Tensor) -> Tensor:
        """What the network is told of an SNR in dB, at both ends alike: the nearest one that it was trained at.

        Beyond its range a network extrapolates, which has cost 15 dB of PSNR. Closed forms get the true noise.
        """
        limits = self.snr_range_db
        return snr_db if self.training or limits is None else snr_db.clamp(*limits)

    def training_step(self, images: Tensor, target: Tensor, link: Link, channel: ChannelFunction) -> dict[str, Tensor]:
        """Losses of one batch: the error of the picture (Eq. 5) or the pixel cross entropy (Eq. 6).

        images: float32 (B, 3, H, W) in [0, 1]. target: the images themselves, or what `pixel_cross_entropy` takes.
        """
        received = channel(self.encode(images, link), link)
        output = self.decode(received, link).output
        if link.task == "reconstruction":
            return {"picture": self.reconstruction_loss(output, target)}
        return {"cross_entropy": pixel_cross_entropy(output, target)}


class FittedSystem(nn.Module, System):
    """A system without a network, whose statistics a closed form makes of training pictures.

    `python -m bench train --systems NAME` calls `fit` and writes what it gives as `<name>-<fitted_size>.safetensors`.
    """

    options = ("checkpoint",)
    fitted_size: str = ""  # in the name of its file
    fitted_task: str = "reconstruction"  # whose training pictures it is fitted to
    fitted_knowledge: str = ""  # what the file knows: a column of the tables

    @classmethod
    def fit(cls, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
        """The file's tensors, from pictures float32 (3, H, W) in [0, 1]."""
        raise NotImplementedError
