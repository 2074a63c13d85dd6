from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as Pillow

from segmentation.contours import boundary_mask, encode_picture, region_colors, render_contours
from segmentation.errors import ParameterError

label_maps = arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4))


@pytest.mark.parametrize("n_regions", [1, 2, 26, 27, 1000])
def test_region_colors_are_those_of_the_reference_example(n_regions):
    colormap = mpl.colormaps["nipy_spectral"]
    reference = [colormap((label + 4) / (n_regions + 4))[:3] for label in range(n_regions)]
    np.testing.assert_allclose(region_colors(n_regions)[1:] / 255, reference, rtol=0, atol=1 / 255)


def test_row_0_of_the_colors_is_black():
    assert region_colors(0).tolist() == [[0, 0, 0]]
    assert region_colors(5)[0].tolist() == [0, 0, 0]


def test_a_negative_number_of_regions_is_refused():
    with pytest.raises(ParameterError, match="n_regions must be >= 0, got -1"):
        region_colors(-1)


def test_both_sides_of_a_border_belong_to_the_boundary():
    labels = np.array([[1, 1, 1, 2, 2, 2]] * 2)
    assert boundary_mask(labels).astype(int).tolist() == [[0, 0, 1, 1, 0, 0]] * 2
    assert boundary_mask(labels, 2).astype(int).tolist() == [[0, 1, 1, 1, 1, 0]] * 2


def test_a_border_to_masked_pixels_outlines_the_region_alone():
    labels = np.zeros((5, 5), int)
    labels[1:4, 1:4] = 7
    expected = labels == 7
    expected[2, 2] = False
    np.testing.assert_array_equal(boundary_mask(labels), expected)


@settings(max_examples=60)
@given(label_maps, st.integers(1, 6))
def test_the_boundary_is_what_has_another_label_within_the_thickness(labels, thickness):
    expected = np.zeros(labels.shape, bool)
    for row, column in np.ndindex(*labels.shape):
        along_column = labels[max(0, row - thickness) : row + thickness + 1, column]
        along_row = labels[row, max(0, column - thickness) : column + thickness + 1]
        label = labels[row, column]
        expected[row, column] = label != 0 and ((along_column != label).any() or (along_row != label).any())
    np.testing.assert_array_equal(boundary_mask(labels, thickness), expected)


@pytest.mark.parametrize(
    ("labels", "thickness", "message"),
    [
        (np.ones((2, 2, 2), int), 1, r"labels must have shape \(M, N\), got \(2, 2, 2\)"),
        (np.ones((2, 2), int), 0, "thickness_px must be >= 1, got 0"),
    ],
)
def test_a_wrong_boundary_is_refused(labels, thickness, message):
    with pytest.raises(ParameterError, match=message):
        boundary_mask(labels, thickness)


def test_outlines_have_their_regions_color_and_the_rest_is_the_image():
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    labels = np.repeat([[1, 1, 1, 2, 2, 2]], 5, axis=0)
    picture = render_contours(image, labels)
    colors = region_colors(2)
    np.testing.assert_array_equal(picture[:, 2], np.tile(colors[1], (5, 1)))
    np.testing.assert_array_equal(picture[:, 3], np.tile(colors[2], (5, 1)))
    untouched = [0, 1, 4, 5]
    np.testing.assert_array_equal(picture[:, untouched], image[:, untouched])


def test_masked_pixels_are_darkened():
    labels = np.array([[0, 0, 1, 1]])
    picture = render_contours(np.full((1, 4), 200, np.uint8), labels)
    assert picture[0, :, 0].tolist() == [70, 70, region_colors(1)[1, 0], 200]


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (np.array([[False, True]]), [0, 255]),
        (np.array([[3, 250]], np.uint8), [3, 250]),
        (np.array([[0.2, 1.0]]), [51, 255]),
        (np.array([[0.2, 1.0]], np.float32), [51, 255]),
        (np.array([[1000, 3000]], np.uint16), [0, 255]),
        (np.array([[-5, 5]], np.int32), [0, 255]),
        (np.array([[-1e6, 1e6]]), [0, 255]),
        (np.array([[7, 7]], np.uint16), [128, 128]),
        (np.array([[np.nan, 0.4]]), [0, 102]),
        (np.array([[np.inf, 0.4]]), [0, 102]),
        (np.array([[np.nan, -np.inf]]), [0, 0]),
    ],
)
def test_every_kind_of_image_is_shown_in_8_bits(image, shown):
    assert render_contours(image, np.ones((1, 2), int))[0, :, 0].tolist() == shown


def test_the_display_range_comes_from_pixels_that_are_not_masked():
    image = np.array([[1000, 2000, 60000]], np.uint16)
    image = np.repeat(image, 3, axis=1)
    labels = np.array([[1] * 6 + [0] * 3])
    assert render_contours(image, labels)[0, 1:5, 1].tolist() == [0, 0, 255, 255]


def test_a_few_bright_pixels_on_a_flat_image_stay_visible():
    image = np.zeros((40, 40), np.uint16)
    image[20, 20] = 900
    picture = render_contours(image, np.ones(image.shape, int))
    assert picture[20, 20].tolist() == [255, 255, 255]
    assert picture[0, 0].tolist() == [0, 0, 0]


def test_lines_get_thicker_with_the_size_of_the_image():
    for width, thickness in [(100, 1), (600, 1), (1800, 3)]:
        labels = np.ones((2, width), np.uint8)
        labels[:, width // 2 :] = 2
        changed = render_contours(np.full(labels.shape, 128, np.uint8), labels)[0, :, 2] != 128
        assert changed.sum() == 2 * thickness


def test_an_image_without_pixels_or_regions_is_shown():
    assert render_contours(np.zeros((0, 3)), np.zeros((0, 3), int)).shape == (0, 3, 3)
    assert render_contours(np.ones((2, 2)), np.zeros((2, 2), int)).tolist() == [[[89] * 3] * 2] * 2


@pytest.mark.parametrize("shape", [(3, 4), (4, 3, 2), (4, 3, 4), (4, 3, 3, 1)])
def test_an_image_that_does_not_fit_the_labels_is_refused(shape):
    with pytest.raises(ParameterError, match="an image of shape"):
        render_contours(np.zeros(shape), np.ones((4, 3), int))


def test_a_small_picture_is_a_lossless_png():
    picture = np.random.default_rng(0).integers(0, 256, (37, 20, 3), np.uint8)
    data, suffix = encode_picture(picture)
    assert suffix == ".png"
    with Pillow.open(BytesIO(data)) as read:
        assert (read.format, read.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(read), picture)


def test_a_large_picture_is_a_jpeg_with_the_same_colors():
    picture = np.full((2001, 2000, 3), (200, 40, 90), np.uint8)
    data, suffix = encode_picture(picture)
    assert suffix == ".jpg"
    with Pillow.open(BytesIO(data)) as read:
        assert (read.format, read.mode, read.size) == ("JPEG", "RGB", (2000, 2001))
        assert np.abs(np.asarray(read).astype(int) - picture).max() <= 2


def test_a_picture_too_long_for_jpeg_is_a_png():
    assert encode_picture(np.zeros((62, 65_501, 3), np.uint8))[1] == ".png"


@settings(max_examples=60, deadline=None)
@given(label_maps, st.integers(1, 6))
def test_outlines_are_the_boundary_and_masked_pixels_a_third_as_bright(labels, thickness):
    image = np.random.default_rng(0).integers(0, 256, (*labels.shape, 3), np.uint8)
    expected = image.copy()
    expected[labels == 0] = (expected[labels == 0] * 0.35).astype(np.uint8)
    outline = boundary_mask(labels, thickness)
    expected[outline] = region_colors(int(labels.max()))[labels[outline]]
    np.testing.assert_array_equal(render_contours(image, labels, thickness_px=thickness), expected)


def test_a_png_of_several_chunks_reads_as_one(monkeypatch):
    picture = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    monkeypatch.setattr("segmentation.contours._PNG_CHUNK_BYTES", 1000)
    data, _ = encode_picture(picture)
    assert data.count(b"IDAT") > 3
    with Pillow.open(BytesIO(data)) as read:
        np.testing.assert_array_equal(np.asarray(read), picture)
