package grid

import (
	"fmt"
	"math"

	"github.com/twpayne/go-proj/v10"
)

// ZoneAt returns the UTM zone of a point: that of the cell it lies in. 180° counts as the east of
// zone 60.
func ZoneAt(lon float64) int {
	return max(1, min(Zones, int(math.Floor((lon+180)/6))+1))
}

// Project takes points from degrees to metres on the axes of EPSG:326ZZ, in place: x becomes the
// easting, y the northing, which is negative south of the equator. Coordinates of points that have
// none there become infinite. Give it as many points of a zone at once as there are.
func Project(zone int, x, y []float64) error {
	return transform(zone, x, y, (*projection).forward)
}

// Unproject takes points of EPSG:326ZZ back to degrees, in place.
func Unproject(zone int, x, y []float64) error {
	return transform(zone, x, y, (*projection).inverse)
}

// transform hands points to a zone's projection, which takes them four by four.
func transform(zone int, x, y []float64, by func(p *projection, zone int, south bool, c []corners) error) error {
	if zone < 1 || zone > Zones || len(x) != len(y) {
		return fmt.Errorf("%d eastings and %d northings of UTM zone %d: there is no such thing", len(x), len(y), zone)
	}
	const points = len(corners{}) / 2
	c := make([]corners, ceilDiv(len(x), points))
	for i := range x {
		c[i/points][2*(i%points)], c[i/points][2*(i%points)+1] = x[i], y[i]
	}
	if len(c) == 0 {
		return nil
	}
	for i := len(x); i < len(c)*points; i++ { // the rest of the last four, so that it can be projected
		c[i/points][2*(i%points)], c[i/points][2*(i%points)+1] = x[0], y[0]
	}
	if err := by(&projections[2*zone], zone, false, c); err != nil {
		return fmt.Errorf("projecting points of UTM zone %d: %w", zone, err)
	}
	for i := range x {
		x[i], y[i] = c[i/points][2*(i%points)], c[i/points][2*(i%points)+1]
	}
	return nil
}

// inverse is forward the other way.
func (p *projection) inverse(zone int, south bool, c []corners) error {
	var central corners // of the zone's meridian at the equator: projecting it makes p.pj
	for i := 0; i < len(central); i += 2 {
		central[i] = float64(6*zone - 183)
	}
	if err := p.forward(zone, south, []corners{central}); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	const stride = 2 * 8
	n := len(c) * len(corners{}) / 2
	return p.pj.TransGeneric(proj.DirectionInv, &c[0][0], stride, n, &c[0][1], stride, n, nil, 0, 0, nil, 0, 0)
}

// PixelAt returns the pixel of the lattice that holds a point, which may lie outside it: the pixel
// whose centre is nearest. A point on the line between two belongs to the western and the northern
// one, as GeoTesseraZarr.sample_points has it (geotessera 0.11.0). ok is false where the point has
// no finite coordinates.
func (g Grid) PixelAt(easting, northing float64) (row, col int, ok bool) {
	r := math.Ceil((g.Northing-northing)/PixelMetres) - 1
	c := math.Ceil((easting-g.Easting)/PixelMetres) - 1
	// Beyond any lattice, and the conversion of a larger float64 is not defined.
	if !(math.Abs(r) < 1e9 && math.Abs(c) < 1e9) {
		return 0, 0, false
	}
	return int(r), int(c), true
}
