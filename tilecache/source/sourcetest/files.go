package sourcetest

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Files is a Mutator of objects that are files below a directory, as a server's are.
type Files struct {
	T   testing.TB
	Dir string
}

var _ Mutator = Files{}

// NewFiles writes files that are some days old, as tiles are.
func NewFiles(t testing.TB, dir string, objects map[string][]byte) Files {
	t.Helper()
	f := Files{t, dir}
	old := time.Now().Add(-100 * time.Hour)
	for name, data := range objects {
		f.Replace(name, data)
		f.check(os.Chtimes(filepath.Join(dir, name), old, old))
	}
	return f
}

// Replace puts a new file in a file's place.
func (f Files) Replace(name string, data []byte) {
	f.T.Helper()
	path := filepath.Join(f.Dir, name)
	f.check(os.MkdirAll(filepath.Dir(path), 0o755))
	f.check(os.WriteFile(path+".new", data, 0o644))
	f.check(os.Rename(path+".new", path))
}

// Rewrite writes into a file.
func (f Files) Rewrite(name string, data []byte) {
	f.T.Helper()
	f.check(os.WriteFile(filepath.Join(f.Dir, name), data, 0o644))
}

// Delete removes a file.
func (f Files) Delete(name string) {
	f.T.Helper()
	f.check(os.Remove(filepath.Join(f.Dir, name)))
}

func (f Files) check(err error) {
	f.T.Helper()
	if err != nil {
		f.T.Fatal(err)
	}
}
