// Package zarr writes Zarr v3 metadata documents and chunk keys. It knows no TESSERA, no files and
// no values: a store is documents under paths, and chunks that somebody else makes.
//
// # Objective
//
// A document says what zarr-python would have said of the same array or group, byte for byte: the
// same keys in the same order, the same spelling of numbers and strings, the same indentation. So a
// store made here can be held against one written by zarr-python with a plain diff, and whatever
// reads the one reads the other. The reference is zarr-python 3.4; the specification is
// https://zarr-specs.readthedocs.io/en/latest/v3/core/ ("the specification" below).
//
// # The way of a document
//
// Fill in an [Array] or a [Group] and ask for its [Array.JSON]. For a store with consolidated
// metadata, collect its nodes by path and hand them to [Consolidate] with the root group; what
// comes back is the root with every document inline.
//
// # Decisions
//
//   - Attributes are a list of names and values, written in the order given: people read these
//     files, and what belongs together should stand together.
//   - Only what is written today has a type: regular chunk grids, the default chunk key encoding,
//     the codecs bytes, transpose, zstd, crc32c and sharding_indexed. A codec is an implementation of
//     [Codec].
//   - A shard is arithmetic: [Shard] says where which inner chunk lies and makes the index, and knows
//     nothing of what the chunks hold.
//   - Documents are checked when they are written. A shape that does not fit its chunks, a fill
//     value its data type does not have, a number JSON cannot say: each is an error that names the
//     field, never a document some reader takes otherwise.
package zarr

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Node is an [Array] or a [Group].
type Node interface {
	// JSON is the node's document, the content of its zarr.json.
	JSON() ([]byte, error)

	document() (Attributes, error)
}

// Group is a group. Specification: "Group metadata".
//
//	{"attributes": {…}, "zarr_format": 3, "consolidated_metadata": {…}, "node_type": "group"}
type Group struct {
	Attributes   Attributes
	Consolidated *Consolidated // nil: no consolidated metadata
}

// JSON implements Node.
func (g Group) JSON() ([]byte, error) { return encode(g) }

func (g Group) document() (Attributes, error) {
	d := Attributes{{"attributes", g.Attributes}, {"zarr_format", 3}}
	if g.Consolidated != nil {
		c, err := g.Consolidated.document()
		if err != nil {
			return nil, err
		}
		d = append(d, Attribute{"consolidated_metadata", c})
	}
	return append(d, Attribute{"node_type", "group"}), nil
}

// Array is an array on a regular chunk grid whose chunks have the default keys (see [ChunkKey]).
// Specification: "Array metadata".
//
//	{"shape": [30, 20], "data_type": "int8", "chunk_grid": {…}, "chunk_key_encoding": {…}, "fill_value": 0,
//	 "codecs": [{"name": "bytes"}], "attributes": {…}, "dimension_names": ["y", "x"], "zarr_format": 3,
//	 "node_type": "array", "storage_transformers": []}
type Array struct {
	Shape      []int  // empty: a scalar
	DataType   string // "int8" … "uint64", "float32", "float64"
	ChunkShape []int  // as long as Shape, each at least 1; chunks at the edges have this shape, too

	// FillValue is what a chunk that does not exist holds: an int for integers, a float64 for
	// floats. A float may be infinite or NaN, which means the NaN of NumPy ("fill value list").
	FillValue any

	Codecs     []Codec
	Attributes Attributes

	// DimensionNames has a name for each dimension, or is empty: no names. xarray wants them.
	DimensionNames []string
}

// JSON implements Node.
func (a Array) JSON() ([]byte, error) { return encode(a) }

func (a Array) document() (Attributes, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	fill, err := a.fillValue()
	if err != nil {
		return nil, err
	}
	codecs, err := a.codecs()
	if err != nil {
		return nil, err
	}
	d := Attributes{
		{"shape", a.Shape},
		{"data_type", a.DataType},
		{"chunk_grid", Attributes{{"name", "regular"}, {"configuration", Attributes{{"chunk_shape", a.ChunkShape}}}}},
		{"chunk_key_encoding", Attributes{{"name", "default"}, {"configuration", Attributes{{"separator", "/"}}}}},
		{"fill_value", fill},
		{"codecs", codecs},
		{"attributes", a.Attributes},
	}
	if len(a.DimensionNames) > 0 {
		d = append(d, Attribute{"dimension_names", a.DimensionNames})
	}
	return append(d, Attribute{"zarr_format", 3}, Attribute{"node_type", "array"}, Attribute{"storage_transformers", []any{}}), nil
}

// codecs are the documents of the array's codecs.
func (a Array) codecs() ([]Attributes, error) {
	codecs := make([]Attributes, len(a.Codecs))
	for i, c := range a.Codecs {
		var err error
		if codecs[i], err = c.document(a); err != nil {
			return nil, err
		}
	}
	return codecs, nil
}

// dataType is what has to be known of a data type to write a document.
type dataType struct {
	bytes    int
	float    bool
	min, max int64 // of integers; uint64 beyond int64 is nothing we fill with
}

var dataTypes = map[string]dataType{
	"int8": {1, false, math.MinInt8, math.MaxInt8}, "uint8": {1, false, 0, math.MaxUint8},
	"int16": {2, false, math.MinInt16, math.MaxInt16}, "uint16": {2, false, 0, math.MaxUint16},
	"int32": {4, false, math.MinInt32, math.MaxInt32}, "uint32": {4, false, 0, math.MaxUint32},
	"int64": {8, false, math.MinInt64, math.MaxInt64}, "uint64": {8, false, 0, math.MaxInt64},
	"float32": {4, true, 0, 0}, "float64": {8, true, 0, 0},
}

func (a Array) check() error {
	if _, ok := dataTypes[a.DataType]; !ok {
		return fmt.Errorf("data type %q is not known", a.DataType)
	}
	if len(a.ChunkShape) != len(a.Shape) {
		return fmt.Errorf("chunk shape %v does not fit the shape %v", a.ChunkShape, a.Shape)
	}
	for i := range a.Shape {
		if a.Shape[i] < 0 || a.ChunkShape[i] < 1 {
			return fmt.Errorf("shape %v in chunks of %v: a dimension is too small", a.Shape, a.ChunkShape)
		}
	}
	if n := len(a.DimensionNames); n > 0 && n != len(a.Shape) {
		return fmt.Errorf("dimension names %q do not fit the shape %v", a.DimensionNames, a.Shape)
	}
	if len(a.Codecs) == 0 || slices.Contains(a.Codecs, nil) {
		return errors.New("an array needs a codec that makes bytes of it, and no nil among its codecs")
	}
	return nil
}

// fillValue is the fill value as the document says it. A float32 is written as the float64 it is
// equal to, as zarr-python does: 0.1 becomes 0.10000000149011612.
func (a Array) fillValue() (any, error) {
	t := dataTypes[a.DataType]
	wrong := fmt.Errorf("fill value %v (%T) is not %s", a.FillValue, a.FillValue, a.DataType)
	if !t.float {
		v, ok := a.FillValue.(int)
		if !ok || int64(v) < t.min || int64(v) > t.max {
			return nil, wrong
		}
		return v, nil
	}
	v, ok := a.FillValue.(float64)
	if !ok {
		return nil, wrong
	}
	if t.bytes == 4 {
		narrow := float64(float32(v))
		if math.IsInf(narrow, 0) && !math.IsInf(v, 0) {
			return nil, wrong
		}
		v = narrow
	}
	switch {
	case math.IsNaN(v):
		return "NaN", nil
	case math.IsInf(v, 1):
		return "Infinity", nil
	case math.IsInf(v, -1):
		return "-Infinity", nil
	}
	return v, nil
}

// Codec is one step of the way from the values of a chunk to its bytes.
type Codec interface {
	// document is the codec's entry in the document of the array it is a codec of.
	document(a Array) (Attributes, error)
}

// Bytes is the codec "bytes": values one after another in C order, least significant byte first.
// https://zarr-specs.readthedocs.io/en/latest/v3/codecs/bytes/index.html
//
//	{"name": "bytes", "configuration": {"endian": "little"}}
//
// Values of one byte have no byte order, and the document does not give them one:
//
//	{"name": "bytes"}
type Bytes struct{}

func (Bytes) document(a Array) (Attributes, error) {
	d := Attributes{{"name", "bytes"}}
	if dataTypes[a.DataType].bytes > 1 {
		d = append(d, Attribute{"configuration", Attributes{{"endian", "little"}}})
	}
	return d, nil
}

// ChunkKey is the key of a chunk below its array: "c/0/1/2", of a scalar "c". Indices are not
// negative. Specification: "Default chunk key encoding", with the separator "/".
func ChunkKey(indices ...int) string {
	key := []byte{'c'}
	for _, i := range indices {
		key = strconv.AppendInt(append(key, '/'), int64(i), 10)
	}
	return string(key)
}

// ParseIndex reads one index of a chunk key, as ChunkKey writes it: "7", never "07", "+7" or "-7".
func ParseIndex(element string) (index int, ok bool) {
	v, err := strconv.Atoi(element)
	if err != nil || v < 0 || strconv.Itoa(v) != element {
		return 0, false
	}
	return v, true
}

// encode writes a node's document.
func encode(n Node) ([]byte, error) {
	d, err := n.document()
	if err != nil {
		return nil, fmt.Errorf("zarr.json: %w", err)
	}
	b, err := indented(d)
	if err != nil {
		return nil, fmt.Errorf("zarr.json: %w", err)
	}
	return slices.Clip(b), nil
}
