package grid

import (
	"strings"
	"testing"
)

// TestZoneYear would catch a lattice that is not snapped outwards, southern tiles on the 327ZZ
// axis, and placement by rounding: 19.9 m is pixel 1 (geotessera #429).
func TestZoneYear(t *testing.T) {
	north, south := Cell{-5, 5}, Cell{-5, -5}
	fps := []Footprint{
		{north, 500003.1, 25.2, 3, 4},    // to 500043.1, -4.8
		{south, 500019.9, 1e7 - 5, 2, 3}, // northing -5; to 500049.9, -25
	}
	g, err := ZoneYear(fps)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Grid{30, 500000, 30, 6, 5, false}); g != want {
		t.Fatalf("%+v, want %+v", g, want)
	}
	for i, want := range []Rect{{0, 0, 3, 4}, {3, 1, 2, 3}} {
		if got := g.Place(fps[i]); got != want {
			t.Errorf("tile %d placed at %+v, want %+v", i, got, want)
		}
	}
	if g.EPSG() != 32630 {
		t.Errorf("EPSG:%d", g.EPSG())
	}
	if got, want := g.Transform(), ([6]float64{10, 0, 500000, 0, -10, 30}); got != want {
		t.Errorf("transform %v, want %v", got, want)
	}
	if e, n := g.EastingAt(0), g.NorthingAt(0); e != 500005 || n != 25 {
		t.Errorf("centre of the first pixel at %v, %v", e, n)
	}
	if e, n := g.EastingAt(g.Width-1), g.NorthingAt(g.Height-1); e != 500045 || n != -25 {
		t.Errorf("centre of the last pixel at %v, %v", e, n)
	}
}

// TestZoneYearRefused would catch a lattice of nothing, or of tiles on different axes.
func TestZoneYearRefused(t *testing.T) {
	for _, c := range []struct {
		fps  []Footprint
		says string
	}{
		{nil, "at least one tile"},
		{[]Footprint{{Cell: Cell{-5, 5}}, {Cell: Cell{5, 5}}}, "grid_0.05_0.05 in zone 31"},
	} {
		if g, err := ZoneYear(c.fps); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %+v, %v; want an error with %q", c.fps, g, err, c.says)
		}
	}
}
