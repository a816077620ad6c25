package layout

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
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
	s := &shard{side: 256, scalesSide: 256, innerBytes: 1, pixelBytes: 1}
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

// Catches: a window of which each tile is opened only when its reader comes to it, a round trip to a distant
// source each time; tiles opened ahead of a pixel's reader, again and again, or of a near source; and scales
// that are fetched for other rows than those a reader wants next.
func TestTilesNearbyAreExpected(t *testing.T) {
	s := &shard{side: 64, scalesSide: 256, innerBytes: 64 * 64 * grid.Bands, pixelBytes: grid.Bands}
	s.Window = grid.Rect{Row: 4096, Col: 0, Height: grid.ShardPixels, Width: grid.ShardPixels}
	for i := range 16 { // 4 × 4
		s.Rects = append(s.Rects, grid.Rect{Row: 4096 + i/4*1024, Col: i % 4 * 1024, Height: 1024, Width: 1024})
		s.Tiles = append(s.Tiles, mosaic.Tile{Embeddings: strconv.Itoa(i), Scales: "scales", Landmask: "landmask"})
	}
	s.layout = s.innerChunks()
	// Inner chunks from the last column of tile 4 on, some rows above tile 8.
	first := int64(27*64+15) * s.innerBytes
	for _, memory := range []int64{0, 8 << 20} {
		synctest.Test(t, func(t *testing.T) {
			src := memsource.New(nil)
			objects := tilecache.New(src, tilecache.Config{Memory: memory})
			defer objects.Close()
			m, err := mosaic.New(mosaic.Config{Objects: objects})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			s.expected = make([]atomic.Bool, len(s.Tiles))
			for _, inner := range []int64{1, 20, 20} {
				s.expect(m, first, first+inner*s.innerBytes)
				synctest.Wait()
				var opened, want []int
				for i := range s.Tiles {
					for range src.Opens(strconv.Itoa(i)) {
						opened = append(opened, i)
					}
				}
				if memory > 0 && inner > 1 {
					want = []int{4, 5, 6, 8, 9, 10}
				}
				if !slices.Equal(opened, want) {
					t.Errorf("memory of %d bytes, after %d inner chunks tiles %v are open, want %v", memory, inner, opened, want)
				}
			}
		})
	}
	window := grid.Rect{Row: 4096 + 5*64, Col: 320, Height: 64, Width: 64}
	if got, want := s.scalesAround(window), (grid.Rect{Row: 4096 + 256, Col: 320, Height: 256, Width: 64}); got != want {
		t.Errorf("scales of %v, want %v", got, want)
	}
}

// Catches: a grid that is not the one of all cells, because a cell at its edge was left out: in whole
// zones, in parts of them, on one side of the equator or astride it, in one column or row.
func TestColumnEnds(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 8))
	for zone := 1; zone <= grid.Zones; zone++ {
		west, east := grid.ZoneLons(zone)
		lats := [][2]int{{-8995, 8995}, {5, 8395}, {-8995, -5}, {-95, 95}, {-5, 5}, {5, 5}, {-5, -5}}[random.IntN(7)]
		lists := make([][]grid.Cell, 1+random.IntN(3))
		ends := make([][]grid.Cell, len(lists))
		for i := range lists {
			keep := []float64{1, 0.5, 0.05, 0.001}[random.IntN(4)]
			first := west + 5 + 10*int16(random.IntN(60))
			lists[i] = []grid.Cell{{Lon: first, Lat: int16(lats[0])}} // at least one
			for lon := first; lon < east; lon += 10 {
				for lat := lats[0]; lat <= lats[1]; lat += 10 {
					if c := (grid.Cell{Lon: lon, Lat: int16(lat)}); random.Float64() < keep && c != lists[i][0] {
						lists[i] = append(lists[i], c)
					}
				}
			}
			ends[i] = columnEnds(lists[i])
			if n := len(ends[i]); n > 4*60 {
				t.Errorf("zone %d: %d cells remain of %d", zone, n, len(lists[i]))
			}
		}
		want, err := grid.Consolidated(lists...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := grid.Consolidated(ends...)
		if err != nil || got != want {
			t.Errorf("zone %d, latitudes %v: %+v, %v, want %+v", zone, lats, got, err, want)
		}
	}
	if got := columnEnds(nil); got != nil {
		t.Errorf("of nothing: %v", got)
	}
	// Away from the equator a cell lies nearer to the zone's middle: here one cell makes the grid's edge.
	for _, lat := range []int16{-5, 5} {
		cells := []grid.Cell{{Lon: 5, Lat: -8005}, {Lon: 5, Lat: lat}, {Lon: 5, Lat: 8005}}
		want, err := grid.Consolidated(cells)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := grid.Consolidated(columnEnds(cells)); err != nil || got != want {
			t.Errorf("with %v: %+v, %v, want %+v", cells[1], got, err, want)
		}
	}
}

// BenchmarkColumnEnds picks what the grid of a zone needs out of all its land, which it is measured
// against.
func BenchmarkColumnEnds(b *testing.B) {
	var cells []grid.Cell
	for lon := int16(5); lon < 600; lon += 10 {
		for lat := -5595; lat < 8365; lat += 20 {
			cells = append(cells, grid.Cell{Lon: lon, Lat: int16(lat)})
		}
	}
	for name, pick := range map[string]func([]grid.Cell) []grid.Cell{"Ends": columnEnds, "All": slices.Clone[[]grid.Cell]} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := grid.Consolidated(pick(cells)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
