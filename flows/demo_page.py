"""The page of the demonstration: figures and numbers from what is stored, words around them."""

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows.demo_cases import (
    ARCHIVE_RECIPES,
    CASES,
    CHINA,
    CIRCLES,
    COFFEE,
    COINS,
    COINS_WARD,
    FOUR_CIRCLES,
    INPUTS,
    TWO_CIRCLES,
    Case,
    circle_regions,
    command_options,
)
from flows.figures import (
    PALETTE,
    Axis,
    color_regions,
    enlarge,
    grey,
    mean_colors,
    outlined,
    png_bytes,
    scatter,
    shrink,
)
from segmentation.arrays import Bytes8, Floats, Image, Labels, NodeLabels
from segmentation.io.files import write_atomically
from segmentation.io.images import decode
from segmentation.io.records import read_records
from segmentation.io.sources import image_id
from segmentation.io.store import read_labels, versions
from segmentation.kmeans import kmeans
from segmentation.params import Recipe
from segmentation.planning import Record, State

STORE, PICTURES, ARCHIVE, FIGURES, PAGE = "cases", "pictures", "archive", "figures", "index.html"
_SAMPLED_PIXELS = 2500
_THUMBNAIL_PX = 360

Fact = tuple[str, str]


@dataclass(frozen=True)
class Figure:
    """A picture or a drawing under its title, with what was measured; or why there is none."""

    title: str
    alt: str = ""
    file: str = ""  # below the page's folder
    link: str = ""
    size: tuple[int, int] = (0, 0)  # width, height
    facts: tuple[Fact, ...] = ()
    drawing: Markup = field(default_factory=Markup)
    problem: str = ""


@dataclass(frozen=True)
class Section:
    """One reference case: where it comes from, what to look at, its figures."""

    anchor: str
    title: str
    origin: str
    text: tuple[str, ...]
    figures: tuple[Figure, ...]
    commands: tuple[str, ...] = ()
    parameters: str = ""
    facts: tuple[Fact, ...] = ()
    layout: str = "row"


class Results:
    """What the demonstration left in its folder, and where its figures go."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.cases = read_records(output / STORE)
        self.archive = read_records(output / ARCHIVE)
        (output / FIGURES).mkdir(exist_ok=True)

    def record(self, case: Case) -> Record:
        """Return how a case ended."""
        return self.cases[image_id(case.file), case.label]

    def image(self, file: str) -> Image:
        """Decode an input as the tasks did."""
        return decode((self.output / INPUTS / file).read_bytes())

    def labels(self, case: Case) -> Labels:
        """Read the stored labels of a case."""
        return read_labels(self.output / STORE, image_id(case.file), case.label)

    def picture(self, name: str, picture: Bytes8, title: str, alt: str, facts: Iterable[Fact] = ()) -> Figure:
        """Write a picture for the page."""
        file = f"{FIGURES}/{name}.png"
        write_atomically(self.output / file, png_bytes(picture))
        return Figure(title, alt, file, size=(picture.shape[1], picture.shape[0]), facts=tuple(facts))

    def figure(
        self, case: Case, title: str, alt: str, draw: Callable[[Image, Labels], Bytes8], facts: Iterable[Fact] = ()
    ) -> Figure:
        """Draw the labels of a case; a case that was refused says so in the figure's place."""
        record = self.record(case)
        if record.state is not State.SEGMENTED:
            return Figure(title, problem=_problem(record))
        picture = draw(self.image(case.file), self.labels(case))
        title = f"{title}, {record.seconds['cluster']:.2f}s"  # as scikit-learn's example has it
        return self.picture(case.label, picture, title, alt, [*facts, *record_facts(record)])


def write_page(output: Path) -> Path:
    """Draw all figures from the stored labels, write the page, and return its path."""
    results = Results(output)
    sections = (
        _circles(results),
        _coins(results),
        _coins_ward(results),
        _china(results),
        _coffee(results),
        _digits(results),
        _blobs(results),
        _archive(results),
    )
    page = output / PAGE
    write_atomically(page, _render(results, sections).encode())
    return page


def record_facts(record: Record) -> list[Fact]:
    """Say what a record measured, in the words of the page."""
    facts = [("Regions", f"{record.n_regions}")]
    if "ncut" in record.scores:
        facts.append(("Ncut", f"{record.scores['ncut']:.4f}"))
    if "inertia" in record.scores:
        facts.append(("Inertia", f"{record.scores['inertia']:,.0f}"))
    if not record.ref.mask_path:  # within the mask there is nothing but noise to explain
        facts.append(("Variance explained", _percent(record.scores["explained_variance"])))
    return facts


def _circles(results: Results) -> Section:
    figures = []
    for case, number in ((FOUR_CIRCLES, "Four"), (TWO_CIRCLES, "Two")):
        shown = grey(results.image(case.file), 0.4, 2.6)
        title = f"{number} circles in noise"
        alt = f"{number} overlapping bright circles on a dark ground, both covered in noise."
        figures.append(results.picture(f"{Path(case.file).stem}-image", enlarge(shown, 4), title, alt))
        figures.append(
            results.figure(
                case,
                "Their labels",
                f"The same {number.lower()} circles, each in a colour of its own, the ground transparent.",
                lambda image, labels: enlarge(color_regions(labels), 4),
                _circle_scores(results, case),
            )
        )
    return Section(
        "circles",
        "Touching circles",
        "scikit-learn: Spectral clustering for image segmentation (plot_segmentation_toy)",
        (
            "Every circle is as bright as the next, so intensity cannot tell them apart; the noise hides even where "
            "one ends. The normalized cut goes through the graph of the masked pixels where it is narrow: at the "
            "contacts. The adjusted Rand index compares with the circles that were drawn; 1 is perfect.",
        ),
        tuple(figures),
        (FOUR_CIRCLES.command(), TWO_CIRCLES.command()),
        parameters=_parameters(FOUR_CIRCLES.recipe, without="n_regions"),
    )


def _circle_scores(results: Results, case: Case) -> list[Fact]:
    from sklearn.metrics import adjusted_rand_score

    if results.record(case).state is not State.SEGMENTED:
        return []
    truth = circle_regions(CIRCLES[case.file])
    inside = truth > 0
    score = adjusted_rand_score(truth[inside], results.labels(case)[inside])
    return [("Adjusted Rand index", f"{score:.3f}")]


def _coins(results: Results) -> Section:
    figures = [
        results.figure(
            case,
            f"Spectral clustering: {assigner}",
            f"Greek coins with coloured outlines around most coins and around parts of the ground, from {assigner}.",
            lambda image, labels: outlined(image, labels, 2),
        )
        for assigner, case in COINS.items()
    ]
    return Section(
        "coins",
        "Greek coins, three label assigners",
        "scikit-learn: Segmenting the picture of Greek coins in regions (plot_coin_segmentation)",
        (
            "One graph, one set of eigenvectors, three ways from eigenvectors to labels; the seconds in the titles "
            "are those of the cluster step, here and below. The image is clustered at "
            f"{COINS['kmeans'].recipe.scale:g} of its size, as in the original; our outlines then follow the edges of "
            "the full image instead of its blocks. Twenty-six regions are wanted and three more computed, because the "
            "uneven ground takes more than one. The lower the normalized cut (Ncut), the better the partition.",
        ),
        tuple(figures),
        tuple(case.command() for case in COINS.values()),
        parameters=_parameters(COINS["kmeans"].recipe, without="assign_labels"),
        layout="wide",
    )


def _coins_ward(results: Results) -> Section:
    figure = results.figure(
        COINS_WARD,
        "Ward",
        "Greek coins with coloured outlines; regions from Ward's method.",
        lambda image, labels: outlined(image, labels, 2),
    )
    original = enlarge(results.image(COINS_WARD.file), 2)
    return Section(
        "ward",
        "Greek coins with Ward",
        "scikit-learn: Structured Ward hierarchical clustering on an image of coins (plot_coin_ward_segmentation)",
        (
            "Neighbouring regions merge as long as their union varies least. Compared with the cuts above, more of "
            "the variance is explained, and the gradient of the ground is divided into steps.",
        ),
        (results.picture("coins", original, "The image", "A photograph of 24 Greek coins in four rows."), figure),
        (COINS_WARD.command(),),
        parameters=_parameters(COINS_WARD.recipe),
        layout="pair",
    )


def _china(results: Results) -> Section:
    image = results.image(CHINA.file)
    before = results.picture("china", image, "Before", "A pavilion of the Summer Palace among trees, in full colour.")
    after = results.figure(CHINA, "After: sixteen colours", "The same photograph in 16 colours.", mean_colors)
    plots = _color_plots("Before", image)
    if not after.problem:
        compressed = _color_plots("After", image, mean_colors(image, results.labels(CHINA)))
        plots = [plot for pair in zip(plots, compressed, strict=True) for plot in pair]
    n_colors = len(np.unique(image.reshape(-1, 3), axis=0))
    return Section(
        "china",
        "China in sixteen colours",
        "Python Data Science Handbook: k-means for colour compression",
        (
            f"The photograph has {n_colors:,} colours; mini-batch k-means finds the sixteen that stand for them with "
            "the least squared error. The labels in the store are the compressed picture: the second one is made "
            "of them alone, each pixel in the mean colour of its region.",
            f"Below, {_SAMPLED_PIXELS:,} of its pixels in the colour cube, seen from two sides: every dot stays where "
            "its pixel was and takes the colour that the pixel has in the picture.",
        ),
        (before, after, *plots),
        (CHINA.command(),),
        parameters=_parameters(CHINA.recipe),
        layout="pair",
    )


def _color_plots(when: str, image: Image, shown: Image | None = None) -> list[Figure]:
    pixels = image.reshape(-1, 3)
    sample = np.random.default_rng(0).choice(len(pixels), _SAMPLED_PIXELS, replace=False)
    points = pixels[sample] / 255.0
    colors = (image if shown is None else shown).reshape(-1, 3)[sample]
    figures = []
    for channel, name in ((1, "green"), (2, "blue")):
        description = f"{when}: scatter plot of pixels over red and {name}, each dot in its pixel’s colour."
        drawing = scatter(
            points[:, [0, channel]],
            colors,
            Axis("red", -0.02, 1.02, (0, 0.25, 0.5, 0.75, 1)),
            Axis(name, -0.02, 1.02, (0, 0.25, 0.5, 0.75, 1)),
            description=description,
        )
        figures.append(Figure(f"{when}: red and {name}", description, drawing=drawing))
    return figures


def _coffee(results: Results) -> Section:
    figures = [
        results.picture("coffee", results.image("coffee.png"), "The image", "A cup of coffee on a wooden table.")
    ]
    for k, case in COFFEE.items():
        figures.append(results.figure(case, f"k = {k}", f"The cup of coffee in {k} colours.", mean_colors))
    return Section(
        "coffee",
        "Three colours, ten colours",
        "OpenCV: K-means clustering, colour quantization",
        (
            "All pixels in every round, under OpenCV’s criteria: ten attempts, each at most 100 rounds or until the "
            "centres move less than 0.85 grey levels. Three colours make a poster; with ten, some steps remain in "
            "the shadows and in the wood.",
        ),
        tuple(figures),
        tuple(case.command() for case in COFFEE.values()),
        parameters=_parameters(COFFEE[3].recipe, without="n_clusters"),
        layout="wide",
    )


def _digits(results: Results) -> Section:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    found = kmeans(digits.data, n_clusters=10, algorithm="lloyd", n_init=10, max_iter=300, tol=0, random_state=0)
    likeliest, hits = _majority(found.labels, digits.target)
    without = sorted(set(digits.target.tolist()) - set(likeliest.tolist()))
    figures = [
        results.picture(
            f"digit-{place}",
            enlarge(grey(found.centers[cluster].reshape(8, 8), 16, 0), 14),
            f"mostly {likeliest[cluster]}",
            f"Mean of {np.sum(found.labels == cluster)} handwritten digits, most of them {likeliest[cluster]}.",
            [("", f"{hits[cluster]} of {np.sum(found.labels == cluster)}")],
        )
        for place, cluster in enumerate(np.lexsort((-hits, likeliest)))
    ]
    return Section(
        "digits",
        "Handwritten digits in ten clusters",
        "Python Data Science Handbook: k-means on digits",
        (
            "Not an image to segment but 1,797 pictures of 8×8 pixels to group; the library’s k-means takes any "
            "points. Nobody told it what a digit is, yet its ten centres can be read. Below each centre: the digit "
            "that most pictures of its cluster show, and how many of them do.",
        ),
        tuple(figures),
        facts=(
            ("Pictures grouped with their digit", _percent(hits.sum() / len(digits.target))),
            ("Digits without a cluster of their own", ", ".join(map(str, without)) or "none"),
            ("Inertia", f"{found.inertia:,.0f}"),
        ),
        layout="digits",
    )


def _majority(labels: NodeLabels, truth: NodeLabels) -> tuple[NodeLabels, NodeLabels]:
    """Return for each cluster its most frequent true class, and how often it occurs."""
    counts = np.zeros((int(labels.max()) + 1, int(truth.max()) + 1), np.int64)
    np.add.at(counts, (labels, truth), 1)
    return counts.argmax(axis=1), counts.max(axis=1)


def _blobs(results: Results) -> Section:
    from sklearn.datasets import make_blobs
    from sklearn.metrics import adjusted_rand_score

    points, truth, centers = make_blobs(n_samples=300, centers=4, cluster_std=0.6, random_state=0, return_centers=True)
    found = kmeans(points, n_clusters=4, algorithm="lloyd", n_init=10, max_iter=300, tol=0, random_state=0)
    distances = np.linalg.norm(found.centers[:, np.newaxis] - centers, axis=2).min(axis=1)
    description = "Scatter plot of 300 points in four groups, each in its colour, a ring at each centre."
    x, y = (_axis(name, points[:, column]) for column, name in enumerate("xy"))
    drawing = scatter(points, PALETTE[found.labels], x, y, description=description, point_px=6.5, centers=found.centers)
    facts = (
        ("Adjusted Rand index", f"{adjusted_rand_score(truth, found.labels):.3f}"),
        ("Centres from the true ones", f"{distances.max():.2f} at most"),
        ("Inertia", f"{found.inertia:.2f}"),
    )
    return Section(
        "blobs",
        "Four blobs and their centres",
        "Python Data Science Handbook: introducing k-means",
        (
            "Three hundred points around four centres with a deviation of 0.6, again with the library’s k-means. The "
            "rings are the centres that it found; where two blobs meet, points go to the nearer one.",
        ),
        (Figure("Points and centres", description, drawing=drawing, facts=facts),),
        layout="single",
    )


def _axis(name: str, values: Floats) -> Axis:
    """Fit an axis around values, with a tick at every second whole number."""
    low, high = float(values.min()) - 0.5, float(values.max()) + 0.5
    first = int(np.ceil(low / 2)) * 2
    return Axis(name, low, high, tuple(range(first, int(np.floor(high)) + 1, 2)))


def _archive(results: Results) -> Section:
    names = sorted({record.ref.raw_name for record in results.archive.values()})
    figures = [
        _archive_figure(results, record)
        for name in names
        for label in ARCHIVE_RECIPES
        for record in results.archive.values()
        if (record.ref.raw_name, record.label) == (name, label)
    ]
    commands = [
        " ".join(["regionflow run", PICTURES, "OUTPUT", *command_options(recipe)])
        for recipe in ARCHIVE_RECIPES.values()
    ]
    return Section(
        "archive",
        "A small archive",
        "The sample pictures of scikit-image and scikit-learn",
        (
            f"{len(names)} photographs and micrographs of every size, grey and colour, through the same "
            "three commands, one recipe for all: nobody adjusted anything to a picture. Normalized cuts find few "
            "large shapes, Ward follows tone, and k-means makes a palette whose regions may lie in many places.",
        ),
        tuple(figures),
        tuple(commands),
        layout="archive",
    )


def _archive_figure(results: Results, record: Record) -> Figure:
    name = record.ref.display_name
    if record.state is not State.SEGMENTED:
        return Figure(name, problem=_problem(record), facts=(("", record.label),))
    contour = f"{ARCHIVE}/{record.contour}"
    picture = shrink(decode((results.output / contour).read_bytes()), _THUMBNAIL_PX)
    file = f"{FIGURES}/{record.ref.id}.{record.label}.png"
    write_atomically(results.output / file, png_bytes(picture))
    facts = (("", record.label), ("", f"{record.n_regions} regions"), ("", f"{sum(record.seconds.values()):.1f} s"))
    alt = f"{name} with the outlines of {record.n_regions} regions found by {record.label}."
    return Figure(name, alt, file, contour, (picture.shape[1], picture.shape[0]), facts)


def _problem(record: Record) -> str:
    return f"{record.state.value} at {record.step}: {record.reason}"


def _parameters(recipe: Recipe, without: str = "") -> str:
    """List what a section's figures have in common."""
    method = recipe.method.model_dump(exclude={"method", without})
    values = {"sigma": recipe.sigma, "scale": recipe.scale, **method, "seed": recipe.seed}
    words = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    return ", ".join((recipe.method.method, *words))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _render(results: Results, sections: Sequence[Section]) -> str:
    style = resources.files(__package__).joinpath("templates", "demo.css").read_text("utf-8")
    environment = Environment(
        loader=PackageLoader("flows", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    records = [*(results.record(case) for case in CASES), *results.archive.values()]
    states = [record.state for record in records]
    return environment.get_template("demo.html.j2").render(
        sections=sections,
        style=style,
        style_hash=f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}",
        counts={state.value: states.count(state) for state in State},
        n_results=len(records),
        seconds=sum(sum(record.seconds.values()) for record in records),
        versions=versions(),
        galleries={"archive": f"{ARCHIVE}/gallery/index.html", "cases": f"{STORE}/gallery/index.html"},
    )
