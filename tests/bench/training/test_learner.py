"""Tests of training steps: rates, the moving average, the loss, and a compiled step."""

import numpy as np
import pytest
import torch
from training_ground import album, learner, pictures

import baselines  # noqa: F401  (registers its systems)
from bench.training.crops import Album
from bench.training.distributed import World
from bench.training.protocol import read_protocol
from systems import registry
from systems.errors import UserError
from systems.losses import log_squared_error, mean_squared_error


def test_the_average_is_the_exponential_average_of_the_weights(ground):
    root, protocol = ground
    data = {"reconstruction": album(root, "photos", least_side=32)}
    one = learner(registry.create("deepjscc", checkpoint="none"), read_protocol(protocol(160)), data)
    expected = {key: value.clone() for key, value in one.module.state_dict().items()}
    for step in range(4):
        one.advance()
        decay = min(0.9, (1 + step) / (10 + step))
        for key, value in one.module.state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * value
    for key, value in one.average.values.items():
        torch.testing.assert_close(value, expected[key])


def test_each_system_has_its_learning_rate(ground):
    root, protocol = ground
    plan = read_protocol(protocol(160), learning_rates={"deepjscc": 5e-5}, warmup=0)
    data = {"reconstruction": album(root, "photos", least_side=32)}
    for name, rate in (("deepjscc", 5e-5), ("adjscc", 1e-3)):
        report = learner(registry.create(name, checkpoint="none"), plan, data).advance()
        assert report["lr"] == rate


def test_the_logarithmic_loss_weighs_each_picture_by_its_own_error():
    """The gradient of 0.1 log(MSE + 0.0003) is 0.1 / (MSE + 0.0003) times that of the MSE, for each picture."""
    target = torch.zeros(2, 3, 4, 4)
    output = torch.stack([torch.full((3, 4, 4), 0.3), torch.full((3, 4, 4), 0.01)]).requires_grad_()
    (gradient,) = torch.autograd.grad(log_squared_error(output, target), output)
    (plain,) = torch.autograd.grad(mean_squared_error(output, target), output)
    for picture, error in enumerate((0.3**2, 0.01**2)):
        assert torch.allclose(gradient[picture], 0.1 / (error + 3e-4) * plain[picture], rtol=1e-4)


def test_a_batch_that_does_not_divide_is_refused(ground):
    _, protocol = ground
    data = {"reconstruction": Album(pictures(), "made", 1, 32)}
    with pytest.raises(UserError, match="a batch of 4 does not divide over 3 processes"):
        learner(registry.create("deepjscc", checkpoint="none"), read_protocol(protocol(8)), data, world=World(0, 3))


@pytest.mark.slow
def test_a_compiled_step_trains_what_the_plain_one_trains(ground):
    """The losses over three steps agree up to the rounding of fused kernels, and no step recompiles."""
    import torch._dynamo

    root, protocol = ground
    data = {"reconstruction": album(root, "photos", least_side=32)}
    curves = []
    for compiled in (False, True):
        plan = read_protocol(protocol(160), compile=compiled, learning_rate=1e-4)
        one = learner(registry.create("deepjscc", checkpoint="none"), plan, data)
        torch._dynamo.utils.counters.clear()
        curves.append([float(one.advance()["losses"]["picture"]) for _ in range(3)])
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 8
