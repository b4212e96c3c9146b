"""Tests of the structure: imports go in one direction, each room is where the README says, and every file is in its
place.
"""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: The floors, from the top down. A room may import rooms of lower floors, but no other room of its floor.
FLOORS = (
    ("bench.__main__",),
    ("bench.cli",),
    ("bench",),  # the Python interface, bench/__init__.py
    ("bench.perf",),
    ("bench.sweep", "bench.report", "bench.training"),
    ("bench.analysis", "bench.spec"),
    ("bench.results",),
    ("bench.measure",),
    ("bench.data",),
    ("bench.util",),
    ("baselines",),
    ("systems",),
)
FILES = sorted(
    path
    for package in ("bench", "baselines", "systems")
    for path in (ROOT / package).rglob("*.py")
    if "/." not in str(path)
)


def floor_of(module: str) -> tuple[int, str]:
    """The floor of a module, counted from the top, and its room."""
    best = max(
        ((index, room) for index, rooms in enumerate(FLOORS) for room in rooms if f"{module}.".startswith(f"{room}.")),
        key=lambda found: len(found[1]),
    )
    return best


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Modules of this project that a file imports, anywhere in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if is_module(name) else node.module for name in inside}
    return {name for name in found if name.split(".")[0] in ("bench", "baselines", "systems")}


def heads_of(path: Path) -> set[str]:
    """Modules that are imported at the top of a file, when it is loaded."""
    named = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= {name if is_module(name) else node.module for name in names}
        elif isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
    return named - {name_of(path)}


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path):
    floor, room = floor_of(name_of(path))
    for imported in imports_of(path):
        below, other = floor_of(imported)
        assert other == room or below > floor, f"{name_of(path)} imports {imported}, which stands above or beside it"


def test_no_circle_of_modules():
    """Imports at the top of files, which run on loading, form no circle."""
    heads = {name_of(path): heads_of(path) for path in FILES}
    done, open_ = set(), []

    def visit(name: str) -> None:
        if name in done or name not in heads:
            return
        assert name not in open_, " -> ".join([*open_[open_.index(name) :], name])
        open_.append(name)
        for other in sorted(heads[name]):
            visit(other)
        open_.pop()
        done.add(name)

    for name in heads:
        visit(name)


def test_who_asks_the_registry_has_registered_the_systems():
    """Else a command says "systems are none", when it happens to load no module that imports the catalogue."""
    heads = {name_of(path): heads_of(path) for path in FILES}
    asks = re.compile(r"registry\.(create|find|names|entries|trainables|tasks_of|task_asked)\(")
    for path in FILES:
        if name_of(path).startswith("bench.") and asks.search(path.read_text(encoding="utf-8")):
            seen, left = set(), sorted(imports_of(path))
            while left:
                name = left.pop()
                if name not in seen:
                    seen.add(name)
                    left += sorted(heads.get(name, ()))
            registered = any(name.split(".")[0] == "baselines" for name in seen)
            assert registered, f"{name_of(path)} asks the registry; nothing that it loads imports baselines"


#: Modules of the bench that import code by a name that is known only when they run, and why no third party's code can
#: meet the run's files there.
IMPORTERS = {
    "bench.cli": "the module of a command",
    "bench.cli.lists": "our own systems",
    "bench.measure.apart.ahead": "our own systems",
    "bench.measure.apart.child": "the process is confined",
    "bench.measure.apart.nursery": "numpy",
    "bench.perf.flops": "our own systems; others are counted in a confined process",
    "bench.perf.model": "no run: the user measures a system that he trusts",
    "bench.perf.select": "no run: our own systems",
    "bench.perf.train": "no run: the user measures a system that he trusts",
    "bench.perf.separation": "no run: the user measures a system that he trusts",
    "bench.perf.weight_storage": "no run: our own systems",
    "bench.spec.identity": "our own systems; others are asked in a confined process",
    "bench.training.run": "no run: a system is trained in the user's own process",
}


def test_third_parties_code_is_imported_only_where_that_is_named():
    """A module that is not listed must ask `bench.spec.identity`, which asks in a confined process."""
    loads = re.compile(
        r"(^|\.)(import_module|__import__)$"
        r"|^registry\.(create|assemble|tasks_of)$"
        r"|(^|\W)(entry|find\(.*\))\.(load|trains)$"
    )
    found = set()
    for path in FILES:
        if not name_of(path).startswith("bench."):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if loads.search(call):
                found.add(name_of(path))
    assert found == set(IMPORTERS)


def test_no_room_that_measures_names_a_system():
    """The catalogue knows which systems exist and how they look. Only the claims, and measurements of one system, name
    systems.
    """
    import baselines  # noqa: F401  (registers its systems)
    from systems import registry

    names = set(registry.names())
    assert {"gensc", "linear", "witt"} <= names
    rooms = (
        "bench.spec",
        "bench.data",
        "bench.measure",
        "bench.sweep",
        "bench.results",
        "bench.util",
        "bench.report",
        "bench.training",
    )
    for path in FILES:
        if floor_of(name_of(path))[1] not in rooms:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{name_of(path)} line {node.lineno} names the system {node.value!r}"


#: Modules that name a fading channel, and what they do for it alone.
CHANNELS_NAMED = {
    "bench.measure.channel": "its record",
    "bench.training.channel": "draws it on the device",
    "baselines.digital.mcs": "chooses the scheme for its fades",
}


def test_the_records_of_channels_give_their_names():
    """A list of names by hand would lack the next channel. Comments count: `list keys` shows some."""
    from bench.measure.channel import CHANNELS

    fading = re.compile("|".join(name for name in CHANNELS.own_names if name != "awgn"))
    texts = {name_of(path): path.read_text(encoding="utf-8") for path in FILES}
    assert {name for name, text in texts.items() if fading.search(text)} == set(CHANNELS_NAMED)
    assert not fading.search((ROOT / "configs" / "README.md").read_text(encoding="utf-8"))


def test_a_class_name_stands_for_one_thing():
    """Private classes and the template of a new system may share a name."""
    homes = {}
    for path in FILES:
        if "templates" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name_of(path))
    assert len(homes) > 100
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_a_command_stands_in_the_module_of_its_name():
    from bench.cli import COMMANDS

    others = {name: module for name, (module, _, _) in COMMANDS.items() if module != f"bench.cli.{name}"}
    assert others == {"list": "bench.cli.lists"}  # a module `list` would hide Python's `list` in the package


def test_a_measurement_stands_in_the_module_that_its_command_names():
    from bench.cli.perf import perf_group

    assert {"link", "model", "sweep"} <= set(perf_group.commands)
    for name in perf_group.commands:
        assert (ROOT / "bench" / "perf" / f"{name}.py").is_file(), name


#: Largest size of all tracked files together.
MOST_BYTES = 30 * 2**20


def tracked_files() -> list[str]:
    """Paths that git tracks. Skips the test outside of a git checkout."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no git")
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for path in listed.stdout.decode().split("\0") if path]


def test_top_level_names_are_those_of_the_contract():
    allowed = {
        "pyproject.toml",
        "README.md",
        "bench",
        "systems",
        "baselines",
        "results",
        "tests",
        "configs",
        "Makefile",
    }
    allowed |= {"LICENSE", "CITATION.cff", "CHANGELOG.md"}
    tops = {path.split("/")[0] for path in tracked_files()}
    assert {name for name in tops if not name.startswith(".")} <= allowed


def test_all_tracked_files_together_stay_within_the_limit():
    """Who adds weights or results has to make room for them."""
    size = sum((ROOT / path).lstat().st_size for path in tracked_files() if (ROOT / path).is_file())
    assert size <= MOST_BYTES, f"tracked files take {size / 2**20:.2f} MiB; the limit is {MOST_BYTES / 2**20:.0f} MiB"


def test_the_readme_of_the_bench_names_files_that_are_there():
    """Its section "Where to change what" is the guide for contributors."""

    text = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    section = text.split("## Where to change what")[1].split("\n## ")[0]
    files = re.findall(r"`([a-z_/]+\.py)`", section)
    assert len(files) > 15
    assert [file for file in files if not (ROOT / file).is_file()] == []
    names = re.findall(r"`(\w+)` in `([a-z_/]+\.py)`", section)
    assert len(names) > 5
    for name, file in names:
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text(encoding="utf-8")), (name, file)
    for room in re.findall(r"^\| `([a-z]+)/` \|", text, flags=re.M):
        assert (ROOT / "bench" / room).is_dir(), room
    rooms = {path.name for path in (ROOT / "bench").iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(re.findall(r"^\| `([a-z]+)/` \|", text, flags=re.M))


@pytest.mark.parametrize("package", ["baselines/digital", "baselines/select", "bench/sweep/worker", "bench/training"])
def test_a_list_of_a_package_s_files_names_all_of_them_and_no_others(package):
    """The list stands in the head of the package, or as a table in its README."""
    folder = ROOT / package
    head = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    if ".py" not in head:
        head = "\n".join(re.findall(r"^\| (`.*?) \|", (folder / "README.md").read_text(encoding="utf-8"), flags=re.M))
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"\b[a-z_]+\.py\b", head)) == modules
