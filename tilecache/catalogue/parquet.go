package catalogue

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/metadata"
	"github.com/apache/arrow/go/v17/parquet/schema"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// RefusedError says what is wrong with a manifest or a landmask registry, and where. Nothing of a
// refused file is used.
type RefusedError struct {
	Object string // its name in the source, "npy/v1/manifest.parquet"
	Column string // "" where no one column is meant
	Row    int64  // counted from 0, as pandas does; -1 where no one row is meant
	Err    error
}

func (e *RefusedError) Error() string {
	s := e.Object + ": "
	if e.Row >= 0 {
		s += fmt.Sprintf("row %d, ", e.Row)
	}
	if e.Column != "" {
		s += "column " + e.Column + ": "
	}
	return s + e.Err.Error()
}

func (e *RefusedError) Unwrap() error { return e.Err }

// batchRows is how many rows are handed on at once.
const batchRows = 4096

// table is a Parquet file of which a few columns are read.
type table struct {
	name   string
	obj    source.Object
	meta   *metadata.FileMetaData
	starts []int64 // the first row of each row group, then the number of rows
}

// openTable reads the footer.
func openTable(ctx context.Context, name string, obj source.Object) (*table, error) {
	t := &table{name: name, obj: obj}
	size := obj.Info().Size
	if size > maxFile {
		return nil, tooLarge(name, size)
	}
	footer, err := t.footer(ctx, size)
	if err != nil {
		return nil, err
	}
	if err := checkFooter(footer); err != nil {
		return nil, t.refuse("%w", err)
	}
	err = guarded(func() (err error) {
		t.meta, err = metadata.NewFileMetaData(footer, nil)
		return err
	})
	if err != nil {
		return nil, t.refuse("its footer cannot be read: %w", err)
	}
	rows := int64(0)
	for i := range t.meta.RowGroups {
		n := t.meta.RowGroup(i).NumRows()
		if n < 0 || n > maxRows-rows {
			return nil, t.refuse("says that it has more rows than are read (%d)", maxRows)
		}
		t.starts = append(t.starts, rows)
		rows += n
	}
	t.starts = append(t.starts, rows)
	if t.meta.NumRows != rows {
		return nil, t.refuse("damaged: its footer says %d rows, its row groups %d", t.meta.NumRows, rows)
	}
	return t, nil
}

func tooLarge(name string, size int64) error {
	return &RefusedError{Object: name, Row: -1, Err: fmt.Errorf("has %d bytes, more than is read (%d): split it by dataset", size, int64(maxFile))}
}

// footer reads what lies between the row groups and the file's last 8 bytes, which are its length
// and "PAR1".
func (t *table) footer(ctx context.Context, size int64) ([]byte, error) {
	const magic = "PAR1"
	var head [4]byte
	var tail [8]byte
	if size < int64(len(head)+len(tail)) {
		return nil, t.refuse("is not a Parquet file: it has %d bytes", size)
	}
	if err := t.readAt(ctx, head[:], 0); err != nil {
		return nil, err
	}
	if err := t.readAt(ctx, tail[:], size-int64(len(tail))); err != nil {
		return nil, err
	}
	switch begins, ends := string(head[:]) == magic, string(tail[4:]) == magic; {
	case begins && !ends:
		return nil, t.refuse("is a Parquet file whose end is missing (it has %d bytes): copy it again", size)
	case !begins:
		return nil, t.refuse("is not a Parquet file: it does not begin with %q", magic)
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if n > size-int64(len(head)+len(tail)) {
		return nil, t.refuse("damaged: its footer is said to have %d bytes, the file has %d", n, size)
	}
	if n > maxFooter {
		return nil, t.refuse("its footer has %d bytes, more than is read (%d): write it with larger row groups", n, maxFooter)
	}
	footer := make([]byte, n)
	return footer, t.readAt(ctx, footer, size-int64(len(tail))-n)
}

func (t *table) readAt(ctx context.Context, p []byte, off int64) error {
	if _, err := t.obj.ReadAt(ctx, p, off); err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	return nil
}

func (t *table) rows() int64 { return t.starts[t.groups()] }
func (t *table) groups() int { return len(t.starts) - 1 }

func (t *table) refuse(format string, args ...any) error {
	return t.refuseRow("", -1, fmt.Errorf(format, args...))
}

func (t *table) refuseRow(column string, row int64, err error) error {
	return &RefusedError{Object: t.name, Column: column, Row: row, Err: err}
}

// guarded makes an error of a panic: the Parquet library panics on damaged data, on purpose and
// otherwise.
func guarded(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	return call()
}

// kind is what the values of a column become.
type kind int

const (
	wholeNumber kind = iota // int64
	seconds                 // int64, since 1970, rounded down
	degrees                 // float64
	text                    // string
)

func (k kind) String() string {
	return [...]string{"whole numbers", "times", "degrees as floating-point numbers", "text"}[k]
}

// column is a column that is read.
type column struct {
	name      string
	kind      kind
	required  bool // a row without a value is refused
	index     int
	physical  parquet.Type
	unsigned  bool
	perSecond int64 // units of a time
	nullable  bool  // there may be rows without a value
}

// column finds a column by name: nil where the file has none, which is refused if it is required.
func (t *table) column(name string, k kind, required bool) (*column, error) {
	var names []string
	for i := range t.meta.Schema.NumColumns() {
		d := t.meta.Schema.Column(i)
		if d.Path() == name {
			c := &column{name: name, kind: k, required: required, index: i, physical: d.PhysicalType(),
				nullable: d.MaxDefinitionLevel() > 0}
			if !c.accepts(d) {
				return nil, t.refuseRow(name, -1, fmt.Errorf("holds values of type %v (%v): expected %v", d.PhysicalType(), d.LogicalType(), k))
			}
			return c, nil
		}
		names = append(names, d.Path())
	}
	if !required {
		return nil, nil
	}
	return nil, t.refuseRow(name, -1, fmt.Errorf("is missing; there are %s", abridged(strings.Join(names, ", "))))
}

// abridged shows text from outside in one line of bearable length.
func abridged(s string) string {
	const enough = 300
	if len(s) > enough {
		s = s[:enough] + "…"
	}
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' {
			return '?'
		}
		return r
	}, s), "?")
}

// accepts says whether values of the column's type become its kind, and notes how.
func (c *column) accepts(d *schema.Column) bool {
	if d.MaxRepetitionLevel() > 0 || d.MaxDefinitionLevel() > 1 {
		return false
	}
	floating := c.physical == parquet.Types.Float || c.physical == parquet.Types.Double
	integer := c.physical == parquet.Types.Int32 || c.physical == parquet.Types.Int64
	plain := false // the bytes mean what the physical type says
	switch l := d.LogicalType().(type) {
	case nil, schema.NoLogicalType, schema.UnknownLogicalType:
		plain = true
	case *schema.IntLogicalType:
		plain, c.unsigned = true, !l.IsSigned()
	case *schema.TimestampLogicalType:
		// Timestamps without a zone are taken as UTC: file-scan writes them so.
		switch l.TimeUnit() {
		case schema.TimeUnitMillis:
			c.perSecond = 1e3
		case schema.TimeUnitMicros:
			c.perSecond = 1e6
		case schema.TimeUnitNanos:
			c.perSecond = 1e9
		}
		return c.kind == seconds && c.perSecond > 0 && c.physical == parquet.Types.Int64
	case schema.StringLogicalType, *schema.StringLogicalType:
		return c.kind == text && c.physical == parquet.Types.ByteArray
	}
	switch c.kind {
	case wholeNumber:
		return plain && (integer || floating) // pandas makes floats of whole numbers where some are missing
	case seconds:
		c.perSecond = 1
		return plain && (integer || floating)
	case degrees:
		return plain && floating
	default:
		return plain && c.physical == parquet.Types.ByteArray
	}
}

// values are those of a column in a batch of rows; which slice holds them is a matter of its kind.
type values struct {
	ints   []int64   // missing where a row has none
	floats []float64 // NaN where a row has none
	texts  []string
}

// chunk is a column in a row group.
type chunk interface {
	read(v *values, n int) error
}

// read reads columns of a row group and hands them on in batches of rows.
func (t *table) read(ctx context.Context, group int, columns []*column, each func(batch span) error) error {
	chunks := make([]chunk, len(columns))
	batch := make([]values, len(columns))
	for i, c := range columns {
		pages, err := t.pages(ctx, group, c)
		if err != nil {
			return err
		}
		switch c.kind {
		case degrees:
			chunks[i] = newChunk(pages, c.floats, nan, func(v *values, got []float64) { v.floats = got })
		case text:
			chunks[i] = newChunk(pages, plainTexts, "", func(v *values, got []string) { v.texts = got })
		default:
			chunks[i] = newChunk(pages, c.ints, missing, func(v *values, got []int64) { v.ints = got })
		}
	}
	for row := t.starts[group]; row < t.starts[group+1]; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int(min(batchRows, t.starts[group+1]-row))
		for i := range chunks {
			if err := chunks[i].read(&batch[i], n); err != nil {
				return err
			}
		}
		if err := each(span{v: batch, row: row, hi: n}); err != nil {
			return err
		}
		row += int64(n)
	}
	return nil
}

// pages opens a column of a row group.
func (t *table) pages(ctx context.Context, group int, c *column) (*pages, error) {
	p := &pages{table: t, col: c, row: t.starts[group], left: t.starts[group+1] - t.starts[group]}
	err := guarded(func() error {
		meta, err := t.meta.RowGroup(group).ColumnChunk(c.index)
		if err != nil {
			return err
		}
		start, size := meta.DataPageOffset(), meta.TotalCompressedSize()
		if at := meta.DictionaryPageOffset(); meta.HasDictionaryPage() && at > 0 {
			start = min(start, at)
		}
		fill := codecs[meta.Compression()]
		uncompressed := meta.Compression() == compress.Codecs.Uncompressed
		switch {
		case meta.Type() != c.physical:
			return fmt.Errorf("damaged: a row group holds %v, the file %v", meta.Type(), c.physical)
		case meta.CryptoMetadata() != nil:
			return errors.New("is encrypted")
		case fill == nil && !uncompressed:
			return fmt.Errorf("is compressed with %v: write it with snappy, gzip, zstd or without", meta.Compression())
		case start < 0 || size < 0 || start > t.obj.Info().Size || size > t.obj.Info().Size-start:
			return fmt.Errorf("is %w", errClaims)
		case meta.NumValues() != p.left:
			return fmt.Errorf("damaged: a row group of %d rows has %d values", p.left, meta.NumValues())
		}
		p.bytes = &objectReader{ctx: ctx, obj: t.obj}
		const readAhead = 256 << 10
		buffered := bufio.NewReaderSize(io.NewSectionReader(p.bytes, start, size), int(min(readAhead, max(size, maxPageHeader))))
		stream := &pageStream{r: buffered, left: size, plain: uncompressed}
		p.lib, err = file.NewPageReader(stream, p.left, meta.Compression(), nil, nil)
		return err
	})
	if err != nil {
		return nil, t.refuseRow(c.name, -1, err)
	}
	return p, nil
}

// objectReader is an object as an io.ReaderAt; it keeps the error of a read that failed, which is
// the source's fault and not the file's.
type objectReader struct {
	ctx context.Context
	obj source.Object
	err error
}

func (r *objectReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.obj.ReadAt(r.ctx, p, off)
	if err != nil {
		r.err = err
	}
	return n, err
}
