package layout

import (
	"context"
	"strings"
	"time"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/vfs"
)

// chunk is one chunk of an array: a window of a zone grid. What it is made of is looked up when it
// is read, so that the chunks a kernel remembers by the hundred thousand cost little.
type chunk struct {
	pixels  *mosaic.Mosaic
	block   func(ctx context.Context) (*mosaic.Block, error)
	size    int64 // bytes
	stored  int64 // of which a tile covers
	modTime time.Time
}

func (c *chunk) Attr() vfs.Attr {
	return vfs.Attr{Size: c.size, Stored: c.stored, ModTime: c.modTime}
}

// Check implements vfs.Checker.
func (c *chunk) Check(ctx context.Context) error {
	b, err := c.block(ctx)
	if err != nil {
		return err
	}
	return c.pixels.Check(ctx, b)
}

// Xattrs names the tiles the chunk is made of, in the order in which they overlay one another.
func (c *chunk) Xattrs(ctx context.Context) (map[string]string, error) {
	b, err := c.block(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(b.Tiles))
	for i, t := range b.Tiles {
		name := t.Embeddings[strings.LastIndexByte(t.Embeddings, '/')+1:]
		names[i] = strings.TrimSuffix(name, ".npy")
	}
	return map[string]string{"user.tesserafs.tiles": strings.Join(names, ",")}, nil
}

// read answers a read with what pixels puts into p, for a range that lies in the block whole.
func (c *chunk) read(ctx context.Context, p []byte, off int64, pixels func(ctx context.Context, b *mosaic.Block, p []byte, off int64) error) (int, error) {
	p, end := within(p, off, c.size)
	if len(p) == 0 {
		return 0, end
	}
	b, err := c.block(ctx)
	if err != nil {
		return 0, err
	}
	if err := pixels(ctx, b, p, off); err != nil {
		return 0, err
	}
	return len(p), end
}

// embeddingsChunk is int8 (row, column, band). It is zero where no tile lies, and there it has holes.
type embeddingsChunk struct{ chunk }

var (
	_ vfs.Sparse  = (*embeddingsChunk)(nil)
	_ vfs.Checker = (*embeddingsChunk)(nil)
	_ vfs.Xattrs  = (*embeddingsChunk)(nil)
)

func (c *embeddingsChunk) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return c.read(ctx, p, off, c.pixels.Embeddings)
}

func (c *embeddingsChunk) NextData(off int64) int64 { return c.next(off, true) }
func (c *embeddingsChunk) NextHole(off int64) int64 { return c.next(off, false) }

// next finds the first offset from off on that a tile covers, or that none does.
func (c *embeddingsChunk) next(off int64, covered bool) int64 {
	b, err := c.block(context.Background())
	if err != nil { // the store was built once to make this chunk known; say "data" and let the read tell
		if covered {
			return off
		}
		return c.size
	}
	return nextRun(b, grid.Bands, off, covered)
}

// nextRun finds the first offset in a block from off on that a tile covers, or that none does; the
// block's size where there is none.
func nextRun(b *mosaic.Block, pixelBytes, off int64, covered bool) int64 {
	rowBytes := int64(b.Window.Width) * pixelBytes
	for _, band := range grid.Mosaic(b.Window, b.Rects) {
		for row := max(int64(band.Row0-b.Window.Row), off/rowBytes); row < int64(band.Row1-b.Window.Row); row++ {
			for _, s := range band.Spans {
				end := row*rowBytes + int64(s.Col1-b.Window.Col)*pixelBytes
				if end > off && (s.Tile >= 0) == covered {
					return max(off, row*rowBytes+int64(s.Col0-b.Window.Col)*pixelBytes)
				}
			}
		}
	}
	return int64(b.Window.Height) * rowBytes
}

// scalesChunk is float32 (row, column). It has no holes: where no tile lies it reads NaN, and a
// hole reads zero.
type scalesChunk struct{ chunk }

var (
	_ vfs.File    = (*scalesChunk)(nil)
	_ vfs.Checker = (*scalesChunk)(nil)
	_ vfs.Xattrs  = (*scalesChunk)(nil)
)

func (c *scalesChunk) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return c.read(ctx, p, off, c.pixels.Scales)
}
