import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from segmentation.io.ome_zarr import array_files, group_metadata

TYPES = (np.uint8, np.uint16, np.uint32, np.float32, ">u2", "|u1")


def contents(store):
    return {name: value.to_bytes() for name, value in store._store_dict.items()}


def array_by_zarr(values, names):
    """Write an array as zarr does by itself; above 1,024 rows or columns of pixels as shards of chunks."""
    sizes = list(zip(values.shape, names, strict=True))
    chunks = tuple(min(size, 1024) if name in "yx" else size for size, name in sizes)
    shards = tuple(size if size <= 1024 or name not in "yx" else -(-size // 1024) * 1024 for size, name in sizes)
    shuffle = "bitshuffle" if values.itemsize == 1 else "shuffle"
    store = MemoryStore()
    array = zarr.create_array(
        store,
        shape=values.shape,
        chunks=chunks,
        shards=shards if shards != chunks else None,
        dtype=values.dtype.newbyteorder("="),
        fill_value=0,
        compressors=[BloscCodec(cname="zstd", clevel=2, shuffle=shuffle), Crc32cCodec()],
        dimension_names=names,
        config={"write_empty_chunks": True},
    )
    array[...] = values
    return contents(store)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(TYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=3, max_side=40), fill=st.just(1))
    ),
    st.booleans(),
)
def test_an_array_is_written_as_zarr_writes_it(values, turned):
    values = np.swapaxes(values, -1, -2) if turned else values  # not contiguous
    names = ("c", "y", "x")[-values.ndim :]
    assert array_files(values, names) == array_by_zarr(values, names)


@pytest.mark.parametrize("shape", [(321, 481), (3, 400, 500), (1024, 1024), (1025, 3), (3, 20, 1500)])
def test_pictures_of_several_blocks_too(shape):
    values = (np.random.default_rng(5).integers(0, 20, shape) ** 2).astype(np.uint16)
    names = ("c", "y", "x")[-len(shape) :]
    written = array_files(values, names)
    assert written == array_by_zarr(values, names)
    store = MemoryStore()
    for name, data in written.items():
        store._store_dict[name] = zarr.core.buffer.cpu.Buffer.from_bytes(data)
    np.testing.assert_array_equal(zarr.open_array(store, mode="r")[...], values)


@pytest.mark.parametrize("shape", [(5000, 2), (1, 3), (2000,)])
def test_a_long_table_is_one_chunk(shape):
    values, names = np.random.default_rng(5).random(shape, np.float32), ("merge", "node")[: len(shape)]
    written = array_files(values, names)
    assert len(written) == 2
    assert written == array_by_zarr(values, names)


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
    )
)
def test_the_metadata_of_a_group_is_zarrs(attributes):
    store = MemoryStore()
    zarr.create_group(store, zarr_format=3, attributes=attributes)
    assert contents(store) == {"zarr.json": group_metadata(attributes)}
    assert json.loads(group_metadata(attributes))["attributes"] == json.loads(json.dumps(attributes))
