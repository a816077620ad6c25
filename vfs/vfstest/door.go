package vfstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

const (
	eio    = syscall.EIO
	estale = syscall.ESTALE
)

// TestDoor shows trees through a front door. show shows a tree until the test ends and returns the
// view of a client; its files must be io.ReaderAt.
//
// What a client must see of a failed read, never of an open:
//
//	vfs.ErrDamaged, vfs.ErrTimeout, a deadline, a panic, anything else   EIO
//	vfs.ErrChanged                                                       ESTALE
//
// Only a name that is not there is fs.ErrNotExist, and no read ever is.
func TestDoor(t *testing.T, show func(t *testing.T, root vfs.Dir) fs.FS) {
	t.Run("content", func(t *testing.T) { testContent(t, show) })
	t.Run("readers", func(t *testing.T) { testReaders(t, show) })
	t.Run("failures", func(t *testing.T) { testFailures(t, show) })
	t.Run("partly damaged", func(t *testing.T) { testPartly(t, show) })
	t.Run("absent", func(t *testing.T) { testAbsent(t, show) })
	t.Run("volatile", func(t *testing.T) { testVolatile(t, show) })
	t.Run("many names", func(t *testing.T) { testManyNames(t, show) })
}

// testContent would catch a wrong size, time, kind or byte anywhere, or a name lost or made up.
func testContent(t *testing.T, show func(*testing.T, vfs.Dir) fs.FS) {
	root := memfs.New(behaved())
	want, seen := vfs.FS(root), show(t, root)

	var names []string
	err := fs.WalkDir(want, ".", func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	err = fs.WalkDir(seen, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			t.Errorf("%q: %v", name, err)
			return nil
		}
		shown = append(shown, name)
		return nil
	})
	if err != nil || !slices.Equal(names, shown) {
		t.Fatalf("shows %d names, want %d (%v):\n%q\n%q", len(shown), len(names), err, shown, names)
	}
	for _, name := range append(names, "found by name") {
		a, err := fs.Stat(want, name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := fs.Stat(seen, name)
		if err != nil {
			t.Errorf("stat %q: %v", name, err)
			continue
		}
		if a.IsDir() != b.IsDir() || !a.IsDir() && a.Size() != b.Size() || !sameTime(a.ModTime(), b.ModTime()) {
			t.Errorf("stat %q: got %v, want %v", name, b, a)
		}
		if a.IsDir() {
			continue
		}
		wantBytes, err := fs.ReadFile(want, name)
		if err != nil {
			t.Fatal(err)
		}
		// Twice, as the second time the bytes may come from a cache.
		for range 2 {
			got, err := fs.ReadFile(seen, name)
			if err != nil || !bytes.Equal(got, wantBytes) {
				t.Errorf("read %q: got %d bytes, %v, want %d that may differ", name, len(got), err, len(wantBytes))
			}
		}
	}
}

// sameTime compares to the second, as HTTP knows no fractions.
func sameTime(a, b time.Time) bool {
	return a.Truncate(time.Second).Equal(b.Truncate(time.Second))
}

// testReaders would catch bytes of one read ending up in another's answer.
func testReaders(t *testing.T, show func(*testing.T, vfs.Dir) fs.FS) {
	files := behaved()
	seen := show(t, memfs.New(files))
	var names []string
	for name, f := range files {
		if len(f.Data) > 0 && !strings.HasSuffix(name, "/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var wg sync.WaitGroup
	for g := range uint64(6) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(g, 7))
			for range 60 {
				name := names[rng.IntN(len(names))]
				data := files[name].Data
				err := withFile(seen, name, func(f io.ReaderAt) error {
					for range 5 {
						off := rng.IntN(len(data))
						p := make([]byte, rng.IntN(len(data)-off+2))
						n, err := f.ReadAt(p, int64(off))
						if err != nil && err != io.EOF {
							return err
						}
						want := data[off:min(off+len(p), len(data))]
						if !bytes.Equal(p[:n], want) {
							return fmt.Errorf("%d bytes at %d: got %d, want %d that may differ", len(p), off, n, len(want))
						}
					}
					return nil
				})
				if err != nil {
					t.Errorf("%q: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
}

// withFile opens a file, as io.ReaderAt, and closes it.
func withFile(seen fs.FS, name string, use func(io.ReaderAt) error) error {
	f, err := seen.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r, ok := f.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("%T is not an io.ReaderAt", f)
	}
	return use(r)
}

// testFailures would catch an error that comes from the open, that takes the wrong errno, that
// sticks to the file after it has passed, or a panic that ends more than its own read. It tries
// small and big files, as a door may serve them by different ways.
func testFailures(t *testing.T, show func(*testing.T, vfs.Dir) fs.FS) {
	cases := append(failures(), failure{"panic", nil, eio})
	var failing atomic.Bool
	files := map[string]memfs.File{}
	for _, c := range cases {
		hook := memfs.Fail(c.err)
		if c.err == nil {
			hook = memfs.Panic("told to")
		}
		for _, size := range []int{1000, 3 << 20} {
			name := fmt.Sprintf("%s/%d", c.name, size)
			files[name] = memfs.File{
				Data: noise(1, size),
				Before: func(ctx context.Context, off int64, n int) error {
					if failing.Load() {
						return hook(ctx, off, n)
					}
					return nil
				},
			}
		}
	}
	seen := show(t, memfs.New(files))
	for _, c := range cases {
		for _, size := range []int{1000, 3 << 20} {
			name := fmt.Sprintf("%s/%d", c.name, size)
			failing.Store(true)
			if info, err := fs.Stat(seen, name); err != nil || info.Size() != int64(size) {
				t.Errorf("%s: stat: %v, %v", name, info, err)
			}
			f, err := seen.Open(name)
			if err != nil {
				t.Errorf("%s: the open fails: %v", name, err)
				continue
			}
			for _, off := range []int64{0, int64(size) / 2} {
				n, err := f.(io.ReaderAt).ReadAt(make([]byte, 500), off)
				if n != 0 || !errors.Is(err, c.want) || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: read at %d: got %d bytes, %v, want %v", name, off, n, err, c.want)
				}
			}
			failing.Store(false)
			if err := f.Close(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
			got, err := fs.ReadFile(seen, name)
			if err != nil || !bytes.Equal(got, files[name].Data) {
				t.Errorf("%s: once it has passed: %d bytes, %v", name, len(got), err)
			}
		}
	}
}

// testPartly would catch a failure that spreads to bytes that are well, or is hidden by them.
func testPartly(t *testing.T, show func(*testing.T, vfs.Dir) fs.FS) {
	const size, bad = 4 << 20, 2<<20 + 5
	data := noise(3, size)
	hook := func(_ context.Context, off int64, n int) error {
		if off <= bad && bad < off+int64(n) {
			return vfs.ErrDamaged
		}
		return nil
	}
	seen := show(t, memfs.New(map[string]memfs.File{"f": {Data: data, Before: hook}}))
	err := withFile(seen, "f", func(f io.ReaderAt) error {
		p := make([]byte, 4096)
		for _, off := range []int64{0, 1 << 20, 3 << 20, size - 4096} {
			n, err := f.ReadAt(p, off)
			if n != len(p) || err != nil && err != io.EOF || !bytes.Equal(p, data[off:off+4096]) {
				return fmt.Errorf("read at %d, away from the damage: %d bytes, %v", off, n, err)
			}
		}
		if n, err := f.ReadAt(p, bad-100); !errors.Is(err, eio) {
			return fmt.Errorf("read across the damage: %d bytes, %v, want EIO", n, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := fs.ReadFile(seen, "f"); !errors.Is(err, eio) {
		t.Errorf("whole: got %v, want EIO", err)
	}
}

// testAbsent would catch a name that is not there and gets any other error, or is found.
func testAbsent(t *testing.T, show func(*testing.T, vfs.Dir) fs.FS) {
	seen := show(t, memfs.New(behaved()))
	for _, name := range []string{"no", "plain/no", "no/such/path", "names/" + strings.Repeat("n", 254), "EMPTY"} {
		for range 2 { // the second answer may come from a cache
			if _, err := fs.Stat(seen, name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("stat %q: got %v, want fs.ErrNotExist", name, err)
			}
			if _, err := seen.Open(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open %q: got %v, want fs.ErrNotExist", name, err)
			}
		}
	}
	if _, err := fs.Stat(seen, "plain/1/below a file"); err == nil {
		t.Error("something is found below a file")
	}
}

// testVolatile would catch old content, or a reader that gets parts of two states.
func testVolatile(t *testing.T, show func(*testing.T, vfs.Dir) fs.FS) {
	var state atomic.Int64
	content := func() []byte {
		n := state.Load()
		return bytes.Repeat([]byte{byte('a' + n%26)}, int(1+n*7919%200_000))
	}
	seen := show(t, memfs.New(map[string]memfs.File{".status": {Hidden: true, Content: content}}))
	for range 30 {
		state.Add(1)
		want := content()
		f, err := seen.Open(".status")
		if err != nil {
			t.Fatal(err)
		}
		state.Add(1) // must not be seen by who opened before
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("state %d: got %d bytes, %v, want %d of one state", state.Load(), len(got), err, len(want))
		}
		if info.Size() != int64(len(want)) {
			t.Errorf("state %d: size %d, then %d bytes", state.Load(), info.Size(), len(want))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	// Whoever reads while it changes gets one state or another, whole.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				state.Add(1)
				got, err := fs.ReadFile(seen, ".status")
				if err != nil || len(got) == 0 || len(bytes.Trim(got, string(got[:1]))) != 0 {
					t.Errorf("a reader got %d bytes of more than one state, %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

// testManyNames would catch names lost, doubled or made up where a listing takes many calls.
func testManyNames(t *testing.T, show func(*testing.T, vfs.Dir) fs.FS) {
	const n = 50_000
	files := bigDir(n)
	seen := show(t, memfs.New(files))
	for pass := range 2 { // the second may come from a cache
		list, err := fs.ReadDir(seen, "big")
		if err != nil || len(list) != n {
			t.Fatalf("pass %d: %d names, %v, want %d", pass, len(list), err, n)
		}
		found := make(map[string]bool, n)
		for _, entry := range list {
			name := path.Join("big", entry.Name())
			if _, ok := files[name]; !ok || found[name] {
				t.Fatalf("pass %d: %q is listed twice or made up", pass, name)
			}
			found[name] = true
		}
	}
	for i := 0; i < n; i += 997 {
		name := fmt.Sprintf("big/c.%d.%d", i/250, i%250)
		got, err := fs.ReadFile(seen, name)
		if err != nil || len(got) != 1 || got[0] != byte(i) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
