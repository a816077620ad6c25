package sample

import (
	"fmt"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
)

type zoneKey struct{ year, zone int }

// zoneYear is the lattice of a zone-year store and where its tiles lie on it.
type zoneYear struct {
	tiles  catalogue.Tiles
	grid   grid.Grid
	rects  []grid.Rect
	chunks *grid.Chunks
}

// blockPixels is the side of the squares by which tiles are found.
const blockPixels = 1024

// zone works a zone-year out, or remembers it; nil where it has no tiles.
func (s *Sampler) zone(key zoneKey) (*zoneYear, error) {
	if z, ok := s.zones.Get(key); ok {
		return z, nil
	}
	z := &zoneYear{tiles: s.dataset.Tiles(key.year, key.zone)}
	if z.tiles.Len() == 0 {
		return nil, nil
	}
	cells := make([]grid.Cell, z.tiles.Len())
	for i := range cells {
		cells[i] = z.tiles.At(i).Cell
	}
	prints, err := grid.Footprints(cells)
	if err == nil {
		z.grid, err = grid.ZoneYear(prints)
	}
	if err != nil {
		return nil, fmt.Errorf("geometry of zone %d in %d: %w", key.zone, key.year, err)
	}
	z.rects = make([]grid.Rect, len(prints))
	for i, f := range prints {
		z.rects[i] = z.grid.Place(f)
	}
	z.chunks = grid.NewChunks(z.grid.Height, z.grid.Width, blockPixels, blockPixels, z.rects)
	s.zones.Add(key, z)
	return z, nil
}

// find looks for the tile that shows the pixel under a point, among those before v.below. It leaves
// the tile there and the pixel, counted from the tile's corner, in row and col.
func (z *zoneYear) find(v *visit, easting, northing float64) bool {
	row, col, ok := z.grid.PixelAt(easting, northing)
	if !ok || row < 0 || col < 0 {
		return false
	}
	tiles := z.chunks.Tiles(row/blockPixels, col/blockPixels)
	for i := len(tiles) - 1; i >= 0; i-- {
		r := z.rects[tiles[i]]
		if tiles[i] < v.below && row >= r.Row && row < r.Bottom() && col >= r.Col && col < r.Right() {
			v.below, v.row, v.col = tiles[i], int32(row-r.Row), int32(col-r.Col)
			return true
		}
	}
	return false
}

// tile says where the objects of a tile are.
func (z *zoneYear) tile(ds *catalogue.Dataset, i int) mosaic.Tile {
	tile, rect := z.tiles.At(i), z.rects[i]
	t := mosaic.Tile{EmbeddingsBytes: tile.Embeddings, ScalesBytes: tile.Scales, Height: rect.Height, Width: rect.Width}
	t.Embeddings, t.Scales, t.Landmask = ds.Objects(tile.Year, tile.Cell)
	return t
}
