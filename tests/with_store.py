"""Run a command beside a mounted archive: `with_store.py node --test tests/node/zarrita.test.mjs`.

The command finds in TESSERAFS_EXPECTED a JSON file that says where stores of whole tiles and of a
damaged tile are mounted, and what arrays of the first must hold: a zone-year store, and under
"consolidated" a zone of the consolidated one. The exit code is the command's.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from archive import BANDS, FEW, Archive, Pool, Tile
from mount import Mount
from reference import Zone, ZoneYear


def expectations(tiles):
    """Shapes, axes, and a window that straddles two chunks, two tiles and nodata; NaN is null."""
    expected = ZoneYear(tiles, 2024, 25)
    rows, cols = slice(1010, expected.height), slice(130, 165)
    embeddings, scales = expected.window(rows, cols)
    assert np.isnan(scales).any() and embeddings.any()
    return {
        "shape": [expected.height, expected.width, 128],
        "transform": [10, 0, expected.easting, 0, -10, expected.northing],
        "rows": [rows.start, rows.stop], "cols": [cols.start, cols.stop],
        "embeddings": embeddings.ravel().tolist(),
        "scales": as_json(scales),
        "easting": (expected.easting + 5 + 10.0 * np.arange(expected.width)).tolist(),
        "northing": (expected.northing - 5 - 10.0 * np.arange(expected.height)).tolist(),
    }


def consolidated_expectations(tiles):
    """The same of a zone: the window straddles tiles, inner chunks, nodata and what no tile covers."""
    expected = Zone(tiles, 25)
    rows, cols = slice(0, 66), slice(110, 190)
    embeddings, scales = expected.window(2024, rows, cols)
    assert np.isnan(scales).any() and np.isposinf(scales).any() and np.isfinite(scales).any() and embeddings.any()
    return {
        "shape": [1, BANDS, expected.height, expected.width],
        "transform": [10, 0, expected.easting, 0, -10, expected.northing],
        "rows": [rows.start, rows.stop], "cols": [cols.start, cols.stop],
        "embeddings": embeddings.ravel().tolist(), "scales": as_json(scales),
        "x": (expected.easting + 5 + 10.0 * np.arange(expected.width)).tolist(),
        "y": (expected.northing - 5 - 10.0 * np.arange(expected.height)).tolist(),
    }


def as_json(scales):
    """JSON has neither NaN nor infinity: null and a string."""
    return [None if np.isnan(scale) else "Infinity" if np.isposinf(scale) else float(scale) for scale in scales.ravel()]


def main():
    with tempfile.TemporaryDirectory() as name:
        here = pathlib.Path(name)
        pool = Pool(here / "pool")
        whole = Archive(pool, here / "whole", FEW)
        damaged = Archive(pool, here / "damaged", [Tile(2024, -3595, 8355, "truncated")])
        with Mount(whole.root, here / "mnt") as mounted, Mount(damaged.root, here / "bad") as bad, \
                Mount(whole.root, here / "bands", "--chunk-order=band") as bands:
            expected = expectations(whole) | {"store": str(mounted.store(2024, 25)), "damaged": str(bad.store(2024, 25))}
            expected["consolidated"] = consolidated_expectations(whole) | {
                "store": str(mounted.consolidated()), "damaged": str(bad.consolidated()), "in_bands": str(bands.consolidated())}
            (here / "expected.json").write_text(json.dumps(expected))
            return subprocess.run(sys.argv[1:], env=os.environ | {"TESSERAFS_EXPECTED": str(here / "expected.json")}).returncode


if __name__ == "__main__":
    sys.exit(main())
