package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/tilecache/source/remote"
)

// archive is a source and which tiles it has.
type archive struct {
	source    source.Source
	only      string // the one that was named with it; "" for all
	catalogue *catalogue.Catalogue
	reach     *reach // nil: it is a directory of this machine

	verify *tilecache.Verification // of objects that were read whole; nil: none

	objects *tilecache.Cache // nil until openCache
	disk    *disk.Cache      // nil: none
}

// openArchive finds an archive: in a directory, the top one or a dataset's, or elsewhere, by its address or
// its name. On a terminal a scan shows how far it is. The archive must be closed.
func openArchive(ctx context.Context, address string, f sourceFlags, log *slog.Logger) (*archive, error) {
	if err := f.checkSource(address); err != nil {
		return nil, err
	}
	a := &archive{}
	cfg := catalogue.Config{Log: log}
	if remote.Is(address) {
		r, found, err := openRemote(ctx, address, f, log)
		if errors.Is(err, fs.ErrInvalid) {
			return nil, usageError("%w", err)
		}
		if err != nil {
			return nil, interrupted(ctx, sourceError(err))
		}
		a.source, a.only, a.reach = found.Source, found.Dataset, r
		cfg = r.catalogue(found.Dataset)
	} else {
		root, dataset, err := catalogue.Locate(address)
		if err != nil {
			return nil, sourceError(fmt.Errorf("cannot open the archive: %w", err))
		}
		src, err := localdir.Open(root)
		if err != nil {
			return nil, sourceError(err)
		}
		a.source, a.only, cfg.Dataset = src, dataset, dataset
	}
	bar := newProgress("scanning "+a.source.String(), 0)
	cfg.Progress = bar.set
	fetching := newFetchProgress()
	cfg.Fetched = fetching.set
	var err error
	a.catalogue, err = catalogue.Open(ctx, a.source, cfg)
	bar.end()
	fetching.end()
	if err != nil {
		a.Close()
		return nil, interrupted(ctx, sourceError(err))
	}
	return a, nil
}

// openCache opens the cache of the archive's objects: of a directory, open files; of what is elsewhere,
// pages in so many bytes of memory, and on disk.
func (a *archive) openCache(memory int64) error {
	if a.reach == nil {
		a.objects = tilecache.New(a.source, tilecache.Config{Verify: a.verify})
		return nil
	}
	var err error
	if a.disk, err = a.reach.openDisk(); err != nil {
		return err
	}
	a.objects = tilecache.New(a.source, tilecache.Config{Memory: memory, Disk: a.disk, Pace: a.reach.pace, Offline: a.reach.flags.offline, Verify: a.verify})
	return nil
}

// Close ends what was opened, the cache first.
func (a *archive) Close() error {
	var errs []error
	if a.objects != nil {
		errs = append(errs, a.objects.Close())
	}
	if a.disk != nil {
		errs = append(errs, a.disk.Close())
	}
	if c, ok := a.source.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// sourceError gives an error of a source its exit code.
func sourceError(err error) error {
	var refused *catalogue.RefusedError
	switch {
	case errors.As(err, &refused):
		return &coded{exitData, err}
	case errors.Is(err, context.Canceled):
		return err
	}
	return &coded{exitUnreachable, err} // no archive is there, or it cannot be read
}

// interrupted says of a failure that it is the user's doing, where it is.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	return err
}

// datasets describes what an archive holds as a mount's status does.
func (a *archive) datasets() []synth.DatasetStatus { return synth.Describe(a.catalogue) }

// datasetTable is a table of what an archive holds, headed.
func datasetTable(datasets []synth.DatasetStatus) [][]string {
	rows := [][]string{{"DATASET", "YEARS", "ZONES", "TILES", "AS STORED", "LISTED IN"}}
	for _, d := range datasets {
		var years, zones []int
		for _, y := range d.Years {
			years = append(years, y.Year)
			zones = append(zones, y.Zones...)
		}
		slices.Sort(zones)
		rows = append(rows, []string{d.Name, ranges(years), ranges(slices.Compact(zones)), group(d.Tiles), byteSize(d.Bytes).String(), d.From})
	}
	return rows
}
