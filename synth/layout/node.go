package layout

import (
	"context"
	"encoding/binary"
	"io"
	"io/fs"
	"math"
	"time"

	"github.com/tesserafs/tesserafs/vfs"
)

// dir is a directory whose content is worked out when it is asked for.
type dir struct {
	modTime time.Time
	list    func(ctx context.Context) (vfs.Listing, error)
	lookup  func(ctx context.Context, name string) (vfs.Node, error)
}

func (d *dir) Attr() vfs.Attr                                { return vfs.Attr{Dir: true, ModTime: d.modTime} }
func (d *dir) List(ctx context.Context) (vfs.Listing, error) { return d.list(ctx) }
func (d *dir) Lookup(ctx context.Context, name string) (vfs.Node, error) {
	return d.lookup(ctx, name)
}

// fixed is the listing of a directory whose content does not depend on anything.
func fixed(entries ...vfs.Entry) func(context.Context) (vfs.Listing, error) {
	return func(context.Context) (vfs.Listing, error) { return vfs.Entries(entries), nil }
}

// numbers lists directories or files named by ascending numbers, which may have gaps.
type numbers struct {
	values []int
	dirs   bool
	format func(int) string
}

func (n numbers) Len() int           { return len(n.values) }
func (n numbers) At(i int) vfs.Entry { return vfs.Entry{Name: n.format(n.values[i]), Dir: n.dirs} }

// within cuts a read to a file of that size: the part of p that lies in it, and io.EOF where p
// reaches beyond.
func within(p []byte, off, size int64) ([]byte, error) {
	switch {
	case off < 0:
		return nil, fs.ErrInvalid
	case off >= size:
		return nil, io.EOF
	case int64(len(p)) > size-off:
		return p[:size-off], io.EOF
	}
	return p, nil
}

// blob is a small file kept in memory: a document, a short coordinate.
type blob struct {
	data    []byte
	modTime time.Time
}

func (b *blob) Attr() vfs.Attr {
	return vfs.Attr{Size: int64(len(b.data)), Stored: int64(len(b.data)), ModTime: b.modTime}
}

func (b *blob) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	p, end := within(p, off, int64(len(b.data)))
	if len(p) == 0 {
		return 0, end
	}
	return copy(p, b.data[off:]), end
}

// axis is the single chunk of a coordinate: little-endian float64 pixel centres, made as they are
// read. A zone from the equator to 84° N has 930,000 northings.
type axis struct {
	length  int
	at      func(i int) float64
	modTime time.Time
}

func (a *axis) Attr() vfs.Attr {
	return vfs.Attr{Size: 8 * int64(a.length), Stored: 8 * int64(a.length), ModTime: a.modTime}
}

func (a *axis) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	p, end := within(p, off, 8*int64(a.length))
	var value [8]byte
	for done := 0; done < len(p); {
		i := (off + int64(done)) / 8
		binary.LittleEndian.PutUint64(value[:], math.Float64bits(a.at(int(i))))
		done += copy(p[done:], value[(off+int64(done))%8:])
	}
	return len(p), end
}
