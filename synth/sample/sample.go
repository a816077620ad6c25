// Package sample finds the pixels under points and reads them straight from the tiles.
//
// # Objective
//
// A table of places becomes a table of embeddings without a store, a window or a chunk between: a
// point costs its own 128 bytes, its scale, and a share of its tile's headers and landmask. The value
// is the one that the point's zone-year store shows at the pixel under it, bit for bit.
//
// # The pixel under a point
//
//  1. The zone is that of the 0.1° cell the point lies in ([grid.ZoneAt]).
//  2. The point is projected to the zone's EPSG:326ZZ, southern northings negative.
//  3. The pixel is the one of the zone-year's lattice that holds it; on the line between two, the
//     western and the northern one ([grid.Grid.PixelAt]).
//  4. The tile is the last in catalogue order whose rectangle holds the pixel, whether it is the tile
//     of the point's own cell or one that overlaps it. What it has there counts, nodata included.
//  5. Where no tile of the zone holds the pixel, and the border of the zone is within 0.1°, steps 2
//     to 4 are taken in the zone next door, whose tiles reach a little beyond it.
//
// # Against GeoTesseraZarr.sample_points
//
// Zone, projection, pixel, ties and dequantisation are those of geotessera 0.11.0. It differs in
// what it does where there is no value, and there this room keeps to the pixel under the point:
//
//   - It looks for a value up to one pixel away (search_px) where no tile lies. Here that is Outside.
//   - It asks the zone next door for water, too. Here water is NoData, as in the zone's store.
//   - It takes the outermost pixels to reach 5 m beyond the store's lattice. Here they do not.
//
// With search_px=0 and cross_zone=False the two agree but for the last.
//
// # One batch
//
// [Sampler.Sample] sorts the points of a batch by year and zone, projects each group at once, finds
// the tiles, sorts by tile and place in it, and has [mosaic.Mosaic.Points] read the tiles, some at
// a time. Under mosaic.Fill a tile that cannot be read is as if it were not there:
// its points go round again and may find the tile below, or the zone next door.
//
// Memory is the caller's batch, 40 bytes a point, and the geometry of the last 64 zone-years that
// were asked for, 70 bytes a tile.
package sample

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
)

// Status says what was found under a point.
type Status uint8

const (
	Outside Status = iota // no tile lies there
	Missing               // one does, but it cannot be read, and nothing below it (mosaic.Fill)
	NoData                // water, or no valid scale
	Data
)

// Batch is points, and what was found under them. All slices have one length, but for Embeddings,
// which has 128 values a point; Embeddings and Scales mean something where Status is [Data].
type Batch struct {
	Lon, Lat []float64 // degrees, within ±180 and ±90
	Year     []int

	Status     []Status
	Embeddings []int8
	Scales     []float32
}

// NewBatch makes a batch of n points.
func NewBatch(n int) *Batch {
	return &Batch{
		Lon: make([]float64, n), Lat: make([]float64, n), Year: make([]int, n),
		Status: make([]Status, n), Embeddings: make([]int8, n*grid.Bands), Scales: make([]float32, n),
	}
}

// Dequantise writes the values of a point, embeddings × scale, into the first 128 of dst.
func (b *Batch) Dequantise(i int, dst []float32) {
	scale := b.Scales[i]
	for k, v := range b.Embeddings[i*grid.Bands:][:grid.Bands] {
		dst[k] = float32(v) * scale
	}
}

// Sampler reads the points of one dataset. Its methods may be called by many goroutines at once.
type Sampler struct {
	dataset *catalogue.Dataset
	pixels  *mosaic.Mosaic
	zones   *lru.Cache[zoneKey, *zoneYear]
}

// zonesKept is more than there are zones, so that points from all over the world in one year do not
// have them worked out again and again.
const zonesKept = 64

// New makes a Sampler of a dataset whose tiles are read through m.
func New(ds *catalogue.Dataset, m *mosaic.Mosaic) (*Sampler, error) {
	zones, err := lru.New[zoneKey, *zoneYear](zonesKept)
	if err != nil {
		return nil, fmt.Errorf("sampling %s: %w", ds.Name(), err)
	}
	return &Sampler{dataset: ds, pixels: m, zones: zones}, nil
}

// visit is a point on its way: where it is looked for, and below which tile.
type visit struct {
	point    int32
	zone     int8
	nextDoor bool // zone is not the point's own
	tried    bool // a tile was found that cannot be read
	below    int32
	row, col int32
}

const allTiles = math.MaxInt32

// Sample finds and reads the points of a batch. An error is of a tile that cannot be read, or the
// context's.
func (s *Sampler) Sample(ctx context.Context, b *Batch) error {
	visits := make([]visit, len(b.Lon))
	for i := range visits {
		visits[i] = visit{point: int32(i), zone: int8(grid.ZoneAt(b.Lon[i])), below: allTiles}
	}
	for len(visits) > 0 {
		found, lost, err := s.locate(ctx, b, visits)
		if err != nil {
			return err
		}
		if err := s.read(ctx, b, found); err != nil {
			return err
		}
		visits = visits[:0:0]
		for _, v := range lost {
			if next, ok := nextDoor(b.Lon[v.point]); ok && !v.nextDoor {
				visits = append(visits, visit{point: v.point, zone: int8(next), nextDoor: true, tried: v.tried, below: allTiles})
				continue
			}
			b.Status[v.point] = Outside
			if v.tried {
				b.Status[v.point] = Missing
			}
		}
		for _, v := range found {
			if b.Status[v.point] == Outside { // the tile is as if it were not there
				v.tried = true
				visits = append(visits, v)
			}
		}
	}
	return nil
}

// seamDegrees is how near to its border a zone has tiles of the zone next door over it.
const seamDegrees = 0.1

// nextDoor is the zone whose tiles may lie over a point besides those of its own.
func nextDoor(lon float64) (zone int, ok bool) {
	own := grid.ZoneAt(lon)
	switch beyond := math.Mod(lon+180, 6); {
	case beyond <= seamDegrees && lon < 180:
		return (own+grid.Zones-2)%grid.Zones + 1, true
	case beyond >= 6-seamDegrees || lon == 180:
		return own%grid.Zones + 1, true
	}
	return 0, false
}

// locate finds the tiles of visits: those found have it in below, and are in the order in which they
// are best read.
func (s *Sampler) locate(ctx context.Context, b *Batch, visits []visit) (found, lost []visit, err error) {
	slices.SortFunc(visits, func(v, w visit) int {
		return cmp.Or(cmp.Compare(b.Year[v.point], b.Year[w.point]), cmp.Compare(v.zone, w.zone))
	})
	x, y := make([]float64, len(visits)), make([]float64, len(visits))
	found = make([]visit, 0, len(visits))
	for len(visits) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		year, zone, n := b.Year[visits[0].point], visits[0].zone, 1
		for n < len(visits) && b.Year[visits[n].point] == year && visits[n].zone == zone {
			n++
		}
		group := visits[:n]
		visits = visits[n:]
		z, err := s.zone(zoneKey{year, int(zone)})
		if err != nil {
			return nil, nil, err
		}
		if z == nil {
			lost = append(lost, group...)
			continue
		}
		for i, v := range group {
			x[i], y[i] = b.Lon[v.point], b.Lat[v.point]
		}
		if err := grid.Project(int(zone), x[:n], y[:n]); err != nil {
			return nil, nil, err
		}
		first := len(found)
		for i, v := range group {
			if z.find(&v, x[i], y[i]) {
				found = append(found, v)
			} else {
				lost = append(lost, v)
			}
		}
		slices.SortFunc(found[first:], func(v, w visit) int {
			return cmp.Or(cmp.Compare(v.below, w.below), cmp.Compare(v.row, w.row), cmp.Compare(v.col, w.col))
		})
	}
	return found, lost, nil
}

// tilesAtOnce is how many tiles are read side by side: more than there are processors, for a distant
// source takes its time for each.
const tilesAtOnce = 16

// read reads the visits of each tile, tiles side by side. Status is Outside after it where the tile
// could not be read.
func (s *Sampler) read(ctx context.Context, b *Batch, found []visit) error {
	into := mosaic.Values{Embeddings: b.Embeddings, Scales: b.Scales, Found: make([]mosaic.Found, len(b.Lon))}
	workers, working := errgroup.WithContext(ctx)
	workers.SetLimit(tilesAtOnce)
	for rest := found; len(rest) > 0 && working.Err() == nil; {
		head, n := rest[0], 1
		year := b.Year[head.point]
		for n < len(rest) && rest[n].below == head.below && rest[n].zone == head.zone && b.Year[rest[n].point] == year {
			n++
		}
		visits := rest[:n]
		rest = rest[n:]
		z, err := s.zone(zoneKey{year, int(head.zone)})
		if err != nil {
			_ = workers.Wait()
			return err
		}
		workers.Go(func() error {
			pixels := make([]mosaic.Pixel, len(visits))
			for i, v := range visits {
				pixels[i] = mosaic.Pixel{Row: v.row, Col: v.col, Number: v.point}
			}
			if err := s.pixels.Points(working, z.tile(s.dataset, int(head.below)), pixels, into); err != nil {
				return err
			}
			for _, v := range visits {
				b.Status[v.point] = [...]Status{mosaic.Absent: Outside, mosaic.NoData: NoData, mosaic.Data: Data}[into.Found[v.point]]
			}
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
