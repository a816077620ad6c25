package grid

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestFootprintsBatch would catch a batch that answers in another order, or differs from cells
// projected one at a time, and batches at once that disturb each other.
func TestFootprintsBatch(t *testing.T) {
	var cells []Cell
	for lon := -17995; lon <= 17995; lon += 1370 { // all zones and both hemispheres mixed
		for lat := 8395; lat >= -8395; lat -= 790 {
			cells = append(cells, Cell{int16(lon), int16(lat)})
		}
	}
	want, err := Footprints(cells)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cells {
		one, err := Footprints([]Cell{c})
		if err != nil || len(one) != 1 || one[0] != want[i] {
			t.Fatalf("%v alone: %+v, %v; in the batch: %+v", c, one, err, want[i])
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got, err := Footprints(cells)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("batches at once differ, error %v", err)
			}
		})
	}
	wg.Wait()
	if got, err := Footprints(nil); err != nil || len(got) != 0 {
		t.Errorf("no cells: %v, %v", got, err)
	}
}

// TestProjectionFirstUse would catch, under the race detector, two goroutines that both make the
// PJ of a zone nobody has asked for yet.
func TestProjectionFirstUse(t *testing.T) {
	var p projection
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := []corners{cornersOf(Cell{-5, -5})}
			if err := p.forward(30, true, c); err != nil || !(c[0][ulY] > 9e6) {
				t.Errorf("corners %v, error %v", c, err)
			}
		})
	}
	wg.Wait()
}

// TestFootprintsRefused would catch cells made without a constructor reaching PROJ or an index, and
// a coordinate PROJ could not project becoming a footprint.
func TestFootprintsRefused(t *testing.T) {
	for _, c := range []Cell{{}, {5, 0}, {math.MaxInt16, 5}, {math.MinInt16, 5}, {5, math.MinInt16}} {
		if f, err := Footprints([]Cell{{5, 5}, c}); err == nil || !strings.Contains(err.Error(), c.String()) {
			t.Errorf("%v: %v, %v; want an error that names it", c, f, err)
		}
	}
	for _, v := range []float64{math.Inf(1), math.Inf(-1), math.NaN()} {
		for k := range len(corners{}) {
			p := corners{0, 10, 10, 10, 0, 0, 10, 0}
			p[k] = v
			if f, err := footprintOf(Cell{5, 5}, &p); err == nil || !strings.Contains(err.Error(), "grid_0.05_0.05") {
				t.Errorf("corners %v: %v, %v; want an error that names the cell", p, f, err)
			}
		}
	}
}

// TestFootprintRounding would catch sizes rounded half up, and an origin or a size taken from the
// wrong corners where the cell leans.
func TestFootprintRounding(t *testing.T) {
	for _, c := range []struct {
		name          string
		p             corners
		e, n          float64
		height, width int
	}{
		{"half down to even", corners{ulX: 0, ulY: 25, urX: 45, urY: 25, llX: 0, llY: 0, lrX: 45, lrY: 0}, 0, 25, 2, 4},
		{"half up to even", corners{ulX: 0, ulY: 35, urX: 55, urY: 35, llX: 0, llY: 0, lrX: 55, lrY: 0}, 0, 35, 4, 6},
		{"leans right", corners{ulX: 30, ulY: 100, urX: 130, urY: 110, llX: 0, llY: 0, lrX: 100, lrY: 10}, 0, 110, 11, 13},
		{"leans left", corners{ulX: 0, ulY: 110, urX: 100, urY: 100, llX: 30, llY: 10, lrX: 130, lrY: 0}, 0, 110, 11, 13},
	} {
		f, err := footprintOf(Cell{5, 5}, &c.p)
		if want := (Footprint{Cell{5, 5}, c.e, c.n, c.height, c.width}); err != nil || f != want {
			t.Errorf("%s: %+v, %v; want %+v", c.name, f, err, want)
		}
	}
}

// BenchmarkFootprints projects 30,000 cells of one zone, about what a full zone-year holds.
func BenchmarkFootprints(b *testing.B) {
	lo, hi := ZoneLons(30)
	var cells []Cell
	for lon := int(lo) + 5; lon < int(hi); lon += 10 {
		for lat := -2495; lat <= 2495; lat += 10 {
			cells = append(cells, Cell{int16(lon), int16(lat)})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Footprints(cells); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(cells)), "cells/op")
}
