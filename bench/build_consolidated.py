"""Have geotessera build its consolidated store of an archive: build_consolidated.py ARCHIVE YEAR OUT."""
import os
import pathlib
import sys
import tempfile

from geotessera.registry import Registry
from geotessera.zarr import TileSource, fill_store, init_store

WORKER = 6 << 30  # bytes of memory that one of its workers takes, and a little more


def main(archive, year, out):
    archive = pathlib.Path(archive)
    tiles, masks = archive / "npy/v1", archive / "landmasks/v1"
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    with tempfile.TemporaryDirectory() as own:
        registry = Registry(version="1.0", variant="vultr", registry_path=tiles / "manifest.parquet", embeddings_dir=own,
                            cache_dir=own, landmasks_registry_path=masks / "landmasks.parquet")
        init_store(registry, out, [int(year)])
        fill_store(registry, out, source=TileSource(str(tiles), str(masks)), collect_stretch_stats=False,
                   workers=max(1, min(len(os.sched_getaffinity(0)), available // WORKER)))


if __name__ == "__main__":
    main(*sys.argv[1:])
