"""Time the same reads on a mounted zone store and on its copy on disk, in one run, in turns.

    make bench                         in .cache/bench, which takes 9 GB and keeps archive and copy
    make bench BENCH_DIR=/fast/disk BENCH_ROUNDS=9

The archive is what `tesserafs demo --size large` writes: 36 tiles of zone 30, 3.6 GiB. The copy is
what `rsync -a` makes of the mounted store, and both are read once before, so that they lie in the
page cache as far as memory goes. Every piece of work runs in a fresh Python process (work.py), and
its values must be equal on both. Figures are medians; nothing is judged, the targets stand beside.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import zarr

PROJECT = pathlib.Path(__file__).resolve().parent.parent
BINARY = PROJECT / "bin" / "tesserafs"
sys.path.insert(0, str(PROJECT / "tests"))
from archive import Tile, footprint  # noqa: E402  the tests' own geometry

STORE = "v1/zones/2024/utm30_2024.zarr"
WORKS = {
    "open": ("xr.open_zarr", None),
    "window": ("window of 1000 x 1000 px across tiles", 0.9),
    "strip": ("strip of 64 x 4096 px", 0.9),
    "points": ("1,000 points at random", 0.9),
    "pixel": ("one pixel, from nothing open", 0.9),
    "scales": ("every scale", 0.9),
}
MEMORY = ["VmHWM", "RssAnon", "RssFile", "RssShmem"]  # of /proc/PID/status
HOT = "hot_bytes"  # of status.json: copies of what is read often, in memory that no process's figures show


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=pathlib.Path, default=PROJECT / ".cache" / "bench")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    bench = Bench(arguments.dir.resolve(), arguments.rounds)
    bench.prepare()
    bench.measure()
    bench.report()
    return 0 if bench.agree else 1


class Bench:
    def __init__(self, directory, rounds):
        self.dir, self.rounds = directory, rounds
        self.archive, self.few, self.copy = directory / "archive", directory / "archive-of-4", directory / "copy"
        self.rows = []  # of the table: what, copy, mount, ratio, target
        self.memory = dict.fromkeys([*MEMORY, HOT], 0)
        self.agree = True

    # Making what is read.

    def prepare(self):
        self.dir.mkdir(parents=True, exist_ok=True)
        say(f"archive of 36 tiles in {self.archive}")
        command([BINARY, "demo", "--dir", self.archive, "--size", "large"])
        self.take_four()
        with self.mount(self.archive) as mounted:
            say(f"copy of {STORE} in {self.copy}")
            command(["rsync", "-a", "--delete", f"{mounted / STORE}/", f"{self.copy}/"])
            self.plan = self.write_plan(mounted / STORE, self.archive, "plan.json")
        with self.mount(self.few) as mounted:
            self.few_plan = self.write_plan(mounted / STORE, self.few, "plan-of-4.json")
        say("reading archive and copy into the page cache")
        for top in self.archive, self.copy:
            for path in sorted(p for p in top.rglob("*") if p.is_file()):
                command(["cat", path], stdout=subprocess.DEVNULL)

    def take_four(self):
        """An archive of four of the tiles, linked, with a manifest of its own."""
        rows = manifest(self.archive)
        lons, lats = sorted(rows.lon_i.unique())[2:4], sorted(rows.lat_i.unique())[2:4]
        rows = rows[rows.lon_i.isin(lons) & rows.lat_i.isin(lats)]
        for row in rows.itertuples():
            name = f"grid_{row.lon:.2f}_{row.lat:.2f}"
            for path in [*(self.archive / f"npy/v1/{row.year}/{name}").iterdir(), self.archive / f"landmasks/v1/{name}.tiff"]:
                target = self.few / path.relative_to(self.archive)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    os.link(path, target)
        rows.to_parquet(self.few / "npy/v1/manifest.parquet")
        masks = pd.read_parquet(self.archive / "landmasks/v1/landmasks.parquet")
        masks.merge(rows[["lon", "lat"]]).to_parquet(self.few / "landmasks/v1/landmasks.parquet")

    def write_plan(self, store, archive, name):
        """Which pixels to read: by the tiles' places on the store's lattice, and a fixed seed."""
        _, _, easting, _, _, northing = zarr.open_group(store, mode="r").attrs["transform"]
        height, width = zarr.open_group(store, mode="r")["scales"].shape
        places = []
        for row in manifest(archive).itertuples():
            left, top, tile_height, tile_width = footprint(Tile(row.year, row.lon_i, row.lat_i))
            places.append((int((northing - top) // 10), int((left - easting) // 10), tile_height, tile_width))
        row, col = places[len(places) // 2][:2]  # the corner of a tile in the middle: four meet there
        noise = np.random.default_rng(7)
        inside = [(noise.integers(r + 40, r + h - 40), noise.integers(c + 40, c + w - 40))
                  for r, c, h, w in (places[i] for i in noise.integers(0, len(places), 1000))]
        plan = {
            "window": [[max(row - 300, 0), min(row + 700, height)], [max(col - 400, 0), min(col + 600, width)]],
            "strip": [[row + 100, row + 164], [max(col - 1500, 0), min(col + 2596, width)]],
            "points": [[int(r) for r, _ in inside], [int(c) for _, c in inside]],
            "pixel": [int(inside[0][0]), int(inside[0][1])],
        }
        path = self.dir / name
        path.write_text(json.dumps(plan))
        return path

    # Mounting, with an eye on the daemon's memory.

    @contextlib.contextmanager
    def mount(self, source):
        """Mount an archive and give the directory; its daemon's memory counts."""
        directory = self.dir / "mnt"
        directory.mkdir(exist_ok=True)
        command([BINARY, "mount", source, directory, "--daemon", "--log-file", self.dir / "mount.log"])
        try:
            pid = json.loads((directory / ".tesserafs/status.json").read_text())["mount"]["pid"]
            ended = threading.Event()
            watcher = threading.Thread(target=self.watch, args=(pid, ended))
            watcher.start()
            try:
                yield directory
            finally:
                ended.set()
                watcher.join()
                door = json.loads((directory / ".tesserafs/status.json").read_text())["mount"].get("door", {})
                self.memory[HOT] = max(self.memory[HOT], door.get(HOT, 0))
        finally:
            command([BINARY, "unmount", directory])

    def watch(self, pid, ended):
        last = False
        while not last:
            last = ended.wait(0.05)
            with contextlib.suppress(FileNotFoundError):
                for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                    name, _, rest = line.partition(":")
                    if name in MEMORY:
                        self.memory[name] = max(self.memory[name], int(rest.split()[0]) * 1024)

    # The measurements.

    def measure(self):
        self.cold_start()
        with self.mount(self.archive) as mounted:
            self.works(mounted / STORE)
        self.first_reads()
        self.four_readers()
        self.listing()

    def work(self, store, work, plan):
        """Run work.py; its result, and the seconds from its start to its end."""
        begun = time.perf_counter()
        done = command([sys.executable, "-W", "ignore", PROJECT / "bench/work.py", store, work, plan], capture_output=True)
        return json.loads(done.stdout), time.perf_counter() - begun

    def cold_start(self):
        """From nothing running to the values of a window, imports and the process's end included."""
        for tiles, source, plan in (36, self.archive, self.plan), (4, self.few, self.few_plan):
            say(f"cold start, {tiles} tiles")
            seconds = []
            for _ in range(self.rounds):
                begun = time.perf_counter()
                with self.mount(source) as mounted:
                    self.work(mounted / STORE, "window", plan)
                    seconds.append(time.perf_counter() - begun)
            self.row(f"mount --daemon, Python, first window: {tiles} tiles", None, spread(seconds), None, "< 2.5 s")

    def works(self, store):
        for work, (what, target) in WORKS.items():
            say(what)
            seconds, checksums = {self.copy: [], store: []}, set()
            for number in range(self.rounds):
                for place in list(seconds)[:: 1 if number % 2 else -1]:
                    result, _ = self.work(place, work, self.plan)
                    seconds[place].append(result["seconds"])
                    checksums.add(result["checksum"])
            same = len(checksums) == 1
            self.agree &= same
            ratio = statistics.median(seconds[self.copy]) / statistics.median(seconds[store])
            self.row(what + ("" if same else "  VALUES DIFFER"), spread(seconds[self.copy]), spread(seconds[store]),
                     ratio, f">= {target}" if target else "")

    def whole_chunks(self, count):
        """Chunks of embeddings that hold no hole, by their path in the store."""
        found = []
        with self.mount(self.archive) as mounted:
            for path in sorted((mounted / STORE / "embeddings/c").rglob("0")):
                if path.is_file() and path.stat().st_blocks * 512 == path.stat().st_size:
                    found.append(path.relative_to(mounted / STORE))
        return found[:count]

    def first_reads(self, times=6):
        """dd of chunks: the first read after mounting, the second, ... against the plain files."""
        say("dd of 128 MiB chunks")
        chunks = self.whole_chunks(max(3, self.rounds))
        plain, mount = [], [[] for _ in range(times)]
        with self.mount(self.archive) as mounted:
            for chunk in chunks:
                for ordinal in range(times):
                    plain.append(dd(self.copy / chunk))
                    mount[ordinal].append(dd(mounted / STORE / chunk))
        for ordinal, seconds in enumerate(mount):
            target = ">= 0.33" if ordinal == 0 else ">= 0.9 as root" if ordinal >= 2 else ""
            self.row(f"dd bs=1M of a chunk, read {ordinal + 1}", spread(plain), spread(seconds),
                     statistics.median(plain) / statistics.median(seconds), target)

    def four_readers(self):
        """Four dd at once, each on a chunk of its own that nobody has read, against one after another."""
        say("four readers")
        chunks = self.whole_chunks(4)
        gains = {}
        for place in "copy", "mount":
            gains[place] = []
            for _ in range(self.rounds):
                together = contextlib.nullcontext(self.copy) if place == "copy" else self.mounted_store()
                with together as top:
                    begun = time.perf_counter()
                    readers = [subprocess.Popen(dd_command(top / chunk), stderr=subprocess.DEVNULL) for chunk in chunks]
                    failed = [reader.wait() for reader in readers]
                    at_once = time.perf_counter() - begun
                alone = contextlib.nullcontext(self.copy) if place == "copy" else self.mounted_store()
                with alone as top:
                    begun = time.perf_counter()
                    for chunk in chunks:
                        command(dd_command(top / chunk), stderr=subprocess.DEVNULL)
                    in_turn = time.perf_counter() - begun
                assert not any(failed), "dd failed"
                gains[place].append(in_turn / at_once)
        self.row("four readers at once: speed of one, times", f"{statistics.median(gains['copy']):.2f}",
                 f"{statistics.median(gains['mount']):.2f}", None, ">= 2 on two cores")

    @contextlib.contextmanager
    def mounted_store(self):
        with self.mount(self.archive) as mounted:
            yield mounted / STORE

    def listing(self):
        """ls -U of 50,000 entries: no store of 36 tiles has such a directory, so the front door's own
        benchmark lists one of a tree in memory, against the same names on this disk."""
        say("ls -U of 50,000 entries")
        done = command(["go", "test", "-run", "^$", "-bench", "BenchmarkList", "./vfs/fusefs"], capture_output=True,
                       cwd=PROJECT, env=os.environ | {"TMPDIR": str(self.dir)})
        took = {name: float(ms) / 1e3 for name, ms in re.findall(r"^BenchmarkList/(\w+)\S*\s+\d+\s+([\d.]+) ms", done.stdout, re.M)}
        for which, name in ("first", "first time"), ("again", "again"):
            self.row(f"ls -U of 50,000 entries, {name}", span(took["disk"]), span(took[which]), took["disk"] / took[which], ">= 0.5")

    # What comes out.

    def row(self, *cells):
        self.rows.append(cells)

    def report(self):
        memory = pathlib.Path("/proc/meminfo").read_text().split()[1]
        print(f"\n{os.cpu_count()} cores, {int(memory) / 2**20:.0f} GiB of memory, Linux {os.uname().release}, "
              f"{'root' if os.geteuid() == 0 else 'not root'}, {self.rounds} rounds: medians, and the range in brackets\n")
        table = [("", "copy on disk", "mount", "speed of the copy", "target")]
        for what, copy, mount, ratio, target in self.rows:
            table.append((what, copy or "", mount, f"{ratio:.2f}" if ratio else "", target))
        peak = f"{self.memory['VmHWM'] >> 20} MiB"
        parts = ", ".join(f"{name[3:].lower()} {self.memory[name] >> 20}" for name in MEMORY[1:])
        table.append(("the daemon's memory at its peak", "", peak, "", "< 256 MB"))
        table.append(("copies of what is read often, besides", "", f"{self.memory[HOT] >> 20} MiB", "", ""))
        widths = [max(len(line[i]) for line in table) for i in range(5)]
        for number, line in enumerate(table):
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
            if number == 0:
                print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
        print(f"\nThe daemon's memory by kind, each at its peak, in MiB: {parts}.")
        (self.dir / "results.json").write_text(json.dumps({"rows": self.rows, "memory": self.memory}, indent=1))
        if not self.agree:
            print("VALUES DIFFER between the copy and the mount", file=sys.stderr)


def manifest(archive):
    return pd.read_parquet(archive / "npy/v1/manifest.parquet")


def dd_command(path):
    return ["env", "LC_ALL=C", "dd", f"if={path}", "of=/dev/null", "bs=1M"]


def dd(path):
    """Seconds that dd says it took."""
    done = command(dd_command(path), capture_output=True)
    return float(re.search(r"copied, ([\d.e+-]+) s", done.stderr)[1])


def command(words, **options):
    done = subprocess.run([str(word) for word in words], text=True, check=False,
                          **({"stdout": subprocess.DEVNULL} | options if "capture_output" not in options else options))
    if done.returncode:
        sys.exit(f"bench: {' '.join(map(str, words))} ended with {done.returncode}\n{done.stderr or ''}")
    return done


def span(seconds):
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def spread(seconds):
    """Median, and the range."""
    return f"{span(statistics.median(seconds))} ({span(min(seconds))} .. {span(max(seconds))})"


def say(what):
    print(f"bench: {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
