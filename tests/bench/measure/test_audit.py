"""Tests of the audit: a correct transmission passes and is counted exactly; each breach is refused with its numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench.measure.audit import POINT_RADIUS, Ledger, audit, audit_output, audit_report, count_points
from bench.measure.tasks import TASKS
from systems.errors import AuditError
from systems.interface import Budget, Decoded, Link, System, Transmission


class Anyone(System):
    """A system whose transmissions the tests write by hand."""

    name = "anyone"

    def __init__(self, bits_per_use: int | None = None, genie: bool = False):
        self.bits_per_use, self.genie = bits_per_use, genie

    def encode(self, images, link):
        raise NotImplementedError

    def decode(self, received, link):
        raise NotImplementedError


def gaussian(batch: int, uses: int, seed: int = 0) -> torch.Tensor:
    symbols = torch.randn(batch, uses, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))
    return symbols / symbols.abs().square().mean(dim=1, keepdim=True).sqrt()


def qam(batch: int, uses: int, order: int = 16) -> torch.Tensor:
    side = round(math.sqrt(order))
    levels = torch.arange(side) * 2.0 - (side - 1)
    picks = torch.randint(0, side, (2, batch, uses), generator=torch.Generator().manual_seed(1))
    symbols = torch.complex(levels[picks[0]], levels[picks[1]])
    return symbols / symbols.abs().square().mean(dim=1, keepdim=True).sqrt()


def bits(batch: int, count: int) -> torch.Tensor:
    return torch.randint(0, 2, (batch, count), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def photo_link(uses: int = 100) -> Link:
    return Link("reconstruction", 20, 30, Budget(uses=uses))


def test_an_honest_batch_is_counted():
    spent = audit(Anyone(), Transmission(gaussian(3, 61), bits(3, 8)), photo_link())
    assert (spent.symbol_uses, spent.side_bits, spent.side_uses, spent.n_uses) == (61, 8, 39, 100)
    assert spent.budget_uses == 100
    # CBR is complex uses divided by 3HW, not real values divided by 3HW
    assert spent.cbr == pytest.approx(100 / 1800, rel=1e-12)
    assert len(spent.tx_power) == 3 and np.allclose(spent.tx_power, 1, atol=1e-5)


def test_one_use_over_the_budget_is_a_breach():
    audit(Anyone(), Transmission(gaussian(2, 100)), photo_link())
    with pytest.raises(AuditError, match=r"anyone.*0 to 1.*101 uses.*budget of 100 by 1"):
        audit(Anyone(), Transmission(gaussian(2, 101)), photo_link())


def test_side_information_counts():
    audit(Anyone(), Transmission(gaussian(2, 61), bits(2, 8)), photo_link())  # 8 bits at 0 dB: 39 uses
    with pytest.raises(AuditError, match="61 symbols \\+ 41 for 9 bits"):
        audit(Anyone(), Transmission(gaussian(2, 61), bits(2, 9)), photo_link())


def test_side_information_is_charged_for_the_snr_that_it_is_made_for():
    """More bits fit at a high SNR. A control word made for a high SNR is short, and is lost at a low SNR."""
    at_20_db = Transmission(gaussian(1, 88), bits(1, 11), side_info_snr_db=20.0)
    assert audit(Anyone(), at_20_db, photo_link()).side_uses == 11
    faded = Link("reconstruction", 20, 30, Budget(uses=500, control_snr_db=-10.0), "rayleigh-block")
    assert audit(Anyone(), Transmission(gaussian(1, 84), bits(1, 8)), faded).side_uses == 400
    for value in (math.nan, math.inf, "20", None.__class__):
        with pytest.raises(AuditError, match="side_info_snr_db"):
            audit(Anyone(), Transmission(gaussian(1, 9), bits(1, 8), side_info_snr_db=value), photo_link())


def test_a_control_word_counts_the_bits_of_its_own_constellation():
    """A BPSK system that sends 2000 bits as a control word in few uses of 256QAM spends more than 400 coded bits."""
    link = Link("segmentation", 20, 30, Budget(bits=400))
    word = Transmission(torch.ones(1, 10, dtype=torch.complex64), bits(1, 2000), side_info_snr_db=40.0)
    uses = link.budget.side_info_uses(2000, 40.0)
    assert 10 + uses <= 400 < 2000
    with pytest.raises(AuditError, match=rf"{10 + 8 * uses} coded bits .*{uses} uses of side information of 8\)"):
        audit(Anyone(1), word, link)
    audit(Anyone(1), Transmission(torch.ones(1, 300, dtype=torch.complex64), bits(1, 8), side_info_snr_db=10.0), link)


@pytest.mark.parametrize("bits_per_use, allowed", [(None, 5000), (2, 10_000), (4, 5000), (6, 3333)])
def test_a_bit_budget_is_turned_into_uses(bits_per_use, allowed):
    link = Link("segmentation", 64, 64, Budget(bits=20_000))
    symbols = gaussian(1, allowed + 1) if bits_per_use is None else qam(1, allowed + 1, 2**bits_per_use)
    system = Anyone(bits_per_use)
    with pytest.raises(AuditError, match=f"budget of {allowed} by 1"):
        audit(system, Transmission(symbols), link)
    kept = symbols[:, :allowed]
    kept = kept / kept.abs().square().mean().sqrt()
    assert audit(system, Transmission(kept), link).budget_uses == allowed


def test_an_analog_system_cannot_pose_as_a_digital_one():
    link = Link("segmentation", 64, 64, Budget(bits=20_000))
    with pytest.raises(AuditError, match="more than 4 different symbols; 2 bits per use allow no more"):
        audit(Anyone(2), Transmission(gaussian(1, 9000)), link)
    with pytest.raises(AuditError, match="more than 4 different symbols"):
        audit(Anyone(2), Transmission(qam(1, 9000, 16)), link)
    eight = torch.exp(1j * torch.pi / 4 * (torch.arange(9000) % 8))[None]
    with pytest.raises(AuditError, match="more than 4 different symbols"):
        audit(Anyone(2), Transmission(eight), link)
    audit(Anyone(3), Transmission(eight[:, :6666]), link)
    audit(Anyone(2, genie=True), Transmission(gaussian(1, 9000)), link)  # a bound is not held to a real constellation
    turned = qam(1, 5000, 16) * np.exp(0.3j)  # points differ by rounding only: still 16 points
    audit(Anyone(4), Transmission(turned.to(torch.complex64)), link)


@pytest.mark.parametrize("power", [1.01, 0.99, 1.002, 0.0])
def test_power_is_checked_for_each_picture(power):
    symbols = gaussian(3, 50)
    symbols[1] *= math.sqrt(power)
    with pytest.raises(AuditError, match=rf"anyone, picture 1 .*{power:.3f}"):
        audit(Anyone(), Transmission(symbols), photo_link())


def test_power_must_not_be_unit_over_the_batch_only():
    symbols = gaussian(2, 50) * torch.tensor([[0.5**0.5], [1.5**0.5]])
    assert symbols.abs().square().mean() == pytest.approx(1, abs=1e-5)
    with pytest.raises(AuditError, match="picture 0"):
        audit(Anyone(), Transmission(symbols), photo_link())


def test_power_is_of_a_complex_use_not_of_a_real():
    """Several published programs are 3 dB off here: unit power on each real dimension is power 2 per use."""
    with pytest.raises(AuditError, match="2.000"):
        audit(Anyone(), Transmission(gaussian(1, 50) * 2**0.5), photo_link())


def test_a_genie_is_audited_for_power_and_uses():
    with pytest.raises(AuditError, match="budget"):
        audit(Anyone(genie=True), Transmission(gaussian(1, 101)), photo_link())
    with pytest.raises(AuditError, match="mean"):
        audit(Anyone(genie=True), Transmission(gaussian(1, 50) * 1.01), photo_link())


@pytest.mark.parametrize("value", [math.nan, math.inf, complex(0, math.nan)])
def test_symbols_must_be_finite(value):
    symbols = gaussian(3, 50)
    symbols[2, 7] = value
    with pytest.raises(AuditError, match="picture 2.*not finite"):
        audit(Anyone(), Transmission(symbols), photo_link())


@pytest.mark.parametrize(
    "symbols", [gaussian(1, 50).to(torch.complex128), torch.ones(1, 50), gaussian(1, 50)[0], gaussian(1, 50)[:, :0]]
)
def test_symbols_must_be_complex64_in_two_dimensions(symbols):
    side_info = torch.zeros(1, 0, dtype=torch.uint8)
    with pytest.raises(AuditError, match="symbols"):
        audit(Anyone(), Transmission(symbols, side_info), photo_link())


@pytest.mark.parametrize(
    "side_info, message",
    [
        (torch.tensor([[0, 1], [0, 2]], dtype=torch.uint8), "picture 1.*value 2"),
        (torch.tensor([[0.5, 1.0], [0.0, 1.0]]), "float32"),
        (torch.zeros(1, 2, dtype=torch.uint8), r"\(1, 2\)"),
        (torch.zeros(2, dtype=torch.uint8), r"\(2,\)"),
    ],
)
def test_side_information_is_bits(side_info, message):
    with pytest.raises(AuditError, match=message):
        transmission = Transmission(gaussian(2, 50), side_info if side_info.ndim == 2 else side_info[:, None])
        transmission.side_info = side_info
        audit(Anyone(), transmission, photo_link())


def test_output_must_be_whole():
    link = photo_link()
    audit_output(Anyone(), Decoded(torch.rand(2, 3, 20, 30)), link, 2, TASKS["reconstruction"])
    broken = torch.rand(2, 3, 20, 30)
    broken[1, 0, 0, 0] = math.nan
    with pytest.raises(AuditError, match="picture 1.*1 values"):
        audit_output(Anyone(), Decoded(broken), link, 2, TASKS["reconstruction"])
    with pytest.raises(AuditError, match="must be float"):
        audit_output(Anyone(), Decoded(torch.rand(2, 3, 20, 29)), link, 2, TASKS["reconstruction"])
    seg = Link("segmentation", 20, 30, Budget(bits=100))
    with pytest.raises(AuditError, match="21"):
        audit_output(Anyone(), Decoded(torch.rand(2, 3, 20, 30)), seg, 2, TASKS["segmentation"])
    audit_output(Anyone(), Decoded(torch.rand(2, 21, 20, 30)), seg, 2, TASKS["segmentation"])


def test_points_are_told_apart_by_their_size_not_by_chaining():
    """Sorted analog symbols: each is close to the next, and yet together they are many points."""
    line = torch.arange(4000.0) * POINT_RADIUS / 2
    chain = torch.complex(line, torch.zeros_like(line))
    assert count_points(chain, 300) == 301
    assert 1000 < count_points(chain, 4000) < 2100  # many points, however close their neighbours are
    rounded = qam(1, 9000, 16)[0] + 0.1 * POINT_RADIUS * torch.exp(1j * torch.arange(9000.0))
    assert count_points(rounded, 300) == 16
    link = Link("segmentation", 64, 64, Budget(bits=20_000))
    chained = chain / chain.abs().square().mean().sqrt()
    with pytest.raises(AuditError, match="more than 4 different symbols"):
        audit(Anyone(2), Transmission(chained[None]), link)


def test_bits_are_counted_from_the_points_used():
    """The system declares no constellation. 16QAM carries 4 bits per use, QPSK 2, and an analog use counts as 4."""
    link = Link("reconstruction", 64, 64, Budget(uses=1000))
    for symbols, per_use in ((qam(2, 1000, 64), 6), (qam(2, 1000, 4), 2), (gaussian(2, 1000), 4)):
        spent = audit(Anyone(), Transmission(symbols), link)
        assert spent.bits_per_use == [per_use] * 2 and spent.bits == [1000.0 * per_use] * 2


def test_one_link_has_one_number_of_uses():
    ledger, link = Ledger(), photo_link()
    ledger.check(Anyone(), link, audit(Anyone(), Transmission(gaussian(1, 90)), link), None)
    ledger.check(Anyone(), link.at(height=21), audit(Anyone(), Transmission(gaussian(1, 80)), link), None)
    with pytest.raises(AuditError, match="90, 0, 0"):
        ledger.check(Anyone(), link, audit(Anyone(), Transmission(gaussian(1, 89)), link), None)


def test_a_report_holds_plain_values():
    told = audit_report(Anyone(), {"n_bits": [np.int64(3), None], "mcs": ["a", "b"], "secret": object()}, 2)
    assert told == {"n_bits": [3, None], "mcs": ["a", "b"]}
