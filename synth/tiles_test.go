package synth_test

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/vfs"
)

// TestTiles opens one archive for all that is asked of per-tile stores: writing it takes longest.
func TestTiles(t *testing.T) {
	tree, cfg := open(t, synth.MissingError, io.Discard)
	t.Run("shown", func(t *testing.T) { tilesShown(t, tree) })
	t.Run("values", func(t *testing.T) { tileValues(t, tree, cfg) })
	t.Run("looked up", func(t *testing.T) { tilesLookedUp(t, tree) })
}

// Catches: per-tile stores that are listed and do not exist, or exist under a name that is not theirs.
func tilesShown(t *testing.T, tree *synth.Tree) {
	entries, err := fs.ReadDir(vfs.FS(tree.Root()), "v1/tiles/2024")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			t.Errorf("%s is no directory", e.Name())
		}
		names = append(names, e.Name())
	}
	var want []string
	for _, c := range cells {
		want = append(want, c.String()+".zarr")
	}
	slices.Sort(want) // as fs.ReadDir does
	if !slices.Equal(names, want) {
		t.Errorf("tiles/2024 lists %q, want %q", names, want)
	}
	const store = "v1/tiles/2024/grid_-36.05_83.55.zarr/"
	for _, name := range []string{"zarr.json", "embeddings/zarr.json", "embeddings/c/0/0/0", "scales/c/8/0", "landmask/c/0/0", "landmask/zarr.json", "x/c/0", "y/c/0", "band/c/0", "spatial_ref/c"} {
		find(t, tree, store+name)
	}
	for _, path := range []string{"v1/tiles/2023", "v1/tiles/02024", "v1/tiles/2024/grid_-36.05_83.55", "v1/tiles/2024/grid_-36.05_83.65.zarr",
		"v1/tiles/2024/grid_-36.0500_83.55.zarr", "v1/tiles/2024/utm24_2024.zarr", "v1/tiles/2024/.zarr", "v1/tiles/2024/grid_NaN_83.55.zarr",
		store + ".zarray", store + "easting", store + "embeddings/c/9", store + "embeddings/c/00", store + "embeddings/c/0/1", store + "embeddings/c/0/0/1",
		store + "scales/c/-1", store + "scales/c/0/0/0", store + "x/c/1", store + "spatial_ref/c/0"} {
		if _, err := vfs.Walk(t.Context(), tree.Root(), path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error is %v, not fs.ErrNotExist", path, err)
		}
	}
}

// Catches: embeddings that are not the tile's own bytes in place, scales or landmask of another pixel,
// a strip's end that is not fill.
func tileValues(t *testing.T, tree *synth.Tree, cfg demo.Config) {
	prints, err := grid.Footprints(cells)
	if err != nil {
		t.Fatal(err)
	}
	const rows = 128
	water := 0
	for i, c := range cells {
		height, width := prints[i].Height, prints[i].Width
		read := func(path string) []byte {
			data, err := fs.ReadFile(vfs.FS(tree.Root()), "v1/tiles/2024/"+c.String()+".zarr/"+path)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		files := cfg.Files(c, 2024)
		embeddings, err := os.ReadFile(files.Embeddings)
		if err != nil {
			t.Fatal(err)
		}
		scales, err := os.ReadFile(files.Scales)
		if err != nil {
			t.Fatal(err)
		}
		embeddings, scales = embeddings[len(embeddings)-height*width*grid.Bands:], scales[len(scales)-height*width*4:]
		for row := range (height + rows - 1) / rows {
			at := "/c/" + string(rune('0'+row)) + "/0"
			gotE, gotS, gotL := read("embeddings"+at+"/0"), read("scales"+at), read("landmask"+at)
			if len(gotE) != rows*width*grid.Bands || len(gotS) != rows*width*4 || len(gotL) != rows*width {
				t.Fatalf("%v, strip %d: %d, %d and %d bytes", c, row, len(gotE), len(gotS), len(gotL))
			}
			for p := range rows * width {
				at := row*rows*width + p
				scale := math.Float32frombits(binary.LittleEndian.Uint32(gotS[4*p:]))
				px := gotE[p*grid.Bands:][:grid.Bands]
				if at >= height*width {
					if scale == scale || gotL[p] != 0 || slices.ContainsFunc(px, func(v byte) bool { return v != 0 }) {
						t.Fatalf("%v: pixel %d, below the last row, is not fill", c, at)
					}
					continue
				}
				if !slices.Equal(px, embeddings[at*grid.Bands:][:grid.Bands]) {
					t.Fatalf("%v: embeddings of pixel %d differ", c, at)
				}
				own := math.Float32frombits(binary.LittleEndian.Uint32(scales[4*at:]))
				data := own > 0 && own < 1 && gotL[p] != 0
				if data && scale != own || !data && scale == scale {
					t.Fatalf("%v: scale of pixel %d is %v, the file has %v and the landmask %d", c, at, scale, own, gotL[p])
				}
				if gotL[p] == 0 {
					water++
				}
			}
		}
	}
	if water == 0 {
		t.Error("no tile has water: the test shows less than it should")
	}
}

// Catches: a year that builds or keeps something for each store that a kernel has heard of: ls -l of
// a planet looks up two million of them.
func tilesLookedUp(t *testing.T, tree *synth.Tree) {
	year := find(t, tree, "v1/tiles/2024").(vfs.Dir)
	const n = 20_000
	nodes := make([]vfs.Node, n)
	name := strings.Clone(cells[1].String() + ".zarr")
	size := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := size()
	for i := range nodes {
		node, err := year.Lookup(t.Context(), name)
		if err != nil || !node.Attr().Dir || node.Attr().ModTime.IsZero() {
			t.Fatalf("%v, %v", node, err)
		}
		nodes[i] = node
	}
	if each := (int64(size()) - int64(before)) / n; each > 64 {
		t.Errorf("a store that was looked up takes %d bytes", each)
	}
	runtime.KeepAlive(nodes)
}
