"""Time the same reads on a mounted zone store and on its copy on disk, in one run, in turns.

    make bench                         in .cache/bench, which takes 9 GB and keeps archive and copy
    make bench BENCH_DIR=/fast/disk BENCH_ROUNDS=9

The archive is what `tesserafs demo --size large` writes: 36 tiles of zone 30, 3.6 GiB. The copy is
what `rsync -a` makes of the mounted store, and both are read once before, so that they lie in the
page cache as far as memory goes. Every piece of work runs in a fresh Python process (work.py), and
its values must be equal on both. Figures are medians; nothing is judged, the targets stand beside.
All rounds read one mount, which keeps what is read again: what nobody has read before takes what
stands under "first time".
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
import time

import pandas as pd
from harness import HOT, MEMORY, PROJECT, Mount, command, introduce, make_archive, manifest, read_once, run, say, show, span, spread, work
from pixels import ZONES as STORE
from pixels import write_plan

WORKS = {
    "open": ("xr.open_zarr", None),
    "window": ("window of 1000 x 1000 px across tiles", 0.9),
    "strip": ("strip of 64 x 4096 px", 0.9),
    "points": ("1,000 points at random", 0.9),
    "pixel": ("one pixel, from nothing open", 0.9),
    "scales": ("every scale", 0.9),
}


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
        make_archive(self.archive)
        self.take_four()
        with self.mount(self.archive) as mounted:
            say(f"copy of {STORE} in {self.copy}")
            command(["rsync", "-a", "--delete", f"{mounted / STORE}/", f"{self.copy}/"])
            self.plan = write_plan(mounted / STORE, self.archive, self.dir / "plan.json")
        with self.mount(self.few) as mounted:
            self.few_plan = write_plan(mounted / STORE, self.few, self.dir / "plan-of-4.json")
        say("reading archive and copy into the page cache")
        read_once(self.archive, self.copy)

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

    # Mounting, with an eye on the daemon's memory.

    @contextlib.contextmanager
    def mount(self, source):
        """Mount an archive and give the directory; its daemon's memory counts."""
        mount = Mount(source, self.dir / "mnt")
        with mount:
            yield mount.dir
        for name, peak in mount.peak.items():
            self.memory[name] = max(self.memory[name], peak)

    # The measurements.

    def measure(self):
        self.cold_start()
        with self.mount(self.archive) as mounted:
            self.works(mounted / STORE)
        self.first_reads()
        self.four_readers()
        self.listing()

    def cold_start(self):
        """From nothing running to the values of a window, imports and the process's end included."""
        for tiles, source, plan in (36, self.archive, self.plan), (4, self.few, self.few_plan):
            say(f"cold start, {tiles} tiles")
            seconds = []
            for _ in range(self.rounds):
                begun = time.perf_counter()
                with self.mount(source) as mounted:
                    work(mounted / STORE, "window", plan)
                    seconds.append(time.perf_counter() - begun)
            self.row(f"mount --daemon, Python, first window: {tiles} tiles", None, spread(seconds), None, "< 2.5 s")

    def works(self, store):
        for name, (what, target) in WORKS.items():
            say(what)
            seconds, checksums = {self.copy: [], store: []}, set()
            for number in range(self.rounds):
                for place in list(seconds)[:: 1 if number % 2 else -1]:
                    result = work(place, name, self.plan)
                    seconds[place].append(result["seconds"])
                    checksums.add(result["checksum"])
            same = len(checksums) == 1
            self.agree &= same
            ratio = statistics.median(seconds[self.copy]) / statistics.median(seconds[store])
            self.row(what + ("" if same else "  VALUES DIFFER"), spread(seconds[self.copy]), spread(seconds[store]),
                     ratio, f">= {target}" if target else "", span(seconds[store][0]))

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

    def row(self, what, copy, mount, ratio, target, first=""):
        self.rows.append((what, copy, mount, ratio, target, first))

    def report(self):
        introduce(self.rounds)
        table = [("", "copy on disk", "mount", "speed of the copy", "target", "mount, first time")]
        for what, copy, mount, ratio, target, first in self.rows:
            table.append((what, copy or "", mount, f"{ratio:.2f}" if ratio else "", target, first))
        peak = f"{self.memory['VmHWM'] >> 20} MiB"
        parts = ", ".join(f"{name[3:].lower()} {self.memory[name] >> 20}" for name in MEMORY[1:])
        table.append(("the daemon's memory at its peak", "", peak, "", "< 256 MB", ""))
        table.append(("copies of what is read often, besides", "", f"{self.memory[HOT] >> 20} MiB", "", "", ""))
        show(*table)
        print(f"\nThe daemon's memory by kind, each at its peak, in MiB: {parts}.")
        (self.dir / "results.json").write_text(json.dumps({"rows": self.rows, "memory": self.memory}, indent=1))
        if not self.agree:
            print("VALUES DIFFER between the copy and the mount", file=sys.stderr)


def dd_command(path):
    return ["env", "LC_ALL=C", "dd", f"if={path}", "of=/dev/null", "bs=1M"]


def dd(path):
    """Seconds that dd says it took."""
    done = command(dd_command(path), capture_output=True)
    return float(re.search(r"copied, ([\d.e+-]+) s", done.stderr)[1])


if __name__ == "__main__":
    run(main)
