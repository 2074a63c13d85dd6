"""OME-Zarr images as input: one grey or RGB picture at its highest resolution; 0.4 (Zarr 2) and 0.5 (Zarr 3)."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segmentation.arrays import Floats
from segmentation.errors import ImageError, LimitError
from segmentation.io.images import check_size
from segmentation.io.pictures import Grid, Picture
from segmentation.io.places import file_system, is_url, open_place
from segmentation.planning import MAX_PIXELS, Header, display
from segmentation.reasons import reason_of

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


#: What chunks that are not there are taken for: what the Zarr specification says, or lost.
MissingChunks = Literal["fill", "refuse"]


def zarr_header(place: str, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Read size, channels and depth of an OME-Zarr image from its metadata; raise as `read_zarr`."""
    return _Source(place, max_pixels).header


def read_zarr(place: str, *, max_pixels: int = MAX_PIXELS, missing_chunks: MissingChunks = "fill") -> Picture:
    """Read an OME-Zarr image at its highest resolution.

    Returns
    -------
    picture : Picture
        Pixels of shape (M, N) or (M, N, 3): axes of one plane (time, depth, a single channel) are dropped, three
        channels come last. Its grid is what the metadata say of scale, translation and units.

    Raises
    ------
    ImageError
        Not one such picture, chunks that cannot be unpacked, or that are missing where no value is declared for them;
        `LimitError` if it has more than `max_pixels` pixels, or misses chunks and these are to be refused.
    """
    source = _Source(place, max_pixels)
    source.check_chunks(missing_chunks)
    try:
        pixels = np.asarray(source.array[...])
    except Exception as error:  # zarr and its codecs promise no exception types
        raise ImageError("damaged OME-Zarr: a chunk cannot be unpacked") from error
    kept = pixels[tuple(slice(None) if axis in source.kept else 0 for axis in range(pixels.ndim))]
    last = np.moveaxis(kept, source.kept.index(source.channel), -1) if kept.ndim == 3 else kept
    return Picture(np.ascontiguousarray(last), grid=source.grid)


class _Source:
    """The array that holds the highest resolution of an image, checked before any chunk is read."""

    def __init__(self, place: str, max_pixels: int) -> None:
        self.place = place
        scales = _multiscales(place)
        self.level = _level(scales)
        _check_codecs(place, self.level)
        try:
            self.array = _open(place, self.level)
        except Exception as error:  # zarr promises no exception types
            raise ImageError("damaged OME-Zarr: its array cannot be opened") from error
        names, self.kept, self.channel = _axes(scales, self.array.shape)
        self.grid = _grid(scales, names)
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

    def check_chunks(self, missing_chunks: MissingChunks) -> None:
        """Refuse missing chunks where they are not what Zarr leaves out: those that hold nothing but the fill value."""
        grid = [-(-side // step) for side, step in zip(self.array.shape, self.chunk_shape, strict=True)]
        count = math.prod(grid)
        if count > MAX_CHUNKS:
            raise ImageError(f"OME-Zarr in {count:,} chunks; {MAX_CHUNKS:,} are allowed")
        sizes = _sizes(self.place, self.level)
        keys = {self.array.metadata.encode_chunk_key(at) for at in np.ndindex(*grid)}
        missing, hollow = len(keys - sizes.keys()), sum(sizes.get(key) == 0 for key in keys)
        if hollow:
            raise ImageError(f"damaged OME-Zarr: {hollow:,} of its {count:,} chunks are files without a byte")
        if missing == count:
            raise ImageError(f"OME-Zarr without any of its {count:,} chunks: nothing of the picture is there")
        if missing and not self._has_fill_value():
            raise ImageError(f"OME-Zarr without {missing:,} of its {count:,} chunks; it does not say what they hold")
        if missing and missing_chunks == "refuse":
            raise LimitError(f"OME-Zarr without {missing:,} of its {count:,} chunks; --missing-chunks refuse is given")

    def _has_fill_value(self) -> bool:
        return _array_metadata(self.place, self.level).get("fill_value") is not None


def series_of(place: str, folders: Iterable[str]) -> list[str] | None:
    """Return the paths of the images within a collection as bioformats2raw lays it out; None if it is no collection.

    Parameters
    ----------
    place : str
        A node of Zarr.
    folders : iterable of str
        Names of the folders in it: without a list of series, those that are numbers, none left out.

    Raises
    ------
    ImageError
        Metadata that cannot be read, or series that are not below the collection.

    Notes
    -----
    OME-NGFF 0.4 and 0.5, "bioformats2raw.layout" (transitional).
    """
    attributes = _attributes(place)
    if "bioformats2raw.layout" not in attributes or "plate" in attributes or "multiscales" in attributes:
        return None
    series = _attributes(f"{place.rstrip('/')}/OME").get("series")
    if series is None:
        numbers = [int(name) for name in folders if name.isascii() and name.isdigit()]
        series = [str(number) for number in range(max(numbers, default=-1) + 1)]
    if not isinstance(series, list) or not all(isinstance(path, str) and _is_below(path) for path in series):
        raise ImageError("damaged OME-Zarr: its list of series names something that is not below it")
    return list(dict.fromkeys(series))


def _is_below(path: str) -> bool:
    return not {"", ".", ".."} & set(path.split("/"))


def _attributes(place: str) -> dict[str, Any]:
    attributes = _json(place, "zarr.json").get("attributes", {}).get("ome") or _json(place, ".zattrs")
    if not isinstance(attributes, dict):
        raise ImageError("damaged OME-Zarr: its attributes are no names with values")
    return attributes


def _multiscales(place: str) -> Mapping[str, Any]:
    """Return what the image says of its resolutions."""
    attributes = _attributes(place)
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
        raise ImageError(f"damaged OME-Zarr: {name}: {reason_of(error)}") from error
    if not isinstance(values, dict) or not isinstance(values.get("attributes", {}), dict):
        raise ImageError(f"damaged OME-Zarr: {name} holds no attributes")
    return values


def _level(scales: Mapping[str, Any]) -> str:
    try:
        level = scales["datasets"][0]["path"]
    except (KeyError, IndexError, TypeError) as error:
        raise ImageError("damaged OME-Zarr: it names no dataset") from error
    if not isinstance(level, str) or not _is_below(level):
        raise ImageError(f"damaged OME-Zarr: dataset {level!a} where a name below the image is expected")
    return str(level)


def _axes(scales: Mapping[str, Any], shape: Sequence[int]) -> tuple[list[str], list[int], int]:
    """Return the names of all axes, those that stay, and which of them is the channel (-1: none)."""
    found = scales.get("axes")
    names = (
        [str(axis.get("name") if isinstance(axis, dict) else axis) for axis in found] if isinstance(found, list) else []
    )
    if len(names) != len(shape) or "y" not in names or "x" not in names:
        raise ImageError(
            f"OME-Zarr with axes {names} for shape {tuple(shape)}; y, x and at most a channel are expected"
        )
    kept = [axis for axis, name in enumerate(names) if name in "yx" or shape[axis] > 1]
    channel = names.index("c") if "c" in names else -1
    others = [axis for axis in kept if names[axis] not in "yx"]
    if others == [channel] and shape[channel] != 3:
        raise ImageError(f"OME-Zarr with {shape[channel]} channels; one grey or RGB picture is expected")
    if names.index("y") > names.index("x") or (others and others != [channel]):
        raise ImageError(f"OME-Zarr with axes {''.join(names)} {tuple(shape)}; one grey or RGB picture is expected")
    return names, kept, channel if others else -1


def _grid(scales: Mapping[str, Any], names: Sequence[str]) -> Grid:
    """Return where pixels lie: the dataset's scale and translation, then those of all resolutions, and the units."""
    step, origin = np.ones(len(names)), np.zeros(len(names))
    for holder in (scales["datasets"][0], scales):
        found = holder.get("coordinateTransformations") or []
        if not isinstance(found, list):
            raise ImageError("damaged OME-Zarr: its coordinateTransformations are no list")
        for transformation in found:
            kind = transformation.get("type") if isinstance(transformation, dict) else None
            if kind == "scale":
                factors = _vector(transformation, "scale", len(names))
                if not (factors > 0).all():
                    raise ImageError(f"damaged OME-Zarr: a scale of {factors.tolist()}; numbers above 0 are expected")
                step, origin = step * factors, origin * factors
            elif kind == "translation":
                origin = origin + _vector(transformation, "translation", len(names))
            elif kind != "identity":
                raise ImageError(f"OME-Zarr placed by {display(str(kind))[:40]}; scale and translation are read")
    y, x = names.index("y"), names.index("x")
    units = [str(axis.get("unit") or "") if isinstance(axis, dict) else "" for axis in scales["axes"]]
    return Grid((float(step[y]), float(step[x])), (float(origin[y]), float(origin[x])), (units[y], units[x]))


def _vector(transformation: Mapping[str, Any], name: str, count: int) -> Floats:
    """Return the numbers of a transformation, one for each axis."""
    values = transformation.get(name)
    is_numbers = isinstance(values, list) and all(isinstance(v, int | float) and abs(v) < 1e100 for v in values)
    if not is_numbers or len(values or ()) != count:
        raise ImageError(f"damaged OME-Zarr: a {name} without {count} numbers, one for each axis")
    return np.array(values, dtype=np.float64)


def _open(place: str, level: str) -> Any:
    import zarr
    from zarr.storage import FsspecStore, LocalStore

    from segmentation.io.zarr_store import WholeChunks

    store = FsspecStore.from_url(place, read_only=True) if is_url(place) else LocalStore(Path(place), read_only=True)
    array = zarr.open_array(store, path=level, mode="r")
    if not _is_packed_by_blosc(place, level):
        return array
    largest = math.prod(array.shards or array.chunks) * array.dtype.itemsize
    return zarr.open_array(WholeChunks(store, largest), path=level, mode="r")


def _is_packed_by_blosc(place: str, level: str) -> bool:
    """Tell if what lies under a key is what Blosc has packed, and nothing around it that has a checksum."""
    metadata = _array_metadata(place, level)
    codec = (metadata.get("codecs") or [{}])[-1].get("name") or (metadata.get("compressor") or {}).get("id")
    return codec in ("blosc", "numcodecs.blosc")


def _sizes(place: str, level: str) -> dict[str, int]:
    """Return the size of what lies under each key below a level."""
    if is_url(place):
        files, path = file_system(place)
        root = f"{path.rstrip('/')}/{level}/"
        return {name.removeprefix(root): info["size"] for name, info in files.find(root, detail=True).items()}
    folder = Path(place) / level
    files_below = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files_below}


def _check_codecs(place: str, level: str) -> None:
    """Refuse codecs that are not listed before any is made."""
    try:
        names = set(_codec_names(_array_metadata(place, level)))
    except (TypeError, KeyError, AttributeError) as error:
        raise ImageError("damaged OME-Zarr: it does not say how it is packed") from error
    unknown = sorted(names - _CODECS)
    if unknown:
        raise ImageError(f"OME-Zarr packed by {', '.join(unknown)}; {', '.join(sorted(_CODECS))} are read")


def _array_metadata(place: str, level: str) -> dict[str, Any]:
    folder = f"{place.rstrip('/')}/{level}"
    return _json(folder, "zarr.json") or _json(folder, ".zarray")


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
