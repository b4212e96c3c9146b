"""The names of the digital systems. The registry, the systems and the bounds read them here.

    <codec>-ldpc-<M>qam       one constellation of M points and one code rate, for reconstruction
    <codec>-ldpc-<M>qam-fcn   the same, and an FCN labels the decoded picture, for segmentation
    <codec>-ldpc-adaptive     the best scheme of the table at each SNR, for reconstruction
    <codec>-capacity          the codec without error at the capacity of the channel: a bound, not a system

No large package is imported here, because the catalogue registers the families from this module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

from systems.errors import UserError

#: The codecs, and their spelling in labels.
SPELT = (("jpeg", "JPEG"), ("webp", "WebP"), ("avif", "AVIF"), ("heic", "HEIC"))
CODECS = tuple(codec for codec, _ in SPELT)
ORDERS = (4, 16, 64, 256)


@dataclass(frozen=True)
class Family:
    """One kind of name.

    form: the name as people write it.
    pattern: a regular expression with the group `codec`, and the group `order` if a constellation is part of the name.
    examples: some names.
    """

    form: str
    pattern: str
    examples: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Every name of the family."""
        whole = (self.form.replace("<codec>", codec).replace("<M>", str(m)) for codec, m in product(CODECS, ORDERS))
        return tuple(dict.fromkeys(whole))

    def parse(self, name: str) -> DigitalName:
        """The parts of `name`. Raises UserError if it is not a name of this family."""
        match = re.fullmatch(self.pattern, name)
        if match is None:
            codecs, orders = "|".join(CODECS), "|".join(map(str, ORDERS))
            raise UserError(
                f"system name {name!r} is not of the form {self.form} (codec: {codecs}; M: {orders}); write it like "
                f"{self.examples[0]}"
            )
        parts = match.groupdict()
        return DigitalName(parts["codec"], int(parts["order"]) if "order" in parts else None)


@dataclass(frozen=True)
class DigitalName:
    """The parts of a name.

    codec: one of CODECS.
    order: points of the constellation; None if the name has none.
    """

    codec: str
    order: int | None


_CODEC = f"(?P<codec>{'|'.join(CODECS)})"
_ORDER = f"(?P<order>{'|'.join(map(str, ORDERS))})"

FIXED = Family(
    "<codec>-ldpc-<M>qam",
    f"{_CODEC}-ldpc-{_ORDER}qam",
    ("jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "webp-ldpc-16qam", "avif-ldpc-16qam"),
)
LABELLED = Family(
    "<codec>-ldpc-<M>qam-fcn", f"{_CODEC}-ldpc-{_ORDER}qam-fcn", ("jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn")
)
ADAPTIVE = Family(
    "<codec>-ldpc-adaptive",
    f"{_CODEC}-ldpc-adaptive",
    ("jpeg-ldpc-adaptive", "webp-ldpc-adaptive", "avif-ldpc-adaptive"),
)
BOUND = Family("<codec>-capacity", f"{_CODEC}-capacity", ("jpeg-capacity",))
