"""Linear layers by oneDNN give what torch's own give, in float32 and bfloat16, and leave gradients to torch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from systems.layers.dense import Dense, by_onednn, linear, pointwise, two_layers
from systems.precision import bfloat16

# Products of 128 values of variance 1: float32 keeps 24 bits of sums of about 11, over 128 additions.
CLOSE = {"rtol": 1e-5, "atol": 1e-4}


@pytest.mark.parametrize("shape", [(1, 128), (3, 50, 128), (2, 4, 4, 128)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_gives_what_torch_gives(shape, bias):
    """Without gradients by oneDNN, with gradients by torch."""
    torch.manual_seed(0)
    layer, x = Dense(128, 96, bias=bias), torch.randn(shape)
    expected = F.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
    with torch.inference_mode():
        assert by_onednn(x), "on a CPU this must be oneDNN, or the test compares torch with itself"
        torch.testing.assert_close(layer(x).double(), expected, **CLOSE)
    torch.testing.assert_close(layer(x).double(), expected, **CLOSE)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_that_of_torch(approximate):
    """The exact form and the approximation by tanh differ by up to 5e-4, so they cannot be taken for each other."""
    torch.manual_seed(0)
    layer, x = Dense(8, 4096), 2 * torch.randn(16, 8)
    expected = F.gelu(F.linear(x.double(), layer.weight.double(), layer.bias.double()), approximate=approximate)
    with torch.inference_mode():
        torch.testing.assert_close(layer.then_gelu(x, approximate).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.then_gelu(x, approximate).double(), expected, rtol=1e-5, atol=1e-5)


def test_a_part_of_a_matrix_is_a_weight():
    """The block KLT multiplies by the first columns of its basis, which are no contiguous matrix."""
    torch.manual_seed(0)
    basis, x = torch.randn(768, 384), torch.randn(2, 30, 96)
    with torch.inference_mode():
        out = linear(x, basis[:, :96], None)
    torch.testing.assert_close(out.double(), x.double() @ basis[:, :96].T.double(), **CLOSE)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_1x1_convolution_is_a_linear_layer_of_the_channels(layout):
    """In both layouts, and the output is again (B, channels, h, w)."""
    torch.manual_seed(0)
    x, weight = torch.randn(2, 48, 5, 7).contiguous(memory_format=layout), torch.randn(20, 48)
    expected = torch.einsum("oc,bchw->bohw", weight.double(), x.double())
    with torch.inference_mode():
        torch.testing.assert_close(pointwise(x, weight).double(), expected, **CLOSE)
    torch.testing.assert_close(pointwise(x, weight).double(), expected, **CLOSE)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN cannot multiply bfloat16 here")
@pytest.mark.parametrize("approximate", [None, "none", "tanh"])
def test_in_bfloat16_factors_are_rounded_and_the_result_once(approximate):
    """Also behind GELU: torch, which makes two steps, rounds between them too."""
    torch.manual_seed(0)
    layer, x = Dense(64, 4096), torch.randn(16, 64)
    factors = (tensor.bfloat16().double() for tensor in (x, layer.weight, layer.bias))
    expected = F.linear(*factors)
    if approximate is not None:
        expected = F.gelu(expected, approximate=approximate)
    with torch.no_grad(), bfloat16("cpu"):
        assert by_onednn(x)
        out = layer(x) if approximate is None else layer.then_gelu(x, approximate)
    assert out.dtype == torch.bfloat16
    # 8 significant bits: half of the last is 2^-8 of the value at most. Sums in float32 add 1e-5.
    torch.testing.assert_close(out.double(), expected, rtol=2**-8, atol=1e-5)


def test_gradients_are_left_to_torch():
    """oneDNN's operator has no gradient."""
    layers = nn.Sequential(Dense(16, 64), nn.GELU(), nn.Identity(), Dense(64, 16))
    x = torch.randn(5, 16, requires_grad=True)
    two_layers(layers, x).square().sum().backward()
    expected = torch.autograd.grad(layers(x).square().sum(), x)[0]
    torch.testing.assert_close(x.grad, expected)
    with torch.no_grad():
        assert by_onednn(x.detach()) and not by_onednn(x.detach().double())
