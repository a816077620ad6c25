"""`mount --chunk-order band`: another order of bytes, the same array, for zarr-python, zarrs and TensorStore."""
import json

import archive
import numpy as np
import pytest
import tensorstore
import zarr
import zarrs
from archive import BANDS, Tile
from mount import Mount, is_io_error, run
from reference import SHARD, Zone

ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}


def by_zarr(path):
    return zarr.open_array(path, mode="r")


def by_zarrs(path):
    with zarr.config.set(ZARRS):
        array = zarr.open_array(path, mode="r")
    assert type(array.async_array.codec_pipeline) is zarrs.ZarrsCodecPipeline
    return array


class by_tensorstore:
    def __init__(self, path):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
        self.array = tensorstore.open(spec, read=True).result()

    def __getitem__(self, key):
        return self.array[key].read().result()


CLIENTS = [by_zarr, by_zarrs, by_tensorstore]


@pytest.fixture(scope="module")
def second(make_archive):
    """A dataset of version 2, which has prefix arrays."""
    return make_archive([*archive.FEW, Tile(2023, -3615, 8355)], dataset="v2-2B-L~beta1")


@pytest.fixture(scope="module")
def mounts(second, tmp_path_factory):
    """Both orders of one archive."""
    top = tmp_path_factory.mktemp("orders")
    with Mount(second.root, top / "pixel") as pixel, Mount(second.root, top / "band", "--chunk-order=band") as band:
        yield pixel, band


# Slices throughout: of an array indexed by numbers, zarr-python reads even with zarrs by itself.
def windows(zone, year):
    """Rows and columns across the edges of each tile, some inside it, and single pixels."""
    for _, top, left, height, width in zone.places(year):
        rows, cols = slice(max(0, top - 70), top + 200), slice(max(0, left - 70), left + width + 70)
        yield rows, cols
        yield slice(top + height - 20, top + height + 20), cols
        yield slice(top + height // 2, top + height // 2 + 1), slice(left + width // 2, left + width // 2 + 1)


@pytest.mark.parametrize("open_array", CLIENTS)
@pytest.mark.parametrize("depth", [BANDS, 4, 16])
def test_values(open_array, depth, mounts, second):
    """Catches frames that a client refuses, takes piece by piece for something else, or puts elsewhere."""
    name = "embeddings" if depth == BANDS else f"embeddings_d{depth}"
    for number in (24, 25):
        zone = Zone(second, number)
        pixel, band = (open_array(m.consolidated(second.dataset) / f"utm{number}" / name) for m in mounts)
        for i, year in enumerate(zone.years):
            for rows, cols in windows(zone, year):
                key = slice(i, i + 1), slice(0, depth), rows, cols
                want = zone.window(year, rows, cols)[0][:depth]
                np.testing.assert_array_equal(band[key][0], want)
                np.testing.assert_array_equal(pixel[key][0], want)


@pytest.mark.parametrize("open_array", CLIENTS)
def test_strides_of_bands(open_array, mounts, second):
    """Catches a client that decodes a part of a frame where it wants one band."""
    zone = Zone(second, 25)
    year = zone.years[-1]
    rows, cols = next(windows(zone, year))
    array = open_array(mounts[1].consolidated(second.dataset) / "utm25" / "embeddings")
    at = len(zone.years) - 1
    got = array[at : at + 1, 77:79, rows, cols][0]
    np.testing.assert_array_equal(got, zone.window(year, rows, cols)[0][77:79])


def test_documents(mounts, second):
    """Catches orders that differ in more than codecs, or consolidated metadata that says another one."""
    documents = []
    for mounted in mounts:
        store = mounted.consolidated(second.dataset)
        root = json.loads((store / "zarr.json").read_text())
        for path, node in root["consolidated_metadata"]["metadata"].items():
            if "/embeddings" in path:
                assert node["codecs"] == json.loads((store / path / "zarr.json").read_text())["codecs"]
                del node["codecs"][0]["configuration"]["codecs"]
        documents.append(root)
    assert documents[0] == documents[1]
    band = zarr.open_array(mounts[1].consolidated(second.dataset) / "utm25" / "embeddings", mode="r")
    assert band.chunks == (1, BANDS, 64, 64) and band.shards == (1, BANDS, SHARD, SHARD)
    assert [m.status()["mount"]["options"]["chunk_order"] for m in mounts] == ["pixel", "band"]


def test_damaged_tile(make_archive, mounting):
    """Catches a damaged tile that is shown as fill, or of which something was kept."""
    bad = make_archive([Tile(2024, -3595, 8355, "truncated")])
    with mounting(bad.root, "--chunk-order=band") as mounted:
        for open_array in CLIENTS:
            array = open_array(mounted.consolidated() / "utm25" / "embeddings")
            for _ in range(2):
                with pytest.raises((OSError, RuntimeError, ValueError, ExceptionGroup)) as failure:
                    array[0:1, :, 500:510, 90:100]
                assert is_io_error(failure.value)


@pytest.mark.parametrize("options, words", [
    (["--chunk-order=row"], ["pixel or band", "row"]),
    (["--chunk-order=band", "--inner-chunk=512"], ["512 px", "up to 256"]),
])
def test_refused(few, tmp_path, options, words):
    """Catches an order that is not one, or that cannot be served, taken; a refusal of more than a line."""
    done = run("mount", few.root, tmp_path, *options)
    assert done.returncode == 2 and all(word in done.stderr for word in words)
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1
