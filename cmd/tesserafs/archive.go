package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
)

// archive is a source and which tiles it has.
type archive struct {
	source    *localdir.Source
	catalogue *catalogue.Catalogue
}

// openArchive finds the archive at path, its top directory or one dataset's. On a terminal a scan
// shows how far it is.
func openArchive(ctx context.Context, path string, log *slog.Logger) (*archive, error) {
	root, dataset, err := catalogue.Locate(path)
	if err != nil {
		return nil, sourceError(fmt.Errorf("cannot open the archive: %w", err))
	}
	src, err := localdir.Open(root)
	if err != nil {
		return nil, sourceError(err)
	}
	bar := newProgress("scanning "+root, 0)
	cat, err := catalogue.Open(ctx, src, catalogue.Config{Dataset: dataset, Progress: bar.set, Log: log})
	bar.end()
	if err != nil {
		return nil, interrupted(ctx, sourceError(err))
	}
	return &archive{src, cat}, nil
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
