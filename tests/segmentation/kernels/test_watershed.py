import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import binary_dilation, gaussian_gradient_magnitude
from skimage.data import coins
from skimage.segmentation import watershed

from segmentation.kernels.watershed import OPEN, find_places, flood, gradient_magnitude
from segmentation.labels import _GAUSSIAN, _channels

SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)


def state_of(band):
    state = np.zeros(-(-band.size // 8) * 8, np.uint8)
    state[: band.size][band.ravel()] = OPEN
    return state


def flooded(heights, markers, band):
    """Flood `band` from the labels beside it, along an array of heights."""
    labels = np.where(band, 0, markers)
    state = state_of(band)
    pixels = find_places(state, labels.reshape(-1), band.shape[1])
    at_places = np.where(pixels >= 0, heights.ravel()[pixels], 0)
    flood(labels.reshape(-1), state, pixels, at_places, band.shape[1])
    return labels


def flooded_by_scikit_image(heights, markers, band):
    near = binary_dilation(band)
    sources = np.where(near & ~band, markers, 0)
    result = watershed(heights, sources, connectivity=1, mask=near & (band | (markers != 0)))
    return np.where(band, result, markers)


@st.composite
def floods(draw):
    shape = draw(SHAPES)
    markers = draw(arrays(np.int64, shape, elements=st.integers(0, 4)))
    band = draw(arrays(bool, shape))
    order = draw(st.permutations(range(markers.size)))
    # From far below to far above 1, so that every digit of the bits counts.
    heights = np.array(order).reshape(shape) * draw(st.sampled_from([1e-300, 1e-9, 1.0, 1e90]))
    return heights, markers, band


@given(floods())
@settings(max_examples=300, deadline=None)
def test_labels_are_those_of_scikit_image(case):
    np.testing.assert_array_equal(flooded(*case), flooded_by_scikit_image(*case))


def test_labels_of_a_photograph_are_those_of_scikit_image():
    image = coins()
    heights = gaussian_gradient_magnitude(image.astype(float), 1)
    markers = (np.add.outer(np.arange(image.shape[0]) // 40, np.arange(image.shape[1]) // 40 * 9) + 1).astype(np.uint16)
    band = np.random.default_rng(0).random(image.shape) < 0.6
    np.testing.assert_array_equal(flooded(heights, markers, band), flooded_by_scikit_image(heights, markers, band))


def test_of_equally_high_pixels_those_reached_first_go_first():
    markers = np.array([[7, 0, 0, 0, 0, 0, 9]])
    np.testing.assert_array_equal(flooded(np.ones((1, 7)), markers, markers == 0), [[7, 7, 7, 7, 9, 9, 9]])


def test_a_low_pass_is_flooded_before_a_high_one():
    markers = np.array([[7, 0, 0, 0, 9]])
    heights = np.array([[0.0, 3.0, 1.0, 2.0, 0.0]])
    np.testing.assert_array_equal(flooded(heights, markers, markers == 0), [[7, 7, 9, 9, 9]])


def test_what_no_source_touches_stays_open():
    markers = np.array([[5, 0, 0], [0, 0, 0], [0, 0, 0]])
    band = np.array([[False, True, False], [False, False, False], [False, True, True]])
    np.testing.assert_array_equal(flooded(np.ones((3, 3)), markers, band), [[5, 5, 0], [0, 0, 0], [0, 0, 0]])


def test_rows_are_not_neighbours_where_one_ends_and_the_next_begins():
    markers = np.array([[1, 2], [0, 0]])
    band = np.array([[False, False], [True, False]])
    np.testing.assert_array_equal(flooded(np.ones((2, 2)), markers, band), [[1, 2], [1, 0]])
    places = find_places(state_of(np.array([[False, True], [True, False]])), np.zeros(4, np.int64), 2)
    assert places.tolist() == [-1, 1, -1, 2, -1]


def test_more_places_than_one_word_of_the_tree_holds_are_flooded_in_order():
    # 300,000 places need four levels of words.
    shape = (300, 1000)
    heights = np.random.default_rng(0).permutation(shape[0] * shape[1]).reshape(shape).astype(float)
    markers = np.zeros(shape, np.int64)
    markers[::50, ::50] = np.arange(120).reshape(6, 20) + 1
    band = markers == 0
    np.testing.assert_array_equal(flooded(heights, markers, band), flooded_by_scikit_image(heights, markers, band))


DTYPES = st.sampled_from([np.uint8, np.float32, np.bool_, np.int32])


@given(DTYPES, SHAPES, st.sampled_from([0, 1, 3, 4]), st.data())
@settings(max_examples=60, deadline=None)
def test_the_gradient_is_that_of_scipy_to_the_last_bit(dtype, shape, n_channels, data):
    values = np.random.default_rng(data.draw(st.integers(0, 99))).random((*shape, n_channels) if n_channels else shape)
    image = (values * 255).astype(dtype)
    band = data.draw(arrays(bool, shape))
    labels = np.where(band, 0, 1)
    pixels = find_places(state_of(band), labels.reshape(-1), shape[1])
    grey = image.mean(axis=2, dtype=np.float64) if n_channels else image.astype(np.float64)
    expected = gaussian_gradient_magnitude(grey, 1).ravel()[pixels[pixels >= 0]]
    found = gradient_magnitude(_channels(image), pixels, *_GAUSSIAN)[pixels >= 0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("writeable", [True, False])
def test_the_order_of_an_array_in_memory_does_not_matter(order, writeable):
    image = np.array(coins()[:40, :50], order=order)
    image.flags.writeable = writeable
    pixels = find_places(state_of(np.ones(image.shape, bool)), np.zeros(image.size, np.int64), image.shape[1])
    found = gradient_magnitude(_channels(image), pixels, *_GAUSSIAN)[pixels >= 0]
    np.testing.assert_array_equal(found, gaussian_gradient_magnitude(image.astype(float), 1).ravel())
