package mosaic

import (
	"sync"
)

// piece is what a reply shows of one row of a tile: bytes [from, to) of the block, the first of which
// belongs to the pixel in a row and a column of the tile.
type piece struct {
	row, col int
	from, to int64
}

// pixels is how many pixels of so many bytes a piece touches.
func (p piece) pixels(size int) int {
	cut := p.from % int64(size)
	return int((cut + p.to - p.from + int64(size) - 1) / int64(size))
}

// parts are the pieces of a reply, by the tile they come from.
type parts struct {
	tiles  []int     // indices into the block's tiles
	pieces [][]piece // of each of them, rows going down
}

var partsPool = sync.Pool{New: func() any { return new(parts) }}

// parts takes a reply apart; outside is called with each run of its bytes that no tile shows. What it
// returns must be freed.
func (v *view) parts(r *byteRange, outside func(from, to int64)) *parts {
	ps := partsPool.Get().(*parts)
	for _, band := range v.bands {
		for row := band.Row0; row < band.Row1; row++ {
			for _, span := range band.Spans {
				from, to := r.clip(row, span)
				switch {
				case from == to:
				case span.Tile < 0:
					outside(from, to)
				default:
					rect, into := v.rects[span.Tile], ps.of(span.Tile)
					*into = append(*into, piece{row - rect.Row, r.col(from) - rect.Col, from, to})
				}
			}
		}
	}
	return ps
}

// of is where the pieces of a tile are gathered.
func (ps *parts) of(tile int) *[]piece {
	for i, t := range ps.tiles {
		if t == tile {
			return &ps.pieces[i]
		}
	}
	n := len(ps.tiles)
	ps.tiles = append(ps.tiles, tile)
	if n < cap(ps.pieces) {
		ps.pieces = ps.pieces[:n+1] // with the room that was made for another reply
	} else {
		ps.pieces = append(ps.pieces, nil)
	}
	return &ps.pieces[n]
}

func (ps *parts) free() {
	for i := range ps.pieces {
		ps.pieces[i] = ps.pieces[i][:0]
	}
	ps.tiles, ps.pieces = ps.tiles[:0], ps.pieces[:0]
	partsPool.Put(ps)
}
