// Package grid is the geometry of a TESSERA archive: tiles, zones, projection, footprints, zone
// grids, which tiles lie under a window, chunk arithmetic. It does no I/O.
//
// # Words
//
// A [Cell] is a 0.1° square of the globe, named by its centre. Its [Footprint] is the pixel
// rectangle its arrays cover in the UTM zone of the centre. A [Grid] is the 10 m lattice of a
// store: pixel (row 0, col 0) is its north-west corner, rows go south. Eastings and northings are
// metres. A zone's northing is that of EPSG:326ZZ in both hemispheres: a southern footprint's own
// northing (EPSG:327ZZ) minus 10,000,000 m. A tile by itself keeps its own ([Footprint.Grid]).
//
// # From a name to pixels
//
// A manifest row or a directory name becomes a [Cell] ([CellAt], [ParseCell]). [Footprints]
// projects the cells of a year's zone, [ZoneYear] lays their common lattice, and [Grid.Place] says
// which [Rect] of it each tile fills. From then on everything is whole numbers: [NewChunks] says
// once which chunks a store has, and [Mosaic] says on each read which tile each run of pixels of a
// window comes from.
//
//	footprints, err := grid.Footprints(cells)   // catalogue order
//	lattice, err := grid.ZoneYear(footprints)
//	tiles[i] = lattice.Place(footprints[i])
//	chunks := grid.NewChunks(lattice.Height, lattice.Width, 1024, 1024, tiles)
//	window := chunks.Window(3, 7)
//	bands := grid.Mosaic(window, ...)           // the rectangles of chunks.Tiles(3, 7)
//
// # Rules
//
//   - The zone is that of the cell's centre, with no exception for Norway or Svalbard.
//   - A tile's own reference system is 326ZZ where the centre lies north of the equator, 327ZZ
//     south of it; that of a store of a zone is always 326ZZ.
//   - Sizes are those of the four projected corners, rounded half to even.
//   - A tile's first pixel is found by floor, not by rounding: its pixels were laid out from
//     floor(min / 10 m) × 10 m, while the corner is unsnapped (geotessera #429).
//   - Where tiles overlap, the later one in catalogue order (longitude, then latitude) wins its
//     whole rectangle, nodata included.
//
// # Guarantees
//
// Every number is what the builders compute in Python with pyproj, by the same floating-point
// operations in the same order. PROJ versions differ in the last bits of a coordinate (by up to
// two nanometres between 9.1 and 9.8, over every cell there is); the golden files in testdata hold
// sizes, placement and lattices to be equal all the same. Products are converted to float64
// explicitly wherever one is added to something: Go may otherwise fuse the two operations (arm64
// does), which rounds once instead of twice.
//
// All functions may be called by many goroutines at once. Values are never changed after they are
// made, and a slice that a method returns belongs to the value it came from.
package grid

// Size of a pixel in metres, bands of a pixel, and what the northings of EPSG:327ZZ are greater by
// than those of EPSG:326ZZ, in metres.
const (
	PixelMetres      = 10.0
	Bands            = 128
	SouthernNorthing = 10_000_000
)
