package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// DefaultPrefix is how many bytes of an object its opening brings along, where nothing else is said:
// the headers of a tile, and the whole of most landmasks.
const DefaultPrefix = 32 << 10

// Request is for a range of an object. IfMatch or else IfUnmodifiedSince asks for one state and no
// other, IfNoneMatch for any other than one.
type Request struct {
	Name              string
	Off               int64
	Len               int64 // above 0
	IfMatch           string
	IfUnmodifiedSince time.Time
	IfNoneMatch       string
}

// Range is the value of the Range header.
func (r Request) Range() string {
	return "bytes=" + strconv.FormatInt(r.Off, 10) + "-" + strconv.FormatInt(r.Off+r.Len-1, 10)
}

// Answer is what a server says of the bytes it sends, before any of it is believed.
type Answer struct {
	ContentRange string // "" for an answer that is no range
	Length       int64  // of the body; -1 where it is not said
	ETag         string
	ModTime      time.Time
	Body         io.ReadCloser // nil for Head
}

// Store answers requests. Its errors are those of [Explain] and [Refused].
type Store interface {
	// Path names an object for people.
	Path(name string) string
	Get(ctx context.Context, req Request) (*Answer, error)
	Head(ctx context.Context, name string) (*Answer, error)
}

// CheckName fails with fs.ErrInvalid for a name that is none, and with the context's error.
func CheckName(ctx context.Context, verb, name string) error {
	if !fs.ValidPath(name) {
		return fmt.Errorf("%s %q: not a path below the source: %w", verb, name, fs.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", verb, name, err)
	}
	return nil
}

// StrongETag is the ETag if it is one that pins bytes, otherwise "". One that is longer than any
// server makes is none.
func StrongETag(etag string) string {
	if strings.HasPrefix(etag, "W/") || len(etag) > 512 {
		return ""
	}
	return etag
}

// Open finds an object with one request, for its first bytes (a second one where it is empty).
func Open(ctx context.Context, store Store, name string, prefix int) (source.Object, error) {
	if name == "." {
		return nil, fmt.Errorf("open %q: the source itself is no object: %w", name, fs.ErrInvalid)
	}
	if err := CheckName(ctx, "open", name); err != nil {
		return nil, err
	}
	o := &object{store: store, name: name}
	err := o.open(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", store.Path(name), err)
	}
	return o, nil
}

// Unchanged asks whether an object is still of a state, by its ETag (RFC 9110, 13.1.2). Weak ones do not
// tell, as bytes may differ under them.
func Unchanged(ctx context.Context, store Store, name string, info source.Info) (bool, error) {
	if err := CheckName(ctx, "ask for", name); err != nil {
		return false, err
	}
	etag := StrongETag(info.ETag)
	if etag == "" {
		return false, nil
	}
	a, err := store.Get(ctx, Request{Name: name, Len: 1, IfNoneMatch: etag})
	var refused *Failure
	switch {
	case errors.As(err, &refused) && refused.Status == http.StatusNotModified:
		return true, nil
	case errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable:
		return false, nil // it is empty now; what was kept had an ETag of its own
	case err != nil:
		return false, fmt.Errorf("ask for %s: %w", store.Path(name), err)
	}
	a.Body.Close()
	return false, nil
}

// object is one state of an object of a store.
type object struct {
	store  Store
	name   string
	info   source.Info
	prefix []byte

	gone   atomic.Pointer[string] // how it was seen to change; an object never changes back
	closed atomic.Bool
}

func (o *object) open(ctx context.Context, prefix int) error {
	a, err := o.store.Get(ctx, Request{Name: o.name, Len: int64(prefix)})
	var refused *Failure
	if errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable {
		return o.openEmpty(ctx)
	}
	if err != nil {
		return err
	}
	defer a.Body.Close()
	// Servers may send nothing whole where there is nothing to cut (Go's do).
	if a.ContentRange == "" && a.Length == 0 {
		return o.pin(a, 0)
	}
	first, last, size, err := a.span()
	if err != nil {
		return err
	}
	want := min(int64(prefix), size)
	if first != 0 || last != want-1 {
		return fmt.Errorf("the server sends bytes %d to %d where 0 to %d were asked for", first, last, want-1)
	}
	if err := o.pin(a, size); err != nil {
		return err
	}
	o.prefix = make([]byte, want)
	_, err = a.read(ctx, o.prefix, nil)
	return err
}

// openEmpty: no range of an empty object can be had, so what it is must be asked.
func (o *object) openEmpty(ctx context.Context) error {
	a, err := o.store.Head(ctx, o.name)
	if err != nil {
		return err
	}
	if a.Length != 0 {
		return &source.Transient{Err: errors.New("the server has no first byte of it, and then says that it is not empty")}
	}
	return o.pin(a, 0)
}

// pin notes the state that the answer is of.
func (o *object) pin(a *Answer, size int64) error {
	o.info = source.Info{Size: size, ModTime: a.ModTime, ETag: StrongETag(a.ETag)}
	if o.info.ETag == "" && o.info.ModTime.IsZero() {
		return errors.New("the server gives it neither a strong ETag nor a Last-Modified: whether it changes could not be told")
	}
	return nil
}

// span is what the answer says it is of: bytes first to last of size.
func (a *Answer) span() (first, last, size int64, err error) {
	if a.ContentRange == "" {
		return 0, 0, 0, errors.New("the server does not serve ranges: it answers with the whole object; use another server, or download the archive")
	}
	rest, unit := strings.CutPrefix(a.ContentRange, "bytes ")
	span, total, slash := strings.Cut(rest, "/")
	from, to, dash := strings.Cut(span, "-")
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	size, err3 := strconv.ParseInt(total, 10, 64)
	if !unit || !slash || !dash || errors.Join(err1, err2, err3) != nil || first < 0 || first > last || last >= size {
		return 0, 0, 0, errors.New("the server sends a range and does not say properly which (Content-Range)")
	}
	return first, last, size, nil
}

// progress is a body whose bytes are told of as they come.
type progress struct {
	io.Reader
	came func(n int)
}

func (r progress) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.came(n)
	}
	return n, err
}

// read fills p, the whole of the range that the answer has; came, if not nil, is told of its bytes as
// they come. Where it fails, the first n bytes of p are those of the range.
func (a *Answer) read(ctx context.Context, p []byte, came func(n int)) (n int, err error) {
	if a.Length >= 0 && a.Length != int64(len(p)) {
		return 0, fmt.Errorf("the server sends %d bytes and calls them a range of %d", a.Length, len(p))
	}
	body := io.Reader(a.Body)
	if came != nil {
		body = progress{body, came}
	}
	n, err = io.ReadFull(body, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		return n, &source.Transient{Err: fmt.Errorf("the answer broke off after %d of %d bytes", n, len(p))}
	}
	if err != nil {
		return n, Explain(ctx, err)
	}
	if a.Length >= 0 {
		return n, nil
	}
	// Only the end of a body without a length shows that it was no longer.
	var more [1]byte
	if n, _ := io.ReadFull(a.Body, more[:]); n > 0 {
		return 0, fmt.Errorf("the server sends more bytes than the %d it calls a range", len(p))
	}
	return n, nil
}

func (o *object) Info() source.Info { return o.info }

func (o *object) Prefix() []byte { return o.prefix }

// ReadAt makes one request, or none where what is read came with opening.
func (o *object) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return o.ReadAtProgress(ctx, p, off, nil)
}

// ReadAtProgress is ReadAt, and calls came whenever bytes have come, with how many, so that a server
// that stalls is noticed before the time for all of them is up. Where it fails, the first n bytes of p are right
// all the same.
func (o *object) ReadAtProgress(ctx context.Context, p []byte, off int64, came func(n int)) (int, error) {
	if err := o.Check(ctx); err != nil {
		return 0, err
	}
	n := int64(len(p))
	switch {
	case off < 0:
		return 0, fmt.Errorf("read %s: offset %d: %w", o.path(), off, fs.ErrInvalid)
	case off > o.info.Size-n:
		return 0, fmt.Errorf("read %s: bytes %d to %d of %d: %w", o.path(), off, off+n, o.info.Size, io.ErrUnexpectedEOF)
	case off+n <= int64(len(o.prefix)):
		return copy(p, o.prefix[off:]), nil
	case n == 0:
		return 0, nil
	}
	got, err := o.read(ctx, p, off, came)
	if err != nil {
		return got, fmt.Errorf("read %s: %w", o.path(), err)
	}
	return got, nil
}

func (o *object) read(ctx context.Context, p []byte, off int64, came func(n int)) (int, error) {
	req := Request{Name: o.name, Off: off, Len: int64(len(p)), IfMatch: o.info.ETag}
	if req.IfMatch == "" {
		// Servers that count in less than seconds have a time that is after the one they told. The
		// answer's Last-Modified is looked at besides.
		req.IfUnmodifiedSince = o.info.ModTime.Add(time.Second)
	}
	a, err := o.store.Get(ctx, req)
	if err != nil {
		var refused *Failure
		switch {
		case errors.Is(err, source.ErrChanged):
			return 0, o.changed("the server has another state of it")
		case errors.Is(err, fs.ErrNotExist):
			return 0, o.changed("it was deleted or moved")
		case errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable:
			return 0, o.changed(fmt.Sprintf("it had %d bytes, now fewer", o.info.Size))
		}
		return 0, err
	}
	defer a.Body.Close()
	if a.ContentRange == "" && a.Length == 0 {
		return 0, o.changed("it is empty")
	}
	first, last, size, err := a.span()
	if err != nil {
		return 0, err
	}
	etag := StrongETag(a.ETag)
	switch {
	case size != o.info.Size:
		return 0, o.changed(fmt.Sprintf("it had %d bytes, now %d", o.info.Size, size))
	case o.info.ETag != "" && etag == "", o.info.ETag == "" && a.ModTime.IsZero():
		return 0, errors.New("the server does not say of which state of the object the range is (ETag, Last-Modified)")
	case o.info.ETag != "" && etag != o.info.ETag:
		return 0, o.changed("its ETag is another")
	case o.info.ETag == "" && !a.ModTime.Equal(o.info.ModTime):
		return 0, o.changed("it was written to")
	case first != off || last != off+req.Len-1:
		return 0, fmt.Errorf("the server sends bytes %d to %d where %d to %d were asked for", first, last, off, off+req.Len-1)
	}
	return a.read(ctx, p, came)
}

// Check makes no request: it says what reads have found.
func (o *object) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", o.path(), err)
	}
	if o.closed.Load() {
		return fmt.Errorf("%s: %w", o.path(), fs.ErrClosed)
	}
	if how := o.gone.Load(); how != nil {
		return fmt.Errorf("%s: %w", o.path(), o.changed(*how))
	}
	return nil
}

// changed notes that the object is another now.
func (o *object) changed(how string) error {
	o.gone.CompareAndSwap(nil, &how)
	return fmt.Errorf("%w: %s", source.ErrChanged, how)
}

func (o *object) path() string { return o.store.Path(o.name) }

func (o *object) Close() error {
	if o.closed.Swap(true) {
		return fmt.Errorf("close %s: %w", o.path(), fs.ErrClosed)
	}
	return nil
}

var _ source.Prefixed = (*object)(nil)
