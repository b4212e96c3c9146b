"""Base classes of all systems that learn: network, size, checkpoint, and the training step that they share.

Systems derive from `LearnedSystem` (a network), or from `FittedSystem` (statistics, computed in closed form). The
trainer (`bench.training`) calls `training_step`, `rate_shares` and `start_from_klt`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from systems import sidecars, weight_files
from systems.errors import FAULTS, CheckpointError, UserError, reason
from systems.interface import Link, Received, System, Transmission
from systems.layers.klt import BlockKLT
from systems.layers.linear_path import LinearPath, PowerAllocation
from systems.losses import mean_squared_error, pixel_cross_entropy
from systems.precision import check_precision, in_bfloat16
from systems.sizes import fill, load_size, sizes_of

#: Size of weights that others published (`python -m bench weights import`). Their sidecar holds the configuration.
IMPORTED = "imported"
PRETRAINED_RATE = 0.2  # an ImageNet backbone's share of the learning rate
GAIN_RATE = 0.1  # that of the channels' powers

ChannelFunction = Callable[[Transmission, Link], Received]


class BackboneConfig:
    """Base of the configurations (dataclasses) with a field `pretrained`: training starts from a backbone's weights."""

    pretrained: bool


def size_in(checkpoint: str, size: str) -> str:
    """The size that a checkpoint is used in: `size`, or IMPORTED where the weight file has its own configuration.

    Raises CheckpointError if the file's sidecar cannot be read.
    """
    path = Path(checkpoint)
    if checkpoint in ("shipped", "none") or not sidecars.sidecar(path).is_file():
        return size
    return IMPORTED if sidecars.read_facts(path).get("size") == IMPORTED else size


def starting_config(kind: type, name: str, size: str, checkpoint: str, config=None):
    """The configuration of a network: `config` if it is given, otherwise that of the size.

    kind: the dataclass of the configuration. name: of the system. Where a checkpoint will fill the network, the field
    `pretrained` of a `BackboneConfig` is set to False, because these weights would be overwritten. Raises UserError for
    an unknown size or a wrong configuration.
    """
    if config is None and size == IMPORTED:
        facts = sidecars.read_facts(Path(checkpoint))
        config = fill(kind, facts.get("config", {}), str(sidecars.sidecar(Path(checkpoint))))
    config = config if config is not None else load_size(kind, name, size)
    if checkpoint != "none" and isinstance(config, BackboneConfig):
        config = replace(config, pretrained=False)  # type: ignore[type-var]
    return config


@contextmanager
def configured_by_others(size: str, checkpoint: str) -> Iterator[None]:
    """In a `with` block, in which a network is built: a configuration from the sidecar of imported weights is a
    stranger's. Raises CheckpointError if no network can be built by it, or only a larger one than its file holds.
    """
    if size != IMPORTED or checkpoint == "none":
        yield
        return
    where = sidecars.sidecar(Path(checkpoint))
    try:
        with weight_files.no_larger_than(Path(checkpoint), str(where)):
            yield
    except UserError:
        raise
    except FAULTS as error:
        raise CheckpointError(
            f"{where}: no network can be built by its `config` ({reason(error)}); import the weights again"
        ) from None


def fill_from(module: nn.Module, name: str, size: str, checkpoint: str) -> tuple[dict, str]:
    """Load the "shipped" weights, or those of a file, into `module`; "none" changes nothing.

    Returns the facts of the sidecar and the tag of the variant. Raises CheckpointError if the weights are missing,
    altered, or of another system or size, or if their sidecar gives SNRs that are none.
    """
    if checkpoint == "none":
        return {}, f"{size}-untrained"
    package = type(module).__module__.partition(".")[0]
    path = weight_files.shipped(package, name, size) if checkpoint == "shipped" else Path(checkpoint)
    if path is None:
        raise CheckpointError(
            f"{name} ships no weights in size {size!r}; train them (`python -m bench train --systems {name} "
            f"--size {size}`) and pass the file with --checkpoint, or {_other_choice(package, name)}"
        )
    facts = weight_files.load_weights(module, path)
    trained = facts.get("system", name), facts.get("size", size)
    if trained != (name, size):  # another configuration may have the same shapes
        fix = f"ask for --size {trained[1]}" if trained[0] == name else f"name a file of {name}"
        raise CheckpointError(
            f"{path}: these are weights of {trained[0]} in size {trained[1]}, not of {name} in size {size}; {fix}"
        )
    told = _told_beside(facts, str(sidecars.sidecar(path)))  # raises here, not at the first picture
    tag = f"{size}-{facts['sha256'][:8]}"
    if checkpoint == "shipped":
        return facts, tag
    ours = weight_files.shipped(package, name, size)
    known = {} if ours is None else sidecars.read_facts(ours)
    same = facts["sha256"] == known.get("sha256") and told == _told_beside(known)
    return facts, tag if same else f"{tag}-{hashlib.sha256(told.encode()).hexdigest()[:4]}"


def _told_beside(facts: dict, where: str = "the sidecar") -> str:
    """What a sidecar tells a network beside its weights, as JSON. The hash of the weights does not hold it. where: the
    file, for messages. Raises CheckpointError for SNRs that are none.
    """
    return json.dumps([sidecars.snr_range_db(facts, where), facts.get("config")], sort_keys=True)


def _other_choice(package: str, name: str) -> str:
    """The second half of the advice for a size without weights: the sizes that ship, or random weights."""
    ready = [size for size in sizes_of(name) if weight_files.shipped(package, name, size)]
    return f"ask for --size {' or '.join(ready)}" if ready else "run it untrained (--checkpoint none)"


def describe_network(module) -> dict:
    """Facts for the manifest and the table of systems, from a network's name, size, variant and sidecar."""
    keys = ("images_seen", "data", "knowledge", "licence", "notes", "sha256", "commit", "undertrained", "origin")
    return {
        "system": module.name,
        "variant": module.variant,
        "size": module.size,
        "parameters": weight_files.count_parameters(module),
        "config": asdict(module.config)
        if is_dataclass(module.config) and not isinstance(module.config, type)
        else None,
        **{key: module.facts[key] for key in keys if key in module.facts},
    }


class Network(nn.Module):
    """A network that can be trained, with a configuration, a size and a checkpoint.

    Subclasses set `Config` (a frozen dataclass with one field per choice), create their layers in `build(config)`, and
    compute losses in `training_step`. A `LearnedSystem` is a network with a channel inside. A part of other systems
    (the FCN) is only a `Network`.

    checkpoint: "shipped" (default; the weights in the package), "none" (random weights, fixed by `seed`), or a file's
    path. precision: one of `systems.precision.PRECISIONS`, for `encode`, `decode` and `segment`; the variant names it
    unless it is float32.
    Raises UserError for an unknown size or precision, CheckpointError for weights that are missing or do not fit.
    """

    Config: type
    name: str
    tasks: tuple[str, ...]
    options: tuple[str, ...] = ("size", "checkpoint", "precision")
    sends: bool = False  # True: `training_step` sends over a channel; False: pictures are only labelled, by `segment`
    watching: bool = False  # evaluated between steps: a system may take the short cuts that training takes
    host_free: bool = True  # a training step needs nothing of the host, so that a GPU can record and replay it
    reconstruction_loss = staticmethod(mean_squared_error)  # the trainer sets the loss of its protocol
    linear_path: LinearPath | None  # the block-KLT code beside the network; None unless `build` creates one

    def __init__(
        self,
        name: str,
        size: str = "small",
        checkpoint: str = "shipped",
        config=None,
        seed: int = 0,
        precision: str = "float32",
    ):
        super().__init__()
        self.name = name
        self.size = size = size_in(checkpoint, size)
        self.linear_path = None  # not a class attribute: that would hide a module which `build` sets
        with weight_files.seeded(seed), configured_by_others(size, checkpoint):
            self.config = starting_config(self.Config, name, size, checkpoint, config)
            self.build(self.config)
        self.facts, self.variant = self.fill(checkpoint)
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.ndim == 4:  # oneDNN and cuDNN convolve fastest in this layout, which others cannot have
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        if check_precision(precision) == "bf16":
            self.variant += "-bf16"
            for call in ("prepare", "encode", "decode", "segment"):
                if hasattr(self, call):
                    setattr(self, call, in_bfloat16(getattr(self, call)))
        self.eval()

    def build(self, config) -> None:
        """Create the layers that `config` describes. Every subclass implements it."""
        raise NotImplementedError(f"{type(self).__name__} must implement build(config), which creates its layers")

    def fill(self, checkpoint: str) -> tuple[dict, str]:
        """Load the checkpoint. Returns the facts of its sidecar and the tag of the variant. Raises CheckpointError."""
        return fill_from(self, self.name, self.size, checkpoint)

    def training_step(self, images: Tensor, target: Tensor, link: Link, channel: ChannelFunction) -> dict[str, Tensor]:
        """Losses of one batch by name, each a scalar; the trainer adds them up.

        images: float32 (B, 3, H, W) in [0, 1]. target: the images, or labels as `pixel_cross_entropy` takes them.
        channel: sends a transmission and returns the received symbols.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement training_step, which returns its losses")

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        """Parameters that no other task of this network uses.

        When a network that serves several tasks is trained for `task` alone, only these may change. Raises
        NotImplementedError if the network serves several tasks and does not override this method.
        """
        if self.tasks == (task,):
            return list(self.parameters())
        raise NotImplementedError(
            f"{self.name} serves {', '.join(self.tasks)}, so it must implement own_parameters(task) to be trained for "
            f"{task} alone"
        )

    def start_from_klt(self, klt: BlockKLT) -> None:
        """Copy measured block-KLT statistics into the linear path, before training starts.

        A network without a linear path ignores them.
        """
        if self.linear_path is not None:
            self.linear_path.load(klt)

    def rate_shares(self) -> dict[int, float]:
        """Share of the protocol's learning rate, by `id` of a parameter. Parameters that are not listed get the whole
        rate.

        Weights that are already trained at the start (an ImageNet backbone) get a small share, so that small steps
        preserve them. So do the channels' powers, because all other weights adapt to them.
        """
        # Imported here because it loads timm and torchvision, which take seconds and which most networks do not need.
        from systems.layers.efficientnet import EfficientNetLite0

        trained = (module for module in self.modules() if isinstance(module, EfficientNetLite0) and module.pretrained)
        shares = {id(parameter): PRETRAINED_RATE for module in trained for parameter in module.parameters()}
        gains = (module for module in self.modules() if isinstance(module, PowerAllocation))
        return shares | {id(parameter): GAIN_RATE for module in gains for parameter in module.parameters()}

    def knowledge(self) -> tuple[str, ...]:
        """Prior knowledge that the network has before training, in words: a column of the tables."""
        known = []
        if any(getattr(module, "pretrained", False) for module in self.modules()):
            known.append("ImageNet backbone")
        if self.linear_path is not None:
            known.append("block-KLT code as linear path")
        return tuple(known)

    def describe(self) -> dict:
        """Facts for the manifest and the table of systems: see `describe_network`."""
        return describe_network(self)


class LearnedSystem(Network, System):
    """A `System` that is also a network. `encode` and `decode` are differentiable, so training runs the code that is
    measured.

    Subclasses clamp pictures to [0, 1] only in evaluation mode. In training a clamp would stop the gradient of every
    pixel outside this range.
    """

    learned = True
    sends = True
    joins_snr = True  # training draws one SNR per picture

    @property
    def snr_range_db(self) -> tuple[float, float] | None:
        """Lowest and highest SNR in dB that the weights were trained at, from their sidecar;
        None if it is not given.
        """
        return sidecars.snr_range_db(self.facts)

    def told(self, snr_db: Tensor) -> Tensor:
        """The SNR in dB that the network is given, at both ends alike: the nearest one to `snr_db` that it was trained
        at.

        snr_db: any shape; the result has the same. In training it is returned unchanged. Outside its range a network
        extrapolates, and this has cost 15 dB of PSNR. Closed forms (LMMSE) use the true SNR.
        """
        limits = self.snr_range_db
        return snr_db if self.training or limits is None else snr_db.clamp(*limits)

    def shared_snr_db(self, link: Link, batch: Tensor) -> Tensor:
        """The SNR of the link in dB, (B,), as both ends tell it to the network. batch: a tensor (B, ...)."""
        return self.told(link.snr_tensor(len(batch), batch.device))

    def training_step(self, images: Tensor, target: Tensor, link: Link, channel: ChannelFunction) -> dict[str, Tensor]:
        """Losses of one batch: the error of the picture (Eq. 5) or the pixel cross entropy (Eq. 6), a scalar.

        images: float32 (B, 3, H, W) in [0, 1].
        target: the images themselves (reconstruction), or labels as `pixel_cross_entropy` takes them. Raises
        NotImplementedError for another task, whose loss is not known.
        """
        known = {
            "reconstruction": ("picture", self.reconstruction_loss),
            "segmentation": ("cross_entropy", pixel_cross_entropy),
        }
        if link.task not in known:
            raise NotImplementedError(
                f"{self.name} must implement training_step: the loss of the task {link.task} is not known"
            )
        received = channel(self.encode(images, link), link)
        name, loss = known[link.task]
        return {name: loss(self.decode(received, link).output, target)}


class FittedSystem(nn.Module, System):
    """A system without a network. A closed form computes its statistics from training pictures.

    `python -m bench train --systems NAME` calls `fit` and writes the tensors to `<name>-<fitted_size>.safetensors`.
    """

    options = ("checkpoint",)
    fitted_size: str = ""  # the size in the name of its weight file
    fitted_task: str = "reconstruction"  # the task whose training pictures it is fitted to
    fitted_knowledge: str = ""  # the prior knowledge in the file, in words: a column of the tables

    @classmethod
    def fit(cls, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
        """Compute the tensors of the weight file, by name, from pictures float32 (3, H, W) in [0, 1]."""
        raise NotImplementedError(f"{cls.__name__} must implement fit(pictures), which returns its tensors")
