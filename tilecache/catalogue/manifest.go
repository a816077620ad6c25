package catalogue

import (
	"context"
	"errors"
	"fmt"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// found is what a manifest says of one dataset.
type found struct {
	parts map[int][]*rows // of each year, in the order of the manifest
	rows  int64           // before duplicates are dropped
}

// readManifest reads a manifest that covers datasets: what it says of each of them, those that are
// not wanted being counted only, and how many rows it has.
func readManifest(ctx context.Context, name string, obj source.Object, datasets []place, wanted func(place) bool) ([]found, int64, error) {
	t, err := openTable(ctx, name, obj)
	if err != nil {
		return nil, 0, err
	}
	c, err := findColumns(t, true)
	if err != nil {
		return nil, 0, err
	}
	readers := make([]*manifestReader, t.groups())
	err = c.readGroups(ctx, func(group int) func(span) error {
		readers[group] = &manifestReader{rowColumns: c, datasets: datasets, wanted: wanted,
			otherwise: secondsOf(obj.Info().ModTime), counts: make([]int64, len(datasets)),
			parts: make(map[partKey][]*rows)}
		return readers[group].batch
	})
	if err != nil {
		return nil, 0, err
	}
	all := make([]found, len(datasets))
	for i := range all {
		all[i].parts = make(map[int][]*rows)
	}
	for _, r := range readers {
		for key, parts := range r.parts {
			all[key.dataset].parts[key.year] = append(all[key.dataset].parts[key.year], parts...)
		}
		for i, n := range r.counts {
			all[i].rows += n
		}
	}
	return all, t.rows(), nil
}

// partKey names the rows of a row group that belong together.
type partKey struct {
	dataset int // index
	year    int
}

// manifestReader reads one row group.
type manifestReader struct {
	*rowColumns
	datasets  []place
	wanted    func(place) bool
	otherwise uint32              // the time of a row that has none
	counts    []int64             // rows of each dataset
	parts     map[partKey][]*rows // in their order
}

// batch takes rows that belong together, most often all, at a time.
func (r *manifestReader) batch(all span) error {
	for lo := 0; lo < all.hi; {
		s := all
		s.lo, s.hi = lo, lo+1
		for s.hi < all.hi && r.alike(all.v, lo, s.hi) {
			s.hi++
		}
		if err := r.rows(s); err != nil {
			return err
		}
		lo = s.hi
	}
	return nil
}

// alike says whether two rows are of the same version, variant and year.
func (r *manifestReader) alike(v []values, i, j int) bool {
	return v[r.year].ints[i] == v[r.year].ints[j] &&
		(r.version < 0 || v[r.version].texts[i] == v[r.version].texts[j]) &&
		(r.variant < 0 || v[r.variant].texts[i] == v[r.variant].texts[j])
}

// rows takes rows that are alike.
func (r *manifestReader) rows(s span) error {
	version, variant := "", ""
	if r.version >= 0 {
		version = s.v[r.version].texts[s.lo]
	}
	if r.variant >= 0 {
		variant = s.v[r.variant].texts[s.lo]
	}
	dataset, err := route(r.datasets, version, r.version >= 0, variant, r.variant >= 0)
	if err != nil {
		return r.table.refuseRow("", s.row+int64(s.lo), err)
	}
	if dataset < 0 {
		return nil
	}
	r.counts[dataset] += int64(s.hi - s.lo)
	if !r.wanted(r.datasets[dataset]) {
		return nil
	}
	var f fault
	year := s.ints(r.year)[0]
	if r.present(year, &f, s, r.year, 0) && (year < 1 || year > maxYear) {
		r.refuse(&f, s, r.year, 0, "is %d: years are 1 to %d", year, maxYear)
	}
	if f.err != nil {
		return f.err
	}
	return r.add(r.part(partKey{dataset, int(year)}, s.hi-s.lo), s, r.otherwise)
}

// part is where the next n rows go.
func (r *manifestReader) part(key partKey, n int) *rows {
	parts := withRoom(r.parts[key], n)
	r.parts[key] = parts
	return parts[len(parts)-1]
}

// route finds the dataset of a version and a variant, as far as there are columns for them. A
// dataset that holds any variant takes those that no other is named for.
func route(datasets []place, version string, hasVersion bool, variant string, hasVariant bool) (int, error) {
	best, tie, exact := -1, -1, false
	for i, d := range datasets {
		if hasVersion && d.version != "" && d.version != fullVersion(version) || hasVariant && d.variant != "" && d.variant != variant {
			continue
		}
		named := hasVariant && d.variant != ""
		switch {
		case best < 0 || named && !exact:
			best, tie, exact = i, -1, named
		case named == exact:
			tie = i
		}
	}
	if tie < 0 {
		return best, nil
	}
	what := "has no columns " + colVersion + " and " + colVariant
	if hasVersion || hasVariant {
		what = fmt.Sprintf("is of version %q, variant %q", abridged(version), abridged(variant))
	}
	return -1, errors.New(what + ", and may belong to " + datasets[best].name + " or to " + datasets[tie].name +
		": write one manifest for each, or remove it to have the directories scanned")
}
