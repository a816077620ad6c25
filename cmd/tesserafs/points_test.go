package main

import (
	"bytes"
	byteorder "encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/sample"
)

// TestWKBPoint would catch a geometry taken for a point, a byte order that is not looked at, and a
// slice beyond the end.
func TestWKBPoint(t *testing.T) {
	const x, y = "000000000000f03f", "0000000000000040" // 1 and 2, little-endian
	for text, want := range map[string]string{
		"01" + "01000000" + x + y:                                   "1 2",
		"00" + "00000001" + "3ff0000000000000" + "4000000000000000": "1 2",
		"01" + "e9030000" + x + y + x:                               "1 2", // ISO's with a height
		"01" + "01000080" + x + y + x:                               "1 2", // PostGIS's
		"01" + "01000020" + "e6100000" + x + y:                      "1 2", // with EPSG:4326
		"01" + "02000000" + x + y:                                   "type 2",
		"01" + "04000000" + "01000000":                              "type 4",
		"01" + "01000000" + x:                                       "not a whole point",
		"01" + "01000020" + x + y:                                   "not a whole point",
		"02" + "01000000" + x + y:                                   "not WKB",
		"":                                                          "not WKB",
		"01" + "01000000" + "000000000000f87f" + "000000000000f87f": "there is no point",
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		gotX, gotY, err := wkbPoint(raw)
		got := strconv.FormatFloat(gotX, 'f', -1, 64) + " " + strconv.FormatFloat(gotY, 'f', -1, 64)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for n := range 30 {
		b := make([]byte, n)
		if n >= 5 {
			b[0] = 1
			byteorder.LittleEndian.PutUint32(b[1:], 1)
		}
		if _, _, err := wkbPoint(b); (err == nil) != (n >= 21) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestGeometryColumn would catch metres, or a system that nobody named, taken for degrees on WGS 84.
func TestGeometryColumn(t *testing.T) {
	for _, c := range []struct{ column, says string }{
		{`{"encoding": "WKB"}`, ""},
		{`{"encoding": "point", "crs": {"type": "GeographicCRS", "name": "WGS 84", "id": {"authority": "EPSG", "code": 4326}}}`, ""},
		{`{"encoding": "WKB", "crs": {"type": "GeographicCRS", "name": "WGS 84 (CRS84)", "id": {"authority": "OGC", "code": "CRS84"}}}`, ""},
		{`{"encoding": "WKB", "crs": {"type": "GeographicCRS", "name": "WGS 84"}}`, ""},
		{`{"encoding": "WKB", "crs": null}`, "not known"},
		{`{"encoding": "WKB", "crs": {"type": "GeographicCRS", "name": "ED50", "id": {"authority": "EPSG", "code": 4230}}}`, `"ED50"`},
		{`{"encoding": "WKB", "crs": {"type": "ProjectedCRS", "name": "WGS 84 / UTM zone 30N"}}`, "UTM"},
		{`{"encoding": "WKB", "crs": "EPSG:4326"}`, "damaged"},
		{`{"encoding": "linestring"}`, "linestring"},
		{`{}`, "encoded"},
		{`7`, "damaged"},
	} {
		column, err := geometryColumn(`{"primary_column": "geom", "columns": {"geom": ` + c.column + `}}`)
		if c.says == "" && (err != nil || column != "geom") || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: column %q, %v; want %q", c.column, column, err, c.says)
		}
	}
	for _, geo := range []string{"", "{", "{}", `{"columns": {}}`, `{"primary_column": "a", "columns": {"b": {}}}`} {
		if _, err := geometryColumn(geo); err == nil {
			t.Errorf("%q: no error", geo)
		}
	}
}

// TestCells would catch text that a CSV reader takes for something else, and numbers that lose a bit.
func TestCells(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain": "plain", "a b": "a b", "a,b": `"a,b"`, `say "a"`: `"say ""a"""`, "two\nlines": "\"two\nlines\"", " lead": `" lead"`, "é": "é",
	} {
		if got := string(appendText(nil, text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	for _, v := range []float32{0, 1, -1, 0.1, 1e-5, 9.99e-6, 1e-45, 1e15, math.MaxFloat32, -3.4567e-3, 16777216} {
		text := string(appendFloat(nil, float64(v), 32))
		if back, err := strconv.ParseFloat(text, 32); err != nil || float32(back) != v {
			t.Errorf("%v is written %s, and reads %v", v, text, back)
		}
	}
	if got := string(appendFloat(nil, 1000000, 64)); got != "1000000" {
		t.Errorf("a million is written %s", got)
	}
}

// TestKinds would catch a column of a type that does not hold all its values.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		values string
		want   arrow.DataType
	}{
		{`[1, -2, null]`, arrow.PrimitiveTypes.Int64}, {`[1, 2.5]`, arrow.PrimitiveTypes.Float64}, {`[null]`, arrow.Null},
		{`[9223372036854775808]`, arrow.PrimitiveTypes.Float64}, {`[true, null]`, arrow.FixedWidthTypes.Boolean},
		{`[true, 1]`, arrow.BinaryTypes.String}, {`["a", 1]`, arrow.BinaryTypes.String}, {`[{"a": 1}, null]`, arrow.BinaryTypes.String},
	} {
		var values []json.RawMessage
		if err := json.Unmarshal([]byte(c.values), &values); err != nil {
			t.Fatal(err)
		}
		got := arrow.DataType(nil)
		for _, v := range values {
			got = wider(got, kindOf(v))
		}
		if got != c.want {
			t.Errorf("%s: %v, want %v", c.values, got, c.want)
		}
	}
}

// TestParquet would catch a row that has another's values or none, at each place in a byte of which rows have
// some and in batches without any or with nothing else, and a column that is not passed on as it was.
func TestParquet(t *testing.T) {
	noise := rand.New(rand.NewPCG(1, 2))
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "plot", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "tags", Type: arrow.ListOf(arrow.PrimitiveTypes.Int16), Nullable: true},
		{Name: "lon", Type: arrow.PrimitiveTypes.Float64},
	}, nil)
	// The sizes of batches; of how many rows in a hundred there are values.
	sizes, shares := []int{1, 7, 8, 9, 63, 64, 65, 1000}, []int{0, 100, 50, 3}
	for _, raw := range []bool{false, true} {
		var out bytes.Buffer
		w, err := newPointsParquet(&out, columns, -1, raw)
		if err != nil {
			t.Fatal(err)
		}
		passed := make([][]arrow.Array, columns.NumFields())
		var batches []*sample.Batch
		for _, n := range sizes {
			for _, share := range shares {
				b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
				found := sample.NewBatch(n)
				for i := range n {
					b.Field(0).(*array.StringBuilder).AppendValues([]string{strconv.Itoa(n)}, []bool{noise.IntN(4) > 0})
					list := b.Field(1).(*array.ListBuilder)
					if length := noise.IntN(4); length == 0 {
						list.AppendNull()
					} else {
						list.Append(true)
						for range length - 1 {
							list.ValueBuilder().(*array.Int16Builder).Append(int16(i))
						}
					}
					found.Lon[i] = noise.Float64()
					b.Field(2).(*array.Float64Builder).Append(found.Lon[i])
					found.Status[i], found.Scales[i] = sample.Status(noise.IntN(int(sample.Data))), noise.Float32()
					if noise.IntN(100) < share {
						found.Status[i] = sample.Data
					}
				}
				for i := range found.Embeddings {
					found.Embeddings[i] = int8(noise.IntN(256) - 128)
				}
				record := b.NewRecord()
				if err := w.write(&pointRows{lon: found.Lon, lat: found.Lat, columns: record}, found); err != nil {
					t.Fatal(err)
				}
				for i, column := range record.Columns() {
					passed[i] = append(passed[i], column)
				}
				batches = append(batches, found)
			}
		}
		if err := w.finish(); err != nil {
			t.Fatal(err)
		}
		table, err := pqarrow.ReadTable(t.Context(), bytes.NewReader(out.Bytes()), parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		for i, chunks := range passed {
			if want := arrow.NewChunked(columns.Field(i).Type, chunks); !array.ChunkedEqual(table.Column(i).Data(), want) {
				t.Errorf("raw %v: column %s is another", raw, columns.Field(i).Name)
			}
		}
		for k, name := range valueColumns(raw) {
			values := columnOf(t, table, name)
			row := 0
			for _, found := range batches {
				for i, status := range found.Status {
					want := any(nil)
					switch {
					case status != sample.Data:
					case name == "scale":
						want = found.Scales[i]
					case raw:
						want = found.Embeddings[i*grid.Bands+k]
					default:
						want = float32(found.Embeddings[i*grid.Bands+k]) * found.Scales[i]
					}
					if values[row] != want {
						t.Fatalf("raw %v: row %d, of %d in its batch, has %s %v, want %v", raw, i, len(found.Status), name, values[row], want)
					}
					row++
				}
			}
			if row != len(values) {
				t.Errorf("%s has %d rows, want %d", name, len(values), row)
			}
		}
	}
}

// columnOf has the float32 and int8 values of a column, and nil where there is none.
func columnOf(t *testing.T, table arrow.Table, name string) (values []any) {
	t.Helper()
	for _, chunk := range table.Column(table.Schema().FieldIndices(name)[0]).Data().Chunks() {
		for i := range chunk.Len() {
			switch c := chunk.(type) {
			case *array.Float32:
				values = append(values, c.Value(i))
			case *array.Int8:
				values = append(values, c.Value(i))
			default:
				t.Fatalf("%s is %v", name, chunk.DataType())
			}
			if chunk.IsNull(i) {
				values[len(values)-1] = nil
			}
		}
	}
	return values
}

// TestOutputFile would catch a file that appears before it is whole, or whose remains stay.
func TestOutputFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.csv")
	names := func() (out []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	for _, keep := range []bool{false, true} {
		o, err := createOutput(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.WriteString("text"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("the file is there before it is finished")
		}
		if keep {
			if err := o.commit(); err != nil {
				t.Fatal(err)
			}
		}
		o.abandon()
		if keep != (len(names()) == 1) {
			t.Errorf("finished %v: there is %q", keep, names())
		}
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "text" {
		t.Errorf("%q (%v)", data, err)
	}
	if _, err := createOutput(filepath.Join(dir, "nowhere", "out.csv")); err == nil {
		t.Error("a file in a directory that is not there")
	}
}

// TestBoundedRow would catch a quote that is left open and takes the rest of a large file into memory.
func TestBoundedRow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "points.csv")
	if err := os.WriteFile(path, []byte("lon,lat\n1,2\n\"3,4\n"+strings.Repeat("5,6\n", maxPointRow/3)), 0o644); err != nil {
		t.Fatal(err)
	}
	in, err := openPoints(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := in.next(); err == nil || !strings.Contains(err.Error(), "row 1") || !strings.Contains(err.Error(), "quote") {
		t.Errorf("error is %v", err)
	}
}

// FuzzPoints would catch a table of points that makes a reader panic, hang, or say that a place is
// where none can be.
func FuzzPoints(f *testing.F) {
	for _, seed := range []string{
		"lon,lat\n1,2\n", "id,Longitude,LAT,year\na,1.5,-2,2024\n\"b\"\"\",-1e1,0,1\n", "\ufefflon;lat\n", "lon,lat\n\"1\n",
		`{"type": "FeatureCollection", "features": [{"type": "Feature", "id": 1, "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"a": 1, "b": null}}]}`,
		`{"crs": {"properties": {"name": "EPSG:4326"}}, "features": [], "x": [{}]}`, `{"features": [{}]}`, `{"features": 3}`,
	} {
		f.Add(seed, strings.HasPrefix(seed, "{"))
	}
	f.Fuzz(func(t *testing.T, content string, isJSON bool) {
		path := filepath.Join(t.TempDir(), map[bool]string{true: "points.json", false: "points.csv"}[isJSON])
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(10*time.Second, func() { panic("reading does not end") })
		defer late.Stop()
		in, err := openPoints(path, len(content)%2 == 0)
		if err != nil {
			return
		}
		defer in.Close()
		for {
			rows, err := in.next()
			if err != nil {
				return
			}
			if n := rows.columns.NumRows(); int(n) != len(rows.lon) || len(rows.lon) != len(rows.lat) || in.years() != (len(rows.year) == len(rows.lon)) {
				t.Fatalf("%d rows, %d longitudes, %d latitudes, %d years", n, len(rows.lon), len(rows.lat), len(rows.year))
			}
			for i := range rows.lon {
				if checkLon(rows.lon[i]) != nil || checkLat(rows.lat[i]) != nil {
					t.Fatalf("row %d is at %v, %v", i, rows.lon[i], rows.lat[i])
				}
			}
		}
	})
}
