"""Tests of a figure file's settings for drawing: they are checked on reading, and do not change
the identity of a cell.
"""

import pytest

from bench.report.options import parse_labels
from bench.spec.figure import read_figure, with_snr
from bench.spec.look import read_look
from bench.spec.request import Request, resolve
from systems.errors import UserError

FIGURE = {"id": "mine", "task": "reconstruction", "dataset": "photos", "systems": ["linear", "mine"], "cbr": "1/16"}
LOOK = {
    "order": ["linear"],
    "label": {"mine": "My system"},
    "colour": {"linear": "#AA3377"},
    "ylim": [20, 40],
    "kind": "curves",
}


def test_a_look_survives_the_manifest():
    figure = read_figure(FIGURE | LOOK, "mine.toml")
    kept = figure.as_dict()["look"]
    assert kept == LOOK | {"ylim": [20.0, 40.0]}
    assert read_look(kept, "manifest") == figure.look
    assert read_figure(FIGURE, "mine.toml").as_dict()["look"] == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": "linear"}, {"order": [1]}, {"label": "KLT"}, {"label": {"linear": 3}}, {"colour": ["red"]},
        {"ylim": [40, 20]}, {"ylim": [1]}, {"ylim": "20,40"}, {"ylim": [1, float("nan")]}, {"ylim": [0, 10**400]},
        {"ylim": [True, 4]}, {"kind": 3}, {"kind": "../x"}, {"ylim": [float("-inf"), 0]},
        {"colour": {"linear": "reddish"}}, {"colour": {"linear": ""}},
    ],
)  # fmt: skip
def test_bad_looks_are_one_line(wrong):
    with pytest.raises(UserError, match="mine.toml: " + next(iter(wrong))):
        read_figure(FIGURE | wrong, "mine.toml")


@pytest.mark.parametrize(
    "label", ["", " ", "\t\n", "\u00a0\u2003", "\u200b", "\ufeff \u2060", "\u3164", "\u2800", "\u0301"]
)
def test_no_label_of_a_file_is_blank(label):
    with pytest.raises(UserError, match="mine.toml: label of 'mine' is blank"):
        read_figure(FIGURE | {"label": {"mine": label}}, "mine.toml")
    with pytest.raises(UserError, match="NAME=TEXT"):
        parse_labels((f"linear={label}",))


@pytest.mark.parametrize("label", ["GenSC, undertrained", "A bound", "GenSC", "Ours"])
def test_no_file_renames_a_system_of_the_bench(label):
    with pytest.raises(UserError, match="mine.toml: label of 'gensc': .* plot --label gensc=TEXT"):
        read_figure(FIGURE | {"label": {"gensc": label}}, "mine.toml")


@pytest.mark.parametrize("colour", ["#FFFFFF", "white", "#ffffe0", "yellow", "0.9"])
def test_no_colour_of_a_file_is_lost_on_white(colour):
    with pytest.raises(UserError, match="mine.toml: colour of 'linear': .* is too light"):
        read_figure(FIGURE | {"colour": {"linear": colour}}, "mine.toml")


def test_a_colour_s_name_is_kept_as_a_number():
    assert read_figure(FIGURE | {"colour": {"linear": "teal"}}, "mine.toml").look.colour == {"linear": "#008080"}


def test_a_label_makes_no_other_run(tmp_path):
    """The hash that names a run's folder and identifies its cells does not include how the figure is drawn."""
    lines = [
        'id = "mine"',
        'task = "reconstruction"',
        'dataset = "photos-224"',
        'systems = ["linear"]',
        "snr_db = [10]",
        'cbr = "1/16"',
    ]
    folders = set()
    for extra in ([], ["order = ['linear']", "colour = {linear = 'teal'}", "ylim = [20, 40]"]):
        path = tmp_path / "mine.toml"
        path.write_text("\n".join(lines + extra))
        folders.add(resolve(Request(figures=(str(path),), limit=1)).default_folder)
    assert len(folders) == 1


def test_pictures_are_kept_at_the_nearest_points_of_another_sweep():
    figure = read_figure(FIGURE | {"snr_db": "0:20:2", "pictures": {"snr_db": [4, 18]}}, "mine.toml")
    assert with_snr(figure, (0.0, 10.0, 20.0)).pictures.snr_db == (0.0, 20.0)
    assert with_snr(figure, (4.0, 18.0)).pictures.snr_db == (4.0, 18.0)
    assert with_snr(figure, (7.0,)).pictures.snr_db == (7.0,)
