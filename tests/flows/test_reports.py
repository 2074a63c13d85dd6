"""What a run says: the same reasons in every run, nothing of libraries on the terminal, whole lines in files."""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import samples
from commands import finish, make_archive, start, stored, wait_for, workers

from flows.cli import run_command
from segmentation.io.notes import gathered

REGIONFLOW = str(Path(sys.executable).with_name("regionflow"))
PLAIN = ["--method", "ward", "--regions", "3", "--scale", "1", "--sigma", "0"]
#: What only a library, the system or Python says.
FOREIGN = re.compile(
    r"0x[0-9a-f]{6,}|<_io|object at|Errno|Traceback|/tmp/|"
    r"\b(PIL|Pillow|tifffile|imagecodecs|libpng|numpy|zarr(?!\.json)|numcodecs|pyarrow|fsspec|botocore|numba|dask)\b"
)
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def segment(source, root, *more, **environment):
    """Run the command with its own workers, into pipes; the plan and the summary are printed."""
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}
    return subprocess.run(
        [REGIONFLOW, "run", str(source), str(root), *PLAIN, "--workers", "1", *more],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(root):
    names = ("source", "label", "state", "step", "reason")
    found = pq.read_table(root / "tables" / "index.parquet", columns=list(names)).to_pylist()
    return sorted(tuple(row[name] for name in names) for row in found)


def broken_folder(folder):
    """Write every kind of picture cut and altered, and what is no picture; return the folder."""
    folder.mkdir()
    for number, sample in enumerate(samples.samples()):
        (folder / f"{number:03d}-cut.png").write_bytes(sample.data[: len(sample.data) * 2 // 3])
        altered = bytearray(sample.data)
        for place in np.random.default_rng(number).integers(4, len(altered), 6):
            altered[place] ^= 0xFF
        (folder / f"{number:03d}-altered.tif").write_bytes(altered)
    (folder / "empty.png").write_bytes(b"")
    (folder / "link.png").symlink_to(folder / "empty.png")
    os.mkfifo(folder / "pipe.png")
    zarr = samples.ome_zarr(folder / "json.ome.zarr", samples.GREY, "yx")
    (zarr / "zarr.json").write_text('{"attributes": ')
    zarr = samples.ome_zarr(folder / "chunk.ome.zarr", samples.GREY, "yx")
    next(path for path in sorted((zarr / "0" / "c").rglob("*")) if path.is_file()).write_bytes(b"junk")
    return folder


def test_two_runs_over_broken_files_of_every_kind_give_the_same_reasons(tmp_path):
    folder = broken_folder(tmp_path / "in")
    found = []
    for name in ("first", "second"):
        done = segment(folder, tmp_path / name)
        assert done.returncode == 1, done.stderr
        assert re.fullmatch(r"[\d,]+ images: .*\n", done.stderr)
        found.append(rows(tmp_path / name))
        assert run_command(["verify", str(tmp_path / name)]) == 0
    assert found[0] == found[1]
    refused = [row for row in found[0] if row[2] != "segmented"]
    assert len(refused) > 150
    assert [row for row in refused if not row[4] or FOREIGN.search(row[4])] == []


def packed(folder):
    """Write archives with damage, and a list of what is not there, or cannot be read."""
    folder.mkdir()
    pixels = samples.by_pillow(samples.GREY, "PNG")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.png", "b.png"):
            archive.writestr(name, pixels + bytes(500))
    whole = buffer.getvalue()
    at = whole.index(b"b.png") + 5
    (folder / "member.zip").write_bytes(whole[:at] + bytes(b ^ 0x55 for b in whole[at : at + 9]) + whole[at + 9 :])
    (folder / "cut.zip").write_bytes(whole[:-30])
    for packing in ("gz", "bz2", "xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=f"w:{packing}") as archive:
            for name in ("a.png", "b.png"):
                entry = tarfile.TarInfo(name)
                entry.size = len(pixels)
                archive.addfile(entry, io.BytesIO(pixels))
        (folder / f"cut.tar.{packing}").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (folder / "tail.tar").write_bytes(b"\1" * 700)
    # The kernel lets nobody read the memory of a process from its first byte on.
    (folder / "list.csv").write_text("path\nabsent.png\n/proc/self/mem\n.\n")
    return folder


def test_archives_and_lists_give_the_same_reasons_twice(tmp_path, prefect_api, dask_scheduler):
    failed = []
    for place in sorted(packed(tmp_path / "in").iterdir()):
        found = []
        for number in range(2):
            root = tmp_path / f"{place.name}-{number}"
            arguments = ["run", str(place), str(root), *PLAIN, "--scheduler", dask_scheduler, "--quiet"]
            assert run_command(arguments) == 1, place
            found.append(rows(root))
        assert found[0] == found[1]
        reasons = [row[4] for row in found[0] if row[2] != "segmented"]
        assert reasons
        ours = [reason.replace(str(tmp_path), "") for reason in reasons]  # what was looked for is said in full
        assert [reason for reason in ours if not reason or FOREIGN.search(reason)] == []
        failed += [row[4] for row in found[0] if row[2] == "failed"]
    assert len(failed) == 1  # the memory


@pytest.fixture(scope="module")
def talkative(tmp_path_factory):
    """Files that libraries have something to say of, and two that are refused: one with a long name."""
    folder = tmp_path_factory.mktemp("talkative") / "in"
    folder.mkdir()
    wrong = samples.png_chunk(b"PLTE", b"ab")
    (folder / "palette.png").write_bytes(samples.png(samples.DEEP_RGB, 16, 2, wrong))
    none = [(42113, 2, 6, "-9999", True)]  # what no pixel of eight bits can be
    (folder / "nodata.tif").write_bytes(samples.by_tifffile(samples.GREY, extratags=none))
    (folder / "broken.png").write_bytes(b"no image")
    (folder / f"{'a name that is longer than a line of a terminal ' * 3}.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def talked(talkative):
    root = talkative.parent / "out"
    return root, segment(talkative, root, FORCE_COLOR="1")


def test_what_libraries_say_is_in_the_log_with_the_files_name_and_not_on_the_terminal(talked):
    root, done = talked
    assert done.returncode == 1
    assert done.stderr == "4 images: 4 new\n"
    assert "PNG" not in done.stdout.replace("can be read; PNG", "")
    (log,) = root.glob("runs/*/log.txt")
    lines = log.read_text("utf-8").splitlines()
    assert any("palette.png: PNG warning: PLTE: invalid" in line for line in lines)
    assert any("nodata.tif: tifffile says: " in line for line in lines)
    assert run_command(["verify", str(root)]) == 0


def test_in_a_file_a_row_is_one_whole_line_without_control_characters(talked, talkative):
    root, done = talked
    status = subprocess.run([REGIONFLOW, "status", str(root)], capture_output=True, text=True, check=True)
    (contour, *_) = sorted(root.glob("contours/*/*"))
    content = contour.read_bytes()
    contour.unlink()
    verified = subprocess.run([REGIONFLOW, "verify", str(root)], capture_output=True, text=True, check=False)
    contour.write_bytes(content)
    for text in (done.stdout, done.stderr, status.stdout, verified.stdout):
        assert not CONTROL.search(text)
    reason = "not an image that can be read; PNG, JPEG, TIFF, GIF, BMP, WebP, JPEG 2000 and PNM are"
    for text in (done.stdout, status.stdout):
        for name in ("broken.png", next(path.name for path in talkative.glob("a name*"))):
            assert re.search(rf"^ *{re.escape(name)} +rejected  {re.escape(reason)}$", text, re.MULTILINE)
    assert re.search(rf"^{re.escape(contour.relative_to(root).as_posix())} +is missing$", verified.stdout, re.MULTILINE)


def in_terminal(*command):
    """Run a command in a terminal of 80 columns; return what it shows."""
    process, terminal = pty.fork()
    if not process:
        os.environ.pop("COLUMNS", None)
        os.execve(command[0], command, {**os.environ, "TERM": "xterm", "NO_COLOR": "1"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown = b""
    try:
        while piece := os.read(terminal, 2**16):
            shown += piece
    except OSError:  # so ends the reading of a terminal whose programs have ended
        pass
    os.close(terminal)
    os.waitpid(process, 0)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).splitlines()


def test_in_a_terminal_of_80_columns_rows_go_on_below_and_nothing_is_cut(talked, talkative):
    root, _ = talked
    lines = in_terminal(REGIONFLOW, "status", str(root))
    begin = next(number for number, line in enumerate(lines) if line.startswith("Refused"))
    table = lines[begin + 2 : lines.index("Last runs") - 1]
    assert max(len(line) for line in table) <= 80
    (long,) = (path.name for path in talkative.glob("a name*"))
    start = lines[begin + 1].index("reason")
    names = " ".join("".join(line[: lines[begin + 1].index("state")] for line in table).split())
    assert "".join(long.split()) in names.replace(" ", "")
    reasons = " ".join(line[start:].strip() for line in table)
    assert reasons.count("not an image that can be read; PNG, JPEG, TIFF, GIF, BMP, WebP, JPEG 2000 and PNM are") == 2


def test_the_last_words_of_a_worker_that_dies_are_in_the_log(tmp_path):
    code = """if True:
        import ctypes, logging, os
        from segmentation.io.notes import log_worker, noted_of
        log_worker()
        with noted_of("a.png"):
            os.write(2, b"warning of a library\\n\\x1b[31m")
            logging.getLogger("codec").warning("logged by a library")
        os.write(2, b"free(): invalid pointer\\n")
        ctypes.string_at(0)
    """
    environment = {**os.environ, "REGIONFLOW_LOG_FOLDER": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode < 0
    assert done.stdout + done.stderr == ""
    said = gathered(tmp_path).decode()
    for part in (
        "a.png: a library wrote: warning of a library\n",
        r"a library wrote: \x1b[31m",
        "codec: a.png: logged by a library\n",
        ": free(): invalid pointer\n",
        ": Fatal Python error: Segmentation fault\n",
    ):
        assert part in said


def test_what_libraries_log_and_warn_of_in_the_command_does_not_reach_the_terminal():
    code = """if True:
        import logging, warnings
        from flows.settings import configure_prefect
        configure_prefect()
        from prefect import get_client
        from flows.embedded_server import _keep_others_off_terminal
        _keep_others_off_terminal()
        logging.getLogger("urllib3").warning("Connection pool is full")
        warnings.warn("a codec is deprecated")
        logging.getLogger("prefect").critical("the server is gone")
    """
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert re.fullmatch(r".*prefect - the server is gone\n", done.stderr)


def test_workers_write_to_no_terminal_and_the_log_says_how_one_died(tmp_path, prefect_api):
    process = start(make_archive(tmp_path / "in", count=12), tmp_path / "out", "--workers", "2")
    wait_for(lambda: stored(tmp_path / "out") >= 2, process)
    first, _ = workers(process.pid)
    for name in ("1", "2"):
        assert Path(f"/proc/{first.pid}/fd/{name}").readlink().name == f"{first.pid}.words"
    first.send_signal(signal.SIGSEGV)
    code, error = finish(process)
    assert code == 1
    assert error == "13 images: 13 new\n"
    (log,) = (tmp_path / "out").glob("runs/*/log.txt")
    assert f"last words of process {first.pid}: Fatal Python error: Segmentation fault\n" in log.read_text("utf-8")
