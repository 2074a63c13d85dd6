"""From the samples of a TIFF to grey or RGB: palettes, inks, L*a*b*, YCbCr."""

from collections.abc import Callable
from typing import Any

import numpy as np

from segmentation.arrays import Floats, Image
from segmentation.errors import ImageError

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
#: Channels of each colour model that is read.
N_COLOURS = {MIN_IS_WHITE: 1, MIN_IS_BLACK: 1, RGB: 3, PALETTE: 1, SEPARATED: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
_JPEGS = frozenset({6, 7})
_COEFFICIENTS_TAG, _REFERENCE_TAG = 529, 532
#: Rows that are converted at a time: conversions take eight bytes a value, and some copies.
_BAND = 256

#: XYZ under D50, of which L*a*b* is, to linear sRGB, adapted to its D65 after Bradford.
_XYZ_TO_RGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
_D50 = np.array([0.96422, 1.0, 0.82521])


def in_colours(samples: Image, model: int, page: Any) -> Image:
    """Convert the colour channels of a page, shape (M, N) or (M, N, C), to grey or RGB; those of a JPEG are.

    Raises
    ------
    ImageError
        Samples that its colour model does not have.
    """
    if model == PALETTE:
        return _looked_up(samples, page.colormap)
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8) * np.uint8(255)
    if model == MIN_IS_WHITE:
        black: Image = _white(page, samples) - samples
        return black
    if model == SEPARATED:
        return cmyk_to_rgb(samples)
    if model == YCBCR and page.compression not in _JPEGS:
        return _in_bands(samples, _from_ycbcr(page))
    if model in (CIELAB, ICCLAB):
        return _in_bands(samples, lambda band: _from_lab(band, is_icc=model == ICCLAB))
    return samples


def _in_bands(samples: Image, convert: Callable[[Image], Floats]) -> Image:
    """Convert rows some at a time; `convert` returns parts of white."""
    top = np.iinfo(samples.dtype).max
    converted = np.empty(samples.shape, samples.dtype)
    for start in range(0, len(samples), _BAND):
        band = slice(start, start + _BAND)
        converted[band] = np.rint(np.clip(convert(samples[band]), 0, 1) * top).astype(samples.dtype)
    return converted


def _looked_up(indices: Image, colormap: Image) -> Image:
    colors = np.moveaxis(colormap, 0, -1)
    if colors.max() < 256:  # written in 8 of the 16 bits, as by some programs
        colors = colors * np.uint16(257)
    indices = indices.astype(np.intp)
    if indices.min() < 0 or indices.max() >= len(colors):
        raise ImageError(f"damaged TIFF: colour {indices.max()} of a palette of {len(colors)}")
    return colors[indices]


def _white(page: Any, pixels: Image) -> Any:
    """Return the value that stands for black where 0 is white."""
    bits = 8 if page.bitspersample == 1 else page.bitspersample
    return pixels.dtype.type(2**bits - 1) if pixels.dtype.kind == "u" else pixels.max(initial=0)


def cmyk_to_rgb(pixels: Image) -> Image:
    """Mix four inks, without a colour profile."""
    if pixels.dtype.kind != "u":
        raise ImageError(f"CMYK of {pixels.dtype} samples; unsigned integers are read")
    top = np.iinfo(pixels.dtype).max
    ink = pixels[..., :4].astype(np.float64) / top
    rgb = (1 - ink[..., :3]) * (1 - ink[..., 3:])
    return np.rint(rgb * top).astype(pixels.dtype)


def _from_ycbcr(page: Any) -> Callable[[Image], Floats]:
    """Make the conversion that a page's tags describe: TIFF 6.0, section 21."""
    red, green, blue = _numbers(page, _COEFFICIENTS_TAG, (0.299, 0.587, 0.114))
    limits = np.array(_numbers(page, _REFERENCE_TAG, (0, 255, 128, 255, 128, 255))).reshape(3, 2)
    black, span = limits[:, 0], limits[:, 1] - limits[:, 0]
    if not (min(red, green, blue) > 0 and (span > 0).all()):
        raise ImageError("damaged TIFF: its YCbCr has coefficients or reference values that no colours have")

    def convert(band: Image) -> Floats:
        y, cb, cr = np.moveaxis((band - black) / span * (1, 127 / 255, 127 / 255), -1, 0)
        r = y + (2 - 2 * red) * cr
        b = y + (2 - 2 * blue) * cb
        return np.stack([r, (y - red * r - blue * b) / green, b], axis=-1)

    return convert


def _numbers(page: Any, tag: int, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    """Return the values of a tag: numbers, or fractions as pairs."""
    values = page.tags.valueof(tag)
    if values is None:
        return otherwise
    values = tuple(float(value) for value in values)
    if len(values) == 2 * len(otherwise):
        if 0 in values[1::2]:
            raise ImageError(f"damaged TIFF: tag {tag} divides by 0")
        values = tuple(upper / lower for upper, lower in zip(values[::2], values[1::2], strict=True))
    if len(values) != len(otherwise):
        raise ImageError(f"damaged TIFF: tag {tag} with {len(values)} values; {len(otherwise)} are expected")
    return values


def _from_lab(band: Image, *, is_icc: bool) -> Floats:
    """Convert L*a*b* under D50 to sRGB. CIELab has signed a* and b*, ICCLab has them around the middle."""
    bits = 8 * band.dtype.itemsize
    step = 2 ** (bits - 8)
    # ICC's 100 of 16 bits is 0xFF00.
    lightness = band[..., :1] * (100 / (255 * step if is_icc else 2**bits - 1))
    if is_icc:
        ab = (band[..., 1:].astype(np.int64) - 2 ** (bits - 1)) / step
    else:
        ab = band[..., 1:].view(f"i{band.dtype.itemsize}") / step
    middle = (lightness + 16) / 116
    roots = np.concatenate([middle + ab[..., :1] / 500, middle, middle - ab[..., 1:] / 200], axis=-1)
    linear_part = 6 / 29
    xyz = np.where(roots > linear_part, roots**3, 3 * linear_part**2 * (roots - 4 / 29)) * _D50
    linear = np.clip(xyz @ _XYZ_TO_RGB.T, 0, 1)
    rgb: Floats = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return rgb
