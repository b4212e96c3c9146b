import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet50, segmentation

from baselines.fcn import FCN, FCNConfig, from_torchvision
from systems import weight_files
from systems.errors import CheckpointError, UserError
from systems.layers.backbone import cached_weights, make_backbone
from systems.sizes import load_size


@pytest.mark.parametrize(("name", "stride"), [("efficientnet-lite0", 16), ("resnet50", 8), ("resnet50", 16)])
def test_backbone_strides(name, stride):
    net = make_backbone(name, False, stride).eval()
    with torch.no_grad():
        maps = net(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (width, 64 // s, 96 // s) for width, s in zip(net.channels, (4, 8, stride))
    ]


def test_a_resnet_takes_its_imagenet_weights_from_torch_s_cache(tmp_path, monkeypatch, capsys):
    """Where the cache holds no weights, the network says so, starts from random weights and does not report ImageNet
    weights.
    """
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    net = make_backbone("resnet50", True)
    assert not net.pretrained and "weights fetch resnet50" in capsys.readouterr().err
    (tmp_path / "checkpoints").mkdir()
    torch.save(resnet50().state_dict(), cached_weights("resnet50"))
    filled = make_backbone("resnet50", True)
    assert filled.pretrained
    wanted = torch.load(cached_weights("resnet50"), weights_only=True)
    assert torch.equal(filled.net.layer4[2].conv3.weight, wanted["layer4.2.conv3.weight"])


def test_backbones_that_are_not_there_are_named():
    with pytest.raises(UserError, match="did you mean resnet50"):
        make_backbone("resnet5", False)
    with pytest.raises(UserError, match="stride 16"):
        make_backbone("efficientnet-lite0", True, 8)


def test_paper_size_is_torchvision_s_network():
    """The same weights give the same logits: names, dilations, normalisation and upsampling
    agree with torchvision's.
    """
    with weight_files.seeded(0):
        theirs = segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True).eval()
    ours = FCN(size="paper", checkpoint="none")
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    images = torch.rand(1, 3, 64, 80)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        wanted = theirs((images - mean[:, None, None]) / deviation[:, None, None])["out"]
    got = ours.segment(images)
    assert (got - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_paper_size_runs_forward_and_backward():
    system = FCN(size="paper", checkpoint="none").train()
    loss = system.training_step(torch.rand(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long))["cross_entropy"]
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in system.parameters())


def test_any_size_and_no_dependence_on_the_batch():
    system = FCN(checkpoint="none")
    images = torch.rand(3, 3, 75, 101)
    logits = system.segment(images)
    assert logits.shape == (3, 21, 75, 101) and logits.dtype == torch.float32
    assert not logits.requires_grad and not system.training
    assert (system.segment(images[1:2])[0] - logits[1]).abs().max() < 1e-4 * logits.abs().max()


@pytest.mark.parametrize("mirror", [True, False])
def test_a_mirrored_picture_has_the_mirrored_labels_where_both_are_asked(mirror):
    config = dataclasses.replace(load_size(FCNConfig, "fcn", "small"), mirror=mirror)
    system = FCN(checkpoint="none", config=config)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    answer, other = system.segment(images).softmax(1), system.segment(images.flip(-1)).flip(-1).softmax(1)
    assert torch.allclose(answer, other, atol=1e-5) is mirror
    one, two = system(images).softmax(1), system(images.flip(-1)).flip(-1).softmax(1)
    assert torch.allclose(answer, (one + two) / 2 if mirror else one, atol=1e-5)


def test_void_pixels_do_not_count():
    system = FCN(checkpoint="none")
    images = torch.rand(2, 3, 32, 32)
    target = torch.randint(0, 21, (2, 32, 32))
    target[:, :16] = 255
    loss = system.training_step(images, target)["cross_entropy"]
    wanted = F.cross_entropy(system(images)[:, :, 16:], target[:, 16:])
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_weights_go_through_the_zoo(tmp_path):
    source = FCN(checkpoint="none", seed=1)
    path = tmp_path / "fcn-small.safetensors"
    digest = weight_files.save_weights(path, source.state_dict(), {"images_seen": 7})
    loaded = FCN(size="small", checkpoint=str(path))
    assert loaded.variant.startswith(f"small-{digest[:8]}") and loaded.describe()["images_seen"] == 7
    images = torch.rand(1, 3, 48, 48)
    assert torch.allclose(loaded.segment(images), source.half().float().segment(images), atol=1e-4)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated or altered"):
        FCN(size="small", checkpoint=str(path))


def test_weights_of_another_size_or_system_are_refused_though_their_shapes_fit(tmp_path):
    for facts, words in (
        ({"system": "fcn", "size": "small_from_scratch"}, "fcn in size small_from_scratch, not of fcn in size small"),
        ({"system": "deeplab-jscc", "size": "small"}, "deeplab-jscc in size small"),
    ):
        weight_files.save_weights(tmp_path / "w.safetensors", FCN(checkpoint="none").state_dict(), facts)
        with pytest.raises(CheckpointError, match=words):
            FCN(checkpoint=str(tmp_path / "w.safetensors"))


def test_paper_size_ships_no_weights_and_says_so():
    with pytest.raises(CheckpointError, match="fcn ships no weights in size 'paper'"):
        FCN(size="paper")
    with pytest.raises(CheckpointError, match="paper only"):
        FCN(size="small", checkpoint="torchvision")
