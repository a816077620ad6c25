// Package vfstest is one suite for every tree and every front door. Whatever passes it on one side
// of package vfs works with all that pass it on the other.
//
//   - [TestTree] walks a tree and holds it to the contract of package vfs.
//   - [TestDoor] shows trees that behave and misbehave through a front door, and looks at them from
//     outside through io/fs, as a client would. Errors are the errno a file system gives: a door
//     that speaks otherwise (HTTP) translates in its test, by the table in [TestDoor].
//   - [TestDirectory] is for doors that show a directory of the operating system, and looks at what
//     io/fs does not say: seeking in directories, interrupts, what the usual tools see.
//
// Trees may be large: of a big directory a sample is looked up, of a big file samples are read. The
// samples are the same in every run.
package vfstest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/vfs"
)

const (
	maxLookups   = 300     // names of one directory that are looked up
	maxFiles     = 400     // files of the tree that are read
	maxDirs      = 400     // directories that are entered
	wholeBytes   = 8 << 20 // files up to this size are read whole
	windowBytes  = 1 << 20 // the longest read of a larger one
	readsPerFile = 40
)

// TestTree holds a tree to the contract of package vfs. Every file of it must be readable.
func TestTree(t *testing.T, root vfs.Dir) {
	w := &walker{rng: rand.New(rand.NewPCG(1, 2)), files: maxFiles, dirs: maxDirs}
	w.dir(t, ".", root)
}

// walker goes through a tree.
type walker struct {
	rng         *rand.Rand
	files, dirs int // how many more to look at
}

func (w *walker) dir(t *testing.T, name string, dir vfs.Dir) {
	t.Helper()
	w.dirs--
	ctx := t.Context()
	if a := dir.Attr(); !a.Dir || a.Size != 0 || a.Volatile {
		t.Errorf("%s: attr of a directory is %+v", name, a)
	}
	if a, b := dir.Attr(), dir.Attr(); a != b {
		t.Errorf("%s: attr changes from %+v to %+v", name, a, b)
	}
	list, err := dir.List(ctx)
	if err != nil {
		t.Errorf("%s: list: %v", name, err)
		return
	}
	listed := w.listing(t, name, dir, list)

	// What is not there is fs.ErrNotExist and nothing else: clients take that error, and only
	// that one, for a chunk to be filled.
	for _, absent := range []string{
		"", ".", "..", "/", "a/b", "no such name", "nul\x00", strings.Repeat("x", 300),
		"\xff\xfe", "c", "c/", "-1", "0.0",
	} {
		if listed[absent] {
			continue
		}
		node, err := dir.Lookup(ctx, absent)
		if err == nil && node != nil && fs.ValidPath(absent) && absent != "." && !strings.Contains(absent, "/") {
			continue // what is found need not be listed
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: lookup of %.20q: got %v, want fs.ErrNotExist", name, absent, err)
		}
	}

	for _, i := range w.sample(list.Len(), maxLookups) {
		entry := list.At(i)
		child := path.Join(name, entry.Name)
		node, err := dir.Lookup(ctx, entry.Name)
		if err != nil {
			t.Errorf("%s: listed, but lookup: %v", child, err)
			continue
		}
		again, err := dir.Lookup(ctx, entry.Name)
		if err != nil {
			t.Errorf("%s: second lookup: %v", child, err)
			continue
		}
		if a, b := node.Attr(), again.Attr(); a != b && !a.Volatile {
			t.Errorf("%s: attr changes from %+v to %+v", child, a, b)
		}
		if node.Attr().Dir != entry.Dir {
			t.Errorf("%s: listed with Dir=%v, attr says %v", child, entry.Dir, node.Attr().Dir)
		}
		if _, err := dir.Lookup(ctx, entry.Name+"~"); !errors.Is(err, fs.ErrNotExist) && !listed[entry.Name+"~"] {
			t.Errorf("%s~: got %v, want fs.ErrNotExist", child, err)
		}
		w.xattrs(t, child, node)
		switch node := node.(type) {
		case vfs.Dir:
			if w.dirs > 0 {
				w.dir(t, child, node)
			}
		case vfs.File:
			if w.files > 0 {
				w.files--
				w.file(t, child, node)
			}
		default:
			t.Errorf("%s: %T is neither a file nor a directory", child, node)
		}
	}
}

// listing checks that a listing is the same every time and made of names a file system takes.
func (w *walker) listing(t *testing.T, name string, dir vfs.Dir, list vfs.Listing) map[string]bool {
	t.Helper()
	again, err := dir.List(t.Context())
	if err != nil {
		t.Errorf("%s: second list: %v", name, err)
		return nil
	}
	if again.Len() != list.Len() {
		t.Errorf("%s: lists %d names, then %d", name, list.Len(), again.Len())
		return nil
	}
	seen := make(map[string]bool, list.Len())
	// From the end, so that positions are asked for out of order too.
	for i := list.Len() - 1; i >= 0; i-- {
		entry := list.At(i)
		if other := again.At(i); other != entry {
			t.Errorf("%s: entry %d is %+v, then %+v", name, i, entry, other)
		}
		switch n := entry.Name; {
		case n == "", n == ".", n == "..", len(n) > 255, strings.ContainsAny(n, "/\x00"):
			t.Errorf("%s: lists the impossible name %q", name, n)
		case seen[n]:
			t.Errorf("%s: lists %q twice", name, n)
		}
		seen[entry.Name] = true
	}
	return seen
}

// xattrs checks that attributes fit what Linux takes.
func (w *walker) xattrs(t *testing.T, name string, node vfs.Node) {
	t.Helper()
	x, ok := node.(vfs.Xattrs)
	if !ok {
		return
	}
	attrs, err := x.Xattrs(t.Context())
	if err != nil {
		t.Errorf("%s: xattrs: %v", name, err)
	}
	names := 0
	for k, v := range attrs {
		names += len(k) + 1
		if !strings.HasPrefix(k, "user.") || len(k) > 255 || strings.Contains(k, "\x00") || len(v) > 64<<10 {
			t.Errorf("%s: xattr %q of %d bytes: want user.… of at most 255 bytes and 64 KiB", name, k, len(v))
		}
	}
	if names > 64<<10 {
		t.Errorf("%s: names of xattrs take %d bytes, more than 64 KiB", name, names)
	}
}

// sample returns the numbers below n, or about most of them: the first, the last and some between.
func (w *walker) sample(n, most int) []int {
	var picked []int
	if n <= most {
		for i := range n {
			picked = append(picked, i)
		}
		return picked
	}
	step := n / most
	for i := 0; i < n; i += step {
		picked = append(picked, i+w.rng.IntN(min(step, n-i)))
	}
	return append(picked, 0, n-1)
}

// window is a read.
type window struct {
	off int64
	n   int
}

func (w window) String() string { return fmt.Sprintf("%d bytes at %d", w.n, w.off) }

// windows picks reads of a file: random ones, and those at its edges.
func (w *walker) windows(size int64) []window {
	most := int64(windowBytes)
	if size < most {
		most = size
	}
	picked := []window{
		{0, 0}, {size, 0}, {size, 1}, {size + 1, 1}, {size + 1<<40, 4096},
		{0, int(most)}, {size - most, int(most)}, {size - most, int(most) + 1},
		{max(size-1, 0), 1}, {max(size-1, 0), 4096}, {size / 2, 0}, {size / 2, 1},
	}
	for range readsPerFile {
		off := w.rng.Int64N(size + 1)
		n := w.rng.Int64N(most + 1)
		if w.rng.IntN(2) == 0 {
			n = min(n, 200)
		}
		picked = append(picked, window{off, int(n)})
	}
	return picked
}

// cancelled is a context that ended before the call.
func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
