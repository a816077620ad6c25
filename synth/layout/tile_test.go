package layout

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
)

// Catches: a document that differs in anything from what zarr-python, pyproj and CF make of the same
// store, on either hemisphere. testdata/make_tile.py writes the goldens with them.
func TestTileDocumentsAreZarrPythons(t *testing.T) {
	for golden, about := range map[string]subject{
		"tile_north.json": {"v1", "1.0", "vultr", catalogue.Tile{Cell: grid.Cell{Lon: 15, Lat: 5205}, Year: 2024,
			ModTime: time.Date(2026, 1, 5, 12, 34, 56, 0, time.UTC)}},
		"tile_south.json": {"mine", "", "", catalogue.Tile{Cell: grid.Cell{Lon: -7065, Lat: -3345}, Year: 2017, ModTime: time.Unix(0, 0)}},
	} {
		want, err := os.ReadFile("testdata/" + golden)
		if err != nil {
			t.Fatal(err)
		}
		prints, err := grid.Footprints([]grid.Cell{about.tile.Cell})
		if err != nil {
			t.Fatal(err)
		}
		documents, err := tileDocuments(about, prints[0].Grid())
		if err != nil {
			t.Fatal(err)
		}
		got := bytes.Split(documents[""], []byte("\n"))
		for i, line := range bytes.Split(want, []byte("\n")) {
			if i >= len(got) || !bytes.Equal(got[i], line) {
				t.Fatalf("%s, line %d:\n got %s\nwant %s", golden, i+1, got[min(i, len(got)-1)], line)
			}
		}
		if len(documents[""]) != len(want) {
			t.Errorf("%s: %d bytes, want %d", golden, len(documents[""]), len(want))
		}
	}
}

// BenchmarkTileDocuments works out what is known of a store when somebody looks into it.
func BenchmarkTileDocuments(b *testing.B) {
	cell := grid.Cell{Lon: 15, Lat: 5205}
	b.ReportAllocs()
	for b.Loop() {
		prints, err := grid.Footprints([]grid.Cell{cell})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tileDocuments(subject{"v1", "1.0", "vultr", catalogue.Tile{Cell: cell, Year: 2024}}, prints[0].Grid()); err != nil {
			b.Fatal(err)
		}
	}
}
