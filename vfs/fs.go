package vfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"
)

// FS shows a tree as an io/fs file system, with fs.ReadDirFS and fs.StatFS; its files are
// io.ReaderAt and io.Seeker as well. fs.FileInfo.Sys is the Node. Calls wait without a limit, as
// io/fs has no contexts; whoever needs one uses the tree itself.
//
// ReadDir of the file system is sorted by name, as io/fs wants it; that of an opened directory is in
// the order of the tree.
func FS(root Dir) fs.FS { return rootFS{root} }

type rootFS struct{ root Dir }

var (
	_ fs.ReadDirFS = rootFS{}
	_ fs.StatFS    = rootFS{}
)

func (f rootFS) walk(op, name string) (Node, error) {
	node, err := Walk(context.Background(), f.root, name)
	var path *fs.PathError
	if errors.As(err, &path) {
		path.Op = op
	}
	return node, err
}

func (f rootFS) Open(name string) (fs.File, error) {
	node, err := f.walk("open", name)
	if err != nil {
		return nil, err
	}
	base := name[strings.LastIndexByte(name, '/')+1:]
	info := fileInfo{base, node.Attr(), node}
	switch node := node.(type) {
	case Dir:
		return &openDir{path: name, info: info, dir: node}, nil
	case File:
		o := &openFile{path: name, info: info, file: node}
		if info.attr.Volatile {
			o.snapshot, o.err = Snapshot(context.Background(), node)
			o.info.attr.Size = int64(len(o.snapshot))
		}
		return o, nil
	default:
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("neither a file nor a directory")}
	}
}

func (f rootFS) Stat(name string) (fs.FileInfo, error) {
	node, err := f.walk("stat", name)
	if err != nil {
		return nil, err
	}
	return fileInfo{name[strings.LastIndexByte(name, '/')+1:], node.Attr(), node}, nil
}

func (f rootFS) ReadDir(name string) ([]fs.DirEntry, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	dir, ok := file.(*openDir)
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	list, err := dir.ReadDir(-1)
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, err
}

// fileInfo is a Node's fs.FileInfo.
type fileInfo struct {
	name string
	attr Attr
	node Node
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.attr.Size }
func (i fileInfo) ModTime() time.Time { return i.attr.ModTime }
func (i fileInfo) IsDir() bool        { return i.attr.Dir }
func (i fileInfo) Sys() any           { return i.node }
func (i fileInfo) Mode() fs.FileMode  { return modeOf(i.attr.Dir) }
func (i fileInfo) String() string     { return fs.FormatFileInfo(i) }

func modeOf(dir bool) fs.FileMode {
	if dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}

// dirEntry is an Entry's fs.DirEntry.
type dirEntry struct {
	Entry
	parent Dir
}

func (e dirEntry) Name() string      { return e.Entry.Name }
func (e dirEntry) IsDir() bool       { return e.Dir }
func (e dirEntry) Type() fs.FileMode { return modeOf(e.Dir).Type() }
func (e dirEntry) String() string    { return fs.FormatDirEntry(e) }

func (e dirEntry) Info() (fs.FileInfo, error) {
	node, err := e.parent.Lookup(context.Background(), e.Entry.Name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: e.Entry.Name, Err: err}
	}
	return fileInfo{e.Entry.Name, node.Attr(), node}, nil
}

// openDir is an opened directory.
type openDir struct {
	path string
	info fileInfo
	dir  Dir

	mu   sync.Mutex // guards what follows
	list Listing    // nil until the first ReadDir
	next int
}

var _ fs.ReadDirFile = (*openDir)(nil)

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.path, Err: errors.New("is a directory")}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list == nil {
		list, err := d.dir.List(context.Background())
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: d.path, Err: err}
		}
		d.list = list
	}
	rest := d.list.Len() - d.next
	if n > 0 && rest == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > rest {
		n = rest
	}
	entries := make([]fs.DirEntry, n)
	for i := range entries {
		entries[i] = dirEntry{d.list.At(d.next + i), d.dir}
	}
	d.next += n
	return entries, nil
}

// openFile is an opened file.
type openFile struct {
	path string
	info fileInfo
	file File

	snapshot []byte // of a volatile file
	err      error  // of taking it: it comes from the reads

	mu  sync.Mutex // guards off
	off int64
}

var (
	_ fs.File     = (*openFile)(nil)
	_ io.ReaderAt = (*openFile)(nil)
	_ io.Seeker   = (*openFile)(nil)
)

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

func (f *openFile) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.readAt(p, f.off)
	f.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, f.wrap("read", err)
}

func (f *openFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, f.wrap("readat", fs.ErrInvalid)
	}
	n, err := f.readAt(p, off)
	return n, f.wrap("readat", err)
}

func (f *openFile) readAt(p []byte, off int64) (int, error) {
	switch {
	case f.err != nil:
		return 0, f.err
	case !f.info.attr.Volatile:
		return f.file.ReadAt(context.Background(), p, off)
	case off >= int64(len(f.snapshot)):
		return 0, io.EOF
	}
	n := copy(p, f.snapshot[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *openFile) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += f.info.attr.Size
	default:
		return 0, f.wrap("seek", fs.ErrInvalid)
	}
	if offset < 0 {
		return 0, f.wrap("seek", fs.ErrInvalid)
	}
	f.off = offset
	return offset, nil
}

// wrap says which file failed; io.EOF stays itself, as readers compare it.
func (f *openFile) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &fs.PathError{Op: op, Path: f.path, Err: err}
}
