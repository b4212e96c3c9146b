"""The public sets that `data fetch` can download: their addresses, and the checksums that their files must have.

TensorFlow Datasets publishes the checksums of DIV2K and VOC 2012. Those of the 24 Kodak pictures are the same in
several public projects, and were compared with the files. A set without known checksums is not offered.
"""

from __future__ import annotations

from dataclasses import dataclass

from systems.errors import UnknownName, UserError, did_you_mean


@dataclass(frozen=True)
class Source:
    """One set.

    files: {name on the server: "sha256:..."}: one archive, or (if inside == "") single pictures.
    """

    name: str
    base_url: str  # address of the folder with the files
    files: dict[str, str]
    target: str  # the set's folder under the data root
    inside: str  # that folder's path inside the archive; "" for single files
    size: int  # about this many bytes to download


SOURCES = {
    "kodak": Source("kodak", "https://r0k.us/graphics/kodak/kodak/", {
        "kodim01.png": "sha256:a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd",
        "kodim02.png": "sha256:4f4b74a79237e311d72cad958237b5f7088d8bce1c82305ebefe1a70e3022dfd",
        "kodim03.png": "sha256:e25ca1ff2f0c0cb5fdfd5f9b0a0bb21ac4c3de3c84a67f35b09a85d3306249db",
        "kodim04.png": "sha256:e3b946107c5d3441c022f678d0c3caf1e224d81b1604ba840a4f88e562de61aa",
        "kodim05.png": "sha256:10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53",
        "kodim06.png": "sha256:363510303b715d4cbc384e1ce227e466b613a09e1b71ae985882bf8e7fbd9b18",
        "kodim07.png": "sha256:b77d3f006f42414bb242222e0482e750c0fb9e5ee8d4bed2f6f11c5605fe54a4",
        "kodim08.png": "sha256:ba23983c76b4832ee0e8af0592664756841a16779acd69f792e268fb6d13d6e7",
        "kodim09.png": "sha256:6a4361c2fc194feb4edaa9f9a4a0620fb9943e460ac7fdf037fb0f6dd6607a7d",
        "kodim10.png": "sha256:9dfb70f5867c29ff9ed6313683f19b3d867849e40fbc0c4c54a4a89df341cf23",
        "kodim11.png": "sha256:7936814b58b5387fce2e4e2488b4ec830dadd95fa9520f358ddb30990b50f2b6",
        "kodim12.png": "sha256:d78c37c2f04f23761ed2367dd77e2db584ddd4c3950833fecf89f199a8126980",
        "kodim13.png": "sha256:bc34a3ce58dea09dce1704c997171602de90cb34d0c8503a988b77f473d39b08",
        "kodim14.png": "sha256:55a94550ff18f3246c4074fd32b77b0c74447c26b6ad274d564d999c0450ba6e",
        "kodim15.png": "sha256:7538cbb80cb9103606c48b806eae57d56c885c7f90b9b3be70a41160f9cbb683",
        "kodim16.png": "sha256:a89c7268ccd4718ba424a99fc4643c572cf692ca6eae887185ceb4e9f11d2e54",
        "kodim17.png": "sha256:37afcc89fbdcb76d9518e04b2fc011027e2f4cd14b3b2f83cefd721641a47c5b",
        "kodim18.png": "sha256:1a9258c365988961d87a0598725b609139c303ad48a5aad6c503c3b1a87849aa",
        "kodim19.png": "sha256:b7450b264b1b0a411390d8931b112c27905a992520fc90569dc4b920aa32bbdc",
        "kodim20.png": "sha256:3b46c71e3b92a563820ba32936be8330c586c41f938efd94be938386aae4328a",
        "kodim21.png": "sha256:ac958597c82073f6bb65129c68f72b651db5b9efd82e11547d07350214bc268b",
        "kodim22.png": "sha256:1cee58eb1f2d9c7ebb254d208a03c783ce6cf2c4d8c2cf45e235dd23b4ce1b29",
        "kodim23.png": "sha256:e3111a2fd4da24af15d6459ef9eacfe54106b38e27b4a21821b75c3f5d2d5baf",
        "kodim24.png": "sha256:1071c68372cc5a01435c2c225a5cf7d4bb803846ec08bb6b3d6721b156d7cb96",
    }, "kodak", "", 15_400_000),
    "div2k-valid": Source("div2k-valid", "https://data.vision.ee.ethz.ch/cvl/DIV2K/", {
        "DIV2K_valid_HR.zip": "sha256:20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
    }, "DIV2K_valid_HR", "DIV2K_valid_HR", 448_993_893),
    "div2k-train": Source("div2k-train", "https://data.vision.ee.ethz.ch/cvl/DIV2K/", {
        "DIV2K_train_HR.zip": "sha256:9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
    }, "DIV2K_train_HR", "DIV2K_train_HR", 3_530_603_713),
    "voc2012": Source("voc2012", "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/", {
        "VOCtrainval_11-May-2012.tar": "sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    }, "VOCdevkit/VOC2012", "VOCdevkit/VOC2012", 1_999_639_040),
}  # fmt: skip
#: Names for several sets: DIV2K's validation pictures to test on, and its 800 training pictures.
GROUPS = {"div2k": ("div2k-valid", "div2k-train")}


def sources_of(name: str) -> list[Source]:
    """The sets that a name of `data fetch` means. Raises UnknownName with the nearest names."""
    if name in SOURCES:
        return [SOURCES[name]]
    if name in GROUPS:
        return [SOURCES[part] for part in GROUPS[name]]
    raise UnknownName(f"cannot fetch {name!r}; {did_you_mean(name, [*SOURCES, *GROUPS], 'sets', cutoff=0.4)}")


def checked_checksum(text: str) -> str:
    """A checksum that was given to `--checksum`, in lower case. Raises UserError if it has another form."""
    kind, _, digest = text.lower().partition(":")
    if len(digest) != {"md5": 32, "sha256": 64}.get(kind) or set(digest) - set("0123456789abcdef"):
        raise UserError(f"checksum {text!r} is not md5:<32 hex digits> or sha256:<64 hex digits>")
    return f"{kind}:{digest}"
