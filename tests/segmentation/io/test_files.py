import errno
import subprocess
import sys

import pytest

from segmentation.io.files import put_folder, sync_all, sync_folder, write_atomically


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, b"one")
    # A file-size limit in a process of its own is a disk that fills in the middle of a write.
    code = (
        "import resource, signal, sys; from pathlib import Path; from segmentation.io.files import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomically(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except OSError as error: sys.exit(error.errno)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code, str(path)])
    assert finished.returncode == errno.EFBIG
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["a"]


def test_files_have_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_takes_the_place_of_another_whole(tmp_path):
    for name in ("staged", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"")
    put_folder(tmp_path / "staged", tmp_path / "target")
    assert names(tmp_path / "target") == ["staged"]
    assert names(tmp_path / "staged") == ["target"]


def test_a_folder_is_put_below_folders_that_do_not_exist_yet(tmp_path):
    (tmp_path / "staged").mkdir()
    put_folder(tmp_path / "staged", tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_syncing_needs_the_folder(tmp_path):
    sync_all(tmp_path)
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        sync_all(tmp_path / "absent")
