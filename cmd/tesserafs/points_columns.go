package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/flight"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/metadata"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/sample"
)

// pointsParquet writes a Parquet file, a row group a batch: the columns that are passed on, then
// float32 columns of values, or with raw int8 ones and a float32 scale. What is not known is null.
//
// Values go to the library as Parquet has them: those of rows that have any, and beside them a level a row, 0
// where it is null. Both are made once a batch. Out of Arrow arrays the library would make them again for each
// column, and take longer than reading the values from the tiles takes.
type pointsParquet struct {
	file *file.Writer
	raw  bool

	// Of a batch, and used again for the next.
	known  []int // rows with values
	levels []int16
	floats []float32
	ints   []int32
}

func newPointsParquet(out io.Writer, columns *arrow.Schema, _ int, raw bool) (pointWriter, error) {
	// Values hardly compress; whole numbers from -128 to 127 take a byte each in a dictionary, and
	// otherwise four.
	settings := []parquet.WriterProperty{
		parquet.WithBatchSize(pointBatch), parquet.WithDictionaryDefault(raw),
		parquet.WithCompression(compress.Codecs.Uncompressed), parquet.WithStats(false),
	}
	for _, f := range columns.Fields() {
		settings = append(settings, parquet.WithCompressionFor(f.Name, compress.Codecs.Snappy),
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
	about := columns.Metadata()
	schema, props := arrow.NewSchema(fields, &about), parquet.NewWriterProperties(settings...)
	parquetSchema, err := pqarrow.ToParquet(schema, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, err
	}
	keys := metadata.NewKeyValueMetadata()
	for i, key := range about.Keys() {
		if err := keys.Append(key, about.Values()[i]); err != nil {
			return nil, err
		}
	}
	// Parquet knows fewer types than Arrow; this is where programs that know Arrow look for the others.
	types := flight.SerializeSchema(schema, memory.DefaultAllocator)
	if err := keys.Append("ARROW:schema", base64.StdEncoding.EncodeToString(types)); err != nil {
		return nil, err
	}
	return &pointsParquet{
		file: file.NewParquetWriter(out, parquetSchema.Root(), file.WithWriterProps(props), file.WithWriteMetadata(keys)),
		raw:  raw,
	}, nil
}

func (w *pointsParquet) write(rows *pointRows, found *sample.Batch) error {
	w.known, w.levels = w.known[:0], w.levels[:0]
	for i, status := range found.Status[:len(rows.lon)] {
		var level int16
		if status == sample.Data {
			level, w.known = 1, append(w.known, i)
		}
		w.levels = append(w.levels, level)
	}
	group := w.file.AppendRowGroup()
	for i, column := range rows.columns.Columns() {
		if err := passOn(group, rows.columns.Schema().Field(i), column); err != nil {
			return err
		}
	}
	if err := w.values(group, found); err != nil {
		return err
	}
	return group.Close()
}

// values writes the columns of what was found.
func (w *pointsParquet) values(group file.SerialRowGroupWriter, found *sample.Batch) error {
	n := len(w.known)
	if !w.raw {
		w.floats = transposed(w.floats, w.known, found.Dequantise)
		for k := range grid.Bands {
			if err := writeColumn(group, w.floats[k*n:][:n], w.levels, nil); err != nil {
				return err
			}
		}
		return nil
	}
	w.ints = transposed(w.ints, w.known, func(i int, point []int32) {
		for k, value := range found.Embeddings[i*grid.Bands:][:grid.Bands] {
			point[k] = int32(value)
		}
	})
	for k := range grid.Bands {
		if err := writeColumn(group, w.ints[k*n:][:n], w.levels, nil); err != nil {
			return err
		}
	}
	w.floats = w.floats[:0]
	for _, i := range w.known {
		w.floats = append(w.floats, found.Scales[i])
	}
	return writeColumn(group, w.floats, w.levels, nil)
}

func (w *pointsParquet) finish() error {
	// Close alone would keep an error of the footer to itself.
	if err := w.file.FlushWithFooter(); err != nil {
		return err
	}
	return w.file.Close()
}

// passOn writes a column of any type. How lists and structs of Arrow become values and levels only pqarrow
// knows, and it writes them to files that are all its own. So it writes one in memory, from which they are read.
func passOn(group file.SerialRowGroupWriter, field arrow.Field, column arrow.Array) error {
	if field.Type.ID() == arrow.DICTIONARY {
		return passOnCategories(group, field, column)
	}
	var written bytes.Buffer
	props := parquet.NewWriterProperties(parquet.WithDictionaryDefault(false), parquet.WithStats(false))
	schema := arrow.NewSchema([]arrow.Field{field}, nil)
	writer, err := pqarrow.NewFileWriter(schema, &written, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return err
	}
	if err := writer.Write(array.NewRecord(schema, []arrow.Array{column}, int64(column.Len()))); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	reader, err := file.NewParquetReader(bytes.NewReader(written.Bytes()))
	if err != nil {
		return err
	}
	rows := reader.RowGroup(0)
	for i := range rows.NumColumns() {
		chunk, err := rows.Column(i)
		if err != nil {
			return err
		}
		about, err := rows.MetaData().ColumnChunk(i)
		if err != nil {
			return err
		}
		if err := passOnChunk(group, chunk, about.NumValues()); err != nil {
			return err
		}
	}
	return nil
}

// passOnCategories writes a column of categories. Their order may mean something; as values they would lose it.
func passOnCategories(group file.SerialRowGroupWriter, field arrow.Field, column arrow.Array) error {
	next, err := group.NextColumn()
	if err != nil {
		return err
	}
	var levels []int16
	if field.Nullable {
		levels = make([]int16, column.Len())
		for i := range levels {
			if column.IsValid(i) {
				levels[i] = 1
			}
		}
	}
	return pqarrow.WriteArrowToColumn(context.Background(), next, column, levels, nil, field.Nullable)
}

// passOnChunk writes what a column of a file holds: so many levels, and values.
func passOnChunk(group file.SerialRowGroupWriter, chunk file.ColumnChunkReader, count int64) error {
	switch c := chunk.(type) {
	case *file.BooleanColumnChunkReader:
		return passOnValues(group, c.ReadBatch, count)
	case *file.Int32ColumnChunkReader:
		return passOnValues(group, c.ReadBatch, count)
	case *file.Int64ColumnChunkReader:
		return passOnValues(group, c.ReadBatch, count)
	case *file.Float32ColumnChunkReader:
		return passOnValues(group, c.ReadBatch, count)
	case *file.Float64ColumnChunkReader:
		return passOnValues(group, c.ReadBatch, count)
	case *file.ByteArrayColumnChunkReader:
		return passOnValues(group, c.ReadBatch, count)
	case *file.FixedLenByteArrayColumnChunkReader:
		return passOnValues(group, c.ReadBatch, count)
	}
	return fmt.Errorf("column %s is of type %v", chunk.Descriptor().Path(), chunk.Type())
}

func passOnValues[T any](group file.SerialRowGroupWriter, read func(int64, []T, []int16, []int16) (int64, int, error), count int64) error {
	values, levels, repetitions := make([]T, count), make([]int16, count), make([]int16, count)
	total, n, err := read(count, values, levels, repetitions)
	if err != nil {
		return err
	}
	if total != count { // the levels of the others would say that there is nothing
		return fmt.Errorf("%d of %d values of a column were read back", total, count)
	}
	return writeColumn(group, values[:n], levels, repetitions)
}

// writeColumn writes the next column of a row group, which is of T in Parquet.
func writeColumn[T any](group file.SerialRowGroupWriter, values []T, levels, repetitions []int16) error {
	column, err := group.NextColumn()
	if err != nil {
		return err
	}
	_, err = column.(interface {
		WriteBatch(values []T, levels, repetitions []int16) (int64, error)
	}).WriteBatch(values, levels, repetitions)
	return err
}

// transposed puts the values of points band after band, in the memory of into if it is enough. values
// writes those of a point.
func transposed[T any](into []T, points []int, values func(i int, point []T)) []T {
	n := len(points)
	into = slices.Grow(into[:0], grid.Bands*n)[:grid.Bands*n]
	// So many points at a time lie in a processor's cache, and fill whole lines of it in each band.
	const together = 32
	var block [together * grid.Bands]T
	for first := 0; first < n; first += together {
		count := min(together, n-first)
		for j := range count {
			values(points[first+j], block[j*grid.Bands:][:grid.Bands])
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
