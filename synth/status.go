package synth

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/tesserafs/tesserafs/synth/mosaic"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/vfs"
)

// MountInfo is what status.json says of the mount; the front door's and the command's to fill in.
type MountInfo struct {
	Dir     string         `json:"dir"`
	Source  string         `json:"source"`
	Version string         `json:"version"`
	PID     int            `json:"pid"`
	Options map[string]any `json:"options,omitempty"`
	Metrics string         `json:"metrics,omitempty"` // the address of the metrics; "": none are served
	Door    any            `json:"door,omitempty"`    // counters of the front door

	// Counters of a source that is elsewhere, and of the pages that are kept of it on disk; nil: there is
	// none. The Status has them in sections of their own.
	SourceStats, DiskStats any `json:"-"`
}

// Status is the content of .tesserafs/status.json.
type Status struct {
	Mount     MountInfo       `json:"mount"`
	Since     time.Time       `json:"since"`
	Catalogue CatalogueStatus `json:"catalogue"`
	Datasets  []DatasetStatus `json:"datasets"`
	Reads     ReadStatus      `json:"reads"`
	Objects   tilecache.Stats `json:"objects"`
	Source    any             `json:"source,omitempty"` // MountInfo.SourceStats
	Disk      any             `json:"disk,omitempty"`   // MountInfo.DiskStats
	// FailedTiles lists every object that could not be read and why; Unlisted counts failures
	// beyond the first 10,000 objects.
	FailedTiles []mosaic.Entry `json:"failed_tiles"`
	Unlisted    int64          `json:"failed_tiles_unlisted,omitempty"`
	Warnings    []mosaic.Entry `json:"warnings"`
}

// DatasetStatus says what is shown of a dataset.
type DatasetStatus struct {
	Name    string       `json:"name"`
	Version string       `json:"version,omitempty"`
	Variant string       `json:"variant,omitempty"`
	From    string       `json:"catalogue"`
	Stale   *StaleStatus `json:"stale,omitempty"` // nil: the source was asked
	Tiles   int          `json:"tiles"`
	Bytes   int64        `json:"bytes"`
	Years   []YearZones  `json:"years"`
}

// StaleStatus says since when a list of tiles may be out of date, and why the source could not be asked.
type StaleStatus struct {
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
}

// YearZones are the zones of a year.
type YearZones struct {
	Year  int   `json:"year"`
	Zones []int `json:"zones"`
}

// ReadStatus counts what was read of pixels.
type ReadStatus struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
	Tiles    int64 `json:"tiles_loaded"`
}

// Status says what is shown, what was read, and what failed.
func (t *Tree) Status() Status {
	s := Status{
		Since:    t.past.since,
		Reads:    t.reads(),
		Objects:  t.cfg.Cache.Stats(),
		Warnings: t.pixels.Journal.Warnings(),
	}
	t.past.mu.Lock()
	s.Catalogue = t.past.catalogue
	t.past.mu.Unlock()
	s.FailedTiles, s.Unlisted = t.pixels.Journal.Failures()
	s.Mount.PID = os.Getpid()
	if t.cfg.Mount != nil {
		s.Mount = t.cfg.Mount()
	}
	s.Source, s.Disk = s.Mount.SourceStats, s.Mount.DiskStats
	s.Datasets = Describe(t.cfg.Catalogue)
	return s
}

// reads counts what was read of this tree and of those before it, by those who still have files of theirs
// open too.
func (t *Tree) reads() ReadStatus {
	n := &t.past.stats
	return ReadStatus{Requests: n.Reads.Load(), Bytes: n.Bytes.Load(), Tiles: n.TilesLoaded.Load()}
}

// Describe says what an archive holds.
func Describe(c *catalogue.Catalogue) []DatasetStatus {
	var out []DatasetStatus
	for _, ds := range c.Datasets {
		d := DatasetStatus{Name: ds.Name(), Version: ds.Version(), Variant: ds.Variant(), From: ds.Origin(), Tiles: ds.Len(), Bytes: ds.Bytes()}
		if since, why := ds.Stale(); why != "" {
			d.Stale = &StaleStatus{since, why}
		}
		for _, year := range ds.Years() {
			d.Years = append(d.Years, YearZones{year, ds.Zones(year)})
		}
		out = append(out, d)
	}
	return out
}

// statusFile is .tesserafs/status.json: whatever is true when it is opened.
type statusFile struct{ tree *Tree }

func (f *statusFile) json() []byte {
	// Marshal fails on no value of these types.
	data, err := json.MarshalIndent(f.tree.Status(), "", "  ")
	if err != nil {
		return []byte("{}\n")
	}
	return append(data, '\n')
}

func (f *statusFile) Attr() vfs.Attr {
	size := int64(len(f.json()))
	return vfs.Attr{Size: size, Stored: size, ModTime: time.Now(), Volatile: true}
}

func (f *statusFile) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(f.json()).ReadAt(p, off)
}
