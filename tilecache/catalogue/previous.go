package catalogue

import (
	"context"
	"slices"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// state is that of an object from which something was read. The zero state is none that can be told
// from another.
type state struct {
	absent bool
	info   source.Info
}

func stateOf(a *answer) state {
	if a.obj == nil {
		return state{absent: true}
	}
	return state{info: a.obj.Info()}
}

func (s state) same(other state) bool {
	return s.absent == other.absent && (s.absent || sameState(s.info, other.info))
}

// unchanged takes datasets from what was found earlier, if the objects that all of them were read from are
// the same still; otherwise it returns nil. What was found by listing directories is found again.
func (o *opener) unchanged(ctx context.Context, manifest *answer, places []place) ([]*Dataset, error) {
	if o.previous == nil || manifest.obj == nil {
		return nil, nil
	}
	var datasets []*Dataset
	for _, p := range places {
		if !o.wanted(p) {
			continue
		}
		i := slices.IndexFunc(o.previous.Datasets, func(d *Dataset) bool { return d.place == p })
		if i < 0 {
			return nil, nil
		}
		d := *o.previous.Datasets[i]
		registry, err := o.copies.open(ctx, p.registry)
		if err != nil {
			return nil, err
		}
		if d.origin != p.manifest || registry.obj == nil || !d.from.same(stateOf(manifest)) || !d.landFrom.same(stateOf(registry)) {
			return nil, nil
		}
		d.stale = older(o.stale, older(manifest.stale, registry.stale))
		datasets = append(datasets, &d)
	}
	return datasets, nil
}

// Equal says whether two catalogues list the same tiles and landmasks, from the same places. It takes
// about a nanosecond for a tile at the most, and none where one was opened with the other as
// Config.Previous and little has changed.
func (c *Catalogue) Equal(other *Catalogue) bool {
	return slices.EqualFunc(c.Datasets, other.Datasets, func(a, b *Dataset) bool {
		return a.place == b.place && a.origin == b.origin && a.land.equal(b.land) && slices.EqualFunc(a.years, b.years, (*tileYear).equal)
	})
}

// share takes what is equal from an earlier catalogue, so that it is not in memory twice.
func (c *Catalogue) share(previous *Catalogue) {
	if previous == nil {
		return
	}
	for _, d := range c.Datasets {
		i := slices.IndexFunc(previous.Datasets, func(old *Dataset) bool { return old.place == d.place })
		if i < 0 {
			continue
		}
		old := previous.Datasets[i]
		if d.land.equal(old.land) {
			d.land = old.land
		}
		for k, y := range d.years {
			if was := old.year(y.year); was != nil && y.equal(was) {
				d.years[k] = was
			}
		}
	}
}

func (m *landmasks) equal(other *landmasks) bool {
	return m == other || m.registry == other.registry && slices.Equal(m.cells, other.cells) &&
		slices.Equal(m.sizes, other.sizes) && slices.Equal(m.seconds, other.seconds)
}

func (y *tileYear) equal(other *tileYear) bool {
	return y == other || y.year == other.year && slices.Equal(y.cells, other.cells) && slices.Equal(y.embeddings, other.embeddings) &&
		slices.Equal(y.scales, other.scales) && slices.Equal(y.seconds, other.seconds)
}

// Memory is about how many bytes the catalogue takes.
func (c *Catalogue) Memory() int64 {
	n := int64(0)
	counted := make(map[*landmasks]bool)
	for _, d := range c.Datasets {
		n += 16 * int64(d.Len())
		if !counted[d.land] {
			counted[d.land] = true
			n += 12 * int64(len(d.land.cells))
		}
	}
	return n
}
