package grid

import (
	"math"
	"os"
	"strings"
	"testing"
)

// TestTileGolden would catch a lattice of a tile that is not where pyproj and the rules put it, a
// southern one on the northern axis, and limits in degrees that leave out a pixel, are wider than
// they must be, or go round the globe where a tile reaches over the antimeridian.
func TestTileGolden(t *testing.T) {
	rows := readCSVFile(t, "testdata/tile.csv")
	if len(rows) != 400 {
		t.Fatalf("%d tiles in tile.csv", len(rows))
	}
	for _, row := range rows {
		c, err := NewCell(atoi(t, row[0]), atoi(t, row[1]))
		if err != nil {
			t.Fatal(err)
		}
		prints, err := Footprints([]Cell{c})
		if err != nil {
			t.Fatal(err)
		}
		g := prints[0].Grid()
		want := Grid{Zone: c.Zone(), Easting: atof(t, row[2]), Northing: atof(t, row[3]), Height: atoi(t, row[4]), Width: atoi(t, row[5]), South: c.South()}
		if g != want {
			t.Errorf("%v: %+v, want %+v", c, g, want)
		}
		if g.EPSG() != prints[0].EPSG() {
			t.Errorf("%v: EPSG:%d, its footprint's is EPSG:%d", c, g.EPSG(), prints[0].EPSG())
		}
		b, err := g.Bounds()
		if err != nil {
			t.Errorf("%v: %v", c, err)
		}
		for i, got := range []float64{b.West, b.South, b.East, b.North} {
			if want := atof(t, row[6+i]); !(math.Abs(got-want) < 1e-7) {
				t.Errorf("%v: limits %+v, want %v", c, b, row[6:])
				break
			}
		}
	}
}

// TestTileIsWhereItsZoneHasIt would catch a tile whose pixels lie elsewhere by itself than in the
// store of its zone.
func TestTileIsWhereItsZoneHasIt(t *testing.T) {
	cells := []Cell{{-15, 5215}, {-5, 5215}, {-5, 5225}, {-5, -5225}, {-105, -15}, {-295, 8355}}
	prints, err := Footprints(cells)
	if err != nil {
		t.Fatal(err)
	}
	zone, err := ZoneYear(prints)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prints {
		own, placed := f.Grid(), zone.Place(f)
		northing := own.NorthingAt(0)
		if own.South {
			northing -= SouthernNorthing
		}
		if own.EastingAt(0) != zone.EastingAt(placed.Col) || northing != zone.NorthingAt(placed.Row) {
			t.Errorf("%v: first pixel at %v, %v; in the zone at %v, %v", f.Cell, own.EastingAt(0), northing, zone.EastingAt(placed.Col), zone.NorthingAt(placed.Row))
		}
	}
}

// TestSouthernWKT would catch a text that is not PROJ's of EPSG:327ZZ.
func TestSouthernWKT(t *testing.T) {
	want, err := os.ReadFile("testdata/crs_30_south.wkt")
	if err != nil {
		t.Fatal(err)
	}
	if got := (Grid{Zone: 30, South: true}).WKT(); got != strings.TrimSpace(string(want)) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
