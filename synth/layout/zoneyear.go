package layout

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
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

// zoneChunk is the side of a zone-year store's chunks in pixels.
const zoneChunk = 1024

// Zones is a dataset's zones/<year>/utm<ZZ>_<year>.zarr.
//
// A year's directory is listed from the catalogue alone. The geometry of a store (some 30,000
// footprints in the fullest zones) is worked out when somebody first looks into it, and kept for
// the stores used last.
type Zones struct {
	dataset  *catalogue.Dataset
	pixels   *mosaic.Mosaic
	stores   *lru.Cache[zoneKey, *zoneYear]
	blocks   *lru.Cache[blockKey, *mosaic.Block]
	building singleflight.Group
}

type zoneKey struct{ year, zone int }

type blockKey struct {
	zoneKey
	row, col int
}

// NewZones makes the tree of a dataset's zone-year stores, their pixels read through m.
func NewZones(ds *catalogue.Dataset, m *mosaic.Mosaic) (*Zones, error) {
	// A store takes about 100 bytes a tile, a block about 2 kB.
	stores, err := lru.New[zoneKey, *zoneYear](16)
	if err != nil {
		return nil, fmt.Errorf("zones of %s: %w", ds.Name(), err)
	}
	blocks, err := lru.New[blockKey, *mosaic.Block](4096)
	if err != nil {
		return nil, fmt.Errorf("zones of %s: %w", ds.Name(), err)
	}
	return &Zones{dataset: ds, pixels: m, stores: stores, blocks: blocks}, nil
}

// Dir is the directory zones: one directory a year.
func (z *Zones) Dir() vfs.Dir {
	return &dir{
		modTime: z.dataset.ModTime(0, 0),
		list: func(context.Context) (vfs.Listing, error) {
			return numbers{z.dataset.Years(), true, strconv.Itoa}, nil
		},
		lookup: func(_ context.Context, name string) (vfs.Node, error) {
			year, ok := zarr.ParseIndex(name)
			if !ok || len(z.dataset.Zones(year)) == 0 {
				return nil, fs.ErrNotExist
			}
			return z.year(year), nil
		},
	}
}

func (z *Zones) year(year int) vfs.Dir {
	store := func(zone int) string { return fmt.Sprintf("utm%02d_%d.zarr", zone, year) }
	zones := z.dataset.Zones(year)
	return &dir{
		modTime: z.dataset.ModTime(year, 0),
		list: func(context.Context) (vfs.Listing, error) {
			return numbers{zones, true, store}, nil
		},
		lookup: func(_ context.Context, name string) (vfs.Node, error) {
			for _, zone := range zones {
				if name == store(zone) {
					return z.store(zoneKey{year, zone}), nil
				}
			}
			return nil, fs.ErrNotExist
		},
	}
}

// zoneYear is a store, worked out.
type zoneYear struct {
	grid      grid.Grid
	tiles     catalogue.Tiles
	prints    []grid.Footprint
	rects     []grid.Rect
	chunks    *grid.Chunks
	documents map[string][]byte // by the node's path, "" the root
	modTime   time.Time
}

// open returns a store's geometry and documents, worked out once for all who wait.
func (z *Zones) open(ctx context.Context, key zoneKey) (*zoneYear, error) {
	if s, ok := z.stores.Get(key); ok {
		return s, nil
	}
	result := z.building.DoChan(fmt.Sprint(key), func() (any, error) {
		if s, ok := z.stores.Get(key); ok {
			return s, nil
		}
		s, err := z.build(key)
		if err != nil {
			return nil, err
		}
		z.stores.Add(key, s)
		return s, nil
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*zoneYear), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (z *Zones) build(key zoneKey) (*zoneYear, error) {
	s := &zoneYear{tiles: z.dataset.Tiles(key.year, key.zone), modTime: z.dataset.ModTime(key.year, key.zone)}
	cells := make([]grid.Cell, s.tiles.Len())
	for i := range cells {
		cells[i] = s.tiles.At(i).Cell
	}
	var err error
	if s.prints, err = grid.Footprints(cells); err != nil {
		return nil, fmt.Errorf("geometry of utm%02d_%d: %w", key.zone, key.year, err)
	}
	if s.grid, err = grid.ZoneYear(s.prints); err != nil {
		return nil, fmt.Errorf("geometry of utm%02d_%d: %w", key.zone, key.year, err)
	}
	s.rects = make([]grid.Rect, len(s.prints))
	for i, f := range s.prints {
		s.rects[i] = s.grid.Place(f)
	}
	s.chunks = grid.NewChunks(s.grid.Height, s.grid.Width, zoneChunk, zoneChunk, s.rects)
	if s.documents, err = zoneDocuments(z.dataset.Name(), key, s); err != nil {
		return nil, fmt.Errorf("documents of utm%02d_%d: %w", key.zone, key.year, err)
	}
	return s, nil
}

// store is the directory utm<ZZ>_<year>.zarr.
func (z *Zones) store(key zoneKey) vfs.Dir {
	arrays := []string{"band", "easting", "embeddings", "northing", "scales", "spatial_ref"}
	entries := []vfs.Entry{{Name: "zarr.json"}}
	for _, name := range arrays {
		entries = append(entries, vfs.Entry{Name: name, Dir: true})
	}
	return &dir{
		modTime: z.dataset.ModTime(key.year, key.zone),
		list:    fixed(entries...),
		lookup: func(ctx context.Context, name string) (vfs.Node, error) {
			s, err := z.open(ctx, key)
			if err != nil {
				return nil, err
			}
			if name == "zarr.json" {
				return &blob{s.documents[""], s.modTime}, nil
			}
			for _, array := range arrays {
				if name == array {
					return z.array(key, s, array), nil
				}
			}
			return nil, fs.ErrNotExist
		},
	}
}

// array is the directory of an array: its document, and "c", which holds the chunks, or is the
// chunk where the array has no dimensions.
func (z *Zones) array(key zoneKey, s *zoneYear, name string) vfs.Dir {
	var chunks vfs.Node
	switch name {
	case "embeddings", "scales":
		chunks = z.chunkRows(key, s, name)
	case "easting":
		chunks = s.single(&axis{s.grid.Width, s.grid.EastingAt, s.modTime})
	case "northing":
		chunks = s.single(&axis{s.grid.Height, s.grid.NorthingAt, s.modTime})
	case "band":
		bands := make([]byte, 0, 4*grid.Bands)
		for i := range uint32(grid.Bands) {
			bands = binary.LittleEndian.AppendUint32(bands, i)
		}
		chunks = s.single(&blob{bands, s.modTime})
	case "spatial_ref":
		chunks = &blob{make([]byte, 8), s.modTime}
	}
	document := &blob{s.documents[name], s.modTime}
	return &dir{
		modTime: s.modTime,
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

// single is the directory "c" of an array of one dimension and one chunk.
func (s *zoneYear) single(file vfs.File) vfs.Dir {
	return &dir{
		modTime: s.modTime,
		list:    fixed(vfs.Entry{Name: "0"}),
		lookup: func(_ context.Context, name string) (vfs.Node, error) {
			if name != "0" {
				return nil, fs.ErrNotExist
			}
			return file, nil
		},
	}
}

// chunkRows is the directory "c" of the pixels: one directory a row of chunks that holds a tile.
func (z *Zones) chunkRows(key zoneKey, s *zoneYear, array string) vfs.Dir {
	return &dir{
		modTime: s.modTime,
		list: func(ctx context.Context) (vfs.Listing, error) {
			s, err := z.open(ctx, key)
			if err != nil {
				return nil, err
			}
			return numbers{s.chunks.Rows(), true, strconv.Itoa}, nil
		},
		lookup: func(ctx context.Context, name string) (vfs.Node, error) {
			s, err := z.open(ctx, key)
			if err != nil {
				return nil, err
			}
			row, ok := zarr.ParseIndex(name)
			if !ok || len(s.chunks.Cols(row)) == 0 {
				return nil, fs.ErrNotExist
			}
			return z.chunkCols(key, s, array, row), nil
		},
	}
}

// chunkCols is "c/<row>": the chunks of a row, which are directories where a third index follows.
func (z *Zones) chunkCols(key zoneKey, s *zoneYear, array string, row int) vfs.Dir {
	var newest time.Time
	for _, col := range s.chunks.Cols(row) {
		newest = latest(newest, s.chunkTime(row, col))
	}
	return &dir{
		modTime: newest,
		list: func(ctx context.Context) (vfs.Listing, error) {
			s, err := z.open(ctx, key)
			if err != nil {
				return nil, err
			}
			return numbers{s.chunks.Cols(row), array == "embeddings", strconv.Itoa}, nil
		},
		lookup: func(ctx context.Context, name string) (vfs.Node, error) {
			s, err := z.open(ctx, key)
			if err != nil {
				return nil, err
			}
			col, ok := zarr.ParseIndex(name)
			if !ok || len(s.chunks.Tiles(row, col)) == 0 {
				return nil, fs.ErrNotExist
			}
			file := z.chunk(key, s, array, row, col)
			if array != "embeddings" {
				return file, nil
			}
			return &dir{
				modTime: file.Attr().ModTime,
				list:    fixed(vfs.Entry{Name: "0"}),
				lookup: func(_ context.Context, name string) (vfs.Node, error) {
					if name != "0" {
						return nil, fs.ErrNotExist
					}
					return file, nil
				},
			}, nil
		},
	}
}

// chunk is the file of a chunk.
func (z *Zones) chunk(key zoneKey, s *zoneYear, array string, row, col int) vfs.File {
	c := chunk{
		pixels:  z.pixels,
		block:   func(ctx context.Context) (*mosaic.Block, error) { return z.block(ctx, key, row, col) },
		modTime: s.chunkTime(row, col),
	}
	if array == "scales" {
		c.size = 4 * zoneChunk * zoneChunk
		c.stored = c.size
		return &scalesChunk{c}
	}
	c.size = grid.Bands * zoneChunk * zoneChunk
	window, rects := s.under(row, col)
	for _, band := range grid.Mosaic(window, rects) {
		for _, span := range band.Spans {
			if span.Tile >= 0 {
				c.stored += int64(band.Row1-band.Row0) * int64(span.Col1-span.Col0) * grid.Bands
			}
		}
	}
	return &embeddingsChunk{c}
}

// under returns a chunk's window and the rectangles of the tiles that touch it.
func (s *zoneYear) under(row, col int) (grid.Rect, []grid.Rect) {
	tiles := s.chunks.Tiles(row, col)
	rects := make([]grid.Rect, len(tiles))
	for i, t := range tiles {
		rects[i] = s.rects[t]
	}
	return s.chunks.Window(row, col), rects
}

// chunkTime is that of the newest tile of a chunk.
func (s *zoneYear) chunkTime(row, col int) time.Time {
	var newest time.Time
	for _, t := range s.chunks.Tiles(row, col) {
		newest = latest(newest, s.tiles.At(int(t)).ModTime)
	}
	return newest
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// block says what a chunk is made of.
func (z *Zones) block(ctx context.Context, key zoneKey, row, col int) (*mosaic.Block, error) {
	id := blockKey{key, row, col}
	if b, ok := z.blocks.Get(id); ok {
		return b, nil
	}
	s, err := z.open(ctx, key)
	if err != nil {
		return nil, err
	}
	b := &mosaic.Block{}
	b.Window, b.Rects = s.under(row, col)
	for _, i := range s.chunks.Tiles(row, col) {
		tile, print := s.tiles.At(int(i)), s.prints[i]
		t := mosaic.Tile{EmbeddingsBytes: tile.Embeddings, ScalesBytes: tile.Scales, Height: print.Height, Width: print.Width}
		t.Embeddings, t.Scales, t.Landmask = z.dataset.Objects(key.year, tile.Cell)
		b.Tiles = append(b.Tiles, t)
	}
	z.blocks.Add(id, b)
	return b, nil
}
