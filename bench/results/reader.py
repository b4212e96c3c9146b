"""A run's folder as tables: what figures, comparison and claims read. Columns are those of `bench.results.store`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from bench.results.store import CONFUSION_COLUMNS, PICTURE_COLUMNS, SAMPLE_COLUMNS, SUMMARY_COLUMNS
from systems.errors import UserError

#: What makes an operating point comparable: rows that agree in these may share axes.
POINT = ["task", "dataset", "channel", "cbr_target", "bits_target"]
FLOOR = "linear"
_TEXT = (
    "system", "variant", "task", "dataset", "image_id", "channel", "metric", "status", "stop_reason", "mcs", "cell_id",
    "csi", "snr_def", "ci_method", "run", "figure", "kind", "file", "device", "seed", "schema",
    "higher_is_better", "limited",
)  # fmt: skip
#: Numbers are to be the very ones that were written. From pandas 3.1 on they are; before that only if asked for.
_EXACT = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}


@dataclass(frozen=True)
class Run:
    """A finished (or half-finished) run. Tables are read when first asked for; a missing one is empty."""

    directory: Path
    manifest: dict = field(repr=False)

    @classmethod
    def open(cls, directory: Path | str) -> Run:
        """UserError where the folder is not a run."""
        directory = Path(directory)
        path = directory / "manifest.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{directory} is not a run: it has no manifest.json; name a folder that `run` wrote"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot read it ({error})") from None
        if not isinstance(manifest, dict):
            raise UserError(f"{path}: not a manifest (no JSON object); repeat the run")
        return cls(directory, manifest)

    @property
    def name(self) -> str:
        """The run's id: the name of its folder."""
        return str(self.manifest.get("run") or self.directory.resolve().name)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row per image, operating point and repetition."""
        return read_csv(self.directory / "samples.csv", SAMPLE_COLUMNS)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row per operating point and metric."""
        return read_csv(self.directory / "summary.csv", SUMMARY_COLUMNS)

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Pixel counts of each image and class."""
        return read_csv(self.directory / "confusion.csv", CONFUSION_COLUMNS)

    @cached_property
    def pictures(self) -> pd.DataFrame:
        """What each file under pictures/ shows."""
        return read_csv(self.directory / "pictures.csv", PICTURE_COLUMNS)

    @property
    def experiments(self) -> list[dict]:
        """The figures of the run, as `Experiment.as_dict` gave them."""
        return self.manifest.get("config", {}).get("figures", [])

    @property
    def limited(self) -> bool:
        """True for a run with --limit: a trial, not a result."""
        return bool(self.manifest.get("limited"))

    @cached_property
    def undertrained(self) -> frozenset[str]:
        """Systems whose weights were trained too little: by their own marking, by this run's tables, or, all or for a
        task of
        this run, not at all."""
        marked = {
            name
            for name, fact in self.system_facts.items()
            if fact.get("undertrained") or str(fact.get("variant", "")).endswith("-untrained")
        }
        unseen = {
            name
            for experiment in self.experiments
            for name in experiment["systems"]
            if isinstance(seen := self.system_facts.get(name, {}).get("images_seen"), dict)
            and seen.get(experiment["task"]) == 0
        }
        return frozenset(marked | unseen | self.below_floor)

    @property
    def below_floor(self) -> set[str]:
        """Learned systems that some figure shows below `linear`, a code that learns nothing but a covariance, at some
        SNR.

        Mean PSNR decides, on AWGN, the channel that weights are trained for.
        """
        found = set()
        for experiment in self.experiments:
            if experiment["task"] != "reconstruction" or experiment["channel"] != "awgn":
                continue
            rows = self.summary_of(experiment)
            means = rows[rows["metric"] == "psnr_db"].pivot_table(index="snr_db", columns="system", values="mean")
            if FLOOR in means:
                below = means.lt(means[FLOOR], axis=0).any()
                found |= {name for name in means if below[name] and self.system_facts.get(name, {}).get("images_seen")}
        return found - {FLOOR}

    @property
    def system_facts(self) -> dict[str, dict]:
        """What each system said of itself (`System.describe`), by name."""
        return self.manifest.get("systems", {})

    def is_demonstration(self, dataset: str) -> bool:
        """True for a data set that shows how things work and measures nothing."""
        return bool(self.manifest.get("datasets", {}).get(dataset, {}).get("demonstration"))

    def summary_of(self, experiment: dict) -> pd.DataFrame:
        """Rows of summary.csv that belong to a figure."""
        return _belonging(self.summary, experiment)

    def samples_of(self, experiment: dict) -> pd.DataFrame:
        """Rows of samples.csv that belong to a figure."""
        return _belonging(self.samples, experiment)

    def cut_to(self, experiment: dict) -> Run:
        """The run as if it held this figure's samples alone."""
        part = Run(self.directory, self.manifest)
        part.__dict__.update(samples=self.samples_of(experiment), confusion=self.confusion)
        return part

    def pictures_of(self, experiment: dict) -> pd.DataFrame:
        """Rows of pictures.csv that belong to a figure: its outputs, and the originals and truths of its data set."""
        rows = self.pictures
        sources = rows[(rows["system"] == "") & (rows["dataset"] == experiment["dataset"])]
        outputs = _belonging(rows[rows["system"] != ""], experiment)
        outputs = outputs[outputs["snr_db"].isin(experiment["pictures"]["snr_db"])]
        sources = sources[sources["image_id"].isin(outputs["image_id"])]
        return pd.concat([sources, outputs]).drop_duplicates("file") if len(outputs) else outputs

    def picture(self, file: str):
        """A stored picture as uint8 numpy: (H, W, 3), or (H, W) class ids where it is an indexed PNG."""
        import numpy as np
        from PIL import Image

        path = self.directory / file
        try:
            with Image.open(path) as picture:
                return np.asarray(picture if picture.mode in ("P", "L") else picture.convert("RGB"))
        except OSError as error:
            raise UserError(f"{path}: cannot read the picture ({error}); repeat the run") from None


def read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A table at full precision, empty fields as NaN; text columns as text ("" where empty). UserError where broken."""
    types = {name: object if name in _TEXT else float for name in columns}
    try:
        table = pd.read_csv(
            path, usecols=lambda name: name in types, dtype=types, encoding="utf-8", **_EXACT,
            keep_default_na=False, na_values={name: [""] for name in columns if name not in _TEXT},
        )  # fmt: skip
    except (FileNotFoundError, NotADirectoryError, pd.errors.EmptyDataError):
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a CSV table in UTF-8") from None
    except pd.errors.ParserError as error:
        raise UserError(f"{path}: not a CSV table ({error}); repeat the run") from None
    except ValueError as error:
        raise UserError(f"{path}: not a number where one must be ({error}); repeat the run") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise UserError(f"{path}: lacks the column {missing[0]!r}; it was written by another version, repeat the run")
    return table


def _belonging(rows: pd.DataFrame, experiment: dict) -> pd.DataFrame:
    """The rows of a table that a figure shows: its task, data set, channel, budget, systems and SNRs."""
    chosen = rows["task"].eq(experiment["task"]) & rows["dataset"].eq(experiment["dataset"])
    chosen &= rows["channel"].eq(experiment["channel"]) & rows["system"].isin(experiment["systems"])
    chosen &= rows["snr_db"].isin(experiment["snr_db"])
    for column, key in (("cbr_target", "cbr"), ("bits_target", "bits")):
        chosen &= rows[column].isna() if experiment[key] is None else rows[column].eq(experiment[key])
    return rows[chosen]
