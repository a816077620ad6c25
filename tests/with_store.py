"""Run a command beside a mounted archive: `with_store.py node --test tests/node/zarrita.test.mjs`.

The command finds in TESSERAFS_EXPECTED a JSON file that says where a store of whole tiles and one of
a damaged tile are mounted, and what arrays of the first must hold. The exit code is the command's.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from archive import FEW, Archive, Pool, Tile
from mount import Mount
from reference import ZoneYear


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
        "scales": [None if np.isnan(scale) else float(scale) for scale in scales.ravel()],
        "easting": (expected.easting + 5 + 10.0 * np.arange(expected.width)).tolist(),
        "northing": (expected.northing - 5 - 10.0 * np.arange(expected.height)).tolist(),
    }


def main():
    with tempfile.TemporaryDirectory() as name:
        here = pathlib.Path(name)
        pool = Pool(here / "pool")
        whole = Archive(pool, here / "whole", FEW)
        damaged = Archive(pool, here / "damaged", [Tile(2024, -3595, 8355, "truncated")])
        with Mount(whole.root, here / "mnt") as mounted, Mount(damaged.root, here / "bad") as bad:
            expected = expectations(whole) | {"store": str(mounted.store(2024, 25)), "damaged": str(bad.store(2024, 25))}
            (here / "expected.json").write_text(json.dumps(expected))
            return subprocess.run(sys.argv[1:], env=os.environ | {"TESSERAFS_EXPECTED": str(here / "expected.json")}).returncode


if __name__ == "__main__":
    sys.exit(main())
