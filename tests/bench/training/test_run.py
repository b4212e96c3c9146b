"""Tests of a whole `train` command: a refused request leaves no files, time limits are kept, and a damaged state gives
one line.
"""

import csv
import json
import math
import os
import time
from pathlib import Path

import pytest
import torch
from training_ground import PROTOCOL

import baselines  # noqa: F401  (registers its systems)
from bench.cli import main
from bench.training import state_file
from bench.training.protocol import read_protocol
from bench.training.run import _all_of, _check_shipped, _Clock, build, check_request, knowledge, run_training
from systems import registry
from systems.errors import UserError
from systems.sidecars import read_facts


def tree(folder: Path) -> set[str]:
    """Every path below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def cli(capsys, *arguments: str) -> tuple[int, str]:
    """The exit code and the error output of `python -m bench train ...`."""
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments])
    return stop.value.code, capsys.readouterr().err


REFUSED = [
    (["--systems", "nobody"], "unknown system 'nobody'"),
    (["--systems", "jpeg-ldpc-16qam"], "has nothing to train"),
    (["--systems", "deepjscc", "--size", "huge"], "deepjscc has no size 'huge'"),
    (["--systems", "deepjscc", "--size", "/x/y"], "deepjscc has no size '/x/y'"),
    (["--systems", "deepjscc", "--size", "../small"], "deepjscc has no size"),
    (["--systems", "all", "--size", "/x/y"], "--size /x/y"),
    (["--systems", "all", "--size", "nosuch"], "--size nosuch"),
    (["--systems", "deepjscc", "--config", "nosuch"], "no training protocol"),
    (["--systems", "deepjscc", "--config", "x" * 300], "--config: a name in the path has 300 bytes"),
    (["--systems", "deepjscc", "--pack", "x" * 300], "--pack: a name in the path has 300 bytes"),
    (["--systems", "deepjscc", "--threads", "1000000000000"], "--threads"),
    (["--systems", "deepjscc", "--crops", "0"], "--crops"),
    (["--systems", "deepjscc", "--learning-rate", "nan"], "learning_rate = nan"),
    (["--systems", "deepjscc", "--tasks", "segmentation"], "does not train segmentation"),
    (["--systems", "deeplab-jscc"], "which deeplab-jscc does not do"),
    (["--systems", "deepjscc", "--teacher", "fcn"], "--teacher has no effect"),
    (["--systems", "deepjscc", "--minutes", "0"], "--minutes 0"),
    (["--systems", "deepjscc", "--minutes", "nan"], "--minutes nan"),
    (["--systems", "deepjscc", "--minutes", "inf"], "--minutes inf"),
    (["--systems", "deepjscc", "--speeds", "x.csv"], "--speeds has no effect without --minutes"),
    (["--systems", "deepjscc", "--minutes", "1", "--speeds", "nowhere.csv"], "nowhere.csv: not a table"),
    (["--systems", "deepjscc", "--device", "tpu"], "--device tpu"),
    (["--systems", "deepjscc", "--data-root", "nowhere"], "no such folder of training pictures"),
    (["--systems", "deepjscc", "--pack", "nowhere.pack"], "no such pack"),
    (["--systems", "deepjscc,deepjscc,nobody"], "unknown system 'nobody'"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_a_refused_command_leaves_nothing_behind(ground, capsys, monkeypatch, arguments, words):
    root, protocol = ground
    work = root / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    given = {"--config": str(protocol(8)), "--data-root": str(root), "--out": "out", "--device": "cpu"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    before = tree(root)
    code, said = cli(capsys, *(part for pair in given.items() for part in pair))
    assert code == 2 and words in said and said.count("\n") == 1
    assert tree(root) == before


@pytest.mark.parametrize("start", ["shipped:no-such-size", "shipped"])
def test_weights_to_start_from_are_looked_for_before_the_first_system_is_trained(start):
    """Else the second system of a command would be refused after the hours of the first."""
    _check_shipped("linear", "small", start)  # it is fitted, and starts from nothing
    with pytest.raises(UserError, match="gensc-select ships no weights"):
        _check_shipped("gensc-select", "light", start)
    _check_shipped("deepjscc", "small", "shipped")
    _check_shipped("deepjscc", "paper", "shipped:small")
    _check_shipped("gensc-select", "small", "none")


def test_a_folder_that_cannot_be_written_is_refused_before_training(ground, monkeypatch):
    root, protocol = ground
    file = protocol(8)
    before = tree(root)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="nothing can be written in"):
        check_request(["deepjscc"], file, root, root / "deep" / "out", "small", None, None)
    assert tree(root) == before


def test_a_third_party_s_code_does_not_run_where_others_are_trained(ground, monkeypatch):
    root, protocol = ground
    registry.names()  # so that plug-ins have been searched
    monkeypatch.setitem(registry._plugins, "theirs", registry.Entry("theirs", "no_such_module:Net", plugin=True))
    for systems, words in ((["deepjscc", "theirs"], "by a command of its own"), (["theirs"], "does not import")):
        with pytest.raises(UserError, match=words):
            check_request(systems, protocol(8), root, root / "out", "small", None, None)


def test_an_unreadable_picture_leaves_nothing_behind(ground, capsys):
    root, protocol = ground
    (root / "photos" / "cut.png").write_bytes((root / "photos" / "0.png").read_bytes()[:300])
    arguments = ["--systems", "deepjscc", "--config", str(protocol(8)), "--data-root", str(root), "--device", "cpu"]
    code, said = cli(capsys, *arguments, "--out", str(root / "out"))
    assert code == 2 and "cut.png" in said and not (root / "out").exists()


def test_a_file_in_place_of_the_folder_is_refused(ground, capsys):
    root, protocol = ground
    (root / "out").write_text("mine")
    arguments = ["--systems", "deepjscc", "--config", str(protocol(8)), "--data-root", str(root), "--device", "cpu"]
    for out in (root / "out", root / "out" / "deeper"):
        code, said = cli(capsys, *arguments, "--out", str(out))
        assert code == 2 and "choose a folder" in said
    assert (root / "out").read_text() == "mine"


def quiet(systems, protocol: Path, root: Path, **options) -> list[Path]:
    return run_training(systems, protocol, root, root / "out", say=lambda text: None, threads=1, **options)


@pytest.fixture
def stopped(ground):
    """A run that was stopped after two steps: data root, protocol, its state, and the tensors and facts of that."""
    root, protocol = ground
    quiet(["deepjscc"], protocol(160), root, max_steps=2)
    path = root / "out" / "deepjscc-small" / "state.safetensors"
    return root, protocol(160), path, *state_file.load_state(path.parent)


def test_a_damaged_state_is_one_line_that_names_it(ground, capsys):
    root, protocol = ground
    quiet(["deepjscc"], protocol(160), root, max_steps=1)
    path = root / "out" / "deepjscc-small" / "state.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    cut_header = json.dumps({**header, "__metadata__": {"facts": "{}"}}).encode()
    missing = {**header, "__metadata__": {"facts": header["__metadata__"]["facts"].replace('"done"', '"gone"')}}
    other = json.dumps(missing).encode()
    cases = [b"", whole[:4], whole[:2000], whole[: len(whole) // 2], b"\xff" * 100, whole[:8] + b"{" * length]
    cases += [len(text).to_bytes(8, "little") + text + whole[8 + length :] for text in (cut_header, other)]
    arguments = ["--systems", "deepjscc", "--config", str(protocol(160)), "--data-root", str(root), "--device", "cpu"]
    for content in cases:
        path.write_bytes(content)
        code, said = cli(capsys, *arguments, "--out", str(root / "out"))
        assert code == 2 and f"{path}: damaged" in said and "remove the file" in said, said
        assert "Traceback" not in said and path.read_bytes() == content


def altered(tensors: dict, name: str, change) -> dict:
    return {key: change(value) if key.startswith(name) else value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(({"step": value}, "its step must be") for value in (-5, 1.5, True, "2", None, math.inf, 10**30)),
        *(({"seen": value}, "its seen must be") for value in (8, {"reconstruction": -8}, {"reconstruction": math.inf})),
        *(({"done": value}, "its done must be") for value in ([2], {"reconstruction": 2.0})),
        *(({"seconds": value}, "its seconds must be") for value in ("abc", None, [1], math.nan, -1.0, math.inf)),
        *(({"minutes": value}, "its minutes must be") for value in ("abc", 0, math.nan)),
        *(({"rows": rows}, "its rows must be") for rows in (None, [1], [{"val": "a"}], [{"step": 1, "val": math.nan}],
                                                            [{"step": 1, "\ud800": 1}], [{"step": 1, "a": 10**400}])),
        ({"ended": 1}, "its ended must be"),
        ({"step": 3}, "not those of the protocol's schedule"),
        ({"step": 41, "done": {"reconstruction": 41}, "seen": {"reconstruction": 164}}, "the protocol's schedule"),
        ({"seen": {"reconstruction": 9}}, "not those of the protocol's schedule"),
        ({"seen": {}}, "not those of the protocol's schedule"),
        ({"minutes": 1.0}, "its minutes are not those of such a run"),
        ({"rows": [{"step": 3}]}, "its rows are not those of a run to its step"),
        ({"rows": [{"step": 2}, {"step": 1}]}, "its rows are not those of a run to its step"),
    ],
)  # fmt: skip
def test_a_state_whose_facts_are_of_no_run_is_one_line(stopped, changes, words):
    root, protocol, path, tensors, facts = stopped
    state_file.save_state(path.parent, tensors, facts | changes)
    with pytest.raises(UserError, match=words) as error:
        quiet(["deepjscc"], protocol, root)
    assert str(error.value).startswith(f"{path}: damaged") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {k: v for k, v in t.items() if not k.startswith("optimizer")}, "steps without moments"),
        (lambda t: {k: v for k, v in t.items() if k != "optimizer/0/exp_avg"}, "lacks the tensor 'optimizer/0/exp"),
        (lambda t: {k: v for k, v in t.items() if k != "average/encoder.0.bias"}, "lacks the tensor 'average/enc"),
        (lambda t: t | {"optimizer/0/foo": torch.zeros(3)}, "an unknown tensor 'optimizer/0/foo'"),
        (lambda t: t | {"optimizer/999/step": torch.tensor(1.0)}, "an unknown tensor 'optimizer/999/step'"),
        (lambda t: t | {"optimizer/0/step": torch.zeros(3)}, "optimizer/0/step has another type or shape"),
        (lambda t: t | {"optimizer/0/step": torch.tensor(9.0)}, "moments of parameter 0 are none"),
        (lambda t: altered(t, "optimizer/0/exp_avg_sq", lambda v: v - 1), "moments of parameter 0 are none"),
        (lambda t: altered(t, "average/encoder.0", lambda v: v[:1]), "has another type or shape"),
        (lambda t: altered(t, "average/", lambda v: v * math.nan), "is not finite"),
        (lambda t: altered(t, "model/encoder.0", lambda v: v.double()), "has another type or shape"),
    ],
)
def test_a_state_whose_tensors_are_of_no_run_is_one_line(stopped, change, words):
    root, protocol, path, tensors, facts = stopped
    state_file.save_state(path.parent, change(tensors), facts)
    with pytest.raises(UserError, match=words) as error:
        quiet(["deepjscc"], protocol, root)
    assert str(error.value).startswith(f"{path}: damaged") and "\n" not in str(error.value)


def test_a_run_that_was_stopped_during_its_last_validation_gets_it(ground):
    """A row that tells no PSNR of the last step marks the weights as undertrained, as a low PSNR would."""
    root, protocol = ground
    (weights,) = quiet(["deepjscc"], protocol(8), root)
    tensors, facts = state_file.load_state(weights.parent)
    told = read_facts(weights)
    for rows, marked in (([], told["undertrained"]), ([{"step": 2}], True)):
        state_file.save_state(weights.parent, tensors, facts | {"rows": rows})
        quiet(["deepjscc"], protocol(8), root)
        again = read_facts(weights)
        assert again["undertrained"] == marked and again["sha256"] == told["sha256"]
        assert rows or again["validation"][-1]["val_psnr_10db"] == told["validation"][-1]["val_psnr_10db"]


def test_a_folder_of_another_protocol_is_refused(ground):
    root, protocol = ground
    quiet(["deepjscc"], protocol(8), root)
    with pytest.raises(UserError, match="another protocol"):
        quiet(["deepjscc"], protocol(16), root)
    with pytest.raises(UserError, match="another protocol"):
        quiet(["deepjscc"], protocol(8), root, minutes=0.01)


def test_by_the_clock_several_systems_end_in_time_with_weights(ground):
    """Each system has finished weights, a curve that ends with a validation, and a sidecar file that states what it has
    seen.
    """
    root, protocol = ground
    start = time.monotonic()
    written = quiet(["deepjscc", "linear"], protocol(4), root, minutes=0.1)
    # 6 s of training; the rest allows for other work on the machine
    assert time.monotonic() - start < 60
    assert [path.name for path in written] == ["deepjscc-small.safetensors", "linear-klt16.safetensors"]
    facts = read_facts(written[0])
    assert facts["steps"] > 1 and facts["images_seen"]["reconstruction"] == 4 * facts["steps"]
    assert 0 < facts["minutes"] <= 0.5
    with (written[0].parent / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert int(rows[0]["step"]) == 0 and int(rows[-1]["step"]) == facts["steps"]
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds) and all(row["val_psnr_10db"] for row in rows)


def test_by_the_clock_a_visit_goes_on_with_what_time_is_left(ground):
    root, protocol = ground
    path = root / "out" / "deepjscc-small" / "state.safetensors"

    def facts() -> dict:
        data = path.read_bytes()
        return json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["facts"])

    assert quiet(["deepjscc"], protocol(4), root, minutes=1.0, max_steps=2) == []
    first = facts()
    assert first["step"] == 2 and not first["ended"] and 0 < first["seconds"] < 60
    quiet(["deepjscc"], protocol(4), root, minutes=1.0, max_steps=1)
    second = facts()
    assert second["step"] == 3 and second["seconds"] > first["seconds"] and second["minutes"] == first["minutes"]


def test_shares_of_time(ground):
    """Each system gets its share of the remaining time. Time that an earlier visit used is not given twice."""
    root, protocol = ground
    path = protocol(8)
    path.write_text(path.read_text().replace("[tasks", "[shares]\nadjscc = 3\n[tasks", 1))
    options = {"size": "small", "tasks": None, "minutes": 8.0}
    request = check_request(["linear", "deepjscc", "adjscc"], path, root, root / "out", **options)
    clock = _Clock(request, time.monotonic())
    first, second = clock.minutes("deepjscc"), clock.minutes("adjscc")
    assert first == pytest.approx(2, rel=0.02) and second == pytest.approx(8, rel=0.02)  # all of the remaining time
    late = _Clock(request, time.monotonic() - 60 * 4)
    assert late.minutes("deepjscc") == pytest.approx(1, rel=0.05)
    assert _Clock(request, time.monotonic() - 60 * 100).minutes("deepjscc") > 0


SPEEDS = """system,size,task,crops_per_s
deepjscc,small,reconstruction,400
adjscc,small,reconstruction,100
adjscc,light,reconstruction,7
deeplab-jscc,small,segmentation,10
"""


def test_measured_speeds_give_every_system_equally_many_crops(ground):
    root, protocol = ground
    table = root / "speeds.csv"
    table.write_text(SPEEDS)
    options = {"size": "small", "tasks": None, "minutes": 10.0, "speeds": table}
    request = check_request(["deepjscc", "adjscc"], protocol(8), root, root / "out", **options)
    clock = _Clock(request, time.monotonic())
    minutes = {name: clock.minutes(name) for name in ("deepjscc",)}
    assert minutes["deepjscc"] * 400 == pytest.approx((10 - minutes["deepjscc"]) * 100, rel=0.02)
    with pytest.raises(UserError, match="has no speed of witt in size small"):
        check_request(["deepjscc", "witt"], protocol(8), root, root / "out", **options)
    for damage in ("", "a,b\n1,2\n", SPEEDS.replace("400", "fast"), SPEEDS.replace("400", "0")):
        table.write_text(damage)
        with pytest.raises(UserError, match="not a table of|has no speed of deepjscc"):
            check_request(["deepjscc"], protocol(8), root, root / "out", **options)


def test_finished_systems_are_not_trained_again(ground):
    root, protocol = ground
    (weights,) = quiet(["deepjscc"], protocol(8), root)
    content = weights.read_bytes()
    os.utime(weights, (0, 0))
    (again,) = quiet(["deepjscc"], protocol(8), root)
    assert again == weights and weights.read_bytes() == content


@pytest.mark.parametrize(
    ("task", "first", "others"),
    [
        ("reconstruction", "linear", {"gensc", "witt", "adjscc", "deepjscc"}),
        ("segmentation", "fcn", {"gensc", "deeplab-jscc"}),
    ],
)
def test_all_systems_are_those_of_the_tasks(task, first, others):
    names = _all_of(read_protocol("ablation", [task]))
    assert names[0] == first and others <= set(names) and len(set(names)) == len(names)
    assert all(task in registry.tasks_of(name) for name in names)
    fitted = [registry.find(name, parts=True).fitted for name in names]
    assert fitted == sorted(fitted, reverse=True)  # a system whose weights others start from comes first


def test_linear_needs_its_task(tmp_path):
    with pytest.raises(UserError, match="leave linear out"):
        run_training(["linear"], "ablation", tmp_path, tmp_path / "out", tasks=["segmentation"])


@pytest.mark.parametrize("name", ["gensc", "deeplab-jscc", "fcn"])
def test_from_scratch_nothing_is_known_and_all_is_trained(name):
    plan = read_protocol("ablation", ["segmentation"], teacher="none")
    for size, knows in (("small", True), ("small_from_scratch", False)):
        system = build(name, size, plan.start)
        assert ("ImageNet" in knowledge(plan, system, "")) is knows
        assert all(parameter.requires_grad for parameter in system.parameters()) is not knows


def test_what_a_system_was_told_is_said():
    plan = read_protocol("coded")
    assert "crops as JPEG leaves them" in knowledge(plan, build("fcn", "small", "none"), "")
    assert knowledge(plan, registry.create("deepjscc", checkpoint="none"), "deeplab").endswith("labels of deeplab")


def test_where_a_size_may_start(tmp_path):
    import torch

    given, other = build("fcn", "light", "shipped:small"), build("fcn", "small", "shipped")
    assert given.size == "light" and given.facts["sha256"] == other.facts["sha256"]
    assert all(torch.equal(a, b) for a, b in zip(given.state_dict().values(), other.state_dict().values(), strict=True))
    path = tmp_path / "p.toml"
    for wrong in ("none:small", "published", "somewhere"):
        path.write_text(f'start = "{wrong}"\n' + PROTOCOL.format(images=4))
        with pytest.raises(UserError, match="none or shipped"):
            check_request(["deepjscc"], path, tmp_path, tmp_path / "out", "small", None, None)
