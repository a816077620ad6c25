package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io/fs"

	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

// stripBytes is how much of an object is read at once.
const stripBytes = 4 << 20

// look finds out about a tile. The error is that of a context that ended, or an internal one.
func (a *Auditor) look(ctx context.Context, t task) (Result, error) {
	r := Result{Tile: t.tile}
	tile := mosaic.Tile{EmbeddingsBytes: t.tile.Embeddings, ScalesBytes: t.tile.Scales, Height: t.footprint.Height, Width: t.footprint.Width}
	tile.Embeddings, tile.Scales, tile.Landmask = t.dataset.Objects(t.tile.Year, t.tile.Cell)
	note := func(object string, f Finding) {
		f.Dataset, f.Year, f.Tile, f.Object = t.dataset.Name(), t.tile.Year, t.tile.Cell.String(), object
		r.Findings = append(r.Findings, f)
	}
	in, err := a.pixels.Inspect(ctx, tile)
	if err != nil {
		return Result{}, err
	}
	faulty := make(map[string]bool)
	for _, f := range in.Faults {
		kind := Array
		if f.Object == tile.Landmask {
			kind = Landmask
		}
		faulty[f.Object] = true
		note(f.Object, judged(kind, f))
	}
	if !faulty[tile.Landmask] {
		if f, ok := a.landmask(t, in.LandmaskBytes); ok {
			faulty[tile.Landmask] = f.Level == Wrong
			note(tile.Landmask, f)
		}
	}
	if !a.Full {
		return r, nil
	}
	for _, whole := range []struct {
		object string
		sum    []byte
	}{{tile.Embeddings, t.sums.Embeddings}, {tile.Scales, t.sums.Scales}, {tile.Landmask, nil}} {
		if faulty[whole.object] || whole.object == tile.Landmask && in.LandmaskBytes < 0 {
			continue // the finding there is will do
		}
		found, err := a.digest(ctx, &r, whole.object, whole.sum)
		if err != nil {
			return Result{}, err
		}
		for _, f := range found {
			note(whole.object, f)
		}
	}
	if len(in.Faults) == 0 {
		counts, err := a.pixels.CountScales(ctx, in)
		switch {
		case ctx.Err() != nil:
			return Result{}, ctx.Err()
		case err != nil:
			note(tile.Scales, unread(err))
		default:
			r.Data, r.NoData, r.Odd = counts.Data, counts.NoData, counts.Odd
			if counts.Odd > 0 {
				note(tile.Scales, oddScales(counts.Odd, counts.Least, counts.Most))
			}
		}
	}
	return r, nil
}

// landmask holds a landmask, which is right as far as can be seen, against the registry.
func (a *Auditor) landmask(t task, size int64) (Finding, bool) {
	listed, known := t.dataset.LandmaskSize(t.tile.Cell)
	promised := known && listed > 0 && t.dataset.LandmaskRegistry()
	switch {
	case size < 0 && promised:
		return Finding{Level: Wrong, Kind: Missing, Do: doMask,
			What: fmt.Sprintf("is not there, the landmask registry says that it has %d bytes: the whole tile counts as land", listed)}, true
	case size < 0:
		return Finding{Level: Warning, Kind: Missing, Do: doMask + ", if it is", What: "is not there: the whole tile counts as land"}, true
	case promised && size != listed:
		return Finding{Level: Wrong, Kind: Size, Do: doReplace, What: fmt.Sprintf("it has %d bytes, the landmask registry says %d", size, listed)}, true
	}
	return Finding{}, false
}

// digest reads an object whole, if there is a checksum of it, and holds it against that. The error is
// that of a context that ended.
func (a *Auditor) digest(ctx context.Context, r *Result, object string, sum []byte) (found []Finding, err error) {
	defer func() {
		if ctx.Err() != nil {
			found, err = nil, ctx.Err()
		}
	}()
	var want uint64
	var given bool
	if c, ok := a.Source.(source.Checksummer); ok {
		want, given, err = c.Checksum(ctx, object)
		// Who may read an object need not be allowed to ask for its checksum.
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errors.ErrUnsupported) {
			found = append(found, unread(err))
		}
		given = given && err == nil
	}
	var hashes []hash.Hash
	sha, crc := sha256.New(), crc64.New(tilecache.CRC64NVME)
	if sum != nil {
		hashes = append(hashes, sha)
	}
	if given {
		hashes = append(hashes, crc)
	}
	if len(hashes) == 0 {
		return found, nil
	}
	if err := a.readAll(ctx, object, hashes); err != nil {
		return append(found, unread(err)), nil
	}
	if sum != nil {
		r.SHA256++
		if got := sha.Sum(nil); string(got) != string(sum) {
			found = append(found, Finding{Level: Wrong, Kind: SHA256, Do: doOrigin, What: fmt.Sprintf("its SHA-256 is %x, the manifest says %x", got, sum)})
		}
	}
	if given {
		r.CRC64NVME++
		if got := crc.Sum64(); got != want {
			found = append(found, Finding{Level: Wrong, Kind: CRC64NVME, Do: doOrigin, What: fmt.Sprintf("its CRC64NVME is %016x, the source says %016x", got, want)})
		}
	}
	return found, nil
}

// readAll gives all bytes of an object to hashes.
func (a *Auditor) readAll(ctx context.Context, object string, hashes []hash.Hash) error {
	o, err := a.Objects.Open(ctx, object)
	if err != nil {
		return err
	}
	defer o.Release()
	strip := a.strips.Get().(*[]byte)
	defer a.strips.Put(strip)
	for off, size := int64(0), o.Info().Size; off < size; {
		part := (*strip)[:min(stripBytes, size-off)]
		if err := o.ReadAt(ctx, part, off); err != nil {
			return err
		}
		for _, h := range hashes {
			h.Write(part) // of hashes it never fails
		}
		off += int64(len(part))
	}
	return o.Check(ctx)
}
