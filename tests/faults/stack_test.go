package faults_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
	"github.com/tesserafs/tesserafs/tilecache/source/remote"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest/gateway"
	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

// What is kept is little, so that most reads come from the source.
const (
	memoryBytes = 4 << 20
	diskBytes   = 4 << 20
	hotBytes    = 4 << 20
)

// stackConfig says what of a stack is not as the others'.
type stackConfig struct {
	patience patient.Config
	gateway  *gateway.S3 // nil: the world's
	bucket   string      // "": the archive
	direct   bool        // without a bender
	web      bool        // over HTTP, by a host's name, instead of S3
	cacheDir string      // "": a directory of the test's
	memory   int64       // 0: memoryBytes
	disk     int64       // 0: diskBytes
	bend     bend        // from the first request on
	verify   bool        // objects that were read are held against the server's checksums
}

// stack is an archive that is mounted, from a server.
type stack struct {
	w      *world
	dir    string // it is mounted there
	line   *line
	bender *bender // nil where it is direct
	cache  string  // the directory of what is kept

	archive source.Source
	source  *patient.Source // which it is; nil where nobody is asked
	disk    *disk.Cache
	objects *tilecache.Cache
	tree    *synth.Tree // the one that is shown
	server  *fusefs.Server

	log      *slog.Logger
	config   catalogue.Config
	closed   sync.Once
	over     chan struct{}  // closed when nothing is served any more
	replaced sync.WaitGroup // trees that were shown before
}

// reached is a source that is asked patiently.
type reached struct {
	*patient.Source
	under remote.Source
}

func (r *reached) Close() error { return errors.Join(r.Source.Close(), r.under.Close()) }

// mount puts a stack together, as the commands do, until the test ends.
func (w *world) mount(t *testing.T, cfg stackConfig) *stack {
	t.Helper()
	if cfg.gateway == nil {
		cfg.gateway = w.gateway
	}
	if cfg.bucket == "" {
		cfg.bucket = bucket
	}
	if cfg.cacheDir == "" {
		cfg.cacheDir = t.TempDir()
	}
	if cfg.memory == 0 {
		cfg.memory = memoryBytes
	}
	if cfg.disk == 0 {
		cfg.disk = diskBytes
	}
	s := &stack{w: w, dir: t.TempDir(), cache: cfg.cacheDir, over: make(chan struct{}), log: newLog(t)}
	upstream := strings.TrimPrefix(cfg.gateway.URL, "http://")
	if !cfg.direct {
		s.bender = newBender(t, cfg.gateway.URL)
		s.bender.set(cfg.bend)
		upstream = s.bender.addr
	}
	s.line = w.lines.newLine(t, upstream)
	s.config = catalogue.Config{Dir: filepath.Join(t.TempDir(), "catalogues"), Log: s.log}
	cfg.patience.Log = s.log
	s.show(t, cfg)
	return s
}

// again mounts what a stack has kept, as with --offline, when it is closed.
func (s *stack) again(t *testing.T, cfg stackConfig) *stack {
	t.Helper()
	next := &stack{w: s.w, dir: t.TempDir(), line: s.line, cache: s.cache, config: s.config, over: make(chan struct{}), log: newLog(t)}
	next.config.Offline, next.config.Log = true, next.log
	next.show(t, cfg)
	return next
}

// show finds the archive and mounts it.
func (s *stack) show(t *testing.T, cfg stackConfig) {
	t.Helper()
	at := catalogue.Remote{Address: "s3://" + cfg.bucket}
	reach := remote.Config{Endpoint: "http://" + s.line.addr, Region: gateway.Region, Anonymous: true, Log: s.log}
	if cfg.web {
		at = catalogue.Remote{Address: "http://" + hostName + ":" + s.line.port(), Prefix: cfg.bucket}
		reach = remote.Config{Log: s.log}
	}
	reach.Offline = s.config.Offline
	at.At = func(ctx context.Context, prefix string) (source.Source, error) {
		under, err := remote.Open(ctx, at.Address+"/"+prefix, reach)
		if err != nil {
			return nil, err
		}
		return &reached{patient.New(under, cfg.patience), under}, nil
	}
	location, err := catalogue.LocateRemote(t.Context(), at, s.config)
	for again := 0; err != nil && cfg.bend != nil && again < 10; again++ { // That has little patience.
		location, err = catalogue.LocateRemote(t.Context(), at, s.config)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.archive, s.config.Dataset = location.Source, location.Dataset
	t.Cleanup(func() { s.close(t) })
	found, err := catalogue.Open(t.Context(), s.archive, s.config)
	if err != nil {
		t.Fatal(err)
	}
	if s.disk, err = disk.Open(s.cache, disk.Config{Limit: cfg.disk, Log: s.log}); err != nil {
		t.Fatal(err)
	}
	objects := tilecache.Config{Memory: cfg.memory, Disk: s.disk, Offline: s.config.Offline}
	if r, ok := s.archive.(*reached); ok {
		s.source, objects.Pace = r.Source, r.Pace
	}
	if cfg.verify {
		objects.Verify = &tilecache.Verification{Sums: s.sums, Log: s.log}
	}
	s.objects = tilecache.New(s.archive, objects)
	if s.tree, err = synth.New(synth.Config{Catalogue: found, Cache: s.objects, Log: s.log}); err != nil {
		t.Fatal(err)
	}
	s.server, err = fusefs.Mount(s.dir, s.tree.Root(), fusefs.Config{FsName: s.archive.String(), HotBytes: hotBytes, Log: s.log})
	if err != nil {
		t.Fatal(err)
	}
}

// sums asks the server for checksums.
func (s *stack) sums(ctx context.Context, names []string) ([]tilecache.Sums, error) {
	sums := make([]tilecache.Sums, len(names))
	for i, name := range names {
		sum, ok, err := s.source.Checksum(ctx, name)
		if err != nil {
			return nil, err
		}
		if ok {
			sums[i].CRC64NVME = &sum
		}
	}
	return sums, nil
}

// close ends a stack as a mount's end does, as far as it came.
func (s *stack) close(t *testing.T) { s.closed.Do(func() { s.closeOnce(t) }) }

func (s *stack) closeOnce(t *testing.T) {
	var errs []error
	if s.server != nil {
		errs = append(errs, s.server.Unmount(), s.server.Wait())
		if _, still := fusefs.Mounted(s.dir); still {
			t.Errorf("still mounted on %s", s.dir)
		}
	}
	close(s.over)
	s.replaced.Wait()
	if s.tree != nil {
		errs = append(errs, s.tree.Close())
	}
	if s.objects != nil {
		errs = append(errs, s.objects.Close())
	}
	if s.disk != nil {
		errs = append(errs, s.disk.Close())
	}
	errs = append(errs, s.archive.(io.Closer).Close())
	if err := errors.Join(errs...); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// refresh reads the archive again and shows it as it is now, as a mount does on SIGHUP. One runs at a time.
func (s *stack) refresh(ctx context.Context) error {
	before := s.tree
	return before.Refresh(ctx, func(ctx context.Context, shown *catalogue.Catalogue) (*catalogue.Catalogue, error) {
		cfg := s.config
		cfg.Previous = shown
		found, err := catalogue.Open(ctx, s.archive, cfg)
		if err != nil {
			return nil, err
		}
		for _, ds := range found.Datasets {
			if _, why := ds.Stale(); why != "" {
				return nil, errors.New(why)
			}
		}
		return found, nil
	}, func(next *synth.Tree) {
		s.tree = next
		released := s.server.Replace(next.Root())
		s.replaced.Go(func() {
			select {
			case <-released:
			case <-s.over:
			}
			_ = before.Close()
		})
	})
}

// refreshed does so and sees it done.
func (s *stack) refreshed(t *testing.T) {
	t.Helper()
	if err := s.refresh(t.Context()); err != nil {
		t.Fatalf("the archive cannot be read again: %v", err)
	}
}

// lastLines is a log of which the end is shown when the test fails.
type lastLines struct {
	mu    sync.Mutex
	lines []string
}

func newLog(t *testing.T) *slog.Logger {
	l := &lastLines{}
	t.Cleanup(func() {
		if t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Logf("the log ended so:\n%s", strings.Join(l.lines, ""))
		}
	})
	return slog.New(slog.NewTextHandler(l, nil))
}

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 30 {
		l.lines = l.lines[1:]
	}
	l.lines = append(l.lines, string(bytes.Clone(p)))
	return len(p), nil
}
