package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"golang.org/x/sync/errgroup"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/sample"
)

// pointWriter writes a table of points and what was found under them, a batch after another.
type pointWriter interface {
	write(rows *pointRows, found *sample.Batch) error
	finish() error
}

// pointFormats are the kinds of tables that are written, by name and the ends of names of files.
var pointFormats = map[string]func(out io.Writer, columns *arrow.Schema, geometry int, raw bool) (pointWriter, error){
	"csv": newPointsCSV, "parquet": newPointsParquet,
}

// formatOf is the format for a file's name; "" where the name does not tell.
func formatOf(path string) string {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv":
		return "csv"
	case ".parquet", ".geoparquet", ".pq":
		return "parquet"
	}
	return ""
}

// valueColumns are the names of the columns of what was found.
func valueColumns(raw bool) []string {
	names := make([]string, 0, grid.Bands+1)
	for i := range grid.Bands {
		names = append(names, "band_"+strconv.Itoa(i))
	}
	if raw {
		names = append(names, "scale")
	}
	return names
}

// outputFile is a file that appears whole, under its name, when it is finished, or not at all. What
// is no regular file, as standard output or a pipe, is written to as it is.
type outputFile struct {
	*bufio.Writer
	file *os.File
	temp string // "": none
	path string
}

func createOutput(path string) (*outputFile, error) {
	o := &outputFile{file: os.Stdout}
	mode := fs.FileMode(0o666)
	if path != "-" {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			path = target
		}
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			return nil, fmt.Errorf("%s is a directory: name a file", path)
		case err == nil && !info.Mode().IsRegular():
			o.file, err = os.OpenFile(path, os.O_WRONLY, 0)
		case err == nil || errors.Is(err, fs.ErrNotExist):
			if err == nil {
				mode = info.Mode().Perm()
			}
			o.path = path
			o.temp = filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d.part", filepath.Base(path), os.Getpid()))
			o.file, err = os.OpenFile(o.temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot write to %s: %w", path, err)
		}
	}
	o.Writer = bufio.NewWriterSize(o.file, 64<<10)
	return o, nil
}

// commit makes the file appear.
func (o *outputFile) commit() error {
	err := o.Flush()
	if o.temp == "" {
		return err
	}
	if closed := o.file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(o.temp, o.path)
	}
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", o.path, err)
	}
	o.temp = ""
	return nil
}

// abandon removes what was not committed.
func (o *outputFile) abandon() {
	if o.temp != "" {
		_ = o.file.Close()
		_ = os.Remove(o.temp)
	}
}

// pointsCSV writes CSV as RFC 4180 has it, with a header and line feeds. What is not known is empty.
type pointsCSV struct {
	out      io.Writer
	geometry int // column written as WKT; -1: none
	raw      bool
	buffers  [][]byte
}

func newPointsCSV(out io.Writer, columns *arrow.Schema, geometry int, raw bool) (pointWriter, error) {
	w := &pointsCSV{out: out, geometry: geometry, raw: raw, buffers: make([][]byte, 2*runtime.GOMAXPROCS(0))}
	var header []byte
	for _, f := range columns.Fields() {
		header = append(appendText(header, f.Name), ',')
	}
	header = append(header, strings.Join(valueColumns(raw), ",")...)
	_, err := out.Write(append(header, '\n'))
	return w, err
}

// write makes text of the parts of a batch side by side: numbers of a million points take a minute
// of one processor.
func (w *pointsCSV) write(rows *pointRows, found *sample.Batch) error {
	columns := make([]func([]byte, int) []byte, rows.columns.NumCols())
	for i := range columns {
		columns[i] = cellsOf(rows.columns.Column(i), i == w.geometry)
	}
	n, parts := len(rows.lon), len(w.buffers)
	workers, _ := errgroup.WithContext(context.Background())
	for part := range parts {
		workers.Go(func() error {
			b := w.buffers[part][:0]
			for i := part * n / parts; i < (part+1)*n/parts; i++ {
				for _, cell := range columns {
					b = append(cell(b, i), ',')
				}
				b = append(w.values(b, found, i), '\n')
			}
			w.buffers[part] = b
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		return err
	}
	for _, b := range w.buffers {
		if _, err := w.out.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (w *pointsCSV) finish() error { return nil }

// values adds the cells of what was found under a point.
func (w *pointsCSV) values(b []byte, found *sample.Batch, i int) []byte {
	embedding := found.Embeddings[i*grid.Bands:][:grid.Bands]
	switch {
	case found.Status[i] != sample.Data:
		b = append(b, commas[:grid.Bands-1]...)
		if w.raw {
			b = append(b, ',')
		}
		return b
	case w.raw:
		for _, v := range embedding {
			b = append(strconv.AppendInt(b, int64(v), 10), ',')
		}
		return appendFloat(b, float64(found.Scales[i]), 32)
	}
	var values [grid.Bands]float32
	found.Dequantise(i, values[:])
	for k, v := range values {
		if k > 0 {
			b = append(b, ',')
		}
		b = appendFloat(b, float64(v), 32)
	}
	return b
}

var commas = strings.Repeat(",", grid.Bands)

// appendFloat writes the shortest decimal that reads as the same number.
func appendFloat(b []byte, v float64, bits int) []byte {
	format := byte('f')
	if size := max(v, -v); size != 0 && !(size >= 1e-5 && size < 1e15) {
		format = 'g'
	}
	return strconv.AppendFloat(b, v, format, -1, bits)
}

// appendText writes text in quotes where CSV needs them.
func appendText(b []byte, s string) []byte {
	if !strings.ContainsAny(s, "\",\r\n") && s == strings.TrimSpace(s) {
		return append(b, s...)
	}
	b = append(b, '"')
	b = append(b, strings.ReplaceAll(s, `"`, `""`)...)
	return append(b, '"')
}

// cellsOf writes a value of a column as a cell of CSV.
func cellsOf(a arrow.Array, isGeometry bool) func(b []byte, i int) []byte {
	var cell func(b []byte, i int) []byte
	switch c := a.(type) {
	case *array.String:
		return func(b []byte, i int) []byte { // the columns of CSV, which have no nulls
			if c.IsNull(i) {
				return b
			}
			return appendText(b, c.Value(i))
		}
	case *array.Float64:
		cell = func(b []byte, i int) []byte { return appendFloat(b, c.Value(i), 64) }
	case *array.Float32:
		cell = func(b []byte, i int) []byte { return appendFloat(b, float64(c.Value(i)), 32) }
	default:
		cell = func(b []byte, i int) []byte { return appendText(b, a.ValueStr(i)) }
	}
	if isGeometry {
		point := pointsOf(a)
		cell = func(b []byte, i int) []byte {
			x, y, _ := point(i) // it was read before
			return appendWKT(b, x, y)
		}
	}
	return func(b []byte, i int) []byte {
		if a.IsNull(i) {
			return b
		}
		return cell(b, i)
	}
}
