#!/usr/bin/env python3
"""Writes store/**/zarr.json and keys.txt: documents and chunk keys as zarr-python writes them.

    make_zarr.py        needs zarr 3.4; writes beside itself

The Go test builds the same nodes and compares bytes. The group "inner" is consolidated before the
root is, so that the root's documents show what becomes of a child's own consolidated metadata.
keys.txt has every key of every array that holds data, sorted.
"""
import pathlib, shutil, sys, warnings
import numpy as np, zarr
from zarr.codecs import TransposeCodec, ZstdCodec

warnings.simplefilter("ignore")                     # consolidated metadata is not in the specification yet
HERE = pathlib.Path(__file__).parent
STORE = HERE / "store"
shutil.rmtree(STORE, ignore_errors=True)

root = zarr.open_group(STORE, mode="w", zarr_format=3, attributes={
    "zeta": "first, though it sorts last",
    "alpha": [1, -2, 2**53 + 1, -(2**63), 2**63 - 1],
    "floats": [0.0, -0.0, 1.0, -10.0, 0.1, 1 / 3, 1e-4, 9.999e-5, 1e-5, 123456789.125, 1e15, 9007199254740993.0, 1e16,
               1.5e16, 1e22, 1e23, 5e-324, 1.7976931348623157e308, 298.257223563, 283241.5965173088],
    "strings": ["", 'quote " backslash \\ slash /', "\b\f\n\r\t\x00\x1f\x7f", "<&> \u2028 \u00e9 \u20ac \U0001f30d"],
    "nothing": None,
    "yes": True,
    "empty list": [],
    "empty object": {},
    "nested": {"b": [{"x": 1.0}, {}], "a": {"deep": [[1], []]}},
})


def array(group, name, shape, chunks, dtype, fill, dims=None, attributes={}):
    a = group.create_array(name, shape=shape, chunks=chunks, dtype=dtype, fill_value=fill, compressors=None,
                           dimension_names=dims, attributes=attributes)
    a[...] = np.ones(shape, dtype) if shape else 1  # all chunks, that their keys can be seen
    return a


inner = root.create_group("inner", attributes={"title": "has children"})
inner.create_group("Empty")
array(root, "embeddings", (30, 20, 4), (10, 7, 4), "int8", 0, ["northing", "easting", "band"], {"grid_mapping": "spatial_ref"})
array(root, "scales", (30, 20), (10, 7), "float32", np.nan, ["northing", "easting"])
array(root, "easting", (20,), (20,), "float64", 0.0, ["easting"], {"units": "m"})
array(root, "band", (4,), (4,), "int32", 0, ["band"])
array(root, "spatial_ref", (), (), "int64", 0)
array(root, "Upper", (3,), (1,), "uint8", 255, ["x"])
array(root, "no_names", (3, 0), (2, 1), "uint16", 7)
array(inner, "inf", (2,), (2,), "float32", np.inf, ["x"])
array(inner, "minus_inf", (2,), (2,), "float64", -np.inf, ["x"])
array(inner, "tenth", (2,), (2,), "float32", 0.1, ["x"])
array(inner, "minus_one", (2,), (2,), "int16", -1, ["x"])
for name, dtype, filters, compressors in (
        ("sharded", "int8", [TransposeCodec(order=(0, 2, 3, 1))], None), ("shards", "float32", None, None),
        ("frames", "int8", None, [ZstdCodec(level=0, checksum=False)])):
    root.create_array(name, shape=(2, 4, 24, 12), shards=(1, 4, 16, 8), chunks=(1, 4, 4, 2), dtype=dtype, fill_value=0,
                      filters=filters, compressors=compressors, dimension_names=["time", "band", "y", "x"])[...] = 1

(HERE / "keys.txt").write_text("".join(
    f"{p.relative_to(STORE)}\n" for p in sorted(STORE.rglob("*")) if p.is_file() and p.name != "zarr.json"))
for p in sorted(STORE.rglob("c"), reverse=True):
    p.unlink() if p.is_file() else shutil.rmtree(p)
zarr.consolidate_metadata(STORE, path="inner")
zarr.consolidate_metadata(STORE)
print(len(list(STORE.rglob("zarr.json"))), "documents, zarr", zarr.__version__, "Python", sys.version.split()[0])
