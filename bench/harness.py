"""What the benchmarks share: running programs, mounts with an eye on their daemons, tables.

Nothing is left behind: what was mounted or started ends with the block that wanted it, also when
the benchmark is interrupted or told to end.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import pandas as pd

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(PROJECT / "tests"))
from mount import BINARY, mount_line  # noqa: E402  as the tests find and see them

MEMORY = ["VmHWM", "RssAnon", "RssFile", "RssShmem"]  # of /proc/PID/status
HOT = "hot_bytes"  # of status.json: copies of what is read often, in memory that no process's figures show


def run(main):
    """Run a benchmark to its exit code. Ctrl-C and SIGTERM end it once: what it does then to clean up is not
    interrupted again."""
    def end(number, _):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")


def insist(clean):
    """Clean up, once more where Ctrl-C came just then."""
    try:
        clean()
    except BaseException:
        clean()
        raise


@contextlib.contextmanager
def temporary(where=None):
    """An empty directory, removed with all that is in it after the block."""
    directory = tempfile.mkdtemp(prefix="tesserafs-bench-", dir=where)
    try:
        yield pathlib.Path(directory)
    finally:
        insist(lambda: shutil.rmtree(directory, ignore_errors=True))


def command(words, **options):
    """Run a program to its end, quietly; the benchmark ends where it fails."""
    done = subprocess.run([str(word) for word in words], text=True, check=False,
                          **({"stdout": subprocess.DEVNULL} | options if "capture_output" not in options else options))
    if done.returncode:
        sys.exit(f"bench: {' '.join(map(str, words))} ended with {done.returncode}\n{done.stderr or ''}")
    return done


def timed(words, **options):
    """Seconds of a program from its start to its end, and what it printed."""
    begun = time.perf_counter()
    done = command(words, capture_output=True, **options)
    return time.perf_counter() - begun, done.stdout


def work(store, name, plan):
    """Run work.py in a process of its own: seconds, and a checksum of the values."""
    done = command([sys.executable, "-W", "ignore", PROJECT / "bench/work.py", store, name, plan], capture_output=True)
    return json.loads(done.stdout)


def make_archive(directory):
    """36 tiles of zone 30, 3.6 GiB, once."""
    say(f"archive of 36 tiles in {directory}")
    command([BINARY, "demo", "--dir", directory, "--size", "large"])
    return directory


def manifest(archive):
    return pd.read_parquet(archive / "npy/v1/manifest.parquet")


def files(top):
    return sorted(path for path in top.rglob("*") if path.is_file())


def read_once(*tops):
    """Read everything, so that it lies in the page cache as far as memory goes."""
    for top in tops:
        for path in files(top):
            command(["cat", path])


def stored(top):
    """Bytes of all files."""
    return sum(path.stat().st_size for path in files(top))


SPARE = 5 << 30  # bytes of memory that a copy in tmpfs must leave for everything else


@contextlib.contextmanager
def tmpfs(count):
    """A directory in memory for so many bytes, until the block ends; None where there is no room for it."""
    memory, shared = pathlib.Path("/proc/meminfo").read_text(), pathlib.Path("/dev/shm")
    available = next(int(line.split()[1]) * 1024 for line in memory.splitlines() if line.startswith("MemAvailable:"))
    if not shared.is_dir() or shutil.disk_usage(shared).free < count * 1.1 or available < count + SPARE:
        say(f"there is no room for {size(count)} in tmpfs")
        yield None
        return
    with temporary(shared) as directory:
        yield directory


class Mount:
    """An archive mounted as long as the block runs, by `tesserafs mount --daemon`.

    seconds is how long mounting took; peak has what the daemon took of memory at the most, in bytes, and
    is whole after the block.
    """

    def __init__(self, source, directory, *options, environment=None):
        self.source, self.dir, self.options, self.environment = source, directory, options, environment
        self.peak = dict.fromkeys([*MEMORY, HOT], 0)

    def __enter__(self):
        self.dir.mkdir(parents=True, exist_ok=True)
        begun = time.perf_counter()
        try:
            command([BINARY, "mount", self.source, self.dir, "--daemon", "--log-file", self.dir.with_name("mount.log"), *self.options],
                    env=self.environment)
            self.seconds = time.perf_counter() - begun
            self.pid = self.status()["mount"]["pid"]
        except BaseException:
            insist(self.unmount)
            raise
        self.ended = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        return self

    def __exit__(self, *_):
        try:
            self.ended.set()
            self.watcher.join()
            self.peak[HOT] = self.status()["mount"].get("door", {}).get(HOT, 0)
        finally:
            insist(self.unmount)

    def unmount(self):
        if mount_line(self.dir):
            command([BINARY, "unmount", self.dir])

    def status(self):
        return json.loads((self.dir / ".tesserafs/status.json").read_text())

    def watch(self):
        last = False
        while not last:
            last = self.ended.wait(0.05)
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
                    name, _, rest = line.partition(":")
                    if name in MEMORY:
                        self.peak[name] = max(self.peak[name], int(rest.split()[0]) * 1024)


def say(what):
    print(f"bench: {what}", flush=True)


def span(seconds):
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def spread(values, form=span):
    """Median, and the range."""
    return f"{form(statistics.median(values))} ({form(min(values))} .. {form(max(values))})"


def size(count):
    """A number of bytes, for people."""
    return f"{count / 2**20:,.1f} MiB"


def introduce(rounds):
    """Where the figures of the tables that follow come from."""
    memory = pathlib.Path("/proc/meminfo").read_text().split()[1]
    print(f"\n{os.cpu_count()} cores, {int(memory) / 2**20:.0f} GiB of memory, Linux {os.uname().release}, "
          f"{'root' if os.geteuid() == 0 else 'not root'}, {rounds} rounds: medians, and the range in brackets")


def show(*lines):
    """Print a table, its heads first."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    print()
    for number, line in enumerate(lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
