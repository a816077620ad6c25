"""The same tiles make the same bytes, wherever they lie and whatever lists them."""
import hashlib
import re

import archive
import pandas as pd
import pytest
from mount import Mount, run

FEW = archive.FEW + [archive.Tile(2023, -3615, 8355, mask="absent")]


# In documents of per-tile stores. They are the objects' own where no manifest has others.
DATES = re.compile(rb'"(date_created|date_modified|history)": "[^"]*"')


def digest(mounted, dataset="v1"):
    """Of every file of a dataset: path, size and content, except for dates."""
    total = hashlib.sha256()
    top = mounted.dir / dataset
    for path in sorted(p for p in top.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(top)} {path.stat().st_size} ".encode())
        if path.name == "zarr.json":
            total.update(DATES.sub(b"", path.read_bytes()))
            continue
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha1").digest())
    return total.hexdigest()


@pytest.fixture(scope="module")
def published(make_archive):
    return make_archive(FEW)


@pytest.fixture(scope="module")
def wanted(published, tmp_path_factory):
    with Mount(published.root, tmp_path_factory.mktemp("wanted") / "mnt") as mounted:
        return digest(mounted)


@pytest.mark.parametrize("manifest", [*archive.MANIFESTS, None])
@pytest.mark.parametrize("layout", ["current", "mirror", "flat"])
def test_layout_and_manifest(make_archive, mounting, wanted, layout, manifest):
    """Catches a layout not recognised, a column variant not read, tiles in another order (and so
    another tile on top) without a manifest or with one sorted by latitude."""
    tiles = make_archive(FEW, layout=layout, manifest=manifest)
    with mounting(tiles.root) as mounted:
        assert digest(mounted) == wanted
        assert mounted.status()["datasets"][0]["tiles"] == len(FEW)


def test_landmasks_without_registry(make_archive, mounting, wanted):
    """Catches landmasks that are looked for only where a registry lists them."""
    with mounting(make_archive(FEW, masks_manifest=False).root) as mounted:
        assert digest(mounted) == wanted


@pytest.mark.parametrize("layout", ["current", "mirror"])
def test_several_datasets(make_archive, mounting, pool, wanted, layout):
    """Catches a dataset that hides another, and pixels or landmasks taken from the other one."""
    both = make_archive(FEW, layout=layout, manifest=None)
    archive.Archive(pool, both.root, archive.ONE, layout=layout, manifest=None, dataset="v1.1-cam")
    with mounting(both.root) as mounted:
        assert sorted(p.name for p in mounted.dir.iterdir()) == ["v1", "v1.1-cam"]
        assert [(d["name"], d["tiles"]) for d in mounted.status()["datasets"]] == [("v1", 3), ("v1.1-cam", 1)]
        assert digest(mounted) == wanted
        one = digest(mounted, "v1.1-cam")
    with mounting(make_archive(archive.ONE, dataset="v1.1-cam").root) as alone:
        assert digest(alone, "v1.1-cam") == one


def test_one_manifest_for_two_datasets(make_archive, mounting, pool, wanted):
    """Catches rows of one version or variant shown as another's: a mirror has one manifest for all."""
    both = make_archive(FEW, layout="mirror")
    other = archive.Archive(pool, both.root, archive.ONE, layout="mirror", manifest=None, dataset="v1.1-cam")
    rows = [pd.read_parquet(both.manifest), other.rows("s3scan", "1.1", "cambridge")]
    pd.concat(rows, ignore_index=True).to_parquet(both.manifest)
    with mounting(both.root) as mounted:
        assert [(d["name"], d["tiles"]) for d in mounted.status()["datasets"]] == [("v1", 3), ("v1.1-cam", 1)]
        assert digest(mounted) == wanted


@pytest.mark.parametrize("layout", ["current", "mirror"])
def test_dataset_as_source(make_archive, mounting, pool, wanted, layout):
    """Catches a dataset's own directory not accepted, or accepted without its landmasks."""
    both = make_archive(FEW, layout=layout, manifest=None)
    archive.Archive(pool, both.root, archive.ONE, layout=layout, manifest=None, dataset="v1.1-cam")
    with mounting(both.tile_dir) as mounted:
        assert [p.name for p in mounted.dir.iterdir()] == ["v1"]
        assert digest(mounted) == wanted


def test_duplicate_rows(make_archive, mounting, wanted):
    """Catches a tile that counts twice, and one whose second listing wins: the first does."""
    tiles = make_archive(FEW)
    rows = pd.read_parquet(tiles.manifest)
    again = rows.iloc[[1]].assign(grid_size=1)
    pd.concat([rows, again], ignore_index=True).to_parquet(tiles.manifest)
    with mounting(tiles.root) as mounted:
        assert mounted.status()["datasets"][0]["tiles"] == len(FEW)
        assert digest(mounted) == wanted


def test_manifest_decides(make_archive, mounting):
    """Catches a directory scan behind a manifest's back: what it does not list is not shown."""
    tiles = make_archive(FEW)
    rows = pd.read_parquet(tiles.manifest)
    rows[rows.year == 2023].to_parquet(tiles.manifest)
    with mounting(tiles.root) as mounted:
        assert [p.name for p in (mounted.dir / "v1/zones").iterdir()] == ["2023"]


def test_nothing_is_written(published, mounting):
    """Catches a cache or an index left in the archive."""
    before = sorted((p, p.stat().st_mtime_ns) for p in published.root.rglob("*"))
    with mounting(published.root) as mounted:
        digest(mounted)
    assert sorted((p, p.stat().st_mtime_ns) for p in published.root.rglob("*")) == before


def test_info(published):
    """Catches `info` that does not say what an archive holds."""
    done = run("info", published.root)
    assert done.returncode == 0 and "v1" in done.stdout and "2023" in done.stdout and "2024" in done.stdout
