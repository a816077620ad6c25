package grid

import (
	"fmt"
	"slices"
)

// Chunks says which chunks of a regular chunking of a lattice exist, which is those that a tile's
// rectangle touches, and which tiles lie under each. Chunk (row, col) begins at pixel (row × chunk
// rows, col × chunk columns).
//
// Everything lies in three flat lists, each row and each chunk a run of the next one, so that the
// 40,000 tiles of a full zone take about two megabytes.
type Chunks struct {
	rows, cols int     // of a chunk, in pixels
	present    []int   // chunk rows that hold a chunk
	firstChunk []int   // by chunk row: where its chunks begin in col; one more at the end
	col        []int   // by chunk: its column
	firstTile  []int   // by chunk: where its tiles begin in tile; one more at the end
	tile       []int32 // indexes of tiles
}

// NewChunks returns the chunks, of rows × cols pixels, of a lattice of height × width pixels with
// the given tiles. The parts of tiles outside the lattice do not count. Memory grows with the
// chunk rows of the lattice and the chunks under tiles. A chunk without a pixel is a fault of the
// program: rows and cols must be positive, or NewChunks panics.
func NewChunks(height, width, rows, cols int, tiles []Rect) *Chunks {
	if rows <= 0 || cols <= 0 {
		panic(fmt.Sprintf("grid: chunks of %d × %d pixels", rows, cols))
	}
	lattice := Rect{Height: max(height, 0), Width: max(width, 0)}
	c := &Chunks{rows: rows, cols: cols, firstChunk: make([]int, ceilDiv(lattice.Height, rows)+1)}

	// First pass: how many (chunk, tile) pairs each chunk row has; then where its run begins.
	begin := make([]int, len(c.firstChunk))
	for _, t := range tiles {
		on := c.touched(t.Intersect(lattice))
		for r := on.Row; r < on.Bottom(); r++ {
			begin[r+1] += on.Width
		}
	}
	for r := 1; r < len(begin); r++ {
		begin[r] += begin[r-1]
	}
	// Second pass: the pairs of each chunk row, as chunk column and tile in one sortable number.
	pairs := make([]uint64, begin[len(begin)-1])
	end := slices.Clone(begin)
	for i, t := range tiles {
		on := c.touched(t.Intersect(lattice))
		for r := on.Row; r < on.Bottom(); r++ {
			for k := on.Col; k < on.Right(); k++ {
				pairs[end[r]] = uint64(k)<<32 | uint64(i)
				end[r]++
			}
		}
	}
	c.tile = make([]int32, 0, len(pairs))
	for r := range len(begin) - 1 {
		run := pairs[begin[r]:begin[r+1]]
		slices.Sort(run)
		c.firstChunk[r] = len(c.col)
		for i, p := range run {
			if i == 0 || p>>32 != run[i-1]>>32 {
				c.col = append(c.col, int(p>>32))
				c.firstTile = append(c.firstTile, len(c.tile))
			}
			c.tile = append(c.tile, int32(p))
		}
		if len(run) > 0 {
			c.present = append(c.present, r)
		}
	}
	c.firstChunk[len(c.firstChunk)-1] = len(c.col)
	c.firstTile = append(c.firstTile, len(c.tile))
	return c
}

// touched returns the chunks that a rectangle inside the lattice touches, counted in chunks.
func (c *Chunks) touched(r Rect) Rect {
	if r.Empty() {
		return Rect{}
	}
	row, col := r.Row/c.rows, r.Col/c.cols
	return Rect{Row: row, Col: col, Height: ceilDiv(r.Bottom(), c.rows) - row, Width: ceilDiv(r.Right(), c.cols) - col}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// Len returns the number of chunks that exist.
func (c *Chunks) Len() int { return len(c.col) }

// Rows returns the chunk rows that hold a chunk, going up.
func (c *Chunks) Rows() []int { return slices.Clip(c.present) }

// Cols returns the chunk columns that exist in a chunk row, going up; nil where there are none.
func (c *Chunks) Cols(row int) []int {
	if row < 0 || row >= len(c.firstChunk)-1 || c.firstChunk[row] == c.firstChunk[row+1] {
		return nil
	}
	return slices.Clip(c.col[c.firstChunk[row]:c.firstChunk[row+1]])
}

// Tiles returns the indexes of the tiles under a chunk, in catalogue order; none where the chunk
// does not exist.
func (c *Chunks) Tiles(row, col int) []int32 {
	i, found := slices.BinarySearch(c.Cols(row), col)
	if !found {
		return nil
	}
	i += c.firstChunk[row]
	return slices.Clip(c.tile[c.firstTile[i]:c.firstTile[i+1]])
}

// Window returns the pixels of a chunk. At the lattice's edge it reaches beyond it: a stored chunk
// always has its full size (Zarr v3, regular chunk grids).
func (c *Chunks) Window(row, col int) Rect {
	return Rect{Row: row * c.rows, Col: col * c.cols, Height: c.rows, Width: c.cols}
}
