package catalogue

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
)

// The Parquet library reads footers, page headers and compressed pages; what is in a page is read
// here. It is two encodings, https://parquet.apache.org/docs/file-format/data-pages/encodings/.
// The library's own column readers allocate by the indices that damaged data hold, and never return
// from a page whose levels end early. And values that come from a dictionary are converted once an
// entry here, not once a row.

var errShort = errors.New("damaged: a page ends early")

// Of a row that has no value, and of one whose value is no whole number.
const (
	missing = math.MinInt64
	invalid = math.MinInt64 + 1
)

var nan = math.NaN()

// pages are those of a column in a row group.
type pages struct {
	table *table
	col   *column
	bytes *objectReader
	lib   file.PageReader
	row   int64 // the next
	left  int64 // rows of pages to come

	hasDict  bool
	dict     []byte // plain values
	dictSize int
}

// page is what is left of a data page.
type page struct {
	rows    int
	levels  *hybrid // 1 for a row with a value, 0 without; nil where every row has one
	indices *hybrid // of values in the dictionary; nil where they are plain
	data    []byte  // plain values
}

func (p *pages) fail(err error) error {
	if p.bytes.err != nil {
		return fmt.Errorf("%s: %w", p.table.name, p.bytes.err)
	}
	return p.table.refuseRow(p.col.name, p.row, err)
}

// next reads up to the next data page that has rows.
func (p *pages) next() (page, error) {
	for {
		var got page
		err := guarded(func() (err error) {
			if !p.lib.Next() {
				return cmp.Or(p.lib.Err(), errShort)
			}
			if p.bytes.err != nil { // the library goes on after some
				return p.bytes.err
			}
			switch lib := p.lib.Page().(type) {
			case *file.DictionaryPage:
				return p.dictionary(lib)
			case *file.DataPageV1:
				got, err = p.dataV1(lib)
			case *file.DataPageV2:
				got, err = p.dataV2(lib)
			}
			return err
		})
		if err != nil {
			return page{}, p.fail(err)
		}
		if got.rows > 0 {
			p.left -= int64(got.rows)
			return got, nil
		}
	}
}

func (p *pages) dictionary(lib *file.DictionaryPage) error {
	if enc := parquet.Encoding(lib.Encoding()); enc != parquet.Encodings.Plain && enc != parquet.Encodings.PlainDict {
		return fmt.Errorf("has a dictionary in the encoding %v: write it as pandas does", enc)
	}
	n, data := int(lib.NumValues()), lib.Data()
	smallest := 4 // bytes of a value
	if p.col.physical == parquet.Types.Int64 || p.col.physical == parquet.Types.Double {
		smallest = 8
	}
	switch {
	case p.hasDict:
		return errors.New("damaged: a row group has two dictionaries")
	case len(data) > maxDictionary:
		return fmt.Errorf("has a dictionary of %d bytes, more than is read (%d)", len(data), maxDictionary)
	case n > len(data)/smallest:
		return fmt.Errorf("a dictionary of %d values is %w", n, errClaims)
	}
	p.hasDict, p.dict, p.dictSize = true, data, n
	return nil
}

// dataV1: the definition levels with their length before them, then the values.
func (p *pages) dataV1(lib *file.DataPageV1) (page, error) {
	data := lib.Data()
	var levels *hybrid
	if p.col.nullable {
		if enc := lib.DefinitionLevelEncoding(); enc != parquet.Encodings.RLE {
			return page{}, fmt.Errorf("has levels in the encoding %v: write it as pandas does", enc)
		}
		if len(data) < 4 || uint64(binary.LittleEndian.Uint32(data)) > uint64(len(data)-4) {
			return page{}, errShort
		}
		n := 4 + int(binary.LittleEndian.Uint32(data))
		levels = &hybrid{data: data[4:n], width: 1}
		data = data[n:]
	}
	return p.data(int64(lib.NumValues()), levels, parquet.Encoding(lib.Encoding()), data)
}

// dataV2: repetition levels, definition levels, values.
func (p *pages) dataV2(lib *file.DataPageV2) (page, error) {
	data := lib.Data()
	rep, def := int(lib.RepetitionLevelByteLen()), int(lib.DefinitionLevelByteLen())
	if rep < 0 || def < 0 || rep > len(data) || def > len(data)-rep {
		return page{}, errShort
	}
	var levels *hybrid
	if p.col.nullable {
		levels = &hybrid{data: data[rep : rep+def], width: 1}
	}
	return p.data(int64(lib.NumValues()), levels, parquet.Encoding(lib.Encoding()), data[rep+def:])
}

func (p *pages) data(rows int64, levels *hybrid, enc parquet.Encoding, data []byte) (page, error) {
	if rows > p.left {
		return page{}, errors.New("damaged: its pages have more rows than its row group")
	}
	got := page{rows: int(rows), levels: levels}
	switch enc {
	case parquet.Encodings.Plain:
		got.data = data
	case parquet.Encodings.PlainDict, parquet.Encodings.RLEDict:
		if !p.hasDict {
			return page{}, errors.New("damaged: the dictionary is missing")
		}
		// The first byte is the width of the indices; there is none where there are no values.
		got.indices = &hybrid{}
		if len(data) > 0 {
			got.indices = &hybrid{data: data[1:], width: uint(data[0])}
		}
		if got.indices.width > 32 {
			return page{}, errors.New("damaged: dictionary indices of more than 32 bits")
		}
	default:
		return page{}, fmt.Errorf("is in the encoding %v: write it as pandas does, plain or with a dictionary", enc)
	}
	return got, nil
}

// typedChunk is a column in a row group whose values become T.
type typedChunk[T int64 | float64 | string] struct {
	pages *pages
	plain func(dst []T, data []byte) (rest []byte, err error)
	null  T
	put   func(v *values, got []T)
	dict  []T
	page  page
	batch []T
	small []uint32 // levels or indices
}

func newChunk[T int64 | float64 | string](p *pages, plain func([]T, []byte) ([]byte, error), null T, put func(*values, []T)) *typedChunk[T] {
	n := min(batchRows, p.left)
	return &typedChunk[T]{pages: p, plain: plain, null: null, put: put, batch: make([]T, n), small: make([]uint32, n)}
}

// read reads the values of the next n rows, at most those of a batch.
func (c *typedChunk[T]) read(v *values, n int) error {
	batch := c.batch[:n]
	for done := 0; done < n; {
		if c.page.rows == 0 {
			var err error
			if c.page, err = c.pages.next(); err != nil {
				return err
			}
		}
		k := min(n-done, c.page.rows)
		if err := c.readPage(batch[done : done+k]); err != nil {
			return err
		}
		c.page.rows -= k
		c.pages.row += int64(k)
		done += k
	}
	c.put(v, batch)
	return nil
}

// readPage reads the values of rows that lie in one page.
func (c *typedChunk[T]) readPage(dst []T) error {
	if c.page.levels == nil {
		return c.readValues(dst)
	}
	ones, err := c.page.levels.skip(len(dst), 1)
	if err != nil {
		return c.pages.fail(err)
	}
	if ones {
		return c.readValues(dst)
	}
	levels := make([]uint32, len(dst)) // not small, which the indices need
	if err := c.page.levels.read(levels); err != nil {
		return c.pages.fail(err)
	}
	present := 0
	for i, level := range levels {
		if level == 1 {
			present++
		} else if c.pages.col.required {
			c.pages.row += int64(i)
			return c.pages.fail(errors.New("has no value"))
		}
	}
	if err := c.readValues(dst[:present]); err != nil {
		return err
	}
	// Values lie close together: spread them from the end.
	for i := len(dst) - 1; i >= 0; i-- {
		if levels[i] == 1 {
			present--
			dst[i] = dst[present]
		} else {
			dst[i] = c.null
		}
	}
	return nil
}

// readValues reads values that are there.
func (c *typedChunk[T]) readValues(dst []T) (err error) {
	if c.page.indices == nil {
		c.page.data, err = c.plain(dst, c.page.data)
		if err != nil {
			return c.pages.fail(err)
		}
		return nil
	}
	if c.dict == nil {
		c.dict = make([]T, c.pages.dictSize)
		if _, err := c.plain(c.dict, c.pages.dict); err != nil {
			return c.pages.fail(err)
		}
	}
	indices := c.small[:len(dst)]
	if err := c.page.indices.read(indices); err != nil {
		return c.pages.fail(err)
	}
	for i, index := range indices {
		if uint64(index) >= uint64(len(c.dict)) {
			c.pages.row += int64(i)
			return c.pages.fail(fmt.Errorf("damaged: entry %d of a dictionary of %d", index, len(c.dict)))
		}
		dst[i] = c.dict[index]
	}
	return nil
}

// ints reads plain numbers.
func (c *column) ints(dst []int64, data []byte) ([]byte, error) {
	width := 4
	if c.physical == parquet.Types.Int64 || c.physical == parquet.Types.Double {
		width = 8
	}
	if len(dst) > len(data)/width {
		return nil, errShort
	}
	for i := range dst {
		switch at := data[i*width:]; c.physical {
		case parquet.Types.Int32:
			dst[i] = int64(int32(binary.LittleEndian.Uint32(at)))
			if c.unsigned {
				dst[i] &= math.MaxUint32
			}
		case parquet.Types.Int64:
			dst[i] = int64(binary.LittleEndian.Uint64(at))
			if c.unsigned && dst[i] < 0 {
				dst[i] = invalid
			}
		case parquet.Types.Float:
			dst[i] = c.whole(float64(math.Float32frombits(binary.LittleEndian.Uint32(at))))
		default:
			dst[i] = c.whole(math.Float64frombits(binary.LittleEndian.Uint64(at)))
		}
		if c.perSecond > 1 && dst[i] > invalid {
			sec := dst[i] / c.perSecond
			if dst[i]%c.perSecond < 0 {
				sec--
			}
			dst[i] = sec
		}
	}
	return data[len(dst)*width:], nil
}

// whole makes a whole number of a float: times are rounded down, all else must be whole.
func (c *column) whole(v float64) int64 {
	switch {
	case math.IsNaN(v):
		return missing // as pandas means it
	case math.Abs(v) > 1<<53 || c.kind != seconds && v != math.Trunc(v):
		return invalid
	}
	return int64(math.Floor(v))
}

// floats reads plain degrees. A float32 that is the nearest to a hundredth of a degree is taken for
// that hundredth: 4 bytes cannot say it better.
func (c *column) floats(dst []float64, data []byte) ([]byte, error) {
	if c.physical == parquet.Types.Double {
		if len(dst) > len(data)/8 {
			return nil, errShort
		}
		for i := range dst {
			dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[i*8:]))
		}
		return data[len(dst)*8:], nil
	}
	if len(dst) > len(data)/4 {
		return nil, errShort
	}
	for i := range dst {
		v := math.Float32frombits(binary.LittleEndian.Uint32(data[i*4:]))
		dst[i] = float64(v)
		if hundredth := math.Round(float64(v)*100) / 100; float32(hundredth) == v {
			dst[i] = hundredth
		}
	}
	return data[len(dst)*4:], nil
}

// plainTexts reads texts, each with its length before it.
func plainTexts(dst []string, data []byte) ([]byte, error) {
	last := ""
	for i := range dst {
		if len(data) < 4 {
			return nil, errShort
		}
		n := uint64(binary.LittleEndian.Uint32(data))
		if n > uint64(len(data)-4) {
			return nil, errShort
		}
		if b := data[4 : 4+n]; string(b) != last {
			last = string(b)
		}
		dst[i] = last
		data = data[4+n:]
	}
	return data, nil
}
