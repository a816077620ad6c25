package main

import (
	byteorder "encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// holdsPoints says whether a column can be one of points: WKB, or GeoParquet's own encoding of
// points, a struct of x and y.
func holdsPoints(t arrow.DataType) bool {
	if s, ok := t.(*arrow.StructType); ok {
		x, hasX := s.FieldByName("x")
		y, hasY := s.FieldByName("y")
		return hasX && hasY && x.Type.ID() == arrow.FLOAT64 && y.Type.ID() == arrow.FLOAT64
	}
	return t.ID() == arrow.BINARY || t.ID() == arrow.LARGE_BINARY
}

var errNoPoint = errors.New("there is no point")

// pointsOf reads the points of a column that holdsPoints.
func pointsOf(a arrow.Array) func(i int) (x, y float64, err error) {
	value := func(int) []byte { return nil }
	switch a := a.(type) {
	case *array.Struct:
		t := a.DataType().(*arrow.StructType)
		xi, _ := t.FieldIdx("x")
		yi, _ := t.FieldIdx("y")
		x, y := a.Field(xi).(*array.Float64), a.Field(yi).(*array.Float64)
		return func(i int) (float64, float64, error) {
			if a.IsNull(i) || x.IsNull(i) || y.IsNull(i) {
				return 0, 0, errNoPoint
			}
			return x.Value(i), y.Value(i), nil
		}
	case *array.Binary:
		value = a.Value
	case *array.LargeBinary:
		value = a.Value
	}
	return func(i int) (float64, float64, error) {
		if a.IsNull(i) {
			return 0, 0, errNoPoint
		}
		return wkbPoint(value(i))
	}
}

// wkbPoint reads a point of Well-Known Binary: ISO's, and PostGIS's with its flags. Heights and
// measures are passed over.
func wkbPoint(b []byte) (x, y float64, err error) {
	if len(b) < 5 || b[0] > 1 {
		return 0, 0, fmt.Errorf("%.20x is not WKB", b)
	}
	var order byteorder.ByteOrder = byteorder.BigEndian
	if b[0] == 1 {
		order = byteorder.LittleEndian
	}
	const flagZ, flagM, flagSRID = 0x80000000, 0x40000000, 0x20000000
	kind := order.Uint32(b[1:])
	at := 5
	if kind&flagSRID != 0 {
		at += 4
	}
	if base := kind &^ (flagZ | flagM | flagSRID); base >= 4000 || base%1000 != 1 {
		return 0, 0, fmt.Errorf("it is a geometry of WKB type %d, not a point", kind)
	}
	if len(b) < at+16 {
		return 0, 0, fmt.Errorf("%.40x is not a whole point of WKB", b)
	}
	x, y = math.Float64frombits(order.Uint64(b[at:])), math.Float64frombits(order.Uint64(b[at+8:]))
	if math.IsNaN(x) && math.IsNaN(y) { // POINT EMPTY
		return 0, 0, errNoPoint
	}
	return x, y, nil
}

// appendWKT writes a point as Well-Known Text.
func appendWKT(b []byte, x, y float64) []byte {
	b = append(b, "POINT ("...)
	b = strconv.AppendFloat(b, x, 'f', -1, 64)
	b = append(b, ' ')
	b = strconv.AppendFloat(b, y, 'f', -1, 64)
	return append(b, ')')
}
