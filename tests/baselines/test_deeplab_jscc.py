import pytest
import torch

from baselines.deeplab_jscc import ASPP, DeepLabJSCC, DeepLabJSCCConfig
from baselines.fcn import FCNConfig
from systems import Budget, Link, Received
from systems.learned import starting_config

TWENTY_KBITS = Budget(bits=20_000)


def clean(sent, link) -> Received:
    batch = len(sent.symbols)
    csi = torch.ones(batch, 1, dtype=torch.complex64)
    return Received(sent.symbols, csi, torch.full((batch,), 1e-9), sent.side_info)


def test_small_size_spends_4900_of_the_5000_uses_at_224():
    assert TWENTY_KBITS.allowed_uses() == 5000
    system = DeepLabJSCC("deeplab-jscc", checkpoint="none")
    with torch.no_grad():
        sent = system.encode(torch.rand(1, 3, 224, 224), Link("segmentation", 224, 224, TWENTY_KBITS))
    assert sent.symbols.shape[1] == 14 * 14 * 50 // 2 == 4900
    assert sent.side_info_bits == 0


def test_a_larger_picture_sends_fewer_channels():
    """256 x 352 would need 8800 uses. The budget has 5000: the first 28 channels and a part of the 29th are sent."""
    link = Link("segmentation", 256, 352, TWENTY_KBITS)
    system = DeepLabJSCC("deeplab-jscc", checkpoint="none")
    seen = []
    system.receiver.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        sent = system.encode(torch.rand(1, 3, 256, 352), link)
        logits = system.decode(clean(sent, link), link).output
    assert sent.symbols.shape[1] == 5000
    assert logits.shape == (1, 21, 256, 352)
    silent = (seen[0] == 0).all(dim=(0, 2, 3))
    assert not silent[:29].any() and silent[29:].all()


def test_pyramid_reaches_as_far_as_its_largest_rate_and_the_whole_map():
    """Without the pooled branch, a change of one token changes the outputs at offsets 0 and +-rate only."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pyramid = ASPP(4, 8, (2, 5), separable=True).eval()
    pyramid.pooled[1].weight.data.zero_()
    x = torch.randn(1, 4, 15, 15)
    changed = x.clone()
    changed[0, :, 7, 7] += 3
    felt = ((pyramid(x) - pyramid(changed)).abs().sum(1)[0] > 0).nonzero() - 7
    assert {abs(offset) for offset in felt.flatten().tolist()} == {0, 2, 5}


def test_paper_size_runs_forward_and_backward():
    system = DeepLabJSCC("deeplab-jscc", "paper", checkpoint="none").train()
    target = torch.randint(0, 21, (2, 64, 64))
    link = Link("segmentation", 64, 64, TWENTY_KBITS)
    loss = system.training_step(torch.rand(2, 3, 64, 64), target, link, clean)["cross_entropy"]
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in system.parameters())


@pytest.mark.parametrize(("kind", "name"), [(DeepLabJSCCConfig, "deeplab-jscc"), (FCNConfig, "fcn")])
def test_weights_that_a_checkpoint_overwrites_are_not_read(kind, name):
    assert starting_config(kind, name, "small", "none").pretrained
    assert not starting_config(kind, name, "small", "shipped").pretrained


def test_a_task_without_a_known_loss_is_not_trained_with_the_loss_of_labels():
    system = DeepLabJSCC("deeplab-jscc", checkpoint="none")
    link = Link("depth", 64, 64, TWENTY_KBITS)
    with pytest.raises(NotImplementedError, match="depth"):
        system.training_step(torch.rand(1, 3, 64, 64), torch.rand(1, 64, 64), link, clean)
