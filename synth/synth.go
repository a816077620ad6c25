// Package synth is the tree that tesserafs shows: a directory a dataset, in it the layouts of
// package layout, and .tesserafs/status.json, which is found by name and never listed.
//
//	<dataset>/zones/<year>/utm30_2024.zarr/
//	<dataset>/tessera.zarr/
//	<dataset>/tiles/<year>/grid_0.15_52.05.zarr/
//	.tesserafs/status.json
//
// It is made of a catalogue (which tiles exist) and a cache of objects (their bytes), and knows
// nothing of how it is shown.
//
// A tree does not change. An archive that has is read again with [Tree.Refresh], which makes another
// tree over the same cache.
package synth

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/tesserafs/tesserafs/synth/layout"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/vfs"
)

// MissingPolicy says what a tile that cannot be read becomes.
type MissingPolicy = mosaic.Policy

// The policies of --missing-tiles.
const (
	MissingError = mosaic.Fail
	MissingFill  = mosaic.Fill
)

// Config is what a Tree is made of.
type Config struct {
	Catalogue *catalogue.Catalogue
	Cache     *tilecache.Cache
	Missing   MissingPolicy
	Log       *slog.Logger
	// Sides in pixels of the inner chunks of consolidated stores, of embeddings and of scales: a
	// power of two from 16 to 4096, or 0 for layout's defaults.
	InnerChunk, ScalesInnerChunk int
	// ChunkOrder is that of the inner chunks of embeddings in consolidated stores.
	ChunkOrder layout.ChunkOrder
	// Mount says how the tree is shown, for status.json; nil where it is not mounted.
	Mount func() MountInfo
}

// Tree is the tree of one archive.
type Tree struct {
	cfg    Config
	pixels *mosaic.Mosaic
	root   *folder
	past   *past
	read   time.Time // when reading the catalogue began, of a tree that took another's place
}

// New makes the tree. Nothing of the tiles is read until somebody reads.
func New(cfg Config) (*Tree, error) {
	read := now()
	return newTree(cfg, &past{since: read, catalogue: CatalogueStatus{Read: read}})
}

func newTree(cfg Config, p *past) (*Tree, error) {
	pixels, err := mosaic.New(mosaic.Config{Objects: cfg.Cache, Policy: cfg.Missing, Log: cfg.Log, Stats: &p.stats})
	if err != nil {
		return nil, err
	}
	t := &Tree{cfg: cfg, pixels: pixels, past: p}
	t.root = &folder{entries: map[string]vfs.Node{}}
	for _, ds := range cfg.Catalogue.Datasets {
		zones, err := layout.NewZones(ds, pixels)
		if err != nil {
			pixels.Close()
			return nil, fmt.Errorf("dataset %s: %w", ds.Name(), err)
		}
		tiles, err := layout.NewTiles(ds, pixels)
		if err != nil {
			pixels.Close()
			return nil, fmt.Errorf("dataset %s: %w", ds.Name(), err)
		}
		consolidated, err := layout.NewConsolidated(ds, pixels, layout.ConsolidatedConfig{
			InnerChunk: cfg.InnerChunk, ScalesInnerChunk: cfg.ScalesInnerChunk, Order: cfg.ChunkOrder,
		})
		if err != nil {
			pixels.Close()
			return nil, fmt.Errorf("dataset %s: %w", ds.Name(), err)
		}
		d := &folder{entries: map[string]vfs.Node{}, modTime: ds.ModTime(0, 0)}
		d.show("tessera.zarr", consolidated.Dir())
		d.show("zones", zones.Dir())
		d.show("tiles", tiles.Dir())
		t.root.show(ds.Name(), d)
		if d.modTime.After(t.root.modTime) {
			t.root.modTime = d.modTime
		}
	}
	t.root.entries[".tesserafs"] = &folder{
		entries: map[string]vfs.Node{"status.json": &statusFile{t}},
		listing: vfs.Entries{{Name: "status.json"}},
		modTime: p.since,
	}
	cfg.Cache.OnDamage(pixels.Journal.Damaged)
	return t, nil
}

// Catalogue is what the tree shows.
func (t *Tree) Catalogue() *catalogue.Catalogue { return t.cfg.Catalogue }

// Root is the top directory.
func (t *Tree) Root() vfs.Dir { return t.root }

// Close ends what is under way. The cache of objects stays open.
func (t *Tree) Close() error {
	t.pixels.Close()
	return nil
}

// folder is a directory in memory. What is in entries is found; what is in listing is shown.
type folder struct {
	entries map[string]vfs.Node
	listing vfs.Entries
	modTime time.Time
}

func (f *folder) show(name string, n vfs.Node) {
	f.entries[name] = n
	f.listing = append(f.listing, vfs.Entry{Name: name, Dir: n.Attr().Dir})
}

func (f *folder) Attr() vfs.Attr                            { return vfs.Attr{Dir: true, ModTime: f.modTime} }
func (f *folder) List(context.Context) (vfs.Listing, error) { return f.listing, nil }
func (f *folder) Lookup(_ context.Context, name string) (vfs.Node, error) {
	if n, ok := f.entries[name]; ok {
		return n, nil
	}
	return nil, fs.ErrNotExist
}
