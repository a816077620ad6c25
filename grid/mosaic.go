package grid

import "slices"

// Rect is a rectangle of pixels of a lattice.
type Rect struct{ Row, Col, Height, Width int }

// Bottom returns the row after the last.
func (r Rect) Bottom() int { return r.Row + r.Height }

// Right returns the column after the last.
func (r Rect) Right() int { return r.Col + r.Width }

// Empty says whether the rectangle holds no pixel.
func (r Rect) Empty() bool { return r.Height <= 0 || r.Width <= 0 }

// Intersect returns the pixels that are in both; the zero Rect where there are none.
func (r Rect) Intersect(o Rect) Rect {
	row, col := max(r.Row, o.Row), max(r.Col, o.Col)
	both := Rect{row, col, min(r.Bottom(), o.Bottom()) - row, min(r.Right(), o.Right()) - col}
	if both.Empty() {
		return Rect{}
	}
	return both
}

// Band is a run of rows [Row0, Row1) of a window in which the same spans hold.
type Band struct {
	Row0, Row1 int
	Spans      []Span
}

// Span is a run of columns [Col0, Col1) that one tile fills, by its index, or none (-1).
type Span struct{ Col0, Col1, Tile int }

// Mosaic says where the pixels of a window come from, given the rectangles of the tiles in
// catalogue order: of those that hold a pixel the last one fills it. Tiles may lie anywhere, also
// outside the window.
//
// The bands cover the window's rows in order, the spans of each band its columns. Rows and columns
// are those of the lattice, not counted from the window's corner. No two adjacent bands have equal
// spans, no two adjacent spans the same tile. An empty window has no bands.
//
// It is made for the few tiles under a window ([Chunks.Tiles]), not for those of a zone: its work
// grows with the cube of their number.
func Mosaic(window Rect, tiles []Rect) []Band {
	if window.Empty() {
		return nil
	}
	// Nothing changes between the edges of tiles: one row of each interval between them tells
	// for all of it, and one column.
	const few = 2 + 2*24
	var rowBuf, colBuf [few]int
	rowEdges := append(rowBuf[:0], window.Row, window.Bottom())
	colEdges := append(colBuf[:0], window.Col, window.Right())
	for _, t := range tiles {
		if in := t.Intersect(window); !in.Empty() {
			rowEdges = append(rowEdges, in.Row, in.Bottom())
			colEdges = append(colEdges, in.Col, in.Right())
		}
	}
	slices.Sort(rowEdges)
	slices.Sort(colEdges)
	rowEdges, colEdges = slices.Compact(rowEdges), slices.Compact(colEdges)

	bands := make([]Band, 0, len(rowEdges)-1)
	spans := make([]Span, 0, 2*len(colEdges)) // of all bands, one after another
	for i, row := range rowEdges[:len(rowEdges)-1] {
		first := len(spans)
		for k, col := range colEdges[:len(colEdges)-1] {
			tile := last(tiles, row, col)
			if n := len(spans); n > first && spans[n-1].Tile == tile {
				spans[n-1].Col1 = colEdges[k+1]
			} else {
				spans = append(spans, Span{Col0: col, Col1: colEdges[k+1], Tile: tile})
			}
		}
		here := spans[first:len(spans):len(spans)]
		if n := len(bands); n > 0 && slices.Equal(bands[n-1].Spans, here) {
			bands[n-1].Row1 = rowEdges[i+1]
			spans = spans[:first]
		} else {
			bands = append(bands, Band{Row0: row, Row1: rowEdges[i+1], Spans: here})
		}
	}
	return bands
}

// last returns the index of the last tile that holds the pixel, or -1.
func last(tiles []Rect, row, col int) int {
	for i, t := range slices.Backward(tiles) {
		if row >= t.Row && row < t.Bottom() && col >= t.Col && col < t.Right() {
			return i
		}
	}
	return -1
}
