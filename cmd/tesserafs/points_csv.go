package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// csvPoints reads a CSV file with a header. Columns are passed on as the text they are.
type csvPoints struct {
	name           string
	file           *os.File
	text           *boundedRows
	csv            *csv.Reader
	columns        *arrow.Schema
	lon, lat, year int // columns; year may be -1
	lines, row     int64
}

func openPointsCSV(path string, numbers bool) (_ pointReader, err error) {
	c := &csvPoints{name: path, file: os.Stdin, row: -1}
	if path == "-" {
		c.name = "standard input"
	} else {
		if c.file, err = os.Open(path); err != nil {
			return nil, fmt.Errorf("cannot read the points: %w", err)
		}
		defer func() {
			if err != nil {
				c.file.Close()
			}
		}()
		if c.lines, err = countLines(c.file); err != nil {
			return nil, fmt.Errorf("cannot read the points: %w", err)
		}
	}
	c.text = &boundedRows{Reader: c.file}
	c.csv = csv.NewReader(c.text)
	c.csv.ReuseRecord = true
	names, err := c.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, refusePoints(c.name, -1, 0, "", errors.New("it is empty: a header is needed, with columns lon and lat"))
	} else if err != nil {
		return nil, c.refuse(err)
	}
	names = slices.Clone(names)
	names[0] = strings.TrimPrefix(names[0], "\ufeff") // as spreadsheets write it
	if err := checkColumns(c.name, names); err != nil {
		return nil, err
	}
	c.lon, c.lat, c.year = columnCalled(names, lonNames), columnCalled(names, latNames), columnCalled(names, yearNames)
	if c.lon < 0 || c.lat < 0 {
		return nil, errNoPlaces(c.name, names)
	}
	fields := make([]arrow.Field, len(names))
	for i, name := range names {
		fields[i] = arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true}
		switch {
		case !numbers:
		case i == c.lon, i == c.lat:
			fields[i].Type = arrow.PrimitiveTypes.Float64
		case i == c.year:
			fields[i].Type = arrow.PrimitiveTypes.Int32
		}
	}
	c.columns = arrow.NewSchema(fields, nil)
	c.row = 0
	return c, nil
}

// countLines counts the lines of a file that can be read again, for a bar to show how far it is; a
// pipe has 0.
func countLines(f *os.File) (int64, error) {
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return 0, err
	}
	lines, buf := int64(0), make([]byte, 1<<20)
	for {
		n, err := f.Read(buf)
		lines += int64(bytes.Count(buf[:n], []byte{'\n'}))
		if errors.Is(err, io.EOF) {
			_, err = f.Seek(0, io.SeekStart)
			return lines, err
		} else if err != nil {
			return 0, err
		}
	}
}

func (c *csvPoints) schema() *arrow.Schema { return c.columns }
func (c *csvPoints) years() bool           { return c.year >= 0 }
func (c *csvPoints) rows() int64           { return max(0, c.lines-1) }
func (c *csvPoints) Close() error          { return c.file.Close() }

// refuse gives an error of package csv its place.
func (c *csvPoints) refuse(err error) error {
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		return refusePoints(c.name, c.row, parse.Line, "", parse.Err)
	}
	return refusePoints(c.name, c.row, 0, "", err)
}

func (c *csvPoints) next() (*pointRows, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, c.columns)
	defer b.Release()
	rows := &pointRows{lon: make([]float64, 0, pointBatch), lat: make([]float64, 0, pointBatch)}
	for len(rows.lon) < pointBatch {
		c.text.mark()
		record, err := c.csv.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, c.refuse(err)
		}
		if err := c.place(record, rows); err != nil {
			return nil, err
		}
		for i, value := range record {
			switch f := b.Field(i).(type) {
			case *array.StringBuilder:
				f.Append(value)
			case *array.Float64Builder:
				if i == c.lon {
					f.Append(rows.lon[len(rows.lon)-1])
				} else {
					f.Append(rows.lat[len(rows.lat)-1])
				}
			case *array.Int32Builder:
				f.Append(int32(rows.year[len(rows.year)-1]))
			}
		}
		c.row++
	}
	if len(rows.lon) == 0 {
		return nil, io.EOF
	}
	rows.columns = b.NewRecord()
	return rows, nil
}

// place reads the numbers of a row.
func (c *csvPoints) place(record []string, rows *pointRows) error {
	number := func(column int, check func(float64) error) (float64, error) {
		v, err := textNumber(record[column])
		if err == nil {
			err = check(v)
		}
		if err != nil {
			line, _ := c.csv.FieldPos(column)
			return 0, refusePoints(c.name, c.row, line, c.columns.Field(column).Name, err)
		}
		return v, nil
	}
	lon, err := number(c.lon, checkLon)
	if err != nil {
		return err
	}
	lat, err := number(c.lat, checkLat)
	if err != nil {
		return err
	}
	if c.year >= 0 {
		year, err := number(c.year, func(v float64) error { _, err := wholeYear(v); return err })
		if err != nil {
			return err
		}
		rows.year = append(rows.year, int(year))
	}
	rows.lon, rows.lat = append(rows.lon, lon), append(rows.lat, lat)
	return nil
}
