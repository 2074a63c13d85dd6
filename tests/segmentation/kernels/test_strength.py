import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from segmentation.boundaries import boundary_cues
from segmentation.kernels.strength import (
    ALONG,
    CROSSWISE,
    DIFFERENCE,
    HERE,
    LARGER,
    LESSER,
    N_PLACE,
    Maps,
    Views,
    boundary_probabilities,
    look_at,
)
from segmentation.learned import learned, untrained
from segmentation.strength import boundary_strength, views

SHAPE = (23, 31)


def maps():
    rng = np.random.default_rng(0)
    coarse = tuple((n + 1) // 2 for n in SHAPE)
    return Maps(
        rng.random((1, *SHAPE, 8), np.float32),
        rng.random((2, *coarse, 8), np.float32),
        rng.random((1, *SHAPE), np.float32),
        rng.integers(0, 8, SHAPE).astype(np.int32),
        np.array([0.1, 0.2, 0.3]),
    )


def features(map_, kind, offsets=((0, 0), (0, 0))):
    places = np.broadcast_to(np.array(offsets), (1, 8, 2, 2)).copy()
    return look_at(maps(), Views(np.array([map_]), np.array([kind]), places))


def chosen(oriented, orientations):
    return np.take_along_axis(oriented, orientations[..., None], axis=2)[..., 0]


def test_a_view_of_the_pixel_itself_is_its_value():
    known = maps()
    np.testing.assert_array_equal(features(3, HERE)[..., 0], known.planes[0])
    np.testing.assert_array_equal(features(0, HERE)[..., 0], chosen(known.fine[0], known.orientations))
    np.testing.assert_array_equal(features(0, CROSSWISE)[..., 0], chosen(known.fine[0], (known.orientations + 4) % 8))


@pytest.mark.parametrize("number", [1, 2])
def test_a_coarser_map_is_interpolated_between_the_centres_of_its_pixels(number):
    known = maps()
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    places = [(rows + 0.5) / 2 - 0.5, (columns + 0.5) / 2 - 0.5]
    enlarged = np.stack(
        [map_coordinates(known.coarse[number - 1, ..., o], places, order=1, mode="nearest") for o in range(8)], axis=2
    )
    found = features(number, HERE)[..., 0]
    np.testing.assert_allclose(found, chosen(enlarged, known.orientations), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "join"),
    [(ALONG, np.add), (LESSER, np.minimum), (LARGER, np.maximum), (DIFFERENCE, lambda a, b: abs(a - b))],
)
def test_two_places_are_looked_up_within_the_map_and_joined(kind, join):
    known = maps()
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    one = np.clip(rows + 3, 0, SHAPE[0] - 1), np.clip(columns - 2, 0, SHAPE[1] - 1)
    other = np.clip(rows - 4, 0, SHAPE[0] - 1), np.clip(columns + 2, 0, SHAPE[1] - 1)
    offsets = ((3, -2), (-4, 2))
    plane = known.planes[0]
    np.testing.assert_array_equal(features(3, kind, offsets)[..., 0], join(plane[one], plane[other]))
    values = [known.coarse[0][r // 2, c // 2, known.orientations] for r, c in (one, other)]
    np.testing.assert_array_equal(features(1, kind, offsets)[..., 0], join(*values))


def test_the_scene_and_the_place_follow_the_views():
    found = features(3, HERE)[..., -N_PLACE:]
    np.testing.assert_allclose(found[..., :3], np.broadcast_to([0.1, 0.2, 0.3], (*SHAPE, 3)), rtol=1e-6)
    assert found[0, 0, 3:5].tolist() == [0, 0]
    assert found[11, 15, 3:5].tolist() == [11, 15]
    assert set(np.unique(found[..., 5])) == {0, 1, 2, 3, 4}


def test_probabilities_are_those_of_all_features():
    seen = boundary_cues(photo(), 255.0, untrained()).seen
    table, forest = views(len(seen.fine) + len(seen.coarse)), learned().pixels
    rows = look_at(seen, table)
    node = np.zeros((*rows.shape[:2], len(forest.features)), int)
    for _ in range(5):
        asked = np.take_along_axis(rows, forest.features[np.arange(len(forest.features)), node].astype(int), axis=2)
        node = 2 * node + 1 + (asked > forest.thresholds[np.arange(len(forest.features)), node])
    odds = forest.values[np.arange(len(forest.features)), node - 31].sum(axis=2) + forest.bias
    np.testing.assert_allclose(boundary_probabilities(seen, table, forest), 1 / (1 + np.exp(-odds)), atol=1e-5)


def photo():
    from skimage.data import astronaut

    return astronaut()[100:180, 180:281]


def test_strength_is_none_where_nothing_is_and_highest_at_an_edge():
    image = np.full((80, 120, 3), 60, np.uint8)
    image[:, 60:] = (160, 120, 80)
    strength = boundary_cues(image, 160.0, learned().pixels).strength
    assert strength.shape == (40, 60)
    assert (strength.argmax(axis=1)[8:-8] // 2 == 14).all()
    assert not strength[:, :8].any()
    flat = boundary_cues(np.full((40, 40, 1), 9, np.uint8), 9.0, learned().pixels)
    assert not flat.strength.any()


def test_noise_is_no_boundary_however_steep():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (160, 160, 1)).astype(np.uint8)
    edge = np.where(np.arange(160) < 80, 60, 160)[None, :, None].repeat(160, axis=0).astype(np.uint8)
    strengths = [boundary_cues(image, 255.0, learned().pixels) for image in (noise, edge)]
    assert strengths[0].steepness.mean() > strengths[1].steepness.mean()
    assert strengths[0].strength[8:-8, 8:-8].max() < strengths[1].strength[8:-8].max()


def test_strength_follows_the_forest():
    seen = boundary_cues(photo(), 255.0, untrained()).seen
    assert np.allclose(boundary_strength(seen, untrained()), 0.5**0.6, atol=1e-6)
