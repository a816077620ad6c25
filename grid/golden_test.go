package grid

import (
	"compress/gzip"
	"encoding/csv"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// golden is one line of testdata/cells.csv.gz: what pyproj and the rules make of a cell.
type golden struct {
	foot                   Footprint
	zone, epsg             int
	row, col               int // in the lattice of the file's cells of that zone
	row0, row1, col0, col1 int // first and last chunk touched
}

// goldenChunk is the chunk size the golden file was made with.
const goldenChunk = 1024

func readCSV(t testing.TB, r io.Reader) [][]string {
	t.Helper()
	lines, err := csv.NewReader(r).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func readCSVFile(t testing.TB, name string) [][]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return readCSV(t, f)
}

func atoi(t testing.TB, s string) int {
	t.Helper()
	v, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func atof(t testing.TB, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func readGolden(t testing.TB) []golden {
	t.Helper()
	f, err := os.Open("testdata/cells.csv.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []golden
	for _, l := range readCSV(t, z) {
		n := make([]int, len(l))
		for i, s := range l {
			if i != 4 && i != 5 {
				n[i] = atoi(t, s)
			}
		}
		out = append(out, golden{
			foot: Footprint{
				Cell:     Cell{int16(n[0]), int16(n[1])},
				Easting:  atof(t, l[4]),
				Northing: atof(t, l[5]),
				Height:   n[6],
				Width:    n[7],
			},
			zone: n[2], epsg: n[3], row: n[8], col: n[9],
			row0: n[10], row1: n[11], col0: n[12], col1: n[13],
		})
	}
	if len(out) != 20_000 {
		t.Fatalf("%d cells in the golden file, want 20000", len(out))
	}
	return out
}

func cellsOf(lines []golden) []Cell {
	cells := make([]Cell, len(lines))
	for i, l := range lines {
		cells[i] = l.foot.Cell
	}
	return cells
}

// TestFootprintsGolden would catch any departure from pyproj: another zone or hemisphere, corners
// computed otherwise, another rounding, a coordinate mixed up in the batch. Sizes must be equal;
// origins may differ by what PROJ versions differ by.
func TestFootprintsGolden(t *testing.T) {
	lines := readGolden(t)
	got, err := Footprints(cellsOf(lines))
	if err != nil {
		t.Fatal(err)
	}
	var worst float64
	for i, l := range lines {
		f := got[i]
		off := max(math.Abs(f.Easting-l.foot.Easting), math.Abs(f.Northing-l.foot.Northing))
		worst = max(worst, off)
		if !(off < 1e-6) {
			t.Errorf("%v: origin %v, %v; pyproj has %v, %v", l.foot.Cell, f.Easting, f.Northing, l.foot.Easting, l.foot.Northing)
		}
		if f.Cell != l.foot.Cell || f.Height != l.foot.Height || f.Width != l.foot.Width {
			t.Errorf("%v: %v %d × %d, want %d × %d", l.foot.Cell, f.Cell, f.Height, f.Width, l.foot.Height, l.foot.Width)
		}
		if f.Cell.Zone() != l.zone || f.EPSG() != l.epsg {
			t.Errorf("%v: zone %d, EPSG:%d, want %d, EPSG:%d", f.Cell, f.Cell.Zone(), f.EPSG(), l.zone, l.epsg)
		}
	}
	t.Logf("%d footprints, largest difference of an origin from pyproj's: %.3g m", len(lines), worst)
}

// TestPlacementGolden would catch a lattice snapped another way, placement by rounding (geotessera
// #429), southern northings on the wrong axis, and chunks that are missing, too many or hold the
// wrong tiles. It starts from our own footprints, so that it also shows that no difference
// between PROJ versions moves a tile by a pixel.
func TestPlacementGolden(t *testing.T) {
	lines := readGolden(t)
	all, err := Footprints(cellsOf(lines))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, z := range readCSVFile(t, "testdata/zones.csv") {
		zone := atoi(t, z[0])
		var want []golden
		var fps []Footprint
		for i, l := range lines {
			if l.zone == zone {
				want, fps = append(want, l), append(fps, all[i])
			}
		}
		g, err := ZoneYear(fps)
		if err != nil {
			t.Fatal(err)
		}
		if w := (Grid{zone, atof(t, z[1]), atof(t, z[2]), atoi(t, z[3]), atoi(t, z[4]), false}); g != w {
			t.Errorf("zone %d: %+v, want %+v", zone, g, w)
			continue
		}
		type under struct{ row, col, tile int }
		touched := map[under]bool{}
		rects := make([]Rect, len(fps))
		for i, l := range want {
			rects[i] = g.Place(fps[i])
			if w := (Rect{l.row, l.col, l.foot.Height, l.foot.Width}); rects[i] != w {
				t.Errorf("%v: placed at %+v, want %+v", l.foot.Cell, rects[i], w)
			}
			if rects[i].Intersect(Rect{0, 0, g.Height, g.Width}) != rects[i] {
				t.Errorf("%v: %+v reaches beyond %+v", l.foot.Cell, rects[i], g)
			}
			for r := l.row0; r <= l.row1; r++ {
				for c := l.col0; c <= l.col1; c++ {
					touched[under{r, c, i}] = true
				}
			}
		}
		chunks := NewChunks(g.Height, g.Width, goldenChunk, goldenChunk, rects)
		pairs := 0
		for _, r := range chunks.Rows() {
			for _, c := range chunks.Cols(r) {
				for _, i := range chunks.Tiles(r, c) {
					pairs++
					if !touched[under{r, c, int(i)}] {
						t.Errorf("zone %d chunk %d/%d: tile %v is not under it", zone, r, c, want[i].foot.Cell)
					}
				}
			}
		}
		if pairs != len(touched) {
			t.Errorf("zone %d: %d tiles under chunks, want %d", zone, pairs, len(touched))
		}
		seen += len(want)
	}
	if seen != len(lines) {
		t.Errorf("%d cells compared, want %d", seen, len(lines))
	}
}

// TestWKT would catch a template that is not PROJ's text, or a zone with another's number,
// meridian or code. The generator has checked that these texts are the EPSG systems.
func TestWKT(t *testing.T) {
	text, err := os.ReadFile("testdata/crs_30.wkt")
	if err != nil {
		t.Fatal(err)
	}
	rows := readCSVFile(t, "testdata/crs.csv")
	if len(rows) != Zones {
		t.Fatalf("%d zones in crs.csv", len(rows))
	}
	patterns := []string{`ID["EPSG",%]]`, `PROJCRS["%"`, `CONVERSION["%"`, `natural origin",%,ANGLEUNIT["degree",0.0174532925199433],ID["EPSG",8802]`}
	for i, row := range rows {
		want := strings.TrimSpace(string(text))
		for k, p := range patterns {
			old := strings.ReplaceAll(p, "%", rows[29][k+1])
			if strings.Count(want, old) != 1 {
				t.Fatalf("%s is not once in crs_30.wkt", old)
			}
			want = strings.ReplaceAll(want, old, strings.ReplaceAll(p, "%", row[k+1]))
		}
		if got := (Grid{Zone: i + 1}).WKT(); got != want {
			t.Errorf("zone %d:\ngot  %s\nwant %s", i+1, got, want)
		}
	}
}
