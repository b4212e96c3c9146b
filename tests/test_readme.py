"""Tests that the commands, options, outputs and links of the README and of the rooms' READMEs are right."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("bench", "baselines", "configs", "results")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *(page for room in ROOMS for page in sorted((ROOT / room).rglob("*.md"))))
    if not {"templates", "reference"} & set(path.parts)
}
#: Lines of the README that no test can run, and why. Their options are checked nevertheless.
NOT_RUN = {
    "git clone": "needs the address",
    "make": "installs gigabytes; `.ci/run` does it",
    ". .venv/bin/activate": "changes the reader's shell",
    "python -m bench train --systems all": "hours of training",
    "python -m bench data fetch": "needs a network beyond the package index",
    "python -m bench run --figure configs/reference/fig5.toml": "needs Kodak",
    "python -m bench plot ours": "needs the line above",
    "python -m bench run --figure fig4 --engine slurm": "needs a cluster; tests/slurm/real_cluster.py",
}


@dataclass
class Recipe:
    """The commands of one block of the README, the file shown before them, and the output shown after them."""

    commands: list[str]
    file: str = ""
    output: list[str] = field(default_factory=list)


def recipes(text: str) -> list[Recipe]:
    """The README's blocks of commands in their order. Listings of files are left out."""
    found, file = [], ""
    blocks = re.findall(r"(?:^ {4}\S.*\n)+|^```(?:toml|text)\n(?:.*\n)*?```$", text, re.MULTILINE)
    for block in blocks:
        if block.startswith("```toml"):
            file = block.removeprefix("```toml\n").removesuffix("```")
        elif block.startswith("```text"):
            found[-1].output = block.splitlines()[1:-1]
        elif not block.startswith("    results/"):
            lines = [line.partition("  #")[0].strip() for line in block.splitlines()]
            found.append(Recipe(lines, file))
            file = ""
    return found


def spaced(line: str) -> str:
    """A line of output without the widths of its columns."""
    return " ".join(line.split())


def masked(line: str) -> str:
    """A line of output without the parts that differ from run to run: numbers and widths of columns."""
    line = re.sub(r"run-[0-9a-f]{8}", "run-#", line)
    return spaced(re.sub(r"\d[\d.,]*", "#", line))


def missing(shown: list[str], printed: str, form=masked) -> str:
    """The first line that a page shows and the command did not print in that order; "" if there is none. "..." stands
    for any lines. form: `masked`, or `spaced` where the numbers must be those.
    """
    lines = iter(form(line) for line in printed.splitlines())
    for line in shown:
        if line.strip() not in ("...", "") and form(line) not in lines:
            return line
    return ""


def _links():
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            yield pytest.param(page, link, id=f"{page}: {link}")


@pytest.mark.parametrize(("page", "link"), _links())
def test_links_lead_somewhere(page, link):
    assert ((ROOT / page).parent / link).exists()


@pytest.mark.parametrize(
    "line",
    sorted({line for text in PAGES.values() for line in re.findall(r"^    python -m bench (.+)$", text, re.MULTILINE)}),
)
def test_commands_and_options_exist(line):
    """The bench has every command and option that a page shows."""
    import click

    from bench.cli import cli

    words = shlex.split(line.partition("  #")[0])
    command: click.Command = cli
    context = click.Context(cli)
    while words and isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
        assert command is not None
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known


def prose(text: str) -> list[str]:
    """The words of a page without its listings and tables."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^(?: {4}|\|).*$", "", text, flags=re.MULTILINE).split()


def test_the_readme_is_short():
    assert 300 < len(prose(PAGES["README.md"])) < 900


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A newcomer's folder: two pictures, and a copy of the committed run."""
    from PIL import Image
    from skimage import data

    folder = tmp_path_factory.mktemp("desk")
    (folder / "my_pictures").mkdir()
    for name, photo in (("cat", data.chelsea()), ("cup", data.coffee())):
        Image.fromarray(photo[:128, :160]).save(folder / "my_pictures" / f"{name}.png")
    shutil.copy(folder / "my_pictures" / "cat.png", folder / "photo.png")
    shutil.copytree(ROOT / "results" / "reference", folder / "results" / "reference")
    return folder


def _environment(desk: Path) -> dict[str, str]:
    own = [str(desk / name) for name in ("my-system", "my-network", "site")]
    paths = [str(ROOT), *own, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}


@pytest.mark.parametrize(
    ("page", "dataset", "along", "rows"),
    [
        ("README.md", "div2k_valid256", "snr_db", 7),
        ("baselines/select/README.md", "kodak", "snr_db", 9),
        ("results/README.md", "kodak", "cbr_target", 7),
    ],
)
def test_tables_of_psnr_are_those_of_the_committed_run(page, dataset, along, rows):
    """A field is empty where every picture was lost."""
    table = pd.read_csv(ROOT / "results" / "reference" / "summary.csv")
    fixed, value = ("snr_db", 10) if along == "cbr_target" else ("cbr_target", 1 / 16)
    here = table["dataset"].eq(dataset) & table["channel"].eq("awgn") & table["metric"].eq("psnr_db")
    table = table[here & ((table[fixed] - value).abs() < 1e-6)].drop_duplicates(["system", along])
    head, checked = None, 0
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) > 5 and cells[0] in ("", "PSNR (dB)", "PSNR (dB) at CBR"):
            head = [float(Fraction(cell.removesuffix("dB").strip())) for cell in cells[1:]]
        elif head and re.fullmatch(r"`[a-z0-9-]+`", cells[0]) and len(cells) == len(head) + 1:
            own = table[table["system"] == cells[0].strip("`")]
            for x, cell in zip(head, cells[1:]):
                (point,) = own[(own[along] - x).abs() < 1e-6].to_dict("records")
                lost = point["n_outage"] == point["n_images"]
                assert cell == ("" if lost else f"{point['mean']:.2f}"), (cells[0], x)
            checked += 1
    assert checked == rows


def test_every_recipe_has_its_output():
    """The README shows the output of every recipe whose commands the tests run."""
    for recipe in recipes(PAGES["README.md"].partition("## Recipes")[2]):
        run = [line for line in recipe.commands if not any(line.startswith(start) for start in NOT_RUN)]
        assert recipe.output or not run, recipe.commands


def test_what_is_shown_must_be_printed():
    assert missing(["a  1.5", "...", "b 2"], "x\na 27\ny\nb    3.25\n") == ""
    assert missing(["b 2", "a 1"], "a 1\nb 2\n") == "a 1"
    assert missing(["tables in results/run-01234567"], "tables in results/run-abcdef99") == ""


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_recipe_prints_what_is_shown(desk):
    """The recipes run in the README's order, since each builds on those before it."""
    for recipe in recipes(PAGES["README.md"]):
        if recipe.file:
            name = re.match(r"# (\S+\.toml)\n", recipe.file).group(1)
            (desk / name).write_text(recipe.file)
        printed = ""
        for line in recipe.commands:
            if any(line.startswith(start) for start in NOT_RUN):
                continue
            printed += _installed(desk, line) if line.startswith("pip ") else _ran(desk, line)
        assert not recipe.output or missing(recipe.output, printed) == "", printed


def test_a_recipe_on_the_committed_run_prints_these_very_numbers():
    """The committed run does not change from call to call, so neither does what is read from it."""
    (compared,) = (
        r for r in recipes(PAGES["README.md"]) if r.commands[0].startswith("python -m bench compare gensc adj")
    )
    assert all("--run results/reference" in line for line in compared.commands)
    printed = "".join(_ran(ROOT, line) for line in compared.commands)
    assert missing(compared.output, printed, spaced) == "", printed


def _ran(desk, line: str) -> str:
    """Run a command; returns what it prints."""
    assert line.startswith("python -m bench "), line
    done = subprocess.run(
        [sys.executable, *shlex.split(line)[1:]], cwd=desk, env=_environment(desk), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}"
    return done.stdout


def _installed(desk, line: str) -> str:
    """Do what `pip install -e FOLDER` does, without pip: write the metadata that names the entry point."""
    folder = desk / line.removeprefix("pip install -e ")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = desk / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(points)
    return ""


@pytest.mark.slow
def test_the_python_lines_run(desk):
    (code,) = re.findall(r"```python\n(.*?)```", PAGES["README.md"], re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=desk, env=_environment(desk), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "gensc" in done.stdout, done.stderr[-2000:]
