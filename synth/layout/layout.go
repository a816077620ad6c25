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
// # Adding a layout
//
// A layout is a type with a Dir method, made from a [catalogue.Dataset] and a [mosaic.Mosaic], and
// a line in package synth that hangs it into the tree.
package layout
