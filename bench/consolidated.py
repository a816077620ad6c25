"""Time the same reads on the mounted consolidated store, on the one geotessera builds, and in memory.

    make bench-consolidated            in .cache/bench, which takes 6 GB and keeps archive and built store
    .venv/bin/python bench/consolidated.py --archive /data/tessera

The archive is that of `make bench`, 36 tiles of zone 30. geotessera 0.11.0 builds its store of them once, which
takes minutes and 2.3 GB. The mounted store is also copied to tmpfs by rsync, where that has room for 4.4 GB,
and the copy removed in the end: what its reads take is the client's own time. Archive and
built store are read once before, so that they lie in the page cache as far as memory goes. Every piece of
work runs in a fresh Python process (work.py), the stores taking turns, and its values must be equal on all.
Figures are medians; nothing is judged, the targets stand beside. All rounds read one mount, which keeps what
is read again: what nobody has read before takes what stands under "first time".
"""
import argparse
import json
import pathlib
import shutil
import statistics
import sys

from harness import HOT, MEMORY, PROJECT, Mount, command, introduce, make_archive, read_once, run, say, show, span, spread, stored, tmpfs, work
from pixels import CONSOLIDATED, YEAR, write_plan

WORKS = {  # what it is, and how many times as fast as on the built store it should be
    "window": ("window of 1000 x 1000 px across tiles", 2.8),
    "strip": ("strip of 64 x 4096 px", 2.6),
    "points": ("1,000 points at random", 1.3),
    "pixel": ("one pixel, from nothing open", 1.0),
    "scales": ("every scale", 20),
}
OF_TMPFS = 0.85  # of the speed of the copy in memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=pathlib.Path, default=PROJECT / ".cache" / "bench")
    parser.add_argument("--archive", type=pathlib.Path, help="of tiles like those of `make bench`; made in --dir where none is given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", choices=WORKS, action="append", help="a piece of work; may be given again")
    arguments = parser.parse_args()
    directory = arguments.dir.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    archive = arguments.archive.resolve() if arguments.archive else make_archive(directory / "archive")
    built = build(archive, directory / "built.zarr")
    say("reading archive and built store into the page cache")
    read_once(archive, built)
    mount = Mount(archive, directory / "mnt-consolidated")
    store = mount.dir / CONSOLIDATED
    with mount:
        plan = write_plan(store, archive, directory / "plan-consolidated.json")
        count = stored(store)
    with tmpfs(count) as memory:
        stores = {"built": built, "mount": store}
        if memory:
            say("copy of the mounted store in tmpfs")
            with mount:
                command(["rsync", "-a", "--chmod=u+w", f"{store}/", f"{memory}/"])
            stores["tmpfs"] = memory
        mount = Mount(archive, mount.dir)  # which has read nothing yet
        with mount:
            took, differ = measure(stores, plan, arguments.work or WORKS, arguments.rounds)
    introduce(arguments.rounds)
    report(took, mount.peak)
    (directory / "results-consolidated.json").write_text(json.dumps({"seconds": took, "memory": mount.peak}, indent=1))
    for what in differ:
        print(f"VALUES DIFFER between the stores: {what}", file=sys.stderr)
    return 1 if differ else 0


def build(archive, out):
    """geotessera's store, made under another name and there once it is whole."""
    if not out.exists():
        say(f"geotessera's store of it in {out}, once; that takes minutes")
        part = out.with_name("built.part")
        shutil.rmtree(part, ignore_errors=True)
        command([sys.executable, "-W", "ignore", PROJECT / "bench/build_consolidated.py", archive, YEAR, part], capture_output=True)
        part.rename(out)
    return out


def measure(stores, plan, works, rounds):
    """Seconds of each work on each store, and which work has other values on one of them."""
    took, differ = {}, []
    for name in works:
        say(WORKS[name][0])
        seconds, checksums = took.setdefault(name, {place: [] for place in stores}), set()
        for number in range(rounds):
            for place in list(stores)[:: 1 if number % 2 else -1]:
                result = work(stores[place], name, plan)
                seconds[place].append(result["seconds"])
                checksums.add(result["checksum"])
        if len(checksums) > 1:
            differ.append(name)
    return took, differ


def report(took, peak):
    lines = [("", "built by geotessera", "mount", "times as fast", "target", "copy in tmpfs", "speed of the copy", "target", "mount, first time")]
    for name, seconds in took.items():
        what, target = WORKS[name]
        median = {place: statistics.median(values) for place, values in seconds.items()}
        in_memory = ("", "", "")
        if "tmpfs" in seconds:
            in_memory = spread(seconds["tmpfs"]), f"{median['tmpfs'] / median['mount']:.2f}", f">= {OF_TMPFS}"
        times = f"{median['built'] / median['mount']:.2f}"
        lines.append((what, spread(seconds["built"]), spread(seconds["mount"]), times, f">= {target}", *in_memory, span(seconds["mount"][0])))
    show(*lines)
    parts = ", ".join(f"{name} {peak[name] >> 20}" for name in [*MEMORY, HOT])
    print(f"\nThe daemon's memory, each kind at its peak, in MiB: {parts}. Target: RssAnon < 256 MB.")


if __name__ == "__main__":
    run(main)
