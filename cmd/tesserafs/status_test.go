package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

// keysOf collects the keys of a document as paths: datasets.years.zones.
func keysOf(value any, path string, into map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			if path != "" {
				key = path + "." + key
			}
			into[key] = true
			keysOf(inner, key, into)
		}
	case []any:
		for _, inner := range v {
			keysOf(inner, path, into)
		}
	}
}

// What status.json says of every mount, and of those of archives that are elsewhere.
var (
	statusKeys = strings.Fields(`
		catalogue catalogue.failed catalogue.read catalogue.refreshed
		datasets datasets.bytes datasets.catalogue datasets.name datasets.tiles datasets.variant datasets.version
		datasets.years datasets.years.year datasets.years.zones
		failed_tiles
		mount mount.dir mount.door mount.door.bytes mount.door.failed mount.door.hot_bytes mount.door.hot_files mount.door.hot_opens
		mount.door.open_files mount.door.reads mount.metrics mount.options mount.options.allow_other mount.options.chunk_order
		mount.options.inner_chunk mount.options.memory mount.options.missing_tiles mount.options.refresh
		mount.options.scales_inner_chunk mount.options.verify mount.pid mount.source mount.version
		objects objects.ahead_bytes objects.ahead_bytes_used objects.bytes_fetched objects.bytes_read objects.disk_hits
		objects.dropped_writes objects.fetches objects.memory_bytes objects.memory_hits objects.memory_pages objects.mismatched objects.open_objects
		objects.opens objects.requests objects.source_pages objects.verified objects.waits objects.without_checksum
		reads reads.bytes reads.requests reads.tiles_loaded
		since warnings`)
	remoteStatusKeys = strings.Fields(`
		disk disk.bytes_kept disk.bytes_read disk.bytes_written disk.damaged_pages disk.evictions disk.hits disk.limit disk.misses
		disk.write_failures
		mount.options.cache mount.options.cache_size mount.options.max_requests mount.options.offline
		source source.breaker source.breaker.deaths source.breaker.since source.breaker.state source.bytes
		source.failures source.failures.changed source.failures.denied source.failures.missing source.failures.other
		source.failures.timeout source.failures.transient source.hedges source.hedges_won source.in_flight
		source.latency source.latency.buckets source.latency.buckets.count source.latency.buckets.le source.latency.count source.latency.sum
		source.requests source.retries source.unavailable source.waiting`)
)

// Catches keys of status.json that scripts know and that are gone or spelt otherwise, and sections of a remote
// archive where there is none.
func TestStatusKeys(t *testing.T) {
	g := startGateway(t)
	for name, tt := range map[string]struct {
		args []string
		keys []string
	}{
		"directory": {[]string{archive4.Dir}, statusKeys},
		"remote": {
			[]string{remoteArchive, "--endpoint-url", g.URL, "--max-requests", "7", "--cache-size", "1GiB"},
			slices.Concat(statusKeys, remoteStatusKeys),
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.measure(append(tt.args, "--cache", filepath.Join(p.home, "cache"))...)
			defer p.must("unmount", p.mnt)
			var document map[string]any
			if err := json.Unmarshal([]byte(p.must("status", "--json", p.mnt)), &document); err != nil {
				t.Fatal(err)
			}
			found := map[string]bool{}
			keysOf(document, "", found)
			got, want := slices.Sorted(maps.Keys(found)), slices.Sorted(slices.Values(tt.keys))
			for _, key := range got {
				if _, known := slices.BinarySearch(want, key); !known {
					t.Errorf("%s is new", key)
				}
				if !regexp.MustCompile(`^[a-z][a-z0-9_.]*$`).MatchString(key) {
					t.Errorf("%s is spelt as no key is", key)
				}
			}
			for _, key := range want {
				if !found[key] {
					t.Errorf("%s is missing", key)
				}
			}
			if data, err := os.ReadFile(filepath.Join(p.mnt, statusFile)); err != nil || len(data) > 1<<14 {
				t.Errorf("the file has %d bytes (%v)", len(data), err)
			}
			if name == "remote" {
				o := p.status().Mount.Options
				if o["cache"] != filepath.Join(p.home, "cache") || o["cache_size"] != float64(1<<30) || o["offline"] != false || o["max_requests"] != float64(7) {
					t.Errorf("options are %v", o)
				}
			}
		})
	}
}

// Catches a status for people that says a source is well that is not, or keeps to itself what is out of date
// or was not kept; lines about remote sources where there is none.
func TestPrintStatus(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ago := now.Add(-90 * time.Second)
	stamp := ago.Local().Format(time.DateTime) + " (1m30s)"
	remote := func(offline bool) synth.MountInfo {
		return synth.MountInfo{Options: map[string]any{"offline": offline, "cache": "/kept"}}
	}
	lines := []string{"source:", "requests:", "pages:", "cache:", "verified:", "listed:", "outdated:", "metrics:"}
	for name, tt := range map[string]struct {
		status synth.Status
		source *patient.Stats
		disk   *disk.Stats
		says   []string // and none of the other lines
	}{
		"directory": {synth.Status{}, nil, nil, nil},
		"well": {
			synth.Status{Mount: remote(false), Objects: tilecache.Stats{MemoryHits: 1000, Waits: 200, DiskHits: 30, SourcePages: 4, MemoryBytes: 1 << 20}},
			&patient.Stats{
				Requests: 4321, Bytes: 5 << 20, Retries: 6, Hedges: 7, Unavailable: 8,
				Breaker: patient.Breaker{State: "alive"}, Latency: patient.Histogram{Count: 4, Sum: 0.14},
			},
			&disk.Stats{BytesKept: 3 << 30, Limit: 10 << 30},
			[]string{
				"source:    answers, in 35ms on average", "requests:  4,321 (5 MiB), 6 of them again and 7 beside slow ones; 8 given up",
				"pages:     1,200 found in memory, 30 from disk, 4 from the source; 1 MiB in memory now", "cache:     3 GiB of 10 GiB in /kept\n",
			},
		},
		"dead": {
			synth.Status{Mount: remote(false)},
			&patient.Stats{Breaker: patient.Breaker{State: "dead", Since: ago, Why: "nothing answers\nthere"}, Latency: patient.Histogram{Count: 1, Sum: 1}}, nil,
			[]string{"source:    does not answer since " + stamp + ": nothing answers; there\n", "requests:  0 (0 B)", "pages:     0"},
		},
		"not asked yet": {
			synth.Status{Mount: remote(false)}, &patient.Stats{Breaker: patient.Breaker{State: "alive"}}, nil,
			[]string{"source:    was not asked for anything yet", "requests:  0", "pages:     0"},
		},
		"not reached": {synth.Status{Mount: remote(false)}, nil, nil, []string{"source:    was not reached yet", "pages:     0"}},
		"offline": {
			synth.Status{Mount: remote(true)}, nil, &disk.Stats{WriteFailures: 1, DamagedPages: 2},
			[]string{"source:    is not asked (--offline)", "pages:     0", "cache:     0 B of 0 B in /kept; 1 page could not be written; 2 pages found damaged, and dropped"},
		},
		"out of date": {
			synth.Status{
				Catalogue: synth.CatalogueStatus{Read: ago, Error: "the disk\nis away"},
				Datasets:  []synth.DatasetStatus{{Name: "v1"}, {Name: "v2", Stale: &synth.StaleStatus{Since: ago, Why: "no answer"}}},
			}, nil, nil,
			[]string{"listed:    " + stamp + "; cannot be read again: the disk; is away\n", "outdated:  v2 may be, since " + stamp + ": no answer\n"},
		},
		"checked": {
			synth.Status{
				Mount:   synth.MountInfo{Options: map[string]any{"verify": true}},
				Objects: tilecache.Stats{Verified: 12, Mismatched: 1, WithoutChecksum: 2},
			}, nil, nil, []string{"verified:  12 objects, 1 damaged, 2 without a checksum\n"},
		},
		"refreshed": {
			synth.Status{Mount: synth.MountInfo{Metrics: "http://127.0.0.1:1/metrics"}, Catalogue: synth.CatalogueStatus{Read: ago, Refreshed: 1}}, nil, nil,
			[]string{"listed:    " + stamp + "\n", "metrics:   http://127.0.0.1:1/metrics\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			// As it is read from the file.
			tt.status.Since = now
			raw, err := json.Marshal(struct {
				synth.Status
				Source *patient.Stats `json:"source,omitempty"`
				Disk   *disk.Stats    `json:"disk,omitempty"`
			}{tt.status, tt.source, tt.disk})
			if err != nil {
				t.Fatal(err)
			}
			s, err := parseStatus(raw)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			printStatus(&out, s, now)
			for _, line := range lines {
				says := slices.ContainsFunc(tt.says, func(s string) bool { return strings.HasPrefix(s, line) })
				if strings.Contains(out.String(), line) != says {
					t.Errorf("a line %q: %v, want %v", line, !says, says)
				}
			}
			for _, want := range tt.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q", want)
				}
			}
			if t.Failed() {
				t.Logf("\n%s", &out)
			}
		})
	}
}
