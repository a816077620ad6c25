package mosaic

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/tesserafs/tesserafs/grid"
)

// FuzzReadOffsets reads any range of any window over tiles that lie anyhow, and compares it with the
// window painted pixel by pixel. It would catch a range that begins or ends in the middle of a
// value, a pixel or a row and is answered a little off, and pieces that do not add up.
//
// tiles is four bytes a tile: row, column, height and width of its footprint; the arrays are larger,
// so that one set of objects does for all of them.
func FuzzReadOffsets(f *testing.F) {
	rng := rand.New(rand.NewPCG(10, 1))
	whole, spoilt, bare := newTile(rng, grid.Rect{Height: 24, Width: 96}), newTile(rng, grid.Rect{Height: 24, Width: 96}), newTile(rng, grid.Rect{Height: 24, Width: 96})
	spoilt.spoil(rng)
	spoilt.land = nil            // a landmask is of the footprint's size, which varies here
	for i := range bare.scales { // half of it nodata, in long runs
		if i/200%2 == 0 {
			bare.scales[i] = 0
		}
	}
	all := newArchive(f, Fail, grid.Rect{}, whole, spoilt, bare)

	f.Add(uint32(0), uint32(1<<20), []byte{0, 0, 30, 100}, []byte{0, 0, 24, 96}, byte(0))
	f.Add(uint32(129), uint32(4000), []byte{3, 5, 20, 90}, []byte{0, 0, 20, 60, 10, 50, 24, 60}, byte(1))
	f.Add(uint32(77), uint32(1), []byte{9, 9, 1, 1}, []byte{0, 0, 24, 96, 5, 5, 24, 96, 9, 9, 1, 1}, byte(2))
	f.Add(uint32(4095), uint32(8193), []byte{0, 40, 24, 33}, []byte{2, 30, 24, 32, 0, 66, 13, 64}, byte(5))
	f.Add(uint32(3), uint32(2), []byte{255, 255, 40, 40}, []byte{}, byte(3))
	f.Fuzz(func(t *testing.T, off, n uint32, window, tiles []byte, how byte) {
		if len(window) < 4 {
			return
		}
		b := Block{Window: rectOf(window), AsStored: how&1 != 0, Bands: []int{0, 4, 16, 64}[how>>1&3]}
		if b.Bands != 0 {
			b.AsStored = true // as the package asks
		}
		var painted []*testTile
		for i := 0; len(tiles) >= 4 && i < 6; i++ {
			// Copies, which are cropped to footprints of their own. Three objects may lie in twice.
			tile := *all.tiles[i%3]
			tile.rect = rectOf(tiles)
			tile.rect.Height, tile.rect.Width = min(tile.rect.Height, tile.h), min(tile.rect.Width, tile.w)
			tiles = tiles[4:]
			if i >= 3 { // of the size it was loaded with
				tile.rect.Height, tile.rect.Width = painted[i-3].rect.Height, painted[i-3].rect.Width
			}
			entry := all.block.Tiles[i%3]
			entry.Height, entry.Width = tile.rect.Height, tile.rect.Width
			painted = append(painted, &tile)
			b.Tiles, b.Rects = append(b.Tiles, entry), append(b.Rects, tile.rect)
		}
		m, err := New(Config{Objects: all.mosaic.objects})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		wantE, wantS := paint(&b, painted...)

		from, to := clip(off, n, len(wantE))
		e := bytes.Repeat([]byte{0x55}, to-from) // every byte must be written
		if err := m.Embeddings(t.Context(), &b, e, int64(from)); err != nil {
			t.Fatalf("embeddings [%d,%d) of %d: %v", from, to, len(wantE), err)
		}
		if !bytes.Equal(e, wantE[from:to]) {
			t.Errorf("embeddings [%d,%d): differ from byte %d on", from, to, mismatch(e, wantE[from:to]))
		}
		from, to = clip(off, n, len(wantS))
		got := make([]byte, to-from)
		if err := m.Scales(t.Context(), &b, got, int64(from)); err != nil {
			t.Fatalf("scales [%d,%d) of %d: %v", from, to, len(wantS), err)
		}
		if !bytes.Equal(got, wantS[from:to]) {
			t.Errorf("scales [%d,%d): differ from byte %d on", from, to, mismatch(got, wantS[from:to]))
		}
	})
}

// rectOf makes a rectangle of four bytes: a corner near 0, 1 to 48 rows, 1 to 128 columns.
func rectOf(b []byte) grid.Rect {
	return grid.Rect{Row: int(int8(b[0])) / 4, Col: int(int8(b[1])), Height: 1 + int(b[2])%48, Width: 1 + int(b[3])%128}
}

// clip makes a range of at least one byte within so many of any two numbers.
func clip(off, n uint32, size int) (from, to int) {
	from = int(off % uint32(size))
	return from, from + 1 + int(n%uint32(size-from))
}
