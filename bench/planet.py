"""The registries of a planet, without its tiles: what a mount must open quickly, however many tiles there are.

    .venv/bin/python bench/planet.py DIR               14,000,000 rows, about 0.5 GB
    .venv/bin/python bench/planet.py DIR --rows 100000

DIR is an archive in the published layout: npy/v1/manifest.parquet and landmasks/v1/landmasks.parquet, in the
published columns and order (version, variant, year, lon, lat). The land is smooth noise on the sphere, a third of
the cells between 56 degrees south and 84 north; all of it has tiles every year from 2017 on, the last year as
far as the rows go. What is there with as many rows is left alone.
"""
import argparse
import itertools
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROWS = 14_000_000
LAND = 1_600_000  # cells
FIRST_YEAR = 2017
WRITTEN, DAYS = 1_759_276_800, 100  # seconds: from 2025-10-01 on


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    arguments = parser.parse_args()
    make(arguments.dir, arguments.rows)


def make(directory, rows):
    manifest, masks = directory / "npy/v1/manifest.parquet", directory / "landmasks/v1/landmasks.parquet"
    if manifest.exists() and masks.exists() and pq.read_metadata(manifest).num_rows == rows:
        return
    lon, lat = land(min(rows, LAND))
    name = pa.array([f"grid_{x / 100:.2f}_{y / 100:.2f}" for x, y in zip(lon.tolist(), lat.tolist(), strict=True)])
    for path in manifest, masks:
        path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(5)
    part, writer, left = manifest.with_suffix(".part"), None, rows
    for year in itertools.count(FIRST_YEAR):
        count = min(left, len(lon))
        table = registry(lon[:count], lat[:count], name[:count], year, noise)
        writer = writer or pq.ParquetWriter(part, table.schema)
        writer.write_table(table)
        left -= count
        if not left:
            break
    writer.close()
    part.rename(manifest)
    pq.write_table(pa.table({
        "lat": lat / 100, "lon": lon / 100, "hash": pa.repeat("", len(lon)), "mtime": times(noise, len(lon)).astype(float),
        "file_size": noise.integers(700, 20_000, len(lon)), "path": pc.binary_join_element_wise(name, ".tiff", "")}), masks)


def registry(lon, lat, name, year, noise):
    """A year of the manifest. The paths are those of another bucket, as published: where the tiles lay when it
    was written."""
    base = pc.binary_join_element_wise(f"s3://another-bucket/npy/v1/{year}", name, name, "/")
    width = np.maximum(40, np.rint(1113 * np.cos(np.radians(lat / 100)))).astype(np.int64)
    written = times(noise, len(lon))
    return pa.table({
        "version": pa.repeat("1.0", len(lon)), "variant": pa.repeat("vultr", len(lon)), "year": np.full(len(lon), year, np.int32),
        "lon": lon / 100, "lat": lat / 100, "directory": name, "grid_path": pc.binary_join_element_wise(base, ".npy", ""),
        "scales_path": pc.binary_join_element_wise(base, "_scales.npy", ""),
        "grid_mtime": utc(written), "scales_mtime": utc(written + noise.integers(0, 60, len(lon))),
        "grid_size": width * 1113 * 128 + 128, "scales_size": width * 1113 * 4 + 128, "lon_i": lon, "lat_i": lat})


def times(noise, count):
    """Seconds: no two tiles are written at once."""
    return WRITTEN + noise.integers(0, DAYS * 86_400, count)


def utc(seconds):
    return pa.array(seconds * 1_000_000, pa.timestamp("us", "UTC"))


def land(count):
    """Centres of so many cells in hundredths of a degree, sorted by longitude and latitude: those where a few
    waves through the sphere add up to the most."""
    lon, lat = (axis.ravel() for axis in np.meshgrid(np.arange(-17995, 18000, 10), np.arange(-5595, 8400, 10), indexing="ij"))
    x, y = np.radians(lon / 100), np.radians(lat / 100)
    place = np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)]).astype(np.float32)
    noise, height = np.random.default_rng(3), np.zeros(len(lon), np.float32)
    for wave in noise.normal(0, 4, (24, 3)).astype(np.float32):
        height += np.cos(wave @ place + np.float32(noise.uniform(0, 2 * np.pi)))
    kept = np.sort(np.argpartition(-height, count - 1)[:count])
    return lon[kept].astype(np.int32), lat[kept].astype(np.int32)


if __name__ == "__main__":
    main()
