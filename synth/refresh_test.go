package synth_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/vfs"
)

// changing is an archive that changes, and its tree.
type changing struct {
	demo.Config
	src   *localdir.Source
	cache *tilecache.Cache
	tree  *synth.Tree
}

// newChanging makes an archive of some of the cells.
func newChanging(t *testing.T, manifest bool, cells ...grid.Cell) *changing {
	t.Helper()
	c := &changing{Config: demo.Config{Dir: t.TempDir(), Manifest: manifest}}
	c.write(t, cells...)
	var err error
	if c.src, err = localdir.Open(c.Dir); err != nil {
		t.Fatal(err)
	}
	c.cache = tilecache.New(c.src, tilecache.Config{})
	cat, err := c.read(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.tree, err = synth.New(synth.Config{Catalogue: cat, Cache: c.cache, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.cache.Close() })
	t.Cleanup(func() { c.tree.Close() })
	return c
}

// write adds cells to the archive; its manifest lists these.
func (c *changing) write(t *testing.T, cells ...grid.Cell) {
	t.Helper()
	c.Cells = cells
	if _, err := demo.Write(t.Context(), c.Config); err != nil {
		t.Fatal(err)
	}
}

func (c *changing) read(ctx context.Context, _ *catalogue.Catalogue) (*catalogue.Catalogue, error) {
	return catalogue.Open(ctx, c.src, catalogue.Config{})
}

// refresh goes on with the archive as it is now, and returns the tree before.
func (c *changing) refresh(t *testing.T) *synth.Tree {
	t.Helper()
	before := c.tree
	if err := before.Refresh(t.Context(), c.read, func(next *synth.Tree) { c.tree = next }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { before.Close() })
	return before
}

// rewrite changes every byte of a tile's pixels by one, in place or by a new file, and returns how it looked.
func rewrite(t *testing.T, path string, inPlace bool) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(data) - 1000; i < len(data); i++ {
		data[i]++
	}
	to := path
	if !inPlace {
		to += ".new"
	}
	if err := os.WriteFile(to, data, 0o644); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	if err := errors.Join(os.Chtimes(to, later, later), os.Rename(to, path)); err != nil {
		t.Fatal(err)
	}
}

// whole reads a file to its end.
func whole(t *testing.T, f vfs.File) ([]byte, error) {
	t.Helper()
	data := make([]byte, f.Attr().Size)
	n, err := f.ReadAt(t.Context(), data, 0)
	if err == io.EOF {
		err = nil
	}
	return data[:n], err
}

const (
	stores    = "v1/tiles/2024/"
	lastChunk = ".zarr/embeddings/c/8/0/0" // of 9, of a tile of 1137 rows
)

// Catches: a tile that was rewritten under an open file and is read as if it had not been, or as half of each;
// and one that is not seen anew by who asks for it, although the manifest says the same as before.
func TestRefreshRewrittenTile(t *testing.T) {
	for name, c := range map[string]struct{ manifest, inPlace bool }{
		"manifest, in place": {true, true}, "manifest, replaced": {true, false},
		"scan, in place": {false, true}, "scan, replaced": {false, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newChanging(t, c.manifest, cells[1], cells[2])
			changed, same := stores+cells[1].String()+lastChunk, stores+cells[2].String()+lastChunk
			zone := "v1/zones/2024/utm24_2024.zarr/embeddings/c/1/0/0" // of cells[1] too
			var old []vfs.File
			var bytesOf [][]byte
			for _, path := range []string{changed, zone, same} {
				f := find(t, a.tree, path).(vfs.File)
				data, err := whole(t, f)
				if err != nil {
					t.Fatal(err)
				}
				old, bytesOf = append(old, f), append(bytesOf, data)
			}
			rewrite(t, a.Files(cells[1], 2024).Embeddings, c.inPlace)
			a.refresh(t)
			for i, f := range old[:2] {
				if _, err := whole(t, f); !errors.Is(err, vfs.ErrChanged) {
					t.Errorf("file %d, open before: error is %v, not ErrChanged", i, err)
				}
			}
			if data, err := whole(t, old[2]); err != nil || !bytes.Equal(data, bytesOf[2]) {
				t.Errorf("a file of another tile, open before: %v, or other bytes", err)
			}
			fresh := newTreeOf(t, a)
			for i, path := range []string{changed, zone, same} {
				data, err := whole(t, find(t, a.tree, path).(vfs.File))
				if err != nil {
					t.Errorf("%s: %v", path, err)
				}
				if bytes.Equal(data, bytesOf[i]) != (path == same) {
					t.Errorf("%s: old bytes, or new where nothing changed", path)
				}
				if want, err := whole(t, find(t, fresh, path).(vfs.File)); err != nil || !bytes.Equal(data, want) {
					t.Errorf("%s: not as a mount made now shows it (%v)", path, err)
				}
			}
		})
	}
}

// newTreeOf opens an archive as a second mount would.
func newTreeOf(t *testing.T, a *changing) *synth.Tree {
	t.Helper()
	cat, err := a.read(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cache := tilecache.New(a.src, tilecache.Config{})
	tree, err := synth.New(synth.Config{Catalogue: cat, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	t.Cleanup(func() { tree.Close() })
	return tree
}

// Catches: tiles that come or go and are not shown, or shown still; sizes that do not follow.
func TestRefreshTilesComeAndGo(t *testing.T) {
	for _, manifest := range []bool{true, false} {
		a := newChanging(t, manifest, cells[1])
		shows := func(tree *synth.Tree, cell grid.Cell) bool {
			_, err := vfs.Walk(t.Context(), tree.Root(), stores+cell.String()+".zarr")
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			return err == nil
		}
		a.write(t, cells[1], cells[2])
		if shows(a.tree, cells[2]) {
			t.Error("a tile is shown before the archive was read again")
		}
		before := a.refresh(t)
		if !shows(a.tree, cells[1]) || !shows(a.tree, cells[2]) || shows(before, cells[2]) {
			t.Errorf("manifest %v: not both tiles are shown after one came, or the tree before changed", manifest)
		}
		if s := a.tree.Status(); s.Datasets[0].Tiles != 2 {
			t.Errorf("the status counts %d tiles", s.Datasets[0].Tiles)
		}
		if err := os.RemoveAll(filepath.Dir(a.Files(cells[1], 2024).Embeddings)); err != nil {
			t.Fatal(err)
		}
		if manifest {
			a.write(t, cells[2])
		}
		a.refresh(t)
		if shows(a.tree, cells[1]) || !shows(a.tree, cells[2]) {
			t.Errorf("manifest %v: a tile that is gone is shown, or the other is not", manifest)
		}
	}
}

// Catches: a reread that fails and takes the tree with it, is not told in the status, or is told for ever;
// counters that begin again.
func TestRefreshFails(t *testing.T) {
	a := newChanging(t, true, cells[1])
	chunk := stores + cells[1].String() + lastChunk
	want, err := whole(t, find(t, a.tree, chunk).(vfs.File))
	if err != nil {
		t.Fatal(err)
	}
	first := a.tree.Status()
	for i, read := range []synth.Read{
		func(context.Context, *catalogue.Catalogue) (*catalogue.Catalogue, error) {
			return nil, errors.New("the disk is away")
		},
		func(context.Context, *catalogue.Catalogue) (*catalogue.Catalogue, error) { panic("a disk is away") },
	} {
		if err := a.tree.Refresh(t.Context(), read, nil); err == nil || !strings.Contains(err.Error(), "disk is away") {
			t.Errorf("error is %v", err)
		}
		c := a.tree.Status().Catalogue
		if c.Failed != int64(i+1) || c.Refreshed != 0 || c.Read != first.Catalogue.Read || !strings.Contains(c.Error, "disk is away") {
			t.Errorf("status is %+v", c)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.tree.Refresh(cancelled, a.read, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: error is %v", err)
	}
	if c := a.tree.Status().Catalogue; c.Failed != 2 {
		t.Errorf("given up: status is %+v", c)
	}
	if data, err := whole(t, find(t, a.tree, chunk).(vfs.File)); err != nil || !bytes.Equal(data, want) {
		t.Errorf("the tree that stays: %v, or other bytes", err)
	}
	read := a.tree.Status().Reads
	a.refresh(t)
	after := a.tree.Status()
	if c := after.Catalogue; c.Failed != 2 || c.Refreshed != 1 || c.Error != "" || c.Read.Before(first.Catalogue.Read) {
		t.Errorf("status is %+v", c)
	}
	if after.Since != first.Since || after.Reads != read {
		t.Errorf("%+v, before %+v", after, first)
	}
	if _, err := whole(t, find(t, a.tree, chunk).(vfs.File)); err != nil {
		t.Error(err)
	}
	if now := a.tree.Status().Reads; now.Bytes != read.Bytes+int64(len(want)) || now.Tiles != read.Tiles+1 {
		t.Errorf("reads are %+v, before %+v", now, read)
	}
}
