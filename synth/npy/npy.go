// Package npy reads the header of an NPY file: what a NumPy array on disk is, and where its values
// begin. It reads no values.
//
// # Objective
//
// A tile's arrays are NPY files of up to 150 MB of which a reader wants ranges. The header is all
// that has to be understood for that: after it the values lie bare, in the order it names. The
// format is NEP 1 (https://numpy.org/neps/nep-0001-npy-format.html) and numpy.lib.format, versions
// 1.0, 2.0 and 3.0.
//
// # The way of a header
//
// Read a few bytes from the start of the file (128 hold every header NumPy writes for a plain
// array), ask [HeaderSize] how many the header takes, read the rest if there is any, and hand all
// of it to [Parse]. Then [Header.CheckSize] tells whether the object holds what its header says.
//
// # Decisions
//
//   - The header is a Python dict literal. The parser here knows the one form the format allows:
//     the keys descr, fortran_order and shape, each once and in any order; strings in either kind
//     of quotes; a trailing comma; "(5,)" and "()"; the long integers ("5L") of Python 2 where the
//     version is 1.0 or 2.0. Nothing is evaluated, and whatever else np.load might put up with
//     (comments, escapes, signs, a list for a shape) is an error.
//   - Spellings of the same dtype are one: "i1", "b", "<i1" and the like are read as "|i1". A
//     float whose byte order is not written stays as it is, since it depends on the machine.
//   - Structures, subarrays and pickled objects are refused by Parse, by name. Any other dtype
//     is reported in Descr; its size is known here only for the two a tile is made of.
//   - An object may be longer than its header says. np.load ignores what follows the values, and
//     so do we: only a short object is damaged.
//
// # Guarantees
//
// No input makes this package panic, and none makes it allocate more than the input's own length:
// sizes that a header claims are only ever compared.
package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// MaxHeader is the most bytes of a file that HeaderSize asks for and Parse accepts. The headers of
// plain arrays take 128; NumPy itself refuses to parse more than 10,000 without being told to.
const MaxHeader = 64 << 10

// preamble is the length of magic, version and the longer of the two length fields.
const preamble = 12

const magic = "\x93NUMPY"

// Header is what an NPY file says of its array.
type Header struct {
	Descr      string // dtype in NumPy's array-protocol spelling: "|i1", "<f4"
	Fortran    bool   // the first dimension varies fastest
	Shape      []int  // no negative numbers; empty for a scalar
	DataOffset int64  // bytes before the first value
}

// HeaderSize tells from the first bytes of a file (12 are enough) how many bytes its header takes,
// magic and padding included: what Parse needs. It is at most MaxHeader.
func HeaderSize(prefix []byte) (int, error) {
	start, size, err := dictionary(prefix)
	if err != nil {
		return 0, err
	}
	return start + size, nil
}

// dictionary finds where the header's dict literal begins and how long it is.
func dictionary(prefix []byte) (start, size int, err error) {
	n := min(len(prefix), len(magic))
	if string(prefix[:n]) != magic[:n] {
		return 0, 0, fmt.Errorf("not an NPY file: it begins with %q", prefix[:n])
	}
	if len(prefix) < preamble {
		return 0, 0, fmt.Errorf("truncated: an NPY header takes more than %d bytes", len(prefix))
	}
	var length uint32
	switch major, minor := prefix[6], prefix[7]; {
	case major == 1 && minor == 0:
		start, length = 10, uint32(binary.LittleEndian.Uint16(prefix[8:]))
	case (major == 2 || major == 3) && minor == 0:
		start, length = 12, binary.LittleEndian.Uint32(prefix[8:])
	default:
		return 0, 0, fmt.Errorf("NPY version %d.%d is not known; 1.0, 2.0 and 3.0 are", major, minor)
	}
	if length > uint32(MaxHeader-start) {
		return 0, 0, fmt.Errorf("NPY header of %d bytes is too long; at most %d are read", int64(start)+int64(length), MaxHeader)
	}
	return start, int(length), nil
}

// Parse reads a header from the first bytes of a file: HeaderSize of them, or more.
func Parse(prefix []byte) (Header, error) {
	start, size, err := dictionary(prefix)
	if err != nil {
		return Header{}, err
	}
	if len(prefix)-start < size {
		return Header{}, fmt.Errorf("truncated: the NPY header has %d bytes, of which %d are there", start+size, len(prefix))
	}
	h, err := parseDict(string(prefix[start:start+size]), prefix[6] < 3)
	if err != nil {
		return Header{}, fmt.Errorf("NPY header: %w", err)
	}
	h.DataOffset = int64(start + size)
	return h, nil
}

// int8Spellings are the dtypes numpy.dtype takes for int8: one byte has no byte order.
var int8Spellings = map[string]bool{"|i1": true, "i1": true, "b": true, "|b": true, "<i1": true, ">i1": true, "=i1": true, "<b": true, ">b": true, "=b": true}

// ItemSize is the number of bytes of one value, for the dtypes a tile is made of: int8 and
// little-endian float32. The error names any other.
func (h Header) ItemSize() (int, error) {
	switch h.Descr {
	case "|i1":
		return 1, nil
	case "<f4":
		return 4, nil
	}
	return 0, fmt.Errorf("dtype %s is neither |i1 nor <f4", h.Descr)
}

var errTooLarge = errors.New("larger than any file")

// DataSize is the number of bytes of all values. An array whose dimensions other than 0 have a
// product beyond int64 is an error even where another dimension is 0: after DataSize, the product
// of any of the dimensions and the item size can be formed.
func (h Header) DataSize() (int64, error) {
	item, err := h.ItemSize()
	if err != nil {
		return 0, err
	}
	size, empty := uint64(item), false
	for _, n := range h.Shape {
		if n < 0 {
			return 0, fmt.Errorf("array of shape %v: a dimension is negative", h.Shape)
		}
		if n == 0 {
			empty = true
			continue
		}
		var over uint64
		if over, size = bits.Mul64(size, uint64(n)); over != 0 || size > math.MaxInt64 {
			return 0, fmt.Errorf("array of shape %v is %w", h.Shape, errTooLarge)
		}
	}
	if empty {
		return 0, nil
	}
	return int64(size), nil
}

// CheckSize tells whether an object of that many bytes holds all values. More bytes are no fault.
func (h Header) CheckSize(objectSize int64) error {
	size, err := h.DataSize()
	if err != nil {
		return err
	}
	if size > math.MaxInt64-h.DataOffset {
		return fmt.Errorf("array of shape %v is %w", h.Shape, errTooLarge)
	}
	if want := h.DataOffset + size; want > objectSize {
		return fmt.Errorf("truncated: the NPY header says %d bytes, the object has %d", want, objectSize)
	}
	return nil
}
