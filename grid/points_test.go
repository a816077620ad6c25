package grid

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestProjectIsTheFootprintsProjection would catch points projected by another rule than the tiles
// they lie in, above all in the south, and points lost where they are not four.
func TestProjectIsTheFootprintsProjection(t *testing.T) {
	for _, c := range []Cell{{-5, 5215}, {-5, -5215}, {17995, 5}, {-17995, -8335}, {-3595, 8355}} {
		prints, err := Footprints([]Cell{c})
		if err != nil {
			t.Fatal(err)
		}
		corner := cornersOf(c)
		for n := range 6 {
			var x, y []float64
			for i := range n {
				x, y = append(x, corner[2*(i%4)]), append(y, corner[2*(i%4)+1])
			}
			if err := Project(c.Zone(), x, y); err != nil {
				t.Fatal(err)
			}
			if n < 4 {
				continue
			}
			if west := min(x[0], x[2]); west != prints[0].Easting {
				t.Errorf("%v: western edge at %v, the footprint's at %v", c, west, prints[0].Easting)
			}
			// 1e7 is taken off after the projection there, and not added here.
			if north := max(y[0], y[1]); math.Abs(north-prints[0].CanonicalNorthing()) > 1e-8 {
				t.Errorf("%v: northern edge at %v, the footprint's at %v", c, north, prints[0].CanonicalNorthing())
			}
			if err := Unproject(c.Zone(), x, y); err != nil {
				t.Fatal(err)
			}
			for i := range x {
				turn := math.Remainder(x[i]-corner[2*(i%4)], 360)
				if math.Abs(turn) > 1e-9 || math.Abs(y[i]-corner[2*(i%4)+1]) > 1e-9 {
					t.Errorf("%v: there and back is %v, %v", c, x[i], y[i])
				}
			}
		}
	}
	if err := Project(61, []float64{0}, []float64{0}); err == nil {
		t.Error("there is a zone 61")
	}
}

// TestZoneAt would catch a point of another zone than the cell it lies in.
func TestZoneAt(t *testing.T) {
	for lon := -17995; lon <= 17995; lon += 10 {
		c := Cell{Lon: int16(lon), Lat: 5}
		west := float64(lon-5) / 100
		for _, at := range []float64{west, west + 0.05, west + 0.0999} {
			if got := ZoneAt(at); got != c.Zone() {
				t.Errorf("%v: zone %d, want %d", at, got, c.Zone())
			}
		}
	}
	if ZoneAt(180) != 60 || ZoneAt(-180) != 1 {
		t.Errorf("at the antimeridian: zones %d and %d", ZoneAt(-180), ZoneAt(180))
	}
}

// TestPixelAt would catch a pixel whose centre is not the nearest, and ties that go elsewhere than
// west and north.
func TestPixelAt(t *testing.T) {
	g := Grid{Zone: 30, Easting: 400_000, Northing: -20_000, Height: 500, Width: 700}
	rng := rand.New(rand.NewPCG(3, 14))
	for range 10_000 {
		e, n := g.Easting+7000*rng.Float64(), g.Northing-5000*rng.Float64()
		row, col, ok := g.PixelAt(e, n)
		if !ok || math.Abs(g.EastingAt(col)-e) > 5 || math.Abs(g.NorthingAt(row)-n) > 5 {
			t.Fatalf("%v, %v lies in pixel %d, %d with its centre at %v, %v", e, n, row, col, g.EastingAt(col), g.NorthingAt(row))
		}
	}
	for _, c := range []struct {
		e, n     float64
		row, col int
	}{
		{400_010, -20_010, 0, 0},   // the corner of four
		{400_000, -20_000, -1, -1}, // the corner of the lattice
		{400_005, -20_005, 0, 0},
		{407_000, -25_000, 499, 699},
		{407_000.1, -25_000.1, 500, 700},
	} {
		if row, col, ok := g.PixelAt(c.e, c.n); !ok || row != c.row || col != c.col {
			t.Errorf("%v, %v: pixel %d, %d (%v), want %d, %d", c.e, c.n, row, col, ok, c.row, c.col)
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300} {
		if _, _, ok := g.PixelAt(v, 0); ok {
			t.Errorf("easting %v has a pixel", v)
		}
		if _, _, ok := g.PixelAt(0, v); ok {
			t.Errorf("northing %v has a pixel", v)
		}
	}
}
