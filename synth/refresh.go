package synth

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
)

// CatalogueStatus says when the archive was read, and how reading it again went.
type CatalogueStatus struct {
	Read      time.Time `json:"read"`            // when what is shown was read
	Refreshed int64     `json:"refreshed"`       // how often it was read again and shown
	Failed    int64     `json:"failed"`          // how often it could not be read again
	Error     string    `json:"error,omitempty"` // why not, if that was the last time
}

// Read reads an archive again. shown is what was read of it before.
type Read func(ctx context.Context, shown *catalogue.Catalogue) (*catalogue.Catalogue, error)

// past is what the trees of one archive that follow each other have in common.
type past struct {
	since time.Time    // of the first tree
	stats mosaic.Stats // what was read of all of them

	mu        sync.Mutex // guards what follows
	catalogue CatalogueStatus
}

// Refresh reads the archive again, makes the tree of what it is now, and has it shown in this one's place. The
// cache of objects forgets what it knew: the new tree takes every tile as it is, also where the catalogue says
// the same as before. This tree goes on to be what it was, as long as anybody reads it: its tiles that have
// changed fail with vfs.ErrChanged. Close it when nobody does.
//
// When the archive cannot be read nothing is shown in this tree's place, and its status says why. One Refresh of
// the trees of an archive runs at a time.
func (t *Tree) Refresh(ctx context.Context, read Read, show func(next *Tree)) error {
	next, err := t.next(ctx, read)
	if err == nil {
		show(next)
	}
	t.past.mu.Lock()
	defer t.past.mu.Unlock()
	c := &t.past.catalogue
	switch {
	case err == nil:
		c.Refreshed++
		c.Read, c.Error = next.read, ""
	case ctx.Err() == nil || !errors.Is(err, context.Canceled): // otherwise it was given up, and nothing is wrong
		c.Failed++
		c.Error = err.Error()
	}
	return err
}

func (t *Tree) next(ctx context.Context, read Read) (next *Tree, err error) {
	defer func() { // what is shown must outlive a fault of what is not
		if v := recover(); v != nil {
			next, err = nil, fmt.Errorf("internal fault (please report it): %v\n%s", v, debug.Stack())
		}
	}()
	cfg, begin := t.cfg, now()
	if cfg.Catalogue, err = read(ctx, t.cfg.Catalogue); err != nil {
		return nil, err
	}
	if next, err = newTree(cfg, t.past); err != nil {
		return nil, err
	}
	next.read = begin
	cfg.Cache.Forget()
	return next, nil
}

// now is the time, to the second.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
