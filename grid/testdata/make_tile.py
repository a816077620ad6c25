#!/usr/bin/env python3
"""Write tile.csv and crs_30_south.wkt: lattices of tiles by themselves, with pyproj.

    python make_tile.py        needs pyproj; the same bytes on every run

A line of tile.csv is: lon, lat of a cell (hundredths of a degree); easting, northing, height, width of
its lattice in its own reference system; west, south, east, north of the lattice in degrees, found by
going along its edges a pixel at a time.

crs_30_south.wkt is WKT2:2019 of EPSG:32730 without its area of use.
"""
import csv, math, pathlib, random, re
from pyproj import CRS, Transformer

HERE = pathlib.Path(__file__).parent


def choose_cells():
    """Lon, lat: beside the antimeridian, the equator and central meridians, far north and south, at random."""
    lats = (-8995, -8985, -6005, -15, -5, 5, 15, 6005, 8365)
    cells = {(lon, lat) for lon in (-17995, -17905, 17995, -305, -295, -5, 5, 295, 305) for lat in lats}
    rng = random.Random(4)
    while len(cells) < 400:
        cells.add((rng.randint(-1800, 1799) * 10 + 5, rng.randint(-840, 839) * 10 + 5))
    return sorted(cells)


def lattice(lon, lat):
    zone = math.floor((lon / 100 + 180) / 6) + 1
    project = Transformer.from_crs("EPSG:4326", f"EPSG:{(32700 if lat < 0 else 32600) + zone}", always_xy=True).transform
    x, y = lon / 100.0, lat / 100.0
    (ulx, uly), (urx, ury) = project(x - 0.05, y + 0.05), project(x + 0.05, y + 0.05)
    (llx, lly), (lrx, lry) = project(x - 0.05, y - 0.05), project(x + 0.05, y - 0.05)
    left, top = min(ulx, llx), max(uly, ury)
    height, width = round((top - min(lly, lry)) / 10), round((max(urx, lrx) - left) / 10)
    left, top = math.floor(left / 10) * 10, math.ceil(top / 10) * 10
    # Along the edges, and where they cross the central meridian.
    xs = [left + 10 * i for i in range(width + 1)] + [min(max(500000, left), left + 10 * width)]
    ys = [top - 10 * i for i in range(height + 1)]
    edge = [(x, y) for x in xs for y in (top, ys[-1])] + [(x, y) for x in (left, left + 10 * width) for y in ys]
    lons, lats = project([p[0] for p in edge], [p[1] for p in edge], direction="INVERSE")
    central = 6 * zone - 183
    lons = [central + math.remainder(v - central, 360) for v in lons]
    turn = lambda v: v - 360 if v > 180 else v + 360 if v < -180 else v
    return left, top, height, width, turn(min(lons)), min(lats), turn(max(lons)), max(lats)


with open(HERE / "tile.csv", "w", newline="") as f:
    out = csv.writer(f, lineterminator="\n")
    for cell in choose_cells():
        *pixels, west, south, east, north = lattice(*cell)
        out.writerow([*cell, *pixels, *(f"{v:.9f}" for v in (west, south, east, north))])

wkt = re.sub(r"USAGE\[.*?\]\],", "", CRS.from_epsg(32730).to_wkt())
assert CRS.from_wkt(wkt) == CRS.from_epsg(32730)
(HERE / "crs_30_south.wkt").write_text(wkt + "\n")
