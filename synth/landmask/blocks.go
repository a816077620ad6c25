package landmask

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/image/tiff/lzw"
)

// unpack fills the mask from the blocks of the file.
func (ras *raster) unpack(data []byte, mask *Mask) error {
	across, _ := ras.blocks()
	rowBytes := (ras.blockWidth*ras.bits + 7) / 8
	buf := make([]byte, rowBytes*ras.blockHeight)
	for i, offset := range ras.offsets {
		row0, col0 := i/across*ras.blockHeight, i%across*ras.blockWidth
		rows, cols := min(ras.blockHeight, ras.height-row0), min(ras.blockWidth, ras.width-col0)
		end := int64(offset) + int64(ras.counts[i])
		if end > int64(len(data)) {
			return fmt.Errorf("truncated: block %d of %d ends at byte %d of %d", i+1, len(ras.offsets), end, len(data))
		}
		block := buf
		if !ras.tiled {
			block = buf[:rows*rowBytes]
		}
		block, err := ras.block(block, data[offset:end])
		if err != nil {
			return fmt.Errorf("block %d of %d: %w", i+1, len(ras.offsets), err)
		}
		for r := range rows {
			line := block[r*rowBytes:][:rowBytes]
			to := mask.Row(row0 + r)[col0:][:cols]
			if ras.bits == 8 {
				copy(to, line)
				continue
			}
			for c := range to {
				to[c] = line[c/8] >> (7 - c%8) & 1
			}
		}
	}
	return nil
}

// Blocks that are all land, or all water, are the same few hundred bytes in every mask, and most
// blocks are. What short ones expand to is kept, as expanding is most of the work of a mask.
const (
	maxKnownPacked = 2 << 10
	maxKnownBlock  = 64 << 10
	maxKnown       = 64
)

type knownBlock struct {
	compression uint32
	rowBytes    int
	differences bool
	size        int
	packed      string
}

var known = func() *lru.Cache[knownBlock, []byte] {
	c, err := lru.New[knownBlock, []byte](maxKnown)
	if err != nil {
		panic(err) // It has no other error than a size of 0 or less.
	}
	return c
}()

// block expands a block, in buf or to a slice that nobody may write to.
func (ras *raster) block(buf, packed []byte) ([]byte, error) {
	key := knownBlock{ras.compression, (ras.blockWidth*ras.bits + 7) / 8, ras.differences, len(buf), ""}
	short := len(packed) <= maxKnownPacked && len(buf) <= maxKnownBlock
	if short {
		key.packed = string(packed)
		if block, ok := known.Get(key); ok {
			return block, nil
		}
	}
	if err := ras.expand(buf, packed); err != nil {
		return nil, err
	}
	if ras.differences { // which only masks of 8 bits have
		for line := buf; len(line) > 0; line = line[key.rowBytes:] {
			sum := byte(0)
			for c, d := range line[:key.rowBytes] {
				sum += d
				line[c] = sum
			}
		}
	}
	if short {
		known.Add(key, bytes.Clone(buf))
	}
	return buf, nil
}

// errShort is one error for all that a decompressor may find at an end that comes too soon: callers
// take io.EOF and its kin for the end of a file read whole.
var errShort = errors.New("it holds fewer pixels than it should")

// expand fills block from compressed bytes. What a writer put behind it is ignored, as libtiff does.
func (ras *raster) expand(block, packed []byte) error {
	var r io.Reader
	switch ras.compression {
	case packBits:
		return unpackBits(block, packed)
	case lzwCoded:
		decoder := lzw.NewReader(bytes.NewReader(packed), lzw.MSB, 8)
		defer decoder.Close()
		r = decoder
	case deflated, deflatedOld:
		decoder, err := zlib.NewReader(bytes.NewReader(packed))
		if err != nil {
			return fmt.Errorf("damaged: %v", err)
		}
		defer decoder.Close()
		r = decoder
	default:
		r = bytes.NewReader(packed)
	}
	_, err := io.ReadFull(r, block)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errShort
	case err != nil:
		return fmt.Errorf("damaged: %w", err)
	}
	// Deflate's checksum lies behind the last byte, and is looked at by whoever reads on.
	if _, err := r.Read(make([]byte, 1)); errors.Is(err, zlib.ErrChecksum) {
		return fmt.Errorf("damaged: %w", err)
	}
	return nil
}

// unpackBits is PackBits (TIFF 6.0, section 9): n >= 0 is followed by n+1 bytes to copy, n < 0 by
// a byte to repeat 1-n times, and -128 by nothing.
func unpackBits(block, packed []byte) error {
	for len(block) > 0 {
		if len(packed) < 2 {
			return errShort
		}
		n := int(int8(packed[0]))
		packed = packed[1:]
		switch {
		case n == -128:
		case n < 0:
			run := block[:min(1-n, len(block))]
			for i := range run {
				run[i] = packed[0]
			}
			block, packed = block[len(run):], packed[1:]
		case n+1 > len(packed):
			return errShort
		default:
			copied := copy(block, packed[:n+1])
			block, packed = block[copied:], packed[n+1:]
		}
	}
	return nil
}
