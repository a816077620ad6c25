package catalogue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

const (
	// scanWorkers is how many directories are listed at once. On a disk of this machine two would
	// do; on a network's it is waiting that takes the time.
	scanWorkers = 16
	// progressTiles is how many tiles lie between two calls of Config.Progress.
	progressTiles = 512
)

// scan finds the tiles of a dataset: in each directory named for a year, what is named for a cell.
// Such a directory is a tile whatever it holds, for it says that there should be one: an NPY that is
// not in it has size -1, and reading it fails.
func (o *opener) scan(ctx context.Context, p place) (map[int][]*rows, error) {
	if o.copies.offline {
		return nil, fmt.Errorf("%s has no manifest, and cannot be scanned offline: %w", p.tiles, source.ErrUnavailable)
	}
	entries, err := o.src.List(ctx, p.tiles, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	years := make(map[int][]*rows)
	for _, e := range entries {
		year, ok := isYear(e.Name)
		if !ok || !e.Dir {
			continue
		}
		found, err := o.scanYear(ctx, p.tiles+"/"+e.Name)
		if err != nil {
			return nil, err
		}
		if len(found.cells) > 0 {
			years[year] = []*rows{found}
		}
	}
	o.scanned(0)
	return years, nil
}

func (o *opener) scanYear(ctx context.Context, dir string) (*rows, error) {
	entries, err := o.src.List(ctx, dir, false)
	if err != nil {
		return nil, err
	}
	all := &rows{}
	workers, working := errgroup.WithContext(ctx)
	workers.SetLimit(scanWorkers)
	// The workers write to places of their own, which exist before the first begins.
	tiles := slices.DeleteFunc(entries, func(e source.Entry) bool {
		cell, err := grid.ParseCell(e.Name)
		if err != nil {
			o.log.Debug("ignored: not named for a tile", "directory", dir, "name", e.Name)
			return true
		}
		all.add(cell, unknownSize, unknownSize, 0)
		return false
	})
	for i, e := range tiles {
		if working.Err() != nil {
			break
		}
		workers.Go(func() (err error) {
			defer o.scanned(1)
			all.embeddings[i], all.scales[i], all.seconds[i], err = o.scanTile(working, dir+"/"+e.Name, e.Name)
			return err
		})
	}
	if err := workers.Wait(); err != nil {
		return nil, err
	}
	return all, ctx.Err()
}

// scanTile looks at the two objects of a tile.
func (o *opener) scanTile(ctx context.Context, dir, name string) (embeddings, scales, seconds uint32, err error) {
	embeddings, scales = unknownSize, unknownSize
	entries, err := o.src.List(ctx, dir, true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // as a link is that leads nowhere
		return 0, 0, 0, err
	}
	for _, e := range entries {
		to := &embeddings
		switch e.Name {
		case name + ".npy":
		case name + "_scales.npy":
			to = &scales
		default:
			continue
		}
		size, newest := infoOf(e.Info)
		*to, seconds = size, max(seconds, newest)
	}
	return embeddings, scales, seconds, nil
}

// scanned counts tiles and tells now and then, and when asked with none.
func (o *opener) scanned(tiles int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tiles += tiles
	if o.progress != nil && (tiles == 0 || o.tiles%progressTiles == 0) {
		o.progress(o.tiles)
	}
}
