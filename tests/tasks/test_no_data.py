"""Images that say where they have no data, and OME-Zarr images that say where they lie, through all steps."""

import json

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from segmentation import Hierarchy, KMeans, Recipe, Spectral, Ward, segment
from segmentation.io.records import read_table
from segmentation.io.sources import list_images
from segmentation.io.storage import open_storage
from segmentation.io.store import image_path, read_labels, read_preview
from segmentation.planning import State, StoredTree, Work
from tasks.items import (
    Job,
    cluster_items,
    contour_items,
    graph_items,
    load_items,
    prepare_items,
    store_items,
)

SHAPE = (60, 80)
VALID = np.zeros(SHAPE, bool)
VALID[:50, 10:] = True
#: Where four plateaus lie, with no data around two of them.
PLATEAUS = 1 + (np.arange(80) >= 45) + 2 * (np.arange(60) >= 25)[:, None]
METHODS = {
    "ward": Recipe(scale=1, sigma=1, method=Ward(n_regions=4)),
    "spectral": Recipe(scale=1, sigma=1, method=Spectral(n_regions=4, extra_regions=0)),
    "kmeans": Recipe(scale=1, sigma=1, method=KMeans(n_clusters=4)),
    "hierarchy": Recipe(method=Hierarchy(n_regions=4)),
}


def run(folder, recipe, root, *, masks=None, run="000001-x", **options):
    """Take the images of a folder through all steps; return their records."""
    root.mkdir(exist_ok=True)
    job = Job(root=str(root), run=run, label="all", recipe=recipe, **options)
    items = load_items([Work(ref) for ref in list_images(folder, masks)], job)
    for step in (prepare_items, graph_items, cluster_items, contour_items):
        items = step(items, job)
    return store_items(items, job, "00000")


def ground(dtype):
    """Make the plateaus, some way from the ends of their type."""
    levels = np.array([0, 60, 90, 120, 180])[PLATEAUS]
    return (levels / 255 if np.dtype(dtype) == np.float16 else levels).astype(dtype)


def write(path, pixels, text, **options):
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, pixels, metadata=None, extratags=[(42113, "s", 0, text, True)], **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [("uint8", 255, "255"), ("uint16", 0, "0"), ("int16", -32768, "-32768"), ("float32", -9999, "-9999"),
     ("float32", np.finfo(np.float32).min, "-3.4028234663852886e+38"), ("float64", np.nan, "nan"),
     ("float16", -np.inf, "-inf"), ("int32", 2**31 - 1, "2147483647.0")],
)  # fmt: skip
@pytest.mark.parametrize("scale", [1, 0.5])
def test_no_data_is_label_0_and_does_not_show_in_the_labels_around_it(tmp_path, method, dtype, value, text, scale):
    pixels = ground(dtype)
    pixels[~VALID] = value
    write(tmp_path / "in" / "a.tif", pixels, text)
    (record,) = run(tmp_path / "in", METHODS[method].model_copy(update={"scale": scale}), tmp_path / "out")
    assert record.state is State.SEGMENTED, record.reason
    labels = read_labels(tmp_path / "out", record.ref.id, "all")
    np.testing.assert_array_equal(labels > 0, VALID)
    inside = VALID.copy()  # where borders were smoothed, they may lie a pixel off
    inside[23:28] = inside[:, 43:48] = False
    pairs = np.unique(np.stack([labels[inside], np.broadcast_to(PLATEAUS, SHAPE)[inside]]), axis=1)
    assert pairs.shape == (2, 4)
    preview = read_preview(tmp_path / "out", record.ref.id)
    assert np.isfinite(preview).all()
    assert np.abs(preview.astype(float)).max() <= np.abs(ground(dtype).astype(float)).max() * (1 + 1e-3)


def test_what_lies_where_there_is_no_data_changes_nothing(tmp_path):
    for name, value in (("a", -9999.0), ("b", 1e30)):
        pixels = ground("float32") + np.random.default_rng(0).normal(0, 1, SHAPE).astype("f4")
        pixels[~VALID] = value
        write(tmp_path / name / "x.tif", pixels, str(value))
        run(tmp_path / name, METHODS["ward"], tmp_path / f"{name}-out")
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / f"{name}-out" / "contours").rglob("*.png")}
        for name in "ab"
    ]
    assert files[0] == files[1] != {}
    tables = [
        read_table(open_storage(tmp_path / f"{name}-out"), "runs/000001-x/regions/00000.parquet") for name in "ab"
    ]
    columns = [column for column in tables[0].column_names if column != "key"]
    assert repr(tables[0].select(columns).to_pylist()) == repr(tables[1].select(columns).to_pylist())
    assert sum(tables[0]["area"].to_pylist()) == VALID.sum()


def test_a_mask_and_no_data_both_hold(tmp_path):
    pixels = ground("uint8")
    pixels[~VALID] = 255
    write(tmp_path / "in" / "a.tif", pixels, "255")
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :40] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    (record,) = run(tmp_path / "in", METHODS["ward"], tmp_path / "out", masks=tmp_path / "masks")
    labels = read_labels(tmp_path / "out", record.ref.id, "all")
    np.testing.assert_array_equal(labels > 0, VALID & (mask > 0))


def test_without_a_pixel_of_data_an_image_is_rejected(tmp_path):
    write(tmp_path / "in" / "all.tif", np.full(SHAPE, 9, np.uint8), "9")
    pixels = ground("uint8")
    pixels[:, :40] = 9
    write(tmp_path / "in" / "half.tif", pixels, "9")
    write(tmp_path / "in" / "nan.tif", np.where(VALID, ground("float32"), np.float32(np.nan)), "-9999")
    write(tmp_path / "in" / "shape.tif", pixels, "9")
    (tmp_path / "masks").mkdir()
    for name in ("all", "half", "nan"):
        Image.fromarray(np.where(np.arange(80) < 30, np.uint8(255), np.uint8(0)).repeat(60).reshape(80, 60).T).save(
            tmp_path / "masks" / f"{name}.png"
        )
    Image.fromarray(np.ones((3, 3), np.uint8)).save(tmp_path / "masks" / "shape.png")
    reasons = {
        record.ref.name: record.reason
        for record in run(tmp_path / "in", METHODS["ward"], tmp_path / "out", masks=tmp_path / "masks")
    }
    assert reasons == {
        "all.tif": "the image has no visible pixel: it declares all of them to be no data",
        "half.tif": "the mask leaves no visible pixel: all of it is declared to be no data",
        "nan.tif": "800 pixels are NaN or infinite; mask them first",
        "shape.tif": "the mask has shape (3, 3), the image (60, 80); they must be equal",
    }


def test_colours_without_data_are_label_0(tmp_path):
    colours = np.dstack([ground("uint8"), ground("uint8")[::-1], 255 - ground("uint8")])
    colours[~VALID] = 0
    colours[0, 20, 0] = 0
    write(tmp_path / "in" / "a.tif", colours, "0", photometric="rgb")
    (record,) = run(tmp_path / "in", METHODS["ward"], tmp_path / "out")
    np.testing.assert_array_equal(read_labels(tmp_path / "out", record.ref.id, "all") > 0, VALID)


def zarr_image(path, pixels, axes, transformations):
    group = zarr.open_group(path, mode="w")
    group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, chunks=(64,) * pixels.ndim)[...] = pixels
    described = [{"name": n, "type": "space", "unit": "micrometer"} if n in "yx" else {"name": n} for n in axes]
    datasets = [{"path": "0", "coordinateTransformations": transformations}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": described, "datasets": datasets}]}


def multiscale(path):
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]


def test_labels_lie_where_the_image_lies_also_those_that_join_later_or_are_cut_from_a_tree(tmp_path):
    transformations = [{"type": "scale", "scale": [1, 0.5, 0.25]}, {"type": "translation", "translation": [0, 10, 20]}]
    pixels = np.stack([ground("uint8"), ground("uint8")[::-1], 255 - ground("uint8")])
    zarr_image(tmp_path / "in" / "x.ome.zarr", pixels, "cyx", transformations)
    out = tmp_path / "out"
    grown = Recipe(scale=0.5, sigma=0, method=Hierarchy(n_regions=4))
    (record,) = run(tmp_path / "in", grown, out)
    image = image_path(out, record.ref.id)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    assert multiscale(image / "labels" / "all") == {
        "name": "all",
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": [
            {"type": "scale", "scale": [0.5, 0.25]}, {"type": "translation", "translation": [10, 20]}
        ]}],
    }  # fmt: skip
    assert multiscale(image)["axes"] == [{"name": "c", "type": "channel"}, *axes]
    assert multiscale(image)["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1, 1, 0.5]},
        {"type": "translation", "translation": [0, 10.25, 20.125]},
    ]
    first = multiscale(image / "labels" / "all")
    stored = StoredTree("all", record.digest, record.mask_digest, grown)
    job = Job(root=str(out), run="000002-x", label="all", recipe=grown)
    items = load_items([Work(record.ref, regions=2, stored=stored)], job)
    for step in (prepare_items, graph_items, cluster_items, contour_items):
        items = step(items, job)
    (cut,) = store_items(items, job, "00000")
    assert (cut.state, cut.label) == (State.SEGMENTED, "all-2")
    assert multiscale(image / "labels" / "all-2") == {**first, "name": "all-2"}


def test_a_missing_chunk_that_is_to_be_refused_is_looked_at_again_in_another_run(tmp_path):
    pixels = np.zeros((128, 128), np.uint8)
    pixels[64:] = pixels[:, 64:] = 9
    zarr_image(tmp_path / "in" / "x.zarr", pixels, "yx", [{"type": "scale", "scale": [1, 1]}])
    assert len([path for path in (tmp_path / "in" / "x.zarr" / "0" / "c").rglob("*") if path.is_file()]) == 3
    recipe = Recipe(scale=1, sigma=0, method=Ward(n_regions=2))
    (refused,) = run(tmp_path / "in", recipe, tmp_path / "out", missing_chunks="refuse")
    assert (refused.state, refused.step) == (State.REJECTED, "plan")
    assert "without 1 of its 4 chunks" in refused.reason
    (record,) = run(tmp_path / "in", recipe, tmp_path / "other")
    np.testing.assert_array_equal(read_labels(tmp_path / "other", record.ref.id, "all"), segment(pixels, recipe).labels)
