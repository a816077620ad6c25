"""geotessera's own reader and its registry's checks, unmodified, on the mounted consolidated store."""
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from archive import BANDS, FEW, PIXEL, Tile
from geotessera.store import GeoTesseraZarr
from mount import is_io_error
from reference import SHARD, Zone

BORDER = -36  # the meridian between zones 24 and 25


@pytest.fixture(scope="module")
def zones(whole):
    return {zone: Zone(whole, zone) for zone in (24, 25)}


@pytest.fixture(scope="module")
def reader(whole_mount):
    return GeoTesseraZarr(whole_mount.consolidated())


def expected_at(zones, lon, lat, year):
    """The embedding of a point: of its zone, and where there is none and the border is near, of the next."""
    own = 25 if lon >= BORDER else 24
    for zone in [own, 49 - own] if abs(lon - BORDER) <= 0.1 else [own]:
        embedding = zones[zone].embedding(year, *zones[zone].pixel(lon, lat))
        if embedding is not None:
            return embedding
    return np.full(BANDS, np.nan, np.float32)


def dequantised(zone, year, transform, shape):
    """The window that a reader says it read, worked out anew: (y, x, band), NaN where nothing is."""
    assert transform[:6:4] == (PIXEL, -PIXEL) and transform.b == transform.d == 0
    row, col = (zone.northing - transform.f) / PIXEL, (transform.c - zone.easting) / PIXEL
    assert row == int(row) and col == int(col)
    embeddings, scales = zone.window(year, slice(int(row), int(row) + shape[0]), slice(int(col), int(col) + shape[1]))
    return (embeddings * np.where(np.isfinite(scales), scales, np.float32(np.nan))).transpose(1, 2, 0)


def corners(bbox):
    west, south, east, north = bbox
    return [west, west, east, east], [south, north, south, north]


def test_opens(reader):
    """Catches a root that lacks what the reader takes from it, and a time axis that it cannot read."""
    assert reader.years == [2023, 2024] and reader.n_bands == BANDS
    assert reader.depths == {BANDS: "embeddings"}
    assert reader.model_version == "https://geotessera.org/model/1.0"


def test_sample_points(reader, whole, zones):
    """Catches a point that gets another pixel's embedding: points in every tile, both zones, both
    hemispheres, on water and on bad scales, near the border of the zones."""
    noise = np.random.default_rng(4)
    for year in reader.years:
        points = [((tile.lon + noise.uniform(-5, 5)) / 100, (tile.lat + noise.uniform(-5, 5)) / 100)
                  for tile in whole.tiles if tile.year == year for _ in range(12)]
        want = np.array([expected_at(zones, lon, lat, year) for lon, lat in points])
        there = np.isfinite(want[:, 0])
        assert there.any() and not there.all()
        np.testing.assert_array_equal(reader.sample_points(points, year, search_px=0), want)


def test_sample_at(reader, zones):
    """Catches a point of a zone that has no tile there and is covered by the next zone's, and mistakes
    of water for no tile: the reader tells them apart by NaN and infinity."""
    beyond = (BORDER - 0.003, 83.62)  # of zone 24, which has no tile so far north
    assert zones[24].embedding(2024, *zones[24].pixel(*beyond)) is None
    want = zones[25].embedding(2024, *zones[25].pixel(*beyond))
    np.testing.assert_array_equal(reader.sample_at(*beyond, 2024), want)
    for point, status in [((-35.95, 83.52), "valid"), ((-35.95, 83.55), "water"), ((-32.95, 83.55), "water"),
                          ((-34.5, 83.55), "nodata"), ((-30.5, 83.55), "outside"), ((10.0, 50.0), "outside")]:
        vector, why = reader.probe(*point, 2024)
        assert why == status, point
        assert (vector is None) == (status != "valid")
        want = expected_at(zones, *point, 2024) if vector is not None else np.full(BANDS, np.nan)
        np.testing.assert_array_equal(reader.sample_at(*point, 2024), want)


@pytest.mark.parametrize("zone, bbox", [(24, (-36.03, 83.56, -35.98, 83.57)), (25, (-36.02, 83.595, -35.97, 83.605)),
                                        (25, (-34.96, -83.39, -34.94, -83.38))])
def test_read_region(reader, zones, zone, bbox):
    """Catches a window that lies off by a pixel, of other values, or without what zone and tiles overlap;
    across the border it is the zone of the middle that counts."""
    mosaic, transform, crs = reader.read_region(bbox, 2024)
    assert crs == f"EPSG:326{zone}" and np.isfinite(mosaic).any()
    np.testing.assert_array_equal(mosaic, dequantised(zones[zone], 2024, transform, mosaic.shape))
    x, y = zones[zone].project(*corners(bbox))
    cols, rows = (np.array(x) - transform.c) / PIXEL, (transform.f - np.array(y)) / PIXEL
    for corner, pixels in (rows, mosaic.shape[0]), (cols, mosaic.shape[1]):
        # Pixels count whose centres lie inside: the corners are half a pixel beyond the window, at most.
        assert (abs(corner - np.clip(corner, 0, pixels)) <= 0.5).all() and np.ptp(corner) > pixels - 2


def test_read_patch_across_the_border(reader, zones):
    """Catches zones that do not fit together: a patch on the border is of pixels of both, unaltered."""
    patch, _, _ = reader.read_patch(BORDER, 83.525, 2024, 48)
    assert patch.shape == (48, 48, BANDS)
    vectors = {vector.tobytes() for vector in patch[np.isfinite(patch[:, :, 0])]}
    of_zones = []
    for zone in zones.values():
        row, col = zone.pixel(BORDER, 83.525)
        embeddings, scales = zone.window(2024, slice(row - 60, row + 60), slice(max(0, col - 60), col + 60))
        pixels = embeddings.transpose(1, 2, 0)[np.isfinite(scales)] * scales[np.isfinite(scales), None]
        of_zones.append({vector.tobytes() for vector in pixels})
    assert vectors <= of_zones[0] | of_zones[1]
    assert len(vectors & of_zones[0]) > 200 and len(vectors & of_zones[1]) > 200


def test_accessor(reader, zones):
    """Catches a zone group that cannot be opened by itself, or that the accessor reads otherwise."""
    dataset, zone = reader.open_zone(lon=-35.9), zones[25]
    accessor = dataset.tessera
    assert (accessor.crs, accessor.pixel_size, accessor.years, accessor.n_bands) == ("EPSG:32625", PIXEL, [2023, 2024], BANDS)
    assert reader.open_zone(zone=25) is dataset and reader.open_zone(bbox=(-35.9, 83.5, -35.8, 83.6)) is dataset
    for year in accessor.years:
        tile, top, left, height, width = zone.places(year)[-1]
        row, col = top + 40, left + 90
        x, y = dataset.x.values[col], dataset.y.values[row]
        np.testing.assert_array_equal(accessor.sample_at(x + 4, y - 4, year), expected_or_nan(zone.embedding(year, row, col)))
        bbox = (x, y - 30 * PIXEL, x + 20 * PIXEL, y)  # from centre to centre: those pixels and no others
        mosaic, transform = accessor.read_region(bbox, year)
        assert mosaic.shape == (31, 21, BANDS) and (transform.c, transform.f) == (x - PIXEL / 2, y + PIXEL / 2)
        np.testing.assert_array_equal(mosaic, dequantised(zone, year, transform, mosaic.shape))
        strips = [strip for strip, _ in accessor.iter_region(bbox, year, strip_rows=8)]
        np.testing.assert_array_equal(np.concatenate(strips), mosaic)


def expected_or_nan(embedding):
    return np.full(BANDS, np.nan, np.float32) if embedding is None else embedding


def test_no_such_zone(reader):
    """Catches a zone that is not there and is no KeyError, which is how the reader knows it to be outside."""
    for zone in 1, 23, 26, 60:
        with pytest.raises(KeyError):
            reader.open_zone(zone=zone)
    assert np.isnan(reader.sample_points([(-20.0, 83.55)], 2024)).all()


def test_depths(make_archive, mounting):
    """Catches prefix arrays that the reader does not find, or that are not the first bands."""
    second = make_archive(FEW, dataset="v2-2B-L~beta1")
    zone = Zone(second, 25)
    with mounting(second.root) as mounted:
        reader = GeoTesseraZarr(mounted.consolidated(second.dataset))
        assert reader.depths == {4: "embeddings_d4", 16: "embeddings_d16", BANDS: "embeddings"}
        points = [(-35.95 + i / 1000, 83.52 + i / 5000) for i in range(8)]
        want = np.array([zone.embedding(2024, *zone.pixel(*point)) for point in points])
        for depth in reader.depths:
            np.testing.assert_array_equal(reader.sample_points(points, 2024, depth=depth), want[:, :depth])
            mosaic, transform, _ = reader.read_region((-35.95, 83.52, -35.94, 83.525), 2024, depth=depth)
            np.testing.assert_array_equal(mosaic, dequantised(zone, 2024, transform, mosaic.shape)[:, :, :depth])


def test_damaged_tile(make_archive, mounting):
    """Catches a damaged tile that the reader takes for water or for no tile, and answers NaN."""
    bad = make_archive([Tile(2024, -3595, 8355, "truncated")])
    with mounting(bad.root) as mounted:
        reader = GeoTesseraZarr(mounted.consolidated())
        for read in (lambda: reader.sample_points([(-35.95, 83.52)], 2024), lambda: reader.sample_at(-35.95, 83.52, 2024),
                     lambda: reader.read_region((-35.95, 83.52, -35.94, 83.525), 2024)):
            with pytest.raises((OSError, ExceptionGroup)) as failure:
                read()
            assert is_io_error(failure.value)


# The registry's checks of a store that was built, as an operator runs them.


@pytest.fixture
def registry(tmp_path):
    """registry(*arguments) runs geotessera-registry, and fails where it does."""

    def run(*arguments):
        command = [pathlib.Path(sys.executable).with_name("geotessera-registry"), *map(str, arguments)]
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "200"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_zarr_verify(registry, whole_mount, whole, tmp_path):
    """Catches tiles that do not lie where upstream's own check looks for them, or are not in the store."""
    said = registry("zarr-verify", f"file://{whole.root}", whole_mount.consolidated(), "--output", tmp_path / "samples.parquet")
    assert f"{len(whole.tiles)} sample(s) identical to the source; no mismatches" in said
    samples = pd.read_parquet(tmp_path / "samples.parquet")
    assert len(samples) == len(whole.tiles) and set(samples.status) == {"ok"}


def test_zarr_scan(registry, whole_mount, whole, zones, tmp_path):
    """Catches shards that a directory does not list although tiles touch them, and the reverse: fill,
    rsync and scan all go by what is listed."""
    said = registry("zarr-scan", f"file://{whole.root}", whole_mount.consolidated(), "--output", tmp_path / "shards.parquet")
    assert re.search(r"Overall: 0/\d+ land shards to fill \(0\.0%\)", said)
    shards = pd.read_parquet(tmp_path / "shards.parquet")
    assert set(shards.status) == {"written", "empty"}
    written = shards[shards.status == "written"]
    assert set(written[["zone", "year", "shard_row", "shard_col"]].itertuples(index=False, name=None)) == {
        (zone, year, *shard) for zone, of in zones.items() for year in of.years for shard in of.touched(year, SHARD)}
    # Without the tiles it goes by the landmasks alone, and finds nothing to be missing in a year that has them all.
    masks = whole.mask_dir / "landmasks.parquet"
    said = registry("zarr-scan", whole_mount.consolidated(), "--landmasks-url", masks, "--years", 2024)
    assert re.search(r"Overall: 0/\d+ land shards to fill", said)
