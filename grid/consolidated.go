package grid

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ShardPixels is the side of a shard of a consolidated store. Its lattices are padded to whole ones.
const ShardPixels = 4096

// Consolidated returns the lattice of a zone of a consolidated store: the union of the corners of
// the cells of all lists, projected to EPSG:326ZZ on both hemispheres, widened to multiples of 10 m, and
// padded on the right and below to whole shards, as geotessera's builder does since 0.10. The order of
// the cells does not matter, nor that one is there twice. It fails where there is no cell, or where
// they are of two zones.
//
// Cells by the hundred thousand cost little: only those are projected that can lie at an edge.
func Consolidated(lists ...[]Cell) (Grid, error) {
	outer, err := outermost(lists)
	if err != nil {
		return Grid{}, err
	}
	if len(outer) == 0 {
		return Grid{}, errors.New("a zone grid needs at least one cell")
	}
	zone := outer[0].Zone()
	points := make([]corners, len(outer))
	for i, c := range outer {
		points[i] = cornersOf(c)
	}
	// Southern cells are projected as northern ones are: their northings are negative.
	if err := projections[2*zone].forward(zone, false, points); err != nil {
		return Grid{}, fmt.Errorf("projecting to UTM zone %d: %w", zone, err)
	}
	west, north := math.Inf(1), math.Inf(-1)
	east, south := math.Inf(-1), math.Inf(1)
	for i := range points {
		p := &points[i]
		west, east = min(west, p[ulX], p[urX], p[llX], p[lrX]), max(east, p[ulX], p[urX], p[llX], p[lrX])
		south, north = min(south, p[ulY], p[urY], p[llY], p[lrY]), max(north, p[ulY], p[urY], p[llY], p[lrY])
	}
	if size := east - west + north - south; math.IsInf(size, 0) || math.IsNaN(size) {
		return Grid{}, fmt.Errorf("projecting the cells of UTM zone %d: PROJ gave no finite coordinate", zone)
	}
	west, north = snapDown(west), snapUp(north)
	return Grid{
		Zone:     zone,
		Easting:  west,
		Northing: north,
		Height:   wholeShards(north - snapDown(south)),
		Width:    wholeShards(snapUp(east) - west),
	}, nil
}

func wholeShards(metres float64) int {
	return ceilDiv(int(math.RoundToEven(metres/PixelMetres)), ShardPixels) * ShardPixels
}

// extremes are those cells of a column of one longitude that can lie at an edge of a union: the
// northernmost and the southernmost, for along a meridian the northing only goes up, and on each side
// of the equator the nearest to it, for away from it meridians only come nearer to the central one.
type extremes struct{ north, south, above, below Cell }

// take keeps a cell where it is further out. The zero Cell stands for none.
func (e *extremes) take(c Cell) {
	further := func(kept *Cell, is bool) {
		if is || *kept == (Cell{}) {
			*kept = c
		}
	}
	further(&e.north, c.Lat > e.north.Lat)
	further(&e.south, c.Lat < e.south.Lat)
	if c.South() {
		further(&e.below, c.Lat > e.below.Lat)
	} else {
		further(&e.above, c.Lat < e.above.Lat)
	}
}

// outermost returns the cells among which those at the edges of a zone's union are; none of none.
func outermost(lists [][]Cell) ([]Cell, error) {
	const step = 10 // hundredths of a degree from one column to the next
	var columns [zoneWidth / step]extremes
	var first Cell
	var west, east int16
	for _, cells := range lists {
		for _, c := range cells {
			if first == (Cell{}) {
				first = c
				west, east = ZoneLons(c.Zone())
			}
			if c.Lon < west || c.Lon >= east {
				return nil, fmt.Errorf("%v lies in UTM zone %d, %v in zone %d: a zone grid holds cells of one zone",
					first, first.Zone(), c, c.Zone())
			}
			columns[(c.Lon-west)/step].take(c)
		}
	}
	var outer []Cell
	for _, e := range columns {
		column := []Cell{e.north, e.south, e.above, e.below}
		slices.SortFunc(column, Cell.Compare)
		for _, c := range slices.Compact(column) {
			if c != (Cell{}) {
				outer = append(outer, c)
			}
		}
	}
	return outer, nil
}

// Area returns how many pixels of a window lie under rectangles, those under several counted once.
// Rectangles may lie outside the window.
func Area(window Rect, rects []Rect) int64 {
	inside := make([]Rect, 0, len(rects))
	edges := make([]int, 0, 2*len(rects))
	for _, r := range rects {
		if in := r.Intersect(window); !in.Empty() {
			inside = append(inside, in)
			edges = append(edges, in.Row, in.Bottom())
		}
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	// By column, so that the rectangles of a run of rows are met from left to right.
	slices.SortFunc(inside, func(a, b Rect) int { return a.Col - b.Col })
	area := int64(0)
	for i := range len(edges) - 1 {
		width, right := 0, window.Col
		for _, r := range inside {
			if r.Row <= edges[i] && r.Bottom() > edges[i] {
				width += max(0, r.Right()-max(r.Col, right))
				right = max(right, r.Right())
			}
		}
		area += int64(width) * int64(edges[i+1]-edges[i])
	}
	return area
}
