package faults_test

import (
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest/gateway"
)

// TestMain also is the process that runs toxiproxy: this binary, started again.
func TestMain(m *testing.M) {
	if os.Getenv(linesVariable) != "" {
		os.Exit(runLines(os.Stdin, os.Stdout))
	}
	gateway.Environment(func(name, value string) { os.Setenv(name, value) }, false)
	net.DefaultResolver = nameServer.resolver()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeArchive()
		os.Exit(code)
	}))
}

// test is one of those that run together.
type test struct {
	name string
	run  func(t *testing.T)
}

// atOnce is how many tests run together: they wait more than they work.
const atOnce = 8

// together runs tests at the same time, after the first of them alone, and sees that they leave nothing
// behind. What the first one leaves stays for the life of a process: pools, say.
func together(t *testing.T, tests []test) {
	t.Run(tests[0].name, tests[0].run)
	before := usageNow()
	var running sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, test := range tests[1:] {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			t.Run(test.name, test.run)
		})
	}
	running.Wait()
	before.isBack(t)
}

// soon waits until something is so that takes some time on a busy machine.
func soon(is func() bool) bool {
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if is() {
			return true
		}
		if time.Now().After(until) {
			return false
		}
	}
}
