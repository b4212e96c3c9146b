"""Hostile input in bulk: every case must end soon, with a result or with one line, and leave no files.

    python tests/fuzz/fuzz.py [--cases 3000] [--seed 0] [--kind snr]

A case calls the command line (or a reader) in this process with random input: file names, TOML of figures, configs and
protocols, manifests and tables, pictures, masks, SNR lists, options. The script counts tracebacks (any exception that
is not a line for the user, and answers of several lines), hangs (no end after `LIMIT_S` seconds of computing, or
`LIMIT_S` seconds in which nothing is computed), and leftovers (files that a refused command made). A damaged archive
that a command sets aside and names is no leftover. The exit code is 1 where a count is not 0. Each bad case is printed
with the name that repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import string
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "bench")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

LIMIT_S = 60.0
_IDLE = 0.01  # a process that computes less than this share of the time waits for something
#: The share of each kind among the cases.
SHARES = {
    "names": 3,
    "figure": 6,
    "config": 3,
    "protocol": 2,
    "manifest": 4,
    "picture": 4,
    "mask": 3,
    "run": 1,
    "store": 2,
    "drawing": 1,
    "weights": 2,
    "train": 1,
    "pack": 1,
    "snr": 3,
    "options": 4,
}


class Hang(BaseException):
    """A case did not end. No handler of the bench catches this exception."""


@dataclass
class Tally:
    """The counts, and the bad cases."""

    counts: Counter = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def note(self, what: str, case: str, detail: str) -> None:
        self.counts[what] += 1
        self.bad.append(f"{what}: {case}: {detail}")


def main() -> int:
    """Run the given number of cases and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(SHARES))
    options = parser.parse_args()
    kinds = [options.kind] if options.kind else list(SHARES)
    tally, ran = Tally(), Counter()
    whole = sum(SHARES[kind] for kind in kinds)
    home = tempfile.mkdtemp(prefix="bench-fuzz-")
    os.environ["XDG_CACHE_HOME"] = str(Path(home) / "cache")
    try:
        for kind in kinds:
            start = time.monotonic()
            due = options.cases - sum(ran.values()) if kind == kinds[-1] else options.cases * SHARES[kind] // whole
            for number in range(due):
                name = f"{kind} {options.seed}:{number}"
                _one(name, KINDS[kind], random.Random(name), Path(home) / "case", tally)
                ran[kind] += 1
            print(f"{kind:9} {ran[kind]:5} cases in {time.monotonic() - start:5.0f} s", flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for line in tally.bad:
        print(line)
    found = ", ".join(f"{tally.counts[what]} {what}" for what in ("tracebacks", "hangs", "leftovers"))
    print(
        f"{sum(ran.values())} cases: {found}; "
        f"{tally.counts['refused']} refused in one line, {tally.counts['done']} done"
    )
    return int(any(tally.counts[what] for what in ("tracebacks", "hangs", "leftovers")))


def _one(name: str, case: Callable, dice: random.Random, folder: Path, tally: Tally) -> None:
    """Run one case in a folder of its own, with a time limit."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    watchdog = threading.Timer(20 * LIMIT_S, _give_up, [name])  # for code that no signal interrupts
    watchdog.daemon = True
    watchdog.start()
    begun = before = _computed()

    def alarm(*_) -> None:
        """On a busy machine a case waits for its turn, so the time that it computed is judged, not the clock alone."""
        nonlocal before
        now = _computed()
        if now - begun >= LIMIT_S or now - before < _IDLE * LIMIT_S:
            raise Hang
        before = now

    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S, LIMIT_S)
    try:
        answer = case(dice, folder)
        tally.counts["refused" if answer else "done"] += 1
        if answer and len(answer.splitlines()) != 1:
            tally.note("tracebacks", name, f"an answer of several lines: {answer!r}"[:300])
    except Leftover as left:
        tally.note("leftovers", name, str(left))
    except Hang:
        tally.note("hangs", name, f"no end after {LIMIT_S:.0f} s of computing, or of waiting")
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        tally.note("tracebacks", name, f"{type(error).__name__} at {where}: {error}".replace("\n", " ")[:300])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        watchdog.cancel()
        os.chdir("/")


def _computed() -> float:
    """Seconds that this process and all below it have computed, those that have ended included."""
    parents, used = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = file.read_text(errors="replace").rpartition(")")[2].split()
            parents[int(file.parent.name)] = int(fields[1])
            used[int(file.parent.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sum(used.get(pid, 0.0) for pid in found) or sum(os.times()[:4])


def _give_up(name: str) -> None:
    os.write(1, f"hangs: {name}: no end, and no signal interrupts it\n".encode())
    os._exit(1)


class Leftover(Exception):
    """A refused command made files."""


def bench(*arguments: str, writes: bool = False) -> str:
    """Run the command line in this process; returns "" on success, else its one line.

    writes: True: the command may leave files if it ends with code 1, because it then did as much as it could.
    Raises an error for a traceback or an unknown exit code, and Leftover for files of a refused command.
    """
    from bench.cli import main as command_line

    out, err = io.StringIO(), io.StringIO()
    before = _everything()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command_line(list(arguments))
        except SystemExit as stop:
            code = stop.code
    errors = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    if "Traceback" in err.getvalue():
        raise RuntimeError("a traceback was printed: " + err.getvalue()[-200:])
    if code not in (0, 1, 2):
        raise RuntimeError(f"exit code {code}")
    if code == 0:
        return ""
    made = {path for path in _everything() - before if not _set_aside(path, err.getvalue())}
    if made and not (writes and code == 1):
        raise Leftover(f"{' '.join(arguments)[:150]!r} left {sorted(made)[:5]}")
    if writes and code == 1:  # a line per error, and one that counts the cells
        errors = errors[:1]
    return "\n".join(errors) or f"exit {code} without a line that says why\n"


def _set_aside(path: str, told: str) -> bool:
    """Whether a file is a damaged archive that the command has renamed, and named."""
    name = Path(path).name
    return name.startswith("damaged-pack-") and name in told


def _everything() -> set[str]:
    return {str(path) for path in Path.cwd().rglob("*")}


# ------------------------------------------------------------------------------------------------- hostile values


def text(dice: random.Random, most: int = 12) -> str:
    """Letters of many scripts, control characters, and characters with a meaning in shells and TOML."""
    alphabet = string.ascii_letters + string.digits + " ._-+=:,;/\\'\"#$%&{}[]()<>|*?!~^`@"
    alphabet += "éßфот图片🙂\u202e\u0301\u2028"
    return "".join(dice.choice(alphabet) for _ in range(dice.randrange(most)))


def number(dice: random.Random) -> str:
    """Numbers at and beyond the limits of what is allowed."""
    return dice.choice([
        "0", "1", "-1", "2", "10", "0.5", "1e3", "1e-3", "1e99999999", "-1e99999999", "1e-99999999", "1e308", "1e400",
        "9" * 30, "9" * 5000, "nan", "inf", "-inf", "0x10", "1_000", "١٢", "1/16", "1/0", "0/1", "1/1e9999999", "", " ",
        "true", "1.0000000000000000000001", "0.30000000000000004", "18446744073709551616", "2147483648",
        "1000000000000",
        str(dice.uniform(-300, 300)), str(dice.randrange(10**dice.randrange(1, 25))),
    ])  # fmt: skip


def snr(dice: random.Random) -> str:
    """SNR lists and ranges, most of them wrong."""

    def item() -> str:
        if dice.random() < 0.5:
            return number(dice)
        return ":".join(
            number(dice) if dice.random() < 0.6 else str(dice.randrange(20)) for _ in range(dice.randrange(5))
        )

    return ",".join(item() for _ in range(dice.randrange(1, 4)))


def toml_value(dice: random.Random, depth: int = 0) -> str:
    """A TOML value, valid more often than not."""
    roll = dice.randrange(12)
    if roll < 3:
        return json.dumps(text(dice))
    if roll < 6:
        return number(dice) or "0"
    if roll == 6:
        return dice.choice(
            ["true", "false", "2020-01-01", "07:32:00", '"""a\nb"""', "'x'", '"\\u0000"', '"\\r"', '"\\ud800"']
        )
    if roll < 9 and depth < 3:
        return "[" + ", ".join(toml_value(dice, depth + 1) for _ in range(dice.randrange(4))) + "]"
    if roll == 9 and depth < 3:
        return "{" + ", ".join(f"k{i} = {toml_value(dice, depth + 1)}" for i in range(dice.randrange(3))) + "}"
    if roll == 10:
        return "[" * dice.choice([3, 300, 30000])
    return json.dumps(
        dice.choice(["linear", "gensc", "photos", "awgn", "../x", "a" * 5000, "folder:.", "voc-demo", ""])
    )


def toml(dice: random.Random, good: dict[str, str], extra: list[str]) -> bytes:
    """A good file with some keys changed, or with damaged bytes."""
    values = dict(good)
    for _ in range(dice.randrange(1, 4)):
        key = dice.choice([*good, *extra])
        if dice.random() < 0.2:
            values.pop(key, None)
        else:
            values[key] = toml_value(dice)
    content = "\n".join(f"{key} = {value}" for key, value in values.items()).encode("utf-8", "surrogatepass")
    return damaged(dice, content) if dice.random() < 0.2 else content


def damaged(dice: random.Random, content: bytes) -> bytes:
    """The content with some bytes changed, cut or inserted, or in another encoding."""
    changed = bytearray(content)
    roll = dice.randrange(6)
    if roll == 0:
        return bytes(changed[: dice.randrange(len(changed) + 1)])
    if roll == 1:
        return content.decode("utf-8", "replace").encode(dice.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig"]))
    if roll == 2:
        place = dice.randrange(len(changed) + 1)
        return bytes(changed[:place]) + bytes(dice.randrange(256) for _ in range(20)) + bytes(changed[place:])
    for _ in range(dice.choice([1, 3, 30])):
        if changed:
            changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


# ---------------------------------------------------------------------------------------------------------- kinds


def picture(folder: Path, name: str = "ok.png") -> Path:
    """A small good picture."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError, ValueError):  # the file system refuses this name
        Image.linear_gradient("L").resize((32, 24)).convert("RGB").save(folder / name, "PNG")
    return folder / name


DRY = ("run", "--dry-run", "--systems", "linear")


def names(dice: random.Random, folder: Path) -> str:
    """A folder of pictures, links, pipes and folders with odd names; its own name is odd too."""
    inside = folder / (text(dice, 20).replace("/", "") or "pictures")
    inside = folder / "pictures" if inside.name in (".", "..") else inside
    picture(inside)
    content = (inside / "ok.png").read_bytes()
    for _ in range(dice.randrange(6)):
        name = text(dice, dice.choice([6, 30])).replace("/", "").encode("utf-8", "surrogatepass")
        name += bytes(dice.randrange(1, 256) for _ in range(dice.randrange(3))).replace(b"/", b"")
        name += dice.choice([b".png", b".jpg", b".png.jpg", b".PNG", b".gif", b".txt", b""])
        path = os.path.join(os.fsencode(inside), name)
        with contextlib.suppress(OSError, ValueError):
            roll = dice.randrange(10)
            if roll == 0:
                os.mkfifo(path)
            elif roll == 1:
                os.symlink(dice.choice([name, b"nowhere", b"ok.png", b"."]), path)
            elif roll == 2:
                os.mkdir(path)
            else:
                with open(path, "wb") as file:
                    file.write(content)
    answer = bench("data", "info", f"folder:{inside}")
    return answer or bench(*DRY, "--snr", "10", "--dataset", f"folder:{inside}")


FIGURE = {
    "id": '"mine"', "title": '"Mine"', "task": '"reconstruction"', "dataset": '"photos"', "systems": '["linear"]',
    "channel": '"awgn"', "snr_db": '"0:4:2"', "cbr": '"1/16"', "metric": '"psnr_db"', "reps": "1",
}  # fmt: skip


def figure(dice: random.Random, folder: Path) -> str:
    """A figure file."""
    extra = ["kbits", "requirement", "pictures", "extra", "label", "colour", "ylim", "order", "kind"]
    (folder / "f.toml").write_bytes(toml(dice, FIGURE, extra))
    return bench("run", "--dry-run", "--figure", "f.toml")


def config(dice: random.Random, folder: Path) -> str:
    """A file for `run --config`."""
    good = {"systems": '["linear"]', "dataset": '"photos"', "snr": '"0:4:2"', "limit": "1"}
    extra = ["cbr", "kbits", "channel", "reps", "seed", "out", "device", "engine", "workers", "batch", "size",
             "checkpoint", "code-rate", "link", "data-root", "requirement", "figure", "slurm", "extra",
             "force"]  # fmt: skip
    (folder / "c.toml").write_bytes(toml(dice, good, extra))
    return bench("run", "--dry-run", "--config", "c.toml")


def protocol(dice: random.Random, folder: Path) -> str:
    """A training protocol. There are no pictures, so even a good one is refused, and no file may be made."""
    good = {
        "seed": "0", "learning_rate": "1e-4", "snr_db": "[0, 20]", "channel": '"awgn"', "holdout": "1",
        "tasks.reconstruction": '{images_seen = 8, stages = [{until = 1.0, crop = 16, batch = 2}], '
        'sources = ["photos"], cbr = "1/16"}',
    }  # fmt: skip
    extra = [
        "betas",
        "ema",
        "warmup",
        "autocast",
        "teacher",
        "start",
        "shares",
        "extra",
        "clip_norm",
        "tasks.segmentation",
    ]
    (folder / "p.toml").write_bytes(toml(dice, good, extra))
    return bench("train", "--systems", "deepjscc", "--config", "p.toml", "--data-root", "nothing", "--out", "out",
                 "--device", "cpu")  # fmt: skip


_MADE: list[dict[str, bytes]] = []


def manifest(dice: random.Random, folder: Path) -> str:
    """A finished run with a damaged manifest or table, read by the commands that read runs."""
    _made_run(dice, folder)
    command = dice.choice(
        [("claims", "run"), ("compare", "run", "--systems", "gensc,linear"), ("compare", "run", "run")]
    )
    return bench(*command)


def _made_run(dice: random.Random, folder: Path) -> None:
    """Write a finished run into `folder`/run, with its manifest or one of its tables damaged."""
    if not _MADE:
        import made_run

        with tempfile.TemporaryDirectory() as place:
            made_run.make_run(
                Path(place) / "run", [made_run.figure("fig4", ["gensc", "linear"], snrs=[0.0, 10.0])],
                lambda figure, system, snr, index: 20.0 + snr / 2 + index / 10 + (system == "gensc"),
            )  # fmt: skip
            base = Path(place) / "run"
            _MADE.append({str(p.relative_to(base)): p.read_bytes() for p in base.rglob("*") if p.is_file()})
    for name, content in _MADE[0].items():
        path = folder / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    target = folder / "run" / dice.choice(["manifest.json", "manifest.json", *_MADE[0]])
    if target.name == "manifest.json" and dice.random() < 0.7:
        values = json.loads(target.read_bytes())
        for _ in range(dice.randrange(1, 4)):
            _change(dice, values)
        target.write_text(json.dumps(values))
    elif dice.random() < 0.1:
        target.unlink()
    else:
        target.write_bytes(damaged(dice, target.read_bytes()))


def _change(dice: random.Random, value: object) -> None:
    """A JSON tree with one value changed or removed somewhere."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
        if not keys:
            return
        key = dice.choice(keys)
        inner = value[key]
        if isinstance(inner, (dict, list)) and inner and dice.random() < 0.8:
            value = inner
            continue
        if isinstance(value, dict) and dice.random() < 0.2:
            del value[key]
        else:
            value[key] = dice.choice([None, True, -1, 10**30, 1e308, "", "../../evil", "x" * 1000, [], {},
                                      [[]],
                                      {"a": 1}, text(dice), float("nan")])  # fmt: skip
        return


def _made_picture(dice: random.Random) -> tuple[bytes, str]:
    from PIL import Image

    kind, suffix = dice.choice([("PNG", "png"), ("JPEG", "jpg"), ("GIF", "gif"), ("TIFF", "tif"), ("BMP", "bmp"),
                                ("WEBP", "webp"), ("PPM", "ppm"), ("TGA", "tga"), ("JPEG2000", "jp2"),
                                ("AVIF", "avif")])  # fmt: skip
    mode = dice.choice(["RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "F", "I", "LAB"])
    size = dice.choice([(1, 1), (1, 300), (300, 1), (24, 32), (7, 5)])
    out = io.BytesIO()
    made = Image.effect_noise(size, 90)
    with contextlib.suppress(Exception):  # the format, or Pillow, cannot write this mode
        made = made.convert("RGB").convert(mode)
    try:
        made.save(out, kind)
    except Exception:
        Image.effect_noise(size, 90).save(out, "PNG")
    return out.getvalue(), suffix


def picture_case(dice: random.Random, folder: Path) -> str:
    """A picture of any kind, damaged more often than not, read as a data set does."""
    from bench.data import open_dataset
    from systems.errors import UserError

    content, suffix = _made_picture(dice)
    (folder / f"x.{suffix}").write_bytes(damaged(dice, content) if dice.random() < 0.7 else content)
    size = dice.choice([None, None, (16, 16)])
    try:
        dataset = open_dataset(f"folder:{folder}", size=size)
        height, width = dataset.size("x")
        shape = tuple(dataset.load("x").image.shape)
    except UserError as error:
        return str(error)
    assert shape == (3, height, width), (shape, height, width)
    return ""


def _made_mask(dice: random.Random) -> bytes:
    """A good mask of the size of `picture`; sometimes with one class that does not exist, or with a palette."""
    from PIL import Image

    labels = bytes(dice.choice([*range(21), 255]) for _ in range(32 * 24 - 1)) + bytes([dice.choice([0, 255, 21, 254])])
    made, out = Image.frombytes("L", (32, 24), labels), io.BytesIO()
    if dice.random() < 0.5:
        made.putpalette([dice.randrange(256) for _ in range(3 * dice.choice([256, 256, 30]))])
    made.save(out, dice.choice(["PNG", "PNG", "GIF", "TIFF"]))
    return out.getvalue()


def mask(dice: random.Random, folder: Path) -> str:
    """A mask beside a good picture, and the list that names both."""
    from bench.data import open_dataset
    from systems.errors import UserError

    base = folder / "VOCdevkit/VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / name).mkdir(parents=True)
    picture(base / "JPEGImages", "a.jpg")
    content = _made_mask(dice) if dice.random() < 0.6 else _made_picture(dice)[0]
    (base / "SegmentationClass/a.png").write_bytes(damaged(dice, content) if dice.random() < 0.5 else content)
    listing = dice.choice([b"a\n", b"\xef\xbb\xbfa\r\n", b"a\na\n", damaged(dice, b"a\nb\n" * 5)])
    (base / "ImageSets/Segmentation/val.txt").write_bytes(listing)
    try:
        dataset = open_dataset("voc2012", folder)
        labels = dataset.load(dataset.ids[0]).mask
    except UserError as error:
        return str(error)
    assert labels is not None and all(label < 21 or label == 255 for label in labels.unique().tolist())
    return ""


def run(dice: random.Random, folder: Path) -> str:
    """A whole run on a folder of good and bad pictures: it gives a row per picture, or one line and no folder of the
    run.
    """
    import csv

    pictures = folder / "pictures"
    for index in range(dice.randrange(1, 4)):
        picture(pictures, f"p{index}{text(dice, 8).replace('/', '')}.png")
    if dice.random() < 0.5:
        content, suffix = _made_picture(dice)
        (pictures / f"x.{suffix}").write_bytes(damaged(dice, content) if dice.random() < 0.5 else content)
    answer = bench("run", "--engine", "serial", "--systems", "linear", "--snr", "10", "--dataset", f"folder:{pictures}",
                   "--cbr", dice.choice(["1/6", "1/16", "1", "1/1000"]), "--out", "out")  # fmt: skip
    if not answer:
        from bench.data import open_dataset

        with (folder / "out/samples.csv").open(newline="", encoding="utf-8") as file:
            found = [row["image_id"] for row in csv.DictReader(file)]
        assert found == list(open_dataset(f"folder:{pictures}").ids), found
    return answer


_STORED: list[dict[str, bytes]] = []
STORED = ("run", "--engine", "serial", "--systems", "linear", "--dataset", "folder:../stored", "--cbr", "1/6",
          "--salt", "0123456789abcdef", "--out", "run")  # fmt: skip


def store(dice: random.Random, folder: Path) -> str:
    """Damage the files of a run, and give the same or a larger command again. It gives the rows of an undamaged run, or
    one line.
    """
    import csv

    import numpy as np
    from PIL import Image

    stored = folder.parent / "stored"
    if not stored.exists():
        stored.mkdir()
        for index in range(2):
            noise = np.random.default_rng(index).integers(0, 256, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).save(stored / f"p{index}.png")

    def rows() -> list[list[str]]:
        with (folder / "run/samples.csv").open(newline="", encoding="utf-8") as file:
            return [[row["image_id"], row["snr_db"], row["noise_id"], row["psnr_db"]] for row in csv.DictReader(file)]

    if not _STORED:
        assert bench(*STORED, "--snr", "4,8") == ""
        _STORED.append({str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()})
        _STORED.append({"rows": json.dumps(rows()).encode()})
    shutil.rmtree(folder / "run", ignore_errors=True)
    for name, content in _STORED[0].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for _ in range(dice.randrange(1, 4)):
        _spoil(dice, folder / dice.choice([*_STORED[0], "run/.salt", "run/plan.json", "run/cells/.checked",
                                           "run/cells/pack-0123456789abcdef.zip"]))  # fmt: skip
    answer = bench(*STORED, "--snr", dice.choice(["4,8", "4,8", "8", "12"]), writes=True)
    if not answer:
        whole = json.loads(_STORED[1]["rows"])
        found = [row for row in rows() if row[1] != "12.0"]
        assert all(row in whole for row in found), found
    return answer


def _spoil(dice: random.Random, path: Path) -> None:
    """Damage the content of a file, or remove it, or put a pipe, a folder or a link in its place."""
    content = path.read_bytes() if path.is_file() else b"damaged"
    with contextlib.suppress(OSError):
        roll = dice.randrange(8)
        # Made by an earlier call: writing would block at a pipe, and would change the target of a link.
        if path.is_symlink() or path.is_fifo():
            path.unlink()
        if roll < 4:
            path.write_bytes(damaged(dice, content))
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if roll == 5:
            os.mkfifo(path)
        elif roll == 6:
            path.mkdir()
        elif roll == 7:
            path.symlink_to(dice.choice([path.name, "nowhere", "/dev/zero", "/dev/null", ".."]))


def drawing(dice: random.Random, folder: Path) -> str:
    """Figures, reports and lists of a finished run with a damaged manifest or table."""
    _made_run(dice, folder)
    command = dice.choice([
        ("plot", "run", "--format", "png", "--dpi", "30"), ("report", "run", "--out", "r.html"), ("runs",),
        ("plot", "run", "--format", "svg", "--ylim", f"{number(dice)},{number(dice)}"),
        ("plot", "run", "--format", "png", "--dpi", "30", "--label", f"gensc={text(dice, 30)}",
         "--highlight", text(dice)),
    ])  # fmt: skip
    return bench(*command)


def weights(dice: random.Random, folder: Path) -> str:
    """A weight file or its sidecar, damaged, or with odd values whose hash is right."""
    import hashlib

    import baselines

    shipped = Path(baselines.__file__).parent / "weights" / "linear-klt16.safetensors"
    data, facts = shipped.read_bytes(), json.loads(shipped.with_suffix(".json").read_bytes())
    if dice.random() < 0.4:
        data = damaged(dice, data)
        facts["sha256"] = hashlib.sha256(data).hexdigest() if dice.random() < 0.7 else facts["sha256"]
    for _ in range(dice.randrange(3)):
        _change(dice, facts)
    side = json.dumps(facts).encode()
    roll = dice.randrange(6)
    if roll == 0:
        side = damaged(dice, side)
    elif roll == 1:
        side = dice.choice([b"[]", b"5", b'"x"', b"null", b"", b"[" * 100_000, b'{"sha256": ' + b"9" * 5000 + b"}"])
    (folder / "w.safetensors").write_bytes(data)
    (folder / "w.json").write_bytes(side)
    if dice.random() < 0.1:
        _spoil(dice, folder / dice.choice(["w.safetensors", "w.json"]))
    return bench(*DRY, "--dataset", "photos", "--snr", "10", "--checkpoint", "w.safetensors")


def train(dice: random.Random, folder: Path) -> str:
    """Training itself, for one step: a protocol of odd numbers either trains or is refused before anything is made."""
    good = {
        "learning_rate": "1e-4", "snr_db": "[0, 20]", "channel": '"awgn"', "holdout": "1", "autocast": '"off"',
        "tasks.reconstruction": '{images_seen = 8, stages = [{until = 1.0, crop = 16, batch = 2}], '
        'sources = ["bundled"], cbr = "1/16"}',
    }  # fmt: skip
    if dice.random() < 0.6:
        key = dice.choice(["images_seen", "until", "crop", "batch", "cbr"])
        entry, value = good["tasks.reconstruction"], number(dice) or "0"
        start = entry.index(f"{key} = ") + len(key) + 3
        end = min(entry.index(mark, start) for mark in ",}" if mark in entry[start:])
        good["tasks.reconstruction"] = entry[:start] + value + entry[end:]
        (folder / "p.toml").write_text("\n".join(f"{key} = {value}" for key, value in good.items()))
    else:
        extra = ["betas", "ema", "warmup", "final_rate", "shares", "clip_norm", "weight_decay", "validations", "seed"]
        (folder / "p.toml").write_bytes(toml(dice, good, extra))
    return bench("train", "--systems", "deepjscc", "--config", "p.toml", "--out", "out", "--device", "cpu",
                 "--max-steps", "1")  # fmt: skip


_PACK: list[bytes] = []


def pack(dice: random.Random, folder: Path) -> str:
    """A damaged pack of training pictures."""
    from bench.training.pack_format import read_pack, write_pack
    from bench.training.picture import Picture
    from systems.errors import UserError

    if not _PACK:
        import numpy as np

        made = [Picture(f"a/{index}", np.full((20, 24, 3), 9 * index, np.uint8)) for index in range(3)]
        write_pack(folder / "good.pack", made, ["a"], 1 << 20, say=lambda text: None)
        _PACK.append((folder / "good.pack").read_bytes())
    content = _PACK[0]
    for _ in range(dice.randrange(1, 3)):
        content = damaged(dice, content)
    (folder / "x.pack").write_bytes(content)
    try:
        pictures = read_pack(folder / "x.pack")
    except UserError as error:
        return str(error)
    assert all(picture.pixels.ndim == 3 for picture in pictures)
    return ""


def snr_case(dice: random.Random, folder: Path) -> str:
    """Random values of `--snr`."""
    return bench(*DRY, "--dataset", "photos", f"--snr={snr(dice)}")


def options(dice: random.Random, folder: Path) -> str:
    """Options of several commands with odd values."""

    def value() -> str:
        return dice.choice([number(dice), text(dice), "x" * dice.choice([300, 5000]), "a\0b", "../x", "/dev/null", ".",
                            "~nobody-here/x", os.fsdecode(b"\xff"), "linear", "voc2012:../x"])  # fmt: skip

    roll = dice.randrange(10)
    if roll < 6:
        flags = ["--figure", "--systems", "--snr", "--dataset", "--data-root", "--cbr", "--kbits", "--channel",
                 "--limit", "--reps", "--seed", "--out", "--device", "--workers", "--batch", "--size", "--checkpoint",
                 "--code-rate", "--link", "--config", "--engine"]  # fmt: skip
        chosen = [f"{flag}={value()}" for flag in dice.sample(flags, dice.randrange(1, 4))]
        system = dice.choice(["linear", "jpeg-ldpc-16qam"])
        return bench("run", "--dry-run", f"--systems={system}", "--dataset=photos", *chosen)
    if roll == 6:
        return bench("data", "fetch", dice.choice(["kodak", "voc2012", text(dice)]), "--url", f"ftp://{text(dice)}",
                     "--data-root", value())  # fmt: skip
    if roll == 7:
        return bench("data", "info", value())
    if roll == 8:
        return bench(dice.choice(["claims", "compare", "plot"]), value())
    return bench(*dice.choice([(value(), value()), ("refine", "--steps", value(), "--dataset", "nothing"),
                               ("ask", "\0"), ("completion", value()), ("list", value())]))  # fmt: skip


KINDS = {
    "names": names, "figure": figure, "config": config, "protocol": protocol, "manifest": manifest,
    "picture": picture_case, "mask": mask, "run": run, "store": store, "drawing": drawing, "weights": weights,
    "train": train, "pack": pack, "snr": snr_case, "options": options,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
