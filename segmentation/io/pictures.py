"""What reading an image gives: its pixels, which of them are data, and where they lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segmentation.arrays import Bools, Image


@dataclass(frozen=True)
class Grid:
    """Where the pixels of an image lie: step, place of the first centre, and unit, along rows and columns.

    As OME-NGFF says it; a unit is "" where none is said.
    """

    step: tuple[float, float] = (1.0, 1.0)
    origin: tuple[float, float] = (0.0, 0.0)
    unit: tuple[str, str] = ("", "")

    def axes(self) -> list[dict[str, str]]:
        """Describe y and x for OME-NGFF.

        Examples
        --------
        >>> Grid(unit=("micrometer", "")).axes()
        [{'name': 'y', 'type': 'space', 'unit': 'micrometer'}, {'name': 'x', 'type': 'space'}]
        """
        plain = ({"name": name, "type": "space"} for name in ("y", "x"))
        return [{**axis, "unit": unit} if unit else axis for axis, unit in zip(plain, self.unit, strict=True)]

    def coarser(self, factors: Sequence[float]) -> "Grid":
        """Return the grid of pixels that are some times as high and wide, over the same area.

        Examples
        --------
        >>> Grid(step=(0.5, 0.5)).coarser((4, 2))
        Grid(step=(2.0, 1.0), origin=(0.75, 0.25), unit=('', ''))
        """
        step = [size * factor for size, factor in zip(self.step, factors, strict=True)]
        moved = zip(self.origin, self.step, factors, strict=True)
        origin = [place + size * (factor - 1) / 2 for place, size, factor in moved]
        return Grid((step[0], step[1]), (origin[0], origin[1]), self.unit)

    def as_dict(self) -> dict[str, Any]:
        """Return what `from_dict` makes the grid of again."""
        return {"step": list(self.step), "origin": list(self.origin), "unit": list(self.unit)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Grid":
        """Make a grid of what `as_dict` returned."""
        return cls(*(tuple(values[name]) for name in ("step", "origin", "unit")))


PIXELS = Grid()


@dataclass(frozen=True)
class Picture:
    """One image."""

    pixels: Image
    valid: Bools | None = None  # False where the file says that there is no data; None: data everywhere
    grid: Grid = PIXELS
