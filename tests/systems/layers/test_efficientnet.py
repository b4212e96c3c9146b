"""Tests of EfficientNet-Lite0: the package's weights go where timm expects them, and frozen parts do not change."""

import timm
import torch
import torch.nn.functional as F
from skimage import data

from systems.layers.efficientnet import EfficientNetLite0, load_imagenet

EGYPTIAN_CAT = 285  # ImageNet class


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
