"""Time 100,000 points: `tesserafs points`, NumPy memory maps by hand, geotessera's sample_points.

    make bench-points                  on the archive of `make bench`, in .cache/bench
    .venv/bin/python bench/points.py --archive /data/tessera --points 10000

Each is a whole job in a fresh process: a Parquet file of longitudes and latitudes in, one with 128
values a point out, everything in the page cache. They take turns, and their values must be equal.
sample_points reads the mounted consolidated store, without the repairs that it makes where there is
no value; what of a job is the reading alone, without imports and the file written, stands beside it.
Figures are medians; nothing is judged, the targets stand beside.
"""
import argparse
import json
import pathlib
import statistics
import sys

import numpy as np
import pandas as pd
from harness import BINARY, PROJECT, Mount, make_archive, manifest, read_once, run, say, show, spread, timed
from pixels import CONSOLIDATED

BANDS = [f"band_{i}" for i in range(128)]
JOBS = {"numpy": "NumPy memory maps, by hand", "sample_points": "GeoTesseraZarr.sample_points"}
TARGETS = {"numpy": 5, "sample_points": 20}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=pathlib.Path, default=PROJECT / ".cache" / "bench")
    parser.add_argument("--archive", type=pathlib.Path, help="of one dataset, v1, and one year; made in --dir where it is not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=100_000)
    arguments = parser.parse_args()
    directory = arguments.dir.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    archive = arguments.archive.resolve() if arguments.archive else make_archive(directory / "archive")
    table = scatter(archive, directory / "points.parquet", arguments.points)
    say("reading the archive into the page cache")
    read_once(archive)
    with Mount(archive, directory / "mnt-points") as mount:
        took = measure(archive, mount.dir / CONSOLIDATED, table, directory, arguments.rounds)
    report(took, arguments.points, arguments.rounds)
    return 0 if same(directory) else 1


def scatter(archive, path, count):
    """Points at random over the whole archive, from a fixed seed."""
    rows, noise = manifest(archive), np.random.default_rng(11)
    pd.DataFrame({
        "id": np.arange(count),
        "lon": noise.uniform(rows.lon.min() - 0.05, rows.lon.max() + 0.05, count),
        "lat": noise.uniform(rows.lat.min() - 0.05, rows.lat.max() + 0.05, count),
    }).to_parquet(path)
    return path


def measure(archive, store, table, directory, rounds):
    """Seconds of each job as a whole, and of its reading where it says."""
    year = manifest(archive).year.max()
    took = {"points": [], "points csv": []}
    for job in JOBS:
        took[job], took[job + " reading"] = [], []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for suffix, name in ("parquet", "points"), ("csv", "points csv"):
            took[name].append(timed([BINARY, "points", archive, table, "--year", year, "-o", directory / f"points-out.{suffix}"])[0])
        for job in JOBS:
            work = [sys.executable, "-W", "ignore", PROJECT / "bench/points_work.py", job, archive, store, year, table, directory / f"{job}.parquet"]
            whole, said = timed(work)
            took[job].append(whole)
            took[job + " reading"].append(json.loads(said)["reading"])
    return took


def report(took, count, rounds):
    print(f"\n{count:,} points, {rounds} rounds: medians, and the range in brackets")
    ours = statistics.median(took["points"])
    lines = [("", "whole job", "reading alone", "`tesserafs points` is faster", "target"),
             ("`tesserafs points`, to Parquet", spread(took["points"]), "", "", ""),
             ("`tesserafs points`, to CSV", spread(took["points csv"]), "", "", "")]
    for job, what in JOBS.items():
        ratio = statistics.median(took[job]) / ours
        lines.append((what, spread(took[job]), spread(took[job + " reading"]), f"{ratio:.1f} times", f">= {TARGETS[job]}"))
    show(*lines)


def same(directory):
    """Whether all have found the same, and where they differ."""
    ours = pd.read_parquet(directory / "points-out.parquet")[BANDS].to_numpy(np.float32)
    agree = True
    for job in JOBS:
        theirs = pd.read_parquet(directory / f"{job}.parquet")[BANDS].to_numpy(np.float32)
        differ = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs))).all(axis=1)
        if differ.any():
            print(f"VALUES DIFFER from those of {JOBS[job]} at {differ.sum():,} points, the first row {np.argmax(differ)}", file=sys.stderr)
            agree = False
    return agree


if __name__ == "__main__":
    run(main)
