package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/synth"
)

// Catches an address that is found wrong only after the mount, that ends in several lines, or whose mount
// goes on without metrics.
func TestMetricsRefused(t *testing.T) {
	p := newPlace(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	usage := []string{"--metrics is an address and a port", "127.0.0.1:9464"}
	for _, tt := range []struct {
		address string
		code    int
		words   []string
	}{
		{"9464", exitUsage, usage},
		{"127.0.0.1", exitUsage, usage},
		{"127.0.0.1:65536", exitUsage, usage},
		{"127.0.0.1:http", exitUsage, usage},
		{"http://127.0.0.1:9464", exitUsage, usage},
		{taken, exitFailed, []string{taken, "the port is in use", "0 for one that is free"}},
		{"192.0.2.1:9464", exitFailed, []string{"192.0.2.1:9464", "no address of this machine"}},
	} {
		p.refuses(tt.code, tt.words, "mount", "--metrics", tt.address, archive4.Dir, p.mnt)
		p.refuses(tt.code, tt.words, "mount", "--daemon", "--metrics", tt.address, archive4.Dir, p.mnt)
	}
}

// Catches a server that everybody reaches where nobody said so, that clients who are slow, idle or many keep
// from ending, or that leaves goroutines or its port behind.
func TestMetricsServerEnds(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	s, err := listenMetrics(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	address := s.listener.Addr().(*net.TCPAddr)
	if !address.IP.IsLoopback() {
		t.Errorf("it listens at %s", address)
	}
	again := fmt.Sprintf("localhost:%d", address.Port)
	if s, err := listenMetrics(t.Context(), again); err == nil {
		s.close()
		t.Error("a port is taken twice")
	}
	s.close() // it never served
	if s, err = listenMetrics(t.Context(), address.String()); err != nil {
		t.Fatal(err)
	}
	held, ended := make(chan struct{}), make(chan struct{})
	s.start(func() synth.Status { // a scrape that hangs until the server has ended
		close(held)
		<-ended
		return full()
	}, slog.New(slog.DiscardHandler))
	body, header := get(t, strings.TrimSuffix(s.url(), "metrics"))
	if !strings.Contains(body, `<a href="/metrics">`) || strings.Count(body, "\n") != 1 || !strings.HasPrefix(header.Get("Content-Type"), "text/html") {
		t.Errorf("/ is %q, %v", body, header)
	}
	for _, sent := range []string{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HT", ""} {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, sent); err != nil {
			t.Fatal(err)
		}
	}
	<-held
	began := time.Now()
	s.close()
	if took := time.Since(began); took > 2*metricsEnd {
		t.Errorf("it took %s to end", took)
	}
	if c, err := net.DialTimeout("tcp", address.String(), time.Second); err == nil {
		c.Close()
		t.Error("it listens still")
	}
	close(ended)
	goleak.VerifyNone(t, leaks)
}

// Catches methods that nothing is there for, and paths that are answered with something else.
func TestMetricsPages(t *testing.T) {
	s, err := listenMetrics(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.start(full, slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		method, path string
		header       int // bytes of one
		code         int
	}{
		{"GET", "metrics", 0, 200}, {"HEAD", "metrics", 0, 200}, {"POST", "metrics", 0, 405}, {"DELETE", "", 0, 405},
		{"GET", "debug/pprof/", 0, 404}, {"GET", "metrics/", 0, 404}, {"GET", "metrics", 4 * metricsHeader, 431},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, strings.TrimSuffix(s.url(), "metrics")+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		req.Header.Set("X-Long", strings.Repeat("x", tt.header))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.code {
			t.Errorf("%s /%s with %d bytes of header: %s, want %d", tt.method, tt.path, tt.header, resp.Status, tt.code)
		}
	}
}

// Catches connections without number, which take the files that a mount needs.
func TestMetricsConnections(t *testing.T) {
	s, err := listenMetrics(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.start(full, slog.New(slog.DiscardHandler))
	var idle []net.Conn
	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range metricsConnections {
		idle = append(idle, dial())
	}
	last := dial()
	if _, err := io.WriteString(last, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 12)
	_ = last.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := last.Read(answer); err == nil {
		t.Errorf("one connection more is served: %q", answer[:n])
	}
	idle[0].Close()
	_ = last.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(last, answer); err != nil || string(answer) != "HTTP/1.0 200" {
		t.Errorf("when there was room: %q (%v)", answer, err)
	}
}
