package disk

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Other processes of these tests are this program again, with the directory of the cache in the
// environment.
const (
	childDir  = "TESSERAFS_DISK_TEST_DIR"
	childSeed = "TESSERAFS_DISK_TEST_SEED"

	sharedLimit   = 2 << 20
	sharedObjects = 6
	sharedSize    = 60*PageSize + 11 // of each: together they are nearly three times the limit
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		seed, _ := strconv.ParseUint(os.Getenv(childSeed), 10, 64)
		if err := child(dir, seed); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child reads and writes a cache at random until its standard input ends, or it is killed.
func child(dir string, seed uint64) error {
	c, err := Open(dir, Config{Limit: sharedLimit})
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(ended)
	}()
	if err := visit(c, rand.New(rand.NewPCG(seed, seed)), ended); err != nil {
		return err
	}
	s := c.Stats()
	if s.WriteFailures > 0 || s.Hits == 0 || s.Evictions == 0 || s.BytesWritten == 0 {
		return fmt.Errorf("%+v", s)
	}
	fmt.Printf("%+v\n", s)
	return c.Close()
}

// visit reads and writes at random, as a mount would.
func visit(c *Cache, random *rand.Rand, ended <-chan struct{}) error {
	contents := make([][]byte, sharedObjects)
	for i := range contents {
		contents[i] = content(strconv.Itoa(i), sharedSize)
	}
	p := make([]byte, 61*PageSize)
	for {
		i := random.IntN(sharedObjects)
		o, err := c.Object(here, strconv.Itoa(i), infoOf(sharedSize))
		if err != nil {
			return err
		}
		for range 1 + random.IntN(8) {
			select {
			case <-ended:
				o.Close()
				return nil
			default:
			}
			page := random.Int64N(61)
			want := contents[i][page*PageSize:]
			want = want[:min(len(want), (1+random.IntN(30))*PageSize)]
			n := o.Read(context.Background(), page, p[:len(want)])
			if !bytes.Equal(p[:n], want[:n]) {
				return fmt.Errorf("object %d, page %d: %d wrong bytes", i, page, n)
			}
			o.Write(page+int64(n/PageSize), want[n:])
		}
		o.Close()
	}
}

// another starts a process that visits a cache. finish lets it end well.
func another(t *testing.T, dir string, seed uint64) (cmd *exec.Cmd, finish func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(self)
	cmd.Env = append(os.Environ(), childDir+"="+dir, childSeed+"="+strconv.FormatUint(seed, 10))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, func() {
		t.Helper()
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("another process: %v\n%s", err, out.Bytes())
		}
		fmt.Fprintf(t.Output(), "%s", out.Bytes())
	}
}

func checkShared(t *testing.T, c *Cache) (kept int) {
	t.Helper()
	for i := range sharedObjects {
		kept += readAll(t, newObject(t, c, strconv.Itoa(i), sharedSize), content(strconv.Itoa(i), sharedSize))
	}
	return kept
}

// Catches anything a process leaves half done that is read as data, keeps others from working, or makes
// the directory grow.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(3, 4))
	survived := 0
	for round := range uint64(12) {
		cmd, _ := another(t, dir, round)
		// It takes some ms to start; then it writes what the limit lets it in some more.
		time.Sleep(time.Duration(20+random.IntN(80)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // It was killed.
		if bytes := used(t, dir); bytes > sharedLimit {
			t.Errorf("round %d: %d bytes are used", round, bytes)
		}
		c := newCache(t, dir, sharedLimit)
		survived += checkShared(t, c)
		fmt.Fprintf(t.Output(), "round %d: %+v\n", round, c.Stats())
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if survived == 0 {
		t.Error("no page outlived its process")
	}
	c := newCache(t, dir, sharedLimit)
	want := content("after", 10*PageSize)
	o := newObject(t, c, "after", int64(len(want)))
	o.Write(0, want)
	if kept := readAll(t, o, want); kept != 10 {
		t.Errorf("%d of 10 pages are kept afterwards", kept)
	}
}

// Catches processes that give each other wrong pages, damage each other's, wait for each other for ever,
// or together pass the limit.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	var finish []func()
	for i := range uint64(2) {
		_, f := another(t, dir, 100+i)
		finish = append(finish, f)
	}
	c := newCache(t, dir, sharedLimit)
	ended := make(chan struct{})
	visited := make(chan error)
	go func() { visited <- visit(c, rand.New(rand.NewPCG(5, 6)), ended) }()
	most := int64(0)
	for begun := time.Now(); time.Since(begun) < 1500*time.Millisecond; time.Sleep(time.Millisecond) {
		// Nobody takes more or evicts meanwhile; what was taken is written on.
		total, err := c.lockTotal()
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, used(t, dir))
		total.unlock()
	}
	close(ended)
	if err := <-visited; err != nil {
		t.Error(err)
	}
	for _, f := range finish {
		f()
	}
	if bytes := used(t, dir); bytes < sharedLimit*7/10 || bytes > sharedLimit || most > sharedLimit {
		t.Errorf("%d of %d bytes are used, %d at the most", bytes, sharedLimit, most)
	}
	if s := c.Stats(); s.WriteFailures > 0 || s.DamagedPages > s.Hits/100 {
		t.Errorf("%+v", s)
	}
	fmt.Fprintf(t.Output(), "at most %d bytes, then %d, %+v\n", most, used(t, dir), c.Stats())
	if kept := checkShared(t, c); kept == 0 {
		t.Error("nothing is kept")
	}
}
