"""The update of the weights: which parameters are trained, at which rates, the clipping of gradients, and the moving
average of the weights.

`learner` calls it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bench.training.protocol import Protocol
from systems.learned import Network


def freeze_shared(module: Network, tasks: Iterable[str], protocol: Protocol) -> None:
    """If only some tasks of existing weights are trained, freeze the parameters that the other tasks use."""
    tasks = set(tasks)
    if protocol.start == "none" or tasks == set(module.tasks):
        return
    own = {id(parameter) for task in tasks for parameter in module.own_parameters(task)}
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in own)


def make_optimiser(module: Network, parameters: list[nn.Parameter], protocol: Protocol) -> torch.optim.AdamW:
    """AdamW by the protocol. Parameters with the same share of the learning rate form a group."""
    shares = module.rate_shares()
    groups = [
        {"params": [p for p in parameters if shares.get(id(p), 1.0) == scale], "scale": scale}
        for scale in sorted({shares.get(id(parameter), 1.0) for parameter in parameters})
    ]
    return torch.optim.AdamW(
        groups,
        lr=protocol.rate_of(module.name),
        betas=protocol.betas,
        weight_decay=protocol.weight_decay,
        fused=True,
    )


def update(optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter], rate: float, clip_norm: float) -> None:
    """Clip the gradients of all parameters together to the norm `clip_norm`, and do one step at the learning rate
    `rate`. A group of parameters takes its share of the rate.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]
    nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimiser.step()


class MovingAverage:
    """The exponential moving average of a network's weights and running statistics. Counters are copied.

    decay: the share of the average that one step keeps, in the long run. In the first steps it is less.
    values: the average, with the names and shapes of the state dict.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self._live = module.state_dict()
        self.values: dict[str, Tensor] = {key: value.detach().clone() for key, value in self._live.items()}
        self._floats = [key for key, value in self._live.items() if value.is_floating_point()]
        self._counters = [key for key in self._live if key not in set(self._floats)]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Update the average after the weights were changed. step: number of steps before this one."""
        decay = min(self.decay, (1 + step) / (10 + step))
        average, live = self.values, self._live
        torch._foreach_lerp_([average[key] for key in self._floats], [live[key] for key in self._floats], 1 - decay)
        for key in self._counters:
            average[key].copy_(live[key])
