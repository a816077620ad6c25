package catalogue

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// What a Parquet file may claim. The Parquet library allocates what a file's own numbers say, so
// they are looked at first.
const (
	maxFile       = 4 << 30     // bytes of a manifest; the largest published one has 0.2 GiB
	maxFooter     = 16 << 20    // bytes; 14 million rows need 0.05 MiB to 0.3 MiB
	maxSchema     = 1000        // elements; published manifests have 15
	maxRows       = 100_000_000 // seven times the published tiles of all years
	maxPage       = 64 << 20    // bytes, uncompressed; writers make pages of 1 MiB
	maxDictionary = 16 << 20    // bytes, uncompressed; writers make dictionaries of at most 1 MiB
	maxPageHeader = 16 << 10    // bytes; what the library looks at first
)

var errClaims = errors.New("damaged: a length inside it reaches beyond its end")

// compact walks a structure in Thrift's compact protocol, which the footer and the page headers of
// Parquet are written in, and holds its lengths against the bytes that are there. See
// https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
type compact struct {
	b   []byte
	err error
}

// Types of the protocol that are told apart here.
const (
	thriftI32    = 5
	thriftList   = 9
	thriftStruct = 12
)

func (c *compact) fail() { c.b, c.err = nil, errClaims }

func (c *compact) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *compact) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *compact) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *compact) int() int64 {
	v := c.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// fields walks a structure; field reads the value of a field, or returns false to have it skipped.
func (c *compact) fields(depth int, field func(id int64, typ byte) bool) {
	if depth > 16 { // Parquet's own structures are 6 deep.
		c.fail()
	}
	id := int64(0)
	for c.err == nil {
		head := c.byte()
		if head == 0 {
			return
		}
		if delta := head >> 4; delta != 0 {
			id += int64(delta)
		} else {
			id = c.int()
		}
		if c.err == nil && !field(id, head&15) {
			c.skip(depth, head&15)
		}
	}
}

// list reads the head of a list. Every element takes at least a byte.
func (c *compact) list() (n uint64, typ byte) {
	head := c.byte()
	n, typ = uint64(head>>4), head&15
	if n == 15 {
		n = c.uvarint()
	}
	if n > uint64(len(c.b)) {
		c.fail()
		return 0, 0
	}
	return n, typ
}

func (c *compact) skip(depth int, typ byte) {
	switch typ {
	case 1, 2: // a boolean is its type
	case 3:
		c.take(1)
	case 4, thriftI32, 6:
		c.uvarint()
	case 7:
		c.take(8)
	case 8:
		c.take(c.uvarint())
	case thriftList, 10:
		n, elem := c.list()
		if elem == 1 || elem == 2 {
			elem = 3 // but in a list it takes a byte
		}
		for ; n > 0 && c.err == nil; n-- {
			c.skip(depth+1, elem)
		}
	case thriftStruct:
		c.fields(depth+1, func(int64, byte) bool { return false })
	default: // maps are not used by Parquet
		c.fail()
	}
}

// checkFooter looks at a footer (FileMetaData in parquet.thrift) before the library does.
func checkFooter(footer []byte) error {
	c := compact{b: footer}
	elements, children := uint64(0), int64(0)
	c.fields(0, func(id int64, typ byte) bool {
		if id != 2 || typ != thriftList { // 2: schema
			return false
		}
		n, elem := c.list()
		if elem != thriftStruct {
			c.fail()
		}
		for elements += n; n > 0 && c.err == nil && elements <= maxSchema; n-- {
			c.fields(1, func(id int64, typ byte) bool {
				if id != 5 || typ != thriftI32 { // 5: num_children
					return false
				}
				children = max(children, c.int())
				return true
			})
		}
		return true
	})
	switch {
	case elements > maxSchema || children > maxSchema:
		return fmt.Errorf("its schema has more than %d elements: it is no table of tiles", maxSchema)
	case c.err != nil:
		return fmt.Errorf("its footer is %w", c.err)
	}
	return nil
}

// pageStream is the bytes of a column chunk on their way to the library's page reader, which calls
// Peek at the start of each page, Discard when it knows where the page's header ends, and Read for
// the rest.
type pageStream struct {
	r     *bufio.Reader
	left  int64 // bytes of the chunk to come
	plain bool  // the chunk is not compressed
}

func (s *pageStream) Peek(n int) ([]byte, error) {
	b, err := s.r.Peek(n)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(b) > 0 {
		if err := s.checkPage(b); err != nil {
			return nil, err
		}
	}
	return b, err
}

func (s *pageStream) Discard(n int) (int, error) {
	n, err := s.r.Discard(n)
	s.left -= int64(n)
	return n, err
}

func (s *pageStream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.left -= int64(n)
	return n, err
}

// checkPage looks at a page header (PageHeader in parquet.thrift) before the library does.
func (s *pageStream) checkPage(b []byte) error {
	c := compact{b: b}
	uncompressed, compressed := int64(-1), int64(-1)
	c.fields(0, func(id int64, typ byte) bool {
		switch {
		case id == 2 && typ == thriftI32:
			uncompressed = c.int()
		case id == 3 && typ == thriftI32:
			compressed = c.int()
		default:
			return false
		}
		return true
	})
	header := int64(len(b) - len(c.b))
	switch {
	case c.err != nil:
		return fmt.Errorf("a page header is %w", c.err)
	case uncompressed < 0 || compressed < 0 || compressed > s.left-header:
		return fmt.Errorf("a page of %d bytes is %w", compressed, errClaims)
	case uncompressed > maxPage:
		return fmt.Errorf("a page of %d bytes is more than is read (%d bytes): write the file with the default page size", uncompressed, maxPage)
	case s.plain && compressed != uncompressed:
		return fmt.Errorf("damaged: an uncompressed page has %d bytes and is said to have %d", compressed, uncompressed)
	}
	return nil
}

// exact is a codec of the library whose Decode fills what it is given, or panics, which is how
// codecs say that data is damaged. The library's own allocate whatever the compressed data claim to
// become.
type exact struct {
	compress.Codec // to encode with
	fill           func(dst, src []byte) error
}

func (e exact) Decode(dst, src []byte) []byte {
	if len(dst) == 0 && len(src) == 0 {
		return dst
	}
	if err := e.fill(dst, src); err != nil {
		panic(err)
	}
	return dst
}

// codecs are the compressions that are read. The library takes codecs for the whole process; these
// decode the same, so nobody else notices.
var codecs = map[compress.Compression]func(dst, src []byte) error{
	compress.Codecs.Snappy: fillSnappy,
	compress.Codecs.Gzip:   fillGzip,
	compress.Codecs.Zstd:   fillZstd,
}

func init() {
	for compression, fill := range codecs {
		codec, err := compress.GetCodec(compression)
		if err != nil {
			panic(err) // the library knows all three
		}
		compress.RegisterCodec(compression, exact{codec, fill})
	}
}

var errSize = errors.New("damaged: a page does not have the size it is said to have")

func fillSnappy(dst, src []byte) error {
	n, err := snappy.DecodedLen(src)
	if err == nil && n != len(dst) {
		err = errSize
	}
	if err == nil {
		_, err = snappy.Decode(dst, src)
	}
	return err
}

func fillGzip(dst, src []byte) error {
	r, err := gzip.NewReader(bytes.NewReader(src))
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(r, dst); err != nil {
		return err
	}
	// The end of the data carries their checksum.
	switch _, err := io.ReadFull(r, make([]byte, 1)); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return errSize
}

var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true))
})

func fillZstd(dst, src []byte) error {
	d, err := zstdDecoder()
	if err != nil {
		return err
	}
	out, err := d.DecodeAll(src, dst[:0:len(dst)])
	if err == nil && len(out) != len(dst) {
		err = errSize
	}
	return err
}
