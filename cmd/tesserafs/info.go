package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

// holding is what info prints: of an archive or of a mount.
type holding struct {
	Source   string                `json:"source"`
	Mount    string                `json:"mount,omitempty"`
	Datasets []synth.DatasetStatus `json:"datasets"`
}

func infoCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info SOURCE|DIR",
		Short: "Say what an archive or a mount holds",
		Long: `Say which datasets, years, UTM zones and tiles an archive holds, and how large they are as
stored. Of the directory of a mount it says what is shown there.

` + exitHelp,
		Args: arguments("SOURCE|DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := holdingOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return h.print(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func holdingOf(ctx context.Context, path string) (holding, error) {
	// The kernel's list of mounts knows dead ones too.
	if _, mounted := fusefs.Mounted(path); mounted {
		raw, err := readStatus(path)
		if err != nil {
			return holding{}, err
		}
		s, err := parseStatus(raw)
		return holding{s.Mount.Source, s.Mount.Dir, s.Datasets}, err
	}
	a, err := openArchive(ctx, path, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return holding{}, err
	}
	return holding{Source: a.source.String(), Datasets: a.datasets()}, nil
}

func (h holding) print(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(h)
	}
	head := h.Source
	if h.Mount != "" {
		head += " is shown at " + h.Mount
	}
	if _, err := fmt.Fprintf(w, "%s\n\n", head); err != nil {
		return err
	}
	table(w, "  ", datasetTable(h.Datasets))
	return nil
}
