"""The sections of the demonstration: each an image that people know, and what was made of it."""

from pathlib import Path

import numpy as np

from flows.demo_cases import (
    ARCHIVE_RECIPES,
    CHINA,
    CIRCLES,
    COFFEE,
    COINS,
    COINS_WARD,
    FOUR_CIRCLES,
    HIERARCHY,
    OWN_ARCHIVE,
    TWO_CIRCLES,
    Case,
    circle_regions,
    command_options,
)
from flows.demo_results import (
    ARCHIVE,
    FIGURES,
    PICTURES,
    STORE,
    Fact,
    Figure,
    Results,
    Section,
    common_parameters,
    problem_of,
)
from flows.figures import Axis, color_regions, enlarge, grey, mean_colors, outlined, png_bytes, scatter, shrink
from segmentation.arrays import Image
from segmentation.io.files import write_atomically
from segmentation.io.images import decode
from segmentation.planning import Record, State

_SAMPLED_PIXELS = 2500
_THUMBNAIL_PX = 360


def circles_section(results: Results) -> Section:
    """Show circles that only their shape divides."""
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
            "contacts. The adjusted Rand index compares with the circles that were drawn; 1 is perfect. "
            "The seconds of the first include loading scikit-learn.",
        ),
        tuple(figures),
        (FOUR_CIRCLES.command(), TWO_CIRCLES.command()),
        parameters=common_parameters(FOUR_CIRCLES.recipe, without="n_regions"),
    )


def _circle_scores(results: Results, case: Case) -> list[Fact]:
    from sklearn.metrics import adjusted_rand_score

    if results.record(case).state is not State.SEGMENTED:
        return []
    truth = circle_regions(CIRCLES[case.file])
    inside = truth > 0
    score = adjusted_rand_score(truth[inside], results.labels(case)[inside])
    return [("Adjusted Rand index", f"{score:.3f}")]


def coins_section(results: Results) -> Section:
    """Show one spectral embedding, labelled in three ways."""
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
        parameters=common_parameters(COINS["kmeans"].recipe, without="assign_labels"),
        layout="wide",
    )


def coins_ward_section(results: Results) -> Section:
    """Show the same coins by Ward's method."""
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
        parameters=common_parameters(COINS_WARD.recipe),
        layout="pair",
    )


def hierarchy_section(results: Results) -> Section:
    """Show regions whose number nobody chose."""
    originals = {
        "astronaut.png": results.picture(
            "astronaut", results.image("astronaut.png"), "The image", "An astronaut in front of a flag and a shuttle."
        ),
        "coins.png": results.picture(
            "coins", enlarge(results.image("coins.png"), 2), "The image", "A photograph of 24 Greek coins in four rows."
        ),
    }
    figures = []
    for case in HIERARCHY:
        figures.append(originals[case.file])
        figures.append(
            results.figure(
                case,
                "The suggested cut",
                "The same image with a coloured outline around each region of the suggested cut.",
                lambda image, labels: outlined(image, labels, 2),
                _tree_facts(results.record(case)),
            )
        )
    return Section(
        "hierarchy",
        "Regions that nobody counted",
        "The sample pictures of scikit-image",
        (
            "One recipe for both pictures and no number of regions: borders that are not credible enough are removed "
            "from a tree of regions, and how many are left follows from the picture.",
        ),
        tuple(figures),
        tuple(case.command() for case in HIERARCHY),
        parameters=common_parameters(HIERARCHY[0].recipe),
        layout="pair",
        links=(("Move through all cuts in the cases’ gallery", f"{STORE}/gallery/index.html"),),
    )


def _tree_facts(record: Record) -> list[Fact]:
    if record.state is not State.SEGMENTED:
        return []
    base, threshold = record.scores["base_regions"], record.scores["threshold"]
    return [("Regions of the finest cut", f"{base:,.0f}"), ("Borders are kept above", f"{threshold:.3f}")]


def china_section(results: Results) -> Section:
    """Show a photograph in sixteen colours, and its pixels in the colour cube."""
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
            f"The photograph has {n_colors:,} colours; mini-batch k-means takes sixteen that stand for them. It looks "
            "at random parts of the pixels, as in the example; the default algorithm, distinct, looks at all colours "
            "and leaves less squared error (the inertia below). The labels in the store are the compressed picture: "
            "the second one is made of them alone, each pixel in the mean colour of its region.",
            f"Below, {_SAMPLED_PIXELS:,} of its pixels in the colour cube, seen from two sides: every dot stays where "
            "its pixel was and takes the colour that the pixel has in the picture.",
        ),
        (before, after, *plots),
        (CHINA.command(),),
        parameters=common_parameters(CHINA.recipe),
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


def coffee_section(results: Results) -> Section:
    """Show a photograph in few colours."""
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
        parameters=common_parameters(COFFEE[3].recipe, without="n_clusters"),
        layout="wide",
    )


def archive_section(results: Results) -> Section:
    """Show a small archive, every picture by every method."""
    names = sorted({record.ref.raw_name for record in results.archive.values()})
    figures = [
        _archive_figure(results, record)
        for name in names
        for label in ARCHIVE_RECIPES
        for record in results.archive.values()
        if (record.ref.raw_name, record.label) == (name, label)
    ]
    commands = [
        " ".join(["regionflow run", PICTURES, OWN_ARCHIVE, *command_options(recipe)])
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
        links=(
            ("Open the archive’s gallery", f"{ARCHIVE}/gallery/index.html"),
            ("Open the cases’ gallery", f"{STORE}/gallery/index.html"),
        ),
    )


def _archive_figure(results: Results, record: Record) -> Figure:
    name = record.ref.display_name
    if record.state is not State.SEGMENTED:
        return Figure(name, problem=problem_of(record), facts=(("", record.label),))
    contour = f"{ARCHIVE}/{record.contour}"
    picture = shrink(decode((results.output / contour).read_bytes()), _THUMBNAIL_PX)
    file = f"{FIGURES}/{record.ref.id}.{record.label}.png"
    write_atomically(results.output / file, png_bytes(picture))
    facts = (("", record.label), ("", f"{record.n_regions} regions"), ("", f"{sum(record.seconds.values()):.1f} s"))
    alt = f"{name} with the outlines of {record.n_regions} regions found by {record.label}."
    return Figure(name, alt, file, contour, (picture.shape[1], picture.shape[0]), facts)
