"""Tables of records that third parties can extend by entry points: of channels, metrics and tasks.

A record holds all that the bench needs to know about one of them, so no other code asks for it by name. A package adds
one without touching this repository, for example a channel:

    [project.entry-points."semantic_bench.channels"]
    my-channel = "my_package.channels:MY_CHANNEL"
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from systems import entry_points
from systems.errors import UnknownName, UserError, did_you_mean


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """The name."""
        ...


Record = TypeVar("Record", bound=Named)


class Records(Generic[Record]):
    """Records of one kind, by name: first the bench's own, then those of an entry-point group, which are loaded when
    needed.

    what: the kind in words, for messages.
    group: the entry-point group.
    kind: the class of the records.
    own: the bench's own records. A third party's record is left out if it cannot be loaded, is of another class, or
    takes a name of the bench. `faulty` gives the reason. The other records are not affected.
    """

    def __init__(self, what: str, group: str, kind: type[Record], own: tuple[Record, ...]):
        self.what, self.group, self.kind = what, group, kind
        self._own = {record.name: record for record in own}
        self._found: dict[str, Record] | None = None
        self._foreign: list[str] = []
        self.faulty: dict[str, str] = {}

    def _all(self) -> dict[str, Record]:
        if self._found is None:
            self._found = dict(self._own)
            for point in entry_points.points(self.group):
                # noted also if it cannot be loaded, because its code ran
                self._foreign.append(f"{self.what} {point.name} ({point.value})")
                try:
                    record = entry_points.loaded(point)
                except UserError as error:
                    self.faulty[point.name] = str(error)
                    continue
                if not isinstance(record, self.kind):
                    self.faulty[point.name] = f"{point.value} is not a {self.kind.__name__}"
                elif record.name != point.name:
                    self.faulty[point.name] = (
                        f"{point.value} has the name {record.name!r}; give its entry point the same name"
                    )
                elif record.name in self._found:
                    self.faulty[point.name] = f"the name is taken; give {point.value} another one"
                else:
                    self._found[record.name] = record
        return self._found

    @property
    def own_names(self) -> tuple[str, ...]:
        """The bench's own names, for documents that must not depend on what is installed."""
        return tuple(self._own)

    def unloaded_names(self) -> list[str]:
        """The bench's own names, and those of packages as their entry points have them. Nothing is imported."""
        return entry_points.with_names(self._own, self.group)

    def foreign(self) -> list[str]:
        """Records of installed packages that were loaded so far, such as "metric my-metric (my_package:MY_METRIC)".

        Faulty ones are included, because their code ran in the harness too.
        """
        return list(self._foreign)

    def names(self) -> tuple[str, ...]:
        """All names, the bench's own first."""
        return tuple(self._all())

    def __iter__(self):
        return iter(self._all().values())

    def __getitem__(self, name: str) -> Record:
        """The record with this name. Raises UnknownName with the nearest names."""
        if name in self._own:  # without searching the installed packages
            return self._own[name]
        found = self._all()
        if name not in found:
            if name in self.faulty:
                raise UnknownName(f"{self.what} {name!r} of an installed package cannot be used: {self.faulty[name]}")
            raise UnknownName(f"unknown {self.what} {name!r}; {did_you_mean(name, found, self.what + 's')}")
        return found[name]
