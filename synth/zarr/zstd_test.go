package zarr

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func frameOf(content []byte) []byte {
	frame := make([]byte, ZstdSize(int64(len(content))))
	ZstdAt(frame, 0, content)
	return frame
}

// Catches: frames that a decoder refuses, or takes for other bytes, or that say no content size, without
// which zarr-python's does not decode them; sizes that do not hold; bytes after the last block.
func TestZstdDecodes(t *testing.T) {
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 255, 256, 65_791, 128<<10 - 1, 128 << 10, 128<<10 + 1, 512 << 10, 8 << 20} {
		content := make([]byte, n)
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		frame := frameOf(content)
		got, err := decoder.DecodeAll(frame, nil)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: decoded to %d bytes, %v", n, len(got), err)
		}
		var header zstd.Header
		if err := header.Decode(frame); err != nil || !header.HasFCS || header.FrameContentSize != uint64(n) ||
			!header.SingleSegment || header.HasCheckSum {
			t.Errorf("%d bytes: header is %+v, %v", n, header, err)
		}
		if _, err := decoder.DecodeAll(frame[:len(frame)-1], nil); err == nil {
			t.Errorf("%d bytes: the frame decodes without its last byte", n)
		}
	}
}

// Catches: a read that begins or ends in a header or at the edge of a block, and differs from the frame.
func TestZstdRanges(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 5, 128 << 10, 300_000, 512 << 10} {
		content := make([]byte, n)
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		frame := frameOf(content)
		check := func(from, to int) {
			from, to = max(0, from), min(len(frame), to)
			if from >= to {
				return
			}
			p := make([]byte, to-from)
			if ZstdAt(p, int64(from), content); !bytes.Equal(p, frame[from:to]) {
				t.Fatalf("content of %d bytes: [%d, %d) of the frame differs", n, from, to)
			}
		}
		for edge := 0; edge < len(frame)+zstdBlockBytes; edge += zstdBlockBytes + zstdBlockHeaderBytes {
			for from := edge - 4; from < edge+16; from++ {
				for length := range 20 {
					check(from, from+length)
				}
				check(from, from+zstdBlockBytes)
				check(from, len(frame))
			}
		}
		for range 200 {
			from := random.IntN(len(frame))
			check(from, from+1+random.IntN(len(frame)))
		}
	}
}
