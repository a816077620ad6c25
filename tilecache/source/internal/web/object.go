package web

import (
	"bytes"
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
	if a.Length >= 0 && a.Length != last-first+1 {
		return 0, 0, 0, fmt.Errorf("the server sends %d bytes and calls them a range of %d", a.Length, last-first+1)
	}
	return first, last, size, nil
}

// body is the range that an answer has: its n bytes and then io.EOF. It fails where the answer ends
// before them, or goes on after.
type body struct {
	ctx    context.Context // of the request
	answer *Answer
	n, got int64
	err    error // of all later Reads
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.got == b.n {
		b.err = b.end()
		return 0, b.err
	}
	// What came before the context ended may lie about for as long as the connection is not closed yet.
	if b.err = b.ctx.Err(); b.err != nil {
		return 0, b.err
	}
	n, err := b.answer.Body.Read(p[:min(int64(len(p)), b.n-b.got)])
	b.got += int64(n)
	switch {
	case err == nil, b.got == b.n:
		return n, nil
	case b.ctx.Err() != nil:
		b.err = b.ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		b.err = &source.Transient{Err: fmt.Errorf("the answer broke off after %d of %d bytes", b.got, b.n)}
	default:
		b.err = Explain(b.ctx, err)
	}
	return n, b.err
}

// end is io.EOF, or that the answer goes on: only the end of a body without a length shows that it
// was no longer.
func (b *body) end() error {
	if b.answer.Length >= 0 {
		return io.EOF
	}
	var more [1]byte
	if n, _ := io.ReadFull(b.answer.Body, more[:]); n > 0 {
		return fmt.Errorf("the server sends more bytes than the %d it calls a range", b.n)
	}
	return io.EOF
}

// read fills p, the whole of the range that the answer has; came, if not nil, is told of its bytes as
// they come. Where it fails, the first n bytes of p are those of the range.
func (a *Answer) read(ctx context.Context, p []byte, came func(n int)) (n int, err error) {
	b := &body{ctx: ctx, answer: a, n: int64(len(p))}
	for n < len(p) {
		more, err := b.Read(p[n:])
		if n += more; more > 0 && came != nil {
			came(more)
		}
		if err != nil {
			return n, err
		}
	}
	if err := b.end(); !errors.Is(err, io.EOF) {
		return 0, err
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
	n := int64(len(p))
	if here, err := o.here(ctx, off, n); err != nil || int64(len(here)) == n {
		return copy(p, here), err
	}
	a, err := o.ask(ctx, off, n)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", o.path(), err)
	}
	defer a.Body.Close()
	got, err := a.read(ctx, p, came)
	if err != nil {
		return got, fmt.Errorf("read %s: %w", o.path(), err)
	}
	return got, nil
}

// Stream makes one request, or none where what is asked for came with opening.
func (o *object) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if here, err := o.here(ctx, off, n); err != nil {
		return nil, err
	} else if int64(len(here)) == n {
		return io.NopCloser(bytes.NewReader(here)), nil
	}
	a, err := o.ask(ctx, off, n)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.path(), err)
	}
	return &stream{o, &body{ctx: ctx, answer: a, n: n}}, nil
}

// stream is the body of an answer, to be read as it comes.
type stream struct {
	object *object
	body   *body
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %s: %w", s.object.path(), err)
	}
	return n, err
}

// Close closes the connection where the body has not been read to its end: the rest would have to be
// read before it could be used again.
func (s *stream) Close() error {
	if s.body.err == nil {
		s.body.err = fs.ErrClosed
	}
	// What was read is checked; how the rest ends is nobody's matter.
	s.body.answer.Body.Close()
	return nil
}

// here looks whether n bytes at off can be asked for, and gives them where that takes no request.
func (o *object) here(ctx context.Context, off, n int64) ([]byte, error) {
	if err := o.Check(ctx); err != nil {
		return nil, err
	}
	switch {
	case off < 0 || n < 0:
		return nil, fmt.Errorf("read %s: %d bytes at offset %d: %w", o.path(), n, off, fs.ErrInvalid)
	case off > o.info.Size-n:
		return nil, fmt.Errorf("read %s: bytes %d to %d of %d: %w", o.path(), off, off+n, o.info.Size, io.ErrUnexpectedEOF)
	case off+n <= int64(len(o.prefix)):
		return o.prefix[off : off+n], nil
	}
	return nil, nil
}

// ask asks for n bytes at off, n above 0. All that the answer says of itself is checked; its body is to
// be read, and to be closed.
func (o *object) ask(ctx context.Context, off, n int64) (*Answer, error) {
	req := Request{Name: o.name, Off: off, Len: n, IfMatch: o.info.ETag}
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
			return nil, o.changed("the server has another state of it")
		case errors.Is(err, fs.ErrNotExist):
			return nil, o.changed("it was deleted or moved")
		case errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable:
			return nil, o.changed(fmt.Sprintf("it had %d bytes, now fewer", o.info.Size))
		}
		return nil, err
	}
	if err := o.look(a, off, n); err != nil {
		a.Body.Close()
		return nil, err
	}
	return a, nil
}

// look fails where an answer is not the n bytes at off of the state that was opened.
func (o *object) look(a *Answer, off, n int64) error {
	if a.ContentRange == "" && a.Length == 0 {
		return o.changed("it is empty")
	}
	first, last, size, err := a.span()
	if err != nil {
		return err
	}
	etag := StrongETag(a.ETag)
	switch {
	case size != o.info.Size:
		return o.changed(fmt.Sprintf("it had %d bytes, now %d", o.info.Size, size))
	case o.info.ETag != "" && etag == "", o.info.ETag == "" && a.ModTime.IsZero():
		return errors.New("the server does not say of which state of the object the range is (ETag, Last-Modified)")
	case o.info.ETag != "" && etag != o.info.ETag:
		return o.changed("its ETag is another")
	case o.info.ETag == "" && !a.ModTime.Equal(o.info.ModTime):
		return o.changed("it was written to")
	case first != off || last != off+n-1:
		return fmt.Errorf("the server sends bytes %d to %d where %d to %d were asked for", first, last, off, off+n-1)
	}
	return nil
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

var (
	_ source.Prefixed = (*object)(nil)
	_ source.Streamer = (*object)(nil)
)
