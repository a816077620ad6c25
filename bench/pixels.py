"""Which pixels the benchmarks read, told to work.py in a file."""
import json

import numpy as np
import zarr
from harness import manifest

from archive import Tile, footprint  # isort: skip  the tests' own geometry, which harness makes known

ZONE, YEAR = "utm30", 2024  # of the archive of 36 tiles
ZONES = f"v1/zones/{YEAR}/{ZONE}_{YEAR}.zarr"
CONSOLIDATED = "v1/tessera.zarr"


def write_plan(store, archive, path):
    """Choose by the tiles' places on the lattice of a store, and a fixed seed: the same places on the ground
    in a zone-year store and in a consolidated one."""
    plan = {}
    group = zarr.open_group(store, mode="r")
    if ZONE in group:
        plan, group = {"group": ZONE, "year": YEAR}, group[ZONE]
    transform = group.attrs["transform" if "transform" in group.attrs else "spatial:transform"]
    easting, northing = transform[2], transform[5]
    height, width = group["scales"].shape[-2:]
    places = []
    for row in manifest(archive).itertuples():
        left, top, tile_height, tile_width = footprint(Tile(row.year, row.lon_i, row.lat_i))
        places.append((int((northing - top) // 10), int((left - easting) // 10), tile_height, tile_width))
    row, col = places[len(places) // 2][:2]  # the corner of a tile in the middle: four meet there
    noise = np.random.default_rng(7)
    inside = [(noise.integers(r + 40, r + h - 40), noise.integers(c + 40, c + w - 40))
              for r, c, h, w in (places[i] for i in noise.integers(0, len(places), 1000))]
    plan |= {
        "window": [[max(row - 300, 0), min(row + 700, height)], [max(col - 400, 0), min(col + 600, width)]],
        "strip": [[row + 100, row + 164], [max(col - 1500, 0), min(col + 2596, width)]],
        "points": [[int(r) for r, _ in inside], [int(c) for _, c in inside]],
        "pixel": [int(inside[0][0]), int(inside[0][1])],
    }
    path.write_text(json.dumps(plan))
    return path
