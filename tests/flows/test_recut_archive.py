import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.cli import run_command
from flows.recut_archive import recut_archive
from flows.segment_archive import segment_archive
from flows.settings import Settings
from segmentation import Hierarchy, Recipe, Ward, segment
from segmentation.errors import ParameterError
from segmentation.io.images import decode
from segmentation.io.lock import StoreLockedError, store_lock
from segmentation.io.records import read_records
from segmentation.io.sources import list_images
from segmentation.io.store import read_labels
from segmentation.io.verify import verify_store
from segmentation.planning import State

pytestmark = pytest.mark.usefixtures("prefect_api")

GROWN = Recipe(method=Hierarchy())


@pytest.fixture(scope="module")
def one(dask_scheduler):
    """Settings that use the workers of the session."""
    return Settings(scheduler=dask_scheduler)


@pytest.fixture(scope="module")
def store(tmp_path_factory, archive_of, one):
    """Make a store of trees whose images are gone; beside one of them another method."""
    folder = tmp_path_factory.mktemp("recut")
    archive = archive_of(folder / "archive")
    expected = {
        ref.id: {k: segment(decode(Path(ref.path).read_bytes()), GROWN.with_regions(k)).labels for k in (2, 3)}
        for ref in list_images(archive)
        if ref.name != "broken.png"
    }
    root = str(folder / "out")
    segment_archive(str(archive), root, GROWN, settings=one)
    segment_archive(str(archive / "grey.png"), root, Recipe(method=Ward(n_regions=2)), settings=one)
    for path in archive.rglob("*.*"):
        path.unlink()
    return Path(root), expected


def test_trees_are_cut_for_several_numbers_without_the_images(store, one):
    root, expected = store
    report = recut_archive(str(root), (2, 3), settings=one)
    assert (report.labels, report.unit) == (["hierarchy-2", "hierarchy-3"], "label map")
    # Its own folder was listed as an archive of one file, so "grey.png" is two images: one of them has no tree.
    records = read_records(root)
    for identity, labels in expected.items():
        for k in (2, 3):
            np.testing.assert_array_equal(read_labels(root, identity, f"hierarchy-{k}"), labels[k])
            assert records[identity, f"hierarchy-{k}"].state is State.SEGMENTED
    assert verify_store(root)[1] == []
    index = pq.read_table(root / "tables" / "index.parquet").to_pylist()
    assert {row["label"] for row in index} == {"hierarchy", "hierarchy-2", "hierarchy-3", "ward"}
    assert all((root / row["contour"]).is_file() for row in index if row["state"] == "segmented")
    regions = pq.read_table(root / "tables" / "regions").to_pylist()
    assert sum(row["label"] == "hierarchy-3" for row in regions) == sum(
        record.n_regions for (_, label), record in records.items() if label == "hierarchy-3"
    )
    again = recut_archive(str(root), (2, 3), settings=one)
    assert (again.run, again.computed, again.states) == ("", 0, report.states)


def test_an_image_without_a_tree_is_a_record_that_says_why(store, one):
    root, expected = store
    report = recut_archive(str(root), ("auto",), settings=one)
    assert report.exit_code == 1
    assert report.states[State.SEGMENTED] == len(expected)
    reasons = {problem["source"]: problem["reason"] for problem in report.problems}
    assert reasons["broken.png"].startswith("has no tree to cut: as 'hierarchy' it was rejected (not an image")
    others = [reason for name, reason in reasons.items() if name != "broken.png"]
    assert set(others) <= {"has no tree to cut: it was not segmented as 'hierarchy'"}
    for identity in expected:
        np.testing.assert_array_equal(
            read_labels(root, identity, "hierarchy-auto"), read_labels(root, identity, "hierarchy")
        )


def test_a_threshold_has_label_maps_of_its_own(store, one):
    root, expected = store
    report = recut_archive(str(root), threshold=0.25, settings=one)
    assert report.labels == ["hierarchy-t0_25"]
    for identity in expected:
        record = read_records(root)[identity, "hierarchy-t0_25"]
        assert record.scores["threshold"] == 0.25
        attributes = json.loads(
            next(root.glob(f"images/*/{identity}.ome.zarr/labels/hierarchy-t0_25/zarr.json")).read_bytes()
        )
        recipe = attributes["attributes"]["regionflow"]["recipe"]
        assert recipe == Recipe(method=Hierarchy(threshold=0.25)).model_dump(mode="json")


def test_more_regions_than_an_image_has_reject_that_image(store, one):
    root, expected = store
    report = recut_archive(str(root), (10_000,), settings=one)
    assert report.states[State.SEGMENTED] == 0
    reasons = [problem["reason"] for problem in report.problems if "base regions" in problem["reason"]]
    assert len(reasons) == len(expected)
    assert reasons[0].startswith("10000 regions are more than the ")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("ward", "holds no trees as 'ward'; there are some as hierarchy"),
        ("nothing", "holds no trees as 'nothing'; there are some as hierarchy"),
    ],
)
def test_labels_without_trees_are_refused_with_those_that_have_some(store, one, label, message):
    root, _ = store
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with pytest.raises(ParameterError, match=message):
        recut_archive(str(root), (2,), label=label, settings=one)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_store_that_is_held_is_left_alone(store, one):
    root, _ = store
    with store_lock(root), pytest.raises(StoreLockedError):
        recut_archive(str(root), (4,), settings=one)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --regions or --threshold"),
        (["--regions", "2", "--threshold", "0.5"], "give either --regions or --threshold"),
        (["--threshold", "nan"], "threshold: input should be a finite number, got nan"),
        (["--threshold", "inf"], "threshold: input should be a finite number, got inf"),
        (["--regions", "0"], "--regions: got '0'; different numbers, each >= 1"),
        (["--regions", "few"], "--regions: got 'few'; a number, auto, or several"),
        (["--regions", "2", "--label", "../x"], "--label: got '../x'"),
    ],
)
def test_the_command_refuses_what_is_no_cut(store, capsys, options, message):
    root, _ = store
    assert run_command(["recut", str(root), *options]) == 2
    assert message in capsys.readouterr().err


def test_trees_grown_in_two_ways_are_cut_each_in_its_own(tmp_path, archive, one):
    root = str(tmp_path / "out")
    segment_archive(str(archive), root, GROWN, settings=one)
    other = Recipe(method=Hierarchy(smallest_region=30))
    (archive / "deep.tif").unlink()
    segment_archive(str(archive), root, other, settings=one)
    recut_archive(root, (3,), settings=one)
    records = read_records(root)
    recipes = {}
    for path in Path(root).glob("images/*/*.ome.zarr/labels/hierarchy-3/zarr.json"):
        recipe = json.loads(path.read_bytes())["attributes"]["regionflow"]["recipe"]
        recipes[path.parts[-4].removesuffix(".ome.zarr")] = recipe["method"]["smallest_region"]
    names = {identity: record.ref.name for (identity, _), record in records.items()}
    assert {names[identity]: smallest for identity, smallest in recipes.items()} == {
        "deep.tif": 1,
        **dict.fromkeys(("grey.png", "photo.jpg", "colour.png", "sub/inner.png"), 30),
    }


def test_a_label_that_was_recut_is_repaired_from_its_image(tmp_path, archive, one):
    root = str(tmp_path / "out")
    segment_archive(str(archive), root, GROWN, settings=one)
    recut_archive(root, (2, "auto"), settings=one)
    before = {path: path.read_bytes() for path in Path(root).glob("images/**/labels/**/*") if path.is_file()}
    for label in ("hierarchy-2", "hierarchy-auto"):
        path = next(Path(root).glob(f"images/*/*.ome.zarr/labels/{label}/tree/base/c/0/0"))
        path.write_bytes(b"damage")
    assert verify_store(root)[1]
    report = segment_archive(str(archive), root, GROWN, settings=one.model_copy(update={"repair": True}))
    assert (report.repaired, report.hopeless) == (2, [])
    assert verify_store(root)[1] == []
    assert {path: path.read_bytes() for path in before} == before
