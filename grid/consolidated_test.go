package grid

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// choices are those of testdata/make_consolidated.py.
var choices = map[string]func(zone, i int, c Cell) bool{
	"all":   func(int, int, Cell) bool { return true },
	"north": func(_, _ int, c Cell) bool { return c.Lat > 0 },
	"south": func(_, _ int, c Cell) bool { return c.Lat < 0 },
	"east":  func(zone, _ int, c Cell) bool { return int(c.Lon) > zone*600-18200 },
	"29th":  func(zone, i int, _ Cell) bool { return i%29 == zone%29 },
	"first": func(_, i int, _ Cell) bool { return i == 0 },
}

// TestConsolidatedGolden would catch a cell at the edge that is not projected, southern cells on
// another axis, another way to snap or to pad, and a tile that lies outside the lattice of its own
// cell.
func TestConsolidatedGolden(t *testing.T) {
	byZone := map[int][]Cell{}
	for _, l := range readGolden(t) {
		byZone[l.zone] = append(byZone[l.zone], l.foot.Cell)
	}
	lines := readCSVFile(t, "testdata/consolidated.csv")
	if len(lines) != Zones*len(choices) {
		t.Fatalf("%d lattices in the golden file, want %d", len(lines), Zones*len(choices))
	}
	for _, l := range lines {
		zone, choice := atoi(t, l[0]), choices[l[1]]
		var cells []Cell
		for i, c := range byZone[zone] {
			if choice(zone, i, c) {
				cells = append(cells, c)
			}
		}
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		g, err := Consolidated(cells)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Grid{Zone: zone, Easting: atof(t, l[2]), Northing: atof(t, l[3]), Height: atoi(t, l[4]), Width: atoi(t, l[5])}); g != want {
			t.Errorf("zone %d, %s: %+v, want %+v", zone, l[1], g, want)
		}
		prints, err := Footprints(cells)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range prints {
			if r := g.Place(f); r.Intersect(Rect{0, 0, g.Height, g.Width}) != r {
				t.Errorf("zone %d, %s: %v at %+v reaches beyond %+v", zone, l[1], f.Cell, r, g)
			}
		}
	}
}

// TestConsolidatedRefused would catch a lattice of nothing, or of cells of two zones.
func TestConsolidatedRefused(t *testing.T) {
	for _, c := range []struct {
		cells []Cell
		says  string
	}{
		{nil, "at least one cell"},
		{[]Cell{{-5, 5}, {5, 5}}, "grid_0.05_0.05 in zone 31"},
		{[]Cell{{32000, 5}}, "zone"},
	} {
		if g, err := Consolidated(c.cells); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %+v, %v; want an error with %q", c.cells, g, err, c.says)
		}
	}
}

// TestArea would catch a pixel counted twice, or left out: it is counted pixel by pixel too.
func TestArea(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		window := Rect{random.IntN(5), random.IntN(5), 1 + random.IntN(20), 1 + random.IntN(20)}
		rects := make([]Rect, random.IntN(8))
		for i := range rects {
			rects[i] = Rect{random.IntN(25) - 3, random.IntN(25) - 3, random.IntN(12), random.IntN(12)}
		}
		want := int64(0)
		for row := window.Row; row < window.Bottom(); row++ {
			for col := window.Col; col < window.Right(); col++ {
				if last(rects, row, col) >= 0 {
					want++
				}
			}
		}
		if got := Area(window, rects); got != want {
			t.Fatalf("%+v under %+v: %d pixels, want %d", window, rects, got, want)
		}
	}
}

// BenchmarkConsolidated is the fullest zone there can be.
func BenchmarkConsolidated(b *testing.B) {
	var cells []Cell
	for lon := -600 + 5; lon < 0; lon += 10 {
		for lat := -8395; lat <= 8395; lat += 10 {
			cells = append(cells, Cell{int16(lon), int16(lat)})
		}
	}
	for b.Loop() {
		if _, err := Consolidated(cells); err != nil {
			b.Fatal(err)
		}
	}
}
