"""The work of `python -m bench data pack`: reads training sources and writes one file.

If a teacher is named, it labels the pictures first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.data import default_data_root
from bench.training.pack_format import write_pack
from bench.training.protocol import read_protocol
from bench.training.sources import Library, canonical
from bench.training.teacher import check_teacher, with_labels
from bench.util.files import user_path
from systems.errors import UserError


def pack_training_set(
    file: str,
    *,
    max_mib: float,
    sources: str | None = None,
    config: str | None = None,
    teacher: str | None = None,
    data_root: str | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Write the pack. Returns its path.

    sources: names, separated by commas. config: a training protocol. Exactly one of the two is given. A protocol gives
    its sources, and its teacher's labels if a task is distilled.
    teacher: label the sources by this teacher.
    max_mib: the largest size of the file.
    Raises UserError, and writes nothing, if the request cannot be met.
    """
    path = user_path(file, "FILE")
    root = user_path(data_root, "--data-root") if data_root else default_data_root()
    if (sources is None) == (config is None):
        raise UserError("data pack needs either --sources photos,voc:trainaug or --config NAME")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    if path.exists() and not force:
        raise UserError(f"{path}: exists already; --force replaces it")
    if sources is not None:
        wanted = [canonical(name.strip()) for name in sources.split(",") if name.strip()]
        taught = set(wanted) if teacher else set()
    else:
        plan = read_protocol(config)
        wanted = [canonical(source) for entry in plan.tasks.values() for source in entry.sources]
        teacher = teacher or plan.teacher
        taught = {canonical(source) for entry in plan.tasks.values() if entry.distill for source in entry.sources}
    wanted = list(dict.fromkeys(wanted))
    if not wanted:
        raise UserError("--sources: names no source; write photos,voc:trainaug")
    if taught and teacher and teacher != "none":
        check_teacher(teacher, root)
    library = Library(root)
    for source in wanted:
        library.check(source)
    pictures = []
    for source in wanted:
        part = library.read(source)
        if source in taught and teacher and teacher != "none":
            part = with_labels(part, teacher, root, say=say)
        pictures += part
        say(f"{source}: {len(part)} pictures")
    write_pack(path, pictures, wanted, int(max_mib * 2**20), say)
    return path
