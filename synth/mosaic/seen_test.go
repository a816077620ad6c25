package mosaic

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/vfs"
)

// Catches: an open file that is of two states of a tile, because the tile was dropped from memory, the cache
// of objects was made to forget, and what is there now was then taken for what was there before. A Mosaic
// that comes after takes it as it is.
func TestTileChangesAfterItWasDropped(t *testing.T) {
	for suffix, change := range map[string]func(path string) error{
		".npy": touch, "_scales.npy": touch, ".tiff": os.Remove,
	} {
		t.Run(suffix, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(8, 1))
			tiles := []*testTile{newTile(rng, grid.Rect{Height: 20, Width: 40}), newTile(rng, grid.Rect{Col: 40, Height: 20, Width: 40})}
			for _, tile := range tiles {
				tile.spoil(rng)
			}
			a := newArchive(t, Fill, grid.Rect{Height: 20, Width: 80}, tiles...)
			a.check(t, rng, 3, tiles...)
			a.mosaic.tiles.Purge()
			a.mosaic.objects.Forget()
			a.check(t, rng, 3, tiles...) // nothing has changed
			if err := change(a.path(0, suffix)); err != nil {
				t.Fatal(err)
			}
			a.mosaic.tiles.Purge()
			a.mosaic.objects.Forget()
			if _, err := a.embeddings(t, 80*128, 0); !errors.Is(err, vfs.ErrChanged) {
				t.Errorf("a tile that changed: error is %v, not ErrChanged", err)
			}
			if _, err := a.embeddings(t, 100, 70*128); err != nil {
				t.Errorf("the tile beside it: %v", err)
			}
			next, err := New(Config{Objects: a.mosaic.objects})
			if err != nil {
				t.Fatal(err)
			}
			defer next.Close()
			if err := next.Embeddings(t.Context(), &a.block, make([]byte, 80*128), 0); err != nil {
				t.Errorf("the next Mosaic: %v", err)
			}
		})
	}
}

// Catches: a tile that was shown and is then served as fill, or as damaged, because it is gone and the cache of
// objects was made to forget that it was there.
func TestTileGoesAfterItWasForgotten(t *testing.T) {
	for i, suffix := range []string{".npy", "_scales.npy", ".tiff", ".npy", "_scales.npy", ".tiff"} {
		rng := rand.New(rand.NewPCG(9, 1))
		tile := newTile(rng, grid.Rect{Height: 20, Width: 40})
		tile.spoil(rng)
		a := newArchive(t, Fill, tile.rect, tile)
		a.check(t, rng, 3, tile)
		if err := os.Remove(a.path(0, suffix)); err != nil {
			t.Fatal(err)
		}
		a.mosaic.objects.Forget()
		if i >= 3 {
			a.mosaic.tiles.Purge()
		}
		if _, err := a.embeddings(t, 100, 0); !errors.Is(err, vfs.ErrChanged) {
			t.Errorf("%s is gone: error is %v, not ErrChanged", suffix, err)
		}
		if err := a.mosaic.Check(t.Context(), &a.block); i < 3 && !errors.Is(err, vfs.ErrChanged) || err == nil {
			t.Errorf("%s is gone: Check: error is %v, not ErrChanged", suffix, err)
		}
	}
}

// touch gives a file another time.
func touch(path string) error {
	later := time.Now().Add(time.Minute)
	return os.Chtimes(path, later, later)
}
