package synth_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/synth/npy"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/vfstest"
)

// second is of version 2, which has prefix arrays; its tiles lie on both sides of the border of zones
// 24 and 25, and in the one zone overlap.
var second = demo.Config{Dataset: "v2-2B-L~beta1", Cells: cells, Years: []int{2023, 2024}, Manifest: true}

// openConsolidated makes an archive and the tree over it.
func openConsolidated(t *testing.T, cfg demo.Config, inner, scalesInner int) (*synth.Tree, demo.Config) {
	t.Helper()
	cfg.Dir = t.TempDir()
	write(t, cfg)
	return show(t, cfg.Dir, synth.Config{InnerChunk: inner, ScalesInnerChunk: scalesInner}), cfg
}

func write(t *testing.T, cfg demo.Config) {
	t.Helper()
	if _, err := demo.Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// show makes the tree over an archive; cfg says how its stores are laid out.
func show(t *testing.T, dir string, cfg synth.Config) *synth.Tree {
	t.Helper()
	src, err := localdir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalogue.Open(t.Context(), src, catalogue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cache := tilecache.New(src, tilecache.Config{})
	cfg.Catalogue, cfg.Cache, cfg.Log = cat, cache, slog.New(slog.DiscardHandler)
	tree, err := synth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close(); cache.Close() })
	return tree
}

// placed is a tile on the grid of its zone, with its arrays as they lie in the archive.
type placed struct {
	grid.Rect
	embeddings []byte
	scales     []float32
}

// place reads the tiles of a zone and year, in catalogue order.
func place(t *testing.T, cfg demo.Config, zone, year int) (grid.Grid, []placed) {
	t.Helper()
	var own []grid.Cell
	for _, c := range cfg.Cells {
		if c.Zone() == zone {
			own = append(own, c)
		}
	}
	g, err := grid.Consolidated(own)
	if err != nil {
		t.Fatal(err)
	}
	prints, err := grid.Footprints(own)
	if err != nil {
		t.Fatal(err)
	}
	values := func(name string) []byte {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := npy.HeaderSize(data)
		if err != nil {
			t.Fatal(err)
		}
		return data[n:]
	}
	var tiles []placed
	for i, c := range own {
		p := placed{Rect: g.Place(prints[i]), embeddings: values(cfg.Files(c, year).Embeddings)}
		for raw := values(cfg.Files(c, year).Scales); len(raw) > 0; raw = raw[4:] {
			p.scales = append(p.scales, math.Float32frombits(binary.LittleEndian.Uint32(raw)))
		}
		tiles = append(tiles, p)
	}
	return g, tiles
}

// Catches: a shard whose index does not say where its inner chunks are, an inner chunk that is missing
// or too many, pixels of another place, of the wrong tile on top, of other bands, or fill of the other
// array.
func TestShards(t *testing.T) {
	tree, cfg := openConsolidated(t, second, 32, 128)
	for i, year := range cfg.Years {
		zone := 24 + i
		g, tiles := place(t, cfg, zone, year)
		if g.Height != grid.ShardPixels || g.Width != grid.ShardPixels {
			t.Fatalf("zone %d: %d × %d pixels are not one shard", zone, g.Height, g.Width)
		}
		for array, want := range map[string]struct{ bands, side int }{
			"embeddings": {128, 32}, "embeddings_d4": {4, 128}, "embeddings_d16": {16, 64}, "scales": {0, 128},
		} {
			path := fmt.Sprintf("%s/tessera.zarr/utm%02d/%s/c/%d/0/0", cfg.Dataset, zone, array, i)
			if want.bands > 0 {
				path += "/0"
			}
			file, err := fs.ReadFile(vfs.FS(tree.Root()), path)
			if err != nil {
				t.Fatal(err)
			}
			checkShard(t, path, file, want.bands, want.side, tiles)
		}
	}
}

// checkShard holds a shard against tiles painted pixel by pixel.
func checkShard(t *testing.T, path string, file []byte, bands, side int, tiles []placed) {
	t.Helper()
	perSide := grid.ShardPixels / side
	index := file[len(file)-16*perSide*perSide-4:]
	body := index[:len(index)-4]
	if got, want := binary.LittleEndian.Uint32(index[len(body):]), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)); got != want {
		t.Fatalf("%s: checksum of the index is %x, not %x", path, got, want)
	}
	pixelBytes := bands
	if bands == 0 {
		pixelBytes = 4
	}
	next := uint64(0)
	wanted := make([]byte, pixelBytes)
	for i := range perSide * perSide {
		window := grid.Rect{Row: i / perSide * side, Col: i % perSide * side, Height: side, Width: side}
		touched := false
		for _, p := range tiles {
			touched = touched || !p.Intersect(window).Empty()
		}
		offset, length := binary.LittleEndian.Uint64(body[16*i:]), binary.LittleEndian.Uint64(body[16*i+8:])
		if !touched {
			if offset != math.MaxUint64 || length != math.MaxUint64 {
				t.Fatalf("%s: inner chunk %d is under no tile, and lies at %d", path, i, offset)
			}
			continue
		}
		if offset != next || length != uint64(side*side*pixelBytes) {
			t.Fatalf("%s: inner chunk %d lies at %d, %d bytes; want %d, %d", path, i, offset, length, next, side*side*pixelBytes)
		}
		pixels := file[offset : offset+length]
		for k := range side * side {
			row, col := window.Row+k/side, window.Col+k%side
			pixel := pixels[k*pixelBytes:][:pixelBytes]
			scale := math.Float32frombits(binary.LittleEndian.Uint32(pixel))
			clear(wanted)
			isRight := math.IsInf(float64(scale), 1)
			for _, p := range tiles {
				if row >= p.Row && row < p.Bottom() && col >= p.Col && col < p.Right() {
					at := (row-p.Row)*p.Width + col - p.Col
					copy(wanted, p.embeddings[128*at:])
					isRight = scale == p.scales[at] || scale != scale
				}
			}
			if bands == 0 && !isRight {
				t.Fatalf("%s: row %d, column %d is %v", path, row, col, scale)
			}
			if bands > 0 && !bytes.Equal(pixel, wanted) {
				t.Fatalf("%s: row %d, column %d is % x, want % x", path, row, col, pixel, wanted)
			}
		}
		next += length
	}
	if next != uint64(len(file)-len(index)) {
		t.Errorf("%s: %d bytes lie before the index, %d in inner chunks", path, len(file)-len(index), next)
	}
}

// Catches: sizes that do not hold, names listed and not found, short reads that differ from long ones,
// holes that are not zero, with the smallest inner chunks and the largest.
func TestConsolidatedKeepsTheContract(t *testing.T) {
	tree, _ := openConsolidated(t, demo.Config{Cells: cells[:2], Manifest: true}, 16, 4096)
	vfstest.TestTree(t, find(t, tree, "v1/tessera.zarr").(vfs.Dir))
}

// Catches: a reader of the index that waits for tiles, or fails because of them: they are gone here.
func TestIndexNeedsNoTile(t *testing.T) {
	tree, cfg := openConsolidated(t, second, 64, 256)
	for _, c := range cfg.Cells {
		for _, year := range cfg.Years {
			if err := os.Remove(cfg.Files(c, year).Embeddings); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := find(t, tree, cfg.Dataset+"/tessera.zarr/utm24/embeddings/c/1/0/0/0").(vfs.File)
	size := file.Attr().Size
	index := make([]byte, 64*64*16+4)
	if n, err := file.ReadAt(t.Context(), index, size-int64(len(index))); n != len(index) || err != nil && err != io.EOF {
		t.Errorf("index: %d bytes, %v", n, err)
	}
	if _, err := file.ReadAt(t.Context(), index, size-int64(len(index))-64*64*128); !errors.Is(err, vfs.ErrDamaged) {
		t.Errorf("the inner chunk before it: error is %v, not ErrDamaged", err)
	}
}

// Catches: shards, years or zones that are shown and hold no tile, or found under a name that is not
// theirs; prefix arrays in a dataset of version 1.
func TestConsolidatedShown(t *testing.T) {
	cfg := demo.Config{Dir: t.TempDir(), Cells: []grid.Cell{cells[0], {Lon: -3605, Lat: -8355}, cells[2]}, Years: []int{2024}}
	write(t, cfg)
	// Another year without the southern tile, and without the one in zone 25.
	cfg.Cells, cfg.Years = cfg.Cells[:1], []int{2020}
	write(t, cfg)
	tree := show(t, cfg.Dir, synth.Config{})
	const store = "v1/tessera.zarr/"
	var shown []string
	err := fs.WalkDir(vfs.FS(tree.Root()), "v1/tessera.zarr", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, "/zarr.json") {
			shown = append(shown, strings.TrimPrefix(path, store))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const south = 1_857_000 / grid.ShardPixels // pixels from 83.55° N to 83.55° S
	var want []string
	for _, zone := range []string{"utm24/", "utm25/"} {
		want = append(want, zone+"band/c/0")
		if zone == "utm24/" {
			want = append(want, zone+"embeddings/c/0/0/0/0", zone+"embeddings/c/1/0/0/0", zone+fmt.Sprintf("embeddings/c/1/0/%d/0", south),
				zone+"scales/c/0/0/0", zone+"scales/c/1/0/0", zone+fmt.Sprintf("scales/c/1/%d/0", south))
		} else {
			want = append(want, zone+"embeddings/c/1/0/0/0", zone+"scales/c/1/0/0")
		}
		want = append(want, zone+"spatial_ref/c", zone+"time/c/0", zone+"x/c/0", zone+"y/c/0")
	}
	if got := strings.Join(shown, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("shown:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
	for _, path := range []string{"utm26", "utm24/.zarray", "utm24/embeddings_d4", "utm24/band_d4", "utm25/embeddings/c/0", "utm25/embeddings/c/2",
		"utm25/embeddings/c/01", "utm24/embeddings/c/0/1", "utm24/embeddings/c/0/0/1", "utm24/embeddings/c/0/0/0/1", "utm24/embeddings/c/0/0/0/00",
		fmt.Sprintf("utm24/scales/c/0/%d", south), "utm24/scales/c/0/-1", "utm24/scales/c/0/0/99", "utm24/time/c/1", "utm24/x/c/00"} {
		if _, err := vfs.Walk(t.Context(), tree.Root(), store+path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error is %v, not fs.ErrNotExist", path, err)
		}
	}
	attrs, err := find(t, tree, store+"utm24/scales/c/1/0/0").(vfs.Xattrs).Xattrs(t.Context())
	if err != nil || attrs["user.tesserafs.tiles"] != "grid_-36.15_83.55" {
		t.Errorf("tiles are %q (%v)", attrs, err)
	}
}

// Catches: coordinates of other years, bands or pixels than the arrays have.
func TestConsolidatedCoordinates(t *testing.T) {
	tree, cfg := openConsolidated(t, second, 64, 256)
	g, _ := place(t, cfg, 24, 2024)
	read := func(path string) []byte {
		data, err := fs.ReadFile(vfs.FS(tree.Root()), cfg.Dataset+"/tessera.zarr/utm24/"+path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var document struct {
		Attributes struct {
			Transform [6]float64 `json:"spatial:transform"`
		} `json:"attributes"`
	}
	if err := json.Unmarshal(read("zarr.json"), &document); err != nil || document.Attributes.Transform != g.Transform() {
		t.Errorf("transform is %v (%v), want %v", document.Attributes.Transform, err, g.Transform())
	}
	x, y := floats(read("x/c/0")), floats(read("y/c/0"))
	if len(x) != g.Width || x[0] != g.Easting+5 || x[g.Width-1] != g.EastingAt(g.Width-1) {
		t.Errorf("x is %v … %v, %d of them", x[0], x[len(x)-1], len(x))
	}
	if len(y) != g.Height || y[0] != g.Northing-5 || y[g.Height-1] != g.NorthingAt(g.Height-1) {
		t.Errorf("y is %v … %v, %d of them", y[0], y[len(y)-1], len(y))
	}
	if got, want := read("time/c/0"), []byte{0xe7, 7, 0, 0, 0xe8, 7, 0, 0}; !bytes.Equal(got, want) {
		t.Errorf("time is % x, want % x", got, want)
	}
	for name, bands := range map[string]int{"band": 128, "band_d4": 4, "band_d16": 16} {
		data := read(name + "/c/0")
		if len(data) != 4*bands || binary.LittleEndian.Uint32(data[4*bands-4:]) != uint32(bands-1) {
			t.Errorf("%s is % x", name, data)
		}
	}
}

// Catches: a tile that a landmask registry does not list, cut off or left out: upstream's published
// copies of registries are incomplete.
func TestTileOutsideRegistry(t *testing.T) {
	near := grid.Cell{Lon: -3615, Lat: 8355}
	far := grid.Cell{Lon: -3605, Lat: 8305} // south-east of it, beyond the shard of the first
	cfg := demo.Config{Dir: t.TempDir(), Cells: []grid.Cell{near}, Years: []int{2024}, Manifest: true}
	write(t, cfg)
	const registry = "landmasks/v1/landmasks.parquet"
	if err := os.Rename(cfg.Dir+"/"+registry, cfg.Dir+"/registry"); err != nil {
		t.Fatal(err)
	}
	cfg.Cells = []grid.Cell{near, far}
	write(t, cfg)
	if err := os.Rename(cfg.Dir+"/registry", cfg.Dir+"/"+registry); err != nil {
		t.Fatal(err)
	}
	tree := show(t, cfg.Dir, synth.Config{InnerChunk: 4096})
	g, tiles := place(t, cfg, 24, 2024)
	want := tiles[1].embeddings[:128*tiles[1].Width]
	row, col := tiles[1].Row, tiles[1].Col
	if g.Height != 2*grid.ShardPixels || row < grid.ShardPixels {
		t.Fatalf("the second tile is at row %d of %d", row, g.Height)
	}
	file := find(t, tree, "v1/tessera.zarr/utm24/embeddings/c/0/0/1/0").(vfs.File)
	got := make([]byte, len(want))
	if _, err := file.ReadAt(t.Context(), got, 128*(int64(row-grid.ShardPixels)*grid.ShardPixels+int64(col))); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the second tile's first row is not where it should be (%v)", err)
	}
}

// Catches: inner chunks that do not divide a shard, taken.
func TestInnerChunkRefused(t *testing.T) {
	src, err := localdir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cache := tilecache.New(src, tilecache.Config{})
	defer cache.Close()
	for _, cfg := range []synth.Config{{InnerChunk: 100}, {ScalesInnerChunk: -1}, {InnerChunk: 8192}} {
		cfg.Catalogue, cfg.Cache, cfg.Log = &catalogue.Catalogue{Datasets: []*catalogue.Dataset{{}}}, cache, slog.New(slog.DiscardHandler)
		if tree, err := synth.New(cfg); err == nil || !strings.Contains(err.Error(), "inner chunks of") {
			t.Errorf("%d, %d: %v, %v", cfg.InnerChunk, cfg.ScalesInnerChunk, tree, err)
		}
	}
}
