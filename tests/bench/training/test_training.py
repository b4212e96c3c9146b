"""Training: exact resume after kill -9, the same curve from two processes, the protocol's grammar, class balance."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from skimage.data import astronaut, coffee

import baselines  # noqa: F401  (registers its systems)
from baselines.digital.codec import decode, encode_under
from bench.measure.channel import transmit
from bench.training.crops import Pictures
from bench.training.protocol import Stage, TaskProtocol, read_protocol
from bench.training.run import _all_of, _build, _knowledge, _teacher, run_training
from bench.training.trainer import Trainer, World, _rate, _schedule, _stage
from systems import registry
from systems.errors import UserError
from systems.interface import Budget, Link
from systems.learned import log_squared_error, mean_squared_error
from systems.zoo import load_weights, read_facts, save_weights

PROTOCOL = """
seed = 3
learning_rate = 1e-3
warmup = 2
ema = 0.9
validate_every = 4
checkpoint_every = 2
holdout = 2
autocast = "off"

[tasks.reconstruction]
images_seen = {images}
stages = [{{ until = 1.0, crop = 32, batch = 4 }}]
sources = ["photos"]
cbr = "1/16"
budget_jitter = 0.1
"""


@pytest.fixture
def ground(tmp_path):
    """A data root with smooth random pictures and a protocol of a few steps; gives a function that makes both."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for index in range(8):
        coarse = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((260, 240), Image.Resampling.BICUBIC).save(tmp_path / "photos" / f"{index}.png")

    def protocol(images: int) -> Path:
        path = tmp_path / f"protocol{images}.toml"
        path.write_text(PROTOCOL.format(images=images))
        return path

    return tmp_path, protocol


def command(root: Path, protocol: Path, out: str, *extra: str) -> list[str]:
    return [
        "-m",
        "bench",
        "train",
        "--systems",
        "deepjscc",
        "--config",
        str(protocol),
        "--data-root",
        str(root),
        "--out",
        str(root / out),
        "--device",
        "cpu",
        "--threads",
        "1",
        *extra,
    ]


def train(*arguments: str, launcher: tuple[str, ...] = (sys.executable,)) -> subprocess.CompletedProcess:
    return subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=300, check=False)


def voc(root: Path, count: int, side: int) -> None:
    """VOC's layout: `count` pictures of class 1, the last of class 2."""
    base = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", (side, side), (index, 0, 0)).save(base / "JPEGImages" / f"{index}.jpg")
        mask = np.full((side, side), 2 if index == count - 1 else 1, np.uint8)
        Image.fromarray(mask).save(base / "SegmentationClass" / f"{index}.png")
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(map(str, range(count))))


def test_killed_and_resumed_is_uninterrupted_to_the_bit(ground):
    root, protocol = ground
    plan = protocol(160)
    assert train(*command(root, plan, "whole")).returncode == 0
    state = root / "killed" / "deepjscc-small" / "state.safetensors"
    process = subprocess.Popen(
        [sys.executable, *command(root, plan, "killed")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not state.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert state.is_file() and not (root / "killed" / "deepjscc-small" / "deepjscc-small.safetensors").exists()
    resumed = train(*command(root, plan, "killed"))
    assert resumed.returncode == 0 and "resuming at step" in resumed.stderr
    for name in ("deepjscc-small.safetensors", "metrics.csv"):
        assert (root / "killed" / "deepjscc-small" / name).read_bytes() == (
            root / "whole" / "deepjscc-small" / name
        ).read_bytes()


@pytest.mark.parametrize("name", ["gensc", "deepjscc"])
def test_every_tensor_of_a_resumed_run_is_that_of_an_uninterrupted_one(ground, name):
    """3 steps, save, load into a fresh trainer, 2 more: weights, averages and both moments equal 5 steps."""
    root, protocol = ground
    plan = read_protocol(protocol(160))
    data = {"reconstruction": Pictures(("photos",), root, with_masks=False, holdout=2, least_side=32)}

    def trainer(folder: str) -> Trainer:
        (root / folder).mkdir(exist_ok=True)
        system = registry.create(name, checkpoint="none")
        return Trainer(system, name, "small", plan, data, root / folder, World())

    whole, first = trainer("a"), trainer("b")
    for _ in range(5):
        whole.advance()
    for _ in range(3):
        first.advance()
    first.save_state()
    second = trainer("b")
    assert second.load_state() and second.step == 3
    for _ in range(2):
        second.advance()
    moments = [
        {f"{i}/{key}": value for i, p in enumerate(t.parameters) for key, value in t.optimizer.state[p].items()}
        for t in (whole, second)
    ]
    states = [
        {**t.module.state_dict(), **{f"average/{key}": value for key, value in t.average.items()}, **m}
        for t, m in zip((whole, second), moments)
    ]
    assert states[0].keys() == states[1].keys()
    different = [key for key in states[0] if not torch.equal(states[0][key], states[1][key])]
    assert not different


def test_steps_of_a_short_visit_are_kept(ground):
    root, protocol = ground
    plan = protocol(160)
    for reached in (1, 2):
        assert train(*command(root, plan, "visits", "--max-steps", "1")).returncode == 0
        with safe_open(root / "visits" / "deepjscc-small" / "state.safetensors", "pt") as file:
            assert json.loads(file.metadata()["facts"])["step"] == reached


@pytest.fixture
def labelled(ground):
    """`ground` with a small VOC beside the photographs: smooth pictures, masks of three classes and void of very uneven
    size."""
    root, _ = ground
    base = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for index in range(8):
        coarse = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((260, 240), Image.Resampling.BICUBIC).save(base / "JPEGImages" / f"{index}.jpg")
        mask = np.zeros((240, 260), np.uint8)
        mask[60:180, 60:200] = 1 + index % 3
        mask[: 25 * index] = 255
        Image.fromarray(mask).save(base / "SegmentationClass" / f"{index}.png")
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(map(str, range(8))))

    def protocol(images: int) -> Path:
        path = root / f"both{images}.toml"
        text = (
            PROTOCOL.format(images=images).replace("validate_every = 4", "validate_every = 1").replace("1e-3", "1e-4")
        )
        task = text[text.index("[tasks") :]
        task = (
            task.replace("reconstruction", "segmentation")
            .replace("photos", "voc2012:train")
            .replace('cbr = "1/16"', "kbits = 20")
        )
        path.write_text(text + "\n" + task.replace("crop = 32", "crop = 64"))
        return path

    return root, protocol


def loss_curve(folder: Path) -> np.ndarray:
    """The batch's loss at each step."""
    with (folder / "metrics.csv").open() as file:
        return np.array([float(row.get("picture") or row["cross_entropy"]) for row in csv.DictReader(file)])


@pytest.mark.parametrize("system", ["deepjscc", "deeplab-jscc"])
def test_two_processes_have_the_loss_curve_of_one_with_the_doubled_batch(labelled, system):
    """torchrun, gloo, two pictures a process, against one process with four: the batch's loss at each of 6 steps.

    deeplab-jscc has batch norm, dropout, and masks of which 0 to 70 % is void; deepjscc has none of that. Both runs add
    the same float32 numbers in another order (2^-24 of each sum), and every step of AdamW enlarges the difference:
    measured, from 0 at the first step to 1e-6 of the loss at the eighth. What must not pass is far above: with batch
    norm and dropout of each process's own the losses part by 5e-3 at the first step, with a plain mean over unevenly
    labelled halves by 3e-3.
    """
    root, protocol = labelled
    arguments = [system if word == "deepjscc" else word for word in command(root, protocol(24), "one")]
    one = train(*arguments)
    assert one.returncode == 0, one.stderr[-2000:]
    arguments[arguments.index(str(root / "one"))] = str(root / "two")
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    two = train("--standalone", "--nproc-per-node", "2", *arguments, launcher=(torchrun,))
    assert two.returncode == 0, two.stderr[-2000:]
    curves = [loss_curve(root / name / f"{system}-small") for name in ("one", "two")]
    assert len(curves[0]) == 6 and len(set(curves[0])) == 6
    np.testing.assert_allclose(curves[1], curves[0], rtol=2e-5)


def test_a_folder_of_another_protocol_is_refused(ground):
    root, protocol = ground
    assert train(*command(root, protocol(8), "run")).returncode == 0
    other = train(*command(root, protocol(16), "run"))
    assert other.returncode == 2 and "another protocol" in other.stderr and "Traceback" not in other.stderr


def test_the_sidecar_says_what_the_weights_saw(ground):
    root, protocol = ground
    assert train(*command(root, protocol(8), "run")).returncode == 0
    facts = read_facts(root / "run" / "deepjscc-small" / "deepjscc-small.safetensors")
    assert facts["images_seen"] == {"reconstruction": 8}
    assert facts["data"]["reconstruction"]["pictures"] == 6  # 8 less the 2 held out
    assert facts["validation"][-1]["step"] == 2 and facts["licence"] and facts["seed"] == 3


def test_held_out_pictures_are_never_drawn(ground):
    root, _ = ground
    data = Pictures(("photos",), root, with_masks=False, holdout=3, least_side=32)
    assert len(data.held_out) == 3 and len(data.training) == 5
    assert not {p.name for p in data.held_out} & {p.name for p in data.training}


def test_classes_are_drawn_evenly(tmp_path):
    """9 pictures of class 1 and 1 of class 2: balanced draws show class 2 in half of the crops."""
    voc(tmp_path, count=10, side=40)
    data = Pictures(("voc2012:train",), tmp_path, with_masks=True, holdout=0, least_side=32)
    rng = np.random.default_rng(0)
    share = np.mean([int(data.draw(rng, 32, 0.6, True)[1][0, 0]) == 2 for _ in range(400)])
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 400)  # four standard errors
    share = np.mean([int(data.draw(rng, 32, 0.6, False)[1][0, 0]) == 2 for _ in range(400)])
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / 400)


def test_going_on_with_one_task_leaves_the_other_to_the_bit(tmp_path):
    """The shipped GenSC, two steps of segmentation: its pictures are those of before, its segmentation is not; counts
    add up."""
    voc(tmp_path, count=8, side=112)
    path = tmp_path / "p.toml"
    path.write_text(
        PROTOCOL.partition("[tasks")[0]
        + """start = "shipped"
[tasks.segmentation]
images_seen = 4
stages = [{ until = 1.0, crop = 112, batch = 2 }]
sources = ["voc2012:train"]
kbits = 20
"""
    )
    plan = read_protocol(path)
    data = {"segmentation": Pictures(("voc2012:train",), tmp_path, with_masks=True, holdout=2, least_side=112)}
    system = _build("gensc", "small", plan.start)
    trainer = Trainer(system, "gensc", "small", plan, data, tmp_path, World())
    trainer.advance()
    trainer.advance()
    after = registry.create("gensc")
    after.load_state_dict(system.state_dict())
    outputs = {}
    image = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    for task, budget in (("reconstruction", Budget.from_cbr(1 / 16, 112, 112)), ("segmentation", Budget(bits=20_000))):
        for name, other in (("before", registry.create("gensc")), ("after", after)):
            link = Link(task, 112, 112, budget, "awgn", 10.0)
            with torch.inference_mode():
                outputs[task, name] = other.decode(transmit(other.encode(image, link), link, [0]), link).output
    assert torch.equal(outputs["reconstruction", "before"], outputs["reconstruction", "after"])
    assert not torch.equal(outputs["segmentation", "before"], outputs["segmentation", "after"])
    seen = registry.create("gensc").facts["images_seen"]
    assert trainer.facts()["images_seen"] == {**seen, "segmentation": seen["segmentation"] + 4}
    assert trainer.facts()["started_from"]["sha256"] == registry.create("gensc").facts["sha256"]
    before, facts = registry.create("gensc").facts, trainer.facts()
    assert facts["notes"] == before["notes"] and facts["licence"] == f"{before['licence']}; not stated"


@pytest.mark.parametrize(
    ("name", "size", "share"), [("fcn", "small_jpeg", 1.0), ("fcn", "small_jpeg", 0.0), ("deeplab-jscc", "small", 1.0)]
)
def test_a_network_behind_a_digital_link_sees_what_jpeg_leaves(tmp_path, monkeypatch, name, size, share):
    """In files that take the bytes asked for; one with a link of its own sees the crops themselves."""
    voc(tmp_path, count=6, side=64)
    path = tmp_path / "p.toml"
    path.write_text(
        PROTOCOL.partition("[tasks")[0]
        + f"""[tasks.segmentation]
images_seen = 4
stages = [{{ until = 1.0, crop = 64, batch = 4 }}]
sources = ["voc2012:train"]
kbits = 20
coded = {share}
coded_bytes = [700, 900]
"""
    )
    photos = (
        torch.from_numpy(np.stack([photo[100:164, 200:264] for photo in (astronaut(), coffee())])).permute(0, 3, 1, 2)
        / 255
    )
    plan, seen = read_protocol(path), []
    data = {"segmentation": Pictures(("voc2012:train",), tmp_path, with_masks=True, holdout=2, least_side=64)}
    monkeypatch.setattr(
        data["segmentation"], "draw", lambda rng, *_: (photos[len(seen) % 2].float(), torch.ones(64, 64).long())
    )
    trainer = Trainer(_build(name, size, "none"), name, size, plan, data, tmp_path, World())
    trainer.step_module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].clone()))
    trainer.advance()
    (given,) = seen
    if name == "fcn" and share:
        files = [
            encode_under((photos[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), most)
            for most in range(700, 901)
        ]
        possible = [
            torch.from_numpy(decode(file.payload, "jpeg", 64, 64).copy()).permute(2, 0, 1) / 255 for file in set(files)
        ]
        assert all(min((one - other).abs().max() for other in possible) < 1e-6 for one in given)
    else:
        assert torch.equal(given, photos[:1].float().expand(4, -1, -1, -1))


def test_weights_of_another_size_are_where_a_size_may_start():
    given, other = _build("fcn", "small_jpeg", "shipped:small"), _build("fcn", "small", "shipped")
    assert given.size == "small_jpeg" and given.facts["sha256"] == other.facts["sha256"]
    assert all(torch.equal(a, b) for a, b in zip(given.state_dict().values(), other.state_dict().values(), strict=True))
    for wrong in ("none:small", "published"):
        with pytest.raises(UserError, match="none or shipped"):
            _build("fcn", "small", wrong)


def test_one_task_of_a_protocol_without_its_teacher():
    whole, part = read_protocol("ablation"), read_protocol("ablation", ["segmentation"], teacher="none")
    assert set(whole.tasks) == {"reconstruction", "segmentation"} and set(part.tasks) == {"segmentation"}
    assert part.tasks["segmentation"] == whole.tasks["segmentation"]
    assert (whole.teacher == "none", part.teacher) == (False, "none")
    system = _build("deeplab-jscc", "small", part.start)
    assert _teacher(part, system, Path("nowhere"), "cpu") is None  # no file is looked for
    with pytest.raises(UserError, match="does not train drawing; its tasks are reconstruction, segmentation"):
        read_protocol("ablation", ["drawing"])


@pytest.mark.parametrize(
    ("task", "first", "others"),
    [
        ("reconstruction", "linear", {"gensc", "witt", "adjscc", "deepjscc"}),
        ("segmentation", "fcn", {"gensc", "deeplab-jscc"}),
    ],
)
def test_all_systems_are_those_of_the_tasks(task, first, others):
    names = _all_of(read_protocol("ablation", [task]))
    assert names[0] == first and set(names[1:]) == others


def test_what_has_no_effect_is_refused(tmp_path):
    with pytest.raises(UserError, match="--teacher has no effect"):
        run_training(["deepjscc"], "ablation", tmp_path, tmp_path, tasks=["reconstruction"], teacher="fcn")
    with pytest.raises(UserError, match="leave linear out"):
        run_training(["linear"], "ablation", tmp_path, tmp_path, tasks=["segmentation"])


@pytest.mark.parametrize("name", ["gensc", "deeplab-jscc", "fcn"])
def test_from_scratch_nothing_is_known_and_all_is_trained(name):
    plan = read_protocol("ablation", ["segmentation"], teacher="none")
    for size, knows in (("small", True), ("small_from_scratch", False)):
        system = _build(name, size, plan.start)
        assert ("ImageNet" in _knowledge(plan, system, None)) is knows
        assert all(parameter.requires_grad for parameter in system.parameters()) is not knows


def test_an_unknown_start_is_one_clear_line():
    with pytest.raises(UserError, match="none or shipped"):
        _build("deepjscc", "small", "somewhere")


def test_the_schedule_spreads_tasks_and_follows_the_stages():
    stages = (Stage(0.5, 32, 4), Stage(1.0, 64, 2))
    plan = TaskProtocol(images_seen=32, stages=stages, sources=("photos",), cbr="1/16")
    small = TaskProtocol(images_seen=8, stages=(Stage(1.0, 32, 4),), sources=("photos",), kbits=20)
    schedule = _schedule({"reconstruction": plan, "segmentation": small})
    assert schedule.count("reconstruction") == 16 // 4 + 16 // 2 and schedule.count("segmentation") == 2
    assert "segmentation" in schedule[: len(schedule) // 2]
    assert [_stage(plan, seen).crop for seen in (0, 15, 16, 31)] == [32, 32, 64, 64]
    rates = [_rate(step, 100, 10) for step in range(100)]
    assert rates[9] == 1.0 and max(rates) == 1.0 and rates[-1] < 0.03


TASK = '[tasks.reconstruction]\nimages_seen = 1\nstages = [{ until = 1.0, crop = 32, batch = 1 }]\nsources = ["photos"]\ncbr = "1/16"'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rat = 1", "unknown key learning_rat"),
        (
            "[tasks.reconstruction]\nimages_seen = 1\nstages = [{ until = 1.0, crop = 32, batch = 1 }]\nsources = []",
            "either cbr or kbits",
        ),
        (
            '[tasks.reconstruction]\nimages_seen = 1\nstages = [{ crop = 32, batch = 1 }]\nsources = []\ncbr = "1/16"',
            "needs until",
        ),
        ('[tasks.reconstruction]\nimages_seen = 1\nstages = []\nsources = []\ncbr = "1/16"', "needs stages"),
        ("[tasks.drawing]\nimages_seen = 1", "no such task"),
        ("seed = = 1", "not valid TOML"),
        ('learning_rate = "fast"', "learning_rate must be a number, not 'fast'"),
        ("learning_rate = 0", "learning_rate = 0; it must be above 0"),
        ("seed = true", "seed must be a whole number, not True"),
        ("snr_db = [0]", "snr_db must be a list of 2, each a number"),
        ("snr_db = [20, 0]", "lowest and highest"),
        ("ema = 1", "ema = 1; it must be from 0 to below 1"),
        ('channel = "awng"', "did you mean awgn"),
        ('autocast = "float16"', "auto | bfloat16 | off"),
        (TASK.replace("batch = 1", "batch = 0"), "batch = 0; it must be at least 1"),
        (TASK.replace("batch = 1", "batch = 1.5"), "batch must be a whole number"),
        (TASK.replace("images_seen = 1", 'images_seen = "x"'), "images_seen must be a whole number"),
        (TASK.replace('"1/16"', '"one"'), "cbr: 'one' is not a ratio"),
        (TASK.replace('cbr = "1/16"', "kbits = -1"), "kbits -1: a budget is a whole number"),
        (TASK.replace('["photos"]', "[]"), "sources = ()"),
        (TASK + "\ndistill = 2", "distill = 2; it must be from 0 to 1"),
    ],
)
def test_a_faulty_protocol_is_one_clear_line(tmp_path, text, words):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        read_protocol(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["small", "longer", "segmentation", "ablation", "coded"])
def test_the_protocols_that_come_with_the_bench_are_read(name):
    assert read_protocol(name).tasks


def test_the_logarithmic_loss_weighs_each_picture_by_its_own_error():
    """d/dx of 0.1 log(MSE + 0.0003) is 0.1 / (MSE + 0.0003) times that of the MSE, picture by picture."""
    target = torch.zeros(2, 3, 4, 4)
    output = torch.stack([torch.full((3, 4, 4), 0.3), torch.full((3, 4, 4), 0.01)]).requires_grad_()
    (gradient,) = torch.autograd.grad(log_squared_error(output, target), output)
    (plain,) = torch.autograd.grad(mean_squared_error(output, target), output)
    for picture, error in enumerate((0.3**2, 0.01**2)):
        assert torch.allclose(gradient[picture], 0.1 / (error + 3e-4) * plain[picture], rtol=1e-4)


def test_an_unknown_loss_is_one_clear_line(ground):
    root, protocol = ground
    plan = read_protocol(protocol(8), reconstruction_loss="l7")
    data = {"reconstruction": Pictures(("photos",), root, with_masks=False, holdout=2, least_side=32)}
    with pytest.raises(UserError, match="mse, log_mse"):
        Trainer(registry.create("deepjscc", checkpoint="none"), "deepjscc", "small", plan, data, root, World())


def test_an_unknown_protocol_names_the_known_ones():
    with pytest.raises(UserError, match="small"):
        read_protocol("no-such-protocol")


class TestWeights:
    def test_round_trip_and_every_fault(self, tmp_path):
        module = torch.nn.Linear(3, 2)
        path = tmp_path / "m.safetensors"
        save_weights(path, module.state_dict(), {"system": "m"})
        copy = torch.nn.Linear(3, 2)
        load_weights(copy, path)
        assert torch.allclose(copy.weight, module.weight, atol=1e-3)

        with pytest.raises(UserError, match="does not fit"):
            load_weights(torch.nn.Linear(4, 2), path)
        whole = path.read_bytes()
        path.write_bytes(whole[:-5])
        with pytest.raises(UserError, match="truncated or altered"):
            load_weights(copy, path)
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(UserError, match="sha256"):
            load_weights(copy, path)
        path.with_suffix(".json").unlink()
        with pytest.raises(UserError, match="m.json"):
            load_weights(copy, path)
        with pytest.raises(UserError, match="cannot read"):
            load_weights(copy, tmp_path / "absent.safetensors")
