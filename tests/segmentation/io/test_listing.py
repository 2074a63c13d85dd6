import csv
import io
import os
import pickle
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import samples
from samples import GREY, RGB, by_pillow

from segmentation.errors import ImageError, ParameterError, StoreError
from segmentation.io import archives
from segmentation.io.reading import decode_image, image_header, read_image, read_mask
from segmentation.io.sources import Selection, list_images
from segmentation.io.sources.names import fits
from segmentation.io.sources.passed_over import PassedOver

PNG = by_pillow(GREY, "PNG")
COLOUR = by_pillow(RGB, "PNG")


def listed(source, **keywords):
    return {ref.name: ref for ref in list_images(source, **keywords)}


def pixels_of(ref):
    ref = pickle.loads(pickle.dumps(ref))  # as it comes to a worker
    return decode_image(ref, read_image(ref)[0]).pixels


def fill(folder, *names, data=PNG):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


# --- folders ------------------------------------------------------------------------------------------------------


@contextmanager
def watched(events, counts=[]):  # noqa: B006 - an audit hook stays for ever: one list for all
    if not counts:
        sys.addaudithook(lambda *happened: [seen.append(happened) for seen in counts[1:]])
        counts.append(None)
    seen = []
    counts.append(seen)
    try:
        # A file object's own event comes on top of that of os.open, with its mode.
        yield lambda: sum(event in events and arguments[1:2] != ("r",) for event, arguments in seen)
    finally:
        counts.pop()


def test_a_large_archive_is_listed_folder_by_folder_and_nothing_is_opened(tmp_path):
    for number in range(60):
        fill(tmp_path, *(f"folder-{number:02d}/image-{n}.png" for n in range(5)))
    with watched({"os.scandir"}) as scanned, watched({"open"}) as opened:
        images = list_images(tmp_path)
        assert len(list(islice(images, 7))) == 7
        few = scanned()
        assert len(list(images)) == 60 * 5 - 7
        assert few <= 5  # the root (looked at first, and for Zarr), and two folders
        assert scanned() >= 60
        assert opened() == 0


def test_listing_many_names_takes_the_memory_of_one_folder_alone(tmp_path):
    program = (
        "import sys, tracemalloc; from segmentation.io.sources import list_images; list(list_images(sys.argv[1]))\n"
        "tracemalloc.start()\n"
        "n = sum(1 for _ in list_images(sys.argv[1])); print(n, tracemalloc.get_traced_memory()[1])"
    )
    peaks = {}
    for number in range(20):
        (tmp_path / f"{number:02d}").mkdir()
        for n in range(200):
            (tmp_path / f"{number:02d}" / f"{n:04d}.png").touch()
        if number in (1, 19):
            done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
            count, peak = map(int, done.stdout.split())
            peaks[count] = peak
    assert peaks[4_000] < 1.2 * peaks[400]


def remove(folder):
    subprocess.run(["rm", "-rf", folder], check=True)  # Python's own way recurses, by full paths


def test_folders_nested_without_end_are_no_trouble(tmp_path):
    here = Path.cwd()
    os.chdir(tmp_path)
    for _ in range(1200):
        Path("d").mkdir()
        os.chdir("d")
    Path("deep.png").write_bytes(PNG)
    os.chdir(here)
    (ref,) = list_images(tmp_path)
    remove(tmp_path / "d")
    assert ref.name.count("/") == 1200


def test_a_folder_that_cannot_be_read_is_a_row_and_the_others_are_listed(tmp_path):
    here = Path.cwd()
    fill(tmp_path, "a.png", "z.png")
    os.chdir(tmp_path)
    try:  # a path too long for any call: not even root can look into it
        for _ in range(17):
            Path("n" * 250).mkdir()
            os.chdir("n" * 250)
    finally:
        os.chdir(here)
    refs = list(list_images(tmp_path))
    remove(tmp_path / ("n" * 250))
    assert [ref.name for ref in refs if not ref.problem] == ["a.png", "z.png"]
    (broken,) = (ref for ref in refs if ref.problem)
    assert "a folder that cannot be read: its name is too long for the file system" in broken.problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone who may not read")
def test_a_folder_without_permission_is_a_row():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        fill(folder, "a.png", "secret/b.png", "z.png")
        (folder / "secret").chmod(0)
        os.seteuid(65534)
        try:
            refs = list(list_images(folder))
            with pytest.raises(ParameterError, match="secret cannot be read: permission denied"):
                list(list_images(folder / "secret"))
        finally:
            os.seteuid(0)
    assert [(ref.name, ref.problem) for ref in refs] == [
        ("a.png", ""),
        ("secret", "a folder that cannot be read: permission denied"),
        ("z.png", ""),
    ]


def test_patterns_choose_among_paths_below_the_source(tmp_path):
    fill(tmp_path, "a.tif", "b.png", "plate7/a.tif", "plate7/thumbs/a.tif", "plate8/B.png", "plate8/x/y/a.png")
    expected = {
        ("*.tif",): ["a.tif", "plate7/a.tif", "plate7/thumbs/a.tif"],
        ("plate7/*",): ["plate7/a.tif"],
        ("plate?/**",): ["plate7/a.tif", "plate7/thumbs/a.tif", "plate8/B.png", "plate8/x/y/a.png"],
        ("b.png", "plate8/**/a.png"): ["b.png", "plate8/x/y/a.png"],
        ("[!a].png",): ["b.png", "plate8/B.png"],
    }
    for include, names in expected.items():
        assert list(listed(tmp_path, selection=Selection(include=include))) == names
    left = listed(tmp_path, selection=Selection(include=("*.tif",), exclude=("thumbs", "a.tif")))
    assert list(left) == []
    assert list(listed(tmp_path, selection=Selection(exclude=("plate*", "*.png")))) == ["a.tif"]


def test_a_folder_that_is_excluded_is_not_looked_into(tmp_path):
    fill(tmp_path, *(f"thumbs/{n}/a.png" for n in range(20)), "a.png")
    with watched({"os.scandir"}) as scanned:
        assert list(listed(tmp_path, selection=Selection(exclude=("thumbs",)))) == ["a.png"]
        assert scanned() <= 3


@pytest.mark.parametrize(
    ("pattern", "name", "is_fit"),
    [("a[1].png", "a1.png", True), ("a[1].png", "a[1].png", False), ("a[[]1].png", "a[1].png", True),
     ("*", "new\nline.png", True), ("$(x).png", "$(x).png", True), ("**", "a/b/c.png", True), ("a/**/c", "a/c", True),
     ("a/**/c", "a/b/b/c", True), ("a*c", "a/c", False), ("?.png", "\udcff.png", True), ("[", "[", True)],
)  # fmt: skip
def test_what_patterns_mean(pattern, name, is_fit):
    assert fits(pattern, name) is is_fit


def test_a_store_below_the_source_is_not_taken_for_images(tmp_path):
    fill(tmp_path, "a.png", "results/contours/x.png", "results/tables/index.parquet")
    (tmp_path / "results" / "images").mkdir()
    (tmp_path / "results" / "runs").mkdir()
    assert list(listed(tmp_path)) == ["a.png"]


def test_what_becomes_a_pipe_or_a_link_after_listing_is_not_opened(tmp_path):
    fill(tmp_path, "a.png", "b.png", "c.png")
    refs = listed(tmp_path)
    for name in refs:
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "d.png")
    fill(tmp_path, "d.png")
    here = Path.cwd()
    os.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("c.png")
    os.chdir(here)
    for name, reason in (("a.png", "a pipe"), ("b.png", "links are not followed"), ("c.png", "a pipe, socket")):
        with pytest.raises(ImageError, match=reason):
            read_image(refs[name])


def test_a_file_larger_than_any_image_allowed_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(10_000)
    (ref,) = list_images(tmp_path)
    with pytest.raises(ImageError, match="has 10,000 bytes; no image of the pixels allowed has more than 3,200"):
        read_image(ref, max_pixels=100)


def test_the_source_itself_may_be_a_link(tmp_path):
    fill(tmp_path, "there/a.png")
    (tmp_path / "folder").symlink_to("there")
    (tmp_path / "link.png").symlink_to("there/a.png")
    assert list(listed(tmp_path / "folder")) == ["a.png"]
    (ref,) = list_images(tmp_path / "link.png")
    np.testing.assert_array_equal(pixels_of(ref), GREY)


# --- archives -----------------------------------------------------------------------------------------------------


def zip_of(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tar_of(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


MEMBERS = {"b.png": PNG, "a/c.png": COLOUR, "notes.txt": b"text", "a/b.PNG": PNG, "__MACOSX/._b.png": b"x"}


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_members_of_a_zip_are_read_where_they_are(tmp_path, packing):
    refs = listed(zip_of(tmp_path / "x.zip", MEMBERS, compression=packing))
    assert list(refs) == ["a/b.PNG", "a/c.png", "b.png"]
    assert not any(ref.problem for ref in refs.values())
    np.testing.assert_array_equal(pixels_of(refs["a/c.png"]), RGB)
    np.testing.assert_array_equal(pixels_of(refs["b.png"]), GREY)
    assert image_header(refs["a/c.png"]).channels == 3
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def zstd_tar(path, members):
    plain = tar_of(path.with_suffix(""), members)
    with pa.CompressedOutputStream(str(path), "zstd") as out:
        out.write(plain.read_bytes())
    return path


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz", "x.tar.zst"])
def test_members_of_a_tar_are_read_where_they_are(tmp_path, name):
    modes = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}
    path = tmp_path / name
    mode = modes.get(name.rpartition(".")[2], "w")
    refs = listed(zstd_tar(path, MEMBERS) if name.endswith("zst") else tar_of(path, MEMBERS, mode))
    assert list(refs) == ["b.png", "a/c.png", "a/b.PNG"]  # as they stand in it
    for wanted, expected in (("b.png", GREY), ("a/c.png", RGB), ("b.png", GREY), ("a/b.PNG", GREY)):
        np.testing.assert_array_equal(pixels_of(refs[wanted]), expected)


def test_a_packed_tar_is_unpacked_once_for_all_members_in_a_row(tmp_path, monkeypatch):
    path = tar_of(tmp_path / "x.tar.gz", {f"{n}.png": PNG for n in range(50)}, "w:gz")
    refs = list(list_images(path))
    opened = []
    monkeypatch.setattr(archives, "_unpacker", lambda *given: opened.append(given) or unpacker(*given))
    for ref in refs:
        read_image(ref)
    assert len(opened) == 1


unpacker = archives._unpacker


def test_hostile_members_of_a_tar_are_rows_with_a_reason(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind, target in (
            ("good.png", tarfile.REGTYPE, ""),
            ("../slip.png", tarfile.REGTYPE, ""),
            ("/absolute.png", tarfile.REGTYPE, ""),
            ("./dotted.png", tarfile.REGTYPE, ""),
            ("soft", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.png", tarfile.LNKTYPE, "good.png"),
            ("pipe.png", tarfile.FIFOTYPE, ""),
            ("device.png", tarfile.CHRTYPE, ""),
            ("twice.png", tarfile.REGTYPE, ""),
            ("./twice.png", tarfile.REGTYPE, ""),
            ("new\nline\udcff.png", tarfile.REGTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.size = len(PNG) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(PNG) if info.size else None)
    problems = {name: ref.problem for name, ref in listed(path).items()}
    sound = [name for name, problem in problems.items() if not problem]
    assert sound == ["good.png", "dotted.png", "new\nline\udcff.png"]
    for name in ("../slip.png", "/absolute.png"):
        assert "leaves the archive" in problems[name]
    for name in ("soft", "hard.png"):
        assert "links are not followed" in problems[name]
    for name in ("pipe.png", "device.png"):
        assert "a pipe, socket or device" in problems[name]
    assert "two members have this name" in problems["twice.png"]


def test_archives_that_are_cut_short_or_none_are_rows_and_what_comes_before_is_listed(tmp_path):
    whole = tar_of(tmp_path / "x.tar", {"a.png": PNG, "b.png": PNG}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: 512 + 512 + 512 + 100])
    refs = listed(tmp_path / "cut.tar")
    np.testing.assert_array_equal(pixels_of(refs["a.png"]), GREY)
    assert "damaged" in refs["cut.tar"].problem
    with pytest.raises(ImageError, match="damaged archive: the member has 100 of"):
        read_image(refs["b.png"])
    for name, data in (("t.tar", b"text" * 300), ("t.tar.gz", b"\x1f\x8bgarbage"), ("t.zip", b""), ("t.tar.xz", PNG)):
        (tmp_path / name).write_bytes(data)
        ((found, ref),) = listed(tmp_path / name).items()
        assert found == name
        assert "not an archive, or damaged" in ref.problem


def fail(ref):
    raise ImageError(ref.problem)


def test_bombs_are_refused_and_what_is_beside_them_is_not(tmp_path):
    zeros = bytes(archives._RATIO_BYTES + 1)
    path = zip_of(tmp_path / "x.zip", {"bomb.png": zeros, "good.png": PNG}, compression=zipfile.ZIP_DEFLATED)
    refs = listed(path)
    assert "500 times is allowed" in refs["bomb.png"].problem
    np.testing.assert_array_equal(pixels_of(refs["good.png"]), GREY)
    path = tar_of(tmp_path / "x.tar.xz", {"a.png": PNG, "bomb.png": zeros, "b.png": PNG}, "w:xz")
    refs = listed(path)
    assert "unpacks to over 500 times its size" in refs["x.tar.xz"].problem
    np.testing.assert_array_equal(pixels_of(refs["a.png"]), GREY)


def test_a_tar_whose_header_is_a_bomb_is_refused_without_being_read(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    ((_, ref),) = listed(tmp_path / "x.tar").items()
    assert "a header of 8,589,9" in ref.problem


def test_a_zip_that_lies_about_a_member_is_refused(tmp_path):
    sound = zip_of(tmp_path / "x.zip", {"a.png": PNG}, compression=zipfile.ZIP_DEFLATED).read_bytes()
    at = sound.index(b"PK\1\2")
    lies = {
        "member has more": (24, struct.pack("<I", len(PNG) - 1)),
        "of 999 bytes": (24, struct.pack("<I", 999)),
        "checksum is wrong": (16, b"\0\0\0\0"),
        "no member where": (42, struct.pack("<I", 4)),
        "cut short|damaged archive": (20, struct.pack("<I", 40)),
        "no image of the pixels": (24, struct.pack("<I", 2**32 - 2)),
    }
    for reason, (offset, value) in lies.items():
        (tmp_path / "lie.zip").write_bytes(sound[: at + offset] + value + sound[at + offset + len(value) :])
        ref = next(iter(listed(tmp_path / "lie.zip").values()))
        with pytest.raises(ImageError, match=reason):
            fail(ref) if ref.problem and "500 times" not in ref.problem else read_image(ref)


def test_an_archive_that_changed_after_listing_is_tried_again_not_misread(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"a.png": PNG})
    (ref,) = list_images(path)
    zip_of(path, {"other.png": COLOUR, "a.png": PNG})
    with pytest.raises(StoreError, match="changed after it was listed"):
        read_image(ref)


def test_a_member_that_is_no_image_is_refused_at_its_first_bytes(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"a.png": b"text" * 10_000_000})
    (ref,) = list_images(path)
    with watched(set()), pytest.raises(ImageError, match="not an image"):
        read_image(ref)


def test_links_devices_and_encryption_in_a_zip_are_rows_with_a_reason(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, mode in (("link", stat.S_IFLNK), ("pipe.png", stat.S_IFIFO), ("good.png", stat.S_IFREG)):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (mode | 0o644) << 16
            archive.writestr(info, PNG)
    assert [(name, bool(ref.problem)) for name, ref in listed(path).items()] == [
        ("good.png", False),
        ("link", True),
        ("pipe.png", True),
    ]


def test_patterns_hold_for_members_too(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"a/thumbs/x.png": PNG, "a/x.png": PNG, "y.png": PNG})
    chosen = Selection(include=("a/**",), exclude=("thumbs",))
    assert list(listed(path, selection=chosen)) == ["a/x.png"]


# --- lists --------------------------------------------------------------------------------------------------------


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows(rows)
    return path


def write_parquet(path, rows):
    head, *body = rows
    columns = {name: [row[n] or None for row in body] for n, name in enumerate(head)}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("write", [write_csv, write_parquet], ids=["csv", "parquet"])
def test_a_list_names_images_masks_and_what_they_are_called(tmp_path, write):
    fill(tmp_path, "scans/no suffix", "masks/m.png", "lists/near.png", data=PNG)
    path = tmp_path / "lists" / f"list.{'csv' if write is write_csv else 'parquet'}"
    rows = [
        ["id", "path", "mask", "comment"],
        ["plate 1", "../scans/no suffix", "../masks/m.png", "x"],
        ["", "near.png", "", ""],
        ["absolute", str(tmp_path / "scans/no suffix"), "", ""],
        ["gone", "absent.png", "", ""],
        ["no mask", "near.png", "absent.png", ""],
        ["twice", "near.png", "", ""],
        ["twice", "../scans/no suffix", "", ""],
        ["nowhere", "", "", ""],
        ["a folder", "../scans", "", ""],
    ]
    refs = listed(write(path, rows))
    assert list(refs) == ["plate 1", "near.png", "absolute", "gone", "no mask", "twice", "nowhere", "a folder"]
    np.testing.assert_array_equal(pixels_of(refs["plate 1"]), GREY)
    assert read_mask(refs["plate 1"])[0] == PNG
    assert len({ref.id for ref in refs.values()}) == len(refs)
    assert [name for name, ref in refs.items() if not ref.problem] == ["plate 1", "near.png", "absolute"]
    assert refs["gone"].problem == f"not found: {tmp_path}/lists/absent.png"
    assert refs["no mask"].problem.startswith("mask: ")
    assert "2 rows of the list have this name" in refs["twice"].problem
    assert "no path" in refs["nowhere"].problem
    assert "a folder" in refs["a folder"].problem


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", b"file,mask\na.png,\n", "has the columns file, mask; a column 'path' is expected"),
        ("x.csv", b"", "has the columns none"),
        ("x.csv", b"path\n", "lists no images"),
        ("x.csv", b'path\n"a', "line 2: a quote that is not closed"),
        ("x.parquet", b"PAR1 nothing", "not a readable Parquet file"),
    ],
)
def test_what_is_no_list_is_said(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ParameterError, match=message):
        list(list_images(tmp_path / name))


@pytest.mark.parametrize(
    "data",
    [
        "path;id\r\na b.png;7\r\n".encode("utf-8-sig"),
        "path\tid\r\na b.png\t7\r\n".encode("utf-16"),
        b"\xfe\xff" + "path\tid\r\na b.png\t7\r\n".encode("utf-16-be"),
        b"path,id\r\na b.png,7\r\n,,\r\n , \r\n",
        b"Path , ID\na b.png, 7\n",
        b"id|path\n7|a b.png \n",
        b'sep=;\n"id";"path"\n"7";"a b.png"\n',
        b'id,comment,path\r\n7,"one;two",a b.png\r\n',
    ],
)
def test_a_list_from_a_spreadsheet_is_read(tmp_path, data):
    fill(tmp_path, "a b.png", data=PNG)
    (tmp_path / "list.csv").write_bytes(data)
    refs = listed(tmp_path / "list.csv")
    assert list(refs) == ["7"]
    np.testing.assert_array_equal(pixels_of(refs["7"]), GREY)


def test_what_is_no_text_says_so(tmp_path):
    (tmp_path / "list.csv").write_bytes("path\na.png\n".encode("utf-16-le"))
    with pytest.raises(
        ParameterError, match=r"list\.csv: it is no text in UTF-8, nor in UTF-16 with a byte order mark"
    ):
        listed(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_bytes("path\na.png\n".encode("utf-16")[:-1])
    with pytest.raises(ParameterError, match="it begins as UTF-16 and is none, at byte"):
        listed(tmp_path / "list.csv")


def test_paths_of_a_list_may_come_from_windows_or_macos(tmp_path):
    fill(tmp_path, "sub/a.png", "sub/Ko\u0308ln.png", "b\\c.png", data=PNG)  # an umlaut taken apart; a real backslash
    rows = "path,mask\nsub\\a.png,sub\\a.png\nsub/K\u00f6ln.png,\nb\\c.png,\nC:\\x\\d.png,\n"
    (tmp_path / "list.csv").write_bytes(rows.encode())
    refs = listed(tmp_path / "list.csv")
    assert list(refs) == ["sub/a.png", "sub/Ko\u0308ln.png", "b\\c.png", "C:\\x\\d.png"]
    assert refs["sub/a.png"].mask_path == str(tmp_path / "sub/a.png")
    assert refs.pop("C:\\x\\d.png").problem == f"not found: {tmp_path}/C:\\x\\d.png"
    assert not any(ref.problem for ref in refs.values())
    (tmp_path / "list.csv").write_bytes("path;id\nsub/a.png;K\u00f6ln\n".encode("cp1252"))
    assert list(listed(tmp_path / "list.csv")) == ["K\u00f6ln"]


def test_masks_and_patterns_fit_in_any_unicode_form(tmp_path):
    composed, apart = "Caf\u00e9", "Cafe\u0301"
    fill(tmp_path, f"in/{composed}/{apart}.png", f"masks/{apart}/{composed}.tif", data=PNG)
    (ref,) = list_images(tmp_path / "in", tmp_path / "masks", selection=Selection(include=(f"{apart}/{composed}.*",)))
    assert (ref.problem, ref.mask_path) == ("", str(tmp_path / f"masks/{apart}/{composed}.tif"))


@pytest.mark.parametrize("system", [0, 10])
def test_a_zip_from_windows_has_folders(tmp_path, system):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in (("plate7\\", b""), ("plate7\\a.png", PNG), ("plate8\\b\\a.png", PNG)):
            member = zipfile.ZipInfo("x" * len(name))
            member.create_system = system
            member.filename = member.orig_filename = name
            archive.writestr(member, data)
    refs = listed(tmp_path / "x.zip")
    assert list(refs) == ["plate7/a.png", "plate8/b/a.png"]
    np.testing.assert_array_equal(pixels_of(refs["plate7/a.png"]), GREY)


def test_a_backslash_is_part_of_a_name_in_a_zip_from_unix(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        member = zipfile.ZipInfo("a\\b.png")
        member.create_system = 3
        archive.writestr(member, PNG)
    assert list(listed(tmp_path / "x.zip")) == ["a\\b.png"]


def test_the_unicode_name_that_a_zip_has_beside_one_in_a_code_page_counts(tmp_path):
    stored, meant = "K\u00f6ln.png".encode("cp437"), "K\u043b\u043d.png"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        member = zipfile.ZipInfo("x" * len(stored))
        body = b"\x01" + struct.pack("<I", zlib.crc32(stored)) + meant.encode()
        member.extra = struct.pack("<HH", 0x7075, len(body)) + body
        archive.writestr(member, PNG)
    data = (tmp_path / "x.zip").read_bytes().replace(b"x" * len(stored), stored)
    (tmp_path / "x.zip").write_bytes(data)
    assert list(listed(tmp_path / "x.zip")) == [meant]


def test_what_systems_leave_behind_is_left_out_and_counted(tmp_path):
    fill(
        tmp_path,
        *(
            "a.jpg",
            "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
            "sub/#recycle/b.jpg",
            "sub/.Trash-1000/files/c.jpg",
            "sub/d.png",
        ),
        *("Thumbs.db", ".DS_Store", "._a.jpg", "a.xmp", "sub/b.XMP", "README"),
        data=PNG,
    )
    passed_over = PassedOver()
    assert [ref.name for ref in list_images(tmp_path, passed_over=passed_over)] == ["a.jpg", "sub/d.png"]
    folders = {"#recycle": 1, ".Trash-1000": 1, "@eaDir": 1}
    assert passed_over.as_dict() == {"files": {".xmp": 2, "no suffix": 1}, "folders": folders}
    # Whoever names such a folder means it.
    assert [ref.name for ref in list_images(tmp_path / "@eaDir")] == ["a.jpg", "a.jpg/SYNOPHOTO_THUMB_M.jpg"]


def test_what_systems_leave_behind_in_archives_is_left_out_and_counted(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a.png", "__MACOSX/._a.png", "__MACOSX/b.png", "notes.txt"):
            archive.writestr(name, PNG)
    passed_over = PassedOver()
    assert [ref.name for ref in list_images(tmp_path / "x.zip", passed_over=passed_over)] == ["a.png"]
    assert passed_over.as_dict() == {"files": {".txt": 1}, "folders": {"__MACOSX": 1}}


def test_files_that_patterns_leave_out_are_not_counted(tmp_path):
    fill(tmp_path, "a.png", "a.txt", "sub/b.txt", data=PNG)
    passed_over = PassedOver()
    list(list_images(tmp_path, selection=Selection(exclude=("sub",)), passed_over=passed_over))
    assert passed_over.as_dict() == {"files": {".txt": 1}}


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, which is not read"),
        ("a.avif", b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF, which is not read"),
        ("a.jxl", b"\xff\x0a\0\0\0\0\0\0\0\0\0\0", "JPEG XL, which is not read"),
        ("a.psd", b"8BPS\0\1\0\0\0\0\0\0", "Photoshop, which is not read"),
        ("a.dcm", bytes(128) + b"DICM", "not an image that can be read"),
        ("a.npy", b"\x93NUMPY\1\0v\0{'d", "NumPy's array file, which is not read"),
    ],
)
def test_an_image_of_a_format_that_is_not_read_is_a_row_with_that_reason(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    (ref,) = list_images(tmp_path)
    with pytest.raises(ImageError, match=reason):
        pixels_of(ref)


def test_names_in_lists_are_bytes_as_in_folders(tmp_path):
    name = os.fsdecode(b"\xff\n=1+1.png")
    fill(tmp_path, name)
    refs = listed(write_csv(tmp_path / "x.csv", [["path"], [name]]))
    np.testing.assert_array_equal(pixels_of(refs[name]), GREY)


# --- frames -------------------------------------------------------------------------------------------------------

EACH = Selection(frames="each")


def test_with_frames_each_every_page_and_frame_is_an_image_with_a_digest_of_its_own(tmp_path):
    stack, pages = samples.pages(3)
    film, _ = samples.animation("GIF", 2)
    fill(tmp_path, "stack.tif", data=stack)
    fill(tmp_path, "film.gif", data=film)
    fill(tmp_path, "still.png")
    fill(tmp_path, "broken.gif", data=film[:-30])
    assert list(listed(tmp_path)) == ["broken.gif", "film.gif", "stack.tif", "still.png"]
    refs = listed(tmp_path, selection=EACH)
    names = ["broken.gif", "film.gif#1", "film.gif#2", "stack.tif#1", "stack.tif#2", "stack.tif#3", "still.png"]
    assert list(refs) == names
    np.testing.assert_array_equal(pixels_of(refs["stack.tif#3"]), pages[2])
    sound = [ref for name, ref in refs.items() if name != "broken.gif"]
    assert len({read_image(ref)[1] for ref in sound}) == len({ref.id for ref in sound}) == 6
    plain = listed(tmp_path)["still.png"]
    assert (plain.id, read_image(plain)[1]) == (refs["still.png"].id, read_image(refs["still.png"])[1])
    assert image_header(refs["stack.tif#2"]).pixels == GREY.size


def test_frames_in_archives_are_images_too(tmp_path):
    stack, pages = samples.pages(2)
    refs = listed(zip_of(tmp_path / "x.zip", {"s.tif": stack, "p.png": PNG}), selection=EACH)
    assert list(refs) == ["p.png", "s.tif#1", "s.tif#2"]
    np.testing.assert_array_equal(pixels_of(refs["s.tif#2"]), pages[1])


def test_a_file_of_frames_is_read_once_for_all_of_them_in_a_row(tmp_path):
    stack, _ = samples.pages(20)
    fill(tmp_path, "stack.tif", data=stack)
    refs = list(list_images(tmp_path, selection=EACH))
    with watched({"open"}) as opened:
        for ref in refs:
            read_image(ref)
        assert opened() == 1
