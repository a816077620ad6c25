package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

// statusFile is where a mount says how it is.
const statusFile = ".tesserafs/status.json"

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status DIR",
		Short: "Say what a mount shows, what was read, and what failed",
		Long: `Say what the mount at DIR shows, what was read through it, and which tiles could not be read
and why. --json prints DIR/.tesserafs/status.json as it is.

` + exitHelp,
		Args: arguments("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := readStatus(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				_, err := cmd.OutOrStdout().Write(raw)
				return err
			}
			s, err := parseStatus(raw)
			if err != nil {
				return err
			}
			printStatus(cmd.OutOrStdout(), s, time.Now())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the status file itself")
	return cmd
}

// readStatus reads the status file of the mount at dir.
func readStatus(dir string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(dir, statusFile))
	switch {
	case errors.Is(err, unix.ENOTCONN):
		return nil, fmt.Errorf("%s is a dead mount, its process is gone: clear it with 'tesserafs unmount %s'", dir, shellWord(dir))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%s is not a tesserafs mount: name the directory that 'tesserafs mount' was given", dir)
	case err != nil:
		return nil, fmt.Errorf("cannot read the status: %w", err)
	}
	return raw, nil
}

// mountStatus is a status with what package synth knows nothing of. A counter that this version does not
// know, or the other has not, is no error.
type mountStatus struct {
	synth.Status
	Source *patient.Stats `json:"source"` // nil: the source is a directory, or was not reached yet
	Disk   *disk.Stats    `json:"disk"`   // nil: no pages are kept on disk
}

// addRemote adds to what a mount says of itself how its source is reached, if that is elsewhere. None of the
// flags among it can hold a secret.
func (a *archive) addRemote(info *synth.MountInfo) {
	if a.reach == nil {
		return
	}
	f := a.reach.flags
	info.Options["cache"], info.Options["cache_size"] = a.reach.dir, int64(f.cacheSize)
	info.Options["offline"], info.Options["max_requests"] = f.offline, f.requests
	if s := a.reach.source(); s != nil {
		info.SourceStats = s.Stats()
	}
	if a.disk != nil {
		info.DiskStats = a.disk.Stats()
	}
}

// reachOf says whether the source of a mount is elsewhere, and whether it is asked.
func reachOf(m synth.MountInfo) (elsewhere, asked bool) {
	offline, elsewhere := m.Options["offline"].(bool)
	return elsewhere, elsewhere && !offline
}

func parseStatus(raw []byte) (s mountStatus, err error) {
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("the status is of another version of tesserafs: %w; see it with --json", err)
	}
	return s, nil
}

// shownEntries is how many objects a table lists.
const shownEntries = 20

func printStatus(w io.Writer, s mountStatus, now time.Time) {
	fmt.Fprintf(w, "%s is shown at %s\n\n", s.Mount.Source, s.Mount.Dir)
	table(w, "  ", datasetTable(s.Datasets))
	fmt.Fprintln(w)
	facts := [][]string{
		{"since:", when(s.Since, now)},
		{"process:", fmt.Sprintf("%d, tesserafs %s", s.Mount.PID, s.Mount.Version)},
		{"read:", fmt.Sprintf("%s of pixels in %s, from %s", byteSize(s.Reads.Bytes), count(int(s.Reads.Requests), "read"), count(int(s.Reads.Tiles), "tile"))},
	}
	facts = append(facts, s.remoteFacts(now)...)
	if on, _ := s.Mount.Options["verify"].(bool); on {
		facts = append(facts, []string{"verified:", fmt.Sprintf("%s, %s damaged, %s without a checksum", count(int(s.Objects.Verified), "object"), group(int(s.Objects.Mismatched)), group(int(s.Objects.WithoutChecksum)))})
	}
	facts = append(facts, s.catalogueFacts(now)...)
	if s.Mount.Metrics != "" {
		facts = append(facts, []string{"metrics:", s.Mount.Metrics})
	}
	table(w, "  ", append(facts,
		[]string{"warnings:", group(len(s.Warnings))},
		[]string{"failed:", group(len(s.FailedTiles) + int(s.Unlisted))},
	))
	list := func(head string, entries []mosaic.Entry) {
		if len(entries) == 0 {
			return
		}
		fmt.Fprintf(w, "\n%s\n", head)
		var rows [][]string
		for _, e := range entries[:min(len(entries), shownEntries)] {
			rows = append(rows, []string{e.Object, oneLine(e.Reason), fmt.Sprintf("%d×", e.Count)})
		}
		table(w, "  ", rows)
		if more := len(entries) - shownEntries; more > 0 {
			fmt.Fprintf(w, "  and %s more: see --json\n", group(more))
		}
	}
	list("Warnings:", s.Warnings)
	list("Could not be read:", s.FailedTiles)
}

// when is a time and how long ago it was.
func when(t, now time.Time) string {
	return fmt.Sprintf("%s (%s)", t.Local().Format(time.DateTime), now.Sub(t).Round(time.Second))
}

// remoteFacts say how a source that is elsewhere does, and what is kept of it.
func (s mountStatus) remoteFacts(now time.Time) (facts [][]string) {
	elsewhere, asked := reachOf(s.Mount)
	if !elsewhere {
		return nil
	}
	add := func(name, format string, args ...any) {
		facts = append(facts, []string{name, fmt.Sprintf(format, args...)})
	}
	switch n := s.Source; {
	case !asked:
		add("source:", "is not asked (--offline)")
	case n == nil:
		add("source:", "was not reached yet")
	case n.Breaker.State == "dead":
		add("source:", "does not answer since %s: %s", when(n.Breaker.Since, now), oneLine(n.Breaker.Why))
	case n.Latency.Count == 0:
		add("source:", "was not asked for anything yet")
	default:
		mean := time.Duration(n.Latency.Sum / float64(n.Latency.Count) * float64(time.Second))
		add("source:", "answers, in %s on average", mean.Round(100*time.Microsecond))
	}
	if n := s.Source; n != nil && asked {
		add("requests:", "%s (%s), %s of them again and %s beside slow ones; %s given up",
			group(int(n.Requests)), byteSize(n.Bytes), group(int(n.Retries)), group(int(n.Hedges)), group(int(n.Unavailable)))
	}
	add("pages:", "%s found in memory, %s from disk, %s from the source; %s in memory now",
		group(int(s.Objects.MemoryHits+s.Objects.Waits)), group(int(s.Objects.DiskHits)), group(int(s.Objects.SourcePages)), byteSize(s.Objects.MemoryBytes))
	if d := s.Disk; d != nil {
		dir, _ := s.Mount.Options["cache"].(string)
		kept := fmt.Sprintf("%s of %s in %s", byteSize(d.BytesKept), byteSize(d.Limit), dir)
		if d.WriteFailures > 0 {
			kept += fmt.Sprintf("; %s could not be written", count(int(d.WriteFailures), "page"))
		}
		if d.DamagedPages > 0 {
			kept += fmt.Sprintf("; %s found damaged, and dropped", count(int(d.DamagedPages), "page"))
		}
		add("cache:", "%s", kept)
	}
	return facts
}

// catalogueFacts say whether the list of tiles is of now; nothing where it is only the one of the start.
func (s mountStatus) catalogueFacts(now time.Time) (facts [][]string) {
	if c := s.Catalogue; c.Error != "" {
		facts = append(facts, []string{"listed:", fmt.Sprintf("%s; cannot be read again: %s", when(c.Read, now), oneLine(c.Error))})
	} else if c.Refreshed > 0 {
		facts = append(facts, []string{"listed:", when(c.Read, now)})
	}
	for _, d := range s.Datasets {
		if d.Stale != nil {
			facts = append(facts, []string{"outdated:", fmt.Sprintf("%s may be, since %s: %s", d.Name, when(d.Stale.Since, now), oneLine(d.Stale.Why))})
		}
	}
	return facts
}
