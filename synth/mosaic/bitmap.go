package mosaic

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
)

// bitmap says of each pixel of some rows whether it is data, or land: one bit a pixel, rows padded to
// whole words. A nil bitmap says yes of all.
type bitmap struct {
	width, stride int // pixels; words of a row
	words         []uint64
	rows          []rowKind
}

// rowKind is what is known of a row at a glance.
type rowKind uint8

const (
	rowNone  rowKind = iota // no pixel is
	rowAll                  // every pixel is
	rowMixed                // look at the bits
)

func newBitmap(height, width int) *bitmap {
	stride := (width + 63) / 64
	return &bitmap{width: width, stride: stride, words: make([]uint64, height*stride), rows: make([]rowKind, height)}
}

// setData works out which pixels of a row are data from their scales (little-endian float32), and
// which of them are land from a row of another bitmap.
func (b *bitmap) setData(row int, scales []byte, land *bitmap, landRow int) {
	words := b.words[row*b.stride:][:b.stride]
	for w := range words {
		n := min(64, b.width-64*w)
		px := scales[256*w:][:4*n]
		word := uint64(math.MaxUint64) >> (64 - n)
		if !allData(px) {
			word = 0
			for i := range n {
				word |= isData(binary.LittleEndian.Uint32(px[4*i:])) << i
			}
		}
		if land != nil {
			word &= land.words[landRow*land.stride+w]
		}
		words[w] = word
	}
	b.rows[row] = b.look(words)
}

// setLand works out a row from its landmask, in which 0 is water.
func (b *bitmap) setLand(row int, mask []byte) {
	words := b.words[row*b.stride:][:b.stride]
	for w := range words {
		n := min(64, b.width-64*w)
		px := mask[64*w:][:n]
		word := uint64(math.MaxUint64) >> (64 - n)
		if bytes.IndexByte(px, 0) >= 0 {
			for i, v := range px {
				if v == 0 {
					word &^= 1 << i
				}
			}
		}
		words[w] = word
	}
	b.rows[row] = b.look(words)
}

func (b *bitmap) look(row []uint64) rowKind {
	count := 0
	for _, word := range row {
		count += bits.OnesCount64(word)
	}
	switch count {
	case 0:
		return rowNone
	case b.width:
		return rowAll
	}
	return rowMixed
}

// allData tells whether scales all count, which nearly all do: several times as quick as looking at
// them one by one.
func allData(px []byte) bool {
	all := uint64(math.MaxUint64)
	for ; len(px) >= 16; px = px[16:] {
		a, b := binary.LittleEndian.Uint64(px), binary.LittleEndian.Uint64(px[8:])
		all &= (uint64(uint32(a)-1) - dataEnd) & (uint64(uint32(a>>32)-1) - dataEnd)
		all &= (uint64(uint32(b)-1) - dataEnd) & (uint64(uint32(b>>32)-1) - dataEnd)
	}
	for ; len(px) >= 4; px = px[4:] {
		all &= uint64(binary.LittleEndian.Uint32(px)-1) - dataEnd
	}
	return all>>63 != 0
}

// full tells whether every pixel is.
func (b *bitmap) full() bool {
	for _, k := range b.rows {
		if k != rowAll {
			return false
		}
	}
	return true
}

// has says whether a pixel is.
func (b *bitmap) has(row, col int) bool {
	return b == nil || b.words[row*b.stride+col/64]>>(col%64)&1 != 0
}

// kind says what columns [col0, col1) of a row hold.
func (b *bitmap) kind(row, col0, col1 int) rowKind {
	if b == nil {
		return rowAll
	}
	if k := b.rows[row]; k != rowMixed {
		return k
	}
	set := 0
	b.eachWord(row, col0, col1, func(word uint64, _, n int) { set += bits.OnesCount64(word) })
	switch set {
	case 0:
		return rowNone
	case col1 - col0:
		return rowAll
	}
	return rowMixed
}

// eachNot calls f for every pixel of columns [col0, col1) of a row that is not.
func (b *bitmap) eachNot(row, col0, col1 int, f func(col int)) {
	if b == nil {
		return
	}
	b.eachWord(row, col0, col1, func(word uint64, col, n int) {
		for not := ^word << (64 - n) >> (64 - n); not != 0; not &= not - 1 {
			f(col + bits.TrailingZeros64(not))
		}
	})
}

// eachWord calls f with the n ≤ 64 bits from column col on, for all of [col0, col1).
func (b *bitmap) eachWord(row, col0, col1 int, f func(word uint64, col, n int)) {
	words := b.words[row*b.stride:][:b.stride]
	for col := col0; col < col1; {
		shift := col % 64
		n := min(64-shift, col1-col)
		f(words[col/64]>>shift<<(64-n)>>(64-n), col, n)
		col += n
	}
}
