"""Fixtures that several tests share: small images on disk, and Prefect's API started once."""

import os
import re
import tempfile

import numpy as np
import pytest

from flows.settings import configure_prefect

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["REGIONFLOW_HOME"] = tempfile.mkdtemp(prefix="regionflow-tests-")  # not that of a server that is up here
configure_prefect()  # before anything imports Prefect, as the command does


def discs(height=48, width=64, seed=0):
    """Two bright discs on a dark ground, with a little noise: uint8, shape (height, width)."""
    rows, cols = np.mgrid[:height, :width]
    values = np.full((height, width), 40.0)
    for row, col, level in ((0.35, 0.3, 200.0), (0.65, 0.7, 130.0)):
        values[np.hypot(rows - row * height, cols - col * width) < 0.2 * min(height, width)] = level
    values += np.random.default_rng(seed).normal(0, 3, values.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _write_archive(folder):
    """Make a folder of six images: grey and colour, PNG, JPEG and TIFF, one in a sub-folder, one that is none."""
    import tifffile
    from PIL import Image

    (folder / "sub").mkdir(parents=True)
    Image.fromarray(discs(seed=1)).save(folder / "grey.png")
    Image.fromarray(discs(seed=2)).save(folder / "photo.jpg", quality=90)
    Image.fromarray(np.dstack([discs(seed=3), discs(seed=3)[::-1], 255 - discs(seed=3)])).save(folder / "colour.png")
    tifffile.imwrite(folder / "deep.tif", discs(seed=4).astype(np.uint16) * 200)
    Image.fromarray(discs(40, 40, seed=5)).save(folder / "sub" / "inner.png")
    (folder / "broken.png").write_bytes(b"not an image at all")
    return folder


@pytest.fixture
def archive(tmp_path):
    """Six images in a folder of their own."""
    return _write_archive(tmp_path / "archive")


@pytest.fixture(scope="session")
def archive_of():
    """Write the six images into a folder, for stores that several tests share."""
    return _write_archive


@pytest.fixture(scope="session")
def dask_scheduler():
    """Address of a Dask scheduler with one worker process, for all tests that do not start workers of their own."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="session")
def prefect_api():
    """Prefect's API, started once for all tests that run flows."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture(scope="session")
def s3_endpoint():
    """An S3 server with an empty bucket on loopback; the AWS variables name it from here on."""
    from tests.s3 import s3_server

    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint, request):
    """The URL of a prefix of the bucket that no other test uses."""
    from tests.s3 import BUCKET

    return f"s3://{BUCKET}/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
