// Package sourcetest is the one suite that every source of tiles passes: directories, memory,
// buckets and web servers. What it asks is the contract of package source, and this on top, which
// callers rely on:
//
//   - A name that fs.ValidPath refuses is fs.ErrInvalid, never a file somewhere else and never
//     "not there". "." is a directory to list, no object.
//   - A name that leads through an object ("a/b" where a is an object) is not there.
//   - A read that succeeds gives bytes of the state that was opened, whatever happens meanwhile, and
//     so does a Prefix. That the state is gone is told within [Notice], by Check or by a read; and
//     by both for ever, once one has told it. (Over a network Check asks nobody, and a read of what
//     came with opening does not either.)
//   - A call whose context has ended fails with the context's error.
//   - An error names the object.
//   - A source lists or it does not: all that is no List works the same.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// Notice is how long a source may take to notice that an object is another.
const Notice = 5 * time.Second

// Mutator changes what lies behind a source, as other programs do, and fails the test when it
// cannot. A source that knows one way only to change an object does that for all.
type Mutator interface {
	// Replace puts a new object in the place of one, or where there was none.
	Replace(name string, data []byte)
	// Rewrite writes into an object in place.
	Rewrite(name string, data []byte)
	// Delete removes an object.
	Delete(name string)
}

// New makes a source that holds exactly these objects, and what changes it. What must be taken down
// is registered with t.Cleanup.
type New func(t *testing.T, objects map[string][]byte) (source.Source, Mutator)

// Test runs the suite.
func Test(t *testing.T, newSource func(t *testing.T, objects map[string][]byte) (source.Source, Mutator)) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, New)
	}{
		{"Open", testOpen},
		{"InvalidNames", testInvalidNames},
		{"Ranges", testRanges},
		{"Large", testLarge},
		{"Empty", testEmpty},
		{"Closed", testClosed},
		{"List", testList},
		{"Changed", testChanged},
		{"Appearing", testAppearing},
		{"Unchanged", testUnchanged},
		{"Cancelled", testCancelled},
		{"Stream", testStream},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newSource) })
	}
}

// pattern is n bytes in which no two runs of four are alike.
func pattern(n int, seed uint64) []byte {
	p := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

func open(t *testing.T, s source.Source, name string) source.Object {
	t.Helper()
	o, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// named reports an error that does not name its object.
func named(t *testing.T, err error, name string) {
	t.Helper()
	if err != nil && !strings.Contains(err.Error(), name) {
		t.Errorf("the error does not name %s: %v", name, err)
	}
}

// Catches absence told as another error, or another error told as absence.
func testOpen(t *testing.T, newSource New) {
	s, _ := newSource(t, map[string][]byte{"a.npy": pattern(10, 1), "2024/grid_-0.45_52.25/x.npy": pattern(20, 2)})
	if s.String() == "" {
		t.Error("the source has no name")
	}
	for name, size := range map[string]int64{"a.npy": 10, "2024/grid_-0.45_52.25/x.npy": 20} {
		o := open(t, s, name)
		if got := o.Info(); got.Size != size || got.ModTime.IsZero() && got.ETag == "" {
			t.Errorf("%s: info %+v, want size %d and a time or an ETag", name, got, size)
		}
		if err := o.Check(t.Context()); err != nil {
			t.Errorf("%s: check: %v", name, err)
		}
	}
	for _, name := range []string{"b.npy", "2023/x.npy", "2024/grid_-0.45_52.25/y.npy", "a.npy/x", "A.npy", "a.np"} {
		_, err := s.Open(t.Context(), name)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %s: %v, want fs.ErrNotExist", name, err)
		}
		named(t, err, name)
	}
	_, err := s.Open(t.Context(), "2024")
	if err == nil {
		t.Error("a directory opens as an object")
	}
	named(t, err, "2024")
}

// Catches names that reach outside the source.
func testInvalidNames(t *testing.T, newSource New) {
	s, _ := newSource(t, map[string][]byte{"d/a": {1}})
	for _, name := range []string{"", "/", "/d/a", "..", "../d/a", "d/../d/a", "d//a", "d/a/", "./d/a", "d/./a", "d/..", "d/\xff"} {
		if _, err := s.Open(t.Context(), name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("open %q: %v, want fs.ErrInvalid", name, err)
		}
		if _, err := s.List(t.Context(), name, false); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("list %q: %v, want fs.ErrInvalid", name, err)
		}
	}
	if _, err := s.Open(t.Context(), "."); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("open %q: %v, want fs.ErrInvalid", ".", err)
	}
}

// Catches reads that are off by one at either end, and short reads without an error.
func testRanges(t *testing.T, newSource New) {
	const size = 7
	data := pattern(size, 3)
	s, _ := newSource(t, map[string][]byte{"a": data})
	o := open(t, s, "a")
	for off := range size + 3 {
		for n := 1; n <= size+3; n++ {
			p := bytes.Repeat([]byte{0xEE}, n)
			got, err := o.ReadAt(t.Context(), p, int64(off))
			if off+n <= size {
				if err != nil || got != n || !bytes.Equal(p, data[off:off+n]) {
					t.Errorf("read of %d at %d: %d, %v, %x; want %x", n, off, got, err, p, data[off:off+n])
				}
				continue
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("read of %d at %d of %d: %v, want io.ErrUnexpectedEOF", n, off, size, err)
			}
			named(t, err, "a")
			if got > max(size-off, 0) {
				t.Errorf("read of %d at %d of %d claims %d bytes", n, off, size, got)
			}
		}
	}
	for off := range size + 1 {
		if n, err := o.ReadAt(t.Context(), nil, int64(off)); n != 0 || err != nil {
			t.Errorf("read of nothing at %d: %d, %v", off, n, err)
		}
	}
	if _, err := o.ReadAt(t.Context(), make([]byte, 1), -1); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read at -1: %v, want another error", err)
	}
}

// Catches reads that cut at a buffer or a page, and state shared between concurrent reads.
func testLarge(t *testing.T, newSource New) {
	data := pattern(3<<20+123, 4)
	s, _ := newSource(t, map[string][]byte{"large": data, "other": pattern(1<<20, 5)})
	o := open(t, s, "large")
	p := make([]byte, len(data))
	if n, err := o.ReadAt(t.Context(), p, 0); n != len(p) || err != nil || !bytes.Equal(p, data) {
		t.Fatalf("read of the whole: %d, %v", n, err)
	}
	var readers sync.WaitGroup
	for reader := range uint64(8) {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(reader, 0))
			for range 50 {
				off := rng.IntN(len(data))
				n := rng.IntN(min(len(data)-off, 200_000)) + 1
				p := make([]byte, n)
				if got, err := o.ReadAt(t.Context(), p, int64(off)); got != n || err != nil || !bytes.Equal(p, data[off:off+n]) {
					t.Errorf("read of %d at %d: %d, %v", n, off, got, err)
				}
				if err := o.Check(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	readers.Wait()
	if with, ok := o.(source.Prefixed); ok && !bytes.HasPrefix(data, with.Prefix()) {
		t.Errorf("the prefix of %d bytes is not what the object begins with", len(with.Prefix()))
	}
}

// lists says whether a source can list, which it must say of every directory alike.
func lists(t *testing.T, s source.Source) bool {
	t.Helper()
	_, err := s.List(t.Context(), ".", false)
	can := !errors.Is(err, errors.ErrUnsupported)
	for _, dir := range []string{"a", "no/such"} {
		if _, err := s.List(t.Context(), dir, true); errors.Is(err, errors.ErrUnsupported) == can {
			t.Errorf("list %s: %v, unlike the root", dir, err)
		} else {
			named(t, err, dir)
		}
	}
	return can
}

// Catches empty objects taken for missing ones.
func testEmpty(t *testing.T, newSource New) {
	s, _ := newSource(t, map[string][]byte{"empty": {}})
	o := open(t, s, "empty")
	if size := o.Info().Size; size != 0 {
		t.Errorf("size %d", size)
	}
	if n, err := o.ReadAt(t.Context(), nil, 0); n != 0 || err != nil {
		t.Errorf("read of nothing: %d, %v", n, err)
	}
	if _, err := o.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read of a byte: %v, want io.ErrUnexpectedEOF", err)
	}
}

// Catches calls on a closed object that panic or read what took the place of its handle.
func testClosed(t *testing.T, newSource New) {
	s, _ := newSource(t, map[string][]byte{"a": {1}, "b": {2}})
	o, err := s.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, s, "b")
	if _, err := o.ReadAt(t.Context(), make([]byte, 1), 0); err == nil {
		t.Error("a closed object reads")
	}
	if err := o.Check(t.Context()); err == nil {
		t.Error("a closed object checks")
	}
}

// Catches listings that are not sorted by the name alone ("a" before "a-b", which is after "a/" in a
// bucket), that name directories twice, or whose info is not that of the object.
func testList(t *testing.T, newSource New) {
	objects := map[string][]byte{
		"manifest": pattern(5, 6), "a-b": {}, "a/x": {1}, "a/y": {2, 3}, "a/sub/z": {4}, "a.b": {1}, "ab/c/d/e": {1}, "Z": {9, 9},
	}
	for i := range 300 {
		objects[fmt.Sprintf("many/grid_%d", i)] = pattern(i%7, 7)
	}
	s, _ := newSource(t, objects)
	if !lists(t, s) {
		return
	}
	want := map[string]string{ // names in order, directories with a slash
		".": "Z a/ a-b a.b ab/ manifest many/", "a": "sub/ x y", "a/sub": "z", "ab": "c/", "ab/c": "d/",
	}
	for dir, names := range want {
		for _, withInfo := range []bool{false, true} {
			entries, err := s.List(t.Context(), dir, withInfo)
			if err != nil {
				t.Errorf("list %s: %v", dir, err)
				continue
			}
			var got []string
			for _, e := range entries {
				name := e.Name
				if e.Dir {
					name += "/"
				}
				got = append(got, name)
			}
			if strings.Join(got, " ") != names {
				t.Errorf("list %s: %q, want %q", dir, got, names)
			}
		}
	}
	entries, err := s.List(t.Context(), "many", true)
	if err != nil || len(entries) != 300 {
		t.Fatalf("list many: %d entries, %v", len(entries), err)
	}
	for i, e := range entries {
		if i > 0 && entries[i-1].Name >= e.Name {
			t.Errorf("%s is listed after %s", e.Name, entries[i-1].Name)
		}
		if e.Info == (source.Info{}) {
			continue // This source does not give it.
		}
		o := open(t, s, "many/"+e.Name)
		opened := o.Info()
		// A web server tells times to the second.
		if e.Info.Size != opened.Size || e.Info.ModTime.Unix() != opened.ModTime.Unix() || e.Info.ETag != "" && e.Info.ETag != opened.ETag {
			t.Errorf("%s: listed as %+v, opened as %+v", e.Name, e.Info, opened)
		}
	}
	for _, dir := range []string{"b", "a/none", "manifest", "manifest/x"} {
		if _, err := s.List(t.Context(), dir, false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("list %s: %v, want fs.ErrNotExist", dir, err)
		}
	}
}

// Catches objects that give bytes of two states, or of another state than their Info, and changes
// that go unnoticed or are noticed and then forgotten.
func testChanged(t *testing.T, newSource New) {
	before := pattern(100_000, 8)
	after := pattern(100_000, 9)
	for _, change := range []struct {
		name string
		do   func(m Mutator)
		then []byte // nil: it is no longer there
	}{
		{"replaced by another of the same size", func(m Mutator) { m.Replace("x", after) }, after},
		{"replaced by a longer one", func(m Mutator) { m.Replace("x", append(before[:len(before):len(before)], 1)) }, append(before[:len(before):len(before)], 1)},
		{"rewritten with the same size", func(m Mutator) { m.Rewrite("x", after) }, after},
		{"truncated", func(m Mutator) { m.Rewrite("x", before[:5000]) }, before[:5000]},
		{"emptied", func(m Mutator) { m.Rewrite("x", nil) }, []byte{}},
		{"deleted", func(m Mutator) { m.Delete("x") }, nil},
	} {
		t.Run(change.name, func(t *testing.T) {
			t.Parallel() // Each waits for its source to notice.
			s, m := newSource(t, map[string][]byte{"x": before, "y": before})
			x, y := open(t, s, "x"), open(t, s, "y")
			read := func(o source.Object, off int64) error {
				p := make([]byte, 1000)
				n, err := o.ReadAt(t.Context(), p, off)
				if err == nil && (n != len(p) || !bytes.Equal(p, before[off:off+1000])) {
					t.Errorf("a read at %d succeeds with %d bytes of another state", off, n)
				}
				return err
			}
			if err := read(x, 90_000); err != nil {
				t.Fatal(err)
			}
			change.do(m)
			deadline := time.Now().Add(Notice)
			for {
				if err := read(x, 90_000); err != nil && !errors.Is(err, source.ErrChanged) {
					t.Fatalf("a read of a changed object: %v, want ErrChanged", err)
				}
				if err := x.Check(t.Context()); errors.Is(err, source.ErrChanged) {
					named(t, err, "x")
					break
				} else if err != nil {
					t.Fatalf("check of a changed object: %v", err)
				}
				if time.Now().After(deadline) {
					t.Fatalf("not noticed within %v", Notice)
				}
				time.Sleep(20 * time.Millisecond)
			}
			for _, off := range []int64{0, 90_000} {
				if err := read(x, off); !errors.Is(err, source.ErrChanged) {
					t.Errorf("a read after the change was noticed: %v, want ErrChanged", err)
				}
			}
			if err := x.Check(t.Context()); !errors.Is(err, source.ErrChanged) {
				t.Errorf("the second check: %v, want ErrChanged", err)
			}
			if err := errors.Join(read(y, 0), y.Check(t.Context())); err != nil {
				t.Errorf("an object beside it: %v", err)
			}
			again, err := s.Open(t.Context(), "x")
			if change.then == nil {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("open of what was deleted: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("open of the new state: %v", err)
			}
			defer again.Close()
			p := make([]byte, len(change.then))
			if _, err := again.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, change.then) {
				t.Errorf("the new state reads %v, or other bytes", err)
			}
			if again.Info() == x.Info() {
				t.Errorf("the new state has the info of the old: %+v", x.Info())
			}
		})
	}
}

// Catches a change that a source does not tell, one that is none, and absence told as either. For sources that
// cannot tell there is nothing to hold.
func testUnchanged(t *testing.T, newSource New) {
	s, m := newSource(t, map[string][]byte{"x": pattern(100_000, 8), "y": {}})
	src, ok := s.(source.Revalidator)
	if !ok {
		return
	}
	told := func(name string, info source.Info, want bool) {
		t.Helper()
		if got, err := src.Unchanged(t.Context(), name, info); got != want || err != nil {
			t.Errorf("%s of %+v: unchanged %v, %v", name, info, got, err)
		}
	}
	was := open(t, s, "x").Info()
	if was.ETag == "" {
		told("x", was, false)
		return
	}
	told("x", was, true)
	told("x", source.Info{Size: was.Size, ModTime: was.ModTime, ETag: `"another"`}, false)
	told("x", source.Info{Size: was.Size, ModTime: was.ModTime}, false) // nothing to go by
	m.Replace("x", pattern(100_000, 9))
	told("x", was, false)
	told("x", open(t, s, "x").Info(), true)
	m.Delete("x")
	if got, err := src.Unchanged(t.Context(), "x", was); got || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of what is deleted: unchanged %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := src.Unchanged(ctx, "y", was); got || !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: unchanged %v, %v", got, err)
	}
}

// Catches absence that is remembered.
func testAppearing(t *testing.T, newSource New) {
	s, m := newSource(t, map[string][]byte{"a": {1}})
	if _, err := s.Open(t.Context(), "d/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open: %v", err)
	}
	m.Replace("d/b", []byte{1, 2})
	if size := open(t, s, "d/b").Info().Size; size != 2 {
		t.Errorf("size %d", size)
	}
	if !lists(t, s) {
		return
	}
	if entries, err := s.List(t.Context(), "d", false); err != nil || len(entries) != 1 || entries[0].Name != "b" {
		t.Errorf("list: %v, %v", entries, err)
	}
}

// Catches calls that do not look at their context.
func testCancelled(t *testing.T, newSource New) {
	s, _ := newSource(t, map[string][]byte{"a": {1}})
	o := open(t, s, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for want, ctx := range map[error]context.Context{context.Canceled: ctx, context.DeadlineExceeded: expired} {
		for name, call := range map[string]func() error{
			"open":  func() error { _, err := s.Open(ctx, "a"); return err },
			"list":  func() error { _, err := s.List(ctx, ".", true); return err },
			"read":  func() error { _, err := o.ReadAt(ctx, make([]byte, 1), 0); return err },
			"check": func() error { return o.Check(ctx) },
		} {
			if err := call(); !errors.Is(err, want) {
				t.Errorf("%s with an ended context: %v, want %v", name, err, want)
			}
		}
	}
	if _, err := o.ReadAt(t.Context(), make([]byte, 1), 0); err != nil {
		t.Errorf("a read afterwards: %v", err)
	}
}
