"""Tests of weights: forms of storage, one checkpoint per SNR, weights that others published, and shipping."""

import hashlib
import json
import math
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save
from torch import nn

import baselines  # noqa: F401  (registers the systems)
from baselines import import_weights
from baselines.deepjscc import DeepJSCC, DeepJSCCConfig
from bench.measure.channel import transmit
from systems import Budget, Link, checkpoint_option, create, ship_weights, sidecars, weight_files
from systems.errors import AuditError, CheckpointError, UnknownName, UserError
from systems.interface import Decoded, Received, System, Transmission
from systems.per_snr import PerSNR
from systems.sizes import fill


def link(side=64, snr_db=7.0):
    return Link("reconstruction", side, side, Budget.from_cbr(1 / 16, side, side), snr_db=snr_db)


def images(count=2, side=64):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- storage in 8 bits


def test_eight_bits_keep_each_value_within_half_a_step_of_its_channel():
    generator = torch.Generator().manual_seed(0)
    state = {
        "conv.weight": torch.randn(64, 16, 3, 3, generator=generator) * torch.logspace(-3, 1, 64)[:, None, None, None],
        "conv.bias": torch.randn(64, generator=generator),
        "silent.weight": torch.zeros(64, 64),
        "counter": torch.tensor(7),
    }
    tensors = weight_files.packed(state, 8)
    assert tensors["conv.weight"].dtype == torch.int8 and tensors["conv.weight::peak"].dtype == torch.float16
    assert tensors["conv.bias"].dtype == torch.float16 and tensors["counter"].dtype == torch.int64
    back = weight_files.unpacked(tensors)
    assert set(back) == set(state) and torch.equal(back["counter"], state["counter"])
    step = state["conv.weight"].flatten(1).abs().amax(1) / 127
    error = (back["conv.weight"] - state["conv.weight"]).flatten(1).abs().amax(1)
    assert (error <= 0.5 * step * (1 + 2**-9)).all() and (error > 0.4 * step).all()
    assert not back["silent.weight"].any()
    assert weight_files.packed(state, 8, ["conv.*"])["conv.weight"].dtype == torch.float16


def test_eight_bits_halve_the_file_and_load_like_any_other(tmp_path):
    source = create("witt", checkpoint="none")
    paths = {bits: tmp_path / f"{bits}.safetensors" for bits in (8, 16, 32)}
    for bits, path in paths.items():
        weight_files.save_weights(path, source.state_dict(), {"system": "witt", "size": "small"}, bits)
        assert sidecars.read_facts(path)["storage"]["bits"] == bits
    sizes = {bits: path.stat().st_size for bits, path in paths.items()}
    assert sizes[8] < 0.55 * sizes[16] < 0.3 * sizes[32]
    loaded = {bits: create("witt", checkpoint=str(path)) for bits, path in paths.items()}
    for key, value in source.state_dict().items():
        assert torch.equal(loaded[32].state_dict()[key], value)
        assert torch.equal(loaded[16].state_dict()[key], value.half().float())
        limit = value.abs().amax() / 127 if value.ndim else 0
        assert (loaded[8].state_dict()[key] - value).abs().max() <= limit + 1e-3 * value.abs().max() + 2**-24


def test_what_float16_does_not_hold_is_an_error_that_names_the_tensor(tmp_path):
    with pytest.raises(ValueError, match="'big.bias' is not finite"):
        weight_files.save_weights(tmp_path / "w.safetensors", {"big.bias": torch.tensor([1e6])}, {})
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- one checkpoint per SNR


@pytest.fixture
def per_snr(tmp_path):
    """Deep JSCC with different weights at 1, 7 and 13 dB: name -> file."""
    return files_of(tmp_path, {1.0: {}, 7.0: {}, 13.0: {}})


def files_of(folder, told):
    """Files of Deep JSCC with different weights: SNR -> file. told: more facts of each sidecar, by SNR."""
    files = {}
    for seed, (snr, facts) in enumerate(told.items()):
        path = folder / f"at{snr:g}.safetensors"
        module = DeepJSCC("deepjscc", "paper", checkpoint="none", seed=seed)
        facts = {"system": "deepjscc", "size": "paper", **facts}
        weight_files.save_weights(path, module.state_dict(), facts, bits=32)
        files[snr] = str(path)
    return files


def test_each_point_is_served_by_the_checkpoint_of_the_nearest_snr(per_snr):
    system = create("deepjscc", size="paper", checkpoint=checkpoint_option.join(per_snr))
    alone = {snr: create("deepjscc", size="paper", checkpoint=file) for snr, file in per_snr.items()}
    for snr, own in ((-5.0, 1.0), (3.9, 1.0), (4.0, 1.0), (4.1, 7.0), (9.0, 7.0), (20.0, 13.0)):
        at = link(snr_db=snr)
        with torch.inference_mode():
            outputs = []
            for one in (system, alone[own]):
                received = transmit(one.encode(images(), at), at, [1, 2])
                outputs.append(one.decode(received, at).output)
        assert torch.equal(outputs[0], outputs[1]), snr


def test_a_batch_may_hold_several_snrs(per_snr):
    system = create("deepjscc", size="paper", checkpoint=checkpoint_option.join(per_snr))
    assert system.joins_snr and system.encoder_sees_snr
    snrs = [13.0, 1.0, 8.0]
    at = link(snr_db=torch.tensor(snrs))
    with torch.inference_mode():
        together = system.decode(transmit(system.encode(images(3), at), at, [1, 2, 3]), at).output
        for row, snr in enumerate(snrs):
            one = link(snr_db=snr)
            sent = system.encode(images(3)[row : row + 1], one)
            alone = system.decode(transmit(sent, one, [row + 1]), one).output
            assert torch.allclose(together[row], alone[0], atol=1e-5)


class Speaks(System):
    """A network whose control word is made for `made_for` dB, and that gives up a picture with a mean above 1/2."""

    tasks, joins_snr = ("reconstruction",), True

    def __init__(self, made_for):
        super().__init__("speaks")
        self.made_for = made_for

    def encode(self, images, link):
        dark = (images.mean((1, 2, 3)) < 0.5).to(torch.uint8)[:, None]
        mcs = [f"at {self.made_for:g}"] * len(images)
        return Transmission(torch.ones(len(images), 4, dtype=torch.complex64), dark, {"mcs": mcs}, self.made_for)

    def decode(self, received, link):
        status = ["ok" if bit else "outage" for bit in received.side_info[:, 0].tolist()]
        return Decoded(torch.zeros(len(status), 3, link.height, link.width), {"status": status})


def test_what_the_networks_say_of_a_transmission_stays():
    """Charged at the SNR that it is made for, and with its outages. One batch has one such SNR."""
    system, pictures = PerSNR("speaks", {1.0: Speaks(3.0), 13.0: Speaks(9.0)}), images(2)
    pictures[0], pictures[1] = 0.2, 0.8
    for snr, made_for in ((0.0, 3.0), (12.0, 9.0)):
        at = link(snr_db=snr)
        sent = system.encode(pictures, at)
        assert sent.side_info_snr_db == made_for and sent.report == {"mcs": [f"at {made_for:g}"] * 2}
        received = Received(sent.symbols, torch.ones(2, 1), torch.ones(2), sent.side_info)
        assert system.decode(received, at).report == {"status": ["ok", "outage"]}
    with pytest.raises(AuditError, match="different SNRs"):
        system.encode(pictures, link(snr_db=torch.tensor([0.0, 12.0])))
    deaf = Speaks(3.0)
    deaf.joins_snr = False
    assert system.joins_snr and not PerSNR("speaks", {1.0: Speaks(3.0), 2.0: deaf}).joins_snr


def test_the_worst_checkpoint_speaks_for_all(tmp_path):
    """Else one that was trained well, for an SNR that is hardly used, would hide that the others were not."""
    told = ({"images_seen": {"reconstruction": 9, "segmentation": 3}, "data": "A"}, {"data": "B", "undertrained": True},
            {"images_seen": {"reconstruction": 5}, "data": "A"})  # fmt: skip
    files = files_of(tmp_path, {float(snr): facts for snr, facts in enumerate(told)})
    facts = create("deepjscc", size="paper", checkpoint=checkpoint_option.join(files)).describe()
    alone = create("deepjscc", size="paper", checkpoint=files[0.0]).describe()
    assert facts["parameters"] == 3 * alone["parameters"] > 0
    assert "images_seen" not in facts and facts["undertrained"] is True
    assert facts["data"] == {"0 dB": "A", "1 dB": "B", "2 dB": "A"}
    counted = checkpoint_option.join({snr: file for snr, file in files.items() if snr != 1.0})
    counted = create("deepjscc", size="paper", checkpoint=counted).describe()
    assert counted["images_seen"] == {"reconstruction": 5, "segmentation": 0} and counted["data"] == "A"
    text = checkpoint_option.join({1.0: files[0.0], 2.0: "none"})
    assert create("deepjscc", size="paper", checkpoint=text).describe()["undertrained"] is True
    assert create("deepjscc", size="paper", checkpoint=f"1={files[0.0]}").describe()["undertrained"] is False


def test_what_one_checkpoint_does_not_tell_is_not_told_for_all(tmp_path):
    """Else a file that tells much, for an SNR that is hardly used, would speak for one that tells nothing."""
    told = ({"images_seen": {"reconstruction": 9}, "data": {"reconstruction": {"sources": ["photos"]}}, "notes": "a",
             "knowledge": "none", "licence": "CC0"}, {"knowledge": "ImageNet backbone", "images_seen": "not known"},
            {"licence": "CC0"})  # fmt: skip
    files = files_of(tmp_path, {float(snr): facts for snr, facts in enumerate(told)})

    def facts_of(*snrs):
        text = checkpoint_option.join({float(snr): files[snr] for snr in snrs})
        return create("deepjscc", size="paper", checkpoint=text).describe()

    whole = facts_of(0, 1, 2)
    assert whole["knowledge"] == "ImageNet backbone; not known" and whole["licence"] == "CC0; not known"
    assert whole["data"] == {"0 dB": told[0]["data"], "1 dB": "not known", "2 dB": "not known"}
    assert "images_seen" not in whole and whole["seen_per_snr"]["0"] == {"reconstruction": 9}
    assert "notes" not in whole and whole["config"] == facts_of(0)["config"] and whole["size"] == "paper"
    assert facts_of(0)["knowledge"] == "none" and facts_of(0)["notes"] == "a"
    two = {snr: create("deepjscc", size=size, checkpoint="none") for snr, size in ((0.0, "paper"), (3.0, "small"))}
    mixed = PerSNR("deepjscc", two).describe()
    assert mixed["size"] == "several" and set(mixed["config"]) == {"0 dB", "3 dB"}
    assert facts_of(1, 2)["data"] == "not known" and facts_of(0, 2)["licence"] == "CC0"


def test_the_rows_say_which_checkpoints_made_them(per_snr):
    system = create("deepjscc", size="paper", checkpoint=checkpoint_option.join(per_snr))
    facts = system.describe()
    digests = {f"{snr:g}": sidecars.read_facts(path_of(file))["sha256"] for snr, file in per_snr.items()}
    assert facts["per_snr"] == digests and facts["variant"] == system.variant
    assert all(digest[:8] in system.variant for digest in digests.values())
    text = checkpoint_option.join(per_snr)
    assert checkpoint_option.without_folders(text) == "1=at1.safetensors,7=at7.safetensors,13=at13.safetensors"
    assert checkpoint_option.files_of(text) == [path_of(file) for file in per_snr.values()]
    assert checkpoint_option.files_of("shipped") == [] and checkpoint_option.files_of("a/b.safetensors") == [
        path_of("a/b.safetensors")
    ]


def path_of(text):
    from pathlib import Path

    return Path(text)


def test_a_checkpoint_names_the_same_files_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert checkpoint_option.absolute("a/w.safetensors") == str(tmp_path / "a" / "w.safetensors")
    assert checkpoint_option.absolute("1=a,7=/b") == f"1={tmp_path / 'a'},7=/b"
    assert [checkpoint_option.absolute(word) for word in checkpoint_option.WORDS] == list(checkpoint_option.WORDS)


def test_two_files_for_one_snr_are_refused():
    with pytest.raises(CheckpointError, match="two files for 7.0 dB"):
        checkpoint_option.split("7=a.safetensors,7.0=b.safetensors")


def test_the_command_line_takes_a_checkpoint_per_snr(per_snr):
    from bench.spec.request import _checkpoints

    text = ",".join(f"deepjscc@{snr:g}={file}" for snr, file in per_snr.items()) + ",witt=w.safetensors"
    assert _checkpoints(text, ["deepjscc", "witt"]) == {
        "deepjscc": checkpoint_option.join(per_snr),
        "witt": "w.safetensors",
    }
    for bad, words in (
        ("deepjscc@hot=a", "number in dB"),
        ("deepjscc=a,deepjscc=b", "names deepjscc twice"),
        ("deepjscc=a,deepjscc@7=b", "names deepjscc twice"),
        ("other@7=a", "write name=FILE"),
    ):
        with pytest.raises(UserError, match=words):
            _checkpoints(bad, ["deepjscc", "witt"])


# ---------------------------------------------------------------- weights that others published


class Theirs(nn.Module):
    """The network of Deep-JSCC-PyTorch, written from its description: names, strides, one PReLU slope per layer."""

    def __init__(self, c=3, filters=(16, 32, 32, 32)):
        super().__init__()
        widths = (3, *filters, 2 * c)
        self.encoder, self.decoder = nn.Module(), nn.Module()
        for index, (before, after) in enumerate(zip(widths, widths[1:]), 1):
            layer = nn.Module()
            layer.conv = nn.Conv2d(before, after, 5, 2 if index < 3 else 1, 2)
            layer.prelu = nn.PReLU()
            self.encoder.add_module(f"conv{index}", layer)
        for index, (before, after) in enumerate(zip(widths[::-1], widths[-2::-1]), 1):
            layer, up = nn.Module(), index > 3
            layer.transconv = nn.ConvTranspose2d(before, after, 5, 2 if up else 1, 2, output_padding=int(up))
            layer.activate = nn.Sigmoid() if after == 3 else nn.PReLU()
            self.decoder.add_module(f"tconv{index}", layer)

    def forward(self, x, noise):
        for layer in self.encoder.children():
            x = layer.prelu(layer.conv(x))
        x = x / x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()  # power 1 per real value
        x = x + noise
        for layer in self.decoder.children():
            x = layer.activate(layer.transconv(x))
        return x


def test_deep_jscc_pytorch_s_weights_give_its_pictures(tmp_path):
    with weight_files.seeded(3):
        theirs = Theirs().eval()
    torch.save({"module." + key: value for key, value in theirs.state_dict().items()}, tmp_path / "epoch_999.pkl")
    out = tmp_path / "ours.safetensors"
    import_weights.import_weights("deepjscc", tmp_path / "epoch_999.pkl", out)
    system = create("deepjscc", checkpoint=str(out))  # for any requested size: the file holds its own
    assert system.config == DeepJSCCConfig(channels=6) and system.size == "imported"
    at = link(snr_db=5.0)
    with torch.inference_mode():
        received = transmit(system.encode(images(), at), at, [1, 2])
        sent = system.encode(images(), at).symbols
        noise = torch.view_as_real(received.symbols - sent).flatten(1).view(2, 6, 16, 16) * math.sqrt(2)
        assert torch.allclose(system.decode(received, at).output, theirs(images(), noise), atol=1e-5)


def test_an_import_keeps_every_bit_and_says_where_it_came_from(tmp_path):
    import hashlib

    path, out = tmp_path / "model.pth", tmp_path / "ours.safetensors"
    torch.save(Theirs().state_dict(), path)
    facts = import_weights.import_weights("deepjscc", path, out, (4.0, 4.0))
    sidecar = json.loads(out.with_suffix(".json").read_text())
    assert sidecar["origin"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sidecar["origin"]["file"] == "model.pth" and sidecar["snr_db"] == [4.0, 4.0]
    assert facts["parameters"] == 140_242 and sidecar["storage"]["bits"] == 32
    assert all(value.dtype == torch.float32 for value in load_file(out).values())
    system = create("deepjscc", checkpoint=str(out))
    assert system.snr_range_db == (4.0, 4.0) and system.describe()["origin"]["file"] == "model.pth"


def test_the_authors_witt_is_imported_and_run(tmp_path):
    """The file is our own network under the authors' names and in their layout; the test undoes by hand what the reader
    does.
    """
    from baselines.witt import WITT, WITTConfig

    config = WITTConfig(channels=24, embed=(16, 24, 32, 40), heads=(2, 2, 4, 4), depths=(2, 2, 2, 2), modnet_hidden=60)
    ours = WITT("witt", "paper", checkpoint="none", config=config, seed=5)
    theirs = {}
    for key, value in ours.state_dict().items():
        side, rest = key.split(".", 1)
        if rest.startswith("merges.") and side == "encoder":
            first, second, third, fourth = value.chunk(4, dim=-1)
            value = torch.cat([first, third, second, fourth], dim=-1)
        for old, new in (
            ("embed.", "patch_embed.proj."), ("head.", "head_list."), ("modnet.out.", "sm_list.7."),
            ("modnet.linears.", "sm_list."), ("stages.", "layers."),
        ):  # fmt: skip
            rest = new + rest.removeprefix(old) if rest.startswith(old) else rest
        if rest.startswith("modnet.gates."):
            gate, layer = rest.removeprefix("modnet.gates.").split(".", 1)
            rest = f"bm_list.{gate}.fc.{layer}"
        if rest.startswith("merges."):
            level, layer = rest.removeprefix("merges.").split(".", 1)
            rest = f"layers.{level}.{'downsample' if side == 'encoder' else 'upsample'}.{layer}"
        theirs[f"{side}.{rest.replace('mlp.0.', 'mlp.fc1.').replace('mlp.3.', 'mlp.fc2.')}"] = value
    for level in range(3):  # as for crops of 128, where the last map is one window
        theirs[f"encoder.layers.{level}.blocks.1.attn_mask"] = torch.zeros(4, 64, 64)
        theirs[f"decoder.layers.{3 - level}.blocks.1.attn_mask"] = torch.zeros(4, 64, 64)
    theirs["distortion_loss.window"] = torch.zeros(3)
    torch.save(theirs, tmp_path / "WITT.model")
    out = tmp_path / "witt.safetensors"
    import_weights.import_weights("witt", tmp_path / "WITT.model", out)
    system = create("witt", checkpoint=str(out))
    assert system.config == replace(config, shifted=(True, True, True, False)) and system.snr_range_db == (1.0, 13.0)
    shifts = [[block.attn.shift for block in stage.blocks] for stage in system.encoder.stages]
    assert shifts == [[0, 4], [0, 4], [0, 4], [0, 0]]
    assert [[block.attn.shift for block in stage.blocks] for stage in system.decoder.stages] == shifts[::-1]
    for key, value in ours.state_dict().items():
        assert torch.equal(system.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"encoder.conv1.conv.weight": torch.zeros(16, 3, 5, 5)}, "not the published layout of deepjscc"),
        ({"a": 1}, "no state dict"),
        (Theirs(), "not a plain state dict"),
        ({**Theirs().state_dict(), "decoder.extra.weight": torch.zeros(1)}, "unknown tensor 'decoder.extra.weight'"),
        ({k: v for k, v in Theirs().state_dict().items() if k != "decoder.tconv5.transconv.bias"}, "1 tensors missing"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, content, words):
    path = tmp_path / "x.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=words) as error:
        import_weights.import_weights("deepjscc", path, tmp_path / "out.safetensors")
    assert "\n" not in str(error.value) and [p.name for p in tmp_path.iterdir()] == ["x.pth"]


FIRST = "encoder.layers.0.blocks.0."


def witt_state(table=(49, 2), norm=(4,)):
    """The tensors of a WITT that its reader looks at."""
    shapes = {"encoder.head_list.weight": (4, 4), FIRST + "mlp.fc1.weight": (4, 4), FIRST + "norm1.weight": norm,
              FIRST + "attn.relative_position_bias_table": table}  # fmt: skip
    return {key: torch.zeros(shape) for key, shape in shapes.items()}


def kernels(value):
    """A Deep JSCC of three equal layers."""
    return {f"encoder.conv{index}.conv.weight": value for index in (1, 2, 3)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("witt", witt_state(norm=())),
        ("witt", witt_state(norm=(0,))),
        ("witt", witt_state(table=(49,))),
        ("witt", witt_state(table=(49, 0))),
        ("witt", {f"encoder.layers.{'1' * 5000}.x": torch.zeros(1)}),
        ("deepjscc", kernels(torch.tensor(1.0))),
        ("deepjscc", kernels(torch.zeros(3))),
        ("deepjscc", kernels(torch.zeros(0, 0, 0, 0))),
        ("deepjscc", kernels(torch.zeros(1).expand(10**7, 10**7, 3, 3))),
        ("deepjscc", {f"encoder.conv{'1' * 5000}.conv.weight": torch.zeros(1)}),
        ("deepjscc", {key: value * math.nan for key, value in Theirs().state_dict().items()}),
        ("fcn", {1: torch.zeros(3)}),
        ("fcn", {"backbone.layer1.0.conv1.weight": torch.tensor(1.0)}),
    ],
)
def test_no_file_of_others_ends_an_import_in_a_traceback(tmp_path, name, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as error:
        import_weights.import_weights(name, tmp_path / "x.pth", tmp_path / "out.safetensors")
    said = str(error.value)
    assert "\n" not in said and said.startswith(str(tmp_path)) and len(said) < 400, said
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kernel": -1}, "no network can be built by its `config`"),
        ({"kernel": 0}, "no network can be built|does not fit this network"),
        ({"filters": [0, 0, 0, 0]}, "no network can be built|does not fit this network"),
        ({"channels": 10**12}, "a network with more values than ours.safetensors can hold|no network can be built"),
        ({"channels": 10**5}, "a network with more values than ours.safetensors can hold"),
        ({"filters": [1] * 10**5}, "a network with more values than ours.safetensors can hold"),
        ({"filters": []}, "does not fit this network|no network can be built"),
    ],
)
def test_a_configuration_of_others_that_makes_no_network_is_one_line(tmp_path, changes, words):
    """It is refused before the network takes memory: one of 10^5 channels would hold 80 million values."""
    out = tmp_path / "ours.safetensors"
    torch.save(Theirs().state_dict(), tmp_path / "x.pth")
    import_weights.import_weights("deepjscc", tmp_path / "x.pth", out)
    facts = sidecars.read_facts(out)
    out.with_suffix(".json").write_text(json.dumps(facts | {"config": facts["config"] | changes}))
    with pytest.raises(CheckpointError, match=words) as error:
        create("deepjscc", checkpoint=str(out))
    assert "\n" not in str(error.value)
    out.with_suffix(".json").write_text(json.dumps(facts))
    assert create("deepjscc", checkpoint=str(out)).size == "imported"
    out.unlink()
    with pytest.raises(CheckpointError, match="the checkpoint cannot be read"):
        create("deepjscc", checkpoint=str(out))


@pytest.mark.parametrize(
    ("side", "words"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b"[]", "not a JSON object"),
        (b"5", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"", "not valid JSON"),
        (b"\xff\xfe{\0}\0", "not valid JSON"),
        (b'{"sha256": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (None, "not a plain file"),
    ],
)
def test_a_sidecar_that_is_none_is_one_line(tmp_path, side, words):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"x")
    if side is None:
        os.mkfifo(tmp_path / "w.json")
    else:
        (tmp_path / "w.json").write_bytes(side)
    with pytest.raises(CheckpointError, match=words) as error:
        weight_files.read_weights(path)
    assert "\n" not in str(error.value)


def test_weights_that_are_a_pipe_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="not a plain file"):
        weight_files.read_weights(tmp_path / "w.safetensors")


def test_int8_values_whose_peaks_do_not_fit_are_one_line(tmp_path):
    data = save({"a": torch.ones(3, 4, dtype=torch.int8), "a::peak": torch.ones(5, dtype=torch.float16)})
    (tmp_path / "w.safetensors").write_bytes(data)
    (tmp_path / "w.json").write_text(json.dumps({"sha256": hashlib.sha256(data).hexdigest()}))
    with pytest.raises(CheckpointError, match="peaks do not fit"):
        weight_files.read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("config", [5, "abc", [["a"]], None, True])
def test_a_configuration_that_is_no_table_is_one_line(config):
    with pytest.raises(UserError, match="must be a table"):
        fill(DeepJSCCConfig, config, "w.json")


@pytest.mark.parametrize("text", ["~nobody-of-that-name/x", "1=a,7=~nobody-of-that-name/x"])
def test_a_home_folder_of_nobody_is_one_line(text):
    with pytest.raises(CheckpointError, match="no such home folder"):
        checkpoint_option.absolute(text)


def test_no_code_in_a_checkpoint_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="not a plain state dict"):
        import_weights.import_weights("witt", tmp_path / "evil.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "ran").exists()


def test_an_unknown_layout_names_those_that_are_known(tmp_path):
    with pytest.raises(UnknownName, match="no published layout of 'adjscc'"):
        import_weights.import_weights("adjscc", tmp_path / "x", tmp_path / "y")


# ---------------------------------------------------------------- shipping


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder to which weights are shipped, in place of the real one."""
    monkeypatch.setattr(
        weight_files, "home", lambda package, system, size: tmp_path / "home" / f"{system}-{size}.safetensors"
    )
    return tmp_path / "home"


def facts(**changes):
    return {"system": "deepjscc", "size": "small", "images_seen": {"reconstruction": 9}, "licence": "ours"} | changes


@pytest.mark.parametrize("bits", [8, 16])
def test_shipping_puts_a_checked_file_where_the_zoo_looks(tmp_path, package, bits):
    source = create("deepjscc", checkpoint="none", seed=4)
    path = tmp_path / "trained.safetensors"
    before = weight_files.save_weights(path, source.state_dict(), facts(), bits=32)
    target = ship_weights.ship(path, bits)
    assert (
        target == package / "deepjscc-small.safetensors"
        and weight_files.shipped("baselines", "deepjscc", "small") == target
    )
    shipped = sidecars.read_facts(target)
    assert shipped["storage"]["bits"] == bits and shipped["packed_from"] == before
    loaded = create("deepjscc")
    assert loaded.facts["images_seen"] == {"reconstruction": 9}
    assert torch.allclose(loaded.encoder[0].weight, source.encoder[0].weight, atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": "imported"}, "published by others"),
        ({"size": "huge"}, "size 'huge', which deepjscc does not have"),
        ({"licence": ""}, "does not say licence"),
        ({"licence": "not stated"}, "is 'not stated'; write it as `licence` into the protocol"),
        ({"licence": "CC0; not stated"}, "write it as `licence` into the protocol"),
        ({"system": "deepjsc"}, "did you mean deepjscc"),
        ({"size": "paper"}, "does not fit this network"),
        ({"images_seen": {"reconstruction": "many"}}, "images_seen is .*'many'.*; it must be an object with a number"),
        ({"images_seen": {"reconstruction": True}}, "it must be an object with a number"),
        ({"images_seen": 9}, "it must be an object with a number"),
        ({"licence": ["ours"]}, "licence is .'ours'.; it must be a text"),
        ({"size": ["small"]}, "size is .*; it must be a text"),
        ({"knowledge": {"a": 1}}, "knowledge is .*; it must be a text"),
        ({"undertrained": "no"}, "undertrained is 'no'; it must be true or false"),
        ({"data": 7}, "data is 7; it must be a text, a list or an object"),
        ({"snr_db": "low"}, "snr_db is 'low'; it must be .LOW, HIGH., in dB"),
        ({"snr_db": {"low": 1}}, "it must be .LOW, HIGH., in dB"),
        ({"protocol": []}, "protocol is .*; it must be an object"),
    ],
)
def test_what_may_not_or_cannot_ship_is_refused(tmp_path, package, changes, words):
    path = tmp_path / "trained.safetensors"
    weight_files.save_weights(path, create("deepjscc", checkpoint="none").state_dict(), facts(**changes))
    with pytest.raises(UserError, match=words):
        ship_weights.ship(path)
    assert not package.exists()


@pytest.mark.parametrize(
    "snrs", ["low", "10", 7, [None], [True, 3], {"low": 1}, [float("nan"), 1.0], [[0], 1], [10**400]]
)
def test_snrs_that_are_none_are_one_line_when_the_weights_are_loaded(tmp_path, snrs):
    """Not a fault of the first picture, which no message leads back to the file."""
    path = tmp_path / "trained.safetensors"
    for changes in ({"snr_db": snrs}, {"protocol": {"snr_db": snrs}}):
        weight_files.save_weights(path, create("deepjscc", checkpoint="none").state_dict(), facts(**changes))
        with pytest.raises(CheckpointError, match="trained.json: snr_db is"):
            create("deepjscc", checkpoint=str(path))


def test_a_strangers_sidecar_does_not_end_the_list(tmp_path, monkeypatch, capsys):
    from importlib import resources

    from bench.cli import main

    (tmp_path / "weights").mkdir()
    for name, changes in {
        "words": {"images_seen": {"reconstruction": "many", "segmentation": 1234}}, "none": {"images_seen": [1]},
        "licence": {"licence": ["a\x1b[2J"]}, "digits": {"images_seen": {"reconstruction": 10**300}, "sha256": 7},
    }.items():  # fmt: skip
        (tmp_path / "weights" / f"{name}.safetensors").touch()
        (tmp_path / "weights" / f"{name}.json").write_text(json.dumps(facts(**changes)))
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["list", "checkpoints"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and "segmentation: 1,234 pictures seen" in out
    assert "many" not in out and "\x1b" not in out


def test_a_size_that_is_a_path_does_not_ship(tmp_path, package):
    """It would replace a file of another system, also of a system without a network."""
    path = tmp_path / "trained.safetensors"
    weight_files.save_weights(path, {"mean": torch.zeros(2)}, facts(system="linear", size="../../x"))
    with pytest.raises(UserError, match="does not have; its sizes are klt16"):
        ship_weights.ship(path)
    assert not package.exists()


# ---------------------------------------------------------------- the command line


def test_weights_of_others_run_like_ours(tmp_path, monkeypatch, capsys):
    """From a public file to rows of a figure: import, then --checkpoint. The size need not be named."""
    from bench.cli import main

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        return stop.value.code, capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    torch.save(Theirs().state_dict(), "epoch_999.pkl")
    code, out = call("weights", "import", "deepjscc", "epoch_999.pkl", "--snr-db", "10")
    assert code == 0 and "deepjscc-epoch_999.safetensors" in out.out
    run = "run --systems deepjscc --checkpoint deepjscc=deepjscc-epoch_999.safetensors --dataset photos-224 --limit 1"
    code, out = call(*run.split(), "--snr", "10", "--engine", "serial", "--out", "run")
    assert code == 0, out.err
    facts = json.loads((tmp_path / "run" / "manifest.json").read_text())["systems"]["deepjscc"]
    assert facts["size"] == "imported" and facts["origin"]["file"] == "epoch_999.pkl"
    assert facts["options"]["checkpoint"] == "deepjscc-epoch_999.safetensors"
    for arguments, words in (
        (("import", "deepjscc", "nowhere.pkl"), "the file cannot be read"),
        (("import", "deepjscc", "epoch_999.pkl", "--snr-db", "hot"), "write LOW:HIGH"),
        (("ship", "deepjscc-epoch_999.safetensors"), "published by others"),
        (("loss", "deepjscc", "--dataset", "kodak"), "is a test set"),
    ):
        code, out = call("weights", *arguments)
        assert code == 2 and words in out.err and len(out.err.strip().splitlines()) == 1


@pytest.mark.parametrize("changes", [{"snr_db": [20.0, 20.0]}, {"config": {"channels": 6}}, {"snr_db": None}])
def test_another_sidecar_beside_the_shipped_weights_is_another_variant(tmp_path, changes):
    """The hash of the weights stays, but what the network is told, and so its pictures, change."""
    shipped = weight_files.shipped("baselines", "deepjscc", "small")
    copy = tmp_path / "deepjscc-small.safetensors"
    copy.write_bytes(shipped.read_bytes())
    facts = json.loads(shipped.with_suffix(".json").read_text())
    copy.with_suffix(".json").write_text(json.dumps(facts))
    ours = create("deepjscc").variant
    assert create("deepjscc", checkpoint=str(copy)).variant == ours
    copy.with_suffix(".json").write_text(json.dumps(facts | {"notes": "mine", "licence": "free"}))
    assert create("deepjscc", checkpoint=str(copy)).variant == ours  # words change no picture
    protocol = {key: value for key, value in facts["protocol"].items() if key != "snr_db"}
    copy.with_suffix(".json").write_text(json.dumps(facts | {"protocol": protocol} | changes))
    changed = create("deepjscc", checkpoint=str(copy)).variant
    assert changed.startswith(ours) and changed != ours
