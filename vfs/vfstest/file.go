package vfstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/tesserafs/tesserafs/vfs"
)

// maxRuns bounds how many runs of data of one file are followed.
const maxRuns = 10_000

func (w *walker) file(t *testing.T, name string, file vfs.File) {
	t.Helper()
	ctx := t.Context()
	a := file.Attr()
	if a.Dir || a.Size < 0 || a.Stored < 0 || a.Stored > a.Size {
		t.Errorf("%s: attr of a file is %+v", name, a)
		return
	}
	if a.Volatile {
		if _, err := vfs.Snapshot(ctx, file); err != nil {
			t.Errorf("%s: volatile: %v", name, err)
		}
		return
	}
	if c, ok := file.(vfs.Checker); ok {
		if err := c.Check(ctx); err != nil {
			t.Errorf("%s: check: %v", name, err)
		}
	}
	if _, err := file.ReadAt(ctx, make([]byte, 1), -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%s: read at -1: got %v, want an error", name, err)
	}

	// The whole file is what every other read is compared with; of a larger one, a second read.
	var whole []byte
	if a.Size <= wholeBytes {
		var err error
		if whole, err = readAt(ctx, file, window{0, int(a.Size) + 1}); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if int64(len(whole)) != a.Size {
			t.Errorf("%s: %d bytes are read, attr says %d", name, len(whole), a.Size)
			return
		}
	}
	windows := w.windows(a.Size)
	for _, win := range windows {
		if err := checkRead(ctx, file, win, a.Size, whole); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
	}
	w.concurrently(t, name, windows, func(win window) error {
		return checkRead(ctx, file, win, a.Size, whole)
	})

	// Whoever no longer waits gets the right bytes or is told so.
	win := window{0, int(min(a.Size, windowBytes))}
	p := make([]byte, win.n)
	n, err := file.ReadAt(cancelled(t), p, win.off)
	switch {
	case errors.Is(err, context.Canceled):
	case err == nil || errors.Is(err, io.EOF):
		if n != win.n || whole != nil && !bytes.Equal(p, whole[:n]) {
			t.Errorf("%s: a cancelled read got wrong bytes", name)
		}
	default:
		t.Errorf("%s: a cancelled read: got %v, want context.Canceled", name, err)
	}

	if s, ok := file.(vfs.Sparse); ok {
		w.sparse(t, name, s)
	}
}

// checkRead reads a window and compares.
func checkRead(ctx context.Context, file vfs.File, win window, size int64, whole []byte) error {
	got, err := readAt(ctx, file, win)
	if err != nil {
		return err
	}
	want := min(int64(win.n), max(size-win.off, 0))
	if int64(len(got)) != want {
		return fmt.Errorf("read of %v: got %d bytes, want %d", win, len(got), want)
	}
	if whole != nil && len(got) > 0 && !bytes.Equal(got, whole[win.off:win.off+want]) {
		return fmt.Errorf("read of %v: bytes differ from the whole file's", win)
	}
	if whole == nil && len(got) > 1 {
		// Two halves are what one read was.
		half := len(got) / 2
		var joined []byte
		for _, w := range []window{{win.off, half}, {win.off + int64(half), len(got) - half}} {
			part, err := readAt(ctx, file, w)
			if err != nil {
				return err
			}
			joined = append(joined, part...)
		}
		if !bytes.Equal(got, joined) {
			return fmt.Errorf("read of %v: bytes differ from two reads' of its halves", win)
		}
	}
	return nil
}

// readAt reads a window and checks what io.ReaderAt promises.
func readAt(ctx context.Context, file vfs.File, win window) ([]byte, error) {
	p := make([]byte, win.n)
	n, err := file.ReadAt(ctx, p, win.off)
	switch {
	case n < 0 || n > win.n:
		return nil, fmt.Errorf("read of %v: got %d bytes", win, n)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("read of %v: %w", win, err)
	case n < win.n && err == nil:
		return nil, fmt.Errorf("read of %v: got %d bytes without an error", win, n)
	}
	return p[:n], nil
}

// concurrently runs the reads again from several goroutines.
func (w *walker) concurrently(t *testing.T, name string, windows []window, read func(window) error) {
	t.Helper()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range windows {
				if err := read(windows[(i*(g+1)+g)%len(windows)]); err != nil {
					t.Errorf("%s: among other readers: %v", name, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// sparse follows a file's runs of data and holes.
func (w *walker) sparse(t *testing.T, name string, file vfs.Sparse) {
	t.Helper()
	ctx := t.Context()
	a := file.Attr()
	var data int64
	off := int64(0)
	for range maxRuns {
		if off >= a.Size {
			if data != a.Stored {
				t.Errorf("%s: %d bytes are data, attr says %d are stored", name, data, a.Stored)
			}
			return
		}
		start := file.NextData(off)
		if start < off || start > a.Size {
			t.Errorf("%s: next data after %d is at %d of %d", name, off, start, a.Size)
			return
		}
		if start > off {
			if hole := file.NextHole(off); hole != off {
				t.Errorf("%s: no data at %d before %d, and yet the next hole is at %d", name, off, start, hole)
				return
			}
			if err := zeros(ctx, file, off, start); err != nil {
				t.Errorf("%s: hole: %v", name, err)
				return
			}
		}
		if start == a.Size {
			off = a.Size
			continue
		}
		end := file.NextHole(start)
		if end <= start || end > a.Size {
			t.Errorf("%s: data at %d, next hole at %d of %d", name, start, end, a.Size)
			return
		}
		// From inside a run both answers are the same as from its start.
		mid := start + (end-start)/2
		if d, h := file.NextData(mid), file.NextHole(mid); d != mid || h != end {
			t.Errorf("%s: inside the data %d to %d, from %d: next data %d, next hole %d", name, start, end, mid, d, h)
			return
		}
		data += end - start
		off = end
	}
}

// zeros checks that a hole reads as zeros, at its edges and in between.
func zeros(ctx context.Context, file vfs.File, start, end int64) error {
	for _, off := range []int64{start, start + (end-start)/2, max(start, end-64<<10)} {
		got, err := readAt(ctx, file, window{off, int(min(end-off, 64<<10))})
		if err != nil {
			return err
		}
		if i := bytes.IndexFunc(got, func(r rune) bool { return r != 0 }); i >= 0 {
			return fmt.Errorf("byte %d is %#x, not 0", off+int64(i), got[i])
		}
	}
	return nil
}
