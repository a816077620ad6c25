package main

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
)

// members says which cells are in a set, by their centres in hundredths of a degree, or how many
// where there are more than ten.
func (s *cellSet) members() string {
	n, all := 0, ""
	for at, word := range s.bits {
		n += bits.OnesCount64(word)
		for at *= 64; word != 0 && n <= 10; at, word = at+1, word>>1 {
			if word&1 != 0 {
				all += fmt.Sprintf(" %d,%d", at%cellColumns*10-17995, at/cellColumns*10-8995)
			}
		}
	}
	if n > 10 {
		return fmt.Sprint(n)
	}
	return strings.TrimSpace(all)
}

// Catches: a cell more or less at the borders of a box, which are seldom binary numbers; a box over
// the antimeridian taken for its complement; boxes that make no sense taken for others.
func TestBoxCells(t *testing.T) {
	for _, tt := range []struct {
		box  string
		want string // cells, or a number of them, or part of an error
	}{
		{"0,52,0.1,52.1", "5,5205"},
		{"0.3, 52.7 ,0.4,52.8", "35,5275"},
		{"-0.3,-0.1,-0.2,0", "-25,-5"},
		{"0.0999,52,0.2001,52.0001", "5,5205 15,5205 25,5205"},
		{"0.15,52.05,0.16,52.06", "15,5205"},
		{"0.05,52,0.1,52.1", "5,5205"},
		{"179.9,-90,180,-89.9", "17995,-8995"},
		{"179.85,89.9,-179.95,90", "-17995,8995 17985,8995 17995,8995"},
		{"180,0,-179.9,0.1", "-17995,5"},
		{"-180,-90,180,90", "6480000"},
		{"170,10,-170,10.1", "200"},
		{"0.1,0,0.1,1", "no area"},
		{"0,1,1,0", "no area"},
		{"0,0,1", "four numbers"},
		{"0,0,1,1,1", "four numbers"},
		{"0,0,1,x", "four numbers"},
		{"0,0,NaN,1", "degrees"},
		{"0,0,Inf,1", "degrees"},
		{"0,0,190,1", "±180"},
		{"500000,5800000,501000,5801000", "degrees"},
	} {
		set, err := boxCells(tt.box)
		got := ""
		if err != nil {
			if got = err.Error(); strings.Contains(got, tt.want) {
				continue
			}
		} else {
			got = set.members()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.box, got, tt.want)
		}
	}
}

// clipArea is the area of a ring within a square of side 1, by clipping it at one side after another
// (Sutherland and Hodgman), which leaves the area right though not the shape.
func clipArea(ring [][2]float64, col, row float64) float64 {
	for side := range 4 {
		inside := func(p [2]float64) float64 { // distance from the side, positive within
			return [4]float64{p[0] - col, col + 1 - p[0], p[1] - row, row + 1 - p[1]}[side]
		}
		var kept [][2]float64
		for i, p := range ring {
			q := ring[(i+1)%len(ring)]
			a, b := inside(p), inside(q)
			if a >= 0 {
				kept = append(kept, p)
			}
			if a < 0 != (b < 0) {
				f := a / (a - b)
				kept = append(kept, [2]float64{p[0] + f*(q[0]-p[0]), p[1] + f*(q[1]-p[1])})
			}
		}
		ring = kept
	}
	area := 0.0
	for i, p := range ring {
		q := ring[(i+1)%len(ring)]
		area += p[0]*q[1] - q[0]*p[1]
	}
	return math.Abs(area) / 2
}

// Catches: cells that a polygon touches and that are left out, cells in a hole or outside that are
// taken along, and what one polygon leaves behind for the next, whatever the shapes.
func TestPolygonCells(t *testing.T) {
	set := &cellSet{}
	for seed := range uint64(120) {
		rng := rand.New(rand.NewPCG(seed, 1))
		set.bits = cellBits{} // the set is used again as it is
		// A star around a centre, with a hole of half its size, in columns and rows; or a square with
		// a square hole, both along the borders of cells.
		x, y, n := 100+rng.Float64()*3400, 100+rng.Float64()*1600, 4+rng.IntN(12)
		reach := []float64{0.3, 2, 8, 20}[rng.IntN(4)]
		outer, hole := make([][2]float64, n), make([][2]float64, n)
		if seed%5 == 0 {
			x, y, reach = math.Round(x), math.Round(y), 2*math.Ceil(reach)
			outer = [][2]float64{{x - reach, y - reach}, {x + reach, y - reach}, {x + reach, y + reach}, {x - reach, y + reach}}
			hole = make([][2]float64, len(outer))
		}
		for i := range outer {
			if seed%5 != 0 {
				angle, r := (float64(i)+rng.Float64()*0.9)/float64(n)*2*math.Pi, reach*(0.3+0.7*rng.Float64())
				outer[i] = [2]float64{x + r*math.Cos(angle), y + r*math.Sin(angle)}
			}
			hole[i] = [2]float64{x + (outer[i][0]-x)/2, y + (outer[i][1]-y)/2}
		}
		rings := [][]position{nil, nil}
		for i, ring := range [][][2]float64{outer, hole} {
			for _, p := range ring {
				rings[i] = append(rings[i], position{p[0]/10 - 180, p[1]/10 - 90})
			}
			if seed%2 == 0 { // as GeoJSON has it
				rings[i] = append(rings[i], rings[i][0])
			}
		}
		if seed%3 == 0 {
			slices.Reverse(rings[0])
		}
		set.addPolygon(rings)
		for col := math.Floor(x - reach - 2); col < x+reach+2; col++ {
			for row := math.Floor(y - reach - 2); row < y+reach+2; row++ {
				area := clipArea(outer, col, row) - clipArea(hole, col, row)
				got := set.bits.has(int(row), int(col))
				if area > 1e-6 && !got || area < 1e-12 && got { // in between is what rounding leaves
					t.Fatalf("seed %d, column %g, row %g: %v, but the area is %g", seed, col, row, got, area)
				}
			}
		}
		if set.turns != (cellBits{}) {
			t.Fatalf("seed %d: something is left for the next polygon", seed)
		}
	}
}

const square = `[[[0,0],[0.3,0],[0.3,0.3],[0,0.3],[0,0]]]`

// Catches: a type of GeoJSON that is not read, holes taken for polygons, and files that are refused
// without a word of why or of where.
func TestGeoJSON(t *testing.T) {
	polygon := `{"type": "Polygon", "coordinates": ` + square + `}`
	for _, tt := range []struct{ text, want string }{ // a number of cells, or part of an error
		{polygon, "9"},
		{`{"type": "Polygon", "coordinates": [[[0,0,12.5],[0.3,0,12],[0.3,0.3,0]]]}`, "6"},
		{`{"type": "Polygon", "coordinates": [[[0,0],[0.3,0],[0.3,0.3],[0,0.3],[0,0]],[[0.1,0.1],[0.1,0.2],[0.2,0.2],[0.2,0.1],[0.1,0.1]]]}`, "8"},
		{`{"type": "MultiPolygon", "coordinates": [` + square + `, [[[10,0],[10.1,0],[10.1,0.1],[10,0.1],[10,0]]]]}`, "10"},
		{`{"type": "MultiPolygon", "coordinates": [` + square + `, ` + square + `]}`, "9"},
		{`{"type": "Polygon", "coordinates": [[[-180,-90],[180,-90],[180,90],[-180,90],[-180,-90]]]}`, "6480000"},
		{`{"type": "Polygon", "coordinates": [[[1e-300,0],[0.1,1e-9],[0.05,0.05]]]}`, "1"},
		{`{"type": "Polygon", "coordinates": []}`, "0"},
		{`{"type": "Feature", "properties": {"a": [1]}, "geometry": ` + polygon + `}`, "9"},
		{`{"type": "FeatureCollection", "name": "x", "features": [{"type": "Feature", "geometry": null}, {"type": "Feature", "geometry": ` + polygon + `}]}`, "9"},
		{`{"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}, "features": [{"type": "Feature", "geometry": ` + polygon + `}]}`, "9"},
		{`{"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32630"}}, "features": []}`, "EPSG::32630"},
		{`{"type": "FeatureCollection", "features": []}`, "no polygon"},
		{`{"type": "FeatureCollection", "features": [null, {"type": "Feature", "geometry": {"type": "Point", "coordinates": [0, 0]}}]}`, `feature 1: it is a "Point"`},
		{`{"type": "Topology"}`, `"Topology"`},
		{`{}`, "no type"},
		{`null`, "no object"},
		{`[]`, "no GeoJSON"},
		{``, "no GeoJSON"},
		{`{"type": "Polygon"`, "no GeoJSON"},
		{`{"type": "Polygon"}`, "not those of a Polygon"},
		{`{"type": "Polygon", "coordinates": [[0, 0], [1, 1], [0, 1]]}`, "not those of a Polygon"},
		{`{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}`, "ring 0: it has 2 positions"},
		{`{"type": "Polygon", "coordinates": [[[0, 0], [1], [0, 1]]]}`, "position 1 has 1 number"},
		{`{"type": "Polygon", "coordinates": [[[0, 0], [1, 91], [0, 1]]]}`, "position 1: 1, 91"},
		{`{"type": "Polygon", "coordinates": [[[170, 0], [190, 0], [180, 1]]]}`, "antimeridian"},
		{strings.Repeat("[", 100_000), "no GeoJSON"},
		{`{"type": "Polygon", "coordinates": [[` + strings.Repeat("[0,0],", maxPolygonPositions) + `[0,0]]]}`, "1,000,000 positions"},
	} {
		set := &cellSet{}
		got := "no polygon"
		found, err := addGeoJSON(set, []byte(tt.text))
		if err != nil {
			got = err.Error()
		} else if found {
			if got = set.members(); got == "" || strings.Contains(got, ",") { // a few are listed
				got = fmt.Sprint(strings.Count(got, ","))
			}
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) || strings.Contains(got, "\n") {
			t.Errorf("%.100s: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

// Catches: a file too large to be read that is read.
func TestPolygonFileLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.geojson")
	if err := os.WriteFile(path, bytes.Repeat([]byte(" "), maxPolygonBytes+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := polygonCells(path); err == nil || !strings.Contains(err.Error(), "64 MiB") || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

// Catches: ranges that miss an end, and years that cannot be meant.
func TestParseYears(t *testing.T) {
	for text, want := range map[string]string{
		"2024": "[2024]", "2017-2019": "[2017 2018 2019]", "2020,2022-2024": "[2020 2022 2023 2024]",
		" 2022 - 2023 , 2020,2022": "[2020 2022 2023]", "2024-2024": "[2024]",
		"2024-2020": "", "": "", "x": "", "2020-": "", "-2020": "", "2020,": "", "20200": "", "0": "", "2020-2021-2022": "",
	} {
		years, err := parseYears(text)
		if got := fmt.Sprint(years); want == "" && err == nil || want != "" && got != want {
			t.Errorf("%q: got %v, %v", text, years, err)
		}
	}
}

// Catches: tiles out of order or of years and cells that were not asked for, and a count of others.
func TestAreaTiles(t *testing.T) {
	src, err := localdir.Open(archive4.Dir)
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalogue.Open(t.Context(), src, catalogue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		flags areaFlags
		want  string
	}{
		{areaFlags{}, "2023 grid_-33.05_88.95, 2023 grid_-32.95_88.95, 2024 grid_-33.05_88.95, 2024 grid_-32.95_88.95"},
		{areaFlags{years: "2024-2030"}, "2024 grid_-33.05_88.95, 2024 grid_-32.95_88.95"},
		{areaFlags{bbox: "-33,88,-32,89"}, "2023 grid_-32.95_88.95, 2024 grid_-32.95_88.95"},
		{areaFlags{bbox: "-33,88,-32,89", years: "2023"}, "2023 grid_-32.95_88.95"},
		{areaFlags{bbox: "33,88,34,89"}, ""},
	} {
		a, err := tt.flags.area()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for tile := range a.tiles(cat.Datasets[0]) {
			got = append(got, fmt.Sprint(tile.Year, " ", tile.Cell))
		}
		if strings.Join(got, ", ") != tt.want || a.count(cat.Datasets[0]) != len(got) {
			t.Errorf("%+v: got %q, want %q", tt.flags, got, tt.want)
		}
	}
}
