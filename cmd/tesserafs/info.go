package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source/remote"
	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

// holding is what info prints: of an archive, of a mount, or of stores wherever they lie.
type holding struct {
	Source   string                `json:"source,omitempty"`
	Mount    string                `json:"mount,omitempty"`
	Datasets []synth.DatasetStatus `json:"datasets,omitempty"`
	Stores   []storeInfo           `json:"stores"`
	More     bool                  `json:"more_stores,omitempty"` // than were looked at
}

func infoCommand() *cobra.Command {
	var asJSON bool
	var f sourceFlags
	cmd := &cobra.Command{
		Use:   "info SOURCE|DIR|STORE",
		Short: "Say what an archive, a mount or a store holds",
		Long: `Say which datasets, years, UTM zones and tiles an archive holds, where each zone-year store of it
lies, in degrees and in metres of its reference system, and how large it is as stored and as a
reader sees it. Of the directory of a mount it says what is shown there; of a store, or of a
directory of stores, in a mount or a copy, what the stores are.

Degrees are the limits of the store's pixels within its UTM zone. As stored are the tiles' arrays,
of a store the bytes on disk; as seen are the store's arrays in memory.

` + exitHelp,
		Args: arguments("SOURCE|DIR|STORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := holdingOf(cmd.Context(), args[0], f)
			if err != nil {
				return interrupted(cmd.Context(), err)
			}
			return h.print(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	f.addSource(cmd.Flags())
	f.addOffline(cmd.Flags())
	return cmd
}

func holdingOf(ctx context.Context, path string, f sourceFlags) (h holding, err error) {
	if remote.Is(path) {
		return archiveHolding(ctx, path, f)
	}
	// The kernel's list of mounts knows dead ones too.
	if _, mounted := fusefs.Mounted(path); mounted {
		raw, err := readStatus(path)
		if err != nil {
			return h, err
		}
		s, err := parseStatus(raw)
		if err != nil {
			return h, err
		}
		h = holding{Source: s.Mount.Source, Mount: s.Mount.Dir, Datasets: s.Datasets}
		h.Stores, h.More, err = storesUnder(ctx, path)
		return h, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return h, err
	}
	if store, ok := storeAt(path); ok {
		h.Stores, err = readStore(store, filepath.Base(store), true)
		return h, err
	}
	h, err = archiveHolding(ctx, path, f)
	if errors.Is(err, catalogue.ErrNoArchive) {
		stores, more, errStores := storesUnder(ctx, path)
		if errStores != nil || len(stores) > 0 {
			return holding{Stores: stores, More: more}, errStores
		}
	}
	return h, err
}

// archiveHolding is what an archive holds.
func archiveHolding(ctx context.Context, address string, f sourceFlags) (h holding, err error) {
	a, err := openArchive(ctx, address, f, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return h, err
	}
	defer a.Close()
	h = holding{Source: a.source.String(), Datasets: a.datasets()}
	h.Stores, err = a.stores(ctx)
	return h, err
}

func (h holding) print(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(h)
	}
	if h.Source != "" {
		head := h.Source
		if h.Mount != "" {
			head += " is shown at " + h.Mount
		}
		if _, err := fmt.Fprintf(w, "%s\n\n", head); err != nil {
			return err
		}
		table(w, "  ", datasetTable(h.Datasets))
		fmt.Fprintln(w)
	}
	table(w, "  ", storeTable(h.Stores))
	if h.More {
		fmt.Fprintf(w, "\n  and more: only %s were looked at; name a directory further down\n", group(len(h.Stores)))
	}
	return nil
}

// storeTable is a table of stores, headed.
func storeTable(stores []storeInfo) [][]string {
	rows := [][]string{{"STORE", "YEARS", "TILES", "PIXELS", "LONGITUDE", "LATITUDE", "EPSG", "EASTING", "NORTHING", "AS STORED", "AS SEEN"}}
	unknown := func(known bool, text string) string {
		if !known {
			return "–"
		}
		return text
	}
	for _, s := range stores {
		degrees := func(from, to float64) string {
			return strconv.FormatFloat(from, 'f', 2, 64) + " … " + strconv.FormatFloat(to, 'f', 2, 64)
		}
		metres := func(from, to float64) string {
			return strconv.FormatFloat(from, 'f', 0, 64) + " … " + strconv.FormatFloat(to, 'f', 0, 64)
		}
		rows = append(rows, []string{
			s.Store, unknown(len(s.Years) > 0, ranges(s.Years)), unknown(s.Tiles > 0, group(s.Tiles)),
			group(s.Height) + " × " + group(s.Width),
			degrees(s.Degrees.West, s.Degrees.East), degrees(s.Degrees.South, s.Degrees.North), strconv.Itoa(s.EPSG),
			metres(s.Metres.West, s.Metres.East), metres(s.Metres.South, s.Metres.North),
			unknown(s.Stored > 0, byteSize(s.Stored).String()), byteSize(s.Seen).String(),
		})
	}
	return rows
}
