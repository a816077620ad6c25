package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/synth/audit"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
)

const (
	remoteJobs = 32               // tiles at once where it is waiting that takes the time
	maxJobs    = 1024             // each may hold a few megabytes
	verifySays = 30 * time.Second // between lines about the progress where there is no terminal

	// verifyMemory is for pages of remote objects: what comes along with opening one, what is read
	// ahead, and scales, which --full goes through twice.
	verifyMemory = 256 << 20
)

type verifyFlags struct {
	areaFlags
	sourceFlags
	dataset  string
	full     bool
	jobs     int
	asJSON   bool
	logLevel string
}

func verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify SOURCE",
		Short: "Look at every tile of an archive and say what is wrong",
		Long: `Look at every tile of the archive at SOURCE, in the order of the catalogue, and say what is wrong:
objects that are not there or have another size than the manifest says, arrays whose header, type,
order, shape or length is not what a tile's must be, landmasks that cannot be decoded or do not fit.
This takes a few small reads a tile. With --full all scales are read as well, and whole objects are
held against their checksums: CRC64NVME where the source gives it, SHA-256 where the manifest does.

Each line of the report is one finding: how bad it is, the tile, the object, what it is, what to do.

  wrong    reads of the tile fail, or give other data than was published
  unseen   the source failed, so that nothing is known; run verify again
  warning  no landmask is there, nor listed: the whole tile counts as land
  note     scales that are finite but no data, and are shown as nodata (with --full)

A table of all tiles follows. With --json each finding is an object on a line of its own, and the
last line {"summary": …}.

The exit code is 4 if a tile is wrong; 3 if none is, but some were not seen. Ctrl-C ends with the
table so far, and 1.

` + exitHelp,
		Example: "  tesserafs verify /data/tessera\n" +
			"  tesserafs verify /data/tessera --bbox -0.9,52.1,0.3,52.7 --years 2020-2024 --full\n" +
			"  tesserafs verify /data/tessera --json | jq -r 'select(.level == \"wrong\") | .object'",
		Args: arguments("SOURCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd.Context(), cmd.OutOrStdout(), f, args[0])
		},
	}
	fl := cmd.Flags()
	f.add(fl)
	f.addSource(fl)
	fl.StringVar(&f.dataset, "dataset", f.dataset, "only this dataset, where the archive has several")
	fl.BoolVar(&f.full, "full", f.full, "read all scales, and all bytes of what has a checksum")
	fl.IntVar(&f.jobs, "jobs", f.jobs, fmt.Sprintf("tiles to look at at once (default the number of processors, %d if SOURCE is remote)", remoteJobs))
	fl.BoolVar(&f.asJSON, "json", f.asJSON, "print the report as JSON Lines")
	fl.StringVar(&f.logLevel, "log-level", f.logLevel, "debug, info, warn or error (default warn)")
	return cmd
}

// check says what of the flags cannot be meant.
func (f verifyFlags) check() error {
	if _, ok := logLevels[f.logLevel]; !ok && f.logLevel != "" {
		return usageError("--log-level is debug, info, warn or error, not %q", f.logLevel)
	}
	if f.jobs < 0 || f.jobs > maxJobs {
		return usageError("--jobs is from 1 to %d, not %d", maxJobs, f.jobs)
	}
	return nil
}

func runVerify(ctx context.Context, out io.Writer, f verifyFlags, path string) error {
	if err := f.check(); err != nil {
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
	a, err := openArchive(ctx, path, f.sourceFlags, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
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
	total := 0
	for _, ds := range datasets {
		total += chosen.count(ds)
	}
	if total == 0 {
		return usageError("%s holds no tile in the area and years asked for: see what it holds with tesserafs info", a.source)
	}
	pages := tilecache.Config{} // without a copy on disk: what is looked at is the source
	if !isLocal(a.source) {
		pages.Memory = verifyMemory
		if paced, ok := a.source.(interface{ Pace() source.Pace }); ok {
			pages.Pace = paced.Pace
		}
		if f.jobs == 0 {
			f.jobs = remoteJobs
		}
	}
	cache := tilecache.New(a.source, pages)
	defer cache.Close()
	auditor, err := audit.New(audit.Config{Catalogue: a.catalogue, Source: a.source, Objects: cache, Full: f.full, Jobs: f.jobs})
	if err != nil {
		return err
	}
	defer auditor.Close()
	r := newVerifyReport(out, f, total)
	for _, ds := range datasets {
		r.begin(ds.Name())
		if err = auditor.Run(ctx, ds, chosen.tiles(ds), r.add); err != nil {
			break
		}
	}
	if errors.Is(err, audit.ErrManifest) {
		err = sourceError(err)
	}
	return r.end(interrupted(ctx, err))
}

// isLocal tells whether a source is a directory of this machine.
func isLocal(s source.Source) bool {
	_, local := s.(*localdir.Source)
	return local
}

// verifyReport prints findings as they come, and in the end what they come to.
type verifyReport struct {
	out      io.Writer
	full     bool
	asJSON   bool
	bar      *progress
	terminal bool // the bar is shown
	shared   bool // and the report is printed on the same terminal
	total    int
	datasets []string
	sums     []audit.Summary // of the datasets
	said     time.Time       // when a line about the progress was last printed
}

func newVerifyReport(out io.Writer, f verifyFlags, total int) *verifyReport {
	r := &verifyReport{out: out, full: f.full, asJSON: f.asJSON, total: total, bar: newProgress("verifying", int64(total)), said: time.Now()}
	r.terminal = isTerminal(os.Stderr)
	r.shared = r.terminal && isTerminal(os.Stdout)
	r.bar.set(0)
	return r
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// begin is called before the results of a dataset.
func (r *verifyReport) begin(dataset string) {
	r.datasets = append(r.datasets, dataset)
	r.sums = append(r.sums, audit.Summary{})
}

// add takes the result of a tile.
func (r *verifyReport) add(result audit.Result) error {
	r.sums[len(r.sums)-1].Add(result)
	for _, f := range result.Findings {
		line, err := r.line(f)
		if err == nil {
			_, err = r.writer().Write(line)
		}
		if err != nil {
			return fmt.Errorf("cannot write the report: %w", err)
		}
	}
	all := r.all()
	r.bar.set(all.Tiles)
	if !r.terminal && time.Since(r.said) >= verifySays {
		r.said = time.Now()
		fmt.Fprintf(os.Stderr, "%s of %s tiles: %s\n", group(all.Tiles), group(r.total), counts(all))
	}
	return nil
}

// writer is where a finding is written: above the bar, if that is on the same terminal.
func (r *verifyReport) writer() io.Writer {
	if r.shared {
		return r.bar.bars
	}
	return r.out
}

// line is a finding as it is printed.
func (r *verifyReport) line(f audit.Finding) ([]byte, error) {
	if r.asJSON {
		line, err := json.Marshal(f)
		return append(line, '\n'), err
	}
	return fmt.Appendf(nil, "%s: %s %d %s: %s: %s; %s\n", f.Level, f.Dataset, f.Year, f.Tile, f.Object, oneLine(f.What), f.Do), nil
}

// all adds up the datasets.
func (r *verifyReport) all() audit.Summary {
	var all audit.Summary
	for _, s := range r.sums {
		all.Merge(s)
	}
	return all
}

// counts words how many tiles are how.
func counts(s audit.Summary) string {
	return fmt.Sprintf("%s right, %s wrong, %s not seen", group(s.Right), group(s.Wrong), group(s.Unseen))
}

// verifySummary is the last line of --json.
type verifySummary struct {
	audit.Summary
	Chosen   int                      `json:"chosen"`   // tiles there are to look at
	Complete bool                     `json:"complete"` // all of them were looked at
	Full     bool                     `json:"full"`
	Datasets map[string]audit.Summary `json:"datasets"`
}

// end prints what the findings come to. failed is why the run ended early, nil where it did not; the
// error is that of the command.
func (r *verifyReport) end(failed error) error {
	r.bar.end()
	all := r.all()
	var text bytes.Buffer
	if r.asJSON {
		s := verifySummary{Summary: all, Chosen: r.total, Complete: failed == nil, Full: r.full, Datasets: map[string]audit.Summary{}}
		for i, name := range r.datasets {
			s.Datasets[name] = r.sums[i]
		}
		if err := json.NewEncoder(&text).Encode(map[string]verifySummary{"summary": s}); err != nil {
			return err
		}
	} else {
		if all.Right < all.Tiles || all.Warnings+all.Notes > 0 {
			text.WriteByte('\n') // between findings and table
		}
		table(&text, "", r.table())
	}
	if _, err := r.out.Write(text.Bytes()); err != nil && failed == nil {
		failed = fmt.Errorf("cannot write the report: %w", err)
	}
	switch {
	case failed != nil:
		if all.Tiles < r.total {
			fmt.Fprintf(os.Stderr, "ended early: %s of %s tiles were looked at\n", group(all.Tiles), group(r.total))
		}
		return failed
	case all.Wrong > 0:
		return &coded{exitData, fmt.Errorf("of %s tiles %s", group(all.Tiles), counts(all))}
	case all.Unseen > 0:
		return &coded{exitUnreachable, fmt.Errorf("of %s tiles %s: run verify again", group(all.Tiles), counts(all))}
	}
	return nil
}

// table has a row for each dataset, headed.
func (r *verifyReport) table() [][]string {
	head := []string{"DATASET", "TILES", "RIGHT", "WRONG", "NOT SEEN", "WARNINGS"}
	if r.full {
		head = append(head, "DATA PIXELS", "NODATA", "OF WHICH ODD", "SHA-256", "CRC64NVME")
	}
	rows := [][]string{head}
	datasets, sums := r.datasets, r.sums
	if len(sums) > 1 {
		datasets, sums = append(datasets, "all"), append(sums, r.all())
	}
	for i, s := range sums {
		row := []string{datasets[i], group(s.Tiles), group(s.Right), group(s.Wrong), group(s.Unseen), group(s.Warnings)}
		if r.full {
			row = append(row, group(int(s.Data)), group(int(s.NoData)), group(int(s.Odd)), group(s.SHA256), group(s.CRC64NVME))
		}
		rows = append(rows, row)
	}
	return rows
}
