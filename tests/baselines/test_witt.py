import dataclasses

import pytest
import torch

from baselines.witt import WITT, ChannelModNet, PatchMerging, PatchReverseMerging, SwinStage, WITTConfig
from systems import Budget, Link, Received, create
from systems.errors import BudgetTooSmall, UserError
from systems.layers.linear_path import Opened
from systems.sizes import load_size
from systems.weight_files import count_parameters


def make_link(height: int, width: int, **changes) -> Link:
    return Link("reconstruction", height, width, Budget.from_cbr(1 / 16, height, width)).at(**changes)


def clean(sent, link) -> Received:
    batch = len(sent.symbols)
    csi = torch.ones(batch, 1, dtype=torch.complex64)
    return Received(sent.symbols, csi, torch.full((batch,), 1e-9), sent.side_info)


def test_parameter_count_is_the_published_one():
    system = WITT("witt", "paper", checkpoint="none")
    encoder, decoder = count_parameters(system.encoder), count_parameters(system.decoder)
    assert encoder + decoder == count_parameters(system) == 28_203_024
    assert (round(encoder / 1e6, 2), round(decoder / 1e6, 2)) == (14.10, 14.10)
    assert round(count_parameters(system.encoder.modnet) / 1e6, 2) == 4.93


def test_paper_size_runs_forward_and_backward():
    system = WITT("witt", "paper", checkpoint="none").train()
    images = torch.rand(1, 3, 64, 64)
    loss = system.training_step(images, images, make_link(64, 64), clean)["picture"]
    loss.backward()
    assert 0 < loss < 2 and all(p.grad is not None for p in system.parameters())


def test_the_wide_size_is_as_large_as_what_gensc_reconstructs_with():
    gensc = create("gensc", size="small", checkpoint="none")
    only_segmentation = sum(p.numel() for p in gensc.own_parameters("segmentation"))
    wide = WITT("witt", "small_wide", checkpoint="none").train()
    assert count_parameters(wide) == pytest.approx(count_parameters(gensc) - only_segmentation, rel=0.05)
    images = torch.rand(1, 3, 64, 64)
    wide.training_step(images, images, make_link(64, 64), clean)["picture"].backward()


def test_power_is_sent_as_charged_bits_and_restored():
    """Without noise the receiver's features are the encoder's to within half a step of 0.25 dB. The last features,
    whose uses paid for the side information, are zero.
    """
    link = make_link(128, 128)
    alone = dataclasses.replace(load_size(WITTConfig, "witt", "small"), linear_path=False, reads_linear=False)
    system = WITT("witt", checkpoint="none", config=alone)
    seen = []
    system.encoder.register_forward_hook(lambda _, inputs, output: seen.append(output))
    system.decoder.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        sent = system.encode(torch.rand(2, 3, 128, 128) * torch.tensor([0.1, 1.0])[:, None, None, None], link)
        system.decode(clean(sent, link), link)
    made, found = (features.flatten(1) for features in seen)
    assert sent.side_info_bits == 8
    assert sent.symbols.shape[1] == link.budget.allowed_uses() - link.budget.side_info_uses(8)
    kept = 2 * sent.symbols.shape[1]
    assert (found[:, kept:] == 0).all()
    ratio_db = 20 * torch.log10(found[:, :kept].norm(dim=1) / made[:, :kept].norm(dim=1))
    assert ratio_db.abs().max() <= 0.125 + 1e-4
    assert torch.nn.functional.cosine_similarity(found[:, :kept], made[:, :kept]).min() > 0.99999


def test_patch_merging_sees_two_by_two_neighbours():
    merging = PatchMerging(3, 5)
    x = torch.randn(1, 4, 6, 3)
    changed = x.clone()
    changed[0, 2, 3] += torch.tensor([1.0, -2.0, 0.5])
    difference = (merging(x) - merging(changed)).abs().sum(-1)[0]
    assert difference.shape == (2, 3)
    assert difference[1, 1] > 0 and (difference > 0).sum() == 1


def test_patch_reverse_merging_undoes_the_layout():
    reverse = PatchReverseMerging(8, 2)
    x = torch.randn(1, 3, 4, 8)
    y = reverse(x)
    tokens = reverse.increment(reverse.norm(x))
    assert y.shape == (1, 6, 8, 2)
    for channel in range(2):
        for row in range(2):
            for column in range(2):
                assert torch.equal(y[0, row::2, column::2, channel], tokens[0, :, :, channel * 4 + row * 2 + column])


def test_blocks_alternate_plain_and_shifted_windows():
    """In a plain block a token reaches its own window only; in a shifted block it reaches
    across the window's border.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = SwinStage(8, 1, 2, 4, 2.0, first=0).eval()
        shifted = SwinStage(8, 1, 2, 4, 2.0, first=1).eval()
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[0, 3, 3] += torch.randn(8)
    reach = [((stage(x) - stage(changed)).abs().sum(-1)[0] > 1e-7).nonzero() for stage in (plain, shifted)]
    assert reach[0].max() == 3
    assert reach[1].min() == 2 and reach[1].max() == 5


def test_modnet_gates_each_picture_by_its_own_snr():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modnet = ChannelModNet(6, 12, 3)
    x = torch.randn(1, 2, 2, 6).expand(2, -1, -1, -1)
    both = modnet(x, torch.tensor([0.0, 20.0]))
    assert torch.allclose(both[1:], modnet(x[1:], torch.tensor([20.0])), atol=1e-6)
    assert (both[0] - both[1]).abs().max() > 1e-4
    assert (both.abs() <= x.abs()).all()


def test_a_budget_below_the_side_information_is_refused():
    link = Link("reconstruction", 16, 16, Budget(uses=16))
    with pytest.raises(BudgetTooSmall, match="witt.*16 uses"):
        WITT("witt", checkpoint="none").encode(torch.rand(1, 3, 16, 16), link)


def test_the_decoder_s_stages_read_the_linear_estimate():
    """The decoders of Deep JSCC, ADJSCC and GenSC read it too. Each stage but the first reads it, at its own scale."""
    decoder = WITT("witt", checkpoint="none").decoder
    torch.nn.init.normal_(decoder.merges[-1].increment.weight, std=0.02)  # it starts from zero
    torch.manual_seed(0)
    features, snr_db = torch.randn(1, 96, 4, 4), torch.tensor([10.0])
    unit = torch.ones(1, 1, 1, 1)
    noise = torch.randn(2, 1, 3, 64, 64)
    opened = [Opened(features, picture, unit, features, unit[0, 0, 0]) for picture in noise]
    assert len(decoder.reads) == 3
    with torch.no_grad():
        first, second = (decoder(features, snr_db, one) for one in opened)
        assert (first - second).abs().max() > 1e-3
        for read in decoder.reads:
            kept = read.weight.clone()
            read.weight.zero_()
            assert (decoder(features, snr_db, opened[0]) - first).abs().max() > 1e-6, "a stage that reads nothing"
            read.weight.copy_(kept)
        for read in decoder.reads:
            read.weight.zero_()
        torch.testing.assert_close(decoder(features, snr_db, opened[0]), decoder(features, snr_db, opened[1]))


def test_the_linear_estimate_is_read_beside_the_linear_path_alone():
    config = load_size(WITTConfig, "witt", "small")
    with pytest.raises(UserError, match="reads_linear needs linear_path"):
        dataclasses.replace(config, linear_path=False)
