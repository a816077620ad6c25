// Package faults_test puts the whole of tesserafs together as 'tesserafs mount s3://…' does, and breaks
// what it stands on while clients read.
//
// # The way of a read
//
//	clients: plain files on a FUSE mount, eight readers at once
//	  -> vfs/fusefs -> synth -> tilecache, in memory and on disk -> source/patient -> source/s3 or https
//	  -> line       toxiproxy: delays, narrow bandwidth, resets, connections that end, silence
//	  -> bender     a small HTTP proxy: what takes knowing HTTP
//	  -> versitygw  a real S3 server, which can be killed
//
// # What every test holds
//
//   - A read returns the right bytes, all of them, or one of the errors the fault allows, within the time
//     the test says. Right is what the same tree gives over the same archive in a directory of this
//     machine, byte for byte: so nothing is ever filled.
//   - What a failed read has returned before it failed is right as well.
//   - Opening never fails, for some clients take that for a chunk that does not exist, and fill it.
//   - When the fault is over, everything reads right again.
//   - When all is closed, goroutines, memory and file descriptors are back where they were, and nothing is
//     mounted.
//
// TestSoak does all of it in random order, for as long as TESSERAFS_SOAK says ('make soak').
package faults_test

import (
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

// quick is the patience of most tests: all times are shorter than a mount's own, and their order is the
// same.
var quick = patient.Config{
	FirstByte: 2 * time.Second, Stall: time.Second, Patience: 10 * time.Second,
	Backoff: 20 * time.Millisecond, MaxBackoff: 500 * time.Millisecond,
	DeadAfter: 4 * time.Second, Probe: 200 * time.Millisecond, InFlight: 32,
}

// with is quick, but for what a test needs otherwise.
func with(change func(*patient.Config)) patient.Config {
	cfg := quick
	change(&cfg)
	return cfg
}

// networkFaults are faults that stay as they are while clients read.
var networkFaults = []struct {
	name     string
	patience patient.Config
	toxics   []toxic
	bend     bend
	reads    time.Duration // how long clients read under it
	within   time.Duration // how long each read may take
	allowed  []unix.Errno  // what reads may fail with; none: patience gets them all through
	always   bool          // every read that asks the source fails
	bucket   string        // "" the one with ETags
	refresh  bool          // what is wrong stays so until the archive is read again
}{
	// Catches: a harness that finds faults of its own.
	{name: "none", patience: quick, reads: time.Second, within: 5 * time.Second},

	// Catches: requests that wait for each other, so that delays add up to more than a reader bears.
	{name: "latency of 50 to 500 ms", patience: quick, reads: 4 * time.Second, within: 10 * time.Second,
		toxics: []toxic{{Type: "latency", Attributes: attributes{"latency": 275, "jitter": 225}}}},

	// Catches: what is slow and comes steadily, cut off and asked for again, and again.
	{name: "1 MB/s a connection", patience: with(func(c *patient.Config) { c.InFlight = 8 }), reads: 4 * time.Second, within: 10 * time.Second,
		toxics: []toxic{{Type: "bandwidth", Attributes: attributes{"rate": 1000}}}},

	// Catches: a connection's end taken for the source's, or for the end of what it sent.
	{name: "resets", patience: quick, reads: 3 * time.Second, within: 10 * time.Second, bend: closing,
		toxics: []toxic{{Type: "reset_peer", Toxicity: 0.3}}},

	// Catches: what lies behind a connection's end, filled with what the buffer had.
	{name: "connections that end after 300 kB", patience: quick, reads: 3 * time.Second, within: 10 * time.Second,
		toxics: []toxic{{Type: "limit_data", Attributes: attributes{"bytes": 300_000}}}},
	{name: "truncated bodies", patience: quick, reads: 3 * time.Second, within: 10 * time.Second,
		bend: sometimes(0.2, truncated)},

	// Catches: a busy server whose word is the reader's error.
	{name: "10 % 503", patience: quick, reads: 3 * time.Second, within: 10 * time.Second,
		bend: sometimes(0.1, refusing(http.StatusServiceUnavailable, ""))},
	// Catches: a server that asks to be left alone for longer than there is patience, and is waited for.
	{name: "429 with Retry-After of a minute", patience: quick, reads: 2 * time.Second, within: 10 * time.Second,
		bend: sometimes(0.2, refusing(http.StatusTooManyRequests, "60")), allowed: []unix.Errno{unix.EIO}},

	// Catches: a body that is waited for to its end, though nothing comes.
	{name: "stalls of 5 s in bodies", patience: quick, reads: 4 * time.Second, within: 15 * time.Second,
		bend: sometimes(0.05, stalled(5*time.Second))},
	{name: "stalls of 5 s before answers", patience: quick, reads: 4 * time.Second, within: 15 * time.Second,
		bend: sometimes(0.05, silent(5*time.Second))},

	// Catches: bytes of another place, or of another object, given as those that were asked for.
	{name: "a wrong Content-Range", patience: quick, reads: 2 * time.Second, within: 5 * time.Second,
		bend: sometimes(0.2, shifted), allowed: []unix.Errno{unix.EIO}},
	{name: "another range than was asked for", patience: quick, reads: 2 * time.Second, within: 5 * time.Second,
		bend: sometimes(0.2, elsewhere), allowed: []unix.Errno{unix.EIO}},
	{name: "another size in Content-Range", patience: quick, reads: 2 * time.Second, within: 5 * time.Second,
		bend: sometimes(0.2, grown), allowed: []unix.Errno{unix.ESTALE, unix.EIO}, refresh: true},

	// Catches: the beginning of an object given as what was asked for of its middle.
	{name: "200 to ranges", patience: quick, reads: 2 * time.Second, within: 5 * time.Second,
		bend: whole, allowed: []unix.Errno{unix.EIO}, always: true},
	{name: "200 to some ranges", patience: quick, reads: 2 * time.Second, within: 5 * time.Second,
		bend: sometimes(0.2, whole), allowed: []unix.Errno{unix.EIO}},

	// Catches: a tile that is there, taken for one that is not, and filled.
	{name: "404 for arrays", patience: quick, reads: 2 * time.Second, within: 5 * time.Second,
		bend: arrays(sometimes(0.3, refusing(http.StatusNotFound, ""))), allowed: []unix.Errno{unix.EIO, unix.ESTALE}},
	{name: "403", patience: quick, reads: 2 * time.Second, within: 5 * time.Second,
		bend: sometimes(0.3, refusing(http.StatusForbidden, "")), allowed: []unix.Errno{unix.EIO}},
}

// Catches: see each fault.
func TestNetworkFaults(t *testing.T) {
	w := newWorld(t)
	var tests []test
	for _, f := range networkFaults {
		tests = append(tests, test{f.name, func(t *testing.T) {
			s := w.mount(t, stackConfig{patience: f.patience, bucket: f.bucket})
			c := s.clients(t, f.within, f.allowed...)
			s.line.set(t, f.toxics...)
			s.bender.set(f.bend)
			c.read(f.reads)
			switch tl := c.tally(); {
			case f.always && tl.failed == 0:
				t.Error("nothing has failed")
			case !f.always && tl.right == 0:
				t.Error("no read was right")
			}
			s.line.set(t)
			s.bender.set(nil)
			if f.refresh {
				s.refreshed(t)
			}
			s.readsRight(t)
		}})
	}
	together(t, tests)
}
