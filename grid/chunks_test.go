package grid

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestChunks would catch chunks counted where a tile only borders, rows and columns mixed up, and
// questions outside the lattice that panic.
func TestChunks(t *testing.T) {
	// Chunks of 10 × 20 pixels on a lattice of 35 × 90: 4 × 5 of them.
	c := NewChunks(35, 90, 10, 20, []Rect{
		{0, 0, 10, 20},   // fills chunk 0/0, and only borders on its neighbours
		{19, 39, 2, 2},   // a pixel in each of four chunks
		{30, 80, 50, 50}, // beyond the lattice
		{5, 5, 1, 1},
		{-9, -9, 5, 5},                  // beside the lattice
		{500, 500, 1, 1},                // beside the lattice
		{12, 12, 0, 5}, {12, 12, 5, -5}, // no pixels
	})
	if got := c.Rows(); !slices.Equal(got, []int{0, 1, 2, 3}) {
		t.Errorf("rows %v", got)
	}
	if c.Len() != 6 {
		t.Errorf("%d chunks, want 6", c.Len())
	}
	for row, want := range map[int][]int{-1: nil, 0: {0}, 1: {1, 2}, 2: {1, 2}, 3: {4}, 4: nil, math.MaxInt: nil, math.MinInt: nil} {
		if got := c.Cols(row); !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("row %d: columns %v, want %v", row, got, want)
		}
	}
	for _, w := range []struct {
		row, col int
		tiles    []int32
	}{{0, 0, []int32{0, 3}}, {1, 1, []int32{1}}, {2, 2, []int32{1}}, {3, 4, []int32{2}}, {0, 1, nil}, {0, -1, nil}, {-1, 0, nil}, {4, 0, nil}, {3, 5, nil}} {
		if got := c.Tiles(w.row, w.col); !slices.Equal(got, w.tiles) {
			t.Errorf("chunk %d/%d: tiles %v, want %v", w.row, w.col, got, w.tiles)
		}
	}
	if got, want := c.Window(3, 4), (Rect{30, 80, 10, 20}); got != want {
		t.Errorf("window %+v, want %+v", got, want)
	}
}

// TestChunksPainted holds NewChunks against asking every tile about every chunk.
func TestChunksPainted(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 24))
	for range 500 {
		height, width := rng.IntN(60), rng.IntN(60)
		rows, cols := 1+rng.IntN(12), 1+rng.IntN(12)
		tiles := make([]Rect, rng.IntN(8))
		for i := range tiles {
			tiles[i] = Rect{rng.IntN(70) - 5, rng.IntN(70) - 5, rng.IntN(20) - 1, rng.IntN(20) - 1}
		}
		c := NewChunks(height, width, rows, cols, tiles)
		var present []int
		count := 0
		for r := 0; r*rows < height; r++ {
			var existing []int
			for k := 0; k*cols < width; k++ {
				var under []int32
				for i, tile := range tiles {
					if !tile.Intersect(Rect{0, 0, height, width}).Intersect(c.Window(r, k)).Empty() {
						under = append(under, int32(i))
					}
				}
				if got := c.Tiles(r, k); !slices.Equal(got, under) {
					t.Fatalf("%d × %d by %d × %d, %v: chunk %d/%d: tiles %v, want %v", height, width, rows, cols, tiles, r, k, got, under)
				}
				if under != nil {
					existing = append(existing, k)
				}
			}
			if got := c.Cols(r); !slices.Equal(got, existing) {
				t.Fatalf("%d × %d by %d × %d, %v: row %d: columns %v, want %v", height, width, rows, cols, tiles, r, got, existing)
			}
			if existing != nil {
				present = append(present, r)
			}
			count += len(existing)
		}
		if !slices.Equal(c.Rows(), present) || c.Len() != count {
			t.Fatalf("%d × %d by %d × %d, %v: rows %v, %d chunks, want %v, %d", height, width, rows, cols, tiles, c.Rows(), c.Len(), present, count)
		}
	}
}

// TestChunksRefused would catch a chunk size that ends in a division by zero somewhere else.
func TestChunksRefused(t *testing.T) {
	for _, size := range [][2]int{{0, 1}, {1, 0}, {-1, 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("chunks of %v taken", size)
				}
			}()
			NewChunks(10, 10, size[0], size[1], nil)
		}()
	}
	if c := NewChunks(-5, -5, 10, 10, []Rect{{0, 0, 9, 9}}); c.Len() != 0 || c.Rows() != nil {
		t.Errorf("a lattice without pixels has %d chunks", c.Len())
	}
}

// BenchmarkNewChunks chunks 40,000 tiles, more than any zone has in a year.
func BenchmarkNewChunks(b *testing.B) {
	var tiles []Rect
	for col := range 40 {
		for row := range 1000 {
			tiles = append(tiles, Rect{row*1111 + col, col*1100 + row%7, 1113, 1104})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if NewChunks(1_112_000, 45_000, 1024, 1024, tiles).Len() == 0 {
			b.Fatal("no chunks")
		}
	}
}
