"""What a third party's system opens stays as it was when the plan was made, and what it cannot open may change."""

import os
import sys

import pytest

from bench.spec.frozen_files import changed, states


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with weights, a folder of tables and a link, in `sys.path`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    own = tmp_path / "frozenpkg"
    (own / "tables").mkdir(parents=True)
    for name in ("__init__.py", "weights.bin", "tables/a.csv"):
        (own / name).write_text("one\n")
    (own / "link").symlink_to(own / "weights.bin")
    yield own
    sys.modules.pop("frozenpkg", None)


def put_back(own):
    file = own / "weights.bin"
    before = file.stat()
    file.write_text("two\n")
    file.write_text("one\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def made_and_removed(own):
    (own / "tables" / "message").write_text("a picture\n")
    (own / "tables" / "message").unlink()


CHANGES = {
    "another content": (lambda own: (own / "tables" / "a.csv").write_text("two\n"), ("a.csv",)),
    "another content of the same size, and its time put back": (put_back, ("weights.bin", "link")),
    "another mode": (lambda own: (own / "weights.bin").chmod(0o600), ("weights.bin", "link")),
    "another time": (lambda own: os.utime(own / "tables" / "a.csv", ns=(5, 5)), ("a.csv",)),
    "a comment": (lambda own: (own / "__init__.py").write_text("one\n# two\n"), ("__init__.py",)),
    "a new file": (lambda own: (own / "message").write_text("a picture\n"), ("frozenpkg", "message")),
    "a file that is gone again": (made_and_removed, ("tables",)),
    "a file that is gone": (lambda own: (own / "tables" / "a.csv").unlink(), ("a.csv", "tables")),
    "a second name of a file": (lambda own: os.link(own / "weights.bin", own.parent / "x"), ("weights.bin", "link")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_package_is_seen(package, change):
    before = states("frozenpkg.system", {})
    assert changed(before, states("frozenpkg.system", {})) == ""
    act, names = CHANGES[change]
    act(package)
    assert os.path.basename(changed(before, states("frozenpkg.system", {}))) in names


def test_a_checkpoint_is_frozen_with_all_below_it(package, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(b"one")
    before = states("frozenpkg.system", {"checkpoint": str(folder)})
    (folder / "b.json").write_text("{}")
    after = states("frozenpkg.system", {"checkpoint": str(folder)})
    assert changed(before, after) == str(folder)


def test_what_a_system_cannot_open_may_change(package):
    """The pictures or the run's folder may lie inside of a package: they are hidden from it."""
    (package / "results" / "run").mkdir(parents=True)
    before = states("frozenpkg.system", {})
    (package / "results" / "run" / "cell.csv").write_text("1\n")
    (package / "results" / "other").mkdir()
    after = states("frozenpkg.system", {})
    assert changed(before, after, [package / "results" / "run"]).endswith("other")
    (package / "results" / "other").rmdir()
    assert changed(before, states("frozenpkg.system", {}), [package / "results" / "run"]) == ""
    assert changed(before, states("frozenpkg.system", {})) != ""


def test_of_a_module_the_files_beside_it_count(package, monkeypatch):
    """A module that is no package can open the files in its folder, so they are frozen; the folders there are not."""
    (package.parent / "frozenmod.py").write_text("x = 1\n")
    before = states("frozenmod", {})
    (package / "weights.bin").write_text("two\n")
    assert changed(before, states("frozenmod", {})) == ""
    (package.parent / "told.json").write_text("{}")
    assert changed(before, states("frozenmod", {})).endswith("told.json")


def test_the_output_of_the_command_may_grow_beside_the_code(package, monkeypatch):
    """`python -m bench run ... > log.txt` in the folder of one's own module."""
    (package.parent / "frozenmod.py").write_text("x = 1\n")
    with (package.parent / "log.txt").open("w") as log:
        monkeypatch.setattr(sys, "__stdout__", log)
        before = states("frozenmod", {})
        log.write("a line\n")
        log.flush()
        assert changed(before, states("frozenmod", {})) == ""
        monkeypatch.undo()
    monkeypatch.syspath_prepend(str(package.parent))
    assert states("frozenmod", {}).keys() - before.keys() == {str(package.parent / "log.txt")}
