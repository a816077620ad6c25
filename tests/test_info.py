"""`tesserafs info` on an archive, a mount, stores in it, and copies of them."""
import json
import re
import shutil
import subprocess

import pytest
import xarray as xr
from archive import WHOLE, Tile
from mount import run
from reference import ZoneYear

WRONG_DATA, UNREACHABLE = 4, 3


def info(path, code=0):
    done = run("info", path, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def check_zone_year(archive, store, year, zone):
    """A zone-year store as info has it, against the reference."""
    expected = ZoneYear(archive, year, zone)
    assert store["years"] == [year] and store["tiles"] == len(expected.tiles) and store["epsg"] == expected.epsg
    assert (store["height"], store["width"]) == (expected.height, expected.width)
    metres, degrees = store["metres"], store["degrees"]
    assert (metres["west"], metres["north"]) == (expected.easting, expected.northing)
    assert (metres["east"], metres["south"]) == (expected.easting + 10 * expected.width, expected.northing - 10 * expected.height)
    lons, lats = [tile.lon / 100 for tile in expected.tiles], [tile.lat / 100 for tile in expected.tiles]
    border = 6 * zone - 186
    assert border <= degrees["west"] <= max(border, min(lons) - 0.05) and max(lons) + 0.05 <= degrees["east"] <= border + 6
    assert min(lats) - 0.3 < degrees["south"] < min(lats) - 0.05 and max(lats) + 0.05 < degrees["north"] < max(lats) + 0.3
    return expected


def test_archive(whole):
    """Catches a zone, a year or a tile that is not told of, extents that are not the store's, and
    sizes that are not those of the files."""
    got = info(whole.root)
    assert got["source"] == str(whole.root) and [d["tiles"] for d in got["datasets"]] == [len(WHOLE)]
    stores = {store["store"]: store for store in got["stores"]}
    assert list(stores) == [f"v1/zones/{year}/utm{zone:02d}_{year}.zarr" for year, zone in whole.stores()]
    for year, zone in whole.stores():
        store = stores[f"v1/zones/{year}/utm{zone:02d}_{year}.zarr"]
        expected = check_zone_year(whole, store, year, zone)
        paths = [whole.path(tile, part) for tile in expected.tiles for part in ("", "_scales")]
        assert store["bytes_stored"] == sum(path.stat().st_size for path in paths)


def test_mount(whole, whole_mount):
    """Catches a mount that is described otherwise than its archive, or without its stores."""
    of_archive, got = info(whole.root), info(whole_mount.dir)
    assert got["mount"] == str(whole_mount.dir) and got["source"] == str(whole.root) and got["datasets"] == of_archive["datasets"]
    zones = {store["store"]: store for store in got["stores"] if "/zones/" in store["store"]}
    for store in of_archive["stores"]:
        shown = zones.pop(store["store"])
        assert shown == {key: value for key, value in store.items() if key != "bytes_stored"}
    assert not zones
    consolidated = [store for store in got["stores"] if "tessera.zarr" in store["store"]]
    assert [store["store"] for store in consolidated] == ["v1/tessera.zarr/utm24", "v1/tessera.zarr/utm25"]
    assert all(store["years"] == [2023, 2024] and store["height"] % 4096 == 0 for store in consolidated)


def test_store_and_copy(whole, whole_mount, tmp_path):
    """Catches a copy that is not known for what it is, and bytes that are not those on disk or those
    that xarray counts."""
    store = whole_mount.store(2023, 25)
    copy = tmp_path / store.name
    subprocess.run(["rsync", "-a", f"{store}/", f"{copy}/"], check=True)
    for path in store, copy, copy / "embeddings", f"{copy}/":
        [got] = info(path)["stores"]
        check_zone_year(whole, got, 2023, 25)
        with xr.open_zarr(copy) as dataset:
            assert got["bytes_seen"] == dataset.nbytes
        assert got["store"] == store.name
        if path != store:
            on_disk = sum(file.stat().st_blocks * 512 for file in copy.rglob("*") if file.is_file())
            assert got["bytes_stored"] == on_disk
        else:
            assert 0 < got["bytes_stored"] < got["bytes_seen"] * 50
    tile = Tile(2024, -3505, -8335)  # a southern one has a system of its own
    [got] = info(whole_mount.dir / "v1/tiles/2024" / f"{tile.name}.zarr")["stores"]
    assert got["epsg"] == 32725 and got["years"] == [2024] and got["metres"]["north"] > 0 > got["degrees"]["north"]


def test_directory_of_stores(whole, whole_mount, tmp_path):
    """Catches stores that are found in a mount's root only."""
    listed = [store["store"] for store in info(whole_mount.dir / "v1" / "zones")["stores"]]
    assert listed == ["2023/utm25_2023.zarr", "2024/utm24_2024.zarr", "2024/utm25_2024.zarr"]
    listed = [store["store"] for store in info(whole_mount.dir / "v1" / "tiles" / "2023")["stores"]]
    assert listed == [f"{tile.name}.zarr" for tile in WHOLE if tile.year == 2023]
    assert info(whole_mount.dir / "v1" / "tessera.zarr" / "utm24")["stores"][0]["store"] == "utm24"


def test_table(whole):
    """Catches a table that does not line up, or is coloured where it is piped."""
    done = run("info", whole.root)
    lines = done.stdout.splitlines()
    [head] = [line for line in lines if "STORE" in line and "AS SEEN" in line]
    rows = lines[lines.index(head) + 1 :]
    assert len(rows) == len(whole.stores()) and "\x1b" not in done.stdout and done.stderr == ""
    for row in rows:
        assert re.match(r"  v1/zones/\d{4}/utm\d\d_\d{4}\.zarr +\d{4} ", row)
        assert row[head.index("EPSG") :].startswith("326")


def test_what_is_none(whole_mount, tmp_path):
    """Catches a store of somebody else's, or a damaged one, described as one of ours."""
    done = run("info", tmp_path)
    assert done.returncode == UNREACHABLE and len(done.stderr.splitlines()) == 1
    store = tmp_path / "foreign.zarr"
    xr.Dataset({"a": ("x", [1, 2])}).to_zarr(store, consolidated=False)
    for spoil in (lambda: None, lambda: (store / "zarr.json").write_text('{"node_type": "group"'),
                  lambda: shutil.copy(whole_mount.store(2024, 24) / "zarr.json", store / "zarr.json"),
                  lambda: (store / "zarr.json").write_text((store / "zarr.json").read_text().replace("EPSG:32624", "EPSG:3857"))):
        spoil()
        done = run("info", store)
        if "utm_zone" in (store / "zarr.json").read_text() and "EPSG:3857" not in (store / "zarr.json").read_text():
            assert done.returncode == 0  # a document is all that info asks for
            continue
        assert done.returncode == WRONG_DATA and len(done.stderr.splitlines()) == 1 and "foreign.zarr" in done.stderr, done.stderr


@pytest.mark.parametrize("key", ["reads", "bytes", "failed", "open_files", "hot_files", "hot_bytes", "hot_opens"])
def test_status_is_spelt_one_way(few_mount, key):
    """Catches counters of the front door that are spelt as in Go."""
    assert isinstance(few_mount.status()["mount"]["door"][key], int)
