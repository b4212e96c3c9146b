"""Tests that size `paper`, untrained, is at chance level, as any untrained network: no closed form helps it.

A picture at chance level is no better than one constant colour, the mean of many photographs: its error is at least
that of the constant. Labels at chance level are no better than the best single label for all pixels: their mIoU is at
most that of this label.
"""

import pytest
import torch
import torch.nn.functional as F
from skimage import data

import baselines  # noqa: F401  (registers the systems)
from baselines.fcn import FCN
from bench.measure.channel import transmit
from bench.measure.metrics.segmentation import confusion, intersections_unions
from systems import Budget, Link, registry
from systems.interface import VOID
from systems.sizes import sizes_of

SIDE = 128
MEAN_GREY = 0.45  # mean of many photographs; one of these three would be closer to its own mean, which no system sends
#: Extensions of the bench, which no paper describes, start from a closed form on purpose.
NO_PUBLICATION = {"gensc-select", "adjscc-select"}
LEARNED = [entry.name for entry in registry.entries() if entry.learned and entry.name not in NO_PUBLICATION]
RECONSTRUCTION = [name for name in LEARNED if "reconstruction" in registry.tasks_of(name)]
#: The FCN is a part of the digital links, no system.
SEGMENTATION = [*(name for name in LEARNED if "segmentation" in registry.tasks_of(name)), "fcn"]
HEAVY = {"gensc"}
BACKGROUND, CAT, PERSON = 0, 8, 15


def photographs() -> torch.Tensor:
    """Three photographs, (3, 3, 128, 128)."""
    pictures = [
        torch.from_numpy(p).permute(2, 0, 1)[None] / 255 for p in (data.astronaut(), data.chelsea(), data.coffee())
    ]
    return torch.cat([F.interpolate(p, (SIDE, SIDE), mode="bilinear", antialias=True) for p in pictures]).clamp(0, 1)


def untrained(name: str):
    """The paper's network. GenSC has a shallower, narrower transformer, since 682 M parameters would take minutes."""
    import dataclasses

    kind = registry.find(name).load()
    if name not in HEAVY:
        return kind(name=name, size="paper", checkpoint="none")
    from systems.sizes import load_size

    config = dataclasses.replace(load_size(kind.Config, name, "paper"), decoder_depth=2, decoder_dim=128, time_dim=64)
    return kind(name=name, size="paper", checkpoint="none", config=config)


@pytest.mark.parametrize("name", RECONSTRUCTION)
def test_an_untrained_paper_size_is_no_better_than_one_colour(name):
    assert "paper" in sizes_of(name)
    system, images = untrained(name), photographs()
    constant = (images - MEAN_GREY).square().mean(dim=(1, 2, 3))
    for snr in (0.0, 10.0, 20.0):
        link = Link("reconstruction", SIDE, SIDE, Budget.from_cbr(1 / 16, SIDE, SIDE), snr_db=snr)
        with torch.inference_mode():
            output = system.decode(transmit(system.encode(images, link), link, [1, 2, 3]), link).output
        error = (output - images).square().mean(dim=(1, 2, 3))
        assert (10 * torch.log10(constant / error)).mean() < 0.5, f"{name} at {snr} dB"  # dB above one colour


def truth() -> torch.Tensor:
    """Labels of the first two photographs, (2, 128, 128): rectangles drawn by hand, void between them."""
    labels = torch.full((2, SIDE, SIDE), VOID)
    labels[0, 60:112, 8:68] = PERSON
    labels[0, 5:50, 24:36] = labels[0, 5:50, 76:90] = BACKGROUND
    labels[1, 10:110, 12:94] = CAT
    labels[1, 20:120, 118:] = BACKGROUND
    return labels


def miou(labels: torch.Tensor) -> float:
    """Mean IoU over the three classes of `truth`."""
    intersections, unions = intersections_unions(confusion(labels, truth()))
    return float((intersections / unions.clip(1))[[BACKGROUND, CAT, PERSON]].mean())


def labels_of(network, snr_db: float) -> torch.Tensor:
    """What a system, or the FCN, takes the first two photographs for, (2, 128, 128)."""
    images = photographs()[:2]
    with torch.inference_mode():
        if isinstance(network, FCN):
            return network.segment(images).argmax(dim=1)
        link = Link("segmentation", SIDE, SIDE, Budget.from_cbr(1 / 16, SIDE, SIDE), snr_db=snr_db)
        return network.decode(transmit(network.encode(images, link), link, [1, 2]), link).output.argmax(dim=1)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_an_untrained_paper_size_labels_no_better_than_one_label(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # an empty cache: no ImageNet weights
    network = FCN(size="paper", checkpoint="none") if name == "fcn" else untrained(name)
    assert "ImageNet backbone" not in network.knowledge()
    chance = max(miou(torch.full_like(truth(), label)) for label in (BACKGROUND, CAT, PERSON))
    assert 0.1 < chance < 0.25
    for snr_db in (0.0, 20.0)[: 1 if name == "fcn" else 2]:  # the FCN has no channel
        assert miou(labels_of(network, snr_db)) <= chance, f"{name} at {snr_db} dB"


@pytest.mark.parametrize("name", SEGMENTATION)
def test_the_small_size_trained_labels_far_better(name):
    """Shows that the test above can fail: the same measure finds what the weights that ship have learned."""
    network = FCN(size="small") if name == "fcn" else registry.create(name, size="small")
    assert miou(labels_of(network, 20.0)) > 0.6


@pytest.mark.parametrize("name", LEARNED)
def test_a_paper_size_stands_beside_no_linear_path_and_reads_no_estimate(name):
    with torch.device("meta"):
        system = registry.find(name).load()(name=name, size="paper", checkpoint="none")
    assert getattr(system, "linear_path", None) is None
    for field in ("linear_path", "lmmse", "contrast_units"):
        assert not getattr(system.config, field, False), field
    assert "block-KLT code as linear path" not in system.knowledge()


@pytest.mark.parametrize("name", RECONSTRUCTION)
def test_the_small_size_untrained_does_have_that_help(name):
    """Shows that the test above can fail: the same measure finds the block-KLT code in `small`."""
    system, images = registry.create(name, size="small", checkpoint="none"), photographs()
    link = Link("reconstruction", SIDE, SIDE, Budget.from_cbr(1 / 16, SIDE, SIDE), snr_db=20.0)
    with torch.inference_mode():
        output = system.decode(transmit(system.encode(images, link), link, [1, 2, 3]), link).output
    constant = (images - MEAN_GREY).square().mean(dim=(1, 2, 3))
    error = (output - images).square().mean(dim=(1, 2, 3))
    assert (10 * torch.log10(constant / error)).mean() > 5
