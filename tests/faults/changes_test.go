package faults_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/demo"
)

// Catches: bytes of two states of an object in one answer; the old ones after the new ones were seen; the new
// ones before the archive was read again, or the old ones after; a change that is told as damage.
func (w *world) changed(t *testing.T, etag bool) {
	dir := t.TempDir()
	name := "changes-in-place"
	if etag {
		name = "changes"
		w.gateway.Bucket(name, dir, true)
		put(t, w.gateway, name, w.dir)
	} else {
		if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
			t.Fatal(err)
		}
		w.gateway.Bucket(name, dir, true)
	}
	s := w.mount(t, stackConfig{patience: quick, bucket: name, disk: 1 << 20})

	held, err := os.Open(filepath.Join(s.dir, changedStore, "embeddings/c/0/0/0"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	s.sees(t)
	c := s.clients(t, 10*time.Second, unix.ESTALE)
	stop := c.start()
	time.Sleep(time.Second)
	w.rewrite(t, name, dir, etag)
	time.Sleep(time.Second)
	stop()

	// Two times, as the first may find some of it kept.
	for round := range 2 {
		for _, b := range w.reference.layouts["tiles"] {
			if !strings.HasPrefix(b.path, changedStore+"/embeddings/c/") {
				continue
			}
			want, got := make([]byte, min(mostRead, b.size)), make([]byte, min(mostRead, b.size))
			b.want(t, want, 0)
			err := s.readOnce(b.path, got, 0)
			if errors.Is(err, unix.ESTALE) || round == 0 && err == nil && bytes.Equal(got, want) {
				continue
			}
			t.Errorf("%s, of a tile that has changed, in round %d: %v", b.path, round, err)
		}
	}

	s.refreshed(t)
	fresh := newReference(t, dir)
	s.readsAs(t, fresh, 0.2)
	c = s.clients(t, 10*time.Second)
	c.reference = fresh
	c.read(time.Second)
	got := make([]byte, mostRead)
	if n, err := held.ReadAt(got, 0); err != io.EOF && !errors.Is(err, unix.ESTALE) {
		t.Errorf("a file that was open before: %d bytes, %v", n, err)
	}
}

const changedStore = "v1/tiles/2024/grid_2.95_87.95.zarr"

// sees reads something of the tile that is to change. What a tile was before it was first read, nobody can say.
func (s *stack) sees(t *testing.T) {
	t.Helper()
	if err := s.readOnce(changedStore+"/embeddings/c/0/0/0", make([]byte, 1), 0); err != nil {
		t.Fatal(err)
	}
}

// rewrite changes the values of a tile, where it is served from.
func (w *world) rewrite(t *testing.T, bucket, dir string, etag bool) {
	t.Helper()
	path := demo.Config{Dir: dir}.Files(cells[0], 2024).Embeddings
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 128; i < len(data); i++ { // after the header
		data[i] ^= 0x55
	}
	if etag {
		name, err := filepath.Rel(dir, path)
		if err == nil {
			_, err = w.gateway.Client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &name, Body: bytes.NewReader(data)})
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	later := time.Now().Add(time.Hour)
	if err := errors.Join(os.WriteFile(path+".new", data, 0o644), os.Chtimes(path+".new", later, later), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// Catches: a tile that is listed and no longer there, filled; before the archive was read again, and after it,
// and one that cannot be read for ever, though it is there again.
func (w *world) deleted(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	w.gateway.Bucket("deletes", dir, true)
	s := w.mount(t, stackConfig{patience: quick, bucket: "deletes", disk: 1 << 20})
	s.sees(t)
	c := s.clients(t, 10*time.Second, unix.ESTALE)
	stop := c.start()
	time.Sleep(500 * time.Millisecond)
	path := demo.Config{Dir: dir}.Files(cells[0], 2024).Scales
	if err := os.Rename(path, path+".gone"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	stop()

	s.refreshed(t)
	c = s.clients(t, 10*time.Second, unix.EIO)
	c.read(time.Second)
	for _, b := range w.reference.layouts["tiles"] {
		if strings.HasPrefix(b.path, changedStore+"/scales/c/") {
			if err := s.readOnce(b.path, make([]byte, b.size), 0); !errors.Is(err, unix.EIO) {
				t.Errorf("%s, of a tile that is not there: %v", b.path, err)
			}
		}
	}

	if err := os.Rename(path+".gone", path); err != nil {
		t.Fatal(err)
	}
	s.refreshed(t)
	s.readsRight(t)
}
