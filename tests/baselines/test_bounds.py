"""Tests of the bounds.

The bound at capacity spends capacity to the bit, picture by picture, and no system decodes more. The FCN's upper bound
is the FCN applied to the original picture.
"""

import pytest
import torch
from digital_links import USES, make_link, mse, through

from baselines.bounds import CapacityBound
from baselines.digital import system as digital
from baselines.digital.capacity import shannon_bits
from baselines.digital.codec import encode_under
from baselines.fcn import FCN
from systems import registry
from systems.interface import Budget, Link


def test_capacity_bound_delivers_capacity_and_is_marked_as_a_genie(pictures):
    system, link = registry.create("jpeg-capacity"), make_link(10.0)
    assert system.genie and not getattr(registry.create("jpeg-ldpc-16qam"), "genie", False)
    assert "genie" in system.describe()
    sent = system.encode(pictures, link)
    assert torch.allclose(sent.symbols.abs().square().mean(dim=1), torch.ones(2), atol=1e-4)
    decoded = CapacityBound("jpeg-capacity").decode(through(sent, link, [1, 2]), link)
    limit = USES * shannon_bits(10.0)
    for row, image in enumerate(digital.to_pictures(pictures)):
        coded = encode_under(image, int(limit // 8))
        assert decoded.report["payload_bits"][row] == 8 * len(coded.payload) <= limit
    assert torch.all(mse(decoded.output, pictures) < 0.01)  # each row is its own picture, not its neighbour's


def test_no_scheme_crosses_the_capacity_bound_even_picture_by_picture_in_fading(pictures):
    bound = registry.create("jpeg-capacity")
    for channel in ("awgn", "rayleigh-block"):
        for snr in (6.0, 13.0, 20.0):
            link = make_link(snr, channel)
            seeds = [11, 12]
            best = bound.decode(through(bound.encode(pictures, link), link, seeds), link)
            for name in ("jpeg-ldpc-4qam", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam"):
                system = registry.create(name)
                sent = system.encode(pictures, link)
                got = system.decode(through(sent, link, seeds), link)
                for row in range(2):
                    if got.report["status"][row] == "ok":
                        assert sent.report["payload_bits"][row] <= best.report["payload_bits"][row]


def test_capacity_too_small_for_any_file_is_an_outage(pictures):
    system, link = registry.create("jpeg-capacity"), make_link(-20.0)
    decoded = system.decode(through(system.encode(pictures, link), link, [1, 2]), link)
    assert decoded.report["status"] == ["outage"] * 2
    assert decoded.report["stop_reason"] == ["capacity below the smallest file"] * 2


@pytest.mark.parametrize("snr", [-10.0, 20.0])
def test_the_fcn_ceiling_is_the_fcn_on_the_original_at_any_snr(pictures, snr):  # noqa: F811
    system = registry.create("fcn-ceiling")
    link = Link("segmentation", *pictures.shape[-2:], Budget(bits=20_000), "rayleigh-block", snr)
    decoded = system.decode(through(system.encode(pictures, link), link, [1, 2]), link)
    rounded = torch.stack([digital.from_uint8(image) for image in digital.to_pictures(pictures)])
    for row in range(2):
        assert torch.equal(decoded.output[row], FCN().segment(rounded[row : row + 1])[0])
    assert system.genie and "genie" in system.describe()
