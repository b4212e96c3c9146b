"""The one reader of pictures and masks. A file becomes 8-bit RGB or class ids, or one line says why it cannot.

Data sets (and through them the sweep) and training call it, so both see the same pixels. The rules for each kind of
file:

- Grey is repeated in three channels, palettes are looked up, CMYK is converted by Pillow's plain rule without a
  profile.
- Alpha is dropped: the stored colour counts, even if the picture is transparent.
- 16-bit grey is divided by 257 and rounded. Of 16-bit colour, Pillow gives the upper 8 bits of each channel.
- 32-bit and floating-point pixels are refused, because they have no agreed range.
- Of an animation, or a file with several pages, the first picture is used.
- Photographs are turned upright by their EXIF tag, unless masks are drawn on the stored pixels (`upright=False`).
- A picture beyond Pillow's limit (about 179 million pixels) is refused, because it may be a decompression bomb.
- Truncated and damaged files are refused, even if Pillow could read a part.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.polygons import load_polygons, rasterise
from bench.data.voc import NUM_CLASSES, VOC_CLASSES, VOID, voc_palette
from bench.util.files import open_plain, read_bytes, shown
from systems.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    import torch

#: Pillow's names of the formats that are read. Not EPS and WMF (they start other programs), films, or documents.
FORMATS = (
    "AVIF", "BMP", "DDS", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "SUN",
    "TGA", "TIFF", "WEBP",
)  # fmt: skip
#: Files with these endings count as pictures, in upper or lower case.
PICTURE_SUFFIXES = (
    ".apng", ".avif", ".avifs", ".bmp", ".bw", ".dds", ".dib", ".gif", ".icb", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc",
    ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd",
    ".qoi", ".ras", ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp",
)  # fmt: skip
#: EXIF orientations that turn a picture by 90 degrees, so that height and width change places.
_QUARTER_TURNS = (5, 6, 7, 8)
_EXIF_ORIENTATION = 0x0112


def read_picture(path: Path, upright: bool = True) -> torch.Tensor:
    """A picture file as uint8 (3, H, W), RGB. Raises UserError: one line with the file and the fix."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(decode_picture(picture_bytes(path), path, upright))).permute(2, 0, 1).contiguous()


def read_mask(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """A mask file as uint8 (H, W): class ids 0..20, and 255 for void. size: (H, W) of its picture.

    The file is an indexed or grey picture of class ids, or polygons in JSON. Raises UserError, in one line with the
    file, for another size, other ids, other kinds of pictures, and a palette in another order than VOC's.
    """
    import numpy as np
    import torch

    return torch.from_numpy(np.array(decode_mask(picture_bytes(path, "mask"), path, size)))


def picture_size(path: Path, upright: bool = True) -> tuple[int, int]:
    """(H, W) of the picture that `read_picture` would return, from the header of the file. Raises UserError."""
    try:
        with open_plain(path) as file, _open(file, path) as picture:
            width, height = picture.size
            turned = upright and _orientation(picture) in _QUARTER_TURNS
    except OSError as error:
        raise unreadable(path, error) from None
    return (width, height) if turned else (height, width)


def picture_bytes(path: Path, what: str = "picture") -> bytes:
    """The content of a file. what: "picture" or "mask", for the message. Raises UserError if it cannot be read."""
    try:
        return read_bytes(path)
    except OSError as error:
        raise unreadable(path, error, what) from None


def decode_picture(data: bytes, path: Path, upright: bool = True) -> PIL.Image.Image:
    """The content of a picture file as 8-bit RGB. path: for messages. Raises UserError."""
    import numpy as np
    from PIL import Image, ImageOps

    with _open(io.BytesIO(data), path) as picture:
        wide = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM")  # 0..65535
        if not wide and picture.mode in ("I", "F"):
            reason = f"pixels of {'32 bits' if picture.mode == 'I' else 'floating point'} have no agreed range"
            raise UserError(f"cannot read picture {shown(path)}: {reason}; save it with 8 bits per channel")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings about palettes and profiles, which change no pixel
                picture.load()
                if upright and _orientation(picture) != 1:
                    picture = ImageOps.exif_transpose(picture)
                if wide:
                    picture = Image.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8))
                return picture.convert("RGB")
        except (
            Exception
        ) as error:  # Pillow raises a dozen kinds on damaged files: struct.error, KeyError, EOFError, ...
            raise unreadable(path, error) from None


def decode_mask(data: bytes, path: Path, size: tuple[int, int]) -> PIL.Image.Image:
    """The content of a mask file as a Pillow picture of class ids (mode "L"). size: (H, W) of its picture. Raises
    UserError.
    """
    import numpy as np
    from PIL import Image

    path = Path(path)
    if path.suffix == ".json":
        labels = rasterise(load_polygons(path))
    else:
        with _open(io.BytesIO(data), path, "mask") as stored:
            if stored.mode not in ("P", "L"):
                raise UserError(
                    f"mask {shown(path)} is {stored.mode}, not class ids; save it as an indexed PNG with VOC's palette"
                )
            try:
                labels = np.array(stored, dtype=np.uint8)
                colours = stored.getpalette("RGB") if stored.mode == "P" else None
            except Exception as error:
                raise unreadable(path, error, "mask") from None
        if colours is not None:
            _check_palette(labels, np.array(colours).reshape(-1, 3), path)
    if labels.shape != tuple(size):
        raise UserError(
            f"mask {shown(path)} is {labels.shape[1]}x{labels.shape[0]}, its picture is {size[1]}x{size[0]}; "
            "give both the same size"
        )
    wrong = [int(v) for v in np.unique(labels) if v >= NUM_CLASSES and v != VOID]
    if wrong:
        raise UserError(
            f"mask {shown(path)} holds the class ids {wrong}; ids are 0..{NUM_CLASSES - 1}, and {VOID} for void"
        )
    return Image.fromarray(labels)


def _check_palette(labels: np.ndarray, colours: np.ndarray, path: Path) -> None:
    """Refuse a mask whose palette holds VOC's colours in another order: an editor that sorts palettes changes the class
    ids.
    """
    import numpy as np

    known = {tuple(colour): label for label, colour in enumerate(voc_palette()[:NUM_CLASSES].tolist())}
    known[tuple(voc_palette()[VOID].tolist())] = VOID
    meant = {int(v): known.get(tuple(colours[v].tolist())) for v in np.unique(labels) if v < len(colours)}
    if None in meant.values():
        return  # the palette is not VOC's, so only the numbers count
    moved = [(index, label) for index, label in meant.items() if index != label]
    if moved:
        index, label = moved[0]
        name = VOC_CLASSES[label] if label < NUM_CLASSES else "void"
        raise UserError(
            f"mask {shown(path)}: index {index} has the colour of {name} ({label}): the palette is in another order, "
            "so the indices are not class ids; save the mask with VOC's palette"
        )


def _open(file, path: Path, what: str = "picture") -> PIL.Image.Image:
    """Open a picture. Pillow reads only its header here."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large pictures are allowed; far too large ones are refused below
            return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise unreadable(
            path, ValueError("it is no picture of a known format, or its header is damaged"), what
        ) from None
    except Image.DecompressionBombError:
        reason = ValueError(f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels")
        raise unreadable(path, reason, what) from None
    except Exception as error:
        raise unreadable(path, error, what) from None


def _orientation(picture: PIL.Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block raises many kinds of errors, and the pixels may be good
        return 1


def unreadable(path: Path, error: Exception, what: str = "picture") -> UserError:
    """The UserError for a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        if Path(path).is_symlink():
            return UserError(
                f"{what} {shown(path)} is missing: it is a link that leads nowhere; repair or remove the link"
            )
        return UserError(f"{what} {shown(path)} is missing; restore it, or remove its name from the set")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, (KeyError, IndexError, AttributeError, TypeError, AssertionError)):
        reason = "the file is damaged"  # the texts of these errors are internal names of Pillow
    return UserError(f"cannot read {what} {shown(path)}: {shown(reason)}; replace the file or take it out of the set")
