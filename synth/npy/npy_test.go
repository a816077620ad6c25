package npy

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// golden is what NumPy reads from a header (testdata/make_headers.py).
type golden struct {
	Descr   any
	Fortran bool
	Shape   []int
	Offset  int64
}

// refused are the goldens that hold no plain numbers, and how they are named.
var refused = map[string]string{
	"structure": "structure of fields",
	"object":    "dtype |O (pickled objects) is not numbers",
}

func goldens(t testing.TB) (map[string]golden, map[string][]byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "headers.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]golden
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	headers := map[string][]byte{}
	for name := range want {
		if headers[name], err = os.ReadFile(filepath.Join("testdata", "headers", name+".npy")); err != nil {
			t.Fatal(err)
		}
	}
	return want, headers
}

// Catches: a header NumPy writes, or takes, and we read otherwise than it does.
func TestGoldens(t *testing.T) {
	want, headers := goldens(t)
	if len(want) < 20 {
		t.Fatalf("%d goldens; run testdata/make_headers.py", len(want))
	}
	for name, w := range want {
		size, err := HeaderSize(headers[name][:preamble])
		if err != nil || int64(size) != w.Offset {
			t.Errorf("%s: HeaderSize is %d, %v; want %d", name, size, err, w.Offset)
		}
		h, err := Parse(headers[name])
		if reason, bad := refused[name]; bad {
			if err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s: error %v, want %q", name, err, reason)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if h.Descr != w.Descr || h.Fortran != w.Fortran || h.DataOffset != w.Offset || !reflect.DeepEqual(append([]int{}, h.Shape...), w.Shape) {
			t.Errorf("%s: read %+v, NumPy reads %+v", name, h, w)
		}
	}
}

// npyFile makes a file of version 1.0, 2.0 or 3.0 from the text of its dict.
func npyFile(major byte, text string) []byte {
	b := append([]byte(magic), major, 0)
	if major == 1 {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	} else {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	}
	return append(b, text...)
}

// Catches: leniency. Each of these is either not what the format allows, or something whose values
// could be read wrongly.
func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`  `, `expected '{'`},
		{`{ `, "expected a string"},
		{`{}`, `"descr" is missing`},
		{`{'descr': '|i1', 'fortran_order': False}`, `"shape" is missing`},
		{`{'descr': '|i1', 'shape': (5,)}`, `"fortran_order" is missing`},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (5,), 'more': 1}`, "the keys are"},
		{`{'descr': '|i1', 'descr': '<f4', 'fortran_order': False, 'shape': (5,)}`, "twice"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (5,)} + {}`, "nothing after"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (5,)`, `expected '}'`},
		{`{'descr': '|i1' 'fortran_order': False, 'shape': (5,)}`, `expected '}'`},
		{`{'descr': '|i1', 'fortran_order': 0, 'shape': (5,)}`, "expected True or False"},
		{`{'descr': '|i1', 'fortran_order': Falsey, 'shape': (5,)}`, "expected True or False"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': [5]}`, `expected '('`},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': 5}`, `expected '('`},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (5)}`, "comma of a tuple"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (,)}`, "not negative"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (5,,6)}`, "not negative"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (5 6)}`, "comma of a tuple"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (5, 6`, `expected ')'`},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (-5, 6)}`, "not negative"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (05, 6)}`, "not negative"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (5.0, 6)}`, "expected"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (1_0, 6)}`, "not negative"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (True, 6)}`, "not negative"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (99999999999999999999, 6)}`, "too large"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (` + strings.Repeat("1,", 65) + `)}`, "more than 64 dimensions"},
		{`{'descr': '<f\x34', 'fortran_order': False, 'shape': (5,)}`, "without escapes"},
		{`{'descr': '|i1, 'fortran_order': False, 'shape': (5,)}`, "dtype"},
		{`{'descr': '|i1`, "without escapes"},
		{`{'descr': '', 'fortran_order': False, 'shape': (5,)}`, "is not one"},
		{`{'descr': 'i1 ', 'fortran_order': False, 'shape': (5,)}`, "is not one"},
		{`{'descr': None, 'fortran_order': False, 'shape': (5,)}`, "expected a string"},
		{`{'descr': [('a', '<f4'), ('b', '|i1')], 'fortran_order': False, 'shape': (5,)}`, "(a structure of fields)"},
		{`{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (5,)}`, "an array in each element"},
		{`{'descr': '|O', 'fortran_order': False, 'shape': (5,)}`, "dtype |O (pickled objects) is not numbers"},
		{`{'descr': '|i1', 'fortran_order': False, 'shape': (5,) # a comment` + "\n}", `expected '}'`},
	} {
		h, err := Parse(npyFile(1, c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n  read %+v, error %v; want %q", c.text, h, err, c.want)
		} else if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 200 {
			t.Errorf("%s\n  not one clear line: %q", c.text, err)
		}
	}
	// Python 2 wrote no version 3.0.
	if _, err := Parse(npyFile(3, `{'descr': '|i1', 'fortran_order': False, 'shape': (5L,)}`)); err == nil {
		t.Error("version 3.0: a long integer was read")
	}
}

// Catches: a file that is no NPY file, or a cut one, taken for one; a header whose claimed length
// is believed.
func TestPreamble(t *testing.T) {
	good := npyFile(1, "{'descr': '|i1', 'fortran_order': False, 'shape': (5,), }\n")
	long := npyFile(2, "")
	binary.LittleEndian.PutUint32(long[8:], 1<<32-1)
	for _, c := range []struct {
		name   string
		prefix []byte
		want   string
	}{
		{"empty", nil, "truncated"},
		{"six bytes", good[:6], "truncated"},
		{"eleven bytes", good[:11], "truncated"},
		{"web page", []byte("<!DOCTYPE html>"), "not an NPY file"},
		{"one wrong byte", []byte("X"), "not an NPY file"},
		{"version 4", append([]byte("\x93NUMPY\x04\x00"), good[8:]...), "version 4.0"},
		{"version 1.1", append([]byte("\x93NUMPY\x01\x01"), good[8:]...), "version 1.1"},
		{"4 GB of header", long, "too long"},
	} {
		if n, err := HeaderSize(c.prefix); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: HeaderSize is %d, %v; want %q", c.name, n, err, c.want)
		}
		if h, err := Parse(c.prefix); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Parse gives %+v, %v; want %q", c.name, h, err, c.want)
		}
	}
	if _, err := Parse(good[:len(good)-1]); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("header cut by a byte: %v", err)
	}
	if _, err := Parse(append(good, 1, 2, 3, 4, 5)); err != nil {
		t.Errorf("header followed by values: %v", err)
	}
}

// Catches: sizes that overflow, also hidden behind a 0; a short object taken for a whole one.
func TestCheckSize(t *testing.T) {
	for _, c := range []struct {
		h      Header
		object int64
		size   int64
		want   string
	}{
		{Header{Descr: "|i1", Shape: []int{1113, 688, 128}, DataOffset: 128}, 128 + 98015232, 98015232, ""},
		{Header{Descr: "|i1", Shape: []int{1113, 688, 128}, DataOffset: 128}, 128 + 98015231, 98015232,
			"truncated: the NPY header says 98015360 bytes, the object has 98015359"},
		{Header{Descr: "<f4", Shape: []int{2, 3}, DataOffset: 80}, 1000, 24, ""}, // what follows is ignored
		{Header{Descr: "<f4", DataOffset: 80}, 84, 4, ""},
		{Header{Descr: "<f4", DataOffset: 80}, 83, 4, "truncated"},
		{Header{Descr: "<f4", Shape: []int{0, 5}, DataOffset: 80}, 80, 0, ""},
		{Header{Descr: "<f4", Shape: []int{0, 5}, DataOffset: 80}, 79, 0, "truncated"},
		{Header{Descr: "|i1", Shape: []int{1 << 40, 1 << 40, 128}, DataOffset: 80}, 1 << 40, 0, "larger than any file"},
		{Header{Descr: "<f4", Shape: []int{1 << 61}, DataOffset: 80}, 1 << 40, 0, "larger than any file"},
		{Header{Descr: "|i1", Shape: []int{0, 1 << 40, 1 << 40}, DataOffset: 80}, 1 << 40, 0, "larger than any file"},
		{Header{Descr: "|i1", Shape: []int{1<<63 - 1}, DataOffset: 80}, 1 << 40, 1<<63 - 1, "larger than any file"},
		{Header{Descr: "|i1", Shape: []int{-1, 5}, DataOffset: 80}, 1 << 40, 0, "negative"},
		{Header{Descr: "<f8", Shape: []int{5}, DataOffset: 80}, 1 << 40, 0, "dtype <f8 is neither"},
		{Header{Descr: "f4", Shape: []int{5}, DataOffset: 80}, 1 << 40, 0, "dtype f4 is neither"},
	} {
		if size, _ := c.h.DataSize(); size != c.size {
			t.Errorf("%+v: DataSize is %d, want %d", c.h, size, c.size)
		}
		err := c.h.CheckSize(c.object)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v in %d bytes: %v, want %q", c.h, c.object, err, c.want)
		}
	}
}

// Catches: panics, sizes beyond the input, and headers that mean something else when written down
// again from what was read.
func FuzzParse(f *testing.F) {
	_, headers := goldens(f)
	for _, data := range headers {
		f.Add(data)
	}
	f.Add(npyFile(1, `{"shape":(5L,),'descr':"<f4",'fortran_order':True,}`))
	f.Add(npyFile(2, `{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}`))
	f.Add(npyFile(3, `{'descr': '|i1', 'fortran_order': False, 'shape': (0, 9223372036854775807, 3)}`))
	f.Add([]byte("\x93NUMPY\x01\x00\xff\xff{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		size, sizeErr := HeaderSize(data)
		if sizeErr == nil && (size < 10 || size > MaxHeader) {
			t.Fatalf("HeaderSize is %d", size)
		}
		h, err := Parse(data)
		if err != nil {
			return
		}
		if sizeErr != nil || int64(size) != h.DataOffset || size > len(data) {
			t.Fatalf("Parse reads %+v, HeaderSize %d, %v, of %d bytes", h, size, sizeErr, len(data))
		}
		if total, err := h.DataSize(); err == nil && total < 0 {
			t.Fatalf("DataSize is %d", total)
		}
		again, err := Parse(rewrite(h))
		if again.DataOffset = h.DataOffset; err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("read %+v; written and read again %+v, %v", h, again, err)
		}
	})
}

// rewrite writes what was read from a header down again, as NumPy does.
func rewrite(h Header) []byte {
	order := map[bool]string{false: "False", true: "True"}[h.Fortran]
	var shape bytes.Buffer
	for _, n := range h.Shape {
		b, _ := json.Marshal(n)
		shape.Write(append(b, ',', ' '))
	}
	return npyFile(2, "{'descr': '"+h.Descr+"', 'fortran_order': "+order+", 'shape': ("+shape.String()+"), }\n")
}
