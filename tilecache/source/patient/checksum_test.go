package patient_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

// summed is a source that knows a checksum of a, and none of others.
type summed struct{ *faulty }

func (s summed) Checksum(ctx context.Context, name string) (uint64, bool, error) {
	_, end, err := s.begin(ctx, "checksum", name)
	if end != nil {
		defer end()
	}
	if err != nil || name != "a" {
		return 0, false, err
	}
	return 42, true, nil
}

// Catches a checksum that is asked for without patience, one that is made up where there is none, and a source
// that knows none taken for one that fails.
func TestChecksum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := 0
		src, _ := newFaulty(func(op, _ string, _ int) fault {
			if failing == 0 || op != "checksum" {
				return fault{}
			}
			failing--
			return fault{err: &source.Transient{Err: errRefused}}
		})
		s := ask(t, summed{src}, patient.Config{})
		failing = 3
		if sum, ok, err := s.Checksum(t.Context(), "a"); sum != 42 || !ok || err != nil || src.requests() != 4 {
			t.Errorf("%d, %v, %v after %d requests", sum, ok, err, src.requests())
		}
		if _, ok, err := s.Checksum(t.Context(), "b"); ok || err != nil {
			t.Errorf("of an object without one: %v, %v", ok, err)
		}
		failing = 1 << 30
		if _, ok, err := s.Checksum(t.Context(), "a"); ok || !errors.Is(err, source.ErrUnavailable) {
			t.Errorf("of a source that fails: %v, %v", ok, err)
		}
		failing = 0
		if _, ok, err := ask(t, src, patient.Config{}).Checksum(t.Context(), "a"); ok || err != nil {
			t.Errorf("of a source that knows none: %v, %v", ok, err)
		}
	})
}
