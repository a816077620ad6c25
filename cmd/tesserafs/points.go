package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/synth/sample"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
)

// pointBatch is how many points are on the way together. There are at most five such batches, so a
// million points take no more memory than these.
const pointBatch = 16_384

type pointsFlags struct {
	sourceFlags
	output  string
	format  string
	raw     bool
	year    int
	dataset string
	missing string
}

func pointsCommand() *cobra.Command {
	f := pointsFlags{output: "-", missing: "error"}
	cmd := &cobra.Command{
		Use:   "points SOURCE FILE",
		Short: "Give a table of points the embeddings under them",
		Long: `Read a table of points from FILE, and write it with the embedding of the pixel under each point,
straight from the tiles of the archive at SOURCE. No store is made, and nothing need be mounted.

FILE is told by the end of its name: .csv with a header, .parquet, .geojson; - is CSV from standard
input. Columns lon and lat are in degrees on WGS 84; GeoParquet may have a geometry of points
instead. A column year says of when; without one, --year does, or it is the newest year there is.

All columns are passed on, in the order of the rows, and followed by band_0 to band_127: the
embedding, int8 times scale; with --raw the int8 values and the scale. They are empty (in Parquet
null) where no tile lies, and where the tile has no data. The output is CSV, or Parquet, by the end
of its name or --format; a file appears when it is whole.

The pixel under a point is that of the zone-year store of the UTM zone the point lies in; where no
tile of that zone is, within 0.1 degrees of its border, of the zone next door.

` + exitHelp,
		Example: "  tesserafs points /data/tessera plots.csv -o plots.parquet\n" +
			"  tesserafs points /data/tessera plots.geojson --year 2023 --raw > plots.csv",
		Args: arguments("SOURCE", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPoints(cmd.Context(), f, args[0], args[1])
		},
	}
	fl := cmd.Flags()
	f.addSource(fl)
	f.addPages(fl)
	fl.StringVarP(&f.output, "output", "o", f.output, "file to write to; - is standard output")
	fl.StringVar(&f.format, "format", f.format, "csv or parquet (default by the end of the output's name, otherwise csv)")
	fl.BoolVar(&f.raw, "raw", f.raw, "write the int8 values and the scale instead of their product")
	fl.IntVar(&f.year, "year", f.year, "year of all points, where the table has no column year (default the newest year)")
	fl.StringVar(&f.dataset, "dataset", f.dataset, "dataset, where the archive has several")
	fl.StringVar(&f.missing, "missing-tiles", f.missing, "a tile that is listed but cannot be read: error (end) or fill (leave its points empty)")
	return cmd
}

// check says what of the flags cannot be meant, and settles the format.
func (f *pointsFlags) check() error {
	if f.missing != "error" && f.missing != "fill" {
		return usageError("--missing-tiles is error or fill, not %q", f.missing)
	}
	if f.format == "" {
		if f.format = formatOf(f.output); f.format == "" {
			if f.output != "-" {
				return usageError("%s: say with --format whether to write csv or parquet", f.output)
			}
			f.format = "csv"
		}
	}
	if pointFormats[f.format] == nil {
		return usageError("--format is csv or parquet, not %q", f.format)
	}
	if _, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS); err == nil && f.output == "-" && f.format == "parquet" {
		return usageError("Parquet is not written to a terminal: name a file with -o")
	}
	return nil
}

// pointsMemory is for pages of tiles that are elsewhere.
const pointsMemory = 128 << 20

func runPoints(ctx context.Context, f pointsFlags, source, file string) error {
	begun := time.Now()
	if err := f.check(); err != nil {
		return err
	}
	// The table first: what is wrong with it shows at once, and finding tiles may take a while.
	in, err := openPoints(file, f.format == "parquet")
	if err != nil {
		return err
	}
	defer in.Close()
	a, err := openArchive(ctx, source, f.sourceFlags, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	defer a.Close()
	ds, err := a.dataset(f.dataset)
	if err != nil {
		return err
	}
	year, err := f.yearOf(in, ds)
	if err != nil {
		return err
	}
	for _, name := range valueColumns(f.raw) {
		if in.schema().HasField(name) {
			return refusePoints(file, -1, 0, name, errors.New("points would write a column of that name: rename it, or leave it out"))
		}
	}

	if err := a.openCache(pointsMemory); err != nil {
		return err
	}
	policy := synth.MissingError
	if f.missing == "fill" {
		policy = synth.MissingFill
	}
	// What goes wrong with tiles is told at the end: it must not get between the lines of a bar.
	pixels, err := mosaic.New(mosaic.Config{Objects: a.objects, Policy: policy})
	if err != nil {
		return err
	}
	defer pixels.Close()
	sampler, err := sample.New(ds, pixels)
	if err != nil {
		return err
	}
	out, err := createOutput(f.output)
	if err != nil {
		return err
	}
	defer out.abandon()
	geometry := -1
	if p, ok := in.(*parquetPoints); ok {
		geometry = p.geometry
	}
	writer, err := pointFormats[f.format](out, in.schema(), geometry, f.raw)
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", f.output, err)
	}
	run := &pointsRun{in: in, year: year, sampler: sampler, out: writer, bar: newProgress("sampling "+ds.Name(), in.rows())}
	run.bar.unit = "points"
	err = run.all(ctx)
	run.bar.end()
	if err == nil {
		if err = writer.finish(); err == nil {
			err = out.commit()
		}
	}
	if err != nil {
		return interrupted(ctx, err)
	}
	run.summarise(os.Stderr, time.Since(begun), pixels.Journal)
	return nil
}

// dataset finds the dataset that is meant: the only one, or the one of that name.
func (a *archive) dataset(name string) (*catalogue.Dataset, error) {
	all := a.catalogue.Datasets
	var names []string
	for _, ds := range all {
		if ds.Name() == name || name == "" && len(all) == 1 {
			return ds, nil
		}
		names = append(names, ds.Name())
	}
	if name == "" {
		return nil, usageError("%s holds %s: choose one with --dataset", a.source, strings.Join(names, ", "))
	}
	return nil, usageError("%s holds no dataset %q: there is %s", a.source, name, strings.Join(names, ", "))
}

// yearOf is the year of points that say none; 0 where they do.
func (f pointsFlags) yearOf(in pointReader, ds *catalogue.Dataset) (int, error) {
	years := ds.Years()
	switch {
	case in.years() && f.year != 0:
		return 0, usageError("the points have a column year of their own: leave --year out")
	case in.years():
		return 0, nil
	case f.year == 0:
		newest := years[len(years)-1]
		fmt.Fprintf(os.Stderr, "year %d for all points, the newest of %s: choose another with --year\n", newest, ds.Name())
		return newest, nil
	case !slices.Contains(years, f.year):
		return 0, usageError("%s has no tiles of %d: it has %s", ds.Name(), f.year, ranges(years))
	}
	return f.year, nil
}

// pointsRun is a table of points on its way: read, sampled and written, three batches at once.
type pointsRun struct {
	in      pointReader
	year    int
	sampler *sample.Sampler
	out     pointWriter
	bar     *progress

	points int
	counts [sample.Data + 1]int
}

// pointsPart is a batch on its way.
type pointsPart struct {
	rows  *pointRows
	found *sample.Batch
}

// all returns when everything is written, or as soon as the context ends: a read of a terminal or a
// pipe may go on for ever, and ends with the process.
func (r *pointsRun) all(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	read, sampled := make(chan pointsPart, 1), make(chan pointsPart, 1)
	work.Go(func() error { defer close(read); return r.read(ctx, read) })
	work.Go(func() error { defer close(sampled); return r.sample(ctx, read, sampled) })
	work.Go(func() error { return r.write(sampled) })
	ended := make(chan error, 1)
	go func() { ended <- work.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// Ended by a failure of its own, the rest is over in a moment; or by the user.
	select {
	case err := <-ended:
		return err
	case <-time.After(100 * time.Millisecond):
		return context.Cause(ctx)
	}
}

func (r *pointsRun) read(ctx context.Context, out chan<- pointsPart) error {
	for {
		rows, err := r.in.next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		found := sample.NewBatch(len(rows.lon))
		found.Lon, found.Lat = rows.lon, rows.lat
		for i := range found.Year {
			found.Year[i] = r.year
		}
		if rows.year != nil {
			found.Year = rows.year
		}
		select {
		case out <- pointsPart{rows, found}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *pointsRun) sample(ctx context.Context, in <-chan pointsPart, out chan<- pointsPart) error {
	for part := range in {
		if err := r.sampler.Sample(ctx, part.found); err != nil {
			return err
		}
		select {
		case out <- part:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *pointsRun) write(in <-chan pointsPart) error {
	for part := range in {
		if err := r.out.write(part.rows, part.found); err != nil {
			return fmt.Errorf("cannot write: %w", err)
		}
		for _, status := range part.found.Status {
			r.counts[status]++
		}
		r.points += len(part.found.Status)
		r.bar.set(r.points)
	}
	return nil
}

// summarise says how many points there were and what became of them.
func (r *pointsRun) summarise(w io.Writer, took time.Duration, journal *mosaic.Journal) {
	warnings := journal.Warnings()
	for _, e := range warnings[:min(len(warnings), shownEntries)] {
		fmt.Fprintf(w, "%s: %s\n", e.Object, oneLine(e.Reason))
	}
	if more := len(warnings) - shownEntries; more > 0 {
		fmt.Fprintf(w, "and %s more\n", group(more))
	}
	failures, unlisted := journal.Failures()
	for _, e := range failures[:min(len(failures), shownEntries)] {
		fmt.Fprintf(w, "could not be read: %s: %s\n", e.Object, oneLine(e.Reason))
	}
	if more := len(failures) - shownEntries + int(unlisted); more > 0 {
		fmt.Fprintf(w, "could not be read: %s more\n", group(more))
	}
	what := "points"
	if r.points == 1 {
		what = "point"
	}
	line := fmt.Sprintf("%s %s in %.1f s: %s with values, %s outside every tile, %s on nodata", group(r.points), what, took.Seconds(),
		group(r.counts[sample.Data]), group(r.counts[sample.Outside]), group(r.counts[sample.NoData]))
	if n := r.counts[sample.Missing]; n > 0 || len(failures) > 0 {
		line += fmt.Sprintf(", %s in tiles that could not be read", group(n))
	}
	fmt.Fprintln(w, line)
}
