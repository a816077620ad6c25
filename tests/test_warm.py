"""`tesserafs warm`, and what is read offline afterwards, through real mounts and without any network."""
import hashlib
import json
import os
import pty
import re
import select
import subprocess
import termios
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from archive import FEW, Tile
from gateway import Gateway
from mount import BINARY, chunk_path, is_io_error, run, wait_until
from reference import ZoneYear

OK, USAGE, UNREACHABLE, WRONG_DATA = 0, 2, 3, 4

# Two tiles side by side, one of them again in another year, and one in another zone, which is not fetched.
ELSEWHERE = Tile(2024, -2995, 8355)
TILES = [*FEW, Tile(2023, FEW[0].lon, FEW[0].lat), ELSEWHERE]
BOX = ",".join(f"{v / 100:.2f}" for v in (FEW[0].lon - 5, 8350, FEW[1].lon + 5, 8360))


@pytest.fixture
def away(make_archive, tmp_path, monkeypatch):
    """An archive in a bucket, which a test may change, and how to reach it."""
    root = make_archive(TILES)
    with Gateway(tmp_path / "gateway", {"bucket": root.root}) as gateway:
        for name, value in gateway.environment.items():
            monkeypatch.setenv(name, value)
        gateway.archive, gateway.cache = root, tmp_path / "cache"
        gateway.source = ("s3://bucket", "--endpoint-url", gateway.url, "--cache", gateway.cache)
        yield gateway


def warm(away, *options, code=OK):
    """The row of the dataset in the table, as a dict, and what was printed before."""
    done = run("warm", *away.source, *options)
    assert done.returncode == code, done.stderr + done.stdout
    *lines, head, row = done.stdout.splitlines()
    return dict(zip(re.split("  +", head), re.split("  +", row), strict=True)), lines


def offline(mounting, away, *options):
    source, *reach = away.source
    return mounting(source, *map(str, reach), "--offline", *options)


def test_warm_then_offline(away, mounting, tmp_path):
    """Catches an area that is not fetched whole, values read offline that are not the archive's, and what was not
    fetched shown as fill, as absent, or with a network."""
    row, _ = warm(away, "--bbox", BOX, "--years", "2024")
    assert row["TILES"] == row["KEPT"] == "2" and row["THERE ALREADY"] == "0 B"
    away.stop()
    with offline(mounting, away) as mounted:
        expected = ZoneYear(away.archive, 2024, 25)
        opened = xr.open_zarr(mounted.store(2024, 25))
        rows, cols = slice(0, expected.height), slice(0, expected.width)
        embeddings, scales = expected.window(rows, cols)
        np.testing.assert_array_equal(opened.embeddings.values, embeddings)
        np.testing.assert_array_equal(opened.scales.values, scales)
        assert mounted.status()["failed_tiles"] == []

        # The catalogue knows the others; their pixels are an error.
        for year, zone in (2023, 25), (2024, ELSEWHERE.zone):
            store = mounted.store(year, zone)
            assert json.loads((store / "zarr.json").read_text())["node_type"] == "group"
            for name in "scales", "embeddings":
                with pytest.raises(Exception) as raised:
                    xr.open_zarr(store)[name].values
                assert is_io_error(raised.value), raised.value
        assert run("info", mounted.dir).returncode == OK
        failed = {entry["object"] for entry in mounted.status()["failed_tiles"]}
        assert failed and all(ELSEWHERE.name in name or "/2023/" in name for name in failed), failed
        logged = [line for line in mounted.log() if line["level"] == "ERROR"]
        assert {line["object"] for line in logged} == failed
        assert all("tesserafs warm" in line["reason"] for line in logged)
    done = run("info", *away.source, "--offline", "--json")
    assert done.returncode == OK and json.loads(done.stdout)["datasets"][0]["tiles"] == len(TILES), done.stderr

    points = tmp_path / "points.csv"
    for tile, code in (FEW[0], 0), (ELSEWHERE, 1):
        points.write_text(f"lon,lat\n{tile.lon / 100},{tile.lat / 100 + 0.03}\n")
        local, away_from = (run("points", *source, points, "--year", "2024") for source in ([away.archive.root], [*away.source, "--offline"]))
        assert local.returncode == 0 and away_from.returncode == code, away_from.stderr
        assert away_from.stdout == (local.stdout if code == 0 else "") and (code == 0 or "tesserafs warm" in away_from.stderr)
    assert run("warm", *away.source, "--years", "2024").returncode == UNREACHABLE


def test_absent_landmask(make_archive, tmp_path, monkeypatch, mounting):
    """Catches a tile without a landmask, which is all land, that cannot be read offline."""
    tiles = [Tile(2024, FEW[0].lon, FEW[0].lat, mask="absent"), FEW[1]]
    root = make_archive(tiles, masks_manifest=False)
    with Gateway(tmp_path / "gateway", {"bucket": root.root}) as gateway:
        for name, value in gateway.environment.items():
            monkeypatch.setenv(name, value)
        source = ("s3://bucket", "--endpoint-url", gateway.url, "--cache", str(tmp_path / "cache"))
        done = run("warm", *source)
        assert done.returncode == OK, done.stderr
    with mounting(*source, "--offline") as mounted:
        expected = ZoneYear(root, 2024, 25)
        opened = xr.open_zarr(mounted.store(2024, 25))
        np.testing.assert_array_equal(opened.scales.values, expected.window(slice(0, expected.height), slice(0, expected.width))[1])
        status = mounted.status()
        assert [entry["object"] for entry in status["warnings"]] == [f"landmasks/v1/{tiles[0].name}.tiff"] and status["failed_tiles"] == []


def test_findings(away):
    """Catches objects that are lost, or not what the manifest lists, and pass for fetched."""
    lost, cut = away.archive.path(FEW[0], "_scales"), away.archive.own(away.archive.path(FEW[1]))
    lost.unlink()
    os.truncate(cut, 4000)
    row, lines = warm(away, "--years", "2024", code=WRONG_DATA)
    assert (row["TILES"], row["KEPT"], row["WRONG"], row["FAILED"]) == ("3", "1", "2", "0")
    relative = [str(path.relative_to(away.archive.root)) for path in (lost, cut)]
    assert sorted(line.split(": ")[:4] for line in lines) == sorted([
        ["wrong", f"v1 2024 {FEW[0].name}", relative[0], "is not there, and the catalogue lists it; take it from the archive's owner, or report it"],
        ["wrong", f"v1 2024 {FEW[1].name}", relative[1], next(line for line in lines if relative[1] in line).split(": ")[3]]])
    assert any("has 4000 bytes, the catalogue says" in line for line in lines)


def test_again(away):
    """Catches what is in the cache fetched again, and what has changed at the source left as it was."""
    first, _ = warm(away)
    again, _ = warm(away)
    assert again["FETCHED"] == "0 B" and again["THERE ALREADY"] == first["FETCHED"]
    path = away.archive.own(away.archive.path(FEW[0]))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    row, _ = warm(away)
    assert row["KEPT"] == "4" and row["FETCHED"] == f"{len(content) / 2**20:.1f} MiB".replace(".0 ", " ")


def test_refusals(away, few):
    """Catches a run that begins although what it fetches cannot be kept, and one that has nothing to do."""
    for options, said in (((few.root,), "nothing to warm"), ((*away.source, "--cache-size", "50MiB"), "give --cache-size 192MiB or more"),
                          ((*away.source, "--bbox", "0,0,1,1"), "no tile"), ((*away.source, "--cache-size", "0"), "cannot be 0")):
        done = run("warm", *options)
        assert done.returncode == USAGE and len(done.stderr.splitlines()) == 1 and said in done.stderr, done.stderr
        assert done.stdout == ""


def test_terminal(away):
    """Catches a bar that is not drawn, or says nothing of bytes, and lines that run into it."""
    away.archive.path(FEW[0], "_scales").unlink()
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 200))
    process = subprocess.Popen([BINARY, "warm", *map(str, away.source)], stdin=follower, stdout=follower, stderr=follower,
                               start_new_session=True, env=os.environ | {"TERM": "xterm"})
    os.close(follower)
    screen, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([leader], [], [], 1)[0]:
            try:
                screen += os.read(leader, 1 << 16)
            except OSError:
                break  # the other end is closed
    assert process.wait(10) == WRONG_DATA
    os.close(leader)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode())
    assert re.search(r"warming +\[.*\] [\d.]+ .?i?B of [\d.]+ MiB, \d tiles?", text), text
    lines = [line.strip("\r").rpartition("\r")[2] for line in text.split("\n") if "wrong: " in line]
    assert len(lines) == 1 and lines[0].startswith("wrong: v1 2024 ") and lines[0].endswith("or report it")


def test_verify(make_archive, tmp_path, mounting):
    """Catches a mount --verify that does not look at what was read whole, that looks at the wrong bytes, and one that
    goes on serving what is damaged."""
    root = make_archive(FEW, manifest="legacy")
    rows = pd.read_parquet(root.manifest)
    for column, part in ("hash", ""), ("scales_hash", "_scales"):
        rows[column] = [hashlib.sha256(root.path(Tile(row.year, row.lon_i, row.lat_i), part).read_bytes()).hexdigest() for row in rows.itertuples()]
    rows.to_parquet(root.manifest)
    path = root.own(root.path(FEW[1]))
    with open(path, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"tessera")

    def read(mounted):
        for name in "scales", "embeddings":
            for file in (mounted.store(2024, 25) / name / "c").rglob("*"):
                if file.is_file():
                    file.read_bytes()

    with mounting(root.root) as mounted:
        read(mounted)
        assert "verify" not in mounted.status()["mount"]["options"] or not mounted.status()["mount"]["options"]["verify"]
        assert mounted.status()["objects"]["verified"] == 0
    with mounting(root.root, "--verify") as mounted:
        read(mounted)
        assert wait_until(lambda: mounted.status()["objects"]["verified"] + mounted.status()["objects"]["mismatched"] == 4, 30), mounted.status()["objects"]
        status = mounted.status()
        assert (status["objects"]["verified"], status["objects"]["mismatched"]) == (3, 1)
        name = str(path.relative_to(root.root))
        assert [(entry["object"], "SHA-256" in entry["reason"]) for entry in status["failed_tiles"]] == [(name, True)]
        with pytest.raises(OSError) as raised:
            chunk_path(mounted.store(2024, 25), "embeddings", 0, 0).read_bytes()
        assert is_io_error(raised.value)
        assert len([line for line in mounted.log() if line["level"] == "ERROR" and line.get("object") == name]) == 1
