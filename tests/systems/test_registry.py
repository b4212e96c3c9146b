"""Tests of the registry: one catalogue, plug-ins that cannot break the bench, and looks that are read without building
a network.
"""

import importlib
import sys

import pytest

import baselines  # noqa: F401  (registers the systems of the bench)
from systems import create, registry
from systems.errors import UnknownName, UserError

PLUGIN = """
from systems import System

class Good(System):
    label, colour, tasks, options = "Good one", "#123456", ("segmentation",), ("code_rate",)
    def encode(self, images, link): ...
    def decode(self, received, link): ...

class Borrowed(Good):
    label = "gen SC"

def factory(name, **options):
    return "no system"

factory.tasks = ("reconstruction",)

def idle(name, **options):
    return "no tasks"
"""
POINTS = {
    "t-good": "t_plugin_module:Good",
    "t-borrowed": "t_plugin_module:Borrowed",
    "t-factory": "t_plugin_module:factory",
    "t-missing": "t_plugin_no_such_module:Good",
    "t-idle": "t_plugin_module:idle",
    "t-attribute": "t_plugin_module:Nothing",
    "gensc": "t_plugin_module:Good",  # a name of the bench
    "fcn": "t_plugin_module:Good",  # a part of the bench
    "webp-ldpc-64qam": "t_plugin_module:Good",  # a name that a family of the bench makes
    "gens\u0441": "t_plugin_module:Good",  # a Cyrillic letter
    "W1TT": "t_plugin_module:Good",
    "AVIF-ldpc-256qam": "t_plugin_module:Good",
    "heic_1dpc.4qam": "t_plugin_module:Good",  # a name that is nobody's example
    "<b>t</b>": "t_plugin_module:Good",
    "all": "t_plugin_module:Good",  # --systems all
    "A": "t_plugin_module:Good",  # a side of a comparison: "A is 4.6 dB better than B" would speak of another system
    "Tied": "t_plugin_module:Good",  # a verdict
    "n" * 61: "t_plugin_module:Good",  # it would push numbers out of the lines of a terminal
}
DISABLED = {"gensc", "fcn", "webp-ldpc-64qam", "gens\u0441", "W1TT", "AVIF-ldpc-256qam", "heic_1dpc.4qam", "<b>t</b>",
            "all", "A", "Tied", "n" * 61}  # fmt: skip


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A distribution with good and bad entry points."""
    info = tmp_path / "t_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: t-plugin\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in POINTS.items()]
    (info / "entry_points.txt").write_text("[semantic_bench.systems]\n" + "\n".join(lines) + "\n")
    (tmp_path / "t_plugin_module.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    registry.discover()
    yield
    monkeypatch.undo()
    sys.modules.pop("t_plugin_module", None)
    registry.discover()


def test_a_plugin_that_takes_a_name_of_ours_is_disabled_and_ours_works_on(plugins):
    ours = {"gensc": "systems.gensc.system:GenSC", "webp-ldpc-64qam": "baselines.digital.system:DigitalSystem"}
    for name, target in ours.items():
        assert registry.find(name).target == target and registry.is_ours(name)
    assert registry.find("fcn", parts=True).target == "baselines.fcn:FCN"
    lines = registry.disabled()
    assert set(lines) == DISABLED
    for name, line in lines.items():
        assert "\n" not in line and "t_plugin_module:Good" in line and ascii(name) in line


def test_no_name_looks_like_one_of_ours():
    """Signs that look alike count as one; two systems of ours never look alike."""
    names = {name for entry in registry.entries() for name in (*entry.names, *entry.every)}
    assert len({registry.bare(name) for name in names}) == len(names)
    for name in (
        "qensc",
        "9ensc",
        "6ensc",
        "cleepjscc",
        "wi77",
        "jpeq-ldpc-16qam",
        "jpeg-1dpc-16qam",
        "Gen5C",
        "a0jscc",
    ):
        assert bool(registry._twin(name)) == (name != "a0jscc"), name
    assert not registry._twin("gensc2") and not registry._twin("pooled-pixels")


def test_a_plugin_that_does_not_import_is_one_line(plugins):
    for name, word in {"t-missing": "t_plugin_no_such_module", "t-attribute": "Nothing", "t-idle": "tasks"}.items():
        with pytest.raises(UserError, match=f"{name}.*disabled.*{word}") as error:
            create(name)
        assert "\n" not in str(error.value)
    assert create("t-good").name == "t-good"


def test_list_names_the_disabled_ones_and_ends_well(plugins):
    from click.testing import CliRunner

    from bench.cli.lists import list_command

    result = CliRunner().invoke(list_command, ["systems"])
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines() if "disabled" in line]
    assert {words[0] for words in lines} == DISABLED | {"t-missing", "t-attribute", "t-idle"}
    assert sum(line.split()[:1] == ["gensc"] for line in result.output.splitlines()) == 2


def test_what_is_made_must_be_a_system(plugins):
    with pytest.raises(UserError, match="t-factory.*made a str"):
        create("t-factory")


def test_looks_come_from_the_catalogue_or_from_what_a_run_was_told(plugins):
    assert registry.look("gensc").label == "GenSC" and registry.look("gensc").colour.startswith("#")
    assert registry.look("jpeg-ldpc-16qam-fcn").label == "JPEG+LDPC+16QAM+FCN"
    assert registry.look("jpeg-ldpc-16qam-fcn")[1:] == registry.look("jpeg-ldpc-16qam")[1:]  # never in one figure
    assert registry.look("jpeg-ldpc-16qam").mark is not None
    assert registry.look("avif-ldpc-256qam") == ("AVIF+LDPC+256QAM", "", None, "avif-ldpc-256qam")
    assert registry.look("avif-ldpc-256qam-fcn")[1:] == registry.look("avif-ldpc-256qam")[1:]
    assert registry.look("webp-capacity").label == "WebP at capacity (bound)"
    for name in ("t-good", "of-an-old-table"):  # installed or not
        told = {"label": "Good one", "colour": "#123456"}
        assert registry.look(name, told) == ("Good one", "#123456", None, name)
        for label in (
            "gen SC",
            "GenSC (KLT start)",
            "GenS\u0421",
            "WlTT",
            "ADJSCC+",
            "&#71;enSC",
            "<b>GenSC",
            "x\bGenSC",
            "HEIC+LDPC+4QAM",
            "The GenSC",
            "Reference JPEG+LDPC+16QAM",
            "VVITT",
            "WI77",
            "6enSC",
            "GenS(",
            "JPE9+LDPC+16QAM",
            "Cleep JSCC",
            " ",
            "._",
        ):  # no curve passes for one of ours
            assert registry.look(name, {"label": label}).label == f"{label} ({name})"
        assert registry.look(name, {"label": None}) == registry.look(name) == (name, "", None, name)
    for told in ({"plugin": True}, {"plugin": False}, {}):  # whatever a manifest says
        assert registry.look("gensc-large", told).label == "gensc-large (plug-in)"
    assert registry.look("gensc", {"label": "Mine", "colour": "#123456"}) == registry.look("gensc")
    assert "t_plugin_module" not in sys.modules


def test_a_size_that_starts_beside_the_klt_code_says_so_in_its_label():
    assert registry.look("witt", {"config": {"linear_path": True}}).label == "WITT (KLT start)"
    assert registry.look("witt", {"config": {"linear_path": False}}).label == registry.look("witt").label == "WITT"


def test_every_entry_of_the_catalogue_has_a_label_and_its_class_declares_what_it_says():
    for entry in registry.entries() + [registry.find("fcn", parts=True)]:
        kind = entry.load()
        assert entry.label and tuple(kind.tasks) == tuple(entry.tasks)
        assert hasattr(kind, "fit") is entry.fitted
        assert entry.part or kind.learned is entry.learned


def test_parts_are_trained_but_not_run():
    assert "fcn" not in registry.names()
    with pytest.raises(UnknownName, match="part of other systems"):
        create("fcn")
    order = registry.trainables()
    kinds = ["fitted" if entry.fitted else "part" if entry.part else "whole" for entry in order]
    # a system whose weights others start from comes first
    assert kinds == sorted(kinds, key=("fitted", "part", "whole").index)
    assert {"linear", "fcn", "gensc", "witt"} <= {entry.name for entry in order}


@pytest.mark.parametrize(
    ("target", "trains"),
    [("baselines.deepjscc:DeepJSCC", True), ("systems.learned:FittedSystem", False), ("baselines.fcn:FCN", False)],
)
def test_a_class_of_a_plugin_says_whether_it_trains(target, trains):
    """The FCN is a network, but no `System`."""
    assert registry.Entry("mine", target, plugin=True).trains() is trains
