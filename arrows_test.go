package tesserafs

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tesserafs/tesserafs/"

// mayImport says which rooms a room may import; a room that is not drawn here may not exist. A name
// ending in "/..." stands for a room and those inside it.
//
//	cmd → vfs/* → vfs ← synth → tilecache → grid
var mayImport = map[string][]string{
	"bench/delay":          {}, // of the benchmarks
	"cmd/tesserafs":        {"vfs/...", "synth/...", "tilecache/...", "grid", "demo"},
	"demo":                 {"grid"}, // writes archives, and reads none
	"grid":                 {},
	"synth":                {"vfs", "synth/...", "tilecache", "tilecache/catalogue"},
	"synth/audit":          {"vfs", "synth/mosaic", "tilecache", "tilecache/catalogue", "tilecache/source", "grid"},
	"synth/landmask":       {}, // the formats know nothing of ours
	"synth/layout":         {"vfs", "synth/zarr", "synth/mosaic", "tilecache/catalogue", "grid"},
	"synth/mosaic":         {"vfs", "synth/npy", "synth/landmask", "tilecache", "tilecache/source", "grid"},
	"synth/npy":            {},
	"synth/sample":         {"synth/mosaic", "tilecache/catalogue", "grid"},
	"synth/zarr":           {}, // knows no TESSERA
	"tests/faults":         {}, // tests only, of all rooms together
	"tilecache":            {"tilecache/source", "tilecache/disk"},
	"tilecache/catalogue":  {"tilecache/source", "grid"},
	"tilecache/disk":       {"tilecache/source"},
	"tilecache/source":     {},
	"tilecache/source/...": {"tilecache/source/..."},
	"vfs":                  {},
	"vfs/...":              {"vfs/..."}, // a front door knows no Zarr
}

// Catches: an import against the arrows, which would tie two rooms together that can be changed
// apart today; and a room nobody drew.
func TestImportArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		room, ours := strings.CutPrefix(fields[0], module)
		if !ours {
			continue
		}
		allowed, drawn := mayImport[room]
		for pattern, list := range mayImport {
			if !drawn && strings.HasSuffix(pattern, "...") && covers(pattern, room) {
				allowed, drawn = list, true
			}
		}
		if !drawn {
			t.Errorf("room %s is not drawn: say in mayImport what it may import", room)
			continue
		}
		for _, path := range fields[1:] {
			to, ours := strings.CutPrefix(path, module)
			if ours && !slices.ContainsFunc(allowed, func(a string) bool { return covers(a, to) }) {
				t.Errorf("%s imports %s, against the arrows", room, to)
			}
		}
	}
}

func covers(pattern, room string) bool {
	inside, ok := strings.CutSuffix(pattern, "/...")
	return room == inside || ok && strings.HasPrefix(room, inside+"/")
}
