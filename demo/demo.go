// Package demo writes small synthetic archives in the published formats: something to mount where
// no archive is at hand, and what tests and benchmarks of other packages read.
//
// # Objective
//
// An archive that nothing tells from a published one: the same directory layouts, NPY headers to
// the byte, registries with the published columns, sizes that the geometry gives (a tile at 52° N
// has 98 MB, one at 83.6° N, where tiles are narrow, 18 MB). Its contents are a landscape of hills,
// rivers, lakes and fields, the same wherever two tiles meet, so that a mosaic put together wrongly
// is seen at once, in a picture (bands 0, 1 and 2, each stretched, are red, green and blue of one)
// and in numbers (noise differs from tile to tile, so no two tiles agree on a pixel both cover).
//
// # What it guarantees
//
//   - Every run writes the same bytes, and the same modification times.
//   - A file is whole or not there. What an earlier run wrote is left alone, so that a run that was
//     stopped goes on where it stopped; this is recognised by size and modification time.
//   - Embeddings are never cut to what is valid: under water and where a scale is NaN they hold
//     values, as the published ones do.
//   - One cell in three has a patch of NaN scales, 30 × 55 pixels ([NaNPatch]). Rivers and lakes are
//     0 in the landmask, land is 1.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tesserafs/tesserafs/grid"
)

// Layout is where in an archive things lie.
type Layout string

const (
	// Current is the public bucket's: npy/v1/<year>/…, landmasks/v1/…, npy/v1/manifest.parquet and
	// landmasks/v1/landmasks.parquet. An archive holds as many datasets as are written to it.
	Current Layout = "current"
	// Mirror is what copies of the earlier bucket hold: v1/global_0.1_degree_representation/<year>/…,
	// v1/global_0.1_degree_tiff_all/… and both registries at the top, so they speak of one dataset.
	Mirror Layout = "mirror"
	// Flat is what geotessera's download command leaves: global_0.1_degree_representation/<year>/…
	// and global_0.1_degree_tiff_all/…, without registries and without a dataset's name.
	Flat Layout = "flat"
)

// Config says what to write.
type Config struct {
	Dir     string      // top of the archive, made where it is not there
	Cells   []grid.Cell // see Box
	Years   []int       // every cell is written for each; 2024 where none is given
	Layout  Layout      // Current where empty
	Dataset string      // published directory name; "v1" where empty
	// Manifest asks for manifest.parquet and landmasks.parquet, which list the cells and years of
	// this call. Without them an archive is found by scanning.
	Manifest bool
	// Progress is told each time a tile is done how many are; nil where nobody asks. It is called
	// by several goroutines.
	Progress func(tiles int)
}

// Summary is what an archive holds after Write: tiles, and bytes of their embeddings and scales.
type Summary struct {
	Tiles int
	Bytes int64
}

// Box returns the cells whose centres lie in west <= lon < east, south <= lat < north, in degrees,
// ordered by longitude, then latitude.
func Box(west, south, east, north float64) ([]grid.Cell, error) {
	const reach = 360
	for _, v := range []float64{west, south, east, north} {
		if !(v >= -reach && v <= reach) { // NaN too
			return nil, fmt.Errorf("a bounding box needs degrees between ±%d, got %g", reach, v)
		}
	}
	hundredths := func(v float64) int {
		if v < 0 {
			return int(v*100 - 0.5)
		}
		return int(v*100 + 0.5)
	}
	// Counted from 360° the first centre needs no care for negative numbers.
	centres := func(lo, hi int) []int {
		var out []int
		for c := (lo+reach*100)/10*10 + 5 - reach*100; c < hi; c += 10 {
			if c >= lo {
				out = append(out, c)
			}
		}
		return out
	}
	var cells []grid.Cell
	for _, lon := range centres(hundredths(west), hundredths(east)) {
		for _, lat := range centres(hundredths(south), hundredths(north)) {
			c, err := grid.NewCell(lon, lat)
			if err != nil {
				return nil, err
			}
			cells = append(cells, c)
		}
	}
	if len(cells) == 0 {
		return nil, fmt.Errorf("no tile has its centre between %g and %g °E, %g and %g °N", west, east, south, north)
	}
	return cells, nil
}

// Size returns what an archive will hold, and how many bytes of it are not there yet.
func Size(cfg Config) (whole Summary, missing int64, err error) {
	cfg, fps, err := prepare(cfg)
	if err != nil {
		return Summary{}, 0, err
	}
	for _, f := range fps {
		for _, year := range cfg.Years {
			files, mtime := cfg.Files(f.Cell, year), modTime(f.Cell, year)
			if size := embeddingsBytes(f); !written(files.Embeddings, size, mtime) {
				missing += size
			}
			if size := scalesBytes(f); !written(files.Scales, size, mtime) {
				missing += size
			}
		}
	}
	return cfg.summary(fps), missing, nil
}

// Write writes an archive. When ctx ends it stops; calling it again goes on.
func Write(ctx context.Context, cfg Config) (Summary, error) {
	cfg, fps, err := prepare(cfg)
	if err != nil {
		return Summary{}, err
	}
	var done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, f := range fps {
		g.Go(func() error {
			return writeLandmask(ctx, cfg, f)
		})
		for _, year := range cfg.Years {
			g.Go(func() error {
				if err := writeTile(ctx, cfg, f, year); err != nil {
					return err
				}
				n := done.Add(1)
				if cfg.Progress != nil {
					cfg.Progress(int(n))
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return Summary{}, fmt.Errorf("writing a synthetic archive: %w", err)
	}
	if cfg.Manifest {
		if err := writeRegistries(cfg, fps); err != nil {
			return Summary{}, fmt.Errorf("writing a synthetic archive: %w", err)
		}
	}
	return cfg.summary(fps), nil
}

// prepare fills in the defaults, checks, and projects. Cells come out sorted and once each.
func prepare(cfg Config) (Config, []grid.Footprint, error) {
	if cfg.Dir == "" {
		return cfg, nil, errors.New("a synthetic archive needs a directory")
	}
	if cfg.Layout == "" {
		cfg.Layout = Current
	}
	if cfg.Dataset == "" {
		cfg.Dataset = "v1"
	}
	if len(cfg.Years) == 0 {
		cfg.Years = []int{2024}
	}
	if strings.ContainsAny(cfg.Dataset, "/\x00") || strings.HasPrefix(cfg.Dataset, ".") {
		return cfg, nil, fmt.Errorf("%q is not a dataset's name: name a directory such as v1", cfg.Dataset)
	}
	switch cfg.Layout {
	case Current, Mirror:
	case Flat:
		if cfg.Manifest {
			return cfg, nil, errors.New("the flat layout has no manifest: leave Manifest out")
		}
	default:
		return cfg, nil, fmt.Errorf("unknown layout %q: choose current, mirror or flat", cfg.Layout)
	}
	cfg.Years = slices.Compact(slices.Sorted(slices.Values(cfg.Years)))
	for _, y := range cfg.Years {
		if y < 1 || y > 9999 {
			return cfg, nil, fmt.Errorf("%d is not a year", y)
		}
	}
	cfg.Cells = slices.Compact(slices.SortedFunc(slices.Values(cfg.Cells), grid.Cell.Compare))
	if len(cfg.Cells) == 0 {
		return cfg, nil, errors.New("a synthetic archive needs at least one cell")
	}
	fps, err := grid.Footprints(cfg.Cells)
	if err != nil {
		return cfg, nil, err
	}
	for _, f := range fps {
		if f.Height < 1 || f.Width < 1 {
			return cfg, nil, fmt.Errorf("%v is %d × %d pixels: choose cells further from the pole", f.Cell, f.Height, f.Width)
		}
	}
	return cfg, fps, nil
}

func (cfg Config) summary(fps []grid.Footprint) Summary {
	s := Summary{Tiles: len(fps) * len(cfg.Years)}
	for _, f := range fps {
		s.Bytes += (embeddingsBytes(f) + scalesBytes(f)) * int64(len(cfg.Years))
	}
	return s
}

// Files are the files of one tile, and the registries of its archive.
type Files struct {
	Embeddings, Scales, Landmask string
	Manifest, Landmasks          string // empty in the flat layout
}

// Files returns where the files of a tile lie. Layout and Dataset may be left out, as in Write.
func (cfg Config) Files(cell grid.Cell, year int) Files {
	dataset := cfg.Dataset
	if dataset == "" {
		dataset = "v1"
	}
	const arrays, tiffs = "global_0.1_degree_representation", "global_0.1_degree_tiff_all"
	var f Files
	var tiles, masks string
	switch cfg.Layout {
	case Flat:
		tiles, masks = arrays, tiffs
	case Mirror:
		tiles, masks = filepath.Join(dataset, arrays), filepath.Join(dataset, tiffs)
		f.Manifest, f.Landmasks = filepath.Join(cfg.Dir, "manifest.parquet"), filepath.Join(cfg.Dir, "landmasks.parquet")
	default:
		// Landmasks belong to a version: v1.1-cam reads those of v1.1.
		version, _, _ := strings.Cut(dataset, "-")
		tiles, masks = filepath.Join("npy", dataset), filepath.Join("landmasks", version)
		f.Manifest = filepath.Join(cfg.Dir, tiles, "manifest.parquet")
		f.Landmasks = filepath.Join(cfg.Dir, masks, "landmasks.parquet")
	}
	name := cell.String()
	dir := filepath.Join(cfg.Dir, tiles, fmt.Sprintf("%04d", year), name)
	f.Embeddings = filepath.Join(dir, name+".npy")
	f.Scales = filepath.Join(dir, name+"_scales.npy")
	f.Landmask = filepath.Join(cfg.Dir, masks, name+".tiff")
	return f
}

// epoch is the time of the oldest file. It moves when what is written changes, so that files of an
// earlier generator are not taken for this one's.
var epoch = time.Date(2026, time.January, 5, 0, 0, 0, 0, time.UTC)

// modTime is the time of a tile's files: whole seconds within a day of epoch, another for each cell
// and year. A landmask has year 0.
func modTime(c grid.Cell, year int) time.Time {
	return epoch.Add(time.Duration(mix(cellKey(c), uint64(year))%86400) * time.Second)
}

// cellKey tells cells apart.
func cellKey(c grid.Cell) uint64 { return uint64(uint16(c.Lon))<<16 | uint64(uint16(c.Lat)) }

// written says whether a file is there from an earlier run. A size below 0 is any.
func written(path string, size int64, mtime time.Time) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && (size < 0 || fi.Size() == size) && fi.ModTime().Equal(mtime)
}

// writeFile makes a file whole or not at all, with its time.
func writeFile(path string, mtime time.Time, write func(*os.File) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part := path + ".part"
	f, err := os.Create(part)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(part)
		}
	}()
	if err := errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	if err := os.Chtimes(part, mtime, mtime); err != nil {
		return err
	}
	return os.Rename(part, path)
}
