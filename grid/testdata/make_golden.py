#!/usr/bin/env python3
"""Write what package grid must compute, with pyproj's projection and the archive's rules.

    python make_golden.py        needs pyproj; writes beside itself, the same bytes on every run

cells.csv.gz  20,000 cells in catalogue order: lon, lat (hundredths of a degree), zone, epsg, easting
              and northing of the upper-left corner (every digit), height, width; then, in the lattice
              of all the cells of that zone here: row, col, and first and last chunk row and chunk
              column touched (chunks of 1024 px).
zones.csv     The lattice of each zone: zone, easting, northing, height, width.
crs.csv       The reference system of each zone: zone, epsg, name, conversion, central meridian.
crs_30.wkt    WKT2:2019 of zone 30's, without its area of use.

The script also checks that crs_30.wkt, with another zone's row of crs.csv put in, is that zone's
system to pyproj; the Go test, that this is the text package grid makes.
"""
import csv, gzip, io, math, pathlib, random
from pyproj import CRS, Transformer

HERE = pathlib.Path(__file__).parent
CELLS, CHUNK = 20_000, 1024


def choose_cells():
    """Lon, lat in hundredths: every awkward place, then at random until there are CELLS."""
    lats = [-8995, -8395, -8385, -4505, -15, -5, 5, 15, 4505, 8385, 8395, 8995]
    cells = {(lon, lat) for lon in (-17995, 17995) for lat in range(-8395, 8396, 10)}   # both sides of the date line
    for zone in range(1, 61):
        west, middle, east = zone * 600 - 18600, zone * 600 - 18300, zone * 600 - 18000
        # Beside both borders of the zone, and beside its central meridian, where corners fall on 500 km.
        cells |= {(lon, lat) for lon in (west + 5, middle - 5, middle + 5, east - 5) for lat in lats}
    rng = random.Random(3)
    while len(cells) < CELLS:
        limit = 899 if rng.random() < 0.02 else 839     # few beyond the tiles there are
        cells.add((rng.randint(-1800, 1799) * 10 + 5, rng.randint(-limit - 1, limit) * 10 + 5))
    return sorted(cells)


def project(epsg, cells):
    """Upper left, upper right, lower left, lower right of each cell, in metres."""
    lons, lats = [], []
    for lon_i, lat_i in cells:
        lon, lat = lon_i / 100.0, lat_i / 100.0
        lons += [lon - 0.05, lon + 0.05, lon - 0.05, lon + 0.05]
        lats += [lat + 0.05, lat + 0.05, lat - 0.05, lat - 0.05]
    t = Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True)
    x, y = t.transform(lons, lats)
    return [(x[i:i + 4], y[i:i + 4]) for i in range(0, len(x), 4)]


def footprints(cells):
    """{cell: (zone, epsg, easting, northing, height, width)}"""
    by_epsg = {}
    for lon_i, lat_i in cells:
        zone = max(1, min(60, math.floor((lon_i / 100.0 + 180) / 6) + 1))
        by_epsg.setdefault((32700 if lat_i < 0 else 32600) + zone, []).append((lon_i, lat_i))
    out = {}
    for epsg, members in by_epsg.items():
        for cell, (x, y) in zip(members, project(epsg, members)):
            assert all(map(math.isfinite, x + y)), cell
            e, n = min(x[0], x[2]), max(y[0], y[1])
            out[cell] = epsg % 100, epsg, e, n, round((n - min(y[2], y[3])) / 10), round((max(x[1], x[3]) - e) / 10)
    return out


def lattice(tiles):
    """Easting, northing, height, width of the union of one zone's footprints."""
    boxes = [(e, n, e + w * 10, n - h * 10) for e, n, h, w in tiles]
    west, north = math.floor(min(b[0] for b in boxes) / 10) * 10, math.ceil(max(b[1] for b in boxes) / 10) * 10
    east, south = math.ceil(max(b[2] for b in boxes) / 10) * 10, math.floor(min(b[3] for b in boxes) / 10) * 10
    return west, north, (north - south) // 10, (east - west) // 10


def without_area_of_use(epsg):
    """WKT2:2019 in one line."""
    document = CRS.from_epsg(epsg).to_json_dict()
    for key in ("scope", "area", "bbox", "usages"):
        document.pop(key, None)
    return CRS.from_json_dict(document).to_wkt("WKT2_2019")


def main():
    cells = choose_cells()
    found = footprints(cells)
    canonical = {c: n - (1e7 if epsg >= 32700 else 0) for c, (_, epsg, _, n, _, _) in found.items()}
    zones = {}
    for c in cells:
        zone, _, e, _, h, w = found[c]
        zones.setdefault(zone, []).append((e, canonical[c], h, w))
    zones = {zone: lattice(tiles) for zone, tiles in sorted(zones.items())}

    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    for c in cells:
        zone, epsg, e, n, h, w = found[c]
        west, north, *_ = zones[zone]
        row, col = math.floor((north - canonical[c]) / 10), math.floor((e - west) / 10)
        out.writerow([*c, zone, epsg, repr(e), repr(n), h, w, row, col,
                      row // CHUNK, (row + h - 1) // CHUNK, col // CHUNK, (col + w - 1) // CHUNK])
    (HERE / "cells.csv.gz").write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    with open(HERE / "zones.csv", "w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows([zone, *g] for zone, g in zones.items())

    rows = []
    for zone in range(1, 61):
        crs = CRS.from_epsg(32600 + zone)
        meridian = next(p.value for p in crs.coordinate_operation.params if p.code == "8802")
        rows.append((zone, 32600 + zone, crs.name, crs.coordinate_operation.name, f"{meridian:g}"))
    with open(HERE / "crs.csv", "w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows(rows)
    wkt = without_area_of_use(32630)
    (HERE / "crs_30.wkt").write_text(wkt + "\n")
    patterns = ('ID["EPSG",%s]]', 'PROJCRS["%s"', 'CONVERSION["%s"',
                'natural origin",%s,ANGLEUNIT["degree",0.0174532925199433],ID["EPSG",8802]')
    for row in rows:
        other = wkt
        for pattern, old, new in zip(patterns, rows[29][1:], row[1:]):
            assert other.count(pattern % old) == 1, pattern
            other = other.replace(pattern % old, pattern % new)
        assert other == without_area_of_use(row[1]) and CRS.from_wkt(other) == CRS.from_epsg(row[1]), row
    print(f"{len(cells)} cells, {len(zones)} zones")


if __name__ == "__main__":
    main()
