"""Per-tile stores: each tile by itself, in its own system, with metadata that checkers accept."""
import errno
import os
import shutil
import subprocess
import time
import warnings

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
import zarr
from archive import BROKEN, UNREADABLE, WHOLE, Tile, footprint
from compliance_checker.base import BaseCheck
from compliance_checker.suite import CheckSuite
from reference import Damaged, read_tile

ROWS = 128  # of a chunk
NORTH, SOUTH = Tile(2024, -3595, 8355), Tile(2024, -3505, -8335)


def tile_store(mounted, tile):
    return mounted.dir / "v1/tiles" / str(tile.year) / f"{tile.name}.zarr"


def corner(tile):
    """Easting and northing of the north-western corner of the first pixel: floor, and for rows its mirror."""
    left, top, _, _ = footprint(tile)
    return 10 * np.floor(left / 10), 10 * np.ceil(top / 10)


def chunks(store, array):
    """The chunk files of an array of pixels, from north to south."""
    rows = sorted((store / array / "c").iterdir(), key=lambda path: int(path.name))
    assert [path.name for path in rows] == [str(i) for i in range(len(rows))]
    return [path / "0" / "0" if array == "embeddings" else path / "0" for path in rows]


def land_of(archive, tile):
    """The landmask as the file has it, 1 where there is none."""
    _, _, height, width = footprint(tile)
    if not archive.mask_path(tile).exists():
        return np.ones((height, width), np.uint8)
    with rasterio.open(archive.mask_path(tile)) as file:
        return file.read(1)


def opened(store):
    """The store as xarray opens it with no arguments; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return xr.open_zarr(store)


def test_listed(whole_mount, whole):
    """Catches a tile without a store, a store without a tile, or one in another year."""
    top = whole_mount.dir / "v1/tiles"
    shown = sorted((int(year.name), store.name) for year in top.iterdir() for store in year.iterdir())
    assert shown == sorted((tile.year, tile.name + ".zarr") for tile in whole.tiles)
    for name in "2022", "2024/grid_0.05_0.05.zarr", f"2023/{NORTH.name}.zarr", f"2024/{NORTH.name}", "2024/manifest.parquet":
        assert not (top / name).exists()


@pytest.mark.parametrize("tile", WHOLE, ids=lambda tile: f"{tile.year}-{tile.name}")
def test_values(whole_mount, whole, tile):
    """Catches a pixel out of place, embeddings that are not the tile's own, a scale that counts and
    should not, a landmask of another pixel, coordinates that are not the centres."""
    store, (_, _, height, width) = tile_store(whole_mount, tile), footprint(tile)
    group = zarr.open_group(store, mode="r")
    raw = np.load(whole.path(tile), mmap_mode="r")[:height, :width]
    assert group["embeddings"].shape == (height, width, 128) and group["embeddings"].chunks == (ROWS, width, 128)
    assert np.array_equal(group["embeddings"][:], raw)
    np.testing.assert_array_equal(group["scales"][:], read_tile(whole, tile)[1])
    np.testing.assert_array_equal(group["landmask"][:], land_of(whole, tile))
    west, north = corner(tile)
    np.testing.assert_array_equal(group["x"][:], west + 5 + 10.0 * np.arange(width))
    np.testing.assert_array_equal(group["y"][:], north - 5 - 10.0 * np.arange(height))
    np.testing.assert_array_equal(group["band"][:], np.arange(128))
    assert (group["y"][:] > 0).all(), "southern northings are 327ZZ's own"


def test_chunks_are_runs_of_the_file(whole_mount, whole):
    """Catches a chunk that is not one run of the NPY, so that it could not be referred to in place; what
    lies below the last row must be fill."""
    store, (_, _, height, width) = tile_store(whole_mount, NORTH), footprint(NORTH)
    with open(whole.path(NORTH), "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    npy, step = np.memmap(whole.path(NORTH), np.int8, "r"), ROWS * width * 128
    files = chunks(store, "embeddings")
    assert len(files) == -(-height // ROWS)
    for i, path in enumerate(files):
        data, run = np.fromfile(path, np.int8), npy[offset + i * step : offset + (i + 1) * step]
        assert len(data) == path.stat().st_size == step
        assert np.array_equal(data[: len(run)], run) and not data[len(run) :].any()
        assert path.stat().st_blocks == -(-len(run) // 512)
    with open(files[-1], "rb") as file:  # the fill of the last strip is a hole
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == len(run) < step
    below = slice((height % ROWS) * width, None)
    assert np.isnan(np.fromfile(chunks(store, "scales")[-1], "<f4")[below]).all()
    assert not np.fromfile(chunks(store, "landmask")[-1], np.uint8)[below].any()
    assert os.getxattr(files[0], "user.tesserafs.tiles") == NORTH.name.encode()


def test_agrees_with_the_zone(whole_mount):
    """Catches a tile that lies elsewhere by itself than in the store of its zone."""
    with opened(whole_mount.store(2024, 25)) as zone:
        for tile in [NORTH, SOUTH, Tile(2024, -3305, 8355)]:
            with opened(tile_store(whole_mount, tile)) as own:
                pixel = own.isel(y=own.sizes["y"] // 2 + 3, x=9)
                there = zone.sel(easting=pixel.x.item(), northing=pixel.y.item() - (1e7 if tile.lat < 0 else 0))
                assert np.isfinite(there.scales) and there.scales == pixel.scales
                assert np.array_equal(there.embeddings, pixel.embeddings)


@pytest.mark.parametrize("tile", [NORTH, SOUTH], ids=["north", "south"])
def test_xarray_and_rioxarray(whole_mount, tile):
    """Catches a store that needs arguments or warns, other names or types, a CRS or transform not found."""
    _, _, height, width = footprint(tile)
    west, north = corner(tile)
    with opened(tile_store(whole_mount, tile)) as dataset:
        assert dict(dataset.sizes) == {"y": height, "x": width, "band": 128}
        assert {name: str(array.dtype) for name, array in dataset.data_vars.items()} == {
            "embeddings": "int8", "scales": "float32", "landmask": "uint8"}
        assert set(dataset.coords) == {"y", "x", "band", "spatial_ref"} and set(dataset.indexes) == {"y", "x", "band"}
        assert dataset.chunks["y"][0] == ROWS and dataset.chunks["x"] == (width,)
        for name in dataset.data_vars:
            assert dataset[name].rio.crs.to_epsg() == tile.epsg
            assert dataset[name].rio.transform() == rasterio.Affine(10, 0, west, 0, -10, north)
        assert pyproj.CRS.from_cf(dataset.spatial_ref.attrs).to_epsg() == tile.epsg
        assert pyproj.CRS(dataset.attrs["proj:wkt2"]).to_epsg() == tile.epsg
        assert dataset.attrs["proj:code"] == f"EPSG:{tile.epsg}"
        assert dataset.attrs["spatial:dimensions"] == ["y", "x"] and dataset.attrs["spatial:shape"] == [height, width]
        assert dataset.attrs["spatial:transform"] == [10, 0, west, 0, -10, north]
        assert {c["name"] for c in dataset.attrs["zarr_conventions"]} == {"proj", "spatial"}


def test_gdal(whole_mount):
    """Catches a store that GDAL opens without georeference, on the southern hemisphere too."""
    for tile in NORTH, SOUTH:
        west, north = corner(tile)
        for name in "scales", "landmask":
            with rasterio.open(f'ZARR:"{tile_store(whole_mount, tile)}":/{name}') as array:
                assert array.crs.to_epsg() == tile.epsg
                assert array.transform == rasterio.Affine(10, 0, west, 0, -10, north)


@pytest.mark.parametrize("tile", [NORTH, SOUTH], ids=["north", "south"])
def test_extents(whole_mount, whole, tile):
    """Catches limits that leave out a pixel or are wider than the tile, of place and of time, and dates
    that are not the tile's."""
    with opened(tile_store(whole_mount, tile)) as dataset:
        about, x, y = dataset.attrs, dataset.x.values, dataset.y.values
    xs = np.concatenate([x, x, np.full(len(y), x[0] - 5), np.full(len(y), x[-1] + 5), x[[0, 0, -1, -1]] + [-5, -5, 5, 5]])
    ys = np.concatenate([np.full(len(x), y[0] + 5), np.full(len(x), y[-1] - 5), y, y, y[[0, -1, 0, -1]] + [5, -5, 5, -5]])
    lons, lats = pyproj.Transformer.from_crs(f"EPSG:{tile.epsg}", "EPSG:4326", always_xy=True).transform(xs, ys)
    for name, values in ("lon", lons), ("lat", lats):
        np.testing.assert_allclose(about[f"geospatial_{name}_min"], values.min(), atol=1e-7)
        np.testing.assert_allclose(about[f"geospatial_{name}_max"], values.max(), atol=1e-7)
    assert about["geospatial_bounds_crs"] == f"EPSG:{tile.epsg}"
    ring = [tuple(map(float, point.split())) for point in about["geospatial_bounds"].removeprefix("POLYGON ((").removesuffix("))").split(",")]
    west, south, east, north = x[0] - 5, y[-1] - 5, x[-1] + 5, y[0] + 5
    assert ring == [(west, south), (east, south), (east, north), (west, north), (west, south)]
    assert about["time_coverage_start"] == "2024-01-01T00:00:00Z" and about["time_coverage_end"] == "2024-12-31T23:59:59Z"
    assert about["date_created"] == about["date_modified"] == "2026-01-05T00:00:00Z" and about["history"].startswith("2026-01-05T00:00:00Z: ")
    assert about["id"] == f"v1/2024/{tile.name}" and about["Conventions"] == "CF-1.11, ACDD-1.3"


def findings(path, checker):
    """What a checker has to say, as (name, message) by priority."""
    CheckSuite.load_all_available_checkers()
    checks = CheckSuite()
    results, errors = checks.run_all(checks.load_dataset(str(path)), [checker])[checker]
    assert not errors, errors
    found = {BaseCheck.HIGH: set(), BaseCheck.MEDIUM: set(), BaseCheck.LOW: set()}

    def walk(result):
        good = result.value is True or result.value is None or isinstance(result.value, tuple) and result.value[0] == result.value[1]
        if not good:
            found[result.weight] |= {(result.name, message) for message in result.msgs or ["fails"]}
        for child in result.children or []:
            walk(child)

    for result in results:
        walk(result)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the checker's, about itself
@pytest.mark.parametrize("tile", [NORTH, SOUTH, Tile(2024, -3305, 8355)], ids=["north", "south", "no landmask"])
def test_cf_and_acdd(whole_mount, tmp_path, tile):
    """Catches metadata that the IOOS compliance checker finds at fault, for CF 1.11 and ACDD 1.3.

    The checker reads NetCDF, so xarray writes the store as NetCDF. What belongs to Zarr's conventions
    stays behind: NetCDF has no objects as attributes, and no colons in their names.
    """
    path = tmp_path / "tile.nc"
    with opened(tile_store(whole_mount, tile)) as dataset:
        for name in [name for name in dataset.attrs if name == "zarr_conventions" or name.startswith(("proj:", "spatial:"))]:
            del dataset.attrs[name]
        # xarray gives every float a _FillValue, which coordinates must not have; that is its own doing.
        dataset.to_netcdf(path, encoding={"x": {"_FillValue": None}, "y": {"_FillValue": None}})
    cf = findings(path, "cf:1.11")
    assert cf[BaseCheck.HIGH] == set()
    # CF would like bands to vary slowest. The tile's bytes have them vary fastest.
    assert len(cf[BaseCheck.MEDIUM]) == 1 and "embeddings's spatio-temporal dimensions" in next(iter(cf[BaseCheck.MEDIUM]))[1]
    acdd = findings(path, "acdd:1.3")
    # There is no name for either in CF's table, and a name that is not in it is an error of CF.
    assert acdd[BaseCheck.HIGH] == {(f'variable "{name}" missing the following attributes:', "standard_name") for name in ("embeddings", "scales")}
    missing = {message for name, message in acdd[BaseCheck.MEDIUM] if name == "Global Attributes"}
    # A tile has no third dimension, and TESSERA publishes no address for mail.
    assert all("vertical" in message or "email" in message for message in missing), missing


def test_consolidated(whole_mount, tmp_path):
    """Catches inline consolidated metadata that zarr-python would have written otherwise."""
    store, copy = tile_store(whole_mount, SOUTH), tmp_path / "store.zarr"
    subprocess.run(["rsync", "-r", "--exclude=c/", store, tmp_path], check=True)
    (tmp_path / store.name).rename(copy)
    shown = zarr.open_group(store, mode="r", use_consolidated=True).metadata
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata is not yet in the specification
        made = zarr.consolidate_metadata(zarr.storage.LocalStore(copy)).metadata
    assert shown.to_dict() == made.to_dict() and shown.consolidated_metadata is not None


def test_rsync(whole_mount, mounting, whole, tmp_path):
    """Catches a store that is not the same after a remount, in a byte, a size or a time, or whose copy
    reads otherwise."""
    store, copy = tile_store(whole_mount, NORTH), tmp_path / "copy"
    copy.mkdir()
    subprocess.run(["rsync", "-a", "--sparse", f"{store}/", copy], check=True)
    with mounting(whole.root) as again:
        changes = subprocess.run(["rsync", "-ain", f"{tile_store(again, NORTH)}/", copy], check=True, capture_output=True, text=True)
        assert changes.stdout == ""
        documents = [path.relative_to(store) for path in store.rglob("zarr.json")]
        assert len(documents) == 8
        for name in documents:
            assert (tile_store(again, NORTH) / name).read_bytes() == (copy / name).read_bytes()
    with opened(store) as one, opened(copy) as other:
        xr.testing.assert_identical(one.load(), other.load())
    subprocess.run(["chmod", "-R", "u+w", copy], check=True)
    shutil.rmtree(copy)


@pytest.fixture(scope="module")
def broken(make_archive):
    return make_archive(BROKEN)


def test_broken_fails(mounting, broken):
    """Catches a damaged tile that is shown as fill in any of its arrays, or fails on open, and a whole
    tile that fails."""
    with mounting(broken.root) as mounted:
        damaged = set()
        for tile in broken.tiles:
            store = tile_store(mounted, tile)
            try:
                want = read_tile(broken, tile)
            except Damaged:
                damaged.add(tile.name)
                for array in "embeddings", "scales", "landmask":
                    for path in chunks(store, array):
                        with open(path, "rb", buffering=0) as file, pytest.raises(OSError) as raised:
                            file.read(4096)
                        assert raised.value.errno == errno.EIO
                assert opened(store).sizes["band"] == 128  # what is known of it is shown all the same
            else:
                np.testing.assert_array_equal(zarr.open_group(store, mode="r")["scales"][:], want[1])
        listed = mounted.status()["failed_tiles"]
        assert len(damaged) == len(BROKEN) - 2 and {name for name in damaged if any(name in f["object"] for f in listed)} == damaged


def test_broken_filled(mounting, broken):
    """Catches --missing-tiles=fill that fills too much, too little, or with something else than the
    arrays' fill values."""
    with mounting(broken.root, "--missing-tiles=fill") as mounted:
        for tile in broken.tiles:
            group, (_, _, height, width) = zarr.open_group(tile_store(mounted, tile), mode="r"), footprint(tile)
            embeddings, scales, land = np.zeros((height, width, 128), np.int8), np.full((height, width), np.nan, np.float32), np.zeros((height, width), np.uint8)
            if tile.fault not in UNREADABLE:
                try:
                    shown = read_tile(broken, tile)[1]
                    mask = land_of(broken, tile)
                except Damaged as damage:  # shown as far as it goes, without the mask that does not fit
                    shown = damage.partial[1]
                    mask = np.ones(shown.shape, np.uint8)
                rows, cols = shown.shape
                scales[:rows, :cols], land[:rows, :cols] = shown, mask
                embeddings[:rows, :cols] = np.load(broken.path(tile), mmap_mode="r")[:rows, :cols]
            assert np.array_equal(group["embeddings"][:], embeddings), tile
            np.testing.assert_array_equal(group["scales"][:], scales, tile.name)
            np.testing.assert_array_equal(group["landmask"][:], land, tile.name)


def test_large_year(room, mounting):
    """Catches a year that is built when it is listed: names come from the catalogue as they are asked for."""
    lats, lons = np.meshgrid(np.arange(-5995, 8000, 10), np.arange(-14995, -12000, 10))
    count, root = lats.size, room / "large"
    (root / "npy/v1").mkdir(parents=True)
    pd.DataFrame({"year": 2024, "lon": lons.ravel() / 100, "lat": lats.ravel() / 100, "grid_size": 100_000_000,
                  "scales_size": 4_000_000}).to_parquet(root / "npy/v1/manifest.parquet")
    with mounting(root) as mounted:
        year, before, begun = mounted.dir / "v1/tiles/2024", mounted.memory(), time.monotonic()
        names = subprocess.run(["ls", "-U", year], check=True, capture_output=True, text=True).stdout.split()
        assert time.monotonic() - begun < 10
        assert len(names) == len(set(names)) == count > 400_000
        assert names[0] == "grid_-149.95_-59.95.zarr" and names[-1] == "grid_-120.05_79.95.zarr"
        assert mounted.memory() - before < 64 << 20
        assert (year / names[123_456] / "zarr.json").stat().st_size > 10_000
        assert not (year / "grid_0.05_0.05.zarr").exists()
