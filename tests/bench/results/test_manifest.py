"""Tests that an edited or damaged manifest gives one line with the file's name, wherever a run is opened."""

from __future__ import annotations

import copy
import csv
import gzip
import itertools
import json
import lzma
import os
from pathlib import Path

import pandas as pd
import pytest
from harness import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from made_run import figure, make_run

from bench.results.find import facts_of_run, find_run, find_system
from bench.results.manifest import problem_of, read_manifest, schema
from bench.results.reader import Run
from systems.errors import UserError

GOOD = json.loads((ROOT / "results" / "reference" / "manifest.json").read_text(encoding="utf-8"))
KEYWORDS = {
    "$schema", "title", "description", "type", "enum", "required", "properties", "additionalProperties", "items",
    "minItems", "pattern", "maxLength", "minimum", "maximum",
}  # fmt: skip


def test_the_committed_manifest_fits_and_the_schema_uses_what_the_check_knows():
    assert problem_of(GOOD, schema()) is None

    def keywords(rules):
        for key, value in rules.items():
            yield key
            if key in ("items", "additionalProperties"):
                yield from keywords(value)
            if key == "properties":
                for own in value.values():
                    yield from keywords(own)

    assert set(keywords(schema())) <= KEYWORDS


def put(manifest, path, value):
    changed = copy.deepcopy(manifest)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


FIGURE = ("config", "figures", 0)


def test_the_committed_run_keeps_the_pictures_of_every_system():
    """A folder that lost some draws Fig. 6 with "not simulated", and no command fails."""
    with (ROOT / "results" / "reference" / "pictures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for entry in GOOD["config"]["figures"]:
        asked = entry["pictures"]
        shown = {row["image_id"] for row in rows if row["figure"] == asked["id"] and row["kind"] == "output"}
        assert len(shown) == (asked["limit"] if asked["snr_db"] else 0)
        kept = {
            (row["system"], float(row["snr_db"]), row["image_id"]) for row in rows if row["figure"] == asked["id"] != ""
        }
        wanted = set(itertools.product(entry["systems"], asked["snr_db"], shown))
        assert wanted <= kept, f"{asked['id']}: no picture of {sorted(wanted - kept)}"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ((*FIGURE, "id"), "../../evil", r"config.figures\[0\].id"),
        ((*FIGURE, "id"), "fig4\n", r"config.figures\[0\].id"),
        ((*FIGURE, "id"), "x" * 300, r"config.figures\[0\].id"),
        ((*FIGURE, "snr_db"), 3, r"snr_db is 3, it must be array"),
        ((*FIGURE, "snr_db"), [float("nan")], "NaN"),
        ((*FIGURE, "snr_db"), [1e400], "Infinity"),
        ((*FIGURE, "systems"), [["gensc"]], r"systems\[0\] is an array"),
        ((*FIGURE, "bits"), 10**400, "a huge number"),
        ((*FIGURE, "cbr"), True, "cbr is true"),
        ((*FIGURE, "pictures"), {"id": "../x", "snr_db": []}, "pictures.id"),
        ((*FIGURE, "budgets_of"), "/etc", "budgets_of"),
        ((*FIGURE, "task"), "painting", "it must be one of reconstruction, segmentation"),
        (("config", "figures", 1, "id"), "fig4", "two of config.figures have the id 'fig4'"),
        (("config", "figures", 1, "id"), "FIG4", r"have the id 'fig4' \('FIG4' is the same name"),
        (("config",), None, "config is null"),
        (("config", "figures"), {}, "config.figures is an object"),
        (("sessions",), None, "sessions is null"),
        (("argv",), "run", "argv"),
        (("systems",), [], "systems is an array"),
        (("systems", "gensc"), 3, "systems.gensc is 3"),
        (("datasets", "voc2012", "files"), ["a"], "datasets.voc2012.files"),
        (("limited",), "yes", 'limited is .yes.'),
        (("cells", "done"), "all", "cells.done"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path, path, value, words):
    (tmp_path / "manifest.json").write_text(json.dumps(put(GOOD, path, value)))
    with pytest.raises(UserError, match=words) as error:
        Run.open(tmp_path)
    message = str(error.value)
    assert message.startswith(str(tmp_path / "manifest.json")) and "\n" not in message and len(message) < 500
    assert facts_of_run(tmp_path).problem == message


@pytest.mark.parametrize("content", [b"[" * 10_000, b'{"a":' * 10_000, b"\xff\xfe{}", b"", b"null", b"[]", b"{}", b"7"])
def test_bytes_that_are_no_manifest_are_one_line(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json: ") as error:
        read_manifest(tmp_path)
    assert "\n" not in str(error.value)


def test_what_systems_say_of_themselves_cannot_break_a_reader(tmp_path):
    deep: dict = {}
    for _ in range(300):
        deep = {"deep": deep}
    odd = {"parameters": "many", "images_seen": [1], "knowledge": 7, "data": deep, "undertrained": "perhaps"}
    run = Run.open(make_run(tmp_path / "run", [figure("fig4", ["a"])], lambda *_: 30.0, systems={"a": odd}))
    facts = run.system_facts["a"]
    assert facts["parameters"] is None and facts["knowledge"] == "7"
    assert "images_seen" not in facts and "data" not in facts


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(value, at=()):
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if len(at) < 5:
            yield from paths(item, (*at, key))


SMALL = {key: GOOD[key] for key in ("schema", "run", "argv", "limited", "cells", "sessions", "start")} | {
    "config": {"figures": GOOD["config"]["figures"][:2]},
    "systems": {"gensc": {"variant": "a", "options": {}, "images_seen": {"reconstruction": 1}}},
    "datasets": {"div2k_valid256": {"files": {"0801": {"image": "ab"}}, "demonstration": False}},
}
PATHS = [path for path in paths(SMALL) if path]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PATHS), json_values)
def test_any_edit_is_read_or_refused_in_one_line(tmp_path_factory, path, value):
    """Any value may be replaced by any other: the run opens and answers every question, or reports the error."""
    folder = tmp_path_factory.getbasetemp() / "edited"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(put(SMALL, path, value)))
    facts_of_run(folder)
    try:
        run = Run.open(folder)
    except UserError as error:
        assert "\n" not in str(error) and str(folder) in str(error)
        return
    for shown in run.figures:
        assert len(run.summary_of(shown)) == len(run.samples_of(shown)) == len(run.pictures_of(shown)) == 0
        run.picture_hashes(shown["dataset"])
        run.is_demonstration(shown["dataset"])
    assert isinstance(run.name, str) and isinstance(run.system_facts, dict) and run.limited in (True, False)


def test_pictures_lie_inside_the_run(tmp_path):
    run = Run.open(make_run(tmp_path / "run", [figure("fig4", ["a"])], lambda *_: 30.0))
    for file in ("../secret.png", "/etc/passwd", "pictures/../../x.png", "a\\..\\b"):
        with pytest.raises(UserError, match="outside the run"):
            run.picture(file)


def test_a_report_holds_no_picture_from_outside_the_run(tmp_path):
    """A run may come from somebody else, and a report is sent on: neither a path nor a link leads out of the folder."""
    from PIL import Image

    from bench.report.html.embed import _uri

    run = Run.open(make_run(tmp_path / "run", [figure("fig4", ["a"])], lambda *_: 30.0))
    (tmp_path / "run/pictures").mkdir(exist_ok=True)
    for place in ("secret.png", "run/pictures/own.png"):
        Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / place)
    (tmp_path / "run/pictures/link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "run/pictures/program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    os.mkfifo(tmp_path / "run/pictures/pipe.png")
    shown = {
        file: _uri(run, pd.DataFrame({"file": [file]}))
        for file in ("../secret.png", str(tmp_path / "secret.png"), "pictures/link.png", "pictures/program.png",
                     "pictures/pipe.png", "pictures/own.png")
    }  # fmt: skip
    assert [file for file, uri in shown.items() if uri] == ["pictures/own.png"]


class TestWhichRun:
    def made(self, tmp_path, monkeypatch, *names):
        monkeypatch.chdir(tmp_path)
        for name in names:
            make_run(tmp_path / "results" / name, [figure("fig4", ["a", "b"])], lambda *_: 30.0, images=["i"])

    def test_the_last_run_is_named(self, tmp_path, monkeypatch, capsys):
        self.made(tmp_path, monkeypatch, "one", "two")
        assert find_run() == Path("results/two") and "the last run: results/two" in capsys.readouterr().err
        assert find_run("one") == Path("results/one") and capsys.readouterr().err == ""
        with pytest.raises(UserError, match="did you mean one"):
            find_run("onee")
        for odd in ("a\0b", "x" * 5000):
            with pytest.raises(UserError, match="no run there"):
                find_run(odd)

    def test_a_system_of_a_run_is_taken_apart_in_one_place(self, tmp_path, monkeypatch):
        self.made(tmp_path, monkeypatch, "one", "odd:name")
        assert find_system("one") == (Path("results/one"), "") and find_system("one:a") == (Path("results/one"), "a")
        assert find_system("odd:name") == (Path("results/odd:name"), "")
        assert find_system("odd:name:b") == (Path("results/odd:name"), "b") and find_system("gensc") == (None, "gensc")
        with pytest.raises(UserError, match="no run there"):
            find_system("none:a")

    def test_the_list_of_runs(self, tmp_path, monkeypatch):
        from click.testing import CliRunner

        from bench.cli.runs import runs_command

        self.made(tmp_path, monkeypatch, "one", "two")
        (tmp_path / "results" / "two" / "manifest.json").write_text("{")
        done = CliRunner().invoke(runs_command, [])
        lines = done.output.splitlines()
        assert done.exit_code == 0 and len(lines) == 2
        assert any(line.startswith("one") and "fig4: a, b" in line and "MiB" in line for line in lines)
        assert any(line.startswith("two") and "cannot read this manifest" in line for line in lines)
        size = sum(path.stat().st_size for path in (tmp_path / "results" / "one").rglob("*") if path.is_file())
        assert facts_of_run(tmp_path / "results" / "one").size == size

    def test_a_compressed_run_reads_as_before(self, tmp_path, monkeypatch):
        from click.testing import CliRunner

        from bench.cli.runs import runs_command

        self.made(tmp_path, monkeypatch, "one")
        before, points = Run.open("results/one").samples, Run.open("results/one").summary
        done = CliRunner().invoke(runs_command, ["one", "--compress"])
        assert done.exit_code == 0 and len(done.output.splitlines()) == 3
        files = {path.name for path in (tmp_path / "results" / "one").iterdir()}
        assert {"samples.csv.xz", "confusion.csv.xz"} <= files and "samples.csv" not in files
        assert Run.open("results/one").samples.equals(before)
        assert Run.open("results/one").summary.equals(points)  # no number here has more than nine digits
        packed = tmp_path / "results" / "one" / "samples.csv.xz"
        data = packed.read_bytes()
        packed.write_bytes(data[:-9])
        with pytest.raises(UserError, match="not a whole xz file"):
            Run.open("results/one").samples  # noqa: B018
        packed.unlink()
        (tmp_path / "results" / "one" / "samples.csv.gz").write_bytes(gzip.compress(lzma.decompress(data)))
        assert Run.open("results/one").samples.equals(before)
