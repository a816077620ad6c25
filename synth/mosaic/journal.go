package mosaic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/vfs"
)

// maxListed bounds each list of a Journal. What comes after is logged and counted, not listed.
const maxListed = 10_000

// Journal keeps what went wrong: each object once, with its reason and how often it was met.
type Journal struct {
	log *slog.Logger

	mu       sync.Mutex // guards what follows
	failures map[string]*Entry
	warnings map[string]*Entry
	unlisted int64
}

// Entry is one object of a Journal.
type Entry struct {
	Object string    `json:"object"`
	Reason string    `json:"reason"`
	Count  int64     `json:"count"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
}

func newJournal(log *slog.Logger) *Journal {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Journal{log: log, failures: map[string]*Entry{}, warnings: map[string]*Entry{}}
}

// Failures lists the objects that could not be read, by name; unlisted is how many more events
// found no room.
func (j *Journal) Failures() (list []Entry, unlisted int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return sorted(j.failures), j.unlisted
}

// hasFailed tells whether one of the objects could not be read.
func (j *Journal) hasFailed(objects ...string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(objects, func(o string) bool { return j.failures[o] != nil })
}

// Warnings lists what was warned of, by name.
func (j *Journal) Warnings() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return sorted(j.warnings)
}

func sorted(entries map[string]*Entry) []Entry {
	list := make([]Entry, 0, len(entries))
	for _, e := range entries {
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Object, b.Object) })
	return list
}

// failed writes down why an object could not be read and returns the error a reader gets: one of
// vfs's, or a context's, which is nobody's fault and not written down.
func (j *Journal) failed(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	var oe *objErr
	if !errors.As(err, &oe) {
		oe = &objErr{object: "?", err: err}
	}
	if j.note(j.failures, oe.object, oe.err.Error()) {
		j.log.Error("tile cannot be read", "object", oe.object, "reason", oe.err.Error())
	}
	switch {
	case errors.Is(err, vfs.ErrChanged), errors.Is(err, vfs.ErrTimeout), errors.Is(err, vfs.ErrDamaged):
		return err
	case errors.Is(err, source.ErrChanged):
		return fmt.Errorf("%w: %w", vfs.ErrChanged, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, source.ErrUnavailable):
		return fmt.Errorf("%w: %w", vfs.ErrTimeout, err)
	}
	return fmt.Errorf("%w: %w", vfs.ErrDamaged, err)
}

// Damaged writes down that an object was found damaged, by who knows more than its readers.
func (j *Journal) Damaged(object string, err error) { _ = j.failed(objectError(object, err)) }

// warn writes down something that a reader must know but that is no failure.
func (j *Journal) warn(object, reason string) {
	if j.note(j.warnings, object, reason) {
		j.log.Warn(reason, "object", object)
	}
}

// note counts an event and tells whether it is a new one, to be logged.
func (j *Journal) note(list map[string]*Entry, object, reason string) bool {
	now := time.Now().UTC().Truncate(time.Second)
	j.mu.Lock()
	defer j.mu.Unlock()
	e := list[object]
	if e == nil {
		if len(list) >= maxListed {
			j.unlisted++
			return j.unlisted == 1
		}
		e = &Entry{Object: object, First: now}
		list[object] = e
	}
	e.Count++
	e.Last = now
	fresh := e.Reason != reason
	e.Reason = reason
	return fresh
}

// objErr is an error that knows the object it is about.
type objErr struct {
	object string
	err    error
}

func (e *objErr) Error() string { return e.object + ": " + e.err.Error() }
func (e *objErr) Unwrap() error { return e.err }

// objectError says which object an error is about, once.
func objectError(object string, err error) error {
	var oe *objErr
	if err == nil || errors.As(err, &oe) {
		return err
	}
	return &objErr{object: object, err: err}
}

// recoverAs turns a panic into an error about an object, with the stack.
func recoverAs(object string, err *error) {
	if r := recover(); r != nil {
		*err = objectError(object, fmt.Errorf("internal fault (please report it): %v\n%s", r, debug.Stack()))
	}
}
