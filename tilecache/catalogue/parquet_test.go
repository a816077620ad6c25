package catalogue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/metadata"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

func openBytes(t testing.TB, data []byte) (*table, error) {
	obj, err := memsource.New(map[string][]byte{"t": data}).Open(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	return openTable(t.Context(), "t", obj)
}

// Catches: pages that are decoded wrongly: runs and packed values of every width, values missing at
// any place, pages and row groups that end anywhere, dictionaries that are given up half way.
func TestColumnsRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 48 {
		n := rng.IntN([]int{9000, 600, 600, 600}[i%4])
		entries := 1 + rng.IntN(1<<rng.IntN(14)) // of dictionaries, which decides the width of indices
		gaps := rng.IntN(4)                      // none, some, most, all
		runs := 1 + rng.IntN(40)
		record, want := randomColumns(rng, n, entries, gaps, runs)
		codec := []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Gzip, compress.Codecs.Zstd}[i%5%4]
		version := []parquet.DataPageVersion{parquet.DataPageV1, parquet.DataPageV2}[i/4%2]
		data := tableOfRecord(t, record, parquet.WithCompression(codec), parquet.WithDataPageVersion(version),
			parquet.WithDictionaryDefault(i%3 > 0), parquet.WithDataPageSize(int64((64+n/8)<<rng.IntN(10))), parquet.WithBatchSize(int64(1+n/100+rng.IntN(500))),
			parquet.WithDictionaryPageSizeLimit(int64(64<<rng.IntN(12))), parquet.WithMaxRowGroupLength(int64(1+rng.IntN(10000))))
		name := fmt.Sprintf("%d: %d rows, %d entries, gaps %d, %v, V%d", i, n, entries, gaps, codec, i/4%2+1)
		tab, err := openBytes(t, data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var columns []*column
		for c, k := range []kind{wholeNumber, degrees, text} {
			col, err := tab.column([]string{"int", "float", "text"}[c], k, false)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			columns = append(columns, col)
		}
		var got values
		for g := range tab.groups() {
			err := tab.read(t.Context(), g, columns, func(s span) error {
				if s.row != int64(len(got.ints)) {
					t.Fatalf("%s: row %d after %d", name, s.row, len(got.ints))
				}
				got.ints = append(got.ints, s.v[0].ints...)
				got.floats = append(got.floats, s.v[1].floats...)
				got.texts = append(got.texts, s.v[2].texts...)
				return nil
			})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		sameFloat := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
		if !slices.Equal(got.ints, want.ints) || !slices.EqualFunc(got.floats, want.floats, sameFloat) || !slices.Equal(got.texts, want.texts) {
			t.Fatalf("%s: not what was written", name)
		}
	}
}

func randomColumns(rng *rand.Rand, n, entries, gaps, runs int) (arrow.Record, values) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "int", Type: arrow.PrimitiveTypes.Int64, Nullable: gaps > 0},
		{Name: "float", Type: arrow.PrimitiveTypes.Float64, Nullable: gaps > 0}, {Name: "text", Type: arrow.BinaryTypes.String, Nullable: gaps > 0}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	ints, floats, texts := b.Field(0).(*array.Int64Builder), b.Field(1).(*array.Float64Builder), b.Field(2).(*array.StringBuilder)
	var want values
	for len(want.ints) < n {
		v, absent := int64(rng.IntN(entries))-3, rng.IntN(4) < []int{0, 1, 3, 4}[gaps]
		for range 1 + rng.IntN(runs) {
			if len(want.ints) == n {
				break
			}
			if absent {
				ints.AppendNull()
				floats.AppendNull()
				texts.AppendNull()
				want.ints, want.floats, want.texts = append(want.ints, missing), append(want.floats, math.NaN()), append(want.texts, "")
				continue
			}
			f, s := float64(v)/8, fmt.Sprint(v)
			ints.Append(v)
			floats.Append(f)
			texts.Append(s)
			want.ints, want.floats, want.texts = append(want.ints, v), append(want.floats, f), append(want.texts, s)
		}
	}
	return b.NewRecord(), want
}

// Catches: packed values read beyond their end, as zeros, and writers that cut the padding of the
// last group, whose files are whole.
func TestHybridEnds(t *testing.T) {
	for _, test := range []struct {
		data  []byte
		width uint
		want  []uint32 // all there are
	}{
		{[]byte{6, 5}, 3, []uint32{5, 5, 5}},
		{[]byte{6, 1}, 1, []uint32{1, 1, 1}},
		{[]byte{3, 0b10001000, 0b11000110, 0b11111010}, 3, []uint32{0, 1, 2, 3, 4, 5, 6, 7}},
		{[]byte{3, 0b10001000, 0b11000110}, 3, []uint32{0, 1, 2, 3, 4}},
		{[]byte{3}, 3, nil},
		{[]byte{6}, 9, nil},
		{[]byte{6, 1}, 9, nil},
		{[]byte{6, 1, 1}, 9, []uint32{257, 257, 257}},
		{[]byte{0, 7, 0, 7, 2, 7}, 3, []uint32{7}}, // runs of none
		{[]byte{2, 1, 2, 3, 4}, 32, []uint32{0x04030201}},
		{[]byte{3, 1, 2, 3, 4}, 32, []uint32{0x04030201}},
		{[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 3, nil},
		{nil, 3, nil},
	} {
		got := make([]uint32, len(test.want))
		h := hybrid{data: test.data, width: test.width}
		if err := h.read(got); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("% x of width %d: %v, %v, want %v", test.data, test.width, got, err, test.want)
		}
		if err := h.read(make([]uint32, 1)); err == nil {
			t.Errorf("% x of width %d: more than %d values", test.data, test.width, len(test.want))
		}
	}
}

// Catches: a source that fails while a manifest is read, reported as a damaged manifest, which the
// user would then replace.
func TestReadFails(t *testing.T) {
	data := golden(t, "plain.parquet")
	obj, err := memsource.New(map[string][]byte{"t": data}).Open(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	failures := 0
	for n := range 100 {
		object := &failingObject{Object: obj, left: n}
		_, _, err := readManifest(t.Context(), "t", object, []place{{}}, func(place) bool { return true })
		if object.left >= 0 {
			break
		}
		failures++
		var why *RefusedError
		if !errors.Is(err, source.ErrChanged) || errors.As(err, &why) {
			t.Errorf("read %d fails: got %v", n, err)
		}
	}
	if failures < 20 {
		t.Errorf("the manifest was read in %d calls: too few to tell", failures)
	}
}

// failingObject has changed after some reads.
type failingObject struct {
	source.Object
	mu   sync.Mutex // guards left
	left int
}

func (o *failingObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left--; o.left < 0 {
		return 0, source.ErrChanged
	}
	return o.Object.ReadAt(ctx, p, off)
}

// Catches: a file that is no whole Parquet file, and a message that does not say so.
func TestNotParquet(t *testing.T) {
	whole := golden(t, "s3scan.parquet")
	for name, test := range map[string]struct {
		data []byte
		says string
	}{
		"empty":          {nil, "is not a Parquet file: it has 0 bytes"},
		"short":          {[]byte("PAR1PAR1"), "is not a Parquet file: it has 8 bytes"},
		"text":           {[]byte("<html><body>404 Not Found</body></html>"), "does not begin with"},
		"truncated":      {whole[:len(whole)/2], "whose end is missing"},
		"end only":       {whole[len(whole)/2:], "does not begin with"},
		"encrypted":      {append(append([]byte("PARE"), make([]byte, 100)...), "PARE"...), "does not begin with"},
		"footer too big": {slices.Concat([]byte("PAR1"), make([]byte, 50), []byte{0xff, 0, 0, 0}, []byte("PAR1")), "damaged"},
		"no footer":      {slices.Concat([]byte("PAR1"), make([]byte, 50), []byte{0, 0, 0, 0}, []byte("PAR1")), "footer"},
		"junk footer":    {slices.Concat([]byte("PAR1"), bytes.Repeat([]byte{0x19}, 50), []byte{50, 0, 0, 0}, []byte("PAR1")), "damaged"},
	} {
		why := refused(t, memsource.New(map[string][]byte{v1Manifest: test.data}))
		if why.Object != v1Manifest || !strings.Contains(why.Error(), test.says) {
			t.Errorf("%s: refused with %q, want %q", name, why, test.says)
		}
	}
}

// Catches: a manifest that cannot be opened as large as it is.
func TestTooLarge(t *testing.T) {
	_, err := openTable(t.Context(), "t", hugeObject{})
	var why *RefusedError
	if !errors.As(err, &why) || !strings.Contains(why.Error(), "more than is read") {
		t.Errorf("got %v", err)
	}
}

type hugeObject struct{ source.Object }

func (hugeObject) Info() source.Info { return source.Info{Size: maxFile + 1} }

// rewrite gives a Parquet file another footer.
func rewrite(t testing.TB, data []byte, change func(m *metadata.FileMetaData)) []byte {
	t.Helper()
	n := int(binary.LittleEndian.Uint32(data[len(data)-8:]))
	body, footer := data[:len(data)-8-n], data[len(data)-8-n:len(data)-8]
	m, err := metadata.NewFileMetaData(footer, nil)
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	var b bytes.Buffer
	if _, err := m.WriteTo(&b, nil); err != nil {
		t.Fatal(err)
	}
	tail := binary.LittleEndian.AppendUint32(nil, uint32(b.Len()))
	return slices.Concat(body, b.Bytes(), tail, []byte("PAR1"))
}

// Catches: memory taken, or time, for what a file claims and does not hold.
func TestClaims(t *testing.T) {
	small := simpleManifest(t, tileRow(2024, 0.05, 0.05), tileRow(2024, 0.15, 0.05))
	for _, test := range []struct {
		name, says string
		change     func(m *metadata.FileMetaData)
	}{
		{"nothing", "", func(m *metadata.FileMetaData) {}},
		{"10^12 rows", "more rows than are read", func(m *metadata.FileMetaData) { m.NumRows, m.RowGroups[0].NumRows = 1e12, 1e12 }},
		{"99 million rows", "has 2 values", func(m *metadata.FileMetaData) { m.NumRows, m.RowGroups[0].NumRows = 99e6, 99e6 }},
		{"99 million rows and values", "ends early", func(m *metadata.FileMetaData) {
			m.NumRows, m.RowGroups[0].NumRows = 99e6, 99e6
			for _, c := range m.RowGroups[0].Columns {
				c.MetaData.NumValues = 99e6
			}
		}},
		{"negative rows", "more rows than are read", func(m *metadata.FileMetaData) { m.NumRows, m.RowGroups[0].NumRows = -1, -1 }},
		{"other rows", "its footer says 3 rows, its row groups 2", func(m *metadata.FileMetaData) { m.NumRows = 3 }},
		{"fewer rows", "more rows than its row group", func(m *metadata.FileMetaData) {
			m.NumRows, m.RowGroups[0].NumRows = 1, 1
			for _, c := range m.RowGroups[0].Columns {
				c.MetaData.NumValues = 1
			}
		}},
		{"children", "more than 1000 elements", func(m *metadata.FileMetaData) { n := int32(1 << 30); m.FileMetaData.Schema[0].NumChildren = &n }},
		{"negative children", "footer", func(m *metadata.FileMetaData) { n := int32(-1); m.FileMetaData.Schema[0].NumChildren = &n }},
		{"column far away", "beyond its end", func(m *metadata.FileMetaData) {
			m.RowGroups[0].Columns[1].MetaData.DataPageOffset = 1 << 60
			m.RowGroups[0].Columns[1].MetaData.DictionaryPageOffset = nil
		}},
		{"column before", "beyond its end", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns[1].MetaData.DataPageOffset = -9 }},
		{"column of all", "beyond its end", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns[1].MetaData.TotalCompressedSize = 1 << 62 }},
		{"no bytes", "ends early", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns[1].MetaData.TotalCompressedSize = 0 }},
		{"no columns", "column", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns = nil }},
		{"another type", "a row group holds", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns[1].MetaData.Type = 0 }},
		{"another compression", "is compressed with BROTLI: write it with", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns[1].MetaData.Codec = 4 }},
		{"snappy that is none", "damaged", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns[1].MetaData.Codec = 1 }},
		{"zstd that is none", "damaged", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns[1].MetaData.Codec = 6 }},
		{"gzip that is none", "damaged", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns[1].MetaData.Codec = 2 }},
		{"no metadata", "column", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns[1].MetaData = nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := rewrite(t, small, test.change)
			src := memsource.New(map[string][]byte{v1Manifest: data})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			_, err := Open(t.Context(), src, Config{})
			took := time.Since(begin)
			runtime.ReadMemStats(&after)
			if taken := after.TotalAlloc - before.TotalAlloc; taken > 32<<20 || took > 5*time.Second {
				t.Errorf("took %d MiB and %v", taken>>20, took)
			}
			var why *RefusedError
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.As(err, &why) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want a RefusedError with %q", err, test.says)
			}
		})
	}
}

// Catches: a small file that fills the memory with one tile.
func TestRepeats(t *testing.T) {
	rows := "[" + strings.Repeat(tileRow(2024, 0.05, 0.05)+",", 20_000) + tileRow(2024, 0.15, 0.05) + "]"
	data := tableOf(t, fields(t, "year", "lon", "lat", "grid_size"), rows)
	obj, err := memsource.New(map[string][]byte{"t": data}).Open(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	found, total, err := readManifest(t.Context(), "t", obj, []place{{}}, func(place) bool { return true })
	if err != nil || total != 20_001 || found[0].rows != total {
		t.Fatalf("%d rows of %d, %v", found[0].rows, total, err)
	}
	kept := 0
	for _, part := range found[0].parts[2024] {
		kept += len(part.cells)
	}
	if kept != 2 {
		t.Errorf("%d rows are kept of 2 tiles", kept)
	}
}

// Catches: page headers and compressed data that claim more than there is, each where the library
// would take the memory before it looks.
func TestPageClaims(t *testing.T) {
	header := func(uncompressed, compressed int64) []byte {
		b := []byte{0x15, 0} // field 1: type
		b = binary.AppendVarint(append(b, 0x15), uncompressed)
		b = binary.AppendVarint(append(b, 0x15), compressed)
		return append(b, 0)
	}
	for name, test := range map[string]struct {
		header []byte
		plain  bool
		ok     bool
	}{
		"as it is":             {header(100, 20), false, true},
		"plain":                {header(20, 20), true, true},
		"plain, longer":        {header(21, 20), true, false},
		"beyond the chunk":     {header(100, 21), false, false},
		"2 GiB":                {header(1<<31-1, 20), false, false},
		"negative":             {header(-1, 20), false, false},
		"negative, compressed": {header(100, -1), false, false},
		"last word counts":     {append(binary.AppendVarint(append(header(100, 20)[:len(header(100, 20))-1], 0x05, 0x04), 1<<40), 0), false, false},
		"none":                 {[]byte{0x15, 0, 0}, false, false},
		"endless":              {bytes.Repeat([]byte{0x1c}, 100), false, false},
		"text beyond":          {[]byte{0x18, 0xff, 0xff, 0xff, 0xff, 0x0f, 0}, false, false},
		"list beyond":          {[]byte{0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f, 0}, false, false},
	} {
		s := &pageStream{left: int64(len(test.header)) + 20, plain: test.plain}
		if err := s.checkPage(append(slices.Clip(test.header), make([]byte, 20)...)); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	page := bytes.Repeat([]byte("tessera "), 1000)
	for codec, fill := range codecs {
		c, err := compress.GetCodec(codec)
		if err != nil {
			t.Fatal(err)
		}
		packed := c.Encode(nil, page)
		for _, n := range []int{len(page), len(page) - 1, len(page) + 1, 0} {
			dst := make([]byte, n)
			if err := fill(dst, packed); (err == nil) != (n == len(page)) || err == nil && !bytes.Equal(dst, page) {
				t.Errorf("%v into %d of %d bytes: %v", codec, n, len(page), err)
			}
		}
		for i := range packed {
			if fill(make([]byte, len(page)), packed[:i]) == nil {
				t.Errorf("%v: %d of %d bytes are taken for all", codec, i, len(packed))
			}
		}
	}
}

// Catches: a panic, an endless loop or a wild allocation on a file that is cut or has a byte
// changed. What is read of it all the same is not looked at: Parquet has no checksums here.
func TestDamaged(t *testing.T) {
	rows := []string{tileRow(2024, 0.05, 0.05), tileRow(2024, 0.15, 0.05), tileRow(2023, 0.15, 0.05), tileRow(2024, 0.35, 0.05)}
	for _, version := range []parquet.DataPageVersion{parquet.DataPageV1, parquet.DataPageV2} {
		data := tableOf(t, fields(t, "year", "lon", "lat", "grid_size"), "["+strings.Join(rows, ",")+"]",
			parquet.WithDataPageVersion(version), parquet.WithCompression(compress.Codecs.Snappy), parquet.WithStats(false))
		for i := range data {
			_, err := Open(t.Context(), memsource.New(map[string][]byte{v1Manifest: data[:i]}), Config{})
			var why *RefusedError
			if !errors.As(err, &why) {
				t.Fatalf("cut to %d of %d bytes: %v", i, len(data), err)
			}
			for _, flip := range []byte{0x01, 0x80} {
				damaged := slices.Clone(data)
				damaged[i] ^= flip
				if c, err := Open(t.Context(), memsource.New(map[string][]byte{v1Manifest: damaged}), Config{}); err != nil && strings.Contains(err.Error(), "\n") {
					t.Errorf("more than one line: %v", err)
				} else if err == nil && c.Datasets[0].Len() > len(rows) {
					t.Errorf("%d tiles of %d rows", c.Datasets[0].Len(), len(rows))
				}
			}
		}
	}
}
