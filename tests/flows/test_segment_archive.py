import os
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaozarrs
from PIL import Image

from flows.report import RunReport
from flows.segment_archive import segment_archive
from flows.segment_image import segment_image
from flows.settings import Settings
from segmentation import KMeans, Recipe, Spectral, Ward, segment
from segmentation.errors import ParameterError
from segmentation.io.images import decode
from segmentation.io.lock import StoreLockedError, store_lock
from segmentation.io.records import read_records
from segmentation.io.sources import list_images
from segmentation.io.store import image_path, read_labels
from segmentation.io.verify import verify_store
from segmentation.planning import State

pytestmark = pytest.mark.usefixtures("prefect_api")

WARD = Recipe(sigma=1, scale=0.5, method=Ward(n_regions=3))


@pytest.fixture
def one(dask_scheduler):
    """Settings that use the workers of the session."""
    return Settings(scheduler=dask_scheduler)


def states(report: RunReport):
    return {state.value: count for state, count in report.states.items()}


@pytest.fixture
def segmented(archive, tmp_path, one):
    root = tmp_path / "out"
    return archive, root, segment_archive(str(archive), str(root), WARD, settings=one)


def snapshot(root):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


def test_an_archive_ends_with_every_image_in_exactly_one_state(segmented):
    archive, root, report = segmented
    assert states(report) == {"segmented": 5, "rejected": 1, "failed": 0}
    assert report.exit_code == 1
    assert [problem["source"] for problem in report.problems] == ["broken.png"]
    for ref in list_images(archive):
        if ref.name != "broken.png":
            expected = segment(decode(Path(ref.path).read_bytes()), WARD).labels
            np.testing.assert_array_equal(read_labels(root, ref.id, "ward"), expected)
            yaozarrs.validate_zarr_store(str(image_path(root, ref.id)))
    assert verify_store(root)[1] == []


def test_a_second_run_does_nothing(segmented, one):
    archive, root, _ = segmented
    before = snapshot(root)
    report = segment_archive(str(archive), str(root), WARD, settings=one)
    assert (report.run, report.computed, report.planned["unchanged"]) == ("", 0, 6)
    assert states(report) == {"segmented": 5, "rejected": 1, "failed": 0}
    after = snapshot(root)
    before.pop(root / ".lock")
    after.pop(root / ".lock")
    assert after == before


def test_other_methods_become_siblings_of_the_first(segmented, one):
    archive, root, _ = segmented
    spectral = Recipe(sigma=1, scale=0.5, method=Spectral(n_regions=3, extra_regions=0))
    segment_archive(str(archive), str(root), spectral, settings=one)
    segment_archive(str(archive), str(root), Recipe(method=KMeans(n_clusters=3)), label="palette", settings=one)
    for ref in list_images(archive):
        if ref.name != "broken.png":
            labels = image_path(root, ref.id) / "labels"
            assert {path.name for path in labels.iterdir()} == {"ward", "spectral", "palette", "zarr.json"}
            yaozarrs.validate_zarr_store(str(image_path(root, ref.id)))
    index = pq.read_table(root / "tables" / "index.parquet")
    assert index.num_rows == 18
    assert verify_store(root)[1] == []


def test_several_numbers_of_regions_give_label_maps_of_their_own(archive, tmp_path, one):
    root = tmp_path / "several"
    report = segment_archive(str(archive), str(root), WARD, regions=(2, 5), settings=one)
    assert (report.listed, report.unit, report.labels) == (12, "label map", ["ward-2", "ward-5"])
    assert states(report) == {"segmented": 10, "rejected": 2, "failed": 0}
    report = segment_archive(str(archive), str(root), WARD, regions=(2, 3, 5), settings=one)
    assert (report.planned["new"], report.planned["unchanged"], report.computed) == (6, 12, 6)
    (image,) = (ref for ref in list_images(archive) if ref.name == "grey.png")
    counts = {number: read_labels(root, image.id, f"ward-{number}").max() for number in (2, 3, 5)}
    assert counts == {2: 2, 3: 3, 5: 5}
    assert verify_store(root)[1] == []


def test_only_what_is_new_or_changed_is_computed(segmented, one):

    archive, root, _ = segmented
    Image.fromarray(np.arange(3600, dtype=np.uint16).reshape(60, 60).astype(np.uint8)).save(archive / "new.png")
    Image.open(archive / "photo.jpg").rotate(180).save(archive / "photo.jpg")
    os.utime(archive / "deep.tif", (1, 1))
    report = segment_archive(str(archive), str(root), WARD, settings=one)
    assert (report.planned["new"], report.planned["changed"], report.planned["unchanged"]) == (1, 2, 4)
    runs = {record.ref.name: record.run[:6] for record in read_records(root).values()}
    assert runs["new.png"] == runs["photo.jpg"] == "000002"
    assert runs["deep.tif"] == runs["grey.png"] == "000001"  # only touched
    assert verify_store(root)[1] == []


def test_other_parameters_replace_the_labels_of_every_image(segmented, one):
    archive, root, _ = segmented
    finer = Recipe(sigma=1, scale=0.5, method=Ward(n_regions=5))
    report = segment_archive(str(archive), str(root), finer, settings=one)
    assert report.planned["parameters"] == 6
    record = next(r for r in read_records(root).values() if r.ref.name == "grey.png")
    assert record.n_regions == 5
    assert verify_store(root)[1] == []


def test_rejected_images_are_tried_again_on_request(segmented, one):
    archive, root, _ = segmented
    report = segment_archive(str(archive), str(root), WARD, settings=one.model_copy(update={"retry_failed": True}))
    assert (report.planned["failed"], report.computed) == (1, 1)


def test_one_worker_or_three_give_the_same_bytes(archive, tmp_path):
    def results(root, workers):
        segment_archive(str(archive), str(root), WARD, settings=Settings(workers=workers))
        folders = [root / "images", root / "contours", root / "tables" / "regions"]
        return {p.relative_to(root): p.read_bytes() for f in folders for p in f.rglob("*") if p.is_file()}

    assert results(tmp_path / "one", 1) == results(tmp_path / "three", 3)


def test_an_interrupted_run_is_continued_not_repeated(segmented, tmp_path, one):
    archive, root, _ = segmented
    (root / "runs" / "000001-x").mkdir()
    for marker in (root / "runs").glob("*/indexed"):
        marker.unlink()  # as if the run had died before it wrote the index
    (root / "tables" / "index.parquet").unlink()
    report = segment_archive(str(archive), str(root), WARD, settings=one)
    assert report.computed == 0
    assert pq.read_table(root / "tables" / "index.parquet").num_rows == 6


def test_the_limit_looks_at_the_first_images_only(archive, tmp_path, one):
    report = segment_archive(str(archive), str(tmp_path / "out"), WARD, settings=one.model_copy(update={"limit": 2}))
    assert report.listed == report.computed == 2


def test_masks_leave_their_outside_at_zero(archive, tmp_path, one):

    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :40] = 255
    Image.fromarray(mask).save(masks / "grey.png")
    Image.fromarray(mask[:, :30]).save(masks / "photo.png")
    report = segment_archive(str(archive), str(tmp_path / "out"), WARD, mask=str(masks), settings=one)
    records = {record.ref.name: record for record in read_records(tmp_path / "out").values()}
    labels = read_labels(tmp_path / "out", records["grey.png"].ref.id, "ward")
    np.testing.assert_array_equal(labels == 0, mask == 0)
    assert "48" in records["photo.jpg"].reason  # both shapes are named
    assert "no mask" in records["colour.png"].reason
    assert report.states[State.REJECTED] == 5


def test_an_image_that_cannot_fit_is_refused_with_the_numbers(archive, tmp_path):
    Image.fromarray(np.zeros((3000, 3000), np.uint8)).save(archive / "vast.png")
    small = Settings(workers=1, memory="512MiB")
    report = segment_archive(str(archive), str(tmp_path / "out"), WARD, settings=small)
    (problem,) = [problem for problem in report.problems if problem["source"] == "vast.png"]
    assert problem["state"] == "rejected"
    assert re.match(r"needs about [\d,]+ MiB with this recipe, an image may take 161 MiB", problem["reason"])
    assert report.states[State.SEGMENTED] == 5


def test_a_locked_store_is_left_alone(archive, tmp_path, one):
    root = tmp_path / "out"
    with store_lock(root), pytest.raises(StoreLockedError, match="another run"):
        segment_archive(str(archive), str(root), WARD, settings=one)
    assert [path.name for path in root.iterdir()] == [".lock"]


def test_a_folder_without_images_is_an_error_and_nothing_is_written(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="no images in"):
        segment_archive(str(tmp_path / "empty"), str(tmp_path / "out"), WARD)
    assert not (tmp_path / "out").exists()


def test_one_image_goes_through_the_same_tasks(archive, tmp_path):
    report = segment_image(str(archive / "colour.png"), str(tmp_path / "out"), WARD)
    assert states(report) == {"segmented": 1, "rejected": 0, "failed": 0}
    assert verify_store(tmp_path / "out")[1] == []


def test_the_prefect_state_says_that_images_were_refused(archive, tmp_path, one):
    state = segment_archive(str(archive), str(tmp_path / "out"), WARD, settings=one, return_state=True)
    assert state.is_completed()
    assert state.name == "Completed with rejections"
    whole = segment_image(str(archive / "grey.png"), str(tmp_path / "one"), WARD, return_state=True)
    assert whole.name == "Completed"
