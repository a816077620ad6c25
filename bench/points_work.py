"""One job on a table of points, in a fresh process: points_work.py JOB ARCHIVE STORE YEAR TABLE OUT.

It writes a Parquet file of 128 values a point, and prints as a line of JSON how many seconds the
reading took: places to pixels, and pixels to values. numpy reads the archive's tiles, sample_points
the consolidated store, which may be an address.
"""
import json
import math
import sys
import time

import numpy as np
import pandas as pd


def by_hand(archive, year, lons, lats):
    """What one writes: memory maps, kept open, in a loop over the points, with the rules of the data.
    Which tile a point lies in is found for all points at once, which is the quickest way by hand."""
    import pyproj
    import rasterio

    zones = np.floor((lons + 180) / 6).astype(int) + 1
    projections = {zone: pyproj.Transformer.from_crs(4326, 32600 + zone, always_xy=True) for zone in np.unique(zones).tolist()}
    cols, rows = np.empty(len(lons), int), np.empty(len(lons), int)  # on the zone's 10 m lattice
    for zone, project in projections.items():
        here = zones == zone
        eastings, northings = project.transform(lons[here], lats[here])
        cols[here], rows[here] = np.ceil(eastings / 10) - 1, np.ceil(-northings / 10) - 1

    tiles, owner = [], np.full(len(lons), -1)
    manifest = pd.read_parquet(f"{archive}/npy/v1/manifest.parquet")
    for tile in manifest[manifest.year == year].sort_values(["lon", "lat"]).itertuples():
        zone = math.floor((tile.lon + 180) / 6) + 1
        if zone not in projections:
            continue
        west, east, south, north = tile.lon - 0.05, tile.lon + 0.05, tile.lat - 0.05, tile.lat + 0.05
        (ul_e, ul_n), (ur_e, ur_n), (ll_e, ll_n), (lr_e, lr_n) = (
            projections[zone].transform(*at) for at in ((west, north), (east, north), (west, south), (east, south)))
        left, top = min(ul_e, ll_e), max(ul_n, ur_n)
        col, row = math.floor(left / 10), math.floor(-top / 10)
        height, width = round((top - min(ll_n, lr_n)) / 10), round((max(ur_e, lr_e) - left) / 10)
        inside = (zones == zone) & (rows >= row) & (rows < row + height) & (cols >= col) & (cols < col + width)
        owner[inside] = len(tiles)  # of tiles that overlap the last one counts
        name = f"grid_{tile.lon:.2f}_{tile.lat:.2f}"
        path = f"{archive}/npy/v1/{year}/{name}/{name}"
        with rasterio.open(f"{archive}/landmasks/v1/{name}.tiff") as mask:
            tiles.append((row, col, np.load(path + ".npy", mmap_mode="r"), np.load(path + "_scales.npy", mmap_mode="r"), mask.read(1)))

    values = np.full((len(lons), 128), np.nan, np.float32)
    for i in range(len(lons)):
        if owner[i] < 0:
            continue
        first_row, first_col, embeddings, scales, land = tiles[owner[i]]
        row, col = rows[i] - first_row, cols[i] - first_col
        scale = scales[row, col]
        if 0 < scale < 1 and land[row, col]:
            values[i] = embeddings[row, col] * scale
    return values


def sample_points(store, year, lons, lats):
    from geotessera.store import CLIENT_OPTIONS, GeoTesseraZarr

    CLIENT_OPTIONS["allow_http"] = True  # from loopback, where there is no HTTPS
    coords = list(zip(lons.tolist(), lats.tolist(), strict=True))
    return GeoTesseraZarr(store).sample_points(coords, year, cross_zone=False, search_px=0)


def main(job, archive, store, year, table, out):
    points = pd.read_parquet(table)
    lons, lats = points.lon.to_numpy(), points.lat.to_numpy()
    begun = time.perf_counter()
    values = by_hand(archive, int(year), lons, lats) if job == "numpy" else sample_points(store, int(year), lons, lats)
    reading = time.perf_counter() - begun
    bands = pd.DataFrame(values, columns=[f"band_{i}" for i in range(128)])
    pd.concat([points, bands], axis=1).to_parquet(out)
    print(json.dumps({"reading": reading}))


if __name__ == "__main__":
    main(*sys.argv[1:])
