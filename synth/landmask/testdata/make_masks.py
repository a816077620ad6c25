#!/usr/bin/env python3
"""Writes masks/*.tiff: small landmasks as GDAL writes them.

    make_masks.py        needs rasterio; writes beside itself

Every mask holds the same formula, which the test repeats: pixel (row, col) is
1 if (row*row + 3*col*col) // 97 % 5 < 3 else 0, in those named "values" times (1 + col % 7);
"published_large", of a tile's size, is 1 where row*row + col*col < 800*800, a coast. What
rasterio reads back is held against it here, so a mask that decodes to the formula decodes as
rasterio reads it. Those named "refused" are what the package must not read as a mask.
"""
import pathlib, warnings
import numpy as np, rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

warnings.simplefilter("ignore", NotGeoreferencedWarning)
OUT = pathlib.Path(__file__).parent / "masks"
OUT.mkdir(exist_ok=True)
for old in OUT.glob("*.tiff"):
    old.unlink()

PUBLISHED = dict(compress="lzw", predictor=2, tiled=True, blockxsize=256, blockysize=256, nodata=0,
                 crs="EPSG:32631", transform=Affine(10, 0, 283241.6, 0, -10, 5777033.9))


def formula(h, w):
    r, c = np.mgrid[:h, :w]
    return ((r * r + 3 * c * c) // 97 % 5 < 3).astype(np.uint8)


def write(name, pixels, **options):
    bands = pixels if pixels.ndim == 3 else pixels[None]
    path = OUT / f"{name}.tiff"
    with rasterio.open(path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
                       dtype=bands.dtype, **options) as dst:
        dst.write(bands)
    with rasterio.open(path) as src:
        assert np.array_equal(src.read(), bands), name


mask = formula(83, 130)
values = mask * (1 + np.arange(130, dtype=np.uint8) % 7)
write("published", formula(300, 270), **PUBLISHED)
write("published_small", mask, **PUBLISHED)
write("published_all_land", np.ones((300, 270), np.uint8), **PUBLISHED)
write("published_one_tile", formula(256, 256), **PUBLISHED)
write("published_values", values, **PUBLISHED)
r, c = np.mgrid[:1137, :725]
write("published_large", (r * r + c * c < 800 * 800).astype(np.uint8), **PUBLISHED)
write("bare", mask)
write("strips", mask, blockysize=7)
write("lzw_strips", mask, compress="lzw", blockysize=16)
write("deflate", mask, compress="deflate", tiled=True, blockxsize=64, blockysize=32)
write("deflate_predictor_values", values, compress="deflate", predictor=2, blockysize=10)
write("packbits", mask, compress="packbits")
write("bigendian_values", values, endianness="big", compress="lzw", predictor=2)
write("white_is_zero_values", values, photometric="miniswhite", compress="lzw", predictor=2)
write("bilevel", mask, nbits=1)
write("bilevel_white_is_zero", mask, nbits=1, photometric="miniswhite", compress="lzw", tiled=True, blockxsize=64, blockysize=32)
write("one_pixel", np.ones((1, 1), np.uint8), compress="lzw")

small = mask[:20, :20]
write("refused_16bit", small.astype(np.uint16), compress="lzw")
write("refused_float32", small.astype(np.float32), compress="lzw")
write("refused_int8", small.astype(np.int8), compress="lzw")
write("refused_2bit", small, nbits=2)
write("refused_2bands", np.stack([small] * 2), compress="lzw")
write("refused_3bands", np.stack([small] * 3), photometric="rgb", compress="lzw")
write("refused_bigtiff", small, bigtiff="yes", compress="lzw")
write("refused_zstd", small, compress="zstd")
write("refused_ccitt", small, nbits=1, compress="ccittfax4")
write("refused_wide", np.zeros((1, 16385), np.uint8), compress="lzw")
write("refused_sparse", np.zeros((64, 64), np.uint8), sparse_ok="true", tiled=True, blockxsize=32, blockysize=32, compress="lzw")
with rasterio.open(OUT / "refused_palette.tiff", "w", driver="GTiff", count=1, height=20, width=20, dtype="uint8",
                   photometric="palette") as dst:
    dst.write(small, 1)
    dst.write_colormap(1, {0: (0, 0, 255), 1: (0, 255, 0)})
print(len(list(OUT.glob("*.tiff"))), "masks, rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
