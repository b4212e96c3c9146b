"""Tests that a training step reads no value back from the device. On a GPU such a read waits for all earlier work."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_ground import HEAD, learner, pictures

from bench.training import draws
from bench.training.crops import Album
from bench.training.protocol import read_protocol
from bench.training.run import build

#: Operations whose result, or its size, the host needs before it can continue.
#: `lift_fresh` makes a tensor from the host's numbers; its copy to a GPU waits as well.
WAITING = (
    "aten.lift_fresh",
    "aten._local_scalar_dense",
    "aten.item",
    "aten.nonzero",
    "aten.is_nonzero",
    "aten.equal",
    "aten.unique",
)


class Listener(TorchDispatchMode):
    """Records the operations that wait for the device."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if str(function).startswith(WAITING):
            self.found.append(str(function))
        if str(function).startswith(("aten.index.Tensor", "aten.index_put")):
            self.found += [
                f"{function} by a mask" for index in args[1] if index is not None and index.dtype == torch.bool
            ]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "size", "task"),
    [
        ("gensc", "light", "reconstruction"),
        ("gensc", "light", "segmentation"),
        ("gensc", "small", "reconstruction"),
        ("adjscc", "light", "reconstruction"),
        ("deepjscc", "light", "reconstruction"),
        ("witt", "light", "reconstruction"),
        ("gensc-select", "light", "reconstruction"),
        ("adjscc-select", "small", "reconstruction"),
        ("deeplab-jscc", "light", "segmentation"),
        ("fcn", "light", "segmentation"),
    ],
)
def test_a_step_waits_for_nothing(tmp_path, monkeypatch, name, size, task):
    path = tmp_path / "p.toml"
    budget = (
        'cbr = "1/16"' if task == "reconstruction" else "kbits = [3, 50]\nlowest_scale = 0.5\nbalance_classes = true"
    )
    path.write_text(
        HEAD
        + f"""[tasks.{task}]
images_seen = 100
stages = [{{ until = 1.0, crop = 64, batch = 2 }}]
sources = ["made"]
{budget}
"""
    )
    data = {task: Album(pictures(count=4, height=70, width=80, mask=True), "other", 0, 64, task == "segmentation")}
    one = learner(build(name, size, "none"), read_protocol(path), data)
    one.advance()  # AdamW creates its state in the first step
    monkeypatch.setattr(draws, "host_uniforms", lambda seed, count: [0.25] * count)  # the host's own numbers
    with Listener() as listener:
        one.advance()
    assert not listener.found, listener.found


def test_the_listener_hears():
    with Listener() as listener:
        one = torch.ones(3)
        float(one.sum())
        one[one > 0]
        torch.tensor([1.0, 2.0])
    assert len(listener.found) == 3
