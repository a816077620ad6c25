package catalogue

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// A kept copy is one file, so that what it says of itself and its bytes are replaced together: a page
// of JSON that ends in spaces and a newline, then the object's bytes.

const (
	copyFormat = 1
	copyHead   = 16 << 10 // bytes before the object's own
	pieceBytes = 8 << 20  // of an object are fetched, and summed, at once
)

// copyHeader says what a file is a copy of.
type copyHeader struct {
	Format   int       `json:"format"`
	Source   string    `json:"source"`
	Name     string    `json:"name"`
	Absent   bool      `json:"absent,omitempty"` // the source said that there is no such object
	Size     int64     `json:"size"`
	ModTime  time.Time `json:"mod_time"`
	ETag     string    `json:"etag,omitempty"`
	Checksum string    `json:"checksum"`
}

func (h copyHeader) info() source.Info {
	return source.Info{Size: h.Size, ModTime: h.ModTime, ETag: h.ETag}
}

// checksum is the XXH64 of the header, without its checksum, and of the XXH64 of each piece. It finds
// what disks and crashes do; who may write to the directory may do as they like.
func (h copyHeader) checksum(pieces []uint64) (string, error) {
	h.Checksum = ""
	data, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	for _, sum := range pieces {
		data = binary.BigEndian.AppendUint64(data, sum)
	}
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, xxhash.Sum64(data))), nil
}

// page is the header as it lies in the file.
func (h copyHeader) page(pieces []uint64) ([]byte, error) {
	var err error
	if h.Checksum, err = h.checksum(pieces); err != nil {
		return nil, err
	}
	data, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(data) >= copyHead {
		return nil, fmt.Errorf("its name and ETag are longer than %d bytes", copyHead)
	}
	page := append(data, bytes.Repeat([]byte{' '}, copyHead-len(data))...)
	page[copyHead-1] = '\n'
	return page, nil
}

// kept is an open copy of an object: an object that never changes.
type kept struct {
	file    *os.File
	header  copyHeader
	checked time.Time // when the source was last known to have this
}

var _ source.Object = (*kept)(nil)

var errDamaged = errors.New("the copy is damaged")

// openCopy opens a copy and its header; what is in it has yet to be verified. It fails with
// fs.ErrNotExist where there is none, or none in this format.
func openCopy(path string) (*kept, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	k := &kept{file: f}
	if err := k.readHeader(); err != nil {
		f.Close()
		return nil, err
	}
	return k, nil
}

func (k *kept) readHeader() error {
	info, err := k.file.Stat()
	if err != nil {
		return err
	}
	page := make([]byte, copyHead)
	if !info.Mode().IsRegular() || info.Size() < copyHead {
		return errDamaged
	}
	if _, err := k.file.ReadAt(page, 0); err != nil {
		return err
	}
	if json.Unmarshal(page, &k.header) != nil {
		return errDamaged
	}
	switch {
	case k.header.Format != copyFormat:
		return fs.ErrNotExist
	case k.header.Size < 0 || k.header.Size > maxFile || info.Size() != copyHead+k.header.Size:
		return errDamaged
	}
	k.checked = info.ModTime().UTC()
	return nil
}

// verify holds the copy against its checksum.
func (k *kept) verify(ctx context.Context) error {
	sums := make([]uint64, (k.header.Size+pieceBytes-1)/pieceBytes)
	workers, working := errgroup.WithContext(ctx)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	for i := range sums {
		workers.Go(func() error {
			if err := working.Err(); err != nil {
				return err
			}
			off := int64(i) * pieceBytes
			piece := io.NewSectionReader(k.file, copyHead+off, min(pieceBytes, k.header.Size-off))
			sum := xxhash.New()
			if _, err := io.CopyBuffer(onlyWriter{sum}, piece, make([]byte, min(256<<10, piece.Size()))); err != nil {
				return err
			}
			sums[i] = sum.Sum64()
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		return err
	}
	if sum, err := k.header.checksum(sums); err != nil || sum != k.header.Checksum {
		return errDamaged
	}
	return nil
}

// onlyWriter hides all else that a Writer can do, so that io.CopyBuffer takes the buffer it is given.
type onlyWriter struct{ io.Writer }

func (k *kept) Info() source.Info           { return k.header.info() }
func (k *kept) Check(context.Context) error { return nil }
func (k *kept) Close() error                { return k.file.Close() }

func (k *kept) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid)
	}
	if off > k.header.Size || int64(len(p)) > k.header.Size-off {
		return 0, fmt.Errorf("bytes %d to %d of %d: %w", off, off+int64(len(p)), k.header.Size, io.ErrUnexpectedEOF)
	}
	n, err := k.file.ReadAt(p, copyHead+off)
	if errors.Is(err, io.EOF) && n < len(p) {
		return n, io.ErrUnexpectedEOF // somebody cut it
	}
	if n == len(p) {
		err = nil
	}
	return n, err
}
