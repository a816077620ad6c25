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

// Config says what of an archive is wanted. The zero Config is all of it, read from the source itself.
type Config struct {
	Dataset string // only this one; "" for all

	// Dir is a directory for copies of manifests and landmask registries, and of the names of
	// directories, which several processes may share; "" keeps none. Remote sources want one.
	Dir string
	// Offline takes what Dir has, and asks the source for nothing.
	Offline bool
	// Candidates are names of datasets that a source is asked for which cannot list its directories;
	// nil for the published ones, or for Dataset where that is named.
	Candidates []string
	// Previous is what was found earlier, of the same source: what has not changed since is taken from
	// there and not read again.
	Previous *Catalogue

	// Progress, if not nil, is called now and then while directories are scanned, with the number of
	// tiles found so far, and never twice at once.
	Progress func(tiles int)
	// Fetched, if not nil, is called now and then while an object is fetched into Dir, and never twice
	// at once.
	Fetched func(name string, done, total int64)

	Log *slog.Logger // nil for none
}

// Catalogue is which tiles an archive has. It never changes.
type Catalogue struct {
	Datasets []*Dataset // those that have tiles, sorted by name

	cfg Config // that it was opened with, without what was passing
}

// Open finds out which tiles an archive has. A manifest or registry that is wrong is a
// [*RefusedError]; a source that holds no tiles, or not the dataset asked for, is [ErrNoArchive]; what is
// not kept and is asked for offline is source.ErrUnavailable; other errors are the source's.
func Open(ctx context.Context, src source.Source, cfg Config) (*Catalogue, error) {
	o := newOpener(src, cfg)
	defer o.copies.close()
	c, err := o.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", src, err)
	}
	c.cfg = Config{Dir: cfg.Dir, Offline: cfg.Offline, Log: cfg.Log}
	return c, nil
}

// opener is one call of Open.
type opener struct {
	src        source.Source
	copies     *copies
	candidates []string // names of datasets to ask for
	only       string
	previous   *Catalogue
	progress   func(int)
	log        *slog.Logger
	masks      map[masksKey]*landmasks // that have been read
	stale      staleness               // of the directories
	absent     []string                // what was asked for in vain where nothing can be listed

	mu    sync.Mutex // guards tiles, and calls of progress, which need not bear two at once
	tiles int        // found by scanning
}

func newOpener(src source.Source, cfg Config) *opener {
	o := &opener{src: src, only: cfg.Dataset, candidates: cfg.Candidates, previous: cfg.Previous, progress: cfg.Progress,
		log: cfg.Log, masks: make(map[masksKey]*landmasks)}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if o.candidates == nil {
		o.candidates = published()
		if cfg.Dataset != "" {
			o.candidates = []string{cfg.Dataset}
		}
	}
	o.candidates = slices.DeleteFunc(slices.Clone(o.candidates), func(name string) bool { return !isName(name) })
	o.copies = &copies{src: src, dir: cfg.Dir, offline: cfg.Offline, log: o.log, fetched: cfg.Fetched}
	return o
}

type masksKey struct{ registry, masks, version string }

func (o *opener) wanted(p place) bool { return o.only == "" || o.only == p.name }

func (o *opener) open(ctx context.Context) (*Catalogue, error) {
	places, err := o.discover(ctx)
	if err != nil {
		return nil, err
	}
	places = o.distinct(places)
	if len(places) == 0 {
		return nil, o.nothing()
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
	c.share(o.previous)
	if slices.ContainsFunc(c.Datasets, func(d *Dataset) bool { return d.Len() >= manyRows }) {
		// Reading took more memory than is kept. The catalogue is opened once, by a process that
		// then runs for weeks: give it back now.
		debug.FreeOSMemory()
	}
	return c, nil
}

// nothing is the error of a source in which no layout was found.
func (o *opener) nothing() error {
	if o.absent == nil {
		return fmt.Errorf("%w: looked for %s", ErrNoArchive, expected)
	}
	return fmt.Errorf("%w: it cannot be listed, so it was asked for %s, and has none: name an archive's top, or the directory of a dataset that has a manifest",
		ErrNoArchive, strings.Join(o.absent, ", "))
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
	list, err := o.copies.open(ctx, manifest)
	if err != nil {
		return nil, err
	}
	if datasets, err := o.unchanged(ctx, list, places); datasets != nil || err != nil {
		return datasets, err
	}
	listed, err := o.readManifest(ctx, manifest, list.obj, places)
	if err != nil {
		return nil, err
	}
	var datasets []*Dataset
	for i, p := range places {
		if !o.wanted(p) {
			continue
		}
		d := &Dataset{place: p, origin: manifest, from: stateOf(list), stale: older(o.stale, list.stale)}
		parts := listed[i].parts
		if listed[i].rows == 0 {
			d.origin, d.from = "scan of "+p.tiles, state{}
			if parts, err = o.scan(ctx, p); errors.Is(err, errors.ErrUnsupported) {
				err = fmt.Errorf("%s has no manifest that lists a tile, and its directories cannot be listed: write one: %w", p.tiles, err)
			}
			if err != nil {
				return nil, err
			}
		}
		if len(parts) == 0 {
			o.log.Warn("no tiles: the dataset is not shown", "dataset", p.name, "directory", p.tiles)
			continue
		}
		registry, err := o.copies.open(ctx, p.registry)
		if err != nil {
			return nil, err
		}
		if d.land, err = o.landmasks(ctx, p, registry.obj, d.stale.why != ""); err != nil {
			return nil, err
		}
		d.landFrom, d.stale = stateOf(registry), older(d.stale, registry.stale)
		d.years = newTileYears(parts, d.land)
		o.log.Info("dataset opened", "dataset", d.name, "origin", d.origin, "tiles", d.Len(), "landmasks", len(d.land.cells))
		datasets = append(datasets, d)
	}
	return datasets, nil
}

// readManifest reads the manifest of places; obj is nil where there is none.
func (o *opener) readManifest(ctx context.Context, name string, obj source.Object, places []place) ([]found, error) {
	if obj == nil {
		return make([]found, len(places)), nil
	}
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

// landmasks reads the landmasks of a dataset: a registry's, and otherwise those in the directory. Where
// that cannot be listed, by its nature or because the source cannot be reached for the rest either, none
// are known, which makes no pixel another: a tile's landmask is asked for when the tile is read.
func (o *opener) landmasks(ctx context.Context, p place, registry source.Object, stale bool) (*landmasks, error) {
	key := masksKey{p.registry, p.masks, p.version}
	if m := o.masks[key]; m != nil {
		return m, nil
	}
	var m *landmasks
	var err error
	unlisted := o.copies.offline
	if registry != nil {
		if m, err = readRegistry(ctx, p.registry, registry, p.version); err == nil {
			err = registry.Check(ctx)
		}
	} else if !unlisted {
		m, err = listLandmasks(ctx, o.src, p.masks)
		unlisted = errors.Is(err, errors.ErrUnsupported) || err != nil && stale && unreachable(ctx, err)
	}
	switch {
	case registry == nil && unlisted:
		o.log.Warn("which landmasks there are cannot be listed: each is asked for when its tile is read", "dataset", p.name, "directory", p.masks)
		m = &landmasks{}
	case err != nil:
		return nil, err
	case len(m.cells) == 0:
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
