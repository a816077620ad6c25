package grid

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// TestMosaic shows what bands look like, and would catch an earlier tile winning, bands and spans
// counted from the window's corner, and equal neighbours left apart.
func TestMosaic(t *testing.T) {
	window := Rect{Row: 100, Col: 200, Height: 10, Width: 20}
	for _, c := range []struct {
		name  string
		tiles []Rect
		want  []Band
	}{
		{"no tile", nil, []Band{{100, 110, []Span{{200, 220, -1}}}}},
		{"tiles beside the window", []Rect{{90, 200, 10, 20}, {110, 200, 5, 5}, {100, 190, 10, 10}, {100, 220, 10, 9}},
			[]Band{{100, 110, []Span{{200, 220, -1}}}}},
		{"one tile over all", []Rect{{0, 0, 1000, 1000}}, []Band{{100, 110, []Span{{200, 220, 0}}}}},
		{"the last wins", []Rect{{90, 190, 100, 20}, {90, 205, 100, 100}},
			[]Band{{100, 110, []Span{{200, 205, 0}, {205, 220, 1}}}}},
		{"the last wins in the other order", []Rect{{90, 205, 100, 100}, {90, 190, 100, 20}},
			[]Band{{100, 110, []Span{{200, 210, 1}, {210, 220, 0}}}}},
		{"a tile inside", []Rect{{103, 204, 2, 3}}, []Band{
			{100, 103, []Span{{200, 220, -1}}},
			{103, 105, []Span{{200, 204, -1}, {204, 207, 0}, {207, 220, -1}}},
			{105, 110, []Span{{200, 220, -1}}}}},
		{"a tile that is hidden", []Rect{{103, 204, 2, 3}, {100, 200, 10, 20}}, []Band{{100, 110, []Span{{200, 220, 1}}}}},
		{"tiles without pixels", []Rect{{103, 204, 0, 3}, {103, 204, 2, -3}}, []Band{{100, 110, []Span{{200, 220, -1}}}}},
	} {
		if got := Mosaic(window, c.tiles); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for _, empty := range []Rect{{}, {5, 5, 0, 9}, {5, 5, 9, 0}, {5, 5, -1, 9}} {
		if got := Mosaic(empty, []Rect{{0, 0, 20, 20}}); got != nil {
			t.Errorf("window %+v: %v", empty, got)
		}
	}
}

// TestMosaicPainted holds Mosaic against the rule as it is told: paint one tile after another.
func TestMosaicPainted(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 29))
	for round := range 5000 {
		window := Rect{rng.IntN(9) - 4, rng.IntN(9) - 4, 1 + rng.IntN(24), 1 + rng.IntN(24)}
		tiles := make([]Rect, rng.IntN(9))
		if round%50 == 0 { // more than the edges that fit without allocating
			tiles = make([]Rect, 60)
		}
		for i := range tiles {
			tiles[i] = Rect{rng.IntN(34) - 8, rng.IntN(34) - 8, rng.IntN(14) - 1, rng.IntN(14) - 1}
		}
		given := slices.Clone(tiles)

		want := make([]int, window.Height*window.Width)
		for i := range want {
			want[i] = -1
		}
		for i, tile := range tiles {
			for r := max(tile.Row, window.Row); r < min(tile.Bottom(), window.Bottom()); r++ {
				for c := max(tile.Col, window.Col); c < min(tile.Right(), window.Right()); c++ {
					want[(r-window.Row)*window.Width+c-window.Col] = i
				}
			}
		}

		bands := Mosaic(window, tiles)
		got := make([]int, 0, len(want))
		row := window.Row
		for i, b := range bands {
			if b.Row0 != row || b.Row1 <= b.Row0 {
				t.Fatalf("%+v %v: band %+v begins at another row than %d", window, tiles, b, row)
			}
			if i > 0 && slices.Equal(b.Spans, bands[i-1].Spans) {
				t.Fatalf("%+v %v: band %+v is as the one before", window, tiles, b)
			}
			col := window.Col
			for k, s := range b.Spans {
				if s.Col0 != col || s.Col1 <= s.Col0 {
					t.Fatalf("%+v %v: span %+v begins at another column than %d", window, tiles, s, col)
				}
				if k > 0 && s.Tile == b.Spans[k-1].Tile {
					t.Fatalf("%+v %v: span %+v is of the tile before", window, tiles, s)
				}
				col = s.Col1
			}
			if col != window.Right() {
				t.Fatalf("%+v %v: band %+v ends before the window", window, tiles, b)
			}
			for ; row < b.Row1; row++ {
				for _, s := range b.Spans {
					for range s.Col1 - s.Col0 {
						got = append(got, s.Tile)
					}
				}
			}
		}
		if row != window.Bottom() || !slices.Equal(got, want) {
			t.Fatalf("%+v %v: bands %v", window, tiles, bands)
		}
		if !slices.Equal(tiles, given) {
			t.Fatalf("Mosaic changed its tiles: %v, was %v", tiles, given)
		}
	}
}

// TestIntersect would catch a rectangle of two empty or distant ones.
func TestIntersect(t *testing.T) {
	for _, c := range []struct{ a, b, want Rect }{
		{Rect{0, 0, 10, 10}, Rect{5, 6, 10, 10}, Rect{5, 6, 5, 4}},
		{Rect{0, 0, 10, 10}, Rect{2, 3, 4, 5}, Rect{2, 3, 4, 5}},
		{Rect{0, 0, 10, 10}, Rect{-5, -5, 7, 8}, Rect{0, 0, 2, 3}},
		{Rect{0, 0, 10, 10}, Rect{10, 0, 10, 10}, Rect{}},
		{Rect{0, 0, 10, 10}, Rect{0, 10, 10, 10}, Rect{}},
		{Rect{0, 0, 10, 10}, Rect{30, 30, 10, 10}, Rect{}},
		{Rect{0, 0, 10, 10}, Rect{5, 5, 0, 3}, Rect{}},
		{Rect{0, 0, 10, 10}, Rect{5, 5, 3, -2}, Rect{}},
	} {
		if got := c.a.Intersect(c.b); got != c.want {
			t.Errorf("%+v and %+v: %+v, want %+v", c.a, c.b, got, c.want)
		}
		if got := c.b.Intersect(c.a); got != c.want {
			t.Errorf("%+v and %+v: %+v, want %+v", c.b, c.a, got, c.want)
		}
	}
}

// BenchmarkMosaic cuts a chunk out of four tiles that meet in it, as most chunks have it, and out
// of twelve narrow ones, as near 84°N.
func BenchmarkMosaic(b *testing.B) {
	window := Rect{1024, 1024, 1024, 1024}
	four := []Rect{{400, 700, 1113, 680}, {1510, 702, 1113, 679}, {399, 1379, 1113, 680}, {1509, 1381, 1113, 679}}
	var twelve []Rect
	for i := range 12 {
		twelve = append(twelve, Rect{400 + i%2*1110 + i, 900 + i/2*180, 1117, 182})
	}
	for _, c := range []struct {
		name  string
		tiles []Rect
	}{{"4", four}, {"12", twelve}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(Mosaic(window, c.tiles)) == 0 {
					b.Fatal("no bands")
				}
			}
		})
	}
}
