package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

// soakVariable says how long the soak lasts.
const soakVariable = "TESSERAFS_SOAK"

func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(soakVariable)
	switch {
	case raced:
		return 10 * time.Second
	case text == "":
		return 20 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("%s is a time such as 10m, not %q", soakVariable, text)
	}
	return d
}

// trouble is a fault of the soak. Several may be at once.
type trouble struct {
	name   string
	toxics []toxic
	bend   bend
}

var lineTroubles = []trouble{
	{"no trouble of the line", nil, nil},
	{"latency", []toxic{{Type: "latency", Attributes: attributes{"latency": 275, "jitter": 225}}}, nil},
	{"1 MB/s a connection", []toxic{{Type: "bandwidth", Attributes: attributes{"rate": 1000}}}, nil},
	{"resets", []toxic{{Type: "reset_peer", Toxicity: 0.4}}, closing},
	{"connections that end", []toxic{{Type: "limit_data", Attributes: attributes{"bytes": 300_000}}}, nil},
	{"silence", []toxic{nothingComes}, nil},
	{"silence on some connections", []toxic{{Type: "timeout", Toxicity: 0.3, Attributes: attributes{"timeout": 0}}}, nil},
	{"small packets", []toxic{{Type: "slicer", Attributes: attributes{"average_size": 3000, "size_variation": 2000, "delay": 100}}}, nil},
}

var serverTroubles = []trouble{
	{"no trouble of the server", nil, nil},
	{"503", nil, sometimes(0.2, refusing(http.StatusServiceUnavailable, ""))},
	{"429", nil, sometimes(0.2, refusing(http.StatusTooManyRequests, "1"))},
	{"429 for a minute", nil, sometimes(0.05, refusing(http.StatusTooManyRequests, "60"))},
	{"403", nil, sometimes(0.1, refusing(http.StatusForbidden, ""))},
	{"truncated bodies", nil, sometimes(0.2, truncated)},
	{"stalls in bodies", nil, sometimes(0.1, stalled(5*time.Second))},
	{"stalls before answers", nil, sometimes(0.1, silent(5*time.Second))},
	{"wrong ranges", nil, sometimes(0.1, shifted)},
	{"other ranges", nil, sometimes(0.1, elsewhere)},
	{"whole objects", nil, sometimes(0.1, whole)},
	{"everything refused", nil, refusing(http.StatusInternalServerError, "")},
}

// Catches: what only happens when faults come together, one after another, and in the middle of the repair of
// the last: bytes that are wrong, reads that do not end, things lost a little at a time.
func TestSoak(t *testing.T) {
	lasts := soakTime(t)
	w := newWorld(t)
	t.Run("warm", func(t *testing.T) { w.soak(t, time.Second, 0.1) })
	before := usageNow()
	t.Run("soak", func(t *testing.T) { w.soak(t, lasts, 1) })
	before.isBack(t)
}

// soak reads under random faults that change every few seconds, and a share of the files at the end, when
// all must be right. What is kept is a tenth of the data.
func (w *world) soak(t *testing.T, lasts time.Duration, share float64) {
	own := startGateway(t)
	own.Bucket(bucket, t.TempDir(), true)
	put(t, own, bucket, w.dir)
	s := w.mount(t, stackConfig{gateway: own, verify: true, disk: w.bytes / 10, patience: patient.Config{
		FirstByte: 2 * time.Second, Stall: time.Second, Patience: 5 * time.Second,
		Backoff: 20 * time.Millisecond, MaxBackoff: 500 * time.Millisecond,
		DeadAfter: 3 * time.Second, Probe: 200 * time.Millisecond, InFlight: 16,
	}})
	// A tile has three objects, and a read some of which must be had one after another, each in the time of a call.
	c := s.clients(t, 30*time.Second, unix.EIO)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, seed))
	stop := c.start()
	met := map[string]time.Duration{}
	kills, refreshes, failed := 0, 0, 0
	for until := time.Now().Add(lasts); time.Now().Before(until); {
		line := lineTroubles[rng.IntN(len(lineTroubles))]
		server := serverTroubles[rng.IntN(len(serverTroubles))]
		s.line.set(t, line.toxics...)
		s.bender.set(both(line.bend, server.bend))
		pause := max(0, min(time.Second+time.Duration(rng.Int64N(int64(3*time.Second))), time.Until(until))).Round(time.Millisecond)
		met[line.name] += pause
		met[server.name] += pause
		switch rng.IntN(7) {
		case 0:
			kills++
			own.Stop()
			time.Sleep(pause)
			own.Start()
		case 1:
			met["connections refused"] += pause
			s.line.cut(t)
			time.Sleep(pause)
		case 2:
			met["the cache damaged"] += pause
			stop := vandal(t, s.cache)
			time.Sleep(pause)
			stop()
		case 3:
			ctx, end := context.WithTimeout(t.Context(), pause)
			if refreshes++; s.refresh(ctx) != nil {
				failed++
			}
			end()
		case 4:
			met["clients killed"] += pause
			s.killClients(t, 2*time.Second, pause)
		default:
			time.Sleep(pause)
		}
		if status, err := os.ReadFile(filepath.Join(s.dir, ".tesserafs/status.json")); err != nil || !json.Valid(status) {
			t.Errorf("status.json cannot be read: %v, %.100q", err, status)
		}
	}
	s.line.set(t)
	s.bender.set(nil)
	stop()
	s.readsAs(t, w.reference, share)
	t.Logf("seed %#x, %v of soak: %v\nthe server was killed %d times; the archive was read again %d times, in vain %d times\nfaults: %v\nsource: %v\npages: %+v\ndisk: %+v",
		seed, lasts, c.tally(), kills, refreshes, failed, met, brief(s.source.Stats()), s.objects.Stats(), s.disk.Stats())
	switch tl := c.tally(); {
	case s.objects.Stats().Mismatched > 0:
		t.Errorf("an object was found damaged that is not: %+v", s.objects.Stats())
	case tl.right == 0:
		t.Error("no read was right")
	case lasts >= time.Minute && tl.failed == 0:
		t.Error("no read failed: the faults were none")
	}
}

func brief(st patient.Stats) string {
	var why []string
	for kind, n := range st.Failures {
		why = append(why, fmt.Sprintf("%d %s", n, kind))
	}
	return fmt.Sprintf("%d requests, %d MB, %d retries, %d sent twice, %d given up, dead %d times; failures: %s",
		st.Requests, st.Bytes>>20, st.Retries, st.Hedges, st.Unavailable, st.Breaker.Deaths, strings.Join(why, ", "))
}

// both bends an answer in two ways.
func both(first, second bend) bend {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
		first(w, r, func(w http.ResponseWriter, r *http.Request) { second(w, r, ask) })
	}
}
