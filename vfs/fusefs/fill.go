package fusefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/tesserafs/tesserafs/vfs"
)

// fillStep is how much of a file is copied at a time: a huge page, which then needs not be cleared
// first.
const fillStep = 2 << 20

// quietFor is how long nobody has read when files are copied that were read once. Between the processes of a
// loop in a shell there is less.
const quietFor = 250 * time.Millisecond

// run is the filler.
func (h *hot) run(ctx context.Context) {
	defer close(h.done)
	buf := make([]byte, fillStep)
	var waiting *fileNode     // until nobody reads
	var tick <-chan time.Time // when that is looked at
	reads := int64(-1)        // how many there were before
	for {
		later := h.later
		if waiting != nil {
			later = nil
		}
		select {
		case <-ctx.Done():
			return
		case n := <-h.queue:
			h.fill(ctx, n, buf)
			continue
		case waiting = <-later:
		case <-tick:
		}
		if now := h.reads(); now != reads {
			reads, tick = now, time.After(quietFor)
			continue
		}
		if h.takeLater(waiting) {
			h.fill(ctx, waiting, buf)
		}
		waiting, tick = nil, nil
	}
}

// errOwn is a failure that says nothing about the file.
var errOwn = errors.New("cannot keep a copy")

// fill makes a copy of a file. Readers learn of failures from their own reads.
func (h *hot) fill(ctx context.Context, n *fileNode, buf []byte) {
	t, size := &n.state.heat, n.state.size
	using := n.g.users.enter()
	if using {
		defer n.g.users.leave()
	}
	if !h.admit(n, size, using) {
		return
	}
	file, err := h.copy(ctx, n, size, buf)
	var id int32
	if err == nil {
		if id, err = h.files.register(file); err != nil {
			_ = file.Close()
			err = fmt.Errorf("%w: %w", errOwn, err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t.queued = false
	close(t.filled)
	t.filled = nil
	if err != nil {
		h.used -= size
		t.barred = t.barred || ctx.Err() == nil && !errors.Is(err, errOwn)
		h.log.Debug("no hot copy", "path", n.Path(nil), "reason", err)
		return
	}
	c := &hotCopy{node: n, file: file, id: id, size: size, refs: 1}
	h.copies[c] = struct{}{}
	t.copy = c
	if t.barred || n.replaced() { // it was found changed meanwhile, or nobody opens it any more
		h.drop(t)
	}
}

// copy reads a file whole.
func (h *hot) copy(ctx context.Context, n *fileNode, size int64, buf []byte) (file *os.File, err error) {
	defer func() {
		if v := recover(); v != nil {
			h.log.Error("panic while copying a file", "path", n.Path(nil), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = errors.New("panic")
		}
		if err != nil && file != nil {
			_ = file.Close()
			file = nil
		}
	}()
	file, err = h.files.create(size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errOwn, err)
	}
	for off := int64(0); off < size; off += fillStep {
		if err := ctx.Err(); err != nil {
			return file, err
		}
		part := buf[:min(fillStep, size-off)]
		if err := fillPart(ctx, file, n.file, part, off); err != nil {
			return file, err
		}
	}
	return file, nil
}

func fillPart(ctx context.Context, to *os.File, from vfs.File, part []byte, off int64) error {
	if n, err := from.ReadAt(ctx, part, off); n < len(part) || err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %d of %d bytes: %w", n, len(part), err)
	}
	if _, err := to.WriteAt(part, off); err != nil {
		return fmt.Errorf("%w: %w", errOwn, err)
	}
	return nil
}

// close ends the filler and frees the copies. Nothing is served any more.
func (h *hot) close() {
	h.cancel()
	<-h.done
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.copies {
		_ = c.file.Close()
	}
	clear(h.copies)
	h.used = 0
	h.files.close()
}
