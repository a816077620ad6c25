package mosaic

import (
	"context"
	"encoding/binary"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache"
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
		m.loadAhead(b)
	}
	v, err := m.view(ctx, b, r.pixels())
	if err != nil {
		return err
	}
	defer v.release()
	for _, band := range v.bands {
		for row := band.Row0; row < band.Row1; row++ {
			for _, span := range band.Spans {
				from, to := r.clip(row, span)
				if from == to {
					continue
				}
				if err := v.span(ctx, b, span.Tile, row, from, to, &r, p[from-off:to-off]); err != nil {
					return m.Journal.failed(objectError(b.Tiles[span.Tile].Embeddings, err))
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
	for _, band := range v.bands {
		for _, span := range band.Spans {
			if span.Tile < 0 {
				for row := band.Row0; row < band.Row1; row++ {
					if from, to := r.clip(row, span); from < to {
						fill(out[from-r.off:to-r.off], outside)
					}
				}
				continue
			}
			if err := v.spanScales(ctx, band, span, &r, out); err != nil {
				return m.Journal.failed(objectError(b.Tiles[span.Tile].Scales, err))
			}
		}
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

// spanScales writes a tile's part of a band of scales.
func (v *view) spanScales(ctx context.Context, band grid.Band, span grid.Span, r *byteRange, out []byte) error {
	l, rect := v.tiles[span.Tile], v.rects[span.Tile]
	return scaleRows(ctx, v.pins[span.Tile].scales, l.scales, l.width, band.Row0-rect.Row, band.Row1-rect.Row, func(row int, scales []byte) {
		from, to := r.clip(row+rect.Row, span)
		if from == to {
			return
		}
		col0 := r.col(from) - rect.Col
		col1 := col0 + int(to-from)/4
		dst := out[from-r.off : to-r.off]
		copy(dst, scales[4*col0:4*col1])
		l.valid.eachNoData(row, col0, col1, func(col int) {
			binary.LittleEndian.PutUint32(dst[4*(col-col0):], nan)
		})
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

// span answers the bytes [from, to) of one row, which belong to one tile or to none, into dst.
func (v *view) span(ctx context.Context, b *Block, tile, row int, from, to int64, r *byteRange, dst []byte) error {
	if tile < 0 {
		clear(dst)
		return nil
	}
	t := tileRow{
		loaded: v.tiles[tile], object: v.pins[tile].embeddings, row: row - v.rects[tile].Row,
		start: from - int64(r.col(from)-v.rects[tile].Col)*r.pixelBytes - from%r.pixelBytes,
	}
	switch {
	case r.pixelBytes != grid.Bands:
		return t.prefix(ctx, dst, from, to, r.pixelBytes)
	case b.AsStored:
		return t.object.ReadAt(ctx, dst, t.position(from))
	}
	col0, col1 := t.col(from), t.col(to-1)+1
	if t.valid.kind(t.row, col0, col1) == rowNone {
		clear(dst)
		return nil
	}
	if err := t.object.ReadAt(ctx, dst, t.position(from)); err != nil {
		return err
	}
	t.valid.eachNoData(t.row, col0, col1, func(col int) {
		px := t.offset(col)
		clear(dst[max(from, px)-from : min(to, px+grid.Bands)-from])
	})
	return nil
}

// tileRow is a row of a tile as it lies in a block: column 0 is at offset start of the block.
type tileRow struct {
	*loaded
	object *tilecache.Object
	row    int
	start  int64
}

func (t tileRow) col(off int64) int    { return int((off - t.start) / grid.Bands) }
func (t tileRow) offset(col int) int64 { return t.start + int64(col)*grid.Bands }

// position is where the byte at an offset of the block lies in the tile's embeddings.
func (t tileRow) position(off int64) int64 {
	return t.embeddings.offset + int64(t.row)*t.embeddings.rowBytes + off - t.start
}

// prefix answers with the first bands of each pixel. Here, and only here, a pixel of the block has
// fewer bytes than one of the tile.
func (t tileRow) prefix(ctx context.Context, dst []byte, from, to, bands int64) error {
	buf := strips.Get().(*[]byte)
	defer strips.Put(buf)
	step := int64(len(*buf)) / grid.Bands * bands
	for from < to {
		col, cut := (from-t.start)/bands, (from-t.start)%bands
		end := min(to, from-cut+step)
		n := (end - t.start + bands - 1) / bands // the column after the last
		pixels := (*buf)[:(n-col)*grid.Bands]
		if err := t.object.ReadAt(ctx, pixels, t.embeddings.offset+int64(t.row)*t.embeddings.rowBytes+col*grid.Bands); err != nil {
			return err
		}
		for ; from < end; pixels = pixels[grid.Bands:] {
			k := copy(dst[:end-from], pixels[cut:bands])
			dst, from, cut = dst[k:], from+int64(k), 0
		}
	}
	return nil
}
