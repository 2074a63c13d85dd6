import hashlib

import numpy as np
import pytest
import yaozarrs
import zarr
from skimage.data import astronaut

from segmentation import Hierarchy, Recipe, region_tree
from segmentation.cuts import cut_tree, measure_tree
from segmentation.errors import StoreError
from segmentation.io.store import Entry, image_path, read_labels, read_preview, write_entry
from segmentation.io.trees import picture_of, read_tree

IMAGE = astronaut()[:90, :110]
RECIPE = Recipe(method=Hierarchy(n_regions=6))
ID = "plate-00000000000000aa"


def stored(root, image=IMAGE, preview=IMAGE, recipe=RECIPE):
    """Store an image with its tree, as a run does; return the tree, the labels and the outputs."""
    tree = measure_tree(region_tree(image), image, recipe)
    labels, scores = cut_tree(tree, recipe)
    values, counts = np.unique(labels, return_counts=True)
    entry = Entry(
        id=ID,
        source="plate.png",
        digest="d" * 64,
        source_bytes=99,
        label="hierarchy",
        key="k" * 64,
        recipe=recipe,
        labels=labels,
        areas=dict(zip(values.tolist(), counts.tolist(), strict=True)),
        scores=scores,
        preview=preview,
        picture=b"picture",
        picture_suffix=".png",
        tree=tree,
        slider=b"slider",
    )
    return tree, labels, write_entry(root, entry)[0]


@pytest.mark.parametrize("image", [IMAGE, IMAGE[..., 0], IMAGE.astype(np.uint16) * 200, IMAGE / 7, IMAGE[:1, :1]])
def test_a_stored_tree_gives_the_same_cuts_and_measures(tmp_path, image):
    tree, _, _ = stored(tmp_path, image, image, RECIPE.with_regions("auto"))
    again = read_tree(tmp_path, ID, "hierarchy")
    for name, array in tree.as_arrays().items():
        np.testing.assert_array_equal(again.as_arrays()[name], array, err_msg=name)
        assert again.as_arrays()[name].dtype == array.dtype, name
    for k in {1, tree.tree.n_base}:
        np.testing.assert_array_equal(
            cut_tree(again, RECIPE.with_regions(k))[0], cut_tree(tree, RECIPE.with_regions(k))[0]
        )


def test_readers_of_ome_zarr_find_image_and_labels_as_ever(tmp_path):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr_models import open_ome_zarr

    _, labels, _ = stored(tmp_path)
    path = image_path(tmp_path, ID)
    yaozarrs.validate_zarr_store(str(path))
    yaozarrs.validate_zarr_store(str(path / "labels" / "hierarchy"))
    image = open_ome_zarr(zarr.open_group(path, mode="r"))
    assert image.ome_attributes.version == "0.5"
    arrays = [np.asarray(node.data[0]) for node in Reader(parse_url(str(path)))() if node.data]
    assert [array.shape for array in arrays] == [(3, 90, 110), (90, 110)]
    np.testing.assert_array_equal(arrays[1], labels)
    np.testing.assert_array_equal(read_labels(tmp_path, ID, "hierarchy"), labels)


def test_tree_and_slider_are_outputs_with_size_and_digest(tmp_path):
    _, _, outputs = stored(tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    shared = {name for name in found if name.endswith("labels/zarr.json")}
    assert {output.path for output in outputs} == found - shared
    assert {name.split("/tree/")[1].split("/")[0] for name in found if "/tree/" in name} == {
        *("base", "merges", "heights", "sums", "zarr.json"),
    }
    assert f"contours/00/{ID}.hierarchy.cuts.js" in found
    for output in outputs:
        data = (tmp_path / output.path).read_bytes()
        assert (output.size, output.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("damage", ["base/c/0/0", "sums/zarr.json", "zarr.json"])
def test_a_damaged_tree_is_refused(tmp_path, damage):
    stored(tmp_path)
    path = image_path(tmp_path, ID) / "labels" / "hierarchy" / "tree" / damage
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    with pytest.raises(StoreError, match=r"labels/hierarchy/tree: (holds no tree|its tree is not)"):
        read_tree(tmp_path, ID, "hierarchy")


def test_a_missing_chunk_is_damage_not_zeros(tmp_path):
    stored(tmp_path)
    (image_path(tmp_path, ID) / "labels" / "hierarchy" / "tree" / "base" / "c" / "0" / "0").unlink()
    with pytest.raises(StoreError, match="not the one recorded"):
        read_tree(tmp_path, ID, "hierarchy")


def test_outlines_are_drawn_on_the_image_on_a_smaller_one_or_on_mean_colours(tmp_path):
    for number, preview in enumerate((IMAGE, IMAGE[::2, ::2], IMAGE.mean(axis=(0, 1), keepdims=True).astype(np.uint8))):
        root = tmp_path / str(number)
        tree, _, _ = stored(root, preview=preview)
        picture = picture_of(root, ID, tree)
        assert (picture.shape, picture.dtype) == (IMAGE.shape, IMAGE.dtype)
        if number == 0:
            np.testing.assert_array_equal(picture, read_preview(root, ID))
        elif number == 1:
            np.testing.assert_array_equal(picture[1::2, 1::2], preview)
        else:
            np.testing.assert_array_equal(picture, tree.mean_image().astype(np.uint8))
