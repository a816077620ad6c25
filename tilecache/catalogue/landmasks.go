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

// landmasks are the landmasks of a dataset in the order of their cells. Several datasets may share
// them.
type landmasks struct {
	registry bool // the cells are those of a registry, and not what a directory holds
	cells    []grid.Cell
	sizes    []uint32 // bytes, or unknownSize; 0 where a registry says that there is none
	seconds  []uint32 // 0 where the time is not known
}

func newLandmasks(r *rows, registry bool) *landmasks {
	m := &landmasks{registry, r.cells, r.embeddings, r.seconds}
	if keep := order(m.cells); keep != nil {
		m.cells, m.sizes, m.seconds = pick(m.cells, keep), pick(m.sizes, keep), pick(m.seconds, keep)
	}
	return m
}

// addTimes makes tiles, in order, at least as new as their landmasks: another landmask makes other
// pixels.
func (m *landmasks) addTimes(cells []grid.Cell, seconds []uint32) {
	at := 0
	for i, c := range cells {
		for at < len(m.cells) && sortKey(m.cells[at]) < sortKey(c) {
			at++
		}
		if at == len(m.cells) {
			return
		}
		if m.cells[at] == c && m.sizes[at] > 0 {
			seconds[i] = max(seconds[i], m.seconds[at])
		}
	}
}

// size finds a landmask.
func (m *landmasks) size(c grid.Cell) (int64, bool) {
	i, found := slices.BinarySearchFunc(m.cells, c, grid.Cell.Compare)
	if !found {
		return 0, false
	}
	return sizeOf(m.sizes[i]), true
}

// readRegistry reads a landmask registry; of one that covers several versions, the rows of one.
// Whether there is a mask is for its size to say: the paths in a registry are not read, and in some
// are empty throughout.
func readRegistry(ctx context.Context, name string, obj source.Object, version string) (*landmasks, error) {
	t, err := openTable(ctx, name, obj)
	if err != nil {
		return nil, err
	}
	c, err := findColumns(t, false)
	if err != nil {
		return nil, err
	}
	groups := make([][]*rows, t.groups())
	err = c.readGroups(ctx, func(group int) func(span) error {
		return func(all span) error {
			for lo := 0; lo < all.hi; {
				s := all
				s.lo, s.hi = lo, lo+1
				for s.hi < all.hi && (c.version < 0 || all.v[c.version].texts[lo] == all.v[c.version].texts[s.hi]) {
					s.hi++
				}
				lo = s.hi
				if c.version >= 0 && version != "" && fullVersion(s.v[c.version].texts[s.lo]) != version {
					continue
				}
				groups[group] = withRoom(groups[group], s.hi-s.lo)
				if err := c.add(groups[group][len(groups[group])-1], s, 0); err != nil {
					return err
				}
			}
			return nil
		}
	})
	if err != nil {
		return nil, err
	}
	all := joined(slices.Concat(groups...))
	return newLandmasks(all, true), nil
}

// listLandmasks takes what lies in the directory of the landmasks, which need not exist.
func listLandmasks(ctx context.Context, src source.Source, dir string) (*landmasks, error) {
	entries, err := src.List(ctx, dir, true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := &rows{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name, ".tiff")
		if !ok || e.Dir {
			continue
		}
		if cell, err := grid.ParseCell(name); err == nil {
			size, newest := infoOf(e.Info)
			if size == 0 {
				size = unknownSize // An empty file is not a mask that is not there: reading it must fail.
			}
			all.add(cell, size, unknownSize, newest)
		}
	}
	return newLandmasks(all, false), nil
}

// infoOf is what a listing knows of an object: nothing of a link that leads nowhere, or a directory. No time can be
// kept but those from 1970 to 2106; the nearest stands for others.
func infoOf(info source.Info) (size, seconds uint32) {
	if info.ModTime.IsZero() || info.Size > maxSize {
		return unknownSize, 0
	}
	return uint32(max(0, info.Size)), secondsOf(info.ModTime)
}
