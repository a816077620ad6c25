package patient

import (
	"context"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

var _ source.Checksummer = (*Source)(nil)

// Checksum is what the source that is asked knows of an object's checksum, with retries; ok is false where
// it knows none of any. It is asked once at a time.
func (s *Source) Checksum(ctx context.Context, name string) (crc64nvme uint64, ok bool, err error) {
	src, knows := s.src.(source.Checksummer)
	if !knows {
		return 0, false, nil
	}
	type sum struct {
		crc uint64
		ok  bool
	}
	got, err := call(ctx, s, &request[sum]{
		verb:     "checksum of",
		name:     name,
		probe:    name,
		limit:    s.cfg.FirstByte,
		patience: s.cfg.Patience,
		send: func(ctx context.Context, _ *watch) (sum, error) {
			crc, ok, err := src.Checksum(ctx, name)
			return sum{crc, ok}, err
		},
	})
	if err != nil {
		return 0, false, err
	}
	return got.crc, got.ok, nil
}
