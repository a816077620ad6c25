package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Tiles next to the pole are 2 pixels wide, the smallest there are.
const (
	manifest  = "npy/v1/manifest.parquet"
	registry  = "landmasks/v1/landmasks.parquet"
	first     = "npy/v1/2023/grid_0.05_89.95/grid_0.05_89.95" // embeddings of the first tile, without .npy
	firstMask = "landmasks/v1/grid_0.05_89.95.tiff"
)

// archive is the objects of an archive of six tiles: three cells, two years. Do not change it.
func archive(t *testing.T) map[string][]byte {
	t.Helper()
	objects, err := written()
	if err != nil || len(objects) != 6*2+3+2 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	return objects
}

var written = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "tesserafs-audit-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cells, err := demo.Box(0, 89.9, 0.3, 90)
	if err != nil {
		return nil, err
	}
	if _, err := demo.Write(context.Background(), demo.Config{Dir: dir, Cells: cells, Years: []int{2023, 2024}, Manifest: true}); err != nil {
		return nil, err
	}
	objects := make(map[string][]byte)
	return objects, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			objects[path], err = os.ReadFile(filepath.Join(dir, path))
		}
		return err
	})
})

// summed is a source that knows checksums.
type summed struct {
	*memsource.Source
	sums  map[string]uint64
	err   error
	asked func(name string)
}

func (s *summed) Checksum(_ context.Context, name string) (uint64, bool, error) {
	if s.asked != nil {
		s.asked(name)
	}
	sum, ok := s.sums[name]
	return sum, ok, s.err
}

// run looks at all tiles of the only dataset.
func run(t *testing.T, src source.Source, cfg Config, each func(Result) error) (Summary, error) {
	t.Helper()
	cat, err := catalogue.Open(t.Context(), src, catalogue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return runOn(t, t.Context(), cat, src, cfg, each)
}

func runOn(t *testing.T, ctx context.Context, cat *catalogue.Catalogue, src source.Source, cfg Config, each func(Result) error) (Summary, error) {
	t.Helper()
	cfg.Catalogue, cfg.Source, cfg.Objects = cat, src, tilecache.New(src, tilecache.Config{})
	defer cfg.Objects.Close()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ds := cat.Datasets[0]
	var s Summary
	err = a.Run(ctx, ds, tilesOf(ds), func(r Result) error {
		s.Add(r)
		if each != nil {
			return each(r)
		}
		return nil
	})
	return s, err
}

func tilesOf(ds *catalogue.Dataset) func(yield func(catalogue.Tile) bool) {
	return func(yield func(catalogue.Tile) bool) {
		for _, year := range ds.Years() {
			for i := range ds.Tiles(year, 0).Len() {
				if !yield(ds.Tiles(year, 0).At(i)) {
					return
				}
			}
		}
	}
}

// findings lists what was found as "level kind object".
func findings(t *testing.T, src source.Source, cfg Config) ([]string, Summary) {
	t.Helper()
	var all []string
	s, err := run(t, src, cfg, func(r Result) error {
		for _, f := range r.Findings {
			all = append(all, fmt.Sprintf("%s %s %s", f.Level, f.Kind, f.Object))
			if f.Dataset != "v1" || f.Year != r.Tile.Year || f.Tile != r.Tile.Cell.String() || f.What == "" || f.Do == "" || strings.Contains(f.What+f.Do, "\n") {
				t.Errorf("finding %+v of tile %+v", f, r.Tile)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, s
}

// Catches: a fault of one kind that is taken for another, for none, or for one of a neighbour; a
// landmask that is lost without a word; a failure of the source that is laid to the tile.
func TestFindings(t *testing.T) {
	objects := archive(t)
	for _, tt := range []struct {
		name  string
		spoil func(src *memsource.Source)
		want  []string
		sum   Summary
	}{
		{"right", func(*memsource.Source) {}, nil, Summary{Right: 6}},
		{"embeddings missing", func(src *memsource.Source) { src.Remove(first + ".npy") },
			[]string{"wrong missing " + first + ".npy"}, Summary{Right: 5, Wrong: 1}},
		{"both arrays missing", func(src *memsource.Source) { src.Remove(first + ".npy"); src.Remove(first + "_scales.npy") },
			[]string{"wrong missing " + first + ".npy", "wrong missing " + first + "_scales.npy"}, Summary{Right: 5, Wrong: 1}},
		{"truncated", func(src *memsource.Source) { src.Put(first+".npy", objects[first+".npy"][:1000]) },
			[]string{"wrong array " + first + ".npy"}, Summary{Right: 5, Wrong: 1}},
		{"longer than listed", func(src *memsource.Source) {
			src.Put(first+"_scales.npy", append(bytes.Clone(objects[first+"_scales.npy"]), 0))
		}, []string{"wrong size " + first + "_scales.npy"}, Summary{Right: 5, Wrong: 1}},
		{"another's landmask", func(src *memsource.Source) { src.Put(firstMask, []byte("II*\x00")); src.Remove(registry) },
			[]string{"wrong landmask " + firstMask, "wrong landmask " + firstMask}, Summary{Right: 4, Wrong: 2}},
		{"listed landmask missing", func(src *memsource.Source) { src.Remove(firstMask) },
			[]string{"wrong missing " + firstMask, "wrong missing " + firstMask}, Summary{Right: 4, Wrong: 2}},
		{"unlisted landmask missing", func(src *memsource.Source) { src.Remove(firstMask); src.Remove(registry) },
			[]string{"warning missing " + firstMask, "warning missing " + firstMask}, Summary{Right: 6, Warnings: 2}},
		{"landmask of another size", func(src *memsource.Source) { src.Put(firstMask, append(bytes.Clone(objects[firstMask]), 0)) },
			[]string{"wrong size " + firstMask, "wrong size " + firstMask}, Summary{Right: 4, Wrong: 2}},
		{"unreachable", func(src *memsource.Source) { src.Fail(first+".npy", source.ErrUnavailable) },
			[]string{"unseen unavailable " + first + ".npy"}, Summary{Right: 5, Unseen: 1}},
		{"not allowed", func(src *memsource.Source) { src.Fail(first+"_scales.npy", fs.ErrPermission) },
			[]string{"unseen unavailable " + first + "_scales.npy"}, Summary{Right: 5, Unseen: 1}},
		{"wrong and unreachable", func(src *memsource.Source) {
			src.Remove(first + ".npy")
			src.Fail(first+"_scales.npy", errors.New("HTTP 418"))
		}, []string{"wrong missing " + first + ".npy", "unseen unavailable " + first + "_scales.npy"}, Summary{Right: 5, Wrong: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, full := range []bool{false, true} {
				src := memsource.New(objects)
				// The catalogue has seen nothing of it, except for what a scan sees.
				tt.spoil(src)
				got, s := findings(t, src, Config{Full: full, Jobs: 3})
				if !slices.Equal(got, tt.want) {
					t.Errorf("full %v: got %q, want %q", full, got, tt.want)
				}
				if s.Tiles != 6 || s.Right != tt.sum.Right || s.Wrong != tt.sum.Wrong || s.Unseen != tt.sum.Unseen || s.Warnings != tt.sum.Warnings {
					t.Errorf("full %v: %+v, want %+v", full, s, tt.sum)
				}
				if (s.Data > 0) != full {
					t.Errorf("full %v: %d pixels were counted", full, s.Data)
				}
			}
		})
	}
}

// Catches: scales that are counted wrongly, and odd ones that nobody hears of or that make a tile
// wrong.
func TestScales(t *testing.T) {
	objects := archive(t)
	odd := bytes.Clone(objects[first+"_scales.npy"])
	for i, v := range []float32{3e4, -1, float32(math.NaN()), float32(math.Inf(1))} {
		binary.LittleEndian.PutUint32(odd[128+4*i:], math.Float32bits(v))
	}
	src := memsource.New(objects)
	src.Put(first+"_scales.npy", odd)
	src.Remove(firstMask)
	src.Remove(registry)
	want := []string{"warning missing " + firstMask, "note scales " + first + "_scales.npy", "warning missing " + firstMask}
	got, s := findings(t, src, Config{Full: true})
	if !slices.Equal(got, want) || s.Right != 6 || s.Odd != 2 || s.Notes != 1 || s.NoData < 4 {
		t.Errorf("got %q, %+v", got, s)
	}
	if got, s := findings(t, src, Config{}); len(got) != 2 || s.Data+s.NoData+s.Odd != 0 {
		t.Errorf("without Full: got %q, %+v", got, s)
	}
}

// Catches: checksums that are not asked for, not compared, or compared with part of an object; and
// objects without one that are read whole.
func TestCRC64NVME(t *testing.T) {
	objects := archive(t)
	src := &summed{Source: memsource.New(objects), sums: map[string]uint64{}}
	for name, data := range objects {
		if !strings.HasSuffix(name, ".parquet") {
			src.sums[name] = crc64.Checksum(data, tilecache.CRC64NVME)
		}
	}
	if got, s := findings(t, src, Config{Full: true}); got != nil || s.CRC64NVME != 18 {
		t.Errorf("got %q, %+v", got, s)
	}
	flipped := bytes.Clone(objects[first+".npy"])
	flipped[len(flipped)-1] ^= 1
	src.Put(first+".npy", flipped)
	mask := bytes.Clone(objects[firstMask])
	mask[len(mask)-1] ^= 1
	delete(src.sums, first+"_scales.npy")
	if got, s := findings(t, src, Config{Full: true}); !slices.Equal(got, []string{"wrong crc64nvme " + first + ".npy"}) || s.CRC64NVME != 17 {
		t.Errorf("got %q, %+v", got, s)
	}
	if got, s := findings(t, src, Config{}); got != nil || s.CRC64NVME != 0 {
		t.Errorf("without Full: got %q, %+v", got, s)
	}
	for err, want := range map[error]int{fs.ErrPermission: 0, errors.ErrUnsupported: 0, source.ErrUnavailable: 18} {
		src.err = err
		got, s := findings(t, src, Config{Full: true})
		if len(got) != want || s.CRC64NVME != 0 || want > 0 && s.Unseen != 6 {
			t.Errorf("%v: got %q, %+v", err, got, s)
		}
	}
}

// Catches: the checksum of two states of an object.
func TestChangedMeanwhile(t *testing.T) {
	objects := archive(t)
	src := &summed{Source: memsource.New(objects), sums: map[string]uint64{first + ".npy": crc64.Checksum(objects[first+".npy"], tilecache.CRC64NVME)}}
	src.asked = func(name string) {
		if name == first+".npy" {
			src.Put(name, objects[name])
		}
	}
	if got, s := findings(t, src, Config{Full: true}); !slices.Equal(got, []string{"wrong changed " + first + ".npy"}) || s.CRC64NVME != 0 {
		t.Errorf("got %q, %+v", got, s)
	}
}

// legacy writes a manifest with SHA-256 sums of the tiles' arrays.
func legacy(t *testing.T, cat *catalogue.Catalogue, objects map[string][]byte) []byte {
	t.Helper()
	ds := cat.Datasets[0]
	var rows []string
	for tile := range tilesOf(ds) {
		embeddings, scales, _ := ds.Objects(tile.Year, tile.Cell)
		lon, lat := tile.Cell.LonLat()
		rows = append(rows, fmt.Sprintf(`{"year": %d, "lon": %g, "lat": %g, "file_size": %d, "hash": "%x", "scales_hash": "%x"}`,
			tile.Year, lon, lat, tile.Embeddings, sha256.Sum256(objects[embeddings]), sha256.Sum256(objects[scales])))
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "year", Type: arrow.PrimitiveTypes.Int32}, {Name: "lon", Type: arrow.PrimitiveTypes.Float64},
		{Name: "lat", Type: arrow.PrimitiveTypes.Float64}, {Name: "file_size", Type: arrow.PrimitiveTypes.Int64},
		{Name: "hash", Type: arrow.BinaryTypes.String}, {Name: "scales_hash", Type: arrow.BinaryTypes.String}}, nil)
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader("["+strings.Join(rows, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := pqarrow.NewFileWriter(schema, &b, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps())
	if err == nil {
		err = errors.Join(w.Write(record), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Catches: sums of a legacy manifest that are not looked at, held against the wrong object, or read
// without need; and a run that goes on when they cannot be read.
func TestSHA256(t *testing.T) {
	objects := archive(t)
	src := memsource.New(objects)
	cat, err := catalogue.Open(t.Context(), src, catalogue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	src.Put(manifest, legacy(t, cat, objects))
	if got, s := findings(t, src, Config{Full: true}); got != nil || s.SHA256 != 12 {
		t.Errorf("got %q, %+v", got, s)
	}
	flipped := bytes.Clone(objects[first+"_scales.npy"])
	flipped[len(flipped)-4] ^= 1
	src.Put(first+"_scales.npy", flipped)
	if got, s := findings(t, src, Config{Full: true}); !slices.Equal(got, []string{"wrong sha256 " + first + "_scales.npy"}) || s.SHA256 != 12 {
		t.Errorf("got %q, %+v", got, s)
	}
	if got, s := findings(t, src, Config{}); got != nil || s.SHA256 != 0 {
		t.Errorf("without Full: got %q, %+v", got, s)
	}
	if cat, err = catalogue.Open(t.Context(), src, catalogue.Config{}); err != nil {
		t.Fatal(err)
	}
	src.Fail(manifest, source.ErrUnavailable)
	if s, err := runOn(t, t.Context(), cat, src, Config{Full: true}, nil); !errors.Is(err, ErrManifest) || !errors.Is(err, source.ErrUnavailable) || s.Tiles != 0 {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err := runOn(t, t.Context(), cat, src, Config{}, nil); err != nil || s.Right != 6 {
		t.Errorf("without Full: got %+v, %v", s, err)
	}
}

// Catches: results in the order in which they are done, tiles looked at one after another, and
// results that pile up behind a slow tile.
func TestOrder(t *testing.T) {
	const jobs, times = 2, 100
	var asked atomic.Int64 // three times a tile
	src := &summed{Source: memsource.New(archive(t)), asked: func(string) { asked.Add(1) }}
	cat, err := catalogue.Open(t.Context(), src, catalogue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	objects := tilecache.New(src, tilecache.Config{})
	defer objects.Close()
	a, err := New(Config{Catalogue: cat, Source: src, Objects: objects, Jobs: jobs, Full: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()

	tiles := slices.Collect(tilesOf(cat.Datasets[0]))
	slow := make(chan struct{})
	src.Delay(first+".npy", slow)
	var order []catalogue.Tile
	done := make(chan error)
	go func() {
		done <- a.Run(t.Context(), cat.Datasets[0], func(yield func(catalogue.Tile) bool) {
			if !yield(tiles[0]) {
				return
			}
			for i := range times { // those that are not slow, again and again
				if !yield(tiles[1+i%5]) {
					return
				}
			}
		}, func(r Result) error { order = append(order, r.Tile); return nil })
	}()
	for end := time.Now().Add(5 * time.Second); asked.Load() < 3*waitingFor; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is looked at behind a slow tile")
		}
	}
	time.Sleep(50 * time.Millisecond)
	if n := asked.Load() / 3; n > waitingFor*jobs+jobs+1 {
		t.Errorf("%d tiles were looked at behind a slow one", n)
	}
	close(slow)
	if err := <-done; err != nil || len(order) != 1+times || order[0] != tiles[0] {
		t.Fatalf("%d results, %v", len(order), err)
	}
	for i, tile := range order[1:] {
		if tile != tiles[1+i%5] {
			t.Fatalf("result %d is of %+v", 1+i, tile)
		}
	}
}

// Catches: a run that does not end with its context or with a report that cannot be written, and one
// that leaves goroutines behind (TestMain).
func TestEnds(t *testing.T) {
	objects := archive(t)
	for _, jobs := range []int{1, 4} {
		src := memsource.New(objects)
		cat, err := catalogue.Open(t.Context(), src, catalogue.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		src.Delay("npy/v1/2023/grid_0.25_89.95/grid_0.25_89.95.npy", make(chan struct{})) // the third, for ever
		s, err := runOn(t, ctx, cat, src, Config{Jobs: jobs}, func(r Result) error {
			if r.Tile.Cell.Lon == 15 {
				cancel()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) || s.Tiles != 2 || s.Right != 2 {
			t.Errorf("context: got %+v, %v", s, err)
		}
		cancel()

		full := errors.New("disk full")
		s, err = run(t, memsource.New(objects), Config{Jobs: jobs}, func(Result) error { return full })
		if !errors.Is(err, full) || s.Tiles != 1 {
			t.Errorf("report: got %+v, %v", s, err)
		}
	}
}
