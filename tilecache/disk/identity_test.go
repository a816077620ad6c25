package disk

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// Catches pages that overlap the index or each other.
func TestOffsets(t *testing.T) {
	for _, test := range []struct{ size, pages, offset int64 }{
		{0, 0, PageSize},
		{1, 1, PageSize},
		{PageSize, 1, PageSize},
		{PageSize + 1, 2, PageSize},
		{1792 * PageSize, 1792, PageSize}, // the index ends where the pages begin
		{1792*PageSize + 1, 1793, 2 * PageSize},
		{maxSize, 1 << 28, 1<<31 + PageSize},
	} {
		if pages, offset := pagesIn(test.size), pagesOffset(test.size); pages != test.pages || offset != test.offset {
			t.Errorf("%d bytes: %d pages from %d, want %d from %d", test.size, pages, offset, test.pages, test.offset)
		}
		if end := entryOffset(pagesIn(test.size)); end > pagesOffset(test.size) {
			t.Errorf("%d bytes: the index ends at %d, the pages begin at %d", test.size, end, pagesOffset(test.size))
		}
	}
}

// Catches headers that lose something, that are accepted damaged, and a format that changes without
// another name for its directory: pages of an older version would be misses, or worse.
func TestHeader(t *testing.T) {
	for _, st := range []state{
		{here, "a", infoOf(1 << 27)},
		{"", "", source.Info{}},
		{"\x00", "ä\xff", source.Info{Size: maxSize, ModTime: time.Unix(-1, 999_999_999), ETag: "\n"}},
	} {
		h := st.header()
		got, ok := parseHeader(h)
		if !ok || got.source != st.source || got.name != st.name || got.info.Size != st.info.Size ||
			!got.info.ModTime.Equal(st.info.ModTime) || got.info.ETag != st.info.ETag {
			t.Errorf("%+v comes back as %+v, %v", st, got, ok)
		}
		for i := range h {
			h[i] ^= 1
			if _, ok := parseHeader(h); ok {
				t.Errorf("byte %d of a header may be wrong", i)
			}
			h[i] ^= 1
		}
		if _, ok := parseHeader(h[:headerSize-1]); ok {
			t.Error("a short header is accepted")
		}
	}
	id, ok := (&state{here, "a", infoOf(1 << 27)}).identify()
	if !ok {
		t.Fatal("no identity")
	}
	begin, end := hex.EncodeToString(id.header[:81]), hex.EncodeToString(id.header[headerSize-32:])
	if want := "7465737365726166732070616765730a" + "00400000" + "0000000800000000" + "00f1536500000000" + "c0d45407" +
		"0f0001000a00" + hex.EncodeToString([]byte(here+"a"+`"5d41402a"`)) + "00000000000000000000"; begin != want[:len(begin)] {
		t.Errorf("header\n%s, want\n%s", begin, want)
	}
	p := bytes.Repeat([]byte{1}, PageSize)
	if got, want := [...]any{end, id.file, id.entry(0, p), id.entry(1, p), id.entry(1, p[:1])}, [...]any{
		"71daa4cb4fc4b5534b68e3a7d189773b5c6c90a57e2980573414541e1ac821a5", "1c61a01f628ca83e1b926a648bdc4746-a2c31f07a114d55235cd",
		uint64(0x39b0256006c93b41), uint64(0x3d1be4e2b5a38744), uint64(0xf7e09e060047a404),
	}; got != want {
		t.Errorf("%#v, want %#v", got, want)
	}
}
