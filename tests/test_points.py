"""`tesserafs points`: the pixel under each point of a table, whatever kind of file the table is."""
import decimal
import json
import math
import os
import pathlib
import signal
import struct
import subprocess
import time

import geotessera.store
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import xarray as xr
from archive import FEW, Tile
from mount import BINARY, run, wait_until
from reference import ZoneYear

BANDS = [f"band_{i}" for i in range(128)]
WRONG_DATA, UNREACHABLE, USAGE, FAILED = 4, 3, 2, 1


def points(source, table, *options, code=0):
    """Run `tesserafs points` to its end."""
    done = run("points", source, table, *options)
    assert done.returncode == code, done.stderr
    return done


def refused(source, table, code, *words, options=()):
    """It ends with the code and one line that has the words, and writes nothing."""
    done = points(source, table, *options, code=code)
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert str(word) in done.stderr, f"{word!r} is not in {done.stderr!r}"


def read(path):
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def scattered(n, seed=1):
    """Points over the cells of the archive of everything, and beside them, of both years."""
    noise = np.random.default_rng(seed)
    cells = [(-36.15, 83.55), (-36.05, 83.55), (-35.95, 83.55), (-35.85, 83.65), (-35.05, -83.35), (-33.0, 83.55)]
    lon, lat = np.array(cells)[noise.integers(0, len(cells), n)].T
    lon, lat = lon + noise.uniform(-0.09, 0.09, n), lat + noise.uniform(-0.07, 0.07, n)
    at_border = noise.random(n) < 0.1
    lon[at_border] = -36 + noise.uniform(-0.03, 0.03, at_border.sum())
    year = np.where(noise.random(n) < 0.15, 2023, 2024)
    year[:3] = 2019
    return pd.DataFrame({"plot": [f'no. {i}, "{i % 7}"' for i in range(n)], "lon": lon, "lat": lat, "year": year})


class Reference:
    """What must be under a point, painted from the tiles."""

    def __init__(self, archive):
        self.archive, self.zones = archive, {}

    def _zone(self, year, zone):
        if (year, zone) not in self.zones:
            self.zones[year, zone] = ZoneYear(self.archive, year, zone) if (year, zone) in self.archive.stores() else None
        return self.zones[year, zone]

    def _pixel(self, lon, lat, year, zone):
        """Embedding and scale of the zone's store; None where none of its tiles lies."""
        store = self._zone(year, zone)
        if store is None:
            return None
        easting, northing = pyproj.Transformer.from_crs(4326, 32600 + zone, always_xy=True).transform(lon, lat)
        row, col = math.floor((store.northing - northing) / 10), math.floor((easting - store.easting) / 10)
        if not (0 <= row < store.height and 0 <= col < store.width):
            return None
        rows, cols = slice(row, row + 1), slice(col, col + 1)
        if not store.covered(rows, cols).any():
            return None
        embeddings, scales = store.window(rows, cols)
        return embeddings[0, 0], scales[0, 0]

    def at(self, lon, lat, year):
        zone = math.floor((lon + 180) / 6) + 1
        found = self._pixel(lon, lat, year, zone)
        if found is None and min((lon + 180) % 6, 6 - (lon + 180) % 6) <= 0.1:
            found = self._pixel(lon, lat, year, zone - 1 if (lon + 180) % 6 < 3 else zone + 1)
        return found


@pytest.fixture(scope="module")
def table():
    return scattered(1500)


@pytest.fixture(scope="module")
def expected(whole, table):
    """Embeddings, scales (NaN for none) and counts (values, outside, nodata) of the table."""
    reference = Reference(whole)
    embeddings, scales, counts = np.zeros((len(table), 128), np.int8), np.full(len(table), np.nan, np.float32), [0, 0, 0]
    for i, row in enumerate(table.itertuples()):
        found = reference.at(row.lon, row.lat, row.year)
        if found is None:
            counts[1] += 1
        elif np.isnan(found[1]):
            counts[2] += 1
        else:
            embeddings[i], scales[i] = found
            counts[0] += 1
    assert min(counts) > 50, counts
    return embeddings, scales, counts


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("raw", [False, True], ids=["dequantised", "raw"])
def test_values(whole, table, expected, tmp_path, suffix, raw):
    """Catches a value of another pixel, tile, zone, year or row; a float that loses a bit on its way
    through text; nodata that is not empty; a count that is wrong; columns lost or in disorder."""
    embeddings, scales, counts = expected
    table.to_csv(tmp_path / "points.csv", index=False)
    done = points(whole.root, tmp_path / "points.csv", "-o", tmp_path / f"out{suffix}", *(["--raw"] if raw else []))
    got = read(tmp_path / f"out{suffix}")
    assert list(got.columns) == [*table.columns, *BANDS, *(["scale"] if raw else [])]
    pd.testing.assert_frame_equal(got[table.columns], table, check_dtype=False)
    empty = np.isnan(scales)
    assert got.loc[empty, BANDS].isna().all(axis=None)
    if raw:
        np.testing.assert_array_equal(got.loc[~empty, BANDS].to_numpy(np.int8), embeddings[~empty])
        np.testing.assert_array_equal(got["scale"].to_numpy(np.float32), scales)
    else:
        want = embeddings[~empty].astype(np.float32) * scales[~empty, None]
        np.testing.assert_array_equal(got.loc[~empty, BANDS].to_numpy(np.float32), want)
    summary = done.stderr.splitlines()[-1]
    assert f"{counts[0]:,} with values, {counts[1]:,} outside every tile, {counts[2]:,} on nodata" in summary
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_xarray_agrees(whole, whole_mount, table, tmp_path):
    """Catches values other than those that xarray's nearest pixel of the mounted store gives."""
    table = table[(table.lon < -36.01) & (table.lon > -36.19) & (table.year == 2024)]
    table.to_csv(tmp_path / "points.csv", index=False)
    points(whole.root, tmp_path / "points.csv", "-o", tmp_path / "out.parquet")
    got = pd.read_parquet(tmp_path / "out.parquet")
    easting, northing = pyproj.Transformer.from_crs(4326, 32624, always_xy=True).transform(got.lon, got.lat)
    with xr.open_zarr(whole_mount.store(2024, 24), chunks=None) as store:
        inside = ((abs(easting - float(store.easting.mean())) <= 5 * store.sizes["easting"])
                  & (abs(northing - float(store.northing.mean())) <= 5 * store.sizes["northing"]))
        assert inside.sum() > 100
        at = store.sel(easting=xr.DataArray(easting[inside], dims="point"), northing=xr.DataArray(northing[inside], dims="point"),
                       method="nearest")
        want = (at.embeddings.astype("f4") * at.scales).transpose("point", "band").values
    np.testing.assert_array_equal(got.loc[inside, BANDS].to_numpy(np.float32), want)


def test_sample_points_agrees(whole, whole_mount, table, tmp_path):
    """Catches values other than those that geotessera's own sampler gives, with the repairs that it
    makes where there is no value switched off."""
    table = table[table.year == 2024].reset_index(drop=True)
    table.to_csv(tmp_path / "points.csv", index=False)
    points(whole.root, tmp_path / "points.csv", "-o", tmp_path / "out.parquet")
    got = pd.read_parquet(tmp_path / "out.parquet")[BANDS].to_numpy(np.float32)
    store = geotessera.store.GeoTesseraZarr(str(whole_mount.dir / "v1" / "tessera.zarr"))
    coords = list(zip(table.lon, table.lat, strict=True))
    own = store.sample_points(coords, 2024, cross_zone=False, search_px=0)
    known = ~np.isnan(own[:, 0])
    assert known.sum() > 500
    np.testing.assert_array_equal(got[known], own[known])
    # What it has besides is of the zone next door, and there is nothing that only it has.
    both = store.sample_points(coords, 2024, search_px=0)
    more = ~known & ~np.isnan(got[:, 0])
    np.testing.assert_array_equal(got[more], both[more])
    assert (abs(table.lon[more] + 36) <= 0.1).all()


def wkb(lon, lat, srid=None, order="<"):
    kind = 1 | (0x20000000 if srid else 0)
    return struct.pack(order + "BI", order == "<", kind) + (struct.pack(order + "I", srid) if srid else b"") + \
        struct.pack(order + "dd", lon, lat)


CRS84 = {"type": "GeographicCRS", "name": "WGS 84 (CRS84)", "id": {"authority": "OGC", "code": "CRS84"}}
WGS84 = {"type": "GeographicCRS", "name": "WGS 84", "id": {"authority": "EPSG", "code": 4326}}
UTM25 = {"type": "ProjectedCRS", "name": "WGS 84 / UTM zone 25N", "id": {"authority": "EPSG", "code": 32625}}
NO_CRS = object()


def write_geoparquet(path, table, crs=NO_CRS, encoding="WKB", geometries=None, row_group=400):
    """A GeoParquet file of a table whose places are a geometry and nothing else."""
    kept = pa.Table.from_pandas(table.drop(columns=["lon", "lat"]), preserve_index=False)
    if geometries is None and encoding == "WKB":
        geometries = [wkb(*at, order="<>"[i % 2], srid=4326 if i % 3 else None)
                      for i, at in enumerate(zip(table.lon, table.lat, strict=True))]
    if encoding == "point":
        column = pa.StructArray.from_arrays([pa.array(table.lon), pa.array(table.lat)], ["x", "y"])
    else:
        column = pa.array(geometries, pa.binary())
    about = {"encoding": encoding, "geometry_types": ["Point"]} | ({} if crs is NO_CRS else {"crs": crs})
    geo = {"version": "1.1.0", "primary_column": "where", "columns": {"where": about}}
    out = pa.table([*kept.columns, column], [*kept.column_names, "where"])
    pq.write_table(out.replace_schema_metadata({"geo": json.dumps(geo)}), path, row_group_size=row_group)


def write_geojson(path, table, early_crs=False):
    features = [{"type": "Feature", "id": i, "geometry": {"type": "Point", "coordinates": [row.lon, row.lat, 12.5]},
                 "properties": {"plot": row.plot, "year": int(row.year)}} for i, row in enumerate(table.itertuples())]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    collection = {"type": "FeatureCollection", "name": "plots", "features": features, "bbox": [1, 2, 3, 4]}
    path.write_text(json.dumps({"crs": crs} | collection if early_crs else collection | {"crs": crs}))


INPUTS = {
    "points.parquet": lambda path, table: table.to_parquet(path, row_group_size=333),
    "float32.parquet": lambda path, table: table.assign(lon=table.lon.astype("f4"), lat=table.lat.astype("f4")).to_parquet(path),
    "wkb.parquet": lambda path, table: write_geoparquet(path, table),
    "crs84.geoparquet": lambda path, table: write_geoparquet(path, table, CRS84),
    "wgs84.parquet": lambda path, table: write_geoparquet(path, table, WGS84),
    "native.parquet": lambda path, table: write_geoparquet(path, table, CRS84, encoding="point"),
    "points.geojson": write_geojson,
    "crs.json": lambda path, table: write_geojson(path, table, early_crs=True),
    "capitals.csv": lambda path, table: path.write_text(
        "\ufeff" + table.rename(columns={"lon": "Longitude", "lat": "LAT", "year": "Year"}).to_csv(index=False, lineterminator="\r\n")),
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", INPUTS)
def test_inputs(whole, table, tmp_path, name, suffix):
    """Catches a kind of file that is read otherwise than the others: coordinates in the wrong order,
    rows lost between row groups, columns that are not passed on."""
    table = table[:900]
    if name == "float32.parquet":
        table = table.assign(lon=table.lon.astype("f4").astype("f8"), lat=table.lat.astype("f4").astype("f8"))
    table.to_csv(tmp_path / "plain.csv", index=False)
    points(whole.root, tmp_path / "plain.csv", "-o", tmp_path / "want.parquet")
    INPUTS[name](tmp_path / name, table)
    points(whole.root, tmp_path / name, "-o", tmp_path / f"out{suffix}")
    got, want = read(tmp_path / f"out{suffix}"), pd.read_parquet(tmp_path / "want.parquet")
    np.testing.assert_array_equal(got[BANDS].to_numpy(np.float32), want[BANDS].to_numpy(np.float32))
    assert list(got["plot"]) == list(table["plot"])
    if name in ("wkb.parquet", "crs84.geoparquet", "wgs84.parquet", "native.parquet"):
        if suffix == ".csv":
            assert got["where"][0] == f"POINT ({table.lon[0]!r} {table.lat[0]!r})".replace("np.float64(", "").replace(") ", " ").replace("))", ")")
        else:
            kept = pq.read_table(tmp_path / "out.parquet")
            assert json.loads(kept.schema.metadata[b"geo"])["primary_column"] == "where"
            assert kept["where"].combine_chunks().equals(pq.read_table(tmp_path / name)["where"].combine_chunks())


def test_other_columns_are_passed_on(few, tmp_path):
    """Catches a column that changes its type, its nulls or its text on the way."""
    times = pd.to_datetime(["2024-05-01T10:00:00Z", None, "2024-07-01"], format="ISO8601", utc=True)
    table = pd.DataFrame({"lon": [-35.95] * 3, "lat": [83.55] * 3, "n": pd.array([1, None, 3], "Int16"), "on": times,
                          "kind": pd.Categorical(["a", "b", None], ["b", "a"], ordered=True), "yes": [True, False, None],
                          "tags": [["x"], [], None], "text": ["", None, "ä\n\"b\", c"], "share": np.array([0.1, np.nan, 1], "f4"),
                          "box": [{"x": 1.5, "in": [True, None]}, None, {"x": None, "in": []}], "size": pd.array([1, None, 3], "UInt16"),
                          "price": [decimal.Decimal("1.50"), None, decimal.Decimal(12)]})
    table.to_parquet(tmp_path / "points.parquet")
    points(few.root, tmp_path / "points.parquet", "-o", tmp_path / "out.parquet")
    before, after = pq.read_table(tmp_path / "points.parquet"), pq.read_table(tmp_path / "out.parquet")
    for name in table.columns:
        kind, was = after.schema.field(name).type, before.schema.field(name).type
        assert kind == was or kind.value_type == was.value_type, name  # indices of categories become 32 bits wide
        np.testing.assert_equal(after[name].to_pylist(), before[name].to_pylist(), name)
    assert list(pd.read_parquet(tmp_path / "out.parquet")["kind"].cat.categories) == ["b", "a"]
    # Readers skip row groups by these.
    known = pq.read_metadata(tmp_path / "out.parquet").row_group(0).to_dict()["columns"]
    assert [(c["statistics"]["min"], c["statistics"]["max"]) for c in known if c["path_in_schema"] == "size"] == [(1, 3)]
    done = points(few.root, tmp_path / "points.parquet")
    rows = pd.read_csv(pd.io.common.StringIO(done.stdout), keep_default_na=False)
    assert list(rows["n"]) == ["1", "", "3"] and list(rows["text"]) == ["", "", "ä\n\"b\", c"]
    assert list(rows["kind"]) == ["a", "b", ""]


def test_properties_of_features(few, tmp_path):
    """Catches properties of later features that are lost, and types that do not hold all values."""
    properties = [{"b": 1, "a": "x"}, {"a": None, "c": True, "b": 2.5}, {"d": [1, {"e": 2}], "c": None}, None]
    features = [{"type": "Feature", "geometry": {"type": "Point", "coordinates": [-35.95, 83.55]}, "properties": p} for p in properties]
    (tmp_path / "points.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    points(few.root, tmp_path / "points.geojson", "-o", tmp_path / "out.parquet")
    got = pq.read_table(tmp_path / "out.parquet")
    assert got.column_names[:6] == ["lon", "lat", "b", "a", "c", "d"]
    assert got["b"].to_pylist() == [1.0, 2.5, None, None] and got["c"].to_pylist() == [None, True, None, None]
    assert got["a"].to_pylist() == ["x", None, None, None] and json.loads(got["d"].to_pylist()[2]) == [1, {"e": 2}]


def test_unix_tool(few, tmp_path):
    """Catches a filter that does not filter: CSV from standard input to standard output, in one year
    for all, with what is said on standard error."""
    text = "lon,lat\n-35.95,83.55\n0,0\n"
    done = subprocess.run([BINARY, "points", few.root, "-"], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == ",".join(["lon", "lat", *BANDS]) and len(lines) == 3
    assert lines[1].startswith("-35.95,83.55,") and lines[2] == "0,0" + "," * 128
    assert "year 2024 for all points" in done.stderr and "2 points" in done.stderr
    done = subprocess.run([BINARY, "points", few.root, "-", "--year", "2024", "--format", "parquet"], input=text.encode(),
                          capture_output=True, timeout=60)
    assert pq.read_table(pa.BufferReader(done.stdout)).num_rows == 2 and b"for all points" not in done.stderr
    done = subprocess.run([BINARY, "points", few.root, "-", "-o", "/dev/null", "--format", "csv"], input=text, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0 and not pathlib.Path("/dev/null").is_file()


def test_no_points(few, tmp_path):
    """Catches a table without rows that is taken for an error, or makes a file without columns."""
    (tmp_path / "none.csv").write_text("id,lon,lat\n")
    pd.DataFrame({"lon": pd.Series(dtype="f8"), "lat": pd.Series(dtype="f8")}).to_parquet(tmp_path / "none.parquet")
    (tmp_path / "none.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    for path in [*tmp_path.iterdir()]:
        for suffix in ".csv", ".parquet":
            out = tmp_path / f"out{suffix}"
            done = points(few.root, path, "-o", out)
            assert len(read(out)) == 0 and read(out).columns[-1] == "band_127" and done.stderr.splitlines()[-1].startswith("0 points")


def test_several_datasets(make_archive, tmp_path):
    """Catches points of another dataset than was asked for, or of any where one must be."""
    first = make_archive(FEW)
    make_archive([Tile(2023, -3585, 8355)], root=first.root, dataset="v1.1-cam")
    (tmp_path / "points.csv").write_text("lon,lat\n-35.85,83.51\n")
    refused(first.root, tmp_path / "points.csv", USAGE, "v1, v1.1-cam", "--dataset")
    refused(first.root, tmp_path / "points.csv", USAGE, "v3", "v1.1-cam", options=["--dataset", "v3"])
    done = points(first.root, tmp_path / "points.csv", "--dataset", "v1.1-cam")
    assert "year 2023" in done.stderr and "1 with values" in done.stderr
    refused(first.root, tmp_path / "points.csv", USAGE, "2024", "2023", options=["--dataset", "v1.1-cam", "--year", "2024"])


def test_missing_tiles(make_archive, tmp_path):
    """Catches a tile that cannot be read taken for nodata, and with --missing-tiles=fill counted as
    something else."""
    bad = Tile(2024, -3405, 8355, "truncated")
    archive = make_archive([*FEW, bad, Tile(2024, -3485, 8355, "missing_scales")])
    pd.DataFrame({"lon": [-35.95, -34.05, -34.85, 10], "lat": [83.51, 83.55, 83.55, 10]}).to_csv(tmp_path / "points.csv", index=False)
    out = tmp_path / "out.csv"
    done = points(archive.root, tmp_path / "points.csv", "-o", out, "--year", "2024", code=FAILED)
    assert len(done.stderr.splitlines()) == 1 and ("grid_-34.05_83.55" in done.stderr or "grid_-34.85_83.55" in done.stderr)
    assert not out.exists()
    done = points(archive.root, tmp_path / "points.csv", "-o", out, "--missing-tiles=fill")
    assert list(read(out)["band_0"].isna()) == [False, True, True, True]
    assert "1 with values, 1 outside every tile, 0 on nodata, 2 in tiles that could not be read" in done.stderr
    assert "grid_-34.05_83.55" in done.stderr and "grid_-34.85_83.55" in done.stderr
    refused(archive.root, tmp_path / "points.csv", USAGE, "missing-tiles", options=["--missing-tiles=maybe"])


@pytest.mark.parametrize("text, words", [
    ("", ["empty"]),
    ("x,y\n1,2\n", ["lon and lat", "x"]),
    ("lon,lat,lon\n1,2,3\n", ["column lon", "two"]),
    ("lon,lat\n1,2\nwest,2\n", ["row 1", "line 3", "column lon", "west"]),
    ("lon,lat\n1,\n", ["row 0", "line 2", "column lat"]),
    ("lon,lat\n1,90.5\n", ["row 0", "column lat", "90.5"]),
    ("lon,lat\n-180.001,0\n", ["row 0", "column lon", "-180.001"]),
    ("lon,lat\n1,nan\n", ["row 0", "column lat"]),
    ("lon,lat\ninf,1\n", ["row 0", "column lon"]),
    ("lon,lat,year\n1,1,last\n", ["row 0", "column year", "last"]),
    ("lon,lat,year\n1,1,2024.5\n", ["row 0", "column year", "2024.5"]),
    ("lon,lat\n1,1\n1,1,1\n", ["row 1", "line 3"]),
    ('lon,lat\n1,1\n"1,1\n', ["row 1"]),
    ("lon,lat,band_3\n1,1,1\n", ["column band_3"]),
], ids=["empty", "no places", "twice", "text", "nothing", "lat 90.5", "lon -180.001", "nan", "inf", "year text", "year 2024.5",
        "a field more", "open quote", "name taken"])
def test_bad_csv(few, tmp_path, text, words):
    """Catches a row that is guessed at, or skipped, instead of refused by file, row and column."""
    (tmp_path / "points.csv").write_text(text)
    refused(few.root, tmp_path / "points.csv", WRONG_DATA, "points.csv", *words, options=["--year", "2024"] if "year" not in text else [])


def feature(kind="Point", coordinates=(1, 2), **more):
    return {"type": "Feature", "properties": {}, "geometry": {"type": kind, "coordinates": coordinates}} | more


@pytest.mark.parametrize("content, words", [
    ("", ["ends too early"]),
    ("[1, 2]", ["FeatureCollection"]),
    ('{"type": "Feature"}', ["Feature"]),
    ('{"type": "FeatureCollection"}', ["no features"]),
    ('{"type": "FeatureCollection", "features": [', ["ends too early"]),
    ([feature(), feature("Polygon", [[[1, 2]]])], ["row 1", "geometry", "Polygon"]),
    ([feature(), {"type": "Feature", "geometry": None}], ["row 1", "geometry"]),
    ([feature(coordinates=[1])], ["row 0", "geometry"]),
    ([feature(coordinates=["1", "2"])], ["row 0", "geometry"]),
    ([feature(coordinates=[500000, 9000000])], ["row 0", "geometry", "500000"]),
    ([feature(properties=[1])], ["row 0", "properties"]),
    ([feature(properties={"year": 2024}), feature(properties={})], ["row 1", "column year"]),
    ({"features": [feature()], "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32625"}}}, ["32625", "reproject"]),
], ids=["empty", "a list", "a feature", "no features", "cut", "polygon", "no geometry", "one number", "text", "metres", "properties",
        "year missing", "projected"])
def test_bad_geojson(few, tmp_path, content, words):
    """Catches features that are taken for points, and coordinates that are not degrees."""
    if not isinstance(content, str):
        content = json.dumps({"type": "FeatureCollection"} | (content if isinstance(content, dict) else {"features": content}))
    (tmp_path / "points.geojson").write_text(content)
    refused(few.root, tmp_path / "points.geojson", WRONG_DATA, "points.geojson", *words,
            options=[] if "year" in content else ["--year", "2024"])


GOOD = pd.DataFrame({"lon": [-35.95, -35.94], "lat": [83.55, 83.56]})


@pytest.mark.parametrize("write, words", [
    (lambda path: path.write_bytes(b""), []),
    (lambda path: path.write_bytes(b"PAR1" + b"\xff" * 3000 + b"PAR1"), []),
    (lambda path: path.write_text("lon,lat\n1,2\n" * 50), []),
    (lambda path: (GOOD.to_parquet(path), os.truncate(path, path.stat().st_size // 2)), []),
    (lambda path: pd.DataFrame({"x": [1.0]}).to_parquet(path), ["lon and lat", "x"]),
    (lambda path: GOOD.astype(str).to_parquet(path), ["column lon"]),
    (lambda path: GOOD.assign(lat=[83.55, np.nan]).to_parquet(path), ["row 1", "column lat"]),
    (lambda path: GOOD.assign(lat=pd.array([83.55, None], "Float64")).to_parquet(path), ["row 1", "column lat"]),
    (lambda path: GOOD.assign(lon=[-35.95, 190]).to_parquet(path), ["row 1", "column lon", "190"]),
    (lambda path: GOOD.assign(year=[2024, 0]).to_parquet(path), ["row 1", "column year"]),
    (lambda path: write_geoparquet(path, GOOD, UTM25), ["column where", "UTM zone 25N", "reproject"]),
    (lambda path: write_geoparquet(path, GOOD, None), ["column where", "CRS", "EPSG:4326"]),
    (lambda path: write_geoparquet(path, GOOD, geometries=[wkb(1, 2), None]), ["row 1", "column where"]),
    (lambda path: write_geoparquet(path, GOOD, geometries=[wkb(1, 2), wkb(1, 2)[:-3]]), ["row 1", "column where"]),
    (lambda path: write_geoparquet(path, GOOD, geometries=[wkb(1, 2), struct.pack("<BII", 1, 2, 0)]), ["row 1", "type 2"]),
    (lambda path: write_geoparquet(path, GOOD, geometries=[wkb(1, 2), wkb(math.nan, math.nan)]), ["row 1", "column where"]),
], ids=["empty", "garbage", "CSV", "truncated", "no places", "text", "NaN", "null", "lon 190", "year 0", "projected", "no CRS", "null point",
        "cut point", "line", "empty point"])
def test_bad_parquet(few, tmp_path, write, words):
    """Catches a crash on a damaged file, metres taken for degrees, and a null taken for 0."""
    path = tmp_path / "points.parquet"
    write(path)
    options = [] if "year 0" in str(os.environ.get("PYTEST_CURRENT_TEST")) else ["--year", "2024"]
    refused(few.root, path, WRONG_DATA, "points.parquet", *words, options=options)


def test_usage(few, tmp_path):
    """Catches bad usage that does something."""
    GOOD.to_csv(tmp_path / "points.csv", index=False)
    GOOD.assign(year=2024).to_csv(tmp_path / "years.csv", index=False)
    for arguments, words in [
        (["points.csv", "-o", "out.txt"], ["out.txt", "--format"]), (["points.csv", "--format", "xlsx"], ["csv or parquet"]),
        (["points.csv", "--year", "1999"], ["1999", "2024"]), (["years.csv", "--year", "2024"], ["column year"]),
        (["points.shp"], ["points.shp", ".csv"]),
    ]:
        refused(few.root, tmp_path / arguments[0], USAGE, *words, options=arguments[1:])
    refused(tmp_path, tmp_path / "points.csv", UNREACHABLE, tmp_path)
    refused(few.root, tmp_path / "none.csv", FAILED, "none.csv")
    refused(few.root, tmp_path / "points.csv", FAILED, "directory", options=["-o", tmp_path, "--format", "csv", "--year", "2024"])


def test_interrupted(few, tmp_path):
    """Catches half a file under the name of a whole one, after Ctrl-C, a failure or both, an earlier
    file lost with it, and a process that does not end."""
    (tmp_path / "out.csv").write_text("what was there\n")
    for end in signal.SIGINT, signal.SIGTERM, None:
        process = subprocess.Popen([BINARY, "points", few.root, "-", "-o", tmp_path / "out.csv", "--year", "2024"],
                                   stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdin.write("lon,lat\n" + "-35.95,83.55\n" * 100_000)
        process.stdin.flush()
        assert wait_until(lambda: any(p.name.endswith(".part") and p.stat().st_size for p in tmp_path.iterdir()), 30)
        if end:
            process.send_signal(end)
        else:
            process.stdin.write("here,there\n")
            process.stdin.close()
        begun = time.monotonic()
        message = process.stderr.read()
        assert process.wait(timeout=10) in (FAILED, WRONG_DATA) and time.monotonic() - begun < 5
        assert ("interrupted" if end else "row 100000") in message and len(message.splitlines()) == 1, message
        assert [p.name for p in tmp_path.iterdir()] == ["out.csv"] and (tmp_path / "out.csv").read_text() == "what was there\n"


def test_output_in_place(few, tmp_path):
    """Catches a link that is replaced by a file, modes that are lost, and a pipe that is."""
    GOOD.to_csv(tmp_path / "points.csv", index=False)
    target = tmp_path / "target.csv"
    target.touch(0o600)
    (tmp_path / "link.csv").symlink_to(target)
    points(few.root, tmp_path / "points.csv", "-o", tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink() and len(read(target)) == 2 and target.stat().st_mode & 0o777 == 0o600
    points(few.root, target, "-o", target, "--format", "csv", code=WRONG_DATA)  # its columns are there already
    os.mkfifo(tmp_path / "pipe.csv")
    with subprocess.Popen(["cat", tmp_path / "pipe.csv"], stdout=subprocess.PIPE, text=True) as reader:
        points(few.root, tmp_path / "points.csv", "-o", tmp_path / "pipe.csv")
        assert len(reader.stdout.read().splitlines()) == 3
    assert (tmp_path / "pipe.csv").is_fifo()


@pytest.mark.parametrize("raw", [False, True], ids=["dequantised", "raw"])
def test_batches(few, tmp_path, raw):
    """Catches rows in disorder, and values of other rows, where a table has several row groups, one of
    them without any value."""
    noise = np.random.default_rng(4)
    lon = np.concatenate([np.full(20_000, 10.0), noise.uniform(-36, -35.8, 30_000)])
    table = pd.DataFrame({"id": np.arange(len(lon)), "lon": lon, "lat": noise.uniform(83.5, 83.6, len(lon))})
    table["text"] = ("n" + table["id"].astype(str)) * 30
    table.to_parquet(tmp_path / "points.parquet")
    got = []
    for suffix in ".parquet", ".csv":
        points(few.root, tmp_path / "points.parquet", "-o", tmp_path / f"out{suffix}", "--year", "2024", *(["--raw"] if raw else []))
        got.append(read(tmp_path / f"out{suffix}"))
    assert pq.read_metadata(tmp_path / "out.parquet").num_row_groups > 2
    for out in got:
        pd.testing.assert_frame_equal(out[table.columns], table)
        assert out[:20_000]["band_0"].isna().all() and out[20_000:]["band_0"].notna().sum() > 10_000
    values = [out[[*BANDS, *(["scale"] if raw else [])]].to_numpy(np.float32) for out in got]
    np.testing.assert_array_equal(*values)


def test_many_points_in_bounded_memory(few, tmp_path):
    """Catches a table that is held in memory as a whole: values of this one take 205 MB."""
    noise = np.random.default_rng(3)
    pd.DataFrame({"lon": noise.uniform(-36, -35.8, 400_000), "lat": noise.uniform(83.5, 83.6, 400_000)}).to_parquet(tmp_path / "points.parquet")
    process = subprocess.Popen([BINARY, "points", few.root, tmp_path / "points.parquet", "-o", tmp_path / "out.parquet"],
                               stderr=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        if "VmHWM" in status:  # not a zombie
            most = max(most, int(status.partition("VmHWM:")[2].split()[0]))
        time.sleep(0.02)
    assert process.returncode == 0 and pq.read_metadata(tmp_path / "out.parquet").num_rows == 400_000
    assert 0 < most < 300 << 10, f"{most >> 10} MiB"
