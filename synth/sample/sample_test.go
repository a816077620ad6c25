package sample_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/synth/sample"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/vfs"
)

// archive is written once; tests that spoil something do so in links to it.
var archive = demo.Config{Cells: append(slices.Clone(north), south...), Years: []int{2024}, Manifest: true}

func TestMain(m *testing.M) {
	var err error
	if archive.Dir, err = os.MkdirTemp("", "sample"); err == nil {
		_, err = demo.Write(context.Background(), archive)
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(archive.Dir)
		os.Exit(code)
	}))
}

// linked is the archive in links of a test's own.
func linked(t *testing.T) demo.Config {
	t.Helper()
	own := archive
	own.Dir = t.TempDir()
	err := filepath.WalkDir(archive.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(own.Dir, strings.TrimPrefix(path, archive.Dir))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		return os.Link(path, target)
	})
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// north lies on both sides of the border of zones 24 and 25, where tiles are narrow and overlap
// several others; one cell is left out. south is of zone 25.
var (
	north = []grid.Cell{{Lon: -3615, Lat: 8885}, {Lon: -3615, Lat: 8895}, {Lon: -3605, Lat: 8885},
		{Lon: -3595, Lat: 8885}, {Lon: -3595, Lat: 8895}, {Lon: -3585, Lat: 8895}}
	south = []grid.Cell{{Lon: -3595, Lat: -8895}}
)

// bed is an archive, a sampler of it, and the tree that shows its stores.
type bed struct {
	cfg     demo.Config
	bad     grid.Cell // cannot be read; the zero Cell: all can
	tree    *synth.Tree
	mosaic  *mosaic.Mosaic
	sampler *sample.Sampler
}

func newBed(t *testing.T, policy mosaic.Policy, spoil func(demo.Config)) *bed {
	t.Helper()
	b := &bed{cfg: archive}
	if spoil != nil {
		b.cfg = linked(t)
		spoil(b.cfg)
	}
	src, err := localdir.Open(b.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalogue.Open(t.Context(), src, catalogue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cache := tilecache.New(src, tilecache.Config{})
	if b.tree, err = synth.New(synth.Config{Catalogue: cat, Cache: cache, Missing: policy}); err != nil {
		t.Fatal(err)
	}
	if b.mosaic, err = mosaic.New(mosaic.Config{Objects: cache, Policy: policy}); err != nil {
		t.Fatal(err)
	}
	if b.sampler, err = sample.New(cat.Datasets[0], b.mosaic); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.mosaic.Close(); b.tree.Close(); cache.Close() })
	return b
}

// points are n points over the cells and a little beyond them.
func points(n int) *sample.Batch {
	rng := rand.New(rand.NewPCG(6, 28))
	b := sample.NewBatch(n)
	for i := range n {
		b.Lon[i], b.Lat[i], b.Year[i] = -36.25+0.5*rng.Float64(), 88.75+0.3*rng.Float64(), 2024
		switch rng.IntN(10) {
		case 0:
			b.Lat[i] = -b.Lat[i]
		case 1: // at the border of the zones
			b.Lon[i] = -36 + 0.01*(rng.Float64()-0.5)
		case 2: // the edge of a cell
			b.Lon[i] = math.Round(10*b.Lon[i]) / 10
		}
		b.Status[i] = 77
	}
	return b
}

// shown is what the store of a zone shows under a point: 128 values and a scale. covered is false
// where no tile lies that can be read, and missing true where one lies that cannot.
func (b *bed) shown(t *testing.T, zone int, lon, lat float64) (values []byte, scale float32, covered, missing bool) {
	t.Helper()
	var prints []grid.Footprint
	all, err := grid.Footprints(slices.SortedFunc(slices.Values(b.cfg.Cells), grid.Cell.Compare))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.Cell.Zone() == zone {
			prints = append(prints, f)
		}
	}
	if len(prints) == 0 {
		return nil, 0, false, false
	}
	g, err := grid.ZoneYear(prints)
	if err != nil {
		t.Fatal(err)
	}
	x, y := []float64{lon}, []float64{lat}
	if err := grid.Project(zone, x, y); err != nil {
		t.Fatal(err)
	}
	col, row := int(math.Floor((x[0]-g.Easting)/10)), int(math.Floor((g.Northing-y[0])/10))
	for _, f := range prints {
		r := g.Place(f)
		if row >= r.Row && row < r.Bottom() && col >= r.Col && col < r.Right() {
			covered = covered || f.Cell != b.bad
			missing = missing || f.Cell == b.bad
		}
	}
	if !covered {
		return nil, 0, false, missing
	}
	read := func(array, end string, pixelBytes int) []byte {
		path := fmt.Sprintf("v1/zones/2024/utm%02d_2024.zarr/%s/c/%d/%d%s", zone, array, row/1024, col/1024, end)
		file, err := vfs.Walk(t.Context(), b.tree.Root(), path)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, pixelBytes)
		if _, err := file.(vfs.File).ReadAt(t.Context(), p, int64((row%1024)*1024+col%1024)*int64(pixelBytes)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	return read("embeddings", "/0", 128), math.Float32frombits(binary.LittleEndian.Uint32(read("scales", "", 4))), true, missing
}

// check compares a batch with the stores, and counts.
func (b *bed) check(t *testing.T, got *sample.Batch) map[sample.Status]int {
	t.Helper()
	count := map[sample.Status]int{}
	for i := range got.Lon {
		own := grid.ZoneAt(got.Lon[i])
		values, scale, covered, missing := b.shown(t, own, got.Lon[i], got.Lat[i])
		if beyond := got.Lon[i] + 36; !covered && math.Abs(beyond) <= 0.1 {
			var alsoMissing bool
			values, scale, covered, alsoMissing = b.shown(t, 24+25-own, got.Lon[i], got.Lat[i])
			missing = missing || alsoMissing
		}
		want := sample.Data
		switch {
		case !covered && missing:
			want = sample.Missing
		case !covered:
			want = sample.Outside
		case scale != scale:
			want = sample.NoData
		}
		count[want]++
		if got.Status[i] != want {
			t.Fatalf("point %v, %v: status %d, want %d", got.Lon[i], got.Lat[i], got.Status[i], want)
		}
		if want != sample.Data {
			continue
		}
		if got.Scales[i] != scale {
			t.Fatalf("point %v, %v: scale %v, want %v", got.Lon[i], got.Lat[i], got.Scales[i], scale)
		}
		dequantised := make([]float32, 128)
		got.Dequantise(i, dequantised)
		for k, v := range values {
			if got.Embeddings[128*i+k] != int8(v) || dequantised[k] != float32(int8(v))*scale {
				t.Fatalf("point %v, %v, band %d: %d and %v, want %d", got.Lon[i], got.Lat[i], k, got.Embeddings[128*i+k], dequantised[k], int8(v))
			}
		}
	}
	return count
}

// Catches: a point in the wrong zone, pixel or tile, the value of another point, nodata that is
// data, what lies beyond every tile taken for something.
func TestPointsAreTheStoresPixels(t *testing.T) {
	b := newBed(t, mosaic.Fail, nil)
	got := points(3000)
	if err := b.sampler.Sample(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	count := b.check(t, got)
	for _, s := range []sample.Status{sample.Outside, sample.NoData, sample.Data} {
		if count[s] < 50 {
			t.Errorf("%d points of status %d: the test shows little (%v)", count[s], s, count)
		}
	}
}

// Catches: a year that is another's, or a fault where there is none.
func TestYears(t *testing.T) {
	b := newBed(t, mosaic.Fail, nil)
	got := points(60)
	for i := range got.Year {
		got.Year[i] = 2022 + i%3
	}
	if err := b.sampler.Sample(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	for i, year := range got.Year {
		if year != 2024 && got.Status[i] != sample.Outside {
			t.Errorf("point %d of %d: status %d", i, year, got.Status[i])
		}
	}
	if !slices.Contains(got.Status, sample.Data) {
		t.Error("no point of 2024 has data")
	}
	if err := b.sampler.Sample(t.Context(), sample.NewBatch(0)); err != nil {
		t.Errorf("no points: %v", err)
	}
}

// Catches: a tile that cannot be read taken for nodata; under Fill, points that are lost although
// another tile shows there, and Missing told for places that no tile covers.
func TestTileThatCannotBeRead(t *testing.T) {
	bad := grid.Cell{Lon: -3595, Lat: 8895}
	spoil := func(cfg demo.Config) {
		if err := os.Remove(cfg.Files(bad, 2024).Scales); err != nil {
			t.Fatal(err)
		}
	}
	b := newBed(t, mosaic.Fail, spoil)
	err := b.sampler.Sample(t.Context(), points(500))
	if !errors.Is(err, vfs.ErrDamaged) || !strings.Contains(err.Error(), bad.String()) {
		t.Errorf("error is %v, not ErrDamaged of %v", err, bad)
	}

	b = newBed(t, mosaic.Fill, spoil)
	got := points(2000)
	if err := b.sampler.Sample(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	b.bad = bad
	if count := b.check(t, got); count[sample.Missing] < 20 {
		t.Errorf("%d points are missing: the test shows little", count[sample.Missing])
	}
	if f, _ := b.mosaic.Journal.Failures(); len(f) != 1 {
		t.Errorf("failures are %+v", f)
	}
}

// Catches: a goroutine, or an answer, that outlives the interruption.
func TestInterrupted(t *testing.T) {
	b := newBed(t, mosaic.Fill, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.sampler.Sample(ctx, points(100)); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}
