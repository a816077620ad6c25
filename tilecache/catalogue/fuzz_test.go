package catalogue

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"

	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// FuzzManifest takes any bytes for a manifest and for a landmask registry: they are refused in one
// line, or make a catalogue that holds what a catalogue promises.
func FuzzManifest(f *testing.F) {
	files, err := filepath.Glob("testdata/*.parquet")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	rows := "[" + tileRow(2024, 0.15, 0.05) + "," + tileRow(2023, 0.05, 0.05) + "]"
	columns := fields(f, "year", "lon", "lat", "grid_size", "file_size")
	for _, version := range []parquet.DataPageVersion{parquet.DataPageV1, parquet.DataPageV2} {
		for _, codec := range []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Zstd, compress.Codecs.Gzip} {
			f.Add(tableOf(f, columns, rows, parquet.WithDataPageVersion(version), parquet.WithCompression(codec), parquet.WithStats(false)))
		}
	}
	good := simpleManifest(f, tileRow(2024, 0.05, 0.05))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, src := range []*memsource.Source{
			memsource.New(map[string][]byte{"npy/any/manifest.parquet": data}),
			memsource.New(map[string][]byte{v1Manifest: good, "landmasks/v1/landmasks.parquet": data}),
		} {
			c, err := Open(t.Context(), src, Config{})
			var why *RefusedError
			if err != nil {
				if !errors.As(err, &why) && !errors.Is(err, ErrNoArchive) || strings.ContainsAny(err.Error(), "\n\r") {
					t.Fatalf("refused with %q", err)
				}
				continue
			}
			checkPromises(t, c.Datasets[0])
		}
	})
}

func checkPromises(t *testing.T, d *Dataset) {
	n := 0
	for _, year := range d.Years() {
		if year < 1 || year > maxYear || d.Tiles(year, 0).Len() == 0 {
			t.Fatalf("year %d with %d tiles", year, d.Tiles(year, 0).Len())
		}
		for _, zone := range d.Zones(year) {
			tiles := d.Tiles(year, zone)
			n += tiles.Len()
			for i := range tiles.Len() {
				x := tiles.At(i)
				if x.Cell != cell(t, int(x.Cell.Lon), int(x.Cell.Lat)) || x.Cell.Zone() != zone || x.Year != year ||
					i > 0 && tiles.At(i-1).Cell.Compare(x.Cell) >= 0 || x.Embeddings < -1 || x.Scales < -1 || x.ModTime.After(d.ModTime(year, zone)) {
					t.Fatalf("tile %d of %d, zone %d: %+v", i, year, zone, x)
				}
			}
		}
	}
	if n != d.Len() {
		t.Fatalf("zones have %d tiles, the dataset %d", n, d.Len())
	}
	for i, c := range d.Landmasks() {
		if i > 0 && d.Landmasks()[i-1].Compare(c) >= 0 {
			t.Fatalf("landmasks out of order at %d", i)
		}
	}
}
