package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"math"
	"os"
	"sync"

	"golang.org/x/image/tiff"

	"github.com/tesserafs/tesserafs/grid"
)

// npyHeader writes the header of NPY format 1.0 as numpy does: a dictionary padded with spaces to
// a multiple of 64 bytes.
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
func npyHeader(descr, shape string) []byte {
	const magic = "\x93NUMPY\x01\x00"
	dict := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape)
	used := len(magic) + 2 + len(dict) + 1
	pad := (64 - used%64) % 64
	b := []byte(magic)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(dict)+pad+1))
	b = append(b, dict...)
	b = append(b, bytes.Repeat([]byte{' '}, pad)...)
	return append(b, '\n')
}

func embeddingsHeader(f grid.Footprint) []byte {
	return npyHeader("|i1", fmt.Sprintf("(%d, %d, %d)", f.Height, f.Width, grid.Bands))
}

func scalesHeader(f grid.Footprint) []byte {
	return npyHeader("<f4", fmt.Sprintf("(%d, %d)", f.Height, f.Width))
}

func embeddingsBytes(f grid.Footprint) int64 {
	return int64(len(embeddingsHeader(f))) + int64(f.Height)*int64(f.Width)*grid.Bands
}

func scalesBytes(f grid.Footprint) int64 {
	return int64(len(scalesHeader(f))) + int64(f.Height)*int64(f.Width)*4
}

// origin is the lattice pixel of a tile's first pixel.
func origin(f grid.Footprint) (x, y int) {
	return int(math.Floor(f.Easting / grid.PixelMetres)), int(math.Floor(f.CanonicalNorthing() / grid.PixelMetres))
}

// writeTile writes embeddings and scales, a row at a time.
func writeTile(ctx context.Context, cfg Config, f grid.Footprint, year int) error {
	files := cfg.Files(f.Cell, year)
	mtime := modTime(f.Cell, year)
	write := func(path string, header []byte, rowBytes int, row func(buf []byte, l *landscape, x0, y int)) error {
		return writeFile(path, mtime, func(w *os.File) error {
			if _, err := w.Write(header); err != nil {
				return err
			}
			l := newLandscape(year, f.Width)
			buf := make([]byte, rowBytes)
			x0, y0 := origin(f)
			for r := range f.Height {
				if err := ctx.Err(); err != nil {
					return err
				}
				l.row(x0, y0-r)
				row(buf, l, x0, y0-r)
				if _, err := w.Write(buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if !written(files.Embeddings, embeddingsBytes(f), mtime) {
		t := tables()
		grain := mix(mix(seedGrain, cellKey(f.Cell)), uint64(year))
		err := write(files.Embeddings, embeddingsHeader(f), f.Width*grid.Bands, func(buf []byte, l *landscape, x0, y int) {
			t.embed(buf, l, grain, x0, y)
		})
		if err != nil {
			return err
		}
	}
	if written(files.Scales, scalesBytes(f), mtime) {
		return nil
	}
	patch := NaNPatch(f)
	_, y0 := origin(f)
	return write(files.Scales, scalesHeader(f), f.Width*4, func(buf []byte, l *landscape, x0, y int) {
		for i := range f.Width {
			s := scale(l, i, at(seedScale, x0+i, y))
			if (image.Point{X: i, Y: y0 - y}).In(patch) {
				s = float32(math.NaN())
			}
			binary.LittleEndian.PutUint32(buf[i*4:], math.Float32bits(s))
		}
	})
}

// scale is around 0.064, the median of the published ones, with the same few digits on every
// machine: a whole number over 1<<20.
func scale(l *landscape, i int, noise uint64) float32 {
	const median = 67109 // 0.064·2²⁰
	v := median + (int(l.tone[i])-levels/2)*180 + (int(l.shade[i])-levels/2)*60 + int(noise%4096) - 2048
	return float32(v) / (1 << 20)
}

// NaNPatch returns the columns (X) and rows (Y) of a tile that have no scale: an empty rectangle in
// two tiles of three.
func NaNPatch(f grid.Footprint) image.Rectangle {
	if (int(f.Cell.Lon)+18005)/10%3 != (int(f.Cell.Lat)+9005)/10%3 {
		return image.Rectangle{}
	}
	return image.Rect(5, 10, 60, 40).Intersect(image.Rect(0, 0, f.Width, f.Height))
}

// writeLandmask writes a tile's landmask: 0 for water, 1 for land.
func writeLandmask(ctx context.Context, cfg Config, f grid.Footprint) error {
	path := cfg.Files(f.Cell, 0).Landmask
	mtime := modTime(f.Cell, 0)
	if written(path, -1, mtime) {
		return nil
	}
	return writeFile(path, mtime, func(w *os.File) error {
		mask := image.NewGray(image.Rect(0, 0, f.Width, f.Height))
		l := newLandscape(0, f.Width)
		x0, y0 := origin(f)
		for r := range f.Height {
			if err := ctx.Err(); err != nil {
				return err
			}
			l.water(x0, y0-r)
			for i, c := range l.class {
				if c != water {
					mask.Pix[r*mask.Stride+i] = 1
				}
			}
		}
		return tiff.Encode(w, mask, &tiff.Options{Compression: tiff.Deflate})
	})
}

// words of eight bands each.
const words = grid.Bands / 8

// vector is a pixel's bands, eight to a word, the first in the lowest byte.
type vector [words]uint64

// paint holds what the bands of a pixel are summed from.
type paint struct {
	class       [classes]vector
	shade, tone [levels]vector
	grain       []uint64 // noise of ±6, read from anywhere
}

const grainWords = 1 << 14

// embed writes the bands of a row of pixels. No sum leaves the range of an int8: ±56 of the class,
// ±32 of the shade, ±24 of the tone and ±6 of the grain are ±118.
func (t *paint) embed(dst []byte, l *landscape, grain uint64, x0, y int) {
	for i := range l.class {
		c, s, o := &t.class[l.class[i]], &t.shade[l.shade[i]], &t.tone[l.tone[i]]
		n := at(grain, x0+i, y)
		g := (*vector)(t.grain[n%grainWords:])
		k := (*vector)(t.grain[n>>32%grainWords:])
		px := dst[i*grid.Bands:][:grid.Bands]
		for w := range words {
			v := addBytes(addBytes(c[w], s[w]), addBytes(o[w], addBytes(g[w], k[w])))
			binary.LittleEndian.PutUint64(px[w*8:], v)
		}
	}
}

// addBytes adds eight int8 at once, none of which carries into the next.
func addBytes(a, b uint64) uint64 {
	const low = 0x7f7f7f7f7f7f7f7f
	return (a&low + b&low) ^ ((a ^ b) &^ low)
}

// colours of the classes in bands 0, 1 and 2.
var colours = [classes][3]int{
	water: {40, 84, 120}, marsh: {92, 136, 124}, pasture: {140, 176, 92}, woodland: {36, 76, 44}, hedge: {64, 100, 56},
	moor: {140, 114, 110}, rock: {164, 156, 148}, snow: {240, 240, 236},
	crops: {222, 196, 104}, crops + 1: {170, 190, 84}, crops + 2: {184, 154, 104}, crops + 3: {100, 148, 76}, crops + 4: {234, 224, 180}, crops + 5: {146, 118, 86},
}

// tables computes what pixels are painted with, once.
var tables = sync.OnceValue(func() *paint {
	t := &paint{grain: make([]uint64, grainWords+words)}
	spread := func(n uint64, width int) int { return int(n%uint64(2*width+1)) - width }
	for b := range grid.Bands {
		put := func(v *vector, value int) { v[b/8] |= uint64(uint8(int8(value))) << (b % 8 * 8) }
		for c := range classes {
			value := spread(at(seedTables, int(c), b), 56)
			if b < 3 {
				value = (colours[c][b] - 128) * 56 / 128
			}
			put(&t.class[c], value)
		}
		shade, tone := spread(at(seedTables, 100, b), 32), spread(at(seedTables, 101, b), 24)
		if b < 3 {
			shade, tone = 28, [3]int{-12, 4, -8}[b]
		}
		for n := range levels {
			put(&t.shade[n], (n-levels/2)*shade/(levels/2))
			put(&t.tone[n], (n-levels/2)*tone/(levels/2))
		}
	}
	for i := range t.grain {
		for b := range 8 {
			t.grain[i] |= uint64(uint8(int8(spread(at(seedGrain, i, b), 3)))) << (b * 8)
		}
	}
	return t
})
