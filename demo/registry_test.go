package demo

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"

	"github.com/tesserafs/tesserafs/grid"
)

// Catches registries that lack a published column, are out of order, or say other sizes and times
// than the files have.
func TestRegistries(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Cells: tiny(t, 2), Years: []int{2024, 2021}, Dataset: "v1.1-cam", Manifest: true}
	slices.Reverse(cfg.Cells)
	if _, err := Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	files := cfg.Files(cfg.Cells[0], 2024)
	rows := readTable(t, files.Manifest, "version variant year lon lat directory grid_path scales_path grid_mtime scales_mtime grid_size scales_size lon_i lat_i")
	var order []string
	for _, r := range rows {
		order = append(order, fmt.Sprint(r["version"], r["variant"], r["year"], r["lon"], r["lat"], r["lon_i"], r["lat_i"]))
		var year int
		fmt.Sscan(r["year"], &year)
		c, err := grid.ParseCell(r["directory"])
		if err != nil {
			t.Fatal(err)
		}
		f := cfg.Files(c, year)
		for path, column := range map[string]string{f.Embeddings: "grid", f.Scales: "scales"} {
			fi := stat(t, path)
			if size := fmt.Sprint(fi.Size()); size != r[column+"_size"] {
				t.Errorf("%s has %s bytes, the manifest says %s", path, size, r[column+"_size"])
			}
			if mtime := fi.ModTime().UTC().Format("2006-01-02 15:04:05Z"); mtime != r[column+"_mtime"] {
				t.Errorf("%s is of %s, the manifest says %s", path, mtime, r[column+"_mtime"])
			}
		}
	}
	want := []string{
		"1.1 cambridge 2021 -33.05 88.95 -3305 8895", "1.1 cambridge 2021 -32.95 88.95 -3295 8895",
		"1.1 cambridge 2024 -33.05 88.95 -3305 8895", "1.1 cambridge 2024 -32.95 88.95 -3295 8895",
	}
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], " ", "")
		order[i] = strings.ReplaceAll(order[i], " ", "")
	}
	if !slices.Equal(order, want) {
		t.Errorf("manifest rows are %q, want %q", order, want)
	}
	if want := filepath.Join(cfg.Dir, "landmasks", "v1.1", "landmasks.parquet"); files.Landmasks != want {
		t.Errorf("landmasks of v1.1-cam are at %s, want %s", files.Landmasks, want)
	}
	for i, r := range readTable(t, files.Landmasks, "lat lon hash mtime file_size path") {
		fi := stat(t, filepath.Join(filepath.Dir(files.Landmasks), r["path"]))
		if fmt.Sprint(fi.Size()) != r["file_size"] || fmt.Sprint(float64(fi.ModTime().Unix())) != r["mtime"] {
			t.Errorf("landmask row %d says %v of a file of %d bytes of %v", i, r, fi.Size(), fi.ModTime())
		}
	}
}

// readTable reads a Parquet file, every value as text.
func readTable(t *testing.T, path, columns string) []map[string]string {
	t.Helper()
	f, err := file.OpenParquetFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	tbl, err := r.ReadTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tbl.Release()
	var names []string
	rows := make([]map[string]string, tbl.NumRows())
	for i := range rows {
		rows[i] = map[string]string{}
	}
	for i := range int(tbl.NumCols()) {
		c := tbl.Column(i)
		names = append(names, c.Name())
		for _, chunk := range c.Data().Chunks() {
			for j := range chunk.Len() {
				rows[j][c.Name()] = chunk.ValueStr(j)
				if fs, ok := chunk.(*array.Float64); ok {
					rows[j][c.Name()] = fmt.Sprint(fs.Value(j))
				}
			}
		}
	}
	if got := strings.Join(names, " "); got != columns {
		t.Errorf("%s has the columns %s, want %s", path, got, columns)
	}
	return rows
}
