package catalogue

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// Catches: an archive on a server that cannot list which is not found, or found where it does not lie, or
// with other landmasks than a listing finds.
func TestUnlisted(t *testing.T) {
	plain := simpleManifest(t, tileRow(2024, 0.05, 0.05))
	registry := tableOf(t, fields(t, "lon", "lat", "file_size"), `[{"lon": 0.05, "lat": 0.05, "file_size": 7}]`)
	versioned := func(rows ...string) []byte {
		return tableOf(t, fields(t, "version", "variant", "year", "lon", "lat", "grid_size"), "["+strings.Join(rows, ",")+"]")
	}
	row := func(version, variant string, lon float64) string {
		return fmt.Sprintf(`{"version": %q, "variant": %q, "year": 2024, "lon": %g, "lat": 0.05, "grid_size": 1}`, version, variant, lon)
	}
	const name = "grid_0.05_0.05"
	for what, test := range map[string]struct {
		files map[string][]byte
		tiles []string // directories of one tile each
		cfg   Config
		want  int // datasets
	}{
		"current": {files: map[string][]byte{v1Manifest: plain, "landmasks/v1/landmasks.parquet": registry}, want: 1},
		"current, several": {want: 3, files: map[string][]byte{v1Manifest: plain, "npy/v1.1-cam/manifest.parquet": plain, "npy/v2-2B-L~beta1/manifest.parquet": plain,
			"landmasks/v1/landmasks.parquet": registry, "landmasks/v1.1/landmasks.parquet": registry}},
		"landmasks of version 2": {want: 1, files: map[string][]byte{"npy/v2-2B-L~beta1/manifest.parquet": plain,
			"landmasks/v2/landmasks.parquet": registry, "landmasks/v1.1/landmasks.parquet": registry}},
		"landmasks of version 1.1": {want: 1, files: map[string][]byte{"npy/v2-2B-L~beta1/manifest.parquet": plain, "landmasks/v1.1/landmasks.parquet": registry}},
		"not published":            {want: 1, files: map[string][]byte{"npy/mine/manifest.parquet": plain, "landmasks/mine/landmasks.parquet": registry}, cfg: Config{Candidates: []string{"mine", "", "..", "a/b"}}},
		"not published, and named": {want: 1, files: map[string][]byte{"npy/v3-new/manifest.parquet": plain, "landmasks/v3/landmasks.parquet": registry}, cfg: Config{Dataset: "v3-new"}},
		"mirror":                   {want: 1, files: map[string][]byte{"manifest.parquet": plain, "landmasks.parquet": registry}, tiles: []string{tiles10 + "/2024"}},
		"mirror, several": {want: 2, files: map[string][]byte{"manifest.parquet": versioned(row("1.0", "vultr", 0.05), row("1.1", "cambridge", 0.05), row("9.9", "x", 0.15)), "landmasks.parquet": registry},
			tiles: []string{tiles10 + "/2024", tiles11 + "/2024"}},
		"mirror, the first tile missing": {want: 1, files: map[string][]byte{"manifest.parquet": simpleManifest(t, tileRow(2024, -0.05, 0.05), tileRow(2024, 0.05, 0.05)), "landmasks.parquet": registry},
			tiles: []string{tiles10 + "/2024"}},
		"flat": {want: 1, files: map[string][]byte{"manifest.parquet": plain, "landmasks.parquet": registry}, tiles: []string{tilesDir + "/2024"}},
	} {
		mem := memsource.New(test.files)
		for _, dir := range test.tiles {
			putTile(mem, dir, name)
		}
		want := remoteOpen(t, mem, Config{Dataset: test.cfg.Dataset})
		src := serve(mem)
		src.unlisted = true
		for _, dir := range []string{"", t.TempDir()} {
			test.cfg.Dir = dir
			got := remoteOpen(t, src, test.cfg)
			if !got.Equal(want) || len(got.Datasets) != test.want || !reflect.DeepEqual(shown(got), shown(want)) {
				t.Errorf("%s: got %s\nwant %s", what, strings.Join(shown(got), "\n"), strings.Join(shown(want), "\n"))
			}
			asked := make(map[string]bool)
			opened, _ := src.forget()
			for _, name := range opened {
				if asked[name] {
					t.Errorf("%s: asked for %s twice", what, name)
				}
				asked[name] = true
			}
		}
		// Without listings and without the server it is the same.
		test.cfg.Offline = true
		if got := remoteOpen(t, src, test.cfg); !got.Equal(want) {
			t.Errorf("%s: offline: %s", what, strings.Join(shown(got), "\n"))
		}
	}
}

// Catches: a server that has nothing, and a message that does not say what it was asked for; a manifest
// that names directories, which become paths.
func TestUnlistedNothing(t *testing.T) {
	hostile := tableOf(t, fields(t, "version", "variant", "year", "lon", "lat", "grid_size"),
		`[{"version": "../../etc", "variant": "/../x", "year": 2024, "lon": 0.05, "lat": 0.05, "grid_size": 1}]`)
	empty := simpleManifest(t)
	for what, test := range map[string]struct {
		files map[string][]byte
		cfg   Config
		err   error
		says  string
	}{
		"nothing":          {nil, Config{}, ErrNoArchive, "asked for npy/v1/manifest.parquet, npy/v1.1-cam/manifest.parquet, npy/v1.1-dclimate/manifest.parquet, npy/v2-2B-L~beta1/manifest.parquet, npy/v2-2B-L~beta2/manifest.parquet, manifest.parquet, and has none"},
		"one dataset":      {nil, Config{Dataset: "v7"}, ErrNoArchive, "asked for npy/v7/manifest.parquet, manifest.parquet, and has none"},
		"hostile names":    {map[string][]byte{"manifest.parquet": hostile}, Config{}, ErrNoArchive, "npy/v1/manifest.parquet"},
		"tiles are gone":   {map[string][]byte{"manifest.parquet": simpleManifest(t, tileRow(2024, 0.05, 0.05))}, Config{}, ErrNoArchive, ", v1/global_0.1_degree_representation/2024/grid_0.05_0.05/grid_0.05_0.05.npy"},
		"no rows":          {map[string][]byte{v1Manifest: empty}, Config{}, errors.ErrUnsupported, "npy/v1 has no manifest that lists a tile"},
		"hostile manifest": {map[string][]byte{"manifest.parquet": []byte("PAR1\xff\xff\xff\xffPAR1")}, Config{}, nil, "manifest.parquet: damaged"},
	} {
		src := serve(memsource.New(test.files))
		src.unlisted = true
		_, err := Open(t.Context(), src, test.cfg)
		if err == nil || test.err != nil && !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %v with %q", what, err, test.err, test.says)
		}
		opened, _ := src.forget()
		for _, name := range opened {
			if strings.Contains(name, "etc") || strings.Contains(name, "..") || strings.HasPrefix(name, "/") {
				t.Errorf("%s: asked for %q", what, name)
			}
		}
	}
}

// Catches: a source that fails while it is asked for what it may have, taken for one that has nothing.
func TestUnlistedFails(t *testing.T) {
	broken := errors.New("broken")
	for _, name := range []string{v1Manifest, "landmasks/v1/landmasks.parquet", "npy/v1.1-cam/manifest.parquet", "manifest.parquet",
		"v1/" + tilesDir + "/2024/grid_0.05_0.05/grid_0.05_0.05.npy"} {
		mem := memsource.New(map[string][]byte{v1Manifest: simpleManifest(t, tileRow(2024, 0.05, 0.05)), "manifest.parquet": simpleManifest(t, tileRow(2024, 0.05, 0.05))})
		mem.Fail(name, broken)
		src := serve(mem)
		src.unlisted = true
		if _, err := Open(t.Context(), src, Config{}); !errors.Is(err, broken) {
			t.Errorf("%s fails: %v", name, err)
		}
	}
}
