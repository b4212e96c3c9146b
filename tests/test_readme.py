"""What the README shows works as it stands there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("bench", "baselines", "configs", "results")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *(page for room in ROOMS for page in sorted((ROOT / room).rglob("*.md"))))
    if not {"templates", "reference"} & set(path.parts)
}
COMMANDS = re.findall(r"^    python -m bench (.+)$", PAGES["README.md"], re.MULTILINE)
#: Commands of the README that no test can run as they stand, and why. Their options are checked all the same.
NOT_RUN = {
    "train": "hours of training",
    "weights": "needs a public checkpoint",
    "data": "needs a network beyond the package index",
    "run --engine slurm": "needs a cluster; tests/slurm/real_cluster.py",
    "run --figure fig5 --dataset kodak": "needs Kodak",
}


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
    """Every command and option that a page types is one that the bench has."""
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


def test_the_readme_is_short():
    words = re.sub(r"^(?: {4}|\|).*$|```.*?```", "", PAGES["README.md"], flags=re.MULTILINE | re.DOTALL).split()
    assert len(words) < 900


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder as a newcomer's: two pictures of hers, and a copy of the committed run."""
    from PIL import Image
    from skimage import data

    folder = tmp_path_factory.mktemp("desk")
    (folder / "my_pictures").mkdir()
    for name, photo in (("cat", data.chelsea()), ("cup", data.coffee())):
        Image.fromarray(photo[:128, :160]).save(folder / "my_pictures" / f"{name}.png")
    shutil.copy(folder / "my_pictures" / "cat.png", folder / "photo.png")
    shutil.copytree(ROOT / "results" / "reference", folder / "results" / "reference")
    return folder


def _environment(desk):
    paths = [str(ROOT), str(desk / "my-system"), str(desk / "site"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_command_runs(desk):
    """In the README's order, for each builds on those before it."""
    for line in COMMANDS:
        line = line.partition("  #")[0].strip()
        if any(line.startswith(start) for start in NOT_RUN):
            continue
        done = subprocess.run(
            [sys.executable, "-m", "bench", *shlex.split(line)],
            cwd=desk, env=_environment(desk), capture_output=True, text=True, timeout=1500, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"python -m bench {line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        if line == "new my-system":  # what `pip install -e my-system` adds: the metadata that names the entry point
            info = desk / "site" / "my_system-0.1.0.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-system\nVersion: 0.1.0\n")
            (info / "entry_points.txt").write_text("[semantic_bench.systems]\nmy-system = my_system:MySystem\n")


@pytest.mark.slow
def test_the_python_lines_run(desk):
    (code,) = re.findall(r"```python\n(.*?)```", PAGES["README.md"], re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=desk, env=_environment(desk), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "gensc" in done.stdout, done.stderr[-2000:]
