import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from segmentation.errors import ParameterError
from segmentation.polygons import RegionPolygons, region_polygons

label_maps = arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 3))


def shape_of(region: RegionPolygons) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([(rings[0], rings[1:]) for rings in region.polygons])


def signed_area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


def test_x_is_the_column_and_y_the_row():
    labels = np.zeros((4, 6), int)
    labels[1, 2:5] = 9
    (region,) = region_polygons(labels)
    assert region.label == 9
    assert region.polygons[0][0].tolist() == [[2, 1], [5, 1], [5, 2], [2, 2], [2, 1]]


def test_a_hole_is_an_inner_ring():
    labels = np.ones((3, 3), int)
    labels[1, 1] = 0
    (region,) = region_polygons(labels)
    ((exterior, hole),) = region.polygons
    assert signed_area(exterior) == 9
    assert signed_area(hole) == -1


def test_pieces_that_touch_in_a_corner_are_separate_polygons():
    (region,) = region_polygons(np.array([[1, 0], [0, 1]]))
    assert [len(rings) for rings in region.polygons] == [1, 1]


def test_holes_that_touch_in_a_corner_are_separate_rings():
    labels = np.ones((4, 4), int)
    labels[1, 1] = labels[2, 2] = 0
    (region,) = region_polygons(labels)
    assert [len(rings) for rings in region.polygons] == [3]
    assert shape_of(region).is_valid


def test_a_region_that_meets_itself_in_a_corner_encloses_a_hole():
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    (region,) = region_polygons(labels)
    assert [len(rings) for rings in region.polygons] == [2]
    assert shape_of(region).is_valid


def test_labels_come_in_ascending_order_and_masked_pixels_not_at_all():
    assert [region.label for region in region_polygons(np.array([[5, 0, 2], [1, 0, 5]]))] == [1, 2, 5]
    assert list(region_polygons(np.zeros((3, 3), int))) == []
    assert list(region_polygons(np.zeros((0, 3), int))) == []


@settings(max_examples=150, deadline=None)
@given(label_maps)
def test_polygons_are_valid_and_cover_exactly_the_pixels(labels):
    regions = list(region_polygons(labels))
    assert [region.label for region in regions] == [label for label in np.unique(labels) if label != 0]
    for region in regions:
        shape = shape_of(region)
        assert shape.is_valid
        assert shape.area == (labels == region.label).sum()
        rows, columns = np.nonzero(labels == region.label)
        assert shapely.contains_xy(shape, columns + 0.5, rows + 0.5).all()


@settings(max_examples=150, deadline=None)
@given(label_maps)
def test_there_is_one_polygon_per_4_connected_piece_and_rings_turn_as_in_rfc_7946(labels):
    for region in region_polygons(labels):
        assert len(region.polygons) == ndimage.label(labels == region.label)[1]
        for exterior, *holes in region.polygons:
            assert signed_area(exterior) > 0
            assert all(signed_area(hole) < 0 for hole in holes)


@settings(max_examples=100, deadline=None)
@given(label_maps)
def test_rings_are_closed_and_have_no_collinear_points(labels):
    for region in region_polygons(labels):
        for ring in (ring for rings in region.polygons for ring in rings):
            assert (ring[0] == ring[-1]).all()
            steps = np.diff(ring, axis=0)
            horizontal = steps[:, 0] != 0
            assert (horizontal != (steps[:, 1] != 0)).all()
            assert (horizontal != np.roll(horizontal, 1)).all()


def test_labels_that_are_no_matrix_are_refused():
    with pytest.raises(ParameterError, match=r"labels must have shape \(M, N\), got \(4,\)"):
        next(region_polygons(np.ones(4, int)))
