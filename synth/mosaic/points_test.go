package mosaic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/vfs"
)

// values is what was found of n points, with something in it that is no answer.
func values(n int) Values {
	v := Values{Embeddings: make([]int8, n*grid.Bands), Scales: make([]float32, n), Found: make([]Found, n)}
	for i := range n {
		v.Scales[i], v.Found[i] = -1, 99
	}
	return v
}

// checkPoints reads pixels of one tile, and compares them with what a block of it alone must hold.
func (a *archive) checkPoints(t *testing.T, rng *rand.Rand, points *Mosaic, i int, tile *testTile) {
	t.Helper()
	block := Block{Window: tile.rect}
	wantE, wantS := paint(&block, tile)
	var at []Pixel
	for range 300 {
		at = append(at, Pixel{Row: int32(rng.IntN(tile.rect.Height + 4)), Col: int32(rng.IntN(tile.rect.Width+4) - 2)})
	}
	at = append(at, at[:20]...) // twice the same
	slices.SortFunc(at, func(p, q Pixel) int {
		return int(p.Row-q.Row)*10_000 + int(p.Col-q.Col)
	})
	for n := range at {
		at[n].Number = int32(len(at) - 1 - n)
	}
	got := values(len(at))
	if err := points.Points(t.Context(), a.block.Tiles[i], at, got); err != nil {
		t.Fatal(err)
	}
	for _, px := range at {
		inside := px.Col >= 0 && int(px.Row) < min(tile.h, tile.rect.Height) && int(px.Col) < min(tile.w, tile.rect.Width)
		if !inside {
			if got.Found[px.Number] != Absent {
				t.Fatalf("%+v beyond the tile: found %v", px, got.Found[px.Number])
			}
			continue
		}
		k := int(px.Row)*tile.rect.Width + int(px.Col)
		scale := math.Float32frombits(binary.LittleEndian.Uint32(wantS[4*k:]))
		if scale != scale {
			if got.Found[px.Number] != NoData {
				t.Fatalf("%+v is nodata: found %v", px, got.Found[px.Number])
			}
			continue
		}
		if got.Found[px.Number] != Data || got.Scales[px.Number] != scale {
			t.Fatalf("%+v: found %v with scale %v, want %v", px, got.Found[px.Number], got.Scales[px.Number], scale)
		}
		for b, v := range got.Embeddings[int(px.Number)*grid.Bands:][:grid.Bands] {
			if byte(v) != wantE[k*grid.Bands+b] {
				t.Fatalf("%+v band %d: %d, want %d", px, b, v, int8(wantE[k*grid.Bands+b]))
			}
		}
	}
}

// Catches: a point's value that is not the pixel's in the store, values that land at another point,
// pixels beyond an array, gaps between points taken for them.
func TestPoints(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 2))
		tile := newTile(rng, grid.Rect{Row: 7, Col: 9, Height: 30 + rng.IntN(90), Width: 20 + rng.IntN(80)})
		if seed%2 == 0 {
			tile.spoil(rng)
		}
		tile.rect.Height -= int(seed % 3) // an array larger than its footprint
		tile.land = map[bool][]byte{true: tile.land}[seed%3 == 0]
		a := newArchive(t, Fail, tile.rect, tile)
		points := a.mosaic
		for range 3 {
			a.checkPoints(t, rng, points, 0, tile)
		}
	}
}

// Catches: 3-D scales read as one scale a pixel, or a maximum that is of another pixel.
func TestPointsWithABandAxis(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	tile := newTile(rng, grid.Rect{Height: 30, Width: 40})
	a := newArchive(t, Fail, tile.rect, tile)
	const bands = 7
	var data []byte
	for i := range tile.scales {
		tile.scales[i] = float32(math.NaN())
		for b := range bands {
			v := rng.Float32()
			if (i+b)%3 == 0 || i%11 == 0 {
				v = float32(math.NaN())
			}
			if v > tile.scales[i] || tile.scales[i] != tile.scales[i] {
				tile.scales[i] = v
			}
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	put(t, a.path(0, "_scales.npy"), npyBytes("<f4", []int{tile.h, tile.w, bands}, data))
	a.checkPoints(t, rng, a.mosaic, 0, tile)
}

// Catches: a bad tile whose points are nodata, under either policy; one that is not named; and what
// is right of a tile in part, given up under Fill.
func TestPointsOfBadTiles(t *testing.T) {
	for _, f := range faults {
		for _, policy := range []Policy{Fail, Fill} {
			t.Run(fmt.Sprintf("%s/%v", f.name, policy), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(3, 2))
				good, bad := newTile(rng, grid.Rect{Height: 20, Width: 30}), newTile(rng, grid.Rect{Height: 25, Width: 30})
				bad.spoil(rng)
				a := newArchive(t, policy, grid.Rect{Height: 40, Width: 40}, good, bad)
				f.spoil(t, a, bad)
				points := a.mosaic
				a.checkPoints(t, rng, points, 0, good)

				at, got := []Pixel{{Row: 2, Col: 3, Number: 1}, {Row: 24, Col: 29}}, values(2)
				err := points.Points(t.Context(), a.block.Tiles[1], at, got)
				switch {
				case policy == Fail || f.want == vfs.ErrChanged:
					if !errors.Is(err, f.want) || !strings.Contains(err.Error(), "tile1") {
						t.Fatalf("error is %v, not %v of tile1", err, f.want)
					}
				case f.fill != nil && f.fill(bad):
					a.checkPoints(t, rng, points, 1, bad)
				case err != nil || got.Found[0] != Absent || got.Found[1] != Absent:
					t.Errorf("found %v (%v), not nothing", got.Found, err)
				}
				list, _ := a.mosaic.Journal.Failures()
				if len(list) != 1 || !strings.HasPrefix(list[0].Object, "tile1") || !strings.Contains(list[0].Reason, f.reason) {
					t.Errorf("failures are %+v, not one of tile1 with %q", list, f.reason)
				}
			})
		}
	}
}

// Catches: new bytes under an old landmask, and the other way round; a change that is filled.
func TestPointsOfATileThatChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	for _, suffix := range []string{".npy", "_scales.npy", ".tiff"} {
		tile := newTile(rng, grid.Rect{Height: 20, Width: 40})
		tile.spoil(rng)
		a := newArchive(t, Fill, tile.rect, tile)
		points := a.mosaic
		a.checkPoints(t, rng, points, 0, tile)
		data, err := os.ReadFile(a.path(0, suffix))
		if err != nil {
			t.Fatal(err)
		}
		put(t, a.path(0, suffix), data)
		later := time.Now().Add(time.Minute)
		if err := os.Chtimes(a.path(0, suffix), later, later); err != nil {
			t.Fatal(err)
		}
		err = points.Points(t.Context(), a.block.Tiles[0], []Pixel{{Row: 3, Col: 4}}, values(1))
		if !errors.Is(err, vfs.ErrChanged) {
			t.Errorf("%s: error is %v, not ErrChanged", suffix, err)
		}
	}
}

// Catches: an interruption written down as a tile's fault.
func TestInterruptedPoints(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 2))
	tile := newTile(rng, grid.Rect{Height: 20, Width: 40})
	a := newArchive(t, Fill, tile.rect, tile)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := a.mosaic.Points(ctx, a.block.Tiles[0], []Pixel{{Row: 3, Col: 4}}, values(1))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, not context.Canceled", err)
	}
	if list, _ := a.mosaic.Journal.Failures(); len(list) != 0 {
		t.Errorf("an interruption was written down: %+v", list)
	}
}

// Catches: a tile that is read whole for a few points, which over a network would cost 150 MB.
func TestPointsReadLittle(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 2))
	tile := newTile(rng, grid.Rect{Height: 500, Width: 400})
	a := newArchive(t, Fail, tile.rect, tile)
	points := a.mosaic
	before := a.mosaic.objects.Stats().BytesRead
	for i := range int32(5) {
		if err := points.Points(t.Context(), a.block.Tiles[0], []Pixel{{Row: 90 * i, Col: 70 * i}}, values(1)); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.mosaic.objects.Stats().BytesRead - before; n > 5*132+256 {
		t.Errorf("5 points read %d bytes", n)
	}
}

// Catches: a tile whose scales are read whole for a pixel of its embeddings, which is 5 MB over a network;
// scales that are read where nothing depends on them; and strips that are worked out again.
func TestPixelsReadLittle(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 2))
	tile := newTile(rng, grid.Rect{Height: 500, Width: 400})
	tile.spoil(rng)
	a := newArchive(t, Fail, tile.rect, tile)
	asStored := a.block
	asStored.AsStored = true
	pixel := make([]byte, grid.Bands)
	read := func(b *Block, row int) int64 {
		before := a.mosaic.objects.Stats().BytesRead
		if err := a.mosaic.Embeddings(t.Context(), b, pixel, int64(row*400+7)*grid.Bands); err != nil {
			t.Fatal(err)
		}
		return a.mosaic.objects.Stats().BytesRead - before
	}
	read(&asStored, 1) // headers and landmask
	for i, c := range []struct {
		block *Block
		row   int
		want  int64
	}{
		{&asStored, 70, grid.Bands},
		{&a.block, 70, grid.Bands + stripRows*400*4},
		{&a.block, 71, grid.Bands},
		{&a.block, 499, grid.Bands + (500-448)*400*4},
	} {
		// Nothing is read where all of it is known to be no data.
		if got := read(c.block, c.row); got > c.want {
			t.Errorf("read %d took %d bytes, not %d", i, got, c.want)
		}
	}
}

// BenchmarkPoints reads 2,000 points of a tile of the usual size.
func BenchmarkPoints(b *testing.B) {
	rng := rand.New(rand.NewPCG(8, 2))
	tile := newTile(rng, grid.Rect{Height: 1113, Width: 700})
	a := newArchive(b, Fail, tile.rect, tile)
	points := a.mosaic
	const n = 2000
	at := make([]Pixel, n)
	for i := range at {
		at[i] = Pixel{Row: int32(i * 1113 / n), Col: int32(rng.IntN(700)), Number: int32(i)}
	}
	got := values(n)
	b.ReportAllocs()
	for b.Loop() {
		if err := points.Points(b.Context(), a.block.Tiles[0], at, got); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/point")
}
