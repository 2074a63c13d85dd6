"""Whatever of a store is damaged: a run with --repair makes it whole, byte for byte, computing no more than it must."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import results

from flows.cli import run_command
from segmentation.io.records import read_records
from segmentation.io.verify import verify_store
from tests.damage import edit, first, flip
from tests.invariants import check_store

pytestmark = pytest.mark.usefixtures("prefect_api")

WARD = ["--method", "ward", "--regions", "3,5", "--scale", "0.5", "--sigma", "1", "--quiet"]
KMEANS = ["--method", "kmeans", "--regions", "4", "--scale", "0.5", "--pixels", "full", "--quiet"]
NAMES = ["broken.png", "colour.png", "deep.tif", "grey.png", "photo.jpg", "sub/inner.png"]


@pytest.fixture(scope="module")
def whole(archive_of, tmp_path_factory, dask_scheduler, prefect_api):
    """An archive, and a store of it with three labels from two runs."""
    folder = tmp_path_factory.mktemp("whole")
    source = archive_of(folder / "archive")
    for recipe in (KMEANS, WARD):
        assert run_command(["run", str(source), str(folder / "out"), *recipe, "--scheduler", dask_scheduler]) == 1
    assert verify_store(folder / "out")[1] == []
    return folder


@pytest.fixture
def store(whole, tmp_path):
    shutil.copytree(whole / "archive", tmp_path / "archive")
    return Path(shutil.copytree(whole / "out", tmp_path / "out"))


@pytest.fixture
def repair(store, tmp_path, dask_scheduler):
    def run(recipe=WARD):
        line = ["run", str(tmp_path / "archive"), str(store), *recipe, "--scheduler", dask_scheduler, "--repair"]
        return run_command(line)

    return run


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


GREY = "images/b8/grey-*.ome.zarr"
IN_BATCH = -1
#: What is done to the store, and how many results of 18 must be computed again for it; IN_BATCH: as
#: many as the damaged file of records held.
DAMAGES = {
    "nothing": (lambda root: None, 0),
    "a flipped bit in a chunk of labels": (lambda root: flip(first(root, f"{GREY}/labels/ward-3/0/c/0/0")), 1),
    "a missing chunk of labels of another run": (lambda root: first(root, f"{GREY}/labels/kmeans/0/c/0/0").unlink(), 1),
    "a flipped bit in the picture that is stored": (lambda root: flip(first(root, f"{GREY}/0/c/0/0")), 3),
    "a damaged description of an image": (lambda root: cut(first(root, f"{GREY}/zarr.json")), 3),
    "a missing list of labels": (lambda root: first(root, f"{GREY}/labels/zarr.json").unlink(), 3),
    "an image that is gone": (lambda root: shutil.rmtree(first(root, GREY)), 3),
    "a truncated picture of contours": (lambda root: cut(first(root, "contours/b8/grey-*.ward-5.png")), 1),
    "a file of another image": (
        lambda root: shutil.copy(first(root, "contours/d5/*.ward-3.png"), first(root, "contours/b8/*.ward-3.png")),
        1,
    ),
    "a row less in the index": (lambda root: edit(root / "tables/index.parquet", lambda rows: rows[1:]), 0),
    "a row too many in the index": (
        lambda root: edit(root / "tables/index.parquet", lambda rows: [{**rows[0], "label": "other"}, *rows]),
        0,
    ),
    "a damaged index": (lambda root: cut(root / "tables/index.parquet"), 0),
    "a missing index": (lambda root: (root / "tables/index.parquet").unlink(), 0),
    "a row less in a region table": (lambda root: edit(root / "tables/regions/b8.parquet", lambda rows: rows[1:]), 1),
    "a row too many in a region table": (
        lambda root: edit(root / "tables/regions/b8.parquet", lambda rows: [*rows, {**rows[0], "region": 99}]),
        1,
    ),
    "another value in a region table": (
        lambda root: edit(root / "tables/regions/b8.parquet", lambda rows: [{**rows[0], "perimeter": 0.0}, *rows[1:]]),
        3,
    ),
    "a damaged region table": (lambda root: cut(root / "tables/regions/b8.parquet"), 3),
    "a missing region table": (lambda root: (root / "tables/regions/b8.parquet").unlink(), 3),
    "a damaged file of records": (lambda root: cut(first(root, "runs/000002-*/records/00001.parquet")), IN_BATCH),
    "a missing file of records": (lambda root: first(root, "runs/000002-*/records/00001.parquet").unlink(), IN_BATCH),
    "a row less in a file of records": (
        lambda root: edit(first(root, "runs/000002-*/records/00001.parquet"), lambda rows: rows[1:]),
        IN_BATCH,
    ),
    "a row too many in a file of records": (
        lambda root: edit(first(root, "runs/000002-*/records/00001.parquet"), lambda rows: [*rows, rows[0]]),
        IN_BATCH,
    ),
    "a missing page of the gallery": (lambda root: (root / "gallery/index.html").unlink(), 0),
    "damaged data of the gallery": (lambda root: cut(first(root, "gallery/data-*.js")), 0),
    "a damaged description of the newest run": (lambda root: cut(first(root, "runs/000002-*/run.json")), 0),
    "a damaged mark of a run": (lambda root: cut(first(root, "runs/000001-*/indexed")), 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_repair_makes_the_store_whole_and_computes_only_what_is_damaged(whole, store, repair, damage):
    inflict, n_results = DAMAGES[damage]
    if n_results == IN_BATCH:
        n_results = pq.read_table(first(store, "runs/000002-*/records/00001.parquet"), partitioning=None).num_rows
    inflict(store)
    assert bool(verify_store(store)[1]) == (damage != "nothing")
    assert repair() == 1  # one image is none
    assert verify_store(store)[1] == []
    assert results(store) == results(whole / "out")
    check_store(store, NAMES, exit_code=1, source=store.parent / "archive")
    runs = {record.run for record in read_records(whole / "out").values()}
    assert sum(record.run not in runs for record in read_records(store).values()) == n_results


def test_what_cannot_be_repaired_is_said_and_stays_a_fault(store, repair, tmp_path, capsys):
    (tmp_path / "archive" / "grey.png").unlink()
    flip(first(store, f"{GREY}/labels/ward-3/0/c/0/0"))
    flip(first(store, "contours/d5/colour-*.kmeans.png"))
    faults = verify_store(store)[1]
    assert repair([*WARD[:-1], "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [(each["label"], each["reason"]) for each in report["hopeless"]] == [
        ("ward-3", "its image is not below SOURCE")
    ]
    assert report["repaired"] == 1
    assert verify_store(store)[1] == [fault for fault in faults if "grey" in fault.path]


def test_an_image_that_changed_is_not_taken_for_the_one_that_is_damaged(store, repair, tmp_path, capsys):
    (tmp_path / "archive" / "grey.png").write_bytes((tmp_path / "archive" / "colour.png").read_bytes())
    flip(first(store, "contours/b8/grey-*.kmeans.png"))
    assert repair([*WARD[:-1], "--json"]) == 1
    (hopeless,) = json.loads(capsys.readouterr().out)["hopeless"]
    assert (hopeless["label"], "changed since" in hopeless["reason"]) == ("kmeans", True)


def test_without_the_option_a_run_leaves_damage_for_verify_to_find(store, tmp_path, dask_scheduler):
    flip(first(store, f"{GREY}/labels/ward-3/0/c/0/0"))
    assert run_command(["run", str(tmp_path / "archive"), str(store), *WARD, "--scheduler", dask_scheduler]) == 1
    assert len(verify_store(store)[1]) == 1


HIERARCHY = ["--method", "hierarchy", "--quiet"]
TREES = "labels/{}/tree/base/c/0/0"


@pytest.fixture(scope="module")
def grown(archive_of, tmp_path_factory, dask_scheduler, prefect_api):
    """A store with trees, cut in three ways, one label grown in another way, one without; its images are gone."""
    folder = tmp_path_factory.mktemp("grown")
    source, out = archive_of(folder / "archive"), folder / "out"
    more = ["--scheduler", dask_scheduler]
    assert run_command(["run", str(source), str(out), *HIERARCHY, *more]) == 1
    coarse = ["--label", "coarse", "--set", "smallest_region=30"]
    assert run_command(["run", str(source), str(out), *HIERARCHY, *coarse, *more]) == 1
    assert run_command(["run", str(source), str(out), *WARD, *more]) == 1
    assert run_command(["recut", str(out), "--regions", "2,auto", "--quiet", *more]) == 1
    assert run_command(["recut", str(out), "--threshold", "0.3", "--quiet", *more]) == 1
    assert verify_store(out)[1] == []
    return out


@pytest.fixture
def forest(grown, tmp_path):
    (tmp_path / "empty").mkdir()
    return Path(shutil.copytree(grown, tmp_path / "out"))


@pytest.fixture
def mend(forest, tmp_path, dask_scheduler, capsys):
    def run():
        line = ["run", str(tmp_path / "empty"), str(forest), *HIERARCHY[:-1], "--repair", "--json"]
        code = run_command([*line, "--scheduler", dask_scheduler])
        report = json.loads(capsys.readouterr().out)
        return code, report["repaired"], {each["label"]: each["reason"] for each in report["hopeless"]}

    return run


#: What is done to labels with trees, and how many label maps must be cut again for it.
LOSSES = {
    "a flipped bit in a recut label": (lambda root: flip(first(root, f"{GREY}/labels/hierarchy-2/0/c/0/0")), 1),
    "a recut label that is gone": (lambda root: shutil.rmtree(first(root, f"{GREY}/labels/hierarchy-auto")), 1),
    "a label of a threshold that is gone": (
        lambda root: shutil.rmtree(first(root, f"{GREY}/labels/hierarchy-t0_3")),
        1,
    ),
    "a recut label with its tree, of every image": (
        lambda root: [flip(path) for path in root.glob(f"images/*/*.ome.zarr/{TREES.format('hierarchy-2')}")],
        5,
    ),
    "a damaged description of a label": (lambda root: cut(first(root, f"{GREY}/labels/hierarchy-2/zarr.json")), 1),
    "a picture of contours": (lambda root: cut(first(root, "contours/b8/grey-*.hierarchy-2.png")), 1),
    "a script of the slider": (lambda root: cut(first(root, "contours/b8/grey-*.hierarchy-2.cuts.js")), 1),
    "the label that the others were cut from": (
        lambda root: shutil.rmtree(first(root, f"{GREY}/labels/hierarchy")),
        1,
    ),
    "a label that has the only tree of its kind": (lambda root: flip(first(root, f"{GREY}/labels/coarse/0/c/0/0")), 1),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_label_is_cut_again_from_a_stored_tree_where_its_image_is_gone(grown, forest, mend, loss):
    inflict, n_results = LOSSES[loss]
    inflict(forest)
    assert verify_store(forest)[1]
    assert mend() == (0, n_results, {})
    assert verify_store(forest)[1] == []
    assert results(forest) == results(grown)


def test_what_no_tree_and_no_image_is_left_for_is_said_with_the_reason_and_stays_a_fault(forest, mend):
    for label in ("coarse", "hierarchy", "hierarchy-2", "hierarchy-auto", "hierarchy-t0_3"):
        flip(first(forest, f"{GREY}/{TREES.format(label)}"))
    flip(first(forest, f"{GREY}/labels/ward-3/0/c/0/0"))
    faults = verify_store(forest)[1]
    gone = "its image is not below SOURCE"
    alike = f"{gone}, and the trees of hierarchy, hierarchy-2, hierarchy-auto, hierarchy-t0_3 are damaged too"
    assert mend() == (
        1,
        0,
        {
            "coarse": f"{gone}, and the tree of coarse is damaged too",
            **dict.fromkeys(("hierarchy", "hierarchy-2", "hierarchy-auto", "hierarchy-t0_3"), alike),
            "ward-3": gone,
        },
    )
    assert verify_store(forest)[1] == faults


def test_a_tree_cannot_serve_where_what_is_stored_of_the_image_is_damaged_too(forest, mend):
    flip(first(forest, f"{GREY}/0/c/0/0"))
    faults = verify_store(forest)[1]
    code, repaired, hopeless = mend()
    assert (code, repaired) == (1, 0)
    assert hopeless["hierarchy-2"] == "its image is not below SOURCE, and what the store holds of it is damaged too"
    assert verify_store(forest)[1] == faults


def test_a_source_without_images_is_refused_where_nothing_is_to_be_repaired(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run_command(["run", str(tmp_path / "empty"), str(tmp_path / "out"), *HIERARCHY, "--repair"]) == 2
    assert "no images in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
