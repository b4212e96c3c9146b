"""The convolution at half the size gives what the transposed convolution gives."""

import pytest
import torch
from torch import nn

from systems.layers.up_convolution import FEW, UpConvolution


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("after", [1, 3, FEW, FEW + 1])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_equals_the_transposed_convolution(kernel, after, stride):
    """Also at the borders, where both see zeros outside, for odd and even sides."""
    torch.manual_seed(0)
    own = UpConvolution(6, after, kernel, stride)
    published = nn.ConvTranspose2d(6, after, kernel, stride, kernel // 2, output_padding=stride - 1).double()
    published.load_state_dict(own.state_dict())
    x = torch.randn(2, 6, 5, 8)
    with torch.inference_mode():
        out = own(x)
    assert out.shape == (2, after, 5 * stride, 8 * stride)
    torch.testing.assert_close(out.double(), published(x.double()), rtol=1e-4, atol=1e-5)


def test_three_colours_take_the_short_way():
    """Otherwise the test above compares torch with itself: with a kernel of another form the picture changes."""
    layer = UpConvolution(6, 3, 5, 2)
    layer.of_squares = lambda: torch.zeros(12, 6, 3, 3)
    layer.bias.data.zero_()
    with torch.inference_mode():
        assert not layer(torch.randn(1, 6, 4, 4)).any()
    assert layer(torch.randn(1, 6, 4, 4)).any(), "with gradients, torch's own layer is used"
