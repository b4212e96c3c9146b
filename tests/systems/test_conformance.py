"""The conformance tests: every registered system, plug-ins included, keeps the contract of `systems.interface`.

Transmitter and receiver are two instances, so only the symbols, the side information and the link can pass between
them. The channel is written out here, so these tests do not depend on the harness.
"""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from skimage import data

import baselines  # noqa: F401  (registers its systems)
from systems import Budget, Link, Received, System, Transmission, create, registry
from systems.interface import NUM_CLASSES

NAMES = registry.names()
LEARNED = [name for name in NAMES if registry.find(name).learned]
CASES = [(name, task) for name in NAMES for task in registry.tasks_of(name)]
SIZE = (75, 101)  # both sides are odd: no network's stride divides them


@functools.cache
def pair(name: str) -> tuple[System, System]:
    """Transmitter and receiver. Learned systems have fixed random weights: the contract holds for any weights."""
    if registry.find(name).learned:
        return off_the_start(create(name, checkpoint="none")), off_the_start(create(name, checkpoint="none"))
    return create(name), create(name)


def off_the_start(system: System) -> System:
    """Change every parameter a little, since layers that start at zero would hide those before them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return system


@functools.cache
def pictures() -> torch.Tensor:
    """Three different photographs, (3, 3, 75, 101)."""
    photos = [data.astronaut(), data.chelsea(), data.coffee()]
    photos = [torch.from_numpy(photo).permute(2, 0, 1)[None] / 255 for photo in photos]
    return torch.cat([F.interpolate(photo, SIZE, mode="bilinear", antialias=True) for photo in photos]).clamp(0, 1)


def make_link(name: str, task: str, snr_db=20.0, channel: str = "awgn") -> Link:
    """A CBR of 1/16 for learned systems, which cuts their padded maps; 1/4 for codecs, whose headers are long."""
    cbr = 1 / 16 if registry.find(name).learned else 1 / 4
    budget = Budget.from_cbr(cbr, *SIZE) if task == "reconstruction" else Budget(bits=20000)
    return Link(task=task, height=SIZE[0], width=SIZE[1], budget=budget, channel=channel, snr_db=snr_db)


def send(transmission, link: Link, rows: list[int]) -> Received:
    """y = h x + n. Picture i of the batch meets the draw of seed rows[i], whichever pictures are beside it."""
    symbols = transmission.symbols
    noise_var = 10 ** (-link.snr_tensor(len(symbols)) / 10)
    noise, gains = [], []
    for row in rows:
        generator = torch.Generator().manual_seed(1000 + row)
        count = 1 if link.channel == "rayleigh-block" else symbols.shape[1]
        gains.append(torch.randn(count, dtype=torch.complex64, generator=generator))
        noise.append(torch.randn(symbols.shape[1], dtype=torch.complex64, generator=generator))
    csi = torch.ones(len(rows), 1, dtype=torch.complex64) if link.channel == "awgn" else torch.stack(gains)
    received = csi * symbols + torch.stack(noise) * noise_var.sqrt()[:, None]
    return Received(received, csi, noise_var, transmission.side_info)


@torch.no_grad()
def deliver(name: str, images: torch.Tensor, link: Link, rows: list[int]) -> torch.Tensor:
    transmitter, receiver = pair(name)
    return receiver.decode(send(transmitter.encode(images, link), link, rows), link).output


@functools.cache
def delivered(name: str, task: str) -> tuple[Transmission, torch.Tensor]:
    """What is sent at 20 dB and what is received, computed once for all tests that compare with it."""
    link = make_link(name, task)
    transmitter, receiver = pair(name)
    torch.manual_seed(1)
    with torch.no_grad():
        sent = transmitter.encode(pictures(), link)
        return sent, receiver.decode(send(sent, link, [0, 1, 2]), link).output


def test_the_systems_of_the_paper_are_registered():
    wanted = {
        "gensc",
        "deepjscc",
        "adjscc",
        "witt",
        "deeplab-jscc",
        "linear",
        "jpeg-ldpc-16qam",
        "jpeg-ldpc-64qam",
        "jpeg-ldpc-16qam-fcn",
        "jpeg-ldpc-64qam-fcn",
    }
    for name in sorted(wanted):
        assert registry.find(name)
    assert {"gensc", "deepjscc", "adjscc", "witt", "deeplab-jscc"} <= set(LEARNED)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_transmission_keeps_power_and_budget(name, task):
    link = make_link(name, task)
    system, sent = pair(name)[0], delivered(name, task)[0]
    assert sent.symbols.dtype == torch.complex64 and sent.symbols.ndim == 2 and len(sent.symbols) == 3
    assert torch.isfinite(torch.view_as_real(sent.symbols)).all()
    power = torch.view_as_real(sent.symbols).double().square().sum(-1).mean(dim=1)
    assert (power - 1).abs().max() < 1e-3
    assert sent.side_info.dtype == torch.uint8 and set(sent.side_info.flatten().tolist()) <= {0, 1}
    uses = sent.symbols.shape[1] + link.budget.side_info_uses(sent.side_info_bits, sent.side_info_snr_db)
    assert 0 < uses <= link.budget.allowed_uses(system.bits_per_use)


@pytest.mark.parametrize("channel", ["awgn", "rayleigh-block", "rayleigh-fast"])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_output_has_the_picture_s_shape_and_range(name, task, channel):
    output = deliver(name, pictures(), make_link(name, task, 12.0, channel), [0, 1, 2])
    assert output.dtype == torch.float32 and torch.isfinite(output).all()
    if task == "reconstruction":
        assert output.shape == (3, 3, *SIZE)
        assert 0 <= output.min() and output.max() <= 1
    else:
        assert output.shape == (3, NUM_CLASSES, *SIZE)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_same_input_gives_the_same_output(name, task):
    _, first = delivered(name, task)
    torch.manual_seed(2)  # the global random stream had another seed before; it must have no effect
    assert torch.equal(first, deliver(name, pictures(), make_link(name, task), [0, 1, 2]))


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_picture_does_not_depend_on_its_batch(name, task):
    link = make_link(name, task)
    _, together = delivered(name, task)
    for row in range(3):
        alone = deliver(name, pictures()[row : row + 1], link, [row])
        scale = together[row].abs().max().clamp_min(1)  # logits are not bounded by 1, pictures are
        assert (alone[0] - together[row]).abs().max() <= 1e-4 * scale


@pytest.mark.parametrize("name", LEARNED)
def test_each_picture_of_a_batch_may_meet_its_own_snr(name):
    if not pair(name)[0].joins_snr:
        pytest.skip("it sends more or fewer symbols by the SNR; a sweep gives it one SNR at a time")
    for task in registry.tasks_of(name):
        snrs = [2.0, 9.0, 16.0]
        together = deliver(name, pictures(), make_link(name, task, torch.tensor(snrs)), [0, 1, 2])
        for row, snr in enumerate(snrs):
            alone = deliver(name, pictures()[row : row + 1], make_link(name, task, snr), [row])
            scale = together[row].abs().max().clamp_min(1)
            assert (alone[0] - together[row]).abs().max() <= 1e-4 * scale


@pytest.mark.parametrize(("name", "task"), CASES)
def test_encoder_sees_the_snr_exactly_if_it_says_so(name, task):
    system, _ = pair(name)
    with torch.no_grad():
        low, high = system.encode(pictures(), make_link(name, task, 2.0)).symbols, delivered(name, task)[0].symbols
    same = low.shape == high.shape and torch.equal(low, high)
    assert same != system.encoder_sees_snr


@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_swept_snr_changes_what_is_received(name, task):
    if name == "fcn-ceiling":
        pytest.skip("a genie's line that no channel touches; tests/baselines/test_bounds.py holds it to that")
    low = deliver(name, pictures(), make_link(name, task, 0.0), [0, 1, 2])
    assert not torch.equal(low, delivered(name, task)[1])


@pytest.mark.parametrize("name", LEARNED)
def test_gradients_reach_every_parameter(name):
    system = off_the_start(create(name, checkpoint="none")).train()
    for task in system.tasks:
        link = make_link(name, task, torch.tensor([3.0, 10.0, 17.0]))
        target = pictures() if task == "reconstruction" else torch.arange(21).repeat(3, 75, 5)[:, :, :101]
        losses = system.training_step(pictures(), target, link, lambda sent, where: send(sent, where, [0, 1, 2]))
        sum(losses.values()).backward()
    parameters = {key: value for key, value in system.named_parameters() if value.requires_grad}
    missing = [key for key, value in parameters.items() if value.grad is None]
    assert not missing
    bad = [key for key, value in parameters.items() if not torch.isfinite(value.grad).all() or not value.grad.any()]
    assert not bad


@pytest.mark.parametrize("name", LEARNED)
def test_training_works_in_bfloat16_autocast(name):
    system = create(name, checkpoint="none").train()
    for task in system.tasks:
        link = make_link(name, task)
        target = pictures() if task == "reconstruction" else torch.zeros(3, *SIZE, dtype=torch.long)
        with torch.autocast("cpu", torch.bfloat16):
            losses = system.training_step(pictures(), target, link, lambda sent, where: send(sent, where, [0, 1, 2]))
        total = sum(losses.values())
        total.backward()
        assert total.dtype == torch.float32 and torch.isfinite(total)
        assert all(torch.isfinite(p.grad).all() for p in system.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_describe_names_the_system_and_its_parameters(name):
    facts = pair(name)[0].describe()
    assert facts["system"] == name
    assert isinstance(facts["parameters"], int) and (facts["parameters"] > 0 or not registry.find(name).learned)
