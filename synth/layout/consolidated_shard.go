package layout

import (
	"context"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/synth/zarr"
	"github.com/tesserafs/tesserafs/vfs"
)

// shardKey names a shard of a consolidated store: the array and the time by their indexes.
type shardKey struct{ zone, array, time, row, col int }

// shard is what a shard is made of.
type shard struct {
	mosaic.Block             // all of it
	layout       *zarr.Shard // which inner chunks there are
	side         int         // of an inner chunk, in pixels
	innerBytes   int64       // of an inner chunk as it lies in the file
	scalesSide   int         // of an inner chunk of the scales
	pixelBytes   int64       // of a pixel
	covered      int64       // pixels that lie under a tile
	modTime      time.Time   // of the newest tile

	expected []atomic.Bool // by tile: it was said to be wanted soon
}

// shard returns what a shard is made of; fs.ErrNotExist where no tile of the year touches it.
func (c *Consolidated) shard(ctx context.Context, key shardKey) (*shard, error) {
	if s, ok := c.shards.Get(key); ok {
		return s, nil
	}
	z, err := c.zone(ctx, key.zone)
	if err != nil {
		return nil, err
	}
	array, year := c.arrays[key.array], c.years[key.time]
	s := &shard{side: array.inner, scalesSide: c.scalesInner, pixelBytes: array.pixelBytes()}
	s.innerBytes = int64(s.side) * int64(s.side) * s.pixelBytes
	if c.order == BandOrder && array.bands > 0 {
		s.innerBytes = zarr.ZstdSize(s.innerBytes)
	}
	s.Window, s.AsStored, s.Bands = z.shards.Window(key.row, key.col), true, array.bands
	tiles := c.dataset.Tiles(year, key.zone)
	for _, i := range z.shards.Tiles(key.row, key.col) {
		tile, found := tiles.Find(z.cells[i])
		if !found {
			continue
		}
		rect := z.rects[i]
		t := mosaic.Tile{EmbeddingsBytes: tile.Embeddings, ScalesBytes: tile.Scales, Height: rect.Height, Width: rect.Width}
		t.Embeddings, t.Scales, t.Landmask = c.dataset.Objects(year, tile.Cell)
		s.Tiles, s.Rects = append(s.Tiles, t), append(s.Rects, rect)
		s.modTime = latest(s.modTime, tile.ModTime)
	}
	if len(s.Tiles) == 0 {
		return nil, fs.ErrNotExist
	}
	s.expected = make([]atomic.Bool, len(s.Tiles))
	s.covered = grid.Area(s.Window, s.Rects)
	s.layout = s.innerChunks()
	c.shards.Add(key, s)
	return s, nil
}

// innerChunks says which inner chunks a tile touches.
func (s *shard) innerChunks() *zarr.Shard {
	perSide := grid.ShardPixels / s.side
	touched := make([]uint64, (perSide*perSide+63)/64)
	for _, r := range s.Rects {
		in := r.Intersect(s.Window)
		row0, row1 := (in.Row-s.Window.Row)/s.side, (in.Bottom()-1-s.Window.Row)/s.side
		col0, col1 := (in.Col-s.Window.Col)/s.side, (in.Right()-1-s.Window.Col)/s.side
		for row := row0; row <= row1; row++ {
			for i := row*perSide + col0; i <= row*perSide+col1; i++ {
				touched[i/64] |= 1 << (i % 64)
			}
		}
	}
	return zarr.NewShard(perSide*perSide, s.innerBytes, touched)
}

// inner is the block of the inner chunk that lies k-th in the shard.
func (s *shard) inner(k int) *mosaic.Block {
	perSide := grid.ShardPixels / s.side
	i := s.layout.At(k)
	b := &mosaic.Block{
		Window: grid.Rect{
			Row: s.Window.Row + i/perSide*s.side, Col: s.Window.Col + i%perSide*s.side, Height: s.side, Width: s.side,
		},
		AsStored: true, Bands: s.Bands,
	}
	b.Scales = s.scalesAround(b.Window)
	// Most lie under one tile: no lists of their own need be made for those.
	first, last, n := 0, -1, 0
	for i, r := range s.Rects {
		if !r.Intersect(b.Window).Empty() {
			if n == 0 {
				first = i
			}
			last = i
			n++
		}
	}
	if n == last-first+1 {
		b.Tiles, b.Rects = s.Tiles[first:last+1:last+1], s.Rects[first:last+1:last+1]
		return b
	}
	for i := first; i <= last; i++ {
		if !s.Rects[i].Intersect(b.Window).Empty() {
			b.Tiles, b.Rects = append(b.Tiles, s.Tiles[i]), append(b.Rects, s.Rects[i])
		}
	}
	return b
}

// scalesAround is the rows of those inner chunks of the scales that an inner chunk lies under.
func (s *shard) scalesAround(w grid.Rect) grid.Rect {
	row := s.Window.Row + (w.Row-s.Window.Row)/s.scalesSide*s.scalesSide
	return grid.Rect{Row: row, Col: w.Col, Height: max(s.scalesSide, w.Height), Width: w.Width}
}

// nearby is how many pixels beyond a read its reader is likely to come to soon: no more than a tile has.
const nearby = 768

// expect has tiles loaded that lie to the right of a read and below it, where readers go on: each once. A
// read of one inner chunk may be of a pixel; of several side by side it is of a window.
func (s *shard) expect(pixels *mosaic.Mosaic, off, end int64) {
	first, last := off/s.innerBytes, (min(end, s.layout.DataSize())-1)/s.innerBytes
	if last <= first {
		return
	}
	perSide := grid.ShardPixels / s.side
	i, j := s.layout.At(int(first)), s.layout.At(int(last))
	near := grid.Rect{
		Row: s.Window.Row + i/perSide*s.side, Col: s.Window.Col + i%perSide*s.side,
		Height: (j/perSide-i/perSide+1)*s.side + nearby, Width: max(1, j%perSide-i%perSide+1)*s.side + nearby,
	}
	var tiles []mosaic.Tile
	for i, r := range s.Rects {
		if !r.Intersect(near).Empty() && !s.expected[i].Swap(true) {
			tiles = append(tiles, s.Tiles[i])
		}
	}
	pixels.Expect(tiles)
}

// index is a shard's index.
func (c *Consolidated) index(key shardKey, s *shard) []byte {
	if index, ok := c.indexes.Get(key); ok {
		return index
	}
	index := s.layout.Index()
	c.indexes.Add(key, index)
	return index
}

// file is the file of a shard.
func (c *Consolidated) file(key shardKey, s *shard) vfs.File {
	f := shardFile{
		chunk: chunk{
			pixels: c.pixels,
			block: func(ctx context.Context) (*mosaic.Block, error) {
				s, err := c.shard(ctx, key)
				if err != nil {
					return nil, err
				}
				return &s.Block, nil
			},
			size: s.layout.Size(), stored: s.layout.Size(), modTime: s.modTime,
		},
		store: c, key: key,
	}
	if s.Bands == 0 {
		return &scalesShard{f}
	}
	if c.order == BandOrder {
		return &bandShard{f}
	}
	f.stored = s.covered*s.pixelBytes + s.layout.IndexSize()
	return &embeddingsShard{f}
}

// shardFile is a shard as a file: inner chunks, and then the index.
type shardFile struct {
	chunk
	store *Consolidated
	key   shardKey
}

// read answers a read, inner chunk by inner chunk. inner reads from an offset of one.
func (f *shardFile) readInner(ctx context.Context, p []byte, off int64,
	inner func(ctx context.Context, b *mosaic.Block, p []byte, off int64) error) (int, error) {
	p, end := within(p, off, f.size)
	if len(p) == 0 {
		return 0, end
	}
	s, err := f.store.shard(ctx, f.key)
	if err != nil {
		return 0, err
	}
	s.expect(f.pixels, off, off+int64(len(p)))
	data := s.layout.DataSize()
	for rest := p; len(rest) > 0; {
		if off >= data {
			copy(rest, f.store.index(f.key, s)[off-data:])
			break
		}
		start := off % s.innerBytes
		part := rest[:min(int64(len(rest)), s.innerBytes-start)]
		if err := inner(ctx, s.inner(int(off/s.innerBytes)), part, start); err != nil {
			return 0, err
		}
		rest, off = rest[len(part):], off+int64(len(part))
	}
	return len(p), end
}

// scalesShard is a shard of float32 (time, y, x). It has no holes: where no tile lies it reads +Inf.
type scalesShard struct{ shardFile }

var (
	_ vfs.File    = (*scalesShard)(nil)
	_ vfs.Checker = (*scalesShard)(nil)
	_ vfs.Xattrs  = (*scalesShard)(nil)
)

func (f *scalesShard) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return f.readInner(ctx, p, off, f.pixels.Scales)
}

// embeddingsShard is a shard of int8 (time, y, x, band) as it lies in the file. Its inner chunks have
// holes where no tile lies.
type embeddingsShard struct{ shardFile }

var (
	_ vfs.Sparse  = (*embeddingsShard)(nil)
	_ vfs.Checker = (*embeddingsShard)(nil)
	_ vfs.Xattrs  = (*embeddingsShard)(nil)
)

func (f *embeddingsShard) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return f.readInner(ctx, p, off, f.pixels.Embeddings)
}

func (f *embeddingsShard) NextData(off int64) int64 { return f.next(off, true) }
func (f *embeddingsShard) NextHole(off int64) int64 { return f.next(off, false) }

// next finds the first offset from off on that is data, or that is a hole. The index is data.
func (f *embeddingsShard) next(off int64, data bool) int64 {
	s, err := f.store.shard(context.Background(), f.key)
	if err != nil { // it was there once, for this file to be known; say "data" and let the read tell
		if data {
			return off
		}
		return f.size
	}
	for k := int(off / s.innerBytes); k < s.layout.Len(); k++ {
		start := int64(k) * s.innerBytes
		if at := nextRun(s.inner(k), s.pixelBytes, max(0, off-start), data); at < s.innerBytes {
			return start + at
		}
	}
	if data {
		return max(off, s.layout.DataSize())
	}
	return f.size
}
