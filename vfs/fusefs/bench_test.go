package fusefs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// Run by hand, on a machine that does nothing else:
//
//	go test -run - -bench . ./vfs/fusefs
//
// Clients are dd and ls. Speeds are those dd reports of itself, as the median of a benchmark's runs.

const chunkBytes = 128 << 20

var ddSeconds = regexp.MustCompile(`copied, ([0-9.e-]+) s`)

// dd reads a file and returns the seconds that took.
func dd(t testing.TB, file string) float64 {
	t.Helper()
	out, err := exec.Command("env", "LC_ALL=C", "dd", "if="+file, "of=/dev/null", "bs=1M").CombinedOutput()
	if err != nil {
		t.Fatalf("dd: %v: %s", err, out)
	}
	match := ddSeconds.FindStringSubmatch(string(out))
	if match == nil {
		t.Fatalf("dd says %q", out)
	}
	seconds, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return seconds
}

// report gives the median of the speeds.
func report(b *testing.B, bytes int, seconds []float64) {
	b.Helper()
	slices.Sort(seconds)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(bytes)/(1<<30)/seconds[len(seconds)/2], "GiB/s")
}

// chunks are files of one chunk each, of the same bytes.
func chunks(n int, f memfs.File) map[string]memfs.File {
	f.Data = noise(chunkBytes)
	files := map[string]memfs.File{}
	for i := range n {
		files[fmt.Sprint(i)] = f
	}
	return files
}

func BenchmarkRead(b *testing.B) {
	b.Run("plain file", func(b *testing.B) {
		file := filepath.Join(b.TempDir(), "chunk")
		if err := os.WriteFile(file, noise(chunkBytes), 0o600); err != nil {
			b.Fatal(err)
		}
		dd(b, file)
		benchReads(b, func(int) string { return file })
	})
	b.Run("shown", func(b *testing.B) {
		dir, _ := show(b, memfs.New(chunks(1, memfs.File{})), Config{})
		benchReads(b, func(int) string { return path(dir, "0") })
	})
	for n, name := range []string{"first", "second", "third"} {
		b.Run(name+" of one file, hot", func(b *testing.B) {
			const files = 20
			dir, s := show(b, memfs.New(chunks(files, memfs.File{})), Config{HotBytes: 4 << 30})
			var seconds []float64
			i := 0
			for b.Loop() {
				for read := range 3 {
					if took := dd(b, path(dir, "%d", i%files)); read == n {
						seconds = append(seconds, took)
					}
				}
				if i++; i == files {
					break
				}
			}
			report(b, chunkBytes, seconds)
			b.ReportMetric(float64(s.Stats().HotOpens)/float64(i), "hot-opens/file")
		})
	}
}

func benchReads(b *testing.B, file func(i int) string) {
	var seconds []float64
	for b.Loop() {
		seconds = append(seconds, dd(b, file(len(seconds))))
	}
	report(b, chunkBytes, seconds)
}

// BenchmarkFour reads with four clients at once.
func BenchmarkFour(b *testing.B) {
	dir, _ := show(b, memfs.New(chunks(4, memfs.File{})), Config{})
	var seconds []float64
	for b.Loop() {
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { dd(b, path(dir, "%d", i)) })
		}
		wg.Wait()
		seconds = append(seconds, time.Since(start).Seconds())
	}
	report(b, 4*chunkBytes, seconds)
}

// BenchmarkList lists 50,000 names with ls -U, against the same names on the disk.
func BenchmarkList(b *testing.B) {
	const n = 50_000
	files := make(map[string]memfs.File, n)
	disk := b.TempDir()
	for i := range n {
		name := fmt.Sprintf("c.%d.%d", i/250, i%250)
		files["big/"+name] = memfs.File{}
		if err := os.WriteFile(filepath.Join(disk, name), nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	root := memfs.New(files)
	list := func(b *testing.B, dir string) float64 {
		start := time.Now()
		out, err := exec.Command("ls", "-U", dir).Output()
		took := time.Since(start).Seconds()
		if err != nil || strings.Count(string(out), "\n") != n {
			b.Fatalf("ls: %d lines, %v", strings.Count(string(out), "\n"), err)
		}
		return took
	}
	median := func(b *testing.B, once func() float64) {
		var seconds []float64
		for b.Loop() {
			seconds = append(seconds, once())
		}
		slices.Sort(seconds)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(seconds[len(seconds)/2]*1000, "ms")
	}
	b.Run("disk", func(b *testing.B) { median(b, func() float64 { return list(b, disk) }) })
	b.Run("first", func(b *testing.B) {
		median(b, func() float64 {
			dir, s := show(b, root, Config{})
			defer end(b, s)
			return list(b, filepath.Join(dir, "big"))
		})
	})
	b.Run("again", func(b *testing.B) {
		dir, _ := show(b, root, Config{})
		list(b, filepath.Join(dir, "big"))
		median(b, func() float64 { return list(b, filepath.Join(dir, "big")) })
	})
}
