package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/synth/audit"
)

// copyArchive is a copy of the small archive to be broken, and where its first tile's objects are.
func copyArchive(t *testing.T) (dir string, tile demo.Files) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "archive")
	if err := os.CopyFS(dir, os.DirFS(archive4.Dir)); err != nil {
		t.Fatal(err)
	}
	cfg := archive4
	cfg.Dir = dir
	return dir, cfg.Files(cfg.Cells[0], 2023)
}

// Catches: an exit code that does not tell right from wrong from not seen; a finding that does not
// name the object or is on the wrong stream; a table that miscounts.
func TestVerify(t *testing.T) {
	p := newPlace(t)
	good := p.must("verify", archive4.Dir)
	if want := "DATASET  TILES  RIGHT  WRONG  NOT SEEN  WARNINGS\nv1       4      4      0      0         0\n"; good != want {
		t.Errorf("got %q, want %q", good, want)
	}
	dir, tile := copyArchive(t)
	if err := os.Truncate(tile.Embeddings, 5000); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {"--full"}, {"--jobs", "1", "--log-level", "debug"}, {"--dataset", "v1", "--years", "2020-2023"}, {"--bbox", "-34,88,-33,90"}} {
		r := p.run(append([]string{"verify", dir}, args...)...)
		name, err := filepath.Rel(dir, tile.Embeddings)
		if err != nil {
			t.Fatal(err)
		}
		if want := "wrong: v1 2023 " + archive4.Cells[0].String() + ": " + name + ": truncated: "; r.code != exitData || !strings.HasPrefix(r.stdout, want) {
			t.Errorf("%v: exit code %d, got %q, want %q", args, r.code, r.stdout, want)
		}
		if !strings.Contains(r.stderr, "1 wrong, 0 not seen\n") || strings.Contains(r.stdout, "tesserafs: ") {
			t.Errorf("%v: on standard error: %q", args, r.stderr)
		}
	}
	// What was not chosen is not looked at.
	for _, args := range [][]string{{"--years", "2024"}, {"--bbox", "-33,88,-32,90"}} {
		if out := p.must(append([]string{"verify", dir}, args...)...); strings.Contains(out, "truncated") || !strings.Contains(out, "v1       2      2 ") {
			t.Errorf("%v: got %q", args, out)
		}
	}
	polygon := filepath.Join(p.home, "west.geojson")
	if err := os.WriteFile(polygon, []byte(`{"type":"Polygon","coordinates":[[[-34,88],[-33,88],[-33,89],[-34,89]]]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := p.run("verify", dir, "--polygon", "west.geojson"); r.code != exitData || !strings.Contains(r.stdout, "\nv1       2      1      1 ") {
		t.Errorf("a polygon: exit code %d, %q", r.code, r.stdout)
	}
}

// Catches: tiles that nobody could look at taken for wrong ones, or for right ones.
func TestVerifyUnseen(t *testing.T) {
	p := newPlace(t)
	dir, tile := copyArchive(t)
	// A link to itself can be neither read nor called missing.
	loop := func(path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Base(path), path); err != nil {
			t.Fatal(err)
		}
	}
	loop(tile.Scales)
	r := p.run("verify", dir)
	if r.code != exitUnreachable || !strings.HasPrefix(r.stdout, "unseen: v1 2023 ") || !strings.Contains(r.stdout, "\nv1       4      3      0      1 ") || !strings.Contains(r.stderr, "run verify again") {
		t.Errorf("exit code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	if err := os.Remove(tile.Embeddings); err != nil {
		t.Fatal(err)
	}
	if r := p.run("verify", dir); r.code != exitData || !strings.Contains(r.stdout, "\nv1       4      3      1      0 ") {
		t.Errorf("wrong as well: exit code %d, %q", r.code, r.stdout)
	}
	r = p.run("verify", filepath.Join(dir, "nowhere"))
	if r.code != exitUnreachable || r.stdout != "" {
		t.Errorf("no archive: exit code %d, %q", r.code, r.stdout)
	}
}

// Catches: JSON that is not one object a line, or that ends without a summary.
func TestVerifyJSON(t *testing.T) {
	p := newPlace(t)
	dir, tile := copyArchive(t)
	if err := os.Remove(tile.Scales); err != nil {
		t.Fatal(err)
	}
	r := p.run("verify", "--json", "--full", dir)
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if r.code != exitData || len(lines) != 2 {
		t.Fatalf("exit code %d, %q", r.code, r.stdout)
	}
	var f audit.Finding
	if err := json.Unmarshal([]byte(lines[0]), &f); err != nil {
		t.Fatal(err)
	}
	if f.Level != audit.Wrong || f.Kind != audit.Missing || f.Year != 2023 || f.Tile != archive4.Cells[0].String() || filepath.Join(dir, f.Object) != tile.Scales {
		t.Errorf("got %+v", f)
	}
	var last struct{ Summary verifySummary }
	if err := json.Unmarshal([]byte(lines[1]), &last); err != nil {
		t.Fatal(err)
	}
	if s := last.Summary; s.Tiles != 4 || s.Wrong != 1 || s.Right != 3 || s.Chosen != 4 || !s.Complete || !s.Full || s.Data == 0 || s.Datasets["v1"] != s.Summary {
		t.Errorf("got %+v", s)
	}
}

// Catches: Ctrl-C that loses what was found so far, or that looks like success or like a finding.
func TestVerifyInterrupted(t *testing.T) {
	p := newPlace(t)
	dir, tile := copyArchive(t)
	// The tiles of one year in many, without a landmask, so that each is a warning.
	if err := os.RemoveAll(filepath.Join(dir, "landmasks")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "npy", "v1", "manifest.parquet")); err != nil {
		t.Fatal(err)
	}
	years := filepath.Dir(filepath.Dir(filepath.Dir(tile.Scales)))
	for year := range 1900 {
		if err := os.Symlink("2023", filepath.Join(years, fmt.Sprintf("%04d", year+1))); err != nil {
			t.Fatal(err)
		}
	}
	cmd := p.command("verify", "--full", "--jobs", "1", dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
	var lines []string
	for s := bufio.NewScanner(out); s.Scan(); lines = append(lines, s.Text()) {
		if len(lines) == 0 {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if len(lines) < 4 {
		t.Fatalf("got %q, %q", lines, &stderr)
	}
	warnings, table := lines[:len(lines)-3], lines[len(lines)-2:]
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.HasSuffix(stderr.String(), "tesserafs: verify: interrupted\n") {
		t.Errorf("exit code %d, %q", code, &stderr)
	}
	want := "v1 " + group(len(warnings)) + " " + group(len(warnings)) + " 0 0 " + group(len(warnings))
	if got := strings.Join(strings.Fields(table[1])[:6], " "); got != want || len(warnings) >= 2*1902 {
		t.Errorf("got %q, want %q", got, want)
	}
}
