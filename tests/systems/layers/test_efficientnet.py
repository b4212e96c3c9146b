"""Tests of EfficientNet-Lite0: it is timm's, the package's weights go where they belong, frozen parts do not change."""

import pytest
import timm
import torch
import torch.nn.functional as F
from skimage import data

from systems.layers.efficientnet import EfficientNetLite0, load_imagenet
from systems.layers.lite0_features import Lite0Features

EGYPTIAN_CAT = 285  # ImageNet class


def timm_s() -> torch.nn.Module:
    return timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4), pretrained=False)


def test_random_weights_are_timm_s():
    """The same names in the same order, the same draws, and the same state of the generator afterwards."""
    made = []
    for build in (Lite0Features, timm_s):
        torch.manual_seed(3)
        made.append((list(build().state_dict().items()), torch.rand(4)))
    (ours, our_draw), (theirs, their_draw) = made
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True))
    assert torch.equal(our_draw, their_draw)


@pytest.mark.parametrize("size", [(64, 96), (51, 33), (2, 65)])
@pytest.mark.parametrize("training", [False, True])
def test_maps_and_gradients_are_timm_s(size, training):
    """Bit for bit, for even and odd sides, with statistics of the batch and with those that are stored."""
    ours, theirs = Lite0Features().train(training), timm_s().train(training)
    load_imagenet(ours)
    load_imagenet(theirs)
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    found, expected = ours(x), theirs(x)
    assert len(found) == 4 and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for maps in (found, expected):
        sum(one.square().mean() for one in maps).backward()
    gradients = [dict((name, one.grad) for name, one in net.named_parameters()) for net in (ours, theirs)]
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[1])
    states = ours.state_dict(), theirs.state_dict()  # the statistics have moved alike
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_imagenet_weights_know_a_cat():
    """Order, shapes and normalisation are right: scikit-image's picture `chelsea` is classified as an Egyptian cat."""
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    load_imagenet(net)
    image = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].float() / 255
    image = F.interpolate(image[..., 75:375], size=(224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        assert net(image * 2 - 1).argmax().item() == EGYPTIAN_CAT


def test_backbone_holds_those_weights():
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_imagenet(whole)
    reference = whole.state_dict()
    for key, value in EfficientNetLite0(pretrained=True).net.state_dict().items():
        assert torch.equal(value, reference[key]), key


def test_frozen_stages_and_statistics_stay():
    """A training step changes the later stages only, and no batch norm takes statistics of the crops."""
    net = EfficientNetLite0(pretrained=True, frozen_stages=3).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    sum(features.square().mean() for features in net(torch.rand(2, 3, 64, 64))).backward()
    optimizer.step()
    moved = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert moved and all(int(key.split(".")[2]) >= 3 for key in moved)
    assert not any("running" in key for key in moved)


def test_the_last_map_joins_two_strides():
    net = EfficientNetLite0(pretrained=True).eval()
    with torch.no_grad():
        images = torch.rand(1, 3, 64, 96)
        low, middle, deep = net(images)
        fine, coarse = net.net(images * 2 - 1)[2:]
    assert [tuple(m.shape) for m in (low, middle, deep)] == [(1, 24, 16, 24), (1, 40, 8, 12), (1, 432, 4, 6)]
    assert torch.equal(deep[:, :112], fine)
    assert torch.allclose(deep[:, 112:].mean(), coarse.mean(), atol=0.1)
