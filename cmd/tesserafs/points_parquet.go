package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
)

// parquetPoints reads a Parquet file: columns of longitudes and latitudes, or a GeoParquet geometry
// of points (https://geoparquet.org/releases/v1.1.0/).
type parquetPoints struct {
	name     string
	file     *os.File
	readers  []*pqarrow.ColumnReader
	columns  *arrow.Schema
	lon, lat int // columns; -1 where geometry is one
	geometry int
	year     int // -1: none
	left     int64
	count    int64
	row      int64
}

// maxPointColumns bounds the columns of a table of points.
const maxPointColumns = 10_000

func openPointsParquet(path string, _ bool) (pointReader, error) {
	p := &parquetPoints{name: path, lon: -1, lat: -1, geometry: -1, year: -1}
	var err error
	if p.file, err = os.Open(path); err != nil {
		return nil, fmt.Errorf("cannot read the points: %w", err)
	}
	if err := p.guarded(p.open); err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

// guarded runs a call of the Parquet library, which panics on some damaged files.
func (p *parquetPoints) guarded(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = p.damaged(fmt.Errorf("%v", r))
		}
	}()
	return call()
}

func (p *parquetPoints) damaged(err error) error {
	return refusePoints(p.name, -1, 0, "", fmt.Errorf("it is no Parquet file, or damaged: %w", err))
}

func (p *parquetPoints) refuse(column int, row int, err error) error {
	return refusePoints(p.name, p.row+int64(row), 0, p.columns.Field(column).Name, err)
}

func (p *parquetPoints) open() error {
	props := parquet.NewReaderProperties(boundedMemory{memory.DefaultAllocator})
	props.BufferedStreamEnabled = true // pages, not whole row groups
	parquetFile, err := file.NewParquetReader(p.file, file.WithReadProps(props))
	if err != nil {
		return p.damaged(err)
	}
	if n := parquetFile.MetaData().Schema.NumColumns(); n > maxPointColumns {
		return refusePoints(p.name, -1, 0, "", fmt.Errorf("it has %d columns: at most %d are read", n, maxPointColumns))
	}
	arrowFile, err := pqarrow.NewFileReader(parquetFile, pqarrow.ArrowReadProperties{BatchSize: pointBatch}, boundedMemory{memory.DefaultAllocator})
	if err != nil {
		return p.damaged(err)
	}
	leaves, groups := map[int]bool{}, make([]int, parquetFile.NumRowGroups())
	for i := range parquetFile.MetaData().Schema.NumColumns() {
		leaves[i] = true
	}
	for i := range groups {
		groups[i] = i
	}
	var fields []arrow.Field
	for i := range arrowFile.Manifest.Fields {
		reader, err := arrowFile.GetFieldReader(context.Background(), i, leaves, groups)
		if err != nil {
			return p.damaged(err)
		}
		field := *reader.Field()
		field.Metadata = withoutFieldID(field.Metadata)
		p.readers, fields = append(p.readers, reader), append(fields, field)
	}
	p.count = parquetFile.NumRows()
	p.left = p.count
	return p.choose(fields, parquetFile.MetaData().KeyValueMetadata().FindValue("geo"))
}

// withoutFieldID leaves out the numbers that the columns had in the file they come from.
func withoutFieldID(m arrow.Metadata) arrow.Metadata {
	kept := m.ToMap()
	delete(kept, "PARQUET:field_id")
	return arrow.MetadataFrom(kept)
}

// choose finds the columns that say where the points are.
func (p *parquetPoints) choose(fields []arrow.Field, geo *string) error {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	if err := checkColumns(p.name, names); err != nil {
		return err
	}
	metadata := arrow.Metadata{}
	if geo != nil { // what is written is GeoParquet, too
		metadata = arrow.MetadataFrom(map[string]string{"geo": *geo})
	}
	p.columns = arrow.NewSchema(fields, &metadata)
	p.lon, p.lat, p.year = columnCalled(names, lonNames), columnCalled(names, latNames), columnCalled(names, yearNames)
	wanted := []int{p.lon, p.lat, p.year}
	if p.lon < 0 || p.lat < 0 {
		p.lon, p.lat = -1, -1
		if geo == nil {
			return errNoPlaces(p.name, names)
		}
		column, err := geometryColumn(*geo)
		if err != nil {
			return refusePoints(p.name, -1, 0, column, err)
		}
		if p.geometry = slices.Index(names, column); p.geometry < 0 {
			return refusePoints(p.name, -1, 0, column, errors.New("its geo metadata names this column, and there is none"))
		}
		if !holdsPoints(fields[p.geometry].Type) {
			return refusePoints(p.name, -1, 0, column, fmt.Errorf("it is %v, not WKB or points of x and y", fields[p.geometry].Type))
		}
		wanted = []int{p.year}
	}
	for _, i := range wanted {
		if i >= 0 && !isNumber(fields[i].Type) {
			return refusePoints(p.name, -1, 0, names[i], fmt.Errorf("it is %v, not numbers", fields[i].Type))
		}
	}
	return nil
}

// geometryColumn finds the primary geometry in GeoParquet's metadata, and refuses one that is not in
// longitude and latitude. Coordinates are in this order in GeoParquet whatever the CRS says.
func geometryColumn(geo string) (column string, err error) {
	var m struct {
		Primary string `json:"primary_column"`
		Columns map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(geo), &m); err != nil {
		return "", fmt.Errorf("its geo metadata is damaged: %w", err)
	}
	c, ok := m.Columns[m.Primary]
	if !ok {
		return m.Primary, errors.New("its geo metadata says nothing of its primary column")
	}
	if encoding := string(c["encoding"]); encoding != `"WKB"` && encoding != `"point"` {
		return m.Primary, fmt.Errorf("its geometries are encoded as %.20s: points are needed, as WKB or point", encoding)
	}
	crs, said := c["crs"]
	if !said { // then it is OGC:CRS84
		return m.Primary, nil
	}
	return m.Primary, checkCRS(crs)
}

// checkCRS refuses a coordinate reference system, as PROJJSON, that is not longitude and latitude on
// WGS 84.
func checkCRS(crs json.RawMessage) error {
	var c struct {
		Type, Name string
		ID         struct {
			Authority string
			Code      any
		}
	}
	if string(crs) == "null" {
		return errors.New("its CRS is not known: say that it is EPSG:4326 (geopandas: set_crs), if it is")
	}
	if err := json.Unmarshal(crs, &c); err != nil {
		return fmt.Errorf("its CRS is damaged: %w", err)
	}
	switch fmt.Sprintf("%s:%v", c.ID.Authority, c.ID.Code) {
	case "OGC:CRS84", "OGC:CRS84h", "EPSG:4326", "EPSG:4979":
		return nil
	case ":<nil>": // told by name alone
		if c.Type == "GeographicCRS" && strings.HasPrefix(c.Name, "WGS 84") {
			return nil
		}
	}
	return fmt.Errorf("its CRS is %.60q: reproject it to longitude and latitude (EPSG:4326)", c.Name)
}

func (p *parquetPoints) schema() *arrow.Schema { return p.columns }
func (p *parquetPoints) years() bool           { return p.year >= 0 }
func (p *parquetPoints) rows() int64           { return p.count }
func (p *parquetPoints) Close() error          { return p.file.Close() }

func (p *parquetPoints) next() (rows *pointRows, err error) {
	if p.left <= 0 {
		return nil, io.EOF
	}
	return rows, p.guarded(func() error {
		n := min(p.left, pointBatch)
		columns := make([]arrow.Array, len(p.readers))
		for i, reader := range p.readers {
			chunks, err := reader.NextBatch(n)
			if err != nil {
				return refusePoints(p.name, p.row, 0, p.columns.Field(i).Name, fmt.Errorf("it cannot be read: %w", err))
			}
			if int64(chunks.Len()) != n {
				return p.damaged(fmt.Errorf("column %s ends at row %d of %d", p.columns.Field(i).Name, p.row+int64(chunks.Len()), p.count))
			}
			if columns[i], err = array.Concatenate(chunks.Chunks(), memory.DefaultAllocator); err != nil {
				return p.damaged(err)
			}
		}
		rows = &pointRows{columns: array.NewRecord(p.columns, columns, n)}
		if err := p.places(rows); err != nil {
			return err
		}
		p.left, p.row = p.left-n, p.row+n
		return nil
	})
}

// places reads where the points of a batch are, and of when.
func (p *parquetPoints) places(rows *pointRows) error {
	n := int(rows.columns.NumRows())
	rows.lon, rows.lat = make([]float64, n), make([]float64, n)
	if p.geometry >= 0 {
		point := pointsOf(rows.columns.Column(p.geometry))
		for i := range n {
			var err error
			if rows.lon[i], rows.lat[i], err = point(i); err == nil {
				err = errors.Join(checkLon(rows.lon[i]), checkLat(rows.lat[i]))
			}
			if err != nil {
				return p.refuse(p.geometry, i, err)
			}
		}
	} else {
		for _, c := range []struct {
			column int
			into   []float64
			check  func(float64) error
		}{{p.lon, rows.lon, checkLon}, {p.lat, rows.lat, checkLat}} {
			if err := p.numbers(rows, c.column, c.into, c.check); err != nil {
				return err
			}
		}
	}
	if p.year < 0 {
		return nil
	}
	years := make([]float64, n)
	rows.year = make([]int, n)
	err := p.numbers(rows, p.year, years, func(v float64) error { _, err := wholeYear(v); return err })
	for i, v := range years {
		rows.year[i] = int(v)
	}
	return err
}

// numbers reads a column of numbers.
func (p *parquetPoints) numbers(rows *pointRows, column int, into []float64, check func(float64) error) error {
	values := rows.columns.Column(column)
	number := numbersOf(values)
	for i := range into {
		err := errors.New("there is nothing where a number must be")
		if values.IsValid(i) {
			into[i] = number(i)
			err = check(into[i])
		}
		if err != nil {
			return p.refuse(column, i, err)
		}
	}
	return nil
}

func isNumber(t arrow.DataType) bool { return arrow.IsInteger(t.ID()) || arrow.IsFloating(t.ID()) }

// numbersOf reads an array of a type that isNumber.
func numbersOf(a arrow.Array) func(i int) float64 {
	switch a := a.(type) {
	case *array.Float64:
		return a.Value
	case *array.Float32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Float16:
		return func(i int) float64 { return float64(a.Value(i).Float32()) }
	case *array.Int8:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int16:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int64:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint8:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint16:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint64:
		return func(i int) float64 { return float64(a.Value(i)) }
	}
	return func(int) float64 { return math.NaN() }
}

// boundedMemory refuses allocations that only a damaged file can ask for. The library has no other
// way to be told than a panic, which guarded catches.
type boundedMemory struct{ memory.Allocator }

const maxAllocation = 1 << 30

func (b boundedMemory) Allocate(size int) []byte {
	b.check(size)
	return b.Allocator.Allocate(size)
}

func (b boundedMemory) Reallocate(size int, old []byte) []byte {
	b.check(size)
	return b.Allocator.Reallocate(size, old)
}

func (boundedMemory) check(size int) {
	if size < 0 || size > maxAllocation {
		panic(fmt.Sprintf("it asks for %d bytes at once", size))
	}
}
