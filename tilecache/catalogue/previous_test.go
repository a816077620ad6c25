package catalogue

import (
	"slices"
	"testing"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// Catches: a refresh that reads again what has not changed, or does not read what has; one that keeps in
// memory twice what is equal; a difference that Equal does not see.
func TestPrevious(t *testing.T) {
	mem := archived(t)
	mem.Put("npy/v2-a/manifest.parquet", simpleManifest(t, tileRow(2024, 0.05, 0.05)))
	mem.Put("landmasks/v2/landmasks.parquet", tableOf(t, fields(t, "lon", "lat", "file_size"), `[{"lon": 0.05, "lat": 0.05, "file_size": 7}]`))
	src := serve(mem)
	for _, dir := range []string{"", t.TempDir()} {
		old := remoteOpen(t, src, Config{Dir: dir})
		src.forget()
		same := remoteOpen(t, src, Config{Dir: dir, Previous: old})
		if _, reads := src.forget(); reads != 0 || !same.Equal(old) || !old.Equal(same) {
			t.Errorf("nothing changed: %d reads, equal %v", reads, same.Equal(old))
		}
		for i, d := range same.Datasets {
			if d.land != old.Datasets[i].land || d.years[0] != old.Datasets[i].years[0] {
				t.Errorf("%s is in memory twice", d.Name())
			}
		}
		for what, change := range map[string]struct {
			name string
			data []byte
		}{
			"a tile more":         {v1Manifest, simpleManifest(t, tileRow(2023, 0.05, 0.05), tileRow(2024, 0.05, 0.05), tileRow(2024, 0.15, 0.05), tileRow(2024, 0.25, 0.05))},
			"a tile less":         {v1Manifest, simpleManifest(t, tileRow(2023, 0.05, 0.05), tileRow(2024, 0.05, 0.05))},
			"a tile elsewhere":    {v1Manifest, simpleManifest(t, tileRow(2023, 0.05, 0.05), tileRow(2024, 0.05, 0.05), tileRow(2024, 0.25, 0.05))},
			"a year more":         {v1Manifest, simpleManifest(t, tileRow(2023, 0.05, 0.05), tileRow(2024, 0.05, 0.05), tileRow(2024, 0.15, 0.05), tileRow(2025, 0.15, 0.05))},
			"another landmask":    {"landmasks/v1/landmasks.parquet", tableOf(t, fields(t, "lon", "lat", "file_size"), `[{"lon": 0.05, "lat": 0.05, "file_size": 8}]`)},
			"a dataset more":      {"npy/v3-b/manifest.parquet", simpleManifest(t, tileRow(2024, 0.05, 0.05))},
			"the same, rewritten": {"npy/v2-a/manifest.parquet", simpleManifest(t, tileRow(2024, 0.05, 0.05))},
		} {
			before, _ := mem.Open(t.Context(), change.name)
			var was []byte
			if before != nil {
				was = make([]byte, before.Info().Size)
				if _, err := before.ReadAt(t.Context(), was, 0); err != nil {
					t.Fatal(err)
				}
			}
			mem.Put(change.name, change.data)
			fresh := remoteOpen(t, src, Config{Dir: dir, Previous: old})
			anew := remoteOpen(t, mem, Config{})
			// Rewritten, it has another time, which is that of tiles without one.
			if fresh.Equal(old) || !fresh.Equal(anew) {
				t.Errorf("%s: equal to the old %v, to one opened anew %v", what, fresh.Equal(old), fresh.Equal(anew))
			}
			if change.name == "landmasks/v1/landmasks.parquet" {
				i := slices.IndexFunc(old.Datasets, func(d *Dataset) bool { return d.Name() == "v1" })
				if fresh.Datasets[i].years[0] != old.Datasets[i].years[0] {
					t.Errorf("%s: the tiles are in memory twice", what)
				}
			}
			if was == nil {
				mem.Remove(change.name)
			} else {
				mem.Put(change.name, was)
			}
			src.set(func() { src.reads = nil })
			old = remoteOpen(t, src, Config{Dir: dir})
		}
	}
}

// Catches: a catalogue that stays stale, or fresh, because its tiles did not change.
func TestPreviousStale(t *testing.T) {
	src := serve(archived(t))
	cfg := Config{Dir: t.TempDir()}
	cfg.Previous = remoteOpen(t, src, cfg)
	for _, down := range []error{source.ErrUnavailable, nil} {
		src.set(func() { src.down = down })
		c := remoteOpen(t, src, cfg)
		if _, why := c.Datasets[0].Stale(); (why != "") != (down != nil) || !c.Equal(cfg.Previous) {
			t.Errorf("source %v: stale %q", down, why)
		}
		cfg.Previous = c
	}
}

// Catches: tiles that were scanned once and for all.
func TestPreviousScan(t *testing.T) {
	mem := memsource.New(nil)
	putTile(mem, "npy/v1/2024", "grid_0.05_0.05")
	old := remoteOpen(t, mem, Config{})
	putTile(mem, "npy/v1/2024", "grid_0.15_0.05")
	fresh := remoteOpen(t, mem, Config{Previous: old})
	if fresh.Equal(old) || fresh.Datasets[0].Len() != 2 {
		t.Errorf("%d tiles", fresh.Datasets[0].Len())
	}
}

// Catches: a figure of memory that is far from what a catalogue takes.
func TestMemory(t *testing.T) {
	mem := archived(t)
	if got := remoteOpen(t, mem, Config{}).Memory(); got != 3*16+12 {
		t.Errorf("%d bytes", got)
	}
}
