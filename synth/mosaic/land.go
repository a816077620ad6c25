package mosaic

import (
	"context"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/landmask"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/vfs"
)

// Landmasks reads the landmasks of a window as pixels. A tile that is loaded keeps of its mask only
// which pixels are data; here the file is decoded again (5 ms), and the masks used last are kept, so
// that the chunks of a tile do not each decode it. Its methods may be called by many goroutines at
// once.
type Landmasks struct {
	mosaic *Mosaic
	masks  *lru.Cache[string, landmaskAt] // by the name of the object
}

// landmaskAt is a mask, and the state of the object it was decoded from.
type landmaskAt struct {
	info source.Info
	mask *landmask.Mask
}

// NewLandmasks reads the landmasks of the tiles of m.
func NewLandmasks(m *Mosaic) (*Landmasks, error) {
	masks, err := lru.New[string, landmaskAt](8) // each about 1 MB, at most landmask.MaxPixels
	if err != nil {
		return nil, fmt.Errorf("landmasks: %w", err)
	}
	return &Landmasks{mosaic: m, masks: masks}, nil
}

// Read fills p from offset off of a block's landmask: uint8 in C order, the numbers as they stand in
// the file, of which 0 is water. A tile without a landmask is 1 throughout, all land, and so is one
// whose landmask does not fit it, which only [Fill] serves. Where no tile lies it is 0. The range
// must lie inside the block. A landmask that is damaged fails the read, like all that is damaged of a
// tile.
func (l *Landmasks) Read(ctx context.Context, b *Block, p []byte, off int64) error {
	m := l.mosaic
	r := byteRange{off: off, end: off + int64(len(p)), pixelBytes: 1, window: b.Window}
	v, err := m.view(ctx, b, r.pixels())
	if err != nil {
		return err
	}
	defer v.release()
	for _, band := range v.bands {
		for _, span := range band.Spans {
			var mask *landmask.Mask
			var rect grid.Rect
			if span.Tile >= 0 {
				rect = v.rects[span.Tile]
				if mask, err = l.mask(ctx, b.Tiles[span.Tile], v.tiles[span.Tile]); err != nil {
					return m.Journal.failed(objectError(b.Tiles[span.Tile].Landmask, err))
				}
			}
			for row := band.Row0; row < band.Row1; row++ {
				from, to := r.clip(row, span)
				if from == to {
					continue
				}
				dst := p[from-r.off : to-r.off]
				switch {
				case span.Tile < 0:
					clear(dst)
				case mask == nil:
					for i := range dst {
						dst[i] = 1
					}
				default:
					copy(dst, mask.Row(row - rect.Row)[r.col(from)-rect.Col:])
				}
			}
		}
	}
	if err := v.check(ctx); err != nil {
		return m.Journal.failed(err)
	}
	m.Stats.Reads.Add(1)
	m.Stats.Bytes.Add(int64(len(p)))
	return nil
}

// mask returns the landmask of a loaded tile, nil for all land. Callers that miss it share one
// decoding; one whose context ends leaves.
func (l *Landmasks) mask(ctx context.Context, t Tile, tile *loaded) (*landmask.Mask, error) {
	if tile.landmask == nil {
		return nil, nil
	}
	if kept, ok := l.masks.Get(t.Landmask); ok && same(kept.info, *tile.landmask) {
		return kept.mask, nil
	}
	// The names of landmasks and of embeddings, by which tiles are loaded, are never the same.
	result := l.mosaic.loading.DoChan(t.Landmask, func() (v any, err error) {
		defer recoverAs(t.Landmask, &err)
		again := loaded{height: tile.height, width: tile.width, fault: tile.fault}
		mask, err := l.mosaic.landmask(l.mosaic.running, t, &again)
		if err != nil {
			return nil, err
		}
		if again.landmask == nil || !same(*again.landmask, *tile.landmask) {
			return nil, vfs.ErrChanged // since the tile was loaded
		}
		l.masks.Add(t.Landmask, landmaskAt{*again.landmask, mask})
		return mask, nil
	})
	select {
	case done := <-result:
		if done.Err != nil {
			return nil, done.Err
		}
		return done.Val.(*landmask.Mask), nil
	case <-ctx.Done():
		l.mosaic.ahead.Go(func() { <-result })
		return nil, ctx.Err()
	}
}

// same tells whether two states are of one version of an object.
func same(a, b source.Info) bool {
	return a.Size == b.Size && a.ModTime.Equal(b.ModTime) && a.ETag == b.ETag
}
