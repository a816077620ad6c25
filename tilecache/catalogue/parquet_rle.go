package catalogue

import (
	"encoding/binary"
	"math"
)

// hybrid is the encoding of levels and dictionary indices: runs of one value, and runs of values
// packed in width bits each, at most 32.
type hybrid struct {
	data  []byte
	width uint

	repeat int // values left of a run of one value
	value  uint32

	packed []byte
	bit    uint // of the next packed value
	count  int  // packed values left
}

// run finds the next run that is not empty.
func (h *hybrid) run() error {
	for h.repeat == 0 && h.count == 0 {
		head, n := binary.Uvarint(h.data)
		if n <= 0 {
			return errShort
		}
		h.data = h.data[n:]
		length := head >> 1
		if head&1 == 0 {
			bytes := int(h.width+7) / 8
			if len(h.data) < bytes {
				return errShort
			}
			var le [4]byte
			copy(le[:], h.data[:bytes])
			h.value = binary.LittleEndian.Uint32(le[:])
			h.data = h.data[bytes:]
			h.repeat = int(min(length, math.MaxInt32))
			continue
		}
		if length > math.MaxInt32/8 {
			return errShort
		}
		// Groups of eight values; some writers cut the padding of the last.
		bytes := min(int(length)*int(h.width), len(h.data))
		h.packed, h.bit, h.count = h.data[:bytes], 0, int(length)*8
		if h.width > 0 {
			h.count = min(h.count, bytes*8/int(h.width))
			if h.count == 0 && length > 0 {
				return errShort
			}
		}
		h.data = h.data[bytes:]
	}
	return nil
}

// skip passes over n values if they are all v and lie in one run, as nearly all levels do.
func (h *hybrid) skip(n int, v uint32) (bool, error) {
	if err := h.run(); err != nil {
		return false, err
	}
	if h.repeat < n || h.value != v {
		return false, nil
	}
	h.repeat -= n
	return true, nil
}

// read reads the next len(dst) values.
func (h *hybrid) read(dst []uint32) error {
	for len(dst) > 0 {
		if err := h.run(); err != nil {
			return err
		}
		if h.repeat > 0 {
			n := min(len(dst), h.repeat)
			for i := range dst[:n] {
				dst[i] = h.value
			}
			h.repeat -= n
			dst = dst[n:]
			continue
		}
		n := min(len(dst), h.count)
		h.unpack(dst[:n])
		h.count -= n
		dst = dst[n:]
	}
	return nil
}

func (h *hybrid) unpack(dst []uint32) {
	mask := uint64(1)<<h.width - 1
	for i := range dst {
		at := int(h.bit / 8)
		var word uint64
		if at+8 <= len(h.packed) {
			word = binary.LittleEndian.Uint64(h.packed[at:])
		} else {
			var le [8]byte
			copy(le[:], h.packed[min(at, len(h.packed)):])
			word = binary.LittleEndian.Uint64(le[:])
		}
		dst[i] = uint32(word >> (h.bit % 8) & mask)
		h.bit += h.width
	}
}
