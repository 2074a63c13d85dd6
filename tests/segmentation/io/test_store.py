import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segmentation.errors import StoreError
from segmentation.io.storage import open_storage
from segmentation.io.store import (
    Entry,
    image_path,
    make_preview,
    read_labels,
    read_preview,
    write_entry,
)
from segmentation.params import Recipe, Ward

LABELS = np.repeat(np.repeat(np.array([[1, 1, 2], [1, 3, 3]], np.uint16), 10, axis=0), 12, axis=1)


def entry(**changes):
    values, counts = np.unique(changes.get("labels", LABELS), return_counts=True)
    plain = Entry(
        id="plate-00000000000000aa",
        source="plate.png",
        digest="d" * 64,
        source_bytes=99,
        label="spectral",
        key="k" * 64,
        recipe=Recipe(),
        labels=LABELS,
        areas={int(v): int(c) for v, c in zip(values, counts, strict=True) if v},
        scores={"ncut": 0.5},
        preview=np.zeros((5, 8), np.uint8),
        picture=b"picture",
        picture_suffix=".png",
    )
    return replace(plain, **changes)


@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_every_image_passes_both_validators_and_ome_zarr_reads_it_with_its_labels(tmp_path, channels):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr_models import open_ome_zarr

    write_entry(tmp_path, entry(preview=np.zeros((5, 8, *channels), np.uint8)))
    write_entry(tmp_path, entry(preview=np.zeros((5, 8, *channels), np.uint8), label="ward"))
    path = image_path(tmp_path, entry().id)

    yaozarrs.validate_zarr_store(str(path))
    image = open_ome_zarr(zarr.open_group(path, mode="r"))
    assert image.ome_attributes.version == "0.5"
    for label in ("spectral", "ward"):
        open_ome_zarr(zarr.open_group(path / "labels" / label, mode="r"))
    nodes = {node.zarr.zgroup and str(node): node for node in Reader(parse_url(str(path)))()}
    arrays = [np.asarray(node.data[0]) for node in nodes.values() if node.data]
    assert sum(array.shape == LABELS.shape and np.array_equal(array, LABELS) for array in arrays) == 2


def test_labels_come_back_as_they_were(tmp_path):
    write_entry(tmp_path, entry())
    np.testing.assert_array_equal(read_labels(tmp_path, entry().id, "spectral"), LABELS)


@settings(max_examples=20, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint16, np.uint32]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=30), fill=st.just(1)
    )
)
def test_any_label_map_survives_the_store(tmp_path_factory, labels):
    root = tmp_path_factory.mktemp("store")
    write_entry(root, entry(labels=labels))
    read = read_labels(root, entry().id, "spectral")
    assert read.dtype == labels.dtype
    np.testing.assert_array_equal(read, labels)


def test_large_label_maps_are_one_shard_of_chunks(tmp_path):
    labels = np.ones((1500, 2100), np.uint16)
    labels[700:, 900:] = 2
    outputs, _ = write_entry(tmp_path, entry(labels=labels, preview=np.zeros((150, 210), np.uint8)))
    chunks = [output.path for output in outputs if "/labels/spectral/0/c/" in output.path]
    assert len(chunks) == 1
    np.testing.assert_array_equal(read_labels(tmp_path, entry().id, "spectral"), labels)
    yaozarrs.validate_zarr_store(str(image_path(tmp_path, entry().id)))


def test_a_second_label_joins_the_first_and_leaves_it_untouched(tmp_path):
    first, _ = write_entry(tmp_path, entry())
    before = {output.path: (tmp_path / output.path).stat().st_mtime_ns for output in first}
    write_entry(tmp_path, entry(label="ward", labels=LABELS[::-1].copy()))
    assert {path: (tmp_path / path).stat().st_mtime_ns for path in before} == before
    labels = json.loads((image_path(tmp_path, entry().id) / "labels" / "zarr.json").read_bytes())
    assert labels["attributes"]["ome"]["labels"] == ["spectral", "ward"]


def test_a_label_computed_again_replaces_itself_only(tmp_path):
    write_entry(tmp_path, entry())
    write_entry(tmp_path, entry(label="ward"))
    write_entry(tmp_path, entry(labels=np.full_like(LABELS, 7)))
    assert read_labels(tmp_path, entry().id, "spectral").min() == 7
    np.testing.assert_array_equal(read_labels(tmp_path, entry().id, "ward"), LABELS)


def test_an_image_that_changed_is_replaced_whole(tmp_path):
    write_entry(tmp_path, entry())
    write_entry(tmp_path, entry(label="ward", digest="e" * 64))
    assert sorted(p.name for p in (image_path(tmp_path, entry().id) / "labels").iterdir()) == ["ward", "zarr.json"]


def test_the_same_entry_gives_the_same_bytes(tmp_path):
    first, _ = write_entry(tmp_path / "a", entry())
    second, _ = write_entry(tmp_path / "b", entry())
    assert first == second


def test_outputs_list_every_file_of_image_and_label_with_size_and_digest(tmp_path):
    outputs, contour = write_entry(tmp_path, entry())
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    shared = {path for path in files if path.endswith("/labels/zarr.json")}
    assert {output.path for output in outputs} == files - shared
    assert contour == "contours/00/plate-00000000000000aa.spectral.png"
    assert all((tmp_path / output.path).stat().st_size == output.size for output in outputs)


def test_nothing_is_left_in_staging(tmp_path):
    write_entry(tmp_path, entry())
    assert list((tmp_path / ".staging").iterdir()) == []
    open_storage(tmp_path).sweep()
    assert not (tmp_path / ".staging").exists()


def test_a_missing_chunk_is_an_error_not_zeros(tmp_path):
    write_entry(tmp_path, entry())
    shutil.rmtree(image_path(tmp_path, entry().id) / "labels" / "spectral" / "0" / "c")
    with pytest.raises(StoreError, match="missing or altered chunk"):
        read_labels(tmp_path, entry().id, "spectral")


def test_every_flipped_bit_in_a_chunk_is_found(tmp_path):
    write_entry(tmp_path, entry())
    chunk = image_path(tmp_path, entry().id) / "labels" / "spectral" / "0" / "c" / "0" / "0"
    sound = chunk.read_bytes()
    for position in range(0, len(sound) * 8, 37):
        data = bytearray(sound)
        data[position // 8] ^= 1 << position % 8
        chunk.write_bytes(data)
        with pytest.raises(StoreError, match="cannot be read"):
            read_labels(tmp_path, entry().id, "spectral")


def test_many_regions_leave_the_colour_list_out(tmp_path):
    labels = np.arange(1, 401, dtype=np.uint16).reshape(20, 20)
    write_entry(tmp_path, entry(labels=labels))
    group = zarr.open_group(image_path(tmp_path, entry().id) / "labels" / "spectral", mode="r")
    assert set(group.attrs["ome"]["image-label"]) == {"version", "source"}
    yaozarrs.validate_zarr_store(str(image_path(tmp_path, entry().id)))


@pytest.mark.parametrize(
    ("pixels", "shape"), [("preview", (5, 4)), ("full", (20, 16)), ("none", (1, 1))], ids=["preview", "full", "none"]
)
def test_as_much_of_the_image_is_stored_as_asked(tmp_path, pixels, shape):
    image = np.full((20, 16), 51, np.uint8)
    preview = make_preview(image, np.full((5, 4), 0.2), pixels)
    write_entry(tmp_path, entry(labels=np.ones((20, 16), np.uint16), preview=preview))
    stored = read_preview(tmp_path, entry().id)
    assert stored.shape == shape
    assert stored.dtype == np.uint8
    assert set(stored.ravel()) == {51}
    yaozarrs.validate_zarr_store(str(image_path(tmp_path, entry().id)))


def test_recipe_key_and_versions_stand_beside_the_labels(tmp_path):
    recipe = Recipe(scale=0.5, method=Ward(n_regions=3))
    write_entry(tmp_path, entry(recipe=recipe))
    attributes = zarr.open_group(image_path(tmp_path, entry().id) / "labels" / "spectral", mode="r").attrs["regionflow"]
    assert Recipe.model_validate(attributes["recipe"]) == recipe
    assert attributes["key"] == "sha256:" + "k" * 64
    assert "scikit-learn" in attributes["versions"]
