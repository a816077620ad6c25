package mosaic

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// Catches: a tile that reads refuse and Inspect passes, or the other way round.
func TestInspectAgreesWithReads(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 1))
			window := grid.Rect{Height: 30, Width: 100}
			good, bad := newTile(rng, grid.Rect{Height: 30, Width: 40}), newTile(rng, grid.Rect{Col: 50, Height: 30, Width: 40})
			bad.spoil(rng)
			a := newArchive(t, Fail, window, good, bad)
			f.spoil(t, a, bad)
			for i, tile := range a.block.Tiles {
				in, err := a.mosaic.Inspect(t.Context(), tile)
				if err != nil {
					t.Fatal(err)
				}
				block := Block{Window: a.block.Rects[i], Tiles: a.block.Tiles[i : i+1], Rects: a.block.Rects[i : i+1]}
				reads := a.mosaic.Embeddings(t.Context(), &block, make([]byte, grid.Bands), 0)
				if (reads == nil) != (len(in.Faults) == 0) {
					t.Errorf("tile %d: faults %+v, but a read says %v", i, in.Faults, reads)
				}
				for _, fault := range in.Faults {
					if fault.Unseen {
						t.Errorf("tile %d: %s is unseen: %v", i, fault.Object, fault.Err)
					}
				}
			}
		})
	}
}

// memoryTile is a tile in memory, without a landmask, and a Mosaic over it.
func memoryTile(t *testing.T, height, width int) (*memsource.Source, *Mosaic, Tile) {
	t.Helper()
	src := memsource.New(map[string][]byte{
		"e.npy": npyBytes("|i1", []int{height, width, grid.Bands}, make([]byte, height*width*grid.Bands)),
		"s.npy": npyBytes("<f4", []int{height, width}, bytes.Repeat([]byte{0, 0, 0, 0x3f}, height*width)), // 0.5
	})
	cache := tilecache.New(src, tilecache.Config{})
	m, err := New(Config{Objects: cache})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(); cache.Close() })
	return src, m, Tile{Embeddings: "e.npy", Scales: "s.npy", Landmask: "l.tiff", EmbeddingsBytes: -1, ScalesBytes: -1, Height: height, Width: width}
}

// Catches: faults after the first one that are not told, told twice or in no order; faults made of
// what another fault brings about; an object that is right and is accused.
func TestInspectTellsAll(t *testing.T) {
	const h, w = 6, 5
	mask := func(h, w int) []byte { return maskBytes(t, bytes.Repeat([]byte{1}, h*w), h, w) }
	for _, tt := range []struct {
		name  string
		spoil func(src *memsource.Source, tile *Tile)
		want  []string
	}{
		{"right", func(*memsource.Source, *Tile) {}, nil},
		{"right with a landmask", func(src *memsource.Source, _ *Tile) { src.Put("l.tiff", mask(h, w)) }, nil},
		{"all missing", func(src *memsource.Source, _ *Tile) { src.Remove("e.npy"); src.Remove("s.npy") }, []string{"e.npy", "s.npy"}},
		{"all wrong", func(src *memsource.Source, _ *Tile) {
			src.Put("e.npy", []byte("<html>"))
			src.Put("s.npy", nil)
			src.Put("l.tiff", []byte("II*"))
		}, []string{"e.npy", "s.npy", "l.tiff"}},
		{"scales and landmask", func(src *memsource.Source, _ *Tile) {
			src.Put("s.npy", npyBytes("<f8", []int{h, w}, make([]byte, 8*h*w)))
			src.Put("l.tiff", mask(h+1, w))
		}, []string{"s.npy", "l.tiff"}},
		{"sizes", func(_ *memsource.Source, tile *Tile) { tile.EmbeddingsBytes, tile.ScalesBytes = 1, 2 }, []string{"e.npy", "s.npy"}},
		{"landmask alone", func(src *memsource.Source, _ *Tile) { src.Put("l.tiff", mask(h, w-1)) }, []string{"l.tiff"}},
		{"array too small, landmask as the footprint", func(src *memsource.Source, tile *Tile) {
			tile.Height++
			src.Put("l.tiff", mask(h+1, w))
		}, []string{"e.npy"}},
		{"no embeddings, landmask right", func(src *memsource.Source, _ *Tile) {
			src.Remove("e.npy")
			src.Put("l.tiff", mask(h, w))
		}, []string{"e.npy"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, m, tile := memoryTile(t, h, w)
			tt.spoil(src, &tile)
			in, err := m.Inspect(t.Context(), tile)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range in.Faults {
				got = append(got, f.Object)
				if f.Unseen {
					t.Errorf("%s is unseen: %v", f.Object, f.Err)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("faults of %v, want %v", got, tt.want)
			}
		})
	}
}

// Catches: a failure of the network, of a server or of a disk that is laid to the tile.
func TestInspectUnseen(t *testing.T) {
	for _, failure := range []error{source.ErrUnavailable, &source.Transient{Err: errors.New("reset")}, fs.ErrPermission, context.DeadlineExceeded,
		&net.OpError{Op: "read", Err: syscall.ECONNRESET}, &fs.PathError{Op: "read", Path: "/x", Err: syscall.EIO}, syscall.EIO, errors.New("HTTP 418")} {
		for _, object := range []string{"e.npy", "s.npy", "l.tiff"} {
			src, m, tile := memoryTile(t, 4, 4)
			src.Fail(object, failure)
			in, err := m.Inspect(t.Context(), tile)
			if err != nil || len(in.Faults) != 1 || in.Faults[0].Object != object || !in.Faults[0].Unseen {
				t.Errorf("%v of %s: got %+v, %v", failure, object, in.Faults, err)
			}
		}
	}
	_, m, tile := memoryTile(t, 4, 4)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Inspect(ctx, tile); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended: got %v", err)
	}
}

// Catches: scales counted otherwise than reads show them, pixels beyond the footprint, water or NaN
// among the odd ones, and a range of them that misses its ends.
func TestCountScales(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	for range 20 {
		tile := newTile(rng, grid.Rect{Height: 20 + rng.IntN(20), Width: 20 + rng.IntN(20)})
		tile.spoil(rng)
		a := newArchive(t, Fail, tile.rect, tile)
		in, err := a.mosaic.Inspect(t.Context(), a.block.Tiles[0])
		if err != nil || len(in.Faults) > 0 {
			t.Fatalf("%+v, %v", in.Faults, err)
		}
		got, err := a.mosaic.CountScales(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		shown := make([]byte, 4*len(tile.scales))
		if err := a.mosaic.Scales(t.Context(), &a.block, shown, 0); err != nil {
			t.Fatal(err)
		}
		var want ScaleCounts
		for i, s := range tile.scales {
			v := math.Float32frombits(binary.LittleEndian.Uint32(shown[4*i:]))
			if v == v {
				want.Data++
				continue
			}
			want.NoData++
			if f := float64(s); tile.land[i] != 0 && !math.IsNaN(f) && !math.IsInf(f, 0) {
				if want.Odd == 0 {
					want.Least, want.Most = s, s
				}
				want.Odd++
				want.Least, want.Most = min(want.Least, s), max(want.Most, s)
			}
		}
		if got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
}

// Catches: counts of scales that were replaced after they were judged.
func TestCountScalesChanged(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 1))
	tile := newTile(rng, grid.Rect{Height: 9, Width: 9})
	a := newArchive(t, Fail, tile.rect, tile)
	in, err := a.mosaic.Inspect(t.Context(), a.block.Tiles[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(a.path(0, "_scales.npy"), 200); err != nil {
		t.Fatal(err)
	}
	if got, err := a.mosaic.CountScales(t.Context(), in); !errors.Is(err, source.ErrChanged) {
		t.Errorf("got %+v, %v", got, err)
	}
}
