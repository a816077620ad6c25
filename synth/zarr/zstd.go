package zarr

import "encoding/binary"

// Zstd is the codec "zstd": the bytes of a chunk as one frame of RFC 8878. The level is what an encoder
// would use; decoders do not look at it.
// https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/zstd
//
//	{"name": "zstd", "configuration": {"level": 0, "checksum": false}}
//
// The frames made here ([ZstdAt]) are not compressed: raw blocks, whose size follows from that of the
// content ([ZstdSize]) and which a decoder copies.
type Zstd struct{}

func (Zstd) document(Array) (Attributes, error) {
	return Attributes{{"name", "zstd"}, {"configuration", Attributes{{"level", 0}, {"checksum", false}}}}, nil
}

// Sizes of the parts of a frame, RFC 8878, 3.1.1.
const (
	zstdHeaderBytes      = 9 // magic number, descriptor, content size of four bytes
	zstdBlockHeaderBytes = 3
	zstdBlockBytes       = 128 << 10 // of content in a block, at most (3.1.1.2.4)
)

// ZstdSize is how many bytes a frame of so many bytes of content has. Content is below 4 GiB.
func ZstdSize(content int64) int64 {
	blocks := max(1, (content+zstdBlockBytes-1)/zstdBlockBytes)
	return zstdHeaderBytes + blocks*zstdBlockHeaderBytes + content
}

// ZstdAt fills p from offset off of the frame of a content. The range must lie inside the frame.
func ZstdAt(p []byte, off int64, content []byte) {
	// part takes from a part of the frame, which begins at the offset start, what p still wants of it.
	part := func(start int64, data []byte) {
		if skip := off - start; len(p) > 0 && skip < int64(len(data)) {
			n := copy(p, data[skip:])
			p, off = p[n:], off+int64(n)
		}
	}
	if off < zstdHeaderBytes {
		// Descriptor: a single segment, so the content is the window, and its size has four bytes.
		header := binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}, uint32(len(content)))
		part(0, header)
	}
	const step = zstdBlockHeaderBytes + zstdBlockBytes
	for block := max(0, off-zstdHeaderBytes) / step; len(p) > 0; block++ {
		data := content[block*zstdBlockBytes:]
		last := uint32(1)
		if len(data) > zstdBlockBytes {
			data, last = data[:zstdBlockBytes], 0
		}
		// A block header says whether it is the last, its type, which is 0 for raw, and its size.
		header := last | uint32(len(data))<<3
		start := zstdHeaderBytes + block*step
		part(start, []byte{byte(header), byte(header >> 8), byte(header >> 16)})
		part(start+zstdBlockHeaderBytes, data)
	}
}
