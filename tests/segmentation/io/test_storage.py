"""One contract for every place a store may lie."""

import subprocess
import sys

import pytest

from segmentation.errors import ParameterError, StoreError
from segmentation.io import objects
from segmentation.io.lock import StoreLockedError
from segmentation.io.storage import open_storage
from tests.s3 import FaultProxy, client

GROUP = {"zarr.json": b"root", "0/zarr.json": b"inner", "0/c/0/0": b"chunk", "0/c/0/1": b"other"}
HOLD = (
    "import sys, time; from segmentation.io.storage import open_storage\n"
    "with open_storage(sys.argv[1]).lock():\n    print('held', flush=True); time.sleep(600)\n"
)


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path):
    return str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("bucket")


@pytest.fixture
def storage(place):
    return open_storage(place)


def test_a_file_is_there_with_its_bytes_or_not_at_all(storage):
    assert not storage.exists("a/b")
    with pytest.raises(FileNotFoundError):
        storage.read("a/b")
    storage.write("a/b", b"one")
    storage.write("a/b", b"two")
    assert storage.exists("a/b")
    assert storage.read("a/b") == b"two"
    storage.delete("a/b")
    storage.delete("a/b")
    assert not storage.exists("a/b")


def test_files_and_folders_are_listed_in_order(storage):
    assert (list(storage.files()), storage.folders("runs")) == ([], [])
    for name in ("runs/2/run.json", "runs/1/records/b.parquet", "runs/1/records/a.parquet", "runs/1/indexed", "x"):
        storage.write(name, b"")
    assert storage.folders("runs") == ["1", "2"]
    assert storage.folders("runs/2") == []
    assert storage.names("runs/1/records", ".parquet") == ["runs/1/records/a.parquet", "runs/1/records/b.parquet"]
    assert storage.names("runs/1") == ["runs/1/indexed"]
    assert list(storage.files("runs/1")) == [*storage.names("runs/1"), *storage.names("runs/1/records")]
    assert len(list(storage.files())) == 5


def test_more_files_than_one_answer_lists_are_all_listed(storage):
    for number in range(1100):
        storage.write(f"many/{number:04d}/x", b"")
    assert len(list(storage.files("many"))) == 1100
    assert len(storage.folders("many")) == 1100


def test_a_folder_is_replaced_whole(storage):
    storage.put_folder("images/g", GROUP)
    assert {name: storage.read(f"images/g/{name}") for name in GROUP} == GROUP
    storage.put_folder("images/g", {"zarr.json": b"new", "1/c": b"x"})
    assert list(storage.files("images/g")) == ["images/g/1/c", "images/g/zarr.json"]
    storage.sweep()
    assert list(storage.files()) == ["images/g/1/c", "images/g/zarr.json"]


def test_a_second_holder_is_told_who_the_first_is_and_writes_nothing(place, storage):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, place], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        before = list(storage.files())
        with pytest.raises(StoreLockedError, match=rf"process {holder.pid} on "), storage.lock():
            pass
        assert list(storage.files()) == before == [".lock"]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_the_lock_is_free_again_after_the_block(storage):
    for _ in range(3):
        with storage.lock() as token:
            storage.confirm_lock(token)


def watched(s3_endpoint, monkeypatch, decide, *, timeout_s="1", attempts="3"):
    """Point this process at a proxy with short patience."""
    proxy = FaultProxy(s3_endpoint, decide)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("REGIONFLOW_S3_TIMEOUT_S", timeout_s)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", attempts)
    objects._client.cache_clear()
    return proxy


@pytest.fixture
def fresh_client():
    yield
    objects._client.cache_clear()


@pytest.mark.usefixtures("fresh_client")
@pytest.mark.parametrize("fault", ["503", "stall", "reset", "lose"])
def test_a_fault_that_passes_is_not_noticed(bucket, s3_endpoint, monkeypatch, fault):
    storage = open_storage(bucket)
    with watched(s3_endpoint, monkeypatch, lambda number, *_: fault if number in (1, 3) else "") as proxy:
        storage.put_folder("g", GROUP)
        assert {name: storage.read(f"g/{name}") for name in GROUP} == GROUP
    assert [what for what, _ in proxy.broken] == [fault, fault]


@pytest.mark.usefixtures("fresh_client")
@pytest.mark.parametrize("fault", ["503", "stall", "reset"])
def test_a_fault_that_stays_is_an_error_that_names_the_object(bucket, s3_endpoint, monkeypatch, fault):
    storage = open_storage(bucket)
    proxy = watched(s3_endpoint, monkeypatch, lambda number, *_: fault if number else "")
    with proxy, pytest.raises(StoreError, match=f"{bucket}/a: "):
        storage.write("a", b"")
    assert len(proxy.broken) == 3


@pytest.mark.usefixtures("fresh_client")
def test_one_knows_ones_own_lock_when_the_answer_to_its_put_was_lost(bucket, s3_endpoint, monkeypatch):
    storage = open_storage(bucket)
    proxy = watched(s3_endpoint, monkeypatch, lambda number, *_: "lose" if number == 1 else "")
    with proxy, storage.lock() as token:
        storage.confirm_lock(token)
    assert len(proxy.broken) == 1


@pytest.mark.usefixtures("fresh_client")
@pytest.mark.parametrize("crash_at", range(1, 5))
def test_whatever_put_breaks_no_reader_finds_root_metadata_before_all_is_there(
    bucket, s3_endpoint, monkeypatch, crash_at
):
    storage = open_storage(bucket)
    storage.put_folder("g", GROUP)
    newer = {name: data + b" of later" for name, data in GROUP.items()}
    decide = lambda number, *_: "reset" if number >= crash_at else ""  # noqa: E731
    with watched(s3_endpoint, monkeypatch, decide):
        with pytest.raises(StoreError):
            storage.put_folder("g", newer)
        assert not storage.exists("g/zarr.json")
    objects._client.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    storage.put_folder("g", newer)
    assert {name: storage.read(f"g/{name}") for name in newer} == newer


@pytest.mark.usefixtures("fresh_client")
def test_what_is_there_byte_for_byte_is_not_touched(bucket, s3_endpoint, monkeypatch):
    storage = open_storage(bucket)
    storage.put_folder("g", GROUP)
    with watched(s3_endpoint, monkeypatch, lambda number, method, _: "503" if method in ("PUT", "DELETE") else ""):
        storage.put_folder("g", GROUP)


def hold_and_die(bucket):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, bucket], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()


def test_the_lock_of_a_dead_holder_lapses_and_only_one_takes_it(bucket, monkeypatch):
    monkeypatch.setenv("REGIONFLOW_S3_LEASE_S", "3")
    hold_and_die(bucket)
    storage = open_storage(bucket)
    with pytest.raises(StoreLockedError, match="if it was killed, its lock lapses in"), storage.lock():
        pass
    taken = False
    while not taken:
        try:
            with storage.lock(), pytest.raises(StoreLockedError), storage.lock():
                pass
            taken = True
        except StoreLockedError as held:
            assert "lapses in" in str(held)  # noqa: PT017 - it repeats until the lease has run out


def test_a_holder_that_is_alive_keeps_its_lock_beyond_the_lease(bucket, monkeypatch):
    monkeypatch.setenv("REGIONFLOW_S3_LEASE_S", "2")
    storage = open_storage(bucket)
    with storage.lock() as token:
        first = storage.call("get_object", ".lock")["ETag"]
        seen = {first}
        while len(seen) < 7:  # six renewals are three leases
            seen.add(storage.call("get_object", ".lock")["ETag"])
            with pytest.raises(StoreLockedError, match="held by"), storage.lock():
                pass
        storage.confirm_lock(token)


def test_a_holder_that_lost_its_lock_is_told(bucket, monkeypatch):
    monkeypatch.setenv("REGIONFLOW_S3_LEASE_S", "600")  # it will not renew in between
    storage = open_storage(bucket)
    with storage.lock() as token:
        stranger = b'{"host": "elsewhere", "pid": 7, "token": "other", "lease_s": 600}'
        storage.write(".lock", stranger)  # as one does that takes over
        with pytest.raises(StoreLockedError, match="lost the store to another run \\(process 7 on elsewhere\\)"):
            storage.confirm_lock(token)
    assert storage.read(".lock") == stranger


def test_a_server_that_ignores_conditions_is_refused(bucket, monkeypatch):
    storage = open_storage(bucket)
    call = storage.call

    def deaf(operation, name=None, *, IfNoneMatch="", IfMatch="", **arguments):
        return call(operation, name, **arguments)

    monkeypatch.setattr(storage, "call", deaf)
    with pytest.raises(StoreError, match="ignores conditions"), storage.lock():
        pass


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://absent-bucket/x", "the bucket absent-bucket does not exist"),
        ("s3://", "names no bucket"),
        ("gs://bucket/x", "a folder or s3://bucket/prefix is expected"),
    ],
)
def test_where_there_can_be_no_store_is_said(s3_endpoint, url, message):
    with pytest.raises(ParameterError, match=message):
        open_storage(url).check()


@pytest.mark.usefixtures("fresh_client")
def test_without_credentials_that_is_said(bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "absent"))
    objects._client.cache_clear()
    with pytest.raises(ParameterError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        open_storage(bucket).check()


@pytest.mark.usefixtures("fresh_client")
def test_a_denied_access_is_said(bucket, s3_endpoint, monkeypatch):
    with watched(s3_endpoint, monkeypatch, lambda *_: "403"), pytest.raises(ParameterError, match="access denied"):
        open_storage(bucket).check()


def test_without_the_extra_that_is_said():
    code = (
        "import sys; sys.modules['botocore'] = None\n"
        "from segmentation.io.storage import open_storage\n"
        "try: open_storage('s3://bucket/x')\n"
        "except Exception as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "OUTPUT: s3://bucket/x needs the extra for buckets: pip install 'regionflow[s3]'\n"


def test_objects_say_what_they_are(bucket):
    storage = open_storage(bucket)
    for name, kind in {
        "g/index.html": "text/html; charset=utf-8",
        "c/a.png": "image/png",
        "z.json": "application/json",
    }.items():
        storage.write(name, b"")
        _, _, key = bucket.removeprefix("s3://").partition("/")
        head = client().head_object(Bucket=storage.bucket, Key=f"{key}/{name}")
        assert head["ContentType"] == kind
