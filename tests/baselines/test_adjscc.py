import pytest
import torch

from baselines.adjscc import ADJSCC, GDN, ADJSCCConfig, AttentionFeature
from systems import Budget, Link, Received
from systems.layers.receiver import receiver_snr_db
from systems.weight_files import count_parameters


def clean(sent, link) -> Received:
    batch = len(sent.symbols)
    noise_var = 10 ** (-link.snr_tensor(batch) / 10)
    return Received(sent.symbols, torch.ones(batch, 1, dtype=torch.complex64), noise_var, sent.side_info)


def test_parameter_counts_are_the_published_ones():
    system = ADJSCC("adjscc", checkpoint="none", config=ADJSCCConfig(channels=16))
    attention = sum(count_parameters(module) for module in system.modules() if isinstance(module, AttentionFeature))
    assert attention == 67_840
    assert count_parameters(system) - attention == 10_690_351


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_is_balle_s_formula(inverse):
    generator = torch.Generator().manual_seed(0)
    gdn = GDN(5, inverse)
    with torch.no_grad():
        gdn.beta.copy_(torch.rand(5, generator=generator) + 0.5)
        gdn.gamma.copy_(torch.rand(5, 5, generator=generator))
        x = torch.randn(2, 5, 3, 4, generator=generator)
        y = gdn(x)
    beta, gamma = gdn.beta.detach().square(), gdn.gamma.detach().square()
    for b in range(2):
        for i in range(5):
            for r in range(3):
                for c in range(4):
                    norm = (beta[i] + sum(gamma[i, j] * x[b, j, r, c] ** 2 for j in range(5))) ** 0.5
                    wanted = x[b, i, r, c] * norm if inverse else x[b, i, r, c] / norm
                    assert y[b, i, r, c].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_gdn_starts_as_published_and_stays_in_its_domain():
    gdn = GDN(4)
    x = torch.randn(1, 4, 2, 2)
    assert torch.allclose(gdn(x), x / (1 + 0.1 * x.square()).sqrt(), rtol=1e-5)
    with torch.no_grad():
        gdn.beta.fill_(-3.0)
        gdn.gamma.fill_(-3.0)
    norm = gdn.norm_squared(x)
    assert torch.allclose(norm, torch.full_like(norm, 1e-6), rtol=0.01)  # beta at its floor, gamma at zero
    (-norm.sum()).backward()  # this gradient pushes both up; a plain clamp would stop it
    assert (gdn.beta.grad < 0).all()
    gdn.zero_grad()
    gdn.norm_squared(x).sum().backward()  # this gradient pushes both further down: nothing may move
    assert (gdn.beta.grad == 0).all() and (gdn.gamma.grad == 0).all()


def test_attention_gates_channels_by_the_snr():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = AttentionFeature(16, 4)
    features = torch.rand(1, 16, 5, 6).expand(2, -1, -1, -1)
    gates = (module(features, torch.tensor([0.0, 20.0])) / features).detach()
    # one value per channel, at every position
    assert torch.allclose(gates, gates[:, :, :1, :1].expand_as(gates), atol=1e-5)
    assert (0 < gates).all() and (gates < 1).all()
    assert (gates[0] - gates[1]).abs().max() > 0.01


def test_decoder_s_snr_is_the_one_met():
    """With |h|^2 = 1/4, a link of 10 dB is 4 dB at the decoder. On AWGN the decoder's SNR is the link's."""
    csi = torch.tensor([[0.5j], [1.0]], dtype=torch.complex64)
    received = Received(torch.zeros(2, 8, dtype=torch.complex64), csi, torch.tensor([0.1, 0.1]), torch.zeros(2, 0))
    assert receiver_snr_db(received).tolist() == pytest.approx([10 - 6.0206, 10.0], abs=1e-3)


def test_paper_size_runs_forward_and_backward():
    system = ADJSCC("adjscc", "paper", checkpoint="none").train()
    images = torch.rand(1, 3, 64, 64)
    link = Link("reconstruction", 64, 64, Budget.from_cbr(1 / 16, 64, 64))
    loss = system.training_step(images, images, link, clean)["picture"]
    loss.backward()
    assert 0 < loss < 1 and all(p.grad is not None for p in system.parameters())
