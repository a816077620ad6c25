"""Unmodified clients open the stores and find what they look for: xarray, rioxarray, GDAL, zarr-python."""
import multiprocessing
import shutil
import warnings
import zlib

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
import zarr
from archive import Tile, footprint
from mount import chunk_path
from reference import ZoneYear


@pytest.fixture
def expected(few):
    return ZoneYear(few, 2024, 25)


@pytest.fixture
def dataset(store):
    """The store as xarray opens it with no arguments; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xr.open_zarr(store)
    with opened:
        yield opened


def test_xarray(dataset, expected):
    """Catches a store that needs arguments, warns, or has other names, dimensions or dtypes."""
    assert dict(dataset.sizes) == {"northing": expected.height, "easting": expected.width, "band": 128}
    assert set(dataset.data_vars) == {"embeddings", "scales"}
    assert dataset.embeddings.dims == ("northing", "easting", "band") and dataset.embeddings.dtype == np.int8
    assert dataset.scales.dims == ("northing", "easting") and dataset.scales.dtype == np.float32
    assert set(dataset.coords) == {"northing", "easting", "band", "spatial_ref"}
    assert set(dataset.indexes) == {"northing", "easting", "band"}
    assert dataset.embeddings.encoding["chunks"] == (1024, 1024, 128)
    assert dataset.scales.encoding["chunks"] == (1024, 1024)
    assert dataset.embeddings.encoding["compressors"] == dataset.scales.encoding["compressors"] == ()


def test_fill_values(store):
    """Catches a fill that is data: clients make the pixels between tiles from it."""
    group = zarr.open_group(store, mode="r")
    assert group["embeddings"].fill_value == 0 and np.isnan(group["scales"].fill_value)


def test_group_attributes(dataset, expected):
    """Catches an attribute of the published zone-year layout, or of a convention, that is missing."""
    attributes = dataset.attrs
    assert attributes["utm_zone"] == 25 and attributes["year"] == 2024 and attributes["crs_epsg"] == 32625
    assert attributes["pixel_size_m"] == 10.0 and attributes["n_tiles"] == 2
    assert attributes["transform"] == [10.0, 0.0, expected.easting, 0.0, -10.0, expected.northing]
    assert pyproj.CRS(attributes["crs_wkt"]).to_epsg() == 32625
    assert attributes["proj:code"] == "EPSG:32625" and pyproj.CRS(attributes["proj:wkt2"]).to_epsg() == 32625
    assert attributes["spatial:transform"] == attributes["transform"]
    assert attributes["spatial:dimensions"] == ["northing", "easting"]
    assert attributes["spatial:shape"] == [expected.height, expected.width]
    names = {convention["name"].rstrip(":") for convention in attributes["zarr_conventions"]}
    assert {"proj", "spatial"} <= names


def test_cf(dataset):
    """Catches CF metadata that tools for grids look for: grid mapping, standard names, axes, units."""
    assert dataset.easting.attrs["standard_name"] == "projection_x_coordinate" and dataset.easting.attrs["axis"] == "X"
    assert dataset.northing.attrs["standard_name"] == "projection_y_coordinate" and dataset.northing.attrs["axis"] == "Y"
    assert dataset.easting.attrs["units"] == dataset.northing.attrs["units"] == "m"
    for name in "embeddings", "scales":
        mapping = dataset[name].attrs.get("grid_mapping") or dataset[name].encoding.get("grid_mapping")
        assert mapping == "spatial_ref"
    assert pyproj.CRS.from_cf(dataset.spatial_ref.attrs).to_epsg() == 32625


def test_rioxarray(dataset, expected):
    """Catches a CRS or a transform that rioxarray does not find, or that is half a pixel off."""
    scales = dataset.scales
    assert scales.rio.crs.to_epsg() == 32625
    assert scales.rio.transform() == rasterio.Affine(10, 0, expected.easting, 0, -10, expected.northing)
    assert scales.rio.bounds() == (expected.easting, expected.northing - 10 * expected.height,
                                   expected.easting + 10 * expected.width, expected.northing)
    assert (scales.rio.x_dim, scales.rio.y_dim) == ("easting", "northing")


def test_gdal(store, expected):
    """Catches a store that GDAL opens without georeference, or reads otherwise than NumPy does."""
    with rasterio.open(f'ZARR:"{store}":/scales') as scales:
        assert scales.crs.to_epsg() == 32625
        assert scales.transform == rasterio.Affine(10, 0, expected.easting, 0, -10, expected.northing)
        assert (scales.height, scales.width) == (expected.height, expected.width) and np.isnan(scales.nodata)
        rows, cols = slice(1000, 1100), slice(50, 200)
        got = scales.read(1, window=rasterio.windows.Window.from_slices(rows, cols))
        np.testing.assert_array_equal(got, expected.window(rows, cols)[1])


def test_gdal_does_not_fill_what_failed(make_archive, mounting):
    """Catches a damaged tile that GDAL shows as nodata: it takes a failed open for an absent chunk."""
    bad = make_archive([Tile(2024, -3595, 8355, "truncated")])
    with mounting(bad.root) as mounted, rasterio.open(f'ZARR:"{mounted.store(2024, 25)}":/scales') as scales:
        with pytest.raises(rasterio.errors.RasterioIOError):
            scales.read(1)


def test_consolidated(store, tmp_path):
    """Catches inline consolidated metadata that zarr-python would have written otherwise."""
    copy = tmp_path / "store.zarr"
    for path in store.rglob("*"):  # the chunks of pixels do not matter; modes are not copied, they forbid to write
        name = path.relative_to(store)
        if path.is_file() and not (name.parts[0] in ("embeddings", "scales") and name.parts[1] == "c"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy / name)
    shown = zarr.open_group(store, mode="r", use_consolidated=True).metadata
    assert shown.consolidated_metadata is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata is not yet in the specification
        made = zarr.consolidate_metadata(zarr.storage.LocalStore(copy)).metadata
    assert shown.to_dict() == made.to_dict()
    one_by_one = zarr.open_group(store, mode="r", use_consolidated=False)
    assert {name for name, _ in one_by_one.arrays()} == set(shown.consolidated_metadata.metadata)
    for name, array in one_by_one.arrays():
        assert array.metadata.to_dict() == shown.consolidated_metadata.metadata[name].to_dict()


def test_points(dataset, few, expected):
    """Catches coordinates that lead beside the tile: a point by easting and northing is in the file."""
    for tile in expected.tiles:
        west, north, height, width = footprint(tile)
        row, col = height // 4, width // 4
        raw = np.load(few.path(tile), mmap_mode="r")[row, col]
        at = dataset.sel(easting=10 * np.floor(west / 10) + 10 * col + 5, northing=10 * np.floor(north / 10) - 10 * row + 5,
                         method="nearest", tolerance=10)
        assert np.array_equal(at.embeddings, raw)


def test_dask(store, expected):
    """Catches races between threads of one reader."""
    whole = slice(0, expected.height), slice(0, expected.width)
    embeddings, scales = expected.window(*whole)
    with xr.open_zarr(store, chunks=None) as opened:
        lazy = opened.chunk(northing=100, easting=64)
        got = lazy.compute(scheduler="threads", num_workers=8)
    assert np.array_equal(got.embeddings, embeddings)
    assert np.array_equal(got.scales, scales, equal_nan=True)


def test_dequantised(dataset, expected):
    """Catches a store that cannot be used as its users do: embeddings times scale, nodata NaN."""
    rows, cols = slice(200, 300), slice(0, 100)
    embeddings, scales = expected.window(rows, cols)
    window = dataset.isel(northing=rows, easting=cols)
    np.testing.assert_array_equal(window.embeddings * window.scales, embeddings * scales[:, :, None])


def test_to_dataframe(dataset):
    """Catches coordinates that do not align: a small window as a table has one row a pixel and band."""
    frame = dataset.isel(northing=slice(300, 304), easting=slice(30, 35)).to_dataframe()
    assert isinstance(frame, pd.DataFrame) and len(frame) == 4 * 5 * 128


def test_memmap(store, expected):
    """Catches a file that cannot be mapped, which LocalStore's users and np.memmap do."""
    chunk = np.memmap(chunk_path(store, "embeddings", 0, 0), np.int8, "r", shape=(1024, 1024, 128))
    rows, cols = expected.extent(0, 0)
    want = expected.window(rows, cols)[0]
    assert np.array_equal(chunk[: rows.stop, : cols.stop], want)
    assert not chunk[: rows.stop, cols.stop :].any()


def checksum(store):
    """Of every pixel of a store, in a process of its own."""
    group = zarr.open_group(store, mode="r")
    return zlib.crc32(group["scales"][:].tobytes(), zlib.crc32(group["embeddings"][:].tobytes()))


def test_processes(store, expected):
    """Catches readers of several processes that get each other's bytes."""
    embeddings, scales = expected.window(slice(0, expected.height), slice(0, expected.width))
    want = zlib.crc32(scales.tobytes(), zlib.crc32(embeddings.tobytes()))
    with multiprocessing.get_context("spawn").Pool(4) as processes:
        assert processes.map(checksum, [str(store)] * 4) == [want] * 4
