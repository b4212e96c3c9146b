"""Tests of one operating point: attempts to pass data around the channel, each with a picture or batch on which the
attempt would succeed.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from bench.measure.calls import LocalEnd
from bench.measure.point import LOST, Batch, Conditions, Measurement, Point
from bench.measure.probe import probe
from bench.measure.row_independence import check_alone, check_apart, check_rows
from systems.errors import AuditError, UserError
from systems.interface import Decoded, System, Transmission
from systems.layers.power import unit_power
from systems.layers.symbol_layout import to_features, to_symbols

SIDE = 16
POINT = Point(10.0, 0)


class Pixels(System):
    """Sends as many pixels as the budget holds, uncoded, and 8 meaningless bits of side information."""

    name, variant = "pixels", "v1"
    side_bits = 8

    def uses(self, link):
        return link.budget.allowed_uses(self.bits_per_use) - link.budget.side_info_uses(self.side_bits)

    def encode(self, images, link):
        symbols, _ = unit_power(to_symbols(images - 0.5, self.uses(link)))
        return Transmission(symbols, torch.zeros(len(images), self.side_bits, dtype=torch.uint8))

    def decode(self, received, link):
        picture = to_features(received.symbols, 3, link.height, link.width)
        return Decoded((picture / 4 + 0.5).clamp(0, 1))


def batch(count: int = 3, task: str = "reconstruction") -> Batch:
    reference = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(5))
    reference = reference.to(torch.uint8)
    masks = torch.ones(count, SIDE, SIDE, dtype=torch.uint8) if task == "segmentation" else None
    return Batch(tuple(f"p{i}" for i in range(count)), reference.float() / 255, reference, masks)


def conditions(channel: str = "awgn", task: str = "reconstruction", salt: str = "", uses: int = 150) -> Conditions:
    return Conditions(task, "set", channel, None, None, "", salt=salt, uses=uses)


def deliver(system: System, of: Batch | None = None, point: Point = POINT, **how):
    of = of or batch()
    measurement = Measurement(LocalEnd(system), conditions(**how))
    (delivered,) = measurement.deliver([point], of, [measurement.sender(of)(point)])
    return delivered


# ---------------------------------------------------------------- only bytes pass


def test_attributes_of_tensors_do_not_pass():
    class Attribute(Pixels):
        def encode(self, images, link):
            sent = super().encode(images, link)
            sent.side_info.picture, sent.symbols.picture = images, images
            return sent

        def decode(self, received, link):
            assert not hasattr(received.side_info, "picture") and not hasattr(received.symbols, "picture")
            assert not hasattr(received, "picture")
            return super().decode(received, link)

    deliver(Attribute())


def test_a_view_s_storage_does_not_pass():
    class View(Pixels):
        def encode(self, images, link):
            sent = super().encode(images, link)
            wide = torch.zeros(len(images), 10_000, dtype=torch.uint8)
            wide[:, 100:868] = (images * 255).flatten(1).to(torch.uint8)
            sent.side_info = wide[:, :8]
            return sent

        def decode(self, received, link):
            for tensor in (received.side_info, received.symbols, received.csi, received.noise_var):
                assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
            return super().decode(received, link)

    deliver(View())


def test_the_order_of_a_tensor_in_memory_does_not_pass():
    class Turned(Pixels):
        side_bits = 0  # a control word behind the symbols would put them in order

        def encode(self, images, link):
            sent = super().encode(images, link)
            sent.symbols = sent.symbols.T.contiguous().T
            return sent

        def decode(self, received, link):
            assert received.symbols.is_contiguous()
            return super().decode(received, link)

    deliver(Turned())


def test_symbols_are_audited_as_they_are_sent():
    """If the transmitter changes its tensors after the audit, the sent symbols do not change."""

    class Late(Pixels):
        def encode(self, images, link):
            self.mine = super().encode(images, link)
            return self.mine

        def decode(self, received, link):
            self.seen = received.symbols
            return super().decode(received, link)

    system, of = Late(), batch()
    measurement = Measurement(LocalEnd(system), conditions())
    sent = measurement.sender(of)(POINT)
    honest = sent.transmission.symbols.clone()
    system.mine.symbols.mul_(1000)
    list(measurement.deliver([POINT], of, [sent]))
    assert torch.equal(sent.transmission.symbols, honest) and system.seen.abs().max() < 10


def test_tensors_of_other_kinds_are_refused():
    class Kind(torch.Tensor):
        pass

    class Sends(Pixels):
        def encode(self, images, link):
            sent = super().encode(images, link)
            sent.symbols = sent.symbols.as_subclass(Kind)
            return sent

    with pytest.raises(AuditError, match="plain dense torch.Tensor, not Kind"):
        deliver(Sends())


def test_a_changed_link_changes_nothing():
    """A system uses `object.__setattr__` on the budget of its link. The audit holds a copy of its own."""

    class Rich(Pixels):
        def encode(self, images, link):
            object.__setattr__(link.budget, "uses", 8 * link.budget.uses)
            object.__setattr__(link, "height", 10_000)
            return super().encode(images, link)

    with pytest.raises(AuditError, match="budget of 150"):
        deliver(Rich())


def test_a_receiver_that_changes_what_it_received_harms_nobody():
    """Since it draws random numbers, it is called again, with single pictures."""

    class Draws(Pixels):
        def decode(self, received, link):
            decoded = super().decode(received, link)
            decoded.output = decoded.output * (1 - 0.1 * torch.rand(decoded.output.shape))
            return decoded

    class Messy(Draws):
        def decode(self, received, link):
            decoded = super().decode(received, link)
            for tensor in (received.symbols, received.csi, received.noise_var, received.side_info):
                tensor.zero_()
            return decoded

    assert torch.equal(deliver(Messy()).output, deliver(Draws()).output)


def test_a_transmitter_that_changes_its_pictures_harms_nobody():
    class Messy(Pixels):
        def encode(self, images, link):
            sent = super().encode(images, link)
            images.zero_()
            return sent

    own = batch()
    assert torch.equal(deliver(Messy(), own).output, deliver(Pixels()).output)
    assert torch.equal(own.images, batch().images)


def test_the_number_of_uses_tells_nothing_of_the_picture():
    class Adapts(Pixels):
        def uses(self, link):
            return super().uses(link) - self.less

        def encode(self, images, link):
            self.less = int(images.mean() > 0.5)
            return super().encode(images, link)

    measurement = Measurement(LocalEnd(Adapts()), conditions())
    of, dark = batch(), batch()
    dark.images = dark.images * 0.1
    of.images = of.images * 0.1 + 0.9
    measurement.sender(of)
    with pytest.raises(AuditError, match="pad all pictures"):
        measurement.sender(dark)


def test_an_encoder_that_is_blind_is_told_no_snr():
    class Peeks(Pixels):
        def encode(self, images, link):
            sent = super().encode(images, link)
            sent.symbols = sent.symbols * (1 + 0 * link.snr_db)
            return sent

    with pytest.raises(AuditError, match="not finite"):
        deliver(Peeks())


# ---------------------------------------------------------------- noise, streams, rows


def test_noise_has_a_salt():
    """A receiver that knows all public names cannot compute its noise, since the salt is unknown to it."""
    plain, salted, other = (deliver(Pixels(), salt=salt) for salt in ("", "a1b2c3d4", "00000000"))
    assert not torch.equal(plain.output, salted.output) and not torch.equal(salted.output, other.output)
    # a run with the same salt repeats the noise
    assert torch.equal(salted.output, deliver(Pixels(), salt="a1b2c3d4").output)


@pytest.mark.parametrize("draw", [lambda s: torch.rand(s), lambda s: torch.from_numpy(np.random.rand(*s)).float(),
                                  lambda s: torch.full(s, random.random())])  # fmt: skip
@pytest.mark.parametrize("declared", [False, True])
def test_what_a_receiver_draws_does_not_depend_on_its_batch(draw, declared):
    class Draws(Pixels):
        draws = declared

        def decode(self, received, link):
            output = super().decode(received, link).output
            return Decoded((output + 0.2 * draw(output.shape)).clamp(0, 1))

    whole, of = deliver(Draws()).output, batch()
    for row in range(3):
        own = Batch(of.ids[row : row + 1], of.images[row : row + 1], of.reference[row : row + 1], None)
        assert torch.equal(deliver(Draws(), own).output[0], whole[row])
    assert len({tuple(one.flatten()[:50].tolist()) for one in whole}) == 3


def test_an_encoder_that_draws_does_not_depend_on_its_batch():
    class Dither(Pixels):
        def encode(self, images, link):
            return super().encode(images + 0.1 * torch.rand(images.shape), link)

    whole, of = deliver(Dither()).output, batch()
    own = Batch(of.ids[2:], of.images[2:], of.reference[2:], None)
    assert torch.equal(deliver(Dither(), own).output[0], whole[2])


def test_the_caller_s_streams_are_left_alone():
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    deliver(Pixels())
    assert torch.equal(states[0], torch.get_rng_state()) and random.getstate() == states[2]
    assert np.array_equal(states[1], np.random.get_state()[1])


class Shifted(Pixels):
    """Row i carries picture i + 1 of its batch."""

    def encode(self, images, link):
        return super().encode(images.roll(-1, dims=0), link)


class Neighbours(Pixels):
    """The receiver uses the whole batch."""

    def decode(self, received, link):
        return Decoded(super().decode(received, link).output * 0.5 + received.symbols.real.mean() + 0.2)


class Mark(Pixels):
    """The first symbol tells the size of the batch. It shows in too few pixels for a comparison of pictures."""

    def encode(self, images, link):
        sent = super().encode(images, link)
        sent.symbols[:, 0] *= 1j ** len(images)
        return sent


class Batchwise(Pixels):
    """The number of symbols depends on the batch."""

    def uses(self, link):
        return super().uses(link) - self.count % 2

    def encode(self, images, link):
        self.count = len(images)
        return super().encode(images, link)


@pytest.mark.parametrize("kind", [Shifted, Neighbours, Mark, Batchwise])
def test_rows_that_lean_on_each_other_are_found(kind):
    with pytest.raises(AuditError, match="rows do not stand alone|pad all pictures"):
        check_rows(LocalEnd(kind()), conditions(), batch().reference[0], 10.0)


def test_rows_that_stand_alone_pass():
    check_rows(LocalEnd(Pixels()), conditions(), batch().reference[0], 10.0)
    end, own, point = LocalEnd(Pixels()), batch(), Point(10.0, 0)
    check_alone(end, conditions(), own, Measurement(end, conditions()).sender(own)(point), point)


class Wary(Pixels):
    """Shifts rows only in batches of three, a size that `check_rows` does not try."""

    def encode(self, images, link):
        return super().encode(images.roll(1, 0) if len(images) == 3 else images, link)


class WaryReceiver(Pixels):
    """Averages the received symbols of three pictures, only in batches of three."""

    def decode(self, received, link):
        decoded = super().decode(received, link)
        if len(received.symbols) == 3:
            decoded.output = decoded.output.mean(dim=0, keepdim=True).expand_as(decoded.output).contiguous()
        return decoded


@pytest.mark.parametrize("kind", [Wary, WaryReceiver])
def test_a_system_that_knows_the_test_is_found_in_a_run_s_own_batches(kind):
    end, own, point = LocalEnd(kind()), batch(3), Point(10.0, 0)
    check_rows(end, conditions(), own.reference[0], 10.0)
    with pytest.raises(AuditError, match="rows do not stand alone"):
        check_alone(end, conditions(), own, Measurement(end, conditions()).sender(own)(point), point)


class Whole(Pixels):
    """Its rows lean on each other in batches of three alone, and it fails on any part of a batch."""

    def encode(self, images, link):
        if len(images) < 3:
            raise RuntimeError("not today")
        return super().encode(images.roll(1, 0) if len(images) == 3 else images, link)


class WholeReceiver(WaryReceiver):
    def decode(self, received, link):
        if len(received.symbols) < 3:
            raise UserError("give me more")
        return super().decode(received, link)


@pytest.mark.parametrize("kind", [Whole, WholeReceiver])
def test_a_system_that_fails_where_it_is_checked_has_not_passed(kind):
    end, own, point = LocalEnd(kind()), batch(3), Point(10.0, 0)
    with pytest.raises(AuditError, match="rows do not stand alone.*(not today|give me more)"):
        check_rows(end, conditions(), own.reference[0], 10.0)
    with pytest.raises(AuditError, match="rows do not stand alone.*(not today|give me more)"):
        check_alone(end, conditions(), own, Measurement(end, conditions()).sender(own)(point), point)


# ---------------------------------------------------------------- seeds


class Spy(LocalEnd):
    """Notes every seed that reaches the system."""

    def __init__(self, system):
        super().__init__(system)
        self.told = set()

    def prepare(self, images, link, seeds):
        send, seconds = super().prepare(images, link, seeds)
        self.told.update(seeds)
        return lambda at, draws: (self.told.update(draws), send(at, draws))[1], seconds

    def decode(self, received, link, seeds):
        self.told.update(seeds)
        return super().decode(received, link, seeds)


def test_no_seed_of_the_channel_reaches_a_system(monkeypatch):
    """In the measurement, the checks and the probe. A system with this seed would know the noise."""
    channels, real = set(), Conditions.seeds

    def seeds(self, ids, point, stream):
        drawn = real(self, ids, point, stream)
        channels.update(drawn if stream == "channel" else ())
        return drawn

    monkeypatch.setattr(Conditions, "seeds", seeds)
    own, at, point = batch(3), conditions(salt="5eed5a17"), Point(10.0, 0)
    spies = [Spy(Pixels()), Spy(Pixels())]
    sent = Measurement(spies[0], at).sender(own)(point)
    list(Measurement(spies[0], at).deliver([point], own, [sent]))
    check_rows(spies[0], at, own.reference[0], 10.0)
    check_alone(spies[0], at, own, sent, point)
    check_apart(spies[0], spies[1], at, own, sent, point)
    probe(spies[0], at, [own], 10.0)
    assert len(channels) > 6 and all(spy.told for spy in spies)
    assert not channels & (spies[0].told | spies[1].told)


def test_a_receiver_that_makes_something_else_apart_is_found():
    class Elsewhere(Pixels):
        def decode(self, received, link):
            return Decoded(super().decode(received, link).output * 0.99)

    own, point = batch(3), Point(10.0, 0)
    here, sent = LocalEnd(Pixels()), Measurement(LocalEnd(Pixels()), conditions()).sender(own)(point)
    check_apart(here, LocalEnd(Pixels()), conditions(), own, sent, point)
    with pytest.raises(AuditError, match="gives another result for the same symbols"):
        check_apart(here, LocalEnd(Elsewhere()), conditions(), own, sent, point)
    with pytest.raises(AuditError, match="fails in a process that did not encode .give me more"):
        check_apart(here, LocalEnd(WholeReceiver()), conditions(), batch(2), _of(batch(2), point), point)


def _of(own, point):
    return Measurement(LocalEnd(Pixels()), conditions()).sender(own)(point)


# ---------------------------------------------------------------- outages


class Outage(Pixels):
    """Reports an outage of its second picture, and delivers the picture nevertheless."""

    def decode(self, received, link):
        decoded = super().decode(received, link)
        decoded.report = {"status": ["ok", "outage", "ok"], "stop_reason": ["", "as it likes", ""]}
        return decoded


def test_outages_are_painted_by_the_harness():
    delivered, honest = deliver(Outage()), deliver(Pixels())
    assert delivered.report["status"] == ["ok", "outage", "ok"]
    assert (delivered.output[1] == 128).all()
    assert torch.equal(delivered.output[[0, 2]], honest.output[[0, 2]])


def test_outages_of_labels_are_background():
    class Labels(Outage):
        tasks = ("segmentation",)

        def decode(self, received, link):
            logits = torch.zeros(len(received.symbols), 21, SIDE, SIDE)
            logits[:, 7] = 1
            return Decoded(logits, {"status": ["ok", "outage", "ok"]})

    delivered = deliver(Labels(), batch(3, "segmentation"), task="segmentation")
    assert (delivered.output[1] == 0).all() and (delivered.output[[0, 2]] == 7).all()


def test_a_lost_control_word_is_an_outage_also_in_a_fade():
    of = batch(40)
    delivered = deliver(Pixels(), of, Point(0.0, 0), channel="rayleigh-block", uses=450)
    lost = [status == "outage" for status in delivered.report["status"]]
    assert 0 < sum(lost) < 20
    for row, gone in enumerate(lost):
        assert (delivered.report["stop_reason"][row] == LOST) == gone
        assert bool((delivered.output[row] == 128).all()) == gone
    assert "outage" not in deliver(Pixels(), of, Point(0.0, 0)).report["status"]


@pytest.mark.parametrize(
    "report, words",
    [
        ({"n_bits": ["abc"] * 3}, "n_bits.*whole number"),
        ({"n_bits": [float("nan")] * 3}, "n_bits.*whole number"),
        ({"status": ["fine"] * 3}, "status.*ok, outage"),
        ({"mcs": ["x" * 1000] * 3}, "mcs.*printable"),
        ({"mcs": ["\ud800"] * 3}, "mcs.*printable"),
        ({"mcs": ["=1+1"] * 3}, "mcs.*formula"),
        ({"stop_reason": [" @SUM(A1)"] * 3}, "stop_reason.*formula"),
        ({"source_chroma": ["-1+cmd|' /C calc'!A1"] * 3}, "source_chroma.*formula"),
        ({"mcs": ["a"]}, "one value per picture, 3 in all"),
        ({"mcs": "abc"}, "one value per picture, 3 in all"),
        (None, "dict of lists"),
    ],
)
def test_a_report_that_no_table_holds_is_refused(report, words):
    class Reports(Pixels):
        def decode(self, received, link):
            return Decoded(super().decode(received, link).output, report)

    with pytest.raises(AuditError, match=words):
        deliver(Reports())


@pytest.mark.parametrize("bits", [0.59, 1.81, 4.0, 0, -1, True, "2", 17])
def test_bits_per_use_are_whole(bits):
    class Claims(Pixels):
        bits_per_use = bits

    with pytest.raises(AuditError, match="bits_per_use"):
        LocalEnd(Claims())
