package catalogue

import (
	"slices"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// Catches: a registry read as other landmasks than it lists, a time that is not there taken for one,
// and tiles that stay as old as they were when their landmask changes.
func TestLandmaskRegistry(t *testing.T) {
	want := goldenJSON(t, "landmasks.json")
	tiles := goldenJSON(t, "tiles.json")
	for _, name := range []string{"landmasks", "landmasks_bare"} {
		d := only(t, memsource.New(map[string][]byte{
			v1Manifest:                         golden(t, "s3scan.parquet"),
			"landmasks/v1/landmasks.parquet":   golden(t, name+".parquet"),
			"landmasks/v1/grid_0.05_0.05.tiff": []byte("not looked at: there is a registry"),
		}))
		if !d.LandmaskRegistry() || len(d.Landmasks()) != len(want) {
			t.Fatalf("%s: %d landmasks, registry %v, want %d", name, len(d.Landmasks()), d.LandmaskRegistry(), len(want))
		}
		times := make(map[grid.Cell]int64)
		for i, row := range want {
			c := cell(t, int(row[0]), int(row[1]))
			if d.Landmasks()[i] != c {
				t.Errorf("%s: landmask %d is %v, want %v", name, i, d.Landmasks()[i], c)
			}
			if size, known := d.LandmaskSize(c); size != row[2] || !known {
				t.Errorf("%s: LandmaskSize(%v) is %d, %v, want %d", name, c, size, known, row[2])
			}
			if name == "landmasks" && row[2] > 0 {
				times[c] = row[3]
			}
		}
		if size, known := d.LandmaskSize(cell(t, 12345, 5)); known || size != 0 {
			t.Errorf("%s: a landmask of %d bytes that is not listed", name, size)
		}
		newer := 0
		for i, got := range tilesOf(d) {
			land := times[cell(t, int(got[1]), int(got[2]))]
			if when := max(tiles[i][5], land); got[5] != when {
				t.Errorf("%s: tile %v has time %d, want %d", name, tiles[i], got[5], when)
			} else if when > tiles[i][5] {
				newer++
			}
		}
		if (newer > 0) != (name == "landmasks") {
			t.Errorf("%s: %d tiles are newer for their landmask", name, newer)
		}
	}
}

// Catches: a registry that is wrong and is used all the same, for it decides what counts as water.
func TestLandmaskRegistryRefused(t *testing.T) {
	for _, test := range []struct{ columns, rows, column, says string }{
		{"lon lat", "[]", "file_size", "is missing"},
		{"lon file_size", "[]", "lat", "is missing"},
		{"lon lat file_size", `[{"lon": 0.05, "lat": 0.05, "file_size": 1}, {"lon": 0.05, "lat": 0.07, "file_size": 1}]`, "lat", "row 1"},
		{"lon lat file_size", `[{"lon": 0.05, "lat": 0.05, "file_size": null}]`, "file_size", "row 0"},
		{"lon lat file_size", `[{"lon": 0.05, "lat": 0.05, "file_size": -2}]`, "file_size", "row 0"},
	} {
		const name = "landmasks/v1/landmasks.parquet"
		why := refused(t, memsource.New(map[string][]byte{
			v1Manifest: simpleManifest(t, tileRow(2024, 0.05, 0.05)),
			name:       tableOf(t, fields(t, strings.Fields(test.columns)...), test.rows),
		}))
		if why.Object != name || why.Column != test.column || !strings.Contains(why.Error(), test.says) {
			t.Errorf("%s %s: refused with %q", test.columns, test.rows, why)
		}
	}
}

// Catches: landmasks without a registry that are not found, or names that are not theirs taken for
// them.
func TestLandmasksInDirectory(t *testing.T) {
	src := memsource.New(map[string][]byte{v1Manifest: simpleManifest(t, tileRow(2024, 0.05, 52.15), tileRow(2024, 0.15, 52.15))})
	for _, name := range []string{"grid_0.15_52.15.tiff", "grid_-0.05_52.15.tiff", "grid_0.15_52.15.tif", "grid_0.15_52.15", "grid_0.1_52.15.tiff",
		"notes.txt", "grid_0.25_52.15.tiff/inside"} {
		src.Put("landmasks/v1/"+name, []byte("1234567"))
	}
	src.Put("landmasks/v1/grid_0.35_52.15.tiff", nil)
	d := only(t, src)
	want := []grid.Cell{cell(t, -5, 5215), cell(t, 15, 5215), cell(t, 35, 5215)}
	if got := d.Landmasks(); !slices.Equal(got, want) || d.LandmaskRegistry() {
		t.Errorf("got %v, registry %v, want %v", got, d.LandmaskRegistry(), want)
	}
	if size, known := d.LandmaskSize(want[1]); size != 7 || !known {
		t.Errorf("LandmaskSize is %d, %v", size, known)
	}
	if size, known := d.LandmaskSize(want[2]); size != -1 || !known {
		t.Errorf("LandmaskSize of an empty file is %d, %v, as if there were no mask", size, known)
	}
	mask, err := src.Open(t.Context(), "landmasks/v1/grid_0.15_52.15.tiff")
	if err != nil {
		t.Fatal(err)
	}
	tiles := d.Tiles(2024, 0)
	if got := tiles.At(1).ModTime; !got.Equal(mask.Info().ModTime) {
		t.Errorf("the tile with a landmask is of %v, want %v", got, mask.Info().ModTime)
	}
	if !tiles.At(0).ModTime.Before(mask.Info().ModTime) {
		t.Errorf("the tile without is of %v, too", tiles.At(0).ModTime)
	}
}

// Catches: landmasks of another version, which may call water what is land in this one.
func TestLandmaskRegistryOfVersions(t *testing.T) {
	src := memsource.New(map[string][]byte{"landmasks.parquet": tableOf(t, fields(t, "version", "lon", "lat", "file_size"),
		`[{"version": "v1", "lon": 0.05, "lat": 0.05, "file_size": 1}, {"version": "1.1", "lon": 0.15, "lat": 0.05, "file_size": 2},
		  {"version": "1.1", "lon": 0.05, "lat": 0.05, "file_size": 3}, {"version": "1.0", "lon": 0.25, "lat": 0.05, "file_size": 4}]`)})
	putTile(src, tiles10+"/2024", "grid_0.05_0.05")
	putTile(src, tiles11+"/2024", "grid_0.05_0.05")
	var got []int64
	for _, d := range open(t, src).Datasets {
		for _, c := range d.Landmasks() {
			size, _ := d.LandmaskSize(c)
			got = append(got, size)
		}
	}
	if want := []int64{1, 4, 3, 2}; !slices.Equal(got, want) {
		t.Errorf("landmasks of v1 and v1.1-cam are %v, want %v", got, want)
	}
}
