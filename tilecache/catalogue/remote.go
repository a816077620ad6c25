package catalogue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// Remote is an address at which an archive may be found.
type Remote struct {
	// Address names what At opens, the bucket or the host: "s3://tessera", "https://data.source.coop". It
	// is shown, and what is kept goes by it; it must hold no secret.
	Address string
	// Prefix is the path below it that a user named: the archive's top, or a dataset's directory inside
	// it, as for [Locate]; "" for all of it.
	Prefix string
	// At opens what lies under a prefix as a source: Prefix itself or one above it, "" for all. It fails
	// with fs.ErrNotExist where nothing lies there.
	At func(ctx context.Context, prefix string) (source.Source, error)
}

// Location is where an archive was found.
type Location struct {
	// Source is the archive as At opened it, if it could: close it if it is an io.Closer. Otherwise it is
	// a source that goes by the same name and asks At again when it is used, every few seconds at most;
	// with Config.Offline it never asks, and answers nothing but source.ErrUnavailable.
	Source  source.Source
	Root    string // the archive's prefix
	Dataset string // the one that is meant; "" for all
}

// LocateRemote is [Locate] for what is elsewhere. Nothing is asked where the names tell: that there is an
// archive is for [Open] to find out. Where At cannot reach anything, or is not to be asked (Config.Offline), it
// is where it was found the last time, which is kept in Config.Dir; of cfg, Dir, Offline and Log are used.
func LocateRemote(ctx context.Context, r Remote, cfg Config) (*Location, error) {
	prefix := strings.Trim(r.Prefix, "/")
	if prefix == "" {
		prefix = "."
	}
	if !fs.ValidPath(prefix) || strings.ContainsRune(prefix, 0) {
		return nil, fmt.Errorf("%s: %q is no path in it: name it without \".\", \"..\" and empty parts: %w", r.Address, abridged(r.Prefix), fs.ErrInvalid)
	}
	around := &remote{Remote: r, ctx: ctx, opened: make(map[string]source.Source)}
	kept := newOpener(remembered(r.Address), cfg).copies
	note := "location of " + prefix
	var why error
	if !cfg.Offline {
		found, err := around.locate(prefix)
		if err == nil {
			kept.note(note, foundAt{found.Source.String(), cmp.Or(found.Root, "."), found.Dataset})
			return found, nil
		}
		if cfg.Dir == "" || !unreachable(ctx, err) {
			return nil, err
		}
		why = err
	}
	var last foundAt
	since, ok := kept.recall(ctx, note, &last)
	ok = ok && fs.ValidPath(last.Root) && (last.Dataset == "" || isName(last.Dataset))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !ok && why == nil:
		return nil, fmt.Errorf("%s: %w", around.name(prefix), kept.notKept())
	case !ok:
		return nil, why
	}
	kept.staleSince("its place", since, why)
	l := &later{name: last.Source, place: make(chan struct{}, 1)}
	if !cfg.Offline {
		l.open = func(ctx context.Context) (source.Source, error) { return r.At(ctx, trimmed(last.Root)) }
	}
	return &Location{Source: l, Root: trimmed(last.Root), Dataset: last.Dataset}, nil
}

// foundAt is what is kept of a Location.
type foundAt struct {
	Source  string `json:"source"` // its name
	Root    string `json:"root"`   // "." for all of the address
	Dataset string `json:"dataset"`
}

// trimmed is a path as At takes it.
func trimmed(dir string) string {
	if dir == "." {
		return ""
	}
	return dir
}

// remote is the surroundings of a prefix.
type remote struct {
	Remote
	ctx    context.Context // of the one call of LocateRemote that it is for
	opened map[string]source.Source
}

var _ surroundings = (*remote)(nil)

func (r *remote) locate(prefix string) (*Location, error) {
	root, dataset, err := locate(prefix, r)
	if err == nil && root == "" {
		root = prefix
	}
	var src source.Source
	if err == nil {
		src, err = r.at(root)
	}
	for dir, other := range r.opened {
		if c, ok := other.(io.Closer); ok && (dir != root || err != nil) {
			c.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return &Location{Source: src, Root: trimmed(root), Dataset: dataset}, nil
}

// at opens a prefix, once.
func (r *remote) at(dir string) (source.Source, error) {
	if src := r.opened[dir]; src != nil {
		return src, nil
	}
	src, err := r.At(r.ctx, trimmed(dir))
	if err != nil {
		return nil, err
	}
	r.opened[dir] = src
	return src, nil
}

func (r *remote) list(dir string) ([]source.Entry, error) {
	var entries []source.Entry
	src, err := r.at(dir)
	if err == nil {
		entries, err = src.List(r.ctx, ".", false)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

func (r *remote) has(name string) (bool, error) {
	src, err := r.at(path.Dir(name))
	var obj source.Object
	if err == nil {
		obj, err = src.Open(r.ctx, path.Base(name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, obj.Close()
}

func (r *remote) name(dir string) string {
	if dir == "." {
		return r.Address
	}
	return dir + " in " + r.Address
}

// remembered is the name of something that is not asked.
type remembered string

func (r remembered) String() string { return string(r) }

func (r remembered) Open(context.Context, string) (source.Object, error) {
	return nil, fmt.Errorf("%s: %w", r, source.ErrUnavailable)
}

func (r remembered) List(context.Context, string, bool) ([]source.Entry, error) {
	return nil, fmt.Errorf("%s: %w", r, source.ErrUnavailable)
}

// later is a source that could not be opened yet.
type later struct {
	name string
	open func(context.Context) (source.Source, error) // nil: it never will be

	// place is taken by who may use the fields below, which others wait for as long as they like.
	place chan struct{}
	src   source.Source // nil until it is opened
	err   error         // why it was not
	tried time.Time
}

var _ source.Checksummer = (*later)(nil)

// againAfter is how long after a failure it is not tried again.
const againAfter = 5 * time.Second

func (l *later) now(ctx context.Context) (source.Source, error) {
	if l.open == nil {
		return nil, fmt.Errorf("%s: offline: %w", l.name, source.ErrUnavailable)
	}
	select {
	case l.place <- struct{}{}:
		defer func() { <-l.place }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l.src == nil && (l.tried.IsZero() || time.Since(l.tried) > againAfter) {
		src, err := l.open(ctx)
		switch {
		case err == nil:
			l.src = src
		case ctx.Err() != nil:
			return nil, ctx.Err() // which says nothing about the source
		default:
			// That there is no archive any more must not be taken for a tile that is not there.
			l.err, l.tried = fmt.Errorf("%w: %v", source.ErrUnavailable, err), time.Now()
		}
	}
	if l.src == nil {
		return nil, l.err
	}
	return l.src, nil
}

func (l *later) String() string { return l.name }

func (l *later) Open(ctx context.Context, name string) (source.Object, error) {
	src, err := l.now(ctx)
	if err != nil {
		return nil, err
	}
	return src.Open(ctx, name)
}

func (l *later) List(ctx context.Context, name string, withInfo bool) ([]source.Entry, error) {
	src, err := l.now(ctx)
	if err != nil {
		return nil, err
	}
	return src.List(ctx, name, withInfo)
}

// Checksum is none of a source that knows none.
func (l *later) Checksum(ctx context.Context, name string) (uint64, bool, error) {
	src, err := l.now(ctx)
	if err != nil {
		return 0, false, err
	}
	if c, ok := src.(source.Checksummer); ok {
		return c.Checksum(ctx, name)
	}
	return 0, false, nil
}

// Close closes the source, if it was opened.
func (l *later) Close() error {
	l.place <- struct{}{}
	defer func() { <-l.place }()
	if c, ok := l.src.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
