"""Small TESSERA archives for the tests, in the published formats, with the faults real ones have.

An archive is a list of tiles written in one of the three directory layouts with one of the
published manifests, or none. Tiles are made once a session, in a pool, and linked into as many
archives as want them: a tile near 83.6 degrees, where they are narrow, still has 18 MB.

Pixels are noise that depends on the cell, the year and nothing else: no two tiles agree on a
pixel, so a tile shown a pixel off, or the wrong one of two on top, cannot pass for right.
"""
import dataclasses
import functools
import math
import os
import pathlib
import shutil

import numpy as np
import pandas as pd
import pyproj
import rasterio

BANDS = 128
PIXEL = 10.0

# Published directory name -> (version, variant, directory of its landmasks).
DATASETS = {"v1": ("1.0", "vultr", "v1"), "v1.1-cam": ("1.1", "cambridge", "v1.1"), "v2-2B-L~beta1": ("2.0", "2B-L~beta1", "v2")}


@dataclasses.dataclass(frozen=True, order=True)
class Tile:
    """A cell by its centre in hundredths of a degree, and what is wrong with its objects.

    Catalogue order is the order of this class: year, longitude, latitude.
    """

    year: int
    lon: int
    lat: int
    fault: str = dataclasses.field(default="", compare=False)
    mask: str = dataclasses.field(default="lake", compare=False)

    @property
    def name(self):
        return f"grid_{self.lon / 100:.2f}_{self.lat / 100:.2f}"

    @property
    def zone(self):
        return min(60, max(1, math.floor((self.lon / 100 + 180) / 6) + 1))

    @property
    def epsg(self):
        return (32700 if self.lat < 0 else 32600) + self.zone


@functools.cache
def _projection(epsg):
    return pyproj.Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True)


@functools.cache
def footprint(tile):
    """Easting of the western edge, northing of the northern one, height and width in pixels."""
    lon, lat = tile.lon / 100, tile.lat / 100
    west, east, south, north = lon - 0.05, lon + 0.05, lat - 0.05, lat + 0.05
    project = _projection(tile.epsg).transform
    (ul_e, ul_n), (ur_e, ur_n) = project(west, north), project(east, north)
    (ll_e, ll_n), (lr_e, lr_n) = project(west, south), project(east, south)
    left, top = min(ul_e, ll_e), max(ul_n, ur_n)
    return left, top, round((top - min(ll_n, lr_n)) / PIXEL), round((max(ur_e, lr_e) - left) / PIXEL)


class Pool:
    """The objects of tiles, each written when it is first asked for."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)

    def objects(self, tile):
        """Paths of embeddings, scales and landmask; None where the fault is that there is none."""
        return self._embeddings(tile), self._scales(tile), self._mask(tile)

    def _path(self, tile, what):
        return self.directory / f"{tile.name}_{tile.year}_{what}"

    def _embeddings(self, tile):
        fault = tile.fault if tile.fault in EMBEDDINGS_FAULTS else ""
        path = self._path(tile, f"{fault}.npy")
        if not path.exists():
            _, _, height, width = footprint(tile)
            noise = np.random.default_rng([tile.lon + 18000, tile.lat + 9000, tile.year])
            pixels = noise.integers(-127, 128, (height, width, BANDS), np.int8)
            EMBEDDINGS_FAULTS.get(fault, np.save)(path, pixels)
        return path

    def _scales(self, tile):
        if tile.fault == "missing_scales":
            return None
        fault = tile.fault if tile.fault in SCALES_FAULTS else ""
        path = self._path(tile, f"{fault}_scales.npy")
        if not path.exists():
            _, _, height, width = footprint(tile)
            noise = np.random.default_rng([tile.lon + 18000, tile.lat + 9000, tile.year, 1])
            scales = noise.uniform(0.03, 0.14, (height, width)).astype(np.float32)
            np.save(path, SCALES_FAULTS[fault](scales) if fault else scales)
        return path

    def _mask(self, tile):
        if tile.mask == "absent":
            return None
        path = self._path(tile, f"{tile.mask}.tiff")
        if not path.exists():
            left, top, height, width = footprint(tile)
            write_mask(path, MASKS[tile.mask](height, width), tile.epsg, left, top)
        return path


def write_mask(path, land, epsg, left, top):
    """As published: uint8, one band, tiled, LZW with predictor 2, nodata 0."""
    with rasterio.open(
        path, "w", driver="GTiff", height=land.shape[0], width=land.shape[1], count=1, dtype="uint8", nodata=0,
        crs=f"EPSG:{epsg}", transform=rasterio.Affine(PIXEL, 0, left, 0, -PIXEL, top),
        compress="lzw", predictor=2, tiled=True, blockxsize=256, blockysize=256,
    ) as file:
        file.write(land, 1)


def _lake(height, width):
    rows, cols = np.ogrid[:height, :width]
    inside = ((rows - height / 2) / (height / 5)) ** 2 + ((cols - width / 2) / (width / 3)) ** 2 < 1
    return np.where(inside, 0, 1).astype(np.uint8)


MASKS = {
    "lake": _lake,
    "land": lambda height, width: np.ones((height, width), np.uint8),
    "water": lambda height, width: np.zeros((height, width), np.uint8),
    "wrong_shape": lambda height, width: np.zeros((height - 3, width + 2), np.uint8),
}


def _patch(*values):
    """Scales with a patch of each value, left of the lake."""

    def apply(scales):
        for i, value in enumerate(values):
            scales[20 + 40 * i : 50 + 40 * i, 5:60] = value
        return scales

    return apply


def _three_dimensional(scales):
    """A scale a band. The largest counts, NaN ignored; a pixel of nothing but NaN is nodata."""
    cube = np.repeat(scales[:, :, None], BANDS, axis=2)
    cube[:, :, 1::2] *= 0.5
    cube[30:40, 30:40, ::2] = np.nan
    cube[60:70, 30:40, :] = np.nan
    return cube


def _grown(array):
    return np.pad(array, ((0, 2), (0, 3)) + ((0, 0),) * (array.ndim - 2), mode="edge")


def _shrunk(array):
    return np.ascontiguousarray(array[:-7, :-3])


SCALES_FAULTS = {
    "nan_scales": _patch(np.nan),
    "infinite_scales": _patch(np.inf, -np.inf),
    "absurd_scales": _patch(3.0e4, 1.0, 0.0, -0.5, np.nextafter(np.float32(1), np.float32(0))),
    "scales_3d": _three_dimensional,
    "large_array": _grown,
    "small_array": _shrunk,
}


def _truncated(path, pixels):
    np.save(path, pixels)
    os.truncate(path, path.stat().st_size // 2)


def _claims_a_terabyte(path, pixels):
    """A header that claims 2^40 bytes, and nothing behind it."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|i1", "fortran_order": False, "shape": (1 << 20, 1 << 13, BANDS)})


EMBEDDINGS_FAULTS = {
    "large_array": lambda path, pixels: np.save(path, _grown(pixels)),
    "small_array": lambda path, pixels: np.save(path, _shrunk(pixels)),
    "truncated": _truncated,
    "fortran": lambda path, pixels: np.save(path, np.asfortranarray(pixels)),
    "object_dtype": lambda path, pixels: np.save(path, np.array([{"not": "numbers"}], object), allow_pickle=True),
    "float_dtype": lambda path, pixels: np.save(path, pixels[:, :, :32].astype(np.float32)),
    "wrong_bands": lambda path, pixels: np.save(path, np.ascontiguousarray(pixels[:, :, :64])),
    "claims_a_terabyte": _claims_a_terabyte,
}

# Faults of a whole tile that --missing-tiles=fill turns into fill, and those it serves in part.
UNREADABLE = {"missing_scales", "truncated", "fortran", "object_dtype", "float_dtype", "wrong_bands", "claims_a_terabyte"}
READABLE_IN_PART = {"small_array"}


class Archive:
    """Tiles on disk. `root` is what to mount; `mask_dir` and `tile_dir` where the objects are."""

    def __init__(self, pool, root, tiles, layout="current", manifest="s3scan", dataset="v1", masks_manifest=True):
        self.root, self.tiles, self.layout, self.dataset = pathlib.Path(root), sorted(tiles), layout, dataset
        version, variant, masks = DATASETS[dataset]
        top = {"current": f"npy/{dataset}", "mirror": f"{masks}/global_0.1_degree_representation",
               "flat": "global_0.1_degree_representation"}[layout]
        if layout == "mirror" and dataset != "v1":
            top += f".{variant}"
        self.tile_dir = self.root / top
        self.mask_dir = self.root / {"current": f"landmasks/{masks}", "mirror": f"{masks}/global_0.1_degree_tiff_all",
                                     "flat": "global_0.1_degree_tiff_all"}[layout]
        self.mask_dir.mkdir(parents=True, exist_ok=True)
        for tile in self.tiles:
            embeddings, scales, mask = pool.objects(tile)
            self.path(tile).parent.mkdir(parents=True, exist_ok=True)
            _link(embeddings, self.path(tile))
            if scales:
                _link(scales, self.path(tile, "_scales"))
            if mask:
                _link(mask, self.mask_path(tile))
        if manifest:
            where = self.tile_dir if layout == "current" else self.root
            self.manifest = where / "manifest.parquet"
            self.rows(manifest, version, variant).to_parquet(self.manifest)
            if masks_manifest:
                self.mask_rows().to_parquet((self.mask_dir if layout == "current" else self.root) / "landmasks.parquet")

    def path(self, tile, part=""):
        return self.tile_dir / str(tile.year) / tile.name / f"{tile.name}{part}.npy"

    def mask_path(self, tile):
        return self.mask_dir / f"{tile.name}.tiff"

    def own(self, path):
        """Give the archive a copy of its own of an object, to be changed."""
        copy = path.with_name(path.name + ".copy")
        shutil.copy2(path, copy)
        copy.replace(path)
        return path

    def stores(self):
        """(year, zone) of the stores there must be."""
        return sorted({(tile.year, tile.zone) for tile in self.tiles})

    def rows(self, columns, version, variant):
        """A manifest in the columns and the order of one of the programs that write them."""
        rows = []
        for tile in self.tiles:
            embeddings, scales = self.path(tile), self.path(tile, "_scales")
            size, scales_size = _size(embeddings), _size(scales)
            if tile.fault == "truncated":
                size *= 2  # as it was before it was cut
            common = {"year": tile.year, "lon": tile.lon / 100, "lat": tile.lat / 100, "scales_size": scales_size,
                      "lon_i": tile.lon, "lat_i": tile.lat}
            # As published: where the tiles lay when the manifest was made, not where this copy lies.
            elsewhere = f"s3://another-bucket/prefix/{tile.year}/{tile.name}/{tile.name}"
            if columns == "legacy":
                common |= {"file_size": size, "hash": "0" * 64, "scales_hash": "0" * 64, "mtime": WRITTEN.timestamp(),
                           "geometry": b"\x01"}
            else:
                time = WRITTEN if columns == "s3scan" else WRITTEN.tz_localize(None)
                common |= {"directory": tile.name, "grid_path": elsewhere + ".npy", "scales_path": elsewhere + "_scales.npy",
                           "grid_mtime": time, "scales_mtime": time, "grid_size": size}
            if columns == "s3scan":
                common |= {"version": version, "variant": variant}
            rows.append(common)
        frame = pd.DataFrame(rows)[MANIFESTS[columns]]
        order = ["year", "lat", "lon"] if columns == "legacy" else ["year", "lon", "lat"]
        return frame.sort_values(order, ignore_index=True).astype({"lon_i": "int32", "lat_i": "int32"})

    def mask_rows(self):
        cells = sorted({(tile.lon, tile.lat): tile for tile in self.tiles}.items())
        return pd.DataFrame({
            "lat": [lat / 100 for (_, lat), _ in cells], "lon": [lon / 100 for (lon, _), _ in cells], "hash": "",
            "mtime": WRITTEN.timestamp(), "file_size": [_size(self.mask_path(tile)) for _, tile in cells], "path": ""})


WRITTEN = pd.Timestamp("2026-01-05T00:00:00Z")

MANIFESTS = {
    "s3scan": ["version", "variant", "year", "lon", "lat", "directory", "grid_path", "scales_path", "grid_mtime",
               "scales_mtime", "grid_size", "scales_size", "lon_i", "lat_i"],
    "file-scan": ["year", "lon", "lat", "directory", "grid_path", "scales_path", "grid_mtime", "scales_mtime",
                  "grid_size", "scales_size", "lon_i", "lat_i"],
    "legacy": ["lat", "lon", "year", "hash", "scales_hash", "mtime", "file_size", "scales_size", "lon_i", "lat_i",
               "geometry"],
}


def _link(source, target):
    if not target.exists():
        os.link(source, target)


def _size(path):
    return path.stat().st_size if path.exists() else 0


# The tiles the tests share.

WHOLE = [  # everything a builder accepts: borders, overlaps, hemispheres, years, nodata of every kind
    Tile(2024, -3615, 8355),  # zone 24, at its border
    Tile(2024, -3605, 8355, "nan_scales"),
    Tile(2024, -3595, 8355, "infinite_scales"),  # zone 25: a square of four, which overlap
    Tile(2024, -3595, 8365),
    Tile(2024, -3585, 8355, "absurd_scales", "land"),
    Tile(2024, -3585, 8365, "large_array"),
    Tile(2024, -3505, -8335),  # zone 25, south
    Tile(2024, -3495, -8335, "scales_3d"),
    Tile(2024, -3305, 8355, mask="absent"),  # zone 25, far to the east
    Tile(2024, -3295, 8355, mask="water"),
    Tile(2023, -3585, 8355),  # another year, another grid
]

BROKEN = [  # one whole tile alone in its chunks, and the kinds of damage, most of them apart
    Tile(2024, -3595, 8355),
    Tile(2024, -3585, 8355, "small_array"),
    Tile(2024, -3305, 8355, mask="absent"),
    Tile(2024, -3495, 8355, mask="wrong_shape"),
    Tile(2024, -3485, 8355, "missing_scales"),
    Tile(2024, -3405, 8355, "truncated"),
    Tile(2024, -3395, 8355, "fortran"),
    Tile(2024, -3205, 8355, "object_dtype"),
    Tile(2024, -3195, 8355, "wrong_bands"),
    Tile(2024, -3185, 8355, "float_dtype"),
]

FEW = [Tile(2024, -3595, 8355), Tile(2024, -3585, 8355, "nan_scales", "land")]
ONE = [Tile(2024, -3595, 8355)]
