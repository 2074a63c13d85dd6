import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmentation import Recipe, Ward
from segmentation.io.export import FORMATS
from segmentation.io.gallery import write_gallery
from segmentation.io.records import close_runs, publish_index
from segmentation.io.runs import now, write_run
from segmentation.io.sources import list_images
from segmentation.io.store import image_path
from segmentation.io.summary import labelled_images, summarise
from segmentation.io.verify import examine, verify_store
from segmentation.planning import Work
from tasks.items import (
    Job,
    cluster_items,
    contour_items,
    graph_items,
    load_items,
    prepare_items,
    store_items,
)


def fill(root, archive, label="ward", n_regions=3):
    number = len(list(root.glob("runs/*"))) + 1
    job = Job(str(root), f"{number:06d}-x", label, Recipe(sigma=1, scale=0.5, method=Ward(n_regions=n_regions)))
    items = load_items([Work(ref) for ref in list_images(archive)], job)
    for step in (prepare_items, graph_items, cluster_items, contour_items):
        items = step(items, job)
    root.mkdir(exist_ok=True)
    records = store_items(items, job, "00000")
    publish_index(root)
    write_gallery(root)
    close_runs(root)
    write_run(root, job.run, {"finished": now()})
    return {record.ref.name: record for record in records}


@pytest.fixture
def store(tmp_path, archive):
    return tmp_path / "out", fill(tmp_path / "out", archive)


def faults(root):
    return [(fault.path, fault.problem) for fault in verify_store(root)[1]]


def test_a_sound_store_has_no_faults(store, archive):
    root, _ = store
    fill(root, archive, label="coarse", n_regions=2)
    checked, found = verify_store(root)
    assert found == []
    assert checked > 50


def flip_bit(path: Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def chunk(root, record):
    return image_path(root, record.ref.id) / "labels" / "ward" / "0" / "c" / "0" / "0"


def test_a_flipped_bit_is_found(store):
    root, records = store
    path = chunk(root, records["grey.png"])
    flip_bit(path)
    assert faults(root) == [(path.relative_to(root).as_posix(), "its bytes are not those recorded")]


def test_a_missing_chunk_is_found(store):
    root, records = store
    path = chunk(root, records["grey.png"])
    path.unlink()
    assert faults(root) == [(path.relative_to(root).as_posix(), "is missing")]


def test_a_truncated_picture_is_found(store):
    root, records = store
    path = root / records["grey.png"].contour
    path.write_bytes(path.read_bytes()[:-100])
    ((found, problem),) = faults(root)
    assert found == records["grey.png"].contour
    assert "were recorded" in problem


def edit(path, change):
    pq.write_table(change(pq.read_table(path, partitioning=None)), path)


def test_a_missing_row_of_the_index_is_found(store):
    root, _ = store
    edit(root / "tables" / "index.parquet", lambda table: table.slice(1))
    assert any("no row, yet a commit record" in problem for _, problem in faults(root))


def test_a_row_too_many_in_the_index_is_found(store):
    root, _ = store

    def add(table):
        rows = table.to_pylist()
        return pa.Table.from_pylist([*rows, {**rows[0], "label": "other"}], schema=table.schema)

    edit(root / "tables" / "index.parquet", add)
    assert any("a row without a commit record" in problem for _, problem in faults(root))


@pytest.mark.parametrize("change", [lambda t: t.slice(1), lambda t: pa.concat_tables([t, t.slice(0, 1)])])
def test_a_missing_or_doubled_region_row_is_found(store, change):
    root, _ = store
    path = next((root / "tables" / "regions").glob("*.parquet"))
    edit(path, change)
    ((where, problem),) = faults(root)
    assert where == path.relative_to(root).as_posix()
    assert re.search(r"\(ward\): [24] rows, 3 regions recorded", problem)


def test_a_damaged_description_of_the_newest_run_is_found(store):
    root, _ = store
    path = next(root.glob("runs/*/run.json"))
    path.write_text("{")
    ((where, problem),) = faults(root)
    assert where == path.relative_to(root).as_posix()
    assert problem.startswith("damaged (")


def test_an_image_a_label_and_a_file_without_a_record_are_noted_and_no_faults(store):
    root, records = store
    image = image_path(root, records["grey.png"].ref.id)
    shutil.copytree(image, root / "images" / "ff" / "x-ff00000000000000.ome.zarr")
    shutil.copytree(image / "labels" / "ward", image / "labels" / "stray")
    (image / "labels" / "ward" / "0" / "c" / "0" / "7").write_bytes(b"")
    found = examine(root)
    assert found.faults == []
    here = image.relative_to(root).as_posix()
    assert {(note.path, note.problem) for note in found.notes} == {
        ("images/ff/x-ff00000000000000.ome.zarr", "not recorded"),
        (f"{here}/labels/stray", "not recorded"),
        (f"{here}/labels/ward/0/c/0/7", "not recorded"),
    }


def of_records(root):
    return next(root.glob("runs/*/records/*.parquet"))


def test_a_damaged_file_of_records_is_named_and_so_are_the_rows_it_leaves_behind(store):
    root, records = store
    path = of_records(root)
    path.write_bytes(path.read_bytes()[:-9])
    (name, problem), *others = faults(root)
    assert name == path.relative_to(root).as_posix()
    assert problem == "its bytes are not those recorded when its run was closed"
    assert {problem for where, problem in others if where == "tables/index.parquet"} == {
        f"{record.ref.id} (ward): a row without a commit record" for record in records.values()
    }


@pytest.mark.parametrize("change", [lambda t: t.slice(1), lambda t: pa.concat_tables([t, t.slice(0, 1)])])
def test_a_row_less_or_too_many_in_the_commit_records_is_found(store, change):
    root, _ = store
    path = of_records(root)
    edit(path, change)
    assert (path.relative_to(root).as_posix(), "its bytes are not those recorded when its run was closed") in faults(
        root
    )


def test_a_file_of_records_that_is_missing_or_too_many_is_found(store):
    root, _ = store
    path = of_records(root)
    path.with_name("00009.parquet").write_bytes(path.read_bytes())
    assert faults(root) == [(f"runs/{path.parts[-3]}/records/00009.parquet", "not recorded when its run was closed")]
    path.with_name("00009.parquet").unlink()
    path.unlink()
    assert (f"runs/{path.parts[-3]}/records/{path.name}", "is missing") in faults(root)


def test_a_file_of_another_image_in_place_of_one_is_found(store):
    root, records = store
    path = root / records["grey.png"].contour
    path.write_bytes((root / records["photo.jpg"].contour).read_bytes())
    assert [where for where, _ in faults(root)] == [records["grey.png"].contour]


@pytest.mark.parametrize("name", ["index.html", "data-*.js"])
def test_a_missing_part_of_the_gallery_is_found(store, name):
    root, _ = store
    path = next((root / "gallery").glob(name))
    path.unlink()
    assert faults(root) == [(path.relative_to(root).as_posix(), "is missing")]


def test_a_changed_value_in_a_row_of_the_index_or_of_a_region_table_is_found(store):
    root, _ = store

    def set_first(column, value):
        def change(table):
            first, *others = table.to_pylist()
            return pa.Table.from_pylist([{**first, column: value}, *others], schema=table.schema)

        return change

    edit(root / "tables" / "index.parquet", set_first("reason", "another"))
    edit(next(root.glob("tables/regions/*.parquet")), set_first("area", 1))
    index, regions = faults(root)
    assert index[1].endswith("(ward): not as its commit record says")
    assert regions[1].endswith("(ward): areas are not those of the labels")


def test_every_flipped_bit_in_a_table_is_found(store):
    root, _ = store
    for path in (root / "tables" / "index.parquet", next(root.glob("tables/regions/*.parquet"))):
        sound = path.read_bytes()
        for position in range(0, 8 * len(sound), 8 * len(sound) // 40):
            data = bytearray(sound)
            data[position // 8] ^= 1 << position % 8
            path.write_bytes(data)
            assert faults(root), f"bit {position} of {path.name}"
        path.write_bytes(sound)


def test_a_label_that_its_image_does_not_list_is_found(store):
    root, records = store
    path = image_path(root, records["grey.png"].ref.id) / "labels" / "zarr.json"
    path.write_text(path.read_text().replace('"ward"', ""))
    assert [problem for _, problem in faults(root)] == ["does not list ward"]


def test_a_damaged_index_is_the_first_fault(store):
    root, _ = store
    (root / "tables" / "index.parquet").write_bytes(b"")
    assert [path for path, _ in faults(root)] == ["tables/index.parquet"]


def test_the_summary_counts_states_and_names_what_was_refused(store):
    root, _ = store
    summary = summarise(root)
    assert summary["images"] == 6
    assert summary["labels"] == {"ward": {"segmented": 5, "rejected": 1, "failed": 0}}
    (refused,) = summary["refused"]
    assert (refused["source"], refused["step"]) == ("broken.png", "load")


def test_labels_of_a_store_are_read_back_with_their_regions(store):
    root, records = store
    images = list(labelled_images(root))
    assert [image.source for image in images] == sorted(name for name in records if name != "broken.png")
    for image in images:
        assert list(image.regions["label"]) == list(range(1, image.labels.max() + 1))
        assert image.regions["area"].sum() == np.count_nonzero(image.labels)


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_store_exports_to_every_format(store, tmp_path, name):
    written = FORMATS[name](labelled_images(store[0]), tmp_path / "export")
    assert written
    assert all(path.stat().st_size > 0 for path in written)
