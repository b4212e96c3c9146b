import pytest
import torch

from baselines.deepjscc import DeepJSCC, DeepJSCCConfig
from systems import Budget, Link, Received, Transmission
from systems.layers.receiver import lmmse_symbols
from systems.weight_files import count_parameters


def make_link(height: int, width: int, cbr: float = 1 / 16, snr_db=10.0) -> Link:
    return Link("reconstruction", height, width, Budget.from_cbr(cbr, height, width), snr_db=snr_db)


def clean(sent: Transmission, link: Link) -> Received:
    batch = len(sent.symbols)
    return Received(sent.symbols, torch.ones(batch, 1, dtype=torch.complex64), torch.zeros(batch), sent.side_info)


def test_parameter_count_is_the_published_one():
    assert count_parameters(DeepJSCC("deepjscc", checkpoint="none", config=DeepJSCCConfig(channels=16))) == 156_252


def test_six_channels_fill_cbr_one_sixteenth_exactly():
    link = make_link(224, 224)
    system = DeepJSCC("deepjscc", "paper", checkpoint="none")
    with torch.no_grad():
        symbols = system.encode(torch.rand(1, 3, 224, 224), link).symbols
    assert symbols.shape[1] == link.budget.allowed_uses() == 224 * 224 * 3 // 16


def test_padding_costs_the_last_channel_and_nothing_else():
    """75 x 101 is coded as 76 x 104, which gives 1482 symbols for 1420 uses. The receiver fills in zeros for those not
    sent.
    """
    link = make_link(75, 101)
    system = DeepJSCC("deepjscc", "paper", checkpoint="none")
    seen = []
    system.encoder.register_forward_hook(lambda _, inputs, output: seen.append(output))
    system.decoder.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        sent = system.encode(torch.rand(2, 3, 75, 101), link)
        system.decode(clean(sent, link), link)
    made, found = (features.flatten(1) for features in seen)
    assert sent.symbols.shape[1] == 1420 and made.shape[1] == 2 * 1482
    assert (found[:, 2840:] == 0).all()
    ratio = found[:, :2840] / made[:, :2840]
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3)  # one scale per picture, for the power


def test_paper_size_runs_forward_and_backward():
    system = DeepJSCC("deepjscc", "paper", checkpoint="none").train()
    images = torch.rand(1, 3, 64, 64)
    loss = system.training_step(images, images, make_link(64, 64), clean)["picture"]
    loss.backward()
    assert 0 < loss < 1 and all(p.grad is not None for p in system.parameters())


def test_a_short_training_beats_the_mean_picture():
    """After 150 steps on two pictures without noise the error is below the pictures' variance, the error of the best
    constant.
    """
    torch.manual_seed(0)
    coarse = torch.rand(2, 3, 4, 4)
    images = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    variance = images.var(dim=(2, 3), correction=0).mean()
    system = DeepJSCC("deepjscc", "paper", checkpoint="none").train()
    optimiser = torch.optim.Adam(system.parameters(), 2e-3)
    for _ in range(150):
        loss = system.training_step(images, images, make_link(32, 32), clean)["picture"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < variance / 4


@pytest.mark.parametrize("noise_var", [0.01, 0.5, 1.0])
def test_lmmse_reaches_the_closed_form_error(noise_var):
    """For unit-power Gaussian symbols through CN(0, N0), E|x - x^|^2 = N0 / (1 + N0). With |h|^2 = 4, N0/4 takes the
    place of N0.
    """
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(1, 400_000, dtype=torch.complex64, generator=generator) for _ in range(2))
    for h in (1.0 + 0j, 2j):
        csi = torch.full((1, 1), h, dtype=torch.complex64)
        received = Received(h * x + noise_var**0.5 * noise, csi, torch.tensor([noise_var]), torch.zeros(1, 0))
        ratio = noise_var / abs(h) ** 2
        # 400,000 draws of an exponential: the mean's relative standard deviation is 0.16 %; five times that is allowed
        assert (lmmse_symbols(received) - x).abs().square().mean().item() == pytest.approx(
            ratio / (1 + ratio), rel=0.008
        )
