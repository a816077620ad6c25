package layout

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/synth/zarr"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/vfs"
)

// tileRows is the height of the chunks of a per-tile store in pixels. They are as wide as the tile, so
// that a chunk is one run of the tile's NPY: it is read, and can be referred to from elsewhere, in
// place. Measured with zarr-python on tiles of 1137 × 725 pixels, where 128 rows are 12 MB:
//
//	rows           32   64  128  256  all
//	whole tile    207   77   85   63  198 ms   (one thread copies what is one chunk)
//	256 × 256 px   16    9   10   10   86 ms   (chunks are read whole)
//	one pixel       2    3    5    7   78 ms
//	scales         15   10    7    4    5 ms
const tileRows = 128

// Tiles is a dataset's tiles/<year>/grid_<lon>_<lat>.zarr.
//
// A year may have two million tiles, so nothing is made for a tile before somebody looks into its
// store: a directory of a year is listed and searched in the catalogue. What a front door remembers of
// a store is its year and cell; documents and geometry (0.5 ms) are worked out again for a store that
// was not used lately.
type Tiles struct {
	dataset *catalogue.Dataset
	pixels  *mosaic.Mosaic
	land    *mosaic.Landmasks
	stores  *lru.Cache[tileKey, *tileStore]
}

type tileKey struct {
	year int
	cell grid.Cell
}

// NewTiles makes the tree of a dataset's per-tile stores, their pixels read through m.
func NewTiles(ds *catalogue.Dataset, m *mosaic.Mosaic) (*Tiles, error) {
	stores, err := lru.New[tileKey, *tileStore](128) // about 35 kB each
	if err != nil {
		return nil, fmt.Errorf("tiles of %s: %w", ds.Name(), err)
	}
	land, err := mosaic.NewLandmasks(m)
	if err != nil {
		return nil, fmt.Errorf("tiles of %s: %w", ds.Name(), err)
	}
	return &Tiles{dataset: ds, pixels: m, land: land, stores: stores}, nil
}

// Dir is the directory tiles: one directory a year.
func (t *Tiles) Dir() vfs.Dir {
	return &dir{
		modTime: t.dataset.ModTime(0, 0),
		list: func(context.Context) (vfs.Listing, error) {
			return numbers{t.dataset.Years(), true, strconv.Itoa}, nil
		},
		lookup: func(_ context.Context, name string) (vfs.Node, error) {
			year, ok := zarr.ParseIndex(name)
			if !ok || t.dataset.Tiles(year, 0).Len() == 0 {
				return nil, fs.ErrNotExist
			}
			return t.year(year), nil
		},
	}
}

func (t *Tiles) year(year int) vfs.Dir {
	tiles := t.dataset.Tiles(year, 0)
	return &dir{
		modTime: t.dataset.ModTime(year, 0),
		list:    func(context.Context) (vfs.Listing, error) { return tileNames{tiles}, nil },
		lookup: func(_ context.Context, name string) (vfs.Node, error) {
			name, ok := strings.CutSuffix(name, storeSuffix)
			if !ok {
				return nil, fs.ErrNotExist
			}
			cell, err := grid.ParseCell(name)
			if err != nil {
				return nil, fs.ErrNotExist
			}
			if _, found := tiles.Find(cell); !found {
				return nil, fs.ErrNotExist
			}
			return &tileDir{t, tileKey{year, cell}}, nil
		},
	}
}

const storeSuffix = ".zarr"

// tileNames lists the stores of a year in catalogue order.
type tileNames struct{ catalogue.Tiles }

func (n tileNames) At(i int) vfs.Entry {
	return vfs.Entry{Name: n.Cells()[i].String() + storeSuffix, Dir: true}
}

// tileStore is a store, worked out.
type tileStore struct {
	tile      catalogue.Tile
	grid      grid.Grid
	documents map[string][]byte // by the node's path, "" the root
}

// open returns a store's geometry and documents.
func (t *Tiles) open(key tileKey) (*tileStore, error) {
	if s, ok := t.stores.Get(key); ok {
		return s, nil
	}
	tile, found := t.dataset.Tiles(key.year, 0).Find(key.cell)
	if !found {
		return nil, fs.ErrNotExist
	}
	prints, err := grid.Footprints([]grid.Cell{key.cell})
	if err != nil {
		return nil, err
	}
	s := &tileStore{tile: tile, grid: prints[0].Grid()}
	if s.documents, err = tileDocuments(subject{t.dataset.Name(), t.dataset.Version(), t.dataset.Variant(), tile}, s.grid); err != nil {
		return nil, fmt.Errorf("documents of %v: %w", key.cell, err)
	}
	t.stores.Add(key, s)
	return s, nil
}

// tileDir is the directory grid_<lon>_<lat>.zarr. A kernel may remember two million of them.
type tileDir struct {
	tiles *Tiles
	key   tileKey
}

var tileArrays = []string{"band", "embeddings", "landmask", "scales", "spatial_ref", "x", "y"}

func (d *tileDir) Attr() vfs.Attr {
	tile, _ := d.tiles.dataset.Tiles(d.key.year, 0).Find(d.key.cell)
	return vfs.Attr{Dir: true, ModTime: tile.ModTime}
}

func (d *tileDir) List(context.Context) (vfs.Listing, error) {
	entries := vfs.Entries{{Name: "zarr.json"}}
	for _, name := range tileArrays {
		entries = append(entries, vfs.Entry{Name: name, Dir: true})
	}
	return entries, nil
}

func (d *tileDir) Lookup(_ context.Context, name string) (vfs.Node, error) {
	if name == "zarr.json" {
		return d.tiles.document(d.key, "")
	}
	for _, array := range tileArrays {
		if name == array {
			return d.tiles.array(d.key, array)
		}
	}
	return nil, fs.ErrNotExist
}

// tileDocument is a zarr.json. It remembers how long it is and not what is in it.
type tileDocument struct {
	tiles   *Tiles
	key     tileKey
	node    string
	size    int64
	modTime time.Time
}

func (t *Tiles) document(key tileKey, node string) (vfs.Node, error) {
	s, err := t.open(key)
	if err != nil {
		return nil, err
	}
	return &tileDocument{t, key, node, int64(len(s.documents[node])), s.tile.ModTime}, nil
}

func (d *tileDocument) Attr() vfs.Attr {
	return vfs.Attr{Size: d.size, Stored: d.size, ModTime: d.modTime}
}

func (d *tileDocument) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	s, err := d.tiles.open(d.key)
	if err != nil {
		return 0, err
	}
	return (&blob{s.documents[d.node], d.modTime}).ReadAt(ctx, p, off)
}

// array is the directory of an array: its document, and "c", which holds the chunks, or is the
// chunk where the array has no dimensions.
func (t *Tiles) array(key tileKey, name string) (vfs.Dir, error) {
	s, err := t.open(key)
	if err != nil {
		return nil, err
	}
	modTime := s.tile.ModTime
	var chunks vfs.Node
	switch name {
	case "embeddings", "scales", "landmask":
		chunks = t.chunkRows(key, s, name)
	case "x":
		chunks = onlyZero(&axis{s.grid.Width, s.grid.EastingAt, modTime})
	case "y":
		chunks = onlyZero(&axis{s.grid.Height, s.grid.NorthingAt, modTime})
	case "band":
		bands := make([]byte, 0, 4*grid.Bands)
		for i := range uint32(grid.Bands) {
			bands = binary.LittleEndian.AppendUint32(bands, i)
		}
		chunks = onlyZero(&blob{bands, modTime})
	case "spatial_ref":
		chunks = &blob{make([]byte, 8), modTime}
	}
	return &dir{
		modTime: modTime,
		list:    fixed(vfs.Entry{Name: "c", Dir: chunks.Attr().Dir}, vfs.Entry{Name: "zarr.json"}),
		lookup: func(_ context.Context, entry string) (vfs.Node, error) {
			switch entry {
			case "c":
				return chunks, nil
			case "zarr.json":
				return t.document(key, name)
			}
			return nil, fs.ErrNotExist
		},
	}, nil
}

// onlyZero is a directory that holds "0" and nothing else: a dimension of one chunk.
func onlyZero(node vfs.Node) vfs.Dir {
	a := node.Attr()
	return &dir{
		modTime: a.ModTime,
		list:    fixed(vfs.Entry{Name: "0", Dir: a.Dir}),
		lookup: func(_ context.Context, name string) (vfs.Node, error) {
			if name != "0" {
				return nil, fs.ErrNotExist
			}
			return node, nil
		},
	}
}

// chunkRows is the directory "c" of the pixels: a directory for each strip of rows, "<row>/0", in
// which embeddings have a third index, "<row>/0/0".
func (t *Tiles) chunkRows(key tileKey, s *tileStore, array string) vfs.Dir {
	height, width, modTime := s.grid.Height, s.grid.Width, s.tile.ModTime
	rows := (height + tileRows - 1) / tileRows
	return &dir{
		modTime: modTime,
		list: func(context.Context) (vfs.Listing, error) {
			values := make([]int, rows)
			for i := range values {
				values[i] = i
			}
			return numbers{values, true, strconv.Itoa}, nil
		},
		lookup: func(_ context.Context, name string) (vfs.Node, error) {
			row, ok := zarr.ParseIndex(name)
			if !ok || row >= rows {
				return nil, fs.ErrNotExist
			}
			pixels, shown := int64(tileRows*width), int64(min(tileRows, height-row*tileRows)*width)
			c := chunk{
				pixels: t.pixels,
				block: func(context.Context) (*mosaic.Block, error) {
					return t.block(key, row, array == "embeddings")
				},
				modTime: modTime,
			}
			switch array {
			case "embeddings":
				c.size, c.stored = grid.Bands*pixels, grid.Bands*shown
				return onlyZero(onlyZero(&embeddingsChunk{c})), nil
			case "scales":
				c.size, c.stored = 4*pixels, 4*pixels
				return onlyZero(&scalesChunk{c}), nil
			}
			c.size, c.stored = pixels, pixels
			return onlyZero(&landmaskChunk{c, t.land}), nil
		},
	}
}

// block is a strip of a tile. Below the tile's last row there is none, which scales show as NaN.
func (t *Tiles) block(key tileKey, row int, asStored bool) (*mosaic.Block, error) {
	s, err := t.open(key)
	if err != nil {
		return nil, err
	}
	tile := mosaic.Tile{EmbeddingsBytes: s.tile.Embeddings, ScalesBytes: s.tile.Scales, Height: s.grid.Height, Width: s.grid.Width}
	tile.Embeddings, tile.Scales, tile.Landmask = t.dataset.Objects(key.year, key.cell)
	return &mosaic.Block{
		Window:   grid.Rect{Row: row * tileRows, Height: tileRows, Width: s.grid.Width},
		Tiles:    []mosaic.Tile{tile},
		Rects:    []grid.Rect{{Height: s.grid.Height, Width: s.grid.Width}},
		AsStored: asStored,
	}, nil
}

// landmaskChunk is uint8 (row, column). It has no holes: what is water is there.
type landmaskChunk struct {
	chunk
	land *mosaic.Landmasks
}

var (
	_ vfs.File    = (*landmaskChunk)(nil)
	_ vfs.Checker = (*landmaskChunk)(nil)
	_ vfs.Xattrs  = (*landmaskChunk)(nil)
)

func (c *landmaskChunk) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return c.read(ctx, p, off, c.land.Read)
}
