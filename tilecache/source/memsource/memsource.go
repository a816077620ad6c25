// Package memsource is a source in memory, for tests: objects that change, fail and dawdle on
// demand. It passes the same suite as the sources of archives (sourcetest).
package memsource

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

var (
	_ source.Source   = (*Source)(nil)
	_ source.Streamer = (*object)(nil)
)

// Source is objects by name.
type Source struct {
	mu      sync.Mutex // guards all fields
	objects map[string]content
	faults  map[string]fault
	opens   map[string]int
	version int64 // of the newest object
}

// content is one state of an object; its bytes are never written to.
type content struct {
	data []byte
	info source.Info
}

type fault struct {
	err   error
	until <-chan struct{}
}

// New is a source of these objects. The bytes are not copied; leave them as they are.
func New(objects map[string][]byte) *Source {
	s := &Source{
		objects: make(map[string]content),
		faults:  make(map[string]fault),
		opens:   make(map[string]int),
	}
	for name, data := range objects {
		s.Put(name, data)
	}
	return s
}

// Put makes or replaces an object, with a later time and another ETag than any before.
func (s *Source) Put(name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.objects[name] = content{data, source.Info{
		Size:    int64(len(data)),
		ModTime: time.Unix(1_700_000_000+s.version, 0),
		ETag:    strconv.Quote("v" + strconv.FormatInt(s.version, 10)),
	}}
}

// Remove deletes an object.
func (s *Source) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, name)
}

// Fail makes every call about a name fail with err, those of open objects and listings among them;
// nil ends that.
func (s *Source) Fail(name string, err error) {
	s.setFault(name, func(f *fault) { f.err = err })
}

// Delay makes every call about a name wait until the channel is closed or the call's context ends;
// nil ends that for later calls.
func (s *Source) Delay(name string, until <-chan struct{}) {
	s.setFault(name, func(f *fault) { f.until = until })
}

func (s *Source) setFault(name string, set func(*fault)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.faults[name]
	set(&f)
	s.faults[name] = f
}

// Opens says how often Open was called for a name, with or without success.
func (s *Source) Opens(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opens[name]
}

// String is "memory".
func (s *Source) String() string { return "memory" }

// begin is the start of every call: the context, and what Fail and Delay ask for.
func (s *Source) begin(ctx context.Context, name string) error {
	s.mu.Lock()
	f := s.faults[name]
	s.mu.Unlock()
	if f.until != nil {
		select {
		case <-f.until:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if f.err != nil {
		return fmt.Errorf("%s: %w", name, f.err)
	}
	return nil
}

// Open finds an object.
func (s *Source) Open(ctx context.Context, name string) (source.Object, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, fmt.Errorf("%q: %w", name, fs.ErrInvalid)
	}
	s.mu.Lock()
	s.opens[name]++
	s.mu.Unlock()
	if err := s.begin(ctx, name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.objects[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return &object{source: s, name: name, content: c}, nil
}

// Unchanged implements source.Revalidator.
func (s *Source) Unchanged(ctx context.Context, name string, info source.Info) (bool, error) {
	if err := s.begin(ctx, name); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.objects[name]
	if !ok {
		return false, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return info.ETag != "" && c.info.ETag == info.ETag, nil
}

// List says what lies under a directory, which is whatever a name goes through.
func (s *Source) List(ctx context.Context, name string, withInfo bool) ([]source.Entry, error) {
	if !fs.ValidPath(name) {
		return nil, fmt.Errorf("%q: %w", name, fs.ErrInvalid)
	}
	if err := s.begin(ctx, name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []source.Entry
	for object, c := range s.objects {
		below := object
		if name != "." {
			var under bool
			if below, under = strings.CutPrefix(object, name+"/"); !under {
				continue
			}
		}
		e := source.Entry{Name: below}
		if first, _, deeper := strings.Cut(below, "/"); deeper {
			e = source.Entry{Name: first, Dir: true}
		} else if withInfo {
			e.Info = c.info
		}
		entries = append(entries, e)
	}
	if entries == nil && name != "." {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	slices.SortFunc(entries, func(a, b source.Entry) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(entries), nil
}

type object struct {
	source *Source
	name   string
	content
	closed bool // guarded by the source's mutex
}

func (o *object) Info() source.Info { return o.info }

func (o *object) Check(ctx context.Context) error {
	if err := o.source.begin(ctx, o.name); err != nil {
		return err
	}
	o.source.mu.Lock()
	defer o.source.mu.Unlock()
	if o.closed {
		return fmt.Errorf("%s: %w", o.name, fs.ErrClosed)
	}
	if o.source.objects[o.name].info != o.info {
		return fmt.Errorf("%s: %w", o.name, source.ErrChanged)
	}
	return nil
}

func (o *object) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := o.Check(ctx); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fmt.Errorf("%s: offset %d: %w", o.name, off, fs.ErrInvalid)
	}
	n := copy(p, o.data[min(off, o.info.Size):])
	if n < len(p) {
		return n, fmt.Errorf("%s: bytes %d to %d of %d: %w", o.name, off, off+int64(len(p)), o.info.Size, io.ErrUnexpectedEOF)
	}
	return n, nil
}

// Stream gives what was opened, whatever becomes of the object meanwhile; Fail and Delay are for each
// Read of it.
func (o *object) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := o.Check(ctx); err != nil {
		return nil, err
	}
	switch {
	case off < 0 || n < 0:
		return nil, fmt.Errorf("%s: %d bytes at offset %d: %w", o.name, n, off, fs.ErrInvalid)
	case off > o.info.Size-n:
		return nil, fmt.Errorf("%s: bytes %d to %d of %d: %w", o.name, off, off+n, o.info.Size, io.ErrUnexpectedEOF)
	}
	return &stream{ctx: ctx, source: o.source, name: o.name, rest: o.data[off : off+n]}, nil
}

type stream struct {
	ctx    context.Context
	source *Source
	name   string
	rest   []byte
	closed bool
}

func (s *stream) Read(p []byte) (int, error) {
	if s.closed {
		return 0, fmt.Errorf("%s: %w", s.name, fs.ErrClosed)
	}
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	if err := s.source.begin(s.ctx, s.name); err != nil {
		return 0, err
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stream) Close() error {
	s.closed = true
	return nil
}

func (o *object) Close() error {
	o.source.mu.Lock()
	defer o.source.mu.Unlock()
	if o.closed {
		return fmt.Errorf("close %s: %w", o.name, fs.ErrClosed)
	}
	o.closed = true
	return nil
}
