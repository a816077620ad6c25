package faults_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// linesVariable makes this binary the process that runs toxiproxy. It is one of its own because toxiproxy
// loses two goroutines and their buffers with each connection that ends before its time (2.5.0), and what
// is counted here is what tesserafs loses.
const linesVariable = "TESSERAFS_FAULTS_LINES"

// toxic is one of toxiproxy's, as its API has it, on what comes from the server.
type toxic struct {
	Type       string     `json:"type"`
	Name       string     `json:"name"`
	Toxicity   float32    `json:"toxicity"` // the share of connections that have it; 0 is all of them
	Attributes attributes `json:"attributes"`
}

type attributes map[string]any

// order has the proxy of a name become another.
type order struct {
	Name     string
	Listen   string // the address it has had, or one to choose a port of
	Upstream string // "": nothing listens
	Toxics   []toxic
}

type receipt struct{ Listen, Err string }

// runLines carries out orders until there are no more.
func runLines(in io.Reader, out io.Writer) (exit int) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxies := map[string]*toxiproxy.Proxy{}
	answers := json.NewEncoder(out)
	for orders := json.NewDecoder(in); ; {
		var o order
		if err := orders.Decode(&o); err != nil {
			return 0
		}
		// A new proxy each time: taking toxics off connections that are stuck would wait for them. The
		// connections of the one before end.
		if p := proxies[o.Name]; p != nil {
			p.Stop()
			delete(proxies, o.Name)
		}
		r := receipt{Listen: o.Listen}
		if o.Upstream != "" {
			p, err := startProxy(server, o)
			if err != nil {
				r.Err = err.Error()
			} else {
				proxies[o.Name], r.Listen = p, p.Listen
			}
		}
		if answers.Encode(r) != nil {
			return 1
		}
	}
}

func startProxy(server *toxiproxy.ApiServer, o order) (p *toxiproxy.Proxy, err error) {
	// The port is free again a moment after the listener before it ended.
	for range 100 {
		p = toxiproxy.NewProxy(server, o.Name, o.Listen, o.Upstream)
		for i, toxic := range o.Toxics {
			toxic.Name = fmt.Sprint(i)
			if toxic.Toxicity == 0 {
				toxic.Toxicity = 1
			}
			if toxic.Attributes == nil {
				toxic.Attributes = attributes{}
			}
			text, _ := json.Marshal(toxic)
			if _, err := p.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
				return nil, err
			}
		}
		if err = p.Start(); err == nil {
			return p, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, err
}

// lines is the process that runs toxiproxy.
type lines struct {
	mu   sync.Mutex // guards the others, for one order at a time
	out  *json.Encoder
	in   *json.Decoder
	made int
}

func startLines(t *testing.T) *lines {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), linesVariable+"=1")
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // That is the last order.
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process of toxiproxy: %v", err)
		}
	})
	return &lines{out: json.NewEncoder(stdin), in: json.NewDecoder(stdout)}
}

// line is one proxy, between a stack and its server.
type line struct {
	lines    *lines
	name     string
	addr     string
	upstream string
}

// newLine leads to an address until the test ends.
func (l *lines) newLine(t *testing.T, upstream string) *line {
	t.Helper()
	l.mu.Lock()
	l.made++
	name := fmt.Sprint("line ", l.made)
	l.mu.Unlock()
	// An address where no other program looks for free ports, as tests close it and open it again.
	line := &line{lines: l, name: name, addr: "127.0.0.2:0", upstream: upstream}
	line.set(t)
	t.Cleanup(func() { line.cut(t) })
	return line
}

// set ends all connections, and has the next ones go through these toxics and no others.
func (l *line) set(t testing.TB, toxics ...toxic) {
	t.Helper()
	l.order(t, order{Name: l.name, Listen: l.addr, Upstream: l.upstream, Toxics: toxics})
}

// cut ends all connections and refuses others.
func (l *line) cut(t testing.TB) {
	t.Helper()
	l.order(t, order{Name: l.name, Listen: l.addr})
}

func (l *line) order(t testing.TB, o order) {
	t.Helper()
	l.lines.mu.Lock()
	defer l.lines.mu.Unlock()
	var r receipt
	if err := errors.Join(l.lines.out.Encode(o), l.lines.in.Decode(&r)); err != nil {
		t.Fatalf("toxiproxy does not answer: %v", err)
	}
	if r.Err != "" {
		t.Fatalf("toxiproxy: %s", r.Err)
	}
	l.addr = r.Listen
}

// port of the line.
func (l *line) port() string {
	_, port, _ := net.SplitHostPort(l.addr)
	return port
}
