package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

const (
	// warmAtOnce is how many objects are under way: those that are in the cache already, and small
	// ones, take a request each and nothing else.
	warmAtOnce = 32

	// givenUp is after how many objects one after another a source that gives none is given up.
	givenUp = 16
)

// warmer fetches tiles into the cache and tells what came of it.
type warmer struct {
	archive *archive
	shown   *transfer
	out     io.Writer
	begun   time.Time

	mu      sync.Mutex // guards what follows
	rows    []*warmRow // of the datasets
	failing int        // objects in a row that the source did not give
}

// warmRow counts the tiles of a dataset.
type warmRow struct {
	dataset        string
	tiles          int
	whole          int // in the cache, all of it
	wrong, failed  int // are not what is listed; could not be had
	fetched, there int64
}

// warmTile is a tile under way.
type warmTile struct {
	of     *warmRow
	tile   catalogue.Tile
	left   int // objects
	wrong  bool
	failed bool
}

func newWarmer(a *archive, shown *transfer, out io.Writer) *warmer {
	return &warmer{archive: a, shown: shown, out: out, begun: time.Now()}
}

// fetch has tiles of a dataset in the cache, or says why not. It fails when the rest is not to be tried.
func (w *warmer) fetch(ctx context.Context, ds *catalogue.Dataset, tiles iter.Seq[catalogue.Tile]) error {
	row := &warmRow{dataset: ds.Name()}
	w.rows = append(w.rows, row)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(warmAtOnce)
	for tile := range tiles {
		t := &warmTile{of: row, tile: tile, left: 3}
		for o := range warmObjects(ds, tile) {
			work.Go(func() error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				fetched, there, err := w.object(ctx, o)
				if errors.Is(err, context.Canceled) && ctx.Err() != nil {
					err = ctx.Err() // which says nothing of the object
				}
				return w.done(t, o, fetched, there, err)
			})
		}
		if ctx.Err() != nil {
			break
		}
	}
	return work.Wait()
}

// wrongError is about an object that is not what is listed.
type wrongError string

func (e wrongError) Error() string { return string(e) }

// object has an object in the cache.
func (w *warmer) object(ctx context.Context, o warmObject) (fetched, there int64, err error) {
	a := w.archive
	held, there, known := a.disk.Held(a.source.String(), o.name)
	obj, err := a.objects.Open(ctx, o.name)
	absent := errors.Is(err, fs.ErrNotExist) && !errors.Is(err, source.ErrUnavailable)
	switch {
	case absent && o.by == "":
		w.shown.resize(-o.likely)
		return 0, 0, nil
	case absent:
		return 0, 0, wrongError("is not there, and " + o.by + " lists it")
	case err != nil:
		return 0, 0, err
	}
	defer obj.Release()
	info := obj.Info()
	switch {
	case o.listed >= 0 && info.Size != o.listed:
		return 0, 0, wrongError(fmt.Sprintf("has %d bytes, %s says %d", info.Size, o.by, o.listed))
	case info.Size > o.most:
		return 0, 0, wrongError(fmt.Sprintf("has %d bytes; at most %d are read", info.Size, o.most))
	}
	w.shown.resize(info.Size - o.likely)
	if !known || held.Size != info.Size || held.ETag != info.ETag || !held.ModTime.Equal(info.ModTime) {
		there = 0
	}
	left := there
	_, err = a.objects.Warm(ctx, o.name, func(bytes int64, new bool) {
		old := int64(0)
		if !new { // or opening has just brought it along
			old = min(bytes, left)
			left -= old
		}
		fetched += bytes - old
		w.shown.add(bytes-old, old)
	})
	return fetched, there - left, err
}

// done notes what came of an object.
func (w *warmer) done(t *warmTile, o warmObject, fetched, there int64, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.of.fetched += fetched
	t.of.there += there
	if errors.Is(err, context.Canceled) {
		return err
	}
	var wrong wrongError
	var ends error
	switch {
	case err == nil:
		w.failing = 0
	case errors.Is(err, tilecache.ErrNotKept):
		ends = err
	case errors.As(err, &wrong):
		t.wrong = true
		err = w.say("wrong", t, o, wrong.Error()+"; take it from the archive's owner, or report it")
	default:
		t.failed = true
		if w.failing++; w.failing == givenUp {
			ends = &coded{exitUnreachable, fmt.Errorf("%s gave none of the last %d objects: run it again later, to go on", w.archive.source, givenUp)}
		}
		err = w.say("failed", t, o, oneLine(err.Error()))
	}
	if t.left--; t.left == 0 {
		t.of.tiles++
		switch {
		case t.wrong:
			t.of.wrong++
		case t.failed:
			t.of.failed++
		default:
			t.of.whole++
		}
		w.shown.tile()
	}
	return cmp.Or(ends, err)
}

// say prints a line about an object.
func (w *warmer) say(what string, t *warmTile, o warmObject, why string) error {
	line := fmt.Sprintf("%s: %s %d %s: %s: %s\n", what, t.of.dataset, t.tile.Year, t.tile.Cell, o.name, why)
	if _, err := io.WriteString(w.shown.over(w.out), line); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

// report prints what came of it. ended is why the run ended early, nil where it did not; the error is
// that of the command.
func (w *warmer) report(ended error) error {
	rows := [][]string{{"DATASET", "TILES", "KEPT", "WRONG", "FAILED", "FETCHED", "THERE ALREADY"}}
	all := &warmRow{dataset: "all"}
	for _, r := range w.rows {
		all.tiles, all.whole, all.wrong, all.failed = all.tiles+r.tiles, all.whole+r.whole, all.wrong+r.wrong, all.failed+r.failed
		all.fetched, all.there = all.fetched+r.fetched, all.there+r.there
	}
	list := w.rows
	if len(list) > 1 {
		list = append(list, all)
	}
	for _, r := range list {
		rows = append(rows, []string{r.dataset, group(r.tiles), group(r.whole), group(r.wrong), group(r.failed), byteSize(r.fetched).String(), byteSize(r.there).String()})
	}
	table(w.out, "", rows)
	took := time.Since(w.begun)
	fmt.Fprintf(w.shown, "fetched %s in %s\n", speed(all.fetched, took), took.Round(time.Second/10))
	switch {
	case ended != nil:
		return ended
	case all.wrong > 0:
		return &coded{exitData, fmt.Errorf("of %s %s are kept, %s wrong, %s failed", count(all.tiles, "tile"), group(all.whole), group(all.wrong), group(all.failed))}
	case all.failed > 0:
		return &coded{exitUnreachable, fmt.Errorf("of %s %s are kept, %s failed: run warm again", count(all.tiles, "tile"), group(all.whole), group(all.failed))}
	}
	return nil
}

// speed writes so many bytes, and how many a second that is.
func speed(bytes int64, took time.Duration) string {
	text := byteSize(bytes).String()
	if took >= time.Second/10 && bytes > 0 {
		text += fmt.Sprintf(" (%s/s)", byteSize(float64(bytes)/took.Seconds()))
	}
	return text
}
