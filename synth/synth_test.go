package synth_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/vfstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cells lie on both sides of the border of zones 24 and 25, two of them overlapping in each.
var cells = []grid.Cell{{Lon: -3615, Lat: 8355}, {Lon: -3605, Lat: 8355}, {Lon: -3595, Lat: 8355}}

// open makes an archive of a few tiles and the tree over it.
func open(t *testing.T, missing synth.MissingPolicy, log io.Writer) (*synth.Tree, demo.Config) {
	t.Helper()
	cfg := demo.Config{Dir: t.TempDir(), Cells: cells, Years: []int{2024}, Manifest: true}
	if _, err := demo.Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	src, err := localdir.Open(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(log, nil))
	cat, err := catalogue.Open(t.Context(), src, catalogue.Config{Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	cache := tilecache.New(src, tilecache.Config{})
	tree, err := synth.New(synth.Config{Catalogue: cat, Cache: cache, Missing: missing, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close(); cache.Close() })
	return tree, cfg
}

func find(t *testing.T, tree *synth.Tree, path string) vfs.Node {
	t.Helper()
	n, err := vfs.Walk(t.Context(), tree.Root(), path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return n
}

// Catches: sizes that do not hold, names listed and not found, holes that are not zero, anything a
// front door relies on.
func TestTreeKeepsTheContract(t *testing.T) {
	tree, _ := open(t, synth.MissingError, io.Discard)
	vfstest.TestTree(t, tree.Root())
}

// Catches: a tree that lists what does not exist, or not what does.
func TestWhatIsShown(t *testing.T) {
	tree, _ := open(t, synth.MissingError, io.Discard)
	var shown []string
	err := fs.WalkDir(vfs.FS(tree.Root()), "v1/zones", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !strings.Contains(path, "/c/") && !d.IsDir() {
			shown = append(shown, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, zone := range []string{"24", "25"} {
		store := "v1/zones/2024/utm" + zone + "_2024.zarr/"
		for _, file := range []string{"band/zarr.json", "easting/zarr.json", "embeddings/zarr.json", "northing/zarr.json",
			"scales/zarr.json", "spatial_ref/c", "spatial_ref/zarr.json", "zarr.json"} {
			want = append(want, store+file)
		}
	}
	if got := strings.Join(shown, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("shown:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
	for _, path := range []string{"v2", "v1/zones/2023", "v1/zones/02024", "v1/zones/2024/utm26_2024.zarr", "v1/zones/2024/utm24_2023.zarr",
		"v1/zones/2024/utm24_2024.zarr/.zarray", "v1/zones/2024/utm24_2024.zarr/embeddings/c/99", "v1/zones/2024/utm24_2024.zarr/embeddings/c/00",
		"v1/zones/2024/utm24_2024.zarr/embeddings/c/0/0/1", "v1/zones/2024/utm24_2024.zarr/scales/c/-1", "v1/zones/2024/utm24_2024.zarr/easting/c/1"} {
		if _, err := vfs.Walk(t.Context(), tree.Root(), path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error is %v, not fs.ErrNotExist", path, err)
		}
	}
}

// Catches: coordinates that are corners instead of centres, or that run the wrong way.
func TestCoordinates(t *testing.T) {
	tree, _ := open(t, synth.MissingError, io.Discard)
	prints, err := grid.Footprints(cells[:2])
	if err != nil {
		t.Fatal(err)
	}
	g, err := grid.ZoneYear(prints)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Attributes struct {
			Transform []float64 `json:"transform"`
			Tiles     int       `json:"n_tiles"`
		} `json:"attributes"`
	}
	read := func(path string) []byte {
		data, err := fs.ReadFile(vfs.FS(tree.Root()), "v1/zones/2024/utm24_2024.zarr/"+path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if err := json.Unmarshal(read("zarr.json"), &doc); err != nil {
		t.Fatal(err)
	}
	if tr := g.Transform(); len(doc.Attributes.Transform) != 6 || [6]float64(doc.Attributes.Transform) != tr || doc.Attributes.Tiles != 2 {
		t.Errorf("attributes are %+v, want transform %v and 2 tiles", doc.Attributes, tr)
	}
	easting, northing := floats(read("easting/c/0")), floats(read("northing/c/0"))
	if len(easting) != g.Width || easting[0] != g.Easting+5 || easting[1]-easting[0] != 10 {
		t.Errorf("eastings begin %v, of %d; want %v, of %d", easting[:2], len(easting), g.Easting+5, g.Width)
	}
	if len(northing) != g.Height || northing[0] != g.Northing-5 || northing[1]-northing[0] != -10 {
		t.Errorf("northings begin %v, of %d; want %v, of %d", northing[:2], len(northing), g.Northing-5, g.Height)
	}
}

// Catches: a status that nobody can find, that a listing shows, or that does not name a failed tile.
func TestStatus(t *testing.T) {
	tree, cfg := open(t, synth.MissingError, io.Discard)
	listing, err := tree.Root().List(t.Context())
	if err != nil || listing.Len() != 1 || listing.At(0).Name != "v1" {
		t.Errorf("the root lists %v (%v), not v1 alone", listing, err)
	}
	if err := os.Remove(cfg.Files(cells[0], 2024).Scales); err != nil {
		t.Fatal(err)
	}
	chunk := find(t, tree, "v1/zones/2024/utm24_2024.zarr/scales/c/0/0").(vfs.File)
	if _, err := chunk.ReadAt(t.Context(), make([]byte, chunk.Attr().Size), 0); !errors.Is(err, vfs.ErrDamaged) {
		t.Errorf("reading a chunk whose tile is missing: error is %v, not ErrDamaged", err)
	}
	file := find(t, tree, ".tesserafs/status.json").(vfs.File)
	data := make([]byte, 1<<16)
	n, err := file.ReadAt(t.Context(), data, 0)
	if err != io.EOF {
		t.Fatal(err)
	}
	var s synth.Status
	if err := json.Unmarshal(data[:n], &s); err != nil {
		t.Fatal(err)
	}
	if len(s.FailedTiles) != 1 || !strings.HasSuffix(s.FailedTiles[0].Object, "grid_-36.15_83.55_scales.npy") {
		t.Errorf("failed tiles are %+v", s.FailedTiles)
	}
	if len(s.Datasets) != 1 || s.Datasets[0].Tiles != 3 || len(s.Datasets[0].Years) != 1 || len(s.Datasets[0].Years[0].Zones) != 2 {
		t.Errorf("datasets are %+v", s.Datasets)
	}
}

// Catches: a chunk that does not say what it is made of, or says it in another order than they
// overlay one another.
func TestXattrs(t *testing.T) {
	tree, _ := open(t, synth.MissingError, io.Discard)
	for path, want := range map[string]string{
		"v1/zones/2024/utm24_2024.zarr/embeddings/c/0/0/0": "grid_-36.15_83.55,grid_-36.05_83.55",
		"v1/zones/2024/utm25_2024.zarr/scales/c/0/0":       "grid_-35.95_83.55",
	} {
		attrs, err := find(t, tree, path).(vfs.Xattrs).Xattrs(context.Background())
		if err != nil || attrs["user.tesserafs.tiles"] != want {
			t.Errorf("%s: tiles are %q (%v), want %q", path, attrs, err, want)
		}
	}
}

func floats(data []byte) []float64 {
	out := make([]float64, len(data)/8)
	for i := range out {
		out[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
	}
	return out
}
