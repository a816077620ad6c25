package catalogue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// Catches: tiles that are not found, things found that are no tiles, tiles that lack an object and
// are left out, which would show them as places without data.
func TestScan(t *testing.T) {
	src := memsource.New(nil)
	putTile(src, "npy/v1/2024", "grid_0.15_52.15")
	putTile(src, "npy/v1/2024", "grid_-179.95_-89.95")
	putTile(src, "npy/v1/2024", "grid_0.15_-52.15")
	putTile(src, "npy/v1/2017", "grid_0.15_52.15")
	for _, name := range []string{
		"2024/grid_0.25_52.15/grid_0.25_52.15.npy",         // no scales
		"2024/grid_0.35_52.15/grid_0.35_52.15_scales.npy",  // no embeddings
		"2024/grid_0.45_52.15/grid_0.25_52.15.npy",         // another tile's
		"2024/grid_0.55_52.15",                             // not a directory
		"2024/grid_0.65_52.15/grid_0.65_52.15.npy/inside",  // a directory under an object's name
		"2024/grid_0.1_52.15/x", "2024/grid_0.150_52.15/x", // no names of tiles
		"2024/grid_180.05_0.05/x", "2024/tmp/x", "2024/notes.md", // nor these
		"2024.old/grid_0.15_52.15/x", "24/grid_0.15_52.15/x", "readme.txt", // no years
	} {
		src.Put("npy/v1/"+name, make([]byte, 7))
	}
	d := only(t, src)
	const whole, none = 1000, -1
	want := [][]int64{
		{2017, 15, 5215, whole, 40},
		{2024, -17995, -8995, whole, 40}, {2024, 15, -5215, whole, 40}, {2024, 15, 5215, whole, 40},
		{2024, 25, 5215, 7, none}, {2024, 35, 5215, none, 7}, {2024, 45, 5215, none, none}, {2024, 55, 5215, none, none}, {2024, 65, 5215, none, none},
	}
	got := tilesOf(d)
	for i, row := range got {
		got[i] = row[:5]
		newest := int64(0)
		embeddings, scales, _ := d.Objects(int(row[0]), cell(t, int(row[1]), int(row[2])))
		for j, name := range []string{embeddings, scales} {
			if obj, err := src.Open(t.Context(), name); err == nil {
				newest = max(newest, obj.Info().ModTime.Unix())
				if obj.Info().Size != row[3+j] {
					t.Errorf("%s has %d bytes, catalogued %d", name, obj.Info().Size, row[3+j])
				}
			}
		}
		if row[5] != newest {
			t.Errorf("tile %v: newest is %d", row, newest)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if d.Bytes() != 4*1040+14 {
		t.Errorf("Bytes %d", d.Bytes())
	}
}

// Catches: progress that is not told, told by several at once, or goes back; the race detector
// watches the slice.
func TestScanProgress(t *testing.T) {
	src := memsource.New(nil)
	const tiles = 2*progressTiles + 3
	for i := range tiles {
		src.Put(fmt.Sprintf("npy/v1/2024/grid_%d.%d5_0.05/x", i/10, i%10), nil)
	}
	for i := range 5 {
		src.Put(fmt.Sprintf("npy/v2-a/2024/grid_0.%d5_0.05/x", i), nil)
	}
	var told []int
	if _, err := Open(t.Context(), src, Config{Progress: func(n int) { told = append(told, n) }}); err != nil {
		t.Fatal(err)
	}
	if want := []int{progressTiles, 2 * progressTiles, tiles, tiles + 5}; !reflect.DeepEqual(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// Catches: a scan that goes on when nobody waits for it. The leak check of the package watches its
// workers.
func TestScanCancelled(t *testing.T) {
	src := memsource.New(nil)
	for i := range 100 {
		src.Put(fmt.Sprintf("npy/v1/2024/grid_%d.05_0.05/x", i), nil)
	}
	release := make(chan struct{})
	defer close(release)
	src.Delay("npy/v1/2024/grid_50.05_0.05", release)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, src, Config{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// Catches: a tile that is only a link to nowhere, or a link to another disk, left out.
func TestScanLinks(t *testing.T) {
	top, disk := t.TempDir(), t.TempDir()
	for path, link := range map[string]string{
		"npy/v1/2024/grid_0.05_0.05": "",
		"npy/v1/2024/grid_0.15_0.05": filepath.Join(disk, "grid_0.15_0.05"),
		"npy/v1/2024/grid_0.25_0.05": "nowhere",
		"npy/v1/2025":                filepath.Join(disk, "2025"),
	} {
		at := filepath.Join(top, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
			t.Fatal(err)
		}
		if link == "" {
			link = at
		} else if err := os.Symlink(link, at); err != nil {
			t.Fatal(err)
		}
		if link == "nowhere" {
			continue
		}
		if err := os.MkdirAll(link, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(disk, "2025/grid_0.05_0.05"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(disk, "grid_0.15_0.05/grid_0.15_0.05.npy"), make([]byte, 9), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(disk, "grid_0.15_0.05/grid_0.15_0.05.npy"), time.Time{}, time.Unix(-5, 0)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"npy/v1/2024/grid_0.35_0.05", "npy/v1/2026", "npy/v1/2027.txt"} {
		if err := os.WriteFile(filepath.Join(top, file), make([]byte, 9), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	src, err := localdir.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), src, Config{})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]int64{{2024, 5, 5, -1, -1, 0}, {2024, 15, 5, 9, -1, 0}, {2024, 25, 5, -1, -1, 0}, {2024, 35, 5, -1, -1, 0}, {2025, 5, 5, -1, -1, 0}}
	if got := tilesOf(c.Datasets[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
