package grid

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Centres furthest from 0, in hundredths of a degree.
const (
	maxLon = 17995
	maxLat = 8995
)

// Zones is the number of UTM zones; the first is zone 1, from 180°W to 174°W.
const Zones = 60

// zoneWidth is the width of a zone in hundredths of a degree.
const zoneWidth = 600

// Cell is a square of 0.1° × 0.1°, by its centre in hundredths of a degree: Lon within ±17995, Lat
// within ±8995, both ending in 5. [NewCell], [CellAt] and [ParseCell] make no other. The zero Cell
// is not a cell.
type Cell struct{ Lon, Lat int16 }

// NewCell returns the cell with its centre at lon, lat, in hundredths of a degree.
func NewCell(lon, lat int) (Cell, error) {
	if err := checkCentre("longitude", lon, maxLon); err != nil {
		return Cell{}, err
	}
	if err := checkCentre("latitude", lat, maxLat); err != nil {
		return Cell{}, err
	}
	return Cell{Lon: int16(lon), Lat: int16(lat)}, nil
}

func checkCentre(what string, v, limit int) error {
	if v < -limit || v > limit {
		return fmt.Errorf("%s %s is out of range: tile centres lie between %s and %s",
			what, degrees(v), degrees(-limit), degrees(limit))
	}
	if v%10 != 5 && v%10 != -5 {
		return fmt.Errorf("%s %s is off the 0.1° grid: tile centres lie at ±0.05, ±0.15, ±0.25 and so on", what, degrees(v))
	}
	return nil
}

// CellAt returns the cell with its centre at lon, lat, in degrees as manifests hold them: each must
// be within 1e-6 of a whole hundredth.
func CellAt(lon, lat float64) (Cell, error) {
	x, err := hundredths("longitude", lon)
	if err != nil {
		return Cell{}, err
	}
	y, err := hundredths("latitude", lat)
	if err != nil {
		return Cell{}, err
	}
	return NewCell(x, y)
}

// hundredths rounds degrees to whole hundredths. The range is checked before the conversion: that
// of a float64 beyond an int is not defined.
func hundredths(what string, v float64) (int, error) {
	if math.IsNaN(v) {
		return 0, fmt.Errorf("%s is NaN: a tile centre in degrees is needed", what)
	}
	if math.Abs(v) > 1000 {
		return 0, fmt.Errorf("%s %g is out of range: a tile centre in degrees is needed", what, v)
	}
	n := math.Round(float64(v * 100))
	if math.Abs(v-n/100) > 1e-6 {
		return 0, fmt.Errorf("%s %v is off the 0.1° grid: tile centres lie at ±0.05, ±0.15, ±0.25 and so on", what, v)
	}
	return int(n), nil
}

var errCellName = errors.New("not a tile name: expected grid_<lon>_<lat> with two decimals each, such as grid_-0.05_52.15")

// ParseCell returns the cell of a tile's name, such as "grid_-0.05_52.15". Only the names that
// [Cell.String] makes are taken.
func ParseCell(name string) (Cell, error) {
	centre, ok := strings.CutPrefix(name, "grid_")
	lonText, latText, both := strings.Cut(centre, "_")
	if !ok || !both {
		return Cell{}, fmt.Errorf("%s: %w", quoted(name), errCellName)
	}
	lon, errLon := strconv.ParseFloat(lonText, 64)
	lat, errLat := strconv.ParseFloat(latText, 64)
	if errLon != nil || errLat != nil {
		return Cell{}, fmt.Errorf("%s: %w", quoted(name), errCellName)
	}
	c, err := CellAt(lon, lat)
	if err != nil {
		return Cell{}, fmt.Errorf("%s: %w", quoted(name), err)
	}
	var buf [32]byte
	if string(c.appendName(buf[:0])) != name { // "grid_+0.05_52.150" and the like
		return Cell{}, fmt.Errorf("%s: %w", quoted(name), errCellName)
	}
	return c, nil
}

// quoted shows a name from outside in one short line.
func quoted(name string) string {
	const enough = 64
	if len(name) > enough {
		return strconv.Quote(name[:enough]) + "…"
	}
	return strconv.Quote(name)
}

// String returns the name of the cell's tile: "grid_-0.05_52.15".
func (c Cell) String() string {
	return string(c.appendName(make([]byte, 0, len("grid_-179.95_-89.95"))))
}

func (c Cell) appendName(b []byte) []byte {
	b = append(b, "grid_"...)
	b = appendDegrees(b, int(c.Lon))
	b = append(b, '_')
	return appendDegrees(b, int(c.Lat))
}

// appendDegrees writes hundredths with two decimals, as Python's f"{v / 100.0:.2f}" does.
func appendDegrees(b []byte, v int) []byte {
	// Taken as unsigned, the negative of the smallest int is right too.
	u := uint(v)
	if v < 0 {
		b = append(b, '-')
		u = -u
	}
	b = strconv.AppendUint(b, uint64(u/100), 10)
	return append(b, '.', byte('0'+u/10%10), byte('0'+u%10))
}

func degrees(v int) string { return string(appendDegrees(nil, v)) }

// Compare orders cells as a catalogue does within a year: by longitude, then latitude, going up.
func (c Cell) Compare(d Cell) int {
	return cmp.Or(cmp.Compare(c.Lon, d.Lon), cmp.Compare(c.Lat, d.Lat))
}

// LonLat returns the centre in degrees, the float64 nearest to its two decimals.
func (c Cell) LonLat() (lon, lat float64) {
	return float64(c.Lon) / 100, float64(c.Lat) / 100
}

// Zone returns the UTM zone of the centre, 1 to 60. Centres never lie on the border of two zones.
func (c Cell) Zone() int {
	return (int(c.Lon)+Zones/2*zoneWidth)/zoneWidth + 1
}

// South says whether the centre lies south of the equator.
func (c Cell) South() bool { return c.Lat < 0 }

// ZoneLons returns the half-open range of centre longitudes of a zone, in hundredths of a degree:
// in a list sorted by [Cell.Compare] the cells of a zone are one run. The range is empty for a
// zone that is not 1 to 60.
func ZoneLons(zone int) (lo, hi int16) {
	if zone < 1 || zone > Zones {
		return 0, 0
	}
	west := (zone - 1 - Zones/2) * zoneWidth
	return int16(west), int16(west + zoneWidth)
}
