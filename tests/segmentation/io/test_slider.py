import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.data import astronaut

from segmentation import RegionTree, region_tree
from segmentation.io.slider import first_stops, slider_script, stops_of


def content(script):
    text = script.decode("ascii")
    start = "Object.assign(window.regionflowCuts??={},"
    assert text.startswith(start)
    assert text.endswith(");\n")
    return json.loads(text.removeprefix(start).removesuffix(");\n"))


def borders_in(data):
    flat = np.frombuffer(zlib.decompress(base64.b64decode(data["borders"])), np.uint8)
    return flat.reshape(data["height"], data["width"])


def borders_of(labels):
    borders = np.zeros(labels.shape, dtype=bool)
    borders[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & (labels[:, :-1] != 0) & (labels[:, 1:] != 0)
    borders[:-1] |= (labels[:-1] != labels[1:]) & (labels[:-1] != 0) & (labels[1:] != 0)
    return borders


@pytest.mark.parametrize("masked", [False, True])
def test_every_stop_shows_the_borders_of_that_number_of_regions(masked):
    image = astronaut()[:150, :140]
    mask = np.ones(image.shape[:2], bool)
    if masked:
        mask = ndimage.uniform_filter(np.random.default_rng(0).random(mask.shape), 15) < 0.5
    tree = region_tree(image, mask=mask)
    n_pieces = ndimage.label(mask)[1]
    stored = n_pieces + 8
    data = content(slider_script("a/b", image, tree, stored))["a/b"]
    borders = borders_in(data)
    assert data["regions"][data["stored"]] == stored
    assert data["regions"][0] == n_pieces
    assert data["regions"] == sorted(set(data["regions"]))
    for stop, n_regions in enumerate(data["regions"], start=1):
        shown = (borders > 0) & (borders <= stop)
        np.testing.assert_array_equal(shown, borders_of(tree.cut(n_regions=n_regions)))


def test_a_large_image_is_made_smaller_and_no_border_is_lost():
    base = np.kron([[1, 2, 3], [4, 4, 3]], np.ones((700, 900), int))
    tree = RegionTree(base, np.array([[0, 1], [2, 3], [4, 5]]), np.array([0.1, 0.2, 0.3]), 0.5)
    image = np.zeros(base.shape, np.uint8)
    image[:, 900:] = 200
    data = content(slider_script("a/b", image, tree, 2))["a/b"]
    borders = borders_in(data)
    assert borders.shape == (467, 900)
    whole = first_stops(tree, stops_of(tree, 2))
    for stop in (2, 3, 4):
        rows, columns = np.nonzero((whole > 0) & (whole <= stop))
        expected = np.zeros(borders.shape, bool)
        expected[rows // 3, columns // 3] = True
        np.testing.assert_array_equal((borders > 0) & (borders <= stop), expected)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["picture"]))))
    assert picture.shape == borders.shape
    assert picture[:, 320:].mean() > 190


def test_one_region_has_one_stop_and_no_border():
    image = np.full((5, 1), 3, np.uint8)
    data = content(slider_script("a/b", image, region_tree(image), 1))["a/b"]
    assert (data["regions"], data["stored"], borders_in(data).any()) == ([1], 0, False)
