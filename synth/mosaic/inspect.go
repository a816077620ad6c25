package mosaic

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"net"
	"slices"
	"syscall"

	"github.com/tesserafs/tesserafs/synth/landmask"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/vfs"
)

// Fault is what is wrong with an object of a tile, or why it could not be looked at.
type Fault struct {
	Object string
	Err    error // without the object's name before it
	// Unseen: the source failed, and nothing is known of the object.
	Unseen bool
}

// Inspection is what the headers and the landmask of a tile say of it.
type Inspection struct {
	// Faults are those of the embeddings, then of the scales, then of the landmask; none where the
	// tile is right. What could only be told by holding an object against another that is wrong
	// itself is not among them. Under [Fill] a tile is served in spite of some.
	Faults []Fault

	// LandmaskBytes is the size of the landmask, -1 where there is none, which is no fault.
	LandmaskBytes int64

	tile   Tile
	loaded *loaded // nil where the headers are wrong
	mask   *landmask.Mask
}

// Inspect judges a tile as a read of its pixels would, by the same code, but goes on after the first
// fault, and keeps nothing: it asks for the arrays' headers and for the landmask. The error is that
// of a context that ended, or an internal one; all else is among the faults.
func (m *Mosaic) Inspect(ctx context.Context, t Tile) (in *Inspection, err error) {
	defer recoverAs(t.Embeddings, &err)
	in = &Inspection{tile: t, LandmaskBytes: -1}
	m.openTogether(ctx, t.Scales, t.Landmask)
	l, mask, first := m.headers(ctx, t)
	if first == nil {
		in.loaded, in.mask = l, mask
		first = l.fault
	} else {
		// Loading a tile ends with its first fault. The other objects are looked at each by itself,
		// the landmask against the footprint.
		l = &loaded{height: t.Height, width: t.Width}
		var about *objErr
		errors.As(first, &about)
		for _, look := range []struct {
			object string
			look   func() error
		}{
			{t.Embeddings, func() error { _, _, err := m.openArray(ctx, t.Embeddings, t.EmbeddingsBytes, "|i1"); return err }},
			{t.Scales, func() error { _, _, err := m.openArray(ctx, t.Scales, t.ScalesBytes, "<f4"); return err }},
			{t.Landmask, func() error { _, err := m.landmask(ctx, t, l); return cmp.Or(err, l.fault) }},
		} {
			if look.object != about.object {
				m.found(ctx, in, objectError(look.object, look.look()))
			}
		}
	}
	m.found(ctx, in, first)
	if l.landmask != nil {
		in.LandmaskBytes = l.landmask.Size
	}
	order := []string{t.Embeddings, t.Scales, t.Landmask}
	slices.SortStableFunc(in.Faults, func(a, b Fault) int {
		return cmp.Compare(slices.Index(order, a.Object), slices.Index(order, b.Object))
	})
	return in, ctx.Err()
}

// found adds a fault, unless there is none. The error says which object it is about.
func (m *Mosaic) found(ctx context.Context, in *Inspection, err error) {
	var about *objErr
	if errors.As(err, &about) {
		in.Faults = append(in.Faults, Fault{about.object, about.err, m.unseen(ctx, about.object, about.err)})
	}
}

// unseen tells whether an error of an object is the source's, and says nothing of the object. What
// is of no known kind is so if the object's first bytes cannot be read either.
func (m *Mosaic) unseen(ctx context.Context, name string, err error) bool {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) || errors.Is(err, source.ErrChanged) || errors.Is(err, vfs.ErrChanged) {
		return false
	}
	if isSourceFailure(err) {
		return true
	}
	o, err := m.objects.Open(ctx, name)
	if err != nil {
		return true
	}
	defer o.Release()
	return o.ReadAt(ctx, make([]byte, min(o.Info().Size, 128)), 0) != nil
}

// isSourceFailure tells whether an error is of a kind that comes from a network, a server or a disk,
// and not from what an object holds.
func isSourceFailure(err error) bool {
	var transient *source.Transient
	var network net.Error
	var path *fs.PathError
	var errno syscall.Errno
	return errors.Is(err, source.ErrUnavailable) || errors.Is(err, fs.ErrPermission) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &transient) || errors.As(err, &network) || errors.As(err, &path) || errors.As(err, &errno)
}

// ScaleCounts are the pixels of a tile by what their scales are.
type ScaleCounts struct {
	Data   int64
	NoData int64 // where the landmask is 0 as well

	// Odd are those of NoData whose scale is a finite number although there is land: 0, negative, or
	// 1 and more, such as the 3e4 of geotessera #355. Least and Most are the smallest and the
	// largest of those numbers.
	Odd         int64
	Least, Most float32
}

// CountScales reads all scales of a tile in which [Mosaic.Inspect] found no fault. Where it fails,
// the error is about the scales, and does not name them.
func (m *Mosaic) CountScales(ctx context.Context, in *Inspection) (c ScaleCounts, err error) {
	defer recoverAs(in.tile.Scales, &err)
	l := in.loaded
	if l == nil || l.fault != nil {
		return c, errors.New("scales are counted in tiles without faults only")
	}
	o, err := m.reopen(ctx, in.tile.Scales, l.scales.info)
	if err != nil {
		return c, err
	}
	defer o.Release()
	err = scaleRows(ctx, o, l.scales, l.width, 0, l.height, func(row int, scales []byte) {
		var land []byte
		if in.mask != nil {
			land = in.mask.Row(row)
		}
		c.addRow(scales, land)
	})
	if err == nil {
		err = o.Check(ctx)
	}
	var about *objErr
	if errors.As(err, &about) {
		err = about.err
	}
	if err != nil {
		return ScaleCounts{}, err
	}
	return c, nil
}

func (c *ScaleCounts) addRow(scales, land []byte) {
	const exponent = 0x7f800000 // all of it set: infinite or NaN
	data := int64(0)
	for i := range len(scales) / 4 {
		bits := binary.LittleEndian.Uint32(scales[4*i:])
		switch {
		case land != nil && land[i] == 0:
		case isData(bits) != 0:
			data++
		case bits&exponent != exponent:
			v := math.Float32frombits(bits)
			if c.Odd == 0 {
				c.Least, c.Most = v, v
			}
			c.Odd++
			c.Least, c.Most = min(c.Least, v), max(c.Most, v)
		}
	}
	c.Data += data
	c.NoData += int64(len(scales)/4) - data
}
