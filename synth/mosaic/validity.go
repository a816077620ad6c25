package mosaic

import (
	"context"
	"sync/atomic"

	"github.com/tesserafs/tesserafs/tilecache"
)

// stripRows is how many rows of a tile's validity are worked out at once: 280 kB of scales, which is a
// range worth asking a distant source for, and five inner chunks' worth of time on a local one.
const stripRows = 64

// validity is which pixels of a tile are data. It is worked out in strips of rows as reads come to them,
// so that a pixel costs the scales around it and not those of the whole tile.
type validity struct {
	strips []atomic.Pointer[bitmap] // nil: not yet
}

// everyPixel is a strip without nodata, as most are.
var everyPixel = new(bitmap)

func newValidity(height int) validity {
	return validity{strips: make([]atomic.Pointer[bitmap], (height+stripRows-1)/stripRows)}
}

// knows says whether rows [row0, row1) have been worked out.
func (v *validity) knows(row0, row1 int) bool {
	for s := row0 / stripRows; s*stripRows < row1; s++ {
		if v.strips[s].Load() == nil {
			return false
		}
	}
	return true
}

// strip is the bitmap that a row lies in, and which of its rows it is.
func (v *validity) strip(row int) (*bitmap, int) {
	b := v.strips[row/stripRows].Load()
	if b == everyPixel {
		b = nil
	}
	return b, row % stripRows
}

// kind says what columns [col0, col1) of a row hold. The row must be known.
func (v *validity) kind(row, col0, col1 int) rowKind {
	b, row := v.strip(row)
	return b.kind(row, col0, col1)
}

// eachNoData calls f for every pixel of columns [col0, col1) of a row that is not data. The row must be
// known.
func (v *validity) eachNoData(row, col0, col1 int, f func(col int)) {
	b, row := v.strip(row)
	b.eachNot(row, col0, col1, f)
}

// learn works out rows [row0, row1) from the tile's scales. Two callers at once may both do so.
func (l *loaded) learn(ctx context.Context, scales *tilecache.Object, row0, row1 int) error {
	for s := row0 / stripRows; s*stripRows < row1; s++ {
		if l.valid.strips[s].Load() != nil {
			continue
		}
		first := s
		for (s+1)*stripRows < row1 && l.valid.strips[s+1].Load() == nil {
			s++
		}
		var strip *bitmap
		err := scaleRows(ctx, scales, l.scales, l.width, first*stripRows, min(l.height, (s+1)*stripRows), func(row int, scales []byte) {
			in := row % stripRows
			if in == 0 {
				strip = newBitmap(min(stripRows, l.height-row), l.width)
			}
			strip.setData(in, scales, l.land, row)
			if in == len(strip.rows)-1 {
				if strip.full() {
					strip = everyPixel
				}
				l.valid.strips[row/stripRows].Store(strip)
			}
		})
		if err != nil {
			return objectError(l.names.Scales, err)
		}
	}
	return nil
}
