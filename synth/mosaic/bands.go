package mosaic

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/tesserafs/tesserafs/grid"
)

// MaxBandBlock is how many bytes a block may have to be had in band order.
const MaxBandBlock = 8 << 20

// Bytes of the blocks in band order that are kept, of those that are being made, and of those in use, at
// most. What is garbage by then comes to as much again.
const (
	bandsKept   = 16 << 20
	bandsMaking = 2 * MaxBandBlock
	bandsInUse  = 2 * MaxBandBlock
)

// Bands calls use with a block's embeddings as int8 in C order (band, row, column). The bytes are shared:
// use must neither change nor keep them.
//
// A block is made whole: each of its bytes needs a pixel of its own. The blocks asked for last are kept,
// for readers ask for them piece by piece, and are looked after as everything else: one whose tiles are
// no longer what they were is made again, and the tiles' own reads say what is wrong.
func (m *Mosaic) Bands(ctx context.Context, b *Block, use func(data []byte)) error {
	size := int64(b.bands()) * int64(b.Window.Width) * int64(b.Window.Height)
	if size > MaxBandBlock {
		return fmt.Errorf("a block of %d bytes is too large for band order, which has room for %d", size, MaxBandBlock)
	}
	if err := m.bands.inUse.Acquire(ctx, size); err != nil {
		return err
	}
	defer m.bands.inUse.Release(size)
	data, err := m.bandBlock(ctx, b, size)
	if err == nil {
		use(data)
	}
	return err
}

// bandBlock returns a block of so many bytes in band order, kept or made.
func (m *Mosaic) bandBlock(ctx context.Context, b *Block, size int64) ([]byte, error) {
	key := bandKeyOf(b)
	if kept := m.keptBands(ctx, key, b); kept != nil {
		return kept, nil
	}
	name := fmt.Sprint(key)
	result := m.bands.making.DoChan(name, func() (data any, err error) {
		defer recoverAs(name, &err) // see tile
		if kept := m.keptBands(m.running, key, b); kept != nil {
			return kept, nil
		}
		return m.makeBands(m.running, key, b, size)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]byte), nil
	case <-ctx.Done():
		m.ahead.Go(func() { <-result })
		return nil, ctx.Err()
	}
}

// bandKey tells one block from all others of an archive: the window, and the first of the tiles with
// where it lies, which decide what else lies in the window.
type bandKey struct {
	tile         string
	rect, window grid.Rect
	bands        int
	asStored     bool
}

func bandKeyOf(b *Block) bandKey {
	key := bandKey{window: b.Window, bands: b.bands(), asStored: b.AsStored}
	if len(b.Tiles) > 0 {
		key.tile, key.rect = b.Tiles[0].Embeddings, b.Rects[0]
	}
	return key
}

// keptBlock is a block in band order, and the loaded tiles that it was made of.
type keptBlock struct {
	data  []byte
	tiles []*loaded
}

// bandCache holds blocks in band order.
type bandCache struct {
	making singleflight.Group
	room   *semaphore.Weighted // bytes of blocks that are being made
	inUse  *semaphore.Weighted // bytes of blocks that callers wait for or use

	mu    sync.Mutex // guards what follows
	kept  *simplelru.LRU[bandKey, keptBlock]
	bytes int64 // of kept
}

func newBandCache() (*bandCache, error) {
	c := &bandCache{room: semaphore.NewWeighted(bandsMaking), inUse: semaphore.NewWeighted(bandsInUse)}
	var err error
	// What bounds it is bytes; of the smallest blocks there are, 1 KiB, so many fit.
	c.kept, err = simplelru.NewLRU(bandsKept>>10, func(_ bandKey, b keptBlock) { c.bytes -= int64(len(b.data)) })
	return c, err
}

func (c *bandCache) get(key bandKey) (keptBlock, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept.Get(key)
}

func (c *bandCache) add(key bandKey, b keptBlock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept.Remove(key)
	c.bytes += int64(len(b.data))
	c.kept.Add(key, b)
	for c.bytes > bandsKept {
		c.kept.RemoveOldest()
	}
}

// keptBands returns a block that is kept and whose tiles are what they were; otherwise nil.
func (m *Mosaic) keptBands(ctx context.Context, key bandKey, b *Block) []byte {
	kept, ok := m.bands.get(key)
	// Check says nothing of tiles that were loaded anew: they may have changed before that.
	if !ok || !slices.Equal(kept.tiles, m.loadedTiles(b)) || m.Check(ctx, b) != nil {
		return nil
	}
	return kept.data
}

// loadedTiles are those of a block's tiles that are loaded; nil in the place of others.
func (m *Mosaic) loadedTiles(b *Block) []*loaded {
	tiles := make([]*loaded, len(b.Tiles))
	for i, t := range b.Tiles {
		tiles[i], _ = m.tiles.Get(t.Embeddings)
	}
	return tiles
}

// makeBands makes a block of so many bytes: it reads strips of whole rows, and turns each.
func (m *Mosaic) makeBands(ctx context.Context, key bandKey, b *Block, size int64) ([]byte, error) {
	bands, width, height := b.bands(), b.Window.Width, b.Window.Height
	if err := m.bands.room.Acquire(ctx, size); err != nil {
		return nil, err
	}
	defer m.bands.room.Release(size)
	data := make([]byte, size)
	rowBytes := width * bands
	rows := min(height, max(1, bandStripBytes/rowBytes))
	buf := bandStrips.Get().(*[]byte)
	defer bandStrips.Put(buf)
	*buf = slices.Grow((*buf)[:0], rows*rowBytes)
	for row := 0; row < height; row += rows {
		strip := (*buf)[:min(rows, height-row)*rowBytes]
		if err := m.Embeddings(ctx, b, strip, int64(row*rowBytes)); err != nil {
			return nil, err
		}
		toBands(data[row*width:], width*height, strip, bands)
	}
	m.bands.add(key, keptBlock{data, m.loadedTiles(b)})
	return data, nil
}

// A strip is what is read at once for band order: small enough for a processor's second cache.
const bandStripBytes = 256 << 10

var bandStrips = sync.Pool{New: func() any { return new([]byte) }}

// toBands turns pixels of so many bands each: band i of pixel j goes to dst[i*stride+j].
func toBands(dst []byte, stride int, pixels []byte, bands int) {
	n := len(pixels) / bands
	// 64 pixels at a time: 8 bands of them are 8 lines of a processor's cache, written whole. stride is
	// often a power of two, and then hardly more lines than 8 that lie so far apart fit in there.
	for start := 0; start < n; start += 64 {
		band := 0
		if n-start >= 64 {
			for ; band+8 <= bands; band += 8 {
				turn8(dst[band*stride+start:], stride, pixels[start*bands+band:], bands)
			}
			for ; band+4 <= bands; band += 4 {
				turn4(dst[band*stride+start:], stride, pixels[start*bands+band:], bands)
			}
		}
		for ; band < bands; band++ {
			for p := start; p < min(n, start+64); p++ {
				dst[band*stride+p] = pixels[p*bands+band]
			}
		}
	}
}

// turn8 writes 8 bands of 64 pixels. Bands lie so many bytes apart in dst, and pixels in src.
func turn8(dst []byte, stride int, src []byte, bands int) {
	const low = 1<<32 - 1
	for p := 0; p < 64; p += 8 {
		at := p * bands
		load := func(i int) uint64 {
			at := at + i*bands
			return binary.LittleEndian.Uint64(src[at : at+8 : at+8])
		}
		a0, a4 := load(0), load(4)
		a1, a5 := load(1), load(5)
		a2, a6 := load(2), load(6)
		a3, a7 := load(3), load(7)
		r0, r1, r2, r3 := turn(a0&low|a4<<32, a1&low|a5<<32, a2&low|a6<<32, a3&low|a7<<32)
		store4(dst[p:], stride, r0, r1, r2, r3)
		r0, r1, r2, r3 = turn(a0>>32|a4&^low, a1>>32|a5&^low, a2>>32|a6&^low, a3>>32|a7&^low)
		store4(dst[p+4*stride:], stride, r0, r1, r2, r3)
	}
}

// turn4 is turn8 of 4 bands.
func turn4(dst []byte, stride int, src []byte, bands int) {
	for p := 0; p < 64; p += 8 {
		at := p * bands
		load := func(i int) uint64 {
			at := at + i*bands
			return uint64(binary.LittleEndian.Uint32(src[at : at+4 : at+4]))
		}
		r0, r1, r2, r3 := turn(load(0)|load(4)<<32, load(1)|load(5)<<32, load(2)|load(6)<<32, load(3)|load(7)<<32)
		store4(dst[p:], stride, r0, r1, r2, r3)
	}
}

func store4(dst []byte, stride int, a, b, c, d uint64) {
	binary.LittleEndian.PutUint64(dst[0:8:8], a)
	binary.LittleEndian.PutUint64(dst[stride:stride+8:stride+8], b)
	binary.LittleEndian.PutUint64(dst[2*stride:2*stride+8:2*stride+8], c)
	binary.LittleEndian.PutUint64(dst[3*stride:3*stride+8:3*stride+8], d)
}

// turn makes rows of 8 bytes of columns. Argument i has 4 bytes of row i, and then those of row i+4.
func turn(a, b, c, d uint64) (w, x, y, z uint64) {
	// Squares of 2 × 2 change places across the diagonal, and then bytes in each.
	const two, one = 0x0000ffff0000ffff, 0x00ff00ff00ff00ff
	t := (a>>16 ^ c) & two
	a, c = a^t<<16, c^t
	t = (b>>16 ^ d) & two
	b, d = b^t<<16, d^t
	t = (a>>8 ^ b) & one
	a, b = a^t<<8, b^t
	t = (c>>8 ^ d) & one
	c, d = c^t<<8, d^t
	return a, b, c, d
}
