package mosaic

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

// The float32 NaN that NumPy and Zarr write, and +Inf.
const (
	nan      = 0x7fc00000
	infinity = 0x7f800000
)

// Embeddings fills p from offset off of a block's embeddings: int8 in C order (row, column, band),
// of the bands the block shows. The range must lie inside the block.
func (m *Mosaic) Embeddings(ctx context.Context, b *Block, p []byte, off int64) error {
	r := byteRange{off: off, end: off + int64(len(p)), pixelBytes: int64(b.bands()), window: b.Window}
	if off == 0 {
		m.loadAhead(b.Tiles)
	}
	v, err := m.view(ctx, b, r.pixels())
	if err != nil {
		return err
	}
	defer v.release()
	if !b.AsStored && 0 < off && off <= readOn && readOn < r.end {
		m.expectRest(b)
	}
	parts := v.parts(&r, func(from, to int64) { clear(p[from-off : to-off]) })
	defer parts.free()
	err = v.together(len(parts.tiles), func(i int) error {
		tile := parts.tiles[i]
		name := b.Tiles[tile].Embeddings
		v.expectScales(tile, b.Scales)
		if r.pixelBytes != grid.Bands {
			return objectError(name, v.prefix(ctx, tile, parts.pieces[i], p, off, b.bands()))
		}
		return objectError(name, v.embeddings(ctx, tile, parts.pieces[i], p, off, !b.AsStored))
	})
	if err != nil {
		return m.Journal.failed(err)
	}
	if err := v.check(ctx); err != nil {
		return m.Journal.failed(err)
	}
	m.Stats.Reads.Add(1)
	m.Stats.Bytes.Add(int64(len(p)))
	return nil
}

// Scales fills p from offset off of a block's scales: little-endian float32 in C order. The range
// must lie inside the block.
func (m *Mosaic) Scales(ctx context.Context, b *Block, p []byte, off int64) error {
	const size = 4
	r := byteRange{off: off, end: off + int64(len(p)), pixelBytes: size, window: b.Window}
	// Ranges that cut a value in two are answered from whole values.
	out, lead := p, off%size
	if lead != 0 || r.end%size != 0 {
		r.off, r.end = off-lead, (r.end+size-1)/size*size
		out = make([]byte, r.end-r.off)
	}
	v, err := m.view(ctx, b, r.pixels())
	if err != nil {
		return err
	}
	defer v.release()
	outside := uint32(nan)
	if b.AsStored {
		outside = infinity
	}
	parts := v.parts(&r, func(from, to int64) { fill(out[from-r.off:to-r.off], outside) })
	defer parts.free()
	err = v.together(len(parts.tiles), func(i int) error {
		tile := parts.tiles[i]
		return objectError(b.Tiles[tile].Scales, v.scales(ctx, tile, parts.pieces[i], out, r.off))
	})
	if err != nil {
		return m.Journal.failed(err)
	}
	if err := v.check(ctx); err != nil {
		return m.Journal.failed(err)
	}
	if len(out) != len(p) {
		copy(p, out[lead:])
	}
	m.Stats.Reads.Add(1)
	m.Stats.Bytes.Add(int64(len(p)))
	return nil
}

// scales writes a tile's part of a reply, which begins at an offset of the block.
func (v *view) scales(ctx context.Context, tile int, pieces []piece, out []byte, off int64) error {
	l, object := v.tiles[tile], v.pins[tile].scales
	row0, row1 := pieces[0].row, pieces[len(pieces)-1].row+1
	if err := l.learn(ctx, object, row0, row1); err != nil {
		return err
	}
	return scaleRows(ctx, object, l.scales, l.width, row0, row1, func(row int, scales []byte) {
		// A tile has at most two pieces of a row: one on each side of a tile that lies over it.
		for ; len(pieces) > 0 && pieces[0].row == row; pieces = pieces[1:] {
			p := pieces[0]
			dst := out[p.from-off : p.to-off]
			copy(dst, scales[4*p.col:])
			l.valid.eachNoData(row, p.col, p.col+len(dst)/4, func(col int) {
				binary.LittleEndian.PutUint32(dst[4*(col-p.col):], nan)
			})
		}
	})
}

func fill(p []byte, scale uint32) {
	for ; len(p) >= 4; p = p[4:] {
		binary.LittleEndian.PutUint32(p, scale)
	}
}

// byteRange is a range of a block's bytes, and the arithmetic between bytes and pixels.
type byteRange struct {
	off, end   int64
	pixelBytes int64
	window     grid.Rect
}

// pixels is the smallest window of whole rows that holds the range; where it lies in one row, the
// columns are narrowed too, so that a read of one pixel needs one tile.
func (r *byteRange) pixels() grid.Rect {
	rowBytes := int64(r.window.Width) * r.pixelBytes
	row0, row1 := r.off/rowBytes, (r.end+rowBytes-1)/rowBytes
	w := grid.Rect{Row: r.window.Row + int(row0), Col: r.window.Col, Height: int(row1 - row0), Width: r.window.Width}
	if row1-row0 == 1 {
		col0 := (r.off - row0*rowBytes) / r.pixelBytes
		col1 := (r.end - row0*rowBytes + r.pixelBytes - 1) / r.pixelBytes
		w.Col, w.Width = w.Col+int(col0), int(col1-col0)
	}
	return w
}

// clip returns the part of a span of a row that lies in the range, as offsets in the block;
// from == to when there is none.
func (r *byteRange) clip(row int, s grid.Span) (from, to int64) {
	start := int64(row-r.window.Row) * int64(r.window.Width)
	from = max(r.off, (start+int64(s.Col0-r.window.Col))*r.pixelBytes)
	to = min(r.end, (start+int64(s.Col1-r.window.Col))*r.pixelBytes)
	return from, max(from, to)
}

// col is the column of the grid that the byte at an offset belongs to.
func (r *byteRange) col(off int64) int {
	return r.window.Col + int(off/r.pixelBytes%int64(r.window.Width))
}

// embeddings writes a tile's part of a reply, which begins at an offset of the block: the tile's bytes,
// and zeros where a pixel is no data if that is asked for.
func (v *view) embeddings(ctx context.Context, tile int, pieces []piece, out []byte, off int64, zeroed bool) error {
	l, pins := v.tiles[tile], &v.pins[tile]
	row0, row1 := pieces[0].row, pieces[len(pieces)-1].row+1
	known := zeroed && l.valid.knows(row0, row1)
	ranges := rangesPool.Get().(*[]source.Range)
	defer rangesPool.Put(ranges)
	*ranges = (*ranges)[:0]
	for _, p := range pieces {
		dst := out[p.from-off : p.to-off]
		if known && l.valid.kind(p.row, p.col, p.col+p.pixels(grid.Bands)) == rowNone {
			clear(dst)
			continue
		}
		*ranges = append(*ranges, source.Range{Off: l.embeddings.at(p.row, p.col) + p.from%grid.Bands, P: dst})
	}
	read := func() error { return pins.embeddings.ReadRanges(ctx, *ranges) }
	if !zeroed {
		return read()
	}
	var err error
	if known {
		err = read()
	} else {
		// Of a distant source both take one round trip.
		err = v.together(2, func(i int) error {
			if i == 0 {
				return read()
			}
			return objectError(l.names.Scales, l.learn(ctx, pins.scales, row0, row1))
		})
	}
	if err != nil {
		return err
	}
	for _, p := range pieces {
		first := p.from - p.from%grid.Bands
		l.valid.eachNoData(p.row, p.col, p.col+p.pixels(grid.Bands), func(col int) {
			px := first + int64(col-p.col)*grid.Bands
			clear(out[max(p.from, px)-off : min(p.to, px+grid.Bands)-off])
		})
	}
	return nil
}

// expectScales has those scales of a tile fetched that lie in a window, in whole strips, as learn reads them.
func (v *view) expectScales(tile int, window grid.Rect) {
	v.tiles[tile].expectScales(v.pins[tile].scales, v.rects[tile], window)
}

func (l *loaded) expectScales(o *tilecache.Object, rect, window grid.Rect) {
	rows := rect.Intersect(window)
	if rows.Empty() {
		return
	}
	row0 := (rows.Row - rect.Row) / stripRows * stripRows
	row1 := min(l.height, (rows.Bottom()-rect.Row+stripRows-1)/stripRows*stripRows)
	o.Expect(l.scales.offset+int64(row0)*l.scales.rowBytes, int64(row1-row0)*l.scales.rowBytes)
}

const (
	// readOn is how far a reader of a chunk comes who reads it whole: beyond what he asks for first.
	readOn = 1 << 20

	// restBytes is how much of a tile's embeddings is fetched before a reader comes to it: what comes in a round
	// trip or so. From there on it is read ahead.
	restBytes = 8 << 20
)

// expectRest has that fetched of the tiles of a block, as far as they are loaded, which a reader comes to who reads it whole: all
// of their scales, and the first rows of their embeddings. He would wait for each of them in turn. It is for blocks in
// rows, of a distant source.
func (m *Mosaic) expectRest(b *Block) {
	if !m.objects.Distant() {
		return
	}
	m.ahead.Go(func() {
		for _, i := range owners(grid.Mosaic(b.Window, b.Rects), len(b.Tiles)) {
			t, rect := b.Tiles[i], b.Rects[i]
			l, ok := m.tiles.Get(t.Embeddings)
			if !ok {
				continue
			}
			p, err := m.pin(m.running, t, l)
			if err != nil {
				continue // The read that comes there meets it again, and tells.
			}
			rows := rect.Intersect(b.Window)
			l.expectScales(p.scales, rect, b.Window)
			p.embeddings.Expect(l.embeddings.at(rows.Row-rect.Row, 0), min(int64(rows.Height)*l.embeddings.rowBytes, restBytes))
			p.release()
		}
	})
}

// prefix writes a tile's part of a reply of the first bands of each pixel. Here, and only here, a pixel
// of the block has fewer bytes than one of the tile.
func (v *view) prefix(ctx context.Context, tile int, pieces []piece, out []byte, off int64, bands int) error {
	l, object := v.tiles[tile], v.pins[tile].embeddings
	buf := strips.Get().(*[]byte)
	defer strips.Put(buf)
	ranges := rangesPool.Get().(*[]source.Range)
	defer rangesPool.Put(ranges)
	for len(pieces) > 0 {
		*ranges = (*ranges)[:0]
		n, used := 0, 0
		for ; n < len(pieces); n++ {
			need := grid.Bands * pieces[n].pixels(bands)
			if used+need > len(*buf) {
				if n > 0 {
					break
				}
				*buf = make([]byte, need) // one row; the object was found to hold it
			}
			*ranges = append(*ranges, source.Range{Off: l.embeddings.at(pieces[n].row, pieces[n].col), P: (*buf)[used : used+need]})
			used += need
		}
		if err := object.ReadRanges(ctx, *ranges); err != nil {
			return err
		}
		for i, p := range pieces[:n] {
			dst, cut := out[p.from-off:p.to-off], int(p.from)%bands
			for pixels := (*ranges)[i].P; len(dst) > 0; pixels = pixels[grid.Bands:] {
				dst = dst[copy(dst, pixels[cut:bands]):]
				cut = 0
			}
		}
		pieces = pieces[n:]
	}
	return nil
}

// rangesPool keeps lists of ranges.
var rangesPool = sync.Pool{New: func() any { return new([]source.Range) }}
