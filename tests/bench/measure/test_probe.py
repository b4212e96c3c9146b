"""Tests of the probe, which distinguishes a receiver that decodes its input from one that has memorised the set."""

from __future__ import annotations

import pytest
import torch
from test_point import Pixels, batch, conditions

from bench.measure.calls import LocalEnd
from bench.measure.probe import PROBES, probe
from systems.errors import AuditError
from systems.interface import Decoded


class Learned(Pixels):
    """Delivers the pictures of the set in their order, whatever it receives."""

    def decode(self, received, link):
        return Decoded(batch(len(received.symbols)).images)


def means(system) -> dict[str, float]:
    findings = probe(LocalEnd(system), conditions(), [batch()], 15.0)
    assert [finding.probe for finding in findings] == list(PROBES)
    swapped = findings[2]
    assert swapped.against_other is not None
    return {**{finding.probe: finding.mean for finding in findings}, "other": swapped.against_other}


def test_a_receiver_that_has_learned_the_set_is_seen():
    honest, learned = means(Pixels()), means(Learned())
    assert learned["symbols zeroed"] == learned["as sent"] == 100.0 > learned["other"]
    assert honest["symbols zeroed"] < honest["as sent"]
    assert honest["other"] > honest["symbols of the next picture"]


@pytest.mark.parametrize(
    ("output", "report", "words"),
    [
        (lambda images: images * float("nan"), {}, "values of the output are not finite"),
        (lambda images: images[..., :-1], {}, "it must be float"),
        (lambda images: images.to(torch.uint8), {}, "it must be float"),
        (lambda images: images, {"status": "maybe"}, "report 'status' is 'maybe'"),
        (lambda images: images, {"n_bits": 10**400}, "report 'n_bits' holds '1000"),
        (lambda images: images, {"n_bits": 10**5000}, "report 'n_bits' holds a number with too many digits"),
    ],
)
def test_a_probe_audits_what_a_run_audits(output, report, words):
    class Broken(Pixels):
        def decode(self, received, link):
            images = super().decode(received, link).output
            return Decoded(output(images), {key: [value] * len(images) for key, value in report.items()})

    with pytest.raises(AuditError, match=words):
        probe(LocalEnd(Broken()), conditions(), [batch()], 15.0)
