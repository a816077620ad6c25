package zarr

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rules are those of testdata/make_shards.py.
var rules = map[string]func(i int) bool{
	"all":        func(int) bool { return true },
	"one":        func(i int) bool { return i == 127 },
	"ends":       func(i int) bool { return i == 0 || i == 129 },
	"third_word": func(i int) bool { return i > 127 },
	"some":       func(i int) bool { return i*i%7 < 3 },
}

func bitsOf(n int, exists func(i int) bool) []uint64 {
	words := make([]uint64, (n+63)/64)
	for i := range n {
		if exists(i) {
			words[i/64] |= 1 << (i % 64)
		}
	}
	return words
}

// Catches: a shard that is not, byte for byte, zarr-python's: order, offsets, what stands for inner
// chunks that do not exist, checksum, size.
func TestShards(t *testing.T) {
	for name, exists := range rules {
		want, err := os.ReadFile(filepath.Join("testdata", "shards", name))
		if err != nil {
			t.Fatal(err)
		}
		s := NewShard(130, 4, bitsOf(130, exists))
		var got []byte
		for k := range s.Len() {
			v := int16(s.At(k) + 1)
			got = binary.LittleEndian.AppendUint16(got, uint16(v))
			got = binary.LittleEndian.AppendUint16(got, uint16(-v))
		}
		if int64(len(got)) != s.DataSize() || s.IndexSize() != 130*16+4 || s.Size() != int64(len(want)) {
			t.Errorf("%s: %d bytes of data, %d of index, %d together; zarr-python's has %d", name, s.DataSize(), s.IndexSize(), s.Size(), len(want))
		}
		if got = append(got, s.Index()...); !bytes.Equal(got, want) {
			t.Errorf("%s: %x\nzarr-python writes %x", name, got, want)
		}
	}
}

// Catches: an inner chunk found at another one's place.
func TestShardAt(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n, share := 1+random.IntN(300), random.Float64()
		share *= share
		words := bitsOf(n, func(int) bool { return random.Float64() < share })
		s := NewShard(n, 1, words)
		k := 0
		for i := range n {
			if words[i/64]>>(i%64)&1 != 0 {
				if got := s.At(k); got != i {
					t.Fatalf("%x: inner chunk %d is number %d, not %d", words, got, k, i)
				}
				k++
			}
		}
		if s.Len() != k {
			t.Fatalf("%x: %d exist, not %d", words, s.Len(), k)
		}
	}
}

// Catches: codecs that contradict their array.
func TestRefusedSharding(t *testing.T) {
	inner := func() Sharding { return Sharding{[]int{1, 2}, []Codec{Transpose{[]int{1, 0}}, Bytes{}}} }
	for want, change := range map[string]func(*Sharding){
		"":                          func(*Sharding) {},
		"do not divide":             func(c *Sharding) { c.ChunkShape = []int{1, 3} },
		"inner chunks: chunk shape": func(c *Sharding) { c.ChunkShape = []int{2} },
		"a dimension is too small":  func(c *Sharding) { c.ChunkShape = []int{1, 0} },
		"needs a codec":             func(c *Sharding) { c.Codecs = nil },
		"order [1 1]":               func(c *Sharding) { c.Codecs[0] = Transpose{[]int{1, 1}} },
		"order [0]":                 func(c *Sharding) { c.Codecs[0] = Transpose{[]int{0}} },
		"order []":                  func(c *Sharding) { c.Codecs[0] = Transpose{} },
		"order [0 2]":               func(c *Sharding) { c.Codecs[0] = Transpose{[]int{0, 2}} },
		"order [0 1 2]":             func(c *Sharding) { c.Codecs[0] = Transpose{[]int{0, 1, 2}} },
	} {
		c := inner()
		change(&c)
		a := Array{Shape: []int{4, 8}, ChunkShape: []int{2, 4}, DataType: "int8", FillValue: 0, Codecs: []Codec{c}}
		b, err := a.JSON()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %s, %v", want, b, err)
		}
	}
}
