package disk

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// archive is some objects in a cache, all of whose pages are kept.
type archive struct {
	dir   string
	sizes map[string]int64
}

func newArchive(t testing.TB) archive {
	t.Helper()
	a := archive{t.TempDir(), map[string]int64{"a": 3*PageSize + 5, "b": 3*PageSize + 5, "c": PageSize}}
	c := newCache(t, a.dir, 0)
	for name, size := range a.sizes {
		newObject(t, c, name, size).Write(0, content(name, size))
	}
	return a
}

// files are the paths of all files, sorted.
func (a archive) files(t testing.TB) (paths []string) {
	t.Helper()
	if err := filepath.WalkDir(a.dir, func(path string, d fs.DirEntry, err error) error {
		if d.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return paths
}

// check reads everything, keeps it anew, reads it again and evicts it. It returns how many pages were
// kept at first.
func (a archive) check(t testing.TB) (kept int) {
	t.Helper()
	c := newCache(t, a.dir, 0)
	for name, size := range a.sizes {
		want := content(name, size)
		o := newObject(t, c, name, size)
		kept += readAll(t, o, want)
		if info, ok := c.Known(here, name); ok && (info.Size != size || !info.ModTime.Equal(made)) {
			t.Fatalf("%s is known as %+v", name, info)
		}
		o.Write(0, want)
		if n := readAll(t, o, want); n != int(pagesIn(size)) {
			t.Fatalf("%d of %d pages of %s are kept anew", n, pagesIn(size), name)
		}
	}
	for _, s := range keptStates(c) {
		if c.evict(s, PageSize, 0) == 0 {
			t.Fatalf("%s cannot be evicted in part", s.file)
		}
	}
	for name, size := range a.sizes {
		readAll(t, newObject(t, c, name, size), content(name, size))
	}
	if c.makeRoom(0, nil, 0); len(keptStates(c)) != 0 {
		t.Fatal("states cannot be evicted")
	}
	if s := c.Stats(); s.WriteFailures != 0 {
		t.Fatalf("%+v", s)
	}
	return kept
}

// Catches damage that is read as data, that is not mended by writing again, or that costs more than it
// damaged.
func TestDamage(t *testing.T) {
	paths := func(a archive, name string) (path string, o *Object) {
		c := newCache(t, a.dir, 0)
		o = newObject(t, c, name, a.sizes[name])
		return o.path(), o
	}
	write := func(t *testing.T, path string, off int64, p []byte) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(p, off)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) []byte {
		p, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, test := range []struct {
		what    string
		damage  func(path, other string)
		kept    int // of 9 pages, 4 of them in each of two files, in path and other
		damaged int64
	}{
		{"nothing", func(path, other string) {}, 9, 0},
		{"a bit of a page", func(path, _ string) { write(t, path, PageSize+7, []byte{read(path)[PageSize+7] ^ 1}) }, 8, 1},
		{"a bit of the short page", func(path, _ string) { write(t, path, 4*PageSize+4, []byte{read(path)[4*PageSize+4] ^ 1}) }, 8, 1},
		{"an entry of the index", func(path, _ string) { write(t, path, headerSize+8, []byte{read(path)[headerSize+8] ^ 1}) }, 8, 1},
		{"an entry that is cleared", func(path, _ string) { write(t, path, headerSize+8, make([]byte, 8)) }, 8, 0},
		{"a bit of the header", func(path, _ string) { write(t, path, 100, []byte{read(path)[100] ^ 1}) }, 5, 0},
		{"bytes after the header's texts", func(path, _ string) { write(t, path, 1000, []byte{1}) }, 5, 0},
		{"two pages swapped", func(path, _ string) {
			p := read(path)
			write(t, path, PageSize, slices.Concat(p[2*PageSize:3*PageSize], p[PageSize:2*PageSize]))
		}, 7, 2},
		{"two pages swapped with their entries", func(path, _ string) {
			p := read(path)
			write(t, path, PageSize, slices.Concat(p[2*PageSize:3*PageSize], p[PageSize:2*PageSize]))
			write(t, path, headerSize, slices.Concat(p[headerSize+8:headerSize+16], p[headerSize:headerSize+8]))
		}, 7, 2},
		{"another object's pages and index", func(path, other string) { write(t, path, headerSize, read(other)[headerSize:]) }, 5, 4},
		{"another object's file", func(path, other string) { write(t, path, 0, read(other)) }, 5, 4},
		{"a hole", func(path, _ string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, PageSize+4096, 4096)
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		}, 8, 1},
		{"bytes that follow", func(path, _ string) { write(t, path, 5*PageSize, []byte("more")) }, 9, 0},
		{"an empty file", func(path, _ string) { os.Truncate(path, 0) }, 5, 0},
		{"half a header", func(path, _ string) { os.Truncate(path, 1000) }, 5, 0},
		{"a header alone", func(path, _ string) { os.Truncate(path, headerSize) }, 5, 0},
		{"half an entry", func(path, _ string) { os.Truncate(path, headerSize+12) }, 5, 1},
		{"no pages", func(path, _ string) { os.Truncate(path, PageSize) }, 5, 4},
		{"half a page", func(path, _ string) { os.Truncate(path, PageSize+100) }, 5, 4},
		{"a page and a half", func(path, _ string) { os.Truncate(path, 2*PageSize+100) }, 6, 3},
		{"a short page that is shorter", func(path, _ string) { os.Truncate(path, 4*PageSize+4) }, 8, 1},
		{"no file", func(path, _ string) { os.Remove(path) }, 5, 0},
		{"no directory", func(path, _ string) { os.RemoveAll(filepath.Dir(path)) }, 5, 0},
	} {
		t.Run(test.what, func(t *testing.T) {
			a := newArchive(t)
			path, open := paths(a, "a")
			other, _ := paths(a, "b")
			test.damage(path, other)
			// One who has it open and one who opens it now see the same damage.
			kept := readAll(t, open, content("a", a.sizes["a"]))
			for page := range pagesIn(open.size) {
				if open.Has(page) {
					kept--
				}
			}
			if kept != 0 {
				t.Errorf("%d pages less are said to be kept than are", kept)
			}
			if n := open.cache.Stats().DamagedPages; n != test.damaged {
				t.Errorf("%d pages are found damaged, want %d", n, test.damaged)
			}
			if kept := a.check(t); kept != test.kept {
				t.Errorf("%d of 9 pages are kept, want %d", kept, test.kept)
			}
		})
	}
}

// Catches any damage that is read as data, or that panics.
func FuzzDamage(f *testing.F) {
	f.Add(byte(1), byte(0), uint32(0), []byte{0xff})
	f.Add(byte(1), byte(1), uint32(headerSize), []byte{})
	f.Add(byte(2), byte(0), uint32(headerSize+8), []byte{0xff, 0xff})
	f.Add(byte(2), byte(2), uint32(PageSize+1), []byte("tesserafs pages\n"))
	f.Add(byte(3), byte(1), uint32(PageSize*2+1), []byte{1})
	f.Add(byte(3), byte(2), uint32(20), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add(byte(0), byte(2), uint32(0), []byte{1, 2, 3, 4, 5, 6, 7, 8, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8, 0xf7})
	f.Fuzz(func(t *testing.T, file, how byte, at uint32, with []byte) {
		a := newArchive(t)
		paths := a.files(t)
		damage(t, paths[int(file)%len(paths)], how, int64(at), with)
		a.check(t)
	})
}

// damage flips, truncates and appends, or overwrites.
func damage(t testing.TB, path string, how byte, at int64, with []byte) {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at %= int64(len(p)) + 1
	switch how % 3 {
	case 0:
		for i, b := range with[:min(len(with), len(p)-int(at))] {
			p[int(at)+i] ^= b
		}
	case 1:
		p = append(p[:at], with...)
	case 2:
		copy(p[at:], with)
	}
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Catches what FuzzDamage does, in each run of the tests, with several files damaged at once.
func TestRandomDamage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	kept := 0
	for range 40 {
		a := newArchive(t)
		paths := a.files(t)
		for range 1 + random.IntN(4) {
			with := make([]byte, random.IntN(10))
			for i := range with {
				with[i] = byte(random.Uint32())
			}
			// Half of them in headers and indices.
			at := random.Int64N(5 * PageSize)
			if random.IntN(2) == 0 {
				at %= headerSize + 32
			}
			damage(t, paths[random.IntN(len(paths))], byte(random.IntN(3)), at, with)
		}
		kept += a.check(t)
	}
	if kept < 120 || kept > 340 {
		t.Errorf("%d of 360 pages survive: the damage is not what it was meant to be", kept)
	}
}
