"""Depthwise convolutions: the same results as torch's layers, and gradients at least as exact in bfloat16."""

import copy

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn

from systems.layers.depthwise import DepthwiseConv2d, replace_depthwise

CASES = [(5, 1, 1, False), (5, 2, 1, True), (3, 2, 1, True), (3, 1, 2, False), (3, 1, 1, False)]


def layers(kernel, stride, dilation, same):
    """Ours, and torch's or timm's with the same weights."""
    torch.manual_seed(1)
    ours = DepthwiseConv2d(32, kernel, stride, dilation, same)
    kind, padding = (Conv2dSame, 0) if same else (nn.Conv2d, dilation * (kernel // 2))
    theirs = kind(32, 32, kernel, stride, padding, dilation, groups=32, bias=False)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(layer, x, upstream, narrow):
    x = x.detach().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        out = layer(x)
    out.backward(upstream.to(out.dtype))
    return out.detach().float(), x.grad, layer.weight.grad


@pytest.mark.parametrize("case", CASES)
def test_in_float32_it_is_the_library_layer(case):
    ours, theirs = layers(*case)
    x = torch.randn(2, 32, 15, 15)
    upstream = torch.randn_like(theirs(x))
    for a, b in zip(gradients(ours, x, upstream, False), gradients(theirs, x, upstream, False), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("case", CASES)
def test_in_bfloat16_gradients_are_those_of_exact_arithmetic_rounded_once(case):
    """Inputs are whole eighths, so bfloat16 holds them exactly. The reference is float64."""
    ours, theirs = layers(*case)
    weight = torch.randint(-8, 9, ours.weight.shape).float() / 8
    ours.weight.data, exact = weight, theirs.double()
    exact.weight.data = weight.double()
    x = torch.randint(-8, 9, (2, 32, 15, 15)).float() / 8
    upstream = torch.randint(-8, 9, exact(x.double()).shape).float() / 8
    found = gradients(ours, x, upstream, True)
    wanted = gradients(exact, x.double(), upstream.double(), False)
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a.bfloat16(), b.float().bfloat16())


def test_a_backbone_keeps_its_names_weights_and_results():
    torch.manual_seed(0)
    net = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    before, random = copy.deepcopy(net), torch.random.get_rng_state()
    replace_depthwise(net)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert sum(isinstance(layer, DepthwiseConv2d) for layer in net.modules()) == 16
    assert not any(type(layer) in (nn.Conv2d, Conv2dSame) and layer.groups > 1 for layer in net.modules())
    assert list(net.state_dict()) == list(before.state_dict())
    picture = torch.rand(1, 3, 64, 96)
    for a, b in zip(net(picture), before(picture), strict=True):
        assert torch.equal(a, b)
