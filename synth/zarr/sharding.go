package zarr

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"slices"
)

// Transpose is the codec "transpose": dimension i of what is stored is dimension Order[i] of the array.
// https://zarr-specs.readthedocs.io/en/latest/v3/codecs/transpose/index.html
//
//	{"name": "transpose", "configuration": {"order": [0, 2, 3, 1]}}
type Transpose struct{ Order []int }

func (c Transpose) document(a Array) (Attributes, error) {
	sorted := slices.Sorted(slices.Values(c.Order))
	for i, dimension := range sorted {
		if i != dimension {
			sorted = nil
			break
		}
	}
	if len(sorted) != len(a.Shape) {
		return nil, fmt.Errorf("transpose order %v does not name each dimension of the shape %v once", c.Order, a.Shape)
	}
	return Attributes{{"name", "transpose"}, {"configuration", Attributes{{"order", c.Order}}}}, nil
}

// CRC32C is the codec "crc32c": the bytes, and after them their CRC-32C, least significant byte first.
// https://zarr-specs.readthedocs.io/en/latest/v3/codecs/crc32c/index.html
//
//	{"name": "crc32c"}
type CRC32C struct{}

func (CRC32C) document(Array) (Attributes, error) { return Attributes{{"name", "crc32c"}}, nil }

// Sharding is the codec "sharding_indexed": the chunks of an array are shards, and hold inner chunks of
// the shape ChunkShape, made by Codecs. The index is at the end of a shard, with a CRC-32C ([Shard]).
// https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
//
//	{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 256, 256], "codecs": […],
//	 "index_codecs": [{"name": "bytes", …}, {"name": "crc32c"}], "index_location": "end"}}
type Sharding struct {
	ChunkShape []int // each divides that of the array's chunk shape
	Codecs     []Codec
}

func (c Sharding) document(a Array) (Attributes, error) {
	inner := a
	inner.ChunkShape, inner.Codecs = c.ChunkShape, c.Codecs
	if err := inner.check(); err != nil {
		return nil, fmt.Errorf("inner chunks: %w", err)
	}
	for i, n := range c.ChunkShape {
		if a.ChunkShape[i]%n != 0 {
			return nil, fmt.Errorf("inner chunks of %v do not divide shards of %v", c.ChunkShape, a.ChunkShape)
		}
	}
	codecs, err := inner.codecs()
	if err != nil {
		return nil, fmt.Errorf("inner chunks: %w", err)
	}
	index, err := Array{DataType: "uint64", Codecs: []Codec{Bytes{}, CRC32C{}}}.codecs()
	if err != nil {
		return nil, fmt.Errorf("shard index: %w", err)
	}
	return Attributes{{"name", "sharding_indexed"}, {"configuration", Attributes{
		{"chunk_shape", c.ChunkShape}, {"codecs", codecs}, {"index_codecs", index}, {"index_location", "end"},
	}}}, nil
}

// Shard is where what lies in a shard of uncompressed inner chunks: those that exist one after another in
// C order, and then the index. All of it is arithmetic; a shard's size is known before any of its bytes.
//
//	inner chunk 3, inner chunk 7, …, index of all inner chunks, CRC-32C of the index
//
// A Shard never changes.
type Shard struct {
	inner  int      // inner chunks, existing or not
	bytes  int64    // of one that exists
	exists []uint64 // a bit an inner chunk
	before []int32  // by word of exists: how many exist before it; one more at the end
}

// Sizes of the index: an offset and a length for each inner chunk, and the CRC-32C.
const (
	indexEntryBytes = 16
	checksumBytes   = 4
)

// NewShard returns a shard of n inner chunks of so many bytes each, of which those exist that exists
// tells of: bit i%64 of word i/64 is inner chunk i. It keeps exists.
func NewShard(n int, innerBytes int64, exists []uint64) *Shard {
	s := &Shard{inner: n, bytes: innerBytes, exists: exists, before: make([]int32, len(exists)+1)}
	for i, word := range exists {
		s.before[i+1] = s.before[i] + int32(bits.OnesCount64(word))
	}
	return s
}

// Len is how many inner chunks exist.
func (s *Shard) Len() int { return int(s.before[len(s.exists)]) }

// DataSize is how many bytes the inner chunks have; the index begins there.
func (s *Shard) DataSize() int64 { return int64(s.Len()) * s.bytes }

// IndexSize is how many bytes the index has, its checksum among them.
func (s *Shard) IndexSize() int64 { return int64(s.inner)*indexEntryBytes + checksumBytes }

// Size is how many bytes the shard has.
func (s *Shard) Size() int64 { return s.DataSize() + s.IndexSize() }

// At returns the inner chunk that lies k-th in the shard, 0 <= k < Len.
func (s *Shard) At(k int) int {
	word, found := slices.BinarySearch(s.before, int32(k))
	if found { // words without an inner chunk have the same number before them as the next
		for s.exists[word] == 0 {
			word++
		}
	} else {
		word--
	}
	rest := s.exists[word]
	for range k - int(s.before[word]) {
		rest &= rest - 1
	}
	return word*64 + bits.TrailingZeros64(rest)
}

// Index returns the bytes of the index: for each inner chunk its offset and its length, both 2^64-1
// where it does not exist, and the CRC-32C of all that. Specification of the codec: "Binary shard
// format".
func (s *Shard) Index() []byte {
	index := make([]byte, 0, s.IndexSize())
	offset := uint64(0)
	for i := range s.inner {
		at, length := uint64(math.MaxUint64), uint64(math.MaxUint64)
		if s.exists[i/64]>>(i%64)&1 != 0 {
			at, length = offset, uint64(s.bytes)
			offset += length
		}
		index = binary.LittleEndian.AppendUint64(index, at)
		index = binary.LittleEndian.AppendUint64(index, length)
	}
	return binary.LittleEndian.AppendUint32(index, crc32.Checksum(index, castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
