package catalogue

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tesserafs/tesserafs/grid"
)

// Columns of manifests. Which of them there are depends on the program that wrote the manifest and
// on its age; see the package's documentation.
const (
	colVersion    = "version"
	colVariant    = "variant"
	colYear       = "year"
	colLon        = "lon"
	colLat        = "lat"
	colLonI       = "lon_i"
	colLatI       = "lat_i"
	colGridSize   = "grid_size"
	colFileSize   = "file_size" // grid_size in older manifests, and in landmask registries
	colScalesSize = "scales_size"
)

// timeColumns are all that say when an object changed; the newest counts.
var timeColumns = []string{"grid_mtime", "scales_mtime", "mtime"}

// maxYear is the last year that has a directory of four digits.
const maxYear = 9999

// rowColumns are the columns of a manifest or a registry that are read, and where in a batch each
// is, -1 for one that is not there.
type rowColumns struct {
	table   *table
	columns []*column

	version, variant, year, lon, lat, lonI, latI, size, scales int
	times                                                      []int
}

// findColumns finds the columns of a manifest, or of a registry.
func findColumns(t *table, manifest bool) (*rowColumns, error) {
	c := &rowColumns{table: t}
	var err error
	add := func(name string, k kind, required bool) int {
		if err != nil {
			return -1
		}
		var col *column
		if col, err = t.column(name, k, required); col == nil {
			return -1
		}
		c.columns = append(c.columns, col)
		return len(c.columns) - 1
	}
	c.lon, c.lat = add(colLon, degrees, true), add(colLat, degrees, true)
	c.year, c.size, c.scales, c.variant = -1, -1, -1, -1
	c.version = add(colVersion, text, false)
	if manifest {
		c.variant = add(colVariant, text, false)
		c.year = add(colYear, wholeNumber, true)
		c.size = add(colGridSize, wholeNumber, false)
		c.scales = add(colScalesSize, wholeNumber, false)
	}
	if c.size < 0 {
		c.size = add(colFileSize, wholeNumber, !manifest)
	}
	c.lonI, c.latI = add(colLonI, wholeNumber, false), add(colLatI, wholeNumber, false)
	for _, name := range timeColumns {
		if at := add(name, seconds, false); at >= 0 {
			c.times = append(c.times, at)
		}
	}
	if err != nil {
		return nil, err
	}
	if c.size < 0 {
		return nil, t.refuse("columns %s and %s are missing: one of them is needed", colGridSize, colFileSize)
	}
	// Where there is such a column, every row needs its value.
	for _, at := range []int{c.size, c.version, c.variant} {
		if at >= 0 {
			c.columns[at].required = true
		}
	}
	return c, nil
}

// span is rows of a batch: those from lo up to hi.
type span struct {
	v      []values
	row    int64 // of the batch's first
	lo, hi int
}

// ints are the values of a column of whole numbers or times.
func (s *span) ints(at int) []int64 { return s.v[at].ints[s.lo:s.hi] }

// fault is the first row of a span that is refused. Columns are looked at one after another, each up
// to where the one before it failed.
type fault struct {
	at  int
	err error
}

// add converts rows and appends them.
func (c *rowColumns) add(to *rows, s span, otherwise uint32) error {
	n := s.hi - s.lo
	f := fault{at: n}
	start := len(to.cells)
	to.extend(n)
	c.readCells(to.cells[start:], s, &f)
	c.readSizes(to.embeddings[start:], c.size, s, &f)
	c.readSizes(to.scales[start:], c.scales, s, &f)
	c.readTimes(to.seconds[start:], s, otherwise, &f)
	to.dropRepeats(start)
	return f.err
}

// refuse makes a fault of the value of a column.
func (c *rowColumns) refuse(f *fault, s span, at, i int, format string, args ...any) {
	*f = fault{i, c.table.refuseRow(c.columns[at].name, s.row+int64(s.lo+i), fmt.Errorf(format, args...))}
}

// present says whether a row has a value in a column of whole numbers; it is a fault where it must
// have one, or has something else.
func (c *rowColumns) present(v int64, f *fault, s span, at, i int) bool {
	switch {
	case v == invalid:
		c.refuse(f, s, at, i, "is not a whole number")
	case v == missing && c.columns[at].required:
		c.refuse(f, s, at, i, "has no value")
	}
	return v != missing && v != invalid
}

// readCells reads the cells. lon and lat decide; lon_i and lat_i must not contradict.
func (c *rowColumns) readCells(dst []grid.Cell, s span, f *fault) {
	lons, lats := s.v[c.lon].floats[s.lo:s.hi], s.v[c.lat].floats[s.lo:s.hi]
	for i, lon := range lons {
		cell, err := grid.CellAt(lon, lats[i])
		if err != nil {
			at := c.lat
			if _, bad := grid.CellAt(lon, 0.05); bad != nil {
				at = c.lon
			}
			c.refuse(f, s, at, i, "%w", err)
			break
		}
		dst[i] = cell
	}
	if c.lonI >= 0 {
		for i, v := range s.ints(c.lonI)[:f.at] {
			if v != int64(dst[i].Lon) && c.present(v, f, s, c.lonI, i) {
				c.refuse(f, s, c.lonI, i, "is %d, but lon says %d", v, dst[i].Lon)
			}
			if i == f.at {
				break
			}
		}
	}
	if c.latI >= 0 {
		for i, v := range s.ints(c.latI)[:f.at] {
			if v != int64(dst[i].Lat) && c.present(v, f, s, c.latI, i) {
				c.refuse(f, s, c.latI, i, "is %d, but lat says %d", v, dst[i].Lat)
			}
			if i == f.at {
				break
			}
		}
	}
}

// readSizes reads the sizes of objects: unknownSize where there is no column or no value.
func (c *rowColumns) readSizes(dst []uint32, at int, s span, f *fault) {
	if at < 0 {
		for i := range dst {
			dst[i] = unknownSize
		}
		return
	}
	for i, v := range s.ints(at)[:f.at] {
		switch {
		case uint64(v) <= maxSize:
			dst[i] = uint32(v)
		case !c.present(v, f, s, at, i):
			dst[i] = unknownSize
		case v < 0:
			c.refuse(f, s, at, i, "is negative: %d bytes", v)
		default:
			c.refuse(f, s, at, i, "is %d bytes, more than any tile has", v)
		}
		if i == f.at {
			return
		}
	}
}

// readTimes reads the newest time of each row; otherwise where a row has none.
func (c *rowColumns) readTimes(dst []uint32, s span, otherwise uint32, f *fault) {
	known := make([]bool, len(dst))
	for _, at := range c.times {
		for i, v := range s.ints(at)[:f.at] {
			switch {
			case uint64(v) <= maxSeconds:
				if !known[i] || uint32(v) > dst[i] {
					dst[i], known[i] = uint32(v), true
				}
			case v != missing:
				c.refuse(f, s, at, i, "is no time between 1970 and 2106")
			}
			if i == f.at {
				break
			}
		}
	}
	for i, k := range known {
		if !k {
			dst[i] = otherwise
		}
	}
}

// readGroups reads all row groups, several at once. Of several errors it returns that of the first
// row group, so that the same file gets the same message every time.
func (c *rowColumns) readGroups(ctx context.Context, each func(group int) func(batch span) error) error {
	var failed atomic.Int64 // the first row group that failed
	failed.Store(int64(c.table.groups()))
	errs := make([]error, c.table.groups())
	var workers errgroup.Group
	workers.SetLimit(runtime.GOMAXPROCS(0))
	for g := range errs {
		workers.Go(func() error {
			if int64(g) > failed.Load() {
				return nil
			}
			if errs[g] = c.table.read(ctx, g, c.columns, each(g)); errs[g] != nil {
				for at := failed.Load(); int64(g) < at && !failed.CompareAndSwap(at, int64(g)); at = failed.Load() {
				}
			}
			collect(int(c.table.starts[g+1] - c.table.starts[g]))
			return nil
		})
	}
	workers.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
