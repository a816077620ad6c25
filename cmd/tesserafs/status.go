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

func parseStatus(raw []byte) (s synth.Status, err error) {
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("the status is of another version of tesserafs: %w; see it with --json", err)
	}
	return s, nil
}

// shownEntries is how many objects a table lists.
const shownEntries = 20

func printStatus(w io.Writer, s synth.Status, now time.Time) {
	fmt.Fprintf(w, "%s is shown at %s\n\n", s.Mount.Source, s.Mount.Dir)
	table(w, "  ", datasetTable(s.Datasets))
	fmt.Fprintln(w)
	table(w, "  ", [][]string{
		{"since:", fmt.Sprintf("%s (%s)", s.Since.Local().Format(time.DateTime), now.Sub(s.Since).Round(time.Second))},
		{"process:", fmt.Sprintf("%d, tesserafs %s", s.Mount.PID, s.Mount.Version)},
		{"read:", fmt.Sprintf("%s of pixels in %s, from %s", byteSize(s.Reads.Bytes), count(int(s.Reads.Requests), "read"), count(int(s.Reads.Tiles), "tile"))},
		{"warnings:", group(len(s.Warnings))},
		{"failed:", group(len(s.FailedTiles) + int(s.Unlisted))},
	})
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
