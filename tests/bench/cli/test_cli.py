"""Tests of the command line: what it accepts, what it refuses with one line and exit code 2, and which files it leaves
unchanged.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import EXAMPLE, ROOT, bench, bench_each, call, environment, rows, without_costs
from made_run import figure, make_run

from bench.cli import COMMANDS

BASE = (
    "run",
    "--systems",
    "t-plain",
    "--dataset",
    "folder:pictures",
    "--cbr",
    "1/6",
    "--snr",
    "0:8:4",
    "--engine",
    "serial",
)


#: The same for a system of the bench, which needs no process of its own: for tests that any system can serve.
OWN = (*BASE, "--systems", "linear")


@pytest.mark.parametrize("package", ["click", "pandas"])
def test_a_python_without_the_packages_is_told_in_one_line(package, tmp_path):
    """Such as that of a shell in which the virtual environment is not active."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "claims", "nothing"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: the package {package} is not installed") and "pip install -e ." in line


def test_help_is_quick_and_imports_nothing_heavy():
    times = []
    for _ in range(3):  # best of three: other work on the machine must not count
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "bench", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - start)
    assert all(name in done.stdout for name in COMMANDS)
    bare = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import click"], check=True)
    bare = time.perf_counter() - bare
    assert min(times) < max(0.3, 3 * bare)  # on a loaded machine `import click` alone takes longer than 0.3 s
    script = (
        "import sys\nfrom bench.cli import cli\n"
        "for name in cli.list_commands(None): cli.get_command(None, name)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'PIL', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_help_says_the_time_limit_of_a_cell(capsys):
    from bench.sweep.worker.work import CELL_SECONDS

    _, out, _ = call(capsys, "run", "--help")
    said = out.split("--cell-timeout S")[1].split("--batch")[0]
    assert f"[default: {CELL_SECONDS:g}]" in " ".join(said.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0 and out.startswith("Usage: python -m bench")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--systems", "t-plian"), "did you mean t-plain"),
        (("--systems", "deepjcss"), "did you mean deepjscc"),
        (("--systems", "all,t-plain"), "cannot be combined"),
        (("--systems", "t-labels"), "t-labels"),
        (("--snr", "0:8:3"), "do not reach"),
        (("--snr", "0:8:0"), "step is 0"),
        (("--snr", "x"), "not a number"),
        (("--channel", "rayleigh"), "did you mean rayleigh"),
        (("--dataset", "photo-224"), "did you mean photos-224"),
        (("--dataset", "folder:none"), "no such folder; name a folder of pictures"),
        (("--dataset", f"folder:{__file__}"), "this is a file; name a folder of pictures"),
        (("--dataset", "kodak", "--data-root", "nowhere"), "data fetch kodak"),
        (("--figure", "fig8"), "unknown figure"),
        (("--figure", "mine.toml"), "No such file"),
        (("--figure", "fig7"), "fig7"),
        (("--cbr", "two"), "not a ratio"),
        (("--cbr", "1/2000"), "raise the budget"),
        (("--cbr", "1/99999", "--dry-run"), "CBR 1.00001e-05 gives t-plain no channel use"),
        (("--kbits", "20"), "--kbits has no effect"),
        (("--size", "small"), "--size has no effect"),
        (("--checkpoint", "x.safetensors"), "--checkpoint"),
        (("--limit", "0"), "limit"),
        (("--reps", "none"), "reps"),
        (("--engine", "threads"), "engine"),
        (("--device", "cuda:99"), "CUDA device"),
        (("--device", "tpu"), "--device tpu"),
        (("--config", "none.toml"), "No such file"),
        (("--sytems", "a"), "--systems"),
        (("--out", "a-file"), "is a file"),
        (("--out", "a-file/below"), "cannot write"),
        (("--out", "papers"), "not a run"),
        (("--dry-run", "--force"), "--dry-run"),
        (("--out", ""), "names no folder"),
        (("--salt", "xyz", "--dry-run"), "--salt 'xyz'"),
    ],
)
def test_bad_input_is_one_line_and_code_2_and_writes_nothing(near_systems, place, capsys, arguments, words):
    (place / "a-file").write_text("x")
    (place / "papers").mkdir()
    (place / "papers" / "thesis.tex").write_text("x")
    before = sorted(path for path in place.rglob("*") if path.name != "log")
    code, out, err = call(capsys, *BASE, *arguments)
    assert code == 2 and out == ""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0] and err.splitlines()[-1] == errors[0]
    assert sorted(path for path in place.rglob("*") if path.name != "log") == before


def test_a_corrupt_picture_is_found_before_anything_is_written(near_systems, place, capsys):
    picture = place / "pictures" / "p03.png"
    picture.write_bytes(picture.read_bytes()[:-200])
    code, _, err = call(capsys, *BASE, "--out", "run")
    assert code == 2 and "p03.png" in err and not (place / "run").exists()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(place, capsys):
    (place / "locked").mkdir(mode=0o500)
    code, _, err = call(capsys, *BASE, "--out", "locked/run")
    assert code == 2 and "cannot write" in err


def test_a_run_its_resume_and_another_configuration(near_systems, place, capsys):
    code, out, err = call(capsys, *BASE, "--out", "run")
    assert code == 0 and "SNR: 0, 4, 8 dB" in err and "6 cells, 0 cached" in err
    mean = next(
        r["mean"] for r in rows(place / "run" / "summary.csv") if (r["metric"], r["snr_db"]) == ("psnr_db", "4.0")
    )
    assert "t-plain" in out and f"{float(mean):.2f}" in out
    code, _, err = call(capsys, *BASE, "--out", "run")
    assert code == 0 and "6 cached, 0 to compute" in err
    samples = (place / "run" / "samples.csv").read_bytes()
    for change in (("--seed", "1"), ("--cbr", "1/5"), ("--channel", "rayleigh-fast")):
        code, _, err = call(capsys, *BASE, *change, "--out", "run")
        assert code == 2 and "another configuration" in err, err
    assert (place / "run" / "samples.csv").read_bytes() == samples


def test_the_default_folder_is_found_again(place, capsys):
    call(capsys, *OWN)
    (first,) = (place / "results").iterdir()
    _, _, err = call(capsys, *OWN)
    assert list((place / "results").iterdir()) == [first] and "6 cached" in err
    _, _, err = call(capsys, *OWN, "--snr", "3")  # the run grows
    assert list((place / "results").iterdir()) == [first] and "2 to compute" in err
    call(capsys, *OWN, "--cbr", "1/5")
    assert len(list((place / "results").iterdir())) == 2
    from bench.results.find import find_run

    assert find_run() != first.relative_to(place) and find_run(first.name) == first.relative_to(place)
    code, _, err = call(capsys, "plot", "nothing")
    assert code == 2 and "no run there" in err


def test_negative_ranges_pass_the_parser(place, capsys):
    code, _, err = call(capsys, *OWN, "--snr", "-5:5:5", "--out", "run")
    assert code == 0 and "SNR: -5, 0, 5 dB" in err
    assert {float(row["snr_db"]) for row in rows(place / "run" / "samples.csv")} == {-5, 0, 5}


def test_a_run_says_what_it_is_about_before_torch_is_loaded(place, capsys):
    """Of systems that are known already. Torch takes seconds to load; here it cannot be, and the line is there."""
    plan = ["run", "--systems", "jpeg-ldpc-16qam", "--dataset", "folder:pictures", "--snr", "0:20:2", "--out", "run"]
    assert call(capsys, *plan, "--dry-run")[0] == 0
    script = (
        "import json, sys\n"
        "class NoTorch:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'torch':\n            sys.stderr.write('torch is asked for\\n')\n            sys.exit(9)\n"
        "sys.meta_path.insert(0, NoTorch)\n"
        "from bench.cli import main\nmain(json.loads(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(plan)], env=environment([]), capture_output=True, text=True
    )
    assert done.stderr.splitlines() == ["SNR: 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 dB", "torch is asked for"]


def test_what_computes_nothing_never_loads_torch(place, capsys):
    """True for plans with systems that are known already, and for every command on a finished run."""
    plan = ("run", "--systems", "gensc,jpeg-ldpc-16qam", "--dataset", "folder:pictures", "--snr", "0:20:2", "--dry-run")
    assert call(capsys, *plan)[0] == 0
    made = str(
        make_run(place / "made", [figure("fig4", ["gensc", "linear"])], lambda f, system, snr, index: 20 + snr / 2)
    )
    commands = [
        list(plan),
        ["list"],
        ["compare", "gensc", "linear", "--run", made],
        ["claims", made],
        ["plot", made],
    ]
    script = (
        "import json, sys\nfrom bench.cli import main\nfor command in json.loads(sys.argv[1]):\n"
        "    try:\n        main(command)\n"
        "    except SystemExit as stop:\n        assert stop.code == 0, (command, stop.code)\n"
        "    assert 'torch' not in sys.modules, command\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(commands)],
        env=environment([]),
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_dry_run_touches_nothing(place, capsys):
    code, out, _ = call(capsys, *OWN, "--dry-run", "--out", "run")
    assert code == 0 and "6 cells, 0 cached, 6 to compute" in out and not (place / "run").exists()
    assert (
        "384 uses = 1536 bits (32x24)" in out or "384 uses = 1536 bits (24x32)" in out
    )  # 24 * 32 * 3 / 6, 4 bits a use
    call(capsys, *OWN, "--out", "run")
    times = {path: path.stat().st_mtime_ns for path in (place / "run").rglob("*")}
    _, out, _ = call(capsys, *OWN, "--dry-run", "--out", "run")
    assert "6 cells, 6 cached, 0 to compute" in out
    assert times == {path: path.stat().st_mtime_ns for path in (place / "run").rglob("*")}


def test_config_file_fills_only_what_the_command_line_leaves(near_systems, place, capsys):
    (place / "my.toml").write_text(
        'systems = ["t-plain", "t-snr"]\ndataset = "folder:pictures"\ncbr = 0.25\nsnr = "0:8:4"\nlimit = 3\nseed = 7\n'
        'engine = "serial"\ndata-root = "."\n'
    )
    code, _, _ = call(capsys, "run", "--config", "my.toml", "--snr", "2", "--seed", "0", "--out", "run")
    assert code == 0
    config = json.loads((place / "run" / "manifest.json").read_text())["config"]
    figure = config["figures"][0]
    assert (figure["systems"], figure["cbr"], figure["snr_db"]) == (["t-plain", "t-snr"], 0.25, [2])
    # an option on the command line wins, even where it equals the default
    assert (config["limit"], config["seed"]) == (3, 0)
    assert {row["cbr_target"] for row in rows(place / "run" / "samples.csv")} == {"0.25"}
    for line, words in (
        ("sytems = 'a'", "unknown key 'sytems'; did you mean systems"),
        ("limit = 'x'", "limit"),
        ("limit = 0", "limit"),
        ("force = 'yes'", "true or false"),
        ("engine = 'threads'", "engine"),
        ("snr = true", "text or a number"),
        ("config = 'b.toml'", "unknown key 'config'"),
        ("slurm = 3", "table"),
        ("x = ", "not valid TOML"),
    ):
        (place / "bad.toml").write_text(line + "\n")
        code, _, err = call(capsys, *BASE, "--config", "bad.toml", "--out", "other")
        assert code == 2 and words in err and not (place / "other").exists(), line


def test_systems_are_filtered_by_task(near_systems, place, capsys):
    how = ("run", "--snr", "8", "--limit", "1", "--dry-run")
    code, out, err = call(capsys, *how, "--systems", "t-plain,t-labels")
    assert code == 0 and "fig4" in out and "fig7" in out
    parts = {part.split(":")[0]: part for part in out.split("\n\n")[1:]}
    assert "t-labels" not in parts["fig4"] and "t-plain" not in parts["fig7"] and "t-labels" in parts["fig7"]
    code, out, err = call(capsys, *how, "--systems", "t-plain")
    assert code == 0 and "fig7:" not in out and "fig7 is left out" in err
    code, _, err = call(capsys, *how, "--systems", "t-plain,t-labels", "--figure", "fig4,fig5")
    assert code == 2 and "'t-labels' does segmentation" in err


def test_failures_end_with_a_summary_and_code_1_or_2(near_systems, place, capsys):
    arguments = (*BASE, "--systems", "t-faulty,t-plain", "--out", "run")
    (place / "faults" / "error").touch()
    code, out, err = call(capsys, *arguments)
    assert (
        code == 1
        and "t-faulty: RuntimeError: the decoder broke (2 cells; traceback: run/failures/" in err
        and "Traceback" not in err
    )
    assert "2 of 12 cells failed" in err and "--retry-failed" in err
    assert next(line for line in out.splitlines() if line.startswith("t-faulty")).split()[2] == "-"  # empty, never 0
    (place / "faults" / "error").unlink()
    (place / "faults" / "user").touch()
    code, _, err = call(capsys, *arguments)
    assert code == 2 and "an input is wrong" in err
    (place / "faults" / "user").unlink()
    code, _, _ = call(capsys, *arguments, "--retry-failed")
    assert code == 0


def test_arguments_in_the_manifest_hold_no_home(place, monkeypatch):
    from bench.util.environment import without_paths

    arguments = [
        "run",
        "--data-root",
        "/home/ann/data",
        "--dataset=folder:/home/ann/p",
        "--out",
        "~/runs/a",
        "--checkpoint=../ann/w.safetensors",
        "--snr",
        "0:4:4",
    ]
    assert without_paths(arguments) == [
        "run", "--data-root", ".../data", "--dataset=folder:.../p", "--out", ".../a",
        "--checkpoint=.../w.safetensors", "--snr", "0:4:4"]  # fmt: skip


def test_the_manifest_holds_the_arguments_that_main_was_given(place, capsys):
    assert call(capsys, *OWN, "--snr", "4", "--out", place / "run")[0] == 0
    argv = json.loads((place / "run" / "manifest.json").read_text())["argv"]
    assert argv == [*OWN, "--snr", "4", "--out", ".../run"]


def test_lists_that_name_nothing_are_refused(place, capsys):
    for arguments in (("run", "--systems", ""), ("run", "--figure", " ,"), ("train", "--systems", "")):
        code, _, err = call(capsys, *arguments)
        assert code == 2 and "names nothing" in err and len(err.splitlines()) == 1


def test_figure_files_that_do_not_fit_together(near_systems, place, capsys):
    text = 'id="{}"\ntask="reconstruction"\ndataset="folder:pictures"\nsystems=["{}"]\ncbr="1/6"\nsnr_db=[4,8]\n'
    shown = '[pictures]\nid="{}"\nsnr_db=[4]\n'
    (place / "a.toml").write_text(text.format("a", "t-plain") + shown.format("b"))
    (place / "b.toml").write_text(text.format("b", "t-plain"))
    (place / "c.toml").write_text(text.format("c", "t-plian"))
    code, _, err = call(capsys, "run", "--figure", "a.toml,b.toml", "--dry-run")
    assert code == 2 and "'b' is also the id of another figure" in err
    code, _, err = call(capsys, "run", "--figure", "c.toml", "--dry-run")
    assert code == 2 and "c.toml: unknown system 't-plian'" in err
    # a drawing of one figure would have the file of another's
    (place / "lpips.toml").write_text(text.format("b-lpips", "t-plain"))
    (place / "shows.toml").write_text(text.format("b-pictures", "t-plain"))
    (place / "own.toml").write_text(text.format("b", "t-plain") + shown.format("b"))
    (place / "wide.toml").write_text(text.format("b", "t-plain").replace('cbr="1/6"', 'cbr=["1/6", "1/3"]'))
    (place / "snr.toml").write_text(text.format("b-8dB", "t-plain"))
    for files, name in (
        ("b.toml,lpips.toml", "b-lpips"), ("own.toml,shows.toml", "b-pictures"), ("snr.toml,wide.toml", "b-8dB")
    ):  # fmt: skip
        code, _, err = call(capsys, "run", "--figure", files, "--dry-run")
        assert code == 2 and f"would both be drawn into the file {name};" in err and len(err.splitlines()) == 1
    assert call(capsys, "run", "--figure", "lpips.toml,snr.toml,shows.toml,b.toml", "--dry-run")[0] == 2
    assert call(capsys, "run", "--figure", "snr.toml,shows.toml,b.toml", "--dry-run")[0] == 0
    code, _, err = call(capsys, "run", "--figure", "b.toml,wide.toml", "--dry-run")
    assert code == 2 and "two figures have the id 'b'" in err
    # some file systems ignore case
    (place / "upper.toml").write_text(text.format("B", "t-plain"))
    (place / "upper-lpips.toml").write_text(text.format("B-LPIPS", "t-plain"))
    code, _, err = call(capsys, "run", "--figure", "b.toml,upper.toml", "--dry-run")
    assert code == 2 and "two figures have the id 'b' ('B' is the same name" in err and len(err.splitlines()) == 1
    assert "[pictures] id 'B' ('b' is the same" in call(capsys, "run", "--figure", "a.toml,upper.toml", "--dry-run")[2]
    code, _, err = call(capsys, "run", "--figure", "b.toml,upper-lpips.toml", "--dry-run")
    assert code == 2 and "would both be drawn into the file B-LPIPS;" in err
    # the override leaves out the SNR at which the figure's pictures are kept
    assert call(capsys, "run", "--figure", "a.toml", "--snr", "8", "--dry-run")[0] == 0


def test_slurm_writes_the_same_rows_and_collect_gathers_them(place, installed, capsys, monkeypatch):
    pytest.importorskip("submitit")
    for name, value in environment(installed, BENCH_SLURM_CLUSTER="local").items():  # of the jobs
        monkeypatch.setenv(name, value)
    command = [*BASE[:-2], "--limit", "4", "--salt", "5eed5a17"]
    code, _, err = call(capsys, *command, "--out", "cluster", "--engine", "slurm", "--workers", "1")
    assert code == 0, err
    assert call(capsys, *command, "--out", "serial", "--engine", "serial")[0] == 0
    assert without_costs(place / "cluster" / "samples.csv") == without_costs(place / "serial" / "samples.csv")
    before = (place / "serial" / "samples.csv").read_bytes()
    (place / "serial" / "samples.csv").unlink()
    assert call(capsys, *command, "--out", "serial", "--collect")[0] == 0
    assert (place / "serial" / "samples.csv").read_bytes() == before


def test_a_third_partys_package_is_found_once_installed(place, tmp_path):
    """pip installs the example package into a folder of its own; this repository stays unchanged."""
    target = tmp_path / "site"
    source = tmp_path / "example"
    source.mkdir()
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    assert len((source / "pooled_pixels.py").read_text().splitlines()) <= 45
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    env = environment([str(target)])
    run = ("run", "--systems", "pooled-pixels", "--dataset", "folder:pictures", "--snr", "0,20", "--cbr", "1/6",
           "--limit", "4", "--engine", "serial", "--out", "run")  # fmt: skip
    listed, _ = bench_each(("list", "systems"), run, env=env, cwd=place)
    means = {r["snr_db"]: float(r["mean"]) for r in rows(place / "run" / "summary.csv") if r["metric"] == "psnr_db"}
    assert means["20.0"] > means["0.0"] > 10
    table = rows(place / "run" / "samples.csv")
    assert all(abs(float(row["tx_power"]) - 1) < 1e-3 for row in table)
    assert "pooled-pixels" in listed


def test_ask_shows_scores_and_refuses_nonsense(capsys):
    code, out, _ = call(capsys, "ask", "please label every pixel")
    assert code == 0 and out.splitlines()[-1] == "-> segmentation"
    scores = {line.split()[0]: float(line.split()[1]) for line in out.splitlines()[:-1]}
    assert scores["segmentation"] > scores["reconstruction"]
    code, _, err = call(capsys, "ask", "what is the price of bread")
    assert code == 2 and "error: " in err and "segmentation 0." in err


def test_list_and_env(capsys):
    code, out, _ = call(capsys, "list")
    assert code == 0 and all(word in out for word in ("gensc", "photos-224", "rayleigh-fast", "fig7", "checkpoints"))
    code, out, _ = call(capsys, "env")
    assert code == 0 and "torch" in out and str(Path.home()) not in out


# ------------------------------------------------------------------------------------------- the command line itself


def test_bare_commands_show_help_with_code_0(capsys):
    for arguments in ((), ("data",), ("perf",)):
        code, out, err = call(capsys, *arguments)
        assert code == 0 and "Usage:" in out and err == "", arguments


def test_version_names_the_release_and_the_commit(capsys):
    code, out, _ = call(capsys, "--version")
    assert code == 0 and out.startswith("semantic-bench 0.") and len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("semantic-bench pl", {"plot"}),
        ("semantic-bench run --figure fig", {"fig4", "fig5", "fig7"}),
        ("semantic-bench run --systems linear,wi", {"linear,witt"}),
        ("semantic-bench run --channel rayleigh-f", {"rayleigh-fast"}),
        ("semantic-bench run --dataset div2k-v", {"div2k-valid-256"}),
        ("semantic-bench run --retry", {"--retry-failed"}),
    ],
)
def test_completion_offers_commands_options_and_names(words, expected, installed, capsys, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    monkeypatch.setenv("_SEMANTIC_BENCH_COMPLETE", "bash_complete")
    _, out, err = call(capsys)
    assert {line.partition(",")[2] for line in out.splitlines()} >= expected, out + err


def test_completion_after_an_unknown_command_offers_nothing_and_says_nothing(capsys, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", "semantic-bench rnu --sys")
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.setenv("_SEMANTIC_BENCH_COMPLETE", "bash_complete")
    code, out, err = call(capsys)
    assert (code, out.strip(), err) == (0, "", "")


@pytest.mark.parametrize("asked", ["garbage", "_", "bash_", "ksh_source", "bash_complete", "fish_complete"])
def test_what_no_shell_asks_for_is_one_line(asked, capsys, monkeypatch):
    """Also what a shell asks without the line that is to be completed."""
    monkeypatch.delenv("COMP_WORDS", raising=False)
    monkeypatch.setenv("COMP_CWORD", "x")
    monkeypatch.setenv("_SEMANTIC_BENCH_COMPLETE", asked)
    code, out, err = call(capsys, "list", "systems")
    assert code == 2 and out == "" and len(err.splitlines()) == 1
    assert "_SEMANTIC_BENCH_COMPLETE" in err and "unset it" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_what_the_shell_takes(shell, capsys):
    code, out, _ = call(capsys, "completion", shell)
    assert code == 0 and "_SEMANTIC_BENCH_COMPLETE" in out and "semantic-bench" in out
    if shutil.which(shell):  # the shell reads the script without an error
        done = subprocess.run([shell, "-n"] if shell != "fish" else ["fish", "--no-execute"], input=out, text=True,
                              capture_output=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr


#: In each shell: take the script, then press the tab key after "semantic-bench run --engine ser".
TAB = {
    "bash": 'eval "$(semantic-bench completion bash)"; COMP_WORDS=(semantic-bench run --engine ser); COMP_CWORD=3\n'
    '_semantic_bench_completion semantic-bench; echo "completed: $COMPREPLY"',
    "fish": "semantic-bench completion fish | source; "
    "echo completed: (complete --do-complete 'semantic-bench run --engine ser')",
    "zsh": """zmodload zsh/zpty; zpty shell zsh -f -i; zpty -w shell 'PS1=; autoload -U compinit; compinit -u -D'
    zpty -w shell 'eval "$(semantic-bench completion zsh)"'; zpty -w -n shell $'semantic-bench run --engine ser\\t'
    zpty -r shell line '*--engine serial*'; print -r -- $line""",
}


@pytest.mark.parametrize("shell", TAB)
def test_the_tab_key_completes_in_the_shell_itself(shell, installed, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    command = tmp_path / "semantic-bench"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bench "$@"\n')
    command.chmod(0o755)
    env = environment(installed)
    env |= {"PATH": os.pathsep.join([str(tmp_path), env["PATH"]]), "HOME": str(tmp_path), "TERM": "dumb"}
    done = subprocess.run([shell, "-c", TAB[shell]], env=env, capture_output=True, text=True, timeout=120)
    assert re.search(r"(completed: |--engine )serial", done.stdout), done.stdout + done.stderr


def test_output_that_cannot_be_shown_or_written_is_no_traceback(installed, tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "фото.png")
    env = environment(installed, PYTHONIOENCODING="cp1252")
    done = bench("data", "info", f"folder:{tmp_path}", env=env, cwd=tmp_path)
    assert done.returncode == 0 and "\\u0444\\u043e\\u0442\\u043e  8x8" in done.stdout
    command = f"{sys.executable} -m bench list figures"
    for redirect, code in ((">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), ("> /dev/full", 1)):
        done = subprocess.run(
            ["sh", "-c", f"{command} {redirect}"], env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code and "Traceback" not in done.stderr, (redirect, done.stderr)
    done = subprocess.run(["sh", "-c", f"{command} | head -c 3"], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "fig" and done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--out", "a\0b"), ("data", "info", "folder:a\0b"), ("run", "--out", "x" * 300, "--dry-run"),
        ("run", "--config", "y" * 5000), ("run", "--figure", "z" * 300 + ".toml"), ("claims", "x" * 300),
        ("run", "--dataset", "folder:~nobody-of-this-name"), ("data", "info", "\udcff", "--data-root", "\udcff"),
    ],
)  # fmt: skip
def test_paths_that_no_file_can_have_are_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *arguments)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and list(tmp_path.iterdir()) == []


def test_keys_are_listed_with_their_meaning(capsys):
    code, out, _ = call(capsys, "list", "keys")
    assert code == 0
    for words in ("snr_db", "training protocol, [tasks.NAME]", "size of gensc", "images_seen", "start:stop:step"):
        assert words in out
    rows = [re.split(r" {2,}", line.strip()) for line in out.splitlines() if line.startswith("  ")]
    assert len(rows) > 100 and [row[0] for row in rows if len(row) != 3] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--systems", "jpeg-ldpc-16qam", "--dataset", "photos", "--code-rate", "1e99999999", "--dry-run"),
        ("run", "--systems", "linear", "--dataset", "photos", "--cbr", "1e99999999", "--dry-run"),
        ("run", "--figure", "fig7", "--kbits", "1e99999999", "--dry-run"),
        ("run", "--systems", "linear", "--dataset", "photos", "--reps", "9" * 23, "--dry-run"),
        ("refine", "--steps", "99999999999999999999"),
    ],
)
def test_numbers_that_no_run_can_take_are_refused_at_once(arguments, capsys):
    code, _, err = call(capsys, *arguments)
    assert code == 2 and len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
