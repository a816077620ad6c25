package mosaic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/vfs"
)

// paintLand says what a block's landmask must hold, pixel by pixel, from the tiles that are there.
func paintLand(b *Block, tiles ...*testTile) []byte {
	land := make([]byte, b.Window.Height*b.Window.Width)
	for _, t := range tiles {
		for r := range min(t.h, t.rect.Height) {
			for c := range min(t.w, t.rect.Width) {
				row, col := t.rect.Row+r-b.Window.Row, t.rect.Col+c-b.Window.Col
				if row < 0 || col < 0 || row >= b.Window.Height || col >= b.Window.Width {
					continue
				}
				land[row*b.Window.Width+col] = 1
				if t.land != nil {
					land[row*b.Window.Width+col] = t.land[r*t.w+c]
				}
			}
		}
	}
	return land
}

func newLandmasks(t *testing.T, a *archive) *Landmasks {
	t.Helper()
	l, err := NewLandmasks(a.mosaic)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// check compares the landmask of a whole block, and n ranges of it, with what it must hold.
func (l *Landmasks) check(t *testing.T, b *Block, rng *rand.Rand, n int, tiles ...*testTile) {
	t.Helper()
	want := paintLand(b, tiles...)
	for i := range n + 1 {
		from, to := 0, len(want)
		if i > 0 {
			from = rng.IntN(len(want))
			to = from + rng.IntN(len(want)-from) + 1
		}
		got := bytes.Repeat([]byte{0xee}, to-from)
		if err := l.Read(t.Context(), b, got, int64(from)); err != nil {
			t.Fatalf("landmask [%d,%d): %v", from, to, err)
		}
		if !bytes.Equal(got, want[from:to]) {
			t.Fatalf("landmask [%d,%d): differs from byte %d on", from, to, from+mismatch(got, want[from:to]))
		}
	}
}

// Catches: placement off by a pixel, the wrong tile on top, the wrong row or column of a mask, numbers
// of the file that become others, bytes that are left as they were.
func TestLandmasksOfRandomTiles(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			var tiles []*testTile
			for range 1 + rng.IntN(5) {
				tile := newTile(rng, grid.Rect{Row: 80 + rng.IntN(50), Col: 160 + rng.IntN(100), Height: 10 + rng.IntN(40), Width: 20 + rng.IntN(80)})
				if rng.IntN(3) > 0 {
					tile.land = make([]byte, tile.h*tile.w)
					for i := range tile.land {
						tile.land[i] = []byte{0, 0, 1, 1, 255, 7}[rng.IntN(6)]
					}
				}
				tiles = append(tiles, tile)
			}
			a := newArchive(t, Fail, grid.Rect{Row: 100, Col: 200, Height: 40, Width: 90}, tiles...)
			newLandmasks(t, a).check(t, &a.block, rng, 30, tiles...)
			bare := slices.DeleteFunc(slices.Clone(tiles), func(t *testTile) bool { return t.land != nil })
			for _, w := range a.mosaic.Journal.Warnings() {
				if w.Count != 1 {
					t.Errorf("warned of %s %d times", w.Object, w.Count)
				}
			}
			if n := len(a.mosaic.Journal.Warnings()); n > len(bare) {
				t.Errorf("%d warnings, and %d tiles without a landmask", n, len(bare))
			}
		})
	}
}

// Catches: a failure that becomes land or water, and under Fill a tile whose mask is shown where its
// pixels are not.
func TestLandmaskFaults(t *testing.T) {
	for _, f := range faults {
		for _, policy := range []Policy{Fail, Fill} {
			t.Run(fmt.Sprintf("%s/%v", f.name, policy), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(3, 2))
				good := newTile(rng, grid.Rect{Width: 60, Height: 40})
				bad := newTile(rng, grid.Rect{Col: 50, Width: 50, Height: 30})
				bad.spoil(rng)
				a := newArchive(t, policy, grid.Rect{Height: 40, Width: 100}, good, bad)
				f.spoil(t, a, bad)
				l := newLandmasks(t, a)
				if policy == Fail || f.want == vfs.ErrChanged {
					for range 2 {
						if err := l.Read(t.Context(), &a.block, make([]byte, 4000), 0); !errors.Is(err, f.want) {
							t.Fatalf("error is %v, not %v", err, f.want)
						}
					}
				} else if f.fill != nil && f.fill(bad) {
					l.check(t, &a.block, rng, 10, good, bad)
				} else {
					l.check(t, &a.block, rng, 10, good)
				}
				list, _ := a.mosaic.Journal.Failures()
				if len(list) != 1 || !strings.HasPrefix(list[0].Object, "tile1") || !strings.Contains(list[0].Reason, f.reason) {
					t.Errorf("failures are %+v, not one of tile1 with %q", list, f.reason)
				}
			})
		}
	}
}

// Catches: a mask that was kept, shown after its file has changed or gone.
func TestLandmaskChangesUnderTheMount(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	for _, gone := range []bool{false, true} {
		tile := newTile(rng, grid.Rect{Height: 20, Width: 40})
		tile.spoil(rng)
		a := newArchive(t, Fill, grid.Rect{Height: 20, Width: 40}, tile)
		l := newLandmasks(t, a)
		l.check(t, &a.block, rng, 3, tile)
		if gone {
			if err := os.Remove(a.path(0, ".tiff")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1100 * time.Millisecond) // a file that is gone is missed within a second
		} else {
			put(t, a.path(0, ".tiff"), maskBytes(t, make([]byte, tile.h*tile.w), tile.h, tile.w))
			later := time.Now().Add(time.Minute)
			if err := os.Chtimes(a.path(0, ".tiff"), later, later); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := l.Read(t.Context(), &a.block, make([]byte, 100), 0); !errors.Is(err, vfs.ErrChanged) {
				t.Errorf("gone is %v: error is %v, not ErrChanged", gone, err)
			}
		}
	}
}

// Catches: readers at once who get each other's masks, or decode one that somebody else is decoding
// and race for it; an interrupted reader whose interruption is written down as the tile's fault.
func TestLandmaskReadersAtOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 2))
	var tiles []*testTile
	for i := range 12 { // more than are kept
		tile := newTile(rng, grid.Rect{Row: 10 * i, Height: 10, Width: 40})
		tile.land = make([]byte, tile.h*tile.w)
		for k := range tile.land {
			tile.land[k] = byte(i + 1)
		}
		tiles = append(tiles, tile)
	}
	a := newArchive(t, Fail, grid.Rect{Height: 120, Width: 40}, tiles...)
	l := newLandmasks(t, a)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	want := paintLand(&a.block, tiles...)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 12 {
				from := 400 * ((5*i + k) % 12)
				got := make([]byte, 400)
				if err := l.Read(t.Context(), &a.block, got, int64(from)); err != nil || !bytes.Equal(got, want[from:from+400]) {
					t.Errorf("landmask of tile %d differs, error %v", from/400, err)
				}
				if err := l.Read(cancelled, &a.block, got, int64(from)); err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("error is %v, not context.Canceled", err)
				}
			}
		})
	}
	wg.Wait()
	if list, _ := a.mosaic.Journal.Failures(); len(list) != 0 {
		t.Errorf("failures are %+v", list)
	}
}
