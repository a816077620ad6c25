package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Catches a bad directory that is told later, or in other words than what, where and what to do.
func TestOpenDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		dir, says string
		is        error
	}{
		{"", "name one that may be written to", fs.ErrInvalid},
		{file, "name a directory", unix.ENOTDIR},
		{filepath.Join(file, "x"), "name a directory", unix.ENOTDIR},
		{"/proc/none", "name another", fs.ErrNotExist},
	} {
		_, err := Open(test.dir, Config{})
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), test.dir) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want one line with %q", test.dir, err, test.says)
		}
	}
	t.Chdir(dir)
	if c := newCache(t, "a/b", 0); c.dir != filepath.Join(dir, "a/b", subdir) {
		t.Errorf("a relative directory is %s", c.dir)
	}
	// On another disk, by a link.
	elsewhere := t.TempDir()
	if err := errors.Join(os.Mkdir("linked", 0o700), os.Symlink(elsewhere, "linked/"+subdir)); err != nil {
		t.Fatal(err)
	}
	c := newCache(t, "linked", 0)
	newObject(t, c, "a", PageSize).Write(0, content("a", PageSize))
	if bytes, states := c.count(); bytes < PageSize || len(states) != 1 {
		t.Errorf("behind a link: %d bytes, %d states", bytes, len(states))
	}
}

// Catches files that are not ours and are removed, trusted, or in the way; caches of other versions; and
// what is left of files never made being kept for ever.
func TestForeign(t *testing.T) {
	dir := t.TempDir()
	id, _ := (&state{here, "a", infoOf(PageSize)}).identify()
	foreign := []string{"manifest.parquet", "pages-0/total", "pages-2/total", subdir + "/README", subdir + "/00/notes", subdir + "/zz/x",
		subdir + "/" + id.file, subdir + "/00/" + id.file, subdir + "/00/new-0123456789abcdef0", subdir + "/new-0123456789abcdef"}
	begun := []string{subdir + "/01/new-0123456789abcdef", subdir + "/01/new-0123456789abcdee"}
	for _, name := range append(foreign, begun...) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(name), 0o600)); err != nil {
			t.Fatal(err)
		}
		if name != begun[1] {
			if err := os.Chtimes(path, made, made); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := newCache(t, dir, 1<<20)
	want := content("a", 200*PageSize)
	o := newObject(t, c, "a", int64(len(want)))
	o.Write(0, want)
	if readAll(t, o, want) == 0 {
		t.Error("nothing is kept beside foreign files")
	}
	o.Close()
	for _, k := range keptStates(c) {
		c.evict(k, k.bytes, 0)
	}
	for _, name := range append(foreign, begun[1]) {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != name {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, begun[0])); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was begun long ago: %v", err)
	}
	// Things of other kinds under names of ours: no harm, and no waiting for a pipe's other end.
	for what, make := range map[string]func(path string) error{
		"pipe":           func(path string) error { return unix.Mkfifo(path, 0o600) },
		"link":           func(path string) error { return os.Symlink("/etc/passwd", path) },
		"directory":      func(path string) error { return os.Mkdir(path, 0o700) },
		"full directory": func(path string) error { return os.MkdirAll(path+"/x", 0o700) },
	} {
		x := newObject(t, c, what, PageSize)
		path := x.path()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), make(path)); err != nil {
			t.Fatal(err)
		}
		page := content(what, PageSize)
		readAll(t, x, page)
		x.Write(0, page)
		readAll(t, x, page)
		c.paused.Store(0)
		if _, ok := c.Known(here, what); ok && !x.Has(0) {
			t.Errorf("%s: known and not kept", what)
		}
	}
	elsewhere := newObject(t, newCache(t, t.TempDir(), 0), "e", 2*PageSize)
	elsewhere.Write(0, want[:PageSize])
	e := newObject(t, c, "e", 2*PageSize)
	if err := errors.Join(os.MkdirAll(filepath.Dir(e.path()), 0o700), os.Symlink(elsewhere.path(), e.path())); err != nil {
		t.Fatal(err)
	}
	if e.Has(0) {
		t.Error("a link is followed")
	}
	if e.Write(1, want[:PageSize]); elsewhere.Has(1) || !e.Has(1) || e.Has(0) {
		t.Error("a link is written through")
	}
}

// Catches a cleaner of the directory that takes a file away as it is made, and so ends keeping pages for half a
// minute.
func TestPutInPlaceAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "4f", "file")
	tries := 0
	err := putInPlace(path, func(temporary string) error {
		if tries++; tries < 3 { // It was made, and is gone with its directory.
			return os.Remove(filepath.Dir(temporary))
		}
		return os.WriteFile(temporary, nil, 0o600)
	})
	if _, there := os.Stat(path); err != nil || there != nil {
		t.Errorf("%v, %v", err, there)
	}
}
