"""The training loop as it was before its random draws moved to the device. `perf train` compares the present loop with
it.

Only `bench.perf.train` calls it. Each picture of a batch of four is cropped, flipped and converted on the host. Its
noise is drawn there from its own seed. The moving average goes through the state dict by name, and every step copies
its losses back to the host.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bench.measure.channel import transmit
from bench.measure.tasks import TASKS
from bench.training.crops import Album
from bench.training.draws import step_seed
from bench.training.precision import resolve
from bench.training.protocol import Protocol
from systems.interface import Link

BATCH = 4


class LoopBefore:
    """One system and one task, with `BATCH` crops per step."""

    def __init__(self, system, task: str, protocol: Protocol, album: Album, crop: int, device: str):
        self.module, self.task, self.protocol, self.album = system, task, protocol, album
        self.crop, self.device, self.step = crop, device, 0
        self.plan = protocol.tasks[task]
        self.module.to(device, memory_format=torch.channels_last)
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=protocol.learning_rate, betas=protocol.betas, fused=True)
        self.average = {key: value.detach().clone() for key, value in self.module.state_dict().items()}

    def advance(self) -> dict[str, float]:
        """Do one step of the optimiser. Returns its losses."""
        images, target, link, seeds = self._batch()
        torch.manual_seed(step_seed(self.protocol.seed, self.step, 0, "dropout"))
        self.module.train()
        with self._autocast():
            losses = self.module.training_step(images, target, link, lambda sent, at: transmit(sent, at, seeds))
            loss = sum(losses.values())
        assert torch.isfinite(loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.protocol.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            state = self.module.state_dict()
            floats = [key for key, value in state.items() if value.is_floating_point()]
            torch._foreach_lerp_([self.average[key] for key in floats], [state[key] for key in floats], 0.001)
            for key in state.keys() - set(floats):
                self.average[key].copy_(state[key])
        self.step += 1
        return {key: float(value.detach()) for key, value in losses.items()}

    def _autocast(self):
        if resolve(self.protocol.autocast, self.device) == "off":
            return contextlib.nullcontext()
        return torch.autocast(self.device.partition(":")[0], torch.bfloat16)

    def _batch(self):
        pairs, snrs, seeds = [], [], []
        for row in range(BATCH):
            rng = np.random.default_rng(step_seed(self.protocol.seed, self.task, self.step, row))
            pairs.append(self._draw(rng))
            snrs.append(rng.uniform(*self.protocol.snr_range))
            seeds.append(int(rng.integers(2**62)))
        images = torch.stack([image for image, _ in pairs]).to(self.device, memory_format=torch.channels_last)
        target = (
            images if TASKS[self.task].target == "image" else torch.stack([mask for _, mask in pairs]).to(self.device)
        )
        budget = self.plan.validation_budget(self.crop)
        link = Link(self.task, self.crop, self.crop, budget, self.protocol.channel, torch.tensor(snrs))
        return images, target, link, seeds

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        picture, crop, scale = self.album.training[rng.integers(len(self.album))], self.crop, self.plan.lowest_scale
        height, width = picture.pixels.shape[:2]
        rows = columns = crop
        if scale < 1.0:
            side = min(height, width) * rng.uniform(scale, 1.0)
            aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)) / 2)
            rows, columns = min(height, round(side * aspect)), min(width, round(side / aspect))
        top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        pixels = picture.pixels[top : top + rows, left : left + columns]
        mask = None if picture.mask is None else picture.mask[top : top + rows, left : left + columns]
        if (rows, columns) != (crop, crop):
            pixels = np.asarray(Image.fromarray(pixels).resize((crop, crop), Image.Resampling.BILINEAR))
            if mask is not None:
                mask = np.asarray(Image.fromarray(mask).resize((crop, crop), Image.Resampling.NEAREST))
        if rng.random() < 0.5:
            pixels, mask = pixels[:, ::-1], None if mask is None else mask[:, ::-1]
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255
        return image, None if mask is None else torch.from_numpy(np.array(mask)).long()
