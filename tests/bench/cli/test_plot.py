"""Tests of `python -m bench plot`: its options reach the figures; an error is one line, and then no file is written."""

import pytest
from made_run import figure, make_run

from bench.cli import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    spec = figure("fig4", ["gensc", "linear"], snrs=[0.0, 10.0, 20.0])
    return make_run(tmp_path_factory.mktemp("runs") / "made", [spec], lambda e, s, snr, i: 26 + i + 0.4 * snr)


def call(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["plot", *map(str, words)])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_options_reach_the_figure(capsys, made, tmp_path):
    out = tmp_path / "thesis"
    code, text, _ = call(
        capsys, made, "--out", out, "--format", "svg", "--systems", "linear,gensc", "--label", "gensc=Ours & <mine>",
        "--ylim", "20:45", "--no-bands", "--no-caption", "--highlight", "linear", "--style", "ieee",
    )  # fmt: skip
    assert code == 0 and text.split() == [str(out / "fig4.svg")]
    assert [path.name for path in out.iterdir()] == ["fig4.svg"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "gif"], "--format"), (["--systems", "gensk"], "did you mean gensc"),
        (["--label", "gensc"], "NAME=TEXT"),
        (["--ylim", "9,1"], "--ylim"), (["--highlight", "nobody"], "--highlight"),
        (["--relative-to", "x"], "--relative-to"),
        (["--style", "ieeee"], "--style"), (["--figure", "fig5"], "fig4"),
        (["--figure", ""], "--figure"), (["--figure", " ,"], "--figure"),
        (["--systems", ""], "--systems"), (["--dpi", "1"], "--dpi"),
        (["nosuchrun"], "nosuchrun"), (["nosuchrun:gensc"], "nosuchrun"),
    ],
)  # fmt: skip
def test_bad_options_are_one_line_and_write_nothing(capsys, made, tmp_path, words, said):
    code, out, err = call(capsys, made, "--out", tmp_path / "out", *words)
    assert code == 2 and out == "" and said in err and len(err.strip().splitlines()) == 1 and "Traceback" not in err
    assert not (tmp_path / "out").exists()
