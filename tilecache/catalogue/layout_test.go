package catalogue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

const (
	tiles11 = "v1.1/global_0.1_degree_representation.cambridge"
	tiles10 = "v1/global_0.1_degree_representation"
)

// putTile puts the objects of a tile as a download leaves them.
func putTile(src *memsource.Source, dir, name string) {
	src.Put(dir+"/"+name+"/"+name+".npy", make([]byte, 1000))
	src.Put(dir+"/"+name+"/"+name+"_scales.npy", make([]byte, 40))
}

// shown is what an archive shows, in one line for each dataset.
func shown(c *Catalogue) []string {
	var lines []string
	for _, d := range c.Datasets {
		embeddings, scales, landmask := d.Objects(d.Years()[0], d.Tiles(d.Years()[0], 0).At(0).Cell)
		if scales != strings.TrimSuffix(embeddings, ".npy")+"_scales.npy" {
			embeddings += " but " + scales
		}
		lines = append(lines, fmt.Sprintf("%s (%s, %s) %d from %s: %s %s", d.Name(), d.Version(), d.Variant(), d.Len(), d.Origin(), embeddings, landmask))
	}
	return lines
}

// Catches: a layout whose tiles or landmasks are looked for where they do not lie, or under another
// name than they are published.
func TestLayouts(t *testing.T) {
	versioned := func(rows ...string) []byte {
		return tableOf(t, fields(t, "version", "variant", "year", "lon", "lat", "grid_size"), "["+strings.Join(rows, ",")+"]")
	}
	row := func(version, variant string, lon float64) string {
		return fmt.Sprintf(`{"version": %q, "variant": %q, "year": 2024, "lon": %g, "lat": 0.05, "grid_size": 1}`, version, variant, lon)
	}
	plain := simpleManifest(t, tileRow(2024, 0.05, 0.05))
	const name = "grid_0.05_0.05"
	for _, test := range []struct {
		name  string
		files map[string][]byte
		tiles []string // directories of one tile each, as downloads leave them
		want  []string
	}{
		{name: "current", files: map[string][]byte{v1Manifest: plain},
			want: []string{"v1 (1.0, vultr) 1 from npy/v1/manifest.parquet: npy/v1/2024/grid_0.05_0.05/grid_0.05_0.05.npy landmasks/v1/grid_0.05_0.05.tiff"}},
		{name: "current, scanned", tiles: []string{"npy/v1/2024"},
			want: []string{"v1 (1.0, vultr) 1 from scan of npy/v1: npy/v1/2024/grid_0.05_0.05/grid_0.05_0.05.npy landmasks/v1/grid_0.05_0.05.tiff"}},
		{name: "current, several, some with a manifest",
			files: map[string][]byte{"npy/v1.1-cam/manifest.parquet": plain, "landmasks/v1.1/grid_0.05_0.05.tiff": nil, "npy/notes/readme.txt": nil, "zarr/v1/zarr.json": nil},
			tiles: []string{"npy/v1/2017", "npy/v2-2B-L~beta1/2024", "npy/v3-new/2024", "npy/mine/2024"},
			want: []string{
				"mine (, ) 1 from scan of npy/mine: npy/mine/2024/grid_0.05_0.05/grid_0.05_0.05.npy landmasks/mine/grid_0.05_0.05.tiff",
				"v1 (1.0, vultr) 1 from scan of npy/v1: npy/v1/2017/grid_0.05_0.05/grid_0.05_0.05.npy landmasks/v1/grid_0.05_0.05.tiff",
				"v1.1-cam (1.1, cambridge) 1 from npy/v1.1-cam/manifest.parquet: npy/v1.1-cam/2024/grid_0.05_0.05/grid_0.05_0.05.npy landmasks/v1.1/grid_0.05_0.05.tiff",
				"v2-2B-L~beta1 (2.0, 2B-L~beta1) 1 from scan of npy/v2-2B-L~beta1: npy/v2-2B-L~beta1/2024/grid_0.05_0.05/grid_0.05_0.05.npy landmasks/v1.1/grid_0.05_0.05.tiff",
				"v3-new (3.0, new) 1 from scan of npy/v3-new: npy/v3-new/2024/grid_0.05_0.05/grid_0.05_0.05.npy landmasks/v3/grid_0.05_0.05.tiff",
			}},
		{name: "current, landmasks of version 2",
			files: map[string][]byte{"landmasks/v1.1/grid_0.05_0.05.tiff": nil, "landmasks/v2/grid_0.05_0.05.tiff": nil},
			tiles: []string{"npy/v2-2B-L~beta2/2024"},
			want:  []string{"v2-2B-L~beta2 (2.0, 2B-L~beta2) 1 from scan of npy/v2-2B-L~beta2: npy/v2-2B-L~beta2/2024/grid_0.05_0.05/grid_0.05_0.05.npy landmasks/v2/grid_0.05_0.05.tiff"}},
		{name: "mirror", files: map[string][]byte{"manifest.parquet": plain}, tiles: []string{tiles10 + "/2024"},
			want: []string{"v1 (1.0, vultr) 1 from manifest.parquet: v1/global_0.1_degree_representation/2024/grid_0.05_0.05/grid_0.05_0.05.npy v1/global_0.1_degree_tiff_all/grid_0.05_0.05.tiff"}},
		{name: "mirror, several under one manifest",
			files: map[string][]byte{"manifest.parquet": versioned(row("1.1", "vultr", 0.05), row("1.1", "cambridge", 0.05), row("1.0", "vultr", 0.05), row("1.1", "cambridge", 0.15), row("9.9", "x", 0.15))},
			tiles: []string{tiles10 + "/2024", tiles11 + "/2024", "v1.1/global_0.1_degree_representation/2024"},
			want: []string{
				"v1 (1.0, vultr) 1 from manifest.parquet: v1/global_0.1_degree_representation/2024/grid_0.05_0.05/grid_0.05_0.05.npy v1/global_0.1_degree_tiff_all/grid_0.05_0.05.tiff",
				"v1.1 (1.1, ) 1 from manifest.parquet: v1.1/global_0.1_degree_representation/2024/grid_0.05_0.05/grid_0.05_0.05.npy v1.1/global_0.1_degree_tiff_all/grid_0.05_0.05.tiff",
				"v1.1-cam (1.1, cambridge) 2 from manifest.parquet: " + tiles11 + "/2024/grid_0.05_0.05/grid_0.05_0.05.npy v1.1/global_0.1_degree_tiff_all/grid_0.05_0.05.tiff",
			}},
		{name: "mirror, one the manifest does not name",
			files: map[string][]byte{"manifest.parquet": versioned(row("1.0", "vultr", 0.15))},
			tiles: []string{tiles10 + "/2024", "v2/global_0.1_degree_representation.mine/2024"},
			want: []string{
				"v1 (1.0, vultr) 1 from manifest.parquet: v1/global_0.1_degree_representation/2024/grid_0.15_0.05/grid_0.15_0.05.npy v1/global_0.1_degree_tiff_all/grid_0.15_0.05.tiff",
				"v2-mine (2.0, mine) 1 from scan of v2/global_0.1_degree_representation.mine: v2/global_0.1_degree_representation.mine/2024/grid_0.05_0.05/grid_0.05_0.05.npy v2/global_0.1_degree_tiff_all/grid_0.05_0.05.tiff",
			}},
		{name: "flat", tiles: []string{tilesDir + "/2024"},
			want: []string{"v1 (1.0, vultr) 1 from scan of global_0.1_degree_representation: global_0.1_degree_representation/2024/grid_0.05_0.05/grid_0.05_0.05.npy global_0.1_degree_tiff_all/grid_0.05_0.05.tiff"}},
		{name: "one dataset in three layouts", tiles: []string{"npy/v1/2024", tiles10 + "/2024", tilesDir + "/2024"},
			want: []string{"v1 (1.0, vultr) 1 from scan of npy/v1: npy/v1/2024/grid_0.05_0.05/grid_0.05_0.05.npy landmasks/v1/grid_0.05_0.05.tiff"}},
		{name: "a manifest without rows is as none", files: map[string][]byte{v1Manifest: simpleManifest(t)}, tiles: []string{"npy/v1/2024"},
			want: []string{"v1 (1.0, vultr) 1 from scan of npy/v1: npy/v1/2024/grid_0.05_0.05/grid_0.05_0.05.npy landmasks/v1/grid_0.05_0.05.tiff"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			src := memsource.New(test.files)
			for _, dir := range test.tiles {
				putTile(src, dir, name)
			}
			all := open(t, src)
			if got := shown(all); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(test.want, "\n     "))
			}
			for i, d := range all.Datasets {
				one, err := Open(t.Context(), src, Config{Dataset: d.Name()})
				if err != nil || !reflect.DeepEqual(shown(one), test.want[i:i+1]) {
					t.Errorf("of %s alone: %v, %v", d.Name(), err, one)
				}
			}
		})
	}
}

// Catches: a manifest that cannot say which dataset its rows are of, given to one by chance.
func TestManifestAmbiguous(t *testing.T) {
	src := memsource.New(map[string][]byte{"manifest.parquet": simpleManifest(t, tileRow(2024, 0.05, 0.05))})
	putTile(src, tiles10+"/2024", "grid_0.05_0.05")
	putTile(src, tiles11+"/2024", "grid_0.05_0.05")
	if why := refused(t, src); !strings.Contains(why.Error(), "manifest.parquet: row 0, has no columns version and variant, and may belong to v1 or to v1.1-cam") {
		t.Errorf("refused with %q", why)
	}
}

// Catches: a source without tiles that is shown as an empty one, and a message that does not say
// what was looked for.
func TestNoArchive(t *testing.T) {
	for name, test := range map[string]struct {
		files   map[string][]byte
		dataset string
		says    string
	}{
		"nothing":         {nil, "", "npy/<dataset>"},
		"something":       {map[string][]byte{"readme.txt": nil, "photos/2024/cat.jpg": nil}, "", "global_0.1_degree_representation/<year>"},
		"empty dataset":   {map[string][]byte{"npy/v1/readme.txt": nil}, "", "no tiles"},
		"year 0":          {map[string][]byte{"npy/v1/0000/grid_0.05_0.05/x": nil, "npy/v1/24/grid_0.05_0.05/x": nil, "npy/v1/20244/grid_0.05_0.05/x": nil}, "", "no tiles"},
		"another dataset": {map[string][]byte{"npy/v1/2024/grid_0.05_0.05/x": nil, "npy/v2-a/x": nil}, "v3", `"v3": there is v1, v2-a`},
	} {
		_, err := Open(t.Context(), memsource.New(test.files), Config{Dataset: test.dataset})
		if !errors.Is(err, ErrNoArchive) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want ErrNoArchive with %q", name, err, test.says)
		}
	}
}

// Catches: a dataset that is not wanted, and is broken, standing in the way of the one that is.
func TestOnlyOneDataset(t *testing.T) {
	src := memsource.New(map[string][]byte{v1Manifest: simpleManifest(t, tileRow(2024, 0.05, 0.05)), "npy/v2-a/manifest.parquet": []byte("broken"),
		"landmasks/v2/landmasks.parquet": []byte("broken")})
	if c, err := Open(t.Context(), src, Config{Dataset: "v1"}); err != nil || len(c.Datasets) != 1 {
		t.Errorf("got %v, %v", c, err)
	}
}

// Catches: a source that fails taken for one that has nothing, or a broken manifest for the source's
// failing.
func TestSourceFails(t *testing.T) {
	broken := errors.New("broken")
	for _, name := range []string{".", "npy", "landmasks", "v1", "manifest.parquet", v1Manifest, "landmasks/v1", "landmasks/v1/landmasks.parquet",
		"npy/v1.1-cam", "npy/v1.1-cam/2024", "npy/v1.1-cam/2024/grid_0.05_0.05"} {
		src := memsource.New(map[string][]byte{v1Manifest: simpleManifest(t, tileRow(2024, 0.05, 0.05)), "manifest.parquet": simpleManifest(t),
			"landmasks/v1/grid_0.05_0.05.tiff": nil, "landmasks/v2/x": nil})
		if name == "manifest.parquet" {
			src.Remove(v1Manifest)
		}
		putTile(src, tiles10+"/2024", "grid_0.05_0.05")
		putTile(src, "npy/v1.1-cam/2024", "grid_0.05_0.05")
		src.Fail(name, broken)
		_, err := Open(t.Context(), src, Config{})
		var why *RefusedError
		if !errors.Is(err, broken) || errors.As(err, &why) {
			t.Errorf("%s fails: got %v", name, err)
		}
	}
}

// Catches: a path that a user names and that is taken for another archive or dataset.
func TestLocate(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{
		"current/npy/v1/2024", "current/npy/v1.1-cam", "current/npy/notes", "current/landmasks/v1",
		"mirror/" + tiles10 + "/2024", "mirror/" + tiles11 + "/2024", "mirror/v1.1/global_0.1_degree_tiff_all", "mirror/v2/global_0.1_degree_representation",
		"mirror/v2/global_0.1_degree_representation.mine",
		"flat/global_0.1_degree_representation/2024/grid_0.05_0.05",
		"npy/npy/v1/2024", // an archive that has the name of one of its directories
		"nothing/photos", "nothing/npy/empty", "nothing/v1",
	} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"current/npy/v1.1-cam/manifest.parquet", "nothing/file"} {
		if err := os.WriteFile(filepath.Join(top, file), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("current/npy/v1", filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(top, "flat"), filepath.Join(top, "nothing/elsewhere")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, root, dataset string }{
		{"current", "current", ""},
		{"current/", "current", ""},
		{"current/npy", "current", ""},
		{"current/npy/v1", "current", "v1"},
		{"current/npy/v1/", "current", "v1"},
		{"current/npy/v1.1-cam", "current", "v1.1-cam"},
		{"link", "current", "v1"},
		{"mirror", "mirror", ""},
		{"mirror/v1", "mirror", "v1"},
		{"mirror/v1.1", "mirror", "v1.1-cam"},
		{"mirror/" + tiles10, "mirror", "v1"},
		{"mirror/" + tiles11, "mirror", "v1.1-cam"},
		{"mirror/v2/global_0.1_degree_representation.mine", "mirror", "v2-mine"},
		{"mirror/v2/global_0.1_degree_representation", "mirror", "v2"},
		{"flat", "flat", ""},
		{"flat/global_0.1_degree_representation", "flat", "v1"},
		{"nothing/elsewhere", "nothing/elsewhere", ""},
		{"npy", "npy", ""},
		{"npy/npy", "npy", ""},
		{"npy/npy/v1", "npy", "v1"},
	} {
		root, dataset, err := Locate(filepath.Join(top, test.path))
		if err != nil || root != filepath.Join(top, test.root) || dataset != test.dataset {
			t.Errorf("Locate(%s) = %s, %q, %v, want %s, %q", test.path, root, dataset, err, test.root, test.dataset)
		}
	}
	for path, says := range map[string]string{
		"nothing":             "holds no npy/<dataset>",
		"nothing/file":        "is a file",
		"nothing/npy":         "holds no",
		"nothing/npy/empty":   "holds no",
		"nothing/v1":          "holds no",
		"current/npy/v1/2024": "holds no",
		"current/landmasks":   "holds no",
		"mirror/v2":           "holds v2, v2-mine",
	} {
		root, dataset, err := Locate(filepath.Join(top, path))
		if !errors.Is(err, ErrNoArchive) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Locate(%s) = %s, %q, %v, want ErrNoArchive with %q", path, root, dataset, err, says)
		}
	}
	if _, _, err := Locate(filepath.Join(top, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Locate of what is not there: %v", err)
	}
	t.Chdir(filepath.Join(top, "current/npy/v1"))
	if root, dataset, err := Locate("."); err != nil || root != filepath.Join(top, "current") || dataset != "v1" {
		t.Errorf("Locate(.) = %s, %q, %v", root, dataset, err)
	}
}
