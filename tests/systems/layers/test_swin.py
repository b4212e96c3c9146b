"""Tests of the Swin blocks: they agree with torchvision's at every size, and a token reaches its own window only."""

import pytest
import torch
from torchvision.models.swin_transformer import ShiftedWindowAttention, SwinTransformerBlock

from systems import weight_files
from systems.layers.swin import SwinBlock, WindowAttention, relative_positions

SIZES = [(8, 8), (16, 16), (8, 24), (24, 16), (40, 32), (64, 8)]


def pair(window=8, shift=4, dim=24, heads=3):
    with weight_files.seeded(1):
        theirs = SwinTransformerBlock(dim, heads, [window] * 2, [shift] * 2).eval()
        ours = SwinBlock(dim, heads, window, shift).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    state = {key: value for key, value in theirs.state_dict().items() if "position_index" not in key}
    ours.load_state_dict(state)
    return ours, theirs


#: Swin's own program does not shift a map of one row of windows; torchvision shifts its longer side.
AS_TORCHVISION = [(size, shift) for size in SIZES for shift in (0, 4) if not shift or min(size) > 8 or max(size) == 8]


@pytest.mark.parametrize(("size", "shift"), AS_TORCHVISION)
def test_it_is_torchvision_s_block(size, shift):
    ours, theirs = pair(shift=shift)
    x = torch.randn(3, *size, 24, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted, fast = theirs(x), ours(x)
    assert torch.allclose(fast, wanted, atol=2e-5) and torch.allclose(ours(x), wanted, atol=2e-5)


@pytest.mark.parametrize("shift", [0, 3])
def test_attention_alone_is_torchvision_s_with_an_odd_window(shift):
    theirs = ShiftedWindowAttention(12, [7, 7], [shift, shift], 2).eval()
    ours = WindowAttention(12, 7, shift, 2)
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if "position_index" not in key})
    x = torch.randn(2, 14, 21, 12)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_gradients_are_torchvision_s():
    ours, theirs = pair()
    x = torch.randn(2, 16, 24, 24)
    grads = []
    for block in (ours, theirs):
        y = x.clone().requires_grad_()
        block(y).square().sum().backward()
        grads.append({"input": y.grad, **{name: p.grad for name, p in block.named_parameters()}})
    for name, wanted in grads[1].items():
        assert torch.allclose(grads[0][name], wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max()), name


def test_a_map_with_a_side_of_one_window_is_not_shifted():
    """As in Swin's own program: where the smaller side holds one window, the windows are those of the plain block."""
    shifted, _ = pair(shift=4)
    plain, _ = pair(shift=0)
    plain.load_state_dict(shifted.state_dict())
    x = torch.randn(1, 8, 24, 24)
    with torch.no_grad():
        assert torch.equal(shifted(x), plain(x))


@pytest.mark.parametrize("size", [(8, 8), (8, 24), (16, 8)])
def test_windows_may_shift_on_a_map_of_one_window(size):
    """As in WITT's program, which decides it when the network is built. Beside attention over all tokens, of which
    each sees those of its window and of its region: the parts of a window that meet by the cyclic shift are apart.
    """
    window, shift, (height, width) = 8, 4, size
    block = SwinBlock(12, 2, window, shift, always=True).eval()
    x = torch.randn(1, height, width, 12, generator=torch.Generator().manual_seed(5))
    places = [((row - shift) % height, (column - shift) % width) for row in range(height) for column in range(width)]
    regions = [
        (row // window, column // window, row >= height - shift, column >= width - shift) for row, column in places
    ]
    apart = torch.tensor([[one != other for other in regions] for one in regions])
    bias = torch.zeros(2, len(places), len(places))
    table = block.attn.relative_position_bias_table
    for one, (row, column) in enumerate(places):
        for other, (row2, column2) in enumerate(places):
            if not apart[one, other]:
                index = (row - row2 + window - 1) * (2 * window - 1) + column - column2 + window - 1
                bias[:, one, other] = table[index]
    with torch.no_grad():
        wanted = block.within(x.view(1, -1, 12), bias.masked_fill(apart, -torch.inf)).view(x.shape)
        assert torch.allclose(block(x), wanted, atol=1e-5)
        block.attn.always = False
        assert not torch.allclose(block(x), wanted, atol=1e-3)


def test_a_token_sees_its_window_and_no_more():
    ours, _ = pair()
    x = torch.randn(1, 24, 24, 24, generator=torch.Generator().manual_seed(4))
    changed = x.clone()
    changed[0, 5, 21, 0] += 1  # of one channel: the norm before attention takes away what all channels share
    with torch.no_grad():
        moved = ((ours(x) - ours(changed)).abs().sum(-1)[0] > 1e-6).nonzero()
    # shifted by 4: rows 4..11, columns 20..23 (columns 0..3 share the window but not the region)
    assert moved.min(0).values.tolist() == [4, 20] and moved.max(0).values.tolist() == [11, 23]


def test_relative_positions_are_torchvision_s():
    theirs = ShiftedWindowAttention(4, [7, 7], [0, 0], 1).relative_position_index
    assert torch.equal(relative_positions(7, torch.device("cpu")).flatten(), theirs)
