#!/usr/bin/env python3
"""Writes shards/<name>: whole shards of uncompressed inner chunks, as zarr-python writes them.

    make_shards.py        needs zarr 3.4; writes beside itself

A shard has 130 inner chunks of two int16, of which those exist that the name's rule says; inner chunk i
holds i + 1 and -(i + 1). Shards are of one dimension, where zarr-python's order of inner chunks is ours.
"""
import pathlib, shutil
import numpy as np, zarr

HERE = pathlib.Path(__file__).parent / "shards"
INNER = 130
RULES = {
    "all": lambda i: True,
    "one": lambda i: i == 127,
    "ends": lambda i: i in (0, 129),
    "third_word": lambda i: i > 127,
    "some": lambda i: i * i % 7 < 3,
}
shutil.rmtree(HERE, ignore_errors=True)
HERE.mkdir()
for name, exists in RULES.items():
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(store, shape=(2 * INNER,), shards=(2 * INNER,), chunks=(2,), dtype="int16", fill_value=0,
                              compressors=None)
    array[:] = np.array([[i + 1, -(i + 1)] if exists(i) else [0, 0] for i in range(INNER)], "int16").ravel()
    (HERE / name).write_bytes(store._store_dict["c/0"].to_bytes())
