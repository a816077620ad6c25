"""`tesserafs verify` on archives that are right, broken, changed afterwards, and seen in part."""
import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

import numpy as np
import pandas as pd
import pytest
from archive import BROKEN, FEW, ONE, WHOLE, Tile
from mount import BINARY, run
from reference import read_tile

OK, USAGE, UNREACHABLE, WRONG_DATA = 0, 2, 3, 4


def verify(root, *options, code=OK):
    """The findings as (level, kind, tile, object), and the summary."""
    done = run("verify", "--json", root, *options)
    assert done.returncode == code, done.stderr + done.stdout
    *findings, last = map(json.loads, done.stdout.splitlines())
    for finding in findings:
        assert finding.keys() == {"level", "kind", "dataset", "year", "tile", "object", "what", "do"} and finding["what"] and finding["do"]
    return [(f["level"], f["kind"], f["tile"], f["object"]) for f in findings], last["summary"]


def name(archive, path):
    return str(path.relative_to(archive.root))


@pytest.mark.parametrize("full", [(), ("--full",)])
def test_whole(whole, full):
    """Catches a tile accused that every builder accepts, and scales counted otherwise than a store
    shows them."""
    findings, summary = verify(whole.root, *full)
    [absent] = [tile for tile in WHOLE if tile.mask == "absent"]
    warning = ("warning", "missing", absent.name, name(whole, whole.mask_path(absent)))
    assert summary["tiles"] == summary["right"] == len(WHOLE) and summary["complete"] and summary["full"] == bool(full)
    if not full:
        assert findings == [warning]
        return
    odd = [("note", "scales", tile.name, name(whole, whole.path(tile, "_scales"))) for tile in WHOLE if tile.fault == "absurd_scales"]
    assert sorted(findings) == sorted([warning, *odd])
    shown = [np.isfinite(read_tile(whole, tile)[1]) for tile in whole.tiles]
    assert summary["data_pixels"] == sum(np.count_nonzero(data) for data in shown)
    assert summary["data_pixels"] + summary["nodata_pixels"] == sum(data.size for data in shown)
    assert summary["odd_pixels"] == 4 * 30 * 55  # of the five values in the patches one is data


def test_broken(make_archive):
    """Catches damage of a kind that is not seen, and a tile accused of its neighbour's."""
    archive = make_archive(BROKEN)
    expected = []
    for tile in archive.tiles:
        found = {"": None, "missing_scales": ("missing", archive.path(tile, "_scales"))}.get(tile.fault, ("array", archive.path(tile)))
        if tile.mask == "wrong_shape":
            found = ("landmask", archive.mask_path(tile))
        if found:
            expected.append(("wrong", found[0], tile.name, name(archive, found[1])))
        if tile.mask == "absent":
            expected.append(("warning", "missing", tile.name, name(archive, archive.mask_path(tile))))
    for jobs in "1", "7":
        findings, summary = verify(archive.root, "--jobs", jobs, code=WRONG_DATA)
        assert findings == expected  # in catalogue order
        assert summary["wrong"] == len(expected) - 1 and summary["right"] == len(BROKEN) - summary["wrong"]
    findings, _ = verify(archive.root, "--full", code=WRONG_DATA)
    assert findings == expected


@pytest.mark.parametrize("layout, manifest", [("current", "file-scan"), ("current", None), ("mirror", "s3scan"), ("flat", None)])
def test_layouts(make_archive, layout, manifest):
    """Catches objects looked for where another layout has them, and sizes held against no manifest."""
    archive = make_archive(FEW, layout=layout, manifest=manifest)
    assert verify(archive.root)[0] == []
    archive.path(FEW[0]).unlink()
    archive.mask_path(FEW[1]).unlink()
    findings, summary = verify(archive.root, code=WRONG_DATA)
    lost = "wrong" if manifest else "warning"  # a registry lists the landmask, a directory does not
    assert summary["wrong"] == (2 if manifest else 1)
    assert findings == [("wrong", "missing", FEW[0].name, name(archive, archive.path(FEW[0]))),
                        (lost, "missing", FEW[1].name, name(archive, archive.mask_path(FEW[1])))]


def test_sizes(make_archive):
    """Catches an object that is whole, but not the one the manifest or the registry lists."""
    archive = make_archive(FEW)
    for path in archive.path(FEW[0], "_scales"), archive.mask_path(FEW[1]):
        with open(archive.own(path), "ab") as file:
            file.write(b"\0")
    findings, _ = verify(archive.root, code=WRONG_DATA)
    assert findings == [("wrong", "size", FEW[0].name, name(archive, archive.path(FEW[0], "_scales"))),
                        ("wrong", "size", FEW[1].name, name(archive, archive.mask_path(FEW[1])))]


def test_sha256(make_archive):
    """Catches a flipped bit that the sums of an older manifest tell, a sum of another file, and sums
    that are looked at without being asked for."""
    archive = make_archive(FEW, manifest="legacy")
    rows = pd.read_parquet(archive.manifest)
    for column, part in ("hash", ""), ("scales_hash", "_scales"):
        rows[column] = [hashlib.sha256(archive.path(Tile(row.year, row.lon_i, row.lat_i), part).read_bytes()).hexdigest()
                        for row in rows.itertuples()]
    rows.to_parquet(archive.manifest)
    findings, summary = verify(archive.root, "--full")
    assert findings == [] and summary["sha256_checked"] == 2 * len(FEW)
    path = archive.own(archive.path(FEW[1]))
    with open(path, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1000, os.SEEK_END)
        file.write(bytes([byte ^ 4]))
    assert verify(archive.root)[0] == []
    findings, summary = verify(archive.root, "--full", code=WRONG_DATA)
    assert findings == [("wrong", "sha256", FEW[1].name, name(archive, path))] and summary["sha256_checked"] == 2 * len(FEW)
    rows["hash"] = "none"
    rows.to_parquet(archive.manifest)
    done = run("verify", "--full", archive.root)
    assert done.returncode == WRONG_DATA and "manifest.parquet" in done.stderr and "column hash" in done.stderr, done.stderr
    rows["hash"], rows["scales_hash"] = None, None
    rows.to_parquet(archive.manifest)
    assert verify(archive.root, "--full")[1]["sha256_checked"] == 0


def test_area(whole, tmp_path):
    """Catches tiles that are looked at though not asked for, or the other way round."""
    def tiles(*options):
        return verify(whole.root, *options)[1]["tiles"]

    assert tiles("--years", "2023") == 1
    assert tiles("--years", "2020-2023,2024") == len(WHOLE)
    assert tiles("--bbox", "-36,83.5,-35.9,83.6") == 1
    assert tiles("--bbox", "-36,83,-35.8,84", "--years", "2024") == 4
    assert tiles("--bbox", "170,80,-36.1,84") == 1  # over the antimeridian
    triangle = tmp_path / "triangle.geojson"
    triangle.write_text(json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": {
        "type": "Polygon", "coordinates": [[[-36, 83.5], [-35.8, 83.5], [-36, 83.7], [-36, 83.5]]]}}]}))
    assert tiles("--polygon", triangle, "--years", "2024") == 3
    for options in (("--bbox", "0,0,1,1"), ("--years", "1999"), ("--dataset", "v2")):
        done = run("verify", whole.root, *options)
        assert done.returncode == USAGE and len(done.stderr.splitlines()) == 1, done.stderr


def test_report(make_archive):
    """Catches a line that does not say what and where, and a table that miscounts."""
    archive = make_archive([*FEW, Tile(2024, -3405, 8355, "truncated")])
    done = run("verify", archive.root)
    finding, empty, head, row = done.stdout.splitlines()
    assert done.returncode == WRONG_DATA and empty == "" and "\x1b" not in done.stdout + done.stderr
    assert finding.startswith(f"wrong: v1 2024 grid_-34.05_83.55: {name(archive, archive.path(archive.tiles[2]))}: truncated: ")
    assert "copy it again" in finding
    assert dict(zip(re.split("  +", head), row.split())) == {
        "DATASET": "v1", "TILES": "3", "RIGHT": "2", "WRONG": "1", "NOT SEEN": "0", "WARNINGS": "0"}
    assert done.stderr == "tesserafs: verify: of 3 tiles 2 right, 1 wrong, 0 not seen\n"


def test_what_cannot_be_seen(make_archive):
    """Catches a failure to look that is taken for a fault of the tile."""
    archive = make_archive(FEW)
    path = archive.path(FEW[0])
    path.unlink()
    path.symlink_to(path)  # neither readable nor absent
    findings, summary = verify(archive.root, code=UNREACHABLE)
    assert findings == [("unseen", "unavailable", FEW[0].name, name(archive, path))]
    assert (summary["right"], summary["wrong"], summary["unseen"]) == (1, 0, 1)
    archive.path(FEW[1]).unlink()
    assert verify(archive.root, code=WRONG_DATA)[1]["unseen"] == 1


def test_terminal(make_archive):
    """Catches findings that run into the bar, and Ctrl-C that ends without a word."""
    archive = make_archive(ONE, manifest=None)
    for year in range(1, 2000):
        (archive.tile_dir / f"{year:04d}").symlink_to("2024")
    archive.mask_path(ONE[0]).unlink()  # a warning each
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 200))
    process = subprocess.Popen([BINARY, "verify", "--full", "--jobs", "1", str(archive.root)], stdin=follower, stdout=follower, stderr=follower,
                               start_new_session=True, env=os.environ | {"TERM": "xterm"})
    os.close(follower)
    screen, asked, deadline = b"", False, time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([leader], [], [], 1)[0]:
            try:
                screen += os.read(leader, 1 << 16)
            except OSError:
                break  # the other end is closed
        if screen.count(b"warning: ") > 50 and not asked:
            asked = True
            process.send_signal(signal.SIGINT)
    assert process.wait(10) == 1
    os.close(leader)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode())
    assert re.search(r"verifying +\[.*\] +\d+ of 2000 tiles", text)
    lines = [line.strip("\r") for line in text.split("\n") if "warning: " in line]
    whole_line = re.compile(r"warning: v1 \d+ \S+: \S+\.tiff: is not there: the whole tile counts as land; .*, if it is")
    assert len(lines) > 50 and all(whole_line.fullmatch(line.rpartition("\r")[2]) for line in lines)
    assert "tesserafs: verify: interrupted" in text and re.search(r"\d of 2,000 tiles were looked at", text)
