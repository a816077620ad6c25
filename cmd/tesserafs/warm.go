package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source/remote"
)

type warmFlags struct {
	areaFlags
	sourceFlags
	dataset  string
	logLevel string
}

func warmCommand() *cobra.Command {
	var f warmFlags
	cmd := &cobra.Command{
		Use:   "warm SOURCE",
		Short: "Fetch what an area needs into the cache, to be read without a network",
		Long: `Fetch into the cache all that reading the tiles of an area and of some years takes: the manifest, the
landmask registry, and of each tile embeddings, scales and landmask. With --offline, mount, points and
info then read them without a network; the archive must have a manifest for that. What is in the cache
already is not fetched again, so warm that was ended goes on where it was when it is run once more.

Before it begins it says how much there is to fetch. It refuses what does not fit into --cache-size or
on the disk: what came first would be dropped for what comes last. Mounts that share the cache and are
not --offline should have the same --cache-size, for the lowest rules.

A line tells of each object that could not be fetched; a table of what was follows.

The exit code is 4 if a tile that is listed is not there or not what is listed; 3 if none is, but the
source did not give some; 1 after Ctrl-C, or if the cache keeps nothing.

` + exitHelp,
		Example: "  tesserafs warm tessera --bbox -0.9,52.1,0.3,52.7 --years 2020-2024 --cache-size 200GiB\n" +
			"  tesserafs mount tessera /mnt/tessera --offline",
		Args: arguments("SOURCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runWarm(cmd.Context(), cmd.OutOrStdout(), f, args[0])
		},
	}
	fl := cmd.Flags()
	f.areaFlags.add(fl)
	f.addSource(fl)
	fl.Var(&f.cacheSize, "cache-size", "limit of the pages of tiles in the cache")
	fl.StringVar(&f.dataset, "dataset", f.dataset, "only this dataset, where the archive has several")
	fl.StringVar(&f.logLevel, "log-level", f.logLevel, "debug, info, warn or error (default warn)")
	return cmd
}

// check says what cannot be meant.
func (f warmFlags) check(address string) error {
	if _, ok := logLevels[f.logLevel]; !ok && f.logLevel != "" {
		return usageError("--log-level is debug, info, warn or error, not %q", f.logLevel)
	}
	if f.cacheSize == 0 {
		return usageError("warm fetches into the cache: --cache-size cannot be 0")
	}
	if !remote.Is(address) {
		return usageError("there is nothing to warm: %s is a directory, which is read as it is; name an archive that is elsewhere, as s3://bucket/prefix is", address)
	}
	return nil
}

// warmMemory is for what is on its way to the disk: a quarter of it is used.
const warmMemory = 512 << 20

func runWarm(ctx context.Context, out io.Writer, f warmFlags, address string) error {
	if err := f.check(address); err != nil {
		return err
	}
	chosen, err := f.area()
	if err != nil {
		return err
	}
	level, asked := logLevels[f.logLevel]
	if !asked {
		level = slog.LevelWarn
	}
	shown := newTransfer(os.Stderr, isTerminal(os.Stderr))
	defer shown.end()
	log := slog.New(slog.NewTextHandler(shown, &slog.HandlerOptions{Level: level}))
	a, err := openArchive(ctx, address, f.sourceFlags, log)
	if err != nil {
		return err
	}
	defer a.Close()
	datasets := a.catalogue.Datasets
	if f.dataset != "" {
		ds, err := a.dataset(f.dataset)
		if err != nil {
			return err
		}
		datasets = []*catalogue.Dataset{ds}
	}
	if err := a.openCache(warmMemory); err != nil {
		return err
	}
	need, err := f.need(ctx, a, chosen, datasets)
	if err != nil {
		return toGoOn(ctx, err)
	}
	for _, ds := range datasets {
		if ds.Scanned() {
			log.Warn("there is no manifest: what is fetched is read from the cache, but not with --offline, as nothing else says which tiles there are", "dataset", ds.Name())
		}
	}
	fmt.Fprintf(os.Stderr, "%s: %s, %s, of which %s are in the cache already\n", a.source, count(need.tiles, "tile"), byteSize(need.bytes), byteSize(need.held))
	shown.begin(need.bytes, need.held)
	w := newWarmer(a, shown, out)
	for _, ds := range datasets {
		if err = w.fetch(ctx, ds, chosen.tiles(ds)); err != nil {
			break
		}
	}
	shown.end()
	return w.report(toGoOn(ctx, err))
}

// toGoOn says of a run that the user has ended that it can go on.
func toGoOn(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("interrupted: what has come is kept, run it again to go on")
	}
	return err
}

// warmNeed is what is to be in the cache in the end.
type warmNeed struct {
	tiles int
	bytes int64 // as far as it is listed
	held  int64 // of them, in the cache already
	takes int64 // of the disk
	more  int64 // likewise, for what is not in the cache yet
}

// need adds up what is to be in the cache, and refuses what does not fit.
func (f warmFlags) need(ctx context.Context, a *archive, chosen area, datasets []*catalogue.Dataset) (n warmNeed, err error) {
	for _, ds := range datasets {
		for t := range chosen.tiles(ds) {
			n.tiles++
			for o := range warmObjects(ds, t) {
				n.bytes += o.likely
				n.takes += disk.Takes(o.likely)
			}
		}
	}
	if n.tiles == 0 {
		return n, usageError("%s holds no tile in the area and years asked for: see what it holds with tesserafs info", a.source)
	}
	if err := n.fitsLimit(f.cacheSize); err != nil {
		return n, err
	}
	// Only now, for they may be millions.
	for _, ds := range datasets {
		for t := range chosen.tiles(ds) {
			if ctx.Err() != nil {
				return n, ctx.Err()
			}
			for o := range warmObjects(ds, t) {
				_, held, _ := a.disk.Held(a.source.String(), o.name)
				held = min(held, o.likely)
				n.held += held
				if held < o.likely {
					n.more += disk.Takes(o.likely) - held
				}
			}
		}
	}
	free, err := a.disk.Free()
	if err != nil {
		return n, err
	}
	return n, n.fitsDisk(f.cacheSize, a.disk.Stats().BytesKept, free, a.reach.dir)
}

// fitsLimit refuses what is more than the cache may keep.
func (n warmNeed) fitsLimit(limit byteSize) error {
	if least := disk.LimitFor(n.takes); least > int64(limit) {
		return usageError("%s are %s: at --cache-size %s the first of them would be dropped for the last; give --cache-size %s or more, or choose fewer (--bbox, --polygon, --years)",
			count(n.tiles, "tile"), byteSize(n.bytes), limit, roundUp(least))
	}
	return nil
}

// fitsDisk refuses what is more than the disk has left, beside what is kept, which may have to make room.
func (n warmNeed) fitsDisk(limit byteSize, kept, free int64, dir string) error {
	if grows := min(kept+n.more, int64(limit)) - kept; grows > free {
		return fmt.Errorf("%s of %s are still to be fetched, and the disk of %s has %s left: make room there, name a directory on another disk with --cache, or choose fewer tiles (--bbox, --polygon, --years)",
			byteSize(n.bytes-n.held), byteSize(n.bytes), dir, byteSize(free))
	}
	return nil
}

// roundUp writes a number of bytes, and some more, as a flag takes it.
func roundUp(n int64) string {
	if n > 8<<30 {
		return fmt.Sprintf("%dGiB", (n+1<<30-1)>>30)
	}
	return fmt.Sprintf("%dMiB", (n+64<<20-1)>>26<<6)
}

// warmObject is an object of a tile that is to be fetched.
type warmObject struct {
	name   string
	listed int64  // its size as it is listed; -1 where it is not
	by     string // what lists it; "" for nothing
	most   int64  // bytes that a reader would take
	likely int64  // its size for all that is known before it is asked for
}

const (
	mostArray    = 4 << 30  // as of tiles in a catalogue
	mostLandmask = 16 << 20 // as of those that are read
)

// warmObjects are the objects of a tile. A landmask that nothing lists need not be there.
func warmObjects(ds *catalogue.Dataset, t catalogue.Tile) iter.Seq[warmObject] {
	embeddings, scales, landmask := ds.Objects(t.Year, t.Cell)
	e := warmObject{name: embeddings, listed: t.Embeddings, by: "the catalogue", most: mostArray, likely: max(0, t.Embeddings)}
	// Four bytes a pixel, where embeddings have 128.
	s := warmObject{name: scales, listed: t.Scales, by: "the catalogue", most: mostArray, likely: e.likely / 32}
	if t.Scales >= 0 {
		s.likely = t.Scales
	}
	m := warmObject{name: landmask, listed: -1, most: mostLandmask}
	if size, known := ds.LandmaskSize(t.Cell); known && size > 0 {
		m.likely = size
		if ds.LandmaskRegistry() {
			m.listed, m.by = size, "the landmask registry"
		}
	}
	return func(yield func(warmObject) bool) {
		_ = yield(e) && yield(s) && yield(m)
	}
}
