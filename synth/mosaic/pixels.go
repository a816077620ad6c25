package mosaic

import (
	"context"
	"encoding/binary"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/vfs"
)

// minPiece is the shortest run worth a segment of its own: below a page, copying is cheaper.
const minPiece = 4 << 10

// zeros is what runs without data refer to. Nobody writes to it.
var zeros = make([]byte, 128<<10)

// The float32 NaN that NumPy and Zarr write, and +Inf.
const (
	nan      = 0x7fc00000
	infinity = 0x7f800000
)

// Embeddings answers a read of len(scratch) bytes at offset off of a block's embeddings: int8 in C
// order (row, column, band), of the bands the block shows. The range must lie inside the block. With refer, pieces may be mapped
// tiles, to be handed to a system call; without, all bytes are in scratch.
func (m *Mosaic) Embeddings(ctx context.Context, b *Block, scratch []byte, off int64, refer bool) (vfs.Vec, error) {
	r := byteRange{off: off, end: off + int64(len(scratch)), pixelBytes: int64(b.bands()), window: b.Window}
	if off == 0 {
		m.loadAhead(b)
	}
	v, err := m.view(ctx, b, r.pixels())
	if err != nil {
		return vfs.Vec{}, err
	}
	w := writer{scratch: scratch, refer: refer, asStored: b.AsStored}
	for _, band := range v.bands {
		for row := band.Row0; row < band.Row1; row++ {
			for _, span := range band.Spans {
				from, to := r.clip(row, span)
				if from == to {
					continue
				}
				if err := w.span(ctx, v, span.Tile, row, from, to, &r); err != nil {
					v.release()
					return vfs.Vec{}, m.Journal.failed(objectError(b.Tiles[span.Tile].Embeddings, err))
				}
			}
		}
	}
	if err := v.check(ctx); err != nil {
		v.release()
		return vfs.Vec{}, m.Journal.failed(err)
	}
	m.Stats.Reads.Add(1)
	m.Stats.Bytes.Add(int64(len(scratch)))
	m.Stats.ReferredBytes.Add(w.referred)
	return vfs.Vec{Pieces: w.pieces, Release: v.release}, nil
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

// writer puts an answer together, piece by piece from its beginning.
type writer struct {
	scratch  []byte
	refer    bool
	asStored bool // Block.AsStored
	at       int  // bytes answered so far
	pieces   [][]byte
	copyEnd  int // where in scratch the last piece ends, if it lies there; else 0
	referred int64
}

// span answers the bytes [from, to) of one row, which belong to one tile or to none. Long runs of
// data and of nodata get pieces of their own; what lies between them is copied in one go.
func (w *writer) span(ctx context.Context, v *view, tile, row int, from, to int64, r *byteRange) error {
	if tile < 0 {
		w.zero(int(to - from))
		return nil
	}
	t := tileRow{
		loaded: v.tiles[tile], object: v.pins[tile].embeddings, row: row - v.rects[tile].Row,
		start: from - int64(r.col(from)-v.rects[tile].Col)*r.pixelBytes - from%r.pixelBytes,
	}
	switch {
	case r.pixelBytes != grid.Bands:
		return w.prefix(ctx, t, from, to, r.pixelBytes)
	case w.asStored:
		return w.data(ctx, t, from, to)
	}
	col0, col1 := t.col(from), t.col(to-1)+1
	switch t.loaded.valid.kind(t.row, col0, col1) {
	case rowAll:
		return w.data(ctx, t, from, to)
	case rowNone:
		w.zero(int(to - from))
		return nil
	}
	pending := from // what is not answered yet
	for col := col0; col < col1; {
		end, data := t.loaded.valid.run(t.row, col, col1)
		begin, finish := max(from, t.offset(col)), min(to, t.offset(end))
		if w.mayRefer(int(finish - begin)) {
			if err := w.mixed(ctx, t, pending, begin); err != nil {
				return err
			}
			if data {
				if err := w.data(ctx, t, begin, finish); err != nil {
					return err
				}
			} else {
				w.zero(int(finish - begin))
			}
			pending = finish
		}
		col = end
	}
	return w.mixed(ctx, t, pending, to)
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

// data answers with the tile's bytes as they are.
func (w *writer) data(ctx context.Context, t tileRow, from, to int64) error {
	n := int(to - from)
	if w.mayRefer(n) {
		piece, err := t.object.Refer(t.position(from), n)
		if err != nil {
			return err
		}
		if piece != nil {
			w.add(piece)
			return nil
		}
	}
	return t.object.ReadAt(ctx, w.place(n), t.position(from))
}

// mixed answers with a copy in which the pixels that are not data are zero.
func (w *writer) mixed(ctx context.Context, t tileRow, from, to int64) error {
	if from == to {
		return nil
	}
	dst := w.place(int(to - from))
	if err := t.object.ReadAt(ctx, dst, t.position(from)); err != nil {
		return err
	}
	t.valid.eachNoData(t.row, t.col(from), t.col(to-1)+1, func(col int) {
		px := t.offset(col)
		clear(dst[max(from, px)-from : min(to, px+grid.Bands)-from])
	})
	return nil
}

// prefix answers with the first bands of each pixel. Here, and only here, a pixel of the block has
// fewer bytes than one of the tile.
func (w *writer) prefix(ctx context.Context, t tileRow, from, to, bands int64) error {
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
		for dst := w.place(int(end - from)); len(dst) > 0; pixels = pixels[grid.Bands:] {
			dst = dst[copy(dst, pixels[cut:bands]):]
			cut = 0
		}
		from = end
	}
	return nil
}

// mayRefer tells whether a run of n bytes gets a piece of its own. Two places are kept free, so
// that a long answer of many short pieces can end with one long copy.
func (w *writer) mayRefer(n int) bool {
	return w.refer && n >= minPiece && len(w.pieces) < vfs.MaxPieces-2
}

func (w *writer) add(piece []byte) {
	w.pieces = append(w.pieces, piece)
	w.at += len(piece)
	w.copyEnd = 0
	w.referred += int64(len(piece))
}

// place takes the next n bytes of scratch for the answer, in the piece before if that ends there.
func (w *writer) place(n int) []byte {
	dst := w.scratch[w.at : w.at+n]
	if w.copyEnd == w.at && w.at > 0 {
		last := &w.pieces[len(w.pieces)-1]
		*last = w.scratch[w.at-len(*last) : w.at+n]
	} else {
		w.pieces = append(w.pieces, dst)
	}
	w.at += n
	w.copyEnd = w.at
	return dst
}

func (w *writer) zero(n int) {
	for n > 0 && w.mayRefer(n) {
		k := min(n, len(zeros))
		w.add(zeros[:k])
		n -= k
	}
	if n > 0 {
		clear(w.place(n))
	}
}
