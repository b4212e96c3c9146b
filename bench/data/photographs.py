"""Colour photographs that installed packages contain: real pictures without a network. `bench.data.catalogue` uses
them.

The files are found without importing the packages (scikit-learn takes seconds), and without the packages' own loaders,
because some of these download missing files.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench.data.polygons import MASK_FOLDER
from systems.errors import UserError


@dataclass(frozen=True)
class Photograph:
    """One photograph in a package.

    package: name to import.
    distribution: name for pip.
    inside: path inside the package.
    licence: its terms.
    """

    package: str
    distribution: str
    inside: str
    licence: str

    def path(self) -> Path:
        """The path of the file. Raises UserError if the installed package does not contain it."""
        spec = find_spec(self.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder) / self.inside
            if path.is_file():
                return path
        raise UserError(
            f"photograph {self.inside} is not in the installed {self.distribution}; "
            f"repair it with `pip install --force-reinstall {self.distribution}`"
        )


#: First the photographs of Fig. 4 and 5 in the order of the run, then those of the segmentation set only.
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

#: Photographs that show VOC classes. Left out: the coffee (in VOC only tables for meals are "diningtable"), the flower
#: (no pot), and the right view of the motorcycle (the same scene twice would count as two pictures in an interval).
SEGMENTATION = ("astronaut", "chelsea", "motorcycle", "grace_hopper", "camera")


def mask_path(image_id: str) -> Path:
    """The file with the polygons of a photograph."""
    return MASK_FOLDER / f"{image_id}.json"


def licences(image_ids: tuple[str, ...]) -> str:
    """The terms of each photograph, in one line."""
    return "; ".join(f"{image_id}: {PHOTOGRAPHS[image_id].licence}" for image_id in image_ids)
