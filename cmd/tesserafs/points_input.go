package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
)

// pointRows is a run of rows of a table of points.
type pointRows struct {
	lon, lat []float64
	year     []int        // nil: the table has no years
	columns  arrow.Record // what is passed on, all columns of the table
}

// pointReader reads a table of points from its beginning to its end, a batch of rows after another.
type pointReader interface {
	schema() *arrow.Schema // of the columns that are passed on
	years() bool           // whether the table says them
	rows() int64           // how many there are, more or less; 0 where that is not known
	next() (*pointRows, error)
	io.Closer
}

// pointFiles are the kinds of tables that are read, by the ends of their names.
var pointFiles = []struct {
	suffixes []string
	open     func(path string, numbers bool) (pointReader, error)
}{
	{[]string{".csv"}, openPointsCSV},
	{[]string{".geojson", ".json"}, openPointsJSON},
	{[]string{".parquet", ".geoparquet", ".pq"}, openPointsParquet},
}

// openPoints opens a table of points by the end of its name; "-" is CSV from standard input. With
// numbers, places and years that are text in the table are passed on as numbers.
func openPoints(path string, numbers bool) (pointReader, error) {
	if path == "-" {
		return openPointsCSV(path, numbers)
	}
	suffix := strings.ToLower(filepath.Ext(path))
	for _, kind := range pointFiles {
		if slices.Contains(kind.suffixes, suffix) {
			return kind.open(path, numbers)
		}
	}
	return nil, usageError("%s: what is in a file is told by the end of its name: .csv, .parquet or .geojson", path)
}

// pointError says what is wrong with a table of points, and where.
type pointError struct {
	file   string
	row    int64  // counted from 0, as pandas does; -1 where no one row is meant
	line   int    // of a text file, counted from 1; 0 where it is not known
	column string // "" where no one column is meant
	err    error
}

func (e *pointError) Error() string {
	s := e.file + ": "
	if e.row >= 0 {
		s += fmt.Sprintf("row %d", e.row)
		if e.line > 0 {
			s += fmt.Sprintf(" (line %d)", e.line)
		}
		s += ", "
	}
	if e.column != "" {
		s += "column " + e.column + ": "
	}
	return s + e.err.Error()
}

func (e *pointError) Unwrap() error { return e.err }

// refusePoints is the error of a table that cannot be used.
func refusePoints(file string, row int64, line int, column string, err error) error {
	return &coded{exitData, &pointError{file, row, line, column, err}}
}

// What the columns may be called, in the order in which they are looked for.
var (
	lonNames  = []string{"lon", "longitude", "lng", "long"}
	latNames  = []string{"lat", "latitude"}
	yearNames = []string{"year"}
)

// columnCalled finds a column by its names, whatever their case; -1 where there is none.
func columnCalled(columns, names []string) int {
	for _, name := range names {
		if i := slices.IndexFunc(columns, func(c string) bool { return strings.EqualFold(c, name) }); i >= 0 {
			return i
		}
	}
	return -1
}

// checkColumns refuses tables whose columns cannot be told apart.
func checkColumns(file string, columns []string) error {
	sorted := slices.Sorted(slices.Values(columns))
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return refusePoints(file, -1, 0, sorted[i], errors.New("there are two of that name: rename one"))
		}
	}
	return nil
}

// errNoPlaces is told where there are no columns of places, with those that there are.
func errNoPlaces(file string, columns []string) error {
	return refusePoints(file, -1, 0, "", fmt.Errorf("there are no columns lon and lat, in degrees: there are %q", columns))
}

// checkLon and checkLat say why a number is no place in degrees.
func checkLon(v float64) error { return checkDegrees(v, 180, "longitude") }
func checkLat(v float64) error { return checkDegrees(v, 90, "latitude") }

func checkDegrees(v, limit float64, what string) error {
	if !(math.Abs(v) <= limit) { // NaN too
		return fmt.Errorf("%v is not a %s: give degrees between -%v and %v", v, what, limit, limit)
	}
	return nil
}

// wholeYear takes a number for a year.
func wholeYear(v float64) (int, error) {
	if !(v >= 1 && v <= 9999) || v != math.Trunc(v) {
		return 0, fmt.Errorf("%v is not a year", v)
	}
	return int(v), nil
}

// textNumber reads a number.
func textNumber(s string) (float64, error) {
	if s = strings.TrimSpace(s); s == "" {
		return 0, errors.New("there is nothing where a number must be")
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not a number", s)
	}
	return v, nil
}

// maxPointRow is the most bytes of a text file that one row may take: beyond it a quote or a
// bracket is missing, and the rest of the file would be one value.
const maxPointRow = 16 << 20

// boundedRows is a text file of which each row has so many bytes at the most. mark is called
// between rows.
type boundedRows struct {
	io.Reader
	since int
}

func (b *boundedRows) mark() { b.since = 0 }

func (b *boundedRows) Read(p []byte) (int, error) {
	if b.since > maxPointRow {
		return 0, fmt.Errorf("one row has more than %d MiB: is a quote or a bracket missing?", maxPointRow>>20)
	}
	n, err := b.Reader.Read(p)
	b.since += n
	return n, err
}
