package vfs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
	"github.com/tesserafs/tesserafs/vfs/vfstest"
)

// TestFS would catch any way in which the view differs from what io/fs promises.
func TestFS(t *testing.T) {
	root := memfs.New(map[string]memfs.File{
		"zarr.json":       {Data: []byte("{}")},
		"b/zarr.json":     {Data: []byte(`{"a": 1}`)},
		"b/c/0/0":         {Data: make([]byte, 100_000)},
		"b/c/0/1":         {},
		"empty/":          {},
		"a name/ü":        {Data: []byte("x")},
		".status":         {Hidden: true, Content: func() []byte { return []byte("now") }},
		"b/c/0/unlisted":  {Hidden: true, Data: []byte("y")},
		"b/c.0 / space /": {},
	})
	err := fstest.TestFS(vfs.FS(root), "zarr.json", "b/zarr.json", "b/c/0/0", "b/c/0/1", "empty", "a name/ü", "b/c.0 / space ")
	if err != nil {
		t.Error(err)
	}
}

// TestFSIsADoor holds the view to what every front door is held to.
func TestFSIsADoor(t *testing.T) {
	vfstest.TestDoor(t, func(t *testing.T, root vfs.Dir) fs.FS { return errnoFS{vfs.FS(root)} })
}

// TestFSSeek would catch a file whose Read, Seek and ReadAt disagree about where they are.
func TestFSSeek(t *testing.T) {
	data := []byte("0123456789")
	f, err := vfs.FS(memfs.New(map[string]memfs.File{"f": {Data: data}})).Open("f")
	if err != nil {
		t.Fatal(err)
	}
	s := f.(io.ReadSeeker)
	for _, c := range []struct {
		off    int64
		whence int
		pos    int64
		next   string
	}{
		{3, io.SeekStart, 3, "34"},
		{2, io.SeekCurrent, 7, "78"},
		{-1, io.SeekEnd, 9, "9"},
		{5, io.SeekEnd, 15, ""},
		{0, io.SeekStart, 0, "01"},
	} {
		pos, err := s.Seek(c.off, c.whence)
		if pos != c.pos || err != nil {
			t.Errorf("seek %d, %d: %d, %v, want %d", c.off, c.whence, pos, err, c.pos)
		}
		p := make([]byte, 2)
		n, err := s.Read(p)
		if string(p[:n]) != c.next || err != nil && (err != io.EOF || n > 0) {
			t.Errorf("seek %d, %d: reads %q, %v, want %q", c.off, c.whence, p[:n], err, c.next)
		}
		if n, err := f.(io.ReaderAt).ReadAt(p, 4); string(p[:n]) != "45" || err != nil {
			t.Errorf("ReadAt after seek %d, %d: %q, %v", c.off, c.whence, p[:n], err)
		}
	}
	if _, err := s.Seek(-1, io.SeekStart); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("seek before the start: %v", err)
	}
}

// TestWalk would catch a path that is found where it is not, or an error of the wrong kind.
func TestWalk(t *testing.T) {
	root := memfs.New(map[string]memfs.File{"a/b/c": {Data: []byte("x")}, "a/h": {Hidden: true}})
	for path, want := range map[string]error{
		".": nil, "a": nil, "a/b": nil, "a/b/c": nil, "a/h": nil,
		"": fs.ErrInvalid, "/a": fs.ErrInvalid, "a/": fs.ErrInvalid, "a/../a": fs.ErrInvalid, "..": fs.ErrInvalid,
		"b": fs.ErrNotExist, "a/b/c/d": fs.ErrNotExist, "a/c": fs.ErrNotExist,
	} {
		node, err := vfs.Walk(t.Context(), root, path)
		if !errors.Is(err, want) || (want == nil) != (node != nil) {
			t.Errorf("walk %q: %v, %v, want %v", path, node, err, want)
		}
	}
}

// TestSnapshot would catch a snapshot cut at the size the file had before it grew, and one that
// grows without a bound.
func TestSnapshot(t *testing.T) {
	var calls atomic.Int64
	var size atomic.Int64
	node, err := vfs.Walk(t.Context(), memfs.New(map[string]memfs.File{"f": {Content: func() []byte {
		calls.Add(1)
		return bytes.Repeat([]byte("x"), int(size.Load()))
	}, Before: func(context.Context, int64, int) error {
		size.CompareAndSwap(10, 50_000)
		return nil
	}}}), "f")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		before, want int64
		fails        bool
	}{{0, 0, false}, {10, 50_000, false}, {300_000, 300_000, false}, {70 << 20, 0, true}} {
		size.Store(c.before)
		got, err := vfs.Snapshot(t.Context(), node.(vfs.File))
		if int64(len(got)) != c.want || (err != nil) != c.fails {
			t.Errorf("of %d bytes: got %d, %v, want %d", c.before, len(got), err, c.want)
		}
	}
}
