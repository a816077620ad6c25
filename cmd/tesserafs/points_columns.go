package main

import (
	"io"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/sample"
)

// pointsParquet writes a Parquet file, a row group a batch: the columns that are passed on, then
// float32 columns of values, or with raw int8 ones and a float32 scale. What is not known is null.
type pointsParquet struct {
	parquet *pqarrow.FileWriter
	schema  *arrow.Schema
	raw     bool
	floats  []float32 // used again for each batch
	bytes   []int8
}

func newPointsParquet(out io.Writer, columns *arrow.Schema, _ int, raw bool) (pointWriter, error) {
	// Values hardly compress; whole numbers from -128 to 127 take a byte each in a dictionary, and
	// otherwise four.
	props := []parquet.WriterProperty{
		parquet.WithMaxRowGroupLength(pointBatch), parquet.WithBatchSize(pointBatch), parquet.WithDictionaryDefault(raw),
		parquet.WithCompression(compress.Codecs.Uncompressed), parquet.WithStats(false),
	}
	for _, f := range columns.Fields() {
		props = append(props, parquet.WithCompressionFor(f.Name, compress.Codecs.Snappy),
			parquet.WithDictionaryFor(f.Name, !isNumber(f.Type)), parquet.WithStatsFor(f.Name, true))
	}
	fields := slices.Clone(columns.Fields())
	for _, name := range valueColumns(raw) {
		field := arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float32, Nullable: true}
		if raw && name != "scale" {
			field.Type = arrow.PrimitiveTypes.Int8
		}
		fields = append(fields, field)
	}
	metadata := columns.Metadata()
	w := &pointsParquet{schema: arrow.NewSchema(fields, &metadata), raw: raw}
	var err error
	w.parquet, err = pqarrow.NewFileWriter(w.schema, out, parquet.NewWriterProperties(props...), pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	return w, err
}

func (w *pointsParquet) write(rows *pointRows, found *sample.Batch) error {
	n := len(rows.lon)
	valid, missing := make([]byte, (n+7)/8), 0
	for i, status := range found.Status[:n] {
		if status == sample.Data {
			valid[i/8] |= 1 << (i % 8)
		} else {
			missing++
		}
	}
	column := func(t arrow.DataType, values []byte) arrow.Array {
		return array.MakeFromData(array.NewData(t, n, []*memory.Buffer{memory.NewBufferBytes(valid), memory.NewBufferBytes(values)}, nil, missing, 0))
	}
	columns := slices.Clone(rows.columns.Columns())
	if w.raw {
		w.bytes = transposed(w.bytes, n, func(i int, point []int8) { copy(point, found.Embeddings[i*grid.Bands:]) })
		for k := range grid.Bands {
			columns = append(columns, column(arrow.PrimitiveTypes.Int8, arrow.Int8Traits.CastToBytes(w.bytes[k*n:][:n])))
		}
		columns = append(columns, column(arrow.PrimitiveTypes.Float32, arrow.Float32Traits.CastToBytes(found.Scales[:n])))
	} else {
		w.floats = transposed(w.floats, n, found.Dequantise)
		for k := range grid.Bands {
			columns = append(columns, column(arrow.PrimitiveTypes.Float32, arrow.Float32Traits.CastToBytes(w.floats[k*n:][:n])))
		}
	}
	return w.parquet.Write(array.NewRecord(w.schema, columns, int64(n)))
}

func (w *pointsParquet) finish() error { return w.parquet.Close() }

// transposed puts the values of n points band after band, in the memory of into if it is enough. values
// writes those of a point.
func transposed[T any](into []T, n int, values func(i int, point []T)) []T {
	into = slices.Grow(into[:0], grid.Bands*n)[:grid.Bands*n]
	// So many points at a time lie in a processor's cache, and fill whole lines of it in each band.
	const together = 32
	var block [together * grid.Bands]T
	for first := 0; first < n; first += together {
		count := min(together, n-first)
		for j := range count {
			values(first+j, block[j*grid.Bands:][:grid.Bands])
		}
		for k := range grid.Bands {
			band := into[k*n+first:][:count]
			for j := range band {
				band[j] = block[j*grid.Bands+k]
			}
		}
	}
	return into
}
