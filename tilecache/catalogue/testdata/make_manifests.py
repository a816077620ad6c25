#!/usr/bin/env python3
"""Write the manifests and landmask registries of manifests_test.go: the same tiles as each of the
programs wrote them that have published or scanned an archive, and in what other ways Parquet files
come. Needs numpy, pandas, pyarrow.

    make_manifests.py            writes into its own directory

tiles.json holds what all of them say: [year, lon_i, lat_i, grid_size, scales_size, seconds] in
catalogue order, and landmasks.json [lon_i, lat_i, file_size, seconds].
"""
import json, pathlib
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(7)

# Both hemispheres, both ends of the grid, cells either side of zone borders, three years.
cells = [(-17995, -8995), (-17995, 8995), (17995, 65), (-5, -5), (-5, 5), (5, -5), (5, 5), (595, 5215), (605, 5215)]
cells += [(int(x), int(y)) for x, y in zip(rng.integers(-1800, 1800, 20) * 10 + 5, rng.integers(-900, 900, 20) * 10 + 5)]
rows = [(year, x, y) for year in (2017, 2023, 2024) for x, y in cells if (x + y + year) % 7]
rows = sorted(set(rows))
when = rng.integers(1_600_000_000, 1_760_000_000, len(rows))
later = when + rng.integers(-5000, 5000, len(rows))
size, scales = rng.integers(10_000_000, 160_000_000, len(rows)), rng.integers(300_000, 5_000_000, len(rows))
year, lon_i, lat_i = (np.array(v, "i4") for v in zip(*rows))
name = [f"grid_{x / 100.0:.2f}_{y / 100.0:.2f}" for x, y in zip(lon_i, lat_i)]

(here / "tiles.json").write_text(json.dumps([[int(v) for v in r] for r in
    zip(year, lon_i, lat_i, size, scales, np.maximum(when, later))]) + "\n")


def stamps(seconds, unit="us", zone="UTC", extra=0.25):
    """Timestamps a fraction after whole seconds, where the unit has fractions."""
    s = pd.to_datetime(pd.Series(seconds.astype("f8") + (0 if unit == "s" else extra)), unit="s", utc=True)
    return s.dt.as_unit(unit) if zone else s.dt.tz_localize(None).dt.as_unit(unit)


def s3scan():
    base = [f"s3://another-bucket/prefix/{y}/{n}/{n}" for y, n in zip(year, name)]
    return pd.DataFrame(dict(version="1.0", variant="vultr", year=year, lon=lon_i / 100.0, lat=lat_i / 100.0, directory=name,
                             grid_path=[b + ".npy" for b in base], scales_path=[b + "_scales.npy" for b in base],
                             grid_mtime=stamps(when), scales_mtime=stamps(later), grid_size=size, scales_size=scales,
                             lon_i=lon_i, lat_i=lat_i))


def file_scan():
    df = s3scan().drop(columns=["version", "variant"])
    df["grid_path"] = "/srv/archive/" + df.directory + ".npy"
    return df.assign(grid_mtime=stamps(when, "ns", None), scales_mtime=stamps(later, "ns", None))


def legacy():
    df = pd.DataFrame(dict(lat=lat_i / 100.0, lon=lon_i / 100.0, year=year, hash="0" * 64, scales_hash="f" * 64,
                           mtime=np.maximum(when, later) + 0.5, file_size=size, scales_size=scales, lon_i=lon_i, lat_i=lat_i))
    df["geometry"] = [np.array([x, y]).astype("<f8").tobytes() for x, y in zip(df.lon, df.lat)]
    return df.sort_values(["year", "lat", "lon"], ignore_index=True)


def write(file, df, **how):
    df.to_parquet(here / file, index=False, **how)


write("s3scan.parquet", s3scan())
write("file_scan.parquet", file_scan())
write("legacy.parquet", legacy())

# Rows of other datasets and of the same tile again, in no order.
other = s3scan().assign(version="1.1", variant="cambridge", grid_size=1)
again = s3scan().assign(grid_size=2, scales_size=2, grid_mtime=stamps(later + 10_000))
mixed = pd.concat([other.iloc[::2], s3scan().iloc[::-1], again, other.iloc[1::2]], ignore_index=True)
write("mixed.parquet", mixed)

# Ways to write them.
write("plain.parquet", s3scan(), use_dictionary=False, compression="none", row_group_size=7)
write("zstd_v2.parquet", s3scan(), compression="zstd", data_page_version="2.0", row_group_size=20, data_page_size=64, write_batch_size=8)
write("gzip_pages.parquet", s3scan(), compression="gzip", data_page_size=32, write_batch_size=5, dictionary_pagesize_limit=64)
write("snappy_v2_plain.parquet", s3scan(), data_page_version="2.0", use_dictionary=False)

# Other types for the same values.
types = s3scan().astype(dict(version="category", variant="category", year="int64", lon="float32", lat="float32", lon_i="int64", lat_i="int16"))
types["grid_mtime"], types["scales_mtime"] = stamps(when, "ms"), stamps(later, "s", None)
write("types.parquet", types)
floats = s3scan().astype(dict(year="int16", grid_size="float64", scales_size="float64", lon_i="float64", lat_i="float32"))
floats["grid_mtime"], floats["scales_mtime"] = when + 0.75, later.astype("i8")
write("floats.parquet", floats)
unsigned = s3scan().astype(dict(year="uint16", grid_size="uint32", scales_size="uint64"))
write("unsigned.parquet", unsigned)

# Columns that do not admit a row without a value have no levels.
table = pa.Table.from_pandas(s3scan(), preserve_index=False)
required = pa.schema([f.with_nullable(False) for f in table.schema.remove_metadata()])
pq.write_table(table.cast(required), here / "required.parquet", row_group_size=11)

# Values that may be missing are: times of one object or of both, sizes of scales, lon_i.
gaps = s3scan().astype(dict(scales_size="Int64", lon_i="Int32"))
gaps.loc[::3, "scales_size"], gaps.loc[::2, "lon_i"] = pd.NA, pd.NA
gaps.loc[::4, "grid_mtime"], gaps.loc[::5, "scales_mtime"] = pd.NaT, pd.NaT
write("gaps.parquet", gaps)

# Landmasks: 0 bytes where there is none.
land = sorted(set(cells))
bytes_, made = rng.integers(1000, 20_000, len(land)), rng.integers(1_600_000_000, 1_760_000_000, len(land))
bytes_[::6] = 0
lm = pd.DataFrame(dict(lat=[y / 100.0 for _, y in land], lon=[x / 100.0 for x, _ in land], hash="", mtime=made + 0.5,
                       file_size=bytes_, path=""))
write("landmasks.parquet", lm)
write("landmasks_bare.parquet", lm.sort_values(["lat", "lon"], ascending=False)[["lat", "lon", "file_size"]])
(here / "landmasks.json").write_text(json.dumps([[x, y, int(b), int(m)] for (x, y), b, m in zip(land, bytes_, made)]) + "\n")
