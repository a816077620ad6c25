package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// jsonPoints reads a GeoJSON FeatureCollection of points (RFC 7946). Properties are passed on as
// columns. As each feature may have others, the file is read twice: for their names and types, and
// for the points.
type jsonPoints struct {
	name     string
	file     *os.File
	text     *boundedRows
	decoder  *json.Decoder
	columns  *arrow.Schema
	property []string // by column; "" for those that are made of the geometry or the feature's id
	year     string   // the property; "" for none
	count    int64    // features
	row      int64
	ended    bool // the last feature was read
}

// feature is one of a collection.
type feature struct {
	Type     string          `json:"type"`
	ID       json.RawMessage `json:"id"`
	Geometry *struct {
		Type        string          `json:"type"`
		Coordinates json.RawMessage `json:"coordinates"`
	} `json:"geometry"`
	Properties json.RawMessage `json:"properties"`

	lon, lat   float64
	properties map[string]json.RawMessage
}

func openPointsJSON(path string, _ bool) (_ pointReader, err error) {
	j := &jsonPoints{name: path}
	if j.file, err = os.Open(path); err != nil {
		return nil, fmt.Errorf("cannot read the points: %w", err)
	}
	defer func() {
		if err != nil {
			j.file.Close()
		}
	}()
	if info, err := j.file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file, and GeoJSON is read twice: put it into one", path)
	}
	if err := j.survey(); err != nil {
		return nil, err
	}
	return j, j.begin()
}

func (j *jsonPoints) schema() *arrow.Schema { return j.columns }
func (j *jsonPoints) years() bool           { return j.year != "" }
func (j *jsonPoints) rows() int64           { return j.count }
func (j *jsonPoints) Close() error          { return j.file.Close() }

func (j *jsonPoints) refuse(column string, err error) error {
	return refusePoints(j.name, j.row, 0, column, err)
}

// broken is the error of a file that is no GeoJSON, or cannot be read.
func (j *jsonPoints) broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	return refusePoints(j.name, -1, 0, "", fmt.Errorf("at byte %d: %w", j.decoder.InputOffset(), err))
}

// begin goes to the first feature.
func (j *jsonPoints) begin() error {
	if _, err := j.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	j.row, j.ended = 0, false
	j.text = &boundedRows{Reader: j.file}
	j.decoder = json.NewDecoder(j.text)
	if err := j.delim('{'); err != nil {
		return err
	}
	for {
		key, err := j.key()
		if err != nil {
			return err
		}
		switch key {
		case "":
			return refusePoints(j.name, -1, 0, "", errors.New("it has no features: a GeoJSON FeatureCollection of points is needed"))
		case "features":
			return j.delim('[')
		}
		if err := j.member(key); err != nil {
			return err
		}
	}
}

// delim takes a bracket.
func (j *jsonPoints) delim(want json.Delim) error {
	token, err := j.decoder.Token()
	if err != nil {
		return j.broken(err)
	}
	if token != want {
		return j.broken(fmt.Errorf("%v where %v must be: a GeoJSON FeatureCollection is needed", token, want))
	}
	return nil
}

// key takes the name of the collection's next member; "" at its end.
func (j *jsonPoints) key() (string, error) {
	token, err := j.decoder.Token()
	if err != nil {
		return "", j.broken(err)
	}
	key, _ := token.(string)
	return key, nil
}

// member looks at a member of the collection other than its features.
func (j *jsonPoints) member(key string) error {
	j.text.mark()
	var value json.RawMessage
	if err := j.decoder.Decode(&value); err != nil {
		return j.broken(err)
	}
	switch key {
	case "type":
		if string(value) != `"FeatureCollection"` {
			return refusePoints(j.name, -1, 0, "", fmt.Errorf("it is a %.40s, not a FeatureCollection", value))
		}
	case "crs": // of GeoJSON before RFC 7946
		var crs struct {
			Properties struct{ Name string }
		}
		if string(value) != "null" && json.Unmarshal(value, &crs) == nil {
			if name := crs.Properties.Name; !strings.HasSuffix(name, "CRS84") && !strings.HasSuffix(name, ":4326") {
				return refusePoints(j.name, -1, 0, "", fmt.Errorf("its CRS is %q: reproject it to longitude and latitude (EPSG:4326)", name))
			}
		}
	}
	return nil
}

// feature reads one, nil after the last.
func (j *jsonPoints) feature() (*feature, error) {
	if j.ended {
		return nil, nil
	}
	if !j.decoder.More() {
		j.ended = true
		return nil, j.delim(']')
	}
	j.text.mark()
	f := &feature{}
	if err := j.decoder.Decode(f); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil, j.broken(err)
		}
		return nil, j.refuse("", err)
	}
	switch {
	case f.Type != "Feature":
		return nil, j.refuse("", fmt.Errorf("it is a %.40q, not a Feature", f.Type))
	case f.Geometry == nil:
		return nil, j.refuse("geometry", errors.New("there is none"))
	case f.Geometry.Type != "Point":
		return nil, j.refuse("geometry", fmt.Errorf("it is a %.40s, not a Point", f.Geometry.Type))
	}
	var at []float64
	if err := json.Unmarshal(f.Geometry.Coordinates, &at); err != nil || len(at) < 2 {
		return nil, j.refuse("geometry", fmt.Errorf("%.80s are not coordinates of a point", f.Geometry.Coordinates))
	}
	f.lon, f.lat = at[0], at[1]
	if err := errors.Join(checkLon(f.lon), checkLat(f.lat)); err != nil {
		return nil, j.refuse("geometry", err)
	}
	if len(f.Properties) > 0 {
		if err := json.Unmarshal(f.Properties, &f.properties); err != nil {
			return nil, j.refuse("properties", errors.New("they are not an object"))
		}
	}
	return f, nil
}

// survey reads the whole file for its columns.
func (j *jsonPoints) survey() error {
	if err := j.begin(); err != nil {
		return err
	}
	var names []string
	kinds := map[string]arrow.DataType{}
	ids := arrow.DataType(arrow.Null)
	for {
		f, err := j.feature()
		if err != nil {
			return err
		}
		if f == nil {
			break
		}
		for name, value := range f.properties {
			if _, known := kinds[name]; !known {
				names = append(names, newNames(f.Properties, kinds)...)
			}
			kinds[name] = wider(kinds[name], kindOf(value))
		}
		ids = wider(ids, kindOf(f.ID))
		j.row++
	}
	j.count = j.row
	for { // to the end, for a CRS may stand there
		key, err := j.key()
		if err != nil {
			return err
		}
		if key == "" {
			break
		}
		if err := j.member(key); err != nil {
			return err
		}
	}
	var fields []arrow.Field
	column := func(name, property string, kind arrow.DataType) {
		if kind == arrow.Null {
			kind = arrow.BinaryTypes.String
		}
		fields = append(fields, arrow.Field{Name: name, Type: kind, Nullable: true})
		j.property = append(j.property, property)
	}
	// What a property is called like is passed on as the property.
	if ids != arrow.Null && kinds["id"] == nil {
		column("id", "", ids)
	}
	for _, name := range []string{"lon", "lat"} {
		if kinds[name] == nil {
			column(name, "", arrow.PrimitiveTypes.Float64)
		}
	}
	for _, name := range names {
		column(name, name, kinds[name])
	}
	if i := columnCalled(names, yearNames); i >= 0 {
		j.year = names[i]
	}
	j.columns = arrow.NewSchema(fields, nil)
	return nil
}

// newNames lists the properties of a feature that are not known, in their order.
func newNames(properties json.RawMessage, known map[string]arrow.DataType) []string {
	var names []string
	d := json.NewDecoder(bytes.NewReader(properties))
	_, _ = d.Token() // the bracket; it was decoded before, so nothing fails
	for d.More() {
		token, _ := d.Token()
		name, _ := token.(string)
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			break
		}
		if _, is := known[name]; !is && !slices.Contains(names, name) {
			names = append(names, name)
			known[name] = arrow.Null
		}
	}
	return names
}

// kindOf is the type of a column that holds a value.
func kindOf(value json.RawMessage) arrow.DataType {
	switch {
	case len(value) == 0, value[0] == 'n':
		return arrow.Null
	case value[0] == 't', value[0] == 'f':
		return arrow.FixedWidthTypes.Boolean
	case value[0] == '-', value[0] >= '0' && value[0] <= '9':
		if _, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			return arrow.PrimitiveTypes.Int64
		}
		return arrow.PrimitiveTypes.Float64
	}
	return arrow.BinaryTypes.String
}

// wider is the type of a column that holds values of both types; text holds any.
func wider(a, b arrow.DataType) arrow.DataType {
	number := func(t arrow.DataType) bool {
		return t == arrow.PrimitiveTypes.Int64 || t == arrow.PrimitiveTypes.Float64
	}
	switch {
	case a == nil || a == arrow.Null || a == b:
		return b
	case b == arrow.Null:
		return a
	case number(a) && number(b):
		return arrow.PrimitiveTypes.Float64
	}
	return arrow.BinaryTypes.String
}

func (j *jsonPoints) next() (*pointRows, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, j.columns)
	defer b.Release()
	rows := &pointRows{}
	for len(rows.lon) < pointBatch {
		f, err := j.feature()
		if err != nil {
			return nil, err
		}
		if f == nil {
			break
		}
		if j.year != "" {
			year, err := jsonYear(f.properties[j.year])
			if err != nil {
				return nil, j.refuse(j.year, err)
			}
			rows.year = append(rows.year, year)
		}
		rows.lon, rows.lat = append(rows.lon, f.lon), append(rows.lat, f.lat)
		for i, name := range j.property {
			value := f.properties[name]
			switch column := j.columns.Field(i).Name; {
			case name != "":
			case column == "lon":
				value = strconv.AppendFloat(nil, f.lon, 'g', -1, 64)
			case column == "lat":
				value = strconv.AppendFloat(nil, f.lat, 'g', -1, 64)
			default:
				value = f.ID
			}
			if err := appendJSON(b.Field(i), value); err != nil {
				return nil, j.refuse(j.columns.Field(i).Name, err)
			}
		}
		j.row++
	}
	if len(rows.lon) == 0 {
		return nil, io.EOF
	}
	rows.columns = b.NewRecord()
	return rows, nil
}

// jsonYear reads a year that is a number, or text of one.
func jsonYear(value json.RawMessage) (int, error) {
	text := string(value)
	if len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &text) != nil || text == "null" {
		text = ""
	}
	v, err := textNumber(text)
	if err != nil {
		return 0, err
	}
	return wholeYear(v)
}

// appendJSON adds a value to a column that holds its kind, as the survey has found; another was put
// there meanwhile.
func appendJSON(b array.Builder, value json.RawMessage) error {
	if len(value) == 0 || value[0] == 'n' {
		b.AppendNull()
		return nil
	}
	switch b := b.(type) {
	case *array.StringBuilder:
		text := string(value) // lists and objects stay JSON
		if value[0] == '"' {
			if err := json.Unmarshal(value, &text); err != nil {
				return err
			}
		}
		b.Append(text)
		return nil
	case *array.BooleanBuilder:
		b.Append(value[0] == 't')
		return nil
	}
	return b.AppendValueFromString(string(value))
}
