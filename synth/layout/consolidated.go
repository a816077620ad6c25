package layout

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/synth/zarr"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/vfs"
)

// Sides in pixels of a consolidated store's inner chunks where nothing else is asked for.
const (
	DefaultInnerChunk       = 64
	DefaultScalesInnerChunk = 256
)

// minInnerChunk bounds the index of a shard: 1 MiB at this side.
const minInnerChunk = 16

// CheckInnerChunk says why inner chunks cannot have a side of so many pixels; nil if they can.
func CheckInnerChunk(side int) error {
	if side < minInnerChunk || grid.ShardPixels%side != 0 {
		return fmt.Errorf("inner chunks of %d px do not divide shards of %d px: use a power of two from %d to %[2]d",
			side, grid.ShardPixels, minInnerChunk)
	}
	return nil
}

// ConsolidatedConfig says how a consolidated store is chunked.
type ConsolidatedConfig struct {
	InnerChunk, ScalesInnerChunk int        // sides of inner chunks in pixels, the defaults if 0
	Order                        ChunkOrder // of the inner chunks of embeddings
}

// Consolidated is a dataset's tessera.zarr.
//
// What is listed comes from the catalogue. The lattice of a zone is worked out when its documents or the
// root's are first asked for, from the few cells that can lie at its edges. The footprints of a zone, which are the same in every
// year, are worked out when somebody first looks for its shards, and kept for the zones used last; of
// the shards used last it is kept what they are made of.
type Consolidated struct {
	dataset     *catalogue.Dataset
	pixels      *mosaic.Mosaic
	order       ChunkOrder
	model       string       // version
	arrays      []pixelArray // those that have shards
	scalesInner int          // side of the inner chunks of the scales
	years       []int        // the time axis of every zone
	zones       []int        // that hold a tile in any year
	lattices    *lru.Cache[int, grid.Grid]
	documents   *lru.Cache[int, *consolidatedDocuments]
	cells       *lru.Cache[int, *zoneCells]
	shards      *lru.Cache[shardKey, *shard]
	indexes     *lru.Cache[shardKey, []byte]
	building    singleflight.Group
}

// NewConsolidated makes the tree of a dataset's consolidated store, its pixels read through m.
func NewConsolidated(ds *catalogue.Dataset, m *mosaic.Mosaic, cfg ConsolidatedConfig) (*Consolidated, error) {
	if cfg.InnerChunk == 0 {
		cfg.InnerChunk = DefaultInnerChunk
	}
	if cfg.ScalesInnerChunk == 0 {
		cfg.ScalesInnerChunk = DefaultScalesInnerChunk
	}
	for _, side := range []int{cfg.InnerChunk, cfg.ScalesInnerChunk} {
		if err := CheckInnerChunk(side); err != nil {
			return nil, fmt.Errorf("consolidated store of %s: %w", ds.Name(), err)
		}
	}
	if err := cfg.Order.Check(cfg.InnerChunk); err != nil {
		return nil, fmt.Errorf("consolidated store of %s: %w", ds.Name(), err)
	}
	c := &Consolidated{
		dataset: ds, pixels: m, order: cfg.Order, years: ds.Years(), model: ds.Version(),
		arrays:      pixelArrays(ds.Version(), cfg.InnerChunk, cfg.ScalesInnerChunk),
		scalesInner: cfg.ScalesInnerChunk,
	}
	if c.model == "" {
		c.model = ds.Name()
	}
	for zone := 1; zone <= grid.Zones; zone++ {
		if !ds.ModTime(0, zone).IsZero() {
			c.zones = append(c.zones, zone)
		}
	}
	// A zone takes some 45 bytes a cell, 1.8 MB in the fullest; a shard about 14 kB.
	var err error
	if c.lattices, err = lru.New[int, grid.Grid](grid.Zones); err != nil {
		return nil, err
	}
	if c.documents, err = lru.New[int, *consolidatedDocuments](grid.Zones + 1); err != nil {
		return nil, err
	}
	if c.cells, err = lru.New[int, *zoneCells](16); err != nil {
		return nil, err
	}
	if c.shards, err = lru.New[shardKey, *shard](512); err != nil {
		return nil, err
	}
	const indexBytes = 16 << 20 // kept of indexes, at most
	perSide := grid.ShardPixels / min(cfg.InnerChunk, cfg.ScalesInnerChunk)
	c.indexes, err = lru.New[shardKey, []byte](indexBytes / (16 * perSide * perSide))
	return c, err
}

// shared works a value out once for all who wait for it, unless it is kept already.
func shared[K comparable, V any](ctx context.Context, g *singleflight.Group, kept *lru.Cache[K, V], what string, key K, build func() (V, error)) (V, error) {
	if v, ok := kept.Get(key); ok {
		return v, nil
	}
	result := g.DoChan(fmt.Sprint(what, key), func() (any, error) {
		if v, ok := kept.Get(key); ok {
			return v, nil
		}
		v, err := build()
		if err != nil {
			return nil, err
		}
		kept.Add(key, v)
		return v, nil
	})
	var none V
	select {
	case r := <-result:
		if r.Err != nil {
			return none, r.Err
		}
		return r.Val.(V), nil
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// lattice returns a zone's grid, worked out once: the union of what the landmask registry lists of it and
// of the tiles of all years. Upstream takes the registry alone, where there is one; a tile that it does
// not list would lie outside, and there must be no such tile.
func (c *Consolidated) lattice(ctx context.Context, zone int) (grid.Grid, error) {
	return shared(ctx, &c.building, c.lattices, "lattice", zone, func() (grid.Grid, error) {
		lists := c.tileCells(zone)
		if c.dataset.LandmaskRegistry() {
			listed := c.dataset.Landmasks()
			west, east := grid.ZoneLons(zone)
			lists = append(lists, listed[firstFrom(listed, west):firstFrom(listed, east)])
		}
		for i, cells := range lists {
			lists[i] = columnEnds(cells)
		}
		g, err := grid.Consolidated(lists...)
		if err != nil {
			return g, fmt.Errorf("grid of utm%02d: %w", zone, err)
		}
		return g, nil
	})
}

// firstFrom is where in cells in catalogue order a longitude begins.
func firstFrom(cells []grid.Cell, lon int16) int {
	return sort.Search(len(cells), func(i int) bool { return cells[i].Lon >= lon })
}

// columnEnds returns of cells in catalogue order those that can lie at an edge of their union: of each
// longitude the southernmost and the northernmost, and on both sides of the equator the nearest to it.
// [grid.Consolidated] says why there are no others, and picks the same out of all; but it looks at each
// cell, and a planet's zones hold 14 million. Here a longitude takes a few steps of searching.
func columnEnds(cells []grid.Cell) []grid.Cell {
	var ends []grid.Cell
	for len(cells) > 0 {
		column := cells[:firstFrom(cells, cells[0].Lon+1)]
		cells = cells[len(column):]
		north := sort.Search(len(column), func(i int) bool { return !column[i].South() })
		ends = append(ends, column[0], column[max(0, north-1)], column[min(north, len(column)-1)], column[len(column)-1])
	}
	return ends
}

// tileCells are the cells of a zone's tiles, a list a year.
func (c *Consolidated) tileCells(zone int) [][]grid.Cell {
	var lists [][]grid.Cell
	for _, year := range c.years {
		lists = append(lists, c.dataset.Tiles(year, zone).Cells())
	}
	return lists
}

// union merges two lists of cells in order.
func union(a, b []grid.Cell) []grid.Cell {
	all := make([]grid.Cell, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		order := a[0].Compare(b[0])
		if order <= 0 {
			all = append(all, a[0])
			a = a[1:]
		} else {
			all = append(all, b[0])
		}
		if order >= 0 {
			b = b[1:]
		}
	}
	return append(append(all, a...), b...)
}

// zoneCells is where the tiles of a zone lie, whatever the year.
type zoneCells struct {
	cells  []grid.Cell // in catalogue order
	rects  []grid.Rect
	shards *grid.Chunks
}

// zone returns where the tiles of a zone lie.
func (c *Consolidated) zone(ctx context.Context, zone int) (*zoneCells, error) {
	return shared(ctx, &c.building, c.cells, "cells", zone, func() (*zoneCells, error) {
		g, err := c.lattice(context.Background(), zone)
		if err != nil {
			return nil, err
		}
		z := &zoneCells{}
		for _, cells := range c.tileCells(zone) {
			z.cells = union(z.cells, cells)
		}
		prints, err := grid.Footprints(z.cells)
		if err != nil {
			return nil, fmt.Errorf("geometry of utm%02d: %w", zone, err)
		}
		all := grid.Rect{Height: g.Height, Width: g.Width}
		z.rects = make([]grid.Rect, len(prints))
		for i, f := range prints {
			z.rects[i] = g.Place(f)
			if z.rects[i].Intersect(all) != z.rects[i] {
				return nil, fmt.Errorf("geometry of utm%02d: %v lies outside the grid", zone, f.Cell)
			}
		}
		z.shards = grid.NewChunks(g.Height, g.Width, grid.ShardPixels, grid.ShardPixels, z.rects)
		return z, nil
	})
}

// columns returns the shards of a row that hold a tile of a year.
func (z *zoneCells) columns(tiles catalogue.Tiles, row int) []int {
	var cols []int
	for _, col := range z.shards.Cols(row) {
		if z.holds(tiles, row, col) {
			cols = append(cols, col)
		}
	}
	return cols
}

// rows returns the rows of shards that hold a tile of a year.
func (z *zoneCells) rows(tiles catalogue.Tiles) []int {
	var rows []int
	for _, row := range z.shards.Rows() {
		if z.holdsRow(tiles, row) {
			rows = append(rows, row)
		}
	}
	return rows
}

func (z *zoneCells) holdsRow(tiles catalogue.Tiles, row int) bool {
	return slices.ContainsFunc(z.shards.Cols(row), func(col int) bool { return z.holds(tiles, row, col) })
}

// holds says whether a tile of a year touches a shard.
func (z *zoneCells) holds(tiles catalogue.Tiles, row, col int) bool {
	return slices.ContainsFunc(z.shards.Tiles(row, col), func(i int32) bool {
		_, found := tiles.Find(z.cells[i])
		return found
	})
}

// Dir is the directory tessera.zarr: the root's document, and a group a zone.
func (c *Consolidated) Dir() vfs.Dir {
	modTime := c.dataset.ModTime(0, 0)
	entries := []vfs.Entry{{Name: "zarr.json"}}
	for _, zone := range c.zones {
		entries = append(entries, vfs.Entry{Name: groupName(zone), Dir: true})
	}
	return &dir{
		modTime: modTime,
		list:    fixed(entries...),
		lookup: func(ctx context.Context, name string) (vfs.Node, error) {
			if name == "zarr.json" {
				d, err := c.rootDocuments(ctx)
				if err != nil {
					return nil, err
				}
				return &blob{d.json[""], modTime}, nil
			}
			for _, zone := range c.zones {
				if name == groupName(zone) {
					return c.group(zone), nil
				}
			}
			return nil, fs.ErrNotExist
		},
	}
}

// group is the directory of a zone.
func (c *Consolidated) group(zone int) vfs.Dir {
	modTime := c.dataset.ModTime(0, zone)
	names := []string{"band", "spatial_ref", "time", "x", "y"}
	for _, a := range c.arrays {
		names = append(names, a.name)
		if 0 < a.bands && a.bands < grid.Bands {
			names = append(names, bandName(a.bands))
		}
	}
	slices.Sort(names)
	var entries []vfs.Entry
	for _, name := range names {
		entries = append(entries, vfs.Entry{Name: name, Dir: true})
	}
	return &dir{
		modTime: modTime,
		list:    fixed(append(entries, vfs.Entry{Name: "zarr.json"})...),
		lookup: func(ctx context.Context, name string) (vfs.Node, error) {
			if _, found := slices.BinarySearch(names, name); !found && name != "zarr.json" {
				return nil, fs.ErrNotExist
			}
			d, err := c.zoneDocuments(ctx, zone)
			if err != nil {
				return nil, err
			}
			if name == "zarr.json" {
				return &blob{d.json[""], modTime}, nil
			}
			return c.array(zone, d, name, modTime), nil
		},
	}
}

// array is the directory of an array: its document, and "c".
func (c *Consolidated) array(zone int, d *consolidatedDocuments, name string, modTime time.Time) vfs.Dir {
	document := &blob{d.json[name], modTime}
	chunks := c.coordinate(d.grid, name, modTime)
	for i, a := range c.arrays {
		if a.name == name {
			chunks = c.times(shardKey{zone: zone, array: i}, modTime)
		}
	}
	return &dir{
		modTime: modTime,
		list:    fixed(vfs.Entry{Name: "c", Dir: chunks.Attr().Dir}, vfs.Entry{Name: "zarr.json"}),
		lookup: func(_ context.Context, name string) (vfs.Node, error) {
			switch name {
			case "c":
				return chunks, nil
			case "zarr.json":
				return document, nil
			}
			return nil, fs.ErrNotExist
		},
	}
}

// coordinate is "c" of an array that is one chunk.
func (c *Consolidated) coordinate(g grid.Grid, name string, modTime time.Time) vfs.Node {
	numbers := func(values []int) vfs.File {
		var data []byte
		for _, v := range values {
			data = binary.LittleEndian.AppendUint32(data, uint32(v))
		}
		return &blob{data, modTime}
	}
	var file vfs.File
	switch name {
	case "spatial_ref":
		return &blob{make([]byte, 8), modTime}
	case "x":
		file = &axis{g.Width, g.EastingAt, modTime}
	case "y":
		file = &axis{g.Height, g.NorthingAt, modTime}
	case "time":
		file = numbers(c.years)
	default: // of one of the arrays of embeddings
		bands := grid.Bands
		for _, a := range c.arrays {
			if name == bandName(a.bands) {
				bands = a.bands
			}
		}
		all := make([]int, bands)
		for i := range all {
			all[i] = i
		}
		file = numbers(all)
	}
	return only("0", file, modTime)
}

// only is a directory with one entry.
func only(name string, node vfs.Node, modTime time.Time) vfs.Dir {
	return &dir{
		modTime: modTime,
		list:    fixed(vfs.Entry{Name: name, Dir: node.Attr().Dir}),
		lookup: func(_ context.Context, asked string) (vfs.Node, error) {
			if asked != name {
				return nil, fs.ErrNotExist
			}
			return node, nil
		},
	}
}

// times is "c" of an array of pixels: a directory for each year in which the zone has a tile. Those of
// embeddings have one for the band axis below it, which is one shard wide.
func (c *Consolidated) times(key shardKey, modTime time.Time) vfs.Dir {
	var present []int
	for i, year := range c.years {
		if c.dataset.Tiles(year, key.zone).Len() > 0 {
			present = append(present, i)
		}
	}
	return &dir{
		modTime: modTime,
		list: func(context.Context) (vfs.Listing, error) {
			return numbers{present, true, strconv.Itoa}, nil
		},
		lookup: func(_ context.Context, name string) (vfs.Node, error) {
			i, ok := zarr.ParseIndex(name)
			if !ok || !slices.Contains(present, i) {
				return nil, fs.ErrNotExist
			}
			key := key
			key.time = i
			rows := c.shardRows(key)
			if c.arrays[key.array].bands == 0 {
				return rows, nil
			}
			return only("0", rows, rows.Attr().ModTime), nil
		},
	}
}

// shardRows is the directory of the rows of shards of a year.
func (c *Consolidated) shardRows(key shardKey) vfs.Dir {
	tiles := c.dataset.Tiles(c.years[key.time], key.zone)
	return &dir{
		modTime: c.dataset.ModTime(c.years[key.time], key.zone),
		list: func(ctx context.Context) (vfs.Listing, error) {
			z, err := c.zone(ctx, key.zone)
			if err != nil {
				return nil, err
			}
			return numbers{z.rows(tiles), true, strconv.Itoa}, nil
		},
		lookup: func(ctx context.Context, name string) (vfs.Node, error) {
			z, err := c.zone(ctx, key.zone)
			if err != nil {
				return nil, err
			}
			key := key
			var ok bool
			if key.row, ok = zarr.ParseIndex(name); !ok || !z.holdsRow(tiles, key.row) {
				return nil, fs.ErrNotExist
			}
			return c.shardCols(key), nil
		},
	}
}

// shardCols is the directory of a row of shards.
func (c *Consolidated) shardCols(key shardKey) vfs.Dir {
	tiles := c.dataset.Tiles(c.years[key.time], key.zone)
	return &dir{
		modTime: c.dataset.ModTime(c.years[key.time], key.zone),
		list: func(ctx context.Context) (vfs.Listing, error) {
			z, err := c.zone(ctx, key.zone)
			if err != nil {
				return nil, err
			}
			return numbers{z.columns(tiles, key.row), false, strconv.Itoa}, nil
		},
		lookup: func(ctx context.Context, name string) (vfs.Node, error) {
			key := key
			var ok bool
			if key.col, ok = zarr.ParseIndex(name); !ok {
				return nil, fs.ErrNotExist
			}
			s, err := c.shard(ctx, key)
			if err != nil {
				return nil, err
			}
			return c.file(key, s), nil
		},
	}
}
