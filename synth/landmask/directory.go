package landmask

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Tags of an image file directory that say how to read a mask (TIFF 6.0, part 1 section 8, part 2
// sections 14 and 15; sample format section 19).
const (
	tagWidth           = 256
	tagHeight          = 257
	tagBits            = 258
	tagCompression     = 259
	tagPhotometric     = 262
	tagFillOrder       = 266
	tagStripOffsets    = 273
	tagBands           = 277
	tagRowsPerStrip    = 278
	tagStripByteCounts = 279
	tagPredictor       = 317
	tagTileWidth       = 322
	tagTileHeight      = 323
	tagTileOffsets     = 324
	tagTileByteCounts  = 325
	tagSampleFormat    = 339
)

// Compressions that are read.
const (
	uncompressed = 1
	lzwCoded     = 5
	deflated     = 8
	packBits     = 32773
	deflatedOld  = 32946 // the number deflate had before it was Adobe's
)

var otherCompressions = map[uint32]string{2: "CCITT", 3: "CCITT G3", 4: "CCITT G4", 6: "JPEG", 7: "JPEG", 34887: "LERC", 34925: "LZMA", 50000: "ZSTD", 50001: "WebP"}

// otherFormats are the values of SampleFormat besides 1, unsigned.
var otherFormats = map[uint32]string{2: "signed", 3: "floating point", 4: "of no format", 5: "complex", 6: "complex"}

// directory is the first image file directory of a TIFF: entries of 12 bytes.
type directory struct {
	data    []byte // of the file
	order   binary.ByteOrder
	entries []byte
}

var errTruncated = errors.New("truncated TIFF")

func readDirectory(data []byte) (*directory, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("not a TIFF: it has %d bytes", len(data))
	}
	d := &directory{data: data}
	switch string(data[:2]) {
	case "II":
		d.order = binary.LittleEndian
	case "MM":
		d.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("not a TIFF: it begins with %q", data[:8])
	}
	switch version := d.order.Uint16(data[2:]); version {
	case 42:
	case 43:
		return nil, errors.New("BigTIFF is not read; write the mask as classic TIFF")
	default:
		return nil, fmt.Errorf("not a TIFF: version %d", version)
	}
	start := int64(d.order.Uint32(data[4:]))
	if start+2 > int64(len(data)) {
		return nil, errTruncated
	}
	n := 12 * int(d.order.Uint16(data[start:]))
	if d.entries = data[start+2:]; len(d.entries) < n {
		return nil, errTruncated
	}
	d.entries = d.entries[:n]
	return d, nil
}

// sizes are the bytes of the types that a number may have: BYTE, SHORT, LONG.
var sizes = map[uint16]int{1: 1, 3: 2, 4: 4}

// values finds the values of a tag: their number, their size in bytes, and the bytes. They lie in
// the entry where they fit, behind an offset where not. No bytes: there is no such tag.
func (d *directory) values(tag uint16) (count, size int, raw []byte, err error) {
	for e := d.entries; len(e) > 0; e = e[12:] {
		if d.order.Uint16(e) != tag {
			continue
		}
		if size = sizes[d.order.Uint16(e[2:])]; size == 0 {
			return 0, 0, nil, fmt.Errorf("TIFF tag %d has values of type %d", tag, d.order.Uint16(e[2:]))
		}
		n := int64(d.order.Uint32(e[4:])) * int64(size)
		raw = e[8:12]
		if n > 4 {
			offset := int64(d.order.Uint32(raw))
			if offset+n > int64(len(d.data)) {
				return 0, 0, nil, errTruncated
			}
			raw = d.data[offset : offset+n]
		}
		return int(n) / size, size, raw, nil
	}
	return 0, 0, nil, nil
}

func (d *directory) value(raw []byte, size int) uint32 {
	switch size {
	case 1:
		return uint32(raw[0])
	case 2:
		return uint32(d.order.Uint16(raw))
	}
	return d.order.Uint32(raw)
}

// one is the value of a tag that has one, or what it is where the tag is missing.
func (d *directory) one(tag uint16, missing uint32) (uint32, error) {
	count, size, raw, err := d.values(tag)
	switch {
	case err != nil:
		return 0, err
	case raw == nil:
		return missing, nil
	case count != 1 && (tag == tagBits || tag == tagSampleFormat): // one for each band
		return 0, fmt.Errorf("%d bands; a mask has one", count)
	case count != 1:
		return 0, fmt.Errorf("TIFF tag %d has %d values, not one", tag, count)
	}
	return d.value(raw, size), nil
}

// list is the first n values of a tag.
func (d *directory) list(tag uint16, n int) ([]uint32, error) {
	count, size, raw, err := d.values(tag)
	if err != nil {
		return nil, err
	}
	if count < n {
		return nil, fmt.Errorf("TIFF tag %d has %d values, not %d", tag, count, n)
	}
	list := make([]uint32, n)
	for i := range list {
		list[i] = d.value(raw[i*size:], size)
	}
	return list, nil
}

// raster is a mask as it lies in the file: blocks, row by row of them. A block is an inner tile,
// which has its full size even where it reaches beyond the mask, or a strip, which ends with it.
type raster struct {
	width, height           int
	bits                    int // 8 or 1
	compression             uint32
	differences             bool // each row holds differences to the pixel before (predictor 2)
	tiled                   bool
	blockWidth, blockHeight int
	offsets, counts         []uint32 // of the blocks, in bytes
}

// raster holds the directory against what a mask is, and against the limits.
func (d *directory) raster() (*raster, error) {
	var width, height, bits, compression, photometric, fillOrder, bands, rows, predictor, tileWidth, tileHeight, format uint32
	for _, f := range []struct {
		value   *uint32
		tag     uint16
		missing uint32
	}{
		{&bands, tagBands, 1}, {&bits, tagBits, 1}, {&format, tagSampleFormat, 1},
		{&width, tagWidth, 0}, {&height, tagHeight, 0}, {&photometric, tagPhotometric, 1},
		{&fillOrder, tagFillOrder, 1}, {&compression, tagCompression, uncompressed}, {&predictor, tagPredictor, 1},
		{&rows, tagRowsPerStrip, math.MaxUint32}, {&tileWidth, tagTileWidth, 0}, {&tileHeight, tagTileHeight, 0},
	} {
		var err error
		if *f.value, err = d.one(f.tag, f.missing); err != nil {
			return nil, err
		}
	}
	switch {
	case bands != 1:
		return nil, fmt.Errorf("%d bands; a mask has one", bands)
	case format != 1:
		return nil, fmt.Errorf("values are %s; a mask has unsigned bytes", cmp.Or(otherFormats[format], "of an unknown format"))
	case bits != 8 && bits != 1:
		return nil, fmt.Errorf("values have %d bits; a mask has 8", bits)
	case photometric == 3:
		return nil, errors.New("values are the colours of a palette; a mask has numbers")
	case photometric > 1:
		return nil, fmt.Errorf("photometric interpretation %d; a mask has numbers", photometric)
	case fillOrder != 1:
		return nil, fmt.Errorf("fill order %d is not read", fillOrder)
	}
	switch compression {
	case uncompressed, lzwCoded, deflated, packBits, deflatedOld:
	default:
		return nil, fmt.Errorf("compression %d (%s) is not read; write the mask with LZW", compression, cmp.Or(otherCompressions[compression], "unknown"))
	}
	switch {
	case predictor == 1:
	case predictor != 2 || bits != 8 || compression == uncompressed || compression == packBits:
		return nil, fmt.Errorf("predictor %d of values of %d bits with compression %d is not read", predictor, bits, compression)
	}
	if width == 0 || height == 0 || width > MaxSide || height > MaxSide {
		return nil, fmt.Errorf("%d×%d pixels; 1 to %d a side are read", height, width, MaxSide)
	}

	ras := &raster{width: int(width), height: int(height), bits: int(bits), compression: compression, differences: predictor == 2}
	offsets, counts := uint16(tagStripOffsets), uint16(tagStripByteCounts)
	if ras.tiled = tileWidth != 0 || tileHeight != 0; ras.tiled {
		if !tileSide(tileWidth) || !tileSide(tileHeight) {
			return nil, fmt.Errorf("inner tiles of %d×%d pixels; multiples of 16 up to %d are read", tileHeight, tileWidth, MaxSide)
		}
		ras.blockWidth, ras.blockHeight = int(tileWidth), int(tileHeight)
		offsets, counts = tagTileOffsets, tagTileByteCounts
	} else {
		ras.blockWidth, ras.blockHeight = ras.width, int(min(rows, height))
		if rows == 0 {
			return nil, errors.New("strips of no rows")
		}
	}
	across, down := ras.blocks()
	pixels := ras.height * ras.width
	if ras.tiled {
		pixels = across * ras.blockWidth * down * ras.blockHeight
	}
	if pixels > MaxPixels {
		return nil, fmt.Errorf("%d×%d pixels in blocks of %d×%d; at most %d in all are read", height, width, ras.blockHeight, ras.blockWidth, MaxPixels)
	}
	var err error
	if ras.offsets, err = d.list(offsets, across*down); err != nil {
		return nil, err
	}
	if ras.counts, err = d.list(counts, across*down); err != nil {
		return nil, err
	}
	return ras, nil
}

// tileSide tells whether an inner tile may be so long: section 15 wants a multiple of 16.
func tileSide(n uint32) bool {
	return n > 0 && n <= MaxSide && n%16 == 0
}

// blocks is how many blocks lie side by side, and one below the other.
func (ras *raster) blocks() (across, down int) {
	return (ras.width + ras.blockWidth - 1) / ras.blockWidth, (ras.height + ras.blockHeight - 1) / ras.blockHeight
}
