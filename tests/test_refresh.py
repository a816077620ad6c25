"""An archive that changes while it is mounted, and is read again: SIGHUP shows it as it is, to those who open
a store after that; those who have files open go on with what they had, or are told."""
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import xarray as xr
import zarr
from archive import Tile
from mount import chunk_path, wait_until
from reference import Zone, ZoneYear

FIRST = Tile(2024, -3595, 8355)
EAST = Tile(2024, -3305, 8355, mask="absent")  # of the same zone, and does not move its stores' corner
ELSEWHERE = Tile(2024, -3605, 8355)  # of another zone
YEARS = [Tile(2024, -3595, 8355), Tile(2023, -3595, 8355)]


def refresh(mounted):
    """SIGHUP, and wait for what it leads to."""
    before = mounted.status()["catalogue"]
    os.kill(mounted.pid, signal.SIGHUP)
    assert wait_until(lambda: mounted.status()["catalogue"]["refreshed"] > before["refreshed"], 20), mounted.status()["catalogue"]


def whole(file):
    """What an open file gives, from its beginning, or the errno of a failure."""
    parts, at = [], 0
    try:
        while part := os.pread(file, 1 << 20, at):
            parts.append(part)
            at += len(part)
    except OSError as err:
        return err.errno
    return b"".join(parts)


def content(path):
    file = os.open(path, os.O_RDONLY)
    try:
        return whole(file)
    finally:
        os.close(file)


def replace(path, change):
    """As rsync and most tools do: a new file under the old name."""
    new = path.with_name(path.name + ".new")
    np.save(new.open("wb"), change(np.load(path)))
    os.replace(new, path)


def window(store, rows, cols):
    """A window as a client sees it that opens the store now."""
    group = zarr.open_group(store, mode="r")
    return group["embeddings"][rows, cols], group["scales"][rows, cols]


@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "daemon"])
@pytest.mark.parametrize("manifest", ["s3scan", None], ids=["manifest", "scan"])
def test_tiles_come(make_archive, mounting, manifest, foreground):
    """Catches a tile that is not shown after SIGHUP, or shown before; a store that does not grow, or whose new
    pixels are not the tile's; a dataset that was open and now gives other values."""
    small = make_archive([FIRST], manifest=manifest)
    was = ZoneYear(small, 2024, 25)
    rows, cols = slice(0, was.height), slice(0, was.width)
    with mounting(small.root, foreground=foreground) as mounted:
        store, another = mounted.store(2024, 25), mounted.store(2024, 24)
        with xr.open_zarr(store, chunks=None) as opened:
            before = opened["embeddings"][:100, :100].values
            assert not another.exists()
            assert [path.name for path in (mounted.dir / "v1" / "zones" / "2024").iterdir()] == [store.name]
            big = make_archive([FIRST, EAST, ELSEWHERE], root=small.root, manifest=manifest)
            is_now = ZoneYear(big, 2024, 25)
            assert (is_now.easting, is_now.northing) == (was.easting, was.northing) and is_now.width > was.width
            assert not another.exists()
            refresh(mounted)
            assert sorted(path.name for path in (mounted.dir / "v1" / "zones" / "2024").iterdir()) == [another.name, store.name]
            expected = is_now.window(rows, cols)
            np.testing.assert_array_equal(opened["embeddings"][:100, :100], before)
            np.testing.assert_array_equal(opened["embeddings"], expected[0])
            np.testing.assert_array_equal(opened["scales"], expected[1])
        for year_store, zone in (store, 25), (another, 24):
            expected = ZoneYear(big, 2024, zone)
            with xr.open_zarr(year_store, chunks=None) as opened:
                assert opened.sizes == {"northing": expected.height, "easting": expected.width, "band": 128}
                for top, left, height, width in expected.places:
                    rows, cols = slice(top, top + height), slice(left, left + width)
                    want = expected.window(rows, cols)
                    np.testing.assert_array_equal(opened["embeddings"][rows, cols], want[0])
                    np.testing.assert_array_equal(opened["scales"][rows, cols], want[1])
        zone = Zone(big, 25)
        group = zarr.open_group(mounted.consolidated(), mode="r")["utm25"]
        assert group["embeddings"].shape[-2:] == (zone.height, zone.width)
        for _, top, left, height, width in zone.places(2024):
            rows, cols = slice(top, top + height), slice(left, left + width)
            np.testing.assert_array_equal(group["embeddings"][0, :, rows, cols], zone.window(2024, rows, cols)[0])
        status = mounted.status()
        assert status["datasets"][0]["tiles"] == 3
        assert status["catalogue"]["failed"] == 0 and "error" not in status["catalogue"]


@pytest.mark.parametrize("manifest", ["s3scan", None], ids=["manifest", "scan"])
@pytest.mark.parametrize("reads", [1, 6], ids=["read once", "read often"])
def test_tile_changes(make_archive, mounting, manifest, reads):
    """Catches an open file that is of two states of a tile, or that gives one that is gone; a file opened after
    SIGHUP that gives the old one, from whatever keeps it, or fails. The manifest says the same as before."""
    tiles = make_archive([FIRST, EAST], manifest=manifest)
    tiles.own(tiles.path(FIRST))
    expected = ZoneYear(tiles, 2024, 25)
    with mounting(tiles.root) as mounted:
        changes, stays = (chunk_path(mounted.store(2024, 25), "embeddings", *chunk)
                          for chunk in (expected.chunks()[0], expected.chunks()[-1]))
        held = {path: os.open(path, os.O_RDONLY) for path in (changes, stays)}
        try:
            before = {path: whole(file) for path, file in held.items()}
            for _ in range(reads - 1):
                assert content(changes) == before[changes]
            time.sleep(1)
            replace(tiles.path(FIRST), np.invert)
            assert wait_until(lambda: content(changes) == errno.ESTALE, 5), "a change is not noticed before SIGHUP"
            refresh(mounted)
            assert not mounted.status()["failed_tiles"]
            assert whole(held[changes]) == errno.ESTALE
            assert whole(held[stays]) == before[stays]
            assert content(stays) == before[stays]
            rows, cols = expected.extent(*expected.chunks()[0])
            fresh = ZoneYear(tiles, 2024, 25).window(rows, cols)
            got = window(mounted.store(2024, 25), rows, cols)
            np.testing.assert_array_equal(got[0], fresh[0])
            np.testing.assert_array_equal(got[1], fresh[1])
            for _ in range(reads):
                assert content(changes) != before[changes]
            assert whole(held[changes]) == errno.ESTALE
        finally:
            for file in held.values():
                os.close(file)


@pytest.mark.parametrize("manifest", ["s3scan", None], ids=["manifest", "scan"])
def test_tiles_go(make_archive, mounting, manifest):
    """Catches stores, chunks and years that are still shown when their tiles are gone, and a file of them
    that is open and gives anything but ESTALE."""
    tiles = make_archive(YEARS + [EAST], manifest=manifest)
    with mounting(tiles.root) as mounted:
        store = mounted.store(2024, 25)
        expected = ZoneYear(tiles, 2024, 25)
        gone = [chunk_path(store, "embeddings", *expected.chunks()[-1]), mounted.store(2023, 25), mounted.dir / "v1" / "tiles" / "2023"]
        assert all(path.exists() for path in gone)
        file = os.open(gone[0], os.O_RDONLY)
        try:
            os.pread(file, 1 << 20, 0)
            for tile in YEARS[1], EAST:
                shutil.rmtree(tiles.path(tile).parent)
            if manifest:
                make_archive([FIRST], root=tiles.root, manifest=manifest)
            refresh(mounted)
            assert not any(path.exists() for path in gone)
            assert [path.name for path in (mounted.dir / "v1" / "zones").iterdir()] == ["2024"]
            assert whole(file) == errno.ESTALE
        finally:
            os.close(file)
        rows, cols = slice(0, 300), slice(0, 150)
        np.testing.assert_array_equal(window(store, rows, cols)[0], ZoneYear(make_archive([FIRST]), 2024, 25).window(rows, cols)[0])


# Opens and reads chunks over and over, lists directories and looks at sizes, and fails where anything differs.
READER = """
import hashlib, os, sys
want, at = {}, 0
while not os.path.exists(sys.argv[1]):
    for path in sys.argv[2:]:
        with open(path, "rb", buffering=0) as file:
            size, parts = os.fstat(file.fileno()).st_size, hashlib.sha256()
            while part := os.pread(file.fileno(), 1 << 20, at):
                parts.update(part)
                at += len(part)
        assert at == size == os.stat(path).st_size, (path, at, size)
        at = 0
        found = parts.hexdigest(), sorted(os.listdir(os.path.dirname(path)))
        assert want.setdefault(path, found) == found, path
"""


def test_refresh_under_load(few, mounting, tmp_path):
    """Catches a read, an open, a listing or an inode number that is not what it was, when eight clients read an
    archive that does not change and is read again over and over; and memory and files that stay."""
    with mounting(few.root) as mounted:
        store = mounted.store(2024, 25)
        chunks = [chunk_path(store, array, *chunk) for array in ("scales", "embeddings") for chunk in ZoneYear(few, 2024, 25).chunks()]
        paths = [store / "zarr.json", *chunks[:3]]
        identity = {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size) for path in [*paths, store, store.parent]}
        stop = tmp_path / "stop"
        readers = [subprocess.Popen([sys.executable, "-c", READER, stop, *paths]) for _ in range(8)]
        try:
            for _ in range(20):
                refresh(mounted)
                assert identity == {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size) for path in identity}
        finally:
            stop.touch()
            codes = [reader.wait(60) for reader in readers]
        assert codes == [0] * len(readers)
        assert wait_until(lambda: mounted.status()["mount"]["door"]["open_files"] <= 1, 10)  # the status file
        status = mounted.status()
        assert status["mount"]["door"]["failed"] == 0 and not status["failed_tiles"]
        assert mounted.memory() < 500 << 20
        files = len(os.listdir(f"/proc/{mounted.pid}/fd"))
        assert files < 64, f"{files} files are open"
        assert not [line for line in mounted.log() if line["level"] not in ("INFO", "DEBUG")]


def test_source_away(make_archive, mounting):
    """Catches a mount that shows nothing any more because its archive could not be read once, that does not say
    so, or that does not recover."""
    tiles = make_archive([FIRST])
    away = tiles.root.with_name(tiles.root.name + "-away")
    with mounting(tiles.root) as mounted:
        before = content(mounted.store(2024, 25) / "zarr.json")
        tiles.root.rename(away)
        os.kill(mounted.pid, signal.SIGHUP)
        assert wait_until(lambda: mounted.status()["catalogue"]["failed"] == 1, 10)
        assert str(tiles.root) in mounted.status()["catalogue"]["error"]
        assert content(mounted.store(2024, 25) / "zarr.json") == before
        away.rename(tiles.root)
        refresh(mounted)
        assert "error" not in mounted.status()["catalogue"]
        assert content(mounted.store(2024, 25) / "zarr.json") == before
        told = [line for line in mounted.log() if line["level"] == "ERROR"]
        assert len(told) == 1 and "could not be read again" in told[0]["msg"]


def test_ends_while_refreshing(few, mounting):
    """Catches a mount that does not end, or ends badly, when it is told to while it reads its archive again."""
    for _ in range(5):
        with mounting(few.root, "--refresh", "1s", foreground=True) as mounted:
            content(mounted.store(2024, 25) / "zarr.json")
            stop = threading.Event()
            hangs_up = threading.Thread(
                target=lambda: [mounted.process.send_signal(signal.SIGHUP) for _ in range(200) if not stop.wait(0.002)])
            hangs_up.start()
            time.sleep(0.1)
            os.kill(mounted.pid, signal.SIGTERM)
            try:
                assert mounted.process.wait(10) == 0
            finally:
                stop.set()
                hangs_up.join()
