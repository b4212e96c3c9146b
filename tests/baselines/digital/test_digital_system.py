"""Tests of the digital systems from the input picture to the delivered picture."""

import numpy as np
import pytest
import torch
from digital_links import SIZE, USES, make_link, mse, through

import baselines  # noqa: F401  registers the systems
from baselines.digital import mcs as mcs_table
from baselines.digital import system as digital
from baselines.digital.capacity import qam_limit_db, shannon_bits
from baselines.digital.codec import UnreadablePayload, encode_under
from baselines.digital.system import DigitalSystem, pack, unpack
from systems import registry
from systems.errors import BudgetTooSmall, UnknownName, UserError
from systems.interface import Budget, Link, Received


@pytest.mark.parametrize("name", ["jpeg-ldpc-16qam", "webp-ldpc-64qam", "avif-ldpc-4qam", "jpeg-ldpc-256qam"])
def test_the_delivered_picture_is_the_best_file_under_the_payload(name, pictures):
    system, link = registry.create(name), make_link(35.0)
    sent = system.encode(pictures, link)
    assert sent.symbols.dtype == torch.complex64 and sent.symbols.shape == (2, USES) and sent.side_info_bits == 0
    power = sent.symbols.abs().double().square().mean(dim=1)
    assert torch.allclose(power, torch.ones(2, dtype=torch.float64), atol=1e-5)
    decoded = system.decode(through(sent, link, [1, 2]), link)
    assert decoded.report["status"] == ["ok", "ok"]
    frame = system._coder(USES, 35.0, "awgn").frame
    for row, image in enumerate(digital.to_pictures(pictures)):
        coded = encode_under(image, (frame.payload_bits - 24) // 8, name.split("-")[0])
        assert sent.report["payload_bits"][row] == 8 * len(coded.payload)
        assert sent.report["payload_bits"][row] + sent.report["header_bits"][row] <= frame.payload_bits
        assert sent.report["quality"][row] == coded.quality and sent.report["source_scale"][row] == coded.scale
        assert sent.report["source_chroma"][row] == coded.chroma
        expected = digital.source_codec.decode(coded.payload, name.split("-")[0], SIZE, SIZE)
        assert np.array_equal(digital.to_pictures(decoded.output)[row], expected)


def test_report_accounts_for_every_bit(pictures):
    report = registry.create("jpeg-ldpc-16qam").encode(pictures, make_link()).report
    assert report["mcs"] == ["16qam-5/6"] * 2
    assert report["coded_bits"] == [4 * USES] * 2
    assert report["header_bits"] == [24, 24]
    assert all(0.8 * 4 * USES * 5 / 6 < bits <= 4 * USES * 5 / 6 - 2 * 24 - 24 for bits in report["payload_bits"])


@pytest.mark.parametrize(("name", "bits_per_use", "uses"), [("16qam", 4, 5000), ("64qam", 6, 3333)])
def test_a_bit_budget_is_spent_in_coded_bits(name, bits_per_use, uses, pictures):
    system = registry.create(f"jpeg-ldpc-{name}")
    link = Link("reconstruction", SIZE, SIZE, Budget(bits=20_000), "awgn", 20.0)
    sent = system.encode(pictures, link)
    assert system.bits_per_use == bits_per_use and sent.symbols.shape == (2, uses)
    assert max(sent.report["coded_bits"]) <= 20_000


def test_an_outage_is_grey_flagged_and_counted(pictures):
    system, link = registry.create("jpeg-ldpc-16qam"), make_link(torch.tensor([20.0, 2.0]))
    decoded = system.decode(through(system.encode(pictures, link), link, [1, 2]), link)
    assert decoded.report["status"] == ["ok", "outage"]
    assert decoded.report["n_block_errors"] == [0, 2] and decoded.report["n_blocks"] == [2, 2]
    assert decoded.report["stop_reason"] == ["", "first failed block"]
    assert decoded.report["n_bit_errors"] == [None, None]
    assert torch.all((decoded.output[1] * 255).round() == 128)
    assert mse(decoded.output, pictures)[0] < 0.01


def test_blocks_of_a_picture_given_up_early(pictures):
    """All blocks of the frame are counted. Blocks that were never tried have unknown errors, not zero errors."""
    system, link = registry.create("jpeg-ldpc-4qam", code_rate="1/2"), make_link(torch.tensor([20.0, -5.0]), cbr=1)
    blocks = system._coder(link.budget.uses, 20.0, "awgn").frame.blocks
    decoded = system.decode(through(system.encode(pictures, link), link, [1, 2]), link)
    assert blocks > 2 and decoded.report["n_blocks"] == [blocks, blocks]
    assert decoded.report["n_block_errors"] == [0, None]
    assert decoded.report["stop_reason"] == ["", "first failed block"]


def test_a_file_that_will_not_open_is_an_outage(pictures):
    system, link = registry.create("jpeg-ldpc-16qam"), make_link(30.0)
    coder = system._coder(USES, 30.0, "awgn")
    payload = pack(b"\xff\xd8 this is no picture", coder.frame.payload_bits)
    received = Received(
        coder.encode(payload)[None], torch.ones(1, 1, dtype=torch.complex64), torch.tensor([1e-3]), torch.zeros(1, 0)
    )
    decoded = system.decode(received, link)
    assert decoded.report["status"] == ["outage"] and decoded.report["stop_reason"] == ["unreadable file"]


def test_header_tells_the_file_from_the_padding():
    for payload in (b"", b"x", b"\0" * 100):
        assert unpack(pack(payload, 24 + 800)) == payload
    with pytest.raises(UnreadablePayload, match="16777215 bytes"):
        unpack(np.ones(1000, np.uint8))


@pytest.mark.parametrize("channel", ["rayleigh-block", "rayleigh-fast"])
def test_fading_with_known_gain_decodes_when_the_gain_allows(channel, pictures):
    system, link = registry.create("jpeg-ldpc-16qam"), make_link(22.0, channel)
    sent = system.encode(pictures, link)
    outcomes = {"ok": 0, "outage": 0}
    for seed in range(4):
        received = through(sent, link, [seed, seed + 50])
        decoded = system.decode(received, link)
        for row, status in enumerate(decoded.report["status"]):
            outcomes[status] += 1
            if channel == "rayleigh-block":  # one gain per picture: the picture meets an AWGN channel of that SNR
                snr = 22.0 + 20 * np.log10(received.csi[row, 0].abs().item())
                if snr > 12.5:
                    assert status == "ok", snr
                if snr < qam_limit_db(16, 5 / 6):
                    assert status == "outage", snr
    assert outcomes["ok"] >= 4


@pytest.mark.parametrize("name", ["jpeg-ldpc-16qam", "jpeg-ldpc-adaptive", "jpeg-capacity"])
def test_a_pictures_result_does_not_depend_on_its_batch(name, pictures):
    system = registry.create(name)
    link = make_link(torch.tensor([11.6, 14.0]))
    together = system.decode(through(system.encode(pictures, link), link, [5, 6]), link)
    for row, (snr, seed) in enumerate(((11.6, 5), (14.0, 6))):
        single = make_link(snr)
        alone = system.decode(through(system.encode(pictures[row : row + 1], single), single, [seed]), single)
        assert torch.equal(alone.output[0], together.output[row])
        assert {key: values[0] for key, values in alone.report.items()} == {
            key: values[row] for key, values in together.report.items()
        }


def test_cliff_of_the_system_is_where_its_link_has_it(pictures):
    system = registry.create("jpeg-ldpc-16qam")
    for snr, status in ((10.0, "outage"), (12.0, "ok"), (14.0, "ok")):
        link = make_link(snr)
        decoded = system.decode(through(system.encode(pictures, link), link, [3, 4]), link)
        assert decoded.report["status"] == [status] * 2


def test_a_lower_code_rate_trades_quality_for_robustness(pictures):
    link = make_link(8.0)
    strong = registry.create("jpeg-ldpc-16qam", code_rate="1/2")
    weak = registry.create("jpeg-ldpc-16qam", code_rate=5 / 6)
    sent, other = strong.encode(pictures, link), weak.encode(pictures, link)
    assert strong.variant == "16qam-1/2" and sent.report["mcs"] == ["16qam-1/2"] * 2
    assert all(a < b for a, b in zip(sent.report["quality"], other.report["quality"], strict=True))
    assert strong.decode(through(sent, link, [1, 2]), link).report["status"] == ["ok", "ok"]
    assert weak.decode(through(other, link, [1, 2]), link).report["status"] == ["outage", "outage"]


def test_budget_too_small_names_system_figures_and_cure(pictures):
    system = registry.create("jpeg-ldpc-16qam")
    figures = r"jpeg-ldpc-16qam: 69 channel uses at 16qam-5/6 carry 22 bytes.*has \d+ bytes; give"
    with pytest.raises(BudgetTooSmall, match=figures):
        system.encode(pictures, make_link(cbr=1 / 400))
    with pytest.raises(BudgetTooSmall, match="hold no code block"):
        system.encode(pictures, make_link(cbr=1 / 8000))


@pytest.mark.parametrize("name", ["jpeg-ldpc-16qam", "avif-ldpc-256qam", "jpeg-capacity", "webp-ldpc-adaptive"])
def test_names_compose(name):
    system = registry.create(name)
    assert system.name == name and system.codec == name.split("-")[0]
    assert registry.tasks_of(name) == system.tasks == ("reconstruction",)


def test_segmentation_names_are_their_own_family():
    assert registry.tasks_of("avif-ldpc-64qam-fcn") == ("segmentation",)
    assert registry.find("jpeg-ldpc-16qam-fcn").load().tasks == ("segmentation",)


@pytest.mark.parametrize("name", ["jpeg-ldpc-32qam", "jpg-ldpc-16qam", "jpeg-ldpc-16qam-fcm", "jpeg-ldpc-qam"])
def test_near_names_are_suggested(name):
    with pytest.raises(UnknownName, match=r"did you mean .*jpeg-ldpc-16qam"):
        registry.create(name)


def test_options_are_checked_and_listed():
    for entry in ("jpeg-ldpc-16qam", "jpeg-ldpc-adaptive", "jpeg-capacity", "jpeg-ldpc-16qam-fcn"):
        assert isinstance(registry.find(entry).load().options, tuple)
    with pytest.raises(UserError, match="unknown link 'ldpc'; links are nr, nr-sionna, pyldpc"):
        registry.create("jpeg-ldpc-16qam", link="ldpc")
    with pytest.raises(UserError, match="code rate 'fast'"):
        registry.create("jpeg-ldpc-16qam", code_rate="fast")
    with pytest.raises(UserError, match="bp_iterations is 0"):
        registry.create("jpeg-ldpc-16qam", bp_iterations=0)
    with pytest.raises(TypeError):  # an option that does not apply is refused
        registry.create("jpeg-ldpc-16qam", size="paper")
    with pytest.raises(UserError, match="not of the form"):
        DigitalSystem("jpeg-ldpc-32qam")


def test_textbook_link_by_name(pictures):
    pytest.importorskip("pyldpc")
    system, link = registry.create("jpeg-ldpc-16qam", link="pyldpc"), make_link(18.0)
    assert system.variant == "16qam-5/6-pyldpc"
    decoded = system.decode(through(system.encode(pictures, link), link, [1, 2]), link)
    assert decoded.report["status"] == ["ok", "ok"] and decoded.report["n_blocks"] == [13, 13]


def test_scheme_table_is_ordered_and_above_its_limits():
    assert {(row.order, str(row.rate)) for row in mcs_table.TABLE} == {
        (order, rate) for order in mcs_table.ORDERS for rate in mcs_table.RATES
    }
    for row in mcs_table.TABLE:
        assert 0 < row.threshold_db - qam_limit_db(row.order, float(row.rate)) < 3
    for order in mcs_table.ORDERS:
        thresholds = [row.threshold_db for row in mcs_table.TABLE if row.order == order]
        assert thresholds == sorted(thresholds)


def test_choice_grows_with_the_snr_and_never_passes_the_channels_limit():
    chosen = [mcs_table.choose(snr) for snr in np.arange(-5, 35, 0.5)]
    rates = [row.bits_per_use for row in chosen]
    assert rates == sorted(rates) and len(set(rates)) > 8
    for snr, row in zip(np.arange(-5, 35, 0.5), chosen, strict=True):
        assert snr < 0 or row.bits_per_use < shannon_bits(snr)
    assert mcs_table.choose(-20.0).tag == "4qam-1/3" and mcs_table.choose(40.0).tag == "256qam-8/9"


def test_adaptive_is_no_worse_than_the_single_schemes_where_those_first_decode():
    """The envelope lies on or above the paper's two curves at the SNRs at which these first decode."""
    assert mcs_table.choose(12.0).bits_per_use >= 4 * 5 / 6 - 1e-9
    assert mcs_table.choose(18.0).bits_per_use >= 6 * 5 / 6 - 1e-9


def test_adaptive_names_its_scheme_in_every_row_and_decodes(pictures):
    system = registry.create("jpeg-ldpc-adaptive")
    assert system.encoder_sees_snr
    link = make_link(torch.tensor([4.0, 20.0]))
    sent = system.encode(pictures, link)
    assert sent.report["mcs"] == [mcs_table.choose(4.0).tag, mcs_table.choose(20.0).tag]
    assert sent.report["mcs"][0] != sent.report["mcs"][1]
    assert sent.symbols.shape == (2, USES)
    assert system.decode(through(sent, link, [1, 2]), link).report["status"] == ["ok", "ok"]


def test_under_block_fading_the_scheme_is_safe_for_nine_pictures_in_ten(pictures):
    """Of many gains, as many are too weak for the scheme as the closed form says: at most one in ten."""
    system, link = registry.create("jpeg-ldpc-adaptive"), make_link(22.0, "rayleigh-block")
    sent, draws = system.encode(pictures[:1], link), 120
    assert sent.report["mcs"] == [mcs_table.choose(22.0 + mcs_table.FADE_DB).tag]
    scheme = mcs_table.choose(22.0, "rayleigh-block")
    expected = -np.expm1(-(10 ** ((scheme.threshold_db - 22.0) / 10)))  # P(power of the gain < threshold / SNR)
    assert 0.05 < expected < mcs_table.OUTAGE_SHARE
    status = [system.decode(through(sent, link, [seed]), link).report["status"][0] for seed in range(draws)]
    assert abs(status.count("outage") / draws - expected) < 3 * np.sqrt(expected / draws)


@pytest.mark.parametrize("snr_db", [4.0, 10.0, 16.0, 22.0])
def test_under_fast_fading_the_scheme_decodes(pictures, snr_db):
    system, link = registry.create("jpeg-ldpc-adaptive"), make_link(snr_db, "rayleigh-fast")
    sent = system.encode(pictures, link)
    assert system.decode(through(sent, link, [1, 2]), link).report["status"] == ["ok", "ok"]
    assert sent.report["mcs"][0] == mcs_table.choose(snr_db, "rayleigh-fast").tag
    on_awgn = registry.create("jpeg-ldpc-adaptive").encode(pictures, make_link(snr_db)).report["mcs"]
    assert on_awgn[0] != sent.report["mcs"][0]


def test_segmentation_outage_is_all_background_and_a_picture_is_labelled(pictures, monkeypatch):
    """The test's labeller marks pixels brighter than half as class 7; its labels therefore show which picture it was
    given.
    """

    class Bright(torch.nn.Module):
        variant = "brightness"

        def segment(self, images):
            logits = torch.zeros(len(images), 21, *images.shape[2:])
            logits[:, 7] = images.mean(dim=1) - 0.5
            return logits

    monkeypatch.setattr("baselines.fcn.FCN", lambda **options: Bright())
    system = registry.create("jpeg-ldpc-16qam-fcn")
    link = Link("segmentation", SIZE, SIZE, Budget(bits=20_000), "awgn", torch.tensor([20.0, 5.0]))
    decoded = system.decode(through(system.encode(pictures, link), link, [1, 2]), link)
    assert decoded.output.shape == (2, 21, SIZE, SIZE) and decoded.report["status"] == ["ok", "outage"]
    labels = decoded.output.argmax(dim=1)
    assert torch.all(labels[1] == 0)
    agreement = ((labels[0] == 7) == (pictures[0].mean(dim=0) > 0.5)).float().mean()
    assert agreement > 0.95


def test_segmentation_with_the_real_network_and_its_facts(pictures):
    """The FCN has a random head. The delivered labels are the FCN's labels of the decoded
    picture, not of the original.
    """
    system = registry.create("jpeg-ldpc-16qam-fcn", checkpoint="none")
    network, picture_system = system.fcn, registry.create("jpeg-ldpc-16qam")
    link = Link("segmentation", SIZE, SIZE, Budget(bits=20_000), "awgn", 20.0)
    received = through(system.encode(pictures, link), link, [1, 2])
    logits = system.decode(received, link).output
    decoded = picture_system.decode(received, link).output
    assert torch.allclose(logits, network.segment(decoded), atol=1e-4)
    assert not torch.allclose(logits, network.segment(pictures), atol=1e-2)
    facts = system.describe()
    assert facts["system"] == "jpeg-ldpc-16qam-fcn" and facts["variant"] == "16qam-5/6"
    assert facts["parameters"] == sum(weight.numel() for weight in network.parameters()) > 1_000_000
