"""`python -m bench runs` lists what is under results/; and a command without a run's name says which run it took."""

import json
import os

import pytest
from made_run import figure, make_run

from bench.cli import main
from bench.results.store import RunStore


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two runs, the limited one older."""
    for name, systems, limited in (("old", ["linear"], True), ("new", ["gensc", "linear", "witt", "adjscc"], False)):
        run = make_run(
            tmp_path / "results" / name, [figure("fig4", systems)], lambda e, s, snr, i: 26 + i, limited=limited
        )
        path = run / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"argv": ["run", "--figure", "fig4"]}))
        os.utime(path, ns=(0, 10**9 * (1 if limited else 2)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_runs_are_listed_with_what_they_hold(place, capsys):
    code, out, _ = call(capsys, "runs")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0 and set(lines) == {"old", "new"}
    assert "fig4: gensc, linear, witt and 1 more" in lines["new"] and "LIMITED" not in lines["new"]
    assert "LIMITED" in lines["old"] and "[python -m bench run --figure fig4]" in lines["old"]
    assert all(" cells " in line and " MiB " in line for line in lines.values())
    code, out, _ = call(capsys, "runs", "new", "--long")
    assert code == 0 and "systems  gensc, linear, witt, adjscc" in out and "old" not in out


def test_a_run_that_cannot_be_read_is_one_line_of_the_list(place, capsys):
    (place / "results" / "old" / "manifest.json").write_text("{")
    code, out, _ = call(capsys, "runs")
    assert code == 0 and len(out.splitlines()) == 2 and "new" in out


def test_without_a_name_the_last_run_is_taken_and_named(place, capsys):
    code, _, err = call(capsys, "compare", "gensc", "linear")
    assert code == 0 and err.startswith("the last run: results/new\n")
    code, _, err = call(capsys, "runs", "newer")
    assert code == 2 and "did you mean new?" in err and len(err.splitlines()) == 1


def test_a_run_that_goes_on_is_not_compressed(place, capsys):
    run = place / "results" / "new"
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.suffix in (".csv", ".xz")}
    assert "samples.csv" in before
    with RunStore(run).locked():
        code, out, err = call(capsys, "runs", "new", "--compress")
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and "results/new" in err
    assert before == {path.name: path.read_bytes() for path in run.iterdir() if path.suffix in (".csv", ".xz")}
    code, out, _ = call(capsys, "runs", "new", "--compress")
    assert code == 0 and "samples.csv.xz" in out and not (run / "samples.csv").exists()


@pytest.mark.parametrize("cut", [lambda text: text[:-20], lambda text: text.replace(",4.0,", ",four,", 1)])
def test_a_damaged_table_is_not_compressed(place, capsys, cut):
    table = place / "results" / "new" / "samples.csv"
    table.write_text(cut(table.read_text()))
    damaged = table.read_bytes()
    code, out, err = call(capsys, "runs", "new", "--compress")
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and "samples.csv: not a CSV table" in err
    assert table.read_bytes() == damaged and not table.with_name("samples.csv.xz").exists()


def test_files_that_vanish_while_runs_are_listed_count_nothing(place, capsys, monkeypatch):
    """A run that goes on renames its cells between the moment at which a folder is read and that of asking their
    sizes.
    """
    gone, walk = place / "results" / "new" / "half-written", os.walk
    sizes = [line.split(" cells ")[1].split(" MiB ")[0] for line in call(capsys, "runs")[1].splitlines()]

    def slow_walk(folder):
        gone.write_bytes(bytes(1 << 20))
        found = list(walk(folder))
        gone.unlink()
        return found

    monkeypatch.setattr(os, "walk", slow_walk)
    code, out, err = call(capsys, "runs")
    assert code == 0 and err == ""
    assert sizes == [line.split(" cells ")[1].split(" MiB ")[0] for line in out.splitlines()]
