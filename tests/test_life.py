"""How a mount begins and ends, whoever ends it and whoever still uses it."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
import zarr
from mount import BINARY, Mount, chunk_path, mount_line, run, runs, wait_until
from reference import ZoneYear

# Reads a chunk over and over, and says when it is in the middle of it.
READER = """
import os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
print("reading", flush=True)
while True:
    at = 0
    while data := os.pread(file, 1 << 20, at):
        at += len(data)
"""


class Users:
    """A process that reads a file without end, and one that sits in the directory."""

    def __init__(self, mounted):
        path = chunk_path(mounted.store(2024, 25), "embeddings", 0, 0)
        self.reader = subprocess.Popen([sys.executable, "-c", READER, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.sitter = subprocess.Popen(["sleep", "600"], cwd=path.parent)
        assert self.reader.stdout.readline() == b"reading\n"
        time.sleep(0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.reader, self.sitter:
            process.kill()
            process.wait(10)


def reads(mounted, tiles):
    """The mount serves the values of the archive."""
    expected = ZoneYear(tiles, 2024, 25)
    rows, cols = slice(100, 200), slice(0, 200)
    got = zarr.open_group(mounted.store(2024, 25), mode="r")["embeddings"][rows, cols]
    return np.array_equal(got, expected.window(rows, cols)[0])


@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "daemon"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, "unmount", "umount -l"])
def test_ends_while_used(mounting, few, end, foreground):
    """Catches a mount, a process or a reader that stays when it is told to end while a client reads and
    another sits in the directory."""
    with mounting(few.root, foreground=foreground) as mounted:
        with Users(mounted) as users:
            if end == "unmount":
                assert run("unmount", mounted.dir).returncode == 0
            elif end == "umount -l":
                subprocess.run(["fusermount3", "-uz", mounted.dir], check=True)
            else:
                os.kill(mounted.pid, end)
            assert wait_until(lambda: mount_line(mounted.dir) is None, 5), "still mounted after 5 s"
            if end != "umount -l":  # which leaves it to those who use it, until they stop
                assert wait_until(mounted.ended, 10), "still runs after 10 s"
                users.reader.wait(10)  # its read failed, or the next did: it hangs on nothing
        assert wait_until(mounted.ended, 10), "still runs when nobody uses it any more"
        if foreground and end != "umount -l":
            assert mounted.process.wait(10) == 0
        assert list(mounted.dir.iterdir()) == []
    with mounting(few.root) as mounted:
        assert reads(mounted, few)


def test_killed(mounting, few):
    """Catches a dead mount that keeps its directory from being used again: the next mount clears it."""
    with mounting(few.root) as mounted:
        os.kill(mounted.pid, signal.SIGKILL)
        assert wait_until(lambda: not runs(mounted.pid), 10)
        with pytest.raises(OSError):
            mounted.status()
        done = run("status", mounted.dir)
        assert done.returncode == 1 and "dead" in done.stderr and len(done.stderr.splitlines()) == 1
        with Mount(few.root, mounted.dir) as again:
            assert again.pid != mounted.pid and reads(again, few)
        assert mount_line(mounted.dir) is None, "the dead mount still lies under the new one"


def test_unmount_clears_a_dead_mount(mounting, few):
    """Catches `unmount` that asks a process that is gone."""
    with mounting(few.root) as mounted:
        os.kill(mounted.pid, signal.SIGKILL)
        assert wait_until(lambda: not runs(mounted.pid), 10)
        assert run("unmount", mounted.dir).returncode == 0
        assert mount_line(mounted.dir) is None


def test_daemon(few, tmp_path):
    """Catches --daemon that returns before the mount answers, or that keeps the caller's pipes open (a
    script that reads them would wait for ever), or its directory in use."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "mnt").mkdir()
    with Mount(few.root, here / "mnt") as mounted:  # run() reads both pipes to their end
        assert mount_line(mounted.dir) == "fuse.tesserafs"
        assert os.readlink(f"/proc/{mounted.pid}/cwd") == "/"
        done = run("mount", few.root, mounted.dir, "--daemon")
        assert done.returncode == 1 and "already" in done.stderr
        assert reads(mounted, few), "a second mount on the same directory disturbed the first"


def test_daemon_reports_failure(tmp_path):
    """Catches --daemon that says all is well, or nothing, when the process behind it failed."""
    (tmp_path / "mnt").mkdir()
    done = run("mount", tmp_path / "nowhere", tmp_path / "mnt", "--daemon", "--log-file", tmp_path / "log")
    assert done.returncode == 3 and "nowhere" in done.stderr and done.stdout == ""


def test_relative_paths(few, tmp_path):
    """Catches paths that are taken from where the daemon runs instead of where the command was given."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "archive").symlink_to(few.root)
    try:
        done = subprocess.run([BINARY, "mount", "archive", "mnt", "--daemon", "--log-file", "log"], cwd=tmp_path,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "mnt/v1/zones/2024/utm25_2024.zarr/zarr.json").is_file() and (tmp_path / "log").is_file()
        assert subprocess.run([BINARY, "unmount", "mnt"], cwd=tmp_path, timeout=60).returncode == 0
        assert mount_line(tmp_path / "mnt") is None
    finally:
        if mount_line(tmp_path / "mnt"):
            subprocess.run(["fusermount3", "-uz", tmp_path / "mnt"], timeout=10)


def test_foreground_says_how_to_open_it(few, tmp_path):
    """Catches a summary whose Python line does not work when it is pasted."""
    with Mount(few.root, tmp_path / "mnt", foreground=True) as mounted:
        said = ""
        while "Ctrl-C" not in said:
            line = mounted.process.stdout.readline()
            assert line, f"no line on how to end it in: {said}"
            said += line
        expression = said[said.index("xr.open_zarr(") :].splitlines()[0]
        opened = subprocess.run([sys.executable, "-c", f"import xarray as xr; print({expression}.sizes['band'])"],
                                capture_output=True, text=True, timeout=60)
        assert opened.stdout.strip() == "128", opened.stderr
        assert str(few.root) in said and str(mounted.dir) in said


def test_status(few, mounting):
    """Catches a status that does not say what is mounted, how, by whom, and what was read."""
    with mounting(few.root) as mounted:
        status = mounted.status()
        mount, dataset = status["mount"], status["datasets"][0]
        assert mount["dir"] == str(mounted.dir) and mount["source"] == str(few.root) and runs(mount["pid"])
        assert mount["version"] and mount["options"]["missing_tiles"] == "error"
        assert (dataset["name"], dataset["version"], dataset["variant"]) == ("v1", "1.0", "vultr")
        assert dataset["tiles"] == 2 and dataset["years"] == [{"year": 2024, "zones": [25]}]
        assert dataset["bytes"] == sum(few.path(t, p).stat().st_size for t in few.tiles for p in ("", "_scales"))
        assert status["failed_tiles"] == []
        before = status["reads"]["bytes"]
        assert reads(mounted, few)
        assert mounted.status()["reads"]["bytes"] > before, "the file is not what is true when it is opened"
        done = run("status", mounted.dir, "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["mount"] == mount | {"door": json.loads(done.stdout)["mount"]["door"]}
        done = run("status", mounted.dir)
        assert done.returncode == 0 and str(few.root) in done.stdout


def test_info_of_a_mount(few_mount):
    """Catches `info` that only knows archives."""
    done = run("info", few_mount.dir)
    assert done.returncode == 0 and "v1" in done.stdout and "2024" in done.stdout


def test_doctor(few):
    """Catches a doctor that finds fault with a machine on which everything works, or that leaves a
    mount behind."""
    done = run("doctor", few.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fuse" in done.stdout.lower() and "proj" in done.stdout.lower()


def test_many_mounts(few, tmp_path):
    """Catches state that two mounts of one archive share."""
    with Mount(few.root, tmp_path / "a") as a, Mount(few.root, tmp_path / "b") as b:
        assert a.pid != b.pid
        os.kill(a.pid, signal.SIGTERM)
        assert wait_until(lambda: mount_line(a.dir) is None, 5)
        assert reads(b, few)


UNPRIVILEGED = r"""
set -e
mount -t tmpfs none dev
mknod dev/fuse c 10 229
chmod 0666 dev/fuse
mount --bind dev/fuse /dev/fuse
as_nobody="setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=$PWD"
$as_nobody ./tesserafs mount archive mnt --daemon --log-file log
$as_nobody sha1sum mnt/v1/zones/2024/utm25_2024.zarr/embeddings/c/0/0/0
grep " $PWD/mnt .*fuse.tesserafs" /proc/self/mountinfo
$as_nobody ./tesserafs unmount mnt
! grep " $PWD/mnt " /proc/self/mountinfo
"""


def test_unprivileged(few, few_mount):
    """Catches a mount that needs root: others mount through fusermount3. Run by root this is done as
    nobody, in a mount namespace where /dev/fuse is open to all, as it is on a desktop; run by
    others every test shows it."""
    if os.getuid() != 0:
        assert few_mount.status()["mount"]["pid"]
        return
    place = pathlib.Path(tempfile.mkdtemp(prefix="tesserafs-nobody."))  # pytest's own is closed to nobody
    try:
        shutil.copy2(BINARY, place / "tesserafs")
        shutil.copytree(few.root, place / "archive")
        for name in "mnt", "dev":
            (place / name).mkdir()
        for path in [place, *place.rglob("*")]:
            os.chown(path, 65534, 65534)
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", UNPRIVILEGED], cwd=place,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        with open(chunk_path(few_mount.store(2024, 25), "embeddings", 0, 0), "rb") as file:
            assert hashlib.file_digest(file, "sha1").hexdigest() in done.stdout
        assert "user_id=65534" in done.stdout, "it was root who mounted"
    finally:
        shutil.rmtree(place)
