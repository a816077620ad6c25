package catalogue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/parquet"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// Catches: a manifest of one of the programs that write them, or of another way to write Parquet,
// that is read as other tiles than it holds.
func TestManifestsAsWritten(t *testing.T) {
	want := goldenJSON(t, "tiles.json")
	for _, name := range []string{"s3scan", "file_scan", "legacy", "mixed", "plain", "zstd_v2", "gzip_pages",
		"snappy_v2_plain", "types", "floats", "unsigned", "required"} {
		t.Run(name, func(t *testing.T) {
			src := memsource.New(map[string][]byte{v1Manifest: golden(t, name+".parquet")})
			d := only(t, src)
			if got := tilesOf(d); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
			if d.Name() != "v1" || d.Version() != "1.0" || d.Variant() != "vultr" || d.Origin() != v1Manifest {
				t.Errorf("got dataset %q, version %q, variant %q, origin %q", d.Name(), d.Version(), d.Variant(), d.Origin())
			}
		})
	}
}

// Catches: a value that may be missing taken for 0, for an error or for its neighbour's.
func TestManifestGaps(t *testing.T) {
	src := memsource.New(map[string][]byte{v1Manifest: golden(t, "gaps.parquet")})
	manifest, err := src.Open(t.Context(), v1Manifest)
	if err != nil {
		t.Fatal(err)
	}
	made := manifest.Info().ModTime.Unix()
	want, got := goldenJSON(t, "tiles.json"), tilesOf(only(t, src))
	if len(got) != len(want) {
		t.Fatalf("got %d tiles, want %d", len(got), len(want))
	}
	for i, row := range got {
		if i%3 == 0 {
			want[i][4] = -1
		}
		switch time := row[5]; {
		case i%20 == 0: // neither time
			want[i][5] = made
		case i%4 == 0 || i%5 == 0: // one of them, which need not be the newest
			if time > want[i][5] || time < want[i][5]-5000 {
				t.Errorf("tile %d: time %d, want about %d", i, time, want[i][5])
			}
			want[i][5] = time
		}
		if !reflect.DeepEqual(row, want[i]) {
			t.Errorf("tile %d: got %v, want %v", i, row, want[i])
		}
	}
}

// Catches: sums, zones or runs of them that leave out a tile or count one twice.
func TestZones(t *testing.T) {
	d := only(t, memsource.New(map[string][]byte{v1Manifest: golden(t, "s3scan.parquet")}))
	want := goldenJSON(t, "tiles.json")
	if d.Len() != len(want) {
		t.Errorf("Len %d, want %d", d.Len(), len(want))
	}
	if got := d.Years(); !reflect.DeepEqual(got, []int{2017, 2023, 2024}) {
		t.Errorf("Years %v", got)
	}
	bytes, newest := int64(0), map[[2]int]int64{}
	count := map[[2]int]int{}
	for _, row := range want {
		c := cell(t, int(row[1]), int(row[2]))
		bytes += row[3] + row[4]
		for _, k := range [][2]int{{int(row[0]), c.Zone()}, {int(row[0]), 0}, {0, c.Zone()}, {0, 0}} {
			newest[k] = max(newest[k], row[5])
			count[k]++
		}
	}
	if d.Bytes() != bytes {
		t.Errorf("Bytes %d, want %d", d.Bytes(), bytes)
	}
	for _, year := range []int{0, 2017, 2018, 2023, 2024} {
		for zone := 0; zone <= grid.Zones; zone++ {
			k := [2]int{year, zone}
			when := time.Time{}
			if count[k] > 0 {
				when = unixTime(newest[k])
			}
			if got := d.ModTime(year, zone); !got.Equal(when) {
				t.Errorf("ModTime(%d, %d) %v, want %v", year, zone, got, when)
			}
			if year == 0 {
				continue
			}
			tiles := d.Tiles(year, zone)
			if tiles.Len() != count[k] {
				t.Errorf("Tiles(%d, %d) has %d, want %d", year, zone, tiles.Len(), count[k])
			}
			for i := range tiles.Len() {
				if c := tiles.At(i).Cell; zone != 0 && c.Zone() != zone || i > 0 && tiles.At(i-1).Cell.Compare(c) >= 0 {
					t.Errorf("Tiles(%d, %d): %v at %d", year, zone, c, i)
				}
			}
		}
		for _, zone := range d.Zones(year) {
			if count[[2]int{year, zone}] == 0 {
				t.Errorf("Zones(%d) has %d, which has no tile", year, zone)
			}
		}
	}
	if d.Tiles(2024, 61).Len()+d.Tiles(2024, -1).Len()+d.Tiles(-1, 0).Len() != 0 {
		t.Error("tiles where there is no zone or year")
	}
}

// Catches: a tile that is not found where it is listed, or found in a zone or year that it is not of.
func TestFind(t *testing.T) {
	d := only(t, memsource.New(map[string][]byte{v1Manifest: golden(t, "s3scan.parquet")}))
	want := goldenJSON(t, "tiles.json")
	for _, year := range append(d.Years(), 1999) {
		for zone := -1; zone <= grid.Zones+1; zone++ {
			tiles := d.Tiles(year, zone)
			listed := map[grid.Cell]Tile{}
			for i, c := range tiles.Cells() {
				listed[c] = tiles.At(i)
			}
			if len(listed) != tiles.Len() {
				t.Errorf("Tiles(%d, %d) are %d, their cells %d", year, zone, tiles.Len(), len(listed))
			}
			for _, row := range want {
				c := cell(t, int(row[1]), int(row[2]))
				there, is := listed[c]
				if got, found := tiles.Find(c); found != is || got != there || is && got.Cell != c {
					t.Errorf("Tiles(%d, %d).Find(%v): %v, %v; listed is %v", year, zone, c, got, found, there)
				}
			}
			if got, found := tiles.Find(cell(t, 17995, -8995)); found {
				t.Errorf("Tiles(%d, %d) has %v", year, zone, got)
			}
		}
	}
}

// Catches: bad input that is taken, or refused without saying where: the file, the column and the
// row.
func TestRefusedRows(t *testing.T) {
	base := "year lon lat lon_i lat_i grid_size scales_size grid_mtime"
	for _, test := range []struct {
		name, columns string
		row           string // the third of three
		column, says  string
	}{
		{"longitude null", base, `"lon": null`, "lon", "no value"},
		{"latitude absent", base, `"lat": null`, "lat", "no value"},
		{"year null", base, `"year": null`, "year", "no value"},
		{"size null", base, `"grid_size": null`, "grid_size", "no value"},
		{"version null", base + " version variant", `"version": null`, "version", "no value"},
		{"longitude off the grid", base, `"lon": 0.051, "lon_i": 5`, "lon", "off the 0.1° grid"},
		{"longitude on a border", base, `"lon": 0.1, "lon_i": 10`, "lon", "off the 0.1° grid"},
		{"latitude off the grid", base, `"lat": 52.2, "lat_i": 5220`, "lat", "off the 0.1° grid"},
		{"beyond 180", base, `"lon": 180.05, "lon_i": 18005`, "lon", "out of range"},
		{"beyond -180", base, `"lon": -180.05, "lon_i": -18005`, "lon", "out of range"},
		{"beyond 90", base, `"lat": 90.05, "lat_i": 9005`, "lat", "out of range"},
		{"beyond -90", base, `"lat": -90.05, "lat_i": -9005`, "lat", "out of range"},
		{"far beyond", base, `"lat": 1e300`, "lat", "out of range"},
		{"year 0", base, `"year": 0`, "year", "is 0"},
		{"year negative", base, `"year": -2024`, "year", "is -2024"},
		{"year of five digits", base, `"year": 10000`, "year", "is 10000"},
		{"lon_i against lon", base, `"lon_i": 15`, "lon_i", "is 15, but lon says 5"},
		{"lat_i against lat", base, `"lat_i": -5215`, "lat_i", "is -5215, but lat says 5215"},
		{"size negative", base, `"grid_size": -1`, "grid_size", "negative"},
		{"size of scales negative", base, `"scales_size": -1`, "scales_size", "negative"},
		{"size too large", base, `"grid_size": 9000000000`, "grid_size", "more than any tile"},
		{"older size negative", "year lon lat file_size", `"file_size": -1`, "file_size", "negative"},
		{"size in part", "year lon lat grid_size:double", `"grid_size": 1.5`, "grid_size", "not a whole number"},
		{"size missing as a float", "year lon lat grid_size:double", `"grid_size": null`, "grid_size", "no value"},
		{"size unsigned and large", "year lon lat grid_size:uint64", `"grid_size": 18446744073709551615`, "grid_size", "not a whole number"},
		{"time in other units", "year lon lat grid_size mtime", `"mtime": 1.7e12`, "mtime", "no time between"},
		{"time before 1970", "year lon lat grid_size mtime", `"mtime": -1`, "mtime", "no time between"},
		{"time beyond all", "year lon lat grid_size mtime", `"mtime": 1e300`, "mtime", "no time between"},
	} {
		t.Run(test.name, func(t *testing.T) {
			rows := make([]map[string]any, 3)
			for i := range rows {
				lat := 3215 + 1000*i
				rows[i] = map[string]any{"year": 2024, "lon": 0.05, "lat": float64(lat) / 100, "lon_i": 5, "lat_i": lat,
					"grid_size": 100, "scales_size": 10, "file_size": 100, "grid_mtime": "2026-01-05T00:00:00",
					"mtime": 1.7e9, "version": "1.0", "variant": "vultr"}
			}
			if err := json.Unmarshal([]byte("{"+test.row+"}"), &rows[2]); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(rows)
			if err != nil {
				t.Fatal(err)
			}
			for _, version := range []parquet.DataPageVersion{parquet.DataPageV1, parquet.DataPageV2} {
				for _, dictionary := range []bool{true, false} {
					data := tableOf(t, fields(t, strings.Fields(test.columns)...), string(text),
						parquet.WithDataPageVersion(version), parquet.WithDictionaryDefault(dictionary))
					why := refused(t, memsource.New(map[string][]byte{v1Manifest: data}))
					if why.Object != v1Manifest || why.Column != test.column || why.Row != 2 || !strings.Contains(why.Error(), test.says) {
						t.Errorf("refused with %q, want row 2, column %s, %q", why, test.column, test.says)
					}
				}
			}
		})
	}
}

// Catches: NaN taken for a place, or for a size. JSON has none, so that the cases above cannot say
// it: here 7777 becomes NaN in the file.
func TestRefusedNaN(t *testing.T) {
	for column, says := range map[string]string{"lon": "NaN", "lat": "NaN", "grid_size": "no value", "year": "no value"} {
		rows := "[" + tileRow(2024, 0.05, 0.05) + "," + strings.Replace(`{"year": 2024, "lon": 0.05, "lat": 0.05, "grid_size": 1}`,
			`"`+column+`": `, `"`+column+`": 7777, "was": `, 1) + "]"
		columns := fields(t, "lon", "lat", "year:double", "grid_size:double")
		data := tableOf(t, columns, rows, parquet.WithDictionaryDefault(false), parquet.WithStats(false))
		le := binary.LittleEndian.AppendUint64(nil, math.Float64bits(7777))
		if bytes.Count(data, le) != 1 {
			t.Fatalf("%s: 7777 is %d times in the file", column, bytes.Count(data, le))
		}
		data = bytes.Replace(data, le, binary.LittleEndian.AppendUint64(nil, math.Float64bits(math.NaN())), 1)
		why := refused(t, memsource.New(map[string][]byte{v1Manifest: data}))
		if why.Column != column || why.Row != 1 || !strings.Contains(why.Error(), says) {
			t.Errorf("refused with %q, want row 1, column %s, %s", why, column, says)
		}
	}
}

// Catches: files that lack a column, or have another kind of thing under its name, and are taken or
// refused without saying which.
func TestRefusedColumns(t *testing.T) {
	for _, test := range []struct{ columns, column, says string }{
		{"lon lat grid_size", "year", "is missing; there are lon, lat, grid_size"},
		{"year lat grid_size", "lon", "is missing"},
		{"year lon grid_size", "lat", "is missing"},
		{"year lon lat scales_size", "", "columns grid_size and file_size are missing"},
		{"year:string lon lat grid_size", "year", "expected whole numbers"},
		{"year:bool lon lat grid_size", "year", "expected whole numbers"},
		{"year:date lon lat grid_size", "year", "expected whole numbers"},
		{"year lon:int32 lat grid_size", "lon", "expected degrees"},
		{"year lon:list lat grid_size", "lon", "is missing"},
		{"year lon lat:string grid_size", "lat", "expected degrees"},
		{"year lon lat grid_size:decimal", "grid_size", "expected whole numbers"},
		{"year lon lat grid_size mtime:string", "mtime", "expected times"},
		{"year lon lat grid_size grid_mtime:date", "grid_mtime", "expected times"},
		{"year lon lat grid_size version:int32", "version", "expected text"},
	} {
		t.Run(test.columns, func(t *testing.T) {
			data := tableOf(t, fields(t, strings.Fields(test.columns)...), "[]")
			why := refused(t, memsource.New(map[string][]byte{v1Manifest: data}))
			if why.Object != v1Manifest || why.Column != test.column || !strings.Contains(why.Error(), test.says) {
				t.Errorf("refused with %q, want column %q, %q", why, test.column, test.says)
			}
		})
	}
}

// Catches: rows of another dataset shown as this one's, and a manifest that is another dataset's
// shown as an empty directory.
func TestManifestOfAnotherDataset(t *testing.T) {
	row := func(version, variant string) string {
		return strings.Replace(tileRow(2024, 0.05, 0.05), "{", fmt.Sprintf(`{"version": %q, "variant": %q, `, version, variant), 1)
	}
	columns := fields(t, "version", "variant", "year", "lon", "lat", "grid_size")
	data := tableOf(t, columns, "["+row("1.1", "cambridge")+","+row("1.0", "other")+"]")
	why := refused(t, memsource.New(map[string][]byte{v1Manifest: data}))
	if !strings.Contains(why.Error(), `none of its 2 rows is of version "1.0", variant "vultr"`) {
		t.Errorf("refused with %q", why)
	}
	// Under a name that says nothing, any rows are this dataset's, and versions may be written short.
	for dir, tiles := range map[string]int{"npy/mine": 2, "npy/v1.1": 1, "npy/v1.1-cam": 1, "npy/v1-other": 1, "npy/v1": 0} {
		rows := []string{row("v1.1", "cambridge"), strings.Replace(row("1", "other"), "0.05", "0.15", 1)}
		src := memsource.New(map[string][]byte{dir + "/manifest.parquet": tableOf(t, columns, "["+strings.Join(rows, ",")+"]")})
		if tiles == 0 {
			refused(t, src)
		} else if d := only(t, src); d.Len() != tiles {
			t.Errorf("%s has %d tiles, want %d", dir, d.Len(), tiles)
		}
	}
}
