package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/demo"
)

// demoSizes are boxes to fill with tiles: west, south, east, north.
var demoSizes = map[string][4]float64{
	"small":  {-33.5, 83.5, -33, 83.6}, // 5 narrow tiles that make a picture of 633 × 1121 pixels
	"medium": {-0.1, 52.1, 0.2, 52.3},  // 6 tiles, in two zones
	"large":  {-0.9, 52.1, -0.3, 52.7}, // 36 tiles in one zone
}

type demoFlags struct {
	dir   string
	size  string
	years []int
}

func demoCommand() *cobra.Command {
	f := demoFlags{dir: "tessera-demo", size: "small", years: []int{2024}}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Write a small synthetic archive to try things on",
		Long: `Write a synthetic archive in the published layout, with a manifest, and print the commands
that mount it and open it. What is there from an earlier run is left alone.

Sizes: small is 5 narrow tiles near 83.6° N (92 MiB a year), medium 6 tiles in two UTM zones
near Cambridge (0.6 GiB), large 36 tiles of one zone (3.6 GiB). Bands 0, 1 and 2, stretched, are
a picture in red, green and blue.

` + exitHelp,
		Example: "  tesserafs demo\n  tesserafs demo --dir /tmp/archive --years 2023,2024",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), cmd, f)
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", f.dir, "directory to write it to")
	cmd.Flags().StringVar(&f.size, "size", f.size, "small, medium or large")
	cmd.Flags().IntSliceVar(&f.years, "years", f.years, "years to write each tile for")
	return cmd
}

func runDemo(ctx context.Context, cmd *cobra.Command, f demoFlags) error {
	box, ok := demoSizes[f.size]
	if !ok {
		return usageError("there is no size %q: choose small, medium or large", f.size)
	}
	cells, err := demo.Box(box[0], box[1], box[2], box[3])
	if err != nil {
		return err
	}
	cfg := demo.Config{Dir: f.dir, Cells: cells, Years: f.years, Manifest: true}
	size, missing, err := demo.Size(cfg)
	if err != nil {
		return usageError("%w", err)
	}
	if err := foreign(f.dir); err != nil {
		return err
	}
	if err := enoughSpace(f.dir, missing); err != nil {
		return err
	}
	bar := newProgress("writing", int64(size.Tiles))
	cfg.Progress = bar.set
	s, err := demo.Write(ctx, cfg)
	bar.end()
	if err != nil {
		return interrupted(ctx, err)
	}
	zone := cells[0].Zone()
	year := f.years[0]
	_, err = fmt.Fprintf(cmd.OutOrStdout(), `%s holds %s, %s.

Mount it:
  mkdir -p stores && tesserafs mount %s stores
and in another terminal open it:
  python3 -c 'import xarray; print(xarray.open_zarr("stores/v1/zones/%d/utm%02d_%d.zarr"))'
`, f.dir, count(s.Tiles, "tile"), byteSize(s.Bytes), shellWord(f.dir), year, zone, year)
	return err
}

// foreign refuses a directory that holds something else than an archive of ours.
func foreign(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", dir, err)
	}
	for _, e := range entries {
		if e.Name() != "npy" && e.Name() != "landmasks" {
			return fmt.Errorf("%s holds other things (%s): choose a new directory with --dir", dir, e.Name())
		}
	}
	return nil
}

// enoughSpace fails before anything is written where the file system is too small.
func enoughSpace(dir string, need int64) error {
	at, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	for unix.Statfs(at, &st) != nil {
		if at == filepath.Dir(at) {
			return nil // writing will tell
		}
		at = filepath.Dir(at)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("%s has %s free, %s are needed: choose another place with --dir, or a smaller --size", at, byteSize(free), byteSize(need))
	}
	return nil
}

// shellWord writes a path so that a shell takes it for one word.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+~,:@%", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
