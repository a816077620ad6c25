package catalogue

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

// prober finds an archive whose directories cannot be listed: it asks for what the layouts have, under
// the names of datasets that may be there.
type prober struct {
	*opener
	dirs directories
}

func (p *prober) probe(ctx context.Context) error {
	for _, name := range p.candidates {
		if err := p.probeCurrent(ctx, name); err != nil {
			return err
		}
	}
	a, err := p.ask(ctx, manifestName)
	if err != nil || a.obj == nil {
		return err
	}
	return p.probeMirror(ctx, a.obj)
}

// ask opens an object. What is not there is remembered for the message that nothing was found.
func (p *prober) ask(ctx context.Context, name string) (*answer, error) {
	a, err := p.copies.open(ctx, name)
	if err == nil && a.obj == nil {
		p.absent = append(p.absent, name)
	}
	return a, err
}

// probeCurrent asks for npy/<dataset>/manifest.parquet, and which landmasks there are for it.
func (p *prober) probeCurrent(ctx context.Context, name string) error {
	at := currentPlace(name, nil)
	a, err := p.ask(ctx, at.manifest)
	if err != nil || a.obj == nil {
		return err
	}
	p.dirs.add(at.tiles)
	masks := []string{at.masks}
	if at.version == "2.0" {
		masks = append(masks, landmasksDir+"/v1.1") // see currentPlace
	}
	for _, dir := range masks {
		a, err := p.copies.open(ctx, dir+"/"+registryName)
		if err != nil {
			return err
		}
		if a.obj != nil {
			p.dirs.add(dir)
			return nil
		}
	}
	return nil
}

// probeMirror finds the directories of tiles beside a manifest of all datasets: it asks for a few tiles
// of each, where they would lie. Only directories of known datasets are asked for: a manifest's versions
// and variants never become paths.
func (p *prober) probeMirror(ctx context.Context, manifest source.Object) error {
	var places []place
	for _, name := range p.candidates {
		if version, variant := identify(name); version != "" {
			entries := []source.Entry{{Name: tilesDir, Dir: true}}
			if variant != "" {
				entries = append(entries, source.Entry{Name: tilesDir + "." + variant, Dir: true})
			}
			places = append(places, mirrorPlaces(versionPath(version), entries)...)
		}
	}
	if slices.Contains(p.candidates, flatName) {
		places = append(places, flatPlace())
	}
	slices.SortFunc(places, func(a, b place) int { return strings.Compare(a.tiles, b.tiles) })
	places = slices.CompactFunc(places, func(a, b place) bool { return a.tiles == b.tiles })
	samples, err := sampleTiles(ctx, manifestName, manifest, places)
	if err != nil {
		return err
	}
	for i, at := range places {
		for k, s := range samples[i] {
			tile, _, _ := (&Dataset{place: at}).Objects(s.year, s.cell)
			there, err := p.there(ctx, tile)
			if err != nil {
				return err
			}
			if there {
				p.dirs.add(at.tiles)
				break
			}
			if k == 0 {
				p.absent = append(p.absent, tile)
			}
		}
	}
	return nil
}

// there asks whether there is an object.
func (p *prober) there(ctx context.Context, name string) (bool, error) {
	obj, err := p.src.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, obj.Close()
}

// sample is a tile that a manifest lists.
type sample struct {
	year int
	cell grid.Cell
}

// samplesEach is how many tiles of a dataset are asked for: one may be missing.
const samplesEach = 3

var errEnough = errors.New("enough")

// sampleTiles takes a few tiles from a manifest for each dataset that its rows may be of.
func sampleTiles(ctx context.Context, name string, obj source.Object, places []place) ([][]sample, error) {
	t, err := openTable(ctx, name, obj)
	if err != nil {
		return nil, err
	}
	c, err := findColumns(t, true)
	if err != nil {
		return nil, err
	}
	s := &sampler{rows: &manifestReader{rowColumns: c}, places: places, samples: make([][]sample, len(places))}
	for group := range t.groups() {
		if err := t.read(ctx, group, c.columns, s.batch); errors.Is(err, errEnough) {
			break
		} else if err != nil {
			return nil, err
		}
	}
	return s.samples, nil
}

type sampler struct {
	rows    *manifestReader
	places  []place
	samples [][]sample // of each place
}

func (s *sampler) batch(all span) error {
	for lo := 0; lo < all.hi; {
		run := all
		run.lo, run.hi = lo, lo+1
		for run.hi < all.hi && s.rows.alike(all.v, lo, run.hi) {
			run.hi++
		}
		lo = run.hi
		if err := s.run(run); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(s.samples, func(of []sample) bool { return len(of) < samplesEach }) {
		return errEnough
	}
	return nil
}

// run takes samples of rows that are of one version, variant and year: the first, the last, and one
// between them.
func (s *sampler) run(run span) error {
	c := s.rows.rowColumns
	for i, at := range s.places {
		if len(s.samples[i]) >= samplesEach ||
			c.version >= 0 && at.version != "" && at.version != fullVersion(run.v[c.version].texts[run.lo]) ||
			c.variant >= 0 && at.variant != "" && at.variant != run.v[c.variant].texts[run.lo] {
			continue
		}
		cells := make([]grid.Cell, run.hi-run.lo)
		f := fault{at: len(cells)}
		year := run.ints(c.year)[0]
		if c.present(year, &f, run, c.year, 0) && (year < 1 || year > maxYear) {
			c.refuse(&f, run, c.year, 0, "is %d: years are 1 to %d", year, maxYear)
		}
		if f.err == nil {
			c.readCells(cells, run, &f)
		}
		if f.err != nil {
			return f.err
		}
		for _, at := range []int{0, len(cells) / 2, len(cells) - 1} {
			if tile := (sample{int(year), cells[at]}); len(s.samples[i]) < samplesEach && !slices.Contains(s.samples[i], tile) {
				s.samples[i] = append(s.samples[i], tile)
			}
		}
	}
	return nil
}
