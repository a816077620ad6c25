// Package grid is the geometry of a TESSERA archive: tiles, zones, projection, footprints, zone
// grids, which tiles lie under a window, chunk arithmetic. It does no I/O.
//
// # Words
//
// A [Cell] is a 0.1° square of the globe, named by its centre. Its [Footprint] is the pixel
// rectangle its arrays cover in the UTM zone of the centre. A [Grid] is the 10 m lattice of a
// store: pixel (row 0, col 0) is its north-west corner, rows go south. Eastings and northings are
// metres. A Grid's northing is that of EPSG:326ZZ in both hemispheres: a southern footprint's own
// northing (EPSG:327ZZ) minus 10,000,000 m.
package grid

// Size of a pixel in metres, and bands of a pixel.
const (
	PixelMetres = 10.0
	Bands       = 128
)
