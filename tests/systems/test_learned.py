"""Tests of what every network has."""

from dataclasses import dataclass

import torch
from torch import nn

from systems.learned import Network


@dataclass(frozen=True)
class Plain:
    """No choices."""


class Volumes(Network):
    """A network with a tensor of five axes, which cannot have the layout of pictures."""

    Config = Plain
    tasks = ("reconstruction",)

    def build(self, config):
        self.flat, self.deep = nn.Conv2d(2, 3, 3), nn.Conv3d(2, 3, 3)


def test_weights_of_pictures_have_the_fast_layout_and_others_their_own():
    network = Volumes("volumes", checkpoint="none", config=Plain())
    assert network.flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert network.deep.weight.is_contiguous() and not network.flat.weight.is_contiguous()
