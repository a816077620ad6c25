package grid

import (
	"fmt"
	"math"
	"sync"

	"github.com/twpayne/go-proj/v10"
)

// Footprint is the pixel rectangle that a tile's arrays cover: Height × Width pixels of 10 m from
// the upper-left corner at Easting, Northing, which are metres in the tile's own reference system
// ([Footprint.EPSG]). The corner is as projected, not snapped to the lattice.
type Footprint struct {
	Cell              Cell
	Easting, Northing float64
	Height, Width     int
}

// EPSG returns the code of the footprint's own reference system: 326ZZ north, 327ZZ south.
func (f Footprint) EPSG() int {
	if f.Cell.South() {
		return 32700 + f.Cell.Zone()
	}
	return 32600 + f.Cell.Zone()
}

// CanonicalNorthing returns the northing of the upper-left corner on the zone's 326ZZ axis, where
// the southern hemisphere is negative.
func (f Footprint) CanonicalNorthing() float64 {
	if f.Cell.South() {
		return f.Northing - SouthernNorthing
	}
	return f.Northing
}

// Footprints returns the footprints of cells, in their order. Cells may be of any zones; those of
// one zone and hemisphere are projected in one go (some 0.4 µs a corner), so give it as many at
// once as there are. Zones are independent of each other: goroutines with cells of different zones
// do not wait for each other. The error names the cell that could not be projected.
func Footprints(cells []Cell) ([]Footprint, error) {
	var groups [2 * (Zones + 1)][]int32 // indexes into cells by 2×zone, plus 1 for south
	largest := 0
	for i, c := range cells {
		if _, err := NewCell(int(c.Lon), int(c.Lat)); err != nil {
			return nil, fmt.Errorf("footprint of cell %d (%v): %w", i, c, err)
		}
		g := 2 * c.Zone()
		if c.South() {
			g++
		}
		groups[g] = append(groups[g], int32(i))
		largest = max(largest, len(groups[g]))
	}
	out := make([]Footprint, len(cells))
	corners := make([]corners, largest)
	for g, members := range groups {
		if len(members) == 0 {
			continue
		}
		for k, i := range members {
			corners[k] = cornersOf(cells[i])
		}
		zone, south := g/2, g%2 == 1
		if err := projections[g].forward(zone, south, corners[:len(members)]); err != nil {
			return nil, fmt.Errorf("projecting to UTM zone %d: %w", zone, err)
		}
		for k, i := range members {
			f, err := footprintOf(cells[i], &corners[k])
			if err != nil {
				return nil, err
			}
			out[i] = f
		}
	}
	return out, nil
}

// corners of a cell, x and y interleaved: degrees before they are projected, metres after.
type corners [8]float64

// Positions in corners: upper left, upper right, lower left, lower right.
const (
	ulX, ulY = iota * 2, iota*2 + 1
	urX, urY
	llX, llY
	lrX, lrY
)

// cornersOf computes each corner as the builders do: from the centre in degrees, ± 0.05. The
// corner that two cells share may differ in its last bit, so it is projected for each.
func cornersOf(c Cell) corners {
	lon, lat := c.LonLat()
	west, east, north, south := lon-0.05, lon+0.05, lat+0.05, lat-0.05
	return corners{ulX: west, ulY: north, urX: east, urY: north, llX: west, llY: south, lrX: east, lrY: south}
}

// footprintOf reads a footprint off projected corners. PROJ answers a coordinate it cannot
// project with infinities, not with an error.
func footprintOf(c Cell, p *corners) (Footprint, error) {
	for _, v := range p {
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return Footprint{}, fmt.Errorf("projecting the corners of %v to UTM zone %d: PROJ gave no finite coordinate", c, c.Zone())
		}
	}
	e0, n0 := min(p[ulX], p[llX]), max(p[ulY], p[urY])
	return Footprint{
		Cell:     c,
		Easting:  e0,
		Northing: n0,
		// Python's round: half to even.
		Height: int(math.RoundToEven((n0 - min(p[llY], p[lrY])) / PixelMetres)),
		Width:  int(math.RoundToEven((max(p[urX], p[lrX]) - e0) / PixelMetres)),
	}, nil
}

// projection takes degrees to one zone and hemisphere. It is made at its first use and kept.
type projection struct {
	mu sync.Mutex // guards pj, its making and its use: a PJ serves one goroutine at a time
	pj *proj.PJ
}

// projections by 2×zone, plus 1 for south.
var projections [2 * (Zones + 1)]projection

// forward projects in place.
func (p *projection) forward(zone int, south bool, c []corners) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pj == nil {
		// What pyproj makes of EPSG:4326 → EPSG:326ZZ with always_xy, written out, so that no
		// database decides what the transformation is. PROJ opens its proj.db all the same, if
		// there is one. The context is this PJ's own: threads may not share one.
		definition := fmt.Sprintf("+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=utm +zone=%d +ellps=WGS84", zone)
		if south {
			definition += " +south"
		}
		pj, err := proj.NewContext().New(definition)
		if err != nil {
			return err
		}
		p.pj = pj
	}
	const (
		points = len(corners{}) / 2
		stride = 2 * 8 // bytes from one point to the next
	)
	n := len(c) * points
	return p.pj.TransGeneric(proj.DirectionFwd, &c[0][0], stride, n, &c[0][1], stride, n, nil, 0, 0, nil, 0, 0)
}
