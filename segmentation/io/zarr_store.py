"""Chunks of Zarr arrays as they are read: what Blosc packed is held against its own header before it is unpacked."""

import struct
from typing import Any

from zarr.storage import WrapperStore

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_HEADER_BYTES = 16


class WholeChunks(WrapperStore[Any]):
    """A store of which chunks come as Blosc packed them, whole.

    Blosc takes the length from the chunk's header, and would read on behind a chunk that was cut short, whatever is
    there in memory.

    Parameters
    ----------
    store : zarr.abc.store.Store
        Where the array is.
    largest : int
        Bytes that a chunk may unpack to.
    """

    def __init__(self, store: Any, largest: int) -> None:
        super().__init__(store)
        self.largest = largest

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Read a key; ValueError if it is a chunk that is not whole."""
        value = await super().get(key, prototype, byte_range)
        if value is not None and byte_range is None and not key.endswith(_METADATA):
            check_blosc(value.to_bytes(), self.largest)
        return value


def check_blosc(chunk: bytes, largest: int) -> None:
    """Refuse what is shorter than its header says, or unpacks to more than `largest` bytes.

    Examples
    --------
    >>> check_blosc(struct.pack("<4xIII", 100, 100, 24) + bytes(8), largest=100)
    >>> check_blosc(struct.pack("<4xIII", 100, 100, 24) + bytes(7), largest=100)
    Traceback (most recent call last):
    ValueError: a chunk of 23 bytes; its header says 24
    """
    if len(chunk) < _HEADER_BYTES:
        raise ValueError(f"a chunk of {len(chunk)} bytes; its header has {_HEADER_BYTES}")
    unpacked, _, packed = struct.unpack_from("<III", chunk, 4)
    if len(chunk) < packed:
        raise ValueError(f"a chunk of {len(chunk)} bytes; its header says {packed}")
    if unpacked > largest:
        raise ValueError(f"a chunk that unpacks to {unpacked:,} bytes; {largest:,} are allowed")
