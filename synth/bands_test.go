package synth_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/synth/layout"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/vfstest"
)

// inBandOrder makes of a shard in pixel order the one in band order that holds the same, byte by byte.
func inBandOrder(shard []byte, bands, side int) []byte {
	const block = 128 << 10
	perSide := grid.ShardPixels / side
	old := shard[len(shard)-16*perSide*perSide-4:]
	var out, index []byte
	for i := range perSide * perSide {
		at := binary.LittleEndian.Uint64(old[16*i:])
		if at == math.MaxUint64 {
			index = append(index, old[16*i:16*i+16]...)
			continue
		}
		content := make([]byte, bands*side*side)
		for k, v := range shard[at:][:len(content)] {
			content[k%bands*side*side+k/bands] = v
		}
		start := len(out)
		out = append(out, 0x28, 0xb5, 0x2f, 0xfd, 0xa0)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(content)))
		for from := 0; from < len(content); from += block {
			data := content[from:min(len(content), from+block)]
			head := uint32(len(data)) << 3
			if from+block >= len(content) {
				head |= 1
			}
			out = append(append(out, byte(head), byte(head>>8), byte(head>>16)), data...)
		}
		index = binary.LittleEndian.AppendUint64(index, uint64(start))
		index = binary.LittleEndian.AppendUint64(index, uint64(len(out)-start))
	}
	sum := crc32.Checksum(index, crc32.MakeTable(crc32.Castagnoli))
	return binary.LittleEndian.AppendUint32(append(out, index...), sum)
}

// Catches: inner chunks in band order that hold other pixels, or are others, than those in pixel order
// (which are held against the tiles by TestShards); an index of other places or lengths; reads that
// depend on where they begin and end; scales that an order changes.
func TestBandOrder(t *testing.T) {
	const inner = 64 // frames of four blocks
	cfg := second
	cfg.Dir, cfg.Years = t.TempDir(), []int{2024}
	write(t, cfg)
	pixel, band := show(t, cfg.Dir, synth.Config{InnerChunk: inner, ChunkOrder: layout.PixelOrder}), show(t, cfg.Dir, synth.Config{InnerChunk: inner, ChunkOrder: layout.BandOrder})
	read := func(tree *synth.Tree, path string) []byte {
		data, err := fs.ReadFile(vfs.FS(tree.Root()), path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, zone := range []int{24, 25} {
		group := fmt.Sprintf("%s/tessera.zarr/utm%d/", cfg.Dataset, zone)
		if path := group + "scales/c/0/0/0"; !bytes.Equal(read(pixel, path), read(band, path)) {
			t.Errorf("%s: other scales in band order", path)
		}
		for array, of := range map[string]struct{ bands, side int }{
			"embeddings": {128, inner}, "embeddings_d4": {4, 4 * inner}, "embeddings_d16": {16, 2 * inner},
		} {
			path := group + array + "/c/0/0/0/0"
			want := inBandOrder(read(pixel, path), of.bands, of.side)
			if got := read(band, path); !bytes.Equal(got, want) {
				t.Errorf("%s: not what the shard in pixel order holds", path)
			}
			file := find(t, band, path).(vfs.File)
			if a := file.Attr(); a.Size != int64(len(want)) || a.Stored != a.Size {
				t.Errorf("%s: %d bytes, %d stored, want %d", path, a.Size, a.Stored, len(want))
			}
			if _, sparse := file.(vfs.Sparse); sparse {
				t.Errorf("%s: has holes", path)
			}
			for range 100 {
				off := random.IntN(len(want))
				p := make([]byte, min(len(want)-off, 1+random.IntN(1<<random.IntN(21))))
				if n, err := file.ReadAt(t.Context(), p, int64(off)); n != len(p) || err != nil && err != io.EOF || !bytes.Equal(p, want[off:off+n]) {
					t.Fatalf("%s: %d bytes at %d: other bytes, or %v", path, len(p), off, err)
				}
			}
		}
	}
}

// Catches: sizes that do not hold, short reads that differ from long ones, reads that cannot be
// interrupted.
func TestBandOrderKeepsTheContract(t *testing.T) {
	for _, side := range []int{16, 256} {
		cfg := second
		cfg.Dir, cfg.Years = t.TempDir(), []int{2024}
		write(t, cfg)
		tree := show(t, cfg.Dir, synth.Config{InnerChunk: side, ChunkOrder: layout.BandOrder})
		vfstest.TestTree(t, find(t, tree, cfg.Dataset+"/tessera.zarr/utm24/embeddings_d16").(vfs.Dir))
	}
}

// Catches: an index in band order that needs tiles, and fill or kept bytes where a tile is cut off.
func TestBandOrderOfChangedTiles(t *testing.T) {
	cfg := second
	cfg.Dir, cfg.Years = t.TempDir(), []int{2024}
	write(t, cfg)
	tree := show(t, cfg.Dir, synth.Config{InnerChunk: 64, ChunkOrder: layout.BandOrder})
	file := find(t, tree, cfg.Dataset+"/tessera.zarr/utm24/embeddings/c/0/0/0/0").(vfs.File)
	p := make([]byte, 1000)
	if _, err := file.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	for _, c := range cfg.Cells {
		if err := os.Truncate(cfg.Files(c, 2024).Embeddings, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := file.ReadAt(t.Context(), p, 1000); !errors.Is(err, vfs.ErrChanged) {
		t.Errorf("an inner chunk read before: error is %v, not ErrChanged", err)
	}
	if n, err := file.ReadAt(t.Context(), p, file.Attr().Size-int64(len(p))); n != len(p) || err != nil && err != io.EOF {
		t.Errorf("index: %d bytes, %v", n, err)
	}
}

// Catches: an order taken with inner chunks that are too large to be made whole.
func TestChunkOrderRefused(t *testing.T) {
	src, err := localdir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cache := tilecache.New(src, tilecache.Config{})
	defer cache.Close()
	_, err = synth.New(synth.Config{
		Catalogue: &catalogue.Catalogue{Datasets: []*catalogue.Dataset{{}}}, Cache: cache, Log: slog.New(slog.DiscardHandler),
		InnerChunk: 512, ChunkOrder: layout.BandOrder,
	})
	if err == nil || !strings.Contains(err.Error(), "512 px are too large") {
		t.Errorf("error is %v", err)
	}
}
