package catalogue

import (
	"fmt"
	"slices"
	"time"

	"github.com/tesserafs/tesserafs/grid"
)

// Dataset is one dataset of an archive. Nothing of it ever changes; all methods may be called by
// many goroutines at once.
type Dataset struct {
	place
	origin string
	years  []*tileYear // each with at least one tile, in order
	land   *landmasks

	from, landFrom state // of the manifest and of the landmask registry
	stale          staleness
}

// Name is the published directory name: "v1", "v1.1-cam".
func (d *Dataset) Name() string { return d.name }

// Version is the model's, "1.0"; "" where the directory's name does not tell.
func (d *Dataset) Version() string { return d.version }

// Variant is the deployment that made the tiles, "vultr"; "" where the directory's name does not
// tell.
func (d *Dataset) Variant() string { return d.variant }

// Origin says for people where the list of tiles is from: "npy/v1/manifest.parquet" or "scan of
// npy/v1".
func (d *Dataset) Origin() string { return d.origin }

// Scanned says whether the list of tiles is from looking at directories, for want of a manifest. Offline
// there is none then.
func (d *Dataset) Scanned() bool { return d.origin != d.manifest }

// Stale says since when the list of tiles may be out of date, because the source could not be asked, and
// why; why is "" where it was asked.
func (d *Dataset) Stale() (since time.Time, why string) { return d.stale.since, d.stale.why }

// Years are the years that have tiles, going up.
func (d *Dataset) Years() []int {
	years := make([]int, len(d.years))
	for i, y := range d.years {
		years[i] = y.year
	}
	return years
}

// Zones are the UTM zones that have tiles in a year, going up.
func (d *Dataset) Zones(year int) []int {
	var zones []int
	if y := d.year(year); y != nil {
		for zone := 1; zone <= grid.Zones; zone++ {
			if y.zone(zone).Len() > 0 {
				zones = append(zones, zone)
			}
		}
	}
	return zones
}

// Tiles are the tiles of a year in a zone; with zone 0, of all zones. There may be none.
func (d *Dataset) Tiles(year, zone int) Tiles {
	if y := d.year(year); y != nil {
		return y.zone(zone)
	}
	return Tiles{}
}

// ModTime is that of the newest tile of a year in a zone; with zone 0 of all zones, with year 0 of
// all years. It is the zero time where there is no tile.
func (d *Dataset) ModTime(year, zone int) time.Time {
	var newest time.Time
	for _, y := range d.years {
		if (year == 0 || year == y.year) && y.zone(zone).Len() > 0 {
			if t := timeOf(y.newest[zone]); t.After(newest) {
				newest = t
			}
		}
	}
	return newest
}

// Len is the number of tiles of all years.
func (d *Dataset) Len() int {
	n := 0
	for _, y := range d.years {
		n += len(y.cells)
	}
	return n
}

// Bytes is the size of all tiles' embeddings and scales, as far as it is known.
func (d *Dataset) Bytes() int64 {
	n := int64(0)
	for _, y := range d.years {
		n += y.bytes
	}
	return n
}

// Objects names the objects of a tile in the source. They are made of the cell and the year alone:
// the paths in a manifest are where its writer had the tiles. Nothing is said about whether they
// exist.
func (d *Dataset) Objects(year int, c grid.Cell) (embeddings, scales, landmask string) {
	name := c.String()
	tile := fmt.Sprintf("%s/%04d/%s/%s", d.tiles, year, name, name)
	return tile + ".npy", tile + "_scales.npy", d.masks + "/" + name + ".tiff"
}

// Landmasks are the cells that the landmask registry lists, those without a mask among them, or
// where there is no registry the cells that have a landmask. They are in order; do not change them.
func (d *Dataset) Landmasks() []grid.Cell { return d.land.cells }

// LandmaskRegistry says whether Landmasks is from a registry. The zone grids of a consolidated store
// are the union of a registry's cells; what lies in a directory is no registry.
func (d *Dataset) LandmaskRegistry() bool { return d.land.registry }

// LandmaskSize is the size of a cell's landmask in bytes, 0 where the registry says that there is
// none and -1 where the size is not known. known is false for a cell that is not in Landmasks:
// where they are from a directory, it has no landmask; where they are from a registry, it may.
func (d *Dataset) LandmaskSize(c grid.Cell) (size int64, known bool) { return d.land.size(c) }

func (d *Dataset) year(year int) *tileYear {
	i, found := slices.BinarySearchFunc(d.years, year, func(y *tileYear, year int) int { return y.year - year })
	if !found {
		return nil
	}
	return d.years[i]
}
