import csv
import io
import os
import subprocess
import sys
import uuid
import zipfile

import fsspec
import numpy as np
import pytest
from samples import GREY, RGB, by_pillow, ome_zarr, pages

from segmentation.errors import ImageError, ParameterError
from segmentation.io.reading import decode_image, image_header, read_image, read_mask
from segmentation.io.sources import Selection, list_images

PNG = by_pillow(GREY, "PNG")
COLOUR = by_pillow(RGB, "PNG")


@pytest.fixture(scope="module")
def s3_server():
    """An S3 server of our own on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
             "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield server
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
        server.stop()


@pytest.fixture(params=["memory", "s3"])
def place(request):
    """A folder behind a URL, with files put in."""
    if request.param == "s3":
        request.getfixturevalue("s3_server")
    name = f"bucket-{uuid.uuid4().hex}"
    root = f"{request.param}://{name}"
    files = fsspec.filesystem(request.param)
    files.mkdir(name)
    for path, data in {
        "b.png": PNG,
        "a/c.png": COLOUR,
        "a/notes.txt": b"x",
        "z/._b.png": PNG,
        "empty.png": b"",
    }.items():
        files.pipe_file(f"{name}/{path}", data)
    return root, files, name


def pixels_of(ref):
    return decode_image(ref, read_image(ref)[0]).pixels


def test_a_folder_behind_a_url_is_listed_and_read_like_one_here(place):
    root, _, _ = place
    refs = {ref.name: ref for ref in list_images(root)}
    assert list(refs) == ["a/c.png", "b.png", "empty.png"]
    np.testing.assert_array_equal(pixels_of(refs["a/c.png"]), RGB)
    assert refs["b.png"].size == len(PNG)
    assert refs["b.png"].mtime_ns > 10**18
    assert image_header(refs["a/c.png"]).channels == 3
    with pytest.raises(ImageError, match="the file is empty"):
        pixels_of(refs["empty.png"])
    with pytest.raises(ImageError, match="no image of the pixels allowed has more than 32"):
        read_image(refs["b.png"], max_pixels=1)
    chosen = list_images(root, selection=Selection(include=("a/*",)))
    assert [ref.name for ref in chosen] == ["a/c.png"]
    (one,) = list_images(f"{root}/b.png")
    np.testing.assert_array_equal(pixels_of(one), GREY)


def test_archives_lists_and_frames_behind_a_url_are_sources_too(place):
    root, files, name = place
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m.png", COLOUR)
        archive.writestr("n.tif", pages(2)[0])
    files.pipe_file(f"{name}/x.zip", buffer.getvalue())
    refs = {ref.name: ref for ref in list_images(f"{root}/x.zip", selection=Selection(frames="each"))}
    assert list(refs) == ["m.png", "n.tif#1", "n.tif#2"]
    np.testing.assert_array_equal(pixels_of(refs["m.png"]), RGB)
    np.testing.assert_array_equal(pixels_of(refs["n.tif#2"]), pages(2)[1][1])
    text = io.StringIO()
    csv.writer(text).writerows([["path", "mask"], ["a/c.png", "b.png"], [f"{root}/b.png", ""], ["gone.png", ""]])
    files.pipe_file(f"{name}/list.csv", text.getvalue().encode())
    found = list(list_images(f"{root}/list.csv"))
    assert [bool(ref.problem) for ref in found] == [False, False, True]
    assert read_mask(found[0])[0] == PNG


def test_ome_zarr_behind_a_url_is_read(place, tmp_path):
    root, files, name = place
    files.put(str(ome_zarr(tmp_path / "x.ome.zarr", RGB, "yxc")), f"{name}/d/x.ome.zarr", recursive=True)
    refs = {ref.name: ref for ref in list_images(root)}
    assert list(refs) == ["a/c.png", "b.png", "d/x.ome.zarr", "empty.png"]
    np.testing.assert_array_equal(read_image(refs["d/x.ome.zarr"])[0].pixels, RGB)
    (one,) = list_images(f"{root}/d/x.ome.zarr")
    np.testing.assert_array_equal(read_image(one)[0].pixels, RGB)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/x", "s3:// and memory://"),
        ("s3://a::zip://b", "s3:// and memory://"),
        ("memory://nowhere-at-all/x", "does not exist"),
    ],
)
def test_urls_that_are_not_read_are_named(url, message):
    with pytest.raises(ParameterError, match=message):
        list(list_images(url))


def test_a_store_that_cannot_be_reached_is_trouble_with_files_not_a_crash():
    program = (
        "from segmentation.errors import StoreError\n"
        "from segmentation.io.sources import list_images\n"
        "try: list(list_images('s3://bucket/x'))\n"
        "except StoreError as error: print(error)"
    )
    names = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **names}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("s3://bucket/x: cannot be reached (")
