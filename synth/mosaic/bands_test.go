package mosaic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/vfs"
)

// turned is what a block must hold in band order, byte by byte.
func turned(pixels []byte, bands int) []byte {
	n := len(pixels) / bands
	out := make([]byte, len(pixels))
	for i := range pixels {
		out[i%bands*n+i/bands] = pixels[i]
	}
	return out
}

// Catches: a byte in the wrong place, for numbers of pixels and bands that are no multiples of 8 too.
func TestToBands(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, bands := range []int{1, 4, 7, 8, 16, 19, grid.Bands} {
		for _, n := range []int{1, 7, 8, 63, 64, 65, 100, 256, 500} {
			pixels := make([]byte, n*bands)
			for i := range pixels {
				pixels[i] = byte(random.Uint32())
			}
			got := make([]byte, len(pixels))
			for from := 0; from < n; { // strip by strip
				to := min(n, from+1+random.IntN(n))
				toBands(got[from:], n, pixels[from*bands:to*bands], bands)
				from = to
			}
			if !bytes.Equal(got, turned(pixels, bands)) {
				t.Errorf("%d pixels of %d bands: not turned as it should be", n, bands)
			}
		}
	}
}

// banded is an archive of two tiles that overlap, and its block as consolidated stores show it.
func banded(t *testing.T, policy Policy, bands int) *archive {
	random := rand.New(rand.NewPCG(3, 4))
	a := newArchive(t, policy, grid.Rect{Row: 5, Col: 10, Height: 128, Width: 64},
		newTile(random, grid.Rect{Row: 0, Col: 0, Height: 80, Width: 60}),
		newTile(random, grid.Rect{Row: 70, Col: 30, Height: 50, Width: 40}))
	a.block.AsStored, a.block.Bands = true, bands
	return a
}

// inBands is a block in band order. The bytes are those that are kept.
func inBands(t *testing.T, a *archive, b *Block) (data []byte, err error) {
	err = a.mosaic.Bands(t.Context(), b, func(shared []byte) { data = shared })
	return data, err
}

// Catches: bytes of another place, tile, or number of bands; strips put together wrongly; kept bytes given
// for another block's; bytes that depend on who else asks.
func TestBands(t *testing.T) {
	for _, bands := range []int{4, 16, 0} {
		a := banded(t, Fail, bands)
		whole := a.block
		var group sync.WaitGroup
		for i := range 24 {
			b := whole
			b.Window.Row += i % 3 * 7
			b.Window.Width -= i % 2 * 3
			pixels, _ := paint(&b, a.tiles...)
			want := turned(pixels, b.bands())
			group.Go(func() {
				if got, err := inBands(t, a, &b); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bands of %v: wrong bytes, or %v", bands, b.Window, err)
				}
			})
		}
		group.Wait()
	}
}

// Catches: a block made again for each piece of it that is read.
func TestBandsAreKept(t *testing.T) {
	a := banded(t, Fail, 0)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := inBands(t, a, &a.block); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	const strips = 128 * 64 * grid.Bands / bandStripBytes
	if n := a.mosaic.Stats.Reads.Load(); n != strips {
		t.Errorf("%d strips were read for one block of %d", n, strips)
	}
}

// Catches: kept bytes of a tile that changed since or is gone, also where the tile is no longer among
// those loaded, and was perhaps loaded anew.
func TestBandsOfChangedTile(t *testing.T) {
	for _, forget := range []bool{false, true} {
		a := banded(t, Fail, 0)
		before, err := inBands(t, a, &a.block)
		if err != nil {
			t.Fatal(err)
		}
		if forget {
			a.mosaic.tiles.Purge()
		} else if again, err := inBands(t, a, &a.block); err != nil || &again[0] != &before[0] {
			t.Fatalf("bytes are not kept (%v)", err)
		}
		changed := newTile(rand.New(rand.NewPCG(9, 9)), a.tiles[1].rect)
		changed.write(t, a, 1)
		later := time.Now().Add(time.Second)
		if err := os.Chtimes(a.path(1, ".npy"), later, later); err != nil {
			t.Fatal(err)
		}
		got, err := inBands(t, a, &a.block)
		if err == nil {
			pixels, _ := paint(&a.block, a.tiles[0], changed)
			if !forget || !bytes.Equal(got, turned(pixels, grid.Bands)) {
				t.Errorf("forgotten %v: bytes and no error", forget)
			}
		} else if !errors.Is(err, vfs.ErrChanged) {
			t.Errorf("forgotten %v: error is %v, not ErrChanged", forget, err)
		}
	}
}

// Catches: a damaged tile served as fill though nobody asked for it, or the fill kept and given after the
// policy's one line; a failure that a waiter does not get.
func TestBandsOfDamagedTile(t *testing.T) {
	for _, policy := range []Policy{Fail, Fill} {
		a := banded(t, policy, 0)
		if err := os.Truncate(a.path(1, ".npy"), 1000); err != nil {
			t.Fatal(err)
		}
		only := a.block // what is left under Fill
		only.Rects = only.Rects[:1]
		pixels, _ := paint(&only, a.tiles[0])
		for range 2 {
			got, err := inBands(t, a, &a.block)
			switch {
			case policy == Fail && !errors.Is(err, vfs.ErrDamaged):
				t.Errorf("error is %v, not ErrDamaged", err)
			case policy == Fill && (err != nil || !bytes.Equal(got, turned(pixels, grid.Bands))):
				t.Errorf("under Fill: wrong bytes, or %v", err)
			}
		}
	}
}

// Catches: a waiter that cannot leave, and one that ends the work for others; blocks of any size made.
func TestBandsEnd(t *testing.T) {
	a := banded(t, Fail, 0)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	// It may have been made by the time the waiter looks.
	if err := a.mosaic.Bands(gone, &a.block, func([]byte) {}); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := inBands(t, a, &a.block); err != nil {
		t.Error(err)
	}
	large := a.block
	large.Window.Height, large.Window.Width = 4096, 4096
	if _, err := inBands(t, a, &large); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("error is %v", err)
	}
}

// Catches: more bytes kept than there is room for, and bytes that are counted and not there.
func TestBandCacheIsBounded(t *testing.T) {
	c, err := newBandCache()
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	for i := range 200 {
		c.add(bandKey{tile: fmt.Sprint(random.IntN(60))}, keptBlock{data: make([]byte, 1+random.IntN(MaxBandBlock/4))})
		sum := int64(0)
		for _, b := range c.kept.Values() {
			sum += int64(len(b.data))
		}
		if sum != c.bytes || sum > bandsKept || i > 100 && sum < bandsKept/2 {
			t.Fatalf("%d bytes are kept, %d counted", sum, c.bytes)
		}
	}
}

// BenchmarkToBands is an inner chunk of 64 px of all bands, and one of 256 px of four.
func BenchmarkToBands(b *testing.B) {
	for _, c := range []struct{ side, bands int }{{64, grid.Bands}, {128, 16}, {256, 4}} {
		b.Run(fmt.Sprintf("%dpx%dbands", c.side, c.bands), func(b *testing.B) {
			n := c.side * c.side
			pixels, dst := make([]byte, n*c.bands), make([]byte, n*c.bands)
			b.SetBytes(int64(len(dst)))
			for b.Loop() {
				toBands(dst, n, pixels, c.bands)
			}
		})
	}
}
