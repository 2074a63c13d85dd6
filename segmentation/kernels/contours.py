"""Outlines, drawn from the places where the label changes."""

from segmentation.arrays import Bytes8, Labels
from segmentation.kernels.compiled import compiled


@compiled
def draw_outlines(picture: Bytes8, labels: Labels, colors: Bytes8, darkened: Bytes8, thickness_px: int) -> None:
    """Outline the regions in a picture, and darken what belongs to none.

    Parameters
    ----------
    picture : ndarray of uint8, shape (M, N, 3)
        Changed in place.
    labels : ndarray of int, shape (M, N)
        1..K, 0 where masked.
    colors : ndarray of uint8, shape (K + 1, 3)
        Colour of every region.
    darkened : ndarray of uint8, shape (256,)
        What masked pixels become.
    thickness_px : int
        How far, along its row or its column, an outline reaches from where the label changes; >= 1.

    Notes
    -----
    O(MN + B·thickness) time for B changes between neighbours. The pixels are those of
    `segmentation.contours.boundary_mask`: the nearest other label along a line lies right behind a change.
    """
    n_rows, n_columns = labels.shape
    for row in range(n_rows):
        for column in range(n_columns):
            label = labels[row, column]
            if column > 0 and labels[row, column - 1] != label:
                for near in range(max(0, column - thickness_px), min(n_columns, column + thickness_px)):
                    _color(picture, labels, colors, row, near)
            if row > 0 and labels[row - 1, column] != label:
                for near in range(max(0, row - thickness_px), min(n_rows, row + thickness_px)):
                    _color(picture, labels, colors, near, column)
            if label == 0:
                for channel in range(3):
                    picture[row, column, channel] = darkened[picture[row, column, channel]]


@compiled
def _color(picture: Bytes8, labels: Labels, colors: Bytes8, row: int, column: int) -> None:
    """Give a pixel the colour of its region, if it has one."""
    label = labels[row, column]
    if label != 0:
        for channel in range(3):
            picture[row, column, channel] = colors[label, channel]
