import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage import data, measure

from segmentation.errors import ParameterError
from segmentation.regions import RegionTable, region_table

label_maps = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 4))
SAME_AS_SKIMAGE = {
    "label": "label",
    "area": "area",
    "centroid_row": "centroid-0",
    "centroid_col": "centroid-1",
    "bbox_row_min": "bbox-0",
    "bbox_col_min": "bbox-1",
    "bbox_row_max": "bbox-2",
    "bbox_col_max": "bbox-3",
    "perimeter": "perimeter",
}


def skimage_table(labels: np.ndarray, image: np.ndarray) -> RegionTable:
    properties = ("label", "area", "centroid", "bbox", "perimeter", "eccentricity", "intensity_mean")
    return measure.regionprops_table(labels.astype(int), image, properties=properties)


def assert_equals_skimage(table: RegionTable, reference: RegionTable) -> None:
    for ours, theirs in SAME_AS_SKIMAGE.items():
        np.testing.assert_allclose(table[ours], reference[theirs], rtol=1e-9, atol=1e-9, err_msg=ours)
    np.testing.assert_allclose(table["eccentricity"], reference["eccentricity"], rtol=0, atol=1e-6)


def test_a_region_is_measured_as_counted_by_hand():
    labels = np.array([[0, 1, 1], [0, 1, 1], [2, 2, 2]])
    image = np.array([[9.0, 1.0, 2.0], [9.0, 3.0, 4.0], [6.0, 6.0, 6.0]])
    table = region_table(labels, image)
    assert table["area"].tolist() == [4, 3]
    assert table["centroid_row"].tolist() == [0.5, 2.0]
    assert table["centroid_col"].tolist() == [1.5, 1.0]
    assert [table[f"bbox_{side}"].tolist() for side in ("row_min", "col_min", "row_max", "col_max")] == [
        [0, 2],
        [1, 0],
        [2, 3],
        [3, 3],
    ]
    assert table["mean_intensity"].tolist() == [2.5, 6.0]
    assert table["eccentricity"].tolist() == [0.0, 1.0]


@settings(max_examples=150, deadline=None)
@given(label_maps, st.data())
def test_the_table_equals_regionprops(labels, draw):
    image = draw.draw(arrays(np.float64, labels.shape, elements=st.floats(-1e3, 1e3)))
    table, reference = region_table(labels, image), skimage_table(labels, image)
    assert len(table["label"]) == len(np.unique(labels[labels > 0]))
    if labels.any():
        assert_equals_skimage(table, reference)
        np.testing.assert_allclose(table["mean_intensity"], reference["intensity_mean"], rtol=1e-9, atol=1e-9)


def test_the_table_of_the_coins_equals_regionprops():
    image = data.coins()
    labels = measure.label(image > 110)
    reference = skimage_table(labels, image)
    assert_equals_skimage(region_table(labels, image), reference)
    np.testing.assert_array_equal(region_table(labels, image)["mean_intensity"], reference["intensity_mean"])


def test_colors_are_averaged_one_by_one():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    labels = np.random.default_rng(1).integers(0, 4, (20, 30))
    table, reference = region_table(labels, image), skimage_table(labels, image)
    for channel, name in enumerate(("mean_red", "mean_green", "mean_blue")):
        np.testing.assert_allclose(table[name], reference[f"intensity_mean-{channel}"], rtol=1e-12)
    mean = (table["mean_red"] + table["mean_green"] + table["mean_blue"]) / 3
    np.testing.assert_allclose(table["mean_intensity"], mean, rtol=1e-12)


def test_tables_of_grey_and_color_images_have_the_same_columns_and_types():
    labels = np.array([[1, 2]])
    tables = [
        region_table(labels, np.zeros((1, 2), np.uint8)),
        region_table(labels, np.zeros((1, 2, 3))),
        region_table(labels.astype(np.uint32)),
        region_table(np.zeros((0, 0), np.uint16)),
    ]
    schemas = [[(name, column.dtype) for name, column in table.items()] for table in tables]
    assert schemas == [schemas[0]] * 4
    assert np.isnan(tables[0]["mean_red"]).all()
    assert np.isnan(tables[2]["mean_intensity"]).all()


def test_a_symmetric_region_far_from_the_origin_has_no_eccentricity():
    labels = np.zeros((3000, 4000), np.uint8)
    labels[2990:2995, 3990:3995] = 1
    table = region_table(labels)
    assert table["eccentricity"].tolist() == [0.0]
    assert table["centroid_row"].tolist() == [2992.0]


def test_a_missing_label_has_no_row():
    assert region_table(np.array([[1, 4, 4]]))["label"].tolist() == [1, 4]


def test_masked_pixels_that_are_not_numbers_do_not_matter():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = region_table(np.array([[0, 1, 1]]), np.array([[np.nan, 1.0, 3.0]]))
    assert table["mean_intensity"].tolist() == [2.0]


@pytest.mark.parametrize("image", [np.zeros((3, 4)), np.zeros((4, 3, 2)), np.zeros(4)])
def test_an_image_that_does_not_fit_the_labels_is_refused(image):
    with pytest.raises(ParameterError, match="an image of shape"):
        region_table(np.ones((4, 3), int), image)


def test_labels_that_are_no_matrix_are_refused():
    with pytest.raises(ParameterError, match=r"labels must have shape \(M, N\), got \(4,\)"):
        region_table(np.ones(4, int))


def test_a_region_with_a_label_above_65535_is_measured_like_any_other():
    few = np.random.default_rng(0).integers(0, 3, (9, 40))
    many = np.where(few == 2, 70_000, few)
    table, reference = region_table(many), region_table(few)
    assert table.pop("label").tolist() == [1, 70_000]
    for name, column in table.items():
        np.testing.assert_array_equal(column, reference[name])


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "i4", "u8", "f2", "f4", "f8"])
def test_means_are_the_same_whatever_type_and_layout_the_image_has(dtype):
    rng = np.random.default_rng(0)
    values, labels = rng.integers(0, 2, (20, 30, 3)), np.asfortranarray(rng.integers(0, 3, (20, 30)))
    table = region_table(labels, values[:, ::-1].astype(dtype)[:, ::-1])
    for channel, name in enumerate(("mean_red", "mean_green", "mean_blue")):
        expected = [values[labels == label, channel].mean() for label in (1, 2)]
        np.testing.assert_allclose(table[name], expected, rtol=1e-12)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_sums_of_32_bit_pixels_do_not_round_to_32_bits(channels):
    image = np.full((100, 1000, *channels), 0.1, np.float32)
    table = region_table(np.ones((100, 1000), int), image)
    np.testing.assert_allclose(table["mean_intensity"], [float(np.float32(0.1))], rtol=1e-11)


def test_negative_labels_are_refused():
    with pytest.raises(ParameterError, match="labels must be >= 0, got -3"):
        region_table(np.array([[1, -3]]))


def test_asking_for_the_columns_loads_no_compiled_loop():
    program = "import sys, numpy as n, segmentation as s; s.region_table(n.zeros((0, 0), int)); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "numba" not in run.stdout.split()
