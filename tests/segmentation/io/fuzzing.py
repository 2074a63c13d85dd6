"""Mutated files of every accepted format, read in a process of their own: what it dies of is seen and attributed.

``make fuzz`` runs the long series; ``test_fuzz.py`` a short one. Every input is made from its number alone.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import pickle
import random
import resource
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from select import select

import numpy as np
import samples

#: Processor time for one input, its memory, and how long a process may say nothing.
CPU_S = 2.0
#: Of a picture: one of 64 megapixels, sound, takes seconds.
MAX_PIXELS = 4_000_000
MEMORY_BYTES = 3 * 2**30
SILENCE_S = 60.0
_INTERESTING = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 2**20, 2**31 - 1, 2**31, 2**32 - 1)


@dataclass(frozen=True)
class Seed:
    """A valid input: one file, or the files of an OME-Zarr image."""

    kind: str  # image, archive, zarr
    name: str
    files: dict
    has_checksums: bool = False


@dataclass(frozen=True)
class Input:
    """A mutated input, and what must hold if it is accepted."""

    number: int
    seed: Seed
    files: dict
    what: str
    #: Accepted, it must be the picture that it was: all checksums hold, or only its end is missing.
    must_be_equal: bool


def seeds():
    """Make all valid inputs."""
    made = [Seed("image", s.name, {"x": s.data}, has_checksums=s.has_checksums) for s in samples.samples()]
    made.append(Seed("image", "GIF animation", {"x": samples.animation("GIF")[0]}))
    made.append(Seed("image", "PNG animation", {"x": samples.animation("PNG")[0]}))
    made.append(Seed("image", "WebP animation", {"x": samples.animation("WEBP", lossless=True)[0]}))
    made.append(Seed("image", "TIFF of pages", {"x": samples.pages(3)[0]}))
    photo = np.tile(samples.RGB, (8, 8, 1))
    made.append(Seed("image", "larger JPEG", {"x": samples.by_pillow(photo, "JPEG")}))
    made.append(Seed("image", "larger progressive JPEG", {"x": samples.by_pillow(photo, "JPEG", progressive=True)}))
    png = samples.by_pillow(samples.GREY, "PNG")
    made += [Seed("archive", name, {name: data}) for name, data in _archives({"a.png": png, "b/c.png": png})]
    for version in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            path = samples.ome_zarr(Path(folder) / "x.zarr", samples.RGB, "yxc", version=version)
            files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
        made.append(Seed("zarr", f"OME-Zarr, Zarr {version}", files))
    return made


def _archives(members):
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", packing) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        yield f"x{packing}.zip", buffer.getvalue()
    for suffix in ("tar", "tar.gz", "tar.bz2", "tar.xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=f"w:{suffix[4:]}") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        yield f"x.{suffix}", buffer.getvalue()


def mutated(number, all_seeds):
    """Make the input of this number."""
    dice = random.Random(number)
    seed = all_seeds[number % len(all_seeds)]
    name = dice.choice(sorted(seed.files))
    data = seed.files[name]
    other = dice.choice([s for s in all_seeds if s.kind == seed.kind])
    other_data = other.files[sorted(other.files)[0]]
    chosen = dice.choice(_MUTATIONS if seed.kind != "image" or not data.startswith(b"\x89PNG") else _PNG_MUTATIONS)
    changed = chosen(bytearray(data), dice, other_data)
    is_cut = chosen is _cut and seed.kind != "archive"
    equal = is_cut or (seed.has_checksums and chosen in (_flip, _zero, _set_field, _repeat))
    return Input(number, seed, {**seed.files, name: bytes(changed)}, f"{chosen.__name__[1:]} of {name}", equal)


def _flip(data, dice, other):
    for _ in range(dice.choice((1, 1, 1, 2, 8, 64))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return data


def _cut(data, dice, other):
    return data[: dice.randrange(len(data))]


def _splice(data, dice, other):
    return data[: dice.randrange(len(data))] + other[dice.randrange(len(other)) :]


def _zero(data, dice, other):
    at = dice.randrange(len(data))
    count = dice.randrange(1, 64)
    data[at : at + count] = bytes(len(data[at : at + count]))
    return data


def _repeat(data, dice, other):
    at = dice.randrange(len(data))
    piece = bytes(data[at : at + dice.randrange(1, 64)])
    return data[:at] + piece * dice.choice((1, 2, 50, 2000)) + data[at:]


def _set_field(data, dice, other):
    for _ in range(dice.choice((1, 1, 2, 4))):
        kind = dice.choice(("<H", ">H", "<I", ">I", "B"))
        size = struct.calcsize(kind)
        if len(data) > size:
            at = dice.randrange(min(len(data) - size, dice.choice((64, 256, 2**20))))
            struct.pack_into(kind, data, at, dice.choice(_INTERESTING) & (256**size - 1))
    return data


def _edit_text(data, dice, other):
    """Change a number or a word of metadata."""
    words = [b"0", b"-1", b"99999999999", b"null", b"[]", b"{}", b'"x"', b"1e400", b"true", b"\xff"]
    at = dice.randrange(len(data))
    return data[:at] + dice.choice(words) + data[at + dice.randrange(4) :]


def _png_chunk(data, dice, other):
    """Change a chunk of a PNG, and make its checksum right again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((bytes(data[at + 4 : at + 8]), bytearray(data[at + 8 : at + 8 + length])))
        at += 12 + length
    place = dice.randrange(len(chunks))
    name, body = chunks[place]
    action = dice.randrange(4)
    if action == 0 and body:
        body = _flip(body, dice, other)
    elif action == 1 and body:
        body = _set_field(body, dice, other)
    elif action == 2:
        name = dice.choice((b"zTXt", b"iCCP", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"eXIf", b"IDAT", b"IHDR"))
        body = dice.choice((body, b"x\0\0" + zlib.compress(bytes(2**22)), b""))
    else:
        chunks.insert(dice.randrange(len(chunks)), chunks[place])
    chunks[place] = (name, body)
    whole = b"".join(
        struct.pack(">I", len(b)) + n + bytes(b) + struct.pack(">I", zlib.crc32(n + bytes(b))) for n, b in chunks
    )
    return bytes(data[:8]) + whole


_MUTATIONS = (_flip, _cut, _splice, _zero, _repeat, _set_field, _set_field, _edit_text)
_PNG_MUTATIONS = (*_MUTATIONS, _png_chunk, _png_chunk, _png_chunk)


# --- the process that reads ---------------------------------------------------------------------------------------


def read_all(kind, files):
    """Read an input as a run would; return "refused", or a digest of its pixels."""
    from segmentation.errors import ImageError, ParameterError
    from segmentation.io.images import count_frames, decode, header_of

    try:
        if kind == "image":
            data = files["x"]
            header_of(io.BytesIO(data), frame=1, max_pixels=MAX_PIXELS)
            frames = count_frames(data)
            image = decode(data, frame=frames if frames > 1 else 0, max_pixels=MAX_PIXELS)
            assert image.size > 0
            assert image.ndim == 2 or image.shape[2] == 3, image.shape
            return f"{image.shape} {image.dtype} {zlib.crc32(np.ascontiguousarray(image))}"
        return _read_source(files)
    except (ImageError, ParameterError):
        return "refused"


def _read_source(files):
    from segmentation.errors import ImageError
    from segmentation.io.reading import decode_image, image_header, read_image
    from segmentation.io.sources import list_images

    read = []
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(data)
        for ref in list_images(Path(folder) / next(iter(files)).split("/")[0]):
            if ref.problem:
                continue
            try:
                image_header(ref, max_pixels=MAX_PIXELS)
                picture = decode_image(ref, read_image(ref, max_pixels=MAX_PIXELS)[0], max_pixels=MAX_PIXELS)
                read.append(zlib.crc32(np.ascontiguousarray(picture.pixels)))
            except ImageError:
                read.append(None)
    return "refused" if set(read) <= {None} else str(read)


def _serve():
    """Read inputs from standard input until it ends; answer each with one line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answers = sys.stdout
    sys.stdout = sys.stderr
    while head := sys.stdin.buffer.read(8):
        kind, files = pickle.loads(sys.stdin.buffer.read(struct.unpack("<Q", head)[0]))
        started = time.process_time()
        try:
            outcome = read_all(kind, files)
        except BaseException as error:
            outcome = f"finding: {type(error).__name__}: {error}"
        seconds = time.process_time() - started
        answers.write(json.dumps([outcome, seconds]) + "\n")
        answers.flush()


class Reader:
    """A process that reads inputs one after the other, started again if one ends it."""

    def __init__(self):
        self.process = None

    def read(self, kind, files):
        """Return the outcome of an input and the seconds of processor time that it took."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},  # tests run with a safe path
            )
        packed = pickle.dumps((kind, files))
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(struct.pack("<Q", len(packed)) + packed)
            self.process.stdin.flush()
        if not select([self.process.stdout], [], [], SILENCE_S)[0]:
            self.close()
            return "finding: no answer", SILENCE_S
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.close()
            return f"finding: the process ended with code {code}", 0.0
        return json.loads(line)

    def close(self):
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
            self.process = None


class Judge:
    """Reads inputs and says what is wrong with how they were read."""

    def __init__(self):
        self.reader = Reader()
        self.seeds = seeds()
        self.whole = {}
        for seed in self.seeds:
            self.whole[seed.name], _ = self.reader.read(seed.kind, seed.files)
            assert not self.whole[seed.name].startswith(("refused", "finding")), (seed.name, self.whole[seed.name])

    def judge(self, number):
        """Return the input of this number, its outcome, and a finding or ""."""
        made = mutated(number, self.seeds)
        outcome, seconds = self.reader.read(made.seed.kind, made.files)
        finding = outcome.removeprefix("finding: ") if outcome.startswith("finding") else ""
        if seconds > CPU_S:
            finding = f"took {seconds:.1f} s of processor time"
        if made.must_be_equal and outcome not in ("refused", self.whole[made.seed.name]) and not finding:
            finding = f"other pixels than the whole file has: {outcome}"
        return made, outcome, seconds, finding


def main():
    """Read a long series of inputs and say what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    if given.serve:
        _serve()
        return 0
    judge = Judge()
    started, slowest = time.monotonic(), 0.0
    counts, findings = collections.Counter(), []
    for number in range(given.first, given.first + given.inputs):
        made, outcome, seconds, finding = judge.judge(number)
        slowest = max(slowest, seconds)
        same = outcome == judge.whole[made.seed.name]
        counts["refused" if outcome == "refused" else "same pixels" if same else "other pixels"] += 1
        if finding:
            findings.append(finding)
            print(f"{number}: {made.seed.name}, {made.what}: {finding}", flush=True)
    judge.reader.close()
    print(
        f"{given.inputs:,} inputs from {len(judge.seeds)} files in {time.monotonic() - started:.0f} s: "
        + ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        + f"; slowest {slowest:.2f} s of processor time; {len(findings)} findings"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
