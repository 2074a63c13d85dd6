import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.data import astronaut, coins

from segmentation import Hierarchy, ImageError, Recipe, RegionTree, Spectral, Ward, region_table, region_tree, segment
from segmentation.cluster import build_graph, cluster, explained_variance, grow_tree, with_suggestion
from segmentation.cuts import MeasuredTree, cut_table, cut_tree, measure_tree
from segmentation.errors import ParameterError
from segmentation.pipeline import prepare


def measured(image, recipe, mask=None):
    working = prepare(image, recipe, mask)
    return measure_tree(grow_tree(working.image, working.mask, None, recipe.method), image, recipe, mask)


def recipe(scale=1.0, min_region_size=0, **method):
    return Recipe(scale=scale, min_region_size=min_region_size, method=Hierarchy(**method))


@st.composite
def masked_pictures(draw):
    """Noisy patches with a mask that leaves islands, and a scale."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    channels = draw(st.sampled_from([(), (3,)]))
    rows, columns = (np.arange(n) * 4 // n for n in shape)
    image = rng.integers(0, 255, (4, 4, *channels))[rows[:, None], columns] + rng.integers(0, 20, (*shape, *channels))
    mask = ndimage.uniform_filter(rng.random(shape), 3) < draw(st.sampled_from([0.5, 0.6, 2]))
    mask[0, 0] = True
    return image.astype(np.uint16), mask, draw(st.sampled_from([1.0, 0.6]))


@given(masked_pictures())
@settings(max_examples=40, deadline=None)
def test_cuts_cover_the_mask_are_nested_and_tell_the_truth_at_any_scale(picture):
    image, mask, scale = picture
    try:
        tree = measured(image, recipe(scale), mask)
    except ImageError as error:
        assert "leaves no pixel at scale" in str(error)  # noqa: PT017
        return
    finer = None
    for k in sorted({1, 2, 5, tree.tree.n_base} & set(range(1, tree.tree.n_base + 1)), reverse=True):
        labels, scores = cut_tree(tree, recipe(scale, n_regions=k))
        assert np.array_equal(labels > 0, mask)
        assert labels.max() == scores["n_regions"] == max(k, tree.tree.n_base - len(tree.tree.merges))
        assert np.unique(labels[mask], return_index=True)[1].tolist() == sorted(
            np.unique(labels[mask], return_index=True)[1]
        )
        expected = explained_variance(image[mask].reshape(mask.sum(), -1).astype(float), labels[mask] - 1)
        assert scores["explained_variance"] == pytest.approx(expected, abs=1e-9)
        for name, column in region_table(labels, image).items():
            np.testing.assert_array_equal(cut_table(tree, labels)[name], column, err_msg=name)
        if finer is not None:
            assert len(np.unique(np.stack([labels[mask], finer[mask]]), axis=1).T) == finer.max()
        finer = labels


@given(masked_pictures())
@settings(max_examples=30, deadline=None)
def test_contours_end_where_pieces_of_the_working_mask_touch_in_the_image(picture):
    image, mask, scale = picture
    try:
        tree = measured(image, recipe(scale), mask).tree
    except ImageError:
        return
    contours = tree.contours()
    labels = tree.cut(threshold=0.5)
    differs = np.zeros(mask.shape, bool)
    differs[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & mask[:, :-1] & mask[:, 1:]
    differs[:-1] |= (labels[:-1] != labels[1:]) & mask[:-1] & mask[1:]
    np.testing.assert_array_equal(contours > 0.5, differs)


def test_without_scale_and_sigma_the_pipeline_gives_the_trees_own_cut():
    image = astronaut()[:120, :150]
    tree = region_tree(image)
    np.testing.assert_array_equal(segment(image, recipe()).labels, tree.cut())
    np.testing.assert_array_equal(segment(image, recipe(n_regions=7)).labels, tree.cut(n_regions=7))
    np.testing.assert_array_equal(segment(image, recipe(threshold=0.3)).labels, tree.cut(threshold=0.3))


def test_cutting_at_the_threshold_in_the_scores_gives_the_same_labels():
    image = astronaut()[:120, :150]
    tree = region_tree(image)
    for k in (1, 2, 9, 30):
        result = segment(image, recipe(n_regions=k))
        np.testing.assert_array_equal(tree.cut(threshold=result.scores["threshold"]), result.labels)


def test_min_region_size_holds_and_needs_no_image():
    image = astronaut()[:120, :150]
    asked = recipe(min_region_size=150, threshold=0.1)
    labels = segment(image, asked).labels
    assert np.bincount(labels.ravel())[1:].min() >= 150
    assert labels.max() < segment(image, recipe(threshold=0.1)).labels.max()
    stored = MeasuredTree.from_arrays(measured(image, asked).as_arrays())
    np.testing.assert_array_equal(cut_tree(stored, asked)[0], labels)


def test_a_region_that_was_torn_apart_counts_by_its_pixels():
    base = np.array([[1, 1, 2, 2]])
    tree = MeasuredTree(RegionTree(base, np.array([[0, 1]]), np.array([0.2]), 0.5), np.array([[10.0], [6.0]]), 0.0)
    assert cut_table(tree, np.array([[1, 2, 2, 2]]))["mean_intensity"].tolist() == [5.0, (5 + 6) / 3]


def test_more_regions_than_base_regions_name_both_numbers():
    image = np.zeros((30, 40), np.uint8)
    image[:, 20:] = 200
    n_base = region_tree(image).n_base
    with pytest.raises(ImageError, match=f"{n_base + 1} regions are more than the {n_base} base regions"):
        segment(image, recipe(n_regions=n_base + 1))


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (7, 9), (15, 15, 3), (2, 3)])
def test_small_and_flat_images_have_regions(shape):
    image = np.full(shape, 7, np.uint8)
    flat = segment(image, recipe())
    assert flat.labels.tolist() == np.ones(shape[:2]).tolist()
    suggested = region_tree(image).suggest()
    assert flat.scores == {"n_regions": 1.0, "explained_variance": 1.0, "threshold": suggested, "base_regions": 1.0}
    noisy = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    assert segment(noisy, recipe()).labels.min() == 1


@pytest.mark.parametrize(
    ("method", "total"), [(Ward(n_regions="auto"), 2), (Spectral(n_regions="auto", extra_regions=1), 3)]
)
def test_auto_takes_the_trees_suggestion_for_the_working_grid(method, total):
    image = np.full((60, 80), 40, np.uint8)
    image[:, 40:] = 200
    image[::7, ::5] += 3
    asked = Recipe(sigma=1, scale=0.5, method=method)
    working = prepare(image, asked).image
    assert region_tree(working).cut().max() == 2
    result = segment(image, asked)
    assert result.labels.max() == total
    number = with_suggestion(method, working)
    graph = build_graph(working, None, number)
    np.testing.assert_array_equal(cluster(working, None, graph, number, 42)[0], result.working_labels)


@pytest.mark.parametrize("method", [Ward(n_regions="auto"), Spectral(n_regions="auto")])
def test_auto_leaves_a_flat_image_whole(method):
    assert segment(np.full((20, 30), 9, np.uint8), Recipe(method=method)).labels.max() == 1


def test_a_recipe_says_auto_whatever_the_image_suggests():
    asked = Recipe(method=Ward(n_regions="auto"))
    segment(coins(), asked)
    assert asked.method.n_regions == "auto"
    assert Recipe(method=Ward()).with_regions("auto") == asked


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"method": {"method": "hierarchy", "n_regions": 0}},
            "^method.n_regions: auto or a whole number >= 1 is expected, got 0$",
        ),
        (
            {"method": {"method": "hierarchy", "n_regions": "many"}},
            "^method.n_regions: auto or a whole number >= 1 is expected, got 'many'$",
        ),
        ({"method": {"method": "hierarchy", "threshold": float("nan")}}, "threshold: .* finite number, got nan"),
        ({"method": {"method": "hierarchy", "n_regions": 3, "threshold": 0.2}}, "n_regions is 3: .* leave it out"),
        ({"method": {"method": "kmeans", "n_clusters": "auto"}}, "n_clusters: .* valid integer.*, got 'auto'"),
    ],
)
def test_what_no_cut_can_be_is_refused_with_the_parameters_name(values, message):
    from segmentation import parse_recipe

    with pytest.raises(ParameterError, match=message):
        parse_recipe(values)
