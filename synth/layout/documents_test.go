package layout

import (
	"bytes"
	"os"
	"testing"

	"github.com/tesserafs/tesserafs/grid"
)

// Catches: a document that differs in anything from what zarr-python, pyproj and CF make of the
// same store. testdata/make_zoneyear.py writes the golden with them.
func TestZoneYearDocumentIsZarrPythons(t *testing.T) {
	want, err := os.ReadFile("testdata/zoneyear.json")
	if err != nil {
		t.Fatal(err)
	}
	s := &zoneYear{grid: grid.Grid{Zone: 30, Easting: 600000, Northing: 5800000, Height: 1500, Width: 2100}}
	documents, err := zoneDocuments("v1", zoneKey{year: 2024, zone: 30}, s)
	if err != nil {
		t.Fatal(err)
	}
	got := documents[""]
	if bytes.Equal(got, want) {
		return
	}
	gotLines, wantLines := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
	for i := range min(len(gotLines), len(wantLines)) {
		if !bytes.Equal(gotLines[i], wantLines[i]) {
			t.Fatalf("line %d:\n got %s\nwant %s", i+1, gotLines[i], wantLines[i])
		}
	}
	t.Fatalf("%d lines, want %d", len(gotLines), len(wantLines))
}
