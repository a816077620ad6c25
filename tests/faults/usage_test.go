package faults_test

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// usage is what this process takes.
type usage struct {
	goroutines, files int
	heap, resident    int64 // bytes
}

// What may be more afterwards. The memory of one stack is more than this: its pages are 3 MiB of a
// mapping, and each test has one.
const (
	moreHeap     = 8 << 20
	moreResident = 48 << 20
)

func usageNow() usage {
	// Twice, as pools give back with the second what they had at the first.
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{goroutines: runtime.NumGoroutine(), heap: int64(m.HeapAlloc)}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.files = len(entries)
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &u.resident); n == 1 {
			u.resident <<= 10
		}
	}
	return u
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %d kB of heap, %d kB resident", u.goroutines, u.files, u.heap>>10, u.resident>>10)
}

// isBack fails unless no more is taken than before. What ends by itself gets time to.
func (before usage) isBack(t *testing.T) {
	t.Helper()
	var now usage
	for until := time.Now().Add(15 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		http.DefaultClient.CloseIdleConnections()
		now = usageNow()
		if now.goroutines <= before.goroutines && now.files <= before.files &&
			now.heap <= before.heap+moreHeap && (raced || now.resident <= before.resident+moreResident) {
			t.Logf("before: %v\nafter: %v", before, now)
			return
		}
		if time.Now().After(until) {
			break
		}
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("before: %v\nafter: %v\n%s", before, now, stacks[:runtime.Stack(stacks, true)])
}
