// Package source is where the objects of an archive lie: a directory, a bucket, a web server.
// Each is one implementation of [Source]; sourcetest is the suite they all pass.
//
// A name is a slash-separated path below the source's root, valid by io/fs's rules
// (fs.ValidPath): no "..", no leading slash. Names are made by this project from cells and years,
// never taken from a manifest.
package source

import (
	"context"
	"errors"
	"io"
	"time"
)

var (
	// ErrChanged: the object is no longer the one that was opened, or not the one that was asked
	// for.
	ErrChanged = errors.New("object changed since it was first seen")

	// ErrUnavailable: the source did not answer, or not in time, after all patience.
	ErrUnavailable = errors.New("the source does not answer")
)

// Transient is a failure that may not happen again: a connection broke, a server was busy.
type Transient struct {
	After time.Duration // how long the server asks to be left alone; 0 where it does not say
	Err   error
}

func (t *Transient) Error() string { return t.Err.Error() }
func (t *Transient) Unwrap() error { return t.Err }

// Pace is how a source has answered of late. The zero Pace says that nothing was seen yet.
type Pace struct {
	Latency     time.Duration // from a request to the first byte of its answer
	Bandwidth   float64       // bytes a second of one connection, after that
	Connections int           // requests that may be under way at once
}

// Info identifies one state of an object.
type Info struct {
	Size    int64
	ModTime time.Time
	ETag    string // where the source has one
}

// Entry is one name of a listing.
type Entry struct {
	Name string // last element only
	Dir  bool
	Info Info // of objects, where the source gives it with the listing (WithInfo); otherwise zero
}

// Source holds objects by name. All methods may be called by many goroutines at once.
type Source interface {
	// String names the source for people: a path, a URL without credentials.
	String() string

	// Open finds an object; fs.ErrNotExist where it is not there.
	Open(ctx context.Context, name string) (Object, error)

	// List says what lies directly under a directory ("." is the root), sorted by name;
	// fs.ErrNotExist where there is no such directory, errors.ErrUnsupported where the source
	// cannot list. withInfo asks for sizes and times.
	List(ctx context.Context, name string, withInfo bool) ([]Entry, error)
}

// Object is one object, pinned to the state it had when it was opened.
type Object interface {
	Info() Info

	// ReadAt fills p whole or fails: io.ErrUnexpectedEOF beyond the end, ErrChanged when the
	// object is no longer what it was.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)

	// Check returns ErrChanged when the object under the name is no longer the opened one.
	Check(ctx context.Context) error

	Close() error
}

// Revalidator is a Source that says for less than an opening whether an object is still what it was.
type Revalidator interface {
	Source

	// Unchanged is true where the object is of the state that info tells, and false where it is of
	// another, or where that cannot be told. It fails as Open does.
	Unchanged(ctx context.Context, name string, info Info) (bool, error)
}

// Prefixed is an Object whose opening brought its first bytes along.
type Prefixed interface {
	Object
	Prefix() []byte // not to be changed
}

// Range is a piece of an object: P is filled from Off.
type Range struct {
	Off int64
	P   []byte
}

// Ranger is an Object that reads many ranges for less than one by one.
type Ranger interface {
	Object

	// ReadRanges fills all of them or fails, as ReadAt does.
	ReadRanges(ctx context.Context, ranges []Range) error
}

// Streamer is an Object that brings a long run of bytes by one request: for most servers that is much
// less work than the many it takes the place of.
type Streamer interface {
	Object

	// Stream asks for n bytes from off on, and returns when they begin to come: io.ErrUnexpectedEOF
	// beyond the end, ErrChanged as ReadAt. The reader gives them in order, as they come, and io.EOF
	// after exactly n of them (at once where n is 0). It is for one goroutine. What the reader gives is
	// right, but only io.EOF says that the server meant no more by its answer.
	//
	// Nothing is tried twice: where the answer breaks off, stalls or does not come the error is a
	// *Transient, and the caller asks for what is missing with ReadAt, which has all the patience. ctx
	// is for all of it; when that ends a Read under way fails. Close ends the request, and reads on no
	// further; it is to be called however the stream ended.
	Stream(ctx context.Context, off, n int64) (io.ReadCloser, error)
}
