package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/demo"
)

// Catches usage errors with another exit code than 2, of several lines, or that do not say where
// help is.
func TestBadUsage(t *testing.T) {
	p := newPlace(t)
	for _, tt := range []struct {
		args  string
		words []string
	}{
		{"", []string{"name a command", "tesserafs --help"}},
		{"mout a b", []string{`"mout"`, "did you mean mount"}},
		{"frobnicate", []string{`"frobnicate"`, "tesserafs --help"}},
		{"mount", []string{"tesserafs: mount: ", "SOURCE DIR", "tesserafs mount --help"}},
		{"mount a", []string{"SOURCE DIR"}},
		{"mount a b c", []string{"got 3"}},
		{"mount --nonsense a b", []string{"--nonsense", "tesserafs mount --help"}},
		{"mount --missing-tiles=ignore a b", []string{"error or fill", `"ignore"`}},
		{"mount --memory=much a b", []string{"--memory", "512MiB"}},
		{"mount --inner-chunk=100 a b", []string{"--inner-chunk", "100 px", "from 16 to 4096"}},
		{"mount --scales-inner-chunk=0 a b", []string{"--scales-inner-chunk", "0 px"}},
		{"mount --chunk-order=row a b", []string{"--chunk-order is pixel or band", `"row"`}},
		{"mount --chunk-order=band --inner-chunk=512 a b", []string{"--chunk-order", "512 px", "up to 256"}},
		{"mount --memory=-1 a b", []string{"--memory"}},
		{"mount --log-format=xml a b", []string{"text or json"}},
		{"mount --log-level=loud a b", []string{"debug, info, warn or error"}},
		{"mount --daemon --log-level=loud a b", []string{"debug, info, warn or error"}},
		{"unmount", []string{"DIR"}},
		{"status", []string{"DIR"}},
		{"info", []string{"SOURCE|DIR"}},
		{"info a b", []string{"got 2"}},
		{"doctor a b", []string{"[SOURCE]"}},
		{"verify", []string{"SOURCE"}},
		{"verify a --jobs=-1", []string{"--jobs", "1024"}},
		{"verify a --log-level=loud", []string{"debug, info, warn or error"}},
		{"verify a --years=2024-2020", []string{"--years", `"2024-2020"`}},
		{"verify a --bbox=1,2,3", []string{"--bbox", "W,S,E,N"}},
		{"verify a --bbox=1,2,3,4 --polygon=x", []string{"--bbox", "--polygon", "choose one"}},
		{"verify a --polygon=nowhere.geojson", []string{"--polygon", "nowhere.geojson"}},
		{"warm", []string{"SOURCE"}},
		{"warm a", []string{"nothing to warm", "a is a directory"}},
		{"warm s3://a --log-level=loud", []string{"debug, info, warn or error"}},
		{"warm s3://a --bbox=1,2,3", []string{"--bbox", "W,S,E,N"}},
		{"warm s3://a --cache-size=0", []string{"--cache-size cannot be 0"}},
		{"warm s3://a --offline", []string{"--offline"}},
		{"demo x", []string{"nothing"}},
		{"demo --size=huge", []string{"small, medium or large"}},
		{"demo --years=0", []string{"not a year"}},
		{"demo --years=soon", []string{"--years"}},
		{"version x", []string{"nothing"}},
	} {
		p.refuses(exitUsage, tt.words, strings.Fields(tt.args)...)
	}
}

// Catches a source that is not there, is no archive, or has a damaged manifest, told apart wrongly.
func TestBadSource(t *testing.T) {
	p := newPlace(t)
	bad := filepath.Join(p.home, "bad")
	manifest := filepath.Join(bad, "npy", "v1", "manifest.parquet")
	if err := os.MkdirAll(filepath.Dir(manifest), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, []byte("year,lon,lat\n2024,0.15,52.05\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		source string
		code   int
		words  []string
	}{
		{filepath.Join(p.home, "nowhere"), exitUnreachable, []string{"nowhere", "no such file"}},
		{p.mnt, exitUnreachable, []string{"no archive", "manifest.parquet"}},
		{manifest, exitUnreachable, []string{"manifest.parquet"}},
		{bad, exitData, []string{"manifest.parquet", "Parquet"}},
	} {
		p.refuses(tt.code, tt.words, "info", tt.source)
		empty := t.TempDir()
		p.refuses(tt.code, tt.words, "mount", tt.source, empty)
		p.refuses(tt.code, tt.words, "mount", "--daemon", tt.source, empty)
		r := p.run("doctor", tt.source)
		if r.code != exitFailed || !strings.Contains(r.stdout, "\nfail  archive") || r.stderr != "tesserafs: doctor: 1 check failed\n" {
			t.Errorf("doctor %s: exit code %d, %q, %q", tt.source, r.code, r.stdout, r.stderr)
		}
	}
}

// Catches help that does not state the exit codes, pages that are missing or differ from day to day, and completions
// that are not there.
func TestHelpManAndCompletion(t *testing.T) {
	p := newPlace(t)
	pages := filepath.Join(p.home, "man")
	p.must("man", pages)
	for _, name := range []string{"mount", "unmount", "status", "info", "verify", "warm", "doctor", "demo", "version"} {
		if help := p.must(name, "--help"); !strings.Contains(help, "Exit codes: 0 done, 1 failed, 2 bad usage, 3 source unreachable, 4 data found wrong") {
			t.Errorf("%s --help does not state the exit codes", name)
		}
		page, err := os.ReadFile(filepath.Join(pages, "tesserafs-"+name+".1"))
		if err != nil {
			t.Error(err)
		} else if strings.Contains(string(page), "Auto generated") {
			t.Errorf("the page of %s says when it was made", name)
		}
	}
	help := p.must("--help")
	if !strings.Contains(help, "mount ") || strings.Contains(help, "\n  man ") {
		t.Errorf("--help lists what it should not, or not what it should:\n%s", help)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := p.must("completion", shell); !strings.Contains(out, "tesserafs") {
			t.Errorf("completion %s: %q", shell, out)
		}
	}
	if out := p.must("version"); !strings.HasPrefix(out, "tesserafs ") || strings.Count(out, "\n") != 1 {
		t.Errorf("version: %q", out)
	}
}

// Catches figures of an archive that are wrong, and layouts that info does not know.
func TestInfo(t *testing.T) {
	p := newPlace(t)
	whole, _, err := demo.Size(archive4)
	if err != nil {
		t.Fatal(err)
	}
	zone := archive4.Cells[0].Zone()
	for _, source := range []string{archive4.Dir, filepath.Join(archive4.Dir, "npy", "v1")} {
		out := p.must("info", source)
		for _, want := range []string{"v1 ", "2023–2024", fmt.Sprint(zone), "4", byteSize(whole.Bytes).String(), "npy/v1/manifest.parquet"} {
			if !strings.Contains(out, want) {
				t.Errorf("info %s does not say %q:\n%s", source, want, out)
			}
		}
	}
	var h holding
	if err := json.Unmarshal([]byte(p.must("info", "--json", archive4.Dir)), &h); err != nil {
		t.Fatal(err)
	}
	if len(h.Datasets) != 1 || h.Source != archive4.Dir || h.Mount != "" {
		t.Fatalf("info --json: %+v", h)
	}
	if d := h.Datasets[0]; d.Name != "v1" || d.Tiles != 4 || d.Bytes != whole.Bytes || len(d.Years) != 2 || len(d.Years[1].Zones) != 1 {
		t.Errorf("info --json: %+v", d)
	}
	for _, layout := range []demo.Layout{demo.Mirror, demo.Flat} {
		cfg := archive4
		cfg.Dir, cfg.Layout, cfg.Manifest = t.TempDir(), layout, false
		if _, err := demo.Write(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if out := p.must("info", cfg.Dir); !strings.Contains(out, byteSize(whole.Bytes).String()) {
			t.Errorf("info of layout %s:\n%s", layout, out)
		}
	}
}

// Catches a demo that writes what its own commands cannot read, writes twice, or writes into a
// directory of other things.
func TestDemo(t *testing.T) {
	p := newPlace(t)
	first := p.must("demo", "--dir", "my archive")
	for _, want := range []string{"5 tiles", "91.4 MiB", "tesserafs mount 'my archive' stores", `open_zarr("stores/v1/zones/2024/utm25_2024.zarr")`} {
		if !strings.Contains(first, want) {
			t.Errorf("demo does not say %q:\n%s", want, first)
		}
	}
	tile := filepath.Join(p.home, "my archive", "npy", "v1", "2024", "grid_-33.05_83.55", "grid_-33.05_83.55.npy")
	before, err := os.Stat(tile)
	if err != nil {
		t.Fatal(err)
	}
	if second := p.must("demo", "--dir", "my archive"); second != first {
		t.Errorf("the second run says %q, the first %q", second, first)
	}
	if after, err := os.Stat(tile); err != nil || !os.SameFile(before, after) {
		t.Errorf("the second run wrote a tile again (%v)", err)
	}
	if out := p.must("info", "my archive"); !strings.Contains(out, "91.4 MiB") {
		t.Errorf("info of it:\n%s", out)
	}
	p.refuses(exitFailed, []string{"holds other things", "--dir"}, "demo", "--dir", p.home)
}
