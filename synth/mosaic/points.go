package mosaic

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/landmask"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/vfs"
)

// Found says what is known of a pixel.
type Found uint8

const (
	Absent Found = iota // the tile does not show it: under Fill, what cannot be read of it
	NoData              // its scale does not count, or it is water
	Data
)

// Values are pixels by number: embeddings of 128 bytes each, scales, and what was found. Where it
// was not [Data], the others are left as they are.
type Values struct {
	Embeddings []int8
	Scales     []float32
	Found      []Found
}

// Pixel is a pixel of a tile, counted from the corner of its footprint, and which of the Values it
// is.
type Pixel struct{ Row, Col, Number int32 }

// Points reads single pixels of tiles, by the rules of the package doc and of zone-year stores, and
// no more of a tile than that takes: headers and landmask once, then 4 bytes a pixel, and 128 where
// it is data. A window's tiles are loaded whole instead, which costs 4 bytes for every pixel they
// have. Its methods may be called by many goroutines at once.
type Points struct {
	mosaic *Mosaic

	mu       sync.Mutex // guards what follows
	outlines *simplelru.LRU[string, *outline]
	bytes    int
}

// outlineBytes bounds the outlines that a Points keeps. One takes up to 155 kB where there is water,
// a few hundred bytes where there is none.
const outlineBytes = 64 << 20

// NewPoints reads points of the tiles of m.
func NewPoints(m *Mosaic) *Points {
	outlines, err := simplelru.NewLRU[string, *outline](math.MaxInt, nil)
	if err != nil {
		panic(err) // It has no other error than a size of 0 or less.
	}
	return &Points{mosaic: m, outlines: outlines}
}

// Read looks up pixels of a tile. In order of rows and columns they take the fewest reads. A tile
// that cannot be read fails as it does in a window: with vfs.ErrDamaged or vfs.ErrChanged, or under
// Fill its pixels are [Absent].
func (p *Points) Read(ctx context.Context, t Tile, at []Pixel, into Values) error {
	err := p.read(ctx, t, at, into)
	if err == nil {
		return nil
	}
	err = p.mosaic.Journal.failed(err)
	if p.mosaic.policy != Fill || !errors.Is(err, vfs.ErrDamaged) && !errors.Is(err, vfs.ErrTimeout) {
		return err
	}
	for _, px := range at {
		into.Found[px.Number] = Absent
	}
	return nil
}

func (p *Points) read(ctx context.Context, t Tile, at []Pixel, into Values) (err error) {
	defer recoverAs(t.Embeddings, &err)
	o, err := p.outline(ctx, t)
	if err != nil {
		return err
	}
	if o.fault != nil {
		if p.mosaic.policy != Fill {
			return o.fault
		}
		p.mosaic.Journal.failed(o.fault) // what is right of it is shown
	}
	pins, err := p.mosaic.pin(ctx, t, &o.loaded)
	if err != nil {
		return err
	}
	defer pins.release()

	inside := make([]Pixel, 0, len(at))
	for _, px := range at {
		into.Found[px.Number] = Absent
		if px.Row >= 0 && int(px.Row) < o.height && px.Col >= 0 && int(px.Col) < o.width {
			into.Found[px.Number] = NoData
			if o.isLand(px) {
				inside = append(inside, px)
			}
		}
	}
	data := inside[:0]
	err = eachPixel(ctx, pins.scales, o.scales, 4*o.scales.bands, inside, func(px Pixel, value []byte) {
		if o.scales.bands > 1 {
			reduceBands(value[:4], value, o.scales.bands)
		}
		if scale := binary.LittleEndian.Uint32(value); isData(scale) != 0 {
			into.Found[px.Number] = Data
			into.Scales[px.Number] = math.Float32frombits(scale)
			data = append(data, px)
		}
	})
	if err != nil {
		return objectError(t.Scales, err)
	}
	err = eachPixel(ctx, pins.embeddings, o.embeddings, grid.Bands, data, func(px Pixel, value []byte) {
		for i, v := range value {
			into.Embeddings[grid.Bands*int(px.Number)+i] = int8(v)
		}
	})
	if err != nil {
		return objectError(t.Embeddings, err)
	}
	return pins.check(ctx)
}

// nearBytes is the widest gap that is read along with the values on both sides of it.
const nearBytes = 4 << 10

// eachPixel reads the values of pixels, of so many bytes each, near ones in one go.
func eachPixel(ctx context.Context, o *tilecache.Object, p plane, size int, pixels []Pixel, use func(Pixel, []byte)) error {
	buf := strips.Get().(*[]byte)
	defer strips.Put(buf)
	if size > len(*buf) {
		*buf = make([]byte, size) // one pixel of 3-D scales; the object was found to hold it
	}
	position := func(px Pixel) int64 {
		return p.offset + int64(px.Row)*p.rowBytes + int64(px.Col)*int64(size)
	}
	for len(pixels) > 0 {
		begin := position(pixels[0])
		end, n := begin+int64(size), 1
		for ; n < len(pixels); n++ {
			next := position(pixels[n])
			if next < begin || next > end+nearBytes || next+int64(size) > begin+int64(len(*buf)) {
				break
			}
			end = max(end, next+int64(size))
		}
		run := (*buf)[:end-begin]
		if err := o.ReadAt(ctx, run, begin); err != nil {
			return err
		}
		for _, px := range pixels[:n] {
			at := position(px) - begin
			use(px, run[at:at+int64(size)])
		}
		pixels = pixels[n:]
	}
	return nil
}

// outline is a tile whose headers were read and found right, and where in it there is land. Its
// scales are not known; the bitmap of loaded is not used.
type outline struct {
	loaded
	land []uint64 // one bit a pixel; nil: all land
}

func (o *outline) isLand(px Pixel) bool {
	if o.land == nil {
		return true
	}
	i := int(px.Row)*o.width + int(px.Col)
	return o.land[i/64]>>(i%64)&1 != 0
}

func (o *outline) bytes() int { return 512 + 8*len(o.land) }

// outline returns what must be known of a tile, and keeps it. Two callers at once may both read it.
func (p *Points) outline(ctx context.Context, t Tile) (*outline, error) {
	p.mu.Lock()
	o, ok := p.outlines.Get(t.Embeddings)
	p.mu.Unlock()
	if ok {
		return o, nil
	}
	l, mask, err := p.mosaic.headers(ctx, t)
	if err != nil {
		return nil, err
	}
	o = &outline{*l, landBits(mask)}
	p.mosaic.Stats.TilesLoaded.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.outlines.Peek(t.Embeddings); !ok {
		p.outlines.Add(t.Embeddings, o)
		for p.bytes += o.bytes(); p.bytes > outlineBytes; {
			_, oldest, _ := p.outlines.RemoveOldest()
			p.bytes -= oldest.bytes()
		}
	}
	return o, nil
}

// landBits packs a mask; nil where all of it is land.
func landBits(mask *landmask.Mask) []uint64 {
	if mask == nil || bytes.IndexByte(mask.Pix, 0) < 0 {
		return nil
	}
	packed := make([]uint64, 0, (len(mask.Pix)+63)/64)
	for pixels := range slices.Chunk(mask.Pix, 64) {
		var word uint64
		for i, v := range pixels {
			if v != 0 {
				word |= 1 << i
			}
		}
		packed = append(packed, word)
	}
	return packed
}
