package catalogue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// copies opens the objects that an archive's catalogue is made of, each once: through copies in a
// directory where there is one, and straight from the source otherwise.
type copies struct {
	src     source.Source
	dir     string // "": none are kept
	offline bool
	log     *slog.Logger
	fetched func(name string, done, total int64) // may be nil
	asked   map[string]*answer
}

// answer is what is known of a name.
type answer struct {
	obj   source.Object // nil: there is no such object
	stale staleness
}

// staleness says since when and why something may be out of date; the zero one, that the source was asked.
type staleness struct {
	since time.Time // when it was last known to be what the source has
	why   string
}

// older is the one of two that has been out of date for longer.
func older(a, b staleness) staleness {
	if a.why == "" || b.why != "" && b.since.Before(a.since) {
		return b
	}
	return a
}

const offlineWhy = "offline: the source was not asked"

// close closes what was opened.
func (c *copies) close() {
	for _, a := range c.asked {
		if a.obj != nil {
			a.obj.Close()
		}
	}
	clear(c.asked)
}

// open finds an object. What it returns is closed by close.
func (c *copies) open(ctx context.Context, name string) (*answer, error) {
	if a := c.asked[name]; a != nil {
		return a, nil
	}
	a, err := c.ask(ctx, name)
	if err != nil {
		var refused *RefusedError
		if errors.As(err, &refused) {
			return nil, err // says the name itself
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if c.asked == nil {
		c.asked = make(map[string]*answer)
	}
	c.asked[name] = a
	return a, nil
}

func (c *copies) ask(ctx context.Context, name string) (*answer, error) {
	if c.offline {
		return c.last(ctx, name, nil)
	}
	const tries = 3 // an object may be replaced while it is fetched, and hardly thrice
	for try := 1; ; try++ {
		a, err := c.askSource(ctx, name)
		switch {
		case err == nil:
			return a, nil
		case errors.Is(err, source.ErrChanged) && c.dir != "" && try < tries:
			continue
		case c.dir != "" && unreachable(ctx, err):
			return c.last(ctx, name, err)
		}
		return nil, err
	}
}

// askSource asks which state the source has, and fetches it unless it is kept.
func (c *copies) askSource(ctx context.Context, name string) (*answer, error) {
	if k, err := c.unchanged(ctx, name); k != nil || err != nil {
		return &answer{obj: k}, err
	}
	obj, err := c.src.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, source.ErrUnavailable) {
		if c.dir != "" {
			c.keep(copyHeader{Name: name, Absent: true}, nil)
		}
		return &answer{}, nil
	}
	if err != nil {
		return nil, err
	}
	if c.dir == "" {
		return &answer{obj: obj}, nil
	}
	if size := obj.Info().Size; size < 0 || size > maxFile {
		obj.Close()
		return nil, tooLarge(name, size)
	}
	k, err := c.copyOf(ctx, name, obj)
	var local *localError
	if errors.As(err, &local) {
		c.log.Warn("no copy can be kept: it is read from the source, each time", "object", name, "directory", c.dir, "error", local.error)
		return &answer{obj: obj}, nil
	}
	obj.Close()
	if err != nil {
		return nil, err
	}
	return &answer{obj: k}, nil
}

// unchanged is the copy of what the source still has, where it can be asked for no more than that; nil
// where it has something else, or nothing, or nothing is kept.
func (c *copies) unchanged(ctx context.Context, name string) (*kept, error) {
	src, ok := c.src.(source.Revalidator)
	if !ok || c.dir == "" {
		return nil, nil
	}
	k, err := c.load(ctx, name, nil)
	if k == nil || err != nil {
		return nil, err
	}
	same := false
	if !k.header.Absent {
		same, err = src.Unchanged(ctx, name, k.header.info())
	}
	if same {
		c.confirm(c.place(name))
		return k, nil
	}
	k.Close()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // which opening it finds too
	}
	return nil, err
}

// localError is a failure of this machine to keep a copy, and not of the source.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// copyOf is a copy of an object's state, which is fetched unless it is kept. Of several processes one
// fetches, and the others wait for it.
func (c *copies) copyOf(ctx context.Context, name string, obj source.Object) (*kept, error) {
	info := obj.Info()
	if k, err := c.load(ctx, name, &info); k != nil || err != nil {
		return k, err
	}
	unlock, waited, err := c.lock(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if waited {
		if k, err := c.load(ctx, name, &info); k != nil || err != nil {
			return k, err
		}
	}
	return c.fetch(ctx, name, obj)
}

// last is what is kept of a name while the source cannot be asked, because of why, or is not to be.
func (c *copies) last(ctx context.Context, name string, why error) (*answer, error) {
	var k *kept
	var err error
	if c.dir != "" {
		k, err = c.load(ctx, name, nil)
	}
	switch {
	case err != nil:
		return nil, err
	case k == nil && why == nil:
		return nil, c.notKept()
	case k == nil:
		return nil, why
	}
	a := &answer{obj: k, stale: c.staleSince(name, k.checked, why)}
	if k.header.Absent {
		k.Close()
		a.obj = nil
	}
	return a, nil
}

// notKept is the error of what is asked for offline and was never seen.
func (c *copies) notKept() error {
	if c.dir == "" {
		return fmt.Errorf("offline, and no directory of copies is named: name one: %w", source.ErrUnavailable)
	}
	return fmt.Errorf("offline, and no copy of it is kept in %s: open the archive once while it can be reached: %w", c.dir, source.ErrUnavailable)
}

// staleSince says that a copy is used unasked, and logs it.
func (c *copies) staleSince(name string, since time.Time, why error) staleness {
	if why == nil {
		c.log.Info("offline: a copy is used", "object", name, "source", c.src.String(), "from", since)
		return staleness{since, offlineWhy}
	}
	c.log.Warn("the source cannot be reached: a copy is used, which may be out of date", "object", name, "source", c.src.String(), "from", since, "error", why)
	return staleness{since, why.Error()}
}

// unreachable says whether an error means that the source could not be asked. Whatever it answered is
// another matter: that something is not there or may not be read.
func unreachable(ctx context.Context, err error) bool {
	if ctx.Err() != nil || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return false
	}
	var transient *source.Transient
	var op *net.OpError
	var dns *net.DNSError
	return errors.Is(err, source.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &transient) || errors.As(err, &op) || errors.As(err, &dns)
}

// place is the path of a copy. Names come from outside, and sources' are no paths.
func (c *copies) place(name string) string {
	sum := sha256.Sum256([]byte(c.src.String() + "\x00" + name))
	return filepath.Join(c.dir, hex.EncodeToString(sum[:16]))
}

// load opens a copy that is whole: of a state, or of whichever it is. It returns nil where there is none;
// the error is that of a context that ended.
func (c *copies) load(ctx context.Context, name string, of *source.Info) (*kept, error) {
	path := c.place(name)
	k, err := openCopy(path)
	if err == nil {
		h := k.header
		switch {
		case h.Source != c.src.String() || h.Name != name:
			err = fs.ErrNotExist
		case of != nil && (h.Absent || !sameState(h.info(), *of)):
			err = fs.ErrNotExist
		default:
			err = k.verify(ctx)
		}
		if err == nil {
			if of != nil {
				c.confirm(path)
			}
			return k, nil
		}
		k.Close()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("a copy cannot be used: it is fetched again", "object", name, "file", path, "error", err)
	}
	return nil, nil
}

// sameState says whether two are one state of an object, as far as the source tells states apart.
func sameState(a, b source.Info) bool {
	return a.Size == b.Size && a.ETag == b.ETag && a.ModTime.Equal(b.ModTime) && (a.ETag != "" || !a.ModTime.IsZero())
}

// confirm notes that the source has just been found to have what a copy holds.
func (c *copies) confirm(path string) {
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		c.log.Debug("the time of a copy cannot be set", "file", path, "error", err)
	}
}

// note keeps a small value that is no object. A name with a space in it is not one of an object here.
func (c *copies) note(name string, value any) {
	if c.dir == "" {
		return
	}
	data, err := json.Marshal(value)
	if err != nil {
		c.log.Debug("a note cannot be kept", "name", name, "error", err)
		return
	}
	c.keep(copyHeader{Name: name, Size: int64(len(data))}, data)
}

// recall reads a note back; ok is false where there is none.
func (c *copies) recall(ctx context.Context, name string, value any) (since time.Time, ok bool) {
	if c.dir == "" {
		return since, false
	}
	const most = 16 << 20 // bytes; notes hold names of directories
	k, err := c.load(ctx, name, nil)
	if k == nil || err != nil {
		return since, false
	}
	defer k.Close()
	if k.header.Size > most {
		return since, false
	}
	data := make([]byte, k.header.Size)
	if _, err := k.ReadAt(ctx, data, 0); err != nil || json.Unmarshal(data, value) != nil {
		return since, false
	}
	return k.checked, true
}

// keep writes a small copy, unless it is there already. Failing costs a request another time.
func (c *copies) keep(h copyHeader, data []byte) {
	ctx := context.Background()
	if k, err := c.load(ctx, h.Name, nil); k != nil && err == nil {
		defer k.Close()
		old := make([]byte, min(k.header.Size, h.Size))
		if _, err := k.ReadAt(ctx, old, 0); err == nil && k.header.Absent == h.Absent && k.header.Size == h.Size && bytes.Equal(old, data) {
			c.confirm(c.place(h.Name))
			return
		}
	}
	unlock, _, err := c.lock(ctx, h.Name)
	if err == nil {
		defer unlock()
		var k *kept
		if k, err = c.write(h, func(f *os.File) ([]uint64, error) { return pieceSums(data), writeAt(f, data, 0) }); err == nil {
			k.Close()
		}
	}
	if err != nil {
		c.log.Debug("a copy cannot be kept", "name", h.Name, "directory", c.dir, "error", err)
	}
}
