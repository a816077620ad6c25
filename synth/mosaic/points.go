package mosaic

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/source"
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

// Points looks up pixels of a tile, by the rules of the package doc and of zone-year stores, and reads
// no more of it than that takes: headers and landmask once, then 4 bytes a pixel, and 128 where it is
// data. In order of rows and columns they take the fewest reads. A tile that cannot be read fails as
// it does in a window: with vfs.ErrDamaged or vfs.ErrChanged, or under Fill its pixels are [Absent].
func (m *Mosaic) Points(ctx context.Context, t Tile, at []Pixel, into Values) error {
	err := m.points(ctx, t, at, into)
	if err == nil {
		return nil
	}
	err = m.Journal.failed(err)
	if !m.fills(err) {
		return err
	}
	for _, px := range at {
		into.Found[px.Number] = Absent
	}
	return nil
}

func (m *Mosaic) points(ctx context.Context, t Tile, at []Pixel, into Values) (err error) {
	defer recoverAs(t.Embeddings, &err)
	l, err := m.tile(ctx, t)
	if err != nil {
		return err
	}
	if l.fault != nil {
		if m.policy != Fill {
			return l.fault
		}
		m.Journal.failed(l.fault) // what is right of it is shown
	}
	pins, err := m.pin(ctx, t, l)
	if err != nil {
		return err
	}
	defer pins.release()

	inside := make([]Pixel, 0, len(at))
	for _, px := range at {
		into.Found[px.Number] = Absent
		if px.Row >= 0 && int(px.Row) < l.height && px.Col >= 0 && int(px.Col) < l.width {
			into.Found[px.Number] = NoData
			if l.land.has(int(px.Row), int(px.Col)) {
				inside = append(inside, px)
			}
		}
	}
	data := inside[:0]
	err = eachPixel(ctx, pins.scales, l.scales, 4*l.scales.bands, inside, func(px Pixel, value []byte) {
		if l.scales.bands > 1 {
			reduceBands(value[:4], value, l.scales.bands)
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
	err = eachPixel(ctx, pins.embeddings, l.embeddings, grid.Bands, data, func(px Pixel, value []byte) {
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

// eachPixel reads the values of pixels, of so many bytes each, as many in one go as a strip has room
// for, near ones as one range.
func eachPixel(ctx context.Context, o *tilecache.Object, p plane, size int, pixels []Pixel, use func(Pixel, []byte)) error {
	buf := strips.Get().(*[]byte)
	defer strips.Put(buf)
	if size > len(*buf) {
		*buf = make([]byte, size) // one pixel of 3-D scales; the object was found to hold it
	}
	position := func(px Pixel) int64 {
		return p.offset + int64(px.Row)*p.rowBytes + int64(px.Col)*int64(size)
	}
	var ranges []source.Range
	places := make([]int, 0, len(pixels)) // of the values in buf
	for len(pixels) > 0 {
		ranges, places = ranges[:0], places[:0]
		used := 0 // of buf; the last range ends there
		for _, px := range pixels {
			at, begin := position(px), used
			joined := false
			if k := len(ranges) - 1; k >= 0 {
				last := &ranges[k]
				joined = at >= last.Off && at <= last.Off+int64(len(last.P))+nearBytes
				if joined {
					begin = used - len(last.P) + int(at-last.Off)
				}
			}
			if begin+size > len(*buf) {
				break
			}
			if joined {
				last := &ranges[len(ranges)-1]
				first := used - len(last.P)
				used = max(used, begin+size)
				last.P = (*buf)[first:used]
			} else {
				used += size
				ranges = append(ranges, source.Range{Off: at, P: (*buf)[begin:used]})
			}
			places = append(places, begin)
		}
		if err := o.ReadRanges(ctx, ranges); err != nil {
			return err
		}
		for i, at := range places {
			use(pixels[i], (*buf)[at:at+size])
		}
		pixels = pixels[len(places):]
	}
	return nil
}
