package layout

import (
	"context"
	"fmt"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/synth/zarr"
	"github.com/tesserafs/tesserafs/vfs"
)

// ChunkOrder is the order of bytes in the inner chunks of a consolidated store's embeddings.
type ChunkOrder int

const (
	PixelOrder ChunkOrder = iota // (time, y, x, band), as in tiles; clients transpose
	BandOrder                    // (time, band, y, x), as a zstd frame of raw blocks
)

// maxBandInnerChunk is the longest side of an inner chunk in band order.
const maxBandInnerChunk = 256

// The inner chunks of all bands are those of most bytes.
const _ = uint(mosaic.MaxBandBlock - grid.Bands*maxBandInnerChunk*maxBandInnerChunk)

// Check says why inner chunks cannot have that order with a side of so many pixels; nil if they can.
func (o ChunkOrder) Check(innerChunk int) error {
	if o == BandOrder && innerChunk > maxBandInnerChunk {
		return fmt.Errorf("inner chunks of %d px are too large for band order, in which each is made whole: use sides up to %d",
			innerChunk, maxBandInnerChunk)
	}
	return nil
}

// bandShard is a shard of int8 (time, band, y, x) whose inner chunks are zstd frames. It has no holes.
type bandShard struct{ shardFile }

var (
	_ vfs.File    = (*bandShard)(nil)
	_ vfs.Checker = (*bandShard)(nil)
	_ vfs.Xattrs  = (*bandShard)(nil)
)

func (f *bandShard) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return f.readInner(ctx, p, off, func(ctx context.Context, b *mosaic.Block, p []byte, off int64) error {
		return f.pixels.Bands(ctx, b, func(content []byte) { zarr.ZstdAt(p, off, content) })
	})
}
