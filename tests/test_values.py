"""Every pixel of every store equals the reference, and every damaged tile is told of."""
import errno
import os
import re

import numpy as np
import pytest
import zarr
from archive import BROKEN, READABLE_IN_PART, UNREADABLE, WHOLE
from mount import chunk_path
from reference import ZoneYear

TILE_NAME = re.compile(r"grid_-?\d+\.\d\d_-?\d+\.\d\d")


def listed_chunks(store, array):
    """(row, col) of the chunks a store lists, in the order of their numbers."""
    return sorted((int(row.name), int(col.name)) for row in (store / array / "c").iterdir() for col in row.iterdir())


def compare(mounted, archive, year, zone):
    """A whole store against the reference: grid, list of chunks, and each chunk's values."""
    expected, store = ZoneYear(archive, year, zone), mounted.store(year, zone)
    group = zarr.open_group(store, mode="r")
    embeddings, scales = group["embeddings"], group["scales"]
    assert embeddings.shape == (expected.height, expected.width, 128)
    assert scales.shape == (expected.height, expected.width)
    assert group.attrs["transform"] == [10.0, 0.0, expected.easting, 0.0, -10.0, expected.northing]
    assert group.attrs["crs_epsg"] == expected.epsg
    np.testing.assert_array_equal(group["easting"][:], expected.easting + 5 + 10.0 * np.arange(expected.width))
    np.testing.assert_array_equal(group["northing"][:], expected.northing - 5 - 10.0 * np.arange(expected.height))
    np.testing.assert_array_equal(group["band"][:], np.arange(128))
    assert listed_chunks(store, "embeddings") == expected.chunks()
    assert listed_chunks(store, "scales") == expected.chunks()
    for row, col in expected.chunks():
        rows, cols = expected.extent(row, col)
        want_embeddings, want_scales = expected.window(rows, cols)
        np.testing.assert_array_equal(scales[rows, cols], want_scales, f"scales of chunk {row}, {col}")
        got = embeddings[rows, cols]
        assert np.array_equal(got, want_embeddings), (
            f"embeddings of chunk {row}, {col} differ first at row, col, band "
            f"{np.argwhere(got != want_embeddings)[0]} of the chunk")


@pytest.mark.parametrize("year, zone", sorted({(tile.year, tile.zone) for tile in WHOLE}))
def test_whole(whole_mount, whole, year, zone):
    """Catches a pixel out of place, the wrong tile on top, a scale or a landmask misjudged, embeddings
    that are not 0 where the scale is NaN, a chunk too many or too few, a wrong coordinate."""
    compare(whole_mount, whole, year, zone)


def test_zones_and_years_listed(whole_mount, whole):
    """Catches a store that is shown without tiles, or tiles without a store."""
    shown = sorted((int(year.name), int(store.name[3:5])) for year in (whole_mount.dir / "v1/zones").iterdir()
                   for store in year.iterdir())
    assert shown == whole.stores()


def test_nothing_lies_outside_tiles(whole_mount, whole):
    """Catches a store that answers for what no tile covers: a chunk between the hemispheres is not
    there, and clients read fill."""
    expected = ZoneYear(whole, 2024, 25)
    with pytest.raises(FileNotFoundError):
        os.open(chunk_path(whole_mount.store(2024, 25), "embeddings", 900, 0), os.O_RDONLY)
    group = zarr.open_group(whole_mount.store(2024, 25), mode="r")
    assert expected.height > 1_000_000 and not group["embeddings"][900 * 1024 : 900 * 1024 + 50, :300].any()
    assert np.isnan(group["scales"][900 * 1024 : 900 * 1024 + 50]).all()


def test_absent_landmask_is_warned_of(whole_mount, whole):
    """Catches a tile counted as land in silence."""
    zarr.open_group(whole_mount.store(2024, 25), mode="r")["scales"][:1024]  # all tiles of the north
    bare = [tile.name for tile in whole.tiles if tile.mask == "absent"]
    warnings = [w["object"] for w in whole_mount.status()["warnings"]]
    assert len(bare) == 1 and [w for w in warnings if bare[0] in w] == warnings
    assert whole_mount.status()["failed_tiles"] == []


@pytest.fixture(scope="module")
def broken(make_archive):
    return make_archive(BROKEN)


def test_broken_filled(mounting, broken):
    """Catches a damaged tile that is not filled where asked to, takes its neighbours with it, or is
    filled without being listed."""
    with mounting(broken.root, "--missing-tiles=fill") as mounted:
        compare(mounted, broken, 2024, 25)
        check_listed(mounted, {t.name for t in BROKEN if t.fault in UNREADABLE | READABLE_IN_PART or t.mask == "wrong_shape"})


def test_broken_fails(mounting, broken):
    """Catches a damaged tile served as fill, an error on open (which clients take for a chunk that is
    not there), an errno other than EIO, and chunks that fail although all their tiles are whole."""
    expected = ZoneYear(broken, 2024, 25)
    named = set()
    with mounting(broken.root) as mounted:
        store = mounted.store(2024, 25)
        group = zarr.open_group(store, mode="r")
        whole_chunks = 0
        for row, col in expected.chunks():
            rows, cols = expected.extent(row, col)
            damaged = expected.damaged(rows, cols)
            named |= {tile.name for tile in damaged}
            for array in "embeddings", "scales":
                path = chunk_path(store, array, row, col)
                if damaged:
                    for first_row, first_col in expected.inside(damaged, rows, cols):
                        offset = (first_row * 1024 + first_col) * (128 if array == "embeddings" else 4)
                        for _ in range(2):  # the second time from memory, and as bad
                            check_fails(path, offset, 16)
                    check_fails(path, 0, os.stat(path).st_size)
                    with pytest.raises(OSError):
                        group[array][rows, cols]
                else:
                    want = expected.window(rows, cols)[array == "scales"]
                    np.testing.assert_array_equal(group[array][rows, cols], want)
                    whole_chunks += 1
        assert whole_chunks and len(named) == len(BROKEN) - 2
        check_listed(mounted, named)


def check_fails(path, offset, size):
    """The file opens, and a read of it fails with EIO and nothing else."""
    file = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError) as failure:
            while size > 0:
                got = len(os.pread(file, size, offset))
                assert got > 0, "the file ends early instead of failing"
                offset, size = offset + got, size - got
        assert failure.value.errno == errno.EIO
    finally:
        os.close(file)


def check_listed(mounted, names):
    """Each damaged tile stands in status.json with a reason, and in the log exactly once."""
    listed = mounted.status()["failed_tiles"]
    assert all(entry["reason"] for entry in listed)
    assert sorted(TILE_NAME.search(entry["object"])[0] for entry in listed) == sorted(names)
    logged = [line for line in mounted.log() if line["level"] == "ERROR"]
    for name in names:
        lines = [line for line in logged if name in line.get("object", "")]
        assert len(lines) == 1 and lines[0]["reason"], f"{name} is logged {len(lines)} times"
    assert len(logged) == len(names)
