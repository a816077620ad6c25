package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"image"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/tiff"

	"github.com/tesserafs/tesserafs/grid"
)

// tiny are cells so far north that a tile is some 20 pixels wide: quick to write.
func tiny(t *testing.T, n int) []grid.Cell {
	t.Helper()
	cells, err := Box(-33.1, 88.9, -33.1+0.1*float64(n), 89)
	if err != nil {
		t.Fatal(err)
	}
	if len(cells) != n {
		t.Fatalf("%d cells, want %d", len(cells), n)
	}
	return cells
}

// Catches centres lost or won at the edges of a box, where decimal degrees are not exact, and on
// the negative side.
func TestBox(t *testing.T) {
	for _, tt := range []struct {
		w, s, e, n float64
		count      int
		first      string
	}{
		{-0.9, 52.1, -0.3, 52.7, 36, "grid_-0.85_52.15"},
		{-33.1, 83.5, -32.9, 83.6, 2, "grid_-33.05_83.55"},
		{-33.1, 83.5, -32.9, 83.7, 4, "grid_-33.05_83.55"},
		{-0.1, -0.1, 0.1, 0.1, 4, "grid_-0.05_-0.05"},
		{0.06, 0, 0.16, 0.1, 1, "grid_0.15_0.05"},
		{0.05, 0.05, 0.15, 0.15, 1, "grid_0.05_0.05"}, // closed at the low end, open at the high one
		{-180, 83.9, -179.9, 84, 1, "grid_-179.95_83.95"},
		{179.9, -84, 180, -83.9, 1, "grid_179.95_-83.95"},
	} {
		cells, err := Box(tt.w, tt.s, tt.e, tt.n)
		if err != nil {
			t.Errorf("Box(%g, %g, %g, %g): %v", tt.w, tt.s, tt.e, tt.n, err)
			continue
		}
		if len(cells) != tt.count || cells[0].String() != tt.first || !slices.IsSortedFunc(cells, grid.Cell.Compare) {
			t.Errorf("Box(%g, %g, %g, %g) = %v, want %d from %s on", tt.w, tt.s, tt.e, tt.n, cells, tt.count, tt.first)
		}
	}
	for _, b := range [][4]float64{{1, 1, 1, 1}, {2, 0, 1, 1}, {0, 89, 1, 91}, {179, 0, 181, 1}, {math.NaN(), 0, 1, 1}, {0, 0, math.Inf(1), 1}} {
		if cells, err := Box(b[0], b[1], b[2], b[3]); err == nil {
			t.Errorf("Box(%v) = %v, want an error", b, cells)
		}
	}
}

// Catches a header that numpy would have written otherwise.
func TestHeaderIsNumpys(t *testing.T) {
	golden, err := os.ReadFile("testdata/npy_headers.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(golden)) {
		f := strings.Fields(line)
		want, err := hex.DecodeString(f[2])
		if err != nil {
			t.Fatal(err)
		}
		shape := "(" + strings.ReplaceAll(f[1], "x", ", ") + ")"
		if got := npyHeader(f[0], shape); !bytes.Equal(got, want) {
			t.Errorf("%s %s:\n got %q\nwant %q", f[0], f[1], got, want)
		}
	}
}

// tree returns every file's path, time and content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out[rel] = fi.ModTime().UTC().String() + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Catches anything that depends on the run: order of goroutines, clock, map order; and a layout
// whose files lie elsewhere than Files and the published directories say.
func TestWriteIsTheSameEveryTime(t *testing.T) {
	cells := tiny(t, 2)
	for _, tt := range []struct {
		layout Layout
		tile   string
		others []string
	}{
		{Current, "npy/v1/2023/grid_-33.05_88.95/grid_-33.05_88.95.npy",
			[]string{"npy/v1/manifest.parquet", "landmasks/v1/landmasks.parquet", "landmasks/v1/grid_-33.05_88.95.tiff"}},
		{Mirror, "v1/global_0.1_degree_representation/2023/grid_-33.05_88.95/grid_-33.05_88.95.npy",
			[]string{"manifest.parquet", "landmasks.parquet", "v1/global_0.1_degree_tiff_all/grid_-33.05_88.95.tiff"}},
		{Flat, "global_0.1_degree_representation/2023/grid_-33.05_88.95/grid_-33.05_88.95.npy",
			[]string{"global_0.1_degree_tiff_all/grid_-33.05_88.95.tiff"}},
	} {
		t.Run(string(tt.layout), func(t *testing.T) {
			var trees []map[string]string
			for range 2 {
				cfg := Config{Dir: t.TempDir(), Cells: cells, Years: []int{2024, 2023}, Layout: tt.layout, Manifest: tt.layout != Flat}
				foretold, missing, err := Size(cfg)
				if err != nil {
					t.Fatal(err)
				}
				s, err := Write(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				trees = append(trees, tree(t, cfg.Dir))
				if s != foretold || s.Tiles != 4 || missing != s.Bytes {
					t.Errorf("Write says %v, Size %v of which %d bytes are missing", s, foretold, missing)
				}
				if _, missing, err := Size(cfg); missing != 0 || err != nil {
					t.Errorf("of a whole archive %d bytes are missing (%v)", missing, err)
				}
				var bytes int64
				for _, c := range cells {
					for _, y := range cfg.Years {
						f := cfg.Files(c, y)
						bytes += stat(t, f.Embeddings).Size() + stat(t, f.Scales).Size()
						stat(t, f.Landmask)
					}
				}
				if bytes != s.Bytes {
					t.Errorf("%d bytes on disk, Write says %d", bytes, s.Bytes)
				}
			}
			if len(trees[0]) != len(trees[1]) {
				t.Fatalf("%d files, then %d", len(trees[0]), len(trees[1]))
			}
			for path, content := range trees[0] {
				if trees[1][path] != content {
					t.Errorf("%s differs between two runs", path)
				}
			}
			for _, path := range append(tt.others, tt.tile, strings.Replace(tt.tile, ".npy", "_scales.npy", 1)) {
				if _, ok := trees[0][path]; !ok {
					t.Errorf("no %s", path)
				}
			}
			if want := 2*2*2 + 2 + len(tt.others) - 1; len(trees[0]) != want {
				t.Errorf("%d files, want %d", len(trees[0]), want)
			}
		})
	}
}

func stat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi
}

// loaded is a tile read back.
type loaded struct {
	f          grid.Footprint
	embeddings []int8
	scales     []float32
	mask       *image.Gray
}

func load(t *testing.T, cfg Config, c grid.Cell, year int) loaded {
	t.Helper()
	fps, err := grid.Footprints([]grid.Cell{c})
	if err != nil {
		t.Fatal(err)
	}
	f := fps[0]
	n := f.Height * f.Width
	l := loaded{f: f, embeddings: make([]int8, n*grid.Bands), scales: make([]float32, n)}
	files := cfg.Files(c, year)
	body := func(path string, size int) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) != 128+size {
			t.Fatalf("%s has %d bytes, want %d", path, len(data), 128+size)
		}
		return data[128:]
	}
	for i, b := range body(files.Embeddings, n*grid.Bands) {
		l.embeddings[i] = int8(b)
	}
	data := body(files.Scales, n*4)
	for i := range n {
		l.scales[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[i*4:]))
	}
	w, err := os.Open(files.Landmask)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	img, err := tiff.Decode(w)
	if err != nil {
		t.Fatal(err)
	}
	l.mask = img.(*image.Gray)
	if l.mask.Bounds() != image.Rect(0, 0, l.f.Width, l.f.Height) {
		t.Fatalf("landmask is %v, footprint %v", l.mask.Bounds(), l.f)
	}
	return l
}

// Catches sums that leave the range of an int8, scales out of (0, 1), a NaN patch elsewhere than
// NaNPatch says, a landmask of other values than 0 and 1, and an archive with nothing but land.
func TestContents(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Cells: tiny(t, 3)}
	if _, err := Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	patches, wet, land := 0, 0, 0
	for _, c := range cfg.Cells {
		l := load(t, cfg, c, 2024)
		for i, v := range l.embeddings {
			if v < -118 || v > 118 {
				t.Fatalf("%v: embedding %d is %d", c, i, v)
			}
		}
		patch := NaNPatch(l.f)
		if !patch.Empty() {
			patches++
		}
		for i, s := range l.scales {
			at := image.Pt(i%l.f.Width, i/l.f.Width)
			isNaN := s != s
			if isNaN != at.In(patch) || !isNaN && (s < 0.04 || s > 0.09) {
				t.Fatalf("%v: scale at %v is %v, patch %v", c, at, s, patch)
			}
			switch l.mask.GrayAt(at.X, at.Y).Y {
			case 0:
				wet++
			case 1:
				land++
			default:
				t.Fatalf("%v: landmask at %v is neither 0 nor 1", c, at)
			}
		}
	}
	if patches != 1 || wet == 0 || land < wet {
		t.Errorf("%d NaN patches, %d pixels of water, %d of land", patches, wet, land)
	}
}

// Catches a landscape that is torn where tiles meet, and tiles that agree so well on the pixels
// they share that a wrong order of overlap would go unseen.
func TestTilesMeet(t *testing.T) {
	cells, err := Box(-35.9, 88.9, -35.7, 89) // far from the zone's meridian, so they are askew and overlap
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: t.TempDir(), Cells: cells}
	if _, err := Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	a, b := load(t, cfg, cells[0], 2024), load(t, cfg, cells[1], 2024)
	ax, ay := origin(a.f)
	bx, by := origin(b.f)
	shared, same := 0, 0
	for r := range a.f.Height {
		for c := range a.f.Width {
			br, bc := by-(ay-r), ax+c-bx
			if br < 0 || bc < 0 || br >= b.f.Height || bc >= b.f.Width {
				continue
			}
			shared++
			i, j := (r*a.f.Width+c)*grid.Bands, (br*b.f.Width+bc)*grid.Bands
			pa, pb := a.embeddings[i:][:grid.Bands], b.embeddings[j:][:grid.Bands]
			if slices.Equal(pa, pb) {
				same++
			}
			for k := range pa {
				// Two grains of ±6 apart.
				if d := int(pa[k]) - int(pb[k]); abs(d) > 12 {
					t.Fatalf("row %d col %d band %d: %d in one tile, %d in the other", r, c, k, pa[k], pb[k])
				}
			}
		}
	}
	if shared < 1000 || same > 0 {
		t.Errorf("%d pixels shared, %d of them equal", shared, same)
	}
}

// Catches a run that writes again what is there, that leaves half a file behind when stopped, or
// that does not mend what lacks.
func TestWriteGoesOn(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Cells: tiny(t, 3), Manifest: true}
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Progress = func(int) { cancel() }
	if _, err := Write(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Fatalf("a stopped run returns %v", err)
	}
	for path := range tree(t, cfg.Dir) {
		if strings.HasSuffix(path, ".part") || strings.HasSuffix(path, ".parquet") {
			t.Errorf("a stopped run leaves %s", path)
		}
	}
	done := 0
	cfg.Progress = func(n int) { done = max(done, n) }
	cfg.Cells = cfg.Cells[:1] // one tile: one goroutine calls Progress
	if _, err := Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if done != 1 {
		t.Errorf("Progress was told %d tiles", done)
	}
	whole := tree(t, cfg.Dir)
	f := cfg.Files(cfg.Cells[0], 2024)
	kept := stat(t, f.Scales)
	if err := os.Truncate(f.Embeddings, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(kept, stat(t, f.Scales)) {
		t.Error("scales that were there are written again")
	}
	for path, content := range tree(t, cfg.Dir) {
		if whole[path] != content {
			t.Errorf("%s is not what it was", path)
		}
	}
}

// Catches a Config that is taken although it cannot be meant.
func TestConfigErrors(t *testing.T) {
	cells := tiny(t, 1)
	pole, err := grid.NewCell(5, 8995)
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"no directory":       {Cells: cells},
		"no cells":           {Dir: "x"},
		"unknown layout":     {Dir: "x", Cells: cells, Layout: "round"},
		"flat with manifest": {Dir: "x", Cells: cells, Layout: Flat, Manifest: true},
		"dataset up":         {Dir: "x", Cells: cells, Dataset: ".."},
		"dataset of two":     {Dir: "x", Cells: cells, Dataset: "a/b"},
		"year 0":             {Dir: "x", Cells: cells, Years: []int{0}},
		"not a cell":         {Dir: "x", Cells: []grid.Cell{{}}},
	} {
		if s, _, err := Size(cfg); err == nil {
			t.Errorf("%s: %v, want an error", name, s)
		}
	}
	if s, _, err := Size(Config{Dir: "x", Cells: []grid.Cell{pole}}); err == nil && s.Bytes < 128+128+128 {
		t.Errorf("a tile without pixels is taken: %v", s)
	}
}

// Catches a carry from one byte into the next.
func TestAddBytes(t *testing.T) {
	for a := -64; a < 64; a++ {
		for b := -64; b < 64; b++ {
			x := uint64(uint8(int8(a))) * 0x0101010101010101
			y := uint64(uint8(int8(b))) * 0x0101010101010101
			if got, want := addBytes(x, y), uint64(uint8(int8(a+b)))*0x0101010101010101; got != want {
				t.Fatalf("%d + %d = %#x, want %#x", a, b, got, want)
			}
		}
	}
}
