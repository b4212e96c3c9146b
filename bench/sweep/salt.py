"""The salt of a run's noise: secret while the run lasts, and in the manifest afterwards.

`bench.sweep.execute` and the worker call it. Every seed is a hash of public names and of this salt, so no system can
know the noise that it will meet. The salt is drawn when a run begins, and stored in the file `.salt` of its folder,
which only its owner can read. The processes of third parties' systems cannot open the folder. A run has one salt for
its whole life, so its cells never mix two.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import Any

from bench.measure.seeds import NOISE_ID, draw_seed
from bench.results.schema import CELL_COLUMNS
from bench.results.store import RunStore
from bench.sweep.plan import Plan
from bench.util.files import StorageError, open_plain
from systems.errors import UserError

FILE = ".salt"
NONE = "none"  # the value of --salt for a run without salt, as before there were salts
_SALT = re.compile(r"[0-9a-f]{8,128}")
_LONGEST = 1000  # bytes of the file that are looked at
_NOISE = CELL_COLUMNS.index("noise_id")


def salt_of(root: Path, manifest: dict[str, Any] | None, given: str | None) -> str:
    """The salt of the run in `root`. A run without a salt gets `given`, or a new salt. Nothing is written.

    Raises UserError if `given` is no salt, or another one than the run's.
    """
    if given is not None and given != NONE and not _SALT.fullmatch(given):
        raise UserError(f"--salt {given!r}: a salt is 8 to 128 hex digits, as a manifest holds it, or {NONE!r}")
    wanted = None if given is None else "" if given == NONE else given
    known = _known(root, manifest)
    if known is None:
        return secrets.token_hex(16) if wanted is None else wanted
    if wanted is not None and wanted != known:
        raise UserError(f"--salt: the run in {root} has another salt; its cells would mix two, choose another folder")
    return known


def origin(manifest: dict[str, Any] | None, given: str | None) -> str:
    """Where the salt of a session comes from: "drawn" in it, "given" by the user, "kept" from a session that did not
    end, or "published" by one that did. Only salts that are "drawn" or "kept" are secret: one that was known once stays
    known, also if a later session did not end.

    manifest: of the sessions before. given: --salt.
    """
    if manifest is None:
        return "drawn" if given is None else "given"
    before = [session.get("salt") for session in manifest.get("sessions", ()) if isinstance(session, dict)]
    if isinstance(manifest.get("salt", ""), str) or "published" in before:
        return "published"
    return "given" if given is not None or "given" in before else "kept"


def _known(root: Path, manifest: dict[str, Any] | None) -> str | None:
    """The salt of the run's file, else that of its manifest; None if the run has not begun.

    Raises UserError if the run had a salt that is damaged or gone: with a new one, its cells would mix two salts.
    """
    path = root / FILE
    told = manifest.get("salt") if manifest is not None else None
    try:
        with open_plain(path) as file:
            text = file.read(_LONGEST).decode("ascii", "replace").strip()
        if text == NONE or _SALT.fullmatch(text):
            kept = "" if text == NONE else text
            if isinstance(told, str) and told != kept:
                raise UserError(
                    f"{path}: this salt differs from the published salt in the run's manifest; delete this file, and "
                    "the published salt is used"
                )
            return kept
        reason = "it holds no salt"
    except (FileNotFoundError, NotADirectoryError):
        if manifest is None:
            return None
        if isinstance(told, str) or "salt" not in manifest:  # without the key: a run of before there were salts
            return told if isinstance(told, str) else ""
        reason = "the file is gone"
    except OSError as error:
        reason = error.strerror or str(error)
    if isinstance(told, str) and told:  # a run that ended has published it
        return told
    raise UserError(
        f"{path}: cannot read the run's salt ({reason}); bring the file back, or choose another --out: cells with "
        "another salt would mix with those that are there"
    )


def kept_salt(root: Path) -> str:
    """The salt in the run's folder. "" if there is none."""
    return _known(root, {}) or ""


def keep_salt(root: Path, salt: str) -> None:
    """Write the file whole, readable by its owner alone, if it does not hold this salt."""
    with contextlib.suppress(UserError):
        if _known(root, None) == salt:
            return
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=root, prefix=f"{FILE}.", suffix=".tmp")  # with mode 0600
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write((salt or NONE) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, root / FILE)
        temporary = None
    except OSError as error:
        raise StorageError(f"cannot write {root / FILE}: {error.strerror}; choose another --out") from None
    finally:
        if temporary is not None:
            os.unlink(temporary)


def check_cells(plan: Plan, store: RunStore, missing: set[str], seed: int, salt: str) -> None:
    """Raise UserError if the cells that are there were made with another salt. One cell tells: its rows name the noise.

    Cells of earlier commands count where their data set is known here. missing: ids of the plan's cells that are not
    there.
    """
    seed_names = {dataset.name: dataset.seed_name for dataset in plan.datasets.values()}
    earlier = ((unit, cell) for unit in plan.earlier for cell in unit.cells if unit.set_name in seed_names)
    for unit, cell in (*plan.cells, *earlier):
        rows = store.read_cell(cell.id, unit.image_ids) if cell.id not in missing else None
        if rows:
            name, image_id = seed_names[unit.set_name], unit.image_ids[0]
            own = draw_seed(seed, name, image_id, unit.channel, cell.snr_db, cell.rep, NOISE_ID, salt)
            if rows[0][_NOISE] != str(own):
                raise UserError(
                    f"the cells in {store.root} were made with another salt than {FILE} there holds; bring back the "
                    "file, or choose another --out"
                )
            return
