package catalogue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const v1Manifest = "npy/v1/manifest.parquet"

// manifestTypes are the columns of a manifest as s3scan writes them, as far as they are read.
var manifestTypes = map[string]arrow.DataType{
	"version": arrow.BinaryTypes.String, "variant": arrow.BinaryTypes.String,
	"year": arrow.PrimitiveTypes.Int32,
	"lon":  arrow.PrimitiveTypes.Float64, "lat": arrow.PrimitiveTypes.Float64,
	"lon_i": arrow.PrimitiveTypes.Int32, "lat_i": arrow.PrimitiveTypes.Int32,
	"grid_size": arrow.PrimitiveTypes.Int64, "scales_size": arrow.PrimitiveTypes.Int64,
	"file_size":  arrow.PrimitiveTypes.Int64,
	"grid_mtime": arrow.FixedWidthTypes.Timestamp_us, "mtime": arrow.PrimitiveTypes.Float64,
}

// fields makes columns of names, each "name" or "name:type" where the type is another than s3scan's.
func fields(t testing.TB, names ...string) []arrow.Field {
	others := map[string]arrow.DataType{
		"string": arrow.BinaryTypes.String, "int32": arrow.PrimitiveTypes.Int32, "int64": arrow.PrimitiveTypes.Int64,
		"uint64": arrow.PrimitiveTypes.Uint64, "double": arrow.PrimitiveTypes.Float64, "bool": arrow.FixedWidthTypes.Boolean,
		"date": arrow.FixedWidthTypes.Date32, "list": arrow.ListOf(arrow.PrimitiveTypes.Float64),
		"decimal": &arrow.Decimal128Type{Precision: 9, Scale: 2},
	}
	var fs []arrow.Field
	for _, n := range names {
		name, typ, other := strings.Cut(n, ":")
		f := arrow.Field{Name: name, Type: manifestTypes[name], Nullable: true}
		if other {
			f.Type = others[typ]
		}
		if f.Type == nil {
			t.Fatalf("no type for column %q", n)
		}
		fs = append(fs, f)
	}
	return fs
}

// table writes a Parquet file with rows given as JSON.
func tableOf(t testing.TB, fs []arrow.Field, rows string, opts ...parquet.WriterProperty) []byte {
	t.Helper()
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema(fs, nil), strings.NewReader(rows))
	if err != nil {
		t.Fatalf("rows: %v", err)
	}
	return tableOfRecord(t, record, opts...)
}

func tableOfRecord(t testing.TB, record arrow.Record, opts ...parquet.WriterProperty) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pqarrow.NewFileWriter(record.Schema(), &b, parquet.NewWriterProperties(opts...), pqarrow.DefaultWriterProps())
	if err == nil {
		err = w.Write(record)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tile makes a row of a manifest.
func tileRow(year int, lon, lat float64) string {
	return fmt.Sprintf(`{"year": %d, "lon": %g, "lat": %g, "grid_size": 100, "scales_size": 10, "file_size": 100}`, year, lon, lat)
}

// simpleManifest has the columns without which nothing goes.
func simpleManifest(t testing.TB, rows ...string) []byte {
	return tableOf(t, fields(t, "year", "lon", "lat", "grid_size"), "["+strings.Join(rows, ",")+"]")
}

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func goldenJSON(t testing.TB, name string) [][]int64 {
	t.Helper()
	var v [][]int64
	if err := json.Unmarshal(golden(t, name), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func open(t testing.TB, src *memsource.Source) *Catalogue {
	t.Helper()
	c, err := Open(t.Context(), src, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// only is the one dataset of an archive.
func only(t testing.TB, src *memsource.Source) *Dataset {
	t.Helper()
	c := open(t, src)
	if len(c.Datasets) != 1 {
		t.Fatalf("%d datasets, want 1", len(c.Datasets))
	}
	return c.Datasets[0]
}

// tilesOf lists a year, or all years with 0, as tiles.json does.
func tilesOf(d *Dataset) [][]int64 {
	var all [][]int64
	for _, year := range d.Years() {
		tiles := d.Tiles(year, 0)
		for i := range tiles.Len() {
			x := tiles.At(i)
			all = append(all, []int64{int64(x.Year), int64(x.Cell.Lon), int64(x.Cell.Lat), x.Embeddings, x.Scales, x.ModTime.Unix()})
		}
	}
	return all
}

func cell(t testing.TB, lon, lat int) grid.Cell {
	t.Helper()
	c, err := grid.NewCell(lon, lat)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused opens an archive that must be refused, itself and as a server's, and returns why.
func refused(t testing.TB, src *memsource.Source) *RefusedError {
	t.Helper()
	_, err := Open(t.Context(), src, Config{})
	if _, remote := Open(t.Context(), src, Config{Dir: t.TempDir()}); remote == nil || err == nil || remote.Error() != err.Error() {
		t.Errorf("through a copy: %v, want %v", remote, err)
	}
	var why *RefusedError
	if !errors.As(err, &why) {
		t.Fatalf("got %v, want a RefusedError", err)
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("more than one line: %q", err)
	}
	return why
}

func unixTime(s int64) time.Time { return time.Unix(s, 0).UTC() }
