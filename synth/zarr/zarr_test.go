package zarr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goldenStore is the store that testdata/make_zarr.py writes.
func goldenStore() (root Group, nodes map[string]Node) {
	array := func(dataType string, fill any, shape, chunks []int, dims []string, attributes ...Attribute) Array {
		return Array{Shape: shape, DataType: dataType, ChunkShape: chunks, FillValue: fill, Codecs: []Codec{Bytes{}}, Attributes: attributes, DimensionNames: dims}
	}
	x := []string{"x"}
	root = Group{Attributes: Attributes{
		{"zeta", "first, though it sorts last"},
		{"alpha", []int{1, -2, 1<<53 + 1, math.MinInt64, math.MaxInt64}},
		{"floats", []float64{0, math.Copysign(0, -1), 1, -10, 0.1, 1.0 / 3, 1e-4, 9.999e-5, 1e-5, 123456789.125, 1e15, 1<<53 + 1, 1e16,
			1.5e16, 1e22, 1e23, 5e-324, math.MaxFloat64, 298.257223563, 283241.5965173088}},
		{"strings", []string{"", `quote " backslash \ slash /`, "\b\f\n\r\t\x00\x1f\x7f", "<&> \u2028 é € 🌍"}},
		{"nothing", nil},
		{"yes", true},
		{"empty list", []any{}},
		{"empty object", Attributes{}},
		{"nested", Attributes{
			{"b", []Attributes{{{"x", 1.0}}, {}}},
			{"a", Attributes{{"deep", []any{[]any{1}, []int{}}}}},
		}},
	}}
	nodes = map[string]Node{
		"embeddings":  array("int8", 0, []int{30, 20, 4}, []int{10, 7, 4}, []string{"northing", "easting", "band"}, Attr("grid_mapping", "spatial_ref")),
		"scales":      array("float32", math.NaN(), []int{30, 20}, []int{10, 7}, []string{"northing", "easting"}),
		"easting":     array("float64", 0.0, []int{20}, []int{20}, []string{"easting"}, Attr("units", "m")),
		"band":        array("int32", 0, []int{4}, []int{4}, []string{"band"}),
		"spatial_ref": array("int64", 0, nil, nil, nil),
		"Upper":       array("uint8", 255, []int{3}, []int{1}, x),
		"no_names":    array("uint16", 7, []int{3, 0}, []int{2, 1}, nil),

		"inner":           Group{Attributes: Attributes{{"title", "has children"}}},
		"inner/Empty":     Group{},
		"inner/inf":       array("float32", math.Inf(1), []int{2}, []int{2}, x),
		"inner/minus_inf": array("float64", math.Inf(-1), []int{2}, []int{2}, x),
		"inner/tenth":     array("float32", 0.1, []int{2}, []int{2}, x),
		"inner/minus_one": array("int16", -1, []int{2}, []int{2}, x),
	}
	for name, sharded := range map[string]Array{
		"sharded": {DataType: "int8", FillValue: 0, Codecs: []Codec{Transpose{[]int{0, 2, 3, 1}}, Bytes{}}},
		"shards":  {DataType: "float32", FillValue: 0.0, Codecs: []Codec{Bytes{}}},
		"frames":  {DataType: "int8", FillValue: 0, Codecs: []Codec{Bytes{}, Zstd{}}},
	} {
		sharded.Shape, sharded.ChunkShape = []int{2, 4, 24, 12}, []int{1, 4, 16, 8}
		sharded.Codecs = []Codec{Sharding{[]int{1, 4, 4, 2}, sharded.Codecs}}
		sharded.DimensionNames = []string{"time", "band", "y", "x"}
		nodes[name] = sharded
	}
	return root, nodes
}

// consolidatedStore is goldenStore with the root and "inner" consolidated, as make_zarr.py does it.
func consolidatedStore(t testing.TB) map[string]Node {
	t.Helper()
	root, nodes := goldenStore()
	below := map[string]Node{}
	for path, node := range nodes {
		if rest, ok := strings.CutPrefix(path, "inner/"); ok {
			below[rest] = node
		}
	}
	inner, err := Consolidate(nodes["inner"].(Group), below)
	if err != nil {
		t.Fatal(err)
	}
	nodes["inner"] = inner
	if nodes["."], err = Consolidate(root, nodes); err != nil {
		t.Fatal(err)
	}
	return nodes
}

// Catches: a document that is not, byte for byte, what zarr-python writes of the same node: order
// of keys, spelling of floats, strings and fill values, white space, what a consolidated root says
// of its groups, and their order.
func TestDocuments(t *testing.T) {
	nodes := consolidatedStore(t)
	files := 0
	err := filepath.WalkDir(filepath.Join("testdata", "store"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(filepath.Join("testdata", "store"), filepath.Dir(path))
		node := nodes[filepath.ToSlash(name)]
		if node == nil {
			t.Errorf("%s: no such node here", name)
			return nil
		}
		got, err := node.JSON()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s: %s", name, firstDifference(got, want))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files != len(nodes) {
		t.Errorf("%d documents from zarr-python, %d nodes here", files, len(nodes))
	}
}

func firstDifference(got, want []byte) string {
	g, w := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
	for i := range min(len(g), len(w)) {
		if !bytes.Equal(g[i], w[i]) {
			return fmt.Sprintf("line %d is %q, zarr-python writes %q", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, zarr-python writes %d", len(g), len(w))
}

// Catches: chunk keys under which zarr-python does not look.
func TestChunkKeys(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "keys.txt"))
	if err != nil {
		t.Fatal(err)
	}
	_, nodes := goldenStore()
	var keys []string
	for path, node := range nodes {
		a, ok := node.(Array)
		if !ok || slices.Contains(a.Shape, 0) {
			continue
		}
		var walk func(indices []int)
		walk = func(indices []int) {
			if d := len(indices); d < len(a.Shape) {
				for i := range (a.Shape[d] + a.ChunkShape[d] - 1) / a.ChunkShape[d] {
					walk(append(slices.Clip(indices), i))
				}
				return
			}
			keys = append(keys, path+"/"+ChunkKey(indices...))
		}
		walk(nil)
	}
	slices.Sort(keys)
	want := strings.Fields(string(data))
	slices.Sort(want)
	if !slices.Equal(keys, want) {
		t.Errorf("keys %q\nzarr-python's %q", keys, want)
	}
}

// Catches: two names of one chunk, which a filesystem would show as two files.
func TestParseIndex(t *testing.T) {
	for element, want := range map[string]int{
		"0": 0, "7": 7, "1023": 1023, "9223372036854775807": math.MaxInt64,
		"": -1, "07": -1, "00": -1, "+7": -1, "-7": -1, "-0": -1, " 7": -1, "7 ": -1, "7.0": -1, "0x7": -1, "1_0": -1, "c": -1,
		"zarr.json": -1, "9223372036854775808": -1, "٧": -1,
	} {
		got, ok := ParseIndex(element)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("ParseIndex(%q) is %d, %v; want %d", element, got, ok, want)
		}
	}
}

// Catches: documents that contradict themselves. A reader would fail at its leisure, or read the
// wrong values.
func TestRefused(t *testing.T) {
	good := Array{Shape: []int{4, 5}, DataType: "float32", ChunkShape: []int{2, 2}, FillValue: 0.0, Codecs: []Codec{Bytes{}}, DimensionNames: []string{"y", "x"}}
	if _, err := good.JSON(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Array){
		"data type \"float16\"":     func(a *Array) { a.DataType = "float16" },
		"chunk shape [2]":           func(a *Array) { a.ChunkShape = []int{2} },
		"shape [4 5] in chunks":     func(a *Array) { a.ChunkShape = []int{2, 0} },
		"shape [-1 5] in chunks":    func(a *Array) { a.Shape = []int{-1, 5} },
		"dimension names [\"y\"]":   func(a *Array) { a.DimensionNames = []string{"y"} },
		"needs a codec":             func(a *Array) { a.Codecs = nil },
		"no nil":                    func(a *Array) { a.Codecs = []Codec{nil} },
		"fill value 0 (int)":        func(a *Array) { a.FillValue = 0 },
		"fill value <nil>":          func(a *Array) { a.FillValue = nil },
		"fill value 1e+39":          func(a *Array) { a.FillValue = 1e39 },
		"fill value 128 (int)":      func(a *Array) { a.DataType, a.FillValue = "int8", 128 },
		"fill value -1 (int)":       func(a *Array) { a.DataType, a.FillValue = "uint8", -1 },
		"fill value 0 (float64)":    func(a *Array) { a.DataType, a.FillValue = "int8", 0.0 },
		"NaN is not a JSON number":  func(a *Array) { a.Attributes = Attributes{{"scale", math.NaN()}} },
		"+Inf is not a JSON number": func(a *Array) { a.Attributes = Attributes{{"range", []float64{0, math.Inf(1)}}} },
		"\"units\" is there twice":  func(a *Array) { a.Attributes = Attributes{{"units", "m"}, {"units", "km"}} },
		"is not UTF-8":              func(a *Array) { a.Attributes = Attributes{{"title", "\xff"}} },
		"type int32 has no JSON":    func(a *Array) { a.Attributes = Attributes{{"deep", Attributes{{"n", int32(1)}}}} },
	} {
		a := good
		change(&a)
		if b, err := a.JSON(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v", want, b, err)
		}
	}
	for path, want := range map[string]string{
		"": "is no name", "/a": "is no name", "a/": "is no name", "a//b": "is no name", ".": "is no name", "..": "is no name", "...": "is no name",
		"__a": "is no name", "a b": "use letters", "é": "use letters", "a/b": `no group "a"`, "array/b": `no group "array"`,
	} {
		if _, err := Consolidate(Group{}, map[string]Node{path: good, "array": good}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("path %q: %v, want %q", path, err, want)
		}
	}
	for _, node := range []Node{nil, &good, (*Group)(nil)} {
		if _, err := Consolidate(Group{}, map[string]Node{"a": node}); err == nil {
			t.Errorf("node of type %T: consolidated", node)
		}
	}
	bad := good
	bad.FillValue = "0"
	root, err := Consolidate(Group{}, map[string]Node{"deep": Group{}, "deep/bad": bad})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.JSON(); err == nil || !strings.Contains(err.Error(), `node "deep/bad"`) {
		t.Errorf("a bad node below: %v", err)
	}
}

// Catches: strings and floats that JSON readers take for something else.
func FuzzAttributes(f *testing.F) {
	f.Add("plain", 10.0)
	f.Add("\x00\u2028é🌍\"\\", 1e16)
	f.Add("\xed\xa0\x80", 5e-324)
	f.Fuzz(func(t *testing.T, text string, number float64) {
		b, err := Group{Attributes: Attributes{{"text", text}, {"number", number}}}.JSON()
		if err != nil {
			return
		}
		for _, c := range b {
			if c >= 0x80 {
				t.Fatalf("not ASCII: %q", b)
			}
		}
		var back struct {
			Attributes struct {
				Text   string
				Number float64
			}
		}
		if err := json.Unmarshal(b, &back); err != nil || back.Attributes.Text != text || back.Attributes.Number != number {
			t.Fatalf("%q, %v became %+v, %v in %s", text, number, back, err, b)
		}
	})
}
