package mosaic

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/image/tiff"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// npyBytes is an NPY object as numpy.save writes it.
func npyBytes(descr string, shape []int, data []byte) []byte {
	dims := strings.Trim(strings.ReplaceAll(fmt.Sprint(shape), " ", ", "), "[]")
	head := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, dims)
	for (10+len(head)+1)%64 != 0 {
		head += " "
	}
	out := append([]byte("\x93NUMPY\x01\x00"), byte(len(head)+1), byte((len(head)+1)>>8))
	return append(append(out, head+"\n"...), data...)
}

// testTile is a tile as its arrays say, before anything is made of it.
type testTile struct {
	rect       grid.Rect // its footprint
	h, w       int       // its arrays
	embeddings []byte
	scales     []float32
	land       []byte // nil: no landmask
}

func newTile(rng *rand.Rand, rect grid.Rect) *testTile {
	t := &testTile{rect: rect, h: rect.Height, w: rect.Width}
	t.embeddings = make([]byte, t.h*t.w*grid.Bands)
	for i := range t.embeddings {
		t.embeddings[i] = byte(1 + rng.IntN(254)) // never the fill value
	}
	t.scales = make([]float32, t.h*t.w)
	for i := range t.scales {
		t.scales[i] = 0.01 + rng.Float32()/10
	}
	return t
}

// spoil makes some pixels nodata, by every rule there is, in runs and alone.
func (t *testTile) spoil(rng *rand.Rand) {
	bad := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1)), -0.5, 1, 3e4}
	t.land = bytes.Repeat([]byte{1}, t.h*t.w)
	for range 12 {
		start, n := rng.IntN(len(t.scales)), 1+rng.IntN(2*t.w)
		value, water := bad[rng.IntN(len(bad))], rng.IntN(3) == 0
		for i := start; i < min(len(t.scales), start+n); i++ {
			if water {
				t.land[i] = 0
			} else {
				t.scales[i] = value
			}
		}
	}
}

// archive writes tiles into a directory and returns a Mosaic over it and the block of all of them.
type archive struct {
	dir    string
	tiles  []*testTile
	mosaic *Mosaic
	block  Block
	log    *bytes.Buffer
}

func (a *archive) path(i int, suffix string) string {
	return filepath.Join(a.dir, fmt.Sprintf("tile%d%s", i, suffix))
}

func (t *testTile) write(tb testing.TB, a *archive, i int) {
	tb.Helper()
	scales := make([]byte, 0, 4*len(t.scales))
	for _, s := range t.scales {
		scales = binary.LittleEndian.AppendUint32(scales, math.Float32bits(s))
	}
	put(tb, a.path(i, ".npy"), npyBytes("|i1", []int{t.h, t.w, grid.Bands}, t.embeddings))
	put(tb, a.path(i, "_scales.npy"), npyBytes("<f4", []int{t.h, t.w}, scales))
	if t.land != nil {
		put(tb, a.path(i, ".tiff"), maskBytes(tb, t.land, t.h, t.w))
	}
}

func maskBytes(tb testing.TB, land []byte, h, w int) []byte {
	var buf bytes.Buffer
	img := &image.Gray{Pix: land, Stride: w, Rect: image.Rect(0, 0, w, h)}
	if err := tiff.Encode(&buf, img, &tiff.Options{Compression: tiff.Deflate, Predictor: true}); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func put(tb testing.TB, path string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		tb.Fatal(err)
	}
}

func newArchive(tb testing.TB, policy Policy, window grid.Rect, tiles ...*testTile) *archive {
	tb.Helper()
	return newArchiveOf(tb, tilecache.Config{}, policy, window, tiles...)
}

func newArchiveOf(tb testing.TB, cfg tilecache.Config, policy Policy, window grid.Rect, tiles ...*testTile) *archive {
	tb.Helper()
	a := &archive{dir: tb.TempDir(), tiles: tiles, log: &bytes.Buffer{}, block: Block{Window: window}}
	for i, t := range tiles {
		t.write(tb, a, i)
		a.block.Rects = append(a.block.Rects, t.rect)
		a.block.Tiles = append(a.block.Tiles, Tile{
			Embeddings: fmt.Sprintf("tile%d.npy", i), Scales: fmt.Sprintf("tile%d_scales.npy", i), Landmask: fmt.Sprintf("tile%d.tiff", i),
			EmbeddingsBytes: -1, ScalesBytes: -1, Height: t.rect.Height, Width: t.rect.Width,
		})
	}
	src, err := localdir.Open(a.dir)
	if err != nil {
		tb.Fatal(err)
	}
	cache := tilecache.New(src, cfg)
	if a.mosaic, err = New(Config{Objects: cache, Policy: policy, Log: slog.New(slog.NewTextHandler(a.log, nil))}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { a.mosaic.Close(); cache.Close() })
	return a
}

// paint says what a block must hold, pixel by pixel, from the tiles that are there.
func paint(b *Block, tiles ...*testTile) (embeddings, scales []byte) {
	window, bands := b.Window, b.bands()
	embeddings = make([]byte, window.Height*window.Width*bands)
	scales = make([]byte, window.Height*window.Width*4)
	outside := float32(math.NaN())
	if b.AsStored {
		outside = float32(math.Inf(1))
	}
	fill(scales, math.Float32bits(outside))
	for _, t := range tiles {
		for r := range min(t.h, t.rect.Height) {
			for c := range min(t.w, t.rect.Width) {
				row, col := t.rect.Row+r-window.Row, t.rect.Col+c-window.Col
				if row < 0 || col < 0 || row >= window.Height || col >= window.Width {
					continue
				}
				at, from := row*window.Width+col, r*t.w+c
				s := float64(t.scales[from])
				data := !math.IsNaN(s) && s > 0 && s < 1 && (t.land == nil || t.land[from] != 0)
				px := embeddings[at*bands:][:bands]
				if data || b.AsStored {
					copy(px, t.embeddings[from*grid.Bands:])
				} else {
					clear(px)
				}
				if data {
					binary.LittleEndian.PutUint32(scales[4*at:], math.Float32bits(t.scales[from]))
				} else {
					binary.LittleEndian.PutUint32(scales[4*at:], nan)
				}
			}
		}
	}
	return embeddings, scales
}

func (a *archive) embeddings(t *testing.T, n int, off int64) ([]byte, error) {
	t.Helper()
	p := bytes.Repeat([]byte{0x55}, n) // every byte must be written
	return p, a.mosaic.Embeddings(t.Context(), &a.block, p, off)
}

// check compares a whole block, and n ranges of it, with what it must hold.
func (a *archive) check(t *testing.T, rng *rand.Rand, n int, tiles ...*testTile) {
	t.Helper()
	wantE, wantS := paint(&a.block, tiles...)
	for i := range n + 1 {
		from, to := 0, len(wantE)
		if i > 0 {
			from = rng.IntN(len(wantE))
			to = from + rng.IntN(len(wantE)-from) + 1
			if i%2 == 0 {
				to = min(to, from+1+rng.IntN(300))
			}
		}
		got, err := a.embeddings(t, to-from, int64(from))
		if err != nil {
			t.Fatalf("embeddings [%d,%d): %v", from, to, err)
		}
		if !bytes.Equal(got, wantE[from:to]) {
			t.Fatalf("embeddings [%d,%d): differ from byte %d on", from, to, from+mismatch(got, wantE[from:to]))
		}
		from, to = from*4/a.block.bands(), max(from*4/a.block.bands()+1, to*4/a.block.bands())
		got = make([]byte, to-from)
		if err := a.mosaic.Scales(t.Context(), &a.block, got, int64(from)); err != nil {
			t.Fatalf("scales [%d,%d): %v", from, to, err)
		}
		if !bytes.Equal(got, wantS[from:to]) {
			t.Fatalf("scales [%d,%d): differ from byte %d on", from, to, from+mismatch(got, wantS[from:to]))
		}
	}
}

func mismatch(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// Catches: placement off by a pixel, the wrong tile on top, nodata not masked or masked too far,
// ranges that cut rows, pixels and values in two, pieces in the wrong order.
func TestBlocksOfRandomTiles(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			window := grid.Rect{Row: 100, Col: 200, Height: 40, Width: 90}
			var tiles []*testTile
			for range 1 + rng.IntN(5) {
				tile := newTile(rng, grid.Rect{Row: 80 + rng.IntN(50), Col: 160 + rng.IntN(100), Height: 10 + rng.IntN(40), Width: 20 + rng.IntN(80)})
				if rng.IntN(2) == 0 {
					tile.spoil(rng)
				}
				tiles = append(tiles, tile)
			}
			a := newArchive(t, Fail, window, tiles...)
			a.check(t, rng, 30, tiles...)
			a.block.AsStored = true
			for _, a.block.Bands = range []int{0, 4, 16} {
				a.check(t, rng, 15, tiles...)
			}
		})
	}
}

// Catches: a rule of the data applied to the wrong axis or not at all.
func TestArraysThatAreNotAsComputed(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	window := grid.Rect{Height: 30, Width: 50}
	rect := grid.Rect{Row: 2, Col: 3, Height: 20, Width: 40}

	t.Run("larger than the footprint", func(t *testing.T) {
		tile := newTile(rng, grid.Rect{Row: 2, Col: 3, Height: 23, Width: 44})
		tile.rect = rect
		a := newArchive(t, Fail, window, tile)
		a.check(t, rng, 10, tile)
	})
	t.Run("scales with a band axis", func(t *testing.T) {
		tile := newTile(rng, rect)
		a := newArchive(t, Fail, window, tile)
		const bands = 7
		var data []byte
		for i := range tile.scales {
			most := float32(math.NaN())
			for b := range bands {
				v := rng.Float32()
				if (i+b)%3 == 0 || i%11 == 0 {
					v = float32(math.NaN())
				}
				if i%17 == 0 && b == 2 {
					v = float32(math.Inf(1))
				}
				if v > most || most != most {
					most = v
				}
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
			}
			tile.scales[i] = most
		}
		put(t, a.path(0, "_scales.npy"), npyBytes("<f4", []int{tile.h, tile.w, bands}, data))
		a.check(t, rng, 10, tile)
	})
	t.Run("no landmask", func(t *testing.T) {
		tile := newTile(rng, rect)
		a := newArchive(t, Fail, window, tile)
		a.check(t, rng, 3, tile)
		if w := a.mosaic.Journal.Warnings(); len(w) != 1 || w[0].Object != "tile0.tiff" || w[0].Count != 1 {
			t.Errorf("warnings are %+v, not one about tile0.tiff", w)
		}
	})
}

// A fault is what happens to tile 1 of two; after it tile 0 must read, and tile 1 must fail or,
// under Fill, vanish or shrink.
var faults = []struct {
	name   string
	spoil  func(tb testing.TB, a *archive, t *testTile)
	want   error
	reason string                 // part of what is logged
	fill   func(t *testTile) bool // what is left of the tile under Fill; nil: nothing
}{
	{name: "embeddings missing", spoil: func(tb testing.TB, a *archive, _ *testTile) { os.Remove(a.path(1, ".npy")) }, want: vfs.ErrDamaged, reason: "no such file"},
	{name: "scales missing", spoil: func(tb testing.TB, a *archive, _ *testTile) { os.Remove(a.path(1, "_scales.npy")) }, want: vfs.ErrDamaged, reason: "no such file"},
	{name: "embeddings truncated", spoil: func(tb testing.TB, a *archive, t *testTile) {
		os.Truncate(a.path(1, ".npy"), int64(len(t.embeddings)/2))
	}, want: vfs.ErrDamaged, reason: "truncated"},
	{name: "scales empty", spoil: func(tb testing.TB, a *archive, _ *testTile) { os.Truncate(a.path(1, "_scales.npy"), 0) }, want: vfs.ErrDamaged},
	{name: "header cut", spoil: func(tb testing.TB, a *archive, _ *testTile) { os.Truncate(a.path(1, ".npy"), 40) }, want: vfs.ErrDamaged},
	{name: "not an NPY", spoil: func(tb testing.TB, a *archive, t *testTile) {
		put(tb, a.path(1, ".npy"), bytes.Repeat([]byte("<html>"), 5000))
	}, want: vfs.ErrDamaged},
	{name: "wrong bands", spoil: func(tb testing.TB, a *archive, t *testTile) {
		put(tb, a.path(1, ".npy"), npyBytes("|i1", []int{t.h, t.w, 64}, t.embeddings[:t.h*t.w*64]))
	}, want: vfs.ErrDamaged, reason: "128"},
	{name: "wrong type", spoil: func(tb testing.TB, a *archive, t *testTile) {
		put(tb, a.path(1, ".npy"), npyBytes("<f4", []int{t.h, t.w / 4, grid.Bands}, t.embeddings))
	}, want: vfs.ErrDamaged, reason: "<f4"},
	{name: "scales of another shape", spoil: func(tb testing.TB, a *archive, t *testTile) {
		put(tb, a.path(1, "_scales.npy"), npyBytes("<f4", []int{t.h, t.w - 1}, make([]byte, t.h*(t.w-1)*4)))
	}, want: vfs.ErrDamaged, reason: "shape"},
	{name: "header claims the world", spoil: func(tb testing.TB, a *archive, t *testTile) {
		put(tb, a.path(1, ".npy"), npyBytes("|i1", []int{1 << 40, 1 << 40, grid.Bands}, t.embeddings))
	}, want: vfs.ErrDamaged},
	{name: "other size than catalogued", spoil: func(tb testing.TB, a *archive, t *testTile) {
		a.block.Tiles[1].EmbeddingsBytes = 12345
	}, want: vfs.ErrChanged, reason: "12345"},
	{name: "landmask of another shape", spoil: func(tb testing.TB, a *archive, t *testTile) {
		put(tb, a.path(1, ".tiff"), maskBytes(tb, make([]byte, (t.h-1)*t.w), t.h-1, t.w))
	}, want: vfs.ErrDamaged, reason: "landmask", fill: func(t *testTile) bool { t.land = nil; return true }},
	{name: "landmask is noise", spoil: func(tb testing.TB, a *archive, t *testTile) {
		put(tb, a.path(1, ".tiff"), []byte("II*\x00\xff\xff\xff\xff and more"))
	}, want: vfs.ErrDamaged},
	{name: "array smaller than the footprint", spoil: func(tb testing.TB, a *archive, t *testTile) {
		small := newTile(rand.New(rand.NewPCG(9, 9)), grid.Rect{Height: t.h - 7, Width: t.w - 3})
		small.rect, small.land = t.rect, nil
		small.write(tb, a, 1)
		os.Remove(a.path(1, ".tiff"))
		*t = *small
	}, want: vfs.ErrDamaged, reason: "smaller", fill: func(t *testTile) bool { return true }},
}

// Catches: a failure that becomes fill, a good tile that suffers for a bad one, a bad tile that is
// not named, or named on every read.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		for _, policy := range []Policy{Fail, Fill} {
			t.Run(fmt.Sprintf("%s/%v", f.name, policy), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(3, 1))
				window := grid.Rect{Height: 40, Width: 100}
				// They overlap in columns 50 … 59; below row 30 there is only the first.
				good := newTile(rng, grid.Rect{Width: 60, Height: 40})
				bad := newTile(rng, grid.Rect{Col: 50, Width: 50, Height: 30})
				bad.spoil(rng)
				a := newArchive(t, policy, window, good, bad)
				f.spoil(t, a, bad)

				if policy == Fail || f.want == vfs.ErrChanged {
					for range 3 {
						if _, err := a.embeddings(t, 5000, 60*grid.Bands); !errors.Is(err, f.want) {
							t.Fatalf("embeddings: error is %v, not %v", err, f.want)
						}
						if err := a.mosaic.Scales(t.Context(), &a.block, make([]byte, 4000), 0); !errors.Is(err, f.want) {
							t.Fatalf("scales: error is %v, not %v", err, f.want)
						}
					}
					rest := a.block
					rest.Window = grid.Rect{Row: 30, Height: 10, Width: 100}
					want, _ := paint(&rest, good)
					got := make([]byte, len(want))
					if err := a.mosaic.Embeddings(t.Context(), &rest, got, 0); err != nil {
						t.Fatalf("rows without the bad tile: %v", err)
					}
					if !bytes.Equal(got, want) {
						t.Error("rows without the bad tile: differ")
					}
				} else if f.fill != nil && f.fill(bad) {
					a.check(t, rng, 20, good, bad)
				} else {
					a.check(t, rng, 20, good)
				}

				if f.fill == nil {
					if err := a.mosaic.Check(t.Context(), &a.block); err == nil {
						t.Error("Check finds nothing, so a front door would keep the fill")
					}
				}
				list, _ := a.mosaic.Journal.Failures()
				if len(list) != 1 || !strings.HasPrefix(list[0].Object, "tile1") || !strings.Contains(list[0].Reason, f.reason) {
					t.Errorf("failures are %+v, not one of tile1 with %q", list, f.reason)
				}
				if n := strings.Count(a.log.String(), "level=ERROR"); n != 1 {
					t.Errorf("%d lines logged, not one:\n%s", n, a.log)
				}
			})
		}
	}
}

// Catches: new bytes under old validity, which would be neither the old store nor the new.
func TestTileChangesUnderTheMount(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 1))
	for _, suffix := range []string{".npy", "_scales.npy", ".tiff"} {
		t.Run(suffix, func(t *testing.T) {
			tile := newTile(rng, grid.Rect{Height: 20, Width: 40})
			tile.spoil(rng)
			a := newArchive(t, Fill, grid.Rect{Height: 20, Width: 40}, tile)
			a.check(t, rng, 3, tile)
			data, err := os.ReadFile(a.path(0, suffix))
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)-1] ^= 1
			put(t, a.path(0, suffix), data)
			later := time.Now().Add(time.Minute)
			if err := os.Chtimes(a.path(0, suffix), later, later); err != nil {
				t.Fatal(err)
			}
			// Fill is for what cannot be read; what was changed is never filled either.
			if _, err := a.embeddings(t, 100, 0); !errors.Is(err, vfs.ErrChanged) {
				t.Errorf("embeddings: error is %v, not ErrChanged", err)
			}
			if err := a.mosaic.Scales(t.Context(), &a.block, make([]byte, 100), 0); !errors.Is(err, vfs.ErrChanged) {
				t.Errorf("scales: error is %v, not ErrChanged", err)
			}
			if err := a.mosaic.Check(t.Context(), &a.block); !errors.Is(err, vfs.ErrChanged) {
				t.Errorf("Check: error is %v, not ErrChanged", err)
			}
		})
	}
}

// Catches: an interrupted reader that is answered with anything but its interruption, or whose
// interruption is written down as the tile's fault.
func TestInterruptedRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	tile := newTile(rng, grid.Rect{Height: 20, Width: 40})
	a := newArchive(t, Fail, grid.Rect{Height: 20, Width: 40}, tile)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.mosaic.Embeddings(ctx, &a.block, make([]byte, 10), 0); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, not context.Canceled", err)
	}
	if list, _ := a.mosaic.Journal.Failures(); len(list) != 0 {
		t.Errorf("an interruption was written down: %+v", list)
	}
	a.check(t, rng, 3, tile)
}

// BenchmarkEmbeddings reads a block of 1024 × 1024 pixels in steps of 1 MiB.
func BenchmarkEmbeddings(b *testing.B) {
	rng := rand.New(rand.NewPCG(6, 1))
	tiles := []*testTile{newTile(rng, grid.Rect{Height: 1024, Width: 700}), newTile(rng, grid.Rect{Col: 700, Height: 1024, Width: 324})}
	a := newArchive(b, Fail, grid.Rect{Height: 1024, Width: 1024}, tiles...)
	scratch := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for i := 0; b.Loop(); i++ {
		if err := a.mosaic.Embeddings(b.Context(), &a.block, scratch, int64(i%128)<<20); err != nil {
			b.Fatal(err)
		}
	}
}

// Catches: scales that cost a distant source's round trip of their own after their embeddings were read, and ones that are
// fetched where nobody said they would be wanted.
func TestScalesAreExpected(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	rect := grid.Rect{Row: 100, Col: 200, Height: 512, Width: 300}
	a := newArchiveOf(t, tilecache.Config{Memory: 32 << 20}, Fail, rect, newTile(rng, rect))
	a.block.AsStored = true
	window := grid.Rect{Row: 228, Col: 200, Height: 64, Width: 300}
	fetched := func() int64 {
		for a.mosaic.objects.Stats().Fetches > 0 {
			time.Sleep(time.Millisecond)
		}
		return a.mosaic.objects.Stats().BytesFetched
	}
	waitedFor := func() int64 { return fetched() - a.mosaic.objects.Stats().AheadBytes }
	block := a.block
	block.Window = window
	embeddings := make([]byte, 64*300*grid.Bands)
	if err := a.mosaic.Embeddings(t.Context(), &block, embeddings, 0); err != nil {
		t.Fatal(err)
	}
	without := fetched()
	block.Scales = grid.Rect{Row: 240, Col: 200, Height: 230, Width: 64} // Rows that validity is worked out in are 256.
	if err := a.mosaic.Embeddings(t.Context(), &block, embeddings, 0); err != nil {
		t.Fatal(err)
	}
	with := fetched()
	if rows := int64(256 * 300 * 4); with-without < rows || with-without > rows+3<<14 {
		t.Errorf("%d bytes more are fetched for scales of %d", with-without, rows)
	}
	before := waitedFor()
	block.Window = block.Scales
	if err := a.mosaic.Scales(t.Context(), &block, make([]byte, 230*64*4), 0); err != nil {
		t.Fatal(err)
	}
	if after := waitedFor(); after != before {
		t.Errorf("a reader waited for %d bytes of scales that were expected", after-before)
	}
}

// Catches: a reader of a whole chunk who waits for each tile that he comes to, for its scales and then for its first rows; and
// one of a few bytes for whom all of that is fetched.
func TestRestIsExpected(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	rect := grid.Rect{Row: 100, Col: 200, Height: 1024, Width: 300}
	upper, lower := rect, rect
	upper.Height, lower.Height = 600, 424
	lower.Row += 600
	tiles := []*testTile{newTile(rng, upper), newTile(rng, lower)}
	a := newArchiveOf(t, tilecache.Config{Memory: 128 << 20}, Fail, rect, tiles...)
	objects := a.mosaic.objects
	waitedFor := func() int64 {
		a.mosaic.ahead.Wait()
		for objects.Stats().Fetches > 0 {
			time.Sleep(time.Millisecond)
		}
		return objects.Stats().SourcePages<<14 - objects.Stats().AheadBytes
	}
	read := func(off, n int64) {
		t.Helper()
		if err := a.mosaic.Embeddings(t.Context(), &a.block, make([]byte, n), off); err != nil {
			t.Fatal(err)
		}
	}
	read(0, 1000)
	waitedFor()
	if n := objects.Stats().AheadBytes; n > 1<<20 {
		t.Errorf("%d bytes are fetched ahead of a reader of 1,000", n)
	}
	read(0, readOn)
	read(readOn, 1<<20)
	before := waitedFor()
	row := int64(300 * grid.Bands)
	read(600*row, 20*row)
	read(620*row, 40*row)
	if after := waitedFor(); after-before > 4<<14 { // the last pages of objects are short
		t.Errorf("a reader waited for %d bytes of the tile below", after-before)
	}
	a.check(t, rng, 3, tiles...)
}
