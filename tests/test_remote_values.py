"""Every pixel of every store of an archive in a bucket, from each place that a page may come from."""
import archive
import pytest
from gateway import Gateway
from mount import Mount
from test_consolidated import check_zone, store_of
from test_values import compare


@pytest.fixture(scope="module")
def bucket(whole, room):
    """The archive of everything a builder accepts, in a bucket, and a cache directory that the tests share."""
    with Gateway(room / "gateway", {"bucket": whole.root}) as gateway:
        gateway.source = ("s3://bucket", "--endpoint-url", gateway.url, "--cache", room / "cache")
        yield gateway


# In this order: each goes on with what the one before has left on disk. 8 MiB of memory hold half a tile.
@pytest.mark.parametrize("kept, options", [
    ("nothing", []),
    ("all on disk", []),
    ("all on disk", ["--memory=8MiB"]),
    ("all on disk", ["--offline"]),
    ("little in memory", ["--memory=8MiB", "--cache-size=0"]),
])
def test_values(bucket, whole, room, kept, options, monkeypatch):
    """Catches pages put together wrongly on their way from the source, from memory, from disk, and from several of them in
    one reply: rows of tiles so narrow that the next begins in the page after."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    source, *reach = map(str, bucket.source)
    with Mount(source, room / "remote", *reach, *options) as mounted:
        for year, zone in whole.stores():
            compare(mounted, whole, year, zone)
        for zone in sorted({tile.zone for tile in archive.WHOLE}):
            check_zone(store_of(mounted) / f"utm{zone:02d}", whole, zone, {"embeddings": 64, "scales": 256})
        objects = mounted.status()["objects"]
        if kept == "all on disk":
            assert objects["disk_hits"] > 0 and objects["requests"] == 0
        elif kept == "little in memory":
            assert objects["disk_hits"] == 0
