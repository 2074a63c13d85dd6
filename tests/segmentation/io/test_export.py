import csv
import json
import uuid
import weakref
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as Pillow
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segmentation.contours import region_colors
from segmentation.errors import ParameterError, StoreError
from segmentation.io.export import FORMATS, LabelledImage, encode_run_lengths
from segmentation.regions import region_table

LABELS = np.array([[1, 1, 0, 3], [1, 2, 2, 3], [3, 2, 2, 0]], np.uint16)
IMAGE = np.arange(12, dtype=np.uint8).reshape(3, 4)
ITEM = LabelledImage("coin-1a2b", "a/coin.png", "spectral", LABELS, region_table(LABELS, IMAGE))
label_maps = arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 4))


def refuse_constant(name: str) -> None:
    raise AssertionError(f"JSON knows no {name}")


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_geojson_shapes_are_the_regions(tmp_path):
    assert FORMATS["geojson"]([ITEM], tmp_path / "new" / "folder") == [
        tmp_path / "new" / "folder" / "coin-1a2b.spectral.geojson"
    ]
    collection = read_json(tmp_path / "new" / "folder" / "coin-1a2b.spectral.geojson")
    assert collection["type"] == "FeatureCollection"
    shapes = [shapely.from_geojson(json.dumps(feature["geometry"])) for feature in collection["features"]]
    assert [shape.geom_type for shape in shapes] == ["Polygon", "Polygon", "MultiPolygon"]
    rows, columns = np.indices(LABELS.shape) + 0.5
    for region, shape in enumerate(shapes, start=1):
        np.testing.assert_array_equal(shapely.contains_xy(shape, columns, rows), region == LABELS)


def test_geojson_properties_are_those_qupath_reads(tmp_path):
    FORMATS["geojson"]([ITEM], tmp_path)
    feature = read_json(tmp_path / "coin-1a2b.spectral.geojson")["features"][1]
    properties = feature["properties"]
    assert feature["type"] == "Feature"
    assert uuid.UUID(feature["id"]).version == 5
    assert properties["objectType"] == "annotation"
    assert properties["name"] == "region 2"
    assert properties["color"] == region_colors(3)[2].tolist()
    assert properties["classification"]["name"] == "spectral"
    assert len(properties["classification"]["color"]) == 3
    assert properties["measurements"]["area"] == 4
    assert properties["measurements"]["mean_intensity"] == 7.5
    assert "mean_red" not in properties["measurements"]


def test_geojson_ids_are_the_same_every_time_and_differ_between_regions(tmp_path):
    others = [ITEM, LabelledImage("coin-ffff", "b", "spectral", LABELS)]
    for folder in ("once", "again"):
        assert len(FORMATS["geojson"](others, tmp_path / folder)) == 2
    for name in names_in(tmp_path / "once"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    features = [feature for path in (tmp_path / "once").iterdir() for feature in read_json(path)["features"]]
    assert len({feature["id"] for feature in features}) == 6


@settings(max_examples=150, deadline=None)
@given(label_maps)
def test_run_lengths_are_those_of_pycocotools(labels):
    reference = {
        int(region): coco_mask.encode(np.asfortranarray(labels == region, np.uint8))["counts"].decode()
        for region in np.unique(labels[labels > 0])
    }
    assert encode_run_lengths(labels) == reference


def test_long_run_lengths_are_those_of_pycocotools():
    labels = np.zeros((1500, 1500), np.uint8)
    labels[3:1400, 700:702] = 1
    labels[1000, ::7] = 2
    labels[0, 0] = labels[-1, -1] = 3
    for region, counts in encode_run_lengths(labels).items():
        reference = coco_mask.encode(np.asfortranarray(labels == region, np.uint8))
        assert counts == reference["counts"].decode()


# pycocotools hands NumPy an array type that knows nothing of NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_the_masks_back(tmp_path):
    other = np.array([[2, 2], [1, 0]], np.uint16)
    items = [
        ITEM,
        LabelledImage("coin-1a2b", "a/coin.png", "ward", LABELS // 3),
        LabelledImage("eye-77", "eye.png", "ward", other),
    ]
    (path,) = FORMATS["coco"](items, tmp_path)
    assert names_in(tmp_path) == [path.name] == ["annotations.json"]
    coco = COCO(path)
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["a/coin.png", "eye.png"]
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["spectral", "ward"]
    for image_id, category_id, labels in [(1, 1, LABELS), (1, 2, LABELS // 3), (2, 2, other)]:
        read = np.zeros_like(labels)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image_id], catIds=[category_id])):
            mask = coco.annToMask(annotation).astype(bool)
            read[mask] = annotation["region"]
            rle = coco.annToRLE(annotation)
            assert annotation["area"] == coco_mask.area(rle)
            assert annotation["bbox"] == coco_mask.toBbox(rle).tolist()
            assert annotation["iscrowd"] == 0
        np.testing.assert_array_equal(read, labels)


# pycocotools hands NumPy an array type that knows nothing of NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_evaluated_against_itself_every_region_is_found(tmp_path, kind):
    (path,) = FORMATS["coco"]([ITEM, LabelledImage("eye-77", "eye.png", "ward", LABELS)], tmp_path)
    truth = COCO(path)
    found = truth.loadRes([{**annotation, "score": 1.0} for annotation in truth.dataset["annotations"]])
    evaluation = COCOeval(truth, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_annotation_ids_are_unique_and_nothing_is_not_a_number(tmp_path):
    FORMATS["coco"]([ITEM, LabelledImage("b", "b", "ward", LABELS)], tmp_path)
    annotations = read_json(tmp_path / "annotations.json")["annotations"]
    assert [annotation["id"] for annotation in annotations] == [1, 2, 3, 4, 5, 6]


def test_csv_holds_the_region_tables(tmp_path):
    items = [ITEM, LabelledImage("eye-77", "eye.png", "ward", np.array([[5, 5]]))]
    assert FORMATS["csv"](items, tmp_path) == [tmp_path / "regions.csv"]
    with (tmp_path / "regions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["source", "id", "label", "region", "area"]
    assert [(row["id"], row["label"], row["region"]) for row in rows] == [
        ("coin-1a2b", "spectral", "1"),
        ("coin-1a2b", "spectral", "2"),
        ("coin-1a2b", "spectral", "3"),
        ("eye-77", "ward", "5"),
    ]
    assert ITEM.regions is not None
    for name in ("area", "centroid_row", "mean_intensity", "perimeter", "eccentricity"):
        assert [float(row[name]) for row in rows[:3]] == ITEM.regions[name].tolist()
    assert rows[0]["mean_red"] == rows[3]["mean_intensity"] == ""


@pytest.mark.parametrize("source", ['two\nlines, and "quotes".png', "naïve 图.png", "a;b,c.png", " x "])
def test_csv_keeps_strange_file_names(tmp_path, source):
    FORMATS["csv"]([LabelledImage("x", source, "ward", np.array([[1]]))], tmp_path)
    with (tmp_path / "regions.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["source"] == source


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_runs_no_formulas(tmp_path, start):
    FORMATS["csv"]([LabelledImage("x", f"{start}cmd()|A1", "ward", np.array([[1]]))], tmp_path)
    with (tmp_path / "regions.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["source"] == f"'{start}cmd()|A1"


@pytest.mark.parametrize("format_name", ["csv", "coco"])
def test_a_file_name_that_is_no_text_is_written_escaped(tmp_path, format_name):
    FORMATS[format_name]([LabelledImage("x", "bad\udcff.png", "ward", np.array([[1]]))], tmp_path)
    (path,) = tmp_path.iterdir()
    assert r"bad\udcff.png" in path.read_text(encoding="utf-8")


def test_png_holds_the_labels_in_16_bits(tmp_path):
    labels = np.array([[0, 1, 300], [65535, 2, 0]])
    (path,) = FORMATS["png"]([LabelledImage("x", "x", "ward", labels)], tmp_path)
    assert path.name == "x.ward.png"
    with Pillow.open(path) as picture:
        assert picture.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(picture), labels)


def test_more_regions_than_16_bits_hold_become_a_tiff(tmp_path):
    labels = np.array([[0, 1], [65536, 70000]], np.uint32)
    FORMATS["png"]([LabelledImage("x", "x", "ward", labels)], tmp_path)
    assert names_in(tmp_path) == ["x.ward.tif"]
    read = tifffile.imread(tmp_path / "x.ward.tif")
    assert read.dtype == np.uint32
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize("format_name", ["geojson", "png"])
def test_an_id_that_names_a_folder_is_refused(tmp_path, format_name):
    with pytest.raises(ParameterError, match=r"'\.\./x' and label 'ward' cannot be a file name"):
        FORMATS[format_name]([LabelledImage("../x", "x", "ward", LABELS)], tmp_path / "inner")
    assert names_in(tmp_path) == ["inner"]


@pytest.mark.parametrize("format_name", ["geojson", "coco", "csv"])
def test_a_region_table_of_other_labels_is_refused(tmp_path, format_name):
    item = LabelledImage("x", "x.png", "ward", LABELS, region_table(LABELS // 3))
    with pytest.raises(StoreError, match=r"x\.png, ward: the label map has 3 regions, the region table 1"):
        FORMATS[format_name]([item], tmp_path)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("format_name", ["coco", "csv"])
def test_an_export_that_breaks_leaves_the_old_file_and_nothing_else(tmp_path, format_name):
    FORMATS[format_name]([ITEM], tmp_path)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()

    def broken():
        yield ITEM
        raise StoreError("the disk is gone")

    with pytest.raises(StoreError, match="the disk is gone"):
        FORMATS[format_name](broken(), tmp_path)
    assert path.read_bytes() == before
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_export_reads_one_item_at_a_time(tmp_path, format_name):
    seen = []

    def items():
        for number in range(4):
            # The exporter may still hold the item it wrote last, but none before.
            assert all(reference() is None for reference in seen[:-1])
            labels = LABELS.copy()
            seen.append(weakref.ref(labels))
            yield LabelledImage(f"x{number}", "x", "ward", labels)
            del labels

    written = FORMATS[format_name](items(), tmp_path)
    assert [path.name for path in written] == names_in(tmp_path)
    assert len(written) == (4 if format_name in ("geojson", "png") else 1)
    assert len(seen) == 4


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_image_without_regions_and_an_archive_without_images_can_be_exported(tmp_path, format_name):
    FORMATS[format_name]([], tmp_path)
    FORMATS[format_name]([LabelledImage("x", "x", "ward", np.zeros((2, 2), np.uint16))], tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size > 0
    if path.suffix in (".json", ".geojson"):
        read_json(path)
