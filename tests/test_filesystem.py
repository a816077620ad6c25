"""Tools of every day on the mount: they list, measure, copy and pack it as they do files on disk."""
import os
import pathlib
import subprocess

import archive
import numpy as np
import pytest
from mount import Mount, chunk_path
from reference import ZoneYear


def tool(*command, **options):
    """Run a tool; what it prints. Anything it complains of is a failure."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False, **options)
    assert done.returncode == 0 and done.stderr == "", f"{command}: {done.returncode}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def small(make_archive):
    """One tile: its store is two chunks of embeddings and two of scales."""
    return make_archive(archive.ONE)


@pytest.fixture(scope="module")
def small_mount(small, tmp_path_factory):
    with Mount(small.root, tmp_path_factory.mktemp("small") / "mnt") as mounted:
        yield mounted


@pytest.fixture
def small_store(small_mount):
    return small_mount.store(2024, 25)


def same_bytes(one, other):
    """Equal trees, byte for byte, name for name."""
    tool("diff", "-r", one, other)


def test_listings_agree(few_mount):
    """Catches an entry that is listed and not found, of another type, or that one tool does not see."""
    top = few_mount.dir
    walked = {"."}
    for directory, directories, files in os.walk(top):
        here = pathlib.Path(directory)
        walked |= {str((here / name).relative_to(top)) for name in directories + files}
        assert all((here / name).is_dir() for name in directories) and all((here / name).is_file() for name in files)
    assert ".tesserafs" not in walked and (top / ".tesserafs/status.json").is_file()
    assert set(tool("find", ".", cwd=top).replace("./", "").splitlines()) == walked
    assert set(tool("ls", "-RU1", cwd=top / "v1").split()) >= {"zarr.json", "embeddings", "utm25_2024.zarr"}
    report = tool("tree", "--noreport", "-fi", ".", cwd=top).replace("./", "").splitlines()
    assert set(report) == walked
    assert tool("ls", "-la", top / "v1/zones/2024").count("utm25_2024.zarr") == 1
    links = {path: path.stat().st_nlink for path in top.rglob("*") if path.is_file()}
    assert set(links.values()) == {1}, "find and tar take other counts for hard links"


def test_inode_numbers_are_distinct(whole_mount):
    """Catches two files of one number: tar and rsync -H take those for hard links, du counts one."""
    numbers = [path.stat().st_ino for path in (whole_mount.dir / "v1").rglob("*")]
    assert len(numbers) == len(set(numbers)) and 0 not in numbers


def test_modes(few_mount):
    """Catches entries that others may write, or the owner may not read."""
    for path in [few_mount.dir, *few_mount.dir.rglob("*")]:
        mode = path.stat().st_mode & 0o7777
        assert mode == (0o555 if path.is_dir() else 0o444), f"{path}: {mode:o}"


def test_sizes(few_mount, few, store):
    """Catches a size that is not what a read to the end gives, or a du that counts holes, or none."""
    expected = ZoneYear(few, 2024, 25)
    apparent = stored = 0
    for row, col in expected.chunks():
        path = chunk_path(store, "embeddings", row, col)
        status = path.stat()
        assert status.st_size == 1024 * 1024 * 128
        covered = int(expected.covered(*expected.extent(row, col)).sum()) * 128
        assert status.st_blocks == -(-covered // 512)
        apparent, stored = apparent + status.st_size, stored + status.st_blocks * 512
        with open(path, "rb", buffering=0) as file:
            assert sum(len(block) for block in iter(lambda: file.read(1 << 20), b"")) == status.st_size
        assert chunk_path(store, "scales", row, col).stat().st_size == 1024 * 1024 * 4
    assert stored < apparent / 2
    chunks = store / "embeddings" / "c"
    measured = int(tool("du", "-sB1", chunks).split()[0])
    assert stored <= measured < stored + 1e6
    assert apparent <= int(tool("du", "-sb", chunks).split()[0]) < apparent + 1e6
    for path in [p for p in store.rglob("*") if p.is_file() and p.stat().st_size < 1 << 20]:
        assert len(path.read_bytes()) == path.stat().st_size


def runs(mask):
    """(first, last + 1) of the runs of true in a flat mask."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask.ravel(), [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


@pytest.mark.parametrize("index", range(4))
def test_holes(whole_mount, whole, index):
    """Catches SEEK_DATA and SEEK_HOLE that call a tile a hole (copies would lose it), or the space
    between tiles data (copies would store it)."""
    expected = ZoneYear(whole, 2024, 25)
    row, col = expected.chunks()[index]
    mask = np.zeros((1024, 1024), bool)
    rows, cols = expected.extent(row, col)
    mask[: rows.stop - rows.start, : cols.stop - cols.start] = expected.covered(rows, cols)
    want = [(128 * first, 128 * last) for first, last in runs(mask)]
    file = os.open(chunk_path(whole_mount.store(2024, 25), "embeddings", row, col), os.O_RDONLY)
    try:
        got, at, size = [], 0, os.fstat(file).st_size
        while at < size:
            try:
                first = os.lseek(file, at, os.SEEK_DATA)
            except OSError:  # ENXIO: no more data
                break
            at = os.lseek(file, first, os.SEEK_HOLE)
            got.append((first, at))
        assert got == want
        for first, last in want[:: max(1, len(want) // 50)]:
            middle = (first + last) // 2
            assert os.lseek(file, middle, os.SEEK_DATA) == middle
            assert os.lseek(file, middle, os.SEEK_HOLE) == last
        with pytest.raises(OSError):
            os.lseek(file, size, os.SEEK_DATA)
    finally:
        os.close(file)


def test_dense_files_have_no_holes(small_store):
    """Catches holes in scales, whose fill is NaN: a hole reads as zeros."""
    for path in [chunk_path(small_store, "scales", 0, 0), small_store / "zarr.json", small_store / "easting/c/0"]:
        file = os.open(path, os.O_RDONLY)
        assert os.lseek(file, 0, os.SEEK_DATA) == 0 and os.lseek(file, 0, os.SEEK_HOLE) == path.stat().st_size
        os.close(file)


@pytest.mark.parametrize("sparse", ["always", "auto", "never"])
def test_cp(small_store, tmp_path, sparse):
    """Catches copies that differ, and sparse ones that take the room of full ones."""
    copy = tmp_path / "copy.zarr"
    tool("cp", "-r", f"--sparse={sparse}", small_store, copy)
    same_bytes(small_store, copy)
    room = int(tool("du", "-sB1", copy).split()[0])
    full = int(tool("du", "-sb", copy).split()[0])
    assert room >= full if sparse == "never" else room < full / 4


@pytest.mark.parametrize("options", [[], ["--sparse"]], ids=["plain", "sparse"])
def test_tar(small_store, tmp_path, options):
    """Catches an archive of the store that unpacks to something else; with --sparse by way of holes."""
    packed, copy = tmp_path / "store.tar", tmp_path / "copy"
    tool("tar", "-cf", packed, *options, "-C", small_store, ".")
    assert not options or packed.stat().st_size < 60e6
    copy.mkdir()
    tool("tar", "-xf", packed, "-C", copy)
    same_bytes(small_store, copy)


def test_rsync(small, tmp_path):
    """Catches sizes or times that change between looks, or with a remount: rsync would copy again."""
    copy, where = tmp_path / "copy", tmp_path / "mnt"
    with Mount(small.root, where) as mounted:
        tool("rsync", "-aS", f"{mounted.dir}/", f"{copy}/")
        same_bytes(mounted.dir / "v1", copy / "v1")
        assert tool("rsync", "-ain", f"{mounted.dir}/", f"{copy}/") == ""
        assert tool("rsync", "-ainc", f"{mounted.dir}/", f"{copy}/") == ""
    with Mount(small.root, where) as mounted:
        assert tool("rsync", "-ain", f"{mounted.dir}/", f"{copy}/") == ""


def facts(top):
    """What of every entry must be the same whenever it is looked at."""
    entries = [top, *(top / "v1").rglob("*"), top / "v1"]
    return {str(path): (s.st_ino, s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_blocks, s.st_mode, s.st_nlink)
            for path in entries for s in [path.stat()]}


def test_remount(small, tmp_path):
    """Catches inode numbers, times or sizes that depend on the mount or on the order of looking."""
    with Mount(small.root, tmp_path / "mnt") as mounted:
        first = facts(mounted.dir)
    with Mount(small.root, tmp_path / "mnt") as mounted:
        for path in sorted(mounted.dir.rglob("*"), reverse=True):
            path.stat()
        assert facts(mounted.dir) == first


def test_times(make_archive, mounting):
    """Catches times of the mount instead of the tiles': a chunk is as old as its newest tile."""
    times = {tile.lon: 1_700_000_000 + 1000 * i for i, tile in enumerate(archive.FEW)}
    tiles = make_archive(archive.FEW, manifest=None)
    for tile in tiles.tiles:
        for part in "", "_scales":
            os.utime(tiles.own(tiles.path(tile, part)), (times[tile.lon],) * 2)
        os.utime(tiles.own(tiles.mask_path(tile)), (1_600_000_000,) * 2)
    with mounting(tiles.root) as mounted:
        store = mounted.store(2024, 25)
        assert store.stat().st_mtime == (store / "zarr.json").stat().st_mtime == max(times.values())
        for row, col in ZoneYear(tiles, 2024, 25).chunks():
            assert chunk_path(store, "embeddings", row, col).stat().st_mtime == max(times.values())


def test_extended_attribute(few_mount, store, few):
    """Catches a chunk that does not name the tiles it is made of."""
    expected = ZoneYear(few, 2024, 25)
    for row, col in expected.chunks():
        path = chunk_path(store, "embeddings", row, col)
        shown = tool("getfattr", "-d", "--absolute-names", path)
        touching = {expected.tiles[i].name for i in expected.touching(*expected.extent(row, col))}
        assert all(name in shown for name in touching) and shown.count("grid_") >= len(touching)
        assert "user.tesserafs.tiles" in os.listxattr(path)
        assert set(os.getxattr(path, "user.tesserafs.tiles").decode().split(",")) == touching
    with pytest.raises(OSError):
        os.getxattr(path, "user.tesserafs.nothing")


def test_reads_at_every_offset(small_store, small):
    """Catches a read that begins or ends inside a pixel, row or block and gets its neighbour's bytes."""
    expected = ZoneYear(small, 2024, 25)
    rows, cols = expected.extent(0, 0)
    image = np.zeros((1024, 1024, 128), np.int8)
    image[: rows.stop, : cols.stop] = expected.window(rows, cols)[0]
    image = image.tobytes()
    noise = np.random.default_rng(5)
    file = os.open(chunk_path(small_store, "embeddings", 0, 0), os.O_RDONLY)
    for _ in range(400):
        offset, size = int(noise.integers(0, len(image))), int(2 ** noise.uniform(0, 21))
        assert os.pread(file, size, offset) == image[offset : offset + size]
    assert os.pread(file, 10, len(image)) == b"" and os.pread(file, 10, len(image) - 3) == image[-3:]
    os.close(file)


def test_statfs(few_mount):
    """Catches a df that fails, or that shows room to write."""
    status = os.statvfs(few_mount.dir)
    assert status.f_flag & os.ST_RDONLY and status.f_bavail == 0
