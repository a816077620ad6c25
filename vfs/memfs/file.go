package memfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/tesserafs/tesserafs/vfs"
)

// File says what a file is. The zero value is an empty file.
type File struct {
	Data    []byte
	ModTime time.Time // Epoch where it is zero
	Xattrs  map[string]string

	// Content makes the file volatile: each read gets what it returns then, instead of Data.
	Content func() []byte

	// Hidden files are found by Lookup and not listed.
	Hidden bool

	// Block > 0 makes the file Sparse: aligned blocks of so many bytes that are all zero are
	// holes.
	Block int

	// Before is called before each read.
	Before Hook

	// Changed is what Check returns.
	Changed func() error
}

// newFile wraps a File in the type that has the interfaces it asks for.
func newFile(f File) vfs.File {
	if f.ModTime.IsZero() {
		f.ModTime = Epoch
	}
	p := &plain{File: f, stored: int64(len(f.Data))}
	if f.Block <= 0 {
		return p
	}
	s := sparse{p, nil}
	p.stored = 0
	for off := 0; off < len(f.Data); off += f.Block {
		block := f.Data[off:min(off+f.Block, len(f.Data))]
		data := len(bytes.TrimLeft(block, "\x00")) > 0
		s.data = append(s.data, data)
		if data {
			p.stored += int64(len(block))
		}
	}
	return s
}

// plain is a file without optional interfaces.
type plain struct {
	File
	stored int64
}

var (
	_ vfs.Xattrs  = (*plain)(nil)
	_ vfs.Checker = (*plain)(nil)
	_ vfs.Sparse  = sparse{}
)

func (f *plain) Attr() vfs.Attr {
	if f.Content != nil {
		size := int64(len(f.Content()))
		return vfs.Attr{Size: size, Stored: size, ModTime: f.ModTime, Volatile: true}
	}
	return vfs.Attr{Size: int64(len(f.Data)), Stored: f.stored, ModTime: f.ModTime}
}

// bytesAt returns what a read of n bytes at off gets.
func (f *plain) bytesAt(ctx context.Context, off int64, n int) ([]byte, error) {
	if off < 0 {
		return nil, errors.New("memfs: negative offset")
	}
	if f.Before != nil {
		if err := f.Before(ctx, off, n); err != nil {
			return nil, err
		}
	}
	data := f.Data
	if f.Content != nil {
		data = f.Content()
	}
	if off >= int64(len(data)) {
		return nil, nil
	}
	return data[off:min(off+int64(n), int64(len(data)))], nil
}

func (f *plain) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	data, err := f.bytesAt(ctx, off, len(p))
	if err != nil {
		return 0, err
	}
	n := copy(p, data)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *plain) Xattrs(context.Context) (map[string]string, error) { return f.File.Xattrs, nil }

func (f *plain) Check(context.Context) error {
	if f.Changed == nil {
		return nil
	}
	return f.Changed()
}

// sparse is a file with holes.
type sparse struct {
	*plain
	data []bool // by block
}

func (f sparse) NextData(off int64) int64 { return f.next(off, true) }
func (f sparse) NextHole(off int64) int64 { return f.next(off, false) }

// next finds the first offset at or after off in a block that is, or is not, data.
func (f sparse) next(off int64, data bool) int64 {
	size := int64(len(f.Data))
	for i := int(off / int64(f.Block)); i < len(f.data); i++ {
		if f.data[i] == data {
			return max(off, int64(i)*int64(f.Block))
		}
	}
	return size
}
