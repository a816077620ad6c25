"""Bad input is refused in one line that names the file, the column and the row."""
import os

import archive
import numpy as np
import pandas as pd
import pytest
from mount import mount_line, run

WRONG_DATA, UNREACHABLE, USAGE, FAILED = 4, 3, 2, 1


def refused(tmp_path, source, code, *words):
    """`tesserafs mount` ends with the code and one line that has the words; nothing is mounted."""
    directory = tmp_path / "mnt"
    directory.mkdir()
    done = run("mount", source, directory)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("time=")]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    for word in words:
        assert str(word) in lines[0], f"{word!r} is not in {lines[0]!r}"
    assert mount_line(directory) is None


def cell(row, lon=None, lat=None):
    def change(rows):
        if lon is not None:
            rows.loc[row, "lon"] = lon
        if lat is not None:
            rows.loc[row, "lat"] = lat
        return rows

    return change


def value(row, column, new, dtype=None):
    def change(rows):
        if dtype:
            rows = rows.astype({column: dtype})
        rows.loc[row, column] = new
        return rows

    return change


@pytest.mark.parametrize("change, words", [
    (lambda rows: rows.drop(columns="lat"), ["column", "lat"]),
    (lambda rows: rows.drop(columns="lon"), ["column", "lon"]),
    (lambda rows: rows.drop(columns="year"), ["column", "year"]),
    (lambda rows: rows.drop(columns="grid_size"), ["column", "grid_size"]),
    (lambda rows: rows.assign(lat="north"), ["column", "lat"]),
    (cell(1, lon=-35.87), ["row 1", "column lon"]),
    (cell(1, lat=83.5), ["row 1", "column lat"]),
    (cell(0, lon=180.05), ["row 0", "column lon"]),
    (cell(0, lat=-90.05), ["row 0", "column lat"]),
    (cell(1, lat=np.nan), ["row 1", "column lat"]),
    (cell(1, lon=np.inf), ["row 1", "column lon"]),
    (value(1, "year", 0), ["row 1", "column year"]),
    (value(1, "year", -2024), ["row 1", "column year"]),
    (value(1, "grid_size", -1), ["row 1", "column grid_size"]),
    (value(1, "lon_i", 1), ["row 1", "column lon_i"]),
], ids=["no lat", "no lon", "no year", "no size", "text for lat", "lon off the grid", "lat off the grid",
        "lon beyond 180", "lat beyond 90", "lat NaN", "lon infinite", "year 0", "year negative", "size negative",
        "lon_i contradicts"])
def test_manifest(make_archive, tmp_path, change, words):
    """Catches a manifest that is believed: each of these would put tiles where none is, or nowhere."""
    tiles = make_archive(archive.FEW)
    change(pd.read_parquet(tiles.manifest)).to_parquet(tiles.manifest)
    refused(tmp_path, tiles.root, WRONG_DATA, "npy/v1/manifest.parquet", *words)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"lat,lon\n52.05,0.15\n" * 100, b"PAR1" + b"\xff" * 4096 + b"PAR1"],
                         ids=["empty", "four bytes", "CSV", "garbage between magics"])
def test_not_parquet(make_archive, tmp_path, content):
    """Catches a crash, or a scan in silence, where the manifest is something else."""
    tiles = make_archive(archive.FEW)
    tiles.manifest.write_bytes(content)
    refused(tmp_path, tiles.root, WRONG_DATA, "npy/v1/manifest.parquet")


def test_truncated_manifest(make_archive, tmp_path):
    """Catches half a copy of a manifest taken for all of it."""
    tiles = make_archive(archive.FEW)
    os.truncate(tiles.manifest, tiles.manifest.stat().st_size // 2)
    refused(tmp_path, tiles.root, WRONG_DATA, "npy/v1/manifest.parquet")


def test_landmask_registry(make_archive, tmp_path):
    """Catches a registry of landmasks that is read with less care than the manifest."""
    tiles = make_archive(archive.FEW)
    path = tiles.mask_dir / "landmasks.parquet"
    cell(1, lon=-35.87)(pd.read_parquet(path)).to_parquet(path)
    refused(tmp_path, tiles.root, WRONG_DATA, "landmasks/v1/landmasks.parquet", "row 1", "column lon")


def test_source_without_tiles(tmp_path):
    """Catches an empty mount where the path was wrong."""
    (tmp_path / "empty").mkdir()
    refused(tmp_path, tmp_path / "empty", UNREACHABLE, tmp_path / "empty")
    (tmp_path / "mnt").rmdir()
    refused(tmp_path, tmp_path / "nowhere", UNREACHABLE, tmp_path / "nowhere")


@pytest.mark.parametrize("arguments", [[], ["mount"], ["mount", "a"], ["mount", "a", "b", "c"], ["mont", "a", "b"],
                                       ["mount", "a", "b", "--missing-tiles=guess"], ["mount", "a", "b", "--no-such"]])
def test_usage(arguments):
    """Catches bad usage that does something, or ends with another code than 2."""
    done = run(*arguments)
    assert done.returncode == USAGE
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_directories(few, tmp_path, few_mount):
    """Catches a mount over files, on a file, on nothing, over a live mount, or over its own archive."""
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "something").touch()
    file.touch()
    for directory, word in [(full, "not empty"), (tmp_path / "missing", "does not exist"), (file, "not a directory"),
                            (few_mount.dir, "already"), (few.root, "")]:
        done = run("mount", few.root, directory)
        assert done.returncode == FAILED, f"{directory}: {done.stderr}"
        assert len(done.stderr.splitlines()) == 1 and str(directory) in done.stderr and word in done.stderr, done.stderr
    assert few_mount.status()["datasets"]  # the live one still answers


def test_other_commands_on_what_is_no_mount(tmp_path):
    """Catches `unmount` and `status` that end well, or not at all, where nothing is mounted."""
    for command in "unmount", "status":
        done = run(command, tmp_path)
        assert done.returncode == FAILED and len(done.stderr.splitlines()) == 1 and str(tmp_path) in done.stderr
