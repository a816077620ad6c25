package layout

import (
	"bytes"
	"os"
	"testing"

	"github.com/tesserafs/tesserafs/grid"
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
