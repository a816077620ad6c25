package catalogue

import (
	"maps"
	"math"
	"runtime"
	"slices"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tesserafs/tesserafs/grid"
)

// Sizes and times are kept in 4 bytes each: a planet has 14 million tiles. No tile is as large as
// 4 GiB, the largest NPY being 160 MB; seconds since 1970 suffice until 2106.
const (
	unknownSize = math.MaxUint32
	maxSize     = unknownSize - 1
	maxSeconds  = math.MaxUint32
)

// Tile is one tile of one year, as catalogued: nobody has looked at its objects, unless the tree was
// scanned.
type Tile struct {
	Cell       grid.Cell
	Year       int
	Embeddings int64 // size of the object in bytes; -1 where it is not known
	Scales     int64
	// ModTime is that of the newest of the tile's objects, its landmask among them, as far as the
	// catalogue knows: whole seconds, UTC.
	ModTime time.Time
}

// Tiles are tiles of one year in catalogue order: by longitude, then latitude, going up. Where tiles
// overlap the last wins.
type Tiles struct {
	of     *tileYear
	lo, hi int
}

// Len is how many there are.
func (t Tiles) Len() int { return t.hi - t.lo }

// At returns a tile, 0 <= i < Len.
func (t Tiles) At(i int) Tile {
	if i < 0 || i >= t.Len() {
		panic("catalogue: tile index out of range")
	}
	y := t.of
	i += t.lo
	return Tile{Cell: y.cells[i], Year: y.year, Embeddings: sizeOf(y.embeddings[i]), Scales: sizeOf(y.scales[i]),
		ModTime: timeOf(y.seconds[i])}
}

// Cells are their cells, in order; do not change them.
func (t Tiles) Cells() []grid.Cell {
	if t.Len() == 0 {
		return nil
	}
	return slices.Clip(t.of.cells[t.lo:t.hi])
}

// Find returns the tile of a cell, if it is among them.
func (t Tiles) Find(c grid.Cell) (Tile, bool) {
	i, found := slices.BinarySearchFunc(t.Cells(), c, grid.Cell.Compare)
	if !found {
		return Tile{}, false
	}
	return t.At(i), true
}

func sizeOf(v uint32) int64 {
	if v == unknownSize {
		return -1
	}
	return int64(v)
}

func timeOf(seconds uint32) time.Time { return time.Unix(int64(seconds), 0).UTC() }

// secondsOf rounds down to a second that can be kept.
func secondsOf(t time.Time) uint32 { return uint32(max(0, min(t.Unix(), maxSeconds))) }

// blockRows is how many rows are gathered before others are begun, so that millions are copied once
// and not each time a slice grows.
const blockRows = 8192

// rows are tiles of one year, a column at a time.
type rows struct {
	cells      []grid.Cell
	embeddings []uint32 // bytes, or unknownSize
	scales     []uint32
	seconds    []uint32 // the newest object's, since 1970
}

// newRows has room for n.
func newRows(n int) *rows {
	return &rows{make([]grid.Cell, 0, n), make([]uint32, 0, n), make([]uint32, 0, n), make([]uint32, 0, n)}
}

// withRoom adds to blocks one for the next n rows, unless the last has room for them.
func withRoom(blocks []*rows, n int) []*rows {
	if last := len(blocks) - 1; last >= 0 && len(blocks[last].cells)+n <= blockRows {
		return blocks
	}
	return append(blocks, newRows(min(2*n, blockRows))) // most often as many come again
}

// joined puts blocks together, which it empties as it goes.
func joined(blocks []*rows) *rows {
	n := 0
	for _, b := range blocks {
		n += len(b.cells)
	}
	all := newRows(n)
	for _, b := range blocks {
		all.cells, all.embeddings = append(all.cells, b.cells...), append(all.embeddings, b.embeddings...)
		all.scales, all.seconds = append(all.scales, b.scales...), append(all.seconds, b.seconds...)
		*b = rows{}
	}
	return all
}

// add appends a tile.
func (r *rows) add(c grid.Cell, embeddings, scales, seconds uint32) {
	r.cells = append(r.cells, c)
	r.embeddings = append(r.embeddings, embeddings)
	r.scales = append(r.scales, scales)
	r.seconds = append(r.seconds, seconds)
}

// extend appends n rows to be filled.
func (r *rows) extend(n int) {
	r.cells = append(r.cells, make([]grid.Cell, n)...)
	r.embeddings = append(r.embeddings, make([]uint32, n)...)
	r.scales = append(r.scales, make([]uint32, n)...)
	r.seconds = append(r.seconds, make([]uint32, n)...)
}

// dropRepeats drops rows from start on that are of the same cell as the one before them: the first
// counts. A small file can say one row a hundred million times.
func (r *rows) dropRepeats(start int) {
	start = max(start, 1)
	n := start
	for i := start; i < len(r.cells); i++ {
		if r.cells[i] != r.cells[i-1] {
			if n < i {
				r.cells[n], r.embeddings[n], r.scales[n], r.seconds[n] = r.cells[i], r.embeddings[i], r.scales[i], r.seconds[i]
			}
			n++
		}
	}
	if n < len(r.cells) {
		r.cells, r.embeddings, r.scales, r.seconds = r.cells[:n], r.embeddings[:n], r.scales[:n], r.seconds[:n]
	}
}

// tileYear is the tiles of one year of a dataset, and what is asked of them as a whole.
type tileYear struct {
	rows
	year   int
	zones  [grid.Zones + 2]int    // tiles of zone z are zones[z] up to zones[z+1]
	newest [grid.Zones + 1]uint32 // of each zone, and at 0 of all
	bytes  int64
}

// newTileYears puts the tiles of all years in order, several years at once.
func newTileYears(parts map[int][]*rows, masks *landmasks) []*tileYear {
	years := make([]*tileYear, 0, len(parts))
	for _, year := range slices.Sorted(maps.Keys(parts)) {
		years = append(years, &tileYear{year: year})
	}
	var workers errgroup.Group
	workers.SetLimit(runtime.GOMAXPROCS(0))
	for _, y := range years {
		workers.Go(func() error {
			y.fill(parts[y.year], masks)
			collect(len(y.cells))
			return nil
		})
	}
	workers.Wait() // for workers that do not fail
	return years
}

// collect frees what was left lying while so many rows were read, where they are many. By itself the
// collector lets as much lie as is kept, and here half of all that a process ever keeps is read at its
// start: its peak would be twice what it needs. There are no pointers in rows, so that a collection
// takes about a millisecond.
func collect(n int) {
	if n >= manyRows {
		runtime.GC()
	}
}

// manyRows is a good part of a published manifest, and more than any small archive has.
const manyRows = 500_000

// fill puts tiles in order: parts in the order of their rows in the manifest, which it empties as it
// goes. Of tiles of one cell the first counts.
func (y *tileYear) fill(parts []*rows, masks *landmasks) {
	y.rows = *joined(parts)
	if keep := order(y.cells); keep != nil {
		y.rows = rows{pick(y.cells, keep), pick(y.embeddings, keep), pick(y.scales, keep), pick(y.seconds, keep)}
	}
	masks.addTimes(y.cells, y.seconds)
	y.sum()
}

// order returns the indices of cells in catalogue order without those that have come before; nil
// where the cells are so already, as published ones are.
func order(cells []grid.Cell) []uint32 {
	ascending := true
	for i := 1; i < len(cells) && ascending; i++ {
		ascending = sortKey(cells[i-1]) < sortKey(cells[i])
	}
	if ascending {
		return nil
	}
	// The cell above, the index below: sorted as numbers, equal cells stay in the order they came.
	keys := make([]uint64, len(cells))
	for i, c := range cells {
		keys[i] = uint64(sortKey(c))<<32 | uint64(uint32(i))
	}
	slices.Sort(keys)
	keys = slices.CompactFunc(keys, func(a, b uint64) bool { return a>>32 == b>>32 })
	keep := make([]uint32, len(keys))
	for i, k := range keys {
		keep[i] = uint32(k)
	}
	return keep
}

// sortKey is a number that orders cells as Cell.Compare does.
func sortKey(c grid.Cell) uint32 {
	return uint32(uint16(c.Lon)^1<<15)<<16 | uint32(uint16(c.Lat)^1<<15)
}

func pick[T any](from []T, indices []uint32) []T {
	to := make([]T, len(indices))
	for i, at := range indices {
		to[i] = from[at]
	}
	return to
}

// sum finds the zones, which are runs of longitudes, and what is newest in each.
func (y *tileYear) sum() {
	for zone := 1; zone <= grid.Zones; zone++ {
		_, east := grid.ZoneLons(zone)
		lo := y.zones[zone]
		hi := lo + sort.Search(len(y.cells)-lo, func(i int) bool { return y.cells[lo+i].Lon >= east })
		y.zones[zone+1] = hi
		for _, s := range y.seconds[lo:hi] {
			y.newest[zone] = max(y.newest[zone], s)
		}
		y.newest[0] = max(y.newest[0], y.newest[zone])
	}
	for i := range y.cells {
		y.bytes += max(0, sizeOf(y.embeddings[i])) + max(0, sizeOf(y.scales[i]))
	}
}

// zone returns the tiles of a zone; of all with 0.
func (y *tileYear) zone(zone int) Tiles {
	switch {
	case zone == 0:
		return Tiles{y, 0, len(y.cells)}
	case zone < 0 || zone > grid.Zones:
		return Tiles{}
	}
	return Tiles{y, y.zones[zone], y.zones[zone+1]}
}
