import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segmentation import Hierarchy, Recipe, Spectral, Ward, segment
from segmentation.cluster import grow_tree
from segmentation.io.images import decode
from segmentation.io.reading import read_image
from segmentation.io.records import read_records, read_table
from segmentation.io.sources import list_images
from segmentation.io.storage import open_storage
from segmentation.io.store import read_labels
from segmentation.planning import State, StoredTree, Work, label_key
from tasks.items import (
    Job,
    cluster_items,
    contour_items,
    graph_items,
    load_items,
    prepare_items,
    store_items,
)

RECIPE = Recipe(sigma=1, scale=0.5, method=Ward(n_regions=3))


@pytest.fixture
def job(tmp_path):
    return Job(root=str(tmp_path / "out"), run="000001-x", label="ward", recipe=RECIPE)


@pytest.fixture
def works(archive):
    return [Work(ref) for ref in list_images(archive)]


def run_chain(works, job, batch="00000"):
    root = Path(job.root)
    root.mkdir(exist_ok=True)
    return store_items(computed(works, job), job, batch), root


def computed(works, job):
    """Take works through all steps but the last."""
    items = load_items(works, job)
    for step in (prepare_items, graph_items, cluster_items, contour_items):
        items = step(items, job)
    return items


def test_the_chain_stores_what_the_library_computes(works, job):
    records, root = run_chain(works, job)
    for record in records:
        if record.state is State.SEGMENTED:
            path = next(work.ref.path for work in works if work.ref.id == record.ref.id)
            expected = segment(decode(Path(path).read_bytes()), RECIPE)
            np.testing.assert_array_equal(read_labels(root, record.ref.id, "ward"), expected.labels)
            assert record.scores == expected.scores


def test_one_bad_image_is_a_record_and_the_others_are_segmented(works, job):
    records, _ = run_chain(works, job)
    states = {record.ref.name: record.state for record in records}
    assert states.pop("broken.png") is State.REJECTED
    assert set(states.values()) == {State.SEGMENTED}
    (broken,) = (record for record in records if record.state is State.REJECTED)
    assert broken.step == "load"
    assert "not an image" in broken.reason
    assert len(broken.digest) == 64


def test_an_image_that_vanishes_after_listing_fails_and_may_be_tried_again(works, job, archive):
    (archive / "grey.png").unlink()
    records, _ = run_chain(works, job)
    (failed,) = (record for record in records if record.state is State.FAILED)
    assert failed.ref.name == "grey.png"
    assert failed.reason == "the file or folder is gone, or was never there"


def test_steps_leave_the_items_they_were_given_as_they_were(works, job):
    loaded = load_items(works[:2], job)
    prepared = prepare_items(loaded, job)
    assert all(item.working is None for item in loaded)
    graphs = graph_items(prepared, job)
    first, second = cluster_items(graphs, job), cluster_items(graphs, job)
    np.testing.assert_array_equal(first[-1].labels, second[-1].labels)


def test_a_touched_file_is_not_computed_again(works, job):
    _, root = run_chain(works, job)
    before = read_records(root)
    touched = [Work(replace(work.ref, mtime_ns=1), before[work.ref.id, "ward"]) for work in works]
    items = [item for item in load_items(touched, job) if item.work.ref.name != "broken.png"]
    assert all(item.state is State.SEGMENTED and item.image is None for item in items)
    again = store_items(items, replace(job, run="000002-x"), "00000")
    assert {record.ref.mtime_ns for record in again} == {1}
    assert {record.run for record in again} == {"000001-x"}


def test_several_numbers_of_regions_are_cuts_of_one_tree(works, job, monkeypatch):
    grown, read = [], []
    monkeypatch.setattr("tasks.items.grow_tree", lambda *given: grown.append(given) or grow_tree(*given))
    monkeypatch.setattr(
        "tasks.items.read_image", lambda ref, **limits: read.append(ref.path) or read_image(ref, **limits)
    )
    asked = [replace(work, regions=number) for work in works for number in (2, 5, 3)]
    records, root = run_chain(asked, job)
    segmented = [record for record in records if record.state is State.SEGMENTED]
    assert len(records) == 3 * len(works)
    assert len(read) == len(works)
    assert len(grown) == len(segmented) / 3
    for record in segmented:
        number = int(record.label.removeprefix("ward-"))
        path = next(work.ref.path for work in works if work.ref.id == record.ref.id)
        expected = segment(decode(Path(path).read_bytes()), RECIPE.with_regions(number))
        np.testing.assert_array_equal(read_labels(root, record.ref.id, record.label), expected.labels)
        assert record.key == label_key(record.digest, "", RECIPE.with_regions(number))
    refused = [record for record in records if record.state is State.REJECTED]
    assert {record.label for record in refused} == {"ward-2", "ward-5", "ward-3"}
    assert len({(record.reason, record.step, record.digest) for record in refused}) == 1


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(method=Hierarchy()),
        Recipe(method=Hierarchy(smallest_region=9), min_region_size=40),
        Recipe(scale=0.5, sigma=1, method=Hierarchy()),
    ],
)
def test_a_stored_tree_that_is_cut_gives_what_a_run_would_have_given(works, job, recipe, archive):
    job = replace(job, label="cut", recipe=recipe)
    grown = [record for record in run_chain(works, job)[0] if record.state is State.SEGMENTED]
    fresh = replace(job, root=f"{job.root}-again")
    expected, again = run_chain([replace(work, regions=n) for work in works for n in (2, "auto")], fresh)
    for path in archive.rglob("*.*"):
        path.unlink()
    stored = [
        Work(record.ref, regions=n, stored=StoredTree("cut", record.digest, record.mask_digest, recipe))
        for record in grown
        for n in (2, "auto")
    ]
    recut, root = run_chain(stored, replace(job, run="000002-x"))
    wanted = {(record.ref.id, record.label): record for record in expected if record.state is State.SEGMENTED}
    assert len(recut) == len(wanted) == 10
    for record in recut:
        other = wanted[record.ref.id, record.label]
        same = ("state", "key", "digest", "height", "width", "channels", "n_regions", "scores")
        assert {name: getattr(record, name) for name in same} == {name: getattr(other, name) for name in same}
        group = f"images/*/{record.ref.id}.ome.zarr/labels/{record.label}"
        files = {path.relative_to(root): path.read_bytes() for path in root.glob(f"{group}/**/*") if path.is_file()}
        assert {f"tree/{name}/zarr.json" for name in ("base", "merges", "heights", "sums")} <= {
            str(name).split(f"/{record.label}/")[1] for name in files
        }
        assert files == {
            path.relative_to(again): path.read_bytes() for path in again.glob(f"{group}/**/*") if path.is_file()
        }
        if recipe.scale == 1 and record.ref.id == recut[0].ref.id:  # its preview is the image itself
            assert (root / record.contour).read_bytes() == (again / other.contour).read_bytes()
    tables = [
        read_table(open_storage(place), f"runs/{run}/regions/00000.parquet")
        for place, run in ((root, "000002-x"), (again, fresh.run))
    ]
    assert repr(tables[0].to_pylist()) == repr(tables[1].to_pylist())  # NaN is not equal to itself


def test_a_tree_that_is_gone_or_damaged_fails_its_image_alone(works, job):
    job = replace(job, label="cut", recipe=Recipe(method=Hierarchy()))
    records, root = run_chain(works, job)
    grown = [record for record in records if record.state is State.SEGMENTED]
    (chunk,) = root.glob(f"images/*/{grown[0].ref.id}.ome.zarr/labels/cut/tree/merges/c/0/0")
    chunk.write_bytes(b"x")
    stored = [
        Work(record.ref, regions=2, stored=StoredTree("cut", record.digest, record.mask_digest, job.recipe))
        for record in grown
    ]
    bad, *good = run_chain(stored, replace(job, run="000002-x"))[0]
    assert (bad.state, bad.step) == (State.FAILED, "load")
    assert "labels/cut/tree: holds no tree that can be read" in bad.reason
    assert {record.state for record in good} == {State.SEGMENTED}


def test_one_number_of_regions_may_fail_where_another_does_not(works, job):
    asked = [replace(work, regions=number) for work in works[1:2] for number in (10**6, 2)]
    too_many, enough = run_chain(asked, job)[0]
    assert (too_many.state, too_many.step) == (State.REJECTED, "cluster")
    assert "1000000 regions are more than" in too_many.reason
    assert enough.state is State.SEGMENTED


def test_attempts_are_counted_for_failures_only(works, job, archive):
    (archive / "grey.png").unlink()
    _, root = run_chain(works, job)
    known = read_records(root)
    second, _ = run_chain([Work(work.ref, known[work.ref.id, "ward"]) for work in works], job)
    attempts = {record.ref.name: record.attempts for record in second}
    assert attempts["grey.png"] == 2
    assert {count for name, count in attempts.items() if name != "grey.png"} == {1}


def test_records_name_the_key_of_bytes_and_recipe(works, job):
    records, _ = run_chain(works, job)
    assert all(record.key == label_key(record.digest, "", RECIPE) for record in records)


def test_the_region_table_has_a_row_for_every_region(works, job):
    records, root = run_chain(works, job)
    table = read_table(open_storage(root), f"runs/{job.run}/regions/00000.parquet")
    assert table.num_rows == sum(record.n_regions for record in records)


def test_the_same_batch_again_gives_the_same_files(works, job):
    run_chain(works, job)
    root = Path(job.root)
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file() and "runs" not in p.parts}
    run_chain(works, job)
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file() and "runs" not in p.parts} == before


def test_more_regions_than_pixels_reject_the_image_with_both_numbers(works, job):
    wanting = replace(job, recipe=Recipe(scale=0.1, method=Spectral(n_regions=500)))
    items = graph_items(prepare_items(load_items(works, wanting), wanting), wanting)
    reasons = [item.reason for item in cluster_items(items, wanting) if item.work.ref.name == "grey.png"]
    assert "500" in reasons[0]


def test_one_result_that_cannot_be_measured_is_a_record_and_the_others_are_stored(works, job):
    items = computed(works, job)
    place = next(place for place, item in enumerate(items) if item.work.ref.name == "grey.png")
    items[place] = replace(items[place], labels=items[place].labels[:3])  # as from a defect of ours
    Path(job.root).mkdir()
    records = store_items(items, job, "00000")
    assert {record.ref.name: record.step for record in records if record.state is not State.SEGMENTED} == {
        "broken.png": "load",
        "grey.png": "store",
    }
    assert len(read_records(Path(job.root))) == len(works)


def test_a_full_disk_is_the_runs_trouble_not_the_images(works, job):
    import resource
    import signal

    items = computed(works, job)
    root = Path(job.root)
    root.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            store_items(items, job, "00000")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert read_records(root) == {}


def test_a_batch_that_dies_between_new_files_and_their_record_leaves_no_old_record_for_them(works, job, monkeypatch):
    records, root = run_chain(works, job)
    other = replace(job, run="000002-x", recipe=RECIPE.with_regions(2))
    monkeypatch.setattr("tasks.items.commit_batch", lambda *given: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        run_chain(works[:3], other)
    kept = {record.ref.name for record in read_records(root).values()}
    written = {work.ref.name for work in works[:3]} - {"broken.png"}  # of which no label is replaced
    assert kept == {record.ref.name for record in records} - written
    monkeypatch.undo()
    run_chain(works, replace(job, run="000003-x"))
    assert {record.ref.name for record in read_records(root).values()} == {record.ref.name for record in records}


def test_workers_import_neither_prefect_nor_its_api():
    code = "import sys, tasks.items; print([n for n in ('prefect', 'distributed', 'dask') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
