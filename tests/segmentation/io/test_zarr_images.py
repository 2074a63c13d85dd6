import json
import shutil

import numpy as np
import pytest
import zarr
from samples import DEEP, GREY, REAL, RGB, by_pillow, ome_zarr

from segmentation.errors import ImageError, LimitError
from segmentation.io.reading import image_header, read_image
from segmentation.io.sources import list_images
from segmentation.io.zarr_images import read_zarr


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("array", "axes", "expected"),
    [
        (GREY, "yx", GREY),
        (DEEP, "yx", DEEP),
        (REAL, "yx", REAL),
        (np.moveaxis(RGB, -1, 0), "cyx", RGB),
        (RGB, "yxc", RGB),
        (DEEP[None, None, None], "tczyx", DEEP),
        (np.moveaxis(RGB, -1, 0)[None, :, None], "tczyx", RGB),
        (GREY[:1], "yx", GREY[:1]),
    ],
    ids=["grey", "deep", "real", "channel first", "channel last", "five axes", "colour of five axes", "one row"],
)
def test_a_grey_or_rgb_picture_is_read_at_full_resolution(tmp_path, version, array, axes, expected):
    path = ome_zarr(tmp_path / "x.ome.zarr", array, axes, version=version)
    (ref,) = list_images(path)
    assert (ref.name, ref.problem, ref.is_zarr) == ("x.ome.zarr", "", True)
    picture, digest = read_image(ref)
    pixels = picture.pixels
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.dtype == expected.dtype
    header = image_header(ref)
    assert (header.height, header.width) == expected.shape[:2]
    assert header.channels == (3 if expected.ndim == 3 else 1)
    again = ome_zarr(tmp_path / "y.ome.zarr", array, axes, version=version, chunks=array.shape)
    assert read_image(next(list_images(again)))[1] == digest  # the picture counts, not how it is cut


def test_a_picture_in_shards_is_read(tmp_path):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx", chunks=(4, 4), shards=(8, 8))
    np.testing.assert_array_equal(read_zarr(str(path)).pixels, GREY)


def test_images_in_folders_stand_among_files_and_are_not_searched(tmp_path):
    ome_zarr(tmp_path / "b.ome.zarr", GREY, "yx")
    ome_zarr(tmp_path / "sub" / "no suffix", RGB, "yxc", version=2)
    for name in ("a.png", "c.png", "b.ome.zarr/0/hidden.png"):
        (tmp_path / name).write_bytes(by_pillow(GREY, "PNG"))
    assert [ref.name for ref in list_images(tmp_path)] == ["a.png", "b.ome.zarr", "c.png", "sub/no suffix"]


def test_a_changed_chunk_changes_size_or_time_and_the_digest(tmp_path):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx")
    (before,) = list_images(path)
    digest = read_image(before)[1]
    zarr.open_array(path / "0", mode="r+")[:2] = 1
    (after,) = list_images(path)
    assert (before.size, before.mtime_ns) != (after.size, after.mtime_ns)
    assert read_image(after)[1] != digest


def rewritten(path, change):
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("array", "axes", "options", "reason"),
    [
        (np.stack([GREY] * 2), "cyx", {}, "with 2 channels; one grey or RGB picture is expected"),
        (np.stack([GREY] * 4), "cyx", {}, "with 4 channels; one grey or RGB picture is expected"),
        (np.stack([GREY] * 3), "zyx", {}, "axes zyx"),
        (np.stack([GREY] * 3), "tyx", {}, "axes tyx"),
        (GREY.T, "xy", {}, "axes xy"),
        (GREY, "yxc", {}, "axes .* for shape"),
        (GREY.astype(np.complex64), "yx", {}, "complex64 samples"),
        (GREY, "yx", {"attributes": {"plate": {}}}, "holds a plate"),
        (GREY, "yx", {"attributes": {"bioformats2raw.layout": 3}}, "a collection of images"),
        (GREY, "yx", {"attributes": {}}, "says nothing of multiscales"),
        (GREY, "yx", {"attributes": {"multiscales": [{"datasets": [{"path": "../x"}]}]}}, "below the image"),
        (GREY, "yx", {"attributes": {"multiscales": [{"datasets": []}]}}, "names no dataset"),
        (GREY, "yx", {"attributes": {"multiscales": [{"datasets": [{"path": "7"}]}]}}, "damaged OME-Zarr"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", [2, 3])
def test_what_is_not_one_picture_is_refused_with_a_reason(tmp_path, array, axes, options, reason, version):
    path = ome_zarr(tmp_path / "x.zarr", array, axes, version=version, **options)
    with pytest.raises(ImageError, match=reason):
        read_zarr(str(path))


def test_a_missing_chunk_is_not_taken_for_an_empty_one(tmp_path):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx")
    (path / "0" / "c" / "1" / "1").unlink()
    with pytest.raises(ImageError, match="without 1 of its 4 chunks"):
        read_zarr(str(path))


def test_a_damaged_chunk_is_refused(tmp_path):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx", compressors=[zarr.codecs.ZstdCodec(checksum=True)])
    chunk = path / "0" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ImageError, match="damaged OME-Zarr"):
        read_zarr(str(path))


def test_limits_are_held_before_a_chunk_is_read(tmp_path):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx")
    with pytest.raises(LimitError, match="191 are allowed"):
        read_zarr(str(path), max_pixels=191)
    huge = shutil.copytree(path, tmp_path / "huge.zarr")
    rewritten(huge / "0" / "zarr.json", lambda metadata: metadata.update(shape=[2**31, 2**31]))
    with pytest.raises(LimitError, match="64,000,000 are allowed"):
        read_zarr(str(huge))
    wide = shutil.copytree(path, tmp_path / "wide.zarr")
    rewritten(wide / "0" / "zarr.json", lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[2**20, 2**20]))
    with pytest.raises(ImageError, match="chunks of 1,099,511,627,776 values for 192"):
        read_zarr(str(wide))
    many = ome_zarr(tmp_path / "many.zarr", np.zeros((300, 300), np.uint8), "yx", chunks=(1, 300))
    rewritten(many / "0" / "zarr.json", lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[1, 1]))
    with pytest.raises(ImageError, match="in 90,000 chunks"):
        read_zarr(str(many))


def test_codecs_that_could_do_anything_are_not_run(tmp_path):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx", version=2)
    rewritten(path / "0" / ".zarray", lambda metadata: metadata.update(filters=[{"id": "pickle", "protocol": 5}]))
    with pytest.raises(ImageError, match="packed by pickle"):
        read_zarr(str(path))


def test_links_within_an_image_are_not_followed(tmp_path):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx")
    chunk = path / "0" / "c" / "0" / "0"
    chunk.rename(tmp_path / "outside")
    chunk.symlink_to(tmp_path / "outside")
    (ref,) = list_images(path)
    assert "links are not followed" in ref.problem
