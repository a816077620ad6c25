package vfstest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// noise makes n bytes that are the same in every run.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(p)
	return p
}

// behaved is a tree of files of many sizes and kinds.
func behaved() map[string]memfs.File {
	files := map[string]memfs.File{
		"empty/": {},
		"a name with spaces/ü/日本語/ends with space ": {Data: []byte("x")},
		"names/" + strings.Repeat("n", 255):         {Data: []byte("long")},
		"names/quote'\"$`\\":                        {Data: []byte("quotes")},
		"names/new\nline\ttab":                      {Data: []byte("control")},
		"names/.hidden by its dot":                  {Data: []byte("dot")},
		"found by name":                             {Data: []byte("unlisted"), Hidden: true},
		strings.Repeat("d/", 60) + "deep":           {Data: []byte("deep")},
		"dated":                                     {Data: []byte("1"), ModTime: time.Date(1999, 12, 31, 23, 59, 59, 1, time.UTC)},
	}
	for i, size := range []int{
		0, 1, 4095, 4096, 4097, 128<<10 - 1, 128 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 12345,
	} {
		data := noise(uint64(i), size)
		files[fmt.Sprintf("plain/%d", size)] = memfs.File{Data: data}
		holed := append([]byte(nil), data...)
		for off := 0; off < size; off += 3 * 8192 {
			clear(holed[off:min(off+2*8192, size)])
		}
		files[fmt.Sprintf("sparse/%d", size)] = memfs.File{Data: holed, Block: 4096}
	}
	files["sparse/nothing"] = memfs.File{Data: make([]byte, 100_000), Block: 4096}
	return files
}

// failure is a file whose reads fail, and how that looks from outside.
type failure struct {
	name string
	err  error
	want error // an errno
}

// failures are all kinds of errors that a tree may return.
func failures() []failure {
	return []failure{
		{"damaged", fmt.Errorf("tile: %w", vfs.ErrDamaged), eio},
		{"timeout", fmt.Errorf("tile: %w", vfs.ErrTimeout), eio},
		{"deadline", fmt.Errorf("tile: %w", context.DeadlineExceeded), eio},
		{"changed", fmt.Errorf("tile: %w", vfs.ErrChanged), estale},
		{"own fault", errors.New("anything else"), eio},
		// A tile that is listed and gone must not look like a chunk that was never there.
		{"gone", fmt.Errorf("tile: %w: %w", vfs.ErrDamaged, fs.ErrNotExist), eio},
		{"bare gone", fs.ErrNotExist, eio},
		{"cancelled by others", context.Canceled, eio},
	}
}

// bigDir is a directory of n files of one byte.
func bigDir(n int) map[string]memfs.File {
	files := make(map[string]memfs.File, n)
	for i := range n {
		files[fmt.Sprintf("big/c.%d.%d", i/250, i%250)] = memfs.File{Data: []byte{byte(i)}}
	}
	return files
}
