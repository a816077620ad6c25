package memsource_test

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mutator changes objects the one way a source in memory knows.
type mutator struct{ *memsource.Source }

func (m mutator) Replace(name string, data []byte) { m.Put(name, data) }
func (m mutator) Rewrite(name string, data []byte) { m.Put(name, data) }
func (m mutator) Delete(name string)               { m.Remove(name) }

// Catches a fake that behaves unlike the sources it stands for.
func TestSuite(t *testing.T) {
	sourcetest.Test(t, func(_ *testing.T, objects map[string][]byte) (source.Source, sourcetest.Mutator) {
		s := memsource.New(objects)
		return s, mutator{s}
	})
}

// Catches failures on demand that miss a call, or that stay after they were taken back.
func TestFail(t *testing.T) {
	s := memsource.New(map[string][]byte{"a": {1, 2}, "d/b": {2}})
	ctx := t.Context()
	o, err := s.Open(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	begun, err := o.(source.Streamer).Stream(ctx, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"open":  func() error { _, err := s.Open(ctx, "a"); return err },
		"read":  func() error { _, err := o.ReadAt(ctx, make([]byte, 1), 0); return err },
		"check": func() error { return o.Check(ctx) },
		"stream": func() error {
			r, err := o.(source.Streamer).Stream(ctx, 0, 2)
			if err == nil {
				err = r.Close()
			}
			return err
		},
		"a read of a stream": func() error { _, err := begun.Read(make([]byte, 1)); return err },
		"list":               func() error { _, err := s.List(ctx, "d", false); return err },
	}
	boom := errors.New("boom")
	s.Fail("a", boom)
	s.Fail("d", boom)
	for name, call := range calls {
		if err := call(); !errors.Is(err, boom) {
			t.Errorf("%s: %v, want boom", name, err)
		}
	}
	s.Fail("a", nil)
	s.Fail("d", nil)
	for name, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s after the failure ended: %v", name, err)
		}
	}
	if got := s.Opens("a"); got != 3 {
		t.Errorf("Opens %d, want 3", got)
	}
}

// Catches a delay that outlasts its channel or ignores the context.
func TestDelay(t *testing.T) {
	s := memsource.New(map[string][]byte{"a": {1}})
	gate := make(chan struct{})
	s.Delay("a", gate)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	open := func(ctx context.Context) { _, err := s.Open(ctx, "a"); result <- err }
	go open(ctx)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("delayed open after cancel: %v", err)
	}
	go open(t.Context())
	select {
	case err := <-result:
		t.Errorf("delayed open did not wait: %v", err)
	default:
	}
	close(gate)
	if err := <-result; err != nil {
		t.Errorf("open after the delay: %v", err)
	}
}
