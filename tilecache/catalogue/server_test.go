package catalogue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// server is a source as one elsewhere is: it may not list, be down, or break in the middle, and
// counts what it is asked for.
type server struct {
	*memsource.Source
	name     string
	unlisted bool

	mu     sync.Mutex // guards what follows
	down   error      // of all calls
	reads  error      // of reads
	before func(read int)
	size   int64 // of all objects, if not 0
	opened []string
	// revalidated are those that were asked for no more than whether they are what they were.
	revalidated []string
	read        int   // reads
	bytes       int64 // read
	listed      int
	prefixs     int // bytes that opening brings along
}

func serve(src *memsource.Source) *server { return &server{Source: src, name: "s3://bucket/archive"} }

func (s *server) String() string { return s.name }

func (s *server) List(ctx context.Context, name string, withInfo bool) ([]source.Entry, error) {
	s.mu.Lock()
	s.listed++
	down := s.down
	s.mu.Unlock()
	if down != nil {
		return nil, down
	}
	if s.unlisted {
		return nil, fmt.Errorf("list %s: %w", name, errors.ErrUnsupported)
	}
	return s.Source.List(ctx, name, withInfo)
}

func (s *server) Open(ctx context.Context, name string) (source.Object, error) {
	s.mu.Lock()
	s.opened = append(s.opened, name)
	down, prefix, size := s.down, s.prefixs, s.size
	s.mu.Unlock()
	if down != nil {
		return nil, down
	}
	obj, err := s.Source.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	o := &served{Object: obj, server: s, info: obj.Info()}
	if size != 0 {
		o.info.Size = size
	}
	if prefix > 0 {
		o.prefix = make([]byte, min(int64(prefix), o.info.Size))
		if _, err := obj.ReadAt(ctx, o.prefix, 0); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// Unchanged is a request as opening is one.
func (s *server) Unchanged(ctx context.Context, name string, info source.Info) (bool, error) {
	s.mu.Lock()
	s.revalidated = append(s.revalidated, name)
	down := s.down
	s.mu.Unlock()
	if down != nil {
		return false, down
	}
	return s.Source.Unchanged(ctx, name, info)
}

type served struct {
	source.Object
	server *server
	info   source.Info
	prefix []byte
}

func (o *served) Info() source.Info { return o.info }
func (o *served) Prefix() []byte    { return o.prefix }

func (o *served) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	s := o.server
	s.mu.Lock()
	s.read++
	s.bytes += int64(len(p))
	read, before, err := s.read, s.before, s.reads
	s.mu.Unlock()
	if before != nil {
		before(read)
		s.mu.Lock()
		err = s.reads
		s.mu.Unlock()
	}
	if err != nil {
		return 0, err
	}
	return o.Object.ReadAt(ctx, p, off)
}

// set changes how the server behaves.
func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// forget sets the counts back, and returns what they were.
func (s *server) forget() (opened []string, reads int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	opened, reads = s.opened, s.read
	s.opened, s.revalidated, s.read, s.bytes, s.listed = nil, nil, 0, 0, 0
	slices.Sort(opened)
	return opened, reads
}

// archived is an archive of a dataset with a manifest and a registry.
func archived(t testing.TB) *memsource.Source {
	return memsource.New(map[string][]byte{
		v1Manifest:                       simpleManifest(t, tileRow(2023, 0.05, 0.05), tileRow(2024, 0.05, 0.05), tileRow(2024, 0.15, 0.05)),
		"landmasks/v1/landmasks.parquet": tableOf(t, fields(t, "lon", "lat", "file_size"), `[{"lon": 0.05, "lat": 0.05, "file_size": 7}]`),
	})
}

// logged is what was logged, in lines.
type logged struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// warnings are the lines of level warn.
func (l *logged) warnings() []string {
	return slices.DeleteFunc(strings.Split(l.String(), "\n"), func(s string) bool { return !strings.Contains(s, "level=WARN") })
}

// remoteOpen opens what must open.
func remoteOpen(t testing.TB, src source.Source, cfg Config) *Catalogue {
	t.Helper()
	c, err := Open(t.Context(), src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var errNotThere = fmt.Errorf("not there: %w", fs.ErrNotExist)
