package catalogue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// ErrNoArchive: there are no tiles where an archive was looked for.
var ErrNoArchive = errors.New("no archive")

// Config says what of an archive is wanted. The zero Config is all of it.
type Config struct {
	Dataset string // only this one; "" for all

	// Progress, if not nil, is called now and then while directories are scanned, with the number of
	// tiles found so far, and never twice at once.
	Progress func(tiles int)

	Log *slog.Logger // nil for none
}

// Catalogue is which tiles an archive has. It never changes.
type Catalogue struct {
	Datasets []*Dataset // those that have tiles, sorted by name
}

// Open finds out which tiles an archive has. A manifest or registry that is wrong is a
// [*RefusedError]; a source that holds no tiles, or not the dataset asked for, is [ErrNoArchive];
// other errors are the source's.
func Open(ctx context.Context, src source.Source, cfg Config) (*Catalogue, error) {
	o := &opener{src: src, only: cfg.Dataset, progress: cfg.Progress, log: cfg.Log, masks: make(map[masksKey]*landmasks)}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	c, err := o.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", src, err)
	}
	return c, nil
}

// opener is one call of Open.
type opener struct {
	src      source.Source
	only     string
	progress func(int)
	log      *slog.Logger
	masks    map[masksKey]*landmasks // that have been read

	mu    sync.Mutex // guards tiles, and calls of progress, which need not bear two at once
	tiles int        // found by scanning
}

type masksKey struct{ registry, masks, version string }

func (o *opener) wanted(p place) bool { return o.only == "" || o.only == p.name }

func (o *opener) open(ctx context.Context) (*Catalogue, error) {
	places, err := findPlaces(func(dir string) ([]source.Entry, error) { return o.src.List(ctx, dir, false) })
	if err != nil {
		return nil, err
	}
	places = o.distinct(places)
	if len(places) == 0 {
		return nil, fmt.Errorf("%w: looked for %s", ErrNoArchive, expected)
	}
	if !slices.ContainsFunc(places, o.wanted) {
		return nil, fmt.Errorf("%w of a dataset %q: there is %s", ErrNoArchive, o.only, names(places))
	}
	c := &Catalogue{}
	for len(places) > 0 {
		// Datasets under one manifest are read together.
		manifest := places[0].manifest
		together := slices.DeleteFunc(slices.Clone(places), func(p place) bool { return p.manifest != manifest })
		places = slices.DeleteFunc(places, func(p place) bool { return p.manifest == manifest })
		datasets, err := o.openTogether(ctx, manifest, together)
		if err != nil {
			return nil, err
		}
		c.Datasets = append(c.Datasets, datasets...)
	}
	slices.SortFunc(c.Datasets, func(a, b *Dataset) int { return strings.Compare(a.name, b.name) })
	if len(c.Datasets) == 0 {
		return nil, fmt.Errorf("%w: no tiles in what is there; looked for %s", ErrNoArchive, expected)
	}
	if slices.ContainsFunc(c.Datasets, func(d *Dataset) bool { return d.Len() > 1_000_000 }) {
		// Reading so much took twice the memory that is kept. The catalogue is opened once, by a
		// process that then runs for weeks: give it back now.
		debug.FreeOSMemory()
	}
	return c, nil
}

// distinct drops datasets that have come before under the same name.
func (o *opener) distinct(places []place) []place {
	seen := make(map[string]string)
	return slices.DeleteFunc(places, func(p place) bool {
		first, double := seen[p.name]
		if double {
			o.log.Warn("a dataset lies in two places: the second is ignored", "dataset", p.name, "first", first, "second", p.tiles)
		} else {
			seen[p.name] = p.tiles
		}
		return double
	})
}

// openTogether opens the datasets that a manifest covers, if there is one, and scans those that it
// does not name.
func (o *opener) openTogether(ctx context.Context, manifest string, places []place) ([]*Dataset, error) {
	if !slices.ContainsFunc(places, o.wanted) {
		return nil, nil
	}
	listed, err := o.readManifest(ctx, manifest, places)
	if err != nil {
		return nil, err
	}
	var datasets []*Dataset
	for i, p := range places {
		if !o.wanted(p) {
			continue
		}
		origin, parts := manifest, listed[i].parts
		if listed[i].rows == 0 {
			origin = "scan of " + p.tiles
			if parts, err = o.scan(ctx, p); err != nil {
				return nil, err
			}
		}
		if len(parts) == 0 {
			o.log.Warn("no tiles: the dataset is not shown", "dataset", p.name, "directory", p.tiles)
			continue
		}
		d := &Dataset{place: p, origin: origin}
		if d.land, err = o.landmasks(ctx, p); err != nil {
			return nil, err
		}
		d.years = newTileYears(parts, d.land)
		o.log.Info("dataset opened", "dataset", d.name, "origin", d.origin, "tiles", d.Len(), "landmasks", len(d.land.cells))
		datasets = append(datasets, d)
	}
	return datasets, nil
}

// readManifest reads the manifest of places, which need not exist.
func (o *opener) readManifest(ctx context.Context, name string, places []place) ([]found, error) {
	obj, err := openIfThere(ctx, o.src, name)
	if err != nil {
		return nil, err
	}
	if obj == nil {
		return make([]found, len(places)), nil
	}
	defer obj.Close()
	listed, total, err := readManifest(ctx, name, obj, places, o.wanted)
	if err != nil {
		return nil, err
	}
	if err := obj.Check(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	ours := int64(0)
	for i, p := range places {
		ours += listed[i].rows
		if p.own && listed[i].rows == 0 && total > 0 {
			return nil, &RefusedError{Object: name, Row: -1, Err: fmt.Errorf("none of its %d rows is of version %q, variant %q, which its directory is named for", total, p.version, p.variant)}
		}
	}
	if ours < total {
		o.log.Info("rows of other datasets in a manifest are ignored", "manifest", name, "rows", total, "ignored", total-ours)
	}
	return listed, nil
}

// landmasks reads the landmasks of a dataset: a registry's, and otherwise those in the directory.
func (o *opener) landmasks(ctx context.Context, p place) (*landmasks, error) {
	key := masksKey{p.registry, p.masks, p.version}
	if m := o.masks[key]; m != nil {
		return m, nil
	}
	obj, err := openIfThere(ctx, o.src, p.registry)
	if err != nil {
		return nil, err
	}
	var m *landmasks
	if obj != nil {
		defer obj.Close()
		if m, err = readRegistry(ctx, p.registry, obj, p.version); err == nil {
			err = obj.Check(ctx)
		}
	} else {
		m, err = listLandmasks(ctx, o.src, p.masks)
	}
	if err != nil {
		return nil, err
	}
	if len(m.cells) == 0 {
		o.log.Warn("no landmasks: every pixel counts as land", "dataset", p.name, "directory", p.masks)
	}
	o.masks[key] = m
	return m, nil
}

// names lists datasets for a message.
func names(places []place) string {
	var all []string
	for _, p := range places {
		all = append(all, p.name)
	}
	slices.Sort(all)
	return abridged(strings.Join(all, ", "))
}
