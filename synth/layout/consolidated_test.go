package layout

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/mosaic"
)

// Catches: a document that differs in anything from what zarr-python, pyproj and CF make of the same
// store. testdata/make_consolidated.py writes the goldens with them.
func TestConsolidatedDocumentsAreZarrPythons(t *testing.T) {
	c := &Consolidated{model: "2.0", years: []int{2017, 2024}, arrays: pixelArrays("2.0", 32, 256)}
	grids := []grid.Grid{
		{Zone: 30, Easting: 600000, Northing: 5800000, Height: 8192, Width: 4096},
		{Zone: 5, Easting: 400000, Northing: -20000, Height: 4096, Width: 4096},
	}
	root, err := c.describeRoot(grids)
	if err != nil {
		t.Fatal(err)
	}
	zone, err := c.describeZone(grids[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"root": root, "utm30": zone[""]} {
		want, err := os.ReadFile("testdata/consolidated_" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		gotLines, wantLines := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
		for i := range min(len(gotLines), len(wantLines)) {
			if !bytes.Equal(gotLines[i], wantLines[i]) {
				t.Fatalf("%s: line %d:\n got %s\nwant %s", name, i+1, gotLines[i], wantLines[i])
			}
		}
		if len(gotLines) != len(wantLines) {
			t.Fatalf("%s: %d lines, want %d", name, len(gotLines), len(wantLines))
		}
	}
}

// Catches: prefix arrays in datasets whose bands are in no order of importance, and other sides than
// geotessera's for its own inner chunks of 32 px.
func TestPixelArrays(t *testing.T) {
	for version, want := range map[string]int{"": 2, "1.0": 2, "1.1": 2, "beta": 2, "2.0": 4, "2.1": 4, "10.0": 4} {
		if got := pixelArrays(version, 64, 256); len(got) != want || got[0].bands != grid.Bands || got[want-1].name != "scales" {
			t.Errorf("version %q: %v", version, got)
		}
	}
	for _, c := range []struct{ bands, side, want int }{
		{4, 32, 128}, {16, 32, 64}, {4, 64, 256}, {16, 64, 128}, {4, 16, 64}, {4, 4096, 4096}, {16, 2048, 4096},
	} {
		if got := depthInnerChunk(c.bands, c.side); got != c.want {
			t.Errorf("%d bands at %d px: %d px, want %d", c.bands, c.side, got, c.want)
		}
	}
}

// Catches: inner chunks that do not fit their shard, or whose index is too large to make.
func TestCheckInnerChunk(t *testing.T) {
	for side, fits := range map[int]bool{
		16: true, 32: true, 64: true, 4096: true, 0: false, -64: false, 1: false, 8: false, 48: false, 100: false, 8192: false,
	} {
		if err := CheckInnerChunk(side); (err == nil) != fits {
			t.Errorf("%d px: %v", side, err)
		}
	}
}

// Catches: an inner chunk made of tiles that do not touch it, without one that does, or in another order
// than they overlay one another; and an inner chunk that is counted and touches none.
func TestInnerBlocks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := &shard{side: 256, innerBytes: 1, pixelBytes: 1}
	s.Window = grid.Rect{Row: 8192, Col: 4096, Height: grid.ShardPixels, Width: grid.ShardPixels}
	for i := range 40 {
		r := grid.Rect{Row: 7800 + random.IntN(4800), Col: 3700 + random.IntN(4800), Height: 700, Width: 500}
		if !r.Intersect(s.Window).Empty() {
			s.Rects = append(s.Rects, r)
			s.Tiles = append(s.Tiles, mosaic.Tile{Embeddings: strconv.Itoa(i)})
		}
	}
	s.layout = s.innerChunks()
	found := 0
	for i := range 16 * 16 {
		window := grid.Rect{Row: 8192 + i/16*256, Col: 4096 + i%16*256, Height: 256, Width: 256}
		var want mosaic.Block
		for k, r := range s.Rects {
			if !r.Intersect(window).Empty() {
				want.Rects, want.Tiles = append(want.Rects, r), append(want.Tiles, s.Tiles[k])
			}
		}
		if len(want.Tiles) == 0 {
			continue
		}
		got := s.inner(found)
		if got.Window != window || !slices.Equal(got.Rects, want.Rects) || !slices.Equal(got.Tiles, want.Tiles) || !got.AsStored {
			t.Errorf("number %d is %+v, want %+v over %+v", found, got, window, want.Tiles)
		}
		found++
	}
	if s.layout.Len() != found {
		t.Errorf("%d inner chunks, want %d", s.layout.Len(), found)
	}
}
