"""One piece of work on one store, in a fresh process: work.py STORE WORK PLAN.

PLAN is a JSON file that says which pixels, and of a consolidated store which zone and year; without
those STORE is a zone-year store. The result is a line of JSON: seconds, and a checksum of every value
read. Imports are not in the seconds; opening the store is, in `open` and `pixel`.
"""
import json
import sys
import time
import zlib

import numpy as np
import xarray as xr
import zarr

BANDS = np.arange(128)


class ZoneYear:
    """A zone-year store: (northing, easting, band)."""

    def __init__(self, store, _):
        group = zarr.open_group(store, mode="r")
        self.embeddings, self.scales = group["embeddings"], group["scales"]

    def area(self, rows, cols):
        return self.embeddings[rows, cols], self.scales[rows, cols]

    def points(self, rows, cols):
        return self.embeddings.vindex[rows[:, None], cols[:, None], BANDS[None, :]], self.scales.vindex[rows, cols]

    def every_scale(self):
        return self.scales[:]


class Consolidated:
    """One zone and year of a consolidated store: (time, band, y, x)."""

    def __init__(self, store, plan):
        group = zarr.open_group(store, mode="r")[plan["group"]]
        self.embeddings, self.scales = group["embeddings"], group["scales"]
        self.time = group["time"][:].tolist().index(plan["year"])

    def area(self, rows, cols):
        return np.moveaxis(self.embeddings[self.time, :, rows, cols], 0, -1), self.scales[self.time, rows, cols]

    def points(self, rows, cols):
        time = np.full(len(rows), self.time)
        return (self.embeddings.vindex[time[:, None], BANDS[None, :], rows[:, None], cols[:, None]],
                self.scales.vindex[time, rows, cols])

    def every_scale(self):
        return self.scales[self.time]


def main(store, work, plan):
    with open(plan) as file:
        plan = json.load(file)
    layout = Consolidated if "group" in plan else ZoneYear
    if work == "open":
        begun = time.perf_counter()
        with xr.open_zarr(store) as dataset:
            values = [np.array(list(dataset.sizes.values()))]
    elif work == "pixel":
        begun = time.perf_counter()
        values = layout(store, plan).area(*plan["pixel"])
    else:
        reader = layout(store, plan)
        begun = time.perf_counter()
        if work == "scales":
            values = [reader.every_scale()]
            values.append(np.mean(values[0], dtype="f8", where=np.isfinite(values[0])))
        elif work == "points":
            values = reader.points(*(np.array(indices) for indices in plan["points"]))
        else:
            values = reader.area(*(slice(*edges) for edges in plan[work]))
    seconds = time.perf_counter() - begun
    checksum = 0
    for value in values:
        # There are many NaN, and which it is does not matter.
        value = np.where(np.isnan(value), np.nan, value) if value.dtype.kind == "f" else value
        checksum = zlib.crc32(np.ascontiguousarray(value).tobytes(), checksum)
    print(json.dumps({"seconds": seconds, "checksum": checksum}))


if __name__ == "__main__":
    main(*sys.argv[1:])
