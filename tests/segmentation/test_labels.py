import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from segmentation import ImageError, ParameterError, merge_small_regions, relabel_sequential, same_partition
from segmentation import upscale_labels as upscale
from segmentation.labels import region_means
from segmentation.prepare import rescale_mask

SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


def label_images(max_label=5):
    return arrays(np.int64, SHAPES, elements=st.integers(0, max_label))


@given(label_images() | arrays(np.int64, SHAPES, elements=st.integers(-3, 400)))
@settings(max_examples=100)
def test_relabelling_keeps_the_partition_and_is_dense_in_raster_order(labels):
    dense = relabel_sequential(labels)
    assert same_partition(dense, labels)
    np.testing.assert_array_equal(dense == 0, labels == 0)
    values, first = np.unique(dense[dense > 0], return_index=True)
    assert values.tolist() == list(range(1, len(values) + 1))
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(relabel_sequential(dense), dense)


@pytest.mark.parametrize(("n", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_labels_take_the_smallest_type_that_holds_them(n, dtype):
    labels = relabel_sequential(np.arange(n + 1)[::-1])
    assert labels.dtype == dtype
    assert labels[0] == 1
    assert labels[-2] == n
    assert labels[-1] == 0


def test_nothing_to_label_is_nothing():
    assert relabel_sequential(np.zeros((0, 3), dtype=int)).shape == (0, 3)
    assert not relabel_sequential(np.zeros((2, 3), dtype=int)).any()


@given(label_images(), st.permutations(range(6)))
@settings(max_examples=50)
def test_renumbering_is_the_same_partition(labels, numbers):
    assert same_partition(labels, np.array(numbers)[labels])


@pytest.mark.parametrize("other", [[1, 1, 1], [1, 2, 3], [1, 2, 2], [1, 1]])
def test_coarser_finer_moved_and_shorter_are_other_partitions(other):
    assert not same_partition(np.array([1, 1, 2]), np.array(other))


@st.composite
def upscalings(draw):
    """Labels of a working grid as the pipeline makes them, the image's mask, and the image."""
    shape = draw(SHAPES)
    small = tuple(draw(st.integers(1, side)) for side in shape)
    mask = draw(st.none() | arrays(bool, shape).filter(lambda m: m.any()))
    labels = draw(arrays(np.int64, small, elements=st.integers(1, 4)))
    if mask is not None:
        labels *= rescale_mask(mask, small)
        assume(labels.any())
    image = draw(arrays(np.uint8, shape))
    return labels, mask, image


@given(upscalings(), st.sampled_from(["watershed", "nearest"]))
@settings(max_examples=300, deadline=None)
def test_every_label_survives_and_0_is_exactly_where_masked(case, refine):
    labels, mask, image = case
    upscaled = upscale(labels, image.shape, image=image, mask=mask, refine=refine)
    np.testing.assert_array_equal(upscaled > 0, np.ones(image.shape, bool) if mask is None else mask)
    assert set(np.unique(upscaled[upscaled > 0])) == set(np.unique(labels[labels > 0]))
    assert upscaled.dtype == labels.dtype


@given(upscalings())
@settings(max_examples=100, deadline=None)
def test_watershed_moves_only_pixels_of_blocks_at_a_border(case):
    labels, mask, image = case
    assume(mask is None)
    nearest = upscale(labels, image.shape, refine="nearest")
    moved = upscale(labels, image.shape, image=image) != nearest
    padded = np.pad(labels, 1, mode="edge")
    cross = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
    border = np.any([side != labels for side in cross], axis=0)
    assert not (moved & ~upscale(border.astype(int), image.shape, refine="nearest").astype(bool)).any()


def test_blocks_are_those_of_nearest_neighbours():
    upscaled = upscale(np.array([[1, 2], [3, 4]]), (3, 5), refine="nearest")
    np.testing.assert_array_equal(upscaled, [[1, 1, 2, 2, 2], [3, 3, 4, 4, 4], [3, 3, 4, 4, 4]])


@pytest.mark.parametrize("channels", [(), (3,)])
def test_borders_follow_the_edge_of_the_image(channels):
    image = np.zeros((20, 40, *channels))
    image[:, 23:] = 1
    # The edge lies inside the block of column 4 (pixels 20 to 24): nearest puts the border at 20 or 25.
    labels = np.array([[1, 1, 1, 1, 2, 2, 2, 2]] * 4)
    np.testing.assert_array_equal(upscale(labels, (20, 40), image=image)[0] == 2, np.arange(40) >= 23)


def test_pieces_without_interior_are_not_lost():
    labels = np.array([[1, 1, 1, 1, 1], [1, 2, 1, 3, 3], [1, 1, 1, 1, 1]])
    upscaled = upscale(labels, (9, 15), image=np.zeros((9, 15)))
    np.testing.assert_array_equal(upscaled[3:6, 3:6], 2)
    np.testing.assert_array_equal(upscaled[3:6, 9:], 3)


def test_pixels_that_no_flood_reaches_take_the_nearest_label():
    # The working grid saw the mask only in its left half; the right part of the mask is cut off.
    mask = np.zeros((4, 12), dtype=bool)
    mask[:, :4] = mask[0, 11] = True
    labels = np.array([[1, 0, 0], [2, 0, 0]])
    upscaled = upscale(labels, (4, 12), image=np.zeros((4, 12)), mask=mask)
    assert upscaled[0, 11] == 1
    np.testing.assert_array_equal(upscaled > 0, mask)


def test_same_shape_is_only_masked():
    labels = np.array([[1, 2], [2, 1]])
    mask = np.array([[True, False], [True, True]])
    np.testing.assert_array_equal(upscale(labels, (2, 2), image=np.zeros((2, 2)), mask=mask), [[1, 0], [2, 1]])


def test_unknown_refinement_is_refused():
    with pytest.raises(ParameterError, match="unknown refine 'linear'; choose watershed or nearest"):
        upscale(np.ones((1, 1), dtype=int), (2, 2), refine="linear")


def test_watershed_without_an_image_is_refused():
    with pytest.raises(ParameterError, match="needs the image"):
        upscale(np.ones((1, 1), dtype=int), (2, 2))


@given(label_images(max_label=3), st.integers(0, 8), st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_after_merging_every_small_piece_has_no_neighbour(labels, min_size, seed):
    image = np.random.default_rng(seed).random(labels.shape)
    merged = merge_small_regions(labels, image, min_size)
    np.testing.assert_array_equal(merged == 0, labels == 0)
    assert same_partition(relabel_sequential(merged), merged)
    islands = ndimage.label(merged > 0)[0]
    for value in range(1, merged.max() + 1):
        pieces, n_pieces = ndimage.label(merged == value)
        for piece in range(1, n_pieces + 1):
            inside = pieces == piece
            alone = np.count_nonzero(islands == islands[inside][0]) == np.count_nonzero(inside)
            assert alone or np.count_nonzero(inside) >= min_size


@given(label_images(max_label=3), st.integers(0, 1))
@settings(max_examples=30)
def test_a_size_of_0_or_1_changes_nothing(labels, min_size):
    merged = merge_small_regions(labels, np.zeros(labels.shape), min_size)
    assert same_partition(merged, labels)


def test_a_speck_joins_the_neighbour_it_resembles():
    labels = np.array([[1, 1, 3, 2, 2]])
    image = np.array([[[0, 0], [0, 0], [9, 9], [9, 0], [9, 0]]])
    np.testing.assert_array_equal(merge_small_regions(labels, image, 2), [[1, 1, 2, 2, 2]])
    image = image[..., ::-1] * [[[0], [0], [0], [1], [1]]]
    np.testing.assert_array_equal(merge_small_regions(labels, image, 2), [[1, 1, 1, 2, 2]])


def test_the_smallest_piece_goes_first_and_what_grew_may_stay():
    # The single 3 resembles the pair of 4s; together they are large enough.
    labels = np.array([[1, 1, 1, 4, 4, 3, 2, 2, 2]])
    image = np.array([[0, 0, 0, 50, 50, 60, 99, 99, 99]])
    merged = merge_small_regions(labels, image, 3)
    np.testing.assert_array_equal(merged, [[1, 1, 1, 2, 2, 2, 3, 3, 3]])


def test_only_the_small_piece_of_a_label_moves():
    labels = np.array([[1, 2, 2, 2, 1, 1, 1]])
    np.testing.assert_array_equal(merge_small_regions(labels, np.zeros((1, 7)), 2), [[1, 1, 1, 1, 2, 2, 2]])


def test_a_speck_that_joins_two_pieces_of_a_label_makes_them_one():
    # Without the 2 in between, the two 1s are one piece of 5 pixels.
    labels = np.array([[1, 1, 2, 1, 1, 3, 3, 3, 3, 3]])
    image = np.array([[0, 0, 1, 0, 0, 1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(merge_small_regions(labels, image, 5), [[1] * 5 + [2] * 5])


def test_merging_by_an_image_of_another_shape_is_refused():
    with pytest.raises(ImageError, match=r"labels have shape \(2, 2\), the image \(2, 3\)"):
        merge_small_regions(np.ones((2, 2), dtype=int), np.zeros((2, 3)), 2)


def test_means_are_per_region_and_channel():
    means = region_means(np.array([[1.0, 10], [3.0, 30], [8.0, 80]]), np.array([2, 2, 0]))
    np.testing.assert_array_equal(means, [[8, 80], [0, 0], [2, 20]])


def test_blocks_need_no_image_where_there_is_a_mask():
    mask = np.arange(8)[np.newaxis] < 5
    upscaled = upscale(np.array([[1, 0]], np.uint16), (1, 8), mask=mask, refine="nearest")
    assert upscaled.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0]]


def test_labels_of_the_other_byte_order_are_labels():
    labels = np.array([[1, 1, 2, 3, 3]])
    image = np.array([[0, 0, 6, 9, 9]])
    for kind in (">u2", "<u2"):
        assert merge_small_regions(labels.astype(kind), image, 2).tolist() == [[1, 1, 2, 2, 2]]
        assert upscale(labels.astype(kind), (1, 10), refine="nearest").tolist() == [[1] * 4 + [2] * 2 + [3] * 4]
