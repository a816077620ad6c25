package catalogue

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/parquet"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// sumRow makes a row of a legacy manifest; sums are in hexadecimal, "" for null.
func sumRow(year int, lon, lat float64, embeddings, scales string) string {
	quoted := func(s string) string {
		if s == "" {
			return "null"
		}
		return `"` + s + `"`
	}
	return fmt.Sprintf(`{"year": %d, "lon": %g, "lat": %g, "file_size": 100, "hash": %s, "scales_hash": %s}`,
		year, lon, lat, quoted(embeddings), quoted(scales))
}

func sumOf(n int) string { return fmt.Sprintf("%x", sha256.Sum256([]byte{byte(n)})) }

func legacyManifest(t *testing.T, columns []string, rows []string, opts ...parquet.WriterProperty) *memsource.Source {
	fs := fields(t, columns...)
	return memsource.New(map[string][]byte{v1Manifest: tableOf(t, fs, "["+strings.Join(rows, ",")+"]", opts...)})
}

var legacyColumns = []string{"year", "lon", "lat", "file_size", "hash:string", "scales_hash:string"}

// allTiles are the tiles of all years.
func allTiles(d *Dataset) []Tile {
	var all []Tile
	for _, year := range d.Years() {
		for i := range d.Tiles(year, 0).Len() {
			all = append(all, d.Tiles(year, 0).At(i))
		}
	}
	return all
}

func sumsOf(t *testing.T, src *memsource.Source, tiles func(d *Dataset) []Tile) ([]Sums, error) {
	t.Helper()
	c := open(t, src)
	return c.Sums(t.Context(), src, c.Datasets[0], tiles(c.Datasets[0]))
}

// Catches: sums of the neighbour's row, of the other array or of another year, in manifests that are
// ordered otherwise than tiles are, of several row groups, with and without a dictionary; a later row
// of the same tile that counts; a sum made of no value.
func TestSums(t *testing.T) {
	const tiles = 100
	var rows []string
	want := map[[3]int][2]string{}
	for i := range tiles {
		year, lon, lat := 2023+i%2, 10*(i*37%tiles)+5, 10*(i*73%tiles)+5 // in no order
		embeddings, scales := sumOf(i), sumOf(i+tiles)
		if i%7 == 0 {
			embeddings = ""
		}
		want[[3]int{year, lon, lat}] = [2]string{embeddings, scales}
		rows = append(rows, sumRow(year, float64(lon)/100, float64(lat)/100, embeddings, strings.ToUpper(scales)))
	}
	for i := range tiles { // once more, with other sums
		rows = append(rows, sumRow(2023+i%2, float64(10*(i*37%tiles)+5)/100, float64(10*(i*73%tiles)+5)/100, sumOf(255), sumOf(254)))
	}
	for name, opts := range map[string][]parquet.WriterProperty{
		"one group":      {parquet.WithDictionaryDefault(false)},
		"many groups":    {parquet.WithMaxRowGroupLength(7)},
		"a dictionary":   {parquet.WithDictionaryDefault(true)},
		"of second kind": {parquet.WithDataPageVersion(parquet.DataPageV2), parquet.WithMaxRowGroupLength(50)},
	} {
		t.Run(name, func(t *testing.T) {
			src := legacyManifest(t, legacyColumns, rows, opts...)
			for _, every := range []int{1, 3} {
				var asked []Tile
				got, err := sumsOf(t, src, func(d *Dataset) []Tile {
					for i, tile := range allTiles(d) {
						if i%every == 0 {
							asked = append(asked, tile)
						}
					}
					return asked
				})
				if err != nil || len(got) != len(asked) {
					t.Fatalf("%d sums of %d tiles, %v", len(got), len(asked), err)
				}
				for i, tile := range asked {
					w := want[[3]int{tile.Year, int(tile.Cell.Lon), int(tile.Cell.Lat)}]
					if g := [2]string{hex.EncodeToString(got[i].Embeddings), hex.EncodeToString(got[i].Scales)}; g != w {
						t.Errorf("%d %v: got %.8v, want %.8v", tile.Year, tile.Cell, g, w)
					}
				}
			}
		})
	}
}

// Catches: a legacy manifest as pandas writes it whose sums are not found.
func TestSumsAsWritten(t *testing.T) {
	got, err := sumsOf(t, memsource.New(map[string][]byte{v1Manifest: golden(t, "legacy.parquet")}), allTiles)
	if err != nil || len(got) == 0 {
		t.Fatalf("%d sums, %v", len(got), err)
	}
	want := Sums{make([]byte, 32), []byte(strings.Repeat("\xff", 32))}
	for i, sums := range got {
		if !reflect.DeepEqual(sums, want) {
			t.Fatalf("tile %d: got %x", i, sums)
		}
	}
}

// Catches: sums asked of manifests that have none, a scan that has no manifest, and a column of
// nothing but nulls, to which pandas gives no type, taken for damage.
func TestNoSums(t *testing.T) {
	bare := legacyManifest(t, []string{"year", "lon", "lat", "file_size"}, []string{sumRow(2024, 0.05, 0.05, "", "")})
	nulls := fields(t, "year", "lon", "lat", "file_size")
	nulls = append(nulls, arrow.Field{Name: "hash", Type: arrow.Null, Nullable: true})
	for name, src := range map[string]*memsource.Source{
		"no columns": bare,
		"s3scan":     memsource.New(map[string][]byte{v1Manifest: golden(t, "s3scan.parquet")}),
		"scan":       memsource.New(map[string][]byte{"npy/v1/2024/grid_0.05_0.05/grid_0.05_0.05.npy": {1}}),
		"nulls":      memsource.New(map[string][]byte{v1Manifest: tableOf(t, nulls, "["+sumRow(2024, 0.05, 0.05, "", "")+"]")}),
	} {
		if got, err := sumsOf(t, src, allTiles); got != nil || err != nil {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	one := legacyManifest(t, []string{"year", "lon", "lat", "file_size", "scales_hash:string"}, []string{sumRow(2024, 0.05, 0.05, "", sumOf(1))})
	if got, err := sumsOf(t, one, allTiles); err != nil || got[0].Embeddings != nil || hex.EncodeToString(got[0].Scales) != sumOf(1) {
		t.Errorf("one column: got %x, %v", got, err)
	}
}

// Catches: sums of another dataset under the same manifest, told by the version, or by the variant
// where one of them takes those that no other is named for.
func TestSumsOfOneDataset(t *testing.T) {
	for _, tt := range []struct {
		first, second string // in the columns
		dirs          [2]string
	}{
		{`"version": "1.0"`, `"version": "1.1"`, [2]string{"v1/global_0.1_degree_representation/", "v1.1/global_0.1_degree_representation/"}},
		{`"version": "3.0", "variant": "x"`, `"version": "3.0", "variant": "y"`, [2]string{"v3/global_0.1_degree_representation.x/", "v3/global_0.1_degree_representation/"}},
	} {
		rows := []string{
			strings.Replace(sumRow(2024, 0.05, 0.05, sumOf(0), ""), "{", "{"+tt.first+",", 1),
			strings.Replace(sumRow(2024, 0.05, 0.05, sumOf(1), ""), "{", "{"+tt.second+",", 1),
		}
		columns := append([]string{"version"}, legacyColumns...)
		if strings.Contains(tt.first, "variant") {
			columns = append(columns, "variant")
		}
		src := memsource.New(map[string][]byte{
			"manifest.parquet": tableOf(t, fields(t, columns...), "["+strings.Join(rows, ",")+"]"),
			tt.dirs[0] + "x":   {}, tt.dirs[1] + "x": {},
		})
		c := open(t, src)
		if len(c.Datasets) != 2 {
			t.Fatalf("%d datasets", len(c.Datasets))
		}
		for _, d := range c.Datasets {
			want := 0
			if d.tiles+"/" == tt.dirs[1] {
				want = 1
			}
			got, err := c.Sums(t.Context(), src, d, allTiles(d))
			if err != nil || hex.EncodeToString(got[0].Embeddings) != sumOf(want) {
				t.Errorf("%s: got %x, %v", d.Name(), got, err)
			}
		}
	}
}

// Catches: something that is no sum held for one that never matches, and a manifest that fails or is
// replaced meanwhile.
func TestBadSums(t *testing.T) {
	for _, bad := range []string{"abc", strings.Repeat("x", 64), sumOf(1) + "00"} {
		src := legacyManifest(t, legacyColumns, []string{sumRow(2024, 0.05, 0.05, "", sumOf(1)), sumRow(2024, 0.15, 0.05, "", bad)})
		_, err := sumsOf(t, src, allTiles)
		var why *RefusedError
		if !errors.As(err, &why) || why.Row != 1 || why.Column != "scales_hash" {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	src := legacyManifest(t, legacyColumns, []string{sumRow(2024, 0.05, 0.05, sumOf(1), "")})
	c := open(t, src)
	src.Fail(v1Manifest, source.ErrUnavailable)
	if _, err := c.Sums(t.Context(), src, c.Datasets[0], allTiles(c.Datasets[0])); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
