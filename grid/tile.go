package grid

import (
	"fmt"
	"math"
)

// Grid returns the lattice of the tile by itself, in its own reference system: its Height × Width
// pixels and no others. A pixel lies where the lattice of a store of the whole zone has it, since
// first pixels are found by floor in both (geotessera #429).
func (f Footprint) Grid() Grid {
	return Grid{
		Zone:     f.Cell.Zone(),
		Easting:  snapDown(f.Easting),
		Northing: snapUp(f.Northing),
		Height:   f.Height,
		Width:    f.Width,
		South:    f.Cell.South(),
	}
}

// Bounds are limits in degrees, longitudes from -180 to 180. West is greater than East where they
// reach over the antimeridian.
type Bounds struct{ West, South, East, North float64 }

// Bounds returns the limits of a lattice's pixels in degrees, to seven decimals, which is a
// centimetre: beyond that PROJ versions differ. The limits of a tile lie outside those of its cell,
// whose edges are not straight in UTM.
func (g Grid) Bounds() (Bounds, error) {
	top := g.Northing
	if g.South {
		top -= SouthernNorthing
	}
	right, bottom := g.Easting+float64(float64(g.Width)*PixelMetres), top-float64(float64(g.Height)*PixelMetres)
	// Along an edge, latitude and longitude have their extremes at the ends or where the edge crosses
	// the central meridian or the equator.
	const meridian, equator = 500_000, 0
	var x, y []float64
	for _, easting := range []float64{g.Easting, min(max(meridian, g.Easting), right), right} {
		for _, northing := range []float64{bottom, min(max(equator, bottom), top), top} {
			x, y = append(x, easting), append(y, northing)
		}
	}
	if err := Unproject(g.Zone, x, y); err != nil {
		return Bounds{}, err
	}
	central := float64(6*g.Zone - 183)
	b := Bounds{West: math.Inf(1), South: math.Inf(1), East: math.Inf(-1), North: math.Inf(-1)}
	for i := range x {
		if math.IsInf(x[i], 0) || math.IsNaN(x[i]) || math.IsInf(y[i], 0) || math.IsNaN(y[i]) {
			return Bounds{}, fmt.Errorf("limits of %+v in degrees: PROJ gave no finite coordinate", g)
		}
		// PROJ wraps at the antimeridian; here a lattice that reaches over it is one piece.
		lon := central + math.Remainder(x[i]-central, 360)
		b.West, b.East = min(b.West, lon), max(b.East, lon)
		b.South, b.North = min(b.South, y[i]), max(b.North, y[i])
	}
	return Bounds{
		West: sevenDecimals(wrap(b.West)), South: sevenDecimals(b.South),
		East: sevenDecimals(wrap(b.East)), North: sevenDecimals(b.North),
	}, nil
}

// wrap brings a longitude within a turn of those from -180 to 180 to one of them.
func wrap(lon float64) float64 {
	switch {
	case lon > 180:
		return lon - 360
	case lon < -180:
		return lon + 360
	}
	return lon
}

// sevenDecimals rounds; what rounds to zero has no sign.
func sevenDecimals(v float64) float64 { return math.Round(float64(v*1e7))/1e7 + 0 }
