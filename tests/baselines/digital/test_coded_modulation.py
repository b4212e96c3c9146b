"""Tests of both links: constellation, LLRs, counts of uses and bits, and cliffs.

The expected values come from a closed form, from brute force or from a theoretical limit.
"""

import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.special import erfc
from scipy.stats import binom

from baselines.digital import textbook
from baselines.digital.capacity import qam_limit_db, shannon_limit_db
from baselines.digital.coded_modulation import LEAST_VARIANCE
from baselines.digital.frame import parse_rate, plan_frame
from baselines.digital.names import ORDERS
from baselines.digital.nr import CRC_BITS, MAX_K, NrCodedModulation, NrOptions
from baselines.digital.textbook import BLOCK_BITS, DEGREES, TextbookCodedModulation, crc16
from systems.errors import BudgetTooSmall, MissingDependency, UserError

RATE = Fraction(5, 6)


def bit_error_probability(order, snr_db):
    """Exact bit error rate of Gray-mapped square QAM on AWGN at Es/N0 (Cho and Yoon 2002, Eqs. 14 and 16)."""
    side = int(order**0.5)
    bits = side.bit_length() - 1
    argument = np.sqrt(3 * 10 ** (snr_db / 10) / (2 * (order - 1)))
    total = 0.0
    for k in range(1, bits + 1):
        for i in range(int((1 - 2.0**-k) * side)):
            sign = (-1) ** (i * 2 ** (k - 1) // side)
            weight = 2 ** (k - 1) - int(i * 2 ** (k - 1) / side + 0.5)
            total += sign * weight * erfc((2 * i + 1) * argument) / side
    return total / bits


def brute_force_llr(link, symbols, variance):
    """log P(1)/P(0) from the definition, in float64: sums over the constellation that the link's own mapper uses."""
    bits = link.frame.bits_per_use
    labels = (np.arange(2**bits)[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    points = link.map(torch.from_numpy(labels).float().reshape(-1)).numpy().astype(np.complex128)
    exponent = -(np.abs(symbols[:, None] - points) ** 2) / variance[:, None]
    likelihood = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return np.stack(
        [np.log(likelihood[:, column == 1].sum(1) / likelihood[:, column == 0].sum(1)) for column in labels.T], axis=1
    )


def complex_noise(rng, count, variance):
    return np.sqrt(variance / 2) * (rng.standard_normal(count) + 1j * rng.standard_normal(count))


def send(link, snr_db, seed=0):
    """Send a random payload over AWGN; returns (payload, delivery)."""
    rng = np.random.default_rng(seed)
    payload = rng.integers(0, 2, link.frame.payload_bits, dtype=np.uint8)
    variance = 10 ** (-snr_db / 10)
    received = link.encode(payload).numpy() + complex_noise(rng, link.frame.uses, variance)
    noise = torch.full((link.frame.uses,), variance)
    return payload, link.decode(torch.from_numpy(received.astype(np.complex64)), noise)


@pytest.mark.parametrize("order", [4, 16, 64, 256])
def test_uncoded_bit_errors_are_binomial_about_the_closed_form(order):
    link = NrCodedModulation(400, order, RATE)
    bits_per_use, uses = link.frame.bits_per_use, 16_000
    rng = np.random.default_rng(order)
    for target in (0.1, 0.02, 0.003):
        snr = next(snr for snr in np.arange(-10, 40, 0.5) if bit_error_probability(order, snr) < target)
        bits = rng.integers(0, 2, uses * bits_per_use)
        variance = 10 ** (-snr / 10)
        received = link.map(torch.from_numpy(bits).float()).numpy() + complex_noise(rng, uses, variance)
        llr = link.llr(torch.from_numpy(received.astype(np.complex64)), torch.full((uses,), variance)).numpy()
        errors = int(((llr > 0) != bits).sum())
        # The two PAM dimensions of a use are independent; the bits of one dimension are not. The share of wrong bits in
        # a dimension lies in [0, 1] with mean p, so its variance is at most the binomial's with 2 * uses trials
        trials, p = 2 * uses, bit_error_probability(order, snr)
        low, high = binom.interval(0.999, trials, p)
        assert low <= errors / len(bits) * trials <= high, (snr, errors / len(bits), p)


def test_closed_form_is_the_textbook_q_function_for_qpsk():
    for snr in (0.0, 5.0, 9.0):
        assert bit_error_probability(4, snr) == pytest.approx(0.5 * erfc(np.sqrt(10 ** (snr / 10) / 2)), rel=1e-12)


@pytest.mark.parametrize("order", [4, 16, 64, 256])
def test_llrs_equal_brute_force_with_a_variance_of_its_own_for_each_use(order):
    link = NrCodedModulation(400, order, RATE)
    rng = np.random.default_rng(2)
    variance = rng.uniform(0.01, 1.0, 300)
    symbols = rng.normal(0, 0.8, 300) + 1j * rng.normal(0, 0.8, 300)
    ours = link.llr(torch.from_numpy(symbols.astype(np.complex64)), torch.from_numpy(variance.astype(np.float32)))
    expected = brute_force_llr(link, symbols.astype(np.complex64), variance.astype(np.float32).astype(np.float64))
    assert np.allclose(ours.numpy().reshape(300, -1), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("order", [4, 16, 64, 256])
def test_constellation_has_unit_power_and_gray_neighbours(order):
    link = NrCodedModulation(400, order, RATE)
    bits = link.frame.bits_per_use
    labels = (np.arange(order)[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    points = link.map(torch.from_numpy(labels).float().reshape(-1)).numpy()
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1, abs=1e-6)
    distance = np.abs(points[:, None] - points[None]) + 10 * np.eye(order)
    rows, columns = np.nonzero(distance < distance.min() * 1.01)
    assert len(rows) == 4 * order - 4 * int(order**0.5)  # each pair of neighbours on the grid, in both directions
    assert np.all((labels[rows] != labels[columns]).sum(axis=1) == 1)


@pytest.mark.parametrize("order", [4, 16, 64, 256])
@pytest.mark.parametrize("rate", ["1/3", "1/2", "2/3", "3/4", "5/6"])
@pytest.mark.parametrize("uses", [60, 777, 3333, 9408, 51240])
def test_frame_spends_no_more_than_it_has_and_at_the_rate_it_says(uses, order, rate):
    rate = Fraction(rate)
    frame = plan_frame(uses, order, rate, crc_bits=CRC_BITS, max_k=MAX_K["bg1"])
    assert Fraction(frame.k, frame.n) == rate
    assert CRC_BITS < frame.k <= MAX_K["bg1"]
    assert frame.blocks * frame.uses_per_block + frame.padding_uses == uses
    assert frame.uses_per_block * frame.bits_per_use == frame.n
    assert 0 <= frame.padding_uses < frame.blocks * (1 + rate.denominator)
    assert frame.payload_bits == frame.blocks * (frame.k - CRC_BITS) < frame.coded_bits * rate
    one_less = uses * frame.bits_per_use * rate / max(1, frame.blocks - 1)
    assert frame.blocks == 1 or one_less >= MAX_K["bg1"]  # no more blocks than needed


def test_the_papers_budget_in_figures():
    """224x224 at CBR 1/16 gives 9408 uses. With 16QAM at rate 5/6 they carry 37632 coded bits in four blocks of 7840
    bits; the CRCs take 4 x 24.
    """
    frame = NrCodedModulation(9408, 16, RATE).frame
    assert (frame.blocks, frame.k, frame.n, frame.coded_bits, frame.padding_uses) == (4, 7840, 9408, 37632, 0)
    assert frame.payload_bits == 31264


def test_symbols_fill_the_budget_padding_included():
    link = NrCodedModulation(1003, 16, RATE)
    assert link.frame.padding_uses > 0
    symbols = link.encode(np.zeros(link.frame.payload_bits, np.uint8))
    assert symbols.shape == (1003,) and symbols.dtype == torch.complex64
    # bits are scrambled, so even a payload of zeros uses every point
    assert symbols.abs().square().mean().item() == pytest.approx(1, abs=0.07)


@pytest.mark.parametrize(("order", "rate"), [(4, "1/3"), (16, "1/2"), (64, "3/4"), (256, "5/6"), (16, "1/4")])
def test_payload_survives_a_clean_channel(order, rate):
    for uses in (200, 2999):
        payload, delivery = send(NrCodedModulation(uses, order, Fraction(rate)), 45.0)
        assert np.array_equal(delivery.bits, payload)
        assert delivery.block_errors == 0


def test_cliffs_of_rate_five_sixths_on_the_grid_of_two_db():
    """On a grid of 2 dB, 16QAM first decodes at 12 dB and 64QAM at 18 dB, for 224x224 at CBR 1/16."""
    for order, last_dead, first_alive in ((16, 10, 12), (64, 16, 18)):
        link = NrCodedModulation(9408, order, RATE)
        for seed in range(2):
            assert send(link, last_dead, seed)[1].bits is None
            payload, delivery = send(link, first_alive, seed)
            assert np.array_equal(delivery.bits, payload)


@pytest.mark.slow
@pytest.mark.parametrize(("order", "first"), [(16, 12), (64, 18)])
@pytest.mark.parametrize("uses", [5000, 9408, 51240])
def test_cliffs_hold_over_the_whole_sweep_and_for_many_draws(order, first, uses):
    link = NrCodedModulation(uses, order, RATE)
    for snr in range(0, 21, 2):
        for seed in range(8):
            payload, delivery = send(link, snr, seed)
            assert (delivery.bits is not None) == (snr >= first)
            if delivery.bits is not None:
                assert np.array_equal(delivery.bits, payload)


@pytest.mark.parametrize(
    ("order", "rate"),
    [(4, "1/3"), (16, "2/3"), (64, "3/4"), *(pytest.param(256, r, marks=pytest.mark.slow) for r in ("1/3", "5/6"))],
)
def test_nothing_decodes_below_its_limit(order, rate):
    """Long frames fail below the limit of their constellation, which is above Shannon's. 3 dB above it the same link
    works, so the failure below is not a fault of the link. (Bit-wise demapping alone costs up to 1 dB at low rates.)
    """
    link = NrCodedModulation(9408, order, Fraction(rate))
    limit = qam_limit_db(order, float(Fraction(rate)))
    assert limit > shannon_limit_db(float(Fraction(rate)) * np.log2(order))
    assert send(link, limit - 0.1)[1].bits is None
    assert send(link, limit + 3)[1].bits is not None


def test_decoding_stops_at_the_first_failed_group():
    link = NrCodedModulation(51240, 16, RATE)
    _, delivery = send(link, 5.0)
    assert link.frame.blocks == 21
    assert (delivery.blocks_decoded, delivery.bits, delivery.stop_reason) == (link.group, None, "first failed block")
    assert delivery.block_errors == link.group


def test_a_flipped_bit_of_a_block_fails_its_crc():
    link = NrCodedModulation(500, 16, RATE)
    payload = torch.zeros(1, link.frame.k - CRC_BITS)
    information = link.add_crc(payload)
    for position in (0, 100, link.frame.k - 1):
        flipped = information.clone()
        flipped[0, position] = 1 - flipped[0, position]
        good = link.decode_blocks(20 * (2 * link.encode_blocks(information) - 1))[1]
        bad = link.decode_blocks(20 * (2 * link.encode_blocks(flipped) - 1))[1]
        assert good.item() and not bad.item()


def test_stopping_early_delivers_what_all_iterations_would():
    """Decoding in chunks continues the same message passing in Sionna: a block that is good after 20 plain iterations
    is good in chunks of 4.
    """
    for seed, snr in enumerate((11.3, 11.5, 11.7)):
        plain = send(NrCodedModulation(9408, 16, RATE, NrOptions("sionna", check_every=20)), snr, seed)
        chunked = send(NrCodedModulation(9408, 16, RATE, NrOptions("sionna", check_every=4)), snr, seed)
        if plain[1].bits is not None:
            assert np.array_equal(chunked[1].bits, plain[1].bits)
        assert (plain[1].bits is None) == (chunked[1].bits is None)


def test_iterations_reach_the_decoder():
    """Near the cliff two iterations fail where twenty succeed, so the decoder does use the option."""
    assert send(NrCodedModulation(9408, 16, RATE, NrOptions(iterations=2)), 12.0)[1].bits is None
    assert send(NrCodedModulation(9408, 16, RATE, NrOptions(iterations=20)), 12.0)[1].bits is not None


def test_rates_are_read_exactly():
    assert parse_rate("5/6") == parse_rate(5 / 6) == parse_rate(0.8333) == Fraction(5, 6)
    assert parse_rate(0.75) == Fraction(3, 4) and parse_rate("0.85") == Fraction(17, 20)
    for bad in ("five", "5/0", 0, 1.5, -0.5, "nan", "inf"):
        with pytest.raises(UserError, match="code rate"):
            parse_rate(bad)


def test_bad_requests_are_one_clear_line():
    with pytest.raises(BudgetTooSmall, match="9 channel uses of 16QAM at code rate 5/6 hold no code block"):
        NrCodedModulation(9, 16, RATE)
    with pytest.raises(UserError, match="code rate 19/20 is outside"):
        NrCodedModulation(1000, 16, Fraction(19, 20))


# --- the textbook link ------------------------------------------------------------------------------------------------


def test_crc_is_the_published_one():
    """CRC-16/XMODEM (polynomial 0x1021, start 0) of the ASCII digits 123456789 is 0x31C3."""
    bits = np.unpackbits(np.frombuffer(b"123456789", np.uint8))[None]
    assert np.packbits(crc16(bits)).tobytes() == b"\x31\xc3"


def test_missing_pyldpc_is_a_message_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyldpc", None)
    textbook._gallager.cache_clear()
    with pytest.raises(MissingDependency, match="pip install --no-build-isolation pyldpc"):
        TextbookCodedModulation(1000, 16, RATE)
    textbook._gallager.cache_clear()


def survives(link, amplitude, snr_db):
    """Whether a random payload arrives on AWGN when every symbol is scaled by `amplitude`. Also checks that LLRs are
    numbers.
    """
    rng = np.random.default_rng(7)
    payload = rng.integers(0, 2, link.frame.payload_bits, dtype=np.uint8)
    variance = 10 ** (-snr_db / 10)
    received = amplitude * link.encode(payload).numpy() + complex_noise(rng, link.frame.uses, variance)
    received = torch.from_numpy(received.astype(np.complex64))
    noise = torch.full((link.frame.uses,), variance)
    assert torch.isfinite(link.llr(received, noise.clamp_min(LEAST_VARIANCE))).all()
    bits = link.decode(received, noise).bits
    return bits is not None and np.array_equal(bits, payload)


#: Unit power is reached by scaling each picture, so symbols lie off the constellation by a share that no SNR removes.
OFF_SCALE = (0.98, 1.0, 1.02)
HIGH_SNRS = (40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 300.0, 400.0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("decoder", ["layered", "sionna"])
def test_nr_survives_every_high_snr(order, decoder):
    link = NrCodedModulation(240, order, RATE, NrOptions(decoder))
    for amplitude in OFF_SCALE:
        assert [snr for snr in HIGH_SNRS if not survives(link, amplitude, snr)] == []


class TestWithPyldpc:
    @pytest.fixture(autouse=True)
    def needs_pyldpc(self):
        pytest.importorskip("pyldpc")

    @pytest.mark.parametrize("rate", DEGREES)
    def test_code_is_regular_and_its_words_satisfy_it(self, rate):
        link = TextbookCodedModulation(BLOCK_BITS // 2, 4, rate)
        column, row = DEGREES[rate]
        assert np.all(link._check.sum(axis=0) == column) and np.all(link._check.sum(axis=1) == row)
        information = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (3, link.frame.k))).float()
        words = link.encode_blocks(information)
        assert not np.any(link._check @ words.numpy().T.astype(int) % 2)
        assert torch.equal(words[:, : link.frame.k], information)
        assert Fraction(link.frame.k, link.frame.n) == rate

    @pytest.mark.parametrize("order", [4, 16, 64])
    def test_llrs_equal_brute_force(self, order):
        link = TextbookCodedModulation(600, order, RATE)
        rng = np.random.default_rng(3)
        symbols = (rng.normal(0, 0.7, 40) + 1j * rng.normal(0, 0.7, 40)).astype(np.complex64)
        for variance in (np.full(40, 0.1), rng.uniform(0.05, 1.0, 40)):
            variance = variance.astype(np.float32)
            ours = link.llr(torch.from_numpy(symbols), torch.from_numpy(variance)).numpy().reshape(40, -1)
            assert np.allclose(ours, brute_force_llr(link, symbols, variance.astype(np.float64)), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("order", [4, 16])
    def test_uncoded_bit_errors_are_binomial_about_the_closed_form(self, order):
        link = TextbookCodedModulation(600, order, RATE)
        rng = np.random.default_rng(order)
        uses, snr = 2000, {4: 4.0, 16: 10.0}[order]
        bits = rng.integers(0, 2, uses * link.frame.bits_per_use)
        variance = 10 ** (-snr / 10)
        received = link.map(torch.from_numpy(bits).float()).numpy() + complex_noise(rng, uses, variance)
        llr = link.llr(torch.from_numpy(received.astype(np.complex64)), torch.full((uses,), variance)).numpy()
        trials = 2 * uses
        low, high = binom.interval(0.999, trials, bit_error_probability(order, snr))
        assert low <= ((llr > 0) != bits).mean() * trials <= high

    def test_budget_is_whole_blocks_and_padding(self):
        frame = TextbookCodedModulation(1003, 16, RATE).frame
        assert (frame.blocks, frame.n, frame.padding_uses) == (3, BLOCK_BITS, 1003 - 3 * BLOCK_BITS // 4)
        assert frame.payload_bits == 3 * (840 - textbook.CRC_BITS)
        with pytest.raises(BudgetTooSmall, match="251 channel uses"):
            TextbookCodedModulation(251, 16, RATE)

    def test_decodes_well_above_its_limit_and_fails_below_it(self):
        link = TextbookCodedModulation(2016, 16, RATE)
        payload, delivery = send(link, 16.0)
        assert np.array_equal(delivery.bits, payload)
        dead = send(link, 9.5)[1]  # Shannon's limit is 9.58 dB
        assert (dead.bits, dead.blocks_decoded, dead.block_errors) == (None, 1, 1)

    @pytest.mark.parametrize("order", ORDERS)
    def test_survives_every_high_snr(self, order):
        link = TextbookCodedModulation(-(-BLOCK_BITS // (order.bit_length() - 1)), order, RATE)
        for amplitude in OFF_SCALE:
            assert [snr for snr in HIGH_SNRS if not survives(link, amplitude, snr)] == []

    def test_other_rates_are_refused_with_the_list(self):
        with pytest.raises(UserError, match="no code of rate 7/8; its rates are 1/3, 1/2, 2/3, 3/4, 5/6"):
            TextbookCodedModulation(1000, 16, Fraction(7, 8))
