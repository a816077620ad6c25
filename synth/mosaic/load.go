package mosaic

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/landmask"
	"github.com/tesserafs/tesserafs/synth/npy"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/vfs"
)

// loaded is a tile whose headers were read and found right.
type loaded struct {
	names              Tile
	embeddings, scales plane
	height, width      int          // pixels that count: the arrays' own, cropped to the footprint
	landmask           *source.Info // nil where there is none
	land               *bitmap      // nil: all land
	valid              validity
	// fault is what is wrong with a tile that can be read in part: an array smaller than its
	// footprint, a landmask of another shape. Only Fill serves such a tile.
	fault error
}

// rememberedTiles is of how many tiles it is known what they were, after they were dropped: some 12 MB.
const rememberedTiles = 1 << 16

// state is a hash of what the objects of a tile were when it was loaded.
func (l *loaded) state() uint64 {
	h := xxhash.New()
	for _, info := range []*source.Info{&l.embeddings.info, &l.scales.info, l.landmask} {
		if info == nil {
			info = &source.Info{Size: -1}
		}
		fmt.Fprintf(h, "%d %d %q\n", info.Size, info.ModTime.UnixNano(), info.ETag)
	}
	return h.Sum64()
}

// plane is where an array lies in its object.
type plane struct {
	info     source.Info
	offset   int64 // of the first row
	rowBytes int64
	bands    int // values of a pixel
}

// at is where a pixel of 128 bytes lies.
func (p plane) at(row, col int) int64 {
	return p.offset + int64(row)*p.rowBytes + int64(col)*grid.Bands
}

// maxLandmask bounds a landmask file: published ones have a few kilobytes.
const maxLandmask = 16 << 20

// load reads what must be known of a tile before any of its pixels can be served.
func (m *Mosaic) load(ctx context.Context, t Tile) (*loaded, error) {
	m.openTogether(ctx, t.Scales, t.Landmask)
	l, mask, err := m.headers(ctx, t)
	if err != nil {
		return nil, err
	}
	l.land, l.valid = landOf(mask), newValidity(l.height)
	return l, nil
}

// openTogether opens objects in the background that are opened one after another soon: what a distant
// source takes for each passes at once. What fails, fails again when its turn comes.
func (m *Mosaic) openTogether(ctx context.Context, names ...string) {
	for _, name := range names {
		m.ahead.Go(func() {
			if o, err := m.objects.Open(ctx, name); err == nil {
				o.Release()
			}
		})
	}
}

// landOf packs a mask; nil where all of it is land.
func landOf(mask *landmask.Mask) *bitmap {
	if mask == nil || bytes.IndexByte(mask.Pix, 0) < 0 {
		return nil
	}
	land := newBitmap(mask.Height, mask.Width)
	for row := range mask.Height {
		land.setLand(row, mask.Row(row))
	}
	return land
}

// headers reads the headers and the landmask of a tile and holds them against each other and against
// its footprint.
func (m *Mosaic) headers(ctx context.Context, t Tile) (*loaded, *landmask.Mask, error) {
	eh, ep, err := m.openArray(ctx, t.Embeddings, t.EmbeddingsBytes, "|i1")
	if err != nil {
		return nil, nil, objectError(t.Embeddings, err)
	}
	if len(eh) != 3 || eh[2] != grid.Bands {
		return nil, nil, objectError(t.Embeddings, fmt.Errorf("shape is %v, not (height, width, %d)", eh, grid.Bands))
	}
	sh, sp, err := m.openArray(ctx, t.Scales, t.ScalesBytes, "<f4")
	if err != nil {
		return nil, nil, objectError(t.Scales, err)
	}
	if len(sh) != 2 && len(sh) != 3 {
		return nil, nil, objectError(t.Scales, fmt.Errorf("shape is %v, not (height, width) or (height, width, bands)", sh))
	}
	if sh[0] != eh[0] || sh[1] != eh[1] {
		return nil, nil, objectError(t.Scales, fmt.Errorf("shape is %v, but the embeddings' is %v", sh, eh))
	}
	l := &loaded{names: t, embeddings: ep, scales: sp, height: min(eh[0], t.Height), width: min(eh[1], t.Width)}
	if l.height < t.Height || l.width < t.Width {
		l.fault = objectError(t.Embeddings, fmt.Errorf("array of %d×%d pixels is smaller than its footprint of %d×%d", eh[0], eh[1], t.Height, t.Width))
	}
	mask, err := m.landmask(ctx, t, l)
	if err != nil {
		return nil, nil, objectError(t.Landmask, err)
	}
	return l, mask, nil
}

// openArray reads an NPY header and holds it against what the array must be.
func (m *Mosaic) openArray(ctx context.Context, name string, catalogued int64, descr string) ([]int, plane, error) {
	o, err := m.objects.Open(ctx, name)
	if err != nil {
		return nil, plane{}, err
	}
	defer o.Release()
	h, err := readHeader(ctx, o)
	if err != nil {
		return nil, plane{}, err
	}
	if h.Descr != descr {
		return nil, plane{}, fmt.Errorf("values are %s, not %s", h.Descr, descr)
	}
	if h.Fortran {
		return nil, plane{}, errors.New("array is in Fortran order; write it in C order")
	}
	size := o.Info().Size
	if err := h.CheckSize(size); err != nil {
		return nil, plane{}, err
	}
	if catalogued >= 0 && size != catalogued {
		return nil, plane{}, fmt.Errorf("%w: it has %d bytes, the catalogue says %d", vfs.ErrChanged, size, catalogued)
	}
	p := plane{info: o.Info(), offset: h.DataOffset, rowBytes: 1, bands: 1}
	// CheckSize has held the product of all dimensions against the object's size: no overflow.
	for _, n := range h.Shape[min(1, len(h.Shape)):] {
		p.rowBytes *= int64(n)
	}
	if len(h.Shape) == 3 {
		p.bands = h.Shape[2]
	}
	if descr == "<f4" {
		p.rowBytes *= 4
	}
	return h.Shape, p, nil
}

// readHeader reads as much of an object as its NPY header takes.
func readHeader(ctx context.Context, o *tilecache.Object) (npy.Header, error) {
	prefix := make([]byte, min(o.Info().Size, 128))
	if err := o.ReadAt(ctx, prefix, 0); err != nil {
		return npy.Header{}, err
	}
	n, err := npy.HeaderSize(prefix)
	if err != nil {
		return npy.Header{}, err
	}
	if n > len(prefix) {
		if int64(n) > o.Info().Size {
			return npy.Header{}, fmt.Errorf("truncated: the header has %d bytes, the object %d", n, o.Info().Size)
		}
		prefix = make([]byte, n) // bounded by npy.MaxHeader
		if err := o.ReadAt(ctx, prefix, 0); err != nil {
			return npy.Header{}, err
		}
	}
	return npy.Parse(prefix)
}

// landmask reads a tile's landmask; nil means all land.
func (m *Mosaic) landmask(ctx context.Context, t Tile, l *loaded) (*landmask.Mask, error) {
	o, err := m.objects.Open(ctx, t.Landmask)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, source.ErrChanged) { // never there, not gone
		m.Journal.warn(t.Landmask, "there is no landmask: the whole tile counts as land")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer o.Release()
	info := o.Info()
	l.landmask = &info
	size := info.Size
	if size > maxLandmask {
		return nil, fmt.Errorf("landmask has %d bytes; at most %d are read", size, maxLandmask)
	}
	data := make([]byte, size)
	if err := o.ReadAt(ctx, data, 0); err != nil {
		return nil, err
	}
	mask, err := landmask.Decode(data)
	if err != nil {
		return nil, err
	}
	if mask.Height != l.height || mask.Width != l.width {
		if l.fault != nil { // it is the array that is wrong
			return nil, nil
		}
		l.fault = objectError(t.Landmask, fmt.Errorf("landmask of %d×%d pixels lies over an array of %d×%d", mask.Height, mask.Width, l.height, l.width))
		return nil, nil
	}
	return mask, nil
}

// dataEnd is the bit pattern of the largest float32 below 1.
const dataEnd = 0x3f7fffff

// isData tells whether the bits of a float32 are a scale that counts: finite and 0 < s < 1. The
// bit patterns of those are 1 … dataEnd, those of NaN, infinities and negatives lie above.
func isData(bits uint32) uint64 {
	return (uint64(bits-1) - dataEnd) >> 63
}

// stripBytes is how much of a scales array is read at once.
const stripBytes = 1 << 20

var strips = sync.Pool{New: func() any { b := make([]byte, stripBytes); return &b }}

// scaleRows reads rows [row0, row1) of an array of scales and hands each to use as little-endian
// float32, the first width of it. 3-D scales are reduced to their maximum over the bands, NaN
// ignored, as NumPy's nanmax does.
func scaleRows(ctx context.Context, o *tilecache.Object, p plane, width, row0, row1 int, use func(row int, scales []byte)) error {
	buf := strips.Get().(*[]byte)
	defer strips.Put(buf)
	rows := int(max(1, int64(len(*buf))/max(1, p.rowBytes)))
	if need := p.rowBytes * int64(min(rows, row1-row0)); need > int64(len(*buf)) {
		*buf = make([]byte, need) // one row of 3-D scales; the object was found to hold it
	}
	reduced := make([]byte, 0)
	if p.bands > 1 {
		reduced = make([]byte, 4*width)
	}
	for row := row0; row < row1; row += rows {
		n := min(rows, row1-row)
		strip := (*buf)[:int64(n)*p.rowBytes]
		if err := o.ReadAt(ctx, strip, p.offset+int64(row)*p.rowBytes); err != nil {
			return err
		}
		for i := range n {
			line := strip[int64(i)*p.rowBytes:][:p.rowBytes]
			if p.bands > 1 {
				reduceBands(reduced, line, p.bands)
				line = reduced
			}
			use(row+i, line[:4*width])
		}
	}
	return nil
}

// reduceBands writes the maximum over the bands of each pixel, NaN where all bands are NaN.
func reduceBands(dst, src []byte, bands int) {
	for i := 0; i < len(dst); i += 4 {
		most := float32(math.NaN())
		for b := range bands {
			v := math.Float32frombits(binary.LittleEndian.Uint32(src[i*bands+4*b:]))
			if v > most || most != most {
				most = v
			}
		}
		binary.LittleEndian.PutUint32(dst[i:], math.Float32bits(most))
	}
}
