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

// TestRanger runs what an object must keep to that is a source.Ranger, on top of Test: ReadRanges
// fills all ranges, whatever their order, or fails as ReadAt does.
func TestRanger(t *testing.T, newSource func(t *testing.T, objects map[string][]byte) (source.Source, Mutator)) {
	data := pattern(300_000, 11)
	s, m := newSource(t, map[string][]byte{"a": data, "x": data})
	a, ok := open(t, s, "a").(source.Ranger)
	if !ok {
		t.Fatalf("%T has no ReadRanges", a)
	}
	ranges := func(pieces ...int64) []source.Range { // offset and length in turn
		var list []source.Range
		for i := 0; i < len(pieces); i += 2 {
			list = append(list, source.Range{Off: pieces[i], P: bytes.Repeat([]byte{0xEE}, int(pieces[i+1]))})
		}
		return list
	}
	var rows []int64
	for i := range int64(64) {
		rows = append(rows, 100+i*4400, 256)
	}

	// Catches ranges that are mixed up, left out, or cut at their ends.
	for _, pieces := range [][]int64{nil, {0, 300_000}, {5, 0}, {300_000, 0}, {200_000, 9, 0, 7, 199_990, 20}, {299_999, 1, 0, 1}, rows} {
		list := ranges(pieces...)
		if err := a.ReadRanges(t.Context(), list); err != nil {
			t.Errorf("ranges %v: %v", pieces, err)
		}
		for _, r := range list {
			if !bytes.Equal(r.P, data[r.Off:r.Off+int64(len(r.P))]) {
				t.Errorf("ranges %v: other bytes at %d", pieces, r.Off)
			}
		}
	}
	// Catches a range outside the object that goes unnoticed among others.
	for _, test := range []struct {
		pieces []int64
		want   error
	}{
		{[]int64{0, 5, 299_999, 2, 7, 5}, io.ErrUnexpectedEOF},
		{[]int64{1 << 40, 1}, io.ErrUnexpectedEOF},
	} {
		err := a.ReadRanges(t.Context(), ranges(test.pieces...))
		if !errors.Is(err, test.want) {
			t.Errorf("ranges %v: %v, want %v", test.pieces, err, test.want)
		}
		named(t, err, "a")
	}
	if err := a.ReadRanges(t.Context(), ranges(5, 5, -1, 1)); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a range at -1: %v, want another error", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.ReadRanges(ended, ranges(0, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}

	// Catches bytes of another state than the opened one.
	x := open(t, s, "x").(source.Ranger)
	m.Rewrite("x", pattern(300_000, 12))
	for deadline := time.Now().Add(Notice); ; time.Sleep(20 * time.Millisecond) {
		list := ranges(rows...)
		err := x.ReadRanges(t.Context(), list)
		if errors.Is(err, source.ErrChanged) {
			named(t, err, "x")
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("ranges of what was rewritten: %v, want ErrChanged within %v", err, Notice)
		}
		for _, r := range list {
			if !bytes.Equal(r.P, data[r.Off:r.Off+int64(len(r.P))]) {
				t.Fatalf("ranges succeed with bytes of another state")
			}
		}
	}

	// Catches a closed object that reads.
	o, err := s.Open(t.Context(), "a")
	if err == nil {
		err = o.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := o.(source.Ranger).ReadRanges(t.Context(), ranges(0, 1)); err == nil {
		t.Error("a closed object reads ranges")
	}
}
