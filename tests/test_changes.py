"""Tiles that change under a mount, and tiles that lie: an error or the right bytes, never others."""
import errno
import os
import time

import archive
import numpy as np
import pytest
from archive import Tile
from mount import chunk_path
from reference import ZoneYear

CHANGED, UNTOUCHED = archive.Tile(2024, -3595, 8355), archive.Tile(2024, -3305, 8355, mask="absent")


@pytest.fixture
def two(make_archive):
    """Two tiles that share no chunk, the first with objects of its own to be changed."""
    tiles = make_archive([CHANGED, UNTOUCHED])
    for path in tiles.path(CHANGED), tiles.path(CHANGED, "_scales"), tiles.mask_path(CHANGED):
        tiles.own(path)
    return tiles


def read(path):
    """A file in reads of 1 MiB, opened anew."""
    file = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(file, 1 << 20), b""))
    finally:
        os.close(file)


def outcome(path, right):
    """"right", or the errno of the failure; anything but the right bytes is neither."""
    try:
        got = read(path)
    except OSError as err:
        return err.errno
    assert got == right, "wrong bytes"
    return "right"


def replace(path, change):
    """As rsync and most tools do: a new file under the old name."""
    new = path.with_name(path.name + ".new")
    array = np.load(path)
    np.save(new.open("wb"), change(array))
    os.replace(new, path)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path):
    """In place, size and all else kept."""
    with open(path, "r+b") as file:
        file.seek(4096)
        data = file.read(1 << 16)
        file.seek(4096)
        file.write(bytes(255 - byte for byte in data))


def flip(array):
    return ~array if array.dtype == np.int8 else array / 2


def drown(tiles):
    """Put another landmask in place: all water."""
    left, top, height, width = archive.footprint(CHANGED)
    path = tiles.mask_path(CHANGED)
    archive.write_mask(path.with_suffix(".new"), np.zeros((height, width), np.uint8), CHANGED.epsg, left, top)
    os.replace(path.with_suffix(".new"), path)


def grow(array):
    return np.concatenate([array, array[-1:]])


CASES = [(part, reads) for part in ("embeddings", "scales", "landmask") for reads in (0, 1, 6)]
CASES.remove(("landmask", 0))  # nothing says what a landmask held before it was first looked at


@pytest.mark.parametrize("part, reads_before", CASES)
def test_replaced(mounting, two, part, reads_before):
    """Catches bytes of the old file, or a mix, after a tile was replaced: ESTALE within two seconds,
    also for what was read so often that it is served from a copy. Others read on."""
    expected = ZoneYear(two, 2024, 25)
    with mounting(two.root) as mounted:
        store = mounted.store(2024, 25)
        array = "scales" if part == "scales" else "embeddings"
        chunks = {chunk: chunk_path(store, array, *chunk) for chunk in expected.chunks()}
        before = {chunk: read(path) for chunk, path in chunks.items()} if reads_before else {}
        for _ in range(reads_before - 1):
            for chunk, path in chunks.items():
                assert read(path) == before[chunk]
        if reads_before > 1:
            time.sleep(1)  # copies of what is read often are made in the background
        if part == "landmask":
            drown(two)
        else:
            # What nobody has looked at yet is held against the size that the catalogue says.
            replace(two.path(CHANGED, "_scales" if part == "scales" else ""), flip if reads_before else grow)
        mine = [chunk for chunk in expected.chunks() if CHANGED in [expected.tiles[i] for i in expected.touching(*expected.extent(*chunk))]]
        deadline = time.monotonic() + 2
        seen = set()
        while time.monotonic() < deadline and seen != set(mine):
            for chunk in mine:
                result = outcome(chunks[chunk], before.get(chunk))
                if result != "right":
                    assert result == errno.ESTALE, os.strerror(result)
                    seen.add(chunk)
        for chunk in mine:  # reads that begin two seconds later, or after a failure
            assert outcome(chunks[chunk], before.get(chunk)) == errno.ESTALE
        for chunk in set(chunks) - set(mine):
            assert outcome(chunks[chunk], before.get(chunk, read(chunks[chunk]))) == "right"
        assert any(CHANGED.name in entry["object"] for entry in mounted.status()["failed_tiles"])


@pytest.mark.parametrize("change", [truncate, overwrite, os.unlink], ids=["truncated", "overwritten", "removed"])
@pytest.mark.parametrize("reads_before", [0, 1, 6], ids=["never read", "read once", "read often"])
def test_changed_in_place(mounting, two, change, reads_before):
    """Catches wrong bytes, a killed process (SIGBUS on a mapped file) or fill after a tile was cut,
    overwritten or removed: EIO or ESTALE within two seconds, and until then the old bytes if any."""
    expected = ZoneYear(two, 2024, 25)
    with mounting(two.root) as mounted:
        store = mounted.store(2024, 25)
        path, other = (chunk_path(store, "embeddings", *chunk) for chunk in (expected.chunks()[0], expected.chunks()[-1]))
        before = None
        for _ in range(reads_before):
            before = read(path)
        if reads_before > 1:
            time.sleep(1)
        untouched = read(other)
        change(two.path(CHANGED))
        if change is overwrite and not reads_before:
            # Never seen before it changed, and of the size that the catalogue says: it is what it is.
            assert len(read(path)) == 128 << 20
            return
        deadline = time.monotonic() + 2
        while (result := outcome(path, before)) == "right" and time.monotonic() < deadline:
            pass
        assert result in (errno.EIO, errno.ESTALE) or outcome(path, before) in (errno.EIO, errno.ESTALE)
        assert outcome(other, untouched) == "right"
        assert mounted.status()["mount"]["pid"] == mounted.pid


def test_header_that_claims_a_terabyte(mounting, make_archive):
    """Catches memory taken by what a header claims."""
    liar, honest = Tile(2024, -3595, 8355, "claims_a_terabyte"), Tile(2024, -3305, 8355, mask="absent")
    tiles = make_archive([liar, honest])
    expected = ZoneYear(tiles, 2024, 25)
    with mounting(tiles.root) as mounted:
        store = mounted.store(2024, 25)
        first, last = expected.chunks()[0], expected.chunks()[-1]
        read(chunk_path(store, "embeddings", *last))
        before = mounted.memory("VmHWM")
        for array in "embeddings", "scales":
            assert outcome(chunk_path(store, array, *first), None) == errno.EIO
        assert mounted.memory("VmHWM") < before + (16 << 20)


def test_memory_while_reading(whole_mount, whole):
    """Catches a daemon that keeps what it has read: everything is read, 200 MiB are enough."""
    for year, zone in whole.stores():
        store = whole_mount.store(year, zone)
        for path in store.rglob("*"):
            if path.is_file():
                read(path)
    anonymous = whole_mount.memory("RssAnon")
    assert anonymous < 200 << 20, f"{anonymous >> 20} MiB"
