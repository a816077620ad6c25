package main

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
)

// areaFlags choose tiles by place and year.
type areaFlags struct{ bbox, polygon, years string }

func (f *areaFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.bbox, "bbox", f.bbox, "only tiles in a box, W,S,E,N in degrees; W greater than E reaches over the antimeridian")
	fl.StringVar(&f.polygon, "polygon", f.polygon, "only tiles in the polygons of a GeoJSON file, in degrees on WGS 84")
	fl.StringVar(&f.years, "years", f.years, "only tiles of these years, such as 2017-2024 or 2020,2022-2024")
}

// area is what the flags mean.
type area struct {
	cells *cellSet // nil: all
	years []int    // ascending; nil: all
}

// area reads the flags, and the file that they name.
func (f areaFlags) area() (a area, err error) {
	if f.bbox != "" && f.polygon != "" {
		return area{}, usageError("--bbox and --polygon exclude each other: choose one")
	}
	if f.bbox != "" {
		if a.cells, err = boxCells(f.bbox); err != nil {
			return area{}, usageError("--bbox: %w", err)
		}
	}
	if f.polygon != "" {
		if a.cells, err = polygonCells(f.polygon); err != nil {
			return area{}, usageError("--polygon: %w", err)
		}
	}
	if f.years != "" {
		if a.years, err = parseYears(f.years); err != nil {
			return area{}, usageError("--years: %w", err)
		}
	}
	return a, nil
}

// tiles are the tiles of a dataset in the area, in catalogue order.
func (a area) tiles(ds *catalogue.Dataset) iter.Seq[catalogue.Tile] {
	return func(yield func(catalogue.Tile) bool) {
		for _, year := range ds.Years() {
			if a.years != nil && !slices.Contains(a.years, year) {
				continue
			}
			tiles := ds.Tiles(year, 0)
			for i, c := range tiles.Cells() {
				if a.cells.has(c) && !yield(tiles.At(i)) {
					return
				}
			}
		}
	}
}

// count is how many they are.
func (a area) count(ds *catalogue.Dataset) int {
	n := 0
	for range a.tiles(ds) {
		n++
	}
	return n
}

// parseYears reads years and ranges of them: 2020,2022-2024.
func parseYears(text string) ([]int, error) {
	var years []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, errFrom := strconv.Atoi(strings.TrimSpace(first))
		to, errTo := strconv.Atoi(strings.TrimSpace(last))
		if errFrom != nil || errTo != nil || from < 1 || to > 9999 || from > to {
			return nil, fmt.Errorf("%q is no year and no range of years: write 2020 or 2017-2024", part)
		}
		for y := from; y <= to; y++ {
			years = append(years, y)
		}
	}
	slices.Sort(years)
	return slices.Compact(years), nil
}

// boxCells are the cells of a box W,S,E,N.
func boxCells(text string) (*cellSet, error) {
	parts := strings.Split(text, ",")
	var v [4]float64
	for i, part := range parts {
		n, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil || len(parts) != len(v) {
			return nil, fmt.Errorf("%q is not four numbers W,S,E,N", text)
		}
		v[i] = n
	}
	west, south, east, north := v[0], v[1], v[2], v[3]
	for _, corner := range []position{{west, south}, {east, north}} {
		if err := corner.check(); err != nil {
			return nil, err
		}
	}
	if south >= north || west == east {
		return nil, errors.New("the box has no area: give W,S,E,N with S below N, and W not E")
	}
	set := &cellSet{}
	boxes := [][2]float64{{west, east}}
	if west > east {
		boxes = [][2]float64{{west, 180}, {-180, east}}
	}
	for _, b := range boxes {
		set.addPolygon([][]position{{{b[0], south}, {b[1], south}, {b[1], north}, {b[0], north}}})
	}
	return set, nil
}

// position is a longitude and a latitude in degrees on WGS 84.
type position struct{ lon, lat float64 }

func (p position) check() error {
	if !(math.Abs(p.lon) <= 180 && math.Abs(p.lat) <= 90) { // NaN too
		return fmt.Errorf("%g, %g is no longitude and latitude in degrees, which lie within ±180 and ±90; what reaches over the antimeridian must be cut there", p.lon, p.lat)
	}
	return nil
}

// The lattice of cells, columns from 180°W eastwards and rows from 90°S northwards.
const (
	cellColumns = 3600
	cellRows    = 1800
)

// cellSet is a set of cells of the whole earth, a bit each (810 kB, and as much to work with). A nil set holds all.
type cellSet struct {
	bits  cellBits
	turns cellBits // for addPolygon; empty between calls
}

type cellBits [cellColumns * cellRows / 64]uint64

func (b *cellBits) has(row, col int) bool {
	at := row*cellColumns + col
	return b[at/64]>>(at%64)&1 != 0
}

func (b *cellBits) set(row, col int)  { at := row*cellColumns + col; b[at/64] |= 1 << (at % 64) }
func (b *cellBits) flip(row, col int) { at := row*cellColumns + col; b[at/64] ^= 1 << (at % 64) }

// has tells whether a cell is in the set.
func (s *cellSet) has(c grid.Cell) bool {
	return s == nil || s.bits.has((int(c.Lat)+9000)/10, (int(c.Lon)+18000)/10)
}

// addPolygon adds the cells that share more than a border with a polygon, given as rings of positions
// which are closed whether or not the last is the first. What lies within an even number of rings is
// outside, so that rings inside others are holes. Lines between positions are straight in degrees
// (RFC 7946, section 3.1.1).
//
// A cell whose inside a line crosses has a part in the polygon; every other lies in it whole or not
// at all, which its centre tells.
func (s *cellSet) addPolygon(rings [][]position) {
	// turns gets the cells whose centre is the first of its row, going east, that lies beyond a line.
	west, east, south, north := cellColumns, 0, cellRows, 0
	for _, ring := range rings {
		for i, p := range ring {
			q := ring[(i+1)%len(ring)]
			x0, y0 := snapped((p.lon+180)*10), snapped((p.lat+90)*10)
			x1, y1 := snapped((q.lon+180)*10), snapped((q.lat+90)*10)
			if y0 > y1 {
				x0, y0, x1, y1 = x1, y1, x0, y0
			}
			west, east = min(west, int(min(x0, x1))), max(east, int(math.Ceil(max(x0, x1))))
			south, north = min(south, int(y0)), max(north, int(math.Ceil(y1)))
			s.addLine(x0, y0, x1, y1)
			for row := int(math.Ceil(y0 - 0.5)); float64(row)+0.5 < y1; row++ {
				if col := int(math.Ceil(along(x0, y0, x1, y1, float64(row)+0.5) - 0.5)); col < cellColumns {
					s.turns.flip(row, col)
				}
			}
		}
	}
	for row := south; row < north; row++ {
		inside := false
		for col := west; col <= min(east, cellColumns-1); col++ {
			if s.turns.has(row, col) {
				s.turns.flip(row, col)
				inside = !inside
			}
			if inside {
				s.bits.set(row, col)
			}
		}
	}
}

// addLine adds the cells whose inside a line crosses, y0 <= y1, in columns and rows.
func (s *cellSet) addLine(x0, y0, x1, y1 float64) {
	for row := int(math.Floor(y0)); float64(row) < y1; row++ {
		a, b := x0, x1
		if y0 != y1 {
			a = along(x0, y0, x1, y1, max(y0, float64(row)))
			b = along(x0, y0, x1, y1, min(y1, float64(row+1)))
		}
		for col := int(math.Floor(min(a, b))); float64(col) < max(a, b); col++ {
			s.bits.set(row, col)
		}
	}
}

// along is where a line that is not level has a certain y.
func along(x0, y0, x1, y1, y float64) float64 {
	return snapped(x0 + (x1-x0)*((y-y0)/(y1-y0)))
}

// snapped takes what is within a tenth of a millimetre of the border of a cell for the border: a box
// up to 0.3° must not touch the cells beyond because 0.3 is no binary number.
func snapped(v float64) float64 {
	if n := math.Round(v); math.Abs(v-n) < 1e-8 {
		return n
	}
	return v
}
