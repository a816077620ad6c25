// Package layout says which array has which shape, chunks and attributes, and shows stores as
// directories and files. It turns bytes of a chunk into a window of a zone grid; the pixels of the
// window are package mosaic's, the documents package zarr's.
//
// # Zone-year stores
//
// One store a UTM zone and year, the layout of geotessera's first Zarr builder (pull request #194):
//
//	utm30_2024.zarr/
//	  zarr.json                       group; consolidated metadata of everything below
//	  embeddings/c/<row>/<col>/0      int8 (northing, easting, band), 1024 × 1024 × 128, fill 0
//	  scales/c/<row>/<col>            float32 (northing, easting), 1024 × 1024, fill NaN
//	  easting/c/0, northing/c/0       float64, metres, pixel centres, one chunk
//	  band/c/0                        int32 0 … 127
//	  spatial_ref/c                   int64 scalar that carries the CF grid mapping
//
// The store's system is EPSG:326ZZ in both hemispheres; southern northings are negative. A chunk
// exists if a tile's footprint touches it. Chunks are uncompressed: their size is known before any
// byte of a tile is read, and a row of a chunk is rows of its tiles.
//
// # Per-tile stores
//
// One store a tile and year:
//
//	grid_0.15_52.05.zarr/
//	  zarr.json                       group; consolidated metadata of everything below
//	  embeddings/c/<row>/0/0          int8 (y, x, band), 128 × the tile's width × 128, fill 0
//	  scales/c/<row>/0                float32 (y, x), 128 × the width, fill NaN
//	  landmask/c/<row>/0              uint8 (y, x), 128 × the width, fill 0
//	  x/c/0, y/c/0                    float64, metres, pixel centres, one chunk
//	  band/c/0, spatial_ref/c         as above
//
// The store's system is the tile's own, EPSG:326ZZ or, south of the equator, EPSG:327ZZ. Embeddings
// are the tile's own bytes, water and all, and a chunk of them is one run of its NPY; scales are NaN
// where they do not count, as everywhere; the landmask is as the file has it, 1 throughout where there
// is none. The root has the attributes of CF 1.11 and of ACDD 1.3. Its dates are those of the tile's
// newest object as catalogued: a store is the same whenever, and through whichever mount, it is read.
//
// # Consolidated stores
//
// One store of all zones and years, the layout of geotessera's Zarr builder since 0.10:
//
//	tessera.zarr/
//	  zarr.json                                 group; the convention geoemb; consolidated metadata
//	                                            of everything below
//	  utm30/
//	    zarr.json                               group; consolidated metadata of the zone's arrays
//	    embeddings/c/<time>/0/<row>/<col>       int8 (time, band, y, x), shards of 1 × 128 × 4096 ×
//	                                            4096, fill 0
//	    embeddings_d4/…, embeddings_d16/…       the same of the first 4 and 16 bands, from version 2 on
//	    scales/c/<time>/<row>/<col>             float32 (time, y, x), shards of 1 × 4096 × 4096, fill +inf
//	    x/c/0, y/c/0                            float64, metres, pixel centres, one chunk
//	    time/c/0                                int32, years; all that the dataset has, in every zone
//	    band/c/0, band_d4/c/0, band_d16/c/0     int32 0, 1, …
//	    spatial_ref/c                           int64 scalar that carries the CF grid mapping
//
// A zone is there if it holds a tile of any year. Its system is EPSG:326ZZ in both hemispheres. Its grid
// is the union of the cells that the landmask registry lists and of those of all tiles, padded to whole
// shards; without a registry that of all tiles. Upstream's is the registry's alone, which is the same
// where the registry lists every tile: published copies of registries do not, and no tile is cut off
// here. Zones that have a landmask and no tile, and the statistics for upstream's previews, are not
// shown.
//
// Embeddings are the tile's own bytes, whether their scale counts or not; scales are NaN where the tile
// has no data, and +inf where no tile lies. A shard exists if a tile's footprint touches it, and in it
// each inner chunk likewise; inner chunks lie in C order, uncompressed, and then the index with its
// CRC-32C. So a shard's size and index follow from geometry alone, and a read of any range touches the
// tiles under it and no others. The codec transpose makes the bytes of an inner chunk those of (time, y,
// x, band): a row of an inner chunk is a run of a tile's NPY.
//
// In [BandOrder] the inner chunks of embeddings are those of (time, band, y, x) already, each a zstd frame
// of raw blocks. For clients whose transpose is slow that is quicker, although it is done here; and they
// fetch what has a codec such as zstd whole, and plain bytes piece by piece. Sizes follow from geometry
// alone there, too. There are no holes in these.
//
// # Adding a layout
//
// A layout is a type with a Dir method, made from a [catalogue.Dataset] and a [mosaic.Mosaic], and
// a line in package synth that hangs it into the tree.
package layout
