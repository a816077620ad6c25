package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/vfs"
)

// Level says how bad a finding is.
type Level string

const (
	Wrong   Level = "wrong"   // reads of the tile fail, or would give other data than was published
	Unseen  Level = "unseen"  // the source failed: nothing is known
	Warning Level = "warning" // served as it is; somebody should know
	Note    Level = "note"    // nothing to do
)

// Kind says what a finding is about.
type Kind string

const (
	Missing     Kind = "missing"     // the object is not there
	Size        Kind = "size"        // it has another size than the manifest or registry says
	Array       Kind = "array"       // NPY: header, dtype, order, shape, or its length against the header
	Landmask    Kind = "landmask"    // it cannot be decoded, or does not fit the array
	Changed     Kind = "changed"     // it was replaced while it was looked at
	SHA256      Kind = "sha256"      // its bytes are not those of the manifest's sum
	CRC64NVME   Kind = "crc64nvme"   // its bytes are not those of the source's checksum
	Scales      Kind = "scales"      // finite numbers that are no data
	Unavailable Kind = "unavailable" // the source failed
)

// Finding is one thing that was found out about an object of a tile.
type Finding struct {
	Level   Level  `json:"level"`
	Kind    Kind   `json:"kind"`
	Dataset string `json:"dataset"`
	Year    int    `json:"year"`
	Tile    string `json:"tile"`   // "grid_-0.05_52.15"
	Object  string `json:"object"` // its name in the source
	What    string `json:"what"`
	Do      string `json:"do"` // what the reader may do about it
}

// Result is what was found out about a tile.
type Result struct {
	Tile     catalogue.Tile
	Findings []Finding // in the order embeddings, scales, landmask

	// With Config.Full: pixels by what their scales are, of a tile without faults, and how many
	// objects were held against a checksum, whether they passed or not.
	Data, NoData, Odd int64
	SHA256, CRC64NVME int
}

// has tells whether there is a finding of a level.
func (r *Result) has(l Level) bool {
	for _, f := range r.Findings {
		if f.Level == l {
			return true
		}
	}
	return false
}

// Summary adds up results. A tile counts as wrong, or else as unseen, or else as right.
type Summary struct {
	Tiles  int `json:"tiles"` // that were looked at
	Right  int `json:"right"`
	Wrong  int `json:"wrong"`
	Unseen int `json:"unseen"`

	Warnings int `json:"warnings"` // findings, not tiles
	Notes    int `json:"notes"`

	Data      int64 `json:"data_pixels"`
	NoData    int64 `json:"nodata_pixels"`
	Odd       int64 `json:"odd_pixels"` // of those without data: finite scales over land
	SHA256    int   `json:"sha256_checked"`
	CRC64NVME int   `json:"crc64nvme_checked"`
}

// Add counts a result.
func (s *Summary) Add(r Result) {
	one := Summary{Tiles: 1, Data: r.Data, NoData: r.NoData, Odd: r.Odd, SHA256: r.SHA256, CRC64NVME: r.CRC64NVME}
	switch {
	case r.has(Wrong):
		one.Wrong = 1
	case r.has(Unseen):
		one.Unseen = 1
	default:
		one.Right = 1
	}
	for _, f := range r.Findings {
		switch f.Level {
		case Warning:
			one.Warnings++
		case Note:
			one.Notes++
		}
	}
	s.Merge(one)
}

// Merge adds another summary.
func (s *Summary) Merge(o Summary) {
	s.Tiles += o.Tiles
	s.Right += o.Right
	s.Wrong += o.Wrong
	s.Unseen += o.Unseen
	s.Warnings += o.Warnings
	s.Notes += o.Notes
	s.Data += o.Data
	s.NoData += o.NoData
	s.Odd += o.Odd
	s.SHA256 += o.SHA256
	s.CRC64NVME += o.CRC64NVME
}

const (
	doCopy    = "copy it again, or take the tile out of the archive"
	doReplace = "copy it again; if it was replaced on purpose, write the manifest or registry anew"
	doMask    = "copy it from where it is published"
	doAgain   = "look again when the source answers"
	doStill   = "look again when nobody writes to the archive"
	doAllow   = "give this user the right to read it"
	doOrigin  = "copy it again; if it is the same where it is published, report it there"
)

// judged makes a finding of a fault that the mosaic found; kind is what it is if nothing more is known.
func judged(kind Kind, fault mosaic.Fault) Finding {
	f := Finding{Level: Wrong, Kind: kind, What: fault.Err.Error(), Do: doCopy}
	switch err := fault.Err; {
	case fault.Unseen, errors.Is(err, source.ErrChanged):
		return unread(err)
	case errors.Is(err, fs.ErrNotExist):
		f.Kind, f.What = Missing, "is not there"
	case errors.Is(err, vfs.ErrChanged):
		f.Kind, f.Do = Size, doReplace
		f.What = strings.TrimPrefix(f.What, vfs.ErrChanged.Error()+": ")
	}
	return f
}

// unread makes a finding of an error that was met while reading an object that had been found right.
func unread(err error) Finding {
	f := Finding{Level: Unseen, Kind: Unavailable, What: err.Error(), Do: doAgain}
	switch {
	case errors.Is(err, source.ErrChanged), errors.Is(err, vfs.ErrChanged), errors.Is(err, fs.ErrNotExist):
		f.Level, f.Kind, f.Do = Wrong, Changed, doStill
	case errors.Is(err, fs.ErrPermission):
		f.Do = doAllow
	}
	return f
}

// oddScales words the note about scales.
func oddScales(n int64, least, most float32) Finding {
	span := fmt.Sprintf("from %g to %g", least, most)
	if least == most {
		span = fmt.Sprintf("%g", least)
	}
	return Finding{Level: Note, Kind: Scales, Do: "nothing: they are shown as nodata",
		What: fmt.Sprintf("%d of its values over land are finite but not between 0 and 1 (%s)", n, span)}
}
