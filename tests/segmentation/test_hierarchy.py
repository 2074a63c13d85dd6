import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.data import astronaut, coins

from segmentation import Hierarchy, ImageError, ParameterError, RegionTree, region_tree, same_partition
from segmentation.params import parse


@st.composite
def pictures(draw):
    """Small images of a few flat patches and noise, grey or RGB, with a mask or without."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    channels = draw(st.sampled_from([(), (3,)]))
    patches = rng.integers(0, 255, (4, 4, *channels))
    rows, columns = (np.arange(n) * 4 // n for n in shape)
    image = patches[rows[:, None], columns] + rng.integers(0, draw(st.sampled_from([1, 20, 80])), (*shape, *channels))
    mask = None
    if draw(st.booleans()):
        mask = ndimage.uniform_filter(rng.random(shape), 3) < 0.55
        mask[0, 0] = True
    return image.astype(np.uint16), mask


def n_components(mask):
    return ndimage.label(mask)[1]


@given(pictures())
@settings(max_examples=40, deadline=None)
def test_every_cut_is_what_it_says(picture):
    image, mask = picture
    tree = region_tree(image, mask=mask)
    inside = np.ones(image.shape[:2], dtype=bool) if mask is None else mask
    assert len(tree.merges) == len(tree.heights) == tree.n_base - n_components(inside)
    assert (np.diff(tree.heights) >= 0).all()
    assert (tree.heights >= 0).all()
    assert (tree.heights < 1).all()
    finer = None
    for k in {1, 2, 3, tree.n_base // 2, tree.n_base} & set(range(1, tree.n_base + 1)):
        labels = tree.cut(n_regions=k)
        n_regions = max(k, n_components(inside))
        assert labels.dtype == np.uint16
        assert np.array_equal(labels == 0, ~inside)
        first_seen = np.unique(labels[inside], return_index=True)
        assert first_seen[0].tolist() == list(range(1, n_regions + 1))
        assert (np.diff(first_seen[1]) > 0).all()
        for region in range(1, n_regions + 1):
            assert n_components(labels == region) == 1
        if finer is not None:
            pairs = np.unique(np.stack([labels[inside], finer[inside]]), axis=1)
            assert pairs.shape[1] == max(labels.max(), finer.max())
        finer = labels


def borders_of(labels):
    """Pixels that differ from the one to the right or below; what is masked has no border."""
    borders = np.zeros(labels.shape, dtype=bool)
    borders[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & (labels[:, :-1] != 0) & (labels[:, 1:] != 0)
    borders[:-1] |= (labels[:-1] != labels[1:]) & (labels[:-1] != 0) & (labels[1:] != 0)
    return borders


@given(pictures())
@settings(max_examples=40, deadline=None)
def test_contours_above_a_threshold_are_the_borders_of_the_cut(picture):
    image, mask = picture
    tree = region_tree(image, mask=mask)
    contours = tree.contours()
    assert np.array_equal(contours > 0, contours > -0.0)
    for threshold in {0.0, 0.5, *tree.heights[:: max(1, len(tree.heights) // 5)].tolist()}:
        labels = tree.cut(threshold=threshold)
        assert labels.max() == tree.n_regions_at(threshold)
        np.testing.assert_array_equal(contours > threshold, borders_of(labels))


@given(pictures())
@settings(max_examples=20, deadline=None)
def test_arrays_hold_the_whole_tree(picture):
    image, mask = picture
    tree = region_tree(image, mask=mask)
    arrays = tree.as_arrays()
    assert all(type(array) is np.ndarray for array in arrays.values())
    again = RegionTree.from_arrays(arrays)
    assert again.suggest() == tree.suggest()
    np.testing.assert_array_equal(again.contours(), tree.contours())
    np.testing.assert_array_equal(again.cut(), tree.cut())


def photograph():
    return astronaut()[40:200, 150:310]


def test_bits_and_scale_of_the_intensities_do_not_matter():
    image = photograph()
    expected = region_tree(image)
    for copy in (image.astype(np.uint16) * 257, image / 255, image * 0.25, image.astype(np.int64) * 1000):
        tree = region_tree(copy)
        np.testing.assert_array_equal(tree.base, expected.base)
        np.testing.assert_array_equal(tree.merges, expected.merges)
        np.testing.assert_array_equal(tree.heights, expected.heights)


def test_negative_values_count_from_the_lowest():
    image = coins()[:80, :90].astype(np.int16)
    image[0, 0] = 0
    assert np.array_equal(region_tree(image - 300).base, region_tree(image).base)


def test_every_call_gives_the_same_bytes_and_leaves_the_image_alone():
    image = photograph()
    image.setflags(write=False)
    one, other = region_tree(image), region_tree(image.copy())
    for name, array in one.as_arrays().items():
        assert array.tobytes() == other.as_arrays()[name].tobytes()


def test_what_the_mask_hides_does_not_count():
    image = photograph().copy()
    mask = np.ones(image.shape[:2], dtype=bool)
    mask[50:70, 30:90] = False
    expected = region_tree(image, mask=mask)
    image[~mask] = np.random.default_rng(0).integers(0, 255, (np.count_nonzero(~mask), 3))
    assert region_tree(image, mask=mask).base.tobytes() == expected.base.tobytes()
    nan = np.where(mask[:, :, None], image, np.nan)
    assert region_tree(nan, mask=mask).base.tobytes() == expected.base.tobytes()


def test_islands_of_a_mask_are_never_merged():
    mask = np.zeros((60, 60), dtype=bool)
    mask[5:25, 5:25] = mask[30:55, 30:55] = mask[40:50, 5:15] = True
    tree = region_tree(np.zeros((60, 60)), mask=mask)
    assert same_partition(tree.cut(n_regions=1), ndimage.label(mask)[0])
    assert tree.n_regions_at(1.0) == 3


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (5, 7), (90, 80), (90, 80, 3)])
def test_a_flat_image_is_one_region(shape, value):
    tree = region_tree(np.full(shape, value, dtype=np.uint8))
    assert tree.n_base == 1
    assert tree.cut().max() == tree.cut(n_regions=1).max() == 1
    assert not tree.contours().any()


@pytest.mark.parametrize("turn", [lambda a: a, lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: np.swapaxes(a, 0, 1)])
def test_plain_shapes_are_found_wherever_they_lie(turn):
    rows, columns = np.mgrid[:120, :160]
    expected = np.ones((120, 160), dtype=int)
    expected[:, 100:] = 2
    expected[(rows - 60) ** 2 + (columns - 50) ** 2 < 30**2] = 3
    image = turn(np.array([0, 60, 150, 220], dtype=np.uint8)[expected])
    labels = region_tree(image).cut(n_regions=3)
    wrong = ~np.isclose(labels, 0) & (ndimage.morphological_gradient(turn(expected), 5) == 0)
    assert same_partition(labels[wrong], turn(expected)[wrong])


def test_a_row_and_images_below_16_pixels_have_trees():
    row = np.repeat([10, 200], 20)[np.newaxis].astype(np.uint8)
    assert region_tree(row).cut(n_regions=2).tolist() == [[1] * 20 + [2] * 20]
    small = np.zeros((12, 10))
    small[:, 5:] = 1
    assert same_partition(region_tree(small).cut(n_regions=2), small.astype(int))


def test_small_regions_are_merged_before_all_others():
    tree = region_tree(photograph(), Hierarchy(smallest_region=200))
    fine = region_tree(photograph())
    assert np.bincount(fine.cut(threshold=0.0).ravel())[1:].min() < 200
    for threshold in (0.0, 0.3, 0.6):
        assert np.bincount(tree.cut(threshold=threshold).ravel())[1:].min() >= 200


def test_more_regions_than_base_regions_are_refused_with_both_numbers():
    tree = RegionTree(np.array([[1, 2, 3]]), np.array([[0, 1], [2, 3]]), np.array([0.2, 0.7]), 0.5)
    with pytest.raises(ImageError, match="7 regions are more than the 3 base regions"):
        tree.cut(n_regions=7)
    with pytest.raises(ParameterError, match="n_regions must be >= 1, got 0"):
        tree.cut(n_regions=0)
    with pytest.raises(ParameterError, match="not both"):
        tree.cut(n_regions=2, threshold=0.5)


@pytest.mark.parametrize("threshold", [np.nan, np.inf, -np.inf])
def test_thresholds_are_finite(threshold):
    tree = RegionTree(np.array([[1, 2]]), np.array([[0, 1]]), np.array([0.2]), 0.5)
    for ask in (tree.n_regions_at, lambda value: tree.cut(threshold=value)):
        with pytest.raises(ParameterError, match="threshold must be a finite number"):
            ask(threshold)
    with pytest.raises(ParameterError, match="threshold"):
        parse(Hierarchy, {"threshold": threshold})


def test_images_are_grey_or_rgb():
    with pytest.raises(ImageError, match="grey or RGB images, got 4 channels"):
        region_tree(np.zeros((20, 20, 4)))
    with pytest.raises(ImageError, match="has shape"):
        region_tree(np.zeros(20))


def test_a_number_and_a_threshold_exclude_each_other():
    assert Hierarchy().n_regions == "auto"
    with pytest.raises(ParameterError, match="leave it out"):
        parse(Hierarchy, {"n_regions": 3, "threshold": 0.5})
    with pytest.raises(ParameterError, match="n_regions"):
        parse(Hierarchy, {"n_regions": 0})


def test_more_regions_can_be_asked_for_than_are_worth_judging():
    tree = region_tree(coins()[:64, :64])
    n_judged = tree.n_regions_at(0.00999)
    assert n_judged < 12 < tree.n_base
    assert tree.cut(n_regions=12).max() == 12
    for k in range(n_judged + 1, tree.n_base):
        assert tree.n_regions_at(float(tree.heights[tree.n_base - k - 1])) == k
