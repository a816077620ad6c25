"""What zone-year and consolidated stores must hold, worked out from the objects on disk, slow and plain.

A window of a store is painted: fill first, then every tile that touches it in catalogue order,
each over what was there. The rules are those of the README and of synth/mosaic's documentation;
nothing here shares code with the filesystem.
"""
import functools
import math

import numpy as np
import pyproj
import rasterio
from archive import BANDS, PIXEL, footprint

CHUNK = 1024
SHARD = 4096


class Damaged(Exception):
    """A tile that a reader must not get pixels of. `partial` are those that can be had anyway."""

    def __init__(self, why, partial=None):
        super().__init__(why)
        self.partial = partial


def read_tile(archive, tile):
    """Embeddings and scales as they must be shown; Damaged where the tile is not as it should be."""
    _, _, height, width = footprint(tile)
    try:
        pixels = np.load(archive.path(tile), mmap_mode="r")
        scales = np.load(archive.path(tile, "_scales"))
    except (OSError, ValueError) as err:
        raise Damaged(str(err)) from err
    if pixels.dtype != np.int8 or pixels.ndim != 3 or pixels.shape[2] != BANDS or np.isfortran(pixels):
        raise Damaged(f"embeddings are {pixels.dtype} {pixels.shape}")
    if scales.ndim == 3:
        with np.errstate(invalid="ignore"):
            scales = np.fmax.reduce(scales, axis=2)
    if scales.shape != pixels.shape[:2]:
        raise Damaged("embeddings and scales are of two shapes")
    pixels, scales = np.array(pixels[:height, :width]), np.array(scales[:height, :width], np.float32)
    why = "smaller than its footprint" if scales.shape != (height, width) else None
    is_data = (scales > 0) & (scales < 1)  # false for NaN and both infinities
    if archive.mask_path(tile).exists():
        with rasterio.open(archive.mask_path(tile)) as file:
            land = file.read(1) != 0
        if land.shape == scales.shape:
            is_data &= land
        else:
            why = why or "landmask of another shape"
    pixels[~is_data] = 0
    scales[~is_data] = np.nan
    if why:
        raise Damaged(why, (pixels, scales))
    return pixels, scales


class ZoneYear:
    """The store of one zone and year."""

    def __init__(self, archive, year, zone):
        self.archive = archive
        self.tiles = [tile for tile in archive.tiles if (tile.year, tile.zone) == (year, zone)]  # in catalogue order
        self.epsg = 32600 + zone
        self._pixels = {}
        edges = []
        for tile in self.tiles:
            left, top, height, width = footprint(tile)
            top -= 1e7 if tile.lat < 0 else 0  # southern tiles on the northern axis
            edges.append((left, top, left + width * PIXEL, top - height * PIXEL, height, width))
        self.easting = math.floor(min(e[0] for e in edges) / PIXEL) * PIXEL
        self.northing = math.ceil(max(e[1] for e in edges) / PIXEL) * PIXEL
        self.width = round(math.ceil(max(e[2] for e in edges) / PIXEL) - self.easting / PIXEL)
        self.height = round(self.northing / PIXEL - math.floor(min(e[3] for e in edges) / PIXEL))
        # First row, first column, height and width of each tile: floor, as its pixels were laid out.
        self.places = [
            (math.floor((self.northing - top) / PIXEL), math.floor((left - self.easting) / PIXEL), height, width)
            for left, top, _, _, height, width in edges]

    def pixels(self, index):
        """Embeddings and scales of a tile, or the Damaged it is; read once."""
        if index not in self._pixels:
            try:
                self._pixels[index] = read_tile(self.archive, self.tiles[index])
            except Damaged as damaged:
                self._pixels[index] = damaged
        return self._pixels[index]

    def chunks(self):
        """(row, col) of the chunks there must be: those a footprint touches."""
        return sorted({
            (row, col)
            for top, left, height, width in self.places
            for row in range(top // CHUNK, (top + height - 1) // CHUNK + 1)
            for col in range(left // CHUNK, (left + width - 1) // CHUNK + 1)})

    def extent(self, row, col):
        """Rows and columns of a chunk, as slices that end where the store does."""
        return (slice(row * CHUNK, min((row + 1) * CHUNK, self.height)),
                slice(col * CHUNK, min((col + 1) * CHUNK, self.width)))

    def touching(self, rows, cols):
        return [i for i, (top, left, height, width) in enumerate(self.places)
                if top < rows.stop and rows.start < top + height and left < cols.stop and cols.start < left + width]

    def damaged(self, rows, cols):
        """Tiles whose damage a reader of the window must be told of."""
        return [self.tiles[i] for i in self.touching(rows, cols) if isinstance(self.pixels(i), Damaged)]

    def inside(self, tiles, rows, cols):
        """A pixel of the window, counted from its corner, in the middle of what it shows of each tile."""
        for tile in tiles:
            top, left, height, width = self.places[self.tiles.index(tile)]
            yield ((max(rows.start, top) + min(rows.stop, top + height)) // 2 - rows.start,
                   (max(cols.start, left) + min(cols.stop, left + width)) // 2 - cols.start)

    def window(self, rows, cols):
        """Embeddings and scales of a window, damaged tiles as --missing-tiles=fill serves them."""
        embeddings = np.zeros((rows.stop - rows.start, cols.stop - cols.start, BANDS), np.int8)
        scales = np.full(embeddings.shape[:2], np.nan, np.float32)
        for i in self.touching(rows, cols):
            pixels = self.pixels(i)
            if isinstance(pixels, Damaged):
                pixels = pixels.partial
                if pixels is None:
                    continue
            self._paint(embeddings, pixels[0], i, rows, cols)
            self._paint(scales, pixels[1], i, rows, cols)
        return embeddings, scales

    def covered(self, rows, cols):
        """Where in a window a tile lies, whatever it holds."""
        mask = np.zeros((rows.stop - rows.start, cols.stop - cols.start), bool)
        for i in self.touching(rows, cols):
            self._paint(mask, np.ones(self.places[i][2:], bool), i, rows, cols)
        return mask

    def _paint(self, canvas, picture, index, rows, cols):
        top, left = self.places[index][:2]
        height, width = picture.shape[:2]
        first_row, last_row = max(rows.start, top), min(rows.stop, top + height)
        first_col, last_col = max(cols.start, left), min(cols.stop, left + width)
        if first_row < last_row and first_col < last_col:
            canvas[first_row - rows.start : last_row - rows.start, first_col - cols.start : last_col - cols.start] = \
                picture[first_row - top : last_row - top, first_col - left : last_col - left]


class Zone:
    """A zone of a consolidated store; masks is the archive whose landmask registry counts, its own if None."""

    def __init__(self, archive, zone, masks=None):
        self.archive, self.zone, self.epsg = archive, zone, 32600 + zone
        self.years = sorted({tile.year for tile in archive.tiles})
        # The landmask registry's cells and the tiles', each by its four corners on the northern axis.
        cells = {(tile.lon, tile.lat) for tile in [*(masks or archive).tiles, *archive.tiles] if tile.zone == zone}
        self.project = pyproj.Transformer.from_crs("EPSG:4326", f"EPSG:{self.epsg}", always_xy=True).transform
        x, y = self.project([lon / 100 + d for lon, _ in cells for d in (-0.05, 0.05, -0.05, 0.05)],
                            [lat / 100 + d for _, lat in cells for d in (0.05, 0.05, -0.05, -0.05)])
        self.easting, self.northing = math.floor(min(x) / PIXEL) * PIXEL, math.ceil(max(y) / PIXEL) * PIXEL
        rows = round(self.northing / PIXEL - math.floor(min(y) / PIXEL))
        cols = round(math.ceil(max(x) / PIXEL) - self.easting / PIXEL)
        self.height, self.width = -(-rows // SHARD) * SHARD, -(-cols // SHARD) * SHARD

    def places(self, year):
        """(tile, first row, first column, height, width) in catalogue order."""
        found = []
        for tile in self.archive.tiles:
            if (tile.year, tile.zone) == (year, self.zone):
                left, top, height, width = footprint(tile)
                top -= 1e7 if tile.lat < 0 else 0  # southern tiles on the northern axis
                found.append((tile, math.floor((self.northing - top) / PIXEL), math.floor((left - self.easting) / PIXEL),
                              height, width))
        return found

    def touched(self, year, side):
        """(row, column) of the squares of that side that a tile touches."""
        return {(row, col) for _, top, left, height, width in self.places(year)
                for row in range(top // side, (top + height - 1) // side + 1)
                for col in range(left // side, (left + width - 1) // side + 1)}

    @functools.cache
    def tile(self, tile):
        """Embeddings as they are in the tile, scales with what is no data NaN; None where it cannot be read."""
        _, _, height, width = footprint(tile)
        try:
            scales = read_tile(self.archive, tile)[1]
        except Damaged:
            return None
        return np.load(self.archive.path(tile), mmap_mode="r")[:height, :width], scales

    def window(self, year, rows, cols):
        """Embeddings (band, y, x) and scales (y, x) of a window: +inf where no tile is, NaN where one has no data."""
        embeddings = np.zeros((rows.stop - rows.start, cols.stop - cols.start, BANDS), np.int8)
        scales = np.full(embeddings.shape[:2], np.inf, np.float32)
        for tile, top, left, height, width in self.places(year):
            a, b = max(rows.start, top), min(rows.stop, top + height)
            c, d = max(cols.start, left), min(cols.stop, left + width)
            if a < b and c < d and (pixels := self.tile(tile)):
                for canvas, picture in zip((embeddings, scales), pixels):
                    canvas[a - rows.start : b - rows.start, c - cols.start : d - cols.start] = \
                        picture[a - top : b - top, c - left : d - left]
        return embeddings.transpose(2, 0, 1), scales

    def around(self, year, margin=70):
        """Windows that hold each tile and what lies beside it."""
        for _, top, left, height, width in self.places(year):
            yield (slice(max(0, top - margin), min(self.height, top + height + margin)),
                   slice(max(0, left - margin), min(self.width, left + width + margin)))

    def pixel(self, lon, lat):
        """Row and column of the pixel that a longitude and a latitude lie in."""
        easting, northing = self.project(lon, lat)
        return math.floor((self.northing - northing) / PIXEL), math.floor((easting - self.easting) / PIXEL)

    def embedding(self, year, row, col):
        """The dequantised embedding of a pixel; None where there is none."""
        embeddings, scales = self.window(year, slice(row, row + 1), slice(col, col + 1))
        return embeddings[:, 0, 0] * scales[0, 0] if np.isfinite(scales[0, 0]) else None
