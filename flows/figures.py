"""Small drawings for a page: arrays to PNG pictures, points to an SVG scatter plot."""

import io
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from segmentation.arrays import Bytes8, Floats, Image, Labels
from segmentation.contours import render_contours
from segmentation.graphs import pixel_rows
from segmentation.labels import region_means

T = TypeVar("T", bound=np.generic)

#: Colours that are told apart with any colour vision (P. Tol, "bright").
PALETTE = np.array(
    [(68, 119, 170), (238, 102, 119), (34, 136, 51), (204, 187, 68), (102, 204, 238), (170, 51, 119)], np.uint8
)
# A scatter plot in its own units; the style sheet scales it.
_WIDTH, _HEIGHT = 540, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 46


class Axis(NamedTuple):
    """One axis of a plot: its name, its range, and where its ticks are."""

    name: str
    low: float
    high: float
    ticks: Sequence[float]


def png_bytes(picture: Bytes8) -> bytes:
    """Encode a picture, shape (M, N), (M, N, 3) or (M, N, 4)."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def grey(values: Image, low: float, high: float) -> Bytes8:
    """Show numbers as grey levels: `low` is black, `high` is white; either may be the larger.

    Examples
    --------
    >>> grey(np.array([[0.0, 8.0, 16.0]]), 16, 0).tolist()
    [[255, 128, 0]]
    """
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def enlarge(picture: NDArray[T], factor: int) -> NDArray[T]:
    """Enlarge a picture; every pixel becomes a square."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def shrink(picture: Bytes8, width_px: int) -> Bytes8:
    """Bring a picture to at most this width."""
    from PIL import Image as Pillow

    height, width = picture.shape[:2]
    if width <= width_px:
        return picture
    size = (width_px, max(1, round(height * width_px / width)))
    return np.asarray(Pillow.fromarray(picture).resize(size, Pillow.Resampling.LANCZOS))


def color_regions(labels: Labels, colors: Bytes8 = PALETTE) -> Bytes8:
    """Paint each region in a colour of its own; masked pixels are transparent. Shape (M, N, 4)."""
    table = np.zeros((int(labels.max(initial=0)) + 1, 4), np.uint8)
    table[1:, :3] = colors[np.arange(len(table) - 1) % len(colors)]
    table[1:, 3] = 255
    return table[labels]


def mean_colors(image: Image, labels: Labels) -> Bytes8:
    """Replace each pixel by the mean colour of its region, 1..K; shape of `image`.

    Examples
    --------
    >>> mean_colors(np.array([[0, 10, 99]], np.uint8), np.array([[1, 1, 2]])).tolist()
    [[5, 5, 99]]
    """
    nodes = labels.ravel().astype(np.int64) - 1
    means = region_means(pixel_rows(image, None), nodes)
    return np.rint(means[nodes]).astype(np.uint8).reshape(image.shape)


def outlined(image: Image, labels: Labels, factor: int) -> Bytes8:
    """Draw outlines over an image that is enlarged smoothly; the outlines stay as sharp as the labels."""
    from PIL import Image as Pillow

    size = (image.shape[1] * factor, image.shape[0] * factor)
    large = np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.BICUBIC))
    return render_contours(large, enlarge(labels, factor), thickness_px=factor)


def scatter(
    points: Floats,
    colors: Bytes8,
    x: Axis,
    y: Axis,
    *,
    description: str,
    point_px: float = 5.0,
    centers: Floats | None = None,
) -> Markup:
    """Plot points, shape (P, 2), each in its colour, shape (P, 3), and centres over them.

    Returns
    -------
    drawing : Markup
        An SVG element for a page whose style sheet knows the classes ``paper``, ``axis`` and ``center``.
    """
    parts = [
        f'<rect class="paper" x="{_LEFT}" y="{_TOP}" width="{_WIDTH - _LEFT - _RIGHT}" '
        f'height="{_HEIGHT - _TOP - _BOTTOM}"/>',
        f'<g class="points" fill="none" stroke-linecap="round" stroke-width="{point_px:g}">',
        *_dots(_place(points, x, y), colors),
        "</g>",
    ]
    if centers is not None:
        parts += [f'<circle class="center" cx="{h:.1f}" cy="{v:.1f}" r="9"/>' for h, v in _place(centers, x, y)]
    parts += _axis_texts(x, y)
    head = f'<svg class="scatter" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(description)}">'
    return Markup(f"{head}{''.join(parts)}</svg>")  # noqa: S704 - numbers and escaped text only


def _place(points: Floats, x: Axis, y: Axis) -> Floats:
    """Bring points to the drawing's units; rows grow downwards."""
    horizontal = _LEFT + (points[:, 0] - x.low) / (x.high - x.low) * (_WIDTH - _LEFT - _RIGHT)
    vertical = _HEIGHT - _BOTTOM - (points[:, 1] - y.low) / (y.high - y.low) * (_HEIGHT - _TOP - _BOTTOM)
    return np.stack([horizontal, vertical], axis=1)


def _dots(places: Floats, colors: Bytes8) -> list[str]:
    """Draw each colour's points as one path: lines of no length with round ends are dots, in a third of the bytes."""
    different, owner = np.unique(colors, axis=0, return_inverse=True)
    steps = np.array([f"M{h:.1f} {v:.1f}h0" for h, v in places])
    return [
        f'<path stroke="#{red:02x}{green:02x}{blue:02x}" d="{"".join(steps[owner.ravel() == index])}"/>'
        for index, (red, green, blue) in enumerate(different.tolist())
    ]


def _axis_texts(x: Axis, y: Axis) -> list[str]:
    bottom, middle = _HEIGHT - _BOTTOM, (_HEIGHT - _BOTTOM + _TOP) / 2
    texts = []
    for tick in x.ticks:
        h, _ = _place(np.array([[tick, y.low]]), x, y)[0]
        texts.append(f'<path class="tick" d="M{h:.1f} {bottom}v4"/>')
        texts.append(f'<text x="{h:.1f}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>')
    for tick in y.ticks:
        _, v = _place(np.array([[x.low, tick]]), x, y)[0]
        texts.append(f'<path class="tick" d="M{_LEFT} {v:.1f}h-4"/>')
        texts.append(f'<text x="{_LEFT - 8}" y="{v + 4:.1f}" text-anchor="end">{tick:g}</text>')
    center = (_LEFT + _WIDTH - _RIGHT) / 2
    names = (
        f'<text class="name" x="{center:g}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x.name)}</text>',
        f'<text class="name" transform="translate(13 {middle:g}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.name)}</text>",
    )
    return ['<g class="axis">', *texts, *names, "</g>"]
