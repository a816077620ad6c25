package faults_test

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest/gateway"
	"github.com/tesserafs/tesserafs/vfs"
)

// archive is a small archive that all tests read and none writes to: eight tiles in two zones and two
// years, so far north that each has but 6 MB.
var archive struct {
	once sync.Once
	dir  string
	size int64
	err  error
}

var cells = []grid.Cell{{Lon: 295, Lat: 8795}, {Lon: 295, Lat: 8805}, {Lon: 305, Lat: 8805}, {Lon: 895, Lat: 8795}}

func writeArchive(dir string) (bytes int64, err error) {
	summary, err := demo.Write(context.Background(), demo.Config{Dir: dir, Cells: cells, Years: []int{2023, 2024}, Manifest: true})
	return summary.Bytes, err
}

func removeArchive() {
	if archive.dir != "" {
		_ = os.RemoveAll(archive.dir)
	}
}

// world is what stacks are put together from: the archive, a server that has it, and the archive as it is
// read without any of that.
type world struct {
	gateway   *gateway.S3
	lines     *lines
	dir       string // of the archive
	bytes     int64
	reference *reference
}

// Two buckets have the archive.
const (
	bucket = "archive" // with ETags and checksums
	files  = "files"   // without, as it is the directory itself
)

func newWorld(t *testing.T) *world {
	t.Helper()
	archive.once.Do(func() {
		if archive.dir, archive.err = os.MkdirTemp("", "tesserafs-faults"); archive.err == nil {
			archive.size, archive.err = writeArchive(archive.dir)
		}
	})
	if archive.err != nil {
		t.Fatal(archive.err)
	}
	w := &world{gateway: startGateway(t), lines: startLines(t), dir: archive.dir, bytes: archive.size}
	w.gateway.Bucket(files, w.dir, true)
	w.gateway.Bucket(bucket, t.TempDir(), true)
	put(t, w.gateway, bucket, w.dir)
	w.reference = newReference(t, w.dir)
	return w
}

// startGateway starts a server, and asks it over connections that do not stay.
func startGateway(t *testing.T) *gateway.S3 {
	t.Helper()
	g := gateway.StartS3(t)
	g.Client = s3.New(g.Client.Options(), func(o *s3.Options) {
		o.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	})
	return g
}

// put writes the files of a directory to a bucket.
func put(t *testing.T, g *gateway.S3, bucket, dir string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = g.Client.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &bucket, Key: &name, Body: f, ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reference is the tree over a directory of this machine.
type reference struct {
	root    vfs.Dir
	layouts map[string][]book // by the directory's name
	names   []string          // of layouts
}

// book is a file, and what it should hold.
type book struct {
	path string
	size int64
	file vfs.File
}

func newReference(t *testing.T, dir string) *reference {
	t.Helper()
	src, err := localdir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	found, err := catalogue.Open(t.Context(), src, catalogue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	objects := tilecache.New(src, tilecache.Config{})
	tree, err := synth.New(synth.Config{Catalogue: found, Cache: objects, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tree.Close()
		objects.Close()
	})
	r := &reference{root: tree.Root(), layouts: map[string][]book{}}
	r.walk(t, "", tree.Root())
	for _, name := range []string{"tessera.zarr", "tiles", "zones"} {
		if len(r.layouts[name]) == 0 {
			t.Fatalf("nothing is shown of the layout %s", name)
		}
		r.names = append(r.names, name)
	}
	return r
}

// walk finds the files that hold something. The first read of each makes the tree load its tiles.
func (r *reference) walk(t *testing.T, path string, dir vfs.Dir) {
	listing, err := dir.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range listing.Len() {
		name := listing.At(i).Name
		node, err := dir.Lookup(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(path, name)
		switch node := node.(type) {
		case vfs.Dir:
			r.walk(t, at, node)
		case vfs.File:
			b := book{at, node.Attr().Size, node}
			if b.size == 0 {
				continue
			}
			b.want(t, make([]byte, 1), b.size/2)
			layout := strings.Split(at, "/")[1]
			r.layouts[layout] = append(r.layouts[layout], b)
		}
	}
}

// want reads what a file should hold.
func (b book) want(t testing.TB, p []byte, off int64) {
	if n, err := b.file.ReadAt(context.Background(), p, off); n != len(p) || err != nil && err != io.EOF {
		t.Errorf("the reference cannot be read: %s, %d bytes at %d: %d, %v", b.path, len(p), off, n, err)
	}
}
