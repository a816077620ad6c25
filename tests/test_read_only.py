"""Every system call that would change something gets EROFS, and changes nothing."""
import ctypes
import errno
import os
import stat

import pytest
from mount import chunk_path

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """A system call that Python does not wrap."""
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


AT_FDCWD, RENAME_EXCHANGE = -100, 2

# What is tried on a file, and what on a directory to make something new in it.
ON_FILE = {
    "open to write": lambda path: os.open(path, os.O_WRONLY),
    "open to read and write": lambda path: os.open(path, os.O_RDWR),
    "open to append": lambda path: os.open(path, os.O_WRONLY | os.O_APPEND),
    "open to truncate": lambda path: os.open(path, os.O_WRONLY | os.O_TRUNC),
    "truncate": lambda path: os.truncate(path, 0),
    "unlink": os.unlink,
    "rename": lambda path: os.rename(path, path.with_name("other")),
    "rename onto": lambda path: os.rename(path, path.with_name("zarr.json")),
    "link": lambda path: os.link(path, path.with_name("other")),
    "chmod": lambda path: os.chmod(path, 0o644),
    "chown": lambda path: os.chown(path, os.getuid(), os.getgid()),
    "utime": lambda path: os.utime(path, (1, 1)),
    "setxattr": lambda path: os.setxattr(path, "user.note", b"x"),
    "setxattr of ours": lambda path: os.setxattr(path, "user.tesserafs.tiles", b"x"),
    "removexattr": lambda path: os.removexattr(path, "user.tesserafs.tiles"),
}
IN_DIRECTORY = {
    "create": lambda path: os.open(path / "new", os.O_WRONLY | os.O_CREAT, 0o644),
    "create exclusively": lambda path: os.open(path / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644),
    "create a file without a name": lambda path: os.open(path, os.O_RDWR | os.O_TMPFILE, 0o600),
    "mkdir": lambda path: os.mkdir(path / "new"),
    "rmdir": os.rmdir,
    "symlink": lambda path: os.symlink("/etc/hosts", path / "new"),
    "mkfifo": lambda path: os.mkfifo(path / "new"),
    "mknod": lambda path: os.mknod(path / "new", stat.S_IFREG | 0o600),
    "rename a directory": lambda path: os.rename(path, path.with_name("other")),
    "exchange": lambda path: call("renameat2", AT_FDCWD, bytes(path), AT_FDCWD, bytes(path.with_name("zarr.json")), RENAME_EXCHANGE),
    "chmod a directory": lambda path: os.chmod(path, 0o755),
    "chown a directory": lambda path: os.chown(path, os.getuid(), os.getgid()),
    "utime of a directory": lambda path: os.utime(path),
    "setxattr of a directory": lambda path: os.setxattr(path, "user.note", b"x"),
}


def snapshot(top):
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_mode) for path in top.rglob("*"))


@pytest.mark.parametrize("what", ON_FILE)
def test_file(store, what):
    """Catches a change of a file that is let through, or refused with an errno tools do not expect."""
    path, before = chunk_path(store, "scales", 0, 0), snapshot(store)
    with pytest.raises(OSError) as failure:
        ON_FILE[what](path)
    assert failure.value.errno == errno.EROFS, os.strerror(failure.value.errno)
    assert snapshot(store) == before


@pytest.mark.parametrize("what", IN_DIRECTORY)
def test_directory(store, what):
    """Catches an entry that can be made, renamed or removed."""
    path, before = store / "scales" / "c", snapshot(store)
    with pytest.raises(OSError) as failure:
        IN_DIRECTORY[what](path)
    assert failure.value.errno == errno.EROFS, os.strerror(failure.value.errno)
    assert snapshot(store) == before


@pytest.mark.parametrize("what", ["write", "ftruncate", "fallocate", "fchmod", "fsetxattr", "futimens"])
def test_descriptor(store, what):
    """Catches a change through a file that was opened to read: EROFS, or EBADF and EINVAL where the
    kernel refuses by the descriptor before it asks anyone."""
    path, before = chunk_path(store, "scales", 0, 0), snapshot(store)
    file = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError) as failure:
            {
                "write": lambda: os.pwrite(file, b"x", 0),
                "ftruncate": lambda: os.ftruncate(file, 0),
                "fallocate": lambda: os.posix_fallocate(file, 0, 1 << 30),
                "fchmod": lambda: os.fchmod(file, 0o644),
                "fsetxattr": lambda: os.setxattr(file, "user.note", b"x"),
                "futimens": lambda: os.utime(file, (1, 1)),
            }[what]()
    finally:
        os.close(file)
    by_descriptor = what in ("write", "ftruncate", "fallocate")
    assert failure.value.errno in ({errno.EBADF, errno.EINVAL, errno.EROFS} if by_descriptor else {errno.EROFS})
    assert snapshot(store) == before


def test_new_names_do_not_exist(store):
    """Catches a name that turns up because somebody tried to make it."""
    for name in "new", "other":
        assert not (store / "scales" / "c" / name).exists() and not (store / "scales" / name).exists()
