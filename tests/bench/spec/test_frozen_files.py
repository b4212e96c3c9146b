"""What a third party's system opens, and others may write, stays as it was when the plan was made."""

import os
import sys

import pytest

from bench.spec import frozen_files
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
    for path in (own, *own.rglob("*")):
        path.chmod(path.stat().st_mode | 0o002)  # other accounts may write
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
    folder.chmod(0o777)
    before = states("frozenpkg.system", {"checkpoint": str(folder)})
    (folder / "b.json").write_text("{}")
    after = states("frozenpkg.system", {"checkpoint": str(folder)})
    assert changed(before, after) == str(folder)


def test_a_package_that_is_a_link_counts_with_its_target(package):
    """An installation may link to a shared folder."""
    elsewhere = package.parent / "shared"
    package.rename(elsewhere)
    package.symlink_to(elsewhere, target_is_directory=True)
    before = states("frozenpkg.system", {})
    (elsewhere / "tables" / "a.csv").write_text("two\n")
    assert changed(before, states("frozenpkg.system", {})) == str(elsewhere / "tables" / "a.csv")


def test_what_a_system_cannot_open_may_change(package):
    """The pictures or the run's folder may lie inside of a package: they are hidden from it."""
    (package / "results" / "run").mkdir(parents=True)
    for folder in (package / "results", package / "results" / "run"):
        folder.chmod(0o777)
    before = states("frozenpkg.system", {})
    (package / "results" / "run" / "cell.csv").write_text("1\n")
    (package / "results" / "other").mkdir()
    (package / "results" / "other").chmod(0o777)
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
    assert changed(before, states("frozenmod", {})) == "", "the user wrote it"
    (package.parent / "told.json").chmod(0o666)
    assert changed(before, states("frozenmod", {})).endswith("told.json")


def test_what_only_the_user_may_write_may_change(package):
    """His editor, his tests and his logs do; he can do all that the harness can."""
    for path in (package, *package.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
    assert states("frozenpkg.system", {}) == {}
    assert set(states("frozenpkg.system", {"checkpoint": str(package / "absent")}).values()) == {()}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_what_another_account_owns_must_not_change(package):
    """An installation that its author keeps in a shared folder."""
    package.joinpath("tables").chmod(0o755)
    assert str(package / "tables") not in states("frozenpkg.system", {})
    os.chown(package / "tables", 65534, 65534)
    before = states("frozenpkg.system", {})
    (package / "tables" / "message").write_text("a picture\n")
    assert changed(before, states("frozenpkg.system", {})) == str(package / "tables")


@pytest.mark.parametrize(("group", "alone"), [("of his own", True), ("shared", False), ("nameless", False)])
def test_a_group_of_the_user_alone_is_the_user(package, monkeypatch, group, alone):
    """Where every user has a group of his own name, files are writable for it by default."""
    import grp
    import pwd
    from types import SimpleNamespace

    for path in (package, *package.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o002 | 0o020)

    def found(gid):
        if group == "nameless":
            raise KeyError(gid)
        return SimpleNamespace(gr_name="ann", gr_mem=["ann", "bob"] if group == "shared" else [])

    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name="ann"))
    monkeypatch.setattr(grp, "getgrgid", found)
    frozen_files._is_alone.cache_clear()
    assert (states("frozenpkg.system", {}) == {}) == alone
    frozen_files._is_alone.cache_clear()
