import json
import shutil

import numcodecs
import numpy as np
import pytest
import zarr
from samples import DEEP, GREY, REAL, RGB, by_pillow, ome_zarr

from segmentation.errors import ImageError, LimitError
from segmentation.io.pictures import PIXELS, Grid
from segmentation.io.reading import image_header, read_image
from segmentation.io.sources import Selection, list_images
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
        (GREY, "yx", {"attributes": {"multiscales": [{"axes": 5, "datasets": [{"path": "0"}]}]}}, "axes .* for shape"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", [2, 3])
def test_what_is_not_one_picture_is_refused_with_a_reason(tmp_path, array, axes, options, reason, version):
    path = ome_zarr(tmp_path / "x.zarr", array, axes, version=version, **options)
    with pytest.raises(ImageError, match=reason):
        read_zarr(str(path))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("value", [0, 7])
def test_a_missing_chunk_holds_the_fill_value_unless_it_is_to_be_refused(tmp_path, version, value):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx", version=version, fill_value=value)
    (path / "0" / ("1.1" if version == 2 else "c/1/1")).unlink()
    expected = GREY.copy()
    expected[8:, 8:] = value
    np.testing.assert_array_equal(read_zarr(str(path)).pixels, expected)
    with pytest.raises(LimitError, match="without 1 of its 4 chunks; --missing-chunks refuse is given"):
        read_zarr(str(path), missing_chunks="refuse")
    whole = ome_zarr(tmp_path / "y.zarr", expected, "yx", version=version, fill_value=99)
    np.testing.assert_array_equal(read_zarr(str(whole), missing_chunks="refuse").pixels, expected)
    assert read_image(next(list_images(path)))[1] == read_image(next(list_images(whole)))[1]


def test_chunks_that_are_lost_are_not_taken_for_empty_ones(tmp_path):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx", version=2)
    (path / "0" / "1.1").write_bytes(b"")
    with pytest.raises(ImageError, match="1 of its 4 chunks are files without a byte"):
        read_zarr(str(path))
    (path / "0" / "1.1").unlink()
    rewritten(path / "0" / ".zarray", lambda metadata: metadata.update(fill_value=None))
    with pytest.raises(ImageError, match="without 1 of its 4 chunks; it does not say what they hold"):
        read_zarr(str(path))
    rewritten(path / "0" / ".zarray", lambda metadata: metadata.update(fill_value=0, dimension_separator="/"))
    with pytest.raises(ImageError, match="without any of its 4 chunks"):  # they are there, under other names
        read_zarr(str(path))


def placed(path, dataset, image=(), units=("micrometer", "micrometer"), axes="yx", version=3, array=GREY):
    datasets = [{"path": "0", "coordinateTransformations": dataset}]
    named = dict(zip("yx", units, strict=True))
    scales = {
        "axes": [{"name": name, **({"unit": named[name]} if named.get(name) else {})} for name in axes],
        "datasets": datasets,
        "coordinateTransformations": list(image),
    }
    return ome_zarr(path, array, axes, version=version, attributes={"multiscales": [scales]})


@pytest.mark.parametrize("version", [2, 3])
def test_scale_translation_and_unit_are_those_of_the_image(tmp_path, version):
    scale, moved = {"type": "scale", "scale": [0.325, 0.65]}, {"type": "translation", "translation": [10, 20]}
    path = placed(tmp_path / "a.zarr", [scale, moved], version=version)
    assert read_zarr(str(path)).grid == Grid((0.325, 0.65), (10, 20), ("micrometer", "micrometer"))
    twice = {"type": "scale", "scale": [2, 2]}
    path = placed(tmp_path / "b.zarr", [scale, moved], [twice], units=("", "nanometer"), version=version)
    assert read_zarr(str(path)).grid == Grid((0.65, 1.3), (20, 40), ("", "nanometer"))
    five = {"type": "scale", "scale": [1, 1, 3, 0.5, 0.25]}
    path = placed(tmp_path / "c.zarr", [five], axes="tczyx", version=version, array=DEEP[None, None, None])
    assert read_zarr(str(path)).grid.step == (0.5, 0.25)
    assert read_zarr(str(ome_zarr(tmp_path / "d.zarr", GREY, "yx", version=version))).grid == PIXELS


def test_an_image_that_is_placed_elsewhere_is_another(tmp_path):
    scales = [[{"type": "scale", "scale": [step, step]}] for step in (0.5, 0.25, 0.25)]
    paths = [placed(tmp_path / f"{n}.zarr", scale) for n, scale in enumerate(scales)]
    digests = [read_image(next(list_images(path)))[1] for path in paths]
    assert digests[0] != digests[1] == digests[2]


@pytest.mark.parametrize(
    ("transformation", "reason"),
    [
        ({"type": "scale", "scale": [1]}, "a scale without 2 numbers"),
        ({"type": "scale", "scale": [0, 1]}, "numbers above 0"),
        ({"type": "scale", "scale": ["1", 1]}, "a scale without 2 numbers"),
        ({"type": "translation", "path": "t"}, "a translation without 2 numbers"),
        ({"type": "affine", "affine": []}, "placed by affine; scale and translation"),
        ("scale", "placed by None"),
    ],
)
def test_what_places_an_image_in_another_way_is_refused(tmp_path, transformation, reason):
    with pytest.raises(ImageError, match=reason):
        read_zarr(str(placed(tmp_path / "x.zarr", [transformation])))


def test_transformations_that_are_no_list_are_refused(tmp_path):
    with pytest.raises(ImageError, match="coordinateTransformations are no list"):
        read_zarr(str(placed(tmp_path / "x.zarr", 5)))


def collection(path, names, version, series=None):
    """Write a collection as bioformats2raw does."""
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for number, name in enumerate(names):
        ome_zarr(path / name, GREY + np.uint8(number), "yx", version=version)
    attributes = {"bioformats2raw.layout": 3}
    group.attrs.update({"ome": {"version": "0.5", **attributes}} if version == 3 else attributes)
    inner = group.create_group("OME")
    if series is not None:
        inner.attrs.update({"ome": {"version": "0.5", "series": series}} if version == 3 else {"series": series})
    (path / "OME" / "METADATA.ome.xml").write_text("<OME/>")
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_a_collection_is_a_folder_of_its_images(tmp_path, version):
    by_number = collection(tmp_path / "in" / "b.zarr", ["0", "1", "2"], version)
    assert [ref.name for ref in list_images(by_number)] == ["0", "1", "2"]
    listed = collection(tmp_path / "in" / "a.zarr", ["x/left", "x/right", "not listed"], version, ["x/right", "x/left"])
    assert [ref.name for ref in list_images(listed)] == ["x/left", "x/right"]
    names = ["a.zarr/x/left", "a.zarr/x/right", "b.zarr/0", "b.zarr/1", "b.zarr/2"]
    refs = list(list_images(tmp_path / "in"))
    assert [(ref.name, ref.problem, ref.is_zarr) for ref in refs] == [(name, "", True) for name in names]
    np.testing.assert_array_equal(read_image(refs[-1])[0].pixels, GREY + np.uint8(2))
    chosen = list_images(tmp_path / "in", selection=Selection(include=("b.zarr/*",), exclude=("1",)))
    assert [ref.name for ref in chosen] == ["b.zarr/0", "b.zarr/2"]


@pytest.mark.parametrize("version", [2, 3])
def test_an_image_that_its_collection_lacks_is_a_row(tmp_path, version):
    gap = collection(tmp_path / "gap.zarr", ["0", "2"], version)
    assert [(ref.name, bool(ref.problem)) for ref in list_images(gap)] == [("0", False), ("1", True), ("2", False)]
    for series in (["../gap.zarr/0"], [1], "0", []):
        path = collection(tmp_path / "x.zarr", ["0"] if series else [], version, series)
        (ref,) = list_images(path)
        assert ref.name == "x.zarr"
        with pytest.raises(ImageError, match="a collection of images"):
            read_image(ref)


def test_a_damaged_chunk_is_refused(tmp_path):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx", compressors=[zarr.codecs.ZstdCodec(checksum=True)])
    chunk = path / "0" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ImageError, match="damaged OME-Zarr"):
        read_zarr(str(path))


PACKED = [
    (2, numcodecs.Blosc(cname="lz4")), (2, numcodecs.Blosc(cname="zstd", clevel=0)), (2, numcodecs.Zstd()),
    (2, numcodecs.Zlib()), (2, numcodecs.GZip()), (2, numcodecs.LZ4()), (2, numcodecs.BZ2()), (2, numcodecs.LZMA()),
    (2, None), (3, None), (3, zarr.codecs.BloscCodec(cname="lz4")), (3, zarr.codecs.BloscCodec(cname="zlib")),
    (3, zarr.codecs.ZstdCodec()), (3, zarr.codecs.GzipCodec()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "packing"), PACKED, ids=lambda each: each if isinstance(each, int) else type(each).__name__
)
@pytest.mark.parametrize("noisy", [False, True])
def test_a_chunk_that_is_cut_anywhere_is_refused(tmp_path, version, packing, noisy):
    array = np.random.default_rng(0).integers(0, 256, GREY.shape, np.uint8) if noisy else GREY // 64
    path = ome_zarr(tmp_path / "x.zarr", array, "yx", version=version, compressors=packing)
    np.testing.assert_array_equal(read_zarr(str(path)).pixels, array)
    chunk = path / "0" / ("0.0" if version == 2 else "c/0/0")
    data = chunk.read_bytes()
    for kept in {0, 1, 8, 15, 16, 17, len(data) // 2, len(data) - 9, len(data) - 5, len(data) - 1} & set(
        range(len(data))
    ):
        chunk.write_bytes(data[:kept])
        try:
            picture = read_zarr(str(path))
        except ImageError:
            continue
        np.testing.assert_array_equal(picture.pixels, array)  # only a checksum was missing


def test_a_chunk_of_blosc_that_promises_too_much_is_not_unpacked(tmp_path):
    path = ome_zarr(tmp_path / "x.zarr", GREY, "yx", version=2, compressors=numcodecs.Blosc())
    chunk = path / "0" / "0.0"
    data = bytearray(chunk.read_bytes())
    data[4:8] = (2**31 - 1).to_bytes(4, "little")
    chunk.write_bytes(data)
    with pytest.raises(ImageError, match="a chunk cannot be unpacked"):
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
