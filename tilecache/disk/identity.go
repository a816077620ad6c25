package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

const (
	// PageSize is the bytes of a page; an object's last may be shorter.
	PageSize = 16 << 10

	// subdir is where this version of the format lies, below the directory that Open is given.
	subdir = "pages-1"
	magic  = "tesserafs pages\n"

	headerSize = 2048
	entrySize  = 8 // of the index, for each page

	// maxSize is the size of the largest object of which pages are kept: 4 TiB. Some filesystems have
	// no larger files, and page numbers of it fit in 32 bits.
	maxSize = 1 << 42
)

var (
	fanPattern   = regexp.MustCompile(`^[0-9a-f]{2}$`)
	statePattern = regexp.MustCompile(`^[0-9a-f]{32}-[0-9a-f]{20}$`)
	newPattern   = regexp.MustCompile(`^new-[0-9a-f]{16}$`)
)

// state is one state of one object.
type state struct {
	source, name string
	info         source.Info
}

// header is what a state's file begins with, nil where the state is more than is kept: its texts do
// not fit or its size is beyond maxSize.
//
// Little endian: magic, page size (4 bytes), size (8), modification time (8 seconds, 4 nanoseconds),
// lengths of source, name and ETag (2 each), these three, zeros, and SHA-256 of all before it.
func (s *state) header() []byte {
	texts := []string{s.source, s.name, s.info.ETag}
	length := len(magic) + 4 + 8 + 12 + 3*2 + sha256.Size
	for _, text := range texts {
		if len(text) > headerSize {
			return nil
		}
		length += len(text)
	}
	if length > headerSize || s.info.Size < 0 || s.info.Size > maxSize {
		return nil
	}
	h := append(make([]byte, 0, headerSize), magic...)
	h = binary.LittleEndian.AppendUint32(h, PageSize)
	h = binary.LittleEndian.AppendUint64(h, uint64(s.info.Size))
	h = binary.LittleEndian.AppendUint64(h, uint64(s.info.ModTime.Unix()))
	h = binary.LittleEndian.AppendUint32(h, uint32(s.info.ModTime.Nanosecond()))
	for _, text := range texts {
		h = binary.LittleEndian.AppendUint16(h, uint16(len(text)))
	}
	for _, text := range texts {
		h = append(h, text...)
	}
	h = h[:headerSize-sha256.Size]
	sum := sha256.Sum256(h)
	return append(h, sum[:]...)
}

// parseHeader is the state that a header tells, if it is whole.
func parseHeader(h []byte) (state, bool) {
	if len(h) != headerSize || !bytes.HasPrefix(h, []byte(magic)) {
		return state{}, false
	}
	rest := h[len(magic)+4:]
	s := state{info: source.Info{
		Size:    int64(binary.LittleEndian.Uint64(rest)),
		ModTime: time.Unix(int64(binary.LittleEndian.Uint64(rest[8:])), int64(binary.LittleEndian.Uint32(rest[16:]))),
	}}
	lengths, rest := rest[20:26], rest[26:len(rest)-sha256.Size]
	for i, text := range []*string{&s.source, &s.name, &s.info.ETag} {
		n := int(binary.LittleEndian.Uint16(lengths[2*i:]))
		if n > len(rest) {
			return state{}, false
		}
		*text, rest = string(rest[:n]), rest[n:]
	}
	// The checksum, the page size and every byte that was not looked at.
	return s, bytes.Equal(s.header(), h)
}

// nameHash is the first half of the names of an object's files.
func nameHash(source, name string) string {
	text := binary.LittleEndian.AppendUint64(nil, uint64(len(source)))
	sum := sha256.Sum256(append(append(text, source...), name...))
	return hex.EncodeToString(sum[:16])
}

// identity is how a state is found and its pages are known.
type identity struct {
	header []byte
	file   string // its name
	seed   uint64 // of checksums
}

// identify fails where the state is more than is kept.
func (s *state) identify() (identity, bool) {
	h := s.header()
	if h == nil {
		return identity{}, false
	}
	sum := sha256.Sum256(h)
	return identity{
		header: h,
		file:   nameHash(s.source, s.name) + "-" + hex.EncodeToString(sum[:10]),
		seed:   binary.LittleEndian.Uint64(sum[10:]),
	}, true
}

// entry is what the index says of a page: never 0.
func (id *identity) entry(page int64, p []byte) uint64 {
	// The factor is odd, so no two pages of an object have one seed.
	return max(1, xxh3.HashSeed(p, id.seed^uint64(page)*0x9E3779B97F4A7C15))
}

// place is where a file of that name lies, below the directory of this format.
func place(file string) string { return filepath.Join(file[:2], file) }

// pointer is the name of the link to an object's newest state, by the name of any of its states.
func pointer(stateFile string) string {
	name, _, _ := strings.Cut(stateFile, "-")
	return name
}

// pagesIn is how many pages these bytes are, the last of which may be short.
func pagesIn(bytes int64) int64 { return (bytes + PageSize - 1) / PageSize }

// entryOffset is where in a state's file the index has a page.
func entryOffset(page int64) int64 { return headerSize + page*entrySize }

// pagesOffset is where in a state's file the first page lies.
func pagesOffset(size int64) int64 {
	return pagesIn(entryOffset(pagesIn(size))) * PageSize
}
