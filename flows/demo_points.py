"""The sections of the demonstration where k-means groups points instead of pixels."""

from typing import Any

import numpy as np

from flows.demo_results import Figure, Results, Section, percent
from flows.figures import PALETTE, Axis, enlarge, grey, scatter
from segmentation.arrays import Floats, NodeLabels
from segmentation.kmeans import kmeans


def digits_section(results: Results) -> Section:
    """Group handwritten digits."""
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
            ("Pictures grouped with their digit", percent(hits.sum() / len(digits.target))),
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


def blobs_section() -> Section:
    """Group points of the plane."""
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
