"""The consolidated store: every pixel, every document, and the store that geotessera builds of the same tiles."""
import errno
import json
import os
import pathlib
import shutil
import subprocess
import warnings

import archive
import jsonschema
import numpy as np
import pandas as pd
import pyproj
import pytest
import xarray as xr
import zarr
from archive import BANDS, BROKEN, WHOLE, Tile
from geotessera.registry import Registry
from geotessera.zarr import TileSource, fill_store, init_store
from google_crc32c import Checksum
from mount import Mount
from reference import SHARD, Zone

GEOTESSERA_CHUNKS = "--inner-chunk=32", "--scales-inner-chunk=32"
SCHEMAS = pathlib.Path(__file__).parent.parent / "synth/layout/testdata/schemas"


def store_of(mounted, dataset="v1"):
    return mounted.dir / dataset / "tessera.zarr"


def shard_path(group, array, time, row, col):
    return group / array / "c" / str(time) / ("" if array == "scales" else "0") / str(row) / str(col)


def opened(store):
    """A group as xarray opens it with no arguments; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return xr.open_zarr(store)


def check_zone(group, of, zone, sides):
    """All of a zone of a mounted store against the reference; sides are those of inner chunks by array."""
    expected, node = Zone(of, zone), zarr.open_group(group, mode="r")
    times = len(expected.years)
    assert node["embeddings"].shape == (times, BANDS, expected.height, expected.width)
    assert node["scales"].shape == (times, expected.height, expected.width)
    assert node.attrs["spatial:transform"] == [10.0, 0.0, expected.easting, 0.0, -10.0, expected.northing]
    np.testing.assert_array_equal(node["x"][:], expected.easting + 5 + 10.0 * np.arange(expected.width))
    np.testing.assert_array_equal(node["y"][:], expected.northing - 5 - 10.0 * np.arange(expected.height))
    np.testing.assert_array_equal(node["time"][:], expected.years)
    np.testing.assert_array_equal(node["band"][:], np.arange(BANDS))
    for i, year in enumerate(expected.years):
        for array, side in sides.items():
            bands = node[array].shape[1] if array != "scales" else 4
            check_shards(group / array, i, expected, year, side, side * side * bands)
        for rows, cols in expected.around(year):
            embeddings, scales = expected.window(year, rows, cols)
            np.testing.assert_array_equal(node["scales"][i, rows, cols], scales)
            for array in sides.keys() - {"scales"}:
                depth = node[array].shape[1]
                assert np.array_equal(node[array][i, :, rows, cols], embeddings[:depth]), f"{array} of {year} at {rows}, {cols}"


def check_shards(array, time, expected, year, side, inner_bytes):
    """The files of a year: those that tiles touch and no others, and in each the inner chunks likewise."""
    band = "" if array.name == "scales" else "0"
    top = array / "c" / str(time) / band
    shards = expected.touched(year, SHARD)
    assert top.exists() == bool(shards)
    if not shards:
        return
    assert {(int(p.parent.name), int(p.name)) for p in top.glob("*/*")} == shards
    per_side, inner = SHARD // side, expected.touched(year, side)
    for row, col in shards:
        path = top / str(row) / str(col)
        with open(path, "rb") as file:
            file.seek(-16 * per_side**2 - 4, os.SEEK_END)
            index, checksum = file.read(16 * per_side**2), file.read()
        assert int.from_bytes(Checksum(index).digest(), "big") == int.from_bytes(checksum, "little")
        entries = np.frombuffer(index, "<u8").reshape(per_side, per_side, 2)
        there = {(row * per_side + int(r), col * per_side + int(c)) for r, c in np.argwhere(entries[:, :, 1] != 2**64 - 1)}
        assert there == {(r, c) for r, c in inner if (r // per_side, c // per_side) == (row, col)}
        offsets = entries[entries[:, :, 1] != 2**64 - 1]
        assert (offsets[:, 0] == inner_bytes * np.arange(len(there))).all() and (offsets[:, 1] == inner_bytes).all()
        assert path.stat().st_size == inner_bytes * len(there) + len(index) + 4


@pytest.mark.parametrize("zone", sorted({tile.zone for tile in WHOLE}))
def test_values(whole_mount, whole, zone):
    """Catches a pixel out of place, the wrong tile or year, a scale misjudged, embeddings that are not the
    tile's own, fill where a tile lies, a shard or an inner chunk too many or too few, a wrong coordinate."""
    check_zone(store_of(whole_mount) / f"utm{zone:02d}", whole, zone, {"embeddings": 64, "scales": 256})


def test_zones_listed(whole_mount, whole):
    """Catches a zone without a tile, a tile without a zone, and a listing of more than there is."""
    store = store_of(whole_mount)
    zones = sorted({f"utm{tile.zone:02d}" for tile in whole.tiles})
    assert sorted(p.name for p in store.iterdir()) == [*zones, "zarr.json"]
    assert zarr.open_group(store, mode="r").nmembers() == len(zones)
    for zone in zones:
        assert sorted(p.name for p in (store / zone).iterdir()) == [
            "band", "embeddings", "scales", "spatial_ref", "time", "x", "y", "zarr.json"]


def test_inner_chunks(mounting, few):
    """Catches an option that does not reach the documents, or not the shards."""
    with mounting(few.root, "--inner-chunk=32", "--scales-inner-chunk=4096") as mounted:
        group = store_of(mounted) / "utm25"
        assert zarr.open_array(group / "embeddings", mode="r").chunks == (1, BANDS, 32, 32)
        assert zarr.open_array(group / "scales", mode="r").chunks == (1, SHARD, SHARD)
        check_zone(group, few, 25, {"embeddings": 32, "scales": 4096})


@pytest.fixture(scope="module")
def second(make_archive):
    """A dataset of version 2, which has prefix arrays."""
    return make_archive([*archive.FEW, Tile(2023, -3615, 8355)], dataset="v2-2B-L~beta1")


@pytest.fixture(scope="module")
def second_mount(second, room):
    with Mount(second.root, room / "second") as mounted:
        yield mounted


@pytest.mark.parametrize("zone", [24, 25])
def test_prefix_arrays(second_mount, second, zone):
    """Catches prefix arrays that are missing, of other bands, or that xarray cannot open beside the others."""
    group = store_of(second_mount, second.dataset) / f"utm{zone}"
    check_zone(group, second, zone, {"embeddings": 64, "embeddings_d4": 256, "embeddings_d16": 128, "scales": 256})
    with opened(group) as dataset:
        assert dataset.embeddings_d16.dims == ("time", "band_d16", "y", "x") and dataset.sizes["band_d4"] == 4


def test_tile_beside_the_registry(mounting, make_archive):
    """Catches a tile cut off, or left out in silence, because the landmask registry does not list it: the
    published copies of registries are incomplete."""
    near, far = Tile(2024, -3595, 8355), Tile(2024, -3505, 8295)
    tiles = make_archive([near, far])
    registry = pd.read_parquet(tiles.mask_dir / "landmasks.parquet")
    registry[registry.lon == near.lon / 100].to_parquet(tiles.mask_dir / "landmasks.parquet")
    with mounting(tiles.root) as mounted:
        check_zone(store_of(mounted) / "utm25", tiles, 25, {"embeddings": 64, "scales": 256})


def test_registry_makes_the_grid(mounting, make_archive, whole):
    """Catches grids from the tiles alone where there is a registry: a store would move when tiles come."""
    tiles = make_archive(archive.FEW)
    with mounting(tiles.root) as mounted:
        alone = zarr.open_group(store_of(mounted) / "utm25", mode="r").attrs["spatial:shape"]
    shutil.copy2(whole.mask_dir / "landmasks.parquet", tiles.mask_dir)
    expected = Zone(tiles, 25, masks=whole)
    with mounting(tiles.root) as mounted:
        attributes = zarr.open_group(store_of(mounted) / "utm25", mode="r").attrs
        assert attributes["spatial:shape"] == [expected.height, expected.width] != alone
        assert attributes["spatial:transform"] == [10.0, 0.0, expected.easting, 0.0, -10.0, expected.northing]
        # The registry has a mask for each cell, the archive only for its own: what counts is that there is none.
        node = zarr.open_group(store_of(mounted) / "utm25", mode="r")
        rows, cols = next(iter(expected.around(2024)))
        np.testing.assert_array_equal(node["scales"][0, rows, cols], expected.window(2024, rows, cols)[1])


def test_broken_fails(mounting, make_archive):
    """Catches a damaged tile served as fill, an error on open or on the index, which needs no tile, an errno
    other than EIO, and inner chunks that fail although no damaged tile lies under them."""
    tiles = make_archive(BROKEN)
    expected = Zone(tiles, 25)
    # A pixel in the middle of a tile lies in an inner chunk of 32 px that touches no other tile, and with
    # 128 bands is as long as what Python fetches at least, whatever it is asked for.
    with mounting(tiles.root, "--inner-chunk=32") as mounted:
        node = zarr.open_group(store_of(mounted) / "utm25", mode="r")
        whole = 0
        for tile, top, left, height, width in expected.places(2024):
            row, col = top + height // 2, left + width // 2
            rows, cols = slice(row, row + 1), slice(col, col + 1)
            embeddings, scales = expected.window(2024, rows, cols)
            if expected.tile(tile) is None:
                for array, window in ("embeddings", (0, slice(None), rows, cols)), ("scales", (0, rows, cols)):
                    with pytest.raises((OSError, ExceptionGroup)) as failure:
                        node[array][window]
                    error = failure.value
                    while isinstance(error, ExceptionGroup):  # zarr-python's own, around that of the read
                        error, = error.exceptions
                    assert error.errno == errno.EIO
            else:
                assert np.array_equal(node["embeddings"][0, :, rows, cols], embeddings)
                whole += 1
                if tile.mask == "absent":  # alone for kilometres
                    np.testing.assert_array_equal(node["scales"][0, rows, cols], scales)
        assert whole == 2
    with mounting(tiles.root, "--missing-tiles=fill") as mounted:
        node = zarr.open_group(store_of(mounted) / "utm25", mode="r")
        for tile, top, left, height, width in expected.places(2024):
            if tile.fault == "missing_scales":  # its middle, that no neighbour covers
                rows, cols = slice(top + 100, top + height - 100), slice(left + width // 2, left + width // 2 + 5)
                assert not node["embeddings"][0, :, rows, cols].any() and np.isposinf(node["scales"][0, rows, cols]).all()


# Documents


@pytest.fixture(scope="module")
def copied(few_mount, tmp_path_factory):
    """A whole store as rsync copies it."""
    copy = tmp_path_factory.mktemp("copied") / "tessera.zarr"
    subprocess.run(["rsync", "-a", "--sparse", f"{store_of(few_mount)}/", copy], check=True, timeout=120)
    return copy


def test_copy_reads_the_same(few_mount, copied, few):
    """Catches sizes or times that change, which rsync would copy again, and bytes that differ in a copy."""
    again = subprocess.run(["rsync", "-ai", f"{store_of(few_mount)}/", copied], check=True, capture_output=True, text=True)
    assert again.stdout == ""
    check_zone(copied / "utm25", few, 25, {"embeddings": 64, "scales": 256})


def test_documents_are_zarrs(few_mount, copied):
    """Catches a document that differs by a byte from what zarr-python's consolidate_metadata writes."""
    store = store_of(few_mount)
    subprocess.run(["chmod", "-R", "u+w", copied], check=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata")
        zarr.consolidate_metadata(copied, path="utm25")
        zarr.consolidate_metadata(copied)
    for name in "zarr.json", "utm25/zarr.json":
        assert (copied / name).read_bytes() == (store / name).read_bytes()
    for path in sorted((store / "utm25").glob("*/zarr.json")):
        node = json.loads((store / "zarr.json").read_text())["consolidated_metadata"]["metadata"][f"utm25/{path.parent.name}"]
        assert json.loads(path.read_text()) == node


def test_open_without_arguments(whole_mount):
    """Catches a store that xarray warns about, opens with other names, or shows without its coordinates."""
    store = store_of(whole_mount)
    with opened(store / "utm24") as dataset:
        assert dataset.embeddings.dims == ("time", "band", "y", "x") and dataset.embeddings.dtype == np.int8
        assert dataset.scales.dims == ("time", "y", "x") and dataset.scales.dtype == np.float32
        assert set(dataset.coords) == {"time", "band", "y", "x", "spatial_ref"} and dataset.time.values.tolist() == [2023, 2024]
        assert dataset.embeddings.encoding["chunks"] == (1, BANDS, 64, 64)
        assert dataset.embeddings.encoding["shards"] == (1, BANDS, SHARD, SHARD)
        assert dataset.scales.encoding["chunks"] == (1, 256, 256) and dataset.scales.encoding["shards"] == (1, SHARD, SHARD)
        assert pyproj.CRS.from_cf(dataset.spatial_ref.attrs).to_epsg() == 32624
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xr.open_datatree(store, engine="zarr") as tree:
            assert set(tree.children) == {"utm24", "utm25"} and tree["utm25"].embeddings.ndim == 4


def test_schemas(whole_mount, second_mount, second):
    """Catches attributes that the conventions' schemas refuse, and a convention that is not registered."""
    schemas = {name: json.loads((SCHEMAS / f"{name}.json").read_text()) for name in ("proj", "spatial", "geoemb")}
    stores = [store_of(whole_mount), store_of(second_mount, second.dataset)]
    for store in stores:
        held(json.loads((store / "zarr.json").read_text()), {"geoemb": schemas["geoemb"]})
        for group in store.glob("utm*/zarr.json"):
            held(json.loads(group.read_text()), {name: schemas[name] for name in ("proj", "spatial")})


def held(document, schemas):
    """Hold a document against schemas, and each registration against what its schema says of it."""
    for name, schema in schemas.items():
        validator = jsonschema.Draft202012Validator(schema)
        validator.validate(document)
        registration = validator.evolve(schema=schema["$defs"]["conventionMetadata"])
        found = [c for c in document["attributes"]["zarr_conventions"] if c["name"].rstrip(":") == name]
        assert len(found) == 1
        registration.validate(found[0])


# geotessera


def registry_of(tiles, directory):
    version, variant, _ = archive.DATASETS[tiles.dataset]
    return Registry(version=version, variant=variant, registry_path=tiles.manifest, embeddings_dir=directory, cache_dir=directory,
                    landmasks_registry_path=tiles.mask_dir / "landmasks.parquet")


def check_metadata(ours, theirs):
    """Two roots: attributes, groups and arrays of the one are those of the other."""
    assert dict(ours.attrs) == dict(theirs.attrs)
    assert sorted(ours) == sorted(theirs)
    for zone in theirs:
        mine = dict(ours[zone].attrs)
        registered = {c["uuid"]: c for c in mine["zarr_conventions"]}
        for name, value in theirs[zone].attrs.items():
            if name == "zarr_conventions":
                assert {c["uuid"]: c for c in value} == registered
            else:
                assert mine[name] == value, name
        # The statistics of a builder's own previews are not part of the layout.
        names = {name for name in theirs[zone] if not name.startswith("stretch_")}
        assert set(ours[zone]) == names | {"spatial_ref"}
        for name in names:
            a, b = ours[zone][name], theirs[zone][name]
            assert (a.shape, a.dtype, a.metadata.dimension_names) == (b.shape, b.dtype, b.metadata.dimension_names), name
            assert a.fill_value == b.fill_value and np.asarray(a.fill_value).dtype == np.asarray(b.fill_value).dtype, name
            if a.ndim > 1:
                assert (a.chunks, a.shards) == (b.chunks, b.shards), name
            else:
                np.testing.assert_array_equal(a[:], b[:])


@pytest.fixture(scope="module")
def common(make_archive):
    """What geotessera takes: two zones, two years, both hemispheres, overlaps, nodata of every kind."""
    return make_archive([
        Tile(2023, -3605, -8355, "nan_scales"),  # zone 24
        Tile(2024, -3595, 8355, "infinite_scales"), Tile(2024, -3595, 8365), Tile(2024, -3585, 8355, "absurd_scales", "land"),
        Tile(2024, -3585, 8365, "large_array", "water"), Tile(2024, -3575, 8355),
    ])


@pytest.mark.parametrize("zone, year", [(24, 2023), (25, 2024)])
def test_geotessera_builds_the_same(mounting, common, tmp_path, zone, year):
    """Catches any difference from the store that geotessera builds of the same tiles: a pixel, a shape, a
    data type, a fill value, an attribute. Its builder takes half a minute for the one shard of each zone."""
    registry, built = registry_of(common, tmp_path), tmp_path / "built.zarr"
    init_store(registry, built, [2023, 2024])
    source = TileSource(str(common.tile_dir), str(common.mask_dir))
    assert fill_store(registry, built, zones=[zone], source=source, workers=1, collect_stretch_stats=False) == 1
    theirs, expected = zarr.open_group(built, mode="r"), Zone(common, zone)
    with mounting(common.root, *GEOTESSERA_CHUNKS) as mounted:
        ours = zarr.open_group(store_of(mounted), mode="r")
        check_metadata(ours, theirs)
        a, b = ours[f"utm{zone}"], theirs[f"utm{zone}"]
        for i in range(2):
            for rows, cols in expected.around(year):
                np.testing.assert_array_equal(a["scales"][i, rows, cols], b["scales"][i, rows, cols])
                assert np.array_equal(a["embeddings"][i, :, rows, cols], b["embeddings"][i, :, rows, cols])


def test_geotessera_lays_out_the_same(mounting, second, tmp_path):
    """Catches prefix arrays that are not laid out as geotessera's are."""
    built = tmp_path / "built.zarr"
    init_store(registry_of(second, tmp_path), built, [2023, 2024], model_version="2.0", matryoshka_depths=(4, 16))
    with mounting(second.root, *GEOTESSERA_CHUNKS) as mounted:
        check_metadata(zarr.open_group(store_of(mounted, second.dataset), mode="r"), zarr.open_group(built, mode="r"))
