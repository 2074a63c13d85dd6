from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmentation.errors import StoreError
from segmentation.io.records import (
    INDEX_SCHEMA,
    close_runs,
    commit_batch,
    open_runs,
    publish_index,
    read_records,
    read_table,
    replay_records,
    subject,
    withdraw,
)
from segmentation.io.storage import open_storage
from segmentation.planning import ImageRef, Output, Record, State

HOSTILE = ImageRef(name="sub/\udcff<b>\n.png", path="/x", id="x-ab00000000000000", size=3, mtime_ns=2**60)


def publish(root):
    """Publish as a run does, to its end."""
    publish_index(root)
    close_runs(root)


def record(identity="a-aa00000000000000", **changes):
    done = Record(
        ImageRef(name=f"{identity}.png", path="", id=identity, size=1, mtime_ns=2),
        "ward",
        State.SEGMENTED,
        key="k1",
        digest="d1",
        n_regions=2,
        scores={"explained_variance": 0.5},
        seconds={"load": 0.25, "store": 0.5},
        run="000001-x",
        batch="00000",
        outputs=(Output("images/a", 5, "0" * 64),),
    )
    return replace(done, **changes)


def regions(identity="a-aa00000000000000", key="k1", areas=(3, 4)):
    rows = range(len(areas))
    return pa.table(
        {
            "shard": [identity[2:4] for _ in rows],
            "source": ["a.png" for _ in rows],
            "id": [identity for _ in rows],
            "label": ["ward" for _ in rows],
            "key": [key for _ in rows],
            "region": [row + 1 for row in rows],
            "area": list(areas),
        }
    )


def test_records_come_back_as_they_were_committed(tmp_path):
    hostile = record(ref=HOSTILE, state=State.REJECTED, step="load", reason="not <an> image")
    commit_batch(tmp_path, "000001-x", "00000", [record(), hostile], None)
    read = read_records(tmp_path)
    assert read[subject(record())].outputs == record().outputs
    assert read[subject(record())].seconds == record().seconds
    assert read[subject(hostile)].ref.name == HOSTILE.name
    assert read[subject(hostile)].reason == "not <an> image"


def test_the_index_has_a_row_per_image_and_label_in_name_order(tmp_path):
    commit_batch(tmp_path, "000001-x", "00000", [record("b-bb00000000000000"), record()], regions())
    publish(tmp_path)
    table = pq.read_table(tmp_path / "tables" / "index.parquet")
    assert table.schema.names == INDEX_SCHEMA.names
    assert table["source"].to_pylist() == ["a-aa00000000000000.png", "b-bb00000000000000.png"]
    assert table["seconds"].to_pylist() == [0.75, 0.75]


def test_a_later_run_replaces_the_row_and_the_region_rows_of_an_image(tmp_path):
    commit_batch(tmp_path, "000001-x", "00000", [record()], regions())
    publish(tmp_path)
    commit_batch(tmp_path, "000002-x", "00000", [record(key="k2", run="000002-x")], regions(key="k2", areas=(7,)))
    publish(tmp_path)
    assert pq.read_table(tmp_path / "tables" / "index.parquet")["key"].to_pylist() == ["k2"]
    assert read_table(open_storage(tmp_path), "tables/regions/aa.parquet")["area"].to_pylist() == [7]


def test_region_rows_of_an_image_that_is_rejected_now_leave_the_tables(tmp_path):
    commit_batch(tmp_path, "000001-x", "00000", [record()], regions())
    publish(tmp_path)
    commit_batch(tmp_path, "000002-x", "00000", [record(state=State.REJECTED, key="k2", run="000002-x")], None)
    publish(tmp_path)
    assert read_table(open_storage(tmp_path), "tables/regions/aa.parquet").num_rows == 0


def test_publishing_again_after_a_crash_in_between_gives_the_same_tables(tmp_path):
    commit_batch(tmp_path, "000001-x", "00000", [record()], regions())
    publish(tmp_path)
    first = {p: p.read_bytes() for p in (tmp_path / "tables").rglob("*.parquet")}
    (tmp_path / "runs" / "000001-x" / "indexed").unlink()
    commit_batch(tmp_path, "000001-x", "00000", [record()], regions())
    publish(tmp_path)
    assert {p: p.read_bytes() for p in (tmp_path / "tables").rglob("*.parquet")} == first


def test_the_tables_do_not_depend_on_how_images_were_batched(tmp_path):
    other = "b-aa00000000000001"
    both = pa.concat_tables([regions(), regions(other)])
    commit_batch(tmp_path / "one", "000001-x", "00000", [record(), record(other)], both)
    commit_batch(tmp_path / "two", "000001-x", "00000", [record(other)], regions(other))
    commit_batch(tmp_path / "two", "000001-x", "00001", [record()], regions())
    for root in (tmp_path / "one", tmp_path / "two"):
        publish(root)
    for name in ("index.parquet", "regions/aa.parquet"):
        assert (tmp_path / "one/tables" / name).read_bytes() == (tmp_path / "two/tables" / name).read_bytes()


def test_records_of_a_run_that_did_not_finish_count(tmp_path):
    commit_batch(tmp_path, "000001-x", "00000", [record()], None)
    assert open_runs(tmp_path) == ["000001-x"]
    assert set(read_records(tmp_path)) == {subject(record())}
    publish(tmp_path)
    assert open_runs(tmp_path) == []
    assert set(read_records(tmp_path)) == {subject(record())}


def test_labels_of_a_picture_that_was_replaced_are_dropped(tmp_path):
    commit_batch(tmp_path, "000001-x", "00000", [record(), record(label="spectral")], None)
    commit_batch(tmp_path, "000002-x", "00000", [record(digest="d2", key="k2", run="000002-x")], None)
    assert set(read_records(tmp_path)) == {subject(record())}


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(StoreError, match=r"t\.parquet"):
        read_table(open_storage(tmp_path), "t.parquet")


def test_a_label_that_was_superseded_stays_so_when_the_old_picture_comes_back(tmp_path):
    both = [record(), record(label="spectral")]
    commit_batch(tmp_path, "000001-x", "00000", both, None)
    commit_batch(tmp_path, "000002-x", "00000", [record(digest="d2", key="k2", run="000002-x")], None)
    commit_batch(tmp_path, "000003-x", "00000", [record(run="000003-x")], None)
    assert set(read_records(tmp_path)) == {subject(record())}


@pytest.mark.parametrize("label", ["ward", ""], ids=["the label", "the image"])
def test_what_a_batch_replaces_does_not_count_until_it_is_recorded_again(tmp_path, label):
    other = record("b-bb00000000000000")
    commit_batch(tmp_path, "000001-x", "00000", [record(), other], regions())
    publish(tmp_path)
    withdraw(tmp_path, "000002-x", "00000", {(record().ref.id, label)})
    assert set(read_records(tmp_path)) == {subject(other)}
    publish(tmp_path)
    assert set(read_records(tmp_path)) == {subject(other)}
    assert replay_records(tmp_path).keys() == {subject(other)}
    assert read_table(open_storage(tmp_path), "tables/regions/aa.parquet").num_rows == 0
    withdraw(tmp_path, "000003-x", "00000", {(record().ref.id, label)})
    commit_batch(tmp_path, "000003-x", "00000", [record(run="000003-x")], regions())
    publish(tmp_path)
    assert set(read_records(tmp_path)) == {subject(record()), subject(other)}


def test_a_result_that_is_written_again_replaces_all_its_region_rows(tmp_path):
    commit_batch(tmp_path, "000001-x", "00000", [record()], regions(areas=(1, 2, 3)))
    publish(tmp_path)
    commit_batch(tmp_path, "000002-x", "00000", [record(run="000002-x")], regions(areas=(4, 5)))
    publish(tmp_path)
    assert read_table(open_storage(tmp_path), "tables/regions/aa.parquet")["area"].to_pylist() == [4, 5]
