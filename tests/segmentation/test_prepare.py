import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut, coins
from skimage.transform import rescale as skimage_rescale

from segmentation import ImageError, ParameterError, prepare
from segmentation.prepare import centres, check_image, rescale, rescale_mask, smooth, smooth_and_rescale

DTYPES = [np.dtype(name) for name in ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(4), r"shape \(M, N\) or \(M, N, C\), got \(4,\)"),
        (np.zeros((2, 2, 3, 1)), r"got \(2, 2, 3, 1\)"),
        (np.zeros((0, 5)), r"no pixels: its shape is \(0, 5\)"),
        (np.zeros((2, 2, 0)), "no pixels"),
        (np.zeros((2, 2), dtype=complex), "got complex128"),
        (np.full((2, 2), None), "got object"),
        (np.full((2, 2), "x"), "at most 64 bits, got <U1"),
    ],
)
def test_what_is_not_an_image_is_refused_by_name(image, message):
    with pytest.raises(ImageError, match=message):
        check_image(image)


def test_nan_and_infinite_pixels_are_counted_once_each():
    image = np.zeros((10, 10, 3))
    image[:4, :, 1] = np.nan
    image[:4, :, 2] = np.inf
    image[9, 9, 0] = -1e200
    with pytest.raises(ImageError, match="41 pixels are NaN or infinite; mask them first"):
        check_image(image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e100, -2e100])
def test_one_unusable_pixel_among_many_is_found(value):
    image = np.ones((40, 50, 3))
    image[17, 31, 2] = value
    with pytest.raises(ImageError, match="1 pixel is NaN or infinite"):
        check_image(image)


def test_one_nan_pixel_is_spoken_of_in_the_singular():
    with pytest.raises(ImageError, match="1 pixel is NaN or infinite; mask it first"):
        check_image(np.array([[0.0, np.nan]]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_outside_the_mask_becomes_0_in_a_copy(dtype):
    image = np.array([[1, np.nan, -np.inf, 2]], dtype=dtype)
    checked, _ = check_image(image, np.array([[True, False, False, True]]))
    np.testing.assert_array_equal(checked, [[1, 0, 0, 2]])
    assert checked.dtype == dtype
    assert np.isnan(image[0, 1])


def test_nan_inside_the_mask_is_refused():
    with pytest.raises(ImageError, match="2 pixels are NaN"):
        check_image(np.full((1, 3), np.nan), np.array([[True, True, False]]))


def test_mask_of_another_shape_is_refused_with_both_shapes():
    with pytest.raises(ImageError, match=r"mask has shape \(2, 3\), the image \(3, 2\)"):
        check_image(np.zeros((3, 2, 3)), np.ones((2, 3), dtype=bool))


def test_mask_that_selects_nothing_is_refused():
    with pytest.raises(ImageError, match="the mask leaves no pixel to segment"):
        check_image(np.zeros((3, 2)), np.zeros((3, 2), dtype=bool))


def test_mask_of_0_and_255_is_a_mask():
    _, mask = check_image(np.zeros((1, 3)), np.array([[0, 255, 1]], dtype=np.uint8))
    np.testing.assert_array_equal(mask, [[False, True, True]])


def test_single_channel_is_dropped_and_more_are_kept():
    assert check_image(np.zeros((4, 5, 1)))[0].shape == (4, 5)
    assert check_image(np.zeros((4, 5, 2)))[0].shape == (4, 5, 2)


@pytest.mark.parametrize("dtype", [">u2", ">f4", ">i4"])
def test_foreign_byte_order_becomes_native_without_changing_values(dtype):
    image = np.arange(6, dtype=dtype).reshape(2, 3)
    checked, _ = check_image(image)
    assert checked.dtype.isnative
    np.testing.assert_array_equal(checked, image)
    rescale(smooth(checked, 1), 0.5)


@pytest.mark.parametrize("sigma", [-1, np.nan, np.inf])
def test_smoothing_by_an_impossible_sigma_is_refused(sigma):
    with pytest.raises(ParameterError, match="sigma must be a finite number >= 0"):
        smooth(np.zeros((2, 2)), sigma)


def test_smoothing_by_0_returns_the_image():
    image = np.arange(4).reshape(2, 2)
    assert smooth(image, 0) is image


@given(value=st.integers(0, 255), sigma=st.floats(0, 5), channels=st.sampled_from([(), (3,)]))
@settings(max_examples=30)
def test_smoothing_keeps_constants(value, sigma, channels):
    image = np.full((6, 7, *channels), float(value))
    np.testing.assert_allclose(smooth(image, sigma), image)


def test_smoothing_does_not_mix_channels():
    image = np.zeros((5, 5, 3))
    image[2, 2, 1] = 1
    smoothed = smooth(image, 1)
    assert smoothed[..., 1].sum() == pytest.approx(1, abs=0.01)
    assert not smoothed[..., [0, 2]].any()


@pytest.mark.parametrize(
    ("given", "kept"),
    [("u1", "u1"), ("u2", "u2"), ("f4", "f4"), ("f8", "f8"), ("f2", "f8"), ("?", "f8")],
)
def test_smoothing_keeps_the_dtype_where_scipy_does(given, kept):
    assert smooth(np.ones((3, 3), dtype=given), 1).dtype == np.dtype(kept)


def test_the_coins_are_prepared_as_in_scikit_learns_example():
    expected = skimage_rescale(gaussian_filter(coins(), sigma=2), 0.2, mode="reflect", anti_aliasing=False)
    np.testing.assert_array_equal(rescale(smooth(coins(), 2), 0.2), expected)


@pytest.mark.parametrize("scale", [0, -0.5, 1.5, np.nan])
def test_a_scale_that_is_no_part_is_refused(scale):
    with pytest.raises(ParameterError, match=r"scale must be in \(0, 1\]"):
        rescale(np.zeros((2, 2)), scale)


@pytest.mark.parametrize("scale", [1, 0.5])
def test_integers_become_parts_of_their_largest_value_and_floats_keep_their_range(scale):
    assert rescale(np.full((4, 4), 65535, dtype=np.uint16), scale).max() == 1
    assert rescale(np.full((4, 4), 1000, dtype=np.float32), scale).max() == 1000
    assert rescale(np.ones((4, 4), dtype=bool), scale).dtype == np.float64


@pytest.mark.parametrize(("shape", "scale", "rescaled"), [((1, 50), 0.2, (1, 10)), ((2, 2, 3), 0.01, (1, 1, 3))])
def test_rescaling_leaves_at_least_one_pixel_each_way(shape, scale, rescaled):
    assert rescale(np.ones(shape), scale).shape == rescaled


def test_mask_is_sampled_at_the_centres_of_the_working_pixels():
    mask = np.zeros((5, 10), dtype=bool)
    mask[2, 7] = True
    np.testing.assert_array_equal(rescale_mask(mask, (1, 2)), [[False, True]])


@given(data=st.data(), full=st.integers(1, 60))
@settings(max_examples=100)
def test_the_centre_of_a_working_pixel_lies_in_its_own_block(data, full):
    small = data.draw(st.integers(1, full))
    np.testing.assert_array_equal(centres(full, small)[centres(small, full)], np.arange(small))


@st.composite
def images(draw):
    """Images of every type and layout, from 1 pixel on; whole ranges, and flat ones at an end of the range."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    shape += draw(st.sampled_from([(), (1,), (2,), (3,), (5,)]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    if dtype.kind == "f":
        image = rng.normal(0, 100, shape).astype(dtype)
    else:
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        image = rng.integers(low, high, shape, "i8" if dtype.kind == "b" else dtype, endpoint=True).astype(dtype)
        image = draw(st.sampled_from([image, np.full(shape, low, dtype), np.full(shape, high, dtype)]))
    image = draw(st.sampled_from([image, image[::-1], image[:, ::-1], np.asfortranarray(image)]))
    image.flags.writeable = draw(st.booleans())
    return image


SIGMAS = st.one_of(st.sampled_from([0, 1e-200, 1e-16, 0.1, 0.125, 1, 2, 3, 50, 1000]), st.floats(0, 10))
SCALES = st.one_of(st.sampled_from([1, 0.999, 0.5, 0.2, 0.01]), st.floats(0.01, 1))


@given(image=images(), sigma=SIGMAS)
@settings(max_examples=150, deadline=None)
def test_one_pass_smooths_to_the_same_bits(image, sigma):
    np.testing.assert_array_equal(smooth_and_rescale(image, sigma, 1), rescale(smooth(image, sigma), 1))


@given(image=images(), sigma=SIGMAS, scale=SCALES)
@settings(max_examples=150, deadline=None)
def test_one_pass_equals_the_two_steps(image, sigma, scale):
    expected = rescale(smooth(image, sigma), scale)
    working = smooth_and_rescale(image, sigma, scale)
    assert working.dtype == np.float64
    largest = np.abs(image.astype(float)).max() if image.dtype.kind == "f" else 1
    np.testing.assert_allclose(working, expected, rtol=1e-12, atol=1e-13 * largest)


@given(image=arrays(np.uint8, (23, 9)), sigma=st.floats(0, 3), scale=SCALES)
@settings(max_examples=50, deadline=None)
def test_the_height_of_the_bands_changes_no_bit(image, sigma, scale):
    whole = smooth_and_rescale(image, sigma, scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "_BAND_BYTES", 1)
        np.testing.assert_array_equal(smooth_and_rescale(image, sigma, scale), whole)


def test_one_pass_over_lines_longer_than_a_block_equals_the_two_steps():
    image = np.random.default_rng(0).integers(0, 256, (40, 3000, 3), np.uint8)
    for scale in (1, 0.5, 0.2):
        np.testing.assert_array_equal(smooth_and_rescale(image, 2, scale), rescale(smooth(image, 2), scale))


def test_the_coins_and_a_photograph_are_prepared_in_one_pass_to_the_same_bits():
    for image in (coins(), astronaut()):
        for scale in (0.5, 0.2):
            np.testing.assert_array_equal(smooth_and_rescale(image, 2, scale), rescale(smooth(image, 2), scale))


@pytest.mark.parametrize("scale", [0.75, 0.66])
def test_white_does_not_become_brighter_than_white(scale):
    for size in range(2, 40):
        assert smooth_and_rescale(np.full((size, size), 255, np.uint8), 0, scale).max() == 1


def test_a_pixel_that_is_no_number_spoils_none_beyond_its_reach():
    image = np.random.default_rng(0).random((80, 90))
    image[10, 10] = np.nan
    spoilt, expected = smooth_and_rescale(image, 1, 0.5), rescale(smooth(image, 1), 0.5)
    assert np.isnan(spoilt).any()
    np.testing.assert_allclose(spoilt[10:], expected[10:], rtol=1e-12)


def test_the_loops_are_compiled_once_for_all_images():
    from segmentation.kernels.resample import sample_lines, smooth_lines

    for dtype in DTYPES:
        for image in (np.zeros((9, 7), dtype), np.zeros((9, 7, 3), dtype)[::-1]):
            for writeable in (True, False):
                image.flags.writeable = writeable
                smooth_and_rescale(image, 1, 0.5)
    assert len(smooth_lines.signatures) == len(sample_lines.signatures) == 1


@pytest.mark.parametrize("image", [np.zeros((2, 2)), np.zeros((2, 2), np.int64)])
def test_one_pass_refuses_what_the_steps_refuse(image):
    with pytest.raises(ParameterError, match="sigma must be a finite number >= 0"):
        smooth_and_rescale(image, -1, 0.5)
    with pytest.raises(ParameterError, match=r"scale must be in \(0, 1\]"):
        smooth_and_rescale(image, 1, 0)


def test_one_pass_leaves_the_image_as_it_is():
    image = np.random.default_rng(0).random((30, 30))
    before = image.copy()
    working = smooth_and_rescale(image, 0, 0.999)
    working += 1
    smooth_and_rescale(image, 1, 1)
    np.testing.assert_array_equal(image, before)
    assert image.flags.writeable
