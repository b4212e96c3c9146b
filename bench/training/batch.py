"""The batches of training: crops of a task's pictures, with an SNR and a budget, drawn for one step.

`learner` calls it. A batch depends only on (seed, task, step, position in the batch), and not on earlier batches.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.digital import codec as source_codec
from baselines.digital.system import from_uint8, to_pictures
from bench.measure.tasks import TASKS
from bench.training import draws
from bench.training.crops import Album, Window
from bench.training.distributed import World
from bench.training.protocol import CropStage, Protocol, TaskProtocol
from bench.training.teacher import soften
from systems.interface import VOID, Link


@dataclass(frozen=True)
class TrainingBatch:
    """This process's part of one step's batch.

    images: float32 (B, 3, crop, crop).
    target: as `training_step` takes it.
    keys: int64 (B,), of the samples' draws.
    size: samples of the whole batch.
    """

    task: str
    images: Tensor
    target: Tensor
    link: Link
    keys: Tensor
    size: int


class Batches:
    """Draws the batches of a system's training.

    albums: the pictures of each task.
    taught: whether a teacher's labels are mixed into the targets.
    sends: whether the system has a channel inside. One that has none stands behind a digital link, and is trained on
    pictures that were coded.
    """

    def __init__(self, protocol: Protocol, albums: dict[str, Album], world: World, taught: bool, sends: bool):
        self.protocol, self.albums, self.world, self.taught, self.sends = protocol, albums, world, taught, sends

    def draw(self, task: str, stage: CropStage, step: int) -> TrainingBatch:
        """This process's part of the batch of a step. stage: of the task's crop schedule."""
        protocol, world, plan = self.protocol, self.world, self.protocol.tasks[task]
        seed = draws.step_seed(protocol.seed, task, step)
        places = torch.arange(world.rank, stage.batch, world.size, device=world.device)
        keys = draws.sample_keys(seed, places)
        window = Window(stage.crop, plan.lowest_scale, plan.whole, plan.balance_classes)
        crops = self.albums[task].cut(keys, window)
        low, high = protocol.snr_range
        budget = plan.budget(stage.crop, draws.host_uniforms(draws.step_seed(seed, "budget"), 2))
        snr_db = low + (high - low) * crops.snr
        link = Link(task, stage.crop, stage.crop, budget, protocol.channel, snr_db)
        images = crops.images.contiguous(memory_format=torch.channels_last)
        if TASKS[task].target == "image":
            target = images
        else:
            target = soften(crops.mask, crops.labels, plan.distill if self.taught else 0.0, VOID)
            if plan.coded and not self.sends:
                images = self._coded(images, plan, step)
        return TrainingBatch(task, images, target, link, keys, stage.batch)

    def _coded(self, images: Tensor, plan: TaskProtocol, step: int) -> Tensor:
        """The crops for a network behind a digital link: some of them are JPEG files of a few bytes, decoded again.

        JPEG runs on the host, with one thread per core. The bytes of each crop are drawn from its position in the
        batch.
        """

        def one(row: int) -> Tensor | None:
            place = self.world.rank + row * self.world.size
            rng = np.random.default_rng(draws.step_seed(self.protocol.seed, "coded", step, place))
            if rng.random() >= plan.coded:
                return None
            most = round(np.exp(rng.uniform(*np.log(plan.coded_bytes))))
            file = source_codec.encode_under(pixels[row], most).payload
            return from_uint8(source_codec.decode(file, "jpeg", *pixels[row].shape[:2]))

        pixels = to_pictures(images)
        with ThreadPoolExecutor() as pool:
            coded = list(pool.map(one, range(len(images))))
        images = images.clone()
        for row, picture in enumerate(coded):
            if picture is not None:
                images[row] = picture
        return images
