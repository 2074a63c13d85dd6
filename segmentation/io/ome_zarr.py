"""The bytes of OME-Zarr groups and arrays, as zarr writes them, without a visit to zarr's own thread for each.

The files are zarr's to the last byte, which a test holds; zarr reads them back.
"""

import json
from functools import lru_cache
from typing import Any, Literal

import google_crc32c
import numpy as np
import zarr
from numcodecs import Blosc, blosc
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from segmentation.arrays import Image
from segmentation.io.storage import Storage

#: Names below a folder, and what their files hold.
Files = dict[str, bytes]
_CHUNK = 1024
# Twice this takes eight times as long and saves a sixteenth of the bytes.
_LEVEL = 2

# Threads of Blosc's own put blocks in the order in which they are done: other bytes every time.
blosc.use_threads = False


def group_metadata(attributes: dict[str, Any]) -> bytes:
    """Return the ``zarr.json`` of a group.

    Examples
    --------
    >>> json.loads(group_metadata({"ome": {}}))
    {'attributes': {'ome': {}}, 'zarr_format': 3, 'node_type': 'group'}
    """
    return json.dumps({"attributes": attributes, "zarr_format": 3, "node_type": "group"}, indent=2).encode()


def below(folder: str, files: Files) -> Files:
    """Put files into a folder.

    Examples
    --------
    >>> below("labels", {"zarr.json": b"{}"})
    {'labels/zarr.json': b'{}'}
    """
    return {f"{folder}/{name}": data for name, data in files.items()}


def open_group(storage: Storage, name: str, *, without: str = "") -> zarr.Group:
    """Read a group's files into memory, wherever the store lies; a folder in it may be left out."""
    make = default_buffer_prototype().buffer.from_bytes
    start = len(name) + 1
    names = (file for file in storage.files(name) if not (without and file[start:].startswith(f"{without}/")))
    memory = MemoryStore({file[start:]: make(storage.read(file)) for file in names})
    return zarr.open_group(memory, mode="r", zarr_format=3)


def array_files(values: Image, names: tuple[str, ...]) -> Files:
    """Return the files of an array: its metadata and its chunk; a picture above 1,024 rows or columns has shards.

    Parameters
    ----------
    values : ndarray
        Above 1,024 pixels along "y" or "x" it is a shard of chunks, which can be read one by one.
    names : tuple of str
        Names of the axes.

    Returns
    -------
    files : dict of bytes
        By their names below the array's folder. Chunks are compressed and carry a checksum.

    Examples
    --------
    >>> sorted(array_files(np.ones((4, 5), dtype=np.uint16), ("y", "x")))
    ['c/0/0', 'zarr.json']
    """
    if _chunks(values.shape, names) != values.shape:
        return _written_by_zarr(values, names)
    chunk = "/".join(["c", *("0" for _ in values.shape)])
    return {"zarr.json": _metadata(values.shape, values.dtype.name, names), chunk: _encoded(values)}


def _metadata(shape: tuple[int, ...], dtype: str, names: tuple[str, ...]) -> bytes:
    """Return the ``zarr.json`` of an array of one chunk."""
    metadata = json.loads(_metadata_of_one(dtype, names))
    metadata["shape"] = metadata["chunk_grid"]["configuration"]["chunk_shape"] = list(shape)
    return json.dumps(metadata, indent=2).encode()


@lru_cache
def _metadata_of_one(dtype: str, names: tuple[str, ...]) -> bytes:
    """Have zarr write the metadata of an array of one value."""
    store = MemoryStore()
    _create(store, (1,) * len(names), dtype, names)
    return store._store_dict["zarr.json"].to_bytes()


def _chunks(shape: tuple[int, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    sizes = zip(shape, names, strict=True)
    return tuple(min(size, _CHUNK) if name in ("y", "x") else size for size, name in sizes)


def _encoded(values: Image) -> bytes:
    """Compress an array as one chunk, its checksum behind it."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    shuffle = Blosc.BITSHUFFLE if little.itemsize == 1 else Blosc.SHUFFLE
    packed = Blosc("zstd", _LEVEL, shuffle, typesize=little.itemsize).encode(little)
    return bytes(packed) + int(google_crc32c.value(packed)).to_bytes(4, "little")


def _written_by_zarr(values: Image, names: tuple[str, ...]) -> Files:
    store = MemoryStore()
    _create(store, values.shape, values.dtype.name, names)[...] = values
    return {name: value.to_bytes() for name, value in store._store_dict.items()}


def _create(store: MemoryStore, shape: tuple[int, ...], dtype: str, names: tuple[str, ...]) -> "zarr.Array[Any]":
    chunks = _chunks(shape, names)
    shuffle: Literal["bitshuffle", "shuffle"] = "bitshuffle" if np.dtype(dtype).itemsize == 1 else "shuffle"
    shards = tuple(-(-size // chunk) * chunk for size, chunk in zip(shape, chunks, strict=True))
    return zarr.create_array(
        store,
        shape=shape,
        chunks=chunks,
        shards=shards if shards != chunks else None,
        dtype=dtype,
        fill_value=0,
        compressors=[BloscCodec(cname="zstd", clevel=_LEVEL, shuffle=shuffle), Crc32cCodec()],
        dimension_names=names,
        config={"write_empty_chunks": True},  # a chunk that is absent is damage, never zeros
    )
