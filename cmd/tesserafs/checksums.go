package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

var _ source.Checksummer = (*reached)(nil)

// checksums finds the checksums that mount --verify holds objects against: CRC64NVME from the source, and
// SHA-256 from older manifests.
type checksums struct {
	source  source.Source
	offline bool
	log     *slog.Logger

	shown func() *catalogue.Catalogue // what the objects are of now

	// For sums, which one goroutine calls: the datasets of a catalogue whose manifests have no sums.
	of      *catalogue.Catalogue
	without map[*catalogue.Dataset]bool
}

func newChecksums(a *archive, shown func() *catalogue.Catalogue, log *slog.Logger) *checksums {
	return &checksums{source: a.source, offline: a.reach != nil && a.reach.flags.offline, log: log, shown: shown}
}

// sums finds those of objects, by name. It is called by one goroutine.
func (c *checksums) sums(ctx context.Context, names []string) ([]tilecache.Sums, error) {
	sums := make([]tilecache.Sums, len(names))
	if err := c.fromManifests(ctx, names, sums); err != nil {
		return nil, err
	}
	src, ok := c.source.(source.Checksummer)
	if !ok || c.offline {
		return sums, nil
	}
	for i, name := range names {
		sum, ok, err := src.Checksum(ctx, name)
		switch {
		case errors.Is(err, fs.ErrPermission), errors.Is(err, errors.ErrUnsupported):
			// Who may read an object need not be allowed to ask for its checksum.
		case err != nil:
			return nil, err
		case ok:
			sums[i].CRC64NVME = &sum
		}
	}
	return sums, nil
}

// fromManifests fills in the SHA-256 of arrays.
func (c *checksums) fromManifests(ctx context.Context, names []string, sums []tilecache.Sums) error {
	shown := c.shown()
	if c.of != shown {
		c.of, c.without = shown, map[*catalogue.Dataset]bool{}
	}
	for _, ds := range shown.Datasets {
		if c.without[ds] {
			continue
		}
		var tiles []catalogue.Tile
		for _, name := range names {
			if t, ok := tileOf(ds, name); ok {
				tiles = append(tiles, t)
			}
		}
		if len(tiles) == 0 {
			continue
		}
		order := func(a, b catalogue.Tile) int {
			if a.Year != b.Year {
				return a.Year - b.Year
			}
			return a.Cell.Compare(b.Cell)
		}
		slices.SortFunc(tiles, order)
		tiles = slices.CompactFunc(tiles, func(a, b catalogue.Tile) bool { return order(a, b) == 0 })
		of, err := shown.Sums(ctx, c.source, ds, tiles)
		if refused := new(catalogue.RefusedError); errors.As(err, &refused) {
			c.log.Warn("the checksums in a manifest cannot be read: its tiles are verified without them", "dataset", ds.Name(), "error", err)
			of, err = nil, nil
		}
		if err != nil {
			return err
		}
		if of == nil {
			c.without[ds] = true
			continue
		}
		for i, t := range tiles {
			embeddings, scales, _ := ds.Objects(t.Year, t.Cell)
			for j, name := range names {
				switch name {
				case embeddings:
					sums[j].SHA256 = of[i].Embeddings
				case scales:
					sums[j].SHA256 = of[i].Scales
				}
			}
		}
	}
	return nil
}

// tileOf is the tile of a dataset that an array is of, by the name of the array.
func tileOf(ds *catalogue.Dataset, name string) (catalogue.Tile, bool) {
	cell, err := grid.ParseCell(strings.TrimSuffix(strings.TrimSuffix(path.Base(name), ".npy"), "_scales"))
	year, errYear := strconv.Atoi(path.Base(path.Dir(path.Dir(name))))
	if err != nil || errYear != nil {
		return catalogue.Tile{}, false
	}
	if embeddings, scales, _ := ds.Objects(year, cell); name != embeddings && name != scales {
		return catalogue.Tile{}, false
	}
	return ds.Tiles(year, 0).Find(cell)
}
