// Package audit looks at the tiles of an archive and says what is wrong with them, before a reader
// finds out.
//
// # Objective
//
// A tile is right if a mosaic serves all of it. So it is judged by the code that serves it
// ([mosaic.Mosaic.Inspect]), and this room adds what no read needs: that a landmask is there where a
// registry lists it and has the size that is listed, what the scales are, and whether whole objects
// have the checksums that somebody gives for them.
//
// # The way of a tile
//
// [Auditor.Run] takes tiles in catalogue order, a batch at a time: it projects their footprints and
// reads the SHA-256 sums that a legacy manifest has of them. Each tile is then looked at by one of
// Config.Jobs goroutines: its headers and its landmask (a few requests), and with Config.Full all of
// its scales and, as far as there are checksums, all bytes of its objects. Results come back in the
// order of the tiles, whichever was looked at first, so that two runs over one archive say the same.
//
// # Decisions
//
//   - Nothing is repaired, and nothing ends the run but its context: a tile that is wrong, or that
//     the source does not give, is a [Finding] and the next one's turn.
//   - Wrong and not seen are different things. What fails because of a network, a server or a disk
//     says nothing of the tile; looking again may help ([Unseen]).
//   - A tile without a landmask counts as all land, so a landmask that is missing is a [Warning];
//     unless the landmask registry gives its size, for then something was lost ([Wrong]).
//   - Scales that are finite numbers and no data (geotessera #355 has 3e4) are nodata by the rules of
//     the data, and a [Note].
//   - Objects are read through the tilecache, whose memory bounds what is kept. It must be one
//     without a disk cache: what is looked at is the source, not a copy of it.
//
// # Guarantees
//
// Memory does not grow with the number of tiles: a batch has 65,536 of them, and no more than a few
// results for each goroutine wait for one before them. No goroutine outlives Run.
package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

// batchTiles is how many tiles are got ready at once: some 12 MB, and with sums as much again. For
// the sums of each batch the manifest is read once.
const batchTiles = 65_536

// waitingFor is how many results for each goroutine may wait for one before them.
const waitingFor = 8

// ErrManifest: the checksums in a manifest cannot be read.
var ErrManifest = errors.New("the manifest's checksums cannot be read")

// Config says what to look at, and how closely.
type Config struct {
	Catalogue *catalogue.Catalogue
	Source    source.Source    // the catalogue's; it is asked for checksums, if it is a source.Checksummer
	Objects   *tilecache.Cache // of Source, without a disk cache
	Full      bool             // look at all scales and checksums, too
	Jobs      int              // tiles at once; the number of processors if 0
}

// Auditor looks at the tiles of one archive. Close it before the objects.
type Auditor struct {
	Config
	pixels *mosaic.Mosaic
	strips sync.Pool // of *[]byte, stripBytes each
}

// New makes an Auditor.
func New(cfg Config) (*Auditor, error) {
	if cfg.Jobs <= 0 {
		cfg.Jobs = runtime.GOMAXPROCS(0)
	}
	pixels, err := mosaic.New(mosaic.Config{Objects: cfg.Objects})
	if err != nil {
		return nil, err
	}
	return &Auditor{Config: cfg, pixels: pixels, strips: sync.Pool{New: func() any { b := make([]byte, stripBytes); return &b }}}, nil
}

// Close ends the Auditor.
func (a *Auditor) Close() { a.pixels.Close() }

// task is a tile with all that must be known to look at it.
type task struct {
	dataset   *catalogue.Dataset
	tile      catalogue.Tile
	footprint grid.Footprint
	sums      catalogue.Sums
}

// outcome is what became of a task.
type outcome struct {
	result Result
	err    error // ends the run
}

// Run looks at tiles of a dataset, which must come in catalogue order, and reports the result of
// each in that order, from the caller's goroutine. It ends with an error when the context ends, when
// report fails, or with [ErrManifest] (and a [*catalogue.RefusedError], or an error of the source);
// results so far have been reported. tiles runs in another goroutine than the caller's.
func (a *Auditor) Run(ctx context.Context, ds *catalogue.Dataset, tiles iter.Seq[catalogue.Tile], report func(Result) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// Each tile's place in the queue is taken before anybody looks at it.
	queue := make(chan chan outcome, waitingFor*a.Jobs)
	go a.enqueue(ctx, ds, tiles, queue)
	var failed error
	for place := range queue {
		out := <-place
		if failed != nil {
			continue // until those who look have noticed
		}
		if failed = out.err; failed == nil {
			failed = report(out.result)
		}
		if failed != nil {
			stop()
		}
	}
	return failed
}

// enqueue gets tiles ready and has them looked at. It closes the queue when all goroutines have ended.
func (a *Auditor) enqueue(ctx context.Context, ds *catalogue.Dataset, tiles iter.Seq[catalogue.Tile], queue chan<- chan outcome) {
	defer close(queue)
	var looking errgroup.Group
	looking.SetLimit(a.Jobs)
	defer looking.Wait()
	// Nobody waits to put something into a place, whoever is left to take it.
	put := func() chan outcome {
		place := make(chan outcome, 1)
		queue <- place
		return place
	}
	for batch := range batches(tiles) {
		tasks, err := a.prepare(ctx, ds, batch)
		if err != nil {
			put() <- outcome{err: err}
			return
		}
		for _, t := range tasks {
			place := put()
			looking.Go(func() error {
				result, err := a.look(ctx, t)
				place <- outcome{result, err}
				return nil
			})
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// batches draws tiles together.
func batches(tiles iter.Seq[catalogue.Tile]) iter.Seq[[]catalogue.Tile] {
	return func(yield func([]catalogue.Tile) bool) {
		var batch []catalogue.Tile
		for t := range tiles {
			if batch = append(batch, t); len(batch) == batchTiles {
				if !yield(batch) {
					return
				}
				batch = batch[:0]
			}
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}

// prepare finds out what must be known of tiles beforehand.
func (a *Auditor) prepare(ctx context.Context, ds *catalogue.Dataset, batch []catalogue.Tile) ([]task, error) {
	cells := make([]grid.Cell, len(batch))
	for i, t := range batch {
		cells[i] = t.Cell
	}
	footprints, err := grid.Footprints(cells)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ds.Name(), err)
	}
	var sums []catalogue.Sums
	if a.Full {
		if sums, err = a.Catalogue.Sums(ctx, a.Source, ds, batch); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrManifest, err)
		}
	}
	tasks := make([]task, len(batch))
	for i := range tasks {
		tasks[i] = task{dataset: ds, tile: batch[i], footprint: footprints[i]}
		if sums != nil {
			tasks[i].sums = sums[i]
		}
	}
	return tasks, nil
}
