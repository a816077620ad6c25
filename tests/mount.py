"""Mounting for tests: whatever happens, nothing stays mounted and no daemon stays."""
import errno
import json
import os
import pathlib
import signal
import subprocess
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("TESSERAFS", str(PROJECT / "bin" / "tesserafs"))


def run(*arguments, timeout=60):
    """Run tesserafs to its end; the result has returncode, stdout and stderr."""
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL)


def mount_line(directory):
    """The type of the file system mounted on a directory, None where none is."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        if left.split()[4].encode().decode("unicode_escape") == str(directory):
            return right.split()[0]
    return None


def runs(pid):
    """Whether a process is there and is more than a zombie that nobody reaps."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds):
    """Whether a condition came to hold within a time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_io_error(error):
    """Whether a client's error is the EIO of a read: itself, in a group, or in the words of a client in C++ or Rust."""
    if isinstance(error, ExceptionGroup):
        return all(map(is_io_error, error.exceptions))
    return getattr(error, "errno", None) == errno.EIO or "Input/output error" in str(error)


class Mount:
    """An archive mounted as long as the block runs; `tesserafs mount --daemon` unless foreground."""

    def __init__(self, source, directory, *options, foreground=False, environment=None):
        self.source, self.dir, self.foreground = source, pathlib.Path(directory), foreground
        self.options, self.environment = options, environment
        self.log_path = self.dir.with_name(self.dir.name + ".log")
        self.process = self.pid = None

    def __enter__(self):
        self.dir.mkdir(parents=True, exist_ok=True)
        command = [BINARY, "mount", str(self.source), str(self.dir), "--log-file", str(self.log_path),
                   "--log-format", "json", *self.options]
        environment = os.environ | (self.environment or {})
        if self.foreground:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=subprocess.STDOUT, text=True, env=environment)
            if not wait_until(lambda: mount_line(self.dir) or self.process.poll() is not None, 30) or \
                    self.process.poll() is not None:
                self.process.kill()
                raise AssertionError(f"mount failed: {self.process.communicate()[0]}")
            self.pid = self.process.pid
            self.status()
        else:
            done = subprocess.run([*command, "--daemon"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=60, env=environment)
            assert done.returncode == 0, f"mount failed: {done.stderr}"
            self.pid = self.status()["mount"]["pid"]
        return self

    def __exit__(self, *_):
        try:
            if mount_line(self.dir):
                run("unmount", self.dir, timeout=30)
        finally:
            if mount_line(self.dir):
                subprocess.run(["fusermount3", "-uz", self.dir], capture_output=True, timeout=10)
            if mount_line(self.dir):
                subprocess.run(["umount", "-l", self.dir], capture_output=True, timeout=10)
            if self.pid and not wait_until(self.ended, 10):
                os.kill(self.pid, signal.SIGKILL)
            if self.process:
                self.process.communicate(timeout=10)

    def ended(self):
        """Whether the process behind the mount is gone."""
        return self.process.poll() is not None if self.process else not runs(self.pid)

    def store(self, year, zone, dataset="v1"):
        return self.dir / dataset / "zones" / str(year) / f"utm{zone:02d}_{year}.zarr"

    def consolidated(self, dataset="v1"):
        return self.dir / dataset / "tessera.zarr"

    def status(self):
        """What .tesserafs/status.json says."""
        return json.loads((self.dir / ".tesserafs" / "status.json").read_text())

    def log(self):
        """The lines of the log, each a dict."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]

    def memory(self, what="VmRSS"):
        """A figure of /proc/PID/status in bytes."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(what + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {what} in /proc/{self.pid}/status")


def chunk_path(store, array, row, col):
    return store / array / "c" / str(row) / str(col) / ("0" if array == "embeddings" else "")
