"""Colour photographs that installed packages carry: real pictures without any network.

The files are found beside the packages without importing them (scikit-learn takes seconds), and without the packages'
own loaders, some of which go to the network when a file is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench.data.polygons import MASK_FOLDER
from systems.errors import UserError


@dataclass(frozen=True)
class Photograph:
    """One carried photograph: its package, its path inside it, and its terms."""

    package: str  # import name
    distribution: str  # what pip calls it
    inside: str
    licence: str

    def path(self) -> Path:
        """Where it lies. Raises UserError when the installed package does not carry it."""
        spec = find_spec(self.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder) / self.inside
            if path.is_file():
                return path
        raise UserError(
            f"photograph {self.inside} is not in the installed {self.distribution}; "
            f"mend it with `pip install --force-reinstall {self.distribution}`"
        )


#: The photographs of Fig. 4 and 5 in running order, then those that only the segmentation set uses.
PHOTOGRAPHS = {
    "astronaut": Photograph("skimage", "scikit-image", "data/astronaut.png", "public domain (NASA)"),
    "chelsea": Photograph("skimage", "scikit-image", "data/chelsea.png", "CC0 (Stefan van der Walt)"),
    "coffee": Photograph("skimage", "scikit-image", "data/coffee.png", "CC0 (Rachel Michetti)"),
    "rocket": Photograph("skimage", "scikit-image", "data/rocket.jpg", "public domain (SpaceX)"),
    "motorcycle": Photograph(
        "skimage", "scikit-image", "data/motorcycle_left.png", "Middlebury stereo 2014 (Scharstein et al.), research"
    ),
    "china": Photograph("sklearn", "scikit-learn", "datasets/images/china.jpg", "CC BY 2.0 (danielbuechele)"),
    "flower": Photograph("sklearn", "scikit-learn", "datasets/images/flower.jpg", "CC BY 2.0 (vultilion)"),
    "grace_hopper": Photograph(
        "matplotlib", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "public domain (US Navy)"
    ),
    "camera": Photograph("skimage", "scikit-image", "data/camera.png", "CC0 (Lav Varshney), grey"),
}

RECONSTRUCTION = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle", "china", "flower")

#: Those that show VOC classes. Left out: the coffee's table (VOC takes only tables for eating at as "diningtable"), the
#: flower (no pot), and the motorcycle's right view (the same scene twice would count as two pictures in an interval).
SEGMENTATION = ("astronaut", "chelsea", "motorcycle", "grace_hopper", "camera")


def mask_path(image_id: str) -> Path:
    """The polygons of a photograph."""
    return MASK_FOLDER / f"{image_id}.json"


def licences(image_ids: tuple[str, ...]) -> str:
    """The terms of each photograph in one line."""
    return "; ".join(f"{image_id}: {PHOTOGRAPHS[image_id].licence}" for image_id in image_ids)
