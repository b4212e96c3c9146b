"""The files that a system's process may open: installed packages, its own package and its weights.

`bench.sweep.worker` and `bench.measure.apart.remote` make this list for each system. `confine` enforces it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.measure.apart import confine
from bench.util.cache_folder import cache_folder
from bench.util.package_files import files_of, own_files
from systems import registry

_SYSTEM_FILES = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/sys/devices/system", "/proc/cpuinfo",
    "/proc/meminfo", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom",
)  # fmt: skip
#: Folders of installed packages, wherever they are (a user's own, an environment below this one). All of their content
#: may be read, because shared libraries that packages need, such as pillow.libs, are beside the packages.
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Sight:
    """The files that a system's process may open.

    path: `sys.path` of the process.
    read: paths that it may read, with everything below.
    listed: folders that it may only list.
    write: paths that it may write, with everything below.
    secret: folders that look empty to it.
    module: of the system. The nursery imports it before it forks the process if it is one of the bench.
    """

    path: list[str]
    read: list[str]
    listed: list[str]
    write: list[str]
    secret: list[str] = field(default_factory=list)
    module: str = ""

    @classmethod
    def of(cls, target: str, options: dict[str, Any], secrets: Iterable[Path] = (), device: str = "cpu") -> Sight:
        """The files for the system `target`: installed packages, its own package and its weights, without `secrets`."""
        path = [entry or os.getcwd() for entry in sys.path]
        roots = [Path(sys.prefix), Path(sys.base_prefix), *(Path(one) for one in sysconfig.get_paths().values())]
        wanted = [Path(one) for one in _SYSTEM_FILES] + roots
        listed: list[Path] = []
        for entry in dict.fromkeys(map(Path, path)):
            if entry.is_file() or entry.name in _INSTALLED:
                wanted.append(entry)
            elif entry.is_dir() and not any(root == entry or root in entry.parents for root in roots):
                listed.append(entry)
                with contextlib.suppress(OSError):  # a folder that this user may not list holds no code that is used
                    wanted += [child for child in entry.iterdir() if _is_code(child)]
        module = target.partition(":")[0]
        for package in ("bench", "systems", "baselines", "configs"):
            wanted += files_of(package)
        wanted += own_files(module)
        wanted += registry.checkpoint_paths(options)
        cache = cache_folder().parent
        hub = Path(os.environ.get("HF_HOME") or cache / "huggingface") / "hub"
        wanted += [*hub.glob("models--*"), cache / "torch"]  # no data sets, which may hold the pictures
        listed += [one for one in (hub.parent, hub) if one.is_dir()]
        write = [Path("/dev/null")]
        if device.startswith("cuda"):
            wanted += [Path("/proc"), Path("/sys")]
            write += list(Path("/dev").glob("nvidia*"))
        wanted = [one for one in wanted if one.exists()]
        known = {one.resolve() for one in wanted}
        secret = list(map(Path, secrets))
        hidden = [one for one in secret if known.intersection([one.resolve(), *one.resolve().parents])]
        read, more = confine.without(wanted, hidden)
        listed += more
        folders = dict.fromkeys(  # of a link: the folder of the link and that of its target
            place.resolve()
            for one in secret
            for place in ((one.parent, one.resolve().parent) if one.is_file() else (one,))
        )
        return cls(path, _texts(read), _texts(listed), _texts(write), _texts(folders), module)


def _texts(paths: Iterable[Path]) -> list[str]:
    return [str(path) for path in paths]


def _is_code(path: Path) -> bool:
    """Whether an entry of a folder in `sys.path` holds code. A zip file holds code only if it is in `sys.path` itself;
    others may be a download of the pictures. A link may lead to them too.
    """
    if path.is_symlink():
        return False
    if path.suffix in (".py", ".so", ".dist-info", ".egg-info", ".pyd", ".pth"):
        return True
    return os.access(path / "__init__.py", os.R_OK)  # False also in a folder that this user may not enter
