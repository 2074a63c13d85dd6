"""OME-Zarr images as input: one grey or RGB picture at its highest resolution; 0.4 (Zarr 2) and 0.5 (Zarr 3)."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.io.images import check_size
from segmentation.io.places import file_system, is_url, open_place
from segmentation.planning import MAX_PIXELS, Header

_MAX_METADATA = 2**24
#: Each costs a read; a picture of 64 megapixels in chunks of 256 × 256 has a thousand.
MAX_CHUNKS = 65_536
#: A chunk may be larger than its picture, as the last ones are, but is unpacked whole.
_LARGEST_CHUNK = 2**24
#: What unpacks pixels, and nothing that runs code or reads other files.
_CODECS = frozenset(
    {"bytes", "blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma", "crc32c", "crc32", "transpose", "shuffle"}
    | {"sharding_indexed", "delta", "numcodecs.zstd", "numcodecs.blosc", "numcodecs.zlib", "numcodecs.shuffle"}
)


def zarr_header(place: str, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Read size, channels and depth of an OME-Zarr image from its metadata; raise as `read_zarr`."""
    return _Picture(place, max_pixels).header


def read_zarr(place: str, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an OME-Zarr image at its highest resolution.

    Returns
    -------
    image : ndarray, shape (M, N) or (M, N, 3)
        Axes of one plane (time, depth, a single channel) are dropped, three channels come last.

    Raises
    ------
    ImageError
        Not one such picture, a chunk is missing (Zarr would fill it; whether it was empty or is lost, nobody knows)
        or cannot be unpacked; `LimitError` if it has more than `max_pixels` pixels.
    """
    picture = _Picture(place, max_pixels)
    picture.check_chunks()
    try:
        pixels = np.asarray(picture.array[...])
    except Exception as error:  # zarr and its codecs promise no exception types
        raise ImageError(f"damaged OME-Zarr: {' '.join(str(error).split())[:200]}") from error
    kept = pixels[tuple(slice(None) if axis in picture.kept else 0 for axis in range(pixels.ndim))]
    return np.ascontiguousarray(np.moveaxis(kept, picture.kept.index(picture.channel), -1) if kept.ndim == 3 else kept)


class _Picture:
    """The array that holds the highest resolution of an image, checked before any chunk is read."""

    def __init__(self, place: str, max_pixels: int) -> None:
        self.place = place
        scales = _multiscales(place)
        self.level = _level(scales)
        _check_codecs(place, self.level)
        try:
            self.array = _open(place, self.level)
        except Exception as error:  # zarr promises no exception types
            raise ImageError(f"damaged OME-Zarr: {' '.join(str(error).split())[:200]}") from error
        self.kept, self.channel = _axes(scales, self.array.shape)
        self.header = self._header()
        check_size(self.header, max_pixels)
        self._check_chunk_size()

    def _header(self) -> Header:
        dtype = self.array.dtype
        if dtype.kind not in "buif":
            raise ImageError(f"OME-Zarr of {dtype} samples; integers and real numbers are read")
        sides = [self.array.shape[axis] for axis in self.kept if axis != self.channel]
        return Header(sides[0], sides[1], 1 if len(self.kept) == 2 else 3, dtype.itemsize)

    def _check_chunk_size(self) -> None:
        chunk = math.prod(self.chunk_shape)
        if chunk > max(_LARGEST_CHUNK, 4 * math.prod(self.array.shape)):
            raise ImageError(f"OME-Zarr with chunks of {chunk:,} values for {math.prod(self.array.shape):,}")

    @property
    def chunk_shape(self) -> Sequence[int]:
        """Shape of what is stored under one key: of a shard, if there are any."""
        return tuple(self.array.shards or self.array.chunks)

    def check_chunks(self) -> None:
        """Refuse missing chunks."""
        grid = [-(-side // step) for side, step in zip(self.array.shape, self.chunk_shape, strict=True)]
        count = math.prod(grid)
        if count > MAX_CHUNKS:
            raise ImageError(f"OME-Zarr in {count:,} chunks; {MAX_CHUNKS:,} are allowed")
        there = _keys(self.place, self.level)
        keys = {self.array.metadata.encode_chunk_key(at) for at in np.ndindex(*grid)}
        missing = len(keys - there)
        if missing:
            raise ImageError(f"OME-Zarr without {missing:,} of its {count:,} chunks; empty or lost, nobody can tell")


def _multiscales(place: str) -> Mapping[str, Any]:
    """Return what the image says of its resolutions."""
    attributes = _json(place, "zarr.json").get("attributes", {}).get("ome") or _json(place, ".zattrs")
    for name, what in (("plate", "a plate"), ("well", "a well"), ("bioformats2raw.layout", "a collection of images")):
        if name in attributes:
            raise ImageError(f"OME-Zarr that holds {what}, not an image; name its images one by one")
    scales = attributes.get("multiscales")
    if not isinstance(scales, list) or not scales or not isinstance(scales[0], dict):
        raise ImageError("Zarr without an image: it says nothing of multiscales")
    return scales[0]


def _json(place: str, name: str) -> dict[str, Any]:
    try:
        with open_place(f"{place.rstrip('/')}/{name}") as file:
            data = file.read(_MAX_METADATA + 1)
    except FileNotFoundError:
        return {}
    if len(data) > _MAX_METADATA:
        raise ImageError(f"damaged OME-Zarr: {name} has more than {_MAX_METADATA:,} bytes")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"damaged OME-Zarr: {name} is no JSON ({error})") from error
    if not isinstance(values, dict) or not isinstance(values.get("attributes", {}), dict):
        raise ImageError(f"damaged OME-Zarr: {name} holds no attributes")
    return values


def _level(scales: Mapping[str, Any]) -> str:
    try:
        level = scales["datasets"][0]["path"]
    except (KeyError, IndexError, TypeError) as error:
        raise ImageError("damaged OME-Zarr: it names no dataset") from error
    parts = level.split("/") if isinstance(level, str) else []
    if not parts or {"", ".", ".."} & set(parts):
        raise ImageError(f"damaged OME-Zarr: dataset {level!a} where a name below the image is expected")
    return str(level)


def _axes(scales: Mapping[str, Any], shape: Sequence[int]) -> tuple[list[int], int]:
    """Return the axes that stay, and which of them is the channel (-1: none)."""
    found = scales.get("axes")
    names = [str(axis.get("name") if isinstance(axis, dict) else axis) for axis in found] if found else []
    if len(names) != len(shape) or "y" not in names or "x" not in names:
        raise ImageError(
            f"OME-Zarr with axes {names} for shape {tuple(shape)}; y, x and at most a channel are expected"
        )
    kept = [axis for axis, name in enumerate(names) if name in "yx" or shape[axis] > 1]
    channel = names.index("c") if "c" in names else -1
    others = [axis for axis in kept if names[axis] not in "yx"]
    if names.index("y") > names.index("x") or (others and (others != [channel] or shape[channel] != 3)):
        raise ImageError(f"OME-Zarr with axes {''.join(names)} {tuple(shape)}; one grey or RGB picture is expected")
    return kept, channel if others else -1


def _open(place: str, level: str) -> Any:
    import zarr
    from zarr.storage import FsspecStore, LocalStore

    store = FsspecStore.from_url(place, read_only=True) if is_url(place) else LocalStore(Path(place), read_only=True)
    return zarr.open_array(store, path=level, mode="r")


def _keys(place: str, level: str) -> set[str]:
    """Return the keys below a level that hold anything."""
    if is_url(place):
        files, path = file_system(place)
        root = f"{path.rstrip('/')}/{level}/"
        return {name.removeprefix(root) for name, info in files.find(root, detail=True).items() if info["size"]}
    folder = Path(place) / level
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.stat().st_size}


def _check_codecs(place: str, level: str) -> None:
    """Refuse codecs that are not listed before any is made."""
    folder = f"{place.rstrip('/')}/{level}"
    try:
        names = set(_codec_names(_json(folder, "zarr.json") or _json(folder, ".zarray")))
    except (TypeError, KeyError, AttributeError) as error:
        raise ImageError("damaged OME-Zarr: it does not say how it is packed") from error
    unknown = sorted(names - _CODECS)
    if unknown:
        raise ImageError(f"OME-Zarr packed by {', '.join(unknown)}; {', '.join(sorted(_CODECS))} are read")


def _codec_names(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all codecs of an array, also of those within shards."""
    for codec in metadata.get("codecs") or ():
        yield from _names_within(codec)
    for codec in [metadata.get("compressor"), *(metadata.get("filters") or ())]:
        if codec is not None:
            yield str(codec["id"])


def _names_within(codec: Mapping[str, Any]) -> Iterator[str]:
    yield str(codec["name"])
    configuration = codec.get("configuration") or {}
    for inner in (*configuration.get("codecs", ()), *configuration.get("index_codecs", ())):
        yield from _names_within(inner)
