// Package landmask reads the landmask of a tile: a small TIFF that says where there is land.
//
// # Objective
//
// The published form is one band of bytes, LZW with the horizontal predictor, in inner tiles of
// 256×256, 0 for water and 1 for land. Whatever else a TIFF library writes for a single band of
// bytes or bits is read as well: strips, deflate, PackBits, uncompressed, either byte order.
//
// # The way of a mask
//
// [Decode] reads the first directory of the file (directory.go), holds it against what a mask is
// and against the limits, and unpacks one block after another, a block being a strip or an inner
// tile (blocks.go).
//
// # Decisions
//
//   - LZW and deflate are golang.org/x/image/tiff/lzw and compress/zlib. The directory and the
//     blocks are read here and not by golang.org/x/image/tiff, which goes through a mask pixel by
//     pixel (20 ms instead of 5 for a tile of 1137×725, on the first read of each tile), reserves
//     eight bytes a pixel, and makes a picture of the numbers.
//   - What short blocks expand to is kept (4 MB at most, for the whole process): a block that is all
//     land has the same few hundred bytes in every mask. A mask of such blocks takes 0.2 ms
//     instead of 5.
//   - A mask is numbers, not a picture: a pixel is the value that stands in the file, whatever
//     the photometric interpretation says of black and white. That is what rasterio reads.
//   - Anything that is not one band of 8 or 1 bits is refused, by name: more bands, 16 bits,
//     floats, signed numbers, palettes, BigTIFF, other compressions. Reading such a file as a
//     mask could only be a guess. So is a sparse file, whose missing blocks GDAL fills.
//   - Of a file with several images the first counts, as for GDAL. Georeference and nodata value
//     are not looked at: the tile's cell says where it lies, and 0 is water.
//
// # Guarantees
//
// Decode returns every pixel or an error, and no input makes it panic. Sizes are held against
// limits before anything is allocated: a mask costs its pixels and one block, at most 8 MB
// together, whatever the file claims.
package landmask

import "fmt"

// Limits of what Decode reads. The largest tile has about 1,120 pixels a side.
const (
	MaxBytes  = 64 << 20 // of the file
	MaxSide   = 16384    // pixels of a row or column, of the mask or of an inner tile
	MaxPixels = 4 << 20  // of the mask, the padding of its inner tiles included
)

// Mask is a landmask, one byte a pixel, rows from north to south: 0 is water, all else land.
type Mask struct {
	Height, Width int
	Pix           []byte // Height × Width
}

// Row is row r of the mask, 0 <= r < Height: Width bytes, not to be written to.
func (m *Mask) Row(r int) []byte {
	return m.Pix[r*m.Width : (r+1)*m.Width]
}

// Decode reads a mask from the bytes of a TIFF.
func Decode(data []byte) (mask *Mask, err error) {
	// LZW and deflate are other people's code, and the bytes come from anywhere.
	defer func() {
		if r := recover(); r != nil {
			mask, err = nil, fmt.Errorf("landmask: the decoder failed: %v", r)
		}
	}()
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("landmask: %d bytes; at most %d are read", len(data), MaxBytes)
	}
	dir, err := readDirectory(data)
	if err != nil {
		return nil, fmt.Errorf("landmask: %w", err)
	}
	ras, err := dir.raster()
	if err != nil {
		return nil, fmt.Errorf("landmask: %w", err)
	}
	mask = &Mask{Height: ras.height, Width: ras.width, Pix: make([]byte, ras.height*ras.width)}
	if err := ras.unpack(data, mask); err != nil {
		return nil, fmt.Errorf("landmask: %w", err)
	}
	return mask, nil
}
