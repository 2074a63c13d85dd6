"""The inputs and recipes of the demonstration: the examples that Regionflow reproduces, and a small real archive.

Everything comes out of installed packages or a seeded generator; nothing is downloaded.
"""

import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from flows.figures import png_bytes
from segmentation.arrays import Bools, Floats, Ints
from segmentation.io.files import write_atomically
from segmentation.params import Hierarchy, KMeans, Recipe, Spectral, Ward

INPUTS = "cases-input"
#: Stores of those who try the commands.
OWN_CASES, OWN_ARCHIVE = "my-cases", "my-archive"
_SIDE = 100
_NOISE = 0.2

#: Row, column and radius in pixels, as in scikit-learn's example.
Circle = tuple[int, int, int]
FOUR: tuple[Circle, ...] = ((28, 24, 16), (40, 50, 14), (67, 58, 15), (24, 70, 14))
CIRCLES: dict[str, tuple[Circle, ...]] = {"four-circles.tif": FOUR, "two-circles.tif": FOUR[:2]}


@dataclass(frozen=True)
class Case:
    """One image, segmented in one way, under a label of its own."""

    file: str
    label: str
    recipe: Recipe

    @property
    def mask(self) -> str:
        """The mask's file, below the folder of inputs; "" if everything is segmented."""
        return f"masks/{Path(self.file).stem}.png" if self.file in CIRCLES else ""

    def command(self) -> str:
        """Return what to type in the demonstration's folder for the same labels, beside those of other cases.

        Examples
        --------
        >>> Case("coins.png", "ward", Recipe(method=Ward(n_regions=27))).command()
        'regionflow run cases-input/coins.png my-cases --label ward --method ward'
        """
        words = ["regionflow", "run", f"{INPUTS}/{self.file}", OWN_CASES, "--label", self.label]
        if self.mask:
            words += ["--mask", f"{INPUTS}/{self.mask}"]
        return shlex.join(words + command_options(self.recipe))


def command_options(recipe: Recipe) -> list[str]:
    """List the options of `regionflow run` that make a recipe.

    Examples
    --------
    >>> command_options(Recipe(sigma=0, method=KMeans(n_clusters=3, tol=0)))
    ['--method', 'kmeans', '--regions', '3', '--sigma', '0', '--set', 'tol=0']
    >>> command_options(Recipe(method=Hierarchy()))
    ['--method', 'hierarchy']
    """
    usual = dict(Recipe(method=recipe.method))
    changed = {name: value for name, value in recipe if name != "method" and value != usual[name]}
    method = recipe.method.model_dump(exclude_defaults=True, exclude={"method"})
    regions = method.pop("n_clusters", None) or method.pop("n_regions", None)
    options = [] if recipe.method.method == Spectral().method else ["--method", recipe.method.method]
    options += ["--regions", str(regions)] if regions else []
    for name, value in changed.items():
        options += [f"--{name.replace('_', '-')}", _plain(value)]
    for name, value in method.items():
        options += ["--set", f"{name}={_plain(value)}"]
    return options


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _circle_recipe(n_regions: int) -> Recipe:
    method = Spectral(n_regions=n_regions, extra_regions=0, beta=1, eps=0, eigen_solver="arpack")
    return Recipe(sigma=0, scale=1, method=method)


def _palette(n_clusters: int) -> Recipe:
    """Cluster under the criteria of OpenCV's tutorial: ten attempts, 100 rounds, centres within 0.85 grey levels."""
    return Recipe(
        sigma=0, scale=1, method=KMeans(n_clusters=n_clusters, algorithm="lloyd", n_init=10, max_iter=100, tol=0.85)
    )


FOUR_CIRCLES = Case("four-circles.tif", "four-circles", _circle_recipe(4))
TWO_CIRCLES = Case("two-circles.tif", "two-circles", _circle_recipe(2))
_ASSIGNERS: tuple[Literal["kmeans", "discretize", "cluster_qr"], ...] = ("kmeans", "discretize", "cluster_qr")
COINS = {
    name: Case("coins.png", f"spectral-{name}", Recipe(method=Spectral(eigen_solver="arpack", assign_labels=name)))
    for name in _ASSIGNERS
}
COINS_WARD = Case("coins.png", "ward", Recipe(method=Ward(n_regions=27)))
HIERARCHY = tuple(
    Case(f"{name}.png", f"hierarchy-{name}", Recipe(method=Hierarchy())) for name in ("astronaut", "coins")
)
CHINA = Case("china.jpg", "palette-16", Recipe(sigma=0, scale=1, method=KMeans(n_clusters=16, algorithm="minibatch")))
COFFEE = {k: Case("coffee.png", f"kmeans-{k}", _palette(k)) for k in (3, 10)}
CASES = (FOUR_CIRCLES, TWO_CIRCLES, *COINS.values(), COINS_WARD, *HIERARCHY, CHINA, *COFFEE.values())

#: How the archive is segmented: the label is the method's name.
ARCHIVE_RECIPES = {
    "spectral": Recipe(method=Spectral()),
    "ward": Recipe(method=Ward(n_regions=27)),
    "kmeans": Recipe(scale=0.25, min_region_size=200, method=KMeans(n_clusters=6)),
}
#: Package, folder in it, and the sample pictures there.
_SAMPLES = {
    ("skimage", "data"): (
        *("astronaut.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png"),
        *("ihc.png", "moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg"),
    ),
    ("sklearn", "datasets/images"): ("china.jpg", "flower.jpg"),
}


def write_inputs(folder: Path) -> None:
    """Write the images of `CASES` and their masks; what is there already and right stays untouched."""
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    for file, circles in CIRCLES.items():
        _put(folder / file, _tiff(draw_circles(circles)))
        mask = circle_regions(circles) > 0
        _put(folder / "masks" / f"{Path(file).stem}.png", png_bytes(mask.astype(np.uint8) * np.uint8(255)))
    samples = sample_pictures()
    for file in {case.file for case in CASES} - CIRCLES.keys():
        _put(folder / file, samples[file])


def write_pictures(folder: Path) -> None:
    """Write the sample pictures that the installed packages bring along."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in sample_pictures().items():
        _put(folder / file, data)


def sample_pictures() -> dict[str, bytes]:
    """Return the sample pictures of scikit-image and scikit-learn that are in the installed packages, as files."""
    found = {}
    for (package, folder), names in _SAMPLES.items():
        directory = resources.files(package).joinpath(folder)
        found.update({name: directory.joinpath(name).read_bytes() for name in names})
    return found


def draw_circles(circles: Sequence[Circle]) -> Floats:
    """Draw touching circles in noise: 2 inside, 1 outside, plus a deviation of 0.2; shape (100, 100)."""
    noise = np.random.default_rng(0).normal(size=(_SIDE, _SIDE))
    image: Floats = (circle_regions(circles) > 0) + 1 + _NOISE * noise
    return image


def circle_regions(circles: Sequence[Circle]) -> Ints:
    """Return the circles as labels 1..K, 0 outside; overlaps are divided along the line between the crossings."""
    rows, columns = np.indices((_SIDE, _SIDE))
    power = np.stack([(rows - row) ** 2 + (columns - column) ** 2 - radius**2 for row, column, radius in circles])
    inside: Bools = power.min(axis=0) < 0
    return np.where(inside, power.argmin(axis=0) + 1, 0)


def _tiff(image: Floats) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image.astype(np.float32))
    return buffer.getvalue()


def _put(path: Path, data: bytes) -> None:
    """Write a file unless it is there: a second demonstration then finds nothing changed."""
    if not path.is_file() or path.read_bytes() != data:
        write_atomically(path, data)
