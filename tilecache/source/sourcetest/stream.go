package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// stream reads a stream to its end, with reads of these sizes in turn, and closes it.
func stream(ctx context.Context, o source.Streamer, off, n int64, sizes ...int) (got []byte, err error) {
	r, err := o.Stream(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for i := 0; ; i++ {
		p := make([]byte, sizes[i%len(sizes)])
		n, err := r.Read(p)
		if got = append(got, p[:n]...); errors.Is(err, io.EOF) {
			if n, again := r.Read(p); n != 0 || !errors.Is(again, io.EOF) {
				return got, errors.New("after its end the stream goes on")
			}
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

// What an object must keep to that is a source.Streamer: Stream fails as ReadAt does, and gives the
// same bytes. For others there is nothing to hold.
func testStream(t *testing.T, newSource New) {
	data := pattern(3<<20+123, 13)
	size := int64(len(data))
	s, m := newSource(t, map[string][]byte{"a": data, "empty": {}, "x": data, "y": data})
	a, ok := open(t, s, "a").(source.Streamer)
	if !ok {
		return
	}
	// Catches bytes that are left out, given twice or cut, where one read ends and the next begins, at
	// either end, and where what opening brought along ends.
	for _, sizes := range [][]int{{1 << 20}, {32<<10 + 1, 1, 7, 4095}, {len(data) + 1}} {
		for _, span := range [][2]int64{{0, size}, {1, size - 1}, {1_000_003, 1_000_001}, {0, 1}, {0, 5}, {size - 1, 1}, {0, 0}, {77, 0}, {size, 0}} {
			got, err := stream(t.Context(), a, span[0], span[1], sizes...)
			if err != nil || !bytes.Equal(got, data[span[0]:span[0]+span[1]]) {
				t.Errorf("stream of %d at %d: %d bytes, %v, or other bytes", span[1], span[0], len(got), err)
			}
		}
	}
	if got, err := stream(t.Context(), open(t, s, "empty").(source.Streamer), 0, 0, 10); len(got) != 0 || err != nil {
		t.Errorf("stream of what is empty: %d bytes, %v", len(got), err)
	}
	// Catches a stream that ends before what was asked for, and does not say so.
	for _, span := range [][2]int64{{0, size + 1}, {size, 1}, {size - 5, 6}, {size + 1, 0}, {1 << 40, 1}, {1, 1<<63 - 1}} {
		_, err := stream(t.Context(), a, span[0], span[1], 10)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("stream of %d at %d of %d: %v, want io.ErrUnexpectedEOF", span[1], span[0], size, err)
		}
		named(t, err, "a")
	}
	for _, span := range [][2]int64{{-1, 5}, {5, -1}} {
		if _, err := stream(t.Context(), a, span[0], span[1], 10); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("stream of %d at %d: %v, want another error", span[1], span[0], err)
		}
	}

	// Catches a stream that cannot be left, that goes on after it was, or that others suffer from.
	begin := func(ctx context.Context) io.ReadCloser {
		t.Helper()
		r, err := a.Stream(ctx, 0, size)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		p := make([]byte, 1000)
		if _, err := io.ReadFull(r, p); err != nil || !bytes.Equal(p, data[:1000]) {
			t.Errorf("the first bytes of a stream: %v, or other bytes", err)
		}
		return r
	}
	p := make([]byte, 100_000)
	r, other := begin(t.Context()), begin(t.Context())
	if err := r.Close(); err != nil {
		t.Errorf("close of a stream that goes on: %v", err)
	}
	if n, err := r.Read(p); n != 0 || err == nil || errors.Is(err, io.EOF) || errors.As(err, new(*source.Transient)) {
		t.Errorf("a closed stream reads %d bytes, %v", n, err)
	}
	if _, err := a.ReadAt(t.Context(), p, 2_000_000); err != nil || !bytes.Equal(p, data[2_000_000:2_100_000]) {
		t.Errorf("a read after the stream: %v, or other bytes", err)
	}
	if rest, err := io.ReadAll(other); err != nil || !bytes.Equal(rest, data[1000:]) {
		t.Errorf("a stream beside the one that was closed: %d bytes, %v", len(rest), err)
	}

	// Catches a stream that does not look at its context, at its beginning or later.
	ctx, cancel := context.WithCancel(t.Context())
	r = begin(ctx)
	cancel()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("a stream whose context ended gives %d bytes more, %v", n, err)
	}
	if _, err := a.Stream(ctx, 0, size); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}

	// Catches bytes of another state than the opened one, and a change that is noticed and forgotten.
	for name, change := range map[string]func(){
		"x": func() { m.Rewrite("x", pattern(len(data), 14)) },
		"y": func() { m.Delete("y") },
	} {
		o := open(t, s, name).(source.Streamer)
		change()
		for deadline := time.Now().Add(Notice); ; time.Sleep(20 * time.Millisecond) {
			got, err := stream(t.Context(), o, 0, size, 1<<20)
			if errors.Is(err, source.ErrChanged) {
				named(t, err, name)
				break
			}
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("stream of the changed %s: %v, want ErrChanged within %v", name, err, Notice)
			}
			if !bytes.Equal(got, data) {
				t.Fatalf("a stream of %s succeeds with bytes of another state", name)
			}
		}
		if err := o.Check(t.Context()); !errors.Is(err, source.ErrChanged) {
			t.Errorf("check of %s, which a stream found changed: %v", name, err)
		}
	}

	// Catches a closed object that begins a stream.
	o, err := s.Open(t.Context(), "a")
	if err == nil {
		err = o.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.(source.Streamer).Stream(t.Context(), 0, size); err == nil {
		t.Error("a closed object streams")
	}
}
