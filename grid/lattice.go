package grid

import (
	"errors"
	"fmt"
	"math"
)

// Grid is the 10 m lattice of a store: Height × Width pixels, with the upper-left corner of pixel
// (0, 0) at Easting, Northing, which are multiples of 10 m on the axes of EPSG:326ZZ, or of
// EPSG:327ZZ where South is set. That is so for a southern tile by itself ([Footprint.Grid]); the
// lattice of a zone never has it.
type Grid struct {
	Zone              int
	Easting, Northing float64
	Height, Width     int
	South             bool
}

// ZoneYear returns the lattice of a zone-year store: the union of that year's tiles of one zone,
// widened to multiples of 10 m. It fails where there is no tile, or where they are of two zones.
func ZoneYear(fps []Footprint) (Grid, error) {
	if len(fps) == 0 {
		return Grid{}, errors.New("a zone grid needs at least one tile")
	}
	zone := fps[0].Cell.Zone()
	west, north := math.Inf(1), math.Inf(-1)
	east, south := math.Inf(-1), math.Inf(1)
	for _, f := range fps {
		if f.Cell.Zone() != zone {
			return Grid{}, fmt.Errorf("%v lies in UTM zone %d, %v in zone %d: a zone grid holds tiles of one zone",
				fps[0].Cell, zone, f.Cell, f.Cell.Zone())
		}
		n := f.CanonicalNorthing()
		west, north = min(west, f.Easting), max(north, n)
		east = max(east, f.Easting+float64(float64(f.Width)*PixelMetres))
		south = min(south, n-float64(float64(f.Height)*PixelMetres))
	}
	west, north = snapDown(west), snapUp(north)
	return Grid{
		Zone:     zone,
		Easting:  west,
		Northing: north,
		Height:   int(math.RoundToEven((north - snapDown(south)) / PixelMetres)),
		Width:    int(math.RoundToEven((snapUp(east) - west) / PixelMetres)),
	}, nil
}

func snapDown(v float64) float64 { return float64(math.Floor(v/PixelMetres) * PixelMetres) }
func snapUp(v float64) float64   { return float64(math.Ceil(v/PixelMetres) * PixelMetres) }

// EPSG returns the code of the lattice's reference system: 326ZZ, or with South 327ZZ.
func (g Grid) EPSG() int {
	if g.South {
		return 32700 + g.Zone
	}
	return 32600 + g.Zone
}

// Transform returns the affine transform from (col, row) to metres in the order of the affine
// package: pixel width, 0, easting, 0, minus pixel height, northing of the upper-left corner.
func (g Grid) Transform() [6]float64 {
	return [6]float64{PixelMetres, 0, g.Easting, 0, -PixelMetres, g.Northing}
}

// Place returns the pixels of a zone's lattice that a tile fills. The first is found by floor (geotessera #429). A
// footprint that was part of the lattice's making lies inside it.
func (g Grid) Place(f Footprint) Rect {
	return Rect{
		Row:    int(math.Floor((g.Northing - f.CanonicalNorthing()) / PixelMetres)),
		Col:    int(math.Floor((f.Easting - g.Easting) / PixelMetres)),
		Height: f.Height,
		Width:  f.Width,
	}
}

// EastingAt returns the easting of the centres of a column of pixels.
func (g Grid) EastingAt(col int) float64 {
	return g.Easting + float64((float64(col)+0.5)*PixelMetres)
}

// NorthingAt returns the northing of the centres of a row of pixels.
func (g Grid) NorthingAt(row int) float64 {
	return g.Northing - float64((float64(row)+0.5)*PixelMetres)
}
