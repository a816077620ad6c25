package catalogue

import (
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// BenchmarkManifest opens a manifest of a million tiles of one year in the order it is published in,
// and in the order of older ones.
func BenchmarkManifest(b *testing.B) {
	const side = 1000
	for _, test := range []struct {
		name string
		cell func(i int) (lon, lat int)
	}{
		{"Sorted", func(i int) (int, int) { return i / side, i % side }},
		{"ByLatitude", func(i int) (int, int) { return i % side, i / side }},
	} {
		b.Run(test.name, func(b *testing.B) {
			schema := arrow.NewSchema(fields(b, "version", "variant", "year", "lon", "lat", "lon_i", "lat_i", "grid_size", "scales_size", "grid_mtime"), nil)
			r := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			for i := range side * side {
				lon, lat := test.cell(i)
				lon, lat = lon*10+5, lat*10-4995
				r.Field(0).(*array.StringBuilder).Append("1.0")
				r.Field(1).(*array.StringBuilder).Append("vultr")
				r.Field(2).(*array.Int32Builder).Append(2024)
				r.Field(3).(*array.Float64Builder).Append(float64(lon) / 100)
				r.Field(4).(*array.Float64Builder).Append(float64(lat) / 100)
				r.Field(5).(*array.Int32Builder).Append(int32(lon))
				r.Field(6).(*array.Int32Builder).Append(int32(lat))
				r.Field(7).(*array.Int64Builder).Append(100_000_000 + int64(i%side))
				r.Field(8).(*array.Int64Builder).Append(4_000_000 + int64(i%side))
				r.Field(9).(*array.TimestampBuilder).Append(1_700_000_000_000_000)
			}
			src := memsource.New(map[string][]byte{v1Manifest: tableOfRecord(b, r.NewRecord())})
			for b.Loop() {
				if d := only(b, src); d.Len() != side*side {
					b.Fatal(d.Len())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/side/side, "ns/tile")
		})
	}
}

// BenchmarkCopy opens a copy of an object that has not changed, which is read and summed once.
func BenchmarkCopy(b *testing.B) {
	data := make([]byte, 64<<20)
	src := serve(memsource.New(map[string][]byte{"object": data}))
	cfg := Config{Dir: b.TempDir()}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		c := newOpener(src, cfg).copies
		if a, err := c.open(b.Context(), "object"); err != nil || a.obj == nil {
			b.Fatal(err)
		}
		c.close()
	}
}
