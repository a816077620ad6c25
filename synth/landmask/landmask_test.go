package landmask

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"image"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/tiff"
)

// formula is what every golden holds (testdata/make_masks.py).
func formula(row, col int, values bool) byte {
	if (row*row+3*col*col)/97%5 >= 3 {
		return 0
	}
	if values {
		return byte(1 + col%7)
	}
	return 1
}

func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "masks", name+".tiff"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Catches: pixels that are not what rasterio reads from the same file, for every form of TIFF that
// is accepted; among them inverted ones, predictors of values above 1, and edges of inner tiles.
func TestGoldens(t *testing.T) {
	for name, size := range map[string][2]int{
		"published":                {300, 270},
		"published_small":          {83, 130},
		"published_all_land":       {300, 270},
		"published_one_tile":       {256, 256},
		"published_values":         {83, 130},
		"published_large":          {1137, 725},
		"bare":                     {83, 130},
		"strips":                   {83, 130},
		"lzw_strips":               {83, 130},
		"deflate":                  {83, 130},
		"deflate_predictor_values": {83, 130},
		"packbits":                 {83, 130},
		"bigendian_values":         {83, 130},
		"white_is_zero_values":     {83, 130},
		"bilevel":                  {83, 130},
		"bilevel_white_is_zero":    {83, 130},
		"one_pixel":                {1, 1},
	} {
		m, err := Decode(golden(t, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.Height != size[0] || m.Width != size[1] {
			t.Errorf("%s: %d×%d pixels, want %d×%d", name, m.Height, m.Width, size[0], size[1])
			continue
		}
		wrong := 0
		for row := range m.Height {
			for col, got := range m.Row(row) {
				want := formula(row, col, strings.HasSuffix(name, "_values"))
				switch name {
				case "published_all_land", "one_pixel":
					want = 1
				case "published_large":
					want = 0
					if row*row+col*col < 800*800 {
						want = 1
					}
				}
				if got != want {
					wrong++
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%s: %d pixels differ from what rasterio reads", name, wrong)
		}
	}
}

// Catches: what GDAL's writer happens to do taken for the format. This one is another's.
func TestOtherWriter(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 130, 83))
	for i := range img.Pix {
		img.Pix[i] = formula(i/130, i%130, true)
	}
	for _, o := range []*tiff.Options{nil, {Compression: tiff.Deflate}, {Compression: tiff.Deflate, Predictor: true}} {
		var b bytes.Buffer
		if err := tiff.Encode(&b, img, o); err != nil {
			t.Fatal(err)
		}
		m, err := Decode(b.Bytes())
		if err != nil || m.Height != 83 || m.Width != 130 || !bytes.Equal(m.Pix, img.Pix) {
			t.Errorf("%+v: %v, or another mask", o, err)
		}
	}
}

// Catches: a file that is no mask read as one, and errors that do not say what is wrong.
func TestRefused(t *testing.T) {
	for name, want := range map[string]string{
		"refused_16bit":   "16 bits",
		"refused_float32": "floating point",
		"refused_int8":    "signed",
		"refused_2bit":    "2 bits",
		"refused_2bands":  "2 bands",
		"refused_3bands":  "3 bands",
		"refused_bigtiff": "BigTIFF",
		"refused_zstd":    "ZSTD",
		"refused_ccitt":   "CCITT",
		"refused_palette": "palette",
		"refused_wide":    "1×16385 pixels",
		"refused_sparse":  "fewer pixels",
	} {
		m, err := Decode(golden(t, name))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", name, m, err, want)
		}
	}
	for name, data := range map[string][]byte{
		"empty": nil, "short": []byte("II*\x00"), "web page": []byte("<!DOCTYPE html><html>"), "PNG": []byte("\x89PNG\r\n\x1a\n"),
		"directory beyond the end": []byte("II*\x00\xff\xff\xff\xff"), "directory at the end": []byte("II*\x00\x08\x00\x00\x00\x05\x00"),
	} {
		if m, err := Decode(data); err == nil {
			t.Errorf("%s: read as a mask of %d×%d", name, m.Height, m.Width)
		}
	}
	if _, err := Decode(make([]byte, MaxBytes+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("64 MiB and one byte: %v", err)
	}
}

// Catches: a cut file that is filled up instead of failing, and io.EOF handed on from the library:
// callers take that for the end of a file read whole.
func TestTruncated(t *testing.T) {
	for _, name := range []string{"published", "bare", "packbits", "deflate", "bilevel"} {
		data := golden(t, name)
		want, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(data); n += 1 + len(data)/100 {
			m, err := Decode(data[:n])
			if err == nil && !bytes.Equal(m.Pix, want.Pix) {
				t.Fatalf("%s cut to %d of %d bytes: read as another mask", name, n, len(data))
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s cut to %d of %d bytes: %v", name, n, len(data), err)
			}
		}
	}
}

// Values of tags that tiffOf fills in, or leaves out.
const (
	dataOffset = math.MaxUint32
	drop       = math.MaxUint32 - 1
)

// tiffOf makes a TIFF of one directory of LONG tags and some data behind it.
func tiffOf(tags map[uint32]uint32, data []byte) []byte {
	b := []byte("II*\x00\x08\x00\x00\x00\x00\x00")
	maps.DeleteFunc(tags, func(_, value uint32) bool { return value == drop })
	b[8] = byte(len(tags))
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		value := tags[tag]
		if value == dataOffset {
			value = uint32(8 + 2 + 12*len(tags) + 4)
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(tag))
		b = binary.LittleEndian.AppendUint16(b, 4)
		b = binary.LittleEndian.AppendUint32(b, 1)
		b = binary.LittleEndian.AppendUint32(b, value)
	}
	return append(append(b, 0, 0, 0, 0), data...)
}

// Catches: memory or time spent by what a header claims, or by what a small compressed run expands
// to; and forms that a reader could take for another.
func TestHostile(t *testing.T) {
	zeros := bytes.Repeat([]byte{0x81, 0}, 1<<20) // PackBits: 128 MiB of zeros
	for _, c := range []struct {
		name string
		tags [][2]uint32 // those of 16×16 bytes in one strip, and these instead or besides
		data []byte
		want string // "": it is a mask
	}{
		{"plain", nil, make([]byte, 256), ""},
		{"2^32 pixels a side", [][2]uint32{{256, 1<<32 - 2}, {257, 1<<32 - 2}}, nil, "are read"},
		{"product beyond 32 bits", [][2]uint32{{256, 1 << 14}, {257, 1 << 18}}, nil, "are read"},
		{"too many pixels", [][2]uint32{{256, 4096}, {257, 4096}}, nil, "at most 4194304"},
		{"no pixels", [][2]uint32{{256, 0}}, nil, "16×0 pixels"},
		{"largest, no data", [][2]uint32{{256, 2048}, {257, 2048}}, nil, "fewer pixels"},
		{"bomb", [][2]uint32{{256, 2048}, {257, 2048}, {259, packBits}, {279, uint32(len(zeros))}}, zeros, ""},
		{"inner tiles of 2^31", [][2]uint32{{322, 1 << 31}, {323, 1 << 31}, {324, dataOffset}, {325, 8}}, nil, "inner tiles"},
		{"inner tiles of 16384×16384", [][2]uint32{{322, 16384}, {323, 16384}, {324, dataOffset}, {325, 8}}, nil, "at most 4194304"},
		{"inner tiles of one pixel", [][2]uint32{{322, 1}, {323, 1}, {324, dataOffset}, {325, 8}}, nil, "inner tiles"},
		{"inner tiles without height", [][2]uint32{{322, 16}, {324, dataOffset}, {325, 8}}, nil, "inner tiles"},
		{"fewer blocks than needed", [][2]uint32{{256, 17}, {322, 16}, {323, 16}, {324, dataOffset}, {325, 8}}, nil, "has 1 values, not 2"},
		{"strips of no rows", [][2]uint32{{278, 0}}, nil, "no rows"},
		{"strip beyond the end", [][2]uint32{{273, 1 << 31}}, nil, "truncated"},
		{"strip that wraps around", [][2]uint32{{273, 1<<32 - 8}, {279, 1<<32 - 1}}, nil, "truncated"},
		{"no strips", [][2]uint32{{273, drop}}, nil, "has 0 values, not 1"},
		{"three bands, one said to have bits", [][2]uint32{{277, 3}}, make([]byte, 256), "3 bands"},
		{"fill order", [][2]uint32{{266, 2}}, make([]byte, 256), "fill order 2"},
		{"differences, not compressed", [][2]uint32{{317, 2}}, make([]byte, 256), "predictor 2"},
		{"floating-point predictor", [][2]uint32{{259, lzwCoded}, {317, 3}}, make([]byte, 256), "predictor 3"},
		{"CIELab", [][2]uint32{{262, 8}}, make([]byte, 256), "photometric"},
		{"compression 12345", [][2]uint32{{259, 12345}}, make([]byte, 256), "12345"},
		{"LZW noise", [][2]uint32{{259, lzwCoded}, {279, 8}}, []byte("\xff\xff\xff\xff\xff\xff\xff\xff"), "block 1 of 1"},
		{"deflate noise", [][2]uint32{{259, deflated}, {279, 8}}, []byte("\xff\xff\xff\xff\xff\xff\xff\xff"), "block 1 of 1"},
		{"PackBits ends in a run", [][2]uint32{{259, packBits}, {279, 1}}, []byte{0x81}, "fewer pixels"},
		{"PackBits ends in a copy", [][2]uint32{{259, packBits}, {279, 3}}, []byte{5, 1, 1}, "fewer pixels"},
		{"PackBits of nothing", [][2]uint32{{259, packBits}, {279, 4}}, []byte{0x80, 0x80, 0x80, 0x80}, "fewer pixels"},
	} {
		tags := map[uint32]uint32{256: 16, 257: 16, 258: 8, 262: 1, 273: dataOffset, 279: uint32(max(8, min(256, len(c.data))))}
		for _, tag := range c.tags {
			tags[tag[0]] = tag[1]
		}
		data := c.data
		if data == nil {
			data = make([]byte, 8)
		}
		file := tiffOf(tags, data)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := Decode(file)
		runtime.ReadMemStats(&after)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, %v; want %q", c.name, m != nil, err, c.want)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 9<<20 {
			t.Errorf("%s: %d MiB allocated", c.name, used>>20)
		}
	}
}

// Catches: a deflated block whose bytes were changed, which only its checksum tells.
func TestChecksum(t *testing.T) {
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	w.Write(make([]byte, 256))
	w.Close()
	tags := map[uint32]uint32{256: 16, 257: 16, 258: 8, 259: deflated, 262: 1, 273: dataOffset, 279: uint32(packed.Len())}
	if _, err := Decode(tiffOf(tags, packed.Bytes())); err != nil {
		t.Error(err)
	}
	packed.Bytes()[packed.Len()-1] ^= 1
	if _, err := Decode(tiffOf(tags, packed.Bytes())); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("wrong checksum: %v", err)
	}
}

// Catches: panics, and masks that are not what they say they are.
// Run it with -fuzzminimizetime=1x: minimising inputs that are compressed otherwise takes all the time.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "masks", "*.tiff"))
	if err != nil || len(files) < 20 {
		f.Fatalf("%d goldens, %v; run testdata/make_masks.py", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(tiffOf(map[uint32]uint32{256: 16, 257: 16, 258: 8, 262: 0, 273: dataOffset, 279: 256}, make([]byte, 256)))
	f.Add(tiffOf(map[uint32]uint32{256: 9, 257: 9, 262: 1, 273: dataOffset, 279: 18}, make([]byte, 18)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("the end of a file is handed on: %v", err)
			}
			return
		}
		if m.Height < 1 || m.Width < 1 || len(m.Pix) != m.Height*m.Width || len(m.Pix) > MaxPixels {
			t.Fatalf("mask of %d×%d pixels has %d bytes", m.Height, m.Width, len(m.Pix))
		}
		if len(m.Row(m.Height-1)) != m.Width {
			t.Fatalf("last row has %d bytes, not %d", len(m.Row(m.Height-1)), m.Width)
		}
	})
}

// A published mask of the size of a tile in southern England: it is decoded on the first read of
// each tile.
func BenchmarkDecode(b *testing.B) {
	data := golden(b, "published_large")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
