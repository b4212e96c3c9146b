"""Tests of GenSC: the sizes of Table I, the paper's feature selection, closed forms of the diffusion, and the start at
the KLT code.
"""

import dataclasses
import math

import pytest
import torch

import baselines  # noqa: F401  (registers linear)
from bench.measure.channel import transmit
from bench.measure.metrics.image import mse_per_image, psnr_db
from systems import Budget, Link, create
from systems.errors import UserError
from systems.gensc.config import GenSCConfig
from systems.gensc.open_choices import READINGS, REGISTER
from systems.gensc.reconstruction_decoder import diffusion_time, grid_positions
from systems.gensc.system import GenSC, noise_ratio
from systems.layers.symbol_layout import to_features
from systems.sizes import load_size, sizes_of
from systems.weight_files import count_parameters

TINY = dataclasses.replace(
    load_size(GenSCConfig, "gensc", "small"),
    prior="none",
    embed_dim=24,
    depths=(1, 1, 1),
    feature_dim=16,
    encoder_hidden=16,
    receiver_hidden=16,
    decoder_depth=2,
    decoder_dim=64,
    decoder_heads=4,
    decoder_window=7,
    decoder_refine=16,
    time_dim=32,
    segmentation_hidden=32,
)


PAPER_PARAMETERS = 682_449_407


def tiny(**changes) -> GenSC:
    return GenSC("gensc", checkpoint="none", config=dataclasses.replace(TINY, **changes))


def link(side=112, **changes) -> Link:
    return Link("reconstruction", side, side, Budget.from_cbr(1 / 16, side, side)).at(**changes)


def pictures(count=2, side=112, seed=0):
    """Smooth random pictures: noise at an eighth of the size, enlarged."""
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)


def test_every_field_of_the_configuration_stands_in_the_register_once():
    assert [choice.field for choice in REGISTER] == [field.name for field in dataclasses.fields(GenSCConfig)]
    assert all(choice.where and choice.paper and choice.here for choice in REGISTER + READINGS)


@pytest.mark.parametrize(
    "size, differs",
    [
        ("small_no_source_kb", {"reconstruction_levels": ()}),
        ("small_no_f1", {"reconstruction_levels": (2, 3)}),
        ("small_no_receiver_kb", {"receiver_kb": False}),
        ("small_no_time_tie", {"time_tied_to_noise": False}),
        ("small_from_scratch", {"prior": "none"}),
    ],
)
def test_an_ablation_is_small_but_for_what_it_names_and_trains(size, differs):
    assert size in sizes_of("gensc")
    system = GenSC("gensc", size=size, checkpoint="none")
    assert dataclasses.replace(load_size(GenSCConfig, "gensc", "small"), **differs) == system.config
    images = pictures()
    losses = system.training_step(images, images, link(), lambda sent, at: transmit(sent, at, range(len(images))))
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())


def test_the_narrow_size_is_no_larger_than_adjscc():
    system = create("gensc", size="small_narrow", checkpoint="none")
    apart = {id(parameter) for parameter in system.own_parameters("segmentation")}
    used = sum(parameter.numel() for parameter in system.parameters() if id(parameter) not in apart)
    assert used <= sum(parameter.numel() for parameter in create("adjscc").parameters())


def test_the_paper_size_is_table_one_with_the_shape_of_dit_xl_2():
    config = load_size(GenSCConfig, "gensc", "paper")
    assert (config.window, config.patch, config.heads[0], config.embed_dim) == (7, 4, 3, 96)
    assert (config.encoder_hidden, config.dropout) == (128, 0.1)
    assert (config.decoder_depth, config.decoder_patch, config.decoder_heads, config.decoder_dim) == (28, 2, 16, 1152)
    with torch.device("meta"):
        system = GenSC("gensc", size="paper", checkpoint="none")
    blocks = count_parameters(system.reconstruction_decoder.blocks)
    # 28 blocks of width d: attention 4 d^2 + 4 d, MLP 8 d^2 + 5 d, modulation 6 d^2 + 6 d. The published DiT-XL/2
    # counts 675 M, of which these are all but embeddings, the final layer and its modulation (about 4 M).
    d = 1152
    assert blocks == 28 * (18 * d * d + 15 * d)
    assert 0.99 < blocks / (675e6 - 4e6) < 1.01
    kernels = [m.kernel_size for m in system.source_kb_rx.modules() if isinstance(m, torch.nn.Conv2d)]
    assert set(kernels) == {(3, 3)}
    encoder = (system.jscc_encoder.conv1, system.jscc_encoder.conv2, system.jscc_encoder.down)
    assert [layer.kernel_size for layer in encoder] == [(3, 3)] * 3
    assert count_parameters(system) == PAPER_PARAMETERS


def test_the_paper_size_has_none_of_what_the_paper_has_not():
    """It has no closed form, no prior, and no part that is absent from Table I and Sections III and IV."""
    config = load_size(GenSCConfig, "gensc", "paper")
    off = "linear_path contrast_units task_share encoder_sees_snr lmmse noise_in_residuals"
    for field in (*off.split(), "segmentation_context"):
        assert getattr(config, field) is False, field
    assert config.prior == "none" and config.latent_loss == 0
    assert config.selection_dilation == config.decoder_coefficients == 0 and config.segmentation_dilations == (1, 1)
    assert config.decoder_residuals == 1 and config == dataclasses.replace(GenSCConfig(), **dataclasses.asdict(config))
    with torch.device("meta"):
        system = GenSC("gensc", size="paper", checkpoint="none")
    assert system.linear_path is None and system.source_kb_tx.prior is None
    assert not system.jscc_encoder.share and not system.source_kb_tx.context and system.knowledge() == ()


def test_a_network_of_the_paper_s_parts_sends_and_trains():
    """Size `paper` with fewer and narrower layers: the same parts serve both tasks, training changes every parameter,
    and there is no side information.
    """
    config = dataclasses.replace(
        load_size(GenSCConfig, "gensc", "paper"),
        embed_dim=12, depths=(2, 2, 2), heads=(1, 2, 4), feature_dim=16, encoder_hidden=16, receiver_hidden=16,
        decoder_depth=2, decoder_dim=32, decoder_heads=4, time_dim=32, decoder_refine=16, segmentation_hidden=16,
    )  # fmt: skip
    system, images = GenSC("gensc", checkpoint="none", config=config).train(), pictures()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    for task, target in (("reconstruction", images), ("segmentation", torch.zeros(2, 112, 112, dtype=torch.long))):
        at = Link(task, 112, 112, Budget.from_cbr(1 / 16, 112, 112))
        assert system.encode(images, at).side_info_bits == 0
        losses = system.training_step(images, target, at, lambda sent, where: transmit(sent, where, [1, 2]))
        assert set(losses) == {"picture" if task == "reconstruction" else "cross_entropy"}  # Eq. 5 and Eq. 6 only
        sum(losses.values()).backward()
    still = [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still
    with pytest.raises(UserError, match="does not predict the clean symbols"):
        system.eval()
        with torch.no_grad():
            system._reconstruct(transmit(system.encode(images, link()), link(), [1, 2]), link(), steps=2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"linear_path": True}, "linear_path needs task_share"),
        ({"contrast_units": True}, "contrast_units needs linear_path"),
        ({"encoder_sees_snr": True}, "encoder_sees_snr needs task_share"),
    ],
)
def test_fields_that_need_others_say_so(changes, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(load_size(GenSCConfig, "gensc", "paper"), **changes)


@pytest.mark.parametrize("size", ["small", "light"])
def test_what_the_network_is_told_of_the_snr_stays_within_its_training(size):
    """It was trained at 0 to 20 dB. At 80 dB the gains at both ends and the time are those of 20 dB; at -20 dB those of
    0 dB.
    """
    system = GenSC("gensc", size=size, checkpoint="none")
    system.facts = {"protocol": {"snr_db": [0.0, 20.0]}}
    for layer in (system.jscc_encoder.of("reconstruction").power_allocation[2], system.time.mlp[2]):
        torch.nn.init.normal_(layer.weight)
    images = pictures()
    with torch.no_grad():
        sent = {snr: system.encode(images, link(snr_db=snr)).symbols for snr in (-20.0, 0.0, 20.0, 80.0)}
        times = {snr: system._conditioning(torch.full((1,), 10 ** (-snr / 10)), torch.ones(1)) for snr in sent}
        for told, beyond in ((20.0, 80.0), (0.0, -20.0)):
            assert torch.equal(sent[told], sent[beyond])
            assert torch.allclose(times[told], times[beyond], atol=1e-5)
        assert not torch.allclose(sent[0.0], sent[20.0], atol=1e-3)
        assert not torch.allclose(times[0.0], times[20.0], atol=1e-3)


def test_the_shipped_weights_do_not_fall_apart_far_above_their_training():
    """Regression test (F09): PSNR at 80 dB was once 15 dB below that at 20 dB."""
    system, images = create("gensc"), pictures()
    found = {}
    for snr in (20.0, 30.0, 80.0):
        at = link(snr_db=snr)
        with torch.inference_mode():
            output = system.decode(transmit(system.encode(images, at), at, [1, 2]), at).output
        found[snr] = psnr_db(mse_per_image(images, output)).mean()
    assert found[30.0] > found[20.0] - 0.1 and found[80.0] > found[20.0] - 0.1


def test_the_light_size_has_windows_that_shift_and_ten_mib():
    from safetensors.torch import save

    from systems.layers.swin import SwinBlock
    from systems.weight_files import packed

    system = GenSC("gensc", size="light", checkpoint="none")
    assert len(save(packed(system.state_dict()))) <= 10 * 2**20
    shifts = [[block.attn.shift for block in stage] for stage in system.source_kb_tx.stages]
    assert shifts == [[0, 3]] * 3 and all(
        isinstance(b, SwinBlock) for stage in system.source_kb_tx.stages for b in stage
    )


@pytest.mark.slow
def test_the_paper_size_runs_forward_and_backward():
    system = GenSC("gensc", size="paper", checkpoint="none").train()
    images = pictures(1)
    channel = lambda sent, at: transmit(sent, at, [1])  # noqa: E731
    sum(system.training_step(images, images, link(), channel).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in system.reconstruction_decoder.parameters() if p.grad is not None)


def test_it_starts_as_the_linear_code():
    """Without the tenth with which the encoder's convolutions start, it is the code of `linear`."""
    system, linear = tiny(), create("linear")
    system.start_from_klt(linear.klt)
    torch.nn.init.zeros_(system.jscc_encoder.share["reconstruction"].scale)
    images = pictures()
    for snr in (0.0, 10.0, 20.0):
        at = link(snr_db=snr)
        with torch.inference_mode():
            ours, theirs = system.encode(images, at), linear.encode(images, at)
            assert torch.allclose(ours.symbols, theirs.symbols, atol=1e-4)
            outputs = [s.decode(transmit(t, at, [3, 4]), at).output for s, t in ((system, ours), (linear, theirs))]
        ours_db, theirs_db = (psnr_db(mse_per_image(images, output)) for output in outputs)
        assert ours_db == pytest.approx(theirs_db, abs=0.1)


def test_the_requirement_and_not_the_harness_chooses_the_features():
    system, images = tiny(), pictures()
    # the weight starts at zero, and then the features have no effect
    torch.nn.init.normal_(system.jscc_encoder.down.weight, std=0.1)
    with torch.no_grad():
        symbols = {
            text: system.encode(images, link(requirement=text)).symbols
            for text in ("Reconstruct the image at the receiver.", "Segment the image into object classes.")
        }
    one, other = symbols.values()
    assert one.shape == other.shape and not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize(("task", "levels"), [("reconstruction", {1, 2, 3}), ("segmentation", {2, 3})])
def test_each_task_sums_the_levels_that_the_paper_names(task, levels):
    knowledge = tiny().source_kb_tx
    knowledge(pictures(), task).square().sum().backward()
    reached = {
        int(level)
        for aligned in knowledge.align.values()
        for level, layer in aligned.items()
        if layer[1].weight.grad is not None
    }
    assert reached == levels


def test_one_encoder_serves_both_tasks():
    """The losses of both tasks change the same encoder weights."""
    system = tiny().train()
    torch.nn.init.normal_(system.jscc_encoder.down.weight, std=0.01)
    images = pictures()
    moved = []
    for task, target in (("reconstruction", images), ("segmentation", torch.zeros(2, 112, 112, dtype=torch.long))):
        system.zero_grad()
        at = Link(task, 112, 112, Budget.from_cbr(1 / 16, 112, 112))
        sum(
            system.training_step(images, target, at, lambda sent, where: transmit(sent, where, [1, 2])).values()
        ).backward()
        moved.append(
            {
                name
                for name, p in system.jscc_encoder.named_parameters()
                if p.grad is not None and p.grad.abs().sum() > 0
            }
        )
    assert {"conv1.weight", "conv2.weight", "down.weight"} <= moved[0] & moved[1]


def test_the_receiver_kb_gives_segmentation_the_first_block_only():
    knowledge = tiny().source_kb_rx
    received, time = torch.randn(1, knowledge.stem.in_channels, 7, 7), torch.randn(1, 32)
    first, both = knowledge(received, time, "segmentation"), knowledge(received, time, "reconstruction")
    assert both.shape[1] == 2 * first.shape[1] and torch.equal(both[:, : first.shape[1]], first)


def test_the_time_is_the_cosine_schedule_written_for_the_noise():
    """alpha_bar = cos^2(pi t / 2) of the variance-preserving process equals 1 / (1 + sigma^2)."""
    sigma = torch.logspace(-2, 1, 20)
    assert torch.allclose(torch.cos(diffusion_time(sigma) * math.pi / 2).square(), 1 / (1 + sigma.square()), atol=1e-6)


def test_the_noise_at_the_receiver_reaches_the_decoder_as_its_time():
    """Another noise variance gives another conditioning. With the link between noise and time switched off, it does
    not.
    """
    for tied in (True, False):
        system = tiny(time_tied_to_noise=tied)
        torch.nn.init.normal_(system.time.mlp[2].weight)
        ratio = torch.tensor([0.01, 1.0])
        time = system._conditioning(ratio, torch.ones(2))
        assert torch.equal(time[0], time[1]) is not tied


@pytest.mark.parametrize("channel", ["awgn", "rayleigh-block", "rayleigh-fast"])
def test_the_time_is_that_of_the_noise_met(channel):
    """sigma^2 is N0 divided by the mean gain. Under fast fading that is N0, however deep the deepest fade was."""
    system, images, at = tiny(), pictures(), link(snr_db=10.0, channel=channel)
    with torch.inference_mode():
        received = transmit(system.encode(images, at), at, [1, 2])
        ratio = noise_ratio(received)
    gain = received.csi.abs().square().mean(dim=1)
    assert torch.allclose(ratio, 0.1 / gain, rtol=1e-4)
    if channel == "rayleigh-fast":
        assert torch.allclose(ratio, torch.full((2,), 0.1), rtol=0.1)  # mean of 2336 draws of unit variance: 5 sigma


def test_an_oracle_walks_the_ddim_path():
    """With a denoiser that knows x, the state of step k is x + (y - x) sigma_k / sigma_0; its
    noise variance follows.
    """
    system, images, at = tiny(), pictures(), link(snr_db=3.0)
    system.start_from_klt(create("linear").klt)
    with torch.inference_mode():
        sent = system.encode(images, at)
        received = transmit(sent, at, [1, 2])
        y, noise, _ = system.linear_path.receive(received, at)
        ratio = noise_ratio(received)
        x = to_features(sent.symbols, *y.shape[1:])
        states = []

        def oracle(scaled, feature, estimate, path, contrast, time):
            return torch.zeros(2, 3, 112, 112), math.sqrt(2) * x - scaled

        def record(path, maps, variance, power, gain):
            states.append((maps, variance))
            return maps

        system.reconstruction_decoder.forward, system._estimate = oracle, record
        system._reconstruct(received, at, steps=4)
    start = diffusion_time(ratio.sqrt())
    for step, (maps, variance) in enumerate(states):
        shrink = (torch.tan(start * (1 - step / 4) * math.pi / 2) / ratio.sqrt())[:, None, None, None]
        assert torch.allclose(maps - x, (y - x) * shrink, atol=1e-4)
        assert torch.allclose(variance, noise * shrink.square(), atol=1e-5)
    assert len(states) == 4 and states[3][0].sub(x).abs().mean() < 0.5 * y.sub(x).abs().mean()


def test_positions_repeat_with_the_window_and_differ_within_it():
    positions = grid_positions(14, 21, 64, 7, torch.device("cpu"))
    assert torch.equal(positions[:7, :7], positions[7:, 14:])
    cells = positions[:7, :7].flatten(0, 1)
    assert torch.cdist(cells, cells).fill_diagonal_(1).min() > 0.1
    free = grid_positions(14, 21, 64, 0, torch.device("cpu")).flatten(0, 1)
    assert torch.cdist(free, free).fill_diagonal_(1).min() > 0.05


def test_the_budget_sheds_the_last_channels():
    """With fewer uses a prefix of the same symbols (before normalisation) is sent, so the ratio to the full message is
    one scale.
    """
    system, images = tiny(), pictures(1)
    with torch.inference_mode():
        full = system.encode(images, link()).symbols
        less = system.encode(images, link(budget=Budget(uses=1000))).symbols
    ratio = less / full[:, : less.shape[1]]
    assert less.shape[1] == 1000 - Budget(uses=1000).side_info_uses(8)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3)


def test_checkpoints_leave_out_what_stays_published_and_get_it_back(tmp_path):
    """The prior's frozen stages and statistics are not in the file. Loading takes them from the ImageNet weights."""
    from safetensors.torch import load_file

    from systems.weight_files import save_weights

    system = GenSC("gensc", checkpoint="none")
    path = tmp_path / "gensc.safetensors"
    save_weights(path, system.state_dict(), {"system": "gensc"})
    trained = {key for key, value in system.source_kb_tx.prior.named_parameters() if value.requires_grad}
    stored = {key.partition(".prior.")[2] for key in load_file(path) if ".prior." in key}
    assert stored == trained and not any(key.startswith(("net.conv_stem", "net.blocks.2")) for key in stored)
    again = GenSC("gensc", checkpoint=str(path))
    prior = system.source_kb_tx.prior.state_dict()
    for key, value in again.source_kb_tx.prior.state_dict().items():
        assert torch.equal(value, prior[key].half().float() if key in trained else prior[key])


@pytest.mark.parametrize("of_the_paper", [False, True])
def test_each_task_has_to_itself_what_only_it_uses(of_the_paper):
    """The parameters that `own_parameters` gives to each task are those with gradients from that task alone."""
    system, images = tiny(prior="efficientnet-lite0"), pictures(1)
    if of_the_paper:
        config = dataclasses.replace(
            load_size(GenSCConfig, "gensc", "paper"),
            embed_dim=12,
            heads=(1, 2, 4),
            decoder_depth=1,
            decoder_dim=32,
            time_dim=32,
        )
        system = GenSC("gensc", checkpoint="none", config=config)
    used = {}
    for task, target in (
        ("reconstruction", images),
        ("segmentation", torch.zeros(1, *images.shape[-2:], dtype=torch.long)),
    ):
        system.zero_grad(set_to_none=True)
        at = Link(task, 112, 112, Budget.from_cbr(1 / 16, 112, 112))
        losses = system.training_step(images, target, at, lambda sent, where: transmit(sent, where, [0]))
        sum(losses.values()).backward()
        used[task] = {name for name, parameter in system.named_parameters() if parameter.grad is not None}
    names = {id(parameter): name for name, parameter in system.named_parameters() if parameter.requires_grad}
    for task, other in (("reconstruction", "segmentation"), ("segmentation", "reconstruction")):
        own = {names[id(parameter)] for parameter in system.own_parameters(task) if id(parameter) in names}
        assert own == used[task] - used[other]


@pytest.mark.parametrize("side", [112, 224, 336])
def test_the_prior_meets_the_swin_stages_at_every_size(side):
    """A side of 112 (an odd multiple of 16) gives odd grids, which patch merging pads."""
    system = GenSC("gensc", checkpoint="none")
    with torch.no_grad():
        assert system.source_kb_tx(torch.rand(1, 3, side, side), "segmentation").shape == (1, 96, side // 8, side // 8)
