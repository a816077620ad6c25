#!/usr/bin/env python3
"""Write consolidated.csv: lattices of consolidated stores, with pyproj's projection of every corner.

    python make_consolidated.py        needs pyproj and cells.csv.gz; the same bytes on every run

A line is: zone, choice, easting, northing, height, width. The choice says which of the zone's cells in
cells.csv.gz the lattice is the union of: all, north or south of the equator, the eastern ones, every
29th, or the first alone.
"""
import csv, gzip, math, pathlib
from pyproj import Transformer

HERE = pathlib.Path(__file__).parent
SHARD = 4096
CHOICES = {
    "all": lambda zone, i, lon, lat: True,
    "north": lambda zone, i, lon, lat: lat > 0,
    "south": lambda zone, i, lon, lat: lat < 0,
    "east": lambda zone, i, lon, lat: lon > zone * 600 - 18200,
    "29th": lambda zone, i, lon, lat: i % 29 == zone % 29,
    "first": lambda zone, i, lon, lat: i == 0,
}


def lattice(zone, cells):
    """Easting, northing, height, width of the union of the cells' corners, in whole shards."""
    lons, lats = [], []
    for lon_i, lat_i in cells:
        lon, lat = lon_i / 100.0, lat_i / 100.0
        lons += [lon - 0.05, lon + 0.05, lon - 0.05, lon + 0.05]
        lats += [lat + 0.05, lat + 0.05, lat - 0.05, lat - 0.05]
    x, y = Transformer.from_crs("EPSG:4326", f"EPSG:{32600 + zone}", always_xy=True).transform(lons, lats)
    west, north = math.floor(min(x) / 10) * 10, math.ceil(max(y) / 10) * 10
    east, south = math.ceil(max(x) / 10) * 10, math.floor(min(y) / 10) * 10
    return west, north, *(math.ceil((a - b) // 10 / SHARD) * SHARD for a, b in ((north, south), (east, west)))


with gzip.open(HERE / "cells.csv.gz", "rt") as f:
    lines = [tuple(map(int, line[:3])) for line in csv.reader(f)]
with open(HERE / "consolidated.csv", "w", newline="") as f:
    out = csv.writer(f, lineterminator="\n")
    for zone in range(1, 61):
        cells = [line[:2] for line in lines if line[2] == zone]
        for name, chosen in CHOICES.items():
            out.writerow([zone, name, *lattice(zone, [c for i, c in enumerate(cells) if chosen(zone, i, *c)])])
