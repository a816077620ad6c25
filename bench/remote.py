"""Time reads of an archive that is elsewhere: an S3 gateway on loopback, as it is and with 30 ms added a request.

    make bench-remote                  in .cache/bench, which takes up to 10 GB and keeps archive and registries
    .venv/bin/python bench/remote.py --archive /data/tessera --only delayed

throughput  every chunk of a zone-year's embeddings, one after another in reads of 1 MiB, and by four
            readers: with nothing kept (cold), and by a new mount on the cache directory that a cold one left,
            which lies in the page cache (warm). Beside it rclone copies all tiles, to the disk that the
            cache is on and to tmpfs, obstore streams their objects one after another, and the same
            chunks are read from the mounted local archive. Figures are in MB/s of the tiles' bytes.
delayed     from a mount that has read nothing yet: a pixel, a window; and `tesserafs points` by itself.
            What they asked for is counted by the delay between them and the gateway (bench/delay).
            Round trips are what of a read's time remains without that of its bytes, at the pace at which
            obstore streams objects through the same delay, and without the time of the same read
            of the mounted local archive, in units of the delay. "In series" is how many requests
            came each after another had ended, "small" are answers of up to 64 KiB, "left" those
            that were not waited for.
planet      registries of 14 million tiles (bench/planet.py): mounting, memory, every level of directories.

Figures are medians; nothing is judged, the targets stand beside. Values must be those of the local archive.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import planet
from harness import (
    BINARY,
    PROJECT,
    Mount,
    command,
    files,
    introduce,
    make_archive,
    read_once,
    run,
    say,
    show,
    size,
    span,
    spread,
    temporary,
    timed,
    tmpfs,
    work,
)
from pixels import CONSOLIDATED, YEAR, ZONES, write_plan
from points import scatter
from servers import REGION, Delay, gateway, signed

DELAY = 0.03  # seconds
POINTS = 1_000
RCLONE, OBSTORE = "rclone copy of all tiles, to disk", "obstore, one stream"
PARTS = ["throughput", "delayed", "planet"]
LAYOUTS = {"zone store": ZONES, "consolidated store": CONSOLIDATED}
WORKS = {"pixel": "open, and one pixel", "window": "window of 1000 x 1000 px"}
TARGETS = {WORKS["pixel"]: "< 0.5 s", WORKS["window"]: "<= 6 round trips", "tesserafs points": "< 3 s, < 1/50 of all"}  # by how a row begins


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=pathlib.Path, default=PROJECT / ".cache" / "bench")
    parser.add_argument("--archive", type=pathlib.Path, help="of tiles like those of `make bench`; made in --dir where none is given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part of the benchmark; may be given again")
    arguments = parser.parse_args()
    directory = arguments.dir.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    parts = arguments.only or PARTS
    archive = None
    if parts != ["planet"]:
        archive = arguments.archive.resolve() if arguments.archive else make_archive(directory / "archive")
        say("reading the archive into the page cache")
        read_once(archive)
    bench = Remote(directory, archive, arguments.rounds)
    for part in parts:
        getattr(bench, part)()
    introduce(arguments.rounds)
    for table in bench.tables:
        show(*table)
    (directory / "results-remote.json").write_text(json.dumps({"tables": bench.tables, "rounds": bench.kept}, indent=1, default=vars))
    for what in bench.differ:
        print(f"VALUES DIFFER from the local archive's: {what}", file=sys.stderr)
    return 1 if bench.differ else 0


class Remote:
    def __init__(self, directory, archive, rounds):
        self.dir, self.archive, self.rounds = directory, archive, rounds
        self.tables = []  # each of lines, the heads first
        self.kept = []    # what the tables were made of
        self.differ = set()
        if archive:
            objects = [path for path in files(archive) if path.suffix in (".npy", ".tiff")]
            self.names = [str(path.relative_to(archive)) for path in objects]
            self.bytes = sum(path.stat().st_size for path in objects)
            self.large = [name for name in self.names if name.endswith(".npy") and not name.endswith("_scales.npy")][:12]

    # Mounts.

    def local(self):
        return Mount(self.archive, self.dir / "mnt-local")

    def remote(self, url, cache, bucket="archive"):
        return Mount(f"s3://{bucket}", self.dir / "mnt-remote", "--endpoint-url", url, "--cache", cache, environment=signed())

    def cache(self):
        """A cache directory with nothing in it."""
        return temporary(self.dir)

    # What a gateway next door gives.

    def throughput(self):
        seconds, counters = {}, {}
        with gateway(archive=self.archive) as url:
            for number in range(self.rounds):
                say(f"throughput, round {number + 1} of {self.rounds}")
                with contextlib.closing(self.throughput_round(url, counters, check=number == 0)) as measured:
                    for name, took in measured:
                        say(f"  {name}: {span(took)}, {self.bytes / took / 1e6:,.0f} MB/s")
                        seconds.setdefault(name, []).append(took)
        self.kept.append({"throughput": seconds, "counters": counters})
        heads = "MB/s of tiles", "times rclone: >= 2", "times obstore: >= 0.5", "of the local archive's: >= 0.8"
        self.tables.append([("", *heads)] + [self.throughput_line(name, seconds) for name in seconds])
        heads = "opens", "requests", "fetched / tiles", "read ahead", "of it used", "pages from disk", "not kept on disk"
        self.tables.append([("of the last round", *heads)] + [self.counters_line(name, c) for name, c in counters.items()])

    def throughput_line(self, name, seconds):
        def times(other):
            return f"{statistics.median(seconds[other]) / statistics.median(seconds[name]):.2f}"

        paces = spread([self.bytes / took / 1e6 for took in seconds[name]], lambda pace: f"{pace:,.0f}")
        if "cold" in name:
            return name, paces, times(RCLONE), times(OBSTORE), ""
        return name, paces, "", "", times(name.replace("warm from disk", "local archive")) if "warm" in name else ""

    def counters_line(self, name, c):
        return (name, f"{c['opens']:,}", f"{c['requests']:,}", f"{c['bytes_fetched'] / self.bytes:.2f}", size(c["ahead_bytes"]),
                size(c["ahead_bytes_used"]), f"{c['disk_hits']:,}", f"{c['dropped_writes']:,}")

    def throughput_round(self, url, counters, check):
        with self.cache() as target:
            yield RCLONE, self.rclone(url, target)
        with tmpfs(self.bytes) as target:
            if target:
                yield "rclone copy of all tiles, to tmpfs", self.rclone(url, target)
        took = self.stream(url, self.names)
        assert took["bytes"] == self.bytes
        yield OBSTORE, took["seconds"]
        for readers, who in (1, "one reader"), (4, "four readers"):
            with self.local() as mount:
                yield f"mount, local archive, {who}", read(chunks(mount), readers)
            with self.cache() as cache:
                for state in "cold", "warm from disk":
                    read_once(cache)
                    with self.remote(url, cache) as mount:
                        yield f"mount, {state}, {who}", read(chunks(mount), readers)
                        counters[f"mount, {state}, {who}"] = mount.status()["objects"]
                        if check and state != "cold" and readers == 1:
                            self.compare(mount)

    def compare(self, mount):
        """Every byte of the chunks, with the local archive's."""
        with self.local() as local:
            for ours, theirs in zip(chunks(mount), chunks(local), strict=True):
                if subprocess.run(["cmp", "--quiet", ours, theirs], check=False).returncode:
                    self.differ.add(str(ours.relative_to(mount.dir)))

    def rclone(self, url, target):
        if not shutil.which("rclone"):
            sys.exit("bench: there is no rclone: run scripts/setup.sh bench")
        remote = {"TYPE": "s3", "PROVIDER": "Other", "ENV_AUTH": "true", "REGION": REGION, "ENDPOINT": url, "FORCE_PATH_STYLE": "true"}
        environment = signed() | {"RCLONE_CONFIG": os.devnull} | {f"RCLONE_CONFIG_GATEWAY_{name}": value for name, value in remote.items()}
        seconds, _ = timed(["rclone", "copy", "gateway:archive", target], env=environment)
        return seconds

    def stream(self, url, names):
        words = [sys.executable, PROJECT / "bench/stream.py", url, "archive"]
        return json.loads(command(words, input="\n".join(names), env=signed(), capture_output=True).stdout)

    # What 30 ms a request make of it.

    def delayed(self):
        plans, rows, paces = {}, {}, []
        with self.local() as mount:
            for layout, store in LAYOUTS.items():
                plans[layout] = write_plan(mount.dir / store, self.archive, self.dir / f"plan-{layout.split()[0]}.json")
        table = scatter(self.archive, self.dir / f"points-{POINTS}.parquet", POINTS)
        with gateway(archive=self.archive) as url, Delay(DELAY, to=url) as delay:
            for number in range(self.rounds):
                say(f"with {DELAY * 1e3:.0f} ms a request, round {number + 1} of {self.rounds}")
                mark = len(delay.requests)
                took = self.stream(delay.url, self.large)
                delay.settle()
                paces.append(took["bytes"] / (took["seconds"] - delay.since(mark).requests * DELAY))
                with contextlib.closing(self.delayed_round(delay, plans, table)) as measured:
                    for name, seconds, local, asked in measured:
                        say(f"  {name}: {span(seconds)}, {asked.requests} requests, {size(asked.bytes)}")
                        rows.setdefault(name, []).append((seconds, local, asked))
        built = self.dir / "built.zarr"
        geotessera = self.geotessera(built, table) if built.exists() else []
        self.kept.append({"delayed": rows, "paces": paces, "geotessera": geotessera})
        pace = statistics.median(paces)
        heads = "seconds", "of the local archive", "requests", "small", "left", "bytes", "of all", "in series", "round trips", "target"
        lines = [(f"with {DELAY * 1e3:.0f} ms a request", *heads)]
        for name, measured in rows.items():
            lines.append(self.delayed_line(name, measured, pace))
        for name, seconds, asked in geotessera:
            counts = f"{asked.requests:,}", f"{asked.small:,}", f"{asked.left:,}", size(asked.bytes), "", f"{asked.series:,}"
            lines.append((name, spread(seconds), "", *counts, "", ""))
        self.tables.append(lines)
        paces = spread(paces, lambda pace: f"{pace / 1e6:,.0f} MB/s")
        self.tables.append([("through the delay", ""), (f"{OBSTORE}, without the delays", paces)])

    def delayed_line(self, name, measured, pace):
        seconds, local, asked = zip(*measured, strict=True)
        requests, small, left, count, series = (
            statistics.median(getattr(one, what) for one in asked) for what in ("requests", "small", "left", "bytes", "series"))
        trips = ""
        if local[0]:
            trips = f"{(statistics.median(seconds) - statistics.median(local) - count / pace) / DELAY:.1f}"
        target = next((target for begin, target in TARGETS.items() if name.startswith(begin)), "")
        return (name, spread(seconds), spread(local) if local[0] else "", f"{requests:,.0f}", f"{small:,.0f}", f"{left:,.0f}",
                size(count), f"1/{self.bytes / count:,.0f}", f"{series:,.0f}", trips, target)

    def delayed_round(self, delay, plans, table):
        """Name, seconds, seconds of the same on the local archive, and what was asked for."""
        mounting = True
        for layout, store in LAYOUTS.items():
            for job, what in WORKS.items():
                with self.local() as mount:
                    local = work(mount.dir / store, job, plans[layout])
                mark = len(delay.requests)
                with self.cache() as cache, self.remote(delay.url, cache) as mount:
                    def busy(mount=mount):
                        return mount.status()["objects"]["fetches"] > 0
                    delay.settle(busy)
                    if mounting:
                        yield "mount --daemon, from nothing", mount.seconds, None, delay.since(mark)
                    mounting, mark = False, len(delay.requests)
                    result = work(mount.dir / store, job, plans[layout])
                    delay.settle(busy)
                if result["checksum"] != local["checksum"]:
                    self.differ.add(f"{what}, {layout}")
                yield f"{what}, {layout}", result["seconds"], local["seconds"], delay.since(mark)
        points = [BINARY, "points", "--year", YEAR, table, "-o"]
        out = {place: self.dir / f"points-out-{place}.parquet" for place in ("local", "remote")}
        local, _ = timed([*points[:2], self.archive, *points[2:], out["local"]])
        mark = len(delay.requests)
        with self.cache() as cache:
            seconds, _ = timed([*points[:2], "s3://archive", *points[2:], out["remote"], "--endpoint-url", delay.url, "--cache", cache], env=signed())
            delay.settle()
        if out["local"].read_bytes() != out["remote"].read_bytes():
            self.differ.add("points")
        yield f"tesserafs points, {POINTS:,} points", seconds, local, delay.since(mark)

    def geotessera(self, built, table):
        """geotessera's own reader, of the store that make bench-consolidated has it build, over HTTP."""
        lines = []
        one = scatter(self.archive, self.dir / "points-1.parquet", 1)
        with Delay(DELAY, directory=built) as delay:
            for name, points in ("its first point", one), (f"its {POINTS:,} points", table):
                seconds = []
                for _ in range(self.rounds):
                    mark = len(delay.requests)
                    done = command([sys.executable, "-W", "ignore", PROJECT / "bench/points_work.py", "sample_points", self.archive, delay.url, YEAR,
                                    points, self.dir / "points-geotessera.parquet"], capture_output=True)
                    delay.settle()
                    seconds.append(json.loads(done.stdout)["reading"])
                lines.append((f"geotessera, a built store over HTTP, {name}", seconds, delay.since(mark)))
        return lines

    # A planet.

    def planet(self):
        say("registries of a planet")
        top = self.dir / "planet"
        planet.make(top, planet.ROWS)
        read_once(top)
        mounts, levels, peaks = {"of a local archive": [], "of a bucket, nothing kept": [], "of a bucket, registries kept": []}, {}, {}
        with gateway(planet=top) as url:
            for number in range(self.rounds):
                say(f"planet, round {number + 1} of {self.rounds}")
                with Mount(top, self.dir / "mnt-local") as mount:
                    mounts["of a local archive"].append(mount.seconds)
                    time.sleep(1)  # what it takes to mount, without what it takes to list
                self.peak(peaks, "mounted", mount)
                with Mount(top, self.dir / "mnt-local") as mount:
                    for path, entries, seconds in descend(mount.dir):
                        levels.setdefault((path, entries), []).append(seconds)
                self.peak(peaks, "every level listed", mount)
                with self.cache() as cache:
                    for state in "nothing kept", "registries kept":
                        with self.remote(url, cache, "planet") as mount:
                            mounts[f"of a bucket, {state}"].append(mount.seconds)
                        self.peak(peaks, f"of a bucket, {state}", mount)
        self.kept.append({"planet": mounts, "peaks": peaks, "levels": [(*level, seconds) for level, seconds in levels.items()]})
        self.tables.append([(f"{planet.ROWS:,} tiles", "mounting", "VmHWM", "RssAnon", "target")] + [
            (f"mount --daemon, {name}", spread(mounts[name]), *memory(peaks[kind]), "< 3 s, < 500 MB" if "nothing" not in name else "")
            for name, kind in (("of a local archive", "mounted"), *((name, name) for name in list(mounts)[1:]))]
            + [("the same, after every level was listed", "", *memory(peaks["every level listed"]), "< 500 MB")])
        self.tables.append([("ls -U, the first time", "entries", "seconds", "target")] + [
            (path, f"{entries:,}", spread(seconds), "< 0.2 s") for (path, entries), seconds in levels.items()])

    def peak(self, peaks, name, mount):
        for kind, most in mount.peak.items():
            kept = peaks.setdefault(name, {})
            kept[kind] = max(kept.get(kind, 0), most)


def memory(peak):
    return size(peak["VmHWM"]), size(peak["RssAnon"])


def chunks(mount):
    """Every chunk of the embeddings, in order."""
    top = mount.dir / ZONES / "embeddings/c"
    return sorted(files(top), key=lambda path: [int(part) for part in path.relative_to(top).parts])


def read(paths, readers):
    """Seconds to read files, each from its start in pieces of 1 MiB, by so many readers at once."""
    def one(path):
        piece = bytearray(1 << 20)
        with open(path, "rb", buffering=0) as file:
            while file.readinto(piece):
                pass

    with ThreadPoolExecutor(readers) as pool:
        begun = time.perf_counter()
        list(pool.map(one, paths))
        return time.perf_counter() - begun


def descend(top):
    """List a directory, the one in the middle of what is in it, and so on, of every layout; each path, its
    entries, and the seconds of ls."""
    yield listed(top, top)
    yield listed(top, top / "v1")
    for layout in sorted(os.listdir(top / "v1")):
        path = top / "v1" / layout
        while path:
            yield listed(top, path)
            names = os.listdir(path)
            middle = ["embeddings"] if "embeddings" in names else names[len(names) // 2:] + names[:len(names) // 2]
            path = next((path / name for name in middle if (path / name).is_dir()), None)


def listed(top, path):
    seconds, _ = timed(["ls", "-U", path])
    return str(path.relative_to(top)), len(os.listdir(path)), seconds


if __name__ == "__main__":
    run(main)
