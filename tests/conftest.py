"""What the tests share: a pool of tiles, archives of them, and mounts of those that nobody changes."""
import sys

import archive
import mount
import pytest
from mount import Mount


@pytest.fixture(scope="session")
def room(tmp_path_factory):
    """A directory of the session's own; the pool and what links to it lie on one file system."""
    return tmp_path_factory.mktemp("tesserafs")


@pytest.fixture(scope="session")
def pool(room):
    return archive.Pool(room / "pool")


@pytest.fixture(scope="session")
def make_archive(room, pool):
    """make_archive(tiles, ...) writes an archive in a directory of its own."""
    count = iter(range(1000))

    def make(tiles, root=None, **options):
        return archive.Archive(pool, root or room / f"archive-{next(count)}", tiles, **options)

    return make


@pytest.fixture
def mounting(tmp_path):
    """mounting(source, *options) is a Mount in a directory of its own, to be entered."""
    count = iter(range(1000))

    def make(source, *options, **more):
        return Mount(source, tmp_path / f"mnt{next(count)}", *options, **more)

    return make


@pytest.fixture(scope="session")
def whole(make_archive):
    """The archive of everything a builder accepts."""
    return make_archive(archive.WHOLE)


@pytest.fixture(scope="session")
def whole_mount(whole, room):
    with Mount(whole.root, room / "whole") as mounted:
        yield mounted


@pytest.fixture(scope="session")
def few(make_archive):
    """Two tiles of zone 25, side by side."""
    return make_archive(archive.FEW)


@pytest.fixture(scope="session")
def few_mount(few, room):
    with Mount(few.root, room / "few") as mounted:
        yield mounted


@pytest.fixture
def store(few_mount):
    """The only zone store of the two tiles, read-only for all who use it."""
    return few_mount.store(2024, 25)


def pytest_configure(config):
    if sys.version_info < (3, 12):
        raise pytest.UsageError("these tests need Python 3.12 or later: run them with `make test`")
    if not mount.pathlib.Path(mount.BINARY).exists():
        raise pytest.UsageError(f"there is no {mount.BINARY}: run `make build` first")
