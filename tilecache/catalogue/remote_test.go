package catalogue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// below is what lies under a prefix of a source. Its closings are counted.
type below struct {
	source.Source
	prefix string
	open   map[string]int
}

func (b *below) String() string { return strings.TrimSuffix("s3://bucket/"+b.prefix, "/") }
func (b *below) Close() error   { b.open[b.prefix]--; return nil }
func (b *below) name(name string) string {
	switch {
	case b.prefix == "":
		return name
	case name == ".":
		return b.prefix
	}
	return b.prefix + "/" + name
}

func (b *below) Open(ctx context.Context, name string) (source.Object, error) {
	return b.Source.Open(ctx, b.name(name))
}

func (b *below) List(ctx context.Context, name string, withInfo bool) ([]source.Entry, error) {
	return b.Source.List(ctx, b.name(name), withInfo)
}

// bucket opens prefixes of a source.
type bucket struct {
	*server
	opened map[string]int // that were not closed
	asked  int
}

func (b *bucket) at(_ context.Context, prefix string) (source.Source, error) {
	b.asked++
	if b.down != nil {
		return nil, b.down
	}
	b.opened[prefix]++
	return &below{b.server, prefix, b.opened}, nil
}

// locations is a bucket of several archives.
func locations(t *testing.T) *bucket {
	plain := simpleManifest(t, tileRow(2024, 0.05, 0.05))
	mem := memsource.New(map[string][]byte{
		"a/current/npy/v1/manifest.parquet": plain, "a/current/npy/v1.1-cam/manifest.parquet": plain, "a/current/npy/notes/x": nil,
		"npy/v1/manifest.parquet":         plain,
		"mirror/manifest.parquet":         plain,
		"mirror/v2/readme":                nil,
		"npy/npy/v2-a/2024/x":             nil,
		"manifest.parquet":                nil,
		"odd/npy/npy/v1/manifest.parquet": plain,
	})
	putTile(mem, "mirror/"+tiles10+"/2024", "grid_0.05_0.05")
	putTile(mem, "mirror/"+tiles11+"/2024", "grid_0.05_0.05")
	return &bucket{serve(mem), make(map[string]int), 0}
}

// Catches: an address that a user names and that is taken for another archive or dataset, sources that
// stay open, and prefixes that are no paths.
func TestLocateRemote(t *testing.T) {
	for _, test := range []struct{ prefix, root, dataset string }{
		{"a/current", "a/current", ""},
		{"/a/current/", "a/current", ""},
		{"a/current/npy", "a/current", ""},
		{"a/current/npy/v1", "a/current", "v1"},
		{"a/current/npy/v1.1-cam/", "a/current", "v1.1-cam"},
		{"", "", ""},
		{"npy/v1", "", "v1"},
		{"odd/npy", "odd/npy", ""},
		{"odd/npy/npy/v1", "odd/npy", "v1"},
		{"mirror", "mirror", ""},
		{"mirror/v1", "mirror", "v1"},
		{"mirror/" + tiles10, "mirror", "v1"},
		{"mirror/" + tiles11, "mirror", "v1.1-cam"},
		{"mirror/" + tilesDir, "mirror", "v1"},
		{"nothing/there", "nothing/there", ""}, // for Open to find out
	} {
		for _, unlisted := range []bool{false, true} {
			b := locations(t)
			b.unlisted = unlisted
			got, err := LocateRemote(t.Context(), Remote{"s3://bucket", test.prefix, b.at}, Config{})
			if err != nil || got.Root != test.root || got.Dataset != test.dataset {
				t.Errorf("%q, unlisted %v: %+v, %v, want %q, %q", test.prefix, unlisted, got, err, test.root, test.dataset)
				continue
			}
			if got.Source.String() != (&below{prefix: test.root}).String() {
				t.Errorf("%q: %v", test.prefix, got.Source)
			}
			for prefix, open := range b.opened {
				if want := map[bool]int{true: 1}[prefix == test.root]; open != want {
					t.Errorf("%q: %d open at %q, want %d", test.prefix, open, prefix, want)
				}
			}
		}
	}
	for _, prefix := range []string{"a//b", "../x", "a/../b", "a/./b", "a\x00b", "."} {
		b := locations(t)
		if _, err := LocateRemote(t.Context(), Remote{"s3://bucket", prefix, b.at}, Config{}); prefix != "." && (!errors.Is(err, fs.ErrInvalid) || b.asked > 0) {
			t.Errorf("%q: %v after asking %d times", prefix, err, b.asked)
		}
	}
	b := locations(t)
	mem := b.Source
	putTile(mem, "mirror/v1/"+tilesDir+".mine/2024", "grid_0.05_0.05")
	if _, err := LocateRemote(t.Context(), Remote{"s3://bucket", "mirror/v1", b.at}, Config{}); !errors.Is(err, ErrNoArchive) || !strings.Contains(err.Error(), "mirror/v1 in s3://bucket: no archive of one dataset: it holds v1, v1-mine; name the directory of one, or mirror in s3://bucket for all") {
		t.Errorf("of two: %v", err)
	}
	for prefix, open := range b.opened {
		if open != 0 {
			t.Errorf("%d open at %q", open, prefix)
		}
	}
}

// Catches: an archive that is not found again while its source is away, one that is not read once it is
// back, and its absence taken for that of a tile.
func TestLocateRemoteAway(t *testing.T) {
	b := locations(t)
	cfg := Config{Dir: t.TempDir()}
	r := Remote{"s3://bucket", "a/current/npy/v1", b.at}
	away := fmt.Errorf("bucket: %w", source.ErrUnavailable)
	b.down = away
	if _, err := LocateRemote(t.Context(), r, cfg); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("of what was never found: %v", err)
	}
	b.down = nil
	found, err := LocateRemote(t.Context(), r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Dataset = found.Dataset
	want := remoteOpen(t, found.Source, cfg)

	b.down = away
	again, err := LocateRemote(t.Context(), r, cfg)
	if err != nil || again.Root != found.Root || again.Dataset != "v1" || again.Source.String() != found.Source.String() {
		t.Fatalf("%+v, %v", again, err)
	}
	c := remoteOpen(t, again.Source, cfg)
	if _, why := c.Datasets[0].Stale(); !c.Equal(want) || why == "" {
		t.Errorf("stale: %q", why)
	}
	asked := b.asked
	if _, err := again.Source.Open(t.Context(), "x"); !errors.Is(err, source.ErrUnavailable) || b.asked != asked {
		t.Errorf("a source that is away: %v, asked %d times", err, b.asked-asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := again.Source.(*later)
	l.tried = l.tried.Add(-2 * againAfter)
	b.down = context.Canceled
	if _, err := l.Open(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	b.down = errNotThere
	if _, err := l.Open(t.Context(), "x"); !errors.Is(err, source.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an archive that is gone: %v", err)
	}
	b.down = nil
	l.tried = l.tried.Add(-2 * againAfter)
	cfg.Previous = c
	if c = remoteOpen(t, again.Source, cfg); !c.Equal(want) {
		t.Error("back: another catalogue")
	}
	if _, why := c.Datasets[0].Stale(); why != "" {
		t.Errorf("back: stale: %s", why)
	}
	if err := l.Close(); err != nil || b.opened["a/current"] != 1 { // found.Source is open still
		t.Errorf("closing: %v, %v", err, b.opened)
	}

	cfg = Config{Dir: cfg.Dir, Dataset: "v1", Offline: true}
	asked = b.asked
	again, err = LocateRemote(t.Context(), r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if c := remoteOpen(t, again.Source, cfg); !c.Equal(want) {
		t.Error("offline: another catalogue")
	}
	if _, err := again.Source.Open(t.Context(), "x"); !errors.Is(err, source.ErrUnavailable) || b.asked != asked {
		t.Errorf("offline: %v, asked %d times", err, b.asked-asked)
	}
	r.Prefix = "mirror"
	if _, err := LocateRemote(t.Context(), r, cfg); !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "offline") {
		t.Errorf("offline, of what was never found: %v", err)
	}
}

// Catches: an archive that is all of its bucket, and is not found again while that is away; and a place that
// is none, kept by another hand or version, that is neither found nor an error.
func TestLocateRemoteTop(t *testing.T) {
	b := locations(t)
	cfg := Config{Dir: t.TempDir()}
	r := Remote{"s3://bucket", "", b.at}
	found, err := LocateRemote(t.Context(), r, cfg)
	if err != nil || found.Root != "" {
		t.Fatalf("%+v, %v", found, err)
	}
	b.down = fmt.Errorf("bucket: %w", source.ErrUnavailable)
	for _, cfg.Offline = range []bool{false, true} {
		again, err := LocateRemote(t.Context(), r, cfg)
		if err != nil || again.Root != "" || again.Source.String() != found.Source.String() {
			t.Errorf("offline %v: %+v, %v", cfg.Offline, again, err)
		}
	}
	kept := newOpener(remembered(r.Address), cfg).copies
	for _, bad := range []foundAt{{"s3://bucket", "", ""}, {"s3://bucket", "..", ""}, {"s3://bucket", ".", "a/b"}} {
		kept.note("location of .", bad)
		for _, cfg.Offline = range []bool{false, true} {
			if again, err := LocateRemote(t.Context(), r, cfg); !errors.Is(err, source.ErrUnavailable) {
				t.Errorf("%+v, offline %v: %+v, %v", bad, cfg.Offline, again, err)
			}
		}
	}
}
