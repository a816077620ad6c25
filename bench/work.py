"""One piece of work on one zone store, in a fresh process: work.py STORE WORK PLAN.

PLAN is a JSON file that says which pixels. The result is a line of JSON: seconds, and a checksum of
every value read. Imports are not in the seconds; opening the store is, in `open` and `pixel`.
"""
import json
import sys
import time
import zlib

import numpy as np
import xarray as xr
import zarr


def area(group, rows, cols):
    rows, cols = slice(*rows), slice(*cols)
    return group["embeddings"][rows, cols], group["scales"][rows, cols]


def points(group, rows, cols):
    rows, cols = np.array(rows), np.array(cols)
    return (group["embeddings"].vindex[rows[:, None], cols[:, None], np.arange(128)[None, :]],
            group["scales"].vindex[rows, cols])


def main(store, work, plan):
    with open(plan) as file:
        plan = json.load(file)
    if work == "open":
        begun = time.perf_counter()
        with xr.open_zarr(store) as dataset:
            values = [np.array(list(dataset.sizes.values()))]
    elif work == "pixel":
        begun = time.perf_counter()
        group = zarr.open_group(store, mode="r")
        row, col = plan["pixel"]
        values = [group["embeddings"][row, col], group["scales"][row, col]]
    else:
        group = zarr.open_group(store, mode="r")
        begun = time.perf_counter()
        if work == "scales":
            values = [group["scales"][:]]
            values.append(np.nanmean(values[0], dtype="f8"))
        elif work == "points":
            values = points(group, *plan["points"])
        else:
            values = area(group, *plan[work])
    seconds = time.perf_counter() - begun
    checksum = 0
    for value in values:
        checksum = zlib.crc32(np.ascontiguousarray(value).tobytes(), checksum)
    print(json.dumps({"seconds": seconds, "checksum": checksum}))


if __name__ == "__main__":
    main(*sys.argv[1:])
