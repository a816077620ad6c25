"""The consolidated store as unmodified clients read it: zarr-python, zarrs, TensorStore, xarray, rioxarray, odc-geo."""
import warnings

import numpy as np
import odc.geo.xr  # noqa: F401  registers .odc
import pytest
import rasterio
import rioxarray  # noqa: F401  registers .rio
import tensorstore
import xarray as xr
import zarr
import zarrs
from archive import BANDS, PIXEL, Tile
from mount import Mount, is_io_error
from reference import SHARD, Zone


@pytest.fixture(scope="module")
def zones(whole):
    return [Zone(whole, zone) for zone in (24, 25)]


# Each opens an array of a zone's group, to be indexed.


def by_zarr(group, name):
    return zarr.open_array(group / name, mode="r")


def by_zarrs(group, name):
    # Strict: it must not leave to zarr-python what it cannot read.
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}):
        array = zarr.open_array(group / name, mode="r")
    assert type(array.async_array.codec_pipeline) is zarrs.ZarrsCodecPipeline
    return array


class by_tensorstore:
    def __init__(self, group, name):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{group / name}/"}}
        self.array = tensorstore.open(spec, read=True).result()

    def __getitem__(self, key):
        return self.array[key].read().result()


class by_xarray:
    def __init__(self, group, name):
        # Of chunks of dask it would make one of each inner chunk, millions a zone.
        self.array = xr.open_zarr(group.parent, group=group.name, consolidated=True, chunks=None)[name]

    def __getitem__(self, key):
        return self.array[key].values


CLIENTS = [by_zarr, by_zarrs, by_tensorstore, by_xarray]


def windows(zone, year):
    """Rows and columns across the edges of each tile and inside it, and some of shards that are not there."""
    for _, top, left, height, width in zone.places(year):
        cols = slice(max(0, left - 20), left + width + 20)
        yield slice(max(0, top - 20), top + 20), cols
        yield slice(top + height - 20, top + height + 20), cols
        yield slice(top + height // 2, top + height // 2 + 9), slice(left, left + width)
    absent = {(row, 0) for row in range(zone.height // SHARD)} - zone.touched(year, SHARD)
    for row, _ in sorted(absent)[:1]:
        yield slice(row * SHARD + 10, row * SHARD + 20), slice(0, 30)


@pytest.mark.parametrize("open_array", CLIENTS)
def test_values(open_array, whole_mount, zones):
    """Catches a codec, a shard index or a fill value that a client takes for something else, and warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for zone in zones:
            group = whole_mount.consolidated() / f"utm{zone.zone}"
            embeddings, scales = open_array(group, "embeddings"), open_array(group, "scales")
            for time_index, year in enumerate(zone.years):
                for rows, cols in windows(zone, year):
                    want = zone.window(year, rows, cols)
                    np.testing.assert_array_equal(embeddings[time_index, :, rows, cols], want[0])
                    np.testing.assert_array_equal(scales[time_index, rows, cols], want[1])


@pytest.mark.parametrize("open_array", CLIENTS)
def test_coordinates(open_array, whole_mount, zones):
    """Catches coordinates that a client reads otherwise than the rest."""
    for zone in zones:
        group = whole_mount.consolidated() / f"utm{zone.zone}"
        np.testing.assert_array_equal(open_array(group, "time")[:], zone.years)
        np.testing.assert_array_equal(open_array(group, "band")[:], np.arange(BANDS))
        np.testing.assert_array_equal(open_array(group, "x")[:], zone.easting + 5 + PIXEL * np.arange(zone.width))
        np.testing.assert_array_equal(open_array(group, "y")[:], zone.northing - 5 - PIXEL * np.arange(zone.height))


@pytest.fixture(scope="module")
def bad_group(make_archive, tmp_path_factory):
    """A zone of one tile, which is cut in half."""
    bad = make_archive([Tile(2024, -3595, 8355, "truncated")])
    with Mount(bad.root, tmp_path_factory.mktemp("bad") / "mnt") as mounted:
        yield mounted.consolidated() / "utm25"


@pytest.mark.parametrize("open_array", CLIENTS)
def test_damaged_tile(open_array, bad_group):
    """Catches a damaged tile that a client shows as fill: it must have got an error, and passed it on."""
    embeddings, scales = open_array(bad_group, "embeddings"), open_array(bad_group, "scales")
    for read in (lambda: embeddings[0, :, 500:510, 90:100], lambda: scales[0, 500:510, 90:100]):
        with pytest.raises((OSError, RuntimeError, ValueError, ExceptionGroup)) as failure:
            read()
        assert is_io_error(failure.value), failure.value


# xarray


def test_zone_by_group(whole_mount, zones):
    """Catches a zone that is not in the root's consolidated metadata as it is in its own, and a root that
    xarray warns of: geotessera opens zones by group, consolidated in the root."""
    store = whole_mount.consolidated()
    for zone in zones:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            by_group = xr.open_zarr(store, group=f"utm{zone.zone}", consolidated=True, chunks=None)
            by_itself = xr.open_zarr(store / f"utm{zone.zone}", chunks=None)
        with by_group, by_itself:
            assert dict(by_group.sizes) == {"time": len(zone.years), "band": BANDS, "y": zone.height, "x": zone.width}
            assert by_group.attrs == by_itself.attrs and set(by_group.variables) == set(by_itself.variables)
            for name in by_group.variables:
                a, b = by_group[name], by_itself[name]
                assert (a.dims, a.dtype, a.shape, a.attrs) == (b.dims, b.dtype, b.shape, b.attrs)
                assert a.encoding.get("chunks") == b.encoding.get("chunks")


def test_datatree(whole_mount, zones):
    """Catches a tree whose nodes inherit what is not theirs, or that does not read as its zones do."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xr.open_datatree(whole_mount.consolidated(), engine="zarr")
    with tree:
        assert set(tree.children) == {f"utm{zone.zone}" for zone in zones} and not tree.variables
        assert tree.attrs["geoemb:type"] == "pixel"
        for zone in zones:
            node = tree[f"utm{zone.zone}"]
            assert set(node.data_vars) == {"embeddings", "scales"} and set(node.indexes) == {"time", "band", "y", "x"}
            rows, cols = next(windows(zone, 2024))
            at = node.dataset.sel(time=2024).isel(y=rows, x=cols)
            want = zone.window(2024, rows, cols)
            np.testing.assert_array_equal(at.embeddings, want[0])
            np.testing.assert_array_equal(at.scales, want[1])


def test_crs_and_transform(whole_mount, zones):
    """Catches a CRS or a transform that rioxarray or odc-geo does not find, or finds half a pixel off; of
    the whole and of a part, for which they work it out from the coordinates."""
    for zone in zones:
        with xr.open_zarr(whole_mount.consolidated(), group=f"utm{zone.zone}") as dataset:
            rows, cols = slice(1000, 1100), slice(30, 80)
            part = dataset.isel(y=rows, x=cols)
            for data, easting, northing, shape in [
                (dataset, zone.easting, zone.northing, (zone.height, zone.width)),
                (part, zone.easting + 30 * PIXEL, zone.northing - 1000 * PIXEL, (100, 50)),
            ]:
                transform = rasterio.Affine(PIXEL, 0, easting, 0, -PIXEL, northing)
                for array in data.embeddings, data.scales:
                    assert array.rio.crs.to_epsg() == array.odc.crs.to_epsg() == zone.epsg
                    assert array.rio.transform() == array.odc.geobox.transform == transform
                    assert (array.rio.height, array.rio.width) == array.odc.geobox.shape == shape
                assert data.rio.crs.to_epsg() == data.odc.crs.to_epsg() == zone.epsg
