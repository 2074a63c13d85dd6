"""What tests do to a store to see it found or mended."""

import pyarrow as pa
import pyarrow.parquet as pq


def first(root, pattern):
    return sorted(root.glob(pattern))[0]


def flip(path):
    """Turn one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(path, change):
    """Write a table anew with other rows."""
    table = pq.read_table(path, partitioning=None)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)
